//! Answers what a guest's filter asks.
//!
//! A thread of the builder gets the filter's descriptor from the guest's process and answers until no process with
//! that filter is left. Where it cannot find out whether something is protected, the call goes on as if there were no
//! filter: what is protected here is a copy, and what may be learned is the container's name. Where root is emulated, a
//! call that cannot be looked into ends the step: what would come of it is a wrong image.

#![expect(clippy::disallowed_methods, reason = "asks the kernel where a path of the guest leads")]

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::caller::Caller;
use crate::emulation::{Answer, Emulation, Led, Refused};
use crate::filter::{OPENS_TO_CHANGE, PathArgument, find_change};
use crate::kernel;

/// What the answers depend on.
#[derive(Default)]
pub(crate) struct Rules {
    /// The name of the host.
    pub(crate) host_name: Option<Vec<u8>>,
    /// What may not be changed: absolute, without links.
    pub(crate) read_only: Vec<PathBuf>,
    /// Root, where the builder is not.
    pub(crate) emulation: Option<Emulation>,
}

/// The thread; it is waited for when this is dropped.
pub(crate) struct Supervisor {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Has something to read when the thread could not do what it is for.
    failure: OwnedFd,
    /// Keeps the end of the thread from being something to read.
    _own_end: OwnedFd,
}

impl Supervisor {
    /// Waits for the filter's descriptor at `socket`.
    ///
    /// The thread runs on `processor` only, if one is given.
    pub(crate) fn start(
        socket: OwnedFd,
        mut rules: Rules,
        processor: Option<usize>,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (failure, alarm) = pipe_with(PipeFlags::CLOEXEC)?;
        let own_end = alarm.try_clone()?;
        let is_needed = rules.emulation.is_some();
        let alarm = Alarm { to: alarm, is_needed, path: Vec::new() };
        let thread =
            std::thread::Builder::new().name("supervisor".to_owned()).spawn(move || {
                if let Some(processor) = processor {
                    keep_to(processor);
                }
                let Some(listener) = receive(&socket, &stopped) else { return drop(alarm) };
                // It sounds before the descriptor is closed, after which calls fail in ways that a guest may ignore.
                let mut alarm = alarm;
                quicken(&listener);
                match serve(&listener, &mut rules, &stopped) {
                    Ok(()) => alarm.is_needed = false,
                    Err(Failed { path }) => alarm.path = path,
                }
            })?;
        Ok(Self { stop, thread: Some(thread), failure, _own_end: own_end })
    }

    /// Becomes readable when calls were not answered as they had to be: [`ALARM`], and the path that nothing could be done
    /// about, if that was it.
    pub(crate) fn failure(&self) -> io::Result<OwnedFd> {
        self.failure.try_clone()
    }
}

/// Makes this thread run on one processor. Async-signal-safe.
pub(crate) fn keep_to(processor: usize) {
    let mut processors = rustix::thread::CpuSet::new();
    if processor >= rustix::thread::CpuSet::MAX_CPU {
        return;
    }
    processors.set(processor);
    // Where it is refused, everything takes longer.
    rustix::thread::sched_setaffinity(None, &processors).ok();
}

/// Tells about the end of the thread, also when it comes unexpectedly.
struct Alarm {
    to: OwnedFd,
    is_needed: bool,
    path: Vec<u8>,
}

/// What an alarm begins with.
pub(crate) const ALARM: u8 = b'!';

