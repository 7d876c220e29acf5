//! Flags and outputs.

use serde_json::{Value, json};
use testkit::{ImageFacts, Nginx, Sandbox, issue_for};

use crate::bench::{Bench, EPOCH};

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_ebiko"))
}

#[test]
fn a_flag_that_is_not_there_is_refused_by_name() {
    let output = sandbox().ebiko(["--no-push", "--cgroup-parent=x"]);
    assert_eq!(output.code, 1, "{output}");
    assert!(
        output.stderr.contains("`--cgroup-parent` cannot be used: the control group"),
        "{output}"
    );
}

#[test]
fn the_version_is_found_by_scripts_also_behind_empty_words() {
    let output = sandbox().ebiko(["", "version", ""]).assert_success();
    assert!(output.stdout.starts_with("Kaniko version :  v"), "{output}");
    let output = sandbox().ebiko(["help", "push"]).assert_success();
    assert!(output.stdout.contains("--digest-file"), "{output}");
}

#[test]
fn a_shell_can_complete_flags() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let output = sandbox().ebiko(["completion", shell]).assert_success();
        assert!(output.stdout.contains("image-format"), "{shell}\n{output}");
    }
}

#[test]
fn help_goes_to_standard_output_and_names_the_kaniko_flags() {
    let output = sandbox().ebiko(["--help"]).assert_success();
    for flag in [
        "--context",
        "--dockerfile",
        "--destination",
        "--no-push",
        "--tar-path",
        "--oci-layout-path",
        "--snapshot-mode",
    ] {
        assert!(output.stdout.contains(flag), "{flag} is missing\n{output}");
    }
    assert_eq!(output.stderr, "");
}

#[test]
fn a_build_without_a_destination_needs_no_push() {
    let sandbox = sandbox();
    sandbox.write("Dockerfile", "FROM scratch\n");
    let output = sandbox.ebiko(["--context=."]);
    assert_eq!(output.code, 1, "{output}");
    assert!(
        output.stderr.contains("--destination") && output.stderr.contains("--no-push"),
        "{output}"
    );
}

#[test]
fn privileged_the_outputs_name_the_digest_and_every_destination() {
    let bench = Bench::new();
    let (first, second) = (bench.registry.reference("a/b:1"), bench.registry.reference("c:2"));
    let (d1, d2) = (format!("--destination={first}"), format!("--destination={second}"));
    let flags = [
        &d1,
        &d2,
        "--digest-file=/dev/termination-log",
        "--image-name-with-digest-file=/out/names",
        "--image-name-tag-with-digest-file=/out/tags",
    ];
    let output = bench.build("FROM busybox\nENV A=1\n", &flags).assert_success();
    let digest = bench.registry.image("a/b:1").unwrap().manifest_digest.unwrap();
    assert_eq!(bench.registry.image("c:2").unwrap().manifest_digest.as_ref(), Some(&digest));
    assert_eq!(output.termination_message, digest);
    let host = bench.registry.host();
    assert_eq!(bench.read("tags"), format!("{first}@{digest}\n{second}@{digest}\n"));
    // Where both files are asked for, kaniko writes the form with the tag into both.
    assert!(bench.read("names").ends_with(&format!("@{digest}\n")));
    assert!(output.stderr.contains(&format!("Pushing image to {first}")), "{output}");
    assert!(output.stderr.contains(&format!("Pushed {host}/a/b@{digest}")), "{output}");
}

