//! Runs `examples/guest.rs`, because namespaces can only be entered by a program that has no other
//! thread yet.
//!
//! The tests need root (they also become a normal user), and a static busybox at `/bin/busybox`.

#![expect(clippy::disallowed_methods, reason = "tests make files and start programs")]
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its surroundings are not as it needs them"
)]

use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const APPLETS: [&str; 16] = [
    "cat", "echo", "grep", "head", "id", "kill", "ls", "mount", "ps", "setsid", "sh", "sleep",
    "touch", "true", "unshare", "yes",
];

/// A directory with a busybox root and the program that enters it.
struct Machine {
    directory: TempDir,
}

impl Machine {
    /// The root belongs to `owner`.
    fn new(owner: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let machine = Self { directory };
        let bin = machine.path("root/bin");
        fs::create_dir_all(&bin).unwrap();
        copy("/bin/busybox".into(), bin.join("busybox"));
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        for path in ["root", "root/bin"] {
            chown(machine.path(path), Some(owner), Some(owner)).unwrap();
        }
        copy(example("guest"), machine.path("guest"));
        machine
    }

    /// Puts a program of the machine into `/bin` of the root, with the libraries that it needs.
    fn add_program(&self, program: &Path) {
        let name = program.file_name().unwrap();
        copy(program.to_owned(), self.path("root/bin").join(name));
        let libraries = Command::new("ldd").arg(program).output().unwrap();
        let libraries = String::from_utf8(libraries.stdout).unwrap();
        for library in libraries.split_ascii_whitespace().filter(|word| word.starts_with('/')) {
            let target = self.path("root").join(&library[1..]);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            copy(fs::canonicalize(library).unwrap(), target);
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// Starts the program by way of `before`, with `options`, and a shell for `script` in the root.
    fn start(&self, before: &[&str], options: &[&str], script: &str) -> Child {
        let (first, rest) = before.split_first().unwrap_or((&"env", &[]));
        Command::new(first)
            .args(rest)
            .arg(self.path("guest"))
            .args(["--env", "PATH=/bin"])
            .args(options)
            .arg(self.path("root"))
            .args(["sh", "-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn run(&self, before: &[&str], options: &[&str], script: &str) -> String {
        let output = self.start(before, options, script).wait_with_output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Runs `script` in both places, where it must do the same.
    #[track_caller]
    fn check_both(&self, script: &str, expected: &str) {
        assert_eq!(self.run(&[], &[], script), expected, "in a private root: {script}");
        assert_eq!(self.run(&[], &["--in-place"], script), expected, "in place: {script}");
    }
}

/// Copies a program in another process: a descriptor of this one, open for writing, could be inherited
/// by a process that another test starts, and the program could not be executed while that has it.
fn copy(from: PathBuf, to: PathBuf) {
    assert!(Command::new("cp").args([from, to]).status().unwrap().success());
}

/// Cargo builds examples before it runs tests, beside them.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples").join(name)
}

/// How many processes of the machine sleep for a time that starts with these digits.
fn sleepers(digits: &str) -> usize {
    let start = format!("sleep\0{digits}");
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.starts_with(start.as_bytes())).count()
}

/// Ends with the test, however the test ends.
struct Started(Option<Child>);

impl Started {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
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

const AS_USER: [&str; 6] = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups"];

#[test]
fn privileged_a_command_ends_as_it_says() {
    let machine = Machine::new(0);
    machine.check_both("exit 3", "Exited(3)\n");
    machine.check_both("echo out; echo err >&2", "out\nerr\nExited(0)\n");
    machine.check_both("kill -TERM $$", "Signalled(15)\n");
    machine.check_both("kill -9 $$", "Signalled(9)\n");
}

#[test]
fn privileged_a_command_has_three_descriptors_and_its_own_environment() {
    let machine = Machine::new(0);
    // 3 is the directory that is being listed.
    machine.check_both("ls /proc/self/fd", "0\n1\n2\n3\nExited(0)\n");
    // The shell adds the two around `PATH`.
    machine.check_both("cat; cat /proc/self/environ", "SHLVL=1\0PATH=/bin\0PWD=/\0Exited(0)\n");
    machine.check_both("umask; ps -o pid,sid | grep -c \" $$ *$$\"", "0022\n1\nExited(0)\n");
    machine.check_both(
        "grep SigIgn /proc/self/status; yes | head -n 1",
        "SigIgn:\t0000000000000000\ny\nExited(0)\n",
    );
}

#[test]
fn privileged_all_output_arrives() {
    let machine = Machine::new(0);
    let output = machine.run(&[], &[], "yes | head -c 3000000");
    assert_eq!(output.len(), 3_000_000 + "Exited(0)\n".len());
}

#[test]
fn privileged_nothing_outlives_the_command_or_holds_it_up() {
    let machine = Machine::new(0);
    let daemons = "(sleep 98761 &); setsid sleep 98762 & (setsid sh -c 'sleep 98763; echo late' &) ; echo early";
    machine.check_both(daemons, "early\nExited(0)\n");
    assert_eq!(sleepers("9876"), 0);
}

#[test]
fn privileged_an_orphan_is_reaped_while_the_command_runs() {
    let machine = Machine::new(0);
    machine.check_both("(sleep 0 &); sleep 1; ps -o stat,args | grep -c '^Z'", "0\nExited(1)\n");
}

#[test]
fn privileged_a_command_that_kills_its_init_takes_the_rest_along() {
    let machine = Machine::new(0);
    let output = machine.run(
        &[],
        &["--in-place"],
        "setsid sleep 98771 & sleep 98772 & kill -9 $PPID; sleep 98773",
    );
    assert_eq!(output, "InitKilled\n");
    assert_eq!(sleepers("9877"), 0);
}

#[test]
fn privileged_a_command_cannot_end_its_init_in_passing() {
    let machine = Machine::new(0);
    // 32 is one that C libraries keep for themselves.
    let script = "for signal in TERM INT HUP QUIT 32 64; do kill -$signal $PPID; done; echo on";
    machine.check_both(script, "on\nExited(0)\n");
}

#[test]
fn privileged_a_signal_to_the_builder_ends_the_command_and_all_it_started() {
    let machine = Machine::new(0);
    for options in [&[][..], &["--in-place"]] {
        let mut started =
            Started(Some(machine.start(&[], options, "setsid sleep 98781 & sleep 98782")));
        wait_for("the command", || sleepers("9878") == 2);
        let pid = Pid::from_raw(i32::try_from(started.child().id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        let output = started.0.take().unwrap().wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "Interrupted(15)\n");
        assert_eq!(sleepers("9878"), 0);
    }
}

#[test]
fn privileged_nothing_outlives_a_killed_builder() {
    let machine = Machine::new(0);
    for options in [&[][..], &["--in-place"]] {
        let mut started =
            Started(Some(machine.start(&[], options, "setsid sleep 98791 & sleep 98792")));
        wait_for("the command", || sleepers("9879") == 2);
        started.child().kill().unwrap();
        wait_for("the end of everything", || sleepers("9879") == 0);
    }
}

#[test]
fn privileged_a_program_that_cannot_run_is_named() {
    let machine = Machine::new(0);
    for options in [&[][..], &["--in-place"]] {
        let output =
            machine.run(&[], &[options, &["--env", "PATH=relative:/nowhere"]].concat(), "");
        assert_eq!(
            output,
            "error: cannot start the command: exec: `sh`: No such file or directory (os error 2)\nhint: none\n"
        );
    }
}

#[test]
fn privileged_a_working_directory_cannot_be_a_descriptor_of_the_builder() {
    let machine = Machine::new(0);
    for options in [&["--cwd", "/proc/self/fd/3"][..], &["--in-place", "--cwd", "/proc/self/fd/3"]]
    {
        let output = machine.run(&[], options, "ls");
        assert_eq!(
            output,
            "error: cannot start the command: the working directory `/proc/self/fd/3` could not be entered: \
             Too many levels of symbolic links (os error 40)\nhint: none\n"
        );
    }
    assert_eq!(machine.run(&[], &["--cwd", "/bin"], "ls busybox"), "busybox\nExited(0)\n");
}

/// What the builder has open is beneath the machine's root, so `..` would lead to all of the machine.
#[test]
fn privileged_no_descriptor_of_the_builder_leads_out() {
    let machine = Machine::new(0);
    fs::write(machine.path("outside"), "secret\n").unwrap();
    copy(machine.path("root/bin/busybox"), machine.path("echo"));
    fs::create_dir(machine.path("devices")).unwrap();
    let attach = format!("dev=kept:{}", machine.path("devices").display());
    for descriptor in 0..24 {
        let link = |name: &str, target: &Path| {
            let up = "../".repeat(12);
            let target = target.strip_prefix("/").unwrap().display().to_string();
            fs::remove_file(machine.path(name)).ok();
            symlink(format!("/proc/self/fd/{descriptor}/{up}{target}"), machine.path(name))
                .unwrap();
        };
        link("devices/null", &machine.path("outside"));
        let output = machine.run(&[], &["--attach", &attach], "cat; echo changed >&0");
        assert!(output.starts_with("error: cannot start the command: the streams"), "{output}");
        assert_eq!(
            fs::read_to_string(machine.path("outside")).unwrap(),
            "secret\n",
            "{descriptor}"
        );

        link("root/bin/sh", &machine.path("echo"));
        let output = machine.run(&[], &[], "outside");
        assert!(output.starts_with("error: cannot start the command: exec: `sh`"), "{output}");
        fs::remove_file(machine.path("root/bin/sh")).unwrap();
        symlink("busybox", machine.path("root/bin/sh")).unwrap();
    }
}

#[test]
fn privileged_a_private_root_has_dockers_capabilities_and_no_way_out() {
    let machine = Machine::new(0);
    let capabilities = "grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status";
    assert_eq!(
        machine.run(&[], &[], capabilities),
        "CapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nExited(0)\n"
    );
    assert_eq!(
        machine.run(&[], &["--user", "33:34"], &format!("id; {capabilities}")),
        "uid=33 gid=34 groups=34\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\nExited(0)\n"
    );
    let attacks = "mount -t tmpfs x /bin; echo x > /proc/sys/kernel/core_pattern; echo x > /sys/kernel/uevent_helper; \
                   cat /proc/1/environ; ls /proc/1/cwd/; kill -9 1; ls /root /home";
    assert_eq!(
        machine.run(&[], &[], attacks),
        "mount: permission denied (are you root?)\n\
         sh: can't create /proc/sys/kernel/core_pattern: Read-only file system\n\
         sh: can't create /sys/kernel/uevent_helper: Read-only file system\n\
         cat: can't open '/proc/1/environ': Permission denied\n\
         ls: /proc/1/cwd/: Permission denied\n\
         ls: /root: No such file or directory\n\
         ls: /home: No such file or directory\n\
         Exited(1)\n"
    );
}

#[test]
fn privileged_a_guest_gets_no_capabilities_back_in_a_user_namespace_of_its_own() {
    // Names no control group in what it makes, so that a failure changes nothing of the machine.
    let attacks = "exec 2>&1; unshare -U true; unshare -Urm true; mount -t cgroup -o memory none /bin; \
                   echo 9 > /proc/sys/user/max_user_namespaces; cat /proc/sys/user/max_user_namespaces";
    let refused = "unshare: unshare(0x10000000): No space left on device\n\
                   unshare: unshare(0x10020000): No space left on device\n\
                   mount: permission denied (are you root?)\n\
                   sh: can't create /proc/sys/user/max_user_namespaces: Read-only file system\n\
                   0\nExited(0)\n";
    assert_eq!(Machine::new(0).run(&[], &[], attacks), refused);
    // Where there is one user id, the filter that emulates the others is before the limit.
    let refused = refused.replace("No space left on device", "Operation not permitted");
    assert_eq!(Machine::new(1000).run(&AS_USER, &[], attacks), refused);
}

#[test]
fn privileged_the_limit_on_user_namespaces_is_not_the_machines() {
    let limit = || fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap();
    let before = limit();
    assert_eq!(Machine::new(0).run(&[], &[], "echo ran"), "ran\nExited(0)\n");
    assert_eq!(limit(), before);
    assert_ne!(before, "0\n");
}

#[test]
fn privileged_where_user_namespaces_cannot_be_forbidden_nothing_runs() {
    let machine = Machine::new(0);
    // As in a container: a part of `/proc` is covered, so that the kernel refuses a new one, and
    // `/proc/sys` is read-only.
    let script = "mount -t tmpfs none /proc/irq; mount --bind /proc/sys /proc/sys; \
                  mount -o remount,bind,ro /proc/sys; exec \"$@\"";
    let before = ["unshare", "--mount", "sh", "-c", script, "sh"];
    assert_eq!(
        machine.run(&before, &[], "echo ran"),
        "error: cannot make a private root to build in: \
         user namespaces could not be forbidden to the commands that will run there\n\
         hint: the program must be able to write its own `/proc/sys/user/max_user_namespaces`, \
         which a container with a read-only `/proc/sys` prevents: build outside of it, \
         in one whose `/proc` is not masked, or with the executor image\n"
    );
}

#[test]
fn privileged_nothing_runs_in_a_chroot_that_a_guest_could_leave() {
    let machine = Machine::new(0);
    fs::create_dir(machine.path("chroot")).unwrap();
    let script = format!(
        "mount --rbind / {0}; mount --make-rprivate {0}; exec chroot {0} \"$@\"",
        machine.path("chroot").display()
    );
    let before = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    assert_eq!(
        machine.run(&before, &[], "echo ran"),
        "error: cannot start the command: it could make a user namespace and have all capabilities in it: \
         Operation not permitted (os error 1)\n\
         hint: the program was refused a user namespace, as in a `chroot`, and the command would not be: \
         build outside of the `chroot`, or with the executor image\n"
    );
}

#[test]
fn privileged_a_guest_has_abstract_sockets_of_its_own() {
    let name = format!("ebiko-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    for (owner, before) in [(0, &[][..]), (1000, &AS_USER)] {
        let machine = Machine::new(owner);
        machine.add_program(&example("abstract_socket"));
        let outside = if landlock_abi() >= 6 {
            "error: Operation not permitted (os error 1)"
        } else {
            "connected"
        };
        assert_eq!(
            machine.run(before, &[], &format!("/bin/abstract_socket connect {name}")),
            format!("{outside}\nExited(0)\n")
        );
        let own = format!("{name}-own");
        let script = format!("/bin/abstract_socket serve {own} /bin/abstract_socket connect {own}");
        assert_eq!(machine.run(before, &[], &script), "connected\naccepted\nExited(0)\n");
    }
}

/// Which version of Landlock the kernel has; negative without.
fn landlock_abi() -> i64 {
    #[expect(unsafe_code, reason = "no wrapper asks this")]
    // SAFETY: the call for the version takes no memory.
    unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, 1)
    }
}

#[test]
fn privileged_set_user_id_programs_keep_their_effect() {
    let machine = Machine::new(0);
    // Not busybox, which gives the effect up itself; by its path, because its shell knows the name.
    machine.add_program(Path::new("/usr/bin/whoami"));
    fs::set_permissions(machine.path("root/bin/whoami"), fs::Permissions::from_mode(0o4755))
        .unwrap();
    fs::create_dir(machine.path("root/etc")).unwrap();
    fs::write(machine.path("root/etc/passwd"), "root:x:0:0::/:\nhttp:x:33:33::/:\n").unwrap();
    let output = machine.run(&[], &["--user", "33:34"], "/bin/whoami; id -u");
    assert_eq!(output, "root\n33\nExited(0)\n");
}

#[test]
fn privileged_a_guest_sees_its_own_control_groups_only() {
    let machine = Machine::new(0);
    assert_eq!(machine.run(&[], &[], "grep -v ':/$' /proc/self/cgroup"), "Exited(1)\n");
}

#[test]
fn privileged_the_builders_command_line_is_not_shown() {
    let machine = Machine::new(0);
    let output =
        machine.run(&[], &["--env", "TOKEN=canary"], "cat /proc/1/cmdline | grep -c canary");
    assert_eq!(output, "0\nExited(1)\n");
}

#[test]
fn privileged_a_private_root_is_left_as_it_was() {
    let machine = Machine::new(0);
    let state = |path: &str| {
        let metadata = fs::metadata(machine.path(path)).unwrap();
        (metadata.mode(), metadata.mtime(), metadata.mtime_nsec())
    };
    let before = state("root");
    machine.run(&[], &[], "ls /proc /dev /sys /etc; cat /etc/hosts");
    assert_eq!(fs::read_dir(machine.path("root")).unwrap().count(), 1, "only bin is left");
    assert_eq!(state("root"), before);

    machine.run(&[], &[], "touch /etc/issue /new");
    assert!(machine.path("root/etc/issue").exists(), "what the command made stays");
    assert_eq!(fs::read_dir(machine.path("root/etc")).unwrap().count(), 1);
    assert_ne!(state("root"), before, "the command has changed the directory");
}

#[test]
fn privileged_network_files_go_where_links_of_the_image_lead() {
    let machine = Machine::new(0);
    fs::create_dir_all(machine.path("root/etc")).unwrap();
    symlink("../../../run/resolv.conf", machine.path("root/etc/resolv.conf")).unwrap();
    let output = machine.run(&[], &[], "ls /run; head -n 1 /etc/hosts");
    assert_eq!(output, "resolv.conf\n127.0.0.1\tlocalhost buildkitsandbox\nExited(0)\n");
    assert!(!machine.path("root/run").exists());
}

#[test]
fn privileged_a_user_without_further_ids_has_users_emulated() {
    let machine = Machine::new(1000);
    assert_eq!(
        machine.run(&AS_USER, &[], "id; touch /x; ls -n /x | grep -c ' 0 *0 '"),
        "uid=0 gid=0 groups=0\n1\nExited(0)\n"
    );
    assert_eq!(fs::metadata(machine.path("root/x")).unwrap().uid(), 1000);
    assert_eq!(
        machine.run(&AS_USER, &["--user", "33:34"], "id"),
        "uid=33 gid=34 groups=34\nExited(0)\n"
    );
    let script = "touch /y; chown 33:34 /y; chmod 600 /y; stat -c %u:%g:%a /y; (sleep 0.2; id -u) & wait; readlink /proc/self";
    let output = machine.run(&AS_USER, &[], script);
    assert!(output.starts_with("33:34:600\n0\n") && output.ends_with("Exited(0)\n"), "{output}");
    assert_eq!(
        machine.run(&AS_USER, &["--user", "1:1"], "cat /x; touch /bin/x; [ -w / ]"),
        "touch: /bin/x: Permission denied\nExited(1)\n"
    );
}

#[test]
fn privileged_a_user_with_further_ids_can_be_anybody() {
    let machine = Machine::new(1000);
    fs::write(machine.path("ids"), "1000:100000:65536\n").unwrap();
    let ids = machine.path("ids");
    let script = format!(
        "mount --bind {0} /etc/subuid; mount --bind {0} /etc/subgid; exec \"$@\"",
        ids.display()
    );
    let before = [&["unshare", "--mount", "sh", "-c", &script, "sh"][..], &AS_USER].concat();
    assert_eq!(
        machine.run(&before, &["--user", "33:34"], "id"),
        "uid=33 gid=34 groups=34\nExited(0)\n"
    );
}

#[test]
fn privileged_root_with_one_id_has_users_emulated() {
    let machine = Machine::new(0);
    let before = ["unshare", "--map-root-user"];
    assert_eq!(machine.run(&before, &[], "id"), "uid=0 gid=0 groups=0\nExited(0)\n");
    assert_eq!(
        machine.run(&before, &["--user", "33:34"], "id"),
        "uid=33 gid=34 groups=34\nExited(0)\n"
    );
    // What the builder is to be asked about is not the builder's own.
    let script = "for f in environ mem maps fd/0 cwd/; do cat /proc/1/$f && exit 9; done 2>/dev/null; kill -9 1; true";
    assert_eq!(machine.run(&before, &[], script), "Exited(0)\n");
}

/// In containers, parts of `/proc` are covered, and the kernel refuses another one.
#[test]
fn privileged_where_proc_is_covered_one_id_is_enough_and_nothing_outlives_a_killed_init() {
    let machine = Machine::new(0);
    let script = "mount --bind /dev/null /proc/keys; exec \"$@\"";
    let before = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"];
    assert_eq!(
        machine.run(&before, &["--user", "33:34"], "id; [ -r /proc/self/status ] && echo $?"),
        "uid=33 gid=34 groups=34\n0\nExited(0)\n"
    );
    let daemon = "setsid sleep 98781 & sleep 98782 & sleep 0.3; kill -9 $PPID; sleep 98783";
    assert_eq!(machine.run(&before, &[], daemon), "InitKilled\n");
    assert_eq!(sleepers("9878"), 0);
}

#[test]
fn privileged_root_gets_along_without_user_namespaces() {
    let machine = Machine::new(0);
    // In a user namespace, so that the limit is not the machine's.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    let before = ["unshare", "--map-root-user", "sh", "-c", script, "sh"];
    assert_eq!(machine.run(&before, &[], "echo ran"), "ran\nExited(0)\n");
}

#[test]
fn privileged_a_machine_that_refuses_namespaces_is_told_what_is_missing() {
    let machine = Machine::new(0);
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-sys_admin \"$@\"";
    let before = ["unshare", "--map-root-user", "sh", "-c", script, "sh"];
    assert_eq!(
        machine.run(&before, &[], "id"),
        "error: cannot make a private root to build in: \
         new mount, process and IPC namespaces were refused, with and without a user namespace\n\
         hint: user namespaces are switched off on this machine: set `sysctl user.max_user_namespaces=15000`, \
         build as root, or build in a container with the executor image\n"
    );
}
