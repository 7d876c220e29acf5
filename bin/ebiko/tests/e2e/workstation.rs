//! The same command on a machine: a private root, and the machine's files out of reach.

use testkit::base::{busybox, workstation};
use testkit::{Pod, PodOutput, Profile, executor_binary, listing};

use crate::bench::Bench;

/// Destroys everything that it can reach.
const DESTROYER: &str = "FROM busybox\nRUN rm -rf /usr /etc /home /root /var /lib 2>/dev/null; mkdir /usr && echo mine > /usr/mine\n";

fn machine(bench: &Bench) -> Pod {
    bench
        .mounted(Pod::new(workstation().unwrap()).profile(Profile::Workstation))
        .bind_read_only(executor_binary().unwrap(), "/usr/local/bin/ebiko")
}

/// Builds the destroyer and returns the machine's `/usr/bin` and `/etc` before and after.
fn build_destroyer(bench: &Bench, pod: &Pod) -> (PodOutput, [String; 2]) {
    bench.write("Dockerfile", DESTROYER);
    let look = |root: &std::path::Path| {
        listing(&root.join("usr/bin")).unwrap() + &listing(&root.join("etc/apt")).unwrap()
    };
    let before = look(&workstation().unwrap());
    let command = [
        vec!["/usr/local/bin/ebiko".to_owned()],
        bench.flags(&["--no-push", "--tar-path=/out/image.tar"]),
    ]
    .concat();
    let (output, after) = pod.spawn(command).unwrap().wait_and_inspect(look).unwrap();
    (output, [before, after])
}

#[test]
fn privileged_root_builds_in_a_private_root_and_the_machine_stays_whole() {
    let bench = Bench::new();
    let (output, [before, after]) = build_destroyer(&bench, &machine(&bench));
    let output = output.assert_success();
    assert_eq!(before, after, "{output}");
    let layer =
        testkit::oracle::docker_archive_layers(&bench.out("image.tar")).unwrap().pop().unwrap();
    assert!(layer.contains(" usr/mine\n"), "{layer}");
}

#[test]
fn privileged_a_normal_user_builds_in_a_user_namespace() {
    let bench = Bench::new();
    std::fs::set_permissions(bench.out(""), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .unwrap();
    let pod = machine(&bench).user(1000, 1000).env("HOME", "/home/dev").work_dir("/home/dev");
    let (output, [before, after]) = build_destroyer(&bench, &pod);
    let output = output.assert_success();
    assert_eq!(before, after, "{output}");
    let dockerfile =
        "FROM busybox\nRUN adduser -D ann && touch /f && chown ann /f && mknod /null c 1 3\n";
    bench.write("Dockerfile", dockerfile);
    let command = [
        vec!["/usr/local/bin/ebiko".to_owned()],
        bench.flags(&["--no-push", "--tar-path=/out/second.tar"]),
    ]
    .concat();
    let second = pod.run(command).unwrap();
    // A device cannot be made without the machine's own root: the step fails as it would in any user namespace.
    if second.code == 0 {
        let layer = testkit::oracle::docker_archive_layers(&bench.out("second.tar"))
            .unwrap()
            .pop()
            .unwrap();
        assert!(layer.contains("-rw-r--r-- 1001/0 0 f\n"), "{layer}");
    } else {
        assert!(second.stderr.contains("Dockerfile:2"), "{second}");
    }
}

#[test]
fn privileged_where_namespaces_are_refused_one_message_says_what_is_missing() {
    let bench = Bench::new();
    bench.write("Dockerfile", DESTROYER);
    // Not in the executor's own directory, so `/` is not its to take; and this profile allows no namespaces.
    let pod = bench
        .mounted(Pod::new(workstation().unwrap()).profile(Profile::Root))
        .bind_read_only(executor_binary().unwrap(), "/usr/local/bin/ebiko");
    let command = [vec!["/usr/local/bin/ebiko".to_owned()], bench.flags(&["--no-push"])].concat();
    let (output, has_usr) = pod
        .spawn(command)
        .unwrap()
        .wait_and_inspect(|root| root.join("usr/bin/apt").exists())
        .unwrap();
    assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output}");
    assert!(has_usr, "nothing may be touched");
    let starting = |word| output.stderr.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!((starting("error:"), starting("hint:")), (1, 1), "{output}");
}