#[test]
fn privileged_the_digest_is_put_to_an_address_whose_server_has_an_authority_of_its_own() {
    let bench = Bench::new();
    let server = testkit::scratch_dir("server-").unwrap();
    issue_for(server.path(), &["localhost"]).unwrap();
    let path = |name: &str| server.path().join(name).display().to_string();
    let nginx = Nginx::start(1, |ports| {
        format!(
            "server {{\n listen 127.0.0.1:{} ssl;\n ssl_certificate {};\n ssl_certificate_key {};\n root {};\n\
             location / {{ dav_methods PUT; create_full_put_path on; }}\n}}\n",
            ports[0],
            path("server.crt"),
            path("server.key"),
            path("www"),
        )
    })
    .unwrap();
    let certificates = server.path().join("authority");
    let digest = format!("--digest-file=https://{}/a/digest?signature=s3cret", nginx.host(0));
    let name = format!("--image-name-tag-with-digest-file=https://{}/a/name", nginx.host(0));
    let image = bench.registry.reference("out:1");
    let destination = format!("--destination={image}");
    let dockerfile = "FROM busybox\nCOPY Dockerfile /\n";
    let pod = bench.pod().bind_read_only(certificates, "/certs").env("SSL_CERT_DIR", "/certs");
    let output = bench.build_in(&pod, dockerfile, &[&destination, &digest, &name]).assert_success();
    assert!(!output.to_string().contains("s3cret"), "{output}");
    let read =
        |name: &str| std::fs::read_to_string(server.path().join("www/a").join(name)).unwrap();
    let pushed = bench.registry.image("out:1").unwrap().manifest_digest.unwrap();
    assert_eq!((read("digest"), read("name")), (pushed.clone(), format!("{image}@{pushed}\n")));

    // Without the authority the server is nobody who may be told.
    let output = bench.build(dockerfile, &["--no-push", &digest]);
    assert_eq!(output.code, 1, "{output}");
    assert!(output.stderr.contains("certificate"), "{output}");
    assert!(!output.to_string().contains("s3cret"), "{output}");
}

#[test]
fn privileged_one_build_has_another_format_annotations_and_a_second_target() {
    let bench = Bench::new();
    let destination = format!("--destination=http://{}", bench.registry.reference("x:1"));
    let flags = [
        &destination,
        "--oci-layout-path=/out/layout",
        "--image-format=docker",
        "--annotation=a=1",
        "--annotation=a=b=c",
        "--target=image,test",
        "--tarPath=/out/tar",
        "--log-timestamp",
        "--pre-cleanup",
        "",
    ];
    let pod = bench
        .pod()
        .env("BUILDER_OUTPUT", "/out")
        .env("FF_KANIKO_SHARED_BASE_CACHE", "false")
        .env("FF_KANIKO_ROLLING_CACHE_KEY", "true");
    let dockerfile = "FROM scratch AS base\nCOPY Dockerfile /a\nFROM base AS image\nCOPY Dockerfile /b\n\
                      FROM busybox AS test\nCOPY --from=image /b /b\nRUN echo tested\n";
    let output = bench.build_in(&pod, dockerfile, &flags).assert_success();
    assert_eq!(output.stdout, "tested\n");
    let image = ImageFacts::from_oci_layout(&bench.out("layout")).unwrap();
    let manifest: Value = serde_json::from_slice(&image.manifest.unwrap()).unwrap();
    assert_eq!(manifest["annotations"], json!({"a": "b=c"}));
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    let layers: Vec<&Value> =
        manifest["layers"].as_array().unwrap().iter().map(|layer| &layer["mediaType"]).collect();
    assert_eq!(layers, ["application/vnd.docker.image.rootfs.diff.tar.gzip"; 2]);
    let digest = bench.registry.image("x:1").unwrap().manifest_digest.unwrap();
    let name = bench.registry.reference("x:1");
    let line: Value = serde_json::from_str(&bench.read("images")).unwrap();
    assert_eq!(line, json!({"name": name, "digest": digest}));
    for expected in [
        "Flag --tarPath is deprecated. Use: --tar-path",
        "`--pre-cleanup` changes nothing",
        "FF_KANIKO_SHARED_BASE_CACHE=false changes nothing: a base is read once, always",
        "is an address and no name",
    ] {
        assert!(output.stderr.contains(expected), "`{expected}` is missing\n{output}");
    }
    assert!(!output.stderr.contains("ROLLING"), "{output}");
    let is_time = |line: &str| line.len() > 21 && &line[10..11] == "T" && &line[19..21] == "Z ";
    assert!(output.stderr.lines().all(is_time), "{output}");
}

