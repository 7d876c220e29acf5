//! The working directories of threads that asked a moment ago.
//!
//! Where a thread is costs a look into `/proc`, and most calls come from the thread that made the one before. Its working
//! directory is still the same when nobody has gone elsewhere meanwhile, and every call that goes elsewhere is asked about.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::calls;

/// How many threads are remembered.
const REMEMBERED: usize = 4;

/// How long a thread is remembered after it has asked. Its number cannot be another one's so soon: the kernel gives all others
/// first, and there are 300 at least.
const MOMENT: Duration = Duration::from_millis(1);

/// Where a thread's relative paths begin.
#[derive(Debug, Clone)]
pub(super) enum Base {
    /// At `/`, which is not the guest's root.
    Top,
    Directory(Arc<OwnedFd>),
}

#[derive(Debug)]
struct Known {
    thread: u32,
    asked: Instant,
    base: Base,
}

#[derive(Debug, Default)]
pub(super) struct Lately {
    known: RefCell<Vec<Known>>,
    /// Threads that were told to go on with a call by which they, or others of their process, may be elsewhere.
    movers: RefCell<Vec<u32>>,
}

impl Lately {
    /// To be called for each call of a thread.
    pub(super) fn asks(&self, thread: u32, call: libc::c_long) {
        let mut movers = self.movers.borrow_mut();
        movers.retain(|&mover| mover != thread);
        if calls::moves(call) {
            movers.push(thread);
            self.known.borrow_mut().clear();
        }
    }

    /// Where a thread is, if that is known.
    pub(super) fn base_of(&self, thread: u32, now: Instant) -> Option<Base> {
        let mut known = self.known.borrow_mut();
        known.retain(|known| now.duration_since(known.asked) < MOMENT);
        let known = known.iter_mut().find(|known| known.thread == thread)?;
        known.asked = now;
        Some(known.base.clone())
    }

    /// Whether nobody is about to move. Only what is found out after that can be remembered.
    pub(super) fn is_settled(&self) -> bool {
        let mut movers = self.movers.borrow_mut();
        movers.retain(|&mover| still_moves(mover));
        movers.is_empty()
    }

    /// Remembers where a thread is.
    pub(super) fn remember(&self, thread: u32, base: &Base, now: Instant) {
        let mut known = self.known.borrow_mut();
        known.retain(|known| known.thread != thread);
        known.truncate(REMEMBERED - 1);
        known.insert(0, Known { thread, asked: now, base: base.clone() });
    }
}

/// Whether a thread may still be in such a call: it is running, or waits there.
#[expect(clippy::disallowed_methods, reason = "asks the kernel about a process")]
fn still_moves(mover: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{mover}/syscall")) {
        Ok(text) => {
            let number = text.split(' ').next().and_then(|number| number.trim_end().parse().ok());
            number.is_none_or(calls::moves)
        }
        Err(_) => rustix::fs::stat(format!("/proc/{mover}")).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Barrier, mpsc};

    use super::*;

    const NOBODY: u32 = u32::MAX;

    fn knows(lately: &Lately, thread: u32, now: Instant) -> bool {
        lately.base_of(thread, now).is_some()
    }

    #[test]
    fn a_thread_is_known_until_anybody_moves() {
        let (lately, now) = (Lately::default(), Instant::now());
        lately.remember(1, &Base::Top, now);
        lately.asks(1, libc::SYS_openat);
        assert!(knows(&lately, 1, now) && !knows(&lately, 2, now));
        lately.asks(2, libc::SYS_fchdir);
        assert!(!knows(&lately, 1, now));
    }

    #[test]
    fn nothing_is_settled_while_somebody_may_move() {
        let lately = Lately::default();
        let (is_over, (tell, number)) = (AtomicBool::new(false), mpsc::channel());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let thread = rustix::thread::gettid().as_raw_nonzero().get();
                tell.send(thread.cast_unsigned()).unwrap();
                // It runs, so that nobody can say whether it has arrived.
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            let mover = number.recv().unwrap();
            lately.asks(mover, libc::SYS_chdir);
            let was_settled = lately.is_settled();
            lately.asks(mover, libc::SYS_openat);
            let is_settled = lately.is_settled();
            is_over.store(true, Ordering::Relaxed);
            assert!(!was_settled, "others may share the directory with the mover");
            assert!(is_settled, "the mover has arrived");
        });
    }

    #[test]
    fn who_waits_somewhere_else_has_arrived() {
        let lately = Lately::default();
        let (is_over, (tell, number)) = (Barrier::new(2), mpsc::channel());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let thread = rustix::thread::gettid().as_raw_nonzero().get();
                tell.send(thread.cast_unsigned()).unwrap();
                is_over.wait();
            });
            let mover = number.recv().unwrap();
            lately.asks(mover, libc::SYS_chdir);
            let deadline = Instant::now() + Duration::from_secs(10);
            // It takes a moment until it waits.
            while !lately.is_settled() && Instant::now() < deadline {}
            let is_settled = lately.is_settled();
            is_over.wait();
            assert!(is_settled);
        });
    }

    #[test]
    fn who_is_gone_moves_no_more() {
        let lately = Lately::default();
        lately.asks(NOBODY, libc::SYS_execve);
        assert!(lately.is_settled());
    }

    #[test]
    fn nobody_is_known_for_long() {
        let (lately, now) = (Lately::default(), Instant::now());
        lately.remember(1, &Base::Top, now);
        let soon = now + MOMENT / 2;
        assert!(knows(&lately, 1, soon));
        assert!(knows(&lately, 1, soon + MOMENT / 2), "it has asked again");
        assert!(!knows(&lately, 1, soon + 2 * MOMENT));
    }
}
