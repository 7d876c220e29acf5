//! The program builds its own images, and what is in them builds.

use std::path::Path;

use serde_json::{Value, json};
use testkit::oracle::{Unpacked, unpack};
use testkit::{OWN_IMAGES, executor_binary, listing, own_image_context};

use crate::bench::{Archive, Bench, workspace};

/// What the executor image may be at most, compressed: 5 MiB.
const LIMIT: u64 = 5 << 20;

/// Writes the context of `bin/ebiko/Dockerfile`, and returns the Dockerfile.
fn arrange(bench: &Bench, binary: &Path) -> String {
    let busybox = Some(Path::new("/bin/busybox"));
    bench.tree(&own_image_context(binary, b"", busybox).unwrap());
    std::fs::read_to_string(workspace("bin/ebiko/Dockerfile")).unwrap()
}

/// Builds the executor image.
pub(crate) fn build(bench: &Bench) -> Archive {
    let dockerfile = arrange(bench, &executor_binary().unwrap());
    bench.archive(&dockerfile, &[])
}

/// The image with a shell, unpacked.
pub(crate) fn debug_image(bench: &Bench) -> Unpacked {
    let dockerfile = arrange(bench, &executor_binary().unwrap());
    let flags = ["--no-push", "--target=debug", "--compression=none", "--tar-path=/out/debug.tar"];
    bench.build(&dockerfile, &flags).assert_success();
    unpack(&format!("docker-archive:{}", bench.out("debug.tar").display())).unwrap()
}

/// A command of a script that builds `/workspace/NAME`.
fn build_command(bench: &Bench, name: &str, extra: &str) -> String {
    let flags =
        bench.flags(&[]).join(" ").replace("dir:///workspace", &format!("/workspace/{name}"));
    format!("/kaniko/executor {flags} --dockerfile=/workspace/{name}/Dockerfile --no-push {extra}")
}

#[test]
fn privileged_the_executor_image_builds_itself() {
    let bench = Bench::new();
    let archive = build(&bench);

    let unpacked = unpack(&archive.source()).unwrap();
    let files = listing(&unpacked.root()).unwrap();
    assert!(
        files.lines().all(|line| line.contains("kaniko") || line.contains("workspace")),
        "{files}"
    );
    assert!(files.contains("drwxrwxrwx kaniko\n"), "{files}");

    // The same file under its other name is the warmer.
    let host = bench.registry.host();
    let (pod, _) = unpacked.pod().unwrap();
    let warm = [
        "/kaniko/warmer",
        "--image=busybox",
        "--cache-dir=/out/cache",
        &format!("--registry-mirror={host}"),
        &format!("--insecure-registry={host}"),
    ];
    bench.mounted(pod).run(warm).unwrap().assert_success();
    assert!(listing(&bench.out("cache")).unwrap().contains("/index.json"));

    // The copy, in a pod made of what umoci unpacked, makes the same image again. What is shipped is no larger than it may be.
    let (pod, mut command) = unpacked.pod().unwrap();
    command.extend(bench.flags(&[
        "--no-push",
        "--compression-level=12",
        "--tar-path=/out/again.tar",
        "--oci-layout-path=/out/layout",
    ]));
    bench.mounted(pod).run(&command).unwrap().assert_success();
    let again = testkit::oracle::docker_archive_layers(&bench.out("again.tar")).unwrap();
    assert_eq!(archive.layers(), again);
    let size = compressed_size(&bench.out("layout"));
    assert!(size < LIMIT, "the executor image takes {size} bytes, and may take {LIMIT}");
}

