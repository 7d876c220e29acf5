//! What happens between fork and exec.
//!
//! The builder has many threads, and a fork copies one of them: a lock that another thread held
//! stays locked for ever. Everything here therefore calls nothing but the kernel. It allocates
//! nothing, and all that it needs was made before the fork ([`Prepared`]).
//!
//! There are two processes. The *init* makes the guest's surroundings, starts the *command*, reaps
//! every orphan, tells how the command ended, and ends itself when nothing is left to reap. So a
//! daemon that dies during a step does not stay a zombie, and the end of the init proves that the
//! step left nothing behind.

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::RawFd;

use crate::message::{Failed, Message};
use crate::mounts::{Step, mount};
use crate::resources::ResourceLimit;
use crate::{capabilities, emulation, landlock, network, signals, supervisor};

/// All that the two processes need.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// Namespaces to start the init in.
    pub(crate) namespaces: libc::c_int,
    /// The private root; `None` in place.
    pub(crate) entry: Option<RootEntry>,
    /// What is mounted on the builder's own root, in a mount namespace of its own. Nothing is where there is an entry.
    pub(crate) steps: Vec<Step>,
    /// The name of the new host name namespace, if there is one.
    pub(crate) host_name: Option<CString>,
    /// Where the program may be, tried in order.
    pub(crate) programs: Vec<CString>,
    /// `argv` and `envp` as execve wants them.
    pub(crate) arguments: PointerList,
    pub(crate) environment: PointerList,
    /// What of its system calls is refused or asked about.
    pub(crate) filter: Option<Filter>,
    /// Relative to the root; `.` for the root itself.
    pub(crate) work_dir: CString,
    pub(crate) identity: Identity,
    /// What the command may use.
    pub(crate) limits: Vec<ResourceLimit>,
    /// Where the builder's own command line is in memory: start and length.
    pub(crate) command_line: Option<(usize, usize)>,
    pub(crate) stdout: RawFd,
    pub(crate) stderr: RawFd,
    pub(crate) status: RawFd,
}

/// Filters that the command puts on itself.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    /// One that asks, and the socket at which the builder waits for its descriptor.
    pub(crate) asking: Option<(Vec<libc::sock_filter>, RawFd)>,
    /// One that decides by itself, for where asking is impossible. Empty where nothing remains of it.
    pub(crate) silent: Vec<libc::sock_filter>,
    /// With what this process is to be marked as root, where root is emulated: nothing can replace the filter then.
    pub(crate) mark: Option<u64>,
    /// The processor that the process shares with who is asked, if it is to.
    pub(crate) processor: Option<usize>,
}

/// Into which root, and how.
#[derive(Debug)]
pub(crate) struct RootEntry {
    /// Absolute, on the host.
    pub(crate) path: CString,
    /// Which directory this must be.
    pub(crate) device_and_inode: (u64, u64),
    pub(crate) steps: Vec<Step>,
    /// Whether it keeps every capability that the builder has.
    pub(crate) insecure: bool,
    /// Whether a filter will refuse new namespaces.
    pub(crate) filtered: bool,
}

/// Whom the command runs as.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Whether the process is somebody else already; nothing is to be done where it is not.
    pub(crate) switch: bool,
    pub(crate) uid: libc::uid_t,
    pub(crate) gid: libc::gid_t,
    /// `None` where the namespace forbids to set them.
    pub(crate) groups: Option<Vec<libc::gid_t>>,
}

/// C strings and the null-terminated list of pointers to them.
pub(crate) struct PointerList {
    pointers: Vec<*const libc::c_char>,
    /// Owns what the pointers point to; never changed.
    _strings: Vec<CString>,
}

impl PointerList {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Self { pointers, _strings: strings }
    }
}

/// Without the strings, which may be secrets.
impl fmt::Debug for PointerList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PointerList({})", self.pointers.len())
    }
}

/// The last error of this thread.
pub(crate) fn errno() -> i32 {
    nix::errno::Errno::last_raw()
}

fn check(result: impl Into<i64>) -> Result<i64, i32> {
    match result.into() {
        -1 => Err(errno()),
        value => Ok(value),
    }
}

