//! What a guest finds in a private root besides the image's files.
//!
//! Everything is decided here, before the guest's process exists, as a list of steps that need no
//! memory and no answer from elsewhere; `child.rs` carries them out. Paths in the root are free of
//! links, see `stubs.rs`.

use std::borrow::Cow;
use std::ffi::{CStr, CString};

use ebiko_rootfs::RootPath;

use crate::attach::Attach;
use crate::child::errno;

/// One thing to do while the guest's mount namespace is made. Relative paths are beneath the new
/// root.
#[derive(Debug)]
pub(crate) enum Step {
    /// A new file system.
    New { kind: &'static CStr, target: CString, flags: libc::c_ulong, data: Cow<'static, CStr> },
    /// `/proc`: a new one, or, where the machine's own is partly covered and the kernel therefore
    /// refuses, that one.
    Proc { target: CString },
    /// `/dev/pts`, whose group is `tty` where that group exists.
    Terminals { target: CString },
    /// The machine's `/sys`, read-only with all that is mounted in it; where that is impossible, an
    /// empty directory.
    Sys { target: CString },
    /// A file of the machine, where it has it.
    Device { source: &'static CStr, target: CString },
    /// A directory.
    Directory { path: CString, mode: libc::mode_t },
    /// A file with this content.
    File { path: CString, content: Vec<u8> },
    /// A link.
    Link { to: &'static CStr, path: CString },
    /// Puts what is at `source` also at `target`, read-only.
    BindReadOnly { source: CString, target: CString },
    /// Makes what is at `path`, if anything, read-only.
    Freeze { path: CString },
    /// Hides what is at `path`, if anything.
    Hide { path: CString },
    /// Takes the file system at `target` away again; what was bound from it stays.
    Unmount { target: CString },
    /// Something that the guest asked for, which needs no place in the root before.
    Attach(Attach),
}

/// Where in the root the mounts go; each exists and no component is a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Targets {
    pub(crate) proc: RootPath,
    pub(crate) dev: RootPath,
    pub(crate) sys: RootPath,
    pub(crate) resolv_conf: RootPath,
    pub(crate) hosts: RootPath,
}

const QUIET: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// What runc masks: doors to the machine's memory, keys and hardware.
const HIDDEN_PROC: [&str; 9] = [
    "acpi",
    "asound",
    "kcore",
    "keys",
    "latency_stats",
    "timer_list",
    "timer_stats",
    "sched_debug",
    "scsi",
];
const HIDDEN_SYS: [&str; 2] = ["firmware", "devices/virtual/powercap"];

/// What runc makes read-only. Without capabilities root may still write files that belong to root,
/// and the machine's kernel is configured through these.
const FROZEN_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

const DEVICES: [(&CStr, &str); 6] = [
    (c"/dev/null", "null"),
    (c"/dev/zero", "zero"),
    (c"/dev/full", "full"),
    (c"/dev/random", "random"),
    (c"/dev/urandom", "urandom"),
    (c"/dev/tty", "tty"),
];

const LINKS: [(&CStr, &str); 5] = [
    (c"/proc/self/fd", "fd"),
    (c"/proc/self/fd/0", "stdin"),
    (c"/proc/self/fd/1", "stdout"),
    (c"/proc/self/fd/2", "stderr"),
    (c"pts/ptmx", "ptmx"),
];

/// The steps for one guest, in order.
pub(crate) fn plan(
    targets: &Targets,
    resolv_conf: &[u8],
    hosts: &[u8],
    shm_size: u64,
) -> Vec<Step> {
    let mut steps = network_files(targets, resolv_conf, hosts);
    steps.push(Step::Proc { target: relative(&targets.proc, "") });
    steps.extend(HIDDEN_PROC.map(|name| Step::Hide { path: relative(&targets.proc, name) }));
    steps.extend(FROZEN_PROC.map(|name| Step::Freeze { path: relative(&targets.proc, name) }));
    steps.extend(devices(&targets.dev, shm_size));
    steps.push(Step::Sys { target: relative(&targets.sys, "") });
    steps.extend(HIDDEN_SYS.map(|name| Step::Hide { path: relative(&targets.sys, name) }));
    steps
}

/// The files need a place before they are bound to where the guest looks for them. A short-lived
/// file system where `/proc` will be is one that nobody else can see.
fn network_files(targets: &Targets, resolv_conf: &[u8], hosts: &[u8]) -> Vec<Step> {
    let place = relative(&targets.proc, "");
    let mut steps = vec![new(c"tmpfs", place.clone(), QUIET, c"mode=700")];
    for (name, content, target) in
        [("resolv.conf", resolv_conf, &targets.resolv_conf), ("hosts", hosts, &targets.hosts)]
    {
        let source = relative(&targets.proc, name);
        steps.push(Step::File { path: source.clone(), content: content.to_vec() });
        steps.push(Step::BindReadOnly { source, target: relative(target, "") });
    }
    steps.push(Step::Unmount { target: place });
    steps
}

/// How large `/dev/shm` is where nobody says it, as in every container engine.
pub(crate) const SHM_SIZE: u64 = 64 << 20;

/// A `/dev/shm` that holds so many bytes.
pub(crate) fn shared_memory(dev: &RootPath, size: u64) -> Step {
    let data = CString::new(format!("mode=1777,size={size}")).unwrap_or_default();
    let target = relative(dev, "shm");
    Step::New { kind: c"tmpfs", target, flags: QUIET, data: Cow::Owned(data) }
}

fn new(kind: &'static CStr, target: CString, flags: libc::c_ulong, data: &'static CStr) -> Step {
    Step::New { kind, target, flags, data: Cow::Borrowed(data) }
}

fn devices(dev: &RootPath, shm_size: u64) -> Vec<Step> {
    let flags = libc::MS_NOSUID | libc::MS_STRICTATIME;
    let mut steps = vec![new(c"tmpfs", relative(dev, ""), flags, c"mode=755,size=65536k")];
    for (source, name) in DEVICES {
        steps.push(Step::Device { source, target: relative(dev, name) });
    }
    for (to, name) in LINKS {
        steps.push(Step::Link { to, path: relative(dev, name) });
    }
    for (name, mode) in [("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o755)] {
        steps.push(Step::Directory { path: relative(dev, name), mode });
    }
    steps.push(Step::Terminals { target: relative(dev, "pts") });
    steps.push(shared_memory(dev, shm_size));
    steps.push(new(c"mqueue", relative(dev, "mqueue"), QUIET, c""));
    steps
}

/// The text of `/etc/hosts`: BuildKit's, then the machine's own names.
pub(crate) fn hosts_file(host_name: &str, machine: &[u8]) -> Vec<u8> {
    let own =
        format!("127.0.0.1\tlocalhost {host_name}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    [own.as_bytes(), machine].concat()
}

/// `path/name` as the kernel wants it, relative to the new root; `.` for the root itself.
fn relative(path: &RootPath, name: &str) -> CString {
    let mut bytes = path.as_bytes().to_vec();
    if !bytes.is_empty() && !name.is_empty() {
        bytes.push(b'/');
    }
    bytes.extend_from_slice(name.as_bytes());
    if bytes.is_empty() {
        bytes.push(b'.');
    }
    // A `RootPath` holds no NUL, and neither do the names here.
    CString::new(bytes).unwrap_or_default()
}

impl Step {
    /// What the step makes, for messages.
    pub(crate) fn subject(&self) -> String {
        let path = match self {
            Self::New { target, .. }
            | Self::Proc { target }
            | Self::Terminals { target }
            | Self::Sys { target }
            | Self::Device { target, .. }
            | Self::BindReadOnly { target, .. }
            | Self::Unmount { target } => target,
            Self::Directory { path, .. }
            | Self::File { path, .. }
            | Self::Link { path, .. }
            | Self::Freeze { path }
            | Self::Hide { path } => path,
            Self::Attach(attach) => attach.target(),
        };
        format!("/{}", path.to_string_lossy())
    }

    /// Does it. Async-signal-safe.
    pub(crate) fn perform(&self) -> Result<(), i32> {
        match self {
            Self::New { kind, target, flags, data } => {
                let result = mount(None, target, Some(kind), *flags, Some(data));
                // Message queues are an option of the kernel.
                if *kind == c"mqueue" { Ok(()) } else { result }
            }
            Self::Proc { target } => {
                mount(None, target, Some(c"proc"), QUIET, None).or_else(|_| {
                    mount(Some(c"/proc"), target, None, libc::MS_BIND | libc::MS_REC, None)
                })
            }
            Self::Terminals { target } => {
                let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
                let with_group = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
                let without = c"newinstance,ptmxmode=0666,mode=0620";
                mount(None, target, Some(c"devpts"), flags, Some(with_group))
                    .or_else(|_| mount(None, target, Some(c"devpts"), flags, Some(without)))
            }
            Self::Sys { target } => {
                mount(Some(c"/sys"), target, None, libc::MS_BIND | libc::MS_REC, None)
                    .and_then(|()| {
                        make_tree_read_only(target).inspect_err(|_| {
                            unmount(target).ok();
                        })
                    })
                    .or_else(|_| {
                        mount(
                            None,
                            target,
                            Some(c"tmpfs"),
                            QUIET | libc::MS_RDONLY,
                            Some(c"mode=555"),
                        )
                    })
            }
            Self::Device { source, target } => {
                create(target, &[])?;
                match mount(Some(source), target, None, libc::MS_BIND, None) {
                    Err(libc::ENOENT) => remove(target),
                    result => result,
                }
            }
            Self::Directory { path, mode } => make_directory(path, *mode),
            Self::File { path, content } => create(path, content),
            Self::Link { to, path } => link(to, path),
            Self::BindReadOnly { source, target } => {
                mount(Some(source), target, None, libc::MS_BIND, None)
                    .and_then(|()| make_read_only(target))
            }
            Self::Freeze { path } => {
                match mount(Some(path), path, None, libc::MS_BIND | libc::MS_REC, None) {
                    Err(libc::ENOENT) => Ok(()),
                    Err(error) => Err(error),
                    Ok(()) => make_read_only(path),
                }
            }
            Self::Hide { path } => match mount(Some(c"/dev/null"), path, None, libc::MS_BIND, None)
            {
                Err(libc::ENOTDIR) => mount(
                    None,
                    path,
                    Some(c"tmpfs"),
                    QUIET | libc::MS_RDONLY,
                    Some(c"mode=555,size=0k"),
                ),
                Err(libc::ENOENT) => Ok(()),
                result => result,
            },
            Self::Unmount { target } => unmount(target),
            Self::Attach(attach) => attach.perform(),
        }
    }
}

pub(crate) fn check(result: libc::c_int) -> Result<(), i32> {
    if result == 0 { Ok(()) } else { Err(errno()) }
}

pub(crate) fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    data: Option<&CStr>,
) -> Result<(), i32> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // A new file system needs some name in mountinfo.
    let source = source.or(kind);
    #[expect(unsafe_code, reason = "no wrapper is async-signal-safe by contract")]
    // SAFETY: every pointer is null or a C string that outlives the call.
    check(unsafe {
        libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags, pointer(data).cast())
    })
}

