//! Watching a guest: its output, its end, and the end of what it leaves behind.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, poll};

use crate::Interrupt;
use crate::caller::LONGEST_PATH;
use crate::message::{Failed, MESSAGE_LENGTH, Message};
use crate::supervisor::ALARM;
use crate::tree::{self, Parents};

/// Which of its two streams a guest wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Stream {
    Stdout,
    Stderr,
}

/// How a guest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With this status.
    Exited(i32),
    /// By this signal, which was not the builder's.
    Signalled(i32),
    /// It was ended together with its init, the process between it and the builder. In place a
    /// command that runs as root can do that, with `kill -9 $PPID`.
    InitKilled,
    /// It was killed because the builder was asked to stop by this signal.
    Interrupted(i32),
}

/// Why watching stopped early.
pub(crate) enum WatchError {
    Failed(Failed, i32),
    Io(io::Error),
    Leftovers(Vec<i32>),
    /// Calls were not answered as they had to be: those with this path, if that was it.
    Emulation(Vec<u8>),
}

/// A guest that runs.
pub(crate) struct Watch<'a> {
    pub(crate) init: Pid,
    /// Whether it shares its process namespace with the builder.
    pub(crate) in_place: bool,
    /// The processes that were there before.
    pub(crate) others: Parents,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) status: OwnedFd,
    /// Readable when who answers the guest's calls has failed.
    pub(crate) failure: Option<OwnedFd>,
    pub(crate) interrupt: &'a Interrupt,
}

/// As much as a pipe holds.
const BUFFER_SIZE: usize = 64 * 1024;

/// How long to wait after a round of killing: short at first, because most commands leave nothing
/// behind.
fn pause(round: u32) -> Duration {
    if round < 20 { Duration::from_micros(500) } else { Duration::from_millis(5) }
}

/// About ten seconds: who is not dead by then waits in the kernel for something that does not come.
const ROUNDS: u32 = 2000;