impl Drop for Alarm {
    fn drop(&mut self) {
        if self.is_needed {
            // Shorter than what a pipe takes at once.
            rustix::io::write(&self.to, &[&[ALARM], self.path.as_slice()].concat()).ok();
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let Some(thread) = self.thread.take() else { return };
        // It ends with the last process of the guest, and one that cannot be ended is told about elsewhere.
        let begin = Instant::now();
        while !thread.is_finished() && begin.elapsed() < LONGEST_END {
            std::thread::sleep(Duration::from_micros(200));
        }
        if thread.is_finished() {
            thread.join().ok();
        }
    }
}

/// How long the thread is waited for.
const LONGEST_END: Duration = Duration::from_secs(2);

/// Since when a thread that waits for a call learns that none can come any more. Before, it must look for both.
const HEARS_THE_END: (u32, u32) = (6, 11);

/// Since when the kernel can be asked to run who asks and who answers on one processor, as they never run at once.
const RUNS_BOTH_ON_ONE: (u32, u32) = (6, 6);

/// The processor on which both are to be put where the kernel cannot be asked and there is time for one only: to wake
/// another processor takes longer than to answer.
pub(crate) fn only_processor() -> Option<usize> {
    let is_one = std::thread::available_parallelism().is_ok_and(|count| count.get() == 1);
    (is_one && !kernel::is_at_least(RUNS_BOTH_ON_ONE)).then(rustix::thread::sched_getcpu)
}

/// Asks the kernel to run who asks and who answers on one processor; since [`RUNS_BOTH_ON_ONE`].
#[expect(unsafe_code, reason = "the interface of the kernel")]
fn quicken(listener: &OwnedFd) {
    /// `SECCOMP_IOCTL_NOTIF_SET_FLAGS` with `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, which libc does not know yet.
    const SET_FLAGS: libc::c_ulong = 0x4008_2104;
    const SYNC_WAKE_UP: libc::c_ulong = 1;
    // SAFETY: takes no memory of this program.
    unsafe { libc::ioctl(listener.as_raw_fd(), SET_FLAGS as _, SYNC_WAKE_UP) };
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

/// Whether no process is left that could call.
fn is_over(listener: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(listener, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::HUP)
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

/// A call could not be answered as it had to be.
#[derive(Default)]
struct Failed {
    /// The path that nothing could be done about, if that was it.
    path: Vec<u8>,
}

#[expect(unsafe_code, reason = "the interface of the kernel")]
fn serve(listener: &OwnedFd, rules: &mut Rules, stop: &AtomicBool) -> Result<(), Failed> {
    let hears_the_end = kernel::is_at_least(HEARS_THE_END);
    let top = rules.emulation.as_ref().and_then(Emulation::top);
    // When the last process with the filter has ended, the descriptor only reports that.
    while hears_the_end || wait(listener, stop).is_some() {
        // SAFETY: an all-zero request is what the kernel wants, and it writes as much as the struct holds.
        let request = unsafe {
            let mut request = MaybeUninit::<libc::seccomp_notif>::zeroed();
            let received = libc::ioctl(
                listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV as _,
                request.as_mut_ptr(),
            );
            if received != 0 {
                match crate::child::errno() {
                    // The process was killed in the meantime, or there are none any more.
                    libc::ENOENT if hears_the_end && is_over(listener) => break,
                    libc::ENOENT | libc::EINTR => continue,
                    _ => return Err(Failed::default()),
                }
            }
            request.assume_init()
        };
        let caller = Caller::new(listener, &request, top.as_deref());
        let mut verdict = Question { caller: &caller, rules }.answer();
        if verdict == Verdict::GoOn
            && let Some(emulation) = &mut rules.emulation
        {
            verdict = match emulation.answer(&caller) {
                Ok(Answer::GoOn) => Verdict::GoOn,
                Ok(Answer::Done(value)) => Verdict::Done(value),
                Ok(Answer::Given) => continue,
                Ok(Answer::Impossible { path }) => {
                    return Err(Failed { path: caller.read_text(path).unwrap_or_default() });
                }
                Err(Refused(error)) => Verdict::Refuse(error),
            };
            if caller.is_closed() && caller.is_alive() {
                return Err(Failed::default());
            }
        }
        let mut response = libc::seccomp_notif_resp { id: request.id, val: 0, error: 0, flags: 0 };
        match verdict {
            Verdict::GoOn => {
                #[expect(clippy::cast_possible_truncation, reason = "the flag is one bit")]
                let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
                response.flags = flags;
            }
            Verdict::Done(value) => response.val = value,
            Verdict::Refuse(error) => response.error = -error,
        }
        // SAFETY: the kernel reads the struct. Who asked may be gone.
        let sent = unsafe {
            libc::ioctl(
                listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SEND as _,
                &raw mut response,
            )
        };
        // An answer that the kernel does not understand leaves the process waiting.
        if sent != 0 && crate::child::errno() == libc::EINVAL && rules.emulation.is_some() {
            return Err(Failed::default());
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    GoOn,
    Done(i64),
    Refuse(i32),
}

struct Question<'a> {
    caller: &'a Caller<'a>,
    rules: &'a Rules,
}

/// The length of each of the texts of `uname`, and which of them is the host's.
const UNAME_FIELD: usize = 65;
const NODE_NAME: usize = 1;

impl Question<'_> {
    fn answer(&self) -> Verdict {
        let number = self.caller.number();
        if number == libc::SYS_uname {
            return self.uname().map_or(Verdict::GoOn, |()| Verdict::Done(0));
        }
        if self.rules.read_only.is_empty() {
            return Verdict::GoOn;
        }
        let Some(change) = find_change(number) else { return Verdict::GoOn };
        let only_reads = match change.open_flags {
            Some(argument) => self.caller.signed_word(argument) & OPENS_TO_CHANGE == 0,
            None => number == libc::SYS_openat2 && self.opens_to_read(),
        };
        if only_reads {
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
        self.caller.write(self.caller.argument(0), &answer).ok()
    }

    /// Where an absolute path leads in a root that is not at `/`.
    fn led(&self, path: PathBuf) -> PathBuf {
        match self.caller.top().map(|top| top.lead(path.as_os_str().as_bytes())) {
            Some(Led::Here { path, .. }) => PathBuf::from(OsString::from_vec(path)),
            Some(Led::There) | None => path,
        }
    }

    /// Whether an `openat2` changes nothing.
    fn opens_to_read(&self) -> bool {
        let flags = self.caller.read(self.caller.argument(2), 8).ok();
        let flags = flags.and_then(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?)));
        let changing = libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;
        flags.is_some_and(|flags| flags & u64::from(changing.cast_unsigned()) == 0)
    }

    /// Where a path of the call leads, without links.
    fn path(&self, argument: PathArgument) -> Option<PathBuf> {
        let pid = self.caller.thread();
        let text = match argument.path.map(|index| self.caller.argument(index)) {
            Some(address) if address != 0 => self.caller.read_text(address).ok()?,
            // The descriptor itself.
            _ => Vec::new(),
        };
        let path = Path::new(OsStr::from_bytes(&text));
        let base = match argument.directory.map(|index| self.caller.signed_word(index)) {
            _ if path.is_absolute() => PathBuf::from("/"),
            None | Some(libc::AT_FDCWD) => self.caller.link(format!("/proc/{pid}/cwd"))?,
            Some(descriptor) => self.caller.link(format!("/proc/{pid}/fd/{descriptor}"))?,
        };
        if text.is_empty() {
            return Some(base);
        }
        let path = self.led(base.join(path));
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
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn who_waits_for_answers_learns_that_none_will_come() {
        let (own, guests) = UnixStream::pair().unwrap();
        let root = tempfile::tempdir().unwrap();
        let root =
            ebiko_rootfs::Root::open(root.path(), ebiko_rootfs::RootOptions::default()).unwrap();
        let credentials = crate::Credentials { uid: 0, gid: 0, groups: Vec::new() };
        let emulation =
            Emulation::new(&root, &credentials, crate::emulation::At::RootOfStep).unwrap();
        let rules = Rules { emulation: Some(emulation), ..Rules::default() };
        let supervisor = Supervisor::start(own.into(), rules, None).unwrap();
        let failure = supervisor.failure().unwrap();
        // Nobody can be asked for calls at this descriptor.
        let nothing = std::fs::File::open("/dev/null").unwrap();
        give(guests.as_raw_fd(), nothing.as_raw_fd()).unwrap();
        let mut polled = [PollFd::new(&failure, PollFlags::IN)];
        let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(poll(&mut polled, Some(&patience)), Ok(1));
        let mut bytes = [0; 9];
        assert_eq!(rustix::io::read(&failure, &mut bytes), Ok(1));
        assert_eq!(bytes[0], ALARM);
    }
}
