//! Pulling from and pushing to a real registry.

use testkit::base::busybox;
use testkit::oracle::two_platforms;
use testkit::{Auth, Registry};

use crate::bench::Bench;

const AUTHS: [Auth; 2] = [
    Auth::Basic { user: "joe", password: "pass:word" },
    Auth::Token { user: "joe", password: "pass:word" },
];

fn protected(auth: Auth) -> Bench {
    Bench::with_registry(Registry::builder().auth(auth).image(busybox().unwrap()).start().unwrap())
}

#[test]
fn privileged_basic_and_token_registries_are_read_and_written_with_the_configured_user() {
    for auth in AUTHS {
        let bench = protected(auth);
        std::fs::write(bench.out("config.json"), bench.registry.docker_config()).unwrap();
        let pod =
            bench.pod().bind_read_only(bench.out("config.json"), "/kaniko/.docker/config.json");
        let destination = format!("--destination={}", bench.registry.reference("team/app:1"));
        bench.build_in(&pod, "FROM busybox\nRUN echo 1 > /1\n", &[&destination]).assert_success();
        assert_eq!(bench.registry.image("team/app:1").unwrap().layers.len(), 2, "{auth:?}");
    }
}

#[test]
fn privileged_a_push_without_credentials_fails_before_anything_runs_or_is_half_there() {
    for auth in AUTHS {
        let bench = protected(auth);
        let destination = format!("--destination={}", bench.registry.reference("team/app:1"));
        let output = bench.build("FROM scratch\nCOPY Dockerfile /\n", &[&destination]);
        assert_eq!(output.code, 1, "{auth:?}\n{output}");
        assert!(output.stderr.contains(&bench.registry.host()), "the registry is named: {output}");
        assert!(bench.registry.image("team/app:1").is_err(), "{auth:?}");
    }
}

#[test]
fn privileged_the_platform_is_chosen_out_of_an_index() {
    let bench = Bench::new();
    two_platforms(&busybox().unwrap().layout(), &bench.out("both")).unwrap();
    bench
        .registry
        .push(&format!("oci:{}:image", bench.out("both").display()), "library/both:1", "oci")
        .unwrap();
    let arm = bench
        .archive("FROM both:1\nLABEL a=1\n", &["--custom-platform=linux/arm64"])
        .facts()
        .config_json();
    assert_eq!(
        (arm["architecture"].as_str(), arm["config"]["Env"][0].as_str()),
        (Some("arm64"), Some("ARM=1"))
    );
    let native = bench.archive("FROM both:1\nLABEL a=1\n", &[]).facts().config_json();
    assert_ne!(native["architecture"], arm["architecture"]);
    let none = bench.build("FROM both:1\n", &["--no-push", "--custom-platform=linux/s390x"]);
    assert_eq!(none.code, 1);
    assert!(none.stderr.contains("linux/s390x"), "{none}");
}

#[test]
fn privileged_an_image_is_pulled_by_digest_in_docker_and_oci_format() {
    let bench = Bench::new();
    bench.registry.push(&busybox().unwrap().source(), "library/as-oci:1", "oci").unwrap();
    let docker = ["docker.distribution.manifest.v2", "docker.image.rootfs.diff.tar.gzip"];
    let oci = ["oci.image.manifest.v1", "oci.image.layer.v1.tar+gzip"];
    for (name, media_types) in
        [(busybox().unwrap().repository(), docker), ("library/as-oci:1".to_owned(), oci)]
    {
        let digest = bench.registry.image(&name).unwrap().manifest_digest.unwrap();
        let repository = name.split(':').next().unwrap();
        let reference = bench.registry.reference(&format!("{repository}@{digest}"));
        let destination = format!("--destination={}", bench.registry.reference("out:1"));
        bench
            .build(&format!("FROM {reference}\nCOPY Dockerfile /\n"), &[&destination])
            .assert_success();
        let image = bench.registry.image("out:1").unwrap();
        assert_eq!(image.layers.len(), 2);
        let manifest: serde_json::Value = serde_json::from_slice(&image.manifest.unwrap()).unwrap();
        let found = [&manifest["mediaType"], &manifest["layers"][1]["mediaType"]];
        let found = found.map(|value| value.as_str().unwrap());
        assert!(
            found[0].contains(media_types[0]) && found[1].contains(media_types[1]),
            "{found:?}"
        );
    }
}

#[test]
fn privileged_a_blob_with_other_content_is_refused() {
    let bench = Bench::new();
    let layer = bench.registry.image(&busybox().unwrap().repository()).unwrap().layers[0].clone();
    let blob = bench.registry.blob(&layer);
    let mut bytes = std::fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    // A new file: the old one is shared with the cache of base images.
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, bytes).unwrap();
    let output = bench.build(
        "FROM busybox\nRUN echo must not run\n",
        &["--no-push", "--tar-path=/out/image.tar"],
    );
    assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output}");
    assert!(output.stderr.contains(&layer), "{output}");
    assert!(!bench.out("image.tar").exists());
}

#[test]
fn privileged_a_registry_map_and_a_mirror_that_fails_fall_back_in_order() {
    let bench = Bench::new();
    let own = bench.registry.host();
    let map = format!("--registry-map=example.invalid=localhost:1;example.invalid={own}");
    let output =
        bench.build("FROM example.invalid/library/busybox\nENV A=1\n", &["--no-push", &map]);
    assert_eq!(output.code, 0, "{output}");
}

