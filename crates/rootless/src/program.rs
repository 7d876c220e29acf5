//! Running a program of the machine's own, to its end: no guest, and no stranger either.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long is waited between two looks at a program that has closed its output and not ended.
const STEP: Duration = Duration::from_millis(5);

/// A program of the machine's, with everything that it gets.
///
/// It has this process' user and directory, and no descriptor besides the three usual ones; what it writes to standard
/// error is dropped. Where a build replaces the machine's own files, it must be run before the first layer is there:
/// afterwards anybody may have put it in place.
#[derive(Debug)]
pub struct Program<'a> {
    /// The file.
    pub path: &'a Path,
    /// Its arguments, without its name.
    pub arguments: &'a [&'a str],
    /// Its whole environment.
    pub environment: &'a [(OsString, OsString)],
    /// Its standard input.
    pub input: &'a [u8],
    /// How long it may take.
    pub timeout: Duration,
    /// How many bytes it may write.
    pub limit: usize,
}

/// A program ended by itself.
pub struct ProgramEnd {
    /// Whether its status was 0.
    pub is_success: bool,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
}

/// Without what it wrote, which may be a secret.
impl std::fmt::Debug for ProgramEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProgramEnd").field("is_success", &self.is_success).finish_non_exhaustive()
    }
}

/// A program did not do what it was started for. The messages are what follows its name.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ProgramError {
    #[error("cannot be started")]
    Start { source: io::Error },
    #[error("did not end in {} s", after.as_secs_f32())]
    TimedOut { after: Duration },
    #[error("wrote more than {limit} bytes")]
    TooLong { limit: usize },
    #[error("cannot be waited for")]
    Wait { source: io::Error },
}

impl Program<'_> {
    /// Starts the program and returns when it has ended. Whatever happens, nothing that it started in its process group
    /// is left.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started, takes too long or writes too much; it has been killed then.
    #[expect(clippy::disallowed_methods, reason = "this is the door for programs of the machine")]
    pub fn run(&self) -> Result<ProgramEnd, ProgramError> {
        let mut child = Command::new(self.path)
            .args(self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|source| ProgramError::Start { source })?;
        let outcome = self.attend(&mut child);
        if let Ok(pid) = i32::try_from(child.id()) {
            // Its group, as long as anybody is in it. What has ended already is no failure.
            killpg(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        match (outcome, child.wait()) {
            (Err(error), _) => Err(error),
            (Ok(_), Err(source)) => Err(ProgramError::Wait { source }),
            (Ok(stdout), Ok(status)) => Ok(ProgramEnd { is_success: status.success(), stdout }),
        }
    }

    /// Feeds the program, reads what it writes, and waits for it, all within the time that it has.
    fn attend(&self, child: &mut Child) -> Result<Vec<u8>, ProgramError> {
        let deadline = Instant::now() + self.timeout;
        let timed_out = || ProgramError::TimedOut { after: self.timeout };
        let wait = |source| ProgramError::Wait { source };
        if let Some(mut stdin) = child.stdin.take() {
            // It fits into the pipe. Who does not want to read it has closed it.
            stdin.write_all(self.input).ok();
        }
        let (sender, receiver) = channel();
        if let Some(stdout) = child.stdout.take() {
            let most = u64::try_from(self.limit).unwrap_or(u64::MAX).saturating_add(1);
            // It ends with the pipe, at the latest when the group is killed.
            std::thread::Builder::new()
                .name("program".into())
                .spawn(move || {
                    let mut bytes = Vec::new();
                    let read = stdout.take(most).read_to_end(&mut bytes).map(|_| bytes);
                    let _nobody_waits = sender.send(read);
                })
                .map_err(|source| ProgramError::Start { source })?;
        }
        let bytes = match receiver.recv_timeout(self.timeout) {
            Ok(read) => read.map_err(wait)?,
            Err(RecvTimeoutError::Timeout) => return Err(timed_out()),
            Err(RecvTimeoutError::Disconnected) => Vec::new(),
        };
        if bytes.len() > self.limit {
            return Err(ProgramError::TooLong { limit: self.limit });
        }
        while child.try_wait().map_err(wait)?.is_none() {
            if Instant::now() >= deadline {
                return Err(timed_out());
            }
            std::thread::sleep(STEP);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> String {
        let environment = [("ONLY".into(), "this".into())];
        let program = Program {
            path: Path::new("/bin/sh"),
            arguments: &["-c", script],
            environment: &environment,
            input: b"in",
            timeout: Duration::from_secs(if script.contains("sleep") { 1 } else { 30 }),
            limit: 1000,
        };
        match program.run() {
            Ok(ProgramEnd { is_success, stdout }) => {
                format!("{is_success} {}", String::from_utf8_lossy(&stdout))
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn it_gets_its_input_and_its_environment_and_its_end_is_told() {
        assert_eq!(sh("printf '%s %s' \"$(cat)\" \"$ONLY\"; echo no >&2"), "true in this");
        assert_eq!(sh("echo $HOME; exit 3"), "false \n");
        assert_eq!(sh("exec <&-; echo deaf"), "true deaf\n");
    }

    #[test]
    fn who_takes_too_long_or_writes_too_much_is_killed() {
        assert_eq!(sh("sleep 60"), "did not end in 1 s");
        // What is left in the background holds the pipe open.
        assert_eq!(sh("sleep 60 & echo gone"), "did not end in 1 s");
        assert_eq!(sh("exec >&-; sleep 60"), "did not end in 1 s");
        assert_eq!(sh("while :; do echo much; done"), "wrote more than 1000 bytes");
    }

    #[test]
    fn what_is_not_there_cannot_be_started() {
        let program = Program {
            path: Path::new("/no/such/program"),
            arguments: &[],
            environment: &[],
            input: b"",
            timeout: Duration::from_secs(1),
            limit: 1,
        };
        assert!(matches!(program.run(), Err(ProgramError::Start { .. })));
    }
}
