//! The process whose system call waits for an answer: its memory, its links, its descriptors.

#![expect(
    clippy::disallowed_methods,
    reason = "asks the kernel where a path of another process leads"
)]

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use crate::emulation::{Answer, Top};

/// As long as a path may be, with the byte that ends it.
pub(crate) const LONGEST_PATH: usize = 4096;

/// A page may be the last one that can be read.
const PAGE: usize = 4096;

/// How much is read of a path at first: most are shorter.
const FIRST_PIECE: usize = 256;

pub(crate) struct Caller<'a> {
    listener: &'a OwnedFd,
    request: &'a libc::seccomp_notif,
    /// Whether the kernel did not let this process look into it.
    is_closed: Cell<bool>,
    top: Option<&'a Top>,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(
        listener: &'a OwnedFd,
        request: &'a libc::seccomp_notif,
        top: Option<&'a Top>,
    ) -> Self {
        Self { listener, request, is_closed: Cell::new(false), top }
    }

    /// Where its paths lead, if not to where they lead for the builder.
    pub(crate) fn top(&self) -> Option<&Top> {
        self.top
    }

    /// Whether the kernel did not let this process look into it.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Nothing that is found out about the process can be relied on.
    pub(crate) fn close(&self) {
        self.is_closed.set(true);
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
        match std::fs::read_link(&path) {
            Err(error) if is_closed(&error) => {
                self.as_another(number_of(&error), move || std::fs::read_link(&path)).ok()
            }
            found => found.ok(),
        }
    }

    /// A path at `address`, without the byte that ends it.
    pub(crate) fn read_text(&self, address: u64) -> Result<Vec<u8>, i32> {
        let text = self.glimpse_text(address)?;
        self.require_alive()?;
        Ok(text)
    }

    /// The same, and nobody may be told or made anything because of it before [`Self::require_alive`]: it may be in the
    /// memory of another process that has the number of this one by now.
    pub(crate) fn glimpse_text(&self, mut address: u64) -> Result<Vec<u8>, i32> {
        let mut first = [0_u8; FIRST_PIECE];
        let mut page = Vec::new();
        let mut text = Vec::new();
        while text.len() < LONGEST_PATH {
            let room = if text.is_empty() {
                first.as_mut_slice()
            } else {
                page.resize(PAGE, 0);
                page.as_mut_slice()
            };
            let left = PAGE - usize::try_from(address).map_err(|_| libc::EFAULT)? % PAGE;
            let length = room.len().min(left);
            let bytes = &mut room[..length];
            self.glimpse(address, bytes)?;
            if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
                text.extend_from_slice(&bytes[..end]);
                return if text.len() < LONGEST_PATH { Ok(text) } else { Err(libc::ENAMETOOLONG) };
            }
            text.extend_from_slice(bytes);
            address = address.checked_add(length as u64).ok_or(libc::EFAULT)?;
        }
        Err(libc::ENAMETOOLONG)
    }

    pub(crate) fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, i32> {
        let mut bytes = vec![0; length];
        self.read_into(address, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `bytes` with what is at `address`.
    pub(crate) fn read_into(&self, address: u64, bytes: &mut [u8]) -> Result<(), i32> {
        self.glimpse(address, bytes)?;
        self.require_alive()
    }

    fn glimpse(&self, address: u64, bytes: &mut [u8]) -> Result<(), i32> {
        let pid = self.pid()?;
        match copy_from(pid, address, bytes) {
            Ok(()) => {}
            Err(error) if is_closed(&error) => {
                let length = bytes.len();
                let found = self.as_another(number_of(&error), move || {
                    let mut bytes = vec![0; length];
                    copy_from(pid, address, &mut bytes).map(|()| bytes)
                })?;
                bytes.copy_from_slice(&found);
            }
            Err(error) => return Err(number_of(&error)),
        }
        Ok(())
    }

    /// Whether what was found out until now is this process's.
    ///
    /// # Errors
    ///
    /// `ESRCH` where it does not wait for an answer any more.
    pub(crate) fn require_alive(&self) -> Result<(), i32> {
        if self.is_alive() { Ok(()) } else { Err(libc::ESRCH) }
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), i32> {
        let pid = self.pid()?;
        self.require_alive()?;
        match copy_to(pid, address, bytes) {
            Err(error) if is_closed(&error) => {
                let bytes = bytes.to_vec();
                self.as_another(number_of(&error), move || copy_to(pid, address, &bytes))
            }
            result => result.map_err(|error| number_of(&error)),
        }
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

    /// Looks into a process of the guest in a thread that becomes the user whom that runs as and then ends: what the builder
    /// was refused with the error `failed`.
    fn as_another<T: Send + 'static>(
        &self,
        failed: i32,
        look: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, i32> {
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

/// Whether the kernel did not let the builder look into a process.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

fn number_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Fills all of `bytes` from the memory of another process.
#[expect(unsafe_code, reason = "rustix has no function for this call")]
fn copy_from(pid: libc::pid_t, address: u64, bytes: &mut [u8]) -> io::Result<()> {
    let remote = place(address, bytes.len())?;
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: the local buffer is as long as the kernel is told; the remote one is the kernel's to check.
    let count =
        unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    all(count, bytes.len())
}

/// Copies all of `bytes` to the memory of another process.
#[expect(unsafe_code, reason = "rustix has no function for this call")]
fn copy_to(pid: libc::pid_t, address: u64, bytes: &[u8]) -> io::Result<()> {
    let remote = place(address, bytes.len())?;
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the local buffer is as long as the kernel is told, which only reads it; the remote one is the kernel's to
    // check.
    let count =
        unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) };
    all(count, bytes.len())
}

fn place(address: u64, length: usize) -> io::Result<libc::iovec> {
    let address =
        usize::try_from(address).map_err(|_| io::Error::from_raw_os_error(libc::EFAULT))?;
    Ok(libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: length })
}

/// Whether everything was copied.
fn all(count: isize, length: usize) -> io::Result<()> {
    match usize::try_from(count) {
        Ok(count) if count == length => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}
