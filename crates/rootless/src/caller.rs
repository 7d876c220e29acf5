//! The process whose system call waits for an answer: its memory, its links, its descriptors.

#![expect(
    clippy::disallowed_methods,
    reason = "asks the kernel where a path of another process leads"
)]

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use crate::emulation::{Answer, Top};

/// As long as a path may be, with the byte that ends it.
pub(crate) const LONGEST_PATH: usize = 4096;

/// A page may be the last one that can be read.
const PAGE: u64 = 4096;

/// How much is read of a path at first: most are shorter.
const FIRST_PIECE: u64 = 256;

pub(crate) struct Caller<'a> {
    listener: &'a OwnedFd,
    request: &'a libc::seccomp_notif,
    /// Whether the kernel did not let this process look into it.
    is_closed: Cell<bool>,
    top: Option<Arc<Top>>,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(
        listener: &'a OwnedFd,
        request: &'a libc::seccomp_notif,
        top: Option<Arc<Top>>,
    ) -> Self {
        Self { listener, request, is_closed: Cell::new(false), top }
    }

    /// Where its paths lead, if not to where they lead for the builder.
    pub(crate) fn top(&self) -> Option<&Top> {
        self.top.as_deref()
    }

    /// Whether the kernel did not let this process look into it.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Makes this thread, and no other, see the mounts of the process, whose `/` becomes its own.
    pub(crate) fn enter_mounts(&self) -> io::Result<()> {
        use nix::sched::{CloneFlags, setns, unshare};

        let entered = std::fs::File::open(format!("/proc/{}/ns/mnt", self.request.pid)).and_then(
            |namespace| {
                unshare(CloneFlags::CLONE_FS)?;
                Ok(setns(&namespace, CloneFlags::CLONE_NEWNS)?)
            },
        );
        self.is_closed.set(entered.is_err());
        entered
    }

    /// The number of the call.
    pub(crate) fn number(&self) -> libc::c_long {
        libc::c_long::from(self.request.data.nr)
    }

    pub(crate) fn argument(&self, index: usize) -> u64 {
        self.request.data.args[index]
    }

    /// An argument of 32 bits; the kernel looks at the low half, too.
    #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
    pub(crate) fn word(&self, index: usize) -> u32 {
        self.request.data.args[index] as u32
    }

    pub(crate) fn signed_word(&self, index: usize) -> i32 {
        self.word(index).cast_signed()
    }

    /// The thread that calls.
    pub(crate) fn thread(&self) -> u32 {
        self.request.pid
    }

    fn pid(&self) -> Result<libc::pid_t, i32> {
        libc::pid_t::try_from(self.request.pid).map_err(|_| libc::ESRCH)
    }

    /// Where a link of `/proc` leads.
    pub(crate) fn link(&self, path: String) -> Option<PathBuf> {
        self.as_the_guest(move || std::fs::read_link(&path)).ok()
    }

    /// A path at `address`, without the byte that ends it.
    pub(crate) fn read_text(&self, mut address: u64) -> Result<Vec<u8>, i32> {
        let mut text = Vec::new();
        while text.len() < LONGEST_PATH {
            let piece = if text.is_empty() { FIRST_PIECE } else { PAGE };
            let length = piece.min(PAGE - address % PAGE);
            let bytes = self.read(address, usize::try_from(length).map_err(|_| libc::EFAULT)?)?;
            if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
                text.extend_from_slice(&bytes[..end]);
                return if text.len() < LONGEST_PATH { Ok(text) } else { Err(libc::ENAMETOOLONG) };
            }
            text.extend(bytes);
            address = address.checked_add(length).ok_or(libc::EFAULT)?;
        }
        Err(libc::ENAMETOOLONG)
    }

    pub(crate) fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, i32> {
        let pid = self.pid()?;
        let address = usize::try_from(address).map_err(|_| libc::EFAULT)?;
        let bytes = self.as_the_guest(move || {
            let mut bytes = vec![0_u8; length];
            transfer(Direction::Read, pid, address, &mut bytes).map(|()| bytes)
        })?;
        if self.is_alive() { Ok(bytes) } else { Err(libc::ESRCH) }
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), i32> {
        let pid = self.pid()?;
        let address = usize::try_from(address).map_err(|_| libc::EFAULT)?;
        let mut bytes = bytes.to_vec();
        if !self.is_alive() {
            return Err(libc::ESRCH);
        }
        self.as_the_guest(move || transfer(Direction::Write, pid, address, &mut bytes))
    }

    /// Whether the process that asked still waits: its number could be another one's by now.
    #[expect(unsafe_code, reason = "the interface of the kernel")]
    pub(crate) fn is_alive(&self) -> bool {
        let id = self.request.id;
        // SAFETY: the kernel reads the number.
        let result = unsafe {
            libc::ioctl(
                self.listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_ID_VALID as _,
                &raw const id,
            )
        };
        result == 0
    }

    /// Answers the call with a copy of a descriptor, which is what it returns.
    ///
    /// # Errors
    ///
    /// Where the process cannot have another descriptor; the call is not answered then.
    pub(crate) fn give(&self, file: BorrowedFd<'_>, close_on_exec: bool) -> Result<Answer, i32> {
        #[expect(clippy::cast_possible_truncation, reason = "the flag is one bit")]
        let send = libc::SECCOMP_ADDFD_FLAG_SEND as u32;
        match self.add(file, close_on_exec, send) {
            Ok(_) => Ok(Answer::Given),
            // Before Linux 5.14 it is given first and answered then.
            Err(libc::EINVAL) => self.add(file, close_on_exec, 0).map(Answer::Done),
            Err(error) => Err(error),
        }
    }

    #[expect(unsafe_code, reason = "the interface of the kernel")]
    fn add(&self, file: BorrowedFd<'_>, close_on_exec: bool, flags: u32) -> Result<i64, i32> {
        let mut given = libc::seccomp_notif_addfd {
            id: self.request.id,
            flags,
            srcfd: file.as_raw_fd().cast_unsigned(),
            newfd: 0,
            newfd_flags: if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 },
        };
        // SAFETY: the kernel reads the struct.
        let result = unsafe {
            libc::ioctl(
                self.listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_ADDFD as _,
                &raw mut given,
            )
        };
        if result < 0 { Err(crate::child::errno()) } else { Ok(result.into()) }
    }

    /// Looks into a process of the guest: as the builder, and, where that is not allowed because the process runs
    /// as somebody else, in a thread that is that user and then ends.
    fn as_the_guest<T: Send + 'static>(
        &self,
        mut look: impl FnMut() -> io::Result<T> + Send + 'static,
    ) -> Result<T, i32> {
        let failed = match look() {
            Ok(found) => return Ok(found),
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        if !matches!(failed, libc::EPERM | libc::EACCES) {
            return Err(failed);
        }
        let owner =
            self.owner().filter(|&(uid, _)| uid != rustix::process::geteuid().as_raw() && uid != 0);
        let Some((uid, gid)) = owner else {
            self.is_closed.set(true);
            return Err(failed);
        };
        let thread = std::thread::Builder::new().spawn(move || {
            become_thread_user(uid, gid)?;
            look().ok()
        });
        thread.ok().and_then(|thread| thread.join().ok()?).ok_or(failed)
    }

    /// Whom the process runs as.
    fn owner(&self) -> Option<(u32, u32)> {
        let status = self.status()?;
        Some((status.number("Uid:", 10)?, status.number("Gid:", 10)?))
    }

    /// `/proc/PID/status` of the process.
    pub(crate) fn status(&self) -> Option<Status> {
        std::fs::read_to_string(format!("/proc/{}/status", self.request.pid)).ok().map(Status)
    }
}

