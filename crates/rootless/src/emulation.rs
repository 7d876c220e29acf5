//! Root for a process that is not root.
//!
//! Where the builder lacks the rights of root, a guest's filter asks it about every call whose answer would show that, or
//! would fail: who the process is, whose files are, what programs with set-user-id make of it. The answers come from
//! [`ebiko_rootfs::EmulatedFiles`], which layers and snapshots use as well, and from [`Identities`]. Calls that do not tell and do not
//! fail are the kernel's alone; a filter never sees most of them.
//!
//! A call that is answered here was done here: nothing that another thread of the guest can change afterwards decides
//! it. What goes on to the kernel may be decided by memory that changes meanwhile, and is only what the guest may do
//! anyhow.

mod calls;
mod credentials;
mod exec;
mod files;
mod identities;
mod lately;
mod layout;
mod make;
mod path;
mod peer;
mod permissions;
mod processes;
mod top;
mod xattrs;

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::io::Errno;

use crate::Credentials;
use crate::caller::Caller;

pub(crate) use calls::{FCHMODAT2, LOCKS, Scope, When, asked, refused};
pub(crate) use identities::mark;
pub(crate) use top::{Led, Top};

use credentials::Identity;
use exec::Pending;
use identities::Identities;
use make::Unborn;
use path::Files;

/// The answer to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The kernel does it.
    GoOn,
    /// It was done, and returns this.
    Done(i64),
    /// It was done and answered with a descriptor.
    Given,
    /// Only the kernel can do it, and would do something else than in a root at `/` with the path at this address of the
    /// guest's.
    Impossible { path: u64 },
}

/// Why a call is not done: what it fails with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) i32);

impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        Self(error.raw_os_error())
    }
}

impl From<i32> for Refused {
    fn from(error: i32) -> Self {
        Self(error)
    }
}

type Result<T = Answer> = std::result::Result<T, Refused>;

const SUCCESS: Answer = Answer::Done(0);

/// Where a step's `/` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// It is the container's own, and the builder's.
    OwnRoot,
    /// In a mount namespace of the step, where the supervisor goes.
    RootOfStep,
}

/// What is known of a step's processes.
pub(crate) struct Emulation {
    files: Files,
    identities: Identities,
    at: At,
    pending: Pending,
    /// Sockets that the kernel is about to make.
    unborn: Vec<Unborn>,
    /// Whether the first process still is a copy of the builder, into which nobody may look.
    is_copy: bool,
    begins_as_root: bool,
    /// The number with which the first process is to be marked.
    pub(crate) first_mark: u64,
    /// Where the guest's paths lead, if its root is not at `/`.
    top: Option<Arc<Top>>,
}

impl Emulation {
    /// For a step that begins as `credentials`, on the container's own `/` or in a root that is the step's `/`.
    ///
    /// # Errors
    ///
    /// Where the kernel has no place for the numbers of identities, or the file system keeps no birth times.
    pub(crate) fn new(
        root: &ebiko_rootfs::Root,
        credentials: &Credentials,
        at: At,
    ) -> std::io::Result<Self> {
        let base = Self::base(root)?;
        let first = Identity::new(credentials.uid, credentials.gid, &credentials.groups);
        Ok(Self {
            files: Files::new(root.emulated()),
            top: match at {
                At::OwnRoot => Top::of(root.host_path())?.map(Arc::new),
                At::RootOfStep => None,
            },
            identities: Identities::new(first, base),
            at,
            pending: Pending::default(),
            unborn: Vec::new(),
            is_copy: true,
            begins_as_root: credentials.uid == 0,
            first_mark: base,
        })
    }

    /// The mark of the first identity.
    fn base(root: &ebiko_rootfs::Root) -> std::io::Result<u64> {
        let hard = identities::hard_limit().map_err(std::io::Error::from_raw_os_error)?;
        let base = identities::base(hard).ok_or(std::io::ErrorKind::Unsupported)?;
        if !root.emulated().knows_births(root.as_fd())? {
            return Err(std::io::Error::other(
                "the file system does not tell when files are made, so owners could be mistaken",
            ));
        }
        Ok(base)
    }

    /// Whether users can be emulated in a root.
    pub(crate) fn is_possible(root: &ebiko_rootfs::Root) -> bool {
        Self::base(root).is_ok()
    }

    /// How much must be asked.
    pub(crate) fn scope(&self) -> Scope {
        let descriptors = !self.begins_as_root || !self.files.marks_modes();
        Scope { descriptors, paths: self.top.is_some() }
    }

