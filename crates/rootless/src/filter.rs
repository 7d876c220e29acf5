//! Which system calls of a guest are refused, and about which the builder is asked.
//!
//! Where no namespaces can be had, a filter is what remains. It refuses by itself what it can judge by numbers: the
//! families of sockets. For the rest it asks: the name of the host is an answer in the guest's memory, and whether a path
//! is one of those that may not be changed is in the guest's memory too.

use libc::{c_long, sock_filter};

use crate::emulation::{self, Scope, When};

/// A system call that changes something at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) number: c_long,
    /// The paths that it changes.
    pub(crate) paths: &'static [PathArgument],
    /// Which argument tells whether it opens for writing; others always change something.
    pub(crate) open_flags: Option<usize>,
}

/// Where among the arguments of a system call a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathArgument {
    /// The directory that it is relative to; the working directory where there is none.
    pub(crate) directory: Option<usize>,
    /// The path; the directory's descriptor itself is meant where there is none.
    pub(crate) path: Option<usize>,
    /// Whether a link at its end is followed.
    pub(crate) follows: bool,
}

const fn at(directory: usize, path: usize, follows: bool) -> PathArgument {
    PathArgument { directory: Some(directory), path: Some(path), follows }
}

const fn named(path: usize, follows: bool) -> PathArgument {
    PathArgument { directory: None, path: Some(path), follows }
}

const fn descriptor(argument: usize) -> PathArgument {
    PathArgument { directory: Some(argument), path: None, follows: false }
}

const fn change(number: c_long, paths: &'static [PathArgument]) -> Change {
    Change { number, paths, open_flags: None }
}

const FOLLOWED: &[PathArgument] = &[at(0, 1, true)];
const ITSELF: &[PathArgument] = &[at(0, 1, false)];
const NAMED: &[PathArgument] = &[named(0, true)];
const NAMED_ITSELF: &[PathArgument] = &[named(0, false)];
const DESCRIPTOR: &[PathArgument] = &[descriptor(0)];

/// `fchmodat2` has the same number everywhere, and not every libc knows it.
const FCHMODAT2: c_long = 452;

/// Calls that every architecture has.
const CHANGES: &[Change] = &[
    Change { number: libc::SYS_openat, paths: FOLLOWED, open_flags: Some(2) },
    change(libc::SYS_openat2, FOLLOWED),
    change(libc::SYS_mkdirat, ITSELF),
    change(libc::SYS_mknodat, ITSELF),
    change(libc::SYS_unlinkat, ITSELF),
    change(libc::SYS_renameat2, &[at(0, 1, false), at(2, 3, false)]),
    change(libc::SYS_linkat, &[at(2, 3, false)]),
    change(libc::SYS_symlinkat, &[at(1, 2, false)]),
    change(libc::SYS_truncate, NAMED),
    change(libc::SYS_fchmodat, FOLLOWED),
    change(FCHMODAT2, FOLLOWED),
    change(libc::SYS_fchownat, FOLLOWED),
    change(libc::SYS_utimensat, FOLLOWED),
    change(libc::SYS_setxattr, NAMED),
    change(libc::SYS_lsetxattr, NAMED_ITSELF),
    change(libc::SYS_removexattr, NAMED),
    change(libc::SYS_lremovexattr, NAMED_ITSELF),
    change(libc::SYS_fchmod, DESCRIPTOR),
    change(libc::SYS_fchown, DESCRIPTOR),
    change(libc::SYS_fsetxattr, DESCRIPTOR),
    change(libc::SYS_fremovexattr, DESCRIPTOR),
];

/// Calls that only old architectures have.
#[cfg(target_arch = "x86_64")]
const OLD_CHANGES: &[Change] = &[
    Change { number: libc::SYS_open, paths: NAMED, open_flags: Some(1) },
    change(libc::SYS_creat, NAMED),
    change(libc::SYS_mkdir, NAMED_ITSELF),
    change(libc::SYS_mknod, NAMED_ITSELF),
    change(libc::SYS_unlink, NAMED_ITSELF),
    change(libc::SYS_rmdir, NAMED_ITSELF),
    change(libc::SYS_rename, &[named(0, false), named(1, false)]),
    change(libc::SYS_renameat, &[at(0, 1, false), at(2, 3, false)]),
    change(libc::SYS_link, &[named(1, false)]),
    change(libc::SYS_symlink, &[named(1, false)]),
    change(libc::SYS_chmod, NAMED),
    change(libc::SYS_chown, NAMED),
    change(libc::SYS_lchown, NAMED_ITSELF),
    change(libc::SYS_utime, NAMED),
    change(libc::SYS_utimes, NAMED),
    change(libc::SYS_futimesat, FOLLOWED),
];
#[cfg(target_arch = "aarch64")]
const OLD_CHANGES: &[Change] = &[change(libc::SYS_renameat, &[at(0, 1, false), at(2, 3, false)])];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const OLD_CHANGES: &[Change] = &[];

