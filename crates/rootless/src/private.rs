//! Namespaces of the program's own.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::child;
use crate::emulation::Emulation;
use crate::outer::{self, Ending, IdPlan, IdsGranted, Report};
use crate::refusal::{Attempt, PrivateError};

/// Where guests of this program run.
#[derive(Debug)]
pub enum Place {
    /// On the root that the program itself sees; there is nothing to enter.
    InPlace,
    /// In a root of their own, in mount and process namespaces of their own.
    Private(Private),
    /// Nowhere: a root is a directory, which can be written to, and no command can run in it.
    Nowhere(Nowhere),
}

/// Why no command can run.
#[derive(Debug, Clone)]
pub struct Nowhere {
    /// What is missing.
    pub reason: String,
    /// What the user can do about it.
    pub hint: &'static str,
}

/// What a program has after [`enter_private`].
#[derive(Debug)]
pub struct Private {
    /// The user and group ids that exist.
    pub ids: IdMapping,
    /// Whether a guest could make a user namespace, so that a filter must keep it from that.
    pub(crate) has_user_namespaces: bool,
    /// The machine's `/etc/resolv.conf` when the program started.
    pub(crate) resolv_conf: Vec<u8>,
    /// The machine's `/etc/hosts` when the program started.
    pub(crate) hosts: Vec<u8>,
}

impl Private {
    /// The ids that a command in `root` has: all, where users are emulated.
    pub fn ids_in(&self, root: &ebiko_rootfs::Root) -> IdMapping {
        match self.ids {
            IdMapping::RootOnly(_) if Self::knows_processes() && Emulation::is_possible(root) => {
                IdMapping::Complete
            }
            ids => ids,
        }
    }

    /// Whether `/proc` calls processes what the kernel calls them.
    pub(crate) fn knows_processes() -> bool {
        let own = rustix::fs::readlinkat(rustix::fs::CWD, c"/proc/self", Vec::new());
        own.is_ok_and(|own| own.to_bytes() == std::process::id().to_string().as_bytes())
    }
}

/// The user and group ids that exist in a private namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdMapping {
    /// All that images use.
    Complete,
    /// Root only. Files belong to others in the image but not on disk; processes run as somebody else where users are
    /// emulated.
    RootOnly(Missing),
}

/// Why there is only one id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// `newuidmap` and `newgidmap` are not installed.
    Programs,
    /// `/etc/subuid` or `/etc/subgid` has no line for the user.
    Ranges,
    /// `newuidmap` or `newgidmap` failed.
    Permission,
    /// The user is root of a user namespace that has no more.
    Outside,
}

impl IdMapping {
    /// What the user can do to get more ids.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Self::Complete => None,
            Self::RootOnly(Missing::Programs) => Some(
                "only one user id is available here: install `newuidmap` and `newgidmap` (Debian's package `uidmap`), \
                 and give the user a line such as `ann:100000:65536` in /etc/subuid and /etc/subgid",
            ),
            Self::RootOnly(Missing::Ranges) => Some(
                "only one user id is available here: give the user a line such as `ann:100000:65536` \
                 in /etc/subuid and /etc/subgid",
            ),
            Self::RootOnly(Missing::Permission) => Some(
                "only one user id is available here: `newuidmap` or `newgidmap` failed; they must be set-user-id root and \
                 the ranges in /etc/subuid and /etc/subgid must exist in this container",
            ),
            Self::RootOnly(Missing::Outside) => Some(
                "only one user id is available here, because the user namespace around the program has no more",
            ),
        }
    }
}

/// Who returns from [`enter_private`].
#[derive(Debug)]
pub enum Entered {
    /// The builder, in its new namespaces: go on.
    Inside(Place),
    /// The process that waited for the builder: exit with this.
    Ended(Ending),
}

/// The name that BuildKit's guests see, so that a build that writes its host name gives the same
/// image.
pub(crate) const HOST_NAME: &str = "buildkitsandbox";

/// No file that is passed on to guests may be larger.
const FILE_LIMIT: u64 = 1 << 20;

