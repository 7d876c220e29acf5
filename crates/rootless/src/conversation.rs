//! Talking with a program of the machine's own for as long as it takes.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::ProgramError;

/// How often a wait for the program looks whether it shall go on.
const STEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// How long a program that closed its output may take to end.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How much of what it writes to standard error is kept: the end.
const KEPT: usize = 8 << 10;

/// A program of the machine's that is spoken with, through its standard input and output.
///
/// It has this process' user and directory, and no descriptor besides the three usual ones. As with
/// [`Program`](crate::Program): where a build replaces the machine's own files, it must be over before the first layer is
/// there. With this value the program ends, and whatever it started in its process group.
pub struct Conversation {
    child: Child,
    /// `None` when it has been told that nothing more comes.
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    patience: Duration,
    is_over: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Without what it says, which may be a secret.
impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conversation").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Conversation {
    /// Starts the program at `path` with exactly these arguments and this environment.
    ///
    /// A read or a write fails when nothing moves for as long as `patience`, and soon after `is_over` says so.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started.
    #[expect(clippy::disallowed_methods, reason = "this is the door for programs of the machine")]
    pub fn start(
        path: &Path,
        arguments: &[OsString],
        environment: &[(OsString, OsString)],
        patience: Duration,
        is_over: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Result<Self, ProgramError> {
        let start = |source| ProgramError::Start { source };
        let mut child = Command::new(path)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(start)?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut started = Self { child, stdin, stdout, stderr: None, patience, is_over };
        for pipe in
            [started.stdin.as_ref().map(AsFd::as_fd), started.stdout.as_ref().map(AsFd::as_fd)]
                .into_iter()
                .flatten()
        {
            rustix::io::ioctl_fionbio(pipe, true).map_err(|error| start(error.into()))?;
        }
        if let Some(stderr) = stderr {
            // It ends with the pipe, at the latest when the group is killed.
            let thread = std::thread::Builder::new().name("program".into());
            started.stderr = Some(thread.spawn(move || last_words(stderr)).map_err(start)?);
        }
        Ok(started)
    }

    /// Ends the program and gives the end of what it wrote to standard error. One that has closed its output may say why
    /// before.
    pub fn end(&mut self) -> Vec<u8> {
        (self.stdin, self.stdout) = (None, None);
        let deadline = Instant::now() + LAST_WORDS;
        while matches!(self.child.try_wait(), Ok(None))
            && Instant::now() < deadline
            && !(self.is_over)()
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }

    fn kill(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // Its group, as long as anybody is in it. What has ended already is no failure.
            killpg(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        self.child.wait().ok();
    }

    /// Does something with a pipe that does not block, as soon as it can be done.
    fn wait<T>(
        &self,
        pipe: impl AsFd,
        flags: PollFlags,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let start = Instant::now();
        loop {
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                done => return done,
            }
            if (self.is_over)() {
                return Err(io::Error::other("interrupted"));
            }
            if start.elapsed() >= self.patience {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match poll(&mut [PollFd::new(&pipe, flags)], Some(&STEP)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for Conversation {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(stdout) = &self.stdout else { return Ok(0) };
        self.wait(stdout, PollFlags::IN, || {
            rustix::io::read(stdout, &mut *buffer).map_err(io::Error::from)
        })
    }
}

impl Write for Conversation {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let Some(stdin) = &self.stdin else { return Err(io::ErrorKind::BrokenPipe.into()) };
        self.wait(stdin, PollFlags::OUT, || {
            rustix::io::write(stdin, buffer).map_err(io::Error::from)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.kill();
    }
}

fn last_words(mut stderr: ChildStderr) -> Vec<u8> {
    let mut kept = VecDeque::new();
    let mut buffer = [0; 4096];
    loop {
        match stderr.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return kept.into(),
            Ok(count) => {
                kept.extend(buffer.iter().take(count));
                kept.drain(..kept.len().saturating_sub(KEPT));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn sh(script: &str, patience: u64, is_over: &Arc<AtomicBool>) -> Conversation {
        let is_over = Arc::clone(is_over);
        Conversation::start(
            Path::new("/bin/sh"),
            &["-c".into(), script.into()],
            &[("ONLY".into(), "this".into())],
            Duration::from_millis(patience),
            Arc::new(move || is_over.load(Ordering::SeqCst)),
        )
        .unwrap()
    }

    fn line(from: &mut Conversation) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while from.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn it_answers_as_often_as_it_is_asked_and_its_last_words_are_kept() {
        let script = "while read word; do echo \"$word $ONLY $HOME\"; done; echo why >&2";
        let mut program = sh(script, 30_000, &Arc::default());
        for word in ["one", "two"] {
            writeln!(program, "{word}").unwrap();
            assert_eq!(line(&mut program), format!("{word} this "));
        }
        assert_eq!(program.end(), b"why\n");
        assert_eq!(program.read(&mut [0]).unwrap(), 0);
        assert_eq!(program.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn only_the_end_of_many_words_is_kept() {
        let mut program = sh("yes no | head -c 100000 >&2; echo end >&2", 30_000, &Arc::default());
        assert_eq!(program.read(&mut [0]).unwrap(), 0);
        let words = program.end();
        assert_eq!(words.len(), KEPT);
        assert!(words.ends_with(b"end\n"));
    }

    #[test]
    fn who_says_nothing_or_hears_nothing_is_not_waited_for_forever() {
        let mut program = sh("sleep 60", 200, &Arc::default());
        assert_eq!(program.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let error = program.write_all(&vec![0; 1 << 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "looks at a process of the machine")]
    fn a_wait_ends_when_it_is_over_and_nothing_is_left() {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut program = sh("sleep 61 & echo $!; wait", 30_000, &is_over);
        let sleeper = line(&mut program);
        is_over.store(true, Ordering::SeqCst);
        let start = Instant::now();
        assert_eq!(program.read(&mut [0]).unwrap_err().to_string(), "interrupted");
        assert!(start.elapsed() < Duration::from_secs(5));
        drop(program);
        let deadline = Instant::now() + Duration::from_secs(5);
        // Whoever inherits it has to look at its end, too.
        while std::fs::read_to_string(format!("/proc/{sleeper}/stat"))
            .is_ok_and(|text| !text.contains(") Z "))
        {
            assert!(Instant::now() < deadline, "process {sleeper} is left");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
