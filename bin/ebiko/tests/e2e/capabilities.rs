//! What each capability of the guide's list is for: with the list a build succeeds, and without this one it fails with these words.

use crate::bench::{Bench, host};
use crate::deployment::guide_without;

/// A capability, steps on busybox that need it, and what is seen without it.
const NEEDED: [(&str, &str, &str); 8] = [
    ("CHOWN", "RUN chown 1000 /tmp", "chown: /tmp: Operation not permitted"),
    ("DAC_OVERRIDE", "RUN mkdir -m 700 /d && chown 1000 /d", "cannot list `/d`"),
    (
        "FOWNER",
        "RUN touch /f && chown 1000 /f && chmod 600 /f",
        "chmod: /f: Operation not permitted",
    ),
    // The kernel drops the bit without a word.
    (
        "FSETID",
        "RUN touch /f && chgrp 1000 /f && chmod 2755 /f && stat -c %a /f && test -g /f",
        "\n755\n",
    ),
    ("SETGID", "RUN true", "the groups [0] could not be set"),
    ("SETUID", "USER 1000\nRUN true", "the user 1000 could not be set"),
    (
        "SETFCAP",
        "COPY tools /\nRUN touch /f && setcap cap_net_raw+ep /f",
        "unable to set CAP_SETFCAP effective capability: Operation not permitted",
    ),
    (
        "KILL",
        "USER 1000\nRUN sleep 1000 > /dev/null 2>&1 &",
        "needs the capability KILL to end processes of other users",
    ),
];

#[track_caller]
fn check(bench: &Bench, capability: &str, dockerfile: &str, expected: &str) {
    let build = |without: &str| {
        let pod = bench.pod().capabilities(guide_without(without)).no_new_privileges();
        bench.build_in(&pod, dockerfile, &["--no-push"])
    };
    build("").assert_success();
    let output = build(capability);
    assert_ne!(output.code, 0, "{capability} is not needed: {output}");
    assert!(output.to_string().contains(expected), "{capability}: no `{expected}`\n{output}");
}

#[test]
fn privileged_without_one_of_the_guides_capabilities_a_build_that_needs_it_fails() {
    let bench = Bench::new();
    // The machine's `setcap`, with the libraries that it is linked to.
    let copy = "cp -L --parents /usr/sbin/setcap $(ldd /usr/sbin/setcap | grep -o '/[^ ]*') tools/";
    host("sh", &["-c", &format!("mkdir tools && {copy}")], &bench.context());
    for (capability, steps, expected) in NEEDED {
        check(&bench, capability, &format!("FROM busybox\n{steps}\n"), expected);
    }
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
}