pub(crate) fn unmount(target: &CStr) -> Result<(), i32> {
    #[expect(unsafe_code, reason = "no wrapper is async-signal-safe by contract")]
    // SAFETY: the pointer is a C string that outlives the call.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) })
}

/// Makes one mount read-only. The other flags must be repeated: in a user namespace they may not be
/// taken away.
pub(crate) fn make_read_only(path: &CStr) -> Result<(), i32> {
    const KEPT: [(libc::c_ulong, libc::c_ulong); 6] = [
        (libc::ST_NOSUID, libc::MS_NOSUID),
        (libc::ST_NODEV, libc::MS_NODEV),
        (libc::ST_NOEXEC, libc::MS_NOEXEC),
        (libc::ST_NOATIME, libc::MS_NOATIME),
        (libc::ST_NODIRATIME, libc::MS_NODIRATIME),
        (libc::ST_RELATIME, libc::MS_RELATIME),
    ];
    #[expect(unsafe_code, reason = "no wrapper is async-signal-safe by contract")]
    // SAFETY: an all-zero `statvfs` is a valid value, which the call fills.
    let (result, current) = unsafe {
        let mut current: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &raw mut current), current.f_flag)
    };
    check(result)?;
    let mut flags = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY;
    for (have, keep) in KEPT {
        if current & have != 0 {
            flags |= keep;
        }
    }
    mount(None, path, None, flags, None)
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 1;
const AT_RECURSIVE: libc::c_int = 0x8000;

