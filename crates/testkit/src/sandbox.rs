//! The program on this machine, in an environment that holds nothing but the test.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Tree;
use crate::command::{Captured, code_of, wait_until};

/// A working directory, a HOME and a TMPDIR of their own, and the program with a scrubbed environment.
///
/// Paths given to its methods are relative to the working directory, in which the program starts. Everything is deleted
/// with the value.
#[derive(Debug)]
pub struct Sandbox {
    dir: tempfile::TempDir,
    binary: PathBuf,
    env: BTreeMap<OsString, OsString>,
    timeout: Duration,
}

impl Sandbox {
    /// A new sandbox for `binary`, usually `env!("CARGO_BIN_EXE_ebiko")`.
    ///
    /// # Panics
    ///
    /// Panics if the directories cannot be made.
    #[track_caller]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let dir = crate::scratch_dir("sandbox-").expect("a temporary directory can be made");
        let mut env = BTreeMap::from([(
            "PATH".into(),
            "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
        )]);
        for (key, name) in [("HOME", "home"), ("TMPDIR", "tmp")] {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).expect("a directory can be made in the sandbox");
            env.insert(key.into(), path.into());
        }
        std::fs::create_dir(dir.path().join("work"))
            .expect("a directory can be made in the sandbox");
        Self { dir, binary: binary.into(), env, timeout: Duration::from_mins(2) }
    }

    /// Adds a variable to the program's environment.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(key.into(), value.into());
        self
    }

    /// The program's HOME.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// A path in the working directory.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("work").join(path)
    }

    /// Whether something has this name, a dangling link included.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// Writes one file, and its parents.
    ///
    /// # Panics
    ///
    /// Panics if that fails.
    #[track_caller]
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        self.tree(&Tree::new().file(path.as_ref(), content));
    }

    /// Writes a tree into the working directory.
    ///
    /// # Panics
    ///
    /// Panics if that fails.
    #[track_caller]
    pub fn tree(&self, tree: &Tree) {
        if let Err(error) = tree.write_to(&self.path("")) {
            panic!("{error:#}");
        }
    }

    /// The text of a file in the working directory.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be read.
    #[track_caller]
    pub fn read(&self, path: impl AsRef<Path>) -> String {
        let path = self.path(path);
        std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read `{}`: {error}", path.display()))
    }

    /// Runs the program to its end, or for two minutes at most.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be started or does not end.
    #[track_caller]
    #[must_use = "an output that nobody looks at tests nothing"]
    pub fn ebiko<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        let mut command = Command::new(&self.binary);
        command.args(args).env_clear().envs(&self.env).current_dir(self.path(""));
        self.run(&mut command)
    }

    #[track_caller]
    fn run(&self, command: &mut Command) -> Output {
        let mut captured = Captured::attach(command).expect("files for the output can be made");
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start `{}`: {error}", self.binary.display()));
        let status = wait_until(&mut child, Instant::now() + self.timeout, || {})
            .expect("a child can be waited for");
        if status.is_none() {
            // Fails only if the child has just ended.
            drop(child.kill());
            drop(child.wait());
        }
        let (stdout, stderr) = captured.read().expect("the output can be read back");
        let hide = |text: String| text.replace(&*self.dir.path().to_string_lossy(), "[SANDBOX]");
        let (stdout, stderr) = (hide(stdout), hide(stderr));
        match status {
            Some(status) => Output { code: code_of(status), stdout, stderr },
            None => panic!("the program did not end in {:?}\n{stdout}{stderr}", self.timeout),
        }
    }
}

/// What the program said; the sandbox's own path reads `[SANDBOX]`.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code, 128 + N after signal N.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Returns itself after checking the exit code.
    ///
    /// # Panics
    ///
    /// Panics with the whole output when the program failed.
    #[track_caller]
    #[expect(clippy::return_self_not_must_use, reason = "the check is worth the call already")]
    pub fn assert_success(self) -> Self {
        assert_eq!(self.code, 0, "the program failed\n{self}");
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "exit code: {}", self.code)?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                writeln!(f, "----- {name} -----")?;
                f.write_str(text)?;
                if !text.ends_with('\n') {
                    f.write_str("\n")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_sees_only_the_sandbox() {
        let sandbox = Sandbox::new("/usr/bin/env").env("EXTRA", "1");
        let output = sandbox.ebiko([] as [&str; 0]).assert_success();
        let mut lines: Vec<&str> = output.stdout.lines().collect();
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "EXTRA=1",
                "HOME=[SANDBOX]/home",
                "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TMPDIR=[SANDBOX]/tmp"
            ]
        );
    }

    #[test]
    fn an_output_prints_its_code_and_both_streams() {
        let sandbox = Sandbox::new("/bin/sh");
        sandbox.write("script", "echo out; echo err >&2; exit 3");
        assert_eq!(
            sandbox.ebiko(["script"]).to_string(),
            "exit code: 3\n----- stdout -----\nout\n----- stderr -----\nerr\n"
        );
    }
}
