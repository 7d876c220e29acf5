//! What the settings of a step make of its image.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use testkit::base::busybox;
use testkit::oracle::{docker_archive_layers, unpack};
use testkit::{Auth, Registry, Tree};

use super::Step;
use crate::bench::Bench;

/// A step that only writes `/addon/image.tar`.
const TO_TAR: [(&str, &str); 2] =
    [("PLUGIN_NO_PUSH", "true"), ("PLUGIN_TAR_PATH", "/addon/image.tar")];

fn archive(step: &Step) -> String {
    format!("docker-archive:{}", step.bench.out("image.tar").display())
}

#[test]
fn privileged_context_arguments_labels_target_and_ignored_paths_are_those_of_the_step() {
    let step = Step::new();
    let dockerfile = "ARG BASE\nFROM ${BASE} AS build-env\nARG LIST\nARG OWN\nLABEL kept=yes\nCOPY . /app/\nCOPY deep/er/file /f\n\
        RUN test \"$LIST\" = 'a,b' && test \"$OWN\" = 'of the step' && test \"$http_proxy\" = http://proxy && \
        ! env | grep -q -e HIDDEN -e PLUGIN\n\
        VOLUME /volume\nRUN mkdir /volume && echo 1 > /volume/made\nCOPY deep/er/file /volume/copied\n\
        RUN mkdir -p /a /b /c && touch /a/x /b/y /c/z /made\n\
        FROM build-env\nRUN exit 9\n";
    step.bench.tree(
        &Tree::new()
            .file("app/Dockerfile", dockerfile)
            .file("app/.dockerignore", "*.secret\nDockerfile\n")
            .file("app/deep/er/file", "of the context\n")
            .file("app/not.secret", "x")
            .file("outside", "x"),
    );
    let variables = [
        ("PLUGIN_DOCKERFILE", "app/Dockerfile"),
        ("PLUGIN_CONTEXT", "app"),
        ("PLUGIN_MULTIPLE_BUILD_ARGS", "true"),
        ("PLUGIN_BUILD_ARGS_NEW", "BASE=busybox;LIST=a,b;OWN;HIDDEN=1;http_proxy=http://proxy"),
        ("OWN", "of the step"),
        ("PLUGIN_CUSTOM_LABELS", "kept=no,equal=a=b"),
        ("PLUGIN_TARGET", "BUILD-ENV"),
        ("PLUGIN_IGNORE_PATH", "/a,/b"),
        ("PLUGIN_IGNORE_PATHS", "/c"),
        // A name of a registry that is no domain, and a login for another one.
        ("PLUGIN_REGISTRY", "https://ghcr.io/team"),
        ("PLUGIN_USERNAME", "u"),
        ("PLUGIN_PASSWORD", "p"),
    ];
    let output = step.run("kaniko-docker", &[&TO_TAR[..], &variables].concat()).assert_success();
    let config = testkit::ImageFacts::from_docker_archive(&step.bench.out("image.tar"));
    let config = config.unwrap().config_json();
    assert_eq!(config["config"]["Labels"], json!({"kept": "no", "equal": "a=b"}));
    for hidden in ["http_proxy=", "HIDDEN=", "PLUGIN_"] {
        assert!(!config.to_string().contains(hidden), "{config}\n{output}");
    }
    let unpacked = unpack(&archive(&step)).unwrap();
    let is_there = |path: &str| unpacked.root().join(path).exists();
    for (path, expected) in [
        ("app/deep/er/file", true),
        ("f", true),
        ("made", true),
        ("volume/made", true),
        ("volume/copied", true),
        ("app/not.secret", false),
        ("app/Dockerfile", false),
        ("outside", false),
        ("a/x", false),
        ("b/y", false),
        ("c/z", false),
    ] {
        assert_eq!(is_there(path), expected, "{path}\n{output}");
    }

    for (name, value, named) in [
        ("PLUGIN_TARGET", "none", "target stage \"none\" could not be found"),
        ("PLUGIN_CUSTOM_LABELS", "wrong", "`--label=wrong` must have the form `KEY=VALUE`"),
    ] {
        let wrong = [&TO_TAR[..], &variables, &[(name, value)]].concat();
        let output = step.run("kaniko-docker", &wrong);
        assert_eq!(output.code, 1, "{output}");
        assert!(output.stderr.contains(named), "{output}");
    }
}

#[test]
fn privileged_a_step_for_another_processor_makes_an_image_for_it() {
    let step = Step::new();
    step.bench.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let repository = step.bench.registry.reference("team/app");
    for (platform, tag) in [("linux/amd64", "1.0-linux-amd64"), ("linux/arm64", "1.0-linux-arm64")]
    {
        let variables = [
            ("PLUGIN_REPO", repository.as_str()),
            ("PLUGIN_REGISTRY", &step.bench.registry.host()),
            ("PLUGIN_USERNAME", "u"),
            ("PLUGIN_PASSWORD", "p"),
            ("PLUGIN_TAGS", tag),
            ("PLUGIN_PLATFORM", platform),
        ];
        step.run("kaniko-docker", &variables).assert_success();
        let config = step.bench.registry.image(&format!("team/app:{tag}")).unwrap().config_json();
        assert_eq!(config["architecture"], json!(platform.trim_start_matches("linux/")));
    }
}