/// Makes a mount and all mounts beneath it read-only, in one step.
pub(crate) fn make_tree_read_only(path: &CStr) -> Result<(), i32> {
    let attributes =
        MountAttributes { set: MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, user_namespace: 0 };
    #[expect(unsafe_code, reason = "libc has no function for this call")]
    // SAFETY: the kernel reads as many bytes as it is told, which is the size of the struct.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(errno()) }
}

fn make_directory(path: &CStr, mode: libc::mode_t) -> Result<(), i32> {
    #[expect(unsafe_code, reason = "no wrapper is async-signal-safe by contract")]
    // SAFETY: the pointer is a C string that outlives the call.
    check(unsafe { libc::mkdir(path.as_ptr(), mode) })
}

fn link(to: &CStr, path: &CStr) -> Result<(), i32> {
    #[expect(unsafe_code, reason = "no wrapper is async-signal-safe by contract")]
    // SAFETY: the pointers are C strings that outlive the call.
    check(unsafe { libc::symlink(to.as_ptr(), path.as_ptr()) })
}

fn remove(path: &CStr) -> Result<(), i32> {
    #[expect(unsafe_code, reason = "no wrapper is async-signal-safe by contract")]
    // SAFETY: the pointer is a C string that outlives the call.
    check(unsafe { libc::unlink(path.as_ptr()) })
}

