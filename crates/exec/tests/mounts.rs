//! What a command is given while it runs, in a private root and in place, by way of `examples/perform.rs`.
//!
//! The tests need root, a static busybox at `/bin/busybox`, and for keys `ssh-keygen`, `ssh-agent` and `ssh-add`.

#![expect(clippy::disallowed_methods, reason = "tests make files and start programs")]
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its surroundings are not as it needs them"
)]

use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const APPLETS: [&str; 24] = [
    "cat", "cp", "echo", "env", "grep", "hostname", "id", "ip", "kill", "ln", "ls", "mkdir",
    "mount", "mv", "pwd", "rm", "sh", "sleep", "stat", "touch", "true", "wc", "find", "nc",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Private,
    /// In a container as it usually is: nothing can be mounted.
    Pod,
    /// In a container that may mount.
    Mounting,
}

const PLACES: [Place; 3] = [Place::Private, Place::Pod, Place::Mounting];

/// A directory with a root in it, and with the builder's own directories: beneath the root for a build in place, and
/// beside it for another.
struct Machine {
    directory: TempDir,
    place: Place,
}

impl Machine {
    fn new(place: Place) -> Self {
        let machine = Self { directory: tempfile::tempdir().unwrap(), place };
        for path in ["root/bin", "root/etc", "root/tmp", "root/kaniko", "builder"] {
            fs::create_dir_all(machine.path(path)).unwrap();
        }
        let bin = machine.path("root/bin");
        let busybox = bin.join("busybox");
        // In another process, so that no test inherits a descriptor that is open for writing.
        assert!(Command::new("cp").arg("/bin/busybox").arg(busybox).status().unwrap().success());
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        machine.write(
            "root/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001::/:/bin/sh\n",
        );
        machine.write("root/etc/hosts", "10.0.0.9 own\n");
        machine.write(&machine.builders("context/file"), "of the context\n");
        machine.write(&machine.builders("context/dir/inner"), "inner\n");
        machine.write(&machine.builders("stage/etc/file"), "of the stage\n");
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A directory of the builder's, from the test's directory.
    fn builders(&self, path: &str) -> String {
        match self.place {
            Place::Private => format!("builder/{path}"),
            Place::Pod | Place::Mounting => format!("root/kaniko/{path}"),
        }
    }

    /// The same as the builder sees it.
    fn seen(&self, path: &str) -> String {
        match self.place {
            Place::Private => self.path(&self.builders(path)).display().to_string(),
            Place::Pod | Place::Mounting => format!("/kaniko/{path}"),
        }
    }

    fn command(&self, options: &[&str], script: &str) -> Command {
        let mut command = Command::new(example());
        match self.place {
            Place::Private => &mut command,
            Place::Pod => command.arg("--in-place"),
            Place::Mounting => command.args(["--in-place", "--may-mount"]),
        };
        for name in ["scratch", "caches", "context", "stage"] {
            command.arg(format!("--{name}")).arg(self.seen(name));
        }
        command
            .args(["--env", "PATH=/bin", "--protect", "kaniko"])
            .args(options)
            .arg(self.path("root"))
            .args(["sh", "-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The output, the failure and the status of a command.
    fn run(&self, options: &[&str], script: &str) -> String {
        finish(self.command(options, script).spawn().unwrap())
    }

    /// Everything about the files of the root.
    fn files(&self) -> String {
        let mut text = String::new();
        list(&self.path("root"), &mut text);
        text
    }

    /// Runs a command that must do `expected` and leave the root as it was.
    #[track_caller]
    fn check(&self, options: &[&str], script: &str, expected: &str) {
        // A first run makes what the example itself needs.
        self.run(&[], "true");
        let before = self.files();
        let place = self.place;
        assert_eq!(self.run(options, script), expected, "{place:?}: {options:?} {script}");
        let after = self.files();
        let lost: Vec<&str> = before.lines().filter(|line| !after.contains(line)).collect();
        let new: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
        assert_eq!((lost, new), (vec![], vec![]), "{place:?}: {options:?} {script}");
        assert!(!self.path(&self.builders("scratch/command")).exists(), "{place:?}: {options:?}");
        let memory = self.path("root/dev/shm");
        assert!(!memory.exists() || fs::read_dir(memory).unwrap().next().is_none());
    }
}

fn finish(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let all = [output.stdout, output.stderr].concat();
    format!("{}{}", String::from_utf8_lossy(&all), output.status.code().unwrap())
}

/// Names, kinds, modes, owners, sizes, times and inodes.
fn list(directory: &Path, text: &mut String) {
    let mut entries: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()).collect();
    entries.retain(|entry| entry.file_name() != "kaniko");
    entries.sort_by_key(fs::DirEntry::file_name);
    for path in [directory.to_owned()].into_iter().chain(entries.iter().map(fs::DirEntry::path)) {
        let found = fs::symlink_metadata(&path).unwrap();
        let (mode, uid, gid, ino) = (found.mode(), found.uid(), found.gid(), found.ino());
        let (size, time, nanos) = (found.len(), found.mtime(), found.mtime_nsec());
        writeln!(text, "{} {mode:o} {uid}:{gid} {size} {time}.{nanos} {ino}", path.display())
            .unwrap();
    }
    for entry in entries {
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), text);
        }
    }
}