/// The sizes of all layers of the only image in a layout.
fn compressed_size(layout: &Path) -> u64 {
    let read =
        |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let index = read(&layout.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    let manifest = read(&layout.join("blobs").join(digest));
    manifest["layers"].as_array().unwrap().iter().filter_map(|layer| layer["size"].as_u64()).sum()
}

#[test]
fn privileged_every_image_says_what_it_starts_and_where_things_are() {
    let bench = Bench::new();
    let binary = bench.out("binary");
    std::fs::write(&binary, "it is not started").unwrap();
    let dockerfile = arrange(&bench, &binary);
    for target in OWN_IMAGES {
        let name = format!("--tar-path=/out/{target}.tar");
        let flags = ["--no-push", "--reproducible", &name, &format!("--target={target}")];
        bench.build(&dockerfile, &flags).assert_success();
        let facts = testkit::ImageFacts::from_docker_archive(&bench.out(&format!("{target}.tar")));
        let config = facts.unwrap().config_json()["config"].clone();

        let program = match target {
            "slim" | "debug" | "nonroot" => "executor",
            other => other,
        };
        assert_eq!(config["Entrypoint"], json!([format!("/kaniko/{program}")]), "{target}");
        assert_eq!(config["WorkingDir"], "/workspace", "{target}");
        let is_for_others = target == "nonroot";
        let user = if is_for_others { json!("1000:1000") } else { Value::Null };
        assert_eq!(config["User"], user, "{target}");
        let mut expected = vec![
            match target {
                "debug" => "PATH=/usr/local/bin:/kaniko:/busybox",
                _ => "PATH=/usr/local/bin:/kaniko",
            },
            if is_for_others { "HOME=/kaniko" } else { "HOME=/root" },
            if is_for_others { "USER=nonroot" } else { "USER=root" },
            "SSL_CERT_DIR=/kaniko/ssl/certs",
            "DOCKER_CONFIG=/kaniko/.docker/",
            "DOCKER_CREDENTIAL_GCR_CONFIG=/kaniko/.config/gcloud/docker_credential_gcr_config.json",
        ];
        expected.extend(target.starts_with("kaniko-").then_some("KANIKO_VERSION=1.25.15"));
        assert_eq!(config["Env"], json!(expected), "{target}");
        for label in ["title", "description", "licenses"] {
            let label = format!("org.opencontainers.image.{label}");
            assert!(config["Labels"][&label].is_string(), "{target} has no {label}");
        }

        let layers = testkit::oracle::docker_archive_layers(&bench.out(&format!("{target}.tar")));
        let files = layers.unwrap().concat();
        assert!(files.contains("drwxrwxrwx 0/0 0 kaniko/\n"), "{target}: {files}");
        for name in
            ["warmer", "kaniko-docker", "kaniko-gcr", "kaniko-gar", "kaniko-ecr", "kaniko-acr"]
        {
            let link = format!(" kaniko/{name} -> executor\n");
            assert_eq!(files.contains(&link), target != "slim", "{target}: {files}");
        }
        let login = files.contains("drwxrwxrwx 0/0 0 kaniko/.docker/\n");
        assert_eq!(login, target != "slim", "{target}: {files}");
        assert_eq!(files.contains("busybox"), target == "debug", "{target}: {files}");
    }
    // Without a target it is the executor's image.
    bench
        .build(&dockerfile, &["--no-push", "--reproducible", "--tar-path=/out/none.tar"])
        .assert_success();
    assert_eq!(
        std::fs::read(bench.out("none.tar")).unwrap(),
        std::fs::read(bench.out("executor.tar")).unwrap()
    );
}

/// A GitLab job: the runner's shell is the container's and goes on through two builds and what comes after them.
#[test]
fn privileged_the_shell_of_a_job_outlives_two_builds() {
    let bench = Bench::new();
    let unpacked = debug_image(&bench);
    // The first image has a shell at the same place as this one, and the second one has none at all.
    bench.write(
        "first/Dockerfile",
        "FROM busybox\nRUN [ \"$(readlink /bin/sh)\" = busybox ] && echo first > /first\n\
         COPY Dockerfile /busybox/own\nRUN [ ! -e /busybox/own ] && [ -e /kaniko ]\n",
    );
    bench.write("second/Dockerfile", "FROM scratch\nCOPY Dockerfile /second\n");
    let script = [
        "set -eu",
        "mkdir -p /kaniko/.docker; echo '{\"auths\":{}}' > /kaniko/.docker/config.json",
        "printf '%s' a | base64 | tr -d '\\n' | sed s/Y/y/ | awk '{print $1}' | cut -c1 | grep -c y; echo 1 2 | wc -w",
        &build_command(&bench, "first", "--tar-path=/out/first.tar"),
        "[ -e /first ] && [ \"$(readlink /bin/sh)\" = /busybox/sh ] && [ ! -e /busybox/own ]",
        "/bin/sh -c 'echo between; cat /kaniko/.docker/config.json'",
        &build_command(&bench, "second", "--tar-path=/out/second.tar"),
        "[ -e /second ] && [ ! -e /first ] && /bin/sh -c '/busybox/sleep 0; sh -c \"echo after\"'",
        &build_command(&bench, "second", "--cleanup"),
        "[ ! -e /second ] && [ \"$(readlink /bin/sh)\" = /busybox/sh ]",
        "if /kaniko/executor --context=/nowhere --no-push 2>/dev/null; then exit 1; fi",
        "sh -c 'echo the end'",
    ]
    .join("\n");
    let (pod, _) = unpacked.pod().unwrap();
    let output = bench.mounted(pod).run(["sh", "-c", &script]).unwrap().assert_success();
    let lines: Vec<&str> = output.stdout.lines().map(str::trim).collect();
    assert_eq!(lines, ["1", "2", "between", "{\"auths\":{}}", "after", "the end"], "{output}");

    // What an image has at the same path is in the image, and nothing of the container's.
    let layers = testkit::oracle::docker_archive_layers(&bench.out("first.tar")).unwrap();
    let own: Vec<&str> = layers[1..].iter().flat_map(|layer| layer.lines()).collect();
    assert_eq!(own.len(), 3, "{own:#?}");
    assert!(own[0].ends_with(" first") && own[1].ends_with(" busybox/"), "{own:#?}");
    assert!(own[2].ends_with(" busybox/own"), "{own:#?}");
}

/// A step of Jenkins' Kubernetes plugin: `/busybox/cat` keeps the container alive, and everything else enters it.
#[test]
fn privileged_a_container_that_is_kept_alive_is_entered_during_and_after_a_build() {
    let bench = Bench::new();
    let unpacked = debug_image(&bench);
    // The base is one that has a shell in /busybox itself, as images made of this one have.
    let dockerfile = "FROM scratch AS debug\nCOPY shell /\nFROM debug\nSHELL [\"/busybox/sh\", \"-c\"]\n\
                      RUN echo started; while [ ! -e /go ]; do /busybox/sleep 0.05; done; echo 1 > /bin/made\n";
    bench.write("Dockerfile", dockerfile);
    bench.write("wrong/Dockerfile", "FROM busybox\nRUN echo mine > /busybox/mine\n");
    let (pod, _) = unpacked.pod().unwrap();
    let pod = bench.mounted(pod).spawn(["/busybox/sleep", "9999999"]).unwrap();
    let enter = |script: &str| pod.exec(["/busybox/sh", "-c", script]).unwrap();

    let build = build_command(&bench, "", "--tar-path=/out/image.tar");
    let build = format!("({build}; echo $? > /out/status) > /out/log 2>&1 &");
    enter(&build).assert_success();
    let during = "while ! grep -q ^started /out/log; do sleep 0.05; done; /bin/sh -c 'ls /busybox/cat'; touch /go";
    assert_eq!(enter(during).assert_success().stdout, "/busybox/cat\n");
    let after =
        "while [ ! -e /out/status ]; do sleep 0.05; done; cat /out/status; readlink /bin/sh";
    assert_eq!(enter(after).assert_success().stdout, "0\n/busybox/sh\n", "{}", bench.read("log"));
    assert_eq!(
        pod.exec(["/bin/sh", "-c", "echo $PATH"]).unwrap().stdout,
        "/usr/local/bin:/kaniko:/busybox\n"
    );

    let layers = testkit::oracle::docker_archive_layers(&bench.out("image.tar")).unwrap();
    assert!(layers[0].contains(" busybox/busybox\n") && layers[0].contains(" busybox/cat -> "));
    assert!(layers[1].contains(" bin/made\n") && !layers[1].contains("busybox"), "{}", layers[1]);

    // What a command writes there could not be in the image: it is an error and not a gap.
    let output = enter(&build_command(&bench, "wrong", "--tar-path=/out/wrong.tar"));
    assert_eq!(output.code, 1, "{output:?}");
    for part in ["Dockerfile:2", "the command changed `/busybox`", "hint:"] {
        assert!(output.stderr.contains(part), "`{part}` is missing: {}", output.stderr);
    }
    assert!(!bench.out("wrong.tar").exists());
}

#[test]
fn privileged_a_shell_that_an_image_has_left_is_not_taken_for_the_containers() {
    let bench = Bench::new();
    bench.write(
        "first/Dockerfile",
        "FROM busybox\nRUN mkdir /busybox && cp /bin/busybox /busybox/sh\n",
    );
    bench.write(
        "second/Dockerfile",
        "FROM busybox\nRUN [ ! -e /busybox ] && [ \"$(readlink /bin/sh)\" = busybox ]\n",
    );
    let script = [
        "set -e",
        &build_command(&bench, "first", ""),
        "[ -e /busybox/sh ]",
        &build_command(&bench, "second", ""),
        "[ ! -e /busybox ] && [ \"$(readlink /bin/sh)\" = busybox ]",
    ]
    .join("\n");
    // A mount is the pod's and stays.
    let pod = bench.pod().bind_read_only("/bin/busybox", "/tools/busybox").env("PATH", "/bin");
    pod.run(["/tools/busybox", "sh", "-c", &script]).unwrap().assert_success();
}