#[test]
fn privileged_a_base_gets_other_media_types_and_keeps_its_blobs() {
    let bench = Bench::new();
    let build = |format: &str| {
        let flags = ["--no-push", "--oci-layout-path=/out/layout", format];
        bench.build("FROM busybox\nENV A=1\n", &flags).assert_success();
        let image = ImageFacts::from_oci_layout(&bench.out("layout")).unwrap();
        std::fs::remove_dir_all(bench.out("layout")).unwrap();
        let manifest: Value = serde_json::from_slice(&image.manifest.unwrap()).unwrap();
        let layer = &manifest["layers"][0];
        (layer["mediaType"].as_str().unwrap().to_owned(), layer["digest"].clone())
    };
    let (docker, first) = build("--image-format=docker");
    let (oci, second) = build("--image-format=oci");
    assert_eq!(docker, "application/vnd.docker.image.rootfs.diff.tar.gzip");
    assert_eq!(oci, "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(first, second);
}

#[test]
fn privileged_the_environment_variable_for_no_push_wins_over_the_flag() {
    let bench = Bench::new();
    let destination = format!("--destination={}", bench.registry.reference("x:1"));
    let pod = bench.pod().env("KANIKO_NO_PUSH", "true");
    bench
        .build_in(&pod, "FROM busybox\nENV A=1\n", &[&destination, "--no-push=false"])
        .assert_success();
    let requests = bench.registry.requests();
    assert!(!requests.iter().any(|line| line.starts_with("PUT ")), "{requests:#?}");
}

#[test]
fn privileged_every_message_in_json_is_an_object_and_output_of_run_is_left_alone() {
    let bench = Bench::new();
    let output = bench
        .build(
            "FROM busybox\nRUN echo to out; echo to err >&2\n",
            &["--no-push", "--log-format=json"],
        )
        .assert_success();
    assert_eq!(output.stdout, "to out\nto err\n");
    for line in output.stderr.lines() {
        let message: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(message["level"].is_string() && message["msg"].is_string(), "{line}");
    }
}

#[test]
fn privileged_progress_says_stage_step_and_duration() {
    let bench = Bench::new();
    let dockerfile =
        "FROM busybox AS one\nRUN true\nFROM busybox\nENV A=1\nCOPY --from=one /etc/passwd /p\n";
    let output = bench.build(dockerfile, &["--no-push"]).assert_success();
    for expected in [
        "[stage 1/2] FROM busybox AS one",
        "[stage 2/2 step 2/2] COPY --from=one /etc/passwd /p",
        "done in 0.",
    ] {
        assert!(output.stderr.contains(expected), "`{expected}` is missing\n{output}");
    }
    assert!(!output.stderr.contains('\u{1b}'), "no colour into a file\n{output}");
    let quiet = bench.build(dockerfile, &["--no-push", "--verbosity=error"]).assert_success();
    assert_eq!(quiet.stderr, "");
}

#[test]
fn privileged_build_arguments_target_labels_and_platform_reach_the_image() {
    let bench = Bench::new();
    let dockerfile = "ARG BASE=nothing\nFROM ${BASE} AS wanted\nARG NAME=unset\nARG TARGETARCH\nENV NAME=$NAME ARCH=$TARGETARCH\n\
                      LABEL kept=yes\nFROM wanted AS other\nRUN exit 9\n";
    let flags = [
        "--build-arg=BASE=busybox",
        "--build-arg=NAME=a b",
        "--target=WANTED",
        "--label=kept=no",
        "--label=new=1",
        "--custom-platform=linux/arm64",
    ];
    let config = bench.archive(dockerfile, &flags).facts().config_json();
    let env: Vec<&str> = config["config"]["Env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|value| value.as_str())
        .collect();
    assert!(env.contains(&"NAME=a b") && env.contains(&"ARCH=arm64"), "{env:?}");
    assert_eq!(config["config"]["Labels"], serde_json::json!({"kept": "no", "new": "1"}));
    assert_eq!(config["architecture"], "arm64");
}

#[test]
fn privileged_rewritten_layers_are_annotated() {
    let bench = Bench::new();
    let epoch = format!("--source-date-epoch={EPOCH}");
    for (flag, expected) in
        [("--rewrite-timestamp", json!(EPOCH)), ("--rewrite-timestamp=false", Value::Null)]
    {
        let flags = ["--no-push", "--oci-layout-path=/out/layout", &epoch, flag];
        bench.build("FROM busybox\nRUN touch /a\nCOPY Dockerfile /b\n", &flags).assert_success();
        let image = ImageFacts::from_oci_layout(&bench.out("layout")).unwrap();
        let manifest: Value = serde_json::from_slice(&image.manifest.unwrap()).unwrap();
        let annotations = [0, 1, 2].map(|layer| {
            manifest["layers"][layer]["annotations"]["buildkit/rewritten-timestamp"].clone()
        });
        assert_eq!(annotations, [Value::Null, expected.clone(), expected], "{manifest}");
        std::fs::remove_dir_all(bench.out("layout")).unwrap();
    }
}
