//! Builds without root.

use std::fmt::Write as _;

use testkit::base::debian;
use testkit::build_case::{BuildCase, build_in_pod};
use testkit::oracle::docker_archive_layers;
use testkit::{Cluster, Executor, ImageStandIn, Pod, PodOutput, Profile};

use crate::bench::{Bench, host};
use crate::deployment::{IMAGE, blocks};

/// Cases that give another image without root, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("copy-special-files", "its user may not read a file of the context"),
    ("here-run", "a here-document with `#!` is in `/run/pipes`, and the case prints where"),
    ("mount-tmpfs", "nothing can be mounted, and the case looks for a mount"),
    ("run-network-none", "there is no namespace: sockets are refused, but interfaces are listed"),
];

/// How many pods build at the same time.
const PODS: usize = 2;

/// The same with a user namespace that has one id, in an image that is not made for its user.
const FOREIGN_EXCEPTIONS: &[(&str, &str)] =
    &[("copy-special-files", "its files lose bits when they are given to the user of the pod")];

#[test]
fn privileged_every_case_gives_the_same_image_without_root() {
    check_every_case(Profile::Restricted, EXCEPTIONS);
}

#[test]
fn privileged_every_case_gives_the_same_image_with_one_user_id() {
    check_every_case(Profile::UnconfinedNonRoot, FOREIGN_EXCEPTIONS);
}

fn check_every_case(profile: Profile, exceptions: &[(&str, &str)]) {
    let cases = BuildCase::all().unwrap();
    let hands: Vec<Vec<BuildCase>> =
        (0..PODS).map(|pod| cases.iter().skip(pod).step_by(PODS).cloned().collect()).collect();
    let made = std::thread::scope(|scope| {
        let build = |hand: &Vec<BuildCase>| build_in_pod(hand, profile).unwrap();
        let builds: Vec<_> = hands.iter().map(|hand| scope.spawn(move || build(hand))).collect();
        builds.into_iter().flat_map(|build| build.join().unwrap()).collect::<Vec<_>>()
    });
    let mut text = String::new();
    let mut different = Vec::new();
    for (case, made) in hands.iter().flatten().zip(&made) {
        let differences = case.unexpected(case.recorded().unwrap().differences(made));
        // What is excused where a private root cannot do better may be right here.
        let differences: Vec<String> =
            differences.into_iter().filter(|line| !line.contains("differs no more")).collect();
        if !differences.is_empty() {
            different.push(case.name());
        }
        for line in differences {
            let _infallible = writeln!(text, "{}: {line}", case.name());
        }
    }
    different.sort_unstable();
    let expected: Vec<&str> = exceptions.iter().map(|(name, _)| *name).collect();
    assert_eq!(different, expected, "of {} cases:\n{text}", cases.len());
    assert!(exceptions.len() * 100 < cases.len() * 3, "more than 3 % are exceptions");
}

/// A pod of the image for users other than root, which the value keeps.
struct NonRoot {
    bench: Bench,
    image: Executor,
}

impl NonRoot {
    fn new() -> Self {
        Self::with(Bench::new())
    }

    fn with(bench: Bench) -> Self {
        use std::os::unix::fs::PermissionsExt as _;

        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(bench.out(""), everybody).unwrap();
        Self { bench, image: Executor::nonroot().unwrap() }
    }

    fn pod(&self) -> Pod {
        let pod = self.bench.mounted(self.image.pod().profile(Profile::Restricted));
        pod.env("HOME", "/kaniko").env("USER", "nonroot")
    }

    /// A pod in which `/` is not its user's, and a user namespace with one id can be had.
    fn foreign_pod(&self) -> Pod {
        self.bench.pod().profile(Profile::UnconfinedNonRoot).env("HOME", "/tmp")
    }

    fn build(&self, dockerfile: &str, flags: &[&str]) -> PodOutput {
        self.bench.build_in(&self.pod(), dockerfile, flags)
    }
}

