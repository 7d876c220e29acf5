//! A build that fails leaves its status, its reason, and nothing else.

use std::time::{Duration, Instant};

use crate::bench::{Bench, host};

#[test]
fn privileged_a_failed_run_ends_with_its_status_names_its_line_and_leaves_nothing() {
    let bench = Bench::new();
    let destination = format!("--destination={}", bench.registry.reference("x:1"));
    let flags = [
        &destination,
        "--tar-path=/out/image.tar",
        "--oci-layout-path=/out/layout",
        "--digest-file=/out/digest",
    ];
    let output =
        bench.build("FROM busybox\nENV A=1\nRUN echo before; exit 42\nRUN echo after\n", &flags);
    assert_eq!((output.code, output.stdout.as_str()), (42, "before\n"), "{output}");
    for expected in ["Dockerfile:3", "RUN echo before; exit 42", "42"] {
        assert!(output.stderr.contains(expected), "`{expected}` is missing\n{output}");
    }
    assert_eq!(testkit::listing(&bench.out("")).unwrap(), "", "no half-written output");
    assert!(bench.registry.image("x:1").is_err());
}

#[test]
fn privileged_a_run_that_is_killed_reports_the_signal() {
    let bench = Bench::new();
    let output = bench.build("FROM busybox\nRUN kill -SEGV $$\n", &["--no-push"]);
    assert_eq!(output.code, 128 + 11, "{output}");
    assert!(output.stderr.contains("signal"), "{output}");
}

/// The machine of an image in its config, and that of its programs as ELF has it, which this machine is not.
const FOREIGN: (&str, u8) =
    if cfg!(target_arch = "x86_64") { ("arm64", 183) } else { ("amd64", 62) };

#[test]
fn privileged_a_run_in_an_image_for_another_processor_names_that_one_and_this_one() {
    let bench = Bench::new();
    let (foreign, number) = FOREIGN;
    let own = if foreign == "arm64" { "amd64" } else { "arm64" };
    let mut shell = std::fs::read("/bin/busybox").unwrap();
    shell[18] = number;
    std::fs::create_dir(bench.context().join("bin")).unwrap();
    std::fs::write(bench.context().join("bin/sh"), shell).unwrap();
    host("chmod", &["755", "bin/sh"], &bench.context());
    let image = bench.registry.reference("foreign:1");
    let platform = format!("--custom-platform=linux/{foreign}");
    let flags = [&format!("--destination={image}"), &*platform];
    bench.build("FROM scratch\nCOPY bin/sh /bin/sh\n", &flags).assert_success();
    let config = bench.registry.image("foreign:1").unwrap().config_json();
    assert_eq!(config["architecture"], foreign);
    for flags in [&["--no-push"][..], &["--no-push", &platform]] {
        let output = bench.build(&format!("FROM {image}\nRUN echo must not run\n"), flags);
        assert_ne!(output.code, 0, "{output}");
        let hint = output.stderr.lines().find(|line| line.starts_with("hint: "));
        let expected =
            format!("`/bin/sh` of the image is a program for {foreign}, and this machine is {own}");
        assert!(hint.is_some_and(|hint| hint.contains(&expected)), "{output}");
        assert!(output.stderr.contains("Exec format error"), "{output}");
    }
}

#[test]
fn privileged_a_missing_program_a_missing_file_and_a_missing_image_are_named() {
    let bench = Bench::new();
    for (dockerfile, place, named) in [
        ("FROM busybox\nRUN [\"/no/such\"]\n", "Dockerfile:2", "/no/such"),
        ("FROM busybox\nCOPY no-such-file /\n", "Dockerfile:2", "no-such-file"),
        ("FROM no/such:image\n", "", "no/such"),
        ("FROM busybox\nUSER nosuchuser\nRUN true\n", "Dockerfile:3", "nosuchuser"),
    ] {
        let output = bench.build(dockerfile, &["--no-push"]);
        assert_ne!(output.code, 0, "{dockerfile}\n{output}");
        for expected in [place, named, "error"] {
            assert!(
                output.stderr.contains(expected),
                "`{expected}` is missing for {dockerfile}\n{output}"
            );
        }
    }
}

#[test]
fn privileged_no_process_of_a_step_outlives_it() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\n\
        RUN (trap '' TERM HUP; setsid sleep 1234 & sleep 1235 &) ; echo started\n\
        RUN ! ps | grep -v grep | grep -q 'sleep 123'\n";
    let started = Instant::now();
    let output = bench.build(dockerfile, &["--no-push"]).assert_success();
    assert!(started.elapsed() < Duration::from_mins(1), "{output}");
}

#[test]
fn privileged_a_stopped_build_ends_soon_and_leaves_no_output() {
    let bench = Bench::new();
    bench.write(
        "Dockerfile",
        "FROM busybox\nRUN echo running; trap '' TERM; while :; do sleep 0.1; done\n",
    );
    let command = [
        vec!["/kaniko/executor".to_owned()],
        bench.flags(&["--no-push", "--tar-path=/out/image.tar"]),
    ]
    .concat();
    let mut running = bench.pod().timeout(Duration::from_mins(1)).spawn(command).unwrap();
    running.wait_for_output("running").unwrap();
    running.signal("TERM").unwrap();
    let output = running.wait().unwrap();
    assert_ne!(output.code, 0, "{output}");
    assert!(output.usage.wall < Duration::from_secs(40), "{output}");
    assert_eq!(testkit::listing(&bench.out("")).unwrap(), "");
}
