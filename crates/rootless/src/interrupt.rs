//! How a signal to the builder reaches a running step.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SigSet, Signal};
use rustix::event::EventfdFlags;

/// Signals that ask the builder to stop.
pub(crate) const STOPPING: [Signal; 4] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Tells everything that waits that the build shall stop. Once raised it stays raised.
///
/// A descriptor rather than a callback, so that whoever waits for a process or a pipe can wait for
/// both.
#[derive(Debug)]
pub struct Interrupt {
    event: OwnedFd,
    /// 0 until raised.
    signal: AtomicI32,
}

impl Interrupt {
    /// One that nobody has raised.
    pub fn new() -> io::Result<Self> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { event, signal: AtomicI32::new(0) })
    }

    /// Asks the build to stop because of `signal`. The first signal is the one that is remembered.
    pub fn raise(&self, signal: i32) {
        if self.signal.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            // A counter at its maximum cannot be written to, and is as readable as it needs to be.
            rustix::io::write(&self.event, &1_u64.to_ne_bytes()).ok();
        }
    }

    /// The signal, once one was raised.
    pub fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal),
        }
    }
}

impl AsFd for Interrupt {
    /// Readable from the moment the interrupt is raised.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// INT, TERM, HUP and QUIT, kept from ending the process so that one thread can wait for them.
#[derive(Debug)]
pub struct HeldSignals {
    set: SigSet,
}

impl HeldSignals {
    /// Holds the signals in this thread and in every thread that it starts from now on.
    ///
    /// To be called before the program has a second thread. Processes that [`run`](crate::run)
    /// starts are not affected.
    pub fn hold() -> io::Result<Self> {
        let set: SigSet = STOPPING.into_iter().collect();
        set.thread_block()?;
        Ok(Self { set })
    }

    /// Waits for the next of the signals and returns its number.
    pub fn wait(&self) -> io::Result<i32> {
        Ok(self.set.wait()? as i32)
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_readable(interrupt: &Interrupt) -> bool {
        let mut fds = [PollFd::new(interrupt, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn an_interrupt_stays_raised_and_remembers_the_first_signal() {
        let interrupt = Interrupt::new().unwrap();
        assert_eq!((interrupt.signal(), is_readable(&interrupt)), (None, false));
        interrupt.raise(15);
        interrupt.raise(2);
        assert_eq!((interrupt.signal(), is_readable(&interrupt)), (Some(15), true));
    }

    #[test]
    fn a_held_signal_is_waited_for_instead_of_ending_the_process() {
        let held = HeldSignals::hold().unwrap();
        nix::sys::signal::raise(Signal::SIGTERM).unwrap();
        assert_eq!(held.wait().unwrap(), 15);
        held.set.thread_unblock().unwrap();
    }
}
