//! A build in a pod, on the container's own `/`.

use testkit::base::busybox;
use testkit::{Profile, listing};

use crate::bench::Bench;

#[test]
fn privileged_a_base_image_is_pulled_once_and_its_layers_are_not_pushed_again() {
    let bench = Bench::new();
    let destination = format!("--destination={}", bench.registry.reference("library/busybox:mine"));
    let dockerfile = "FROM busybox AS a\nRUN echo 1 > /1\nFROM busybox\nCOPY --from=a /1 /1\n";
    bench.build(dockerfile, &[&destination]).assert_success();
    let base = bench.registry.image(&busybox().unwrap().repository()).unwrap();
    let requests = bench.registry.requests();
    let pulls = requests
        .iter()
        .filter(|line| line.starts_with("GET ") && line.contains(&base.layers[0]))
        .count();
    assert_eq!(pulls, 1, "{requests:#?}");
    let image = bench.registry.image("library/busybox:mine").unwrap();
    assert_eq!(image.layers[0], base.layers[0]);
    let uploads = requests
        .iter()
        .filter(|line| line.starts_with("PUT ") && line.contains("/blobs/uploads/"))
        .count();
    assert_eq!(uploads, 2, "one new layer and one config: {requests:#?}");
}

#[test]
fn privileged_a_pod_in_a_user_namespace_builds_the_same_layers() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\nCOPY --chown=5:6 Dockerfile /d/f\nCOPY Dockerfile /g\n";
    let flags = ["--no-push", "--tar-path=/out/image.tar"];
    let in_pod = |profile| {
        // Directories that the build makes are as old as the build; only their times may differ.
        let pod = bench.pod().profile(profile);
        std::fs::set_permissions(
            bench.out(""),
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        )
        .unwrap();
        bench.build_in(&pod, dockerfile, &flags).assert_success();
        testkit::oracle::docker_archive_layers(&bench.out("image.tar")).unwrap()
    };
    assert_eq!(in_pod(Profile::UserNamespace), in_pod(Profile::Root));
}

#[test]
fn privileged_mounts_of_the_pod_are_neither_recorded_nor_removed() {
    let bench = Bench::new();
    // A base that wants a link where Kubernetes mounts a file below.
    let dockerfile = "FROM busybox AS a\nRUN rm -rf /run && mkdir /run; [ ! -e /var/run ] || rm -rf /var/run 2>/dev/null; echo x > /etc/x\n\
                      FROM busybox\nRUN test ! -e /etc/x && echo y > /etc/y\n";
    let archive = bench.archive(dockerfile, &[]);
    let layer = archive.last_layer();
    assert!(layer.contains(" etc/y\n"), "{layer}");
    for mounted in
        ["etc/hosts", "etc/hostname", "etc/resolv.conf", "secrets", "dev/", "proc/", "sys/"]
    {
        assert!(!layer.contains(mounted), "`{mounted}` is in the layer:\n{layer}");
    }
}

#[test]
fn privileged_a_single_snapshot_is_one_layer_and_equals_the_sum_of_many() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\nRUN echo a > /a && echo b > /b\nRUN rm /a && echo c > /c\nCOPY Dockerfile /d\nENV E=1\n";
    let many = bench.archive(dockerfile, &[]);
    assert_eq!(many.layers().len(), 4);
    let one = bench.archive(dockerfile, &["--single-snapshot"]);
    let layers = one.layers();
    assert_eq!(layers.len(), 2);
    for present in [" b\n", " c\n", " d\n"] {
        assert!(layers[1].contains(present), "{}", layers[1]);
    }
    assert!(!layers[1].contains(" a\n"), "{}", layers[1]);
}

#[test]
fn privileged_an_ignored_path_stays_out_of_the_image() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\nRUN mkdir -p /cache/deep /keep && echo 1 > /cache/deep/f && echo 2 > /keep/f\n";
    let layer = bench.archive(dockerfile, &["--ignore-path=/cache"]).last_layer();
    assert!(layer.contains(" keep/f\n") && !layer.contains("cache"), "{layer}");
}

#[test]
fn privileged_cleanup_brings_back_the_executor_image() {
    let bench = Bench::new();
    bench.write("Dockerfile", "FROM busybox\nRUN echo 1 > /left\n");
    let command =
        [vec!["/kaniko/executor".to_owned()], bench.flags(&["--no-push", "--cleanup"])].concat();
    let (output, left) = bench
        .pod()
        .spawn(command)
        .unwrap()
        .wait_and_inspect(|root| listing(&root.join("kaniko")).unwrap() + &listing(root).unwrap())
        .unwrap();
    output.assert_success();
    assert!(!left.contains("busybox") && !left.contains(" left"), "{left}");
    assert!(left.contains("kaniko/executor"), "{left}");
    assert!(!left.contains("stages"), "{left}");
}