impl Watch<'_> {
    /// Passes output on until the command has ended or the builder shall stop; then ends the
    /// others.
    pub(crate) fn until_all_ended(
        self,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Outcome, WatchError> {
        for stream in [&self.stdout, &self.stderr, &self.status] {
            rustix::io::ioctl_fionbio(stream, true)
                .map_err(|error| WatchError::Io(error.into()))?;
        }
        let mut pipes = Pipes { open: [true; 2], buffer: vec![0; BUFFER_SIZE] };
        let ended = self.until_told(&mut pipes, output);
        let swept = self.sweep(&mut pipes, output);
        // Nobody is left to write, so what is in the pipes is all.
        pipes.drain(&self, output);
        let ended = ended?;
        swept?;
        ended
    }

    /// The inner result is how the command ended; the outer one whether watching worked.
    fn until_told(
        &self,
        pipes: &mut Pipes,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Result<Outcome, WatchError>, WatchError> {
        loop {
            // An ended stream is always ready, so nothing is asked of it any more.
            let streams = [(0, &self.stdout), (1, &self.stderr)]
                .into_iter()
                .filter(|&(index, _)| pipes.open[index]);
            let (indices, streams): (Vec<_>, Vec<_>) = streams.unzip();
            let mut fds = vec![
                PollFd::new(&self.status, PollFlags::IN),
                PollFd::new(self.interrupt, PollFlags::IN),
            ];
            fds.extend(streams.iter().map(|stream| PollFd::new(*stream, PollFlags::IN)));
            fds.extend(self.failure.iter().map(|failure| PollFd::new(failure, PollFlags::IN)));
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(WatchError::Io(error.into())),
            }
            let mut ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            let failed = self.failure.is_some() && ready.pop().unwrap_or_default();
            for ((index, stream), _) in
                indices.into_iter().zip(streams).zip(&ready[2..]).filter(|(_, ready)| **ready)
            {
                pipes.read(index, stream, output);
            }
            let (told, stop) = (ready[0], ready[1]);
            if failed {
                // A command that was never started says why; what became of any other does not count.
                let ending = self.hear();
                let never_started = matches!(ending, Some(Err(WatchError::Failed(..))));
                let failed = || Err(WatchError::Emulation(self.alarm()));
                return Ok(ending.filter(|_| never_started).unwrap_or_else(failed));
            }
            if told && let Some(ending) = self.hear() {
                return Ok(ending);
            }
            if stop {
                return Ok(Ok(Outcome::Interrupted(
                    self.interrupt.signal().unwrap_or(libc::SIGTERM),
                )));
            }
        }
    }

    /// The path that an alarm is about, if it is about one.
    fn alarm(&self) -> Vec<u8> {
        let mut bytes = vec![0; 1 + LONGEST_PATH];
        let count =
            self.failure.as_ref().map_or(Ok(0), |failure| rustix::io::read(failure, &mut bytes));
        bytes.truncate(count.unwrap_or_default());
        bytes.strip_prefix(&[ALARM]).unwrap_or_default().to_vec()
    }

    /// What the init says about the command, if it has said all of it.
    fn hear(&self) -> Option<Result<Outcome, WatchError>> {
        let mut bytes = [0; MESSAGE_LENGTH];
        match rustix::io::read(&self.status, &mut bytes) {
            Ok(MESSAGE_LENGTH) => match Message::decode(bytes)? {
                Message::Failed(what, error) => Some(Err(WatchError::Failed(what, error))),
                Message::Exited(status) => Some(Ok(Outcome::Exited(status))),
                Message::Signalled(signal) => Some(Ok(Outcome::Signalled(signal))),
            },
            // The init was killed; only that is known. In a private root nobody inside can do it.
            Ok(_) if self.in_place => Some(Ok(Outcome::InitKilled)),
            Ok(_) => Some(Ok(Outcome::Signalled(libc::SIGKILL))),
            Err(_) => None,
        }
    }

    /// Ends everything that the guest started and waits until it is gone.
    fn sweep(
        &self,
        pipes: &mut Pipes,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<(), WatchError> {
        let mut init = Init::Lives;
        for round in 0..ROUNDS {
            if self.in_place {
                let found = self.guests(init);
                tree::kill_all(&found);
                if init == Init::WasKilled {
                    if found.is_empty() {
                        return Ok(());
                    }
                    // Without their init they are the builder's to reap.
                    for &pid in &found {
                        waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)).ok();
                    }
                }
            } else {
                // The kernel kills the whole namespace with its first process.
                kill(self.init, Signal::SIGKILL).ok();
            }
            if init == Init::Lives {
                match waitpid(self.init, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                    Ok(WaitStatus::Signaled(..)) if self.in_place => init = Init::WasKilled,
                    // It ends by itself when no child is left.
                    Ok(_) | Err(_) => return Ok(()),
                }
            }
            // A process that waits for somebody to read what it wrote can still be killed; what it
            // wrote is kept.
            pipes.drain(self, output);
            std::thread::sleep(pause(round));
        }
        let left = self.guests(init);
        kill(self.init, Signal::SIGKILL).ok();
        Err(WatchError::Leftovers(left.into_iter().collect()))
    }

    /// The guest's processes in the builder's own namespace.
    fn guests(&self, init: Init) -> BTreeSet<i32> {
        let now = tree::processes();
        if init == Init::Lives {
            return tree::descendants(&now, self.init.as_raw());
        }
        // The orphans are the builder's now, which had other children before.
        let mut found = tree::descendants(&now, nix::unistd::getpid().as_raw());
        found.retain(|pid| !self.others.contains_key(pid));
        found
    }
}

/// What is known of a guest's init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Init {
    Lives,
    /// In place, a guest that is root may kill it.
    WasKilled,
}

/// The two output streams.
struct Pipes {
    open: [bool; 2],
    buffer: Vec<u8>,
}

impl Pipes {
    /// Passes one buffer on; whether there may be more.
    fn read(
        &mut self,
        index: usize,
        from: &OwnedFd,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> bool {
        if !self.open[index] {
            return false;
        }
        match rustix::io::read(from, &mut self.buffer) {
            Ok(0) => self.open[index] = false,
            Ok(count) => {
                let stream = if index == 0 { Stream::Stdout } else { Stream::Stderr };
                output(stream, &self.buffer[..count]);
                return true;
            }
            Err(rustix::io::Errno::INTR) => return true,
            Err(_) => {}
        }
        false
    }

    /// Passes on what is there now.
    fn drain(&mut self, watch: &Watch<'_>, output: &mut dyn FnMut(Stream, &[u8])) {
        for (index, stream) in [&watch.stdout, &watch.stderr].into_iter().enumerate() {
            // A guest that writes without end must not keep this from ending it.
            for _ in 0..1024 {
                if !self.read(index, stream, output) {
                    break;
                }
            }
        }
    }
}