#[test]
fn privileged_the_pods_of_the_guide_build_without_root() {
    let blocks = blocks("non-root.md");
    assert_eq!(blocks.len(), 3);
    for yaml in blocks {
        let own = NonRoot::new();
        let host = own.bench.registry.host();
        let image = |executor: &Executor| ImageStandIn {
            pod: executor.pod().env("KANIKO_REGISTRY_MIRROR", &host),
            entrypoint: vec!["/kaniko/executor".to_owned()],
        };
        let yaml = yaml
            .replace(IMAGE, "executor")
            .replace("registry.example/ebiko/nonroot:VERSION", "nonroot")
            .replace("registry.example", &host);
        let cluster = Cluster::new()
            .image("executor", image(&own.bench.executor))
            .image("nonroot", image(&own.image));
        cluster.run(&yaml).unwrap().pop().unwrap().assert_success();
        let layers = own.bench.registry.layers("team/app:1").unwrap();
        let last = layers.last().unwrap();
        let file = last.lines().find(|line| line.ends_with(" home/f")).unwrap();
        assert!(file.starts_with("-rw-r--r-- 1001/1001 5 "), "{last}");
        assert!(last.contains("-rw-r--r-- 0/0 2 uid\n"), "{last}");
    }
}

#[test]
fn privileged_the_steps_of_harness_build_without_root() {
    let own = NonRoot::new();
    own.bench.write("Dockerfile", "FROM busybox\nRUN chown 7:8 /tmp\n");
    std::os::unix::fs::symlink("executor", own.image.root().join("kaniko/kaniko-docker")).unwrap();
    let host = own.bench.registry.host();
    let pod = own
        .pod()
        .env("PLUGIN_REPO", &format!("{host}/team/app"))
        .env("PLUGIN_REGISTRY", &host)
        .env("PLUGIN_TAGS", "1")
        .env("PLUGIN_USERNAME", "user")
        .env("PLUGIN_PASSWORD", "password")
        .env("PLUGIN_INSECURE", "true")
        .env("KANIKO_REGISTRY_MIRROR", &host);
    pod.run(["/kaniko/kaniko-docker"]).unwrap().assert_success();
    let layers = own.bench.registry.layers("team/app:1").unwrap();
    assert!(layers.last().unwrap().contains(" 7/8 0 tmp/\n"), "{layers:?}");
}

/// What only root can do, what only others cannot do, and what both see of it. Built with root and without, it must be the same.
const RIGHTS: &str = r#"FROM busybox
RUN echo 'ann:x:1001:1001::/home/ann:/bin/sh' >> /etc/passwd && echo 'ann:x:1001:' >> /etc/group
RUN mkdir -p /home /srv && mkdir -m 700 /home/ann && chown ann:ann /home/ann \
 && mkdir -m 2775 /srv/shared && chgrp 50 /srv/shared && chmod 2775 /srv/shared && mkdir /srv/shared/d && touch /srv/shared/f \
 && [ "$(stat -c %a:%g /srv/shared/d)" = 2755:50 ] && [ "$(stat -c %g /srv/shared/f)" = 50 ]
RUN mknod /srv/null c 1 3 && mkfifo /srv/fifo && [ -c /srv/null ] && [ "$(stat -c %t:%T /srv/null)" = 1:3 ]
RUN touch /srv/none && chmod 0 /srv/none && cat /srv/none && echo x > /srv/none && [ "$(stat -c %a /srv/none)" = 0 ] \
 && mkdir -m 555 /srv/ro && touch /srv/ro/f && rm /srv/ro/f && (umask 077 && mkdir /srv/own) && cp /etc/passwd /srv/p && chmod 400 /srv/p
RUN cp /bin/busybox /srv/tool && chown ann /srv/tool && chmod 6755 /srv/tool && chown 0 /srv/tool && [ "$(stat -c %a /srv/tool)" = 755 ]
RUN su ann -c 'id -u > ~/id && ln -s id ~/link && mkdir ~/dir && (! touch /srv/x) && (! rm /srv/none) && (! mv /srv/p /srv/q) && (! cat /srv/p)'
RUN for i in $(seq 300); do (exit 0) & done; wait; (sleep 0.1; id -u > /srv/orphan) & sleep 0.5; cat /srv/orphan
USER ann
WORKDIR /home/ann
RUN [ "$(id -u):$(id -g)" = 1001:1001 ] && (! cat /srv/p) && (! touch /etc/passwd) && [ ! -w /srv ] && touch mine && (! chown 0 mine) && (! mknod n c 1 3)
RUN (! cat /srv/none 2>/dev/null) && (! cd /srv/own) && [ "$(pwd)" = /home/ann ] && [ "$(readlink -f mine)" = /home/ann/mine ]
USER root
RUN mkdir /odd && echo 1 > /odd/f && cat /odd/f && mv /odd /even && [ -d /even ] && [ ! -e /odd ] && (! readlink /srv) && ln -s srv /lnk
RUN rm -r /even && cd / && pwd > /srv/pwd && find / -xdev -maxdepth 1 -type d -name srv | grep -q . && echo e > /file && cat /file
"#;

