//! The same command on a machine: a private root, and the machine's files out of reach.

use testkit::base::workstation;
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
fn privileged_force_never_takes_the_root_of_a_machine_whose_processes_it_sees() {
    let bench = Bench::new();
    bench.write("Dockerfile", DESTROYER);
    // A root of its own, so that even a program that obeyed could destroy nothing else.
    let pod = machine(&bench).host_processes();
    let command =
        [vec!["/usr/local/bin/ebiko".to_owned()], bench.flags(&["--no-push", "--force"])].concat();
    let (output, has_usr) = pod
        .spawn(command)
        .unwrap()
        .wait_and_inspect(|root| root.join("usr/bin/apt").exists())
        .unwrap();
    // Where the tests themselves run in a container, its processes are not the machine's, and the pod's root may be taken.
    let own = std::fs::read_link("/proc/self/ns/pid").unwrap();
    if own.as_os_str() == "pid:[4026531836]" {
        assert_eq!((output.code, output.stdout.as_str(), has_usr), (1, "", true), "{output}");
        assert!(output.stderr.contains("--force") && output.stderr.contains("hint:"), "{output}");
    }
}