/// Cargo builds examples before it runs tests, beside them.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples/perform")
}

#[track_caller]
fn check_all(options: &[&str], script: &str, expected: &str) {
    for place in PLACES {
        Machine::new(place).check(options, script, expected);
    }
}

#[track_caller]
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn privileged_a_bind_mount_shows_files_of_the_context_and_of_stages() {
    check_all(
        &["--mount", "bind,target=/c", "--mount", "bind,target=/x/y,source=/dir/inner"],
        "cat /c/file /c/dir/inner /x/y",
        "of the context\ninner\ninner\n0",
    );
    check_all(
        &["--mount", "bind,from=stage,source=/etc,target=/s"],
        "cat /s/file",
        "of the stage\n0",
    );
    for place in PLACES {
        let machine = Machine::new(place);
        let output = machine.run(&["--mount", "bind,target=/c,source=/nope"], "true");
        assert_eq!(output, "error: \"/nope\": not found\n1", "{place:?}");
    }
}

#[test]
fn privileged_an_ignored_file_is_not_mounted() {
    check_all(
        &["--ignore", "dir/inner", "--mount", "bind,target=/c"],
        "ls /c /c/dir",
        "/c:\ndir\nfile\n\n/c/dir:\n0",
    );
}

#[test]
fn privileged_what_is_written_to_a_bind_mount_is_gone() {
    for place in PLACES {
        let machine = Machine::new(place);
        let script = "echo changed > /c/file; touch /c/new; rm /c/dir/inner; cat /c/file";
        machine.check(&["--mount", "bind,target=/c,rw"], script, "changed\n0");
        let stat = r#"stat -c "%a %u" /s /s/etc; mv /s/etc /s/x; ls /s"#;
        machine.check(&["--mount", "bind,from=stage,target=/s,rw"], stat, "755 0\n755 0\nx\n0");
        let context = machine.path(&machine.builders("context"));
        assert_eq!(fs::read_to_string(context.join("file")).unwrap(), "of the context\n");
        assert!(context.join("dir/inner").exists() && !context.join("new").exists());
    }
}

#[test]
fn privileged_a_mount_covers_what_is_there_and_gives_it_back() {
    check_all(&["--mount", "tmpfs,target=/etc"], "ls /etc; touch /etc/x; ls /etc", "x\n0");
    check_all(
        &["--mount", "bind,target=/etc/passwd,source=/file"],
        "cat /etc/passwd",
        "of the context\n0",
    );
    // A link at the target is followed.
    for place in PLACES {
        let machine = Machine::new(place);
        symlink("../tmp", machine.path("root/etc/link")).unwrap();
        machine.check(
            &["--mount", "bind,target=/etc/link/a"],
            "cat /tmp/a/file",
            "of the context\n0",
        );
    }
}

#[test]
fn privileged_a_failed_command_leaves_no_mount() {
    check_all(
        &[
            "--mount",
            "tmpfs,target=/etc",
            "--mount",
            "cache,target=/v/w",
            "--mount",
            "bind,target=/c",
        ],
        "touch /etc/x /v/w/x; exit 3",
        "error: process \"sh -c touch /etc/x /v/w/x; exit 3\" did not complete successfully: exit code: 3\n3",
    );
}