/// Re-creates the program in new user, mount, process, IPC and host name namespaces.
///
/// To be called first thing in `main`, before there is a second thread, and only if
/// [`Choice::Private`](crate::Choice) was the answer. It returns twice, in two processes: in the
/// builder, which is process 1 of its namespace, and, when that has ended, in the caller. The
/// caller passes INT, TERM, HUP and QUIT on; nothing inside outlives it.
///
/// Root keeps all its ids. Another user becomes 0 inside and gets the ids that `/etc/subuid` and
/// `/etc/subgid` give; `search_path` (`$PATH`) is where `newuidmap` and `newgidmap` are looked for.
/// Where there are none, 0 is the only id. Root also gets along without a user namespace.
///
/// Afterwards neither the builder nor what it starts can make another user namespace.
///
/// # Errors
///
/// Fails in the caller, with nothing changed, where namespaces are refused, or where user namespaces
/// cannot be forbidden to guests; see [`PrivateError::hint`].
pub fn enter_private(search_path: &OsStr) -> Result<Entered, PrivateError> {
    refuse_threads()?;
    let plan = IdPlan::make(search_path);
    let resolv_conf = machine_file("/etc/resolv.conf");
    let hosts = machine_file("/etc/hosts");
    let failed = |source: io::Error| PrivateError::new(Attempt::Fork, source);
    let (reports, report_to) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let (go, go_to) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let signals = HeldForGood::hold().map_err(|error| failed(error.into()))?;

    #[expect(unsafe_code, reason = "namespaces are entered by forking")]
    // SAFETY: `refuse_threads` has seen that this is the only thread, so the child may do what any
    // process may.
    let forked = unsafe { fork() };
    match forked {
        Ok(ForkResult::Child) => {
            drop((reports, go_to));
            let (ids, has_user_namespaces) =
                become_builder(&plan, File::from(report_to), File::from(go), &signals);
            let private = Private { ids, has_user_namespaces, resolv_conf, hosts };
            Ok(Entered::Inside(Place::Private(private)))
        }
        Ok(ForkResult::Parent { child }) => {
            drop((report_to, go));
            let mut go_to = File::from(go_to);
            let ending = outer::attend(child, &plan, File::from(reports), |granted| {
                go_to.write_all(&[granted.encode()])
            });
            signals.release();
            ending.map(Entered::Ended)
        }
        Err(error) => {
            signals.release();
            Err(failed(error.into()))
        }
    }
}

/// From here on there is no way back to the caller: every failure is reported and ends the process.
fn become_builder(
    plan: &IdPlan,
    mut report: File,
    mut go: File,
    signals: &HeldForGood,
) -> (IdMapping, bool) {
    die_with_parent();
    let own_processes = plan.may_have_ids() || child::can_mount_proc();
    let with_user = match unshare_all(plan.is_root, own_processes) {
        Ok(with_user) => with_user,
        Err(error) => leave(&mut report, Report::UnshareRefused(error as i32)),
    };
    tell(&mut report, Report::Unshared(with_user));
    let mut byte = [0];
    if go.read_exact(&mut byte).is_err() {
        quit(1);
    }
    let granted = IdsGranted::decode(byte[0]);

    let Ok((alive, alive_to)) = pipe_with(PipeFlags::CLOEXEC) else { quit(1) };
    #[expect(unsafe_code, reason = "only a child is in the new process namespace")]
    // SAFETY: this process was forked with one thread and has started none.
    let forked = unsafe { fork() };
    match forked {
        Ok(ForkResult::Child) => {
            drop(alive_to);
            let ids = be_first(alive, &mut report, with_user, || id_mapping(plan, granted));
            signals.release();
            ids
        }
        Ok(ForkResult::Parent { child }) => {
            tell(&mut report, Report::Builder(child.as_raw()));
            drop(alive);
            // The builder reads this after it has asked to die with this process, so there is no
            // moment in which it could outlive it.
            File::from(alive_to).write_all(&[1]).ok();
            let last = loop {
                match waitpid(child, None) {
                    Ok(WaitStatus::Exited(_, status)) => break Report::Exited(status),
                    Ok(WaitStatus::Signaled(_, signal, _)) => {
                        break Report::Signalled(signal as i32);
                    }
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(_) => break Report::Signalled(libc::SIGKILL),
                }
            };
            leave(&mut report, last)
        }
        Err(error) => leave(&mut report, Report::MountRefused(error as i32)),
    }
}

/// Sets up what process 1 of the new namespaces finds. Returns which ids there are, and whether guests could still make
/// user namespaces.
fn be_first(
    alive: OwnedFd,
    report: &mut File,
    with_user: bool,
    ids: impl FnOnce() -> IdMapping,
) -> (IdMapping, bool) {
    die_with_parent();
    if File::from(alive).read_exact(&mut [0]).is_err() {
        quit(1);
    }
    if let Err(error) =
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
    {
        leave(report, Report::MountRefused(error as i32));
    }
    // Process ids in `/proc` should be those of this namespace. Where the machine's `/proc` is
    // partly covered the kernel refuses a new one; `/proc/self` is right in the old one too.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).ok();
    let ids = ids();
    let forbidden = forbid_user_namespaces(with_user);
    // Where there is one id, the filter that emulates others refuses namespaces as well.
    if let (Err(error), IdMapping::Complete) = (forbidden, ids) {
        leave(report, Report::LimitRefused(error));
    }
    // A wish, not a need.
    nix::unistd::sethostname(HOST_NAME).ok();
    tell(report, Report::Ready);
    (ids, forbidden.is_err())
}