/// Makes a file that everyone may read. A file that was read into memory at once is written at
/// once.
fn create(path: &CStr, content: &[u8]) -> Result<(), i32> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
    #[expect(unsafe_code, reason = "no wrapper is async-signal-safe by contract")]
    // SAFETY: the pointers are a C string and a buffer of the length given, and the descriptor is
    // closed once.
    unsafe {
        let file = libc::open(path.as_ptr(), flags, 0o644);
        if file < 0 {
            return Err(errno());
        }
        let written = libc::write(file, content.as_ptr().cast(), content.len());
        let error = errno();
        libc::close(file);
        match usize::try_from(written) {
            Ok(count) if count == content.len() => Ok(()),
            Ok(_) => Err(libc::ENOSPC),
            Err(_) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets() -> Targets {
        let path = |text: &str| RootPath::parse(text.as_bytes()).unwrap();
        Targets {
            proc: path("proc"),
            dev: path("dev"),
            sys: path("sys"),
            resolv_conf: path("run/resolv.conf"),
            hosts: path("etc/hosts"),
        }
    }

    #[test]
    fn network_files_are_bound_before_their_place_becomes_proc() {
        let steps = plan(&targets(), b"nameserver 9.9.9.9\n", b"127.0.0.1 x\n", SHM_SIZE);
        let position = |wanted: &str| {
            steps.iter().position(|step| format!("{step:?}").starts_with(wanted)).unwrap()
        };
        let bound =
            steps.iter().rposition(|step| matches!(step, Step::BindReadOnly { .. })).unwrap();
        assert!(bound < position("Unmount"));
        assert!(position("Unmount") < position("Proc"));
        assert_eq!(steps[bound].subject(), "/etc/hosts");
    }

    #[test]
    fn nothing_in_proc_is_hidden_or_frozen_before_it_is_there() {
        let steps = plan(&targets(), b"", b"", SHM_SIZE);
        let there = steps.iter().position(|step| matches!(step, Step::Proc { .. })).unwrap();
        let first = steps
            .iter()
            .position(|step| matches!(step, Step::Hide { .. } | Step::Freeze { .. }))
            .unwrap();
        assert!(there < first);
        assert!(
            steps.iter().any(
                |step| matches!(step, Step::Freeze { path } if path.as_c_str() == c"proc/sys")
            )
        );
    }

    #[test]
    fn shared_memory_has_the_size_that_is_asked_for() {
        let steps = plan(&targets(), b"", b"", 128 << 20);
        assert!(steps.iter().any(|step| {
            matches!(step, Step::New { data, .. } if data.as_ref() == c"mode=1777,size=134217728")
                && step.subject() == "/dev/shm"
        }));
    }

    #[test]
    fn hosts_starts_as_buildkits_and_ends_as_the_machines() {
        assert_eq!(
            String::from_utf8(hosts_file("sandbox", b"10.0.0.1 mirror\n")).unwrap(),
            "127.0.0.1\tlocalhost sandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.1 mirror\n"
        );
    }
}
