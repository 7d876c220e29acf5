//! Flags and outputs.

use serde_json::{Value, json};
use testkit::{ImageFacts, Sandbox};

use crate::bench::{Bench, EPOCH};

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_ebiko"))
}

#[test]
fn a_flag_of_kaniko_that_is_not_there_yet_is_refused_by_name() {
    let output = sandbox().ebiko(["--no-push", "--log-timestamp"]);
    assert_eq!(output.code, 1, "{output}");
    assert!(output.stderr.contains("`--log-timestamp` is not supported yet"), "{output}");
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
