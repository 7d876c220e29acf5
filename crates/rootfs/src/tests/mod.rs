//! Tests of what the modules do together, on real directories.

#![expect(clippy::disallowed_methods, reason = "what a root did is judged from outside of it")]

mod attributes;
mod escape;
mod exchange;
mod move_out;
mod privileged;
mod protected;
mod read;
mod remove;
mod take;

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fd::AsFd;
use tempfile::TempDir;

use crate::resolve::Resolution;
use crate::root::open_host;
use crate::{Attributes, Kind, Root, RootOptions, RootPath};

/// A directory with a root in it and files beside the root that nobody may touch.
pub(crate) struct Sandbox {
    directory: TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self::in_directory(tempfile::tempdir().unwrap())
    }

    /// For tests that make thousands of files, whose number is the point and not where they are.
    pub(crate) fn in_memory() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self::in_directory(directory.unwrap())
    }

    fn in_directory(directory: TempDir) -> Self {
        let sandbox = Self { directory };
        std::fs::create_dir_all(sandbox.host("root")).unwrap();
        std::fs::create_dir_all(sandbox.host("canary/dir")).unwrap();
        std::fs::write(sandbox.host("canary/secret"), "secret").unwrap();
        std::fs::write(sandbox.host("canary/dir/file"), "secret").unwrap();
        sandbox
    }

    /// A path in the sandbox, on the host.
    pub(crate) fn host(&self, path: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(path)
    }

    pub(crate) fn root(&self) -> Root {
        self.root_with(Resolution::Openat2, &[])
    }

    /// The root with a builder's directory that need not exist and a store in it.
    pub(crate) fn root_with(&self, resolution: Resolution, protected: &[&str]) -> Root {
        let (dir, host) = open_host(&self.host("root")).unwrap();
        let options = RootOptions {
            protected: protected.iter().map(|text| path(text)).collect(),
            displaced_store: Some(self.host("store")),
            ..RootOptions::default()
        };
        assert_eq!(Resolution::detect(dir.as_fd()), Resolution::Openat2, "this kernel has openat2");
        Root::open_with(dir, host, options, resolution).unwrap()
    }

    /// The same root, opened in every way in which it resolves paths.
    pub(crate) fn roots(&self) -> Vec<(&'static str, Root)> {
        vec![
            ("openat2", self.root_with(Resolution::Openat2, &[])),
            ("openat2, something protected", self.root_with(Resolution::Openat2, &["etc/builder"])),
            ("walk", self.root_with(Resolution::Walk, &[])),
            ("walk, something protected", self.root_with(Resolution::Walk, &["etc/builder"])),
        ]
    }

    /// The files beside the root, with everything that a change would change.
    pub(crate) fn canary(&self) -> String {
        describe(&self.host("canary"), true)
    }
}

/// Prints a tree as the host sees it: kind, mode, size or target, path; with inode and times on demand.
pub(crate) fn describe(top: &Path, exact: bool) -> String {
    let mut out = String::new();
    let mut pending = vec![top.to_owned()];
    while let Some(path) = pending.pop() {
        let found = path.symlink_metadata().unwrap();
        let file_type = found.file_type();
        let kind = match () {
            () if file_type.is_dir() => 'd',
            () if file_type.is_symlink() => 'l',
            () if file_type.is_fifo() => 'p',
            () if file_type.is_char_device() || file_type.is_block_device() => 'c',
            () => 'f',
        };
        let shown = path.strip_prefix(top).unwrap().display().to_string();
        write!(out, "{kind} {}", if shown.is_empty() { "." } else { &shown }).unwrap();
        if exact {
            let (mode, links) = (found.mode(), found.nlink());
            let (owner, inode) = ((found.uid(), found.gid()), found.ino());
            let (mtime, ctime) =
                ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
            write!(out, " {mode:o} {links} {owner:?} {inode} {mtime:?} {ctime:?}").unwrap();
        }
        match kind {
            'd' => {
                let mut names: Vec<PathBuf> =
                    path.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
                names.sort_by(|left, right| right.cmp(left));
                pending.extend(names);
            }
            'l' => write!(out, " -> {}", path.read_link().unwrap().display()).unwrap(),
            'f' => {
                let content = std::fs::read(&path).unwrap();
                if content.len() < 100 {
                    write!(out, " {:?}", String::from_utf8_lossy(&content)).unwrap();
                }
            }
            _ => {}
        }
        out.push('\n');
    }
    out
}

