//! Repositories over SSH, with Debian's OpenSSH on both sides.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::command::capture;
use testkit::{GitRepository, Output, Pod, Sandbox, SshKey, SshServer};

use crate::bench::Bench;

/// A server with a repository, and who may log in.
struct World {
    dir: tempfile::TempDir,
    key: SshKey,
    server: SshServer,
}

impl World {
    fn new(host_kind: &str, user_kind: &str, speaks_second: bool) -> Self {
        let dir = testkit::scratch_dir("ssh-").unwrap();
        let keys = dir.path().join("keys");
        fs::create_dir(&keys).unwrap();
        let key = SshKey::generate(user_kind, &keys.join("user")).unwrap();
        let server = SshServer::start(host_kind, &[&key], speaks_second).unwrap();
        fs::write(keys.join("known_hosts"), server.known_host().unwrap()).unwrap();
        let child = GitRepository::init(&dir.path().join("child")).unwrap();
        child.write("inner", "of the submodule\n").unwrap();
        child.commit("child").unwrap();
        let app = GitRepository::init(&dir.path().join("app")).unwrap();
        app.write("sub/note", "of the tag\n").unwrap();
        app.write("Dockerfile", "FROM scratch\nCOPY sub/note /\n").unwrap();
        app.commit("first").unwrap();
        app.git(&["tag", "v1"]).unwrap();
        app.write("sub/note", "of the branch\n").unwrap();
        app.git(&["submodule", "--quiet", "add", "../child", "module"]).unwrap();
        app.commit("second").unwrap();
        // A bare one, as servers have it.
        let bare = dir.path().join("app.git");
        let mut clone = testkit::git(dir.path());
        clone.args(["clone", "-q", "--bare", "--no-local", "app"]).arg(&bare);
        capture(&mut clone).unwrap();
        Self { dir, key, server }
    }

    fn bare(&self) -> PathBuf {
        self.dir.path().join("app.git")
    }

    fn keys(&self) -> PathBuf {
        self.dir.path().join("keys")
    }

    fn url(&self) -> String {
        self.server.url(&self.bare())
    }

    /// A pod with the program `ssh`, and the keys and known hosts in `/keys`.
    fn pod(&self, bench: &Bench) -> Pod {
        bench.executor.add_ssh().unwrap();
        bench
            .pod()
            .bind_read_only(self.keys(), "/keys")
            .env("PATH", "/usr/local/bin:/kaniko:/usr/bin")
            .env("SSH_KNOWN_HOSTS", "/keys/known_hosts")
    }

    /// Asks for the plan of a context over SSH, on this machine.
    fn plan(&self, context: &str, variables: &[(&str, &str)], flags: &[&str]) -> Output {
        let known = self.keys().join("known_hosts").display().to_string();
        let mut sandbox = Sandbox::new(env!("CARGO_BIN_EXE_ebiko"))
            .env("PATH", "/usr/bin:/bin")
            .env("SSH_KNOWN_HOSTS", known);
        for (name, value) in variables {
            sandbox = sandbox.env(*name, *value);
        }
        let flags = flags.iter().map(|&flag| flag.to_owned());
        let output = sandbox
            .ebiko([format!("--context={context}"), "--dryrun".into()].into_iter().chain(flags));
        // Nothing of a key is ever told.
        let private = fs::read_to_string(self.key.path()).unwrap();
        let line = private.lines().nth(1).unwrap();
        assert!(!output.stderr.contains(line) && !output.stdout.contains(line), "{output:?}");
        output
    }

    fn given(&self) -> String {
        format!("--ssh=default={}", self.key.path().display())
    }
}

#[track_caller]
fn refused(output: &Output, words: &[&str]) {
    assert_eq!(output.code, 1, "{output:?}");
    for word in words {
        assert!(output.stderr.contains(word), "`{word}` is missing: {output:?}");
    }
}

#[test]
fn privileged_add_logs_in_with_the_given_key_whatever_kinds_of_keys_there_are() {
    for (host, user, speaks_second) in
        [("ed25519", "rsa", true), ("rsa", "ed25519", true), ("ecdsa", "ecdsa", false)]
    {
        let bench = Bench::new();
        let world = World::new(host, user, speaks_second);
        let url = world.url();
        // The command first: what it runs in has replaced the program.
        let dockerfile = format!(
            "FROM busybox\nRUN test ! -e /usr/bin/ssh\nADD {url}#v1:sub /tag\nADD {url} /whole\n\
             RUN cat /tag/note /whole/sub/note /whole/module/inner\n\
             RUN --mount=from=named,target=/named cat /named/note\n"
        );
        let named = format!("--build-context=named={url}#master:sub");
        let output = bench.build_in(
            &world.pod(&bench),
            &dockerfile,
            &["--ssh=default=/keys/user", "--no-push", &named],
        );
        let expected = "of the tag\nof the branch\nof the submodule\nof the branch\n";
        assert_eq!(output.assert_success().stdout, expected, "{host} {user}");
        assert!(world.server.log().contains("Accepted publickey for root"));
    }
}

