//! Which process is whom.
//!
//! Processes come and go, and a child must be whom its parent was at the moment of the fork, also when the parent is
//! gone before the child first asks. Only the kernel knows that moment. So the number of an identity is kept where the
//! kernel copies it at a fork, keeps it at an exec and lets nobody else at it: in the soft limit of file locks, which
//! no Linux since 2.4 enforces (getrlimit(2)), and which the filter keeps guests from setting.

use std::collections::HashMap;
use std::sync::Arc;

use super::credentials::Identity;

/// Far more than a step needs, and a bound for what it can make the builder remember.
const MOST: u64 = 1 << 20;

/// The highest value that is used; every value fits beneath a limit that is infinite.
const HIGHEST: u64 = 1 << 62;

/// The identities of a step, by numbers.
#[derive(Debug)]
pub(crate) struct Identities {
    known: Vec<Arc<Identity>>,
    numbers: HashMap<Arc<Identity>, u64>,
    base: u64,
}

/// The soft limit that stands for the first identity, given the hard limit; `None` where there is no room.
pub(crate) fn base(hard: u64) -> Option<u64> {
    let base = hard.min(HIGHEST);
    (base > MOST).then_some(base)
}

/// The hard limit of file locks of this process.
#[expect(unsafe_code, reason = "libraries leave this limit out, as it has no effect")]
pub(crate) fn hard_limit() -> Result<u64, i32> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes the struct.
    let result =
        unsafe { libc::prlimit64(0, libc::RLIMIT_LOCKS, std::ptr::null(), &raw mut limit) };
    if result == 0 { Ok(limit.rlim_max) } else { Err(crate::child::errno()) }
}

/// Marks this process, or the thread group of `pid`, with a soft limit. Async-signal-safe.
#[expect(unsafe_code, reason = "as above")]
pub(crate) fn mark(pid: libc::pid_t, soft: u64) -> Result<(), i32> {
    // SAFETY: the kernel writes the struct, and then reads it.
    unsafe {
        let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
        if libc::prlimit64(pid, libc::RLIMIT_LOCKS, std::ptr::null(), &raw mut limit) != 0 {
            return Err(crate::child::errno());
        }
        limit.rlim_cur = soft;
        if libc::prlimit64(pid, libc::RLIMIT_LOCKS, &raw const limit, std::ptr::null_mut()) != 0 {
            return Err(crate::child::errno());
        }
    }
    Ok(())
}

#[expect(unsafe_code, reason = "as above")]
/// The mark of the thread group of `pid`.
pub(crate) fn marked(pid: libc::pid_t) -> Result<u64, i32> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes the struct.
    let result =
        unsafe { libc::prlimit64(pid, libc::RLIMIT_LOCKS, std::ptr::null(), &raw mut limit) };
    if result == 0 { Ok(limit.rlim_cur) } else { Err(crate::child::errno()) }
}

/// Whether a process is one of a step's. The builder has no mark, and is none whatever its limit is.
pub(crate) fn is_guest(process: u32) -> bool {
    let is_own = rustix::fs::stat(format!("/proc/self/task/{process}")).is_ok();
    !is_own
        && libc::pid_t::try_from(process)
            .is_ok_and(|pid| marked(pid).is_ok_and(|soft| soft <= HIGHEST))
}

impl Identities {
    /// `first` is who the step begins as, and `base` what [`base`] says.
    pub(crate) fn new(first: Identity, base: u64) -> Self {
        let first = Arc::new(first);
        Self { known: vec![Arc::clone(&first)], numbers: HashMap::from([(first, 0)]), base }
    }

    /// Who a process is.
    ///
    /// # Errors
    ///
    /// `ESRCH` where it is gone, or is none of the step's.
    pub(crate) fn of(&self, pid: u32) -> Result<Arc<Identity>, i32> {
        let pid = libc::pid_t::try_from(pid).map_err(|_| libc::ESRCH)?;
        let number = self.base.checked_sub(marked(pid)?).ok_or(libc::ESRCH)?;
        let known = usize::try_from(number).ok().and_then(|number| self.known.get(number));
        known.cloned().ok_or(libc::ESRCH)
    }

    /// Who a process of the step is.
    ///
    /// # Errors
    ///
    /// As for [`Self::of`].
    pub(crate) fn of_guest(&self, pid: u32) -> Result<Arc<Identity>, i32> {
        match self.known.as_slice() {
            // Nobody has become somebody else yet, so the kernel need not be asked.
            [only] => Ok(Arc::clone(only)),
            _ => self.of(pid),
        }
    }

    /// Makes a process somebody.
    ///
    /// # Errors
    ///
    /// `EAGAIN` where there were too many different ones.
    pub(crate) fn set(&mut self, pid: u32, identity: Identity) -> Result<(), i32> {
        let pid = libc::pid_t::try_from(pid).map_err(|_| libc::ESRCH)?;
        let number = if let Some(&number) = self.numbers.get(&identity) {
            number
        } else {
            let number = u64::try_from(self.known.len()).unwrap_or(u64::MAX);
            if number >= MOST {
                return Err(libc::EAGAIN);
            }
            let identity = Arc::new(identity);
            self.known.push(Arc::clone(&identity));
            self.numbers.insert(identity, number);
            number
        };
        mark(pid, self.base - number)
    }
}