/// Which change a system call makes, if it is one.
pub(crate) fn find_change(number: c_long) -> Option<&'static Change> {
    CHANGES.iter().chain(OLD_CHANGES).find(|change| change.number == number)
}

/// What the kernel calls this architecture, and how its 32-bit sibling makes sockets.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: (u32, u32, &[u32]) = (0xc000_003e, 0x4000_0003, &[102, 359, IO_URING_SETUP]);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: (u32, u32, &[u32]) = (0xc000_00b7, 0x4000_0028, &[281, IO_URING_SETUP]);
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: (u32, u32, &[u32]) = (0xc000_00f3, 0x4000_00f3, &[198, IO_URING_SETUP]);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
const ARCHITECTURE: (u32, u32, &[u32]) = (0, 0, &[]);

/// A ring can make sockets without a system call that a filter sees. The same number everywhere.
const IO_URING_SETUP: u32 = 425;

/// What a filter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Purpose {
    /// Refuse every socket that could reach a network.
    pub(crate) no_network: bool,
    /// Ask about the name of the host.
    pub(crate) host_name: bool,
    /// Ask about changes of files.
    pub(crate) read_only: bool,
    /// Ask about everything by which a process could tell that it is not root.
    pub(crate) emulate: Option<Scope>,
}

impl Purpose {
    pub(crate) fn is_nothing(self) -> bool {
        !self.no_network && !self.asks()
    }

    pub(crate) fn asks(self) -> bool {
        self.host_name || self.read_only || self.emulate.is_some()
    }

    /// The same without what must be asked.
    pub(crate) fn silent(self) -> Self {
        Self { no_network: self.no_network, ..Self::default() }
    }
}

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

const fn argument(index: usize) -> u32 {
    // The low half. There are six arguments.
    #[expect(clippy::cast_possible_truncation, reason = "an index below six")]
    let offset = ARGUMENTS + 8 * index as u32;
    if cfg!(target_endian = "big") { offset + 4 } else { offset }
}

/// From the low half of an argument to the other.
const HIGH_HALF: u32 = 4;

#[expect(clippy::cast_possible_truncation, reason = "codes of 16 bits")]
fn statement(code: u32, value: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k: value }
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn give(verdict: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, verdict)
}