/// Starts the init and returns its process id.
///
/// The system call itself, because a library's `fork` takes locks and runs handlers that are of no
/// use to a process that executes something else at once.
#[expect(unsafe_code, reason = "starts a process from a program that may have threads")]
pub(crate) fn start(prepared: &Prepared) -> Result<libc::pid_t, i32> {
    // SAFETY: in the child nothing but `init` runs, which keeps to what this module promises and
    // does not return.
    unsafe {
        match fork(prepared.namespaces)? {
            0 => init(prepared),
            pid => Ok(pid),
        }
    }
}

/// A fork that may make namespaces.
///
/// # Safety
///
/// In the child only async-signal-safe functions may be called.
#[expect(unsafe_code, reason = "see the module")]
unsafe fn fork(namespaces: libc::c_int) -> Result<libc::pid_t, i32> {
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    // SAFETY: without a stack and without CLONE_VM this is a fork.
    #[cfg(not(target_arch = "s390x"))]
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    // SAFETY: as above; this architecture has the stack first.
    #[cfg(target_arch = "s390x")]
    let result = unsafe { libc::syscall(libc::SYS_clone, 0, flags, 0, 0, 0) };
    #[expect(clippy::cast_possible_truncation, reason = "a process id")]
    check(result).map(|pid| pid as libc::pid_t)
}

/// Whether a process that this one starts could have a user namespace of its own, in which it would
/// have every capability. Asks the kernel by trying. Async-signal-safe.
///
/// # Errors
///
/// Fails where the kernel does not answer, as when there are too many processes.
#[expect(unsafe_code, reason = "see the module")]
pub(crate) fn can_make_user_namespace() -> Result<bool, i32> {
    // SAFETY: the child does nothing but end.
    let pid = match unsafe { fork(libc::CLONE_NEWUSER) } {
        Ok(0) => exit(0),
        Ok(pid) => pid,
        // The limit; the rights or a filter; a kernel without user namespaces.
        Err(libc::ENOSPC | libc::EUSERS | libc::EPERM | libc::EINVAL | libc::ENOSYS) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    // SAFETY: the kernel is given no memory to write to.
    while unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) } == -1
        && errno() == libc::EINTR
    {}
    Ok(true)
}

/// Whether a process that this one starts could mount in a mount namespace of its own. Asks the kernel by trying.
/// Async-signal-safe.
pub(crate) fn can_mount() -> bool {
    tries(libc::CLONE_NEWNS, || {
        mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None)
            .and_then(|()| mount(None, c"/", Some(c"tmpfs"), libc::MS_NOSUID, None))
    })
}

/// Whether a process that this one starts in namespaces of its own could have a `/proc` of theirs. Asks the kernel by
/// trying. Async-signal-safe.
pub(crate) fn can_mount_proc() -> bool {
    let own = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID;
    tries(own, || {
        mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None)
            .and_then(|()| mount(None, c"/proc", Some(c"proc"), libc::MS_NOSUID, None))
    })
}

/// Whether a process in these namespaces can do something; it ends then.
#[expect(unsafe_code, reason = "see the module")]
fn tries(namespaces: libc::c_int, attempt: impl FnOnce() -> Result<(), i32>) -> bool {
    // SAFETY: the child calls nothing but the kernel, and ends.
    let pid = match unsafe { fork(namespaces) } {
        Ok(0) => exit(attempt().map_or(1, |()| 0)),
        Ok(pid) => pid,
        Err(_) => return false,
    };
    let mut status = 1;
    loop {
        // SAFETY: the kernel writes the status to a variable that outlives the call.
        let ended = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
        if ended == pid {
            return libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
        }
        if errno() != libc::EINTR {
            return false;
        }
    }
}