/// Prints a tree as the root shows it.
pub(crate) fn shown(root: &Root) -> String {
    let mut out = String::new();
    let mut pending = vec![RootPath::root()];
    while let Some(path) = pending.pop() {
        let found = root.metadata(&path).unwrap();
        let kind = match found.kind {
            Kind::Directory => 'd',
            Kind::Symlink => 'l',
            Kind::Regular => 'f',
            Kind::Fifo => 'p',
            Kind::Socket => 's',
            Kind::CharDevice | Kind::BlockDevice => 'c',
        };
        write!(out, "{kind} {path}").unwrap();
        match kind {
            'd' => {
                for entry in root.list(&path).unwrap().iter().rev() {
                    assert_eq!(
                        root.metadata(&path.join_name(&entry.name)).unwrap(),
                        entry.metadata
                    );
                    pending.push(path.join_name(&entry.name));
                }
            }
            'l' => {
                let target = root.read_link(&path).unwrap();
                write!(out, " -> {}", String::from_utf8_lossy(&target)).unwrap();
            }
            'f' => write!(out, " {:?}", content(root, &path)).unwrap(),
            _ => {}
        }
        out.push('\n');
    }
    out
}

pub(crate) fn content(root: &Root, path: &RootPath) -> String {
    std::io::read_to_string(root.open_file(path).unwrap()).unwrap()
}

pub(crate) fn path(text: &str) -> RootPath {
    RootPath::parse(text.as_bytes()).unwrap()
}

pub(crate) fn write(root: &Root, text: &str, content: &str) {
    use std::io::Write as _;
    root.create_parents(&path(text), &Attributes::default()).unwrap();
    root.create_file(&path(text)).unwrap().write_all(content.as_bytes()).unwrap();
}

pub(crate) fn dir(root: &Root, text: &str) {
    root.create_parents(&path(text), &Attributes::default()).unwrap();
    root.create_dir(&path(text)).unwrap();
}

pub(crate) fn link(root: &Root, target: &str, text: &str) {
    root.create_parents(&path(text), &Attributes::default()).unwrap();
    root.symlink(target.as_bytes(), &path(text)).unwrap();
}

/// Makes a tree of directories called `d` with a file at its end, deeper than a path can say.
pub(crate) fn deep(top: &Path, levels: usize) -> RootPath {
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = open(top, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        mkdirat(&dir, "d", Mode::RWXU).unwrap();
        dir = openat(&dir, "d", flags, Mode::empty()).unwrap();
    }
    drop(openat(&dir, "file", OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, Mode::RWXU).unwrap());
    path(&"d/".repeat(levels)).join_name(b"file")
}

/// Runs a test as a user who owns nothing and may do nothing special, or at least without capabilities where the
/// user namespace has only one user. Both belong to a thread, so the rest of the process keeps its own.
pub(crate) fn unprivileged<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    use rustix::process::{Gid, Uid, geteuid};
    use rustix::thread::{
        CapabilitySet, CapabilitySets, set_capabilities, set_thread_groups, set_thread_res_gid,
        set_thread_res_uid,
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if geteuid().is_root() {
                let (uid, gid) = (Uid::from_raw(1000), Gid::from_raw(1000));
                let switched = set_thread_groups(&[])
                    .and_then(|()| set_thread_res_gid(gid, gid, gid))
                    .and_then(|()| set_thread_res_uid(uid, uid, uid));
                if switched.is_err() {
                    let none = CapabilitySet::empty();
                    let none =
                        CapabilitySets { effective: none, permitted: none, inheritable: none };
                    set_capabilities(None, none).unwrap();
                }
            }
            test()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The bytes of a host path, as an absolute link target.
pub(crate) fn target(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}