/// Compares in the way of `code`; jumps over so many instructions if it is so, and if it is not.
#[expect(clippy::cast_possible_truncation, reason = "codes of 16 bits")]
fn jump(code: u32, value: u32, if_so: u8, if_not: u8) -> sock_filter {
    let code = libc::BPF_JMP | code | libc::BPF_K;
    sock_filter { code: code as u16, jt: if_so, jf: if_not, k: value }
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const ASK: u32 = libc::SECCOMP_RET_USER_NOTIF;

const fn refuse(error: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | error.cast_unsigned()
}

/// Families that reach nobody outside of the container: local sockets, questions to the kernel, its cryptography.
const LOCAL_FAMILIES: [i32; 3] = [libc::AF_UNIX, libc::AF_NETLINK, libc::AF_ALG];

/// The flags of an `open(2)` that may change something.
pub(crate) const OPENS_TO_CHANGE: i32 =
    libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;

/// The program; `None` where it is not known how this architecture numbers its calls.
pub(crate) fn program(purpose: Purpose) -> Option<Vec<sock_filter>> {
    let (native, sibling, sibling_sockets) = ARCHITECTURE;
    if native == 0 {
        return None;
    }
    let mut program = vec![load(ARCH)];
    let foreign = if purpose.emulate.is_some() {
        // Their calls have other numbers, and none may be missed.
        vec![give(refuse(libc::ENOSYS))]
    } else {
        foreign(purpose, sibling, sibling_sockets)
    };
    let behind = u8::try_from(foreign.len()).ok()?;
    program.push(jump(libc::BPF_JEQ, native, behind, 0));
    program.extend(foreign);
    program.push(load(NUMBER));
    if cfg!(target_arch = "x86_64") {
        // The other set of numbers of this architecture, which nobody uses.
        program.push(jump(libc::BPF_JGE, 0x4000_0000, 0, 1));
        program.push(give(refuse(libc::ENOSYS)));
    }
    if purpose.no_network {
        program.push(jump(libc::BPF_JEQ, IO_URING_SETUP, 0, 1));
        program.push(give(refuse(libc::ENOSYS)));
        let mut body = vec![load(argument(0))];
        for family in LOCAL_FAMILIES {
            body.push(jump(libc::BPF_JEQ, family.cast_unsigned(), 0, 1));
            body.push(give(ALLOW));
        }
        body.push(give(refuse(libc::EAFNOSUPPORT)));
        rule(&mut program, libc::SYS_socket, body)?;
    }
    if purpose.host_name {
        rule(&mut program, libc::SYS_uname, vec![give(ASK)])?;
    }
    if purpose.read_only {
        for change in CHANGES.iter().chain(OLD_CHANGES) {
            let reading_is_asked = purpose.emulate.is_some();
            let body = match change.open_flags.filter(|_| !reading_is_asked) {
                None => vec![give(ASK)],
                Some(index) => vec![
                    load(argument(index)),
                    jump(libc::BPF_JSET, OPENS_TO_CHANGE.cast_unsigned(), 0, 1),
                    give(ASK),
                    give(ALLOW),
                ],
            };
            rule(&mut program, change.number, body)?;
        }
    }
    if let Some(scope) = purpose.emulate {
        emulate(&mut program, purpose, scope)?;
    }
    program.push(give(ALLOW));
    Some(program)
}

/// Asks about what the emulation answers, unless it is asked about already.
fn emulate(program: &mut Vec<sock_filter>, purpose: Purpose, scope: Scope) -> Option<()> {
    for (number, when) in emulation::asked(scope) {
        if !(purpose.read_only && find_change(number).is_some()) {
            rule(program, number, conditional(when, ASK))?;
        }
    }
    for (number, when, error) in emulation::refused() {
        if !(purpose.no_network && number == libc::SYS_io_uring_setup) {
            rule(program, number, conditional(when, refuse(error)))?;
        }
    }
    // Setting a limit, and not asking for it: the third argument is not null.
    let mut body = vec![load(argument(1))];
    let count = u8::try_from(emulation::LOCKS.len()).ok()?;
    for (index, &resource) in (0..count).zip(emulation::LOCKS) {
        body.push(jump(libc::BPF_JEQ, resource, count - index, 0));
    }
    body.push(give(ALLOW));
    body.extend(conditional(When::Given(2), refuse(0)));
    rule(program, libc::SYS_prlimit64, body)
}

/// A body that gives `verdict` when it is so, and lets the call be otherwise.
fn conditional(when: When, verdict: u32) -> Vec<sock_filter> {
    match when {
        When::Always => vec![give(verdict)],
        When::Bits(index, bits) => vec![
            load(argument(index)),
            jump(libc::BPF_JSET, bits, 0, 1),
            give(verdict),
            give(ALLOW),
        ],
        When::OneOf(index, values) => {
            let mut body = vec![load(argument(index))];
            for &value in values {
                body.push(jump(libc::BPF_JEQ, value, 0, 1));
                body.push(give(verdict));
            }
            body.push(give(ALLOW));
            body
        }
        When::Given(index) => vec![
            load(argument(index)),
            jump(libc::BPF_JEQ, 0, 0, 2),
            load(argument(index) + HIGH_HALF),
            jump(libc::BPF_JEQ, 0, 1, 0),
            give(verdict),
            give(ALLOW),
        ],
        // The owner reads and writes, and executes where others do.
        When::UnusualMode(index) => vec![
            load(argument(index)),
            jump(libc::BPF_JSET, 0o7022, 5, 0),
            jump(libc::BPF_JSET, 0o400, 0, 4),
            jump(libc::BPF_JSET, 0o200, 0, 3),
            jump(libc::BPF_JSET, 0o100, 1, 0),
            jump(libc::BPF_JSET, 0o011, 1, 0),
            give(ALLOW),
            give(verdict),
        ],
        When::Both((first, value), (second, other)) => vec![
            load(argument(first)),
            jump(libc::BPF_JEQ, value, 0, 3),
            load(argument(second)),
            jump(libc::BPF_JEQ, other, 0, 1),
            give(verdict),
            give(ALLOW),
        ],
    }
}

/// For programs of another architecture: they have no network where there shall be none, and are not asked.
fn foreign(purpose: Purpose, sibling: u32, sockets: &[u32]) -> Vec<sock_filter> {
    if !purpose.no_network {
        return vec![give(ALLOW)];
    }
    let mut program =
        vec![jump(libc::BPF_JEQ, sibling, 1, 0), give(refuse(libc::ENOSYS)), load(NUMBER)];
    for &number in sockets {
        program.push(jump(libc::BPF_JEQ, number, 0, 1));
        program.push(give(refuse(libc::EAFNOSUPPORT)));
    }
    program.push(give(ALLOW));
    program
}

/// What is to be done about one call; the body ends with a verdict in every case.
fn rule(program: &mut Vec<sock_filter>, number: c_long, body: Vec<sock_filter>) -> Option<()> {
    let behind = u8::try_from(body.len()).ok()?;
    program.push(jump(libc::BPF_JEQ, u32::try_from(number).ok()?, 0, behind));
    program.extend(body);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn judge(program: &[sock_filter], arch: u32, number: c_long, arguments: [u64; 6]) -> u32 {
        let mut data = vec![u32::try_from(number).unwrap(), arch, 0, 0];
        for argument in arguments {
            let halves = [(argument & 0xffff_ffff) as u32, (argument >> 32) as u32];
            data.extend(if cfg!(target_endian = "big") { [halves[1], halves[0]] } else { halves });
        }
        let (mut at, mut held) = (0, 0);
        for _ in 0..program.len() {
            let step = program[at];
            let code = u32::from(step.code);
            at += 1;
            let holds = match code & 0xf7 {
                code if code == libc::BPF_JMP | libc::BPF_JEQ => held == step.k,
                code if code == libc::BPF_JMP | libc::BPF_JGE => held >= step.k,
                code if code == libc::BPF_JMP | libc::BPF_JSET => held & step.k != 0,
                _ if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    held = data[step.k as usize / 4];
                    continue;
                }
                _ => return step.k,
            };
            at += usize::from(if holds { step.jt } else { step.jf });
        }
        panic!("the program has no end");
    }

    const NATIVE: u32 = ARCHITECTURE.0;

    #[test]
    fn without_a_network_only_local_sockets_can_be_made() {
        let program = program(Purpose { no_network: true, ..Purpose::default() }).unwrap();
        let socket = |family: i32| {
            let family = u64::from(family.cast_unsigned());
            judge(&program, NATIVE, libc::SYS_socket, [family, 1, 0, 0, 0, 0])
        };
        assert_eq!(socket(libc::AF_UNIX), ALLOW);
        assert_eq!(socket(libc::AF_NETLINK), ALLOW);
        for family in [libc::AF_INET, libc::AF_INET6, libc::AF_PACKET, libc::AF_VSOCK, -1] {
            assert_eq!(socket(family), refuse(libc::EAFNOSUPPORT), "{family}");
        }
        assert_eq!(judge(&program, NATIVE, IO_URING_SETUP.into(), [0; 6]), refuse(libc::ENOSYS));
        assert_eq!(judge(&program, NATIVE, libc::SYS_write, [2; 6]), ALLOW);
        let (_, sibling, sockets) = ARCHITECTURE;
        for &number in sockets {
            let verdict = judge(&program, sibling, number.into(), [2; 6]);
            assert_eq!(verdict, refuse(libc::EAFNOSUPPORT), "{number}");
        }
        assert_eq!(judge(&program, sibling, 4, [2; 6]), ALLOW);
        assert_eq!(judge(&program, 0x1234, 4, [2; 6]), refuse(libc::ENOSYS));
        assert_eq!(judge(&program, NATIVE, libc::SYS_uname, [2; 6]), ALLOW);
    }

    #[test]
    fn only_changes_of_files_are_asked_about() {
        let program = program(Purpose { read_only: true, ..Purpose::default() }).unwrap();
        let open = |flags: i32| {
            let flags = u64::from(flags.cast_unsigned());
            judge(&program, NATIVE, libc::SYS_openat, [0, 0, flags, 0, 0, 0])
        };
        assert_eq!(open(libc::O_RDONLY | libc::O_CLOEXEC | libc::O_DIRECTORY), ALLOW);
        for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC] {
            assert_eq!(open(flags), ASK, "{flags}");
        }
        for number in [libc::SYS_unlinkat, libc::SYS_renameat2, libc::SYS_openat2, libc::SYS_fchmod]
        {
            assert_eq!(judge(&program, NATIVE, number, [0; 6]), ASK, "{number}");
            assert!(find_change(number).is_some());
        }
        for number in [libc::SYS_read, libc::SYS_write, libc::SYS_socket, libc::SYS_uname] {
            assert_eq!(judge(&program, NATIVE, number, [2; 6]), ALLOW, "{number}");
            assert!(find_change(number).is_none());
        }
    }

    #[test]
    fn an_emulated_root_asks_about_what_would_tell_and_refuses_ways_around() {
        let scope = Scope { descriptors: false, paths: false };
        let program = program(Purpose { emulate: Some(scope), ..Purpose::default() }).unwrap();
        let verdict =
            |number: c_long, arguments: [u64; 6]| judge(&program, NATIVE, number, arguments);
        for number in [libc::SYS_getuid, libc::SYS_fchownat, libc::SYS_statx, libc::SYS_execve] {
            assert_eq!(verdict(number, [0; 6]), ASK, "{number}");
        }
        assert_eq!(verdict(libc::SYS_openat, [0; 6]), ASK);
        assert_eq!(verdict(libc::SYS_read, [0; 6]), ALLOW);
        for (path, expected) in [(0, ALLOW), (1, ASK), (1 << 40, ASK)] {
            assert_eq!(verdict(libc::SYS_utimensat, [3, path, 1, 0, 0, 0]), expected, "{path}");
        }
        assert_eq!(verdict(libc::SYS_clone, [0x11, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(verdict(libc::SYS_clone, [0x1000_0011, 0, 0, 0, 0, 0]), refuse(libc::EPERM));
        assert_eq!(verdict(libc::SYS_clone3, [0; 6]), refuse(libc::ENOSYS));
        assert_eq!(verdict(IO_URING_SETUP.into(), [0; 6]), refuse(libc::ENOSYS));
        assert_eq!(judge(&program, ARCHITECTURE.1, 5, [0; 6]), refuse(libc::ENOSYS));
    }

    #[test]
    fn the_mark_of_an_identity_can_be_read_and_not_set() {
        let scope = Scope { descriptors: true, paths: true };
        let program = program(Purpose { emulate: Some(scope), ..Purpose::default() }).unwrap();
        let locks = u64::from(libc::RLIMIT_LOCKS);
        let limit = |resource: u64, new: u64| {
            judge(&program, NATIVE, libc::SYS_prlimit64, [0, resource, new, 0, 0, 0])
        };
        assert_eq!(limit(locks, 0), ALLOW);
        assert_eq!(limit(locks, 0x7fff_0000_0000), refuse(0));
        assert_eq!(limit(locks, 1), refuse(0));
        assert_eq!(limit(locks + 1, 1), ALLOW);
        assert_eq!(judge(&program, NATIVE, libc::SYS_setrlimit, [locks, 1, 0, 0, 0, 0]), refuse(0));
        assert_eq!(judge(&program, NATIVE, libc::SYS_getcwd, [0; 6]), ASK);
    }

    #[test]
    fn usual_modes_of_what_is_open_are_the_kernels_where_root_begins() {
        let verdict = |descriptors: bool, mode: u64| {
            let scope = Scope { descriptors, paths: false };
            let program = program(Purpose { emulate: Some(scope), ..Purpose::default() }).unwrap();
            judge(&program, NATIVE, libc::SYS_fchmod, [3, mode, 0, 0, 0, 0])
        };
        // With the bits that tell what a file is, as stat(2) gives them.
        for mode in [0o600, 0o644, 0o640, 0o700, 0o755, 0o711, 0o100_644] {
            assert_eq!(verdict(false, mode), ALLOW, "{mode:o}");
            assert_eq!(verdict(true, mode), ASK, "{mode:o}");
        }
        for mode in [0, 0o400, 0o200, 0o444, 0o555, 0o611, 0o601, 0o666, 0o622, 0o777, 0o664] {
            assert_eq!(verdict(false, mode), ASK, "{mode:o}");
        }
        for mode in [0o1644, 0o2755, 0o4755, 0o6755] {
            assert_eq!(verdict(false, mode), ASK, "{mode:o}");
        }
    }

    #[test]
    fn only_peers_are_asked_about_among_options_of_sockets() {
        let scope = Scope { descriptors: false, paths: false };
        let program = program(Purpose { emulate: Some(scope), ..Purpose::default() }).unwrap();
        let option = |level: i32, name: i32| {
            let [level, name] = [level, name].map(|word| u64::from(word.cast_unsigned()));
            judge(&program, NATIVE, libc::SYS_getsockopt, [3, level, name, 0, 0, 0])
        };
        assert_eq!(option(libc::SOL_SOCKET, libc::SO_PEERCRED), ASK);
        assert_eq!(option(libc::SOL_SOCKET, libc::SO_TYPE), ALLOW);
        assert_eq!(option(libc::IPPROTO_TCP, libc::SO_PEERCRED), ALLOW);
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut numbers: Vec<c_long> =
            CHANGES.iter().chain(OLD_CHANGES).map(|change| change.number).collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
    }
}