/// Process 1 of a private root's process namespace; in place, the reaper of the step's orphans.
#[expect(unsafe_code, reason = "see the module")]
fn init(prepared: &Prepared) -> ! {
    // SAFETY: these take no memory of this program.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        // It holds a copy of the builder's memory.
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        // Ctrl-C is for the builder, which then ends this in order.
        libc::setsid();
    }
    if let Some((start, length)) = prepared.command_line {
        // The init is listed to the guest, and what the builder was asked to do is not the guest's
        // business. SAFETY: this is the memory that the kernel gave the arguments of the program.
        // It is writable, this process has its own copy, and nothing in this process reads it.
        unsafe {
            std::ptr::write_bytes(std::ptr::with_exposed_provenance_mut::<u8>(start), 0, length);
        }
    }
    signals::default_actions();
    // In place the guest may send signals to the init, of which none but KILL and STOP shall have an
    // effect: a script that does `kill $PPID` must not end all of its step.
    signals::set_mask(u64::MAX);
    for limit in &prepared.limits {
        limit.make_room();
    }
    let surrounded = surround(prepared).and_then(|()| match &prepared.entry {
        Some(entry) => enter(entry).and_then(|()| confine(entry)),
        None if prepared.namespaces & libc::CLONE_NEWNS != 0 => attach(&prepared.steps),
        None => Ok(()),
    });
    if let Err((what, error)) = surrounded {
        fail(prepared, what, error);
    }
    // SAFETY: in the child nothing but `command` runs, which keeps to what this module promises and
    // does not return.
    let command_pid = match unsafe { fork(0) } {
        Ok(0) => command(prepared),
        Ok(pid) => pid,
        Err(error) => fail(prepared, Failed::Fork, error),
    };
    close_all_but([prepared.status]);
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes the status to a variable that outlives the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if pid == command_pid {
            if libc::WIFEXITED(status) {
                send(prepared.status, Message::Exited(libc::WEXITSTATUS(status)));
            } else {
                send(prepared.status, Message::Signalled(libc::WTERMSIG(status)));
            }
        } else if pid == -1 && errno() != libc::EINTR {
            // No child is left.
            exit(0);
        }
    }
}

/// Sets up the namespaces that are not about files.
#[expect(unsafe_code, reason = "see the module")]
fn surround(prepared: &Prepared) -> Result<(), (Failed, i32)> {
    if prepared.namespaces & libc::CLONE_NEWNET != 0 {
        network::raise_loopback().map_err(|error| (Failed::Network, error))?;
    }
    if let Some(name) = &prepared.host_name {
        // SAFETY: the pointer is to as many bytes as the kernel is told.
        check(unsafe { libc::sethostname(name.as_ptr(), name.as_bytes().len()) })
            .map_err(|error| (Failed::HostName, error))?;
    }
    Ok(())
}

/// Takes away what a guest of a private root shall not have.
#[expect(unsafe_code, reason = "see the module")]
fn confine(entry: &RootEntry) -> Result<(), (Failed, i32)> {
    // Where the host's control groups begin is not the guest's business; kernels before 4.6 have no
    // such namespace. SAFETY: takes no memory of this program.
    unsafe { libc::unshare(libc::CLONE_NEWCGROUP) };
    // Needs a capability that is gone after the next step.
    landlock::scope_abstract_sockets().map_err(|error| (Failed::Landlock, error))?;
    if !entry.insecure {
        capabilities::limit_bounding_set()
            .and_then(|()| capabilities::limit_current())
            .map_err(|error| (Failed::Capabilities, error))?;
    }
    if entry.filtered {
        return Ok(());
    }
    // `enter_private` has seen to this. It is asked again because the answer can be another one in
    // another root, and because all that was taken away could be had back otherwise.
    match can_make_user_namespace() {
        Ok(false) => Ok(()),
        Ok(true) => Err((Failed::UserNamespaces, libc::EPERM)),
        Err(error) => Err((Failed::UserNamespaces, error)),
    }
}

/// Makes the private root and goes into it.
#[expect(unsafe_code, reason = "see the module")]
fn enter(entry: &RootEntry) -> Result<(), (Failed, i32)> {
    let root = entry.path.as_c_str();
    // SAFETY: takes no memory of this program.
    unsafe { libc::umask(0) };
    mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None)
        .and_then(|()| mount(Some(root), root, None, libc::MS_BIND | libc::MS_REC, None))
        .map_err(|error| (Failed::EnterRoot, error))?;
    // SAFETY: the pointers are C strings and a struct that the kernel fills.
    let found = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        check(libc::chdir(root.as_ptr()))
            .and_then(|_| check(libc::stat(c".".as_ptr(), &raw mut stat)))
            .map(|_| (stat.st_dev, stat.st_ino))
    };
    match found {
        #[expect(clippy::useless_conversion, reason = "the widths differ between architectures")]
        Ok((device, inode)) if (u64::from(device), u64::from(inode)) == entry.device_and_inode => {}
        Ok(_) => return Err((Failed::FindRoot, libc::ESTALE)),
        Err(error) => return Err((Failed::FindRoot, error)),
    }
    perform(&entry.steps)?;
    leave_chroot()?;
    // The old root goes on top of the new one and is then taken off, which needs no directory to
    // put it. SAFETY: the pointers are C strings.
    unsafe {
        check(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()))
            .and_then(|_| check(libc::umount2(c".".as_ptr(), libc::MNT_DETACH)))
            .and_then(|_| check(libc::chdir(c"/".as_ptr())))
            .map(drop)
            .map_err(|error| (Failed::EnterRoot, error))
    }
}

