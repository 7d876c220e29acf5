//! Answers what a guest's filter asks.
//!
//! A thread of the builder gets the filter's descriptor from the guest's process and answers until no process with
//! that filter is left. Where it cannot find out, the call goes on as if there were no filter: what is protected here
//! is a copy, and what may be learned is the container's name.

#![expect(
    clippy::disallowed_methods,
    reason = "asks the kernel where a path of another process leads"
)]

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::filter::{PathArgument, find_change};

/// What the answers depend on.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// The name of the host.
    pub(crate) host_name: Option<Vec<u8>>,
    /// What may not be changed: absolute, without links.
    pub(crate) read_only: Vec<PathBuf>,
}

/// The thread; it is waited for when this is dropped.
pub(crate) struct Supervisor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Waits for the filter's descriptor at `socket`.
    pub(crate) fn start(socket: OwnedFd, rules: Rules) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread =
            std::thread::Builder::new().name("supervisor".to_owned()).spawn(move || {
                if let Some(listener) = receive(&socket, &stopped) {
                    serve(&listener, &rules, &stopped);
                }
            })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// How often is looked whether the guest has ended without a word.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Whether there is something to read; `None` when there never will be.
fn wait(descriptor: &OwnedFd, stop: &AtomicBool) -> Option<()> {
    loop {
        let mut polled = [PollFd::new(descriptor, PollFlags::IN)];
        let ready = poll(&mut polled, Some(&PAUSE));
        let events = polled[0].revents();
        match ready {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) if events.contains(PollFlags::IN) => return Some(()),
            Ok(_) | Err(_) => return None,
        }
        if stop.load(Ordering::SeqCst) {
            return None;
        }
    }
}

/// Room for one control message with one descriptor.
const CONTROL_LENGTH: usize = 64;

const DESCRIPTOR_SIZE: libc::c_uint = RawFd::BITS / 8;

#[repr(C, align(8))]
struct Control([u8; CONTROL_LENGTH]);

/// Gives a descriptor to whoever is at the other end. Async-signal-safe.
#[expect(unsafe_code, reason = "no wrapper is async-signal-safe by contract")]
pub(crate) fn give(socket: RawFd, descriptor: RawFd) -> Result<(), i32> {
    let mut control = Control([0; CONTROL_LENGTH]);
    let mut byte = [0_u8; 1];
    // SAFETY: an all-zero `msghdr` is a valid value; every pointer in it is to a variable that outlives the call, with its
    // length, and the buffer for the control message is aligned and longer than the message with one descriptor.
    unsafe {
        let mut data = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut data;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        let size = DESCRIPTOR_SIZE;
        message.msg_controllen = libc::CMSG_SPACE(size) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size) as _;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(descriptor);
        if libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) == 1 {
            Ok(())
        } else {
            Err(crate::child::errno())
        }
    }
}

/// Takes the descriptor that [`give`] gave.
#[expect(unsafe_code, reason = "rustix' feature for sockets is for this one call too much")]
fn receive(socket: &OwnedFd, stop: &AtomicBool) -> Option<OwnedFd> {
    wait(socket, stop)?;
    let mut control = Control([0; CONTROL_LENGTH]);
    let mut byte = [0_u8; 1];
    // SAFETY: as in `give`; the descriptor is new, and this is its only owner.
    unsafe {
        let mut data = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut data;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_LENGTH as _;
        if libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) != 1 {
            return None;
        }
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() || (*header).cmsg_type != libc::SCM_RIGHTS {
            return None;
        }
        let descriptor = libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned();
        Some(OwnedFd::from_raw_fd(descriptor))
    }
}