#[test]
fn privileged_the_program_resolves_names_in_an_empty_root() {
    let bench = Bench::new();
    let server =
        testkit::NameServer::start([("registry.test", std::net::Ipv4Addr::LOCALHOST)]).unwrap();
    let port = bench.registry.host().split(':').next_back().unwrap().to_owned();
    let host = format!("registry.test:{port}");
    let dockerfile = format!(
        "FROM {host}/library/busybox\nRUN grep -q joe /etc/passwd\nUSER joe\nRUN test $(id -u) = 1000\n"
    );
    let pod = bench.pod().resolv_conf(&server.resolv_conf());
    let insecure = format!("--insecure-registry={host}");
    let destination = format!("--destination={host}/x:1");
    bench.build_in(&pod, &dockerfile, &[&insecure, &destination]).assert_success();
    assert!(server.questions().contains(&"registry.test".to_owned()));
    bench.registry.image("x:1").unwrap();
}

#[test]
fn privileged_the_run_sees_nothing_of_the_builder() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\nARG GIVEN\nENV IMAGE=1\nRUN env | sort; ls /proc/self/fd | wc -l; \
                      cat /proc/1/environ >/dev/null 2>&1 && echo environment; cat /kaniko/.docker/config.json 2>/dev/null; true\n";
    let pod = bench.pod().env("SECRET", "of the pod").env("GIVEN", "from outside");
    let output =
        bench.build_in(&pod, dockerfile, &["--no-push", "--build-arg=GIVEN"]).assert_success();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines.contains(&"GIVEN=from outside") && lines.contains(&"IMAGE=1"), "{output}");
    for hidden in ["SECRET", "KUBERNETES", "DOCKER_CONFIG", "environment"] {
        assert!(!output.stdout.contains(hidden), "{hidden} shows: {output}");
    }
    // 0, 1, 2 and the directory that `ls` reads.
    assert_eq!(lines.last().map(|line| line.trim()), Some("4"), "{output}");
}

#[test]
fn privileged_a_mount_that_a_run_has_moved_away_never_gets_into_an_image() {
    let bench = Bench::new();
    // Renaming the directory above a mount takes the mount along, and the path is then no mount point that was known.
    let dockerfile = "FROM busybox AS a\nRUN mv /var /var2 && mkdir /var\nFROM busybox\nCOPY --from=a /var2 /v\n";
    let output = bench.build(dockerfile, &["--no-push", "--tar-path=/out/image.tar"]);
    assert_eq!(output.code, 1, "{output}");
    for part in ["Dockerfile:2", "serviceaccount` was moved to `var2/", "hint:"] {
        assert!(output.stderr.contains(part), "`{part}` is missing: {output}");
    }
    assert!(!bench.out("image.tar").exists());
}

#[test]
fn privileged_a_working_directory_on_a_mount_is_refused() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\nWORKDIR /workspace\nCOPY . .\nRUN echo built > made\n";
    let output = bench.build(dockerfile, &["--no-push"]);
    assert_eq!(output.code, 1, "{output}");
    for part in ["Dockerfile:4", "/workspace", "hint:"] {
        assert!(output.stderr.contains(part), "`{part}` is missing: {output}");
    }
}

#[test]
fn privileged_a_link_that_a_run_puts_at_an_output_is_not_followed() {
    let bench = Bench::new();
    bench.write("Dockerfile", "FROM busybox\nUSER joe\nRUN ln -s /out/precious /tmp/digest\n");
    std::fs::write(bench.out("precious"), "mine").unwrap();
    let command = [
        vec!["/kaniko/executor".to_owned()],
        bench.flags(&["--no-push", "--digest-file=/tmp/digest"]),
    ]
    .concat();
    let output = bench.pod().run(command).unwrap();
    assert_eq!(output.code, 1, "{output}");
    assert!(output.stderr.contains("put a link there"), "{output}");
    assert_eq!(bench.read("precious"), "mine");
}

#[test]
fn privileged_pods_without_the_rights_for_a_build_are_told_what_is_missing() {
    let bench = Bench::new();
    let pod = bench.pod().profile(Profile::Restricted);
    let output = bench.build_in(&pod, "FROM busybox\nRUN id\n", &["--no-push"]);
    assert_ne!(output.code, 0, "{output}");
    assert_eq!(output.stdout, "", "nothing ran");
    for part in ["Dockerfile:2", "user 1000", "belongs to somebody else", "hint:", "`nonroot`"] {
        assert!(output.stderr.contains(part), "`{part}` is missing: {output}");
    }

    // Without a RUN nothing is missing.
    let copies = "FROM busybox AS a\nWORKDIR /w\nFROM busybox\nCOPY --chown=7:8 --chmod=4711 Dockerfile /d\nCOPY --from=a /w /w\n";
    let destination = format!("--destination={}/copies:1", bench.registry.host());
    bench.build_in(&pod, copies, &[&destination]).assert_success();
    let layers = bench.registry.layers("copies:1").unwrap();
    assert!(layers[1].starts_with("-rws--x--x 7/8 "), "{layers:?}");
}