#[test]
fn privileged_an_interrupted_command_leaves_no_mount() {
    for place in PLACES {
        let machine = Machine::new(place);
        machine.run(&[], "true");
        let before = machine.files();
        let options = [
            "--mount",
            "tmpfs,target=/etc",
            "--mount",
            "secret,id=s,target=/k",
            "--secret",
            "s=pw",
        ];
        // A time that no other test sleeps for.
        let time = format!(
            "46.{}{}",
            std::process::id(),
            PLACES.iter().position(|other| *other == place).unwrap()
        );
        let child = machine.command(&options, &format!("sleep {time}; true")).spawn().unwrap();
        wait_for("the command", || processes(&format!("sleep\0{time}")) > 0);
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child.id().cast_signed()),
            nix::sys::signal::Signal::SIGTERM,
        )
        .unwrap();
        let output = finish(child);
        assert!(output.contains("interrupted by signal 15"), "{place:?}: {output}");
        assert_eq!(machine.files(), before, "{place:?}");
    }
}

/// How many processes have a command line that starts so.
fn processes(start: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.starts_with(start.as_bytes())).count()
}

#[test]
fn privileged_a_cache_is_kept_and_is_not_in_the_root() {
    for place in PLACES {
        let machine = Machine::new(place);
        let mount = ["--mount", "cache,target=/c,uid=1001,gid=1002,mode=751"];
        let stat = r#"stat -c "%u %g %f" /c; touch /c/x"#;
        machine.check(&mount, stat, "1001 1002 41e9\n0");
        machine.check(&mount, "ls /c", "x\n0");
        machine.check(&["--mount", "cache,target=/other"], "ls /other", "0");
        machine.check(
            &["--mount", "cache,id=/c,target=/other,uid=1001,gid=1002,mode=751"],
            "ls /other",
            "x\n0",
        );
    }
}

#[test]
fn privileged_a_cache_may_lie_in_another_and_be_seen_twice() {
    check_all(
        &["--mount", "cache,target=/foo/bar/baz", "--mount", "cache,target=/foo/bar"],
        "touch /foo/bar/a /foo/bar/baz/b; ls /foo/bar /foo/bar/baz",
        "/foo/bar:\na\nbaz\n\n/foo/bar/baz:\nb\n0",
    );
    check_all(
        &["--mount", "cache,id=one,target=/a", "--mount", "cache,id=one,target=/b"],
        "touch /a/x; ls /b/",
        "x\n0",
    );
}

#[test]
fn privileged_a_cache_starts_with_what_its_stage_has() {
    for place in PLACES {
        let machine = Machine::new(place);
        let mount = ["--mount", "cache,target=/c,from=stage,source=/etc"];
        machine.check(&mount, "cat /c/file; echo new > /c/file", "of the stage\n0");
        machine.check(&mount, "cat /c/file", "new\n0");
        let stage = machine.path(&machine.builders("stage/etc/file"));
        assert_eq!(fs::read_to_string(stage).unwrap(), "of the stage\n");
    }
}

#[test]
fn privileged_no_link_leads_out_of_a_cache() {
    for place in PLACES {
        let machine = Machine::new(place);
        machine.check(&["--mount", "cache,id=i,target=/c"], "ln -s /etc /c/sel", "0");
        let output = machine.run(&["--mount", "cache,id=i,target=/v,source=/sel"], "ls /v");
        assert_eq!(output, "error: \"/sel\": not found\n1", "{place:?}");
    }
}

