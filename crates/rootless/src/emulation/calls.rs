//! Which system calls the emulation answers, and which it refuses.

use libc::c_long;

/// When a call is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    /// Where one of these bits of an argument is set.
    Bits(usize, u32),
    /// Where an argument is one of these.
    OneOf(usize, &'static [u32]),
    /// Where both arguments are these.
    Both((usize, u32), (usize, u32)),
    /// Where an argument, of 64 bits, is not 0.
    Given(usize),
    /// Where an argument is a mode that the disk may not hold, or that lets others write: all but those with which a file is
    /// made usually.
    UnusualMode(usize),
}

/// How much must be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Who changes times and usual modes of what is open: all others than root may be refused.
    pub(crate) descriptors: bool,
    /// What shows where a path leads.
    pub(crate) paths: bool,
}

/// `fchmodat2` and the calls for extended attributes of descriptors have the same numbers everywhere, and not every libc
/// knows them.
pub(crate) const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const GETXATTRAT: c_long = 464;
const LISTXATTRAT: c_long = 465;
const REMOVEXATTRAT: c_long = 466;

/// What of `prctl(2)` would tell who the process is, or make it unreadable for who answers its calls.
const OPTIONS: &[u32] = &[
    libc::PR_GET_DUMPABLE.cast_unsigned(),
    libc::PR_SET_DUMPABLE.cast_unsigned(),
    libc::PR_GET_KEEPCAPS.cast_unsigned(),
    libc::PR_SET_KEEPCAPS.cast_unsigned(),
    libc::PR_CAPBSET_READ.cast_unsigned(),
    libc::PR_CAPBSET_DROP.cast_unsigned(),
    libc::PR_GET_SECUREBITS.cast_unsigned(),
    libc::PR_SET_SECUREBITS.cast_unsigned(),
    libc::PR_SET_NO_NEW_PRIVS.cast_unsigned(),
    libc::PR_GET_NO_NEW_PRIVS.cast_unsigned(),
    libc::PR_CAP_AMBIENT.cast_unsigned(),
];

const SOCKET_LEVEL: u32 = libc::SOL_SOCKET.cast_unsigned();
const PEER: u32 = libc::SO_PEERCRED.cast_unsigned();

/// Calls that every architecture has.
const CALLS: &[(c_long, When)] = &[
    (libc::SYS_getuid, When::Always),
    (libc::SYS_geteuid, When::Always),
    (libc::SYS_getgid, When::Always),
    (libc::SYS_getegid, When::Always),
    (libc::SYS_getresuid, When::Always),
    (libc::SYS_getresgid, When::Always),
    (libc::SYS_getgroups, When::Always),
    (libc::SYS_setuid, When::Always),
    (libc::SYS_setgid, When::Always),
    (libc::SYS_setreuid, When::Always),
    (libc::SYS_setregid, When::Always),
    (libc::SYS_setresuid, When::Always),
    (libc::SYS_setresgid, When::Always),
    (libc::SYS_setfsuid, When::Always),
    (libc::SYS_setfsgid, When::Always),
    (libc::SYS_setgroups, When::Always),
    (libc::SYS_capget, When::Always),
    (libc::SYS_capset, When::Always),
    (libc::SYS_prctl, When::OneOf(0, OPTIONS)),
    (libc::SYS_getsockopt, When::Both((1, SOCKET_LEVEL), (2, PEER))),
    (libc::SYS_bind, When::Always),
    (libc::SYS_execve, When::Always),
    (libc::SYS_execveat, When::Always),
    (libc::SYS_fstat, When::Always),
    (libc::SYS_newfstatat, When::Always),
    (libc::SYS_statx, When::Always),
    (libc::SYS_fchown, When::Always),
    (libc::SYS_fchownat, When::Always),
    (libc::SYS_fchmod, When::Always),
    (libc::SYS_fchmodat, When::Always),
    (FCHMODAT2, When::Always),
    (libc::SYS_openat, When::Always),
    (libc::SYS_openat2, When::Always),
    (libc::SYS_mkdirat, When::Always),
    (libc::SYS_mknodat, When::Always),
    (libc::SYS_symlinkat, When::Always),
    (libc::SYS_setxattr, When::Always),
    (libc::SYS_lsetxattr, When::Always),
    (libc::SYS_fsetxattr, When::Always),
    (libc::SYS_getxattr, When::Always),
    (libc::SYS_lgetxattr, When::Always),
    (libc::SYS_fgetxattr, When::Always),
    (libc::SYS_listxattr, When::Always),
    (libc::SYS_llistxattr, When::Always),
    (libc::SYS_flistxattr, When::Always),
    (libc::SYS_removexattr, When::Always),
    (libc::SYS_lremovexattr, When::Always),
    (libc::SYS_fremovexattr, When::Always),
    (libc::SYS_chroot, When::Always),
    (libc::SYS_fchdir, When::Always),
];

