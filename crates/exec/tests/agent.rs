//! SSH agents for commands: keys that the builder serves, and agents that it passes on.
//!
//! The tests need root, a static busybox at `/bin/busybox`, `ssh-keygen`, `ssh-agent`, `ssh-add` and `openssl`. The
//! command's socket is used from outside of the root, by OpenSSH's own client.

#![expect(clippy::disallowed_methods, reason = "tests make files and start programs")]
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its surroundings are not as it needs them"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

fn run(program: &str, arguments: &[&str], directory: &Path) -> String {
    let output = Command::new(program).args(arguments).current_dir(directory).output().unwrap();
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&all).into_owned()
}

fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples/perform")
}

fn root() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let bin = directory.path().join("root/bin");
    fs::create_dir_all(&bin).unwrap();
    assert!(Command::new("cp").arg("/bin/busybox").arg(&bin).status().unwrap().success());
    for applet in ["sh", "stat", "sleep", "echo", "ls"] {
        symlink("busybox", bin.join(applet)).unwrap();
    }
    directory
}

fn command(directory: &Path, options: &[&str], script: &str) -> Command {
    let mut command = Command::new(example());
    command
        .args(["--env", "PATH=/bin", "--scratch"])
        .arg(directory.join("scratch"))
        .args(options)
        .arg(directory.join("root"))
        .args(["sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A command that sleeps with an agent; ended with the test.
struct Sleeping(Child);

impl Drop for Sleeping {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Asks the agent of a running command, from outside.
fn ask(directory: &Path, option: &str, requests: impl FnOnce(&Path)) {
    let options = ["--mount", "ssh,id=default,target=/run/buildkit/ssh_agent.0", "--ssh", option];
    let _sleeping = Sleeping(command(directory, &options, "sleep 60").spawn().unwrap());
    let socket = directory.join("scratch/command/files/1");
    let start = Instant::now();
    while !socket.exists() {
        assert!(start.elapsed() < Duration::from_secs(20), "waiting for the agent");
        std::thread::sleep(Duration::from_millis(10));
    }
    requests(&socket);
}

fn ssh_add(socket: &Path, arguments: &[&str]) -> String {
    let output =
        Command::new("ssh-add").args(arguments).env("SSH_AUTH_SOCK", socket).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// Lets the agent sign a file, and OpenSSH check the signature; what went wrong.
fn sign_and_check(socket: &Path, directory: &Path, public: &str) -> String {
    let (file, signature) = (directory.join("signed"), directory.join("signed.sig"));
    fs::write(&file, "text").unwrap();
    fs::remove_file(&signature).ok();
    let signed = Command::new("ssh-keygen")
        .args(["-Y", "sign", "-n", "file", "-f", public])
        .arg(&file)
        .env("SSH_AUTH_SOCK", socket)
        .output()
        .unwrap();
    if !signed.status.success() {
        return String::from_utf8_lossy(&signed.stderr).into_owned();
    }
    let checked = Command::new("ssh-keygen")
        .args(["-Y", "check-novalidate", "-n", "file", "-s"])
        .arg(&signature)
        .stdin(fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    if checked.status.success() { String::new() } else { format!("not verified: {said}") }
}

/// Makes a key; the path of the private one.
fn key(directory: &Path, name: &str, arguments: &[&str]) -> String {
    let path = directory.join(name).display().to_string();
    let base = ["-q", "-N", "", "-C", "comment", "-f", &path];
    let said = run("ssh-keygen", &[arguments, &base].concat(), directory);
    assert!(Path::new(&path).exists(), "{said}");
    path
}

#[test]
fn privileged_a_command_finds_a_socket_with_the_mode_and_owner_that_it_asks_for() {
    let directory = root();
    let key = key(directory.path(), "key", &["-t", "ed25519"]);
    let option = format!("default={key}");
    let mount = "ssh,id=default,target=/run/buildkit/ssh_agent.0,mode=741,uid=100,gid=102";
    let options = ["--mount", mount, "--ssh", &option];
    let script = r#"stat -c "%u %g %f %n" $SSH_AUTH_SOCK"#;
    let output = command(directory.path(), &options, script).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "100 102 c1e1 /run/buildkit/ssh_agent.0\n");
    assert!(!directory.path().join("root/run").exists());
    for (mount, expected) in [
        ("ssh,id=other,target=/a", "/a"),
        ("ssh,id=other,target=/a,required", "error: unset ssh forward key other\n"),
    ] {
        let options = ["--mount", mount, "--ssh", &option];
        let output = command(directory.path(), &options, "echo -n $SSH_AUTH_SOCK").output();
        let output = String::from_utf8(output.unwrap().stdout).unwrap();
        assert_eq!(output.split("hint").next().unwrap(), expected, "{mount}");
    }
    let options = ["--mount", "ssh,id=other,target=/a,required"];
    let output = command(directory.path(), &options, "true").output().unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.starts_with("error: no SSH key \"other\" forwarded from the client\n"),
        "{output}"
    );
}

#[test]
fn privileged_keys_of_every_format_sign_as_openssh_expects() {
    let directory = root();
    let directory = directory.path();
    let mut keys = vec![
        key(directory, "rsa", &["-t", "rsa", "-b", "2048"]),
        key(directory, "rsa-pem", &["-t", "rsa", "-b", "2048", "-m", "PEM"]),
        key(directory, "rsa-pkcs8", &["-t", "rsa", "-b", "3072", "-m", "PKCS8"]),
        key(directory, "ed25519", &["-t", "ed25519"]),
        key(directory, "p256", &["-t", "ecdsa", "-b", "256"]),
        key(directory, "p384", &["-t", "ecdsa", "-b", "384"]),
        key(directory, "p256-pem", &["-t", "ecdsa", "-b", "256", "-m", "PEM"]),
        key(directory, "p384-pkcs8", &["-t", "ecdsa", "-b", "384", "-m", "PKCS8"]),
    ];
    // OpenSSL's own form of Ed25519, which has no public key in it.
    run("openssl", &["genpkey", "-algorithm", "ed25519", "-out", "ed-pkcs8"], directory);
    let option = format!("default={},{}", keys.join(","), directory.join("ed-pkcs8").display());
    ask(directory, &option, |socket| {
        let listed = ssh_add(socket, &["-L"]);
        assert_eq!(listed.lines().count(), keys.len() + 1, "{listed}");
        // Only the last one has no file with its public key.
        let (last, _) = listed.lines().last().unwrap().rsplit_once(' ').unwrap_or_default();
        fs::write(directory.join("ed-pkcs8.pub"), format!("{last} x\n")).unwrap();
        keys.push(directory.join("ed-pkcs8").display().to_string());
        for key in &keys {
            let public = format!("{key}.pub");
            assert_eq!(sign_and_check(socket, directory, &public), "", "{key}");
            let line = fs::read_to_string(&public).unwrap();
            let line = line.split(' ').take(2).collect::<Vec<_>>().join(" ");
            assert!(listed.contains(line.trim()), "{key}: {listed}");
        }
        let said = ssh_add(socket, &[&keys[3]]);
        assert!(said.contains("agent refused") || said.contains("Could not add"), "{said}");
        let said = ssh_add(socket, &["-D"]);
        assert!(said.contains("Failed") || said.contains("refused"), "{said}");
        assert_eq!(ssh_add(socket, &["-L"]), listed);
    });
}

#[test]
fn privileged_a_key_with_a_passphrase_is_refused() {
    let directory = root();
    let path = directory.path().join("locked").display().to_string();
    for format in ["RFC4716", "PEM", "PKCS8"] {
        fs::remove_file(&path).ok();
        let arguments =
            ["-q", "-t", "rsa", "-b", "2048", "-m", format, "-N", "long passphrase", "-f", &path];
        run("ssh-keygen", &arguments, directory.path());
        let option = format!("default={path}");
        let options = ["--mount", "ssh,id=default,target=/a", "--ssh", &option];
        let output = command(directory.path(), &options, "true").output().unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.starts_with(
                "error: cannot read the SSH keys of \"default\"\ncaused by: the key is encrypted\n"
            ),
            "{format}: {output}"
        );
    }
}

#[test]
fn privileged_an_agent_is_passed_on_and_not_changed() {
    let directory = root();
    let directory = directory.path();
    let key = key(directory, "key", &["-t", "ed25519"]);
    let upstream = directory.join("upstream");
    let mut agent = Command::new("ssh-agent");
    let agent = agent.args(["-D", "-a"]).arg(&upstream).stdout(Stdio::null());
    let _agent = Sleeping(agent.spawn().unwrap());
    let start = Instant::now();
    while !upstream.exists() {
        assert!(start.elapsed() < Duration::from_secs(20), "waiting for ssh-agent");
        std::thread::sleep(Duration::from_millis(10));
    }
    ssh_add(&upstream, &[&key]);
    ask(directory, &format!("default={}", upstream.display()), |socket| {
        assert_eq!(ssh_add(socket, &["-L"]), ssh_add(&upstream, &["-L"]));
        assert_eq!(sign_and_check(socket, directory, &format!("{key}.pub")), "");
        ssh_add(socket, &["-D"]);
        assert!(ssh_add(&upstream, &["-L"]).starts_with("ssh-ed25519 "));
    });
}