fn perform(steps: &[Step]) -> Result<(), (Failed, i32)> {
    for (number, step) in steps.iter().enumerate() {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        step.perform().map_err(|error| (Failed::Mount(number), error))?;
    }
    Ok(())
}

/// Mounts on the builder's own root, where nobody else sees it.
#[expect(unsafe_code, reason = "see the module")]
fn attach(steps: &[Step]) -> Result<(), (Failed, i32)> {
    let at_root = |error| (Failed::EnterRoot, error);
    mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None).map_err(at_root)?;
    // SAFETY: takes a C string, or no memory of this program.
    unsafe {
        libc::umask(0);
        check(libc::chdir(c"/".as_ptr())).map_err(at_root)?;
    }
    perform(steps)
}

/// Makes `/` the root of the mount namespace, and stays in the working directory.
///
/// They differ where the builder was started in a `chroot`. What would be exchanged then is only
/// that, and a guest that may itself call `chroot` could walk out of it to the machine's files.
/// Entering the namespace in which the process is already is what puts its root back.
#[expect(unsafe_code, reason = "see the module")]
fn leave_chroot() -> Result<(), (Failed, i32)> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: the pointers are C strings. The descriptors are closed at exec, and by the init.
    unsafe {
        let here = libc::open(c".".as_ptr(), flags | libc::O_PATH | libc::O_DIRECTORY);
        let namespace = libc::open(c"/proc/self/ns/mnt".as_ptr(), flags);
        check(here)
            .and_then(|_| check(namespace))
            .and_then(|_| check(libc::setns(namespace, libc::CLONE_NEWNS)))
            .and_then(|_| check(libc::fchdir(here)))
            .map_err(|error| (Failed::EnterRoot, error))?;
    }
    // What lies around the `chroot` was not made private before.
    mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None)
        .map_err(|error| (Failed::EnterRoot, error))
}

/// Becomes the guest's program.
#[expect(unsafe_code, reason = "see the module")]
fn command(prepared: &Prepared) -> ! {
    let identity = &prepared.identity;
    // A path of the root may lead through `/proc/self/fd` and, from a directory that the builder has open, to anywhere:
    // that of a program, or of `/dev/null` beneath a mount.
    let socket = prepared.filter.as_ref().and_then(|filter| Some(filter.asking.as_ref()?.1));
    let Prepared { stdout, stderr, status, .. } = *prepared;
    close_all_but([0, 1, 2, stdout, stderr, status, socket.unwrap_or(0)]);
    // SAFETY: these take C strings, or no memory of this program.
    let streams = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        libc::setsid();
        // Keys of the person who builds are not the guest's. Refused in most containers, which have
        // none.
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        );
        libc::umask(0o022);
        // Programs that open `/dev/stdout` open these anew, with their own rights.
        libc::fchown(prepared.stdout, identity.uid, libc::gid_t::MAX);
        libc::fchown(prepared.stderr, identity.uid, libc::gid_t::MAX);
        open_null()
            .and_then(|null| check(libc::dup2(null, 0)))
            .and_then(|_| check(libc::dup2(prepared.stdout, 1)))
            .and_then(|_| check(libc::dup2(prepared.stderr, 2)))
    };
    if let Err(error) = streams {
        fail(prepared, Failed::Streams, error);
    }
    // As root, because the directory may be one that root may enter and the user may not; as the
    // user, because it may be the other way round on a network file system.
    let entered = change_directory(&prepared.work_dir);
    if identity.switch
        && let Err((what, error)) = become_user(identity)
    {
        fail(prepared, what, error);
    }
    let entered =
        if entered == Err(libc::EACCES) { change_directory(&prepared.work_dir) } else { entered };
    if let Err(error) = entered {
        fail(prepared, Failed::WorkDir, error);
    }
    // SAFETY: takes no memory of this program. The kernel forgets the wish when the user changes.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    close_on_exec();
    for (limit, number) in prepared.limits.iter().zip(0..) {
        if let Err(error) = limit.set() {
            fail(prepared, Failed::Limit(number), error);
        }
    }
    if let Some(filter) = &prepared.filter
        && let Err(error) = install(filter)
    {
        fail(prepared, Failed::Filter, error);
    }
    signals::set_mask(0);
    let error = execute(prepared);
    fail(prepared, Failed::Execute, error)
}

