//! Runs `examples/perform.rs`, because namespaces can only be entered by a program that has no
//! other thread yet.
//!
//! The tests need root and a static busybox at `/bin/busybox`.

#![expect(clippy::disallowed_methods, reason = "tests make files and start programs")]
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its surroundings are not as it needs them"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Copies a program in another process: a descriptor of this one, open for writing, could be inherited
/// by a process that another test starts, and the program could not be executed while that has it.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args([from, to]).status().unwrap().success());
}

/// A busybox root, with the user `ann` who is also of the group `staff`.
fn busybox_root() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let bin = directory.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(directory.path().join("etc")).unwrap();
    copy("/bin/busybox".as_ref(), &bin.join("busybox"));
    for applet in ["cat", "echo", "env", "id", "kill", "ls", "pwd", "sh", "stat"] {
        symlink("busybox", bin.join(applet)).unwrap();
    }
    let write = |path: &str, text: &str| fs::write(directory.path().join(path), text).unwrap();
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001::/home/ann:/bin/sh\n");
    write("etc/group", "root:x:0:\nstaff:x:50:ann\n");
    directory
}

fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples/perform")
}

/// Runs a command in `root`; its output, the failure, and the exit status.
fn run(root: &TempDir, arguments: &[&str], command: &[&str]) -> String {
    finish(&mut Command::new(example()), root, arguments, command)
}

fn finish(program: &mut Command, root: &TempDir, arguments: &[&str], command: &[&str]) -> String {
    let output = program
        .env("CANARY", "of the builder")
        .args(["--env", "PATH=/usr/bin:/bin"])
        .args(arguments)
        .arg(root.path())
        .args(command)
        .output()
        .unwrap();
    let all = [output.stdout, output.stderr].concat();
    format!("{}{}", String::from_utf8_lossy(&all), output.status.code().unwrap())
}

#[track_caller]
fn check(arguments: &[&str], command: &[&str], expected: &str) {
    assert_eq!(run(&busybox_root(), arguments, command), expected, "{command:?}");
}

#[test]
fn privileged_a_command_gets_its_environment_and_home_and_nothing_else() {
    check(&[], &["env"], "PATH=/usr/bin:/bin\nHOME=/root\n0");
    check(
        &["--user", "ann", "--env", "A=b=c"],
        &["env"],
        "PATH=/usr/bin:/bin\nA=b=c\nHOME=/home/ann\n0",
    );
    check(&["--user", "77", "--env", "HOME=/own"], &["env"], "PATH=/usr/bin:/bin\nHOME=/own\n0");
    check(&["--user", "77"], &["env"], "PATH=/usr/bin:/bin\nHOME=/\n0");
}

#[test]
fn privileged_a_command_runs_as_its_user() {
    check(&[], &["id"], "uid=0(root) gid=0(root) groups=0(root)\n0");
    check(&["--user", "ann"], &["id"], "uid=1000(ann) gid=1001 groups=50(staff),1001\n0");
    check(&["--user", "ann:staff"], &["id"], "uid=1000(ann) gid=50(staff) groups=50(staff)\n0");
    check(
        &["--user", "bob"],
        &["id"],
        "error: unable to find user bob: no matching entries in passwd file\n\
         hint: add the user in an earlier step, or give `USER` a number\n1",
    );
}

#[test]
fn privileged_a_working_directory_is_made_for_the_user() {
    let root = busybox_root();
    let output = run(&root, &["--user", "ann", "--cwd", "/srv/./a//b/../c"], &["pwd"]);
    assert_eq!(output, "/srv/a/c\n0");
    for made in ["srv", "srv/a", "srv/a/c"] {
        let metadata = fs::metadata(root.path().join(made)).unwrap();
        assert_eq!(
            (metadata.uid(), metadata.gid(), metadata.mode()),
            (1000, 1001, 0o40755),
            "{made}"
        );
    }
    check(
        &["--cwd", "/etc/passwd/x"],
        &["pwd"],
        "error: the working directory `/etc/passwd/x` cannot be used\n\
         caused by: mkdir /etc/passwd: not a directory\n\
         hint: something else is in the place of the directory\n1",
    );
}