#[test]
fn privileged_a_tar_in_a_workspace_that_is_no_mount_is_in_no_image() {
    let step = Step::new();
    let workspace = step.bench.executor.root().join("harness");
    std::fs::create_dir(&workspace).unwrap();
    std::fs::write(
        workspace.join("Dockerfile"),
        "FROM busybox\nRUN echo 1 > /made\nRUN echo 2 > /more\n",
    )
    .unwrap();
    let host = step.bench.registry.host();
    let pod = step
        .bench
        .executor
        .pod()
        .bind(step.bench.out(""), "/addon")
        .work_dir("/harness")
        .env("PLUGIN_REGISTRY_MIRRORS", &host)
        .env("PLUGIN_INSECURE_REGISTRY", &host)
        .env("PLUGIN_NO_PUSH", "true")
        .env("PLUGIN_TAR_PATH", "image_name.tar")
        .env("PLUGIN_OCI_LAYOUT_PATH", "/addon/layout")
        .env("DRONE_OUTPUT", "/addon/output.env");
    let copy = step.bench.out("copy.tar");
    let look = |root: &std::path::Path| {
        std::fs::copy(root.join("harness/image_name.tar"), &copy).map(drop)
    };
    let (output, found) =
        pod.spawn(["/kaniko/kaniko-docker"]).unwrap().wait_and_inspect(look).unwrap();
    let output = output.assert_success();
    found.unwrap_or_else(|error| panic!("the tar is not where it belongs: {error}\n{output}"));
    let layers = docker_archive_layers(&copy).unwrap();
    assert!(layers.concat().contains("made") && layers.concat().contains("more"), "{layers:?}");
    assert!(!layers.concat().contains("image_name"), "{layers:?}");
    assert!(step.bench.read("output.env").starts_with("IMAGE_TAR_PATH=\"image_name.tar\"\n"));
}

#[test]
fn privileged_steps_beside_each_other_share_nothing_and_a_second_in_one_container_is_refused() {
    let step = Step::new();
    step.bench.write(
        "Dockerfile",
        "FROM busybox\nARG NAME\nRUN echo $NAME > /name; touch /harness/began-$NAME; while [ ! -e /harness/go ]; do sleep 0.1; done\n",
    );
    step.bench.write(".dockerignore", "*\n");
    let shared = step.bench.out("run");
    std::fs::create_dir(&shared).unwrap();
    let start = |name: &str| {
        let tar = format!("/addon/{name}.tar");
        let argument = format!("NAME={name}");
        let variables = [
            ("PLUGIN_NO_PUSH", "true"),
            ("PLUGIN_TAR_PATH", &tar),
            ("PLUGIN_BUILD_ARGS", &argument),
            ("PLUGIN_ARTIFACT_FILE", ""),
            ("DRONE_OUTPUT", ""),
        ];
        let pod = step.pod(&variables).bind(&shared, "/var/run");
        pod.spawn(["/kaniko/kaniko-docker"]).unwrap()
    };
    let pods = ["one", "two"].map(|name| (name, start(name)));
    for (name, _) in &pods {
        step.wait_for(&format!("began-{name}"));
    }
    let second = pods[0].1.exec(["/kaniko/kaniko-docker"]).unwrap();
    assert_eq!(second.code, 1, "{second}");
    assert!(second.stderr.contains("another build is under way"), "{second}");
    step.bench.write("go", "");
    for (name, pod) in pods {
        pod.wait().unwrap().assert_success();
        let source = format!("docker-archive:{}", step.bench.out(&format!("{name}.tar")).display());
        let made = std::fs::read_to_string(unpack(&source).unwrap().root().join("name")).unwrap();
        assert_eq!(made, format!("{name}\n"));
    }
    assert_eq!(testkit::listing(&shared).unwrap(), "");
}

#[test]
fn privileged_a_stopped_step_leaves_no_process_no_tag_and_no_output() {
    let step = Step::new();
    step.bench.write(
        "Dockerfile",
        "FROM busybox\nRUN echo running; (trap '' TERM; sleep 600) & sleep 600\n",
    );
    let repository = step.bench.registry.reference("team/app");
    let variables = [
        ("PLUGIN_REPO", repository.as_str()),
        ("PLUGIN_REGISTRY", &step.bench.registry.host()),
        ("PLUGIN_USERNAME", "u"),
        ("PLUGIN_PASSWORD", "p"),
        ("PLUGIN_TAR_PATH", "/addon/image.tar"),
        ("PLUGIN_IMAGE_NAME_WITH_DIGEST_FILE", "/addon/name"),
    ];
    let mut pod = step.pod(&variables).spawn(["/kaniko/kaniko-docker"]).unwrap();
    pod.wait_for_output("running").unwrap();
    pod.signal("TERM").unwrap();
    let (output, left) =
        pod.wait_and_inspect(|root| testkit::listing(&root.join("kaniko")).unwrap()).unwrap();
    assert_ne!(output.code, 0, "{output}");
    assert!(output.usage.wall < std::time::Duration::from_mins(1), "{output}");
    assert_eq!(testkit::listing(&step.bench.out("")).unwrap(), "", "{output}");
    assert!(step.bench.registry.tags("team/app").is_err(), "{output}");
    assert!(!left.contains("stages"), "{left}");
}