/// Puts filters on this process and all that it will start.
#[expect(unsafe_code, reason = "see the module")]
fn install(filter: &Filter) -> Result<(), i32> {
    // SAFETY: takes no memory of this program. Without it only who may administer the machine may filter; set-user-id
    // programs have no effect afterwards.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(errno());
        }
    }
    if let Some(mark) = filter.mark {
        emulation::mark(0, mark)?;
    }
    if let Some(processor) = filter.processor {
        supervisor::keep_to(processor);
    }
    if let Some((program, socket)) = &filter.asking {
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        // A call that waits for the builder is not to be begun again because of every signal; since Linux 5.19.
        let calm = flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        let listener = load_filter(program, calm).or_else(|_| load_filter(program, flags));
        if filter.mark.is_some() {
            listener?;
        }
        if let Ok(listener) = listener {
            #[expect(clippy::cast_possible_truncation, reason = "a descriptor")]
            let listener = listener as RawFd;
            let given = supervisor::give(*socket, listener);
            // SAFETY: the descriptor is closed once.
            unsafe { libc::close(listener) };
            return given;
        }
    }
    if filter.silent.is_empty() { Ok(()) } else { load_filter(&filter.silent, 0).map(drop) }
}

#[expect(unsafe_code, reason = "see the module")]
fn load_filter(program: &[libc::sock_filter], flags: libc::c_ulong) -> Result<i64, i32> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| libc::E2BIG)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads the program, which is as long as it is told.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    })
}

#[expect(unsafe_code, reason = "see the module")]
fn become_user(identity: &Identity) -> Result<(), (Failed, i32)> {
    let Identity { uid, gid, .. } = *identity;
    // The system calls themselves: a library's functions of these names try to tell all threads.
    // SAFETY: the list is as long as the kernel is told.
    unsafe {
        if let Some(groups) = &identity.groups {
            check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))
                .map_err(|error| (Failed::Groups, error))?;
        }
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))
            .map_err(|error| (Failed::Group, error))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))
            .map_err(|error| (Failed::User, error))?;
    }
    Ok(())
}

/// `struct open_how` of `openat2(2)`.
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// Opens what `path` leads to, as in a chroot to `directory`, and not through a descriptor that this process
/// happens to have open.
///
/// # Safety
///
/// The descriptor is the caller's to close.
#[expect(unsafe_code, reason = "see the module")]
pub(crate) unsafe fn open_beneath(
    directory: RawFd,
    path: &CStr,
    flags: libc::c_int,
) -> Result<RawFd, i32> {
    const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
    const RESOLVE_IN_ROOT: u64 = 0x10;
    let how = OpenHow {
        flags: u64::from((flags | libc::O_CLOEXEC).cast_unsigned()),
        mode: 0,
        resolve: RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    // SAFETY: the pointers are a C string and a struct of the size that the kernel is told.
    let opened = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            directory,
            path.as_ptr(),
            &raw const how,
            size_of::<OpenHow>(),
        )
    };
    #[expect(clippy::cast_possible_truncation, reason = "a descriptor")]
    check(opened).map(|descriptor| descriptor as RawFd)
}

/// Opens the root's `/dev/null`, which beneath a mount can be a link, and not through a descriptor of this process.
#[expect(unsafe_code, reason = "see the module")]
fn open_null() -> Result<RawFd, i32> {
    // SAFETY: the pointers are C strings. The descriptor is closed at exec.
    unsafe {
        check(libc::chdir(c"/".as_ptr()))?;
        match open_beneath(libc::AT_FDCWD, c"dev/null", libc::O_RDWR) {
            // Kernels before 5.6, and filters that do not know the call: nothing was mounted with these.
            Err(libc::ENOSYS | libc::EPERM) => {
                let flags = libc::O_RDWR | libc::O_NOFOLLOW | libc::O_CLOEXEC;
                #[expect(clippy::cast_possible_truncation, reason = "a descriptor")]
                check(libc::open(c"/dev/null".as_ptr(), flags)).map(|null| null as RawFd)
            }
            opened => opened,
        }
    }
}

