//! What is known of threads that asked a moment ago.
//!
//! Where a thread is costs a look into `/proc`, and most calls come from the thread that made the one before. Its working
//! directory is still the same when nobody has gone elsewhere meanwhile, and every call that goes elsewhere is asked about. In
//! the same way, the directory in which it made a file is still one that makes no difference to the next.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::calls::{self, Voids};

/// How many threads are remembered.
const REMEMBERED: usize = 4;

/// As many threads may be changing something before the kernel is asked whether they still do.
const MOST_CHANGING: usize = 64;

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
    base: Option<Base>,
    /// A path, relative to where the thread is or absolute, of a directory that does not hand on its group, and in which the
    /// kernel makes what the guest means.
    plain: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
pub(super) struct Lately {
    known: RefCell<Vec<Known>>,
    /// Threads that were told to go on with a call by which something may not be as it was.
    changing: RefCell<Vec<(u32, Voids)>>,
}

impl Lately {
    /// To be called for each call of a thread.
    pub(super) fn asks(&self, thread: u32, call: libc::c_long) {
        let mut changing = self.changing.borrow_mut();
        changing.retain(|&(other, _)| other != thread);
        let voids = calls::voids(call);
        if voids == Voids::Nothing {
            return;
        }
        if changing.len() >= MOST_CHANGING {
            // Who has ended never asks again.
            changing.retain(|&(thread, _)| still_changes(thread));
        }
        changing.push((thread, voids));
        let mut known = self.known.borrow_mut();
        if voids == Voids::Everything {
            known.clear();
        }
        for known in known.iter_mut() {
            known.plain = None;
        }
    }

    /// Where a thread is, if that is known.
    pub(super) fn base_of(&self, thread: u32, now: Instant) -> Option<Base> {
        self.of(thread, now, |known| known.base.clone()).flatten()
    }

    /// Whether a directory is known to make no difference.
    pub(super) fn is_plain(&self, thread: u32, path: &[u8], now: Instant) -> bool {
        let is_it = |known: &mut Known| known.plain.as_deref() == Some(path);
        self.of(thread, now, is_it).unwrap_or(false)
    }

    fn of<T>(&self, thread: u32, now: Instant, tell: impl FnOnce(&mut Known) -> T) -> Option<T> {
        let mut known = self.known.borrow_mut();
        known.retain(|known| now.duration_since(known.asked) < MOMENT);
        let known = known.iter_mut().find(|known| known.thread == thread)?;
        known.asked = now;
        Some(tell(known))
    }

    /// Whether nobody is about to make void as much as `what`. Only what is found out after that can be remembered.
    pub(super) fn is_settled(&self, what: Voids) -> bool {
        let mut changing = self.changing.borrow_mut();
        changing.retain(|&(thread, voids)| voids < what || still_changes(thread));
        changing.iter().all(|&(_, voids)| voids < what)
    }

    /// Remembers where a thread is.
    pub(super) fn remember_base(&self, thread: u32, base: &Base, now: Instant) {
        self.remember(thread, now, |known| known.base = Some(base.clone()));
    }

    /// Remembers that a directory makes no difference.
    pub(super) fn remember_plain(&self, thread: u32, path: &[u8], now: Instant) {
        self.remember(thread, now, |known| known.plain = Some(path.to_vec()));
    }

    fn remember(&self, thread: u32, now: Instant, what: impl Fn(&mut Known)) {
        if self.of(thread, now, &what).is_none() {
            let mut new = Known { thread, asked: now, base: None, plain: None };
            what(&mut new);
            let mut known = self.known.borrow_mut();
            known.truncate(REMEMBERED - 1);
            known.insert(0, new);
        }
    }
}

/// Whether a thread may still be in such a call: it is running, or waits there.
#[expect(clippy::disallowed_methods, reason = "asks the kernel about a process")]
fn still_changes(thread: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{thread}/syscall")) {
        Ok(text) => {
            let number = text.split(' ').next().and_then(|number| number.trim_end().parse().ok());
            number.is_none_or(|number| calls::voids(number) != Voids::Nothing)
        }
        Err(_) => rustix::fs::stat(format!("/proc/{thread}")).is_ok(),
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
        lately.remember_base(1, &Base::Top, now);
        lately.asks(1, libc::SYS_openat);
        assert!(knows(&lately, 1, now) && !knows(&lately, 2, now));
        lately.asks(2, libc::SYS_fchdir);
        assert!(!knows(&lately, 1, now));
    }

    #[test]
    fn a_directory_is_plain_until_anybody_changes_directories() {
        let (lately, now) = (Lately::default(), Instant::now());
        let is_plain = |path: &[u8]| lately.is_plain(1, path, now);
        for change in [libc::SYS_renameat2, libc::SYS_unlinkat, libc::SYS_fchmodat] {
            lately.remember_base(1, &Base::Top, now);
            lately.remember_plain(1, b"a/", now);
            lately.asks(2, libc::SYS_openat);
            assert!(is_plain(b"a/") && !is_plain(b"b/") && !lately.is_plain(2, b"a/", now));
            lately.asks(2, change);
            assert!(!is_plain(b"a/") && knows(&lately, 1, now), "{change}");
        }
        lately.remember_plain(1, b"a/", now);
        lately.asks(1, libc::SYS_chdir);
        assert!(!is_plain(b"a/"));
    }

    #[test]
    fn no_more_threads_are_remembered_than_ask_in_turn() {
        let (lately, now) = (Lately::default(), Instant::now());
        for thread in 0..10 {
            lately.remember_base(thread, &Base::Top, now);
        }
        let known = (0..10).filter(|&thread| knows(&lately, thread, now)).count();
        assert_eq!(known, REMEMBERED);
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
            let was_settled = lately.is_settled(Voids::Directories);
            lately.asks(mover, libc::SYS_openat);
            let is_settled = lately.is_settled(Voids::Directories);
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
            while !lately.is_settled(Voids::Directories) && Instant::now() < deadline {}
            let is_settled = lately.is_settled(Voids::Directories);
            is_over.wait();
            assert!(is_settled);
        });
    }

    #[test]
    fn who_removes_files_stays_where_it_is() {
        let lately = Lately::default();
        // It waits for the answer, as far as anybody can tell.
        lately.changing.borrow_mut().push((
            rustix::process::getpid().as_raw_nonzero().get().cast_unsigned(),
            Voids::Directories,
        ));
        assert!(lately.is_settled(Voids::Everything));
        lately.asks(NOBODY, libc::SYS_unlinkat);
        assert!(lately.is_settled(Voids::Everything));
    }

    #[test]
    fn who_is_gone_moves_no_more() {
        let lately = Lately::default();
        lately.asks(NOBODY, libc::SYS_execve);
        assert!(lately.is_settled(Voids::Directories));
    }

    #[test]
    fn nobody_is_known_for_long() {
        let (lately, now) = (Lately::default(), Instant::now());
        lately.remember_base(1, &Base::Top, now);
        let soon = now + MOMENT / 2;
        assert!(knows(&lately, 1, soon));
        assert!(knows(&lately, 1, soon + MOMENT / 2), "it has asked again");
        assert!(!knows(&lately, 1, soon + 2 * MOMENT));
    }
}