#[test]
fn privileged_a_config_of_the_user_is_in_force_and_a_file_only_after_the_build() {
    let auth = Auth::Basic { user: "joe", password: "pass:word" };
    let registry = Registry::builder().auth(auth).image(busybox().unwrap()).start().unwrap();
    let step = Step::with(Bench::with_registry(registry));
    let dockerfile = "FROM busybox\nRUN ! ls /kaniko/.docker/config.json && ! env | grep DOCKER_CONFIG && echo 1 > /made\n";
    step.bench.write("Dockerfile", dockerfile);
    let repository = step.bench.registry.reference("team/app");
    let config = step.bench.registry.docker_config();
    let variables = [("PLUGIN_REPO", repository.as_str()), ("PLUGIN_CONFIG", &config)];
    let look = |root: &std::path::Path| {
        let file = root.join("kaniko/.docker/config.json");
        let mode = std::fs::metadata(&file).map(|file| file.permissions().mode() & 0o777);
        (std::fs::read_to_string(file).ok(), mode.ok())
    };
    let pod = step.pod(&variables).spawn(["/kaniko/kaniko-docker"]).unwrap();
    let (output, found) = pod.wait_and_inspect(look).unwrap();
    output.assert_success();
    assert_eq!(found, (Some(config), Some(0o600)));
    assert_eq!(step.bench.registry.tags("team/app").unwrap(), ["latest"]);
}

#[test]
fn privileged_a_closed_output_is_no_panic() {
    let step = Step::new();
    step.bench.write("Dockerfile", "FROM busybox\nRUN echo written\n");
    // Whoever reads the outputs of the step has gone before it writes; what it ends with is in a file.
    std::fs::copy("/bin/busybox", step.bench.executor.root().join("kaniko/busybox")).unwrap();
    for (name, arguments, expected) in [
        ("help", "--help", "0\n"),
        ("version", "--version", "0\n"),
        ("argv", "--print-argv", "0\n"),
        ("both", "--print-argv 2>&1", "0\n"),
        ("wrong", "--nope 2>&1", "1\n"),
        ("build", "2>&1", "0\n"),
    ] {
        let script = format!(
            "{{ /kaniko/busybox sleep 0.3; /kaniko/kaniko-docker {arguments}; /kaniko/busybox echo $? > /addon/{name}; }} | \
             /kaniko/busybox true"
        );
        let output = step.pod(&TO_TAR).run(["/kaniko/busybox", "sh", "-c", &script]).unwrap();
        assert!(!output.to_string().contains("panic"), "{output}");
        assert_eq!(step.bench.read(name), expected, "{arguments}\n{output}");
    }
    assert!(unpack(&archive(&step)).is_ok());
}

/// What the artifact says of each tag.
fn described(step: &Step) -> Vec<String> {
    let artifact = step.artifact();
    let images = artifact["data"]["images"].as_array().unwrap();
    images.iter().filter_map(|image| image["image"].as_str().map(str::to_owned)).collect()
}

#[test]
fn privileged_tags_come_from_versions_and_a_step_says_which_it_has_pushed() {
    let step = Step::new();
    step.bench.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let repository = step.bench.registry.reference("team/app");
    let login = [
        ("PLUGIN_REPO", repository.as_str()),
        ("PLUGIN_REGISTRY", "https://ghcr.io/team"),
        ("PLUGIN_USERNAME", "u"),
        ("PLUGIN_PASSWORD", "p"),
    ];
    for (variables, expected) in [
        (
            &[
                ("PLUGIN_AUTO_TAG", "true"),
                ("PLUGIN_AUTO_TAG_SUFFIX", "amd64"),
                ("DRONE_COMMIT_REF", "refs/tags/v1.9.2"),
            ][..],
            &["1-amd64", "1.9-amd64", "1.9.2-amd64"][..],
        ),
        (&[("PLUGIN_EXPAND_TAG", "true"), ("PLUGIN_TAGS", "v2.1")], &["2", "2.1", "2.1.0"]),
    ] {
        let output = step.run("kaniko-docker", &[&login[..], variables].concat()).assert_success();
        let expected: Vec<String> =
            expected.iter().map(|tag| format!("{repository}:{tag}")).collect();
        assert_eq!(described(&step), expected, "{output}");
        // The connector is for another registry than the image.
        let host = step.bench.registry.host();
        let warning = format!("the login is for ghcr.io, and the image goes to {host}");
        assert!(output.stderr.contains(&warning), "{output}");
        assert!(output.stderr.contains("base images are pulled without a login"), "{output}");
    }
    let tags = step.bench.registry.tags("team/app").unwrap();
    assert_eq!(tags, ["1-amd64", "1.9-amd64", "1.9.2-amd64", "2", "2.1", "2.1.0"]);
    assert_eq!(step.artifact()["data"]["registryType"], Value::from("Docker"));
}