#[test]
fn privileged_a_context_is_fetched_with_the_keys_and_settings_of_the_home() {
    let bench = Bench::new();
    let world = World::new("ed25519", "ed25519", true);
    let home = world.dir.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::copy(world.key.path(), home.join("id_ed25519")).unwrap();
    fs::copy(world.keys().join("known_hosts"), home.join("known_hosts")).unwrap();
    let mut hash = std::process::Command::new("ssh-keygen");
    capture(hash.args(["-q", "-H", "-f"]).arg(home.join("known_hosts"))).unwrap();
    let hashed = fs::read_to_string(home.join("known_hosts")).unwrap();
    assert!(hashed.starts_with("|1|"), "{hashed}");
    let port = world.server.port();
    let config = format!(
        "Host git.example\nHostName 127.0.0.1\nPort {port}\nHostKeyAlias [127.0.0.1]:{port}\n"
    );
    fs::write(home.join("config"), config).unwrap();
    let pod = world.pod(&bench).bind_read_only(&home, "/root/.ssh").env("SSH_KNOWN_HOSTS", "");
    let path = world.bare().display().to_string();
    for (context, expected) in [
        (format!("root@git.example:{path}#v1"), "of the tag\n"),
        (format!("git+ssh://root@git.example{path}#refs/heads/master"), "of the branch\n"),
    ] {
        let flags = bench.flags(&["--no-push", "--tar-path=/out/image.tar"]);
        let flags = flags.into_iter().filter(|flag| !flag.starts_with("--context"));
        let command = ["/kaniko/executor".to_owned(), format!("--context={context}")];
        pod.run(command.into_iter().chain(flags)).unwrap().assert_success();
        let mut tar = std::process::Command::new("sh");
        let script = "cd $1 && rm -rf x && mkdir x && tar -xf image.tar -C x && \
                      for layer in x/*.tar.gz; do tar -xzOf $layer note; done";
        let note = capture(tar.args(["-c", script, "sh"]).arg(bench.out(""))).unwrap();
        assert_eq!(String::from_utf8(note).unwrap(), expected, "{context}");
    }
}

