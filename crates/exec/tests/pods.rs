//! What a command is given in a pod, with the capabilities and the filter of Kubernetes: nothing can be mounted there.
//!
//! The tests need root, `runc`, and a static busybox at `/bin/busybox`.

#![expect(clippy::disallowed_methods, reason = "tests make files and start programs")]
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its surroundings are not as it needs them"
)]

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use testkit::{Pod, Profile};

const APPLETS: [&str; 17] = [
    "cat", "echo", "find", "grep", "hostname", "ip", "ln", "ls", "mkdir", "mv", "nc", "rm", "sh",
    "stat", "touch", "true", "mount",
];

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    assert!(Command::new("cp").args([from, to]).status().unwrap().success());
}

/// A root with busybox and, in the builder's directory, `examples/perform.rs` and its libraries.
fn root() -> TempDir {
    let directory = testkit::scratch_dir("perform-").unwrap();
    let at = |path: &str| directory.path().join(path);
    copy("/bin/busybox".as_ref(), &at("bin/busybox"));
    for applet in APPLETS {
        symlink("busybox", at("bin").join(applet)).unwrap();
    }
    let test = std::env::current_exe().unwrap();
    let perform = test.ancestors().nth(2).unwrap().join("examples/perform");
    copy(&perform, &at("kaniko/perform"));
    let libraries = Command::new("ldd").arg(perform).output().unwrap();
    let libraries = String::from_utf8(libraries.stdout).unwrap();
    for library in libraries.split_ascii_whitespace().filter(|word| word.starts_with('/')) {
        copy(&fs::canonicalize(library).unwrap(), &at(&library[1..]));
    }
    for (path, text) in [
        ("kaniko/context/file", "of the context\n"),
        ("kaniko/stage/etc/file", "of the stage\n"),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\n"),
    ] {
        fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        fs::write(at(path), text).unwrap();
    }
    directory
}

/// Runs commands one after the other in one pod: the options of each, and its script.
fn run_as(profile: Profile, commands: &[(&str, &str)]) -> String {
    let root = root();
    let mut script =
        "export PATH=/bin; mkdir -p /made/before /kaniko/commands; echo kept > /made/before/file\n"
            .to_owned();
    for (options, command) in commands {
        script.push_str(
            "/kaniko/perform --container --protect kaniko --env PATH=/bin --context /kaniko/context --stage /kaniko/stage \
             --scratch /kaniko/commands --caches /kaniko/caches ",
        );
        writeln!(script, "{options} / sh -c '{command}' 2>&1").unwrap();
    }
    script.push_str("cat /made/before/file; ls /kaniko /kaniko/commands /dev/shm; cat /etc/hosts");
    let output = Pod::new(root.path()).profile(profile).run(["/bin/sh", "-c", &script]).unwrap();
    format!("{}{}", output.stdout, output.stderr)
}

#[track_caller]
fn check(commands: &[(&str, &str)], expected: &str) {
    check_as(&[Profile::Root, Profile::UserNamespace], commands, expected);
}

#[track_caller]
fn check_as(profiles: &[Profile], commands: &[(&str, &str)], expected: &str) {
    for &profile in profiles {
        let output = run_as(profile, commands);
        let (own, end) = output.split_once("kept\n").unwrap_or((&output, ""));
        assert_eq!(own, expected, "{profile:?}: {commands:?}: {output}");
        let (left, hosts) = end.split_once("/kaniko/commands:\n").unwrap_or((end, ""));
        assert!(left.starts_with("/dev/shm:\n\n/kaniko:\n"), "{profile:?}: {output}");
        assert!(hosts.starts_with("127.0.0.1"), "{profile:?}: nothing is left: {output}");
    }
}

#[test]
fn privileged_a_pod_mounts_files_for_reading_only() {
    check(
        &[
            ("--mount bind,target=/c", "exec 2>&1; cat /c/file; touch /c/x; ls /c; echo x > /own"),
            ("--mount bind,target=/made/before,from=stage,source=/etc", "ls /made/before"),
            ("", "exec 2>&1; ls /own /c; true"),
        ],
        "of the context\ntouch: /c/x: Read-only file system\nfile\nfile\n\
         ls: /c: No such file or directory\n/own\n",
    );
}