    /// Answers a call.
    pub(crate) fn answer(&mut self, caller: &Caller<'_>) -> Result {
        let number = caller.number();
        if self.is_copy {
            if number == libc::SYS_execve {
                return Ok(Answer::GoOn);
            }
            self.is_copy = false;
            if self.at == At::RootOfStep {
                caller.enter_mounts().map_err(|_| libc::EPERM)?;
                if !self.files.find_proc() {
                    caller.close();
                    return Err(Refused(libc::EPERM));
                }
            }
            self.begin(caller)?;
        }
        self.files.asks(caller);
        self.pending.settle(caller);
        self.settle_sockets(caller);
        #[cfg(target_arch = "x86_64")]
        if let Some(answer) = self.old_call(caller, number) {
            return answer;
        }
        match number {
            libc::SYS_fstat => self.status_of_descriptor(caller, caller.signed_word(0), 1),
            libc::SYS_newfstatat => self.status_at(caller),
            libc::SYS_statx => self.extended_status(caller),
            libc::SYS_execve => self.execute(caller, libc::AT_FDCWD, 0, 0),
            libc::SYS_execveat => {
                self.execute(caller, caller.signed_word(0), 1, caller.signed_word(4))
            }
            libc::SYS_openat => {
                self.open(caller, caller.signed_word(0), 1, caller.word(2), caller.word(3))
            }
            libc::SYS_openat2 => self.open_how(caller),
            libc::SYS_mkdirat => self.make_directory(caller, caller.signed_word(0), 1),
            libc::SYS_mknodat => self.make_node(caller, caller.signed_word(0), 1),
            libc::SYS_bind => self.bind(caller),
            libc::SYS_symlinkat => self.make_link(caller, caller.signed_word(1), 2),
            libc::SYS_fchown => self.change_owner_of(caller, caller.signed_word(0)),
            libc::SYS_fchownat => {
                let flags = caller.signed_word(4);
                self.change_owner(caller, caller.signed_word(0), 1, flags)
            }
            libc::SYS_fchmod => self.change_mode_of(caller, caller.signed_word(0)),
            libc::SYS_fchmodat => self.change_mode(caller, caller.signed_word(0), 1, 0),
            FCHMODAT2 => self.change_mode(caller, caller.signed_word(0), 1, caller.signed_word(3)),
            libc::SYS_fchdir => Ok(Answer::GoOn),
            libc::SYS_chroot => self.change_root(caller),
            libc::SYS_getcwd => files::tell_directory(caller),
            libc::SYS_readlinkat => self.read_link(caller, caller.signed_word(0), 1),
            libc::SYS_setxattr
            | libc::SYS_lsetxattr
            | libc::SYS_fsetxattr
            | libc::SYS_getxattr
            | libc::SYS_lgetxattr
            | libc::SYS_fgetxattr
            | libc::SYS_listxattr
            | libc::SYS_llistxattr
            | libc::SYS_flistxattr
            | libc::SYS_removexattr
            | libc::SYS_lremovexattr
            | libc::SYS_fremovexattr => self.extended_attribute(caller),
            number if calls::is_guarded(number) => self.guarded(caller),
            _ => self.process(caller),
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn old_call(&mut self, caller: &Caller<'_>, number: libc::c_long) -> Option<Result> {
        const HERE: i32 = libc::AT_FDCWD;
        Some(match number {
            libc::SYS_stat => self.status_of_path(caller, path::AtEnd::Follow),
            libc::SYS_lstat => self.status_of_path(caller, path::AtEnd::Stay),
            libc::SYS_chown => self.change_owner(caller, HERE, 0, 0),
            libc::SYS_lchown => self.change_owner(caller, HERE, 0, libc::AT_SYMLINK_NOFOLLOW),
            libc::SYS_chmod => self.change_mode(caller, HERE, 0, 0),
            libc::SYS_open => self.open(caller, HERE, 0, caller.word(1), caller.word(2)),
            libc::SYS_creat => {
                let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
                self.open(caller, HERE, 0, flags.cast_unsigned(), caller.word(1))
            }
            libc::SYS_mkdir => self.make_directory(caller, HERE, 0),
            libc::SYS_mknod => self.make_node(caller, HERE, 0),
            libc::SYS_symlink => self.make_link(caller, HERE, 1),
            libc::SYS_readlink => self.read_link(caller, HERE, 0),
            _ => return None,
        })
    }

    /// Where the guest's paths lead, if its root is not at `/`.
    pub(crate) fn top(&self) -> Option<Arc<Top>> {
        self.top.clone()
    }

    fn identity(&self, caller: &Caller<'_>) -> Result<Arc<Identity>> {
        Ok(self.identities.of_guest(caller.thread())?)
    }
}