#[test]
fn privileged_plain_http_needs_a_flag_for_each_direction() {
    let bench = Bench::new();
    let pod = bench.pod().hosts_line("127.0.0.1 registry.test");
    let host = bench.registry.host().replace("localhost", "registry.test");
    bench.write("Dockerfile", &format!("FROM {host}/library/busybox\nENV A=1\n"));
    let destination = format!("--destination={host}/out:1");
    let command = ["/kaniko/executor", "--context=dir:///workspace", &destination];
    for (flags, code) in [
        (&["--no-push"][..], 1),
        (&["--no-push", "--insecure"], 1),
        (&["--no-push", "--insecure-pull"], 0),
        (&["--insecure-pull"], 1),
        (&["--insecure-pull", "--insecure"], 0),
    ] {
        let output = pod.run([&command[..], flags].concat()).unwrap();
        assert_eq!(output.code, code, "with {flags:?}: {output}");
    }
    bench.registry.image("out:1").unwrap();
}

#[test]
fn privileged_a_registry_with_an_authority_of_its_own_is_used_once_the_authority_is_named() {
    let registry = Registry::builder().tls().image(busybox().unwrap()).start().unwrap();
    let bench = Bench::with_registry(registry);
    let authority = bench.registry.certificate_authority().unwrap();
    let from = bench.registry.reference("library/busybox");
    bench.write("Dockerfile", &format!("FROM {from}\nRUN echo 1 > /1\n"));
    let destination = format!("--destination={}", bench.registry.reference("team/app:1"));
    let command = ["/kaniko/executor", "--context=dir:///workspace", &destination];

    let stranger = bench.pod().run(command).unwrap();
    assert_eq!((stranger.code, stranger.stdout.as_str()), (1, ""), "{stranger}");
    for expected in
        [bench.registry.host().as_str(), "UnknownIssuer", "--registry-certificate", "hint:"]
    {
        assert!(stranger.stderr.contains(expected), "`{expected}` is missing\n{stranger}");
    }

    let in_a_directory = bench.pod().bind_read_only(&authority, "/kaniko/ssl/certs/own.crt");
    let as_a_file =
        bench.pod().bind_read_only(&authority, "/own.crt").env("SSL_CERT_FILE", "/own.crt");
    for pod in [in_a_directory, as_a_file] {
        pod.run(command).unwrap().assert_success();
        assert_eq!(bench.registry.image("team/app:1").unwrap().layers.len(), 2);
    }
}

#[test]
fn privileged_certificates_of_one_registry_are_named_or_waived_by_flags() {
    let registry = Registry::builder().tls().image(busybox().unwrap()).start().unwrap();
    let bench = Bench::with_registry(registry);
    let authority = bench.registry.certificate_authority().unwrap();
    let host = bench.registry.host();
    bench.write("Dockerfile", &format!("FROM {host}/library/busybox\nCOPY Dockerfile /\n"));
    let pod = bench.pod().bind_read_only(&authority, "/own.crt");
    let destination = format!("--destination={host}/team/app:1");
    let run = |flag: &str| {
        let command = ["/kaniko/executor", "--context=dir:///workspace", &destination, flag];
        pod.run(command).unwrap()
    };
    let named = run(&format!("--registry-certificate={host}=/own.crt"));
    assert_eq!(named.code, 0, "{named}");
    assert!(!named.stderr.contains("verified"), "{named}");
    for flag in [format!("--skip-tls-verify-registry={host}"), "--skip-tls-verify".to_owned()] {
        let waived = run(&flag);
        assert_eq!(waived.code, 0, "{waived}");
        let name = flag.split('=').next().unwrap();
        let warning = format!("not verified ({name})");
        assert!(waived.stderr.contains(&warning), "{waived}");
    }
    for flag in ["--skip-tls-verify-registry=localhost:1", "--skip-tls-verify-pull"] {
        let refused = run(flag);
        assert_eq!(refused.code, 1, "{flag}: {refused}");
    }
}

#[test]
fn privileged_nothing_runs_for_a_destination_that_takes_nothing() {
    let bench = protected(AUTHS[0]);
    let host = bench.registry.host();
    std::fs::write(bench.out("config.json"), bench.registry.docker_config()).unwrap();
    let config = bench.out("config.json");
    let known = bench.pod().bind_read_only(&config, "/kaniko/.docker/config.json");
    let open = Registry::builder().start().unwrap();
    let dockerfile = format!("FROM {host}/library/busybox\nRUN echo it runs\n");

    // The base can be read, and one of the destinations can be written to.
    let wrong = bench.registry.docker_config().replace(&host, &open.host());
    std::fs::write(bench.out("wrong.json"), wrong).unwrap();
    let stranger =
        bench.pod().bind_read_only(bench.out("wrong.json"), "/kaniko/.docker/config.json");
    let destinations = [
        format!("--destination={}", open.reference("app:1")),
        format!("--destination={host}/app:1"),
    ];
    let flags: Vec<&str> = destinations.iter().map(String::as_str).collect();
    let refused = bench.build_in(&stranger, "FROM scratch\nCOPY Dockerfile /\n", &flags);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{refused}");
    let denied = format!("`{host}` denies pushing to `app`");
    for expected in [denied.as_str(), "nothing is begun", "hint: put credentials for"] {
        assert!(refused.stderr.contains(expected), "`{expected}` is missing\n{refused}");
    }
    assert!(open.tags("app").is_err(), "nothing was pushed anywhere");
    bench.build_in(&known, &dockerfile, &flags[1..]).assert_success();

    // An output that cannot be written is found out as early.
    let output =
        bench.build("FROM scratch\nCOPY Dockerfile /\n", &["--no-push", "--tar-path=/out"]);
    assert_eq!(output.code, 1, "{output}");
    assert!(output.stderr.contains("`/out` cannot be written: it is a directory"), "{output}");
    assert!(!output.stderr.contains("[stage"), "{output}");
}
