//! Repositories over a connection that is kept, as over SSH: git's own `upload-pack` answers, and `git clone` judges.
//!
//! Logging in is not this crate's; the tests of the program do it with OpenSSH.

#![expect(clippy::disallowed_methods, reason = "tests arrange the world around the crate")]
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its surroundings are not as it needs them"
)]

use std::error::Error as _;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use ebiko_remote::{
    Checkout, GitError, GitRequest, Network, SshConnector, SshDestination, SshError, SshFault,
    SshStream, checkout, find_commit, is_over_ssh,
};
use ebiko_transport::{Options, Transport};
use testkit::{GitRepository, git, listing, scratch_dir};

/// Runs the command on this machine, as a host would, and writes down what it was asked.
#[derive(Default)]
struct Local {
    is_first_version: bool,
    asked: Mutex<Vec<String>>,
}

struct Running(Child);

impl SshConnector for Local {
    fn connect(
        &self,
        destination: &SshDestination,
        command: &str,
        protocol: &str,
    ) -> Result<Box<dyn SshStream>, SshError> {
        let user = destination.user().unwrap_or("-");
        self.asked.lock().unwrap().push(format!("{user} {destination} {command}"));
        if destination.host() == "unknown.example" {
            return Err(SshError { fault: SshFault::UnknownHost, text: "who?".into() });
        }
        let protocol = if self.is_first_version { "" } else { protocol };
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command])
            .env("GIT_PROTOCOL", protocol)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(Box::new(Running(shell.spawn().unwrap())))
    }
}

impl Read for Running {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.stdout.as_mut().unwrap().read(buffer)
    }
}

impl Write for Running {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.0.stdin.as_mut().unwrap().write(buffer)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl SshStream for Running {
    fn end(&mut self) -> SshError {
        let mut text = String::new();
        self.0.stderr.as_mut().unwrap().read_to_string(&mut text).unwrap();
        SshError { fault: SshFault::Other, text: text.lines().next().unwrap_or_default().into() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn with<T>(local: &Local, act: impl FnOnce(&Network<'_>) -> T) -> T {
    let transport = Transport::new(&Options::default()).unwrap();
    act(&Network { transport: &transport, is_interrupted: &|| false, ssh: Some(local) })
}

fn fetch(local: &Local, request: &GitRequest, directory: &Path) -> Result<Checkout, GitError> {
    with(local, |network| checkout(network, request, directory))
}

fn request(remote: String, reference: Option<&str>) -> GitRequest {
    let reference = reference.map(str::to_owned);
    GitRequest { remote, reference, submodules: true, ..GitRequest::default() }
}

fn shown(error: &GitError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// A parent with a submodule beside it, which has another version since.
fn world() -> (tempfile::TempDir, String) {
    let dir = scratch_dir("ssh-").unwrap();
    let child = GitRepository::init(&dir.path().join("child")).unwrap();
    child.write("inner", "of the child\n").unwrap();
    child.commit("child").unwrap();
    let parent = GitRepository::init(&dir.path().join("parent")).unwrap();
    parent.write("file", "first\n").unwrap();
    let first = parent.commit("first").unwrap();
    parent.git(&["tag", "-a", "-m", "a tag", "v1"]).unwrap();
    parent.write("file", "second\n").unwrap();
    parent.git(&["submodule", "--quiet", "add", "../child", "sub"]).unwrap();
    parent.commit("second").unwrap();
    child.write("inner", "newer\n").unwrap();
    child.commit("newer").unwrap();
    (dir, first)
}

#[test]
fn both_versions_of_the_protocol_give_what_git_gives() {
    let (dir, first) = world();
    let clone = dir.path().join("clone");
    let from = dir.path().join("parent");
    let output = git(dir.path())
        .args(["clone", "-q", "--recurse-submodules"])
        .args([&from, &clone])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in [".git", "sub/.git"] {
        let path = clone.join(name);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
    for is_first_version in [false, true] {
        let local = Local { is_first_version, ..Local::default() };
        let target = |name: &str| dir.path().join(format!("{name}-{is_first_version}"));
        let remote = format!("git@h.example:{}", from.display());
        let done = fetch(&local, &request(remote.clone(), None), &target("head")).unwrap();
        std::fs::remove_file(done.directory.join("sub/.git")).unwrap();
        assert_eq!(listing(&done.directory).unwrap(), listing(&clone).unwrap());
        let path = |name: &str| {
            format!("git h.example git-upload-pack '{}'", dir.path().join(name).display())
        };
        // One connection for each repository.
        assert_eq!(*local.asked.lock().unwrap(), [path("parent"), path("child")]);

        let tag = request(format!("ssh://h.example:22{}", from.display()), Some("v1"));
        let done = fetch(&local, &tag, &target("tag")).unwrap();
        assert_eq!(std::fs::read_to_string(done.directory.join("file")).unwrap(), "first\n");
        assert_eq!(done.commit.to_string(), first);
        let found = with(&local, |network| find_commit(network, &tag)).unwrap();
        assert_eq!(found.to_string(), first);
        let commit = request(remote, Some(&first));
        let done = fetch(&local, &commit, &target("commit")).unwrap();
        assert_eq!(done.commit.to_string(), first);
    }
}

#[test]
fn a_commit_that_is_refused_is_looked_for_in_a_new_connection() {
    let (dir, first) = world();
    let parent = dir.path().join("parent");
    let nothing = "0123456789012345678901234567890123456789";
    let local = Local::default();
    let remote = format!("h:{}", parent.display());
    let error = fetch(&local, &request(remote, Some(nothing)), &dir.path().join("a")).unwrap_err();
    let expected = format!(
        "cannot fetch the git repository `h:{}`: repository does not contain commit {nothing}",
        parent.display()
    );
    assert_eq!(shown(&error), expected);
    assert_eq!(local.asked.lock().unwrap().len(), 2);
    assert_ne!(nothing, first);
}

#[test]
fn who_ends_before_the_first_word_is_asked_why() {
    let dir = scratch_dir("ssh-").unwrap();
    let missing = dir.path().join("missing").display().to_string();
    let failure = |local: &Local, remote: String| {
        let out = scratch_dir("out-").unwrap();
        shown(&fetch(local, &request(remote, None), out.path()).unwrap_err())
    };
    let local = Local::default();
    let text = failure(&local, format!("ssh://git@h.example{missing}"));
    assert!(
        text.starts_with(&format!(
            "cannot fetch the git repository `ssh://h.example{missing}`: cannot reach it over SSH: fatal: "
        )),
        "{text}"
    );
    assert!(text.contains("does not appear to be a git repository"), "{text}");
    let text = failure(&local, "t0ken@unknown.example:a".into());
    let expected =
        "cannot fetch the git repository `unknown.example:a`: cannot reach it over SSH: who?";
    assert_eq!(text, expected);

    let transport = Transport::new(&Options::default()).unwrap();
    let network = Network { transport: &transport, is_interrupted: &|| false, ssh: None };
    let error =
        checkout(&network, &request("h:a".into(), None), &dir.path().join("out")).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("`ssh` in its PATH")), "{error:?}");
}

#[test]
fn what_is_reached_over_ssh_is_told_from_the_rest() {
    for remote in ["git@h:a", "h:a", "ssh://h/a", "git+ssh://h/a"] {
        assert!(is_over_ssh(remote), "{remote}");
    }
    for remote in ["https://h/a.git", "/a", "./a:b", "git://h/a", "ext::sh", "ssh://-x/a"] {
        assert!(!is_over_ssh(remote), "{remote}");
    }
}