#[test]
fn privileged_rights_are_those_of_a_pod_with_root() {
    let own = NonRoot::new();
    let flags = ["--no-push", "--rewrite-timestamp", "--source-date-epoch=1"];
    let layers = |pod: &Pod, name: &str| {
        let tar = format!("--tar-path=/out/{name}");
        let output = own.bench.build_in(pod, RIGHTS, &[&flags[..], &[&tar]].concat());
        output.assert_success();
        docker_archive_layers(&own.bench.out(name)).unwrap()
    };
    let with = layers(&own.bench.pod(), "with.tar");
    let without = layers(&own.pod(), "without.tar");
    assert_eq!(with, without);
    let no_capabilities = own.bench.pod().capabilities(Vec::new()).no_new_privileges();
    assert_eq!(with, layers(&no_capabilities, "few.tar"));
    let unconfined = own.bench.mounted(own.image.pod().profile(Profile::UnconfinedNonRoot));
    assert_eq!(with, layers(&unconfined, "unconfined.tar"));
    assert_eq!(with, layers(&own.foreign_pod(), "foreign.tar"));
}

/// Packages that add users, set capabilities and set-user-ID bits, or work as somebody else while they are installed.
const PACKAGES: &str = r#"FROM debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends nginx openssh-server sudo build-essential python3-venv \
    postgresql libcap2-bin >/dev/null
RUN useradd -m joe && [ "$(su joe -c 'id -un')" = joe ] && [ "$(sudo -u joe id -un)" = joe ] \
 && [ "$(setpriv --reuid joe --regid joe --clear-groups id -un)" = joe ]
RUN cp /bin/ls /usr/local/bin/l && setcap cap_net_raw+ep /usr/local/bin/l && getcap /usr/local/bin/l | grep -q cap_net_raw=ep
RUN mknod /srv/zero c 1 5 && dpkg-divert --add --rename --divert /usr/bin/whoami.real /usr/bin/whoami && python3 -m venv /opt/venv \
 && su joe -c 'find /srv -name zero' | grep -q zero
RUN service postgresql start && su postgres -c "psql -tc 'select 41 + 1'" | grep -q 42 && su postgres -c 'createuser joe' \
 && sudo -u joe psql -d postgres -tc 'select current_user' | grep -q joe && service postgresql stop
COPY odd.py /tmp/
RUN python3 /tmp/odd.py
RUN printf 'int main() { return 0; }' > /tmp/m.cc && make -C /tmp m CXX=g++ && install /tmp/m /usr/local/bin/ && m
RUN sed -i 's/:80 /:8099 /; s/ 80 / 127.0.0.1:8099 /; /\[::\]/d' /etc/nginx/sites-enabled/default && nginx \
 && bash -c 'exec 3<>/dev/tcp/127.0.0.1/8099; printf "GET / HTTP/1.0\r\n\r\n" >&3; grep -q "Welcome to nginx" <&3' \
 && [ "$(stat -c %U $(dirname $(grep -l '^nginx: worker' /proc/[0-9]*/cmdline | head -1)))" = www-data ] && nginx -s stop
"#;

#[test]
fn privileged_debians_packages_are_installed_without_root_and_pushed() {
    let own = NonRoot::with(Bench::with(&[debian().unwrap()]));
    let destination = format!("--destination={}/team/debian:1", own.bench.registry.host());
    own.bench.write("odd.py", include_str!("restricted/odd.py"));
    own.build(PACKAGES, &[&destination]).assert_success();
    let files = own.bench.registry.layers("team/debian:1").unwrap().concat();
    let line = |name: &str| {
        files.lines().rfind(|line| line.ends_with(&format!(" {name}"))).unwrap_or_default()
    };
    for (name, start) in [
        ("usr/bin/sudo", "-rwsr-xr-x 0/0 "),
        ("usr/bin/ssh-agent", "-rwxr-sr-x 0/"),
        ("usr/local/bin/l", "-rwxr-xr-x 0/0 "),
        ("srv/zero", "crw-r--r-- 0/0 1,5"),
        ("usr/bin/whoami.real", "-rwxr-xr-x 0/0 "),
        ("home/joe/.profile", "-rw-r--r-- 1000/1000 "),
        ("usr/local/bin/m", "-rwxr-xr-x 0/0 "),
    ] {
        assert!(line(name).starts_with(start), "{name}: `{}`", line(name));
    }
    for (name, owner) in
        [("usr/bin/ssh-agent", " 0/0 "), ("var/lib/postgresql/15/main/PG_VERSION", " 0/")]
    {
        assert!(!line(name).is_empty() && !line(name).contains(owner), "{name}: `{}`", line(name));
    }
}