/// Sees to it that no guest can make a user namespace: it would have in there all the capabilities
/// that were taken from it, and where root's ids stand for themselves it could do with them what
/// root can, such as mount the machine's control groups and change them.
///
/// The limit counts in the builder's own user namespace, `with_user`, and guests see `/proc/sys`
/// read-only. Without such a namespace it would be the machine's; but then this user was refused a
/// user namespace before, and all that is to be done is to make sure.
#[expect(clippy::disallowed_methods, reason = "procfs is not below a root")]
fn forbid_user_namespaces(with_user: bool) -> Result<(), i32> {
    if with_user {
        std::fs::write("/proc/sys/user/max_user_namespaces", "0")
            .map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
    }
    if child::can_make_user_namespace()? { Err(libc::EPERM) } else { Ok(()) }
}

/// Whether a user namespace is among them. Where the kernel refuses a `/proc` of new process namespaces, as in containers
/// that cover parts of theirs, and users have to be emulated, there is none of these: answers are found in `/proc`.
fn unshare_all(is_root: bool, own_processes: bool) -> Result<bool, Errno> {
    let mut most = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    most.set(CloneFlags::CLONE_NEWPID, own_processes);
    match unshare(most | CloneFlags::CLONE_NEWUSER) {
        Ok(()) => Ok(true),
        Err(_) if is_root => unshare(most).map(|()| false),
        Err(error) => Err(error),
    }
}

fn id_mapping(plan: &IdPlan, granted: IdsGranted) -> IdMapping {
    if granted.users && granted.groups && plan.has_ranges() && may_set_groups() {
        IdMapping::Complete
    } else if plan.is_root {
        IdMapping::RootOnly(Missing::Outside)
    } else if !plan.has_helpers() {
        IdMapping::RootOnly(Missing::Programs)
    } else if !plan.has_ranges() {
        IdMapping::RootOnly(Missing::Ranges)
    } else {
        IdMapping::RootOnly(Missing::Permission)
    }
}

/// A namespace inherits the answer from the one around it.
#[expect(clippy::disallowed_methods, reason = "procfs is not below a root")]
fn may_set_groups() -> bool {
    std::fs::read("/proc/self/setgroups").map_or(true, |answer| answer.trim_ascii() != b"deny")
}

fn die_with_parent() {
    // Cannot fail for a signal that exists.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).ok();
}

fn tell(report: &mut File, what: Report) {
    if report.write_all(&what.encode()).is_err() {
        quit(1);
    }
}

fn leave(report: &mut File, what: Report) -> ! {
    report.write_all(&what.encode()).ok();
    quit(1)
}

/// Ends a process that shares the caller's memory image, without running what the caller registered
/// for its own end.
fn quit(status: i32) -> ! {
    #[expect(unsafe_code, reason = "std has no `_exit`")]
    // SAFETY: `_exit` takes no memory and does not return.
    unsafe {
        libc::_exit(status)
    }
}

#[expect(clippy::disallowed_methods, reason = "procfs is not below a root")]
fn refuse_threads() -> Result<(), PrivateError> {
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    if threads.is_ok_and(|count| count > 1) {
        return Err(PrivateError::new(Attempt::Threads, io::ErrorKind::ResourceBusy));
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the machine's own files, read once before there is a root"
)]
fn machine_file(path: &str) -> Vec<u8> {
    let mut text = Vec::new();
    // A machine without the file has guests without its content.
    if let Ok(file) = File::open(path) {
        file.take(FILE_LIMIT).read_to_end(&mut text).ok();
    }
    text
}

/// The signals that the caller passes on, held while it lives; and what was before.
struct HeldForGood {
    mask: SigSet,
    child: SigAction,
}

impl HeldForGood {
    fn hold() -> Result<Self, Errno> {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        #[expect(unsafe_code, reason = "changes what SIGCHLD does")]
        // SAFETY: the default action runs no code of this program. It must not be `ignore`, or
        // children could not be waited for.
        let child = unsafe { sigaction(Signal::SIGCHLD, &default) }?;
        let mask = outer::watched().thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
        Ok(Self { mask, child })
    }

    fn release(&self) {
        // Neither can fail for a mask and an action that were in force before.
        self.mask.thread_set_mask().ok();
        #[expect(unsafe_code, reason = "changes what SIGCHLD does")]
        // SAFETY: puts back the action that was in force.
        unsafe {
            sigaction(Signal::SIGCHLD, &self.child).ok();
        }
    }
}