#[test]
fn privileged_the_status_of_the_command_is_the_status_of_the_step() {
    check(
        &[],
        &["sh", "-c", "exit 42"],
        "error: process \"sh -c exit 42\" did not complete successfully: exit code: 42\n42",
    );
    check(
        &[],
        &["sh", "-c", "kill -TERM $$"],
        "error: the command was ended by signal 15 (SIGTERM)\n143",
    );
    check(
        &[],
        &["sh", "-c", "kill -KILL $$"],
        "error: the command was ended by signal 9 (SIGKILL)\n\
         hint: signal 9 is how the kernel ends a process when memory runs out: \
         give the container, or the command, more memory\n137",
    );
}

#[test]
fn privileged_a_command_becomes_another_user_where_there_is_one_id() {
    let root = busybox_root();
    // A user namespace whose only id is root's.
    let run = |script: &str| {
        let mut program = Command::new("unshare");
        program.arg("--map-root-user").arg(example());
        finish(&mut program, &root, &[], &["sh", "-c", script])
    };
    assert_eq!(
        run("exit 42"),
        "error: process \"sh -c exit 42\" did not complete successfully: exit code: 42\n42"
    );
    assert_eq!(run("touch /f && chown 7:8 /f && [ $(stat -c %u:%g /f) = 7:8 ]"), "0");
}

#[test]
fn privileged_a_working_directory_that_is_not_the_images_is_refused_before_the_command() {
    let root = busybox_root();
    symlink("workspace/src", root.path().join("link")).unwrap();
    fs::create_dir_all(root.path().join("workspace/src")).unwrap();
    for (work_dir, refused) in [
        ("/workspace", "/workspace"),
        ("/workspace/src/new", "/workspace/src/new"),
        ("/link", "/workspace/src"),
    ] {
        assert_eq!(
            run(&root, &["--protect", "workspace", "--cwd", work_dir], &["echo", "ran"]),
            format!(
                "error: the working directory `{refused}` is a mount point of the container (or belongs to the builder), \
                 and what the command does there would not be part of the image\n\
                 hint: mount the build context somewhere else and say so with `--context`, or use another WORKDIR\n1"
            )
        );
    }
    assert!(!root.path().join("workspace/src/new").exists());
    let beside = ["--protect", "workspace", "--cwd", "/workspaces"];
    assert_eq!(run(&root, &beside, &["echo", "ran"]), "ran\n0");
    assert_eq!(run(&root, &["--cwd", "/workspace"], &["echo", "ran"]), "ran\n0");
}

#[test]
fn privileged_a_command_that_cannot_start_says_why() {
    let cannot = |program: &str, cause: &str, hint: &str| {
        format!(
            "error: cannot start the command: exec: `{program}`\ncaused by: {cause}\nhint: {hint}\n1"
        )
    };
    let missing = "No such file or directory (os error 2)";
    check(&[], &["gcc"], &cannot("gcc", missing, "`gcc` is in no directory of the image's PATH"));
    check(&[], &["/opt/x"], &cannot("/opt/x", missing, "the image has no `/opt/x`"));
    check(&[], &[], "error: there is no command\n1");

    let root = busybox_root();
    let write = |path: &str, content: &[u8], mode: u32| {
        let path = root.path().join(path);
        let source = tempfile::NamedTempFile::new().unwrap();
        fs::write(&source, content).unwrap();
        copy(source.path(), &path);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    write("script", b"#!/bin/bash -e\n", 0o755);
    assert_eq!(
        run(&root, &[], &["/script"]),
        cannot(
            "/script",
            missing,
            "`/script` is there, but `/bin/bash`, which its first line names, is not"
        )
    );
    write("data", b"data", 0o644);
    assert_eq!(
        run(&root, &[], &["/data"]),
        cannot(
            "/data",
            "Permission denied (os error 13)",
            "`/data` may not be executed by this user; check its mode and those of the directories above it"
        )
    );
    let mut program = fs::read("/bin/busybox").unwrap();
    program[18] = 22;
    program[19] = 0;
    write("foreign", &program, 0o755);
    assert_eq!(
        run(&root, &[], &["/foreign"]),
        cannot(
            "/foreign",
            "Exec format error (os error 8)",
            &format!(
                "`/foreign` of the image is a program for s390x, and this machine is {}: choose an image for this machine's platform, \
                 or build on a machine for that one",
                std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64")
            )
        )
    );
    fs::remove_file(root.path().join("bin/sh")).unwrap();
    assert_eq!(
        run(&root, &[], &["/bin/sh", "-c", "true"]),
        cannot(
            "/bin/sh",
            missing,
            "the image has no shell at `/bin/sh`: use the exec form, `RUN [\"program\", \"argument\"]`, \
             or a base image with a shell"
        )
    );
}