/// What is unpacked for a context is read by who knows nothing of what was virtual then.
#[test]
fn privileged_an_archive_as_context_brings_no_sticky_bits() {
    let own = NonRoot::new();
    own.bench.write("in/Dockerfile", "FROM scratch\nCOPY f d /\n");
    own.bench.write("in/f", "x");
    own.bench.write("in/d/g", "x");
    let context = own.bench.context();
    host("chmod", &["444", "in/f", "in/d/g"], &context);
    host("tar", &["-C", "in", "-cf", "in.tar", "."], &context);
    let context = "--context=tar:///workspace/in.tar";
    let command = ["/kaniko/executor", context, "--no-push", "--tar-path=/out/image.tar"];
    own.pod().run(command).unwrap().assert_success();
    let layers = docker_archive_layers(&own.bench.out("image.tar")).unwrap().concat();
    let files: Vec<&str> = layers.lines().filter(|line| line.starts_with('-')).collect();
    assert_eq!(files.len(), 2, "{layers}");
    // The builder's own right to write is in SHORTCOMINGS.
    assert!(files.iter().all(|line| line.starts_with("-rw-r--r-- 0/0 ")), "{layers}");
}

/// Packages with users, groups, set-user-ID and set-group-ID bits, without the traces of when they were installed.
const REPEATABLE: &str = "FROM debian:bookworm\n\
    RUN apt-get update >/dev/null && apt-get install -y --no-install-recommends openssh-client sudo cron adduser libcap2-bin >/dev/null \
    && rm -rf /var/lib/apt/lists /var/cache/apt /var/log/apt /var/log/dpkg.log /var/cache/ldconfig\n\
    RUN useradd -m joe && echo 'joe:x' | chpasswd -e\n\
    RUN cp /bin/ls /usr/local/bin/l && setcap cap_net_raw+ep /usr/local/bin/l && [ -n \"$(getcap /usr/local/bin/l)\" ] \
    && chown joe /usr/local/bin/l && [ -z \"$(getcap /usr/local/bin/l)\" ]\n";

#[test]
fn privileged_packages_are_the_same_with_root_and_without() {
    let own = NonRoot::with(Bench::with(&[debian().unwrap()]));
    let layers = |pod: &Pod, name: &str| {
        let tar = format!("--tar-path=/out/{name}");
        own.bench.build_in(pod, REPEATABLE, &["--no-push", &tar]).assert_success();
        docker_archive_layers(&own.bench.out(name)).unwrap()
    };
    let with = layers(&own.bench.pod(), "with.tar");
    for (pod, name) in [(own.pod(), "without.tar"), (own.foreign_pod(), "foreign.tar")] {
        let without = layers(&pod, name);
        for (with, without) in with.iter().zip(&without) {
            for (with, without) in with.lines().zip(without.lines()) {
                assert_eq!(with, without, "{name}");
            }
        }
        assert_eq!(with, without);
    }
}

#[test]
fn privileged_a_run_without_root_sees_nothing_of_the_builder() {
    let own = NonRoot::new();
    // What leads there by a name that only the builder finds, and what only it could open.
    let dockerfile = r#"FROM busybox
RUN for p in 1 $PPID; do for f in environ mem maps fd/0 fd/3 cwd/; do \
      ln -s /proc/$p/$f /l; \
      if cat /proc/$p/$f || cat /l || dd if=/l bs=1 count=1 || cat < /l || ls /l/; then echo "$p $f"; exit 1; fi; \
      rm /l; done; done >/dev/null 2>&1
RUN ln -s /proc/self /s && ln -s /proc/self/fd /f && [ "$(readlink /proc/self)" != 1 ] \
 && exec 7</etc/passwd && [ "$(readlink /proc/self/fd/7)" = /etc/passwd ] && [ "$(readlink /f/7)" = /etc/passwd ] \
 && cat /proc/self/environ | grep -q PATH= && ! { cat /s/environ /f/3 /proc/1/environ | grep -q hidden; }
"#;
    let pod = own.pod().env("TOKEN", "hidden");
    own.bench.build_in(&pod, dockerfile, &["--no-push"]).assert_success();
    // In a user namespace the builder is behind a process that waits for it.
    let dockerfile = r#"FROM busybox
RUN cd /proc && for p in [0-9]*; do [ -e /proc/self/root/proc/$p/exe ] && continue; seen=$seen:$p; \
      for f in environ mem maps fd/0 cwd/; do if cat $p/$f || ls $p/$f/; then echo "$p $f"; exit 1; fi; done; done >/dev/null 2>&1; \
    case "$seen" in *:1:*) ;; *) exit 2 ;; esac