#[test]
fn privileged_what_is_wrong_with_a_host_or_a_key_is_told_with_its_remedy() {
    let world = World::new("ed25519", "ed25519", true);
    let (url, given) = (world.url(), world.given());
    let keys = world.keys();
    let file = |name: &str, text: String| {
        let path = keys.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let output = world.plan(&url, &[], &[&given]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains("sub/note"), "{output:?}");

    let nobody = file("nobody", String::new());
    let output = world.plan(&url, &[("SSH_KNOWN_HOSTS", &nobody)], &[&given]);
    refused(&output, &["No ED25519 host key is known for", "SSH_KNOWN_HOSTS", "ssh-keyscan"]);

    let other = SshKey::generate("ed25519", &keys.join("other")).unwrap();
    let line = format!("[127.0.0.1]:{} {}\n", world.server.port(), other.public().unwrap());
    let changed = file("changed", line);
    let output = world.plan(&url, &[("SSH_KNOWN_HOSTS", &changed)], &[&given]);
    refused(&output, &["Host key verification failed", "somebody may be in between"]);

    let revoked = file("revoked", format!("@revoked {}", world.server.known_host().unwrap()));
    let output = world.plan(&url, &[("SSH_KNOWN_HOSTS", &revoked)], &[&given]);
    refused(&output, &["somebody may be in between"]);

    let stranger = format!("--ssh=default={}", other.path().display());
    refused(&world.plan(&url, &[], &[&stranger]), &["Permission denied", "--ssh default=KEY_FILE"]);
    refused(&world.plan(&url, &[], &[]), &["Permission denied", "--ssh default=KEY_FILE"]);

    let missing = world.server.url(Path::new("/no/such/repository"));
    refused(&world.plan(&missing, &[], &[&given]), &["does not appear to be a git repository"]);
    let none = [("PATH", "/nowhere")];
    refused(&world.plan(&url, &none, &[&given]), &["there is no program `ssh` here", "https://"]);
}

#[test]
fn privileged_the_users_own_command_and_agent_are_used() {
    let world = World::new("ed25519", "ed25519", true);
    let url = world.url();
    // A stranger's file of known hosts, and a switch that the user gives.
    let nobody = world.keys().join("nobody").display().to_string();
    fs::write(&nobody, "").unwrap();
    let command = format!("ssh -o StrictHostKeyChecking=no -i '{}'", world.key.path().display());
    let variables = [("GIT_SSH_COMMAND", command.as_str()), ("SSH_KNOWN_HOSTS", &nobody)];
    let output = world.plan(&url, &variables, &[]);
    assert_eq!(output.code, 0, "{output:?}");

    let socket = world.dir.path().join("agent").display().to_string();
    let mut agent =
        std::process::Command::new("ssh-agent").args(["-D", "-a", &socket]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !Path::new(&socket).exists() {
        assert!(Instant::now() < deadline, "waiting for the agent");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut add = std::process::Command::new("ssh-add");
    let added = add.arg("-q").arg(world.key.path()).env("SSH_AUTH_SOCK", &socket).status();
    let output = world.plan(&url, &[("SSH_AUTH_SOCK", &socket)], &[]);
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(added.unwrap().success());
    assert_eq!(output.code, 0, "{output:?}");
}

#[test]
fn privileged_a_dockerfile_gets_no_key_that_was_not_given() {
    let bench = Bench::new();
    let world = World::new("ed25519", "ed25519", true);
    let pod = world.pod(&bench).bind_read_only(world.key.path(), "/root/.ssh/id_ed25519");
    let dockerfile = format!("FROM busybox\nADD {} /x\n", world.url());
    let output = bench.build_in(&pod, &dockerfile, &["--no-push"]);
    assert_eq!(output.code, 1, "{output}");
    assert!(output.stderr.contains("Permission denied"), "{output}");
    assert!(output.stderr.contains("hint: give a key that the host knows"), "{output}");
}

#[test]
fn privileged_without_the_program_a_build_says_what_is_missing() {
    let bench = Bench::new();
    let output = bench.build("FROM busybox\nADD git@h.example:a/b.git /x\n", &["--no-push"]);
    assert_eq!(output.code, 1, "{output}");
    assert!(output.stderr.contains("there is no program `ssh` here"), "{output}");
    assert!(output.stderr.contains("hint: use an image of the builder that has"), "{output}");
}

#[test]
fn privileged_a_program_that_a_build_has_put_in_place_is_not_run() {
    let bench = Bench::new();
    let world = World::new("ed25519", "ed25519", true);
    let trap = "FROM busybox\nRUN mkdir -p /usr/bin && printf '#!/bin/sh\\necho tr%s >&2\\n' apped > /usr/bin/ssh && \
                chmod 755 /usr/bin/ssh\n";
    bench.write("Dockerfile", trap);
    let pod = world.pod(&bench).bind_read_only("/bin/busybox", "/busybox/sh");
    let flags = bench.flags(&["--no-push"]).join(" ");
    let second = format!("--context={} --ssh=default=/keys/user --no-push", world.url());
    let script = format!("/kaniko/executor {flags} && /kaniko/executor {second}");
    let output = pod.run(["/busybox/sh", "-c", &script]).unwrap();
    assert_eq!(output.code, 1, "{output}");
    assert!(!output.stderr.contains("trapped"), "{output}");
    assert!(output.stderr.contains("an earlier build has replaced the files"), "{output}");
    assert!(output.stderr.contains("--cleanup"), "{output}");
    let script = format!("/kaniko/executor --cleanup {flags} && /kaniko/executor {second}");
    pod.run(["/busybox/sh", "-c", &script]).unwrap().assert_success();
}

#[test]
fn privileged_a_signal_ends_a_build_that_waits_for_a_host_that_says_nothing() {
    let bench = Bench::new();
    let world = World::new("ed25519", "ed25519", true);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let context = format!("--context=ssh://root@127.0.0.1:{port}/x");
    let command = ["/kaniko/executor", &context, "--ssh=default=/keys/user", "--no-push"];
    let pod = world.pod(&bench).spawn(command).unwrap();
    let (_stream, _) = silent.accept().unwrap();
    let start = Instant::now();
    pod.signal("TERM").unwrap();
    let output = pod.wait().unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{output}");
    assert!(output.stderr.contains("stopped by signal 15"), "{output}");
}