#[expect(unsafe_code, reason = "the interface of the kernel")]
fn serve(listener: &OwnedFd, rules: &Rules, stop: &AtomicBool) {
    // When the last process with the filter has ended, the descriptor only reports that.
    while wait(listener, stop).is_some() {
        // SAFETY: an all-zero request is what the kernel wants, and it writes as much as the struct holds.
        let request = unsafe {
            let mut request = MaybeUninit::<libc::seccomp_notif>::zeroed();
            let received = libc::ioctl(
                listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV as _,
                request.as_mut_ptr(),
            );
            if received != 0 {
                // The process was killed in the meantime.
                continue;
            }
            request.assume_init()
        };
        let verdict = Question { listener, request: &request, rules }.answer();
        let mut response = libc::seccomp_notif_resp { id: request.id, val: 0, error: 0, flags: 0 };
        match verdict {
            Verdict::GoOn => {
                #[expect(clippy::cast_possible_truncation, reason = "the flag is one bit")]
                let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
                response.flags = flags;
            }
            Verdict::Done => {}
            Verdict::Refuse(error) => response.error = -error,
        }
        // SAFETY: the kernel reads the struct. Who asked may be gone.
        unsafe {
            libc::ioctl(
                listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SEND as _,
                &raw mut response,
            );
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    GoOn,
    Done,
    Refuse(i32),
}

struct Question<'a> {
    listener: &'a OwnedFd,
    request: &'a libc::seccomp_notif,
    rules: &'a Rules,
}

/// As long as a path may be.
const LONGEST_PATH: usize = 4096;

/// How much of a path is read at once: a page may be the last one.
const PAGE: u64 = 4096;

/// The length of each of the texts of `uname`, and which of them is the host's.
const UNAME_FIELD: usize = 65;
const NODE_NAME: usize = 1;

impl Question<'_> {
    fn answer(&self) -> Verdict {
        let number = libc::c_long::from(self.request.data.nr);
        if number == libc::SYS_uname {
            return self.uname().map_or(Verdict::GoOn, |()| Verdict::Done);
        }
        let Some(change) = find_change(number) else { return Verdict::GoOn };
        if number == libc::SYS_openat2 && self.opens_to_read() {
            return Verdict::GoOn;
        }
        let is_protected = change.paths.iter().any(|argument| {
            self.path(*argument).is_some_and(|path| {
                self.rules.read_only.iter().any(|protected| path.starts_with(protected))
            })
        });
        if is_protected { Verdict::Refuse(libc::EROFS) } else { Verdict::GoOn }
    }

    /// Fills the guest's answer with the machine's and the name that it shall see.
    fn uname(&self) -> Option<()> {
        let name = self.rules.host_name.as_ref()?;
        let machine = rustix::system::uname();
        let texts = [
            machine.sysname().to_bytes(),
            name.as_slice(),
            machine.release().to_bytes(),
            machine.version().to_bytes(),
            machine.machine().to_bytes(),
            machine.domainname().to_bytes(),
        ];
        debug_assert_eq!(texts[NODE_NAME], name.as_slice());
        let mut answer = vec![0_u8; UNAME_FIELD * texts.len()];
        for (field, text) in answer.chunks_exact_mut(UNAME_FIELD).zip(texts) {
            // One byte remains for the end.
            for (to, from) in field[..UNAME_FIELD - 1].iter_mut().zip(text) {
                *to = *from;
            }
        }
        self.write(self.request.data.args[0], &answer)
    }

    /// Whether an `openat2` changes nothing.
    fn opens_to_read(&self) -> bool {
        let flags = self.read(self.request.data.args[2], 8);
        let flags = flags.and_then(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?)));
        let changing = libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;
        flags.is_some_and(|flags| flags & u64::from(changing.cast_unsigned()) == 0)
    }

    /// Where a path of the call leads, without links.
    fn path(&self, argument: PathArgument) -> Option<PathBuf> {
        let pid = self.request.pid;
        let arguments = &self.request.data.args;
        let text = match argument.path {
            Some(index) if arguments[index] != 0 => self.read_text(arguments[index])?,
            // The descriptor itself.
            _ => Vec::new(),
        };
        let path = Path::new(OsStr::from_bytes(&text));
        #[expect(clippy::cast_possible_truncation, reason = "the kernel looks at the low half too")]
        let base = match argument.directory.map(|index| arguments[index] as i32) {
            _ if path.is_absolute() => PathBuf::from("/"),
            None | Some(libc::AT_FDCWD) => self.link(format!("/proc/{pid}/cwd"))?,
            Some(descriptor) => self.link(format!("/proc/{pid}/fd/{descriptor}"))?,
        };
        if text.is_empty() {
            return Some(base);
        }
        let path = base.join(path);
        if argument.follows
            && let Ok(path) = std::fs::canonicalize(&path)
        {
            return Some(path);
        }
        // What is made does not exist yet.
        let name = path.file_name()?;
        let parent = std::fs::canonicalize(path.parent()?).ok()?;
        Some(parent.join(name))
    }

    fn link(&self, path: String) -> Option<PathBuf> {
        self.as_the_guest(move || std::fs::read_link(&path).ok())
    }

    fn read_text(&self, mut address: u64) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < LONGEST_PATH {
            let length = PAGE - address % PAGE;
            let bytes = self.read(address, usize::try_from(length).ok()?)?;
            if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
                text.extend_from_slice(&bytes[..end]);
                return Some(text);
            }
            text.extend(bytes);
            address = address.checked_add(length)?;
        }
        None
    }

    fn read(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let pid = self.pid()?;
        let address = usize::try_from(address).ok()?;
        let bytes = self.as_the_guest(move || {
            let mut bytes = vec![0_u8; length];
            transfer(Direction::Read, pid, address, &mut bytes).then_some(bytes)
        })?;
        self.is_alive().then_some(bytes)
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Option<()> {
        let pid = self.pid()?;
        let address = usize::try_from(address).ok()?;
        let mut bytes = bytes.to_vec();
        if !self.is_alive() {
            return None;
        }
        self.as_the_guest(move || {
            transfer(Direction::Write, pid, address, &mut bytes).then_some(())
        })
    }

    fn pid(&self) -> Option<libc::pid_t> {
        libc::pid_t::try_from(self.request.pid).ok()
    }

    /// Whether the process that asked still waits: its number could be another one's by now.
    #[expect(unsafe_code, reason = "the interface of the kernel")]
    fn is_alive(&self) -> bool {
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

    /// Looks into a process of the guest: as the builder, and, where that is not allowed because the process runs
    /// as somebody else, in a thread that is that user and then ends.
    fn as_the_guest<T: Send + 'static>(
        &self,
        mut look: impl FnMut() -> Option<T> + Send + 'static,
    ) -> Option<T> {
        if let Some(found) = look() {
            return Some(found);
        }
        let (uid, gid) = self.owner()?;
        if uid == 0 {
            return None;
        }
        let thread = std::thread::Builder::new().spawn(move || {
            become_thread_user(uid, gid)?;
            look()
        });
        thread.ok()?.join().ok()?
    }

    /// Whom the process runs as.
    fn owner(&self) -> Option<(u32, u32)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.request.pid)).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        Some((field("Uid:")?, field("Gid:")?))
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
fn transfer(direction: Direction, pid: libc::pid_t, address: usize, bytes: &mut [u8]) -> bool {
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
    usize::try_from(count) == Ok(bytes.len())
}