#[test]
fn privileged_force_takes_the_root_of_a_container_that_is_no_executor() {
    let bench = Bench::new();
    bench.write("Dockerfile", "FROM busybox\nRUN test ! -e /was-here && echo mine > /mine\n");
    let pod = bench
        .mounted(Pod::new(busybox().unwrap().root()))
        .bind_read_only(executor_binary().unwrap(), "/usr/local/bin/ebiko");
    let forced = forced(&bench).join(" ");
    let script = format!("touch /was-here; {forced}");
    let (output, is_there) = pod
        .spawn(["sh", "-c", &script])
        .unwrap()
        .wait_and_inspect(|root| root.join("mine").exists())
        .unwrap();
    assert_eq!((output.code, is_there), (0, true), "{output}");
}

#[test]
fn privileged_force_never_takes_the_root_of_a_machine_whose_processes_it_sees() {
    let own = std::fs::read_link("/proc/self/ns/pid").unwrap();
    if own.as_os_str() != "pid:[4026531836]" {
        // These tests run in a container themselves: what a pod here can share are the processes of that.
        return;
    }
    let bench = Bench::new();
    bench.write("Dockerfile", DESTROYER);
    // Its root is a pod's, so that even a program that obeyed would destroy nothing else.
    let (output, has_usr) = machine(&bench)
        .host_processes()
        .spawn(forced(&bench))
        .unwrap()
        .wait_and_inspect(|root| root.join("usr/bin/apt").exists())
        .unwrap();
    assert_eq!((output.code, output.stdout.as_str(), has_usr), (1, "", true), "{output}");
    assert!(output.stderr.contains("--force") && output.stderr.contains("hint:"), "{output}");
}

fn forced(bench: &Bench) -> Vec<String> {
    [vec!["/usr/local/bin/ebiko".to_owned()], bench.flags(&["--no-push", "--force"])].concat()
}

#[test]
fn privileged_colours_are_for_terminals_and_for_people_who_want_them() {
    let bench = Bench::new();
    bench.write("Dockerfile", "FROM scratch\nENV A=1\n");
    let build = "/usr/local/bin/ebiko --context=/workspace --no-push";
    let in_a_terminal = format!("script -qec '{build}' /dev/null");
    for (script, has_colours) in [
        (in_a_terminal.clone(), true),
        (format!("NO_COLOR=1 {in_a_terminal}"), false),
        (format!("{build} --log-format=color 2>&1"), false),
    ] {
        let output = machine(&bench).run(["sh", "-c", &script]).unwrap().assert_success();
        assert_eq!(output.stdout.contains('\u{1b}'), has_colours, "{script}\n{output}");
        assert!(output.stdout.contains("FROM scratch"), "{output}");
    }
}

/// Builds on a disk of 64 MiB.
#[track_caller]
fn check_small_disk(dockerfile: &str, expected: &str) {
    const START: &str =
        r#"mount -t tmpfs -o size=64m small /var/tmp && exec /usr/local/bin/ebiko "$@""#;
    let bench = Bench::new();
    bench.write("Dockerfile", dockerfile);
    let start = ["sh", "-c", START, "ebiko"].map(str::to_owned);
    let output = machine(&bench).run([&start[..], &bench.flags(&["--no-push"])].concat()).unwrap();
    let text = output.to_string();
    assert_ne!(output.code, 0, "{text}");
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("free space, or give the builder a larger volume"), "{text}");
}

#[test]
fn privileged_a_command_that_fills_the_disk_is_told_so() {
    check_small_disk(
        "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=100\n",
        "the disk is full, which may be why",
    );
}

#[test]
fn privileged_a_layer_that_does_not_fit_the_disk_is_told_so() {
    check_small_disk(
        "FROM busybox\nRUN dd if=/dev/urandom of=/big bs=1M count=40\nRUN true\n",
        "No space left on device",
    );
}