/// What a call makes void of what is known about paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Voids {
    Nothing,
    /// What directories do with what is made in them: a path may lead to another one, or a directory may hand on its group.
    Directories,
    /// Where threads are, as well; or who has a number: who executes becomes the first thread of its process.
    Everything,
}

pub(crate) fn voids(number: c_long) -> Voids {
    const EVERYTHING: &[c_long] =
        &[libc::SYS_chdir, libc::SYS_fchdir, libc::SYS_execve, libc::SYS_execveat];
    // Where a path leads somewhere already, nothing can be made without being removed or renamed before.
    const DIRECTORIES: &[c_long] = &[
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        FCHMODAT2,
        libc::SYS_unlinkat,
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        libc::SYS_renameat,
        libc::SYS_renameat2,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chmod,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_unlink,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rmdir,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename,
    ];
    if EVERYTHING.contains(&number) {
        Voids::Everything
    } else if DIRECTORIES.contains(&number) {
        Voids::Directories
    } else {
        Voids::Nothing
    }
}

/// Calls that only old architectures have.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[(c_long, When)] = &[
    (libc::SYS_stat, When::Always),
    (libc::SYS_lstat, When::Always),
    (libc::SYS_chown, When::Always),
    (libc::SYS_lchown, When::Always),
    (libc::SYS_chmod, When::Always),
    (libc::SYS_open, When::Always),
    (libc::SYS_creat, When::Always),
    (libc::SYS_mkdir, When::Always),
    (libc::SYS_mknod, When::Always),
    (libc::SYS_symlink, When::Always),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[(c_long, When)] = &[];

/// Calls that the kernel makes when the caller may.
const GUARDED: &[c_long] = &[
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_unlinkat,
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_truncate,
    libc::SYS_chdir,
    libc::SYS_utimensat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
];

/// Whether the kernel makes this call when the caller may.
pub(crate) fn is_guarded(number: c_long) -> bool {
    GUARDED.contains(&number)
}

/// What tells or shows where a path leads.
const PATHS: &[c_long] = &[
    libc::SYS_getcwd,
    libc::SYS_readlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
];

/// Everything that is asked about.
pub(crate) fn asked(scope: Scope) -> impl Iterator<Item = (c_long, When)> {
    let paths = PATHS.iter().filter(move |_| scope.paths).map(|&number| (number, When::Always));
    let guarded = GUARDED.iter().map(|&number| (number, When::Always));
    let all = CALLS.iter().chain(OLD_CALLS).copied().chain(guarded).chain(paths);
    all.map(move |(number, when)| match number {
        // Who makes many files sets times and mode of each. Times of what is open come without a path.
        libc::SYS_fchmod if !scope.descriptors => (number, When::UnusualMode(1)),
        libc::SYS_utimensat if !scope.descriptors => (number, When::Given(1)),
        _ => (number, when),
    })
}

/// Namespaces, mounts and rings: what a pod refuses as well, and what would let a guest get round the filter.
const REFUSED: &[(c_long, When, i32)] = &[
    (libc::SYS_clone, When::Bits(0, NEW_NAMESPACES), libc::EPERM),
    // Its flags are in memory. Libraries fall back to `clone`.
    (libc::SYS_clone3, When::Always, libc::ENOSYS),
    (libc::SYS_unshare, When::Bits(0, NEW_NAMESPACES), libc::EPERM),
    (libc::SYS_setns, When::Always, libc::EPERM),
    (libc::SYS_mount, When::Always, libc::EPERM),
    (libc::SYS_umount2, When::Always, libc::EPERM),
    (libc::SYS_pivot_root, When::Always, libc::EPERM),
    (libc::SYS_io_uring_setup, When::Always, libc::ENOSYS),
    (SETXATTRAT, When::Always, libc::ENOSYS),
    (GETXATTRAT, When::Always, libc::ENOSYS),
    (LISTXATTRAT, When::Always, libc::ENOSYS),
    (REMOVEXATTRAT, When::Always, libc::ENOSYS),
];

/// The limit in which the number of an identity is kept: setting it has no effect, and none is expected.
const SET_LOCKS: (c_long, When, i32) = (libc::SYS_setrlimit, When::OneOf(0, LOCKS), 0);

pub(crate) const LOCKS: &[u32] = &[10];

/// Mount, control group, host name, IPC, user, process and network namespaces.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// Everything that is refused, or done without an effect where the number is 0.
pub(crate) fn refused() -> impl Iterator<Item = (c_long, When, i32)> {
    REFUSED.iter().copied().chain([SET_LOCKS])
}