/// Goes to a directory of the root, and not through a descriptor that this process happens to have
/// open: `WORKDIR /proc/self/fd/7` would otherwise lead to wherever the builder has a directory
/// open.
#[expect(unsafe_code, reason = "see the module")]
fn change_directory(path: &CStr) -> Result<(), i32> {
    // SAFETY: the pointers are C strings.
    unsafe {
        check(libc::chdir(c"/".as_ptr()))?;
        match open_beneath(libc::AT_FDCWD, path, libc::O_PATH | libc::O_DIRECTORY) {
            Ok(directory) => check(libc::fchdir(directory)).map(drop),
            // Kernels before 5.6, and filters that do not know the call.
            Err(libc::ENOSYS | libc::EPERM) => {
                check(libc::chdir(path.as_ptr()))?;
                let mut buffer = [0_u8; 4096];
                check(libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()))?;
                // `(unreachable)` stands where the directory is not beneath the root.
                if buffer[0] == b'/' { Ok(()) } else { Err(libc::ENOENT) }
            }
            Err(error) => Err(error),
        }
    }
}

/// Tries the places where the program may be; returns why none did it.
#[expect(unsafe_code, reason = "see the module")]
fn execute(prepared: &Prepared) -> i32 {
    let mut last = libc::ENOENT;
    for program in &prepared.programs {
        // SAFETY: the pointers are a C string and null-terminated lists of C strings.
        unsafe {
            libc::execve(
                program.as_ptr(),
                prepared.arguments.pointers.as_ptr(),
                prepared.environment.pointers.as_ptr(),
            )
        };
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => last = libc::EACCES,
            error => return error,
        }
    }
    last
}

const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;

/// Kernels without `close_range` get a loop over this many descriptors.
const MOST_DESCRIPTORS: RawFd = 65536;

/// Everything but the three streams ends at exec.
#[expect(unsafe_code, reason = "see the module")]
fn close_on_exec() {
    // SAFETY: takes no memory of this program.
    unsafe {
        if libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) == 0 {
            return;
        }
        for descriptor in 3..MOST_DESCRIPTORS {
            libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
}

/// Lets go of everything that the builder had open except for these descriptors, of which some may be the same. Pipes
/// would not end otherwise, and connections would not close.
#[expect(unsafe_code, reason = "see the module")]
fn close_all_but<const COUNT: usize>(mut kept: [RawFd; COUNT]) {
    kept.sort_unstable();
    let mut next: libc::c_uint = 0;
    let mut is_done = true;
    for descriptor in kept {
        let Ok(descriptor) = libc::c_uint::try_from(descriptor) else { continue };
        if descriptor > next {
            // SAFETY: takes no memory of this program, and nothing after this uses one of these descriptors.
            is_done &=
                unsafe { libc::syscall(libc::SYS_close_range, next, descriptor - 1, 0) } == 0;
        }
        next = next.max(descriptor.saturating_add(1));
    }
    // SAFETY: as above.
    is_done &= unsafe { libc::syscall(libc::SYS_close_range, next, libc::c_uint::MAX, 0) } == 0;
    if !is_done {
        for descriptor in (0..MOST_DESCRIPTORS).filter(|descriptor| !kept.contains(descriptor)) {
            // SAFETY: as above.
            unsafe { libc::close(descriptor) };
        }
    }
}

/// Tells the builder why the command does not run, and ends.
fn fail(prepared: &Prepared, what: Failed, error: i32) -> ! {
    send(prepared.status, Message::Failed(what, error));
    exit(127)
}

#[expect(unsafe_code, reason = "see the module")]
fn send(status: RawFd, message: Message) {
    let bytes = message.encode();
    // SAFETY: the buffer is as long as the kernel is told. A builder that is gone needs no message.
    unsafe { libc::write(status, bytes.as_ptr().cast(), bytes.len()) };
}

#[expect(unsafe_code, reason = "see the module")]
fn exit(status: i32) -> ! {
    // SAFETY: takes no memory of this program and does not return.
    unsafe { libc::_exit(status) }
}
