//! The program builds its own image, and that image builds.

use std::os::unix::fs::symlink;

use serde_json::json;
use testkit::oracle::unpack;
use testkit::{executor_binary, listing};

use crate::bench::{Archive, Bench, workspace};

/// Builds `bin/ebiko/Dockerfile` with the binary that goes into it.
pub(crate) fn build(bench: &Bench) -> Archive {
    std::fs::copy(executor_binary().unwrap(), bench.context().join("executor")).unwrap();
    bench.write("ca-certificates.crt", "");
    std::fs::create_dir(bench.context().join("names")).unwrap();
    symlink("executor", bench.context().join("names/warmer")).unwrap();
    bench.archive(&std::fs::read_to_string(workspace("bin/ebiko/Dockerfile")).unwrap(), &[])
}

#[test]
fn privileged_the_executor_image_builds_itself() {
    let bench = Bench::new();
    let archive = build(&bench);

    let config = archive.facts().config_json()["config"].clone();
    assert_eq!(config["Entrypoint"], json!(["/kaniko/executor"]));
    assert_eq!(config["WorkingDir"], "/workspace");
    let env: Vec<&str> =
        config["Env"].as_array().unwrap().iter().filter_map(|value| value.as_str()).collect();
    for expected in [
        "HOME=/root",
        "USER=root",
        "PATH=/usr/local/bin:/kaniko",
        "SSL_CERT_DIR=/kaniko/ssl/certs",
        "DOCKER_CONFIG=/kaniko/.docker/",
    ] {
        assert!(env.contains(&expected), "{expected} is not in {env:?}");
    }

    let unpacked = unpack(&archive.source()).unwrap();
    let files = listing(&unpacked.root()).unwrap();
    assert!(
        files.lines().all(|line| line.contains("kaniko") || line.contains("workspace")),
        "{files}"
    );

    // The same file under its other name is the warmer.
    let (pod, _) = unpacked.pod().unwrap();
    let help = pod.run(["/kaniko/warmer", "--help"]).unwrap().assert_success();
    assert!(help.stdout.contains("Usage: warmer"), "{help}");

    // The copy, in a pod made of what umoci unpacked, makes the same image again.
    let (pod, mut command) = unpacked.pod().unwrap();
    command.extend(bench.flags(&["--no-push", "--tar-path=/out/again.tar"]));
    bench.mounted(pod).run(&command).unwrap().assert_success();
    let again = testkit::oracle::docker_archive_layers(&bench.out("again.tar")).unwrap();
    assert_eq!(archive.layers(), again);
}