#[test]
fn privileged_a_pod_has_caches_scratch_directories_and_secrets() {
    check(
        &[
            (
                "--mount cache,target=/made/before --mount tmpfs,target=/t --secret s=pw \
                 --mount secret,id=s,target=/run/secrets/s,uid=1000 --user ann --script E=#!/bin/sh",
                "touch /t/x; cat /run/secrets/s; ls /made/before /dev/pipes",
            ),
            ("--mount cache,target=/c", "touch /c/x"),
            (
                "--mount tmpfs,target=/dev/shm --secret s=pw --mount secret,id=s,target=/k",
                "touch /dev/shm/y; ls /dev/shm; cat /k",
            ),
            ("--mount cache,target=/c", "ls /c; ls /t /run/secrets/s /dev/pipes; true"),
        ],
        "pw/dev/pipes:\nE\n\n/made/before:\ny\npwx\n\
         ls: /t: No such file or directory\nls: /run/secrets/s: No such file or directory\n\
         ls: /dev/pipes: No such file or directory\n",
    );
}

#[test]
fn privileged_a_pod_says_that_a_cache_is_not_read_only() {
    check(
        &[("--mount cache,target=/c,ro", "ls /c")],
        "warning: this container lacks CAP_SYS_ADMIN and mounts nothing: the cache at `/c` is not read-only for root\n",
    );
}

#[test]
fn privileged_a_pod_shows_secrets_as_plain_files() {
    check(
        &[
            (
                "--secret s=pw --mount secret,id=s,target=/s,mode=741,uid=100,gid=102 \
                 --mount secret,id=s,target=/run/secrets/s --mount secret,id=s,target=/run/secrets/t",
                "stat -c \"%u %g %f\" /s /run/secrets/s; cat /s /run/secrets/s /run/secrets/t",
            ),
            ("", "exec 2>&1; ls /s /run/secrets; true"),
        ],
        "100 102 81e1\n0 0 8100\npwpwpwls: /s: No such file or directory\n\
         ls: /run/secrets: No such file or directory\n",
    );
}

#[test]
fn privileged_a_pod_limits_commands_and_cannot_size_its_shared_memory() {
    check_as(
        &[Profile::Root],
        &[
            ("--limit nofile=62 --host mirror=10.1.2.3", "ulimit -n; grep mirror /etc/hosts"),
            ("", "grep -c mirror /etc/hosts; true"),
            ("--shm-size 1048576", "true"),
        ],
        "62\n10.1.2.3\tmirror\n0\n\
         error: cannot give `/dev/shm` a size: to mount it, the container needs CAP_SYS_ADMIN\n\
         hint: leave `--shm-size` out, or set the size of the container's own `/dev/shm`\n",
    );
}

#[test]
fn privileged_a_pod_names_its_host() {
    check_as(
        &[Profile::Root],
        &[
            ("--host-name foo", "hostname; echo $HOSTNAME; grep -c foo /etc/hosts"),
            ("--host-name foo --user ann", "hostname"),
            ("", "hostname; grep -c foo /etc/hosts; true"),
        ],
        "foo\nfoo\n1\nfoo\npod\n0\n",
    );
}

#[test]
fn privileged_a_pod_closes_its_network() {
    check(
        &[("--network-none", "nc 127.0.0.1 1 2>&1; ip link show lo | grep -c LOOPBACK")],
        "warning: this container lacks CAP_SYS_ADMIN and can make no network: with `--network=none` the command reaches nobody, \
         but sees the names of the container's interfaces\n\
         nc: socket: Address family not supported by protocol\n1\n",
    );
}

#[test]
fn privileged_a_pod_mounts_over_a_directory_that_holds_its_own_mounts() {
    check(
        &[
            (
                "--mount tmpfs,target=/etc",
                "[ ! -e /etc/passwd ] && grep -q localhost /etc/hosts && stat -c %a /etc; touch /etc/new",
            ),
            ("", "cat /etc/passwd; stat -c %a /etc; [ ! -e /etc/new ]"),
            (
                "--mount bind,target=/etc,from=stage,source=/etc",
                "cat /etc/file; [ ! -e /etc/passwd ]; touch /etc/x 2>&1; true",
            ),
            (
                "--mount cache,target=/etc,mode=0750",
                "touch /etc/saved; mkdir /etc/d; stat -c %a /etc",
            ),
            ("--mount cache,target=/etc,mode=0750", "ls -d /etc/saved /etc/d; rm /etc/saved"),
            ("--mount cache,target=/etc/hosts", "true"),
            ("", "ls /etc"),
        ],
        "1777\nroot:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\n755\n\
         of the stage\ntouch: /etc/x: Read-only file system\n750\n/etc/d\n/etc/saved\n\
         error: `/etc/hosts` is a mount point of the container, lies in one, or belongs to the builder\n\
         hint: nothing can be mounted in this container, and a mount point cannot be moved aside: use another target\n\
         hostname\nhosts\npasswd\nresolv.conf\n",
    );
}
