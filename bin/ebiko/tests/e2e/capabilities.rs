//! The guide's list of capabilities: without one of them root is emulated, and the image is the same.

use crate::bench::{Bench, host};
use crate::deployment::guide_without;

/// A capability, and steps on busybox that need it.
const NEEDED: [(&str, &str); 7] = [
    ("CHOWN", "RUN chown 1000:50 /tmp && [ $(stat -c %u:%g /tmp) = 1000:50 ]"),
    (
        "DAC_OVERRIDE",
        "RUN mkdir -m 700 /d && chown 1000 /d && touch /d/f && chmod 0 /d/f && cat /d/f",
    ),
    ("FOWNER", "RUN touch /f && chown 1000 /f && chmod 600 /f"),
    // The kernel drops the bit without a word.
    ("FSETID", "RUN touch /f && chgrp 1000 /f && chmod 2755 /f && test -g /f"),
    ("SETGID", "RUN [ $(id -g) = 0 ]"),
    ("SETUID", "USER 1000\nRUN [ $(id -u) = 1000 ] && touch /tmp/f"),
    ("SETFCAP", "COPY tools /\nRUN touch /f && setcap cap_net_raw+ep /f"),
];

/// Builds with the list, and with all of it but `capability`.
#[track_caller]
fn check(bench: &Bench, capability: &str, dockerfile: &str) {
    let layers = |without: &str| {
        let pod = bench.pod().capabilities(guide_without(without)).no_new_privileges();
        let flags = ["--no-push", "--tar-path=/out/image.tar", "--rewrite-timestamp"];
        let output =
            bench.build_in(&pod, dockerfile, &[&flags[..], &["--source-date-epoch=1"]].concat());
        let output = output.assert_success();
        let said = format!("although this process lacks {without}:");
        assert_eq!(
            output.to_string().matches(&said).count(),
            usize::from(!without.is_empty()),
            "{output}"
        );
        testkit::oracle::docker_archive_layers(&bench.out("image.tar")).unwrap()
    };
    assert_eq!(layers(""), layers(capability), "{capability}");
}

#[test]
fn privileged_without_one_of_the_guides_capabilities_root_is_emulated() {
    let bench = Bench::new();
    // The machine's `setcap`, with the libraries that it is linked to.
    let copy = "cp -L --parents /usr/sbin/setcap $(ldd /usr/sbin/setcap | grep -o '/[^ ]*') tools/";
    host("sh", &["-c", &format!("mkdir tools && {copy}")], &bench.context());
    for (capability, steps) in NEEDED {
        check(&bench, capability, &format!("FROM busybox\n{steps}\n"));
    }
}

#[test]
fn privileged_processes_of_others_are_ended_with_a_capability_or_an_emulated_root() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\nUSER 1000\nRUN sleep 1000 > /dev/null 2>&1 &\n";
    let build = |names: Vec<String>| {
        let pod = bench.pod().capabilities(names).no_new_privileges();
        bench.build_in(&pod, dockerfile, &["--no-push"])
    };
    let refused = build(guide_without("KILL"));
    let expected = "needs the capability KILL to end processes of other users";
    assert!(refused.code != 0 && refused.to_string().contains(expected), "{refused}");
    build(Vec::new()).assert_success();
}

#[test]
fn privileged_a_device_needs_a_capability_more_and_a_build_without_commands_needs_none() {
    let bench = Bench::new();
    let device = "FROM busybox\nRUN mknod /n c 1 3\n";
    let pod = |names: Vec<String>| bench.pod().capabilities(names).no_new_privileges();
    let refused = bench.build_in(&pod(guide_without("")), device, &["--no-push"]);
    assert!(
        refused.code == 1 && refused.stdout.contains("mknod: /n: Operation not permitted"),
        "{refused}"
    );
    let more = [guide_without(""), vec!["CAP_MKNOD".to_owned()]].concat();
    bench.build_in(&pod(more), device, &["--no-push"]).assert_success();

    // Owners, modes and file capabilities of what is copied are in the layer, whoever may have them.
    bench.write("f", "");
    let context = bench.context();
    host("setcap", &["cap_net_raw+ep", "f"], &context);
    let xattrs = ["--xattrs", "--xattrs-include=security.capability"];
    host("tar", &[&xattrs[..], &["-cf", "capable.tar", "f"]].concat(), &context);
    std::fs::remove_file(context.join("f")).unwrap();
    let copies = "FROM busybox\nCOPY --chown=1000:1000 --chmod=2755 Dockerfile /d\nADD capable.tar /\nUSER 1000\n";
    let flags = ["--no-push", "--tar-path=/out/image.tar"];
    bench.build_in(&pod(Vec::new()), copies, &flags).assert_success();
    let layers = testkit::oracle::docker_archive_layers(&bench.out("image.tar")).unwrap();
    assert!(layers[1].starts_with("-rwxr-sr-x 1000/1000 "), "{layers:#?}");

    // Without any, root is emulated, and so are devices.
    bench.build_in(&pod(Vec::new()), device, &flags).assert_success();
    let layers = testkit::oracle::docker_archive_layers(&bench.out("image.tar")).unwrap();
    assert!(layers[1].starts_with("crw-r--r-- 0/0 1,3 "), "{layers:#?}");
}
