//! The program builds its own image, and that image builds.

use testkit::base::busybox;
use testkit::oracle::unpack;
use testkit::{executor_binary, listing};

use crate::bench::{Bench, workspace};

#[test]
fn privileged_the_executor_image_builds_itself_and_the_copy_builds_too() {
    let bench = Bench::new();
    std::fs::copy(executor_binary().unwrap(), bench.context().join("executor")).unwrap();
    bench.write("ca-certificates.crt", "");
    let dockerfile = std::fs::read_to_string(workspace("bin/ebiko/Dockerfile")).unwrap();
    let archive = bench.archive(&dockerfile, &[]);

    let config = archive.facts().config_json()["config"].clone();
    assert_eq!(config["Entrypoint"], serde_json::json!(["/kaniko/executor"]));
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

    // The copy, in a pod made of what umoci unpacked, makes the same image again.
    let (pod, mut command) = unpacked.pod().unwrap();
    command.extend(bench.flags(&["--no-push", "--tar-path=/out/again.tar"]));
    bench.mounted(pod.clone()).run(&command).unwrap().assert_success();
    let again = testkit::oracle::docker_archive_layers(&bench.out("again.tar")).unwrap();
    assert_eq!(archive.layers(), again);

    // And it builds on an image that it pulls and pushes what it built.
    bench.write("Dockerfile", "FROM busybox\nRUN echo built by the copy > /by\n");
    let destination = format!("--destination={}", bench.registry.reference("by:copy"));
    let (_, mut command) = unpacked.pod().unwrap();
    command.extend(bench.flags(&[&destination]));
    bench.mounted(pod).run(&command).unwrap().assert_success();
    let image = bench.registry.image("by:copy").unwrap();
    assert_eq!(
        image.layers[0],
        bench.registry.image(&busybox().unwrap().repository()).unwrap().layers[0]
    );
}