"#;
    let pod = own.foreign_pod().env("TOKEN", "hidden");
    own.bench.build_in(&pod, dockerfile, &["--no-push"]).assert_success();
    // Answers are found in `/proc`, which a command must not be able to make up.
    let dockerfile = "FROM busybox\nRUN --mount=type=tmpfs,target=/proc/1 true\n";
    let output = own.bench.build_in(&pod, dockerfile, &["--no-push"]);
    let expected = "on which nothing may be mounted";
    assert!(output.code == 1 && output.stderr.contains(expected), "{output}");
}

/// Names at `/` for which the image has no links hold files. What only the kernel could do with one ends the step, also
/// where the command would go on: its image would be another one than with a root at `/`.
#[test]
fn privileged_a_new_name_at_the_top_holds_files_and_what_it_cannot_ends_the_step() {
    let own = NonRoot::new();
    let dockerfile = "FROM busybox\nRUN mkdir /odd-name && echo 123 > /odd-name/a && mv /odd-name/a /odd-name/b \
        && cp -a /odd-name/b /odd-name/c && chmod 4711 /odd-name/c && [ \"$(cat /odd-name/b)\" = 123 ] \
        && rm /odd-name/b && touch /odd && (! cd /odd) && (! /odd) && (! /odd-name) && rm /odd && [ \"$(ls /odd-name)\" = c ] && ls / | grep -qx odd-name && ! ls / | grep -qx www\n\
        RUN mkdir /www && cd /www && cp /bin/busybox ls && /www/ls / | grep -qx www\n\
        WORKDIR /odd-name\nRUN [ $PWD = /odd-name ] && mkdir sub && touch sub/here && cd / && [ -f odd-name/sub/here ]\n";
    own.build(dockerfile, &["--no-push", "--tar-path=/out/image.tar"]).assert_success();
    let layers = docker_archive_layers(&own.bench.out("image.tar")).unwrap().concat();
    for expected in ["-rws--x--x 0/0", "odd-name/sub/here"] {
        assert!(layers.contains(expected), "{layers}");
    }
    for command in ["cd /odd-name; true", "cp /bin/busybox /odd-name/ls; /odd-name/ls; true"] {
        let dockerfile = format!("FROM busybox\nRUN mkdir /odd-name; {command}\n");
        let output = own.build(&dockerfile, &["--no-push", "--tar-path=/out/wrong.tar"]);
        assert_eq!(output.code, 1, "{command}: {output}");
        let expected = "which is not at `/` for the kernel";
        assert!(
            output.stderr.contains("`/odd-name") && output.stderr.contains(expected),
            "{output}"
        );
        assert!(!own.bench.out("wrong.tar").exists(), "{command}");
    }
}

/// A program that its user may execute and not read cannot be looked into; nor would what comes of it be known.
#[test]
fn privileged_what_cannot_be_looked_into_ends_the_step() {
    use std::os::unix::fs::PermissionsExt as _;

    let own = NonRoot::new();
    let tools = testkit::scratch_dir("tools-").unwrap();
    let tool = tools.path().join("busybox");
    std::fs::copy("/bin/busybox", &tool).unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o711)).unwrap();
    let pod = own.pod().bind_read_only(tools.path(), "/tools");
    let dockerfile = "FROM busybox\nRUN /tools/busybox ls /; true\n";
    let output = own.bench.build_in(&pod, dockerfile, &["--no-push", "--tar-path=/out/image.tar"]);
    assert_eq!(output.code, 1, "{output}");
    let expected = "root cannot be emulated for the command any more";
    assert!(output.stderr.contains(expected), "{output}");
    assert!(!own.bench.out("image.tar").exists());
}