#[test]
fn privileged_a_locked_cache_is_waited_for() {
    for place in PLACES {
        let machine = Machine::new(place);
        let mount = ["--mount", "cache,target=/c,sharing=locked"];
        machine.run(&mount, "touch /c/x");
        let caches = machine.path(&machine.builders("caches"));
        let cache = fs::read_dir(caches).unwrap().next().unwrap().unwrap().path();
        let lock = File::options().write(true).open(cache.join("lock")).unwrap();
        lock.lock().unwrap();
        let child = machine.command(&mount, "ls /c").spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        lock.unlock().unwrap();
        assert_eq!(
            finish(child),
            "warning: waiting for the cache \"/c\", which another build uses\nx\n0",
            "{place:?}"
        );
        lock.lock().unwrap();
        // Who does not share does not wait.
        machine.check(&["--mount", "cache,target=/c,sharing=private"], "ls /c", "0");
        let waiting = machine.command(&mount, "ls /c").spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let pid = nix::unistd::Pid::from_raw(waiting.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        let output = finish(waiting);
        assert!(output.contains("interrupted by signal 2"), "{place:?}: {output}");
    }
}

#[test]
fn privileged_a_hard_link_between_cache_and_root_is_broken() {
    let machine = Machine::new(Place::Pod);
    let mount = ["--mount", "cache,target=/c"];
    let script = "echo one > /c/x; ln /c/x /c/y; ln /c/x /tmp/x; ln /etc/passwd /c/passwd";
    assert_eq!(machine.run(&mount, script), "0");
    machine.write("root/tmp/x", "of the image\n");
    machine.check(&mount, "cat /c/x /c/y; stat -c %h /c/x /c/passwd", "one\none\n2\n1\n0");
    assert_eq!(fs::metadata(machine.path("root/etc/passwd")).unwrap().nlink(), 1);
}

#[test]
fn privileged_what_is_moved_away_fails_the_step() {
    let machine = Machine::new(Place::Pod);
    machine.run(&[], "true");
    for mount in ["tmpfs,target=/m", "cache,target=/m", "bind,target=/m,rw"] {
        let output = machine.run(&["--mount", mount], "mv /m /tmp/m");
        assert!(
            output.starts_with("error: the command moved or replaced what it was given at `/m`\n"),
            "{mount}: {output}"
        );
        fs::remove_dir_all(machine.path("root/tmp/m")).unwrap();
    }
    let output = machine.run(&["--mount", "tmpfs,target=/etc"], "rm -r /etc; mkdir /etc");
    assert!(output.contains("moved or replaced"), "{output}");
}

#[test]
fn privileged_what_lies_above_may_be_moved() {
    let machine = Machine::new(Place::Pod);
    machine.write("root/a/b/kept", "kept\n");
    let output = machine.run(&["--mount", "tmpfs,target=/a/b"], "touch /a/b/x; mv /a /z; ls /z/b");
    assert_eq!(output, "x\n0");
    assert_eq!(fs::read_to_string(machine.path("root/z/b/kept")).unwrap(), "kept\n");
    assert!(!machine.path("root/z/b/x").exists());
}

#[test]
fn privileged_a_stub_that_was_filled_stays() {
    for place in PLACES {
        let machine = Machine::new(place);
        let output = machine.run(&["--mount", "bind,target=/x/y"], "echo 1 > /x/own");
        assert_eq!(output, "0", "{place:?}");
        assert!(machine.path("root/x/own").exists() && !machine.path("root/x/y").exists());
    }
}

#[test]
fn privileged_a_secret_is_a_file_or_a_variable_or_both() {
    let secret = ["--secret", "s=pw", "--mount"];
    let with = |mount: &'static str| [secret.as_slice(), &[mount]].concat();
    check_all(&with("secret,id=s,target=/run/secrets/s"), "cat /run/secrets/s", "pw0");
    check_all(
        &with("secret,id=s,env=S"),
        "echo $S; ls /run; true",
        "pw\nls: /run: No such file or directory\n0",
    );
    check_all(&with("secret,id=s,env=S,target=/a/b"), "echo $S; cat /a/b", "pw\npw0");
    check_all(
        &["--mount", "secret,id=s,target=/run/secrets/s"],
        "[ ! -e /run/secrets/s ] && echo none",
        "none\n0",
    );
    // A mode and an owner are those of a plain file, and so is a secret in a directory that is there for it only.
    for target in ["/s", "/etc/passwd", "/a/b"] {
        let mount = format!("secret,id=s,target={target},mode=741,uid=100,gid=102");
        let options = ["--secret", "s=pw", "--mount", &mount];
        let script = format!(r#"stat -c "%u %g %f" {target}; cat {target}"#);
        check_all(&options, &script, "100 102 81e1\npw0");
    }
    check_all(
        &[
            with("secret,id=s,target=/run/secrets/s").as_slice(),
            &["--mount", "secret,id=s,target=/run/secrets/t,uid=1000"],
            &["--mount", "bind,target=/run/secrets/c"],
        ]
        .concat(),
        r#"cd /run/secrets; stat -c "%u %g %f" s t; cat s t c/file"#,
        "0 0 8100\n1000 0 8100\npwpwof the context\n0",
    );
    check_all(
        &[with("secret,id=s,target=/s,mode=400,uid=1000").as_slice(), &["--user", "ann"]].concat(),
        "cat /s",
        "pw0",
    );
    for place in PLACES {
        let output =
            Machine::new(place).run(&["--mount", "secret,id=x,required,target=/x"], "true");
        assert!(output.starts_with("error: secret x: not found\nhint: "), "{output}");
    }
}

#[test]
fn privileged_a_secret_is_in_no_file_of_the_root_whatever_a_command_does_with_it() {
    let machine = Machine::new(Place::Pod);
    let mount = ["--secret", "s=pa55word", "--mount", "secret,id=s,target=/run/secrets/s"];
    let output = machine.run(&mount, "ln /run/secrets/s /tmp/hard; echo $?; find /kaniko -type f");
    assert!(!output.contains("command"), "{output}");
    machine.run(&mount, "mv /run/secrets /tmp/secrets");
    let mount = ["--secret", "s=pa55word", "--mount", "secret,id=s,target=/tmp/link"];
    machine.run(&mount, "ln /tmp/link /tmp/hard; mv /tmp/link /tmp/moved");
    let own = "secret,id=s,target=/tmp/own,mode=0444";
    let mount = ["--secret", "s=pa55word", "--mount", own];
    for script in ["ln /tmp/own /tmp/linked", "mv /tmp/own /tmp/renamed"] {
        let output = machine.run(&mount, script);
        assert!(output.starts_with("error: the command "), "{script}: {output}");
    }
    let found = Command::new("grep").args(["-r", "pa55word"]).arg(machine.path("root")).output();
    assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
}

#[test]
fn privileged_in_place_a_secret_that_a_command_took_away_fails_the_step() {
    let mount = ["--secret", "s=pw", "--mount", "secret,id=s,target=/run/secrets/s"];
    let output = Machine::new(Place::Pod).run(&mount, "mv /run/secrets/s /tmp/moved");
    let expected = "error: the command moved or replaced what it was given at `/run/secrets/s`\n";
    assert!(output.starts_with(expected), "{output}");
    let output = Machine::new(Place::Pod).run(&mount, "touch /run/secrets/mine");
    let expected =
        "error: the command wrote `mine` to `/run/secrets`, which is only there for secrets\n";
    assert!(output.starts_with(expected), "{output}");
}

#[test]
fn privileged_commands_have_limits_and_know_hosts() {
    check_all(
        &["--limit", "nofile=62", "--limit", "core=0", "--host", "mirror=10.1.2.3"],
        "ulimit -n; ulimit -Hn; ulimit -c; grep mirror /etc/hosts",
        "62\n62\n0\n10.1.2.3\tmirror\n0",
    );
    let machine = Machine::new(Place::Pod);
    machine.check(
        &["--host", "mirror=10.1.2.3", "--host-name", "foo"],
        "cat /etc/hosts",
        "127.0.0.1\tlocalhost foo\n::1\tlocalhost ip6-localhost ip6-loopback\n10.1.2.3\tmirror\n10.0.0.9 own\n0",
    );
    for place in PLACES {
        // The kernel has a highest number of open files.
        let output = Machine::new(place).run(&["--limit", "nofile=18446744073709551615"], "true");
        let expected = "error: cannot start the command: the limit `nofile` could not be set to \
                        18446744073709551615:18446744073709551615\n\
                        caused by: Operation not permitted (os error 1)\nhint: ";
        assert!(output.starts_with(expected), "{place:?}: {output}");
    }
}

#[test]
fn privileged_shared_memory_has_a_size_where_it_can_be_mounted() {
    let size = ["--shm-size", "134217728"];
    let script = "mount | grep /dev/shm | grep -c size=131072k; touch /dev/shm/x";
    for place in [Place::Private, Place::Mounting] {
        Machine::new(place).check(&size, script, "1\n0");
        let secret = ["--secret", "s=pw", "--mount", "secret,id=s,target=/run/secrets/s"];
        let both = [size.as_slice(), &secret].concat();
        Machine::new(place).check(&both, "cat /run/secrets/s", "pw0");
    }
    let output = Machine::new(Place::Pod).run(&size, "true");
    let expected = "error: cannot give `/dev/shm` a size: to mount it, the container needs CAP_SYS_ADMIN\nhint: ";
    assert!(output.starts_with(expected), "{output}");
}

#[test]
fn privileged_scripts_are_programs_for_as_long_as_the_command_runs() {
    check_all(
        &["--script", "EOF=#!/bin/sh\necho hello $0\n"],
        r#"/dev/pipes/EOF; stat -c "%u %a" /dev/pipes/EOF"#,
        "hello /dev/pipes/EOF\n0 755\n0",
    );
}

#[test]
fn privileged_mounts_are_limited_and_read_only() {
    for place in [Place::Private, Place::Mounting] {
        let machine = Machine::new(place);
        machine.check(
            &["--mount", "tmpfs,target=/dev/shm,size=134217728"],
            "mount | grep /dev/shm | grep -c size=131072k",
            "1\n0",
        );
        machine.check(
            &["--mount", "bind,target=/c", "--mount", "bind,from=stage,target=/s,ro"],
            "exec 2>&1; touch /c/x || touch /s/etc/x || touch /c/dir/inner || echo refused",
            "touch: /c/x: Read-only file system\ntouch: /s/etc/x: Read-only file system\n\
             touch: /c/dir/inner: Read-only file system\nrefused\n0",
        );
        let stat = r#"stat -c "%u %g %f" /s"#;
        machine.check(
            &["--secret", "s=pw", "--mount", "secret,id=s,target=/s,mode=741,uid=100,gid=102"],
            stat,
            "100 102 81e1\n0",
        );
    }
}

#[test]
fn privileged_without_a_network_there_is_only_the_loopback_interface() {
    for place in [Place::Private, Place::Mounting] {
        Machine::new(place).check(
            &["--network-none"],
            "ip -o link show | wc -l; ip link show lo | grep -c LOOPBACK,UP",
            "1\n1\n0",
        );
    }
}

#[test]
fn privileged_a_host_name_is_the_systems_and_in_hosts() {
    check_all(
        &["--host-name", "foo"],
        "grep -c foo /etc/hosts; hostname; echo $HOSTNAME",
        "1\nfoo\nfoo\n0",
    );
    let machine = Machine::new(Place::Private);
    machine.check(&[], "hostname", "buildkitsandbox\n0");
}

#[test]
fn privileged_hosts_gets_a_name_in_place_and_loses_it() {
    let machine = Machine::new(Place::Pod);
    machine.check(
        &["--host-name", "foo"],
        "cat /etc/hosts",
        "127.0.0.1\tlocalhost foo\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.9 own\n0",
    );
}

#[test]
fn privileged_in_place_a_bind_mount_is_read_only_too() {
    let machine = Machine::new(Place::Pod);
    machine.check(
        &["--mount", "bind,target=/c", "--mount", "bind,from=stage,target=/s"],
        "exec 2>&1; touch /c/x; cd /s/etc; rm file; mv ../etc ../x; echo x > /tmp/../c/file; mkdir /c/d; \
         ln -s a /c/l; ln /c/file /c/h; echo y > /kaniko/y; cat /c/file; ls /c",
        "touch: /c/x: Read-only file system\nrm: can't remove 'file': Read-only file system\n\
         mv: can't rename '../etc': Read-only file system\n\
         sh: can't create /tmp/../c/file: Read-only file system\n\
         mkdir: can't create directory '/c/d': Read-only file system\n\
         ln: /c/l: Read-only file system\nln: /c/h: Read-only file system\n\
         of the context\ndir\nfile\n0",
    );
}

#[test]
fn privileged_in_place_a_size_cannot_be_kept_and_that_is_said() {
    let machine = Machine::new(Place::Pod);
    machine.check(
        &["--mount", "tmpfs,target=/dev/shm,size=134217728"],
        "touch /dev/shm/x; ls /dev/shm",
        "warning: this container lacks CAP_SYS_ADMIN and mounts nothing: the size of `/dev/shm` is not enforced\nx\n0",
    );
}

#[test]
fn privileged_in_place_a_host_name_is_what_the_system_says() {
    let machine = Machine::new(Place::Pod);
    let script = "hostname; echo $HOSTNAME";
    machine.check(&["--host-name", "foo"], script, "foo\nfoo\n0");
    machine.check(&["--host-name", "foo", "--user", "ann"], script, "foo\nfoo\n0");
}

#[test]
fn privileged_in_place_without_a_network_there_are_no_sockets_but_local_ones() {
    let machine = Machine::new(Place::Pod);
    machine.check(
        &["--network-none"],
        "nc 127.0.0.1 1 2>&1; ip link show lo | grep -c LOOPBACK",
        "warning: this container lacks CAP_SYS_ADMIN and can make no network: with `--network=none` the command reaches nobody, \
         but sees the names of the container's interfaces\n\
         nc: socket: Address family not supported by protocol\n1\n0",
    );
}

#[test]
fn privileged_an_insecure_command_keeps_what_the_builder_has() {
    let machine = Machine::new(Place::Private);
    machine.check(&[], "mount -t tmpfs x /tmp 2>/dev/null || echo refused", "refused\n0");
    machine.check(&["--insecure"], "mount -t tmpfs x /tmp && echo mounted", "mounted\n0");
}