/// What `/proc` tells of a process.
pub(crate) struct Status(String);

impl Status {
    /// The first number of a line.
    pub(crate) fn number(&self, name: &str, radix: u32) -> Option<u32> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name))?;
        u32::from_str_radix(line.split_ascii_whitespace().next()?, radix).ok()
    }
}

/// Makes this thread, and no other, somebody else for good.
#[expect(unsafe_code, reason = "a library's functions of these names change all threads")]
fn become_thread_user(uid: u32, gid: u32) -> Option<()> {
    // SAFETY: takes no memory of this program.
    unsafe {
        let group = libc::syscall(libc::SYS_setresgid, gid, gid, gid);
        (group == 0 && libc::syscall(libc::SYS_setresuid, uid, uid, uid) == 0).then_some(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

/// Copies all of `bytes` from or to the memory of another process.
#[expect(unsafe_code, reason = "rustix has no function for this call")]
fn transfer(
    direction: Direction,
    pid: libc::pid_t,
    address: usize,
    bytes: &mut [u8],
) -> io::Result<()> {
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let remote =
        libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: bytes.len() };
    // SAFETY: the local buffer is as long as the kernel is told; the remote one is the kernel's to check.
    let count = unsafe {
        match direction {
            Direction::Read => {
                libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0)
            }
            Direction::Write => {
                libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0)
            }
        }
    };
    match usize::try_from(count) {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
