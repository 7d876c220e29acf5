//! Walking directories by descriptor.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, RawDir, openat, seek};
use rustix::io::Errno;

use crate::attributes::Handle;
use crate::guard::Standing;
use crate::read::{read_link_at, replaced};
use crate::resolve::{DirFd, Purpose, Spot};
use crate::{Metadata, Operation, Root, RootError, RootPath, Xattrs};

/// How much of a directory is read at once; a system call per few hundred names.
const NAMES_BUFFER: usize = 64 * 1024;

/// An open directory beneath a root: lists and opens what is in it without resolving its path again.
///
/// It holds one file descriptor. Threads may share it; they list one after the other.
#[derive(Debug)]
pub struct Directory<'r> {
    root: &'r Root,
    fd: OwnedFd,
    path: RootPath,
    standing: Standing,
    /// Held while listing: the position in the listing is the descriptor's.
    listing: Mutex<()>,
}

/// One file in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Its name: one component.
    pub name: Box<[u8]>,
    /// Its metadata; links are not followed.
    pub metadata: Metadata,
}

/// What [`Directory::open_whole`] found.
#[derive(Debug)]
pub enum Whole {
    /// A regular file.
    File(OpenedFile),
    /// Something else.
    Other(Metadata),
}

/// A regular file that is open for reading, and what was true of it when it was opened.
#[derive(Debug)]
pub struct OpenedFile {
    /// The file, at its start.
    pub file: File,
    /// As [`Root::metadata`] has it.
    pub metadata: Metadata,
    /// As [`Root::xattrs`] has them.
    pub xattrs: Xattrs,
}

impl<'r> Directory<'r> {
    pub(crate) fn open(root: &'r Root, spot: Spot<'_>) -> Result<Self, Errno> {
        let fd = match open_listing(spot.dir.as_fd(), &spot.name) {
            Err(Errno::ACCESS) if !root.inodes.privileges.ignores_modes && !root.is_read_only() => {
                root.inodes.grant_owner(&root.inodes.handle(&spot)?)?;
                open_listing(spot.dir.as_fd(), &spot.name)?
            }
            result => result?,
        };
        root.keep_open(fd.as_fd());
        if spot.standing == Standing::Scaffold && !root.shows_scaffold(&spot.path)? {
            return Err(Errno::NOENT);
        }
        Ok(Self { root, fd, path: spot.path, standing: spot.standing, listing: Mutex::new(()) })
    }

    /// The path that the directory was opened by; free of links where something in the root is protected.
    pub fn path(&self) -> &RootPath {
        &self.path
    }

    /// The directory's own metadata.
    pub fn metadata(&self) -> Result<Metadata, RootError> {
        let looked = self.root.inodes.look(self.fd.as_fd(), c"");
        looked
            .map(|looked| looked.seen)
            .map_err(|error| RootError::new(Operation::Find, &self.path, error))
    }

    /// Everything in the directory, sorted by name.
    pub fn entries(&self) -> Result<Vec<DirectoryEntry>, RootError> {
        let mut entries = Vec::new();
        self.visit(|name, metadata| entries.push(DirectoryEntry { name: name.into(), metadata }))?;
        entries.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        Ok(entries)
    }

    /// Calls `visit` with the name and the metadata of everything in the directory, in no particular order.
    ///
    /// For a walk that keeps its own memory of what it saw. A file that vanishes meanwhile is left out.
    pub fn visit(&self, mut visit: impl FnMut(&[u8], Metadata)) -> Result<(), RootError> {
        let failed = |error: Errno| RootError::new(Operation::List, &self.path, error);
        let displaced = if self.standing == Standing::Scaffold {
            self.root.guard.displaced_names(&self.path)
        } else {
            BTreeSet::new()
        };
        let _alone = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = Vec::with_capacity(NAMES_BUFFER);
        seek(&self.fd, rustix::fs::SeekFrom::Start(0)).map_err(failed)?;
        let mut listing = RawDir::new(&self.fd, buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if self.standing == Standing::Scaffold
                && !self.shows(name, &displaced).map_err(failed)?
            {
                continue;
            }
            let looked = self.root.inodes.look(self.fd.as_fd(), name).and_then(|looked| {
                self.root.refuse_unknown_mount(&looked)?;
                Ok(looked)
            });
            match looked {
                Ok(looked) => visit(name.to_bytes(), looked.seen),
                Err(Errno::NOENT) => {}
                Err(error) => {
                    let path = self.path.join_name(name.to_bytes());
                    return Err(RootError::new(Operation::Find, &path, error));
                }
            }
        }
        for name in displaced {
            if let Some(metadata) = self.displaced(&name).map_err(failed)? {
                visit(&name, metadata);
            }
        }
        Ok(())
    }

    /// Opens the directory `name` in this one; `ENOTDIR` where it is something else, a link included.
    pub fn child(&self, name: &[u8]) -> Result<Directory<'r>, RootError> {
        let path = self.child_path(Operation::List, name)?;
        let failed = |error: Errno| RootError::new(Operation::List, &path, error);
        let spot = self.spot(name).map_err(failed)?;
        Directory::open(self.root, spot).map_err(failed)
    }

    /// Like [`Root::metadata`] for a file in this directory.
    pub fn metadata_of(&self, name: &[u8]) -> Result<Metadata, RootError> {
        let path = self.child_path(Operation::Find, name)?;
        let found = self.spot(name).and_then(|spot| self.root.metadata_at(&spot));
        found.map_err(|error| RootError::new(Operation::Find, &path, error))
    }

    /// Opens `name` if it is a regular file, as [`Root::open_file`] does, and tells all about the file that was opened; of
    /// anything else it tells the metadata. Asking piece by piece would take twice as many system calls.
    pub fn open_whole(&self, name: &[u8]) -> Result<Whole, RootError> {
        let path = self.child_path(Operation::Read, name)?;
        let failed = |source: io::Error| RootError::new(Operation::Read, &path, source);
        let spot = self.spot(name).map_err(|error| failed(error.into()))?;
        let found = self.root.metadata_at(&spot).map_err(|error| failed(error.into()))?;
        if !found.is_file() {
            return Ok(Whole::Other(found));
        }
        let file = self.root.open_found(&spot).map_err(failed)?;
        let handle = Handle::of_file(file.as_fd());
        let inodes = &self.root.inodes;
        let opened = inodes.look_at(&handle).map_err(|error| failed(error.into()))?;
        // As in `Root::open_file`: what was swapped in may be anything.
        if (opened.disk.dev, opened.disk.ino) != (found.dev, found.ino) {
            return Err(failed(replaced()));
        }
        let xattrs = inodes.xattrs(&handle).map_err(|error| failed(error.into()))?;
        Ok(Whole::File(OpenedFile { file, metadata: opened.seen, xattrs }))
    }

    /// As [`Directory::open_whole`] of what was a regular file when somebody looked last, in fewer system calls: whether it
    /// still is one is asked when it is open.
    ///
    /// # Errors
    ///
    /// As [`Root::open_file`], also if it is something else now.
    pub fn open_seen_file(&self, name: &[u8]) -> Result<OpenedFile, RootError> {
        let path = self.child_path(Operation::Read, name)?;
        let failed = |source: io::Error| RootError::new(Operation::Read, &path, source);
        let spot = self.spot(name).map_err(|error| failed(error.into()))?;
        let file = self.root.open_found(&spot).map_err(failed)?;
        let handle = Handle::of_file(file.as_fd());
        let inodes = &self.root.inodes;
        let opened = inodes.look_at(&handle).map_err(|error| failed(error.into()))?;
        self.root.refuse_unknown_mount(&opened).map_err(|error| failed(error.into()))?;
        // As in `Root::open_file`: what was swapped in may be anything.
        if !opened.seen.is_file() || !opened.disk.is_file() {
            return Err(failed(replaced()));
        }
        let xattrs = inodes.xattrs(&handle).map_err(|error| failed(error.into()))?;
        Ok(OpenedFile { file, metadata: opened.seen, xattrs })
    }

    /// Like [`Root::open_file`] for a file in this directory.
    pub fn open_file(&self, name: &[u8]) -> Result<File, RootError> {
        let path = self.child_path(Operation::Read, name)?;
        let failed = |source: io::Error| RootError::new(Operation::Read, &path, source);
        let spot = self.spot(name).map_err(|error| failed(error.into()))?;
        self.root.open_file_at(&spot).map_err(failed)
    }

    /// Like [`Root::read_link`] for a link in this directory.
    pub fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, RootError> {
        let path = self.child_path(Operation::Read, name)?;
        let target = self.spot(name).and_then(|spot| read_link_at(&spot));
        target.map_err(|error| RootError::new(Operation::Read, &path, error))
    }

    /// Like [`Root::xattrs`] for a file in this directory.
    pub fn xattrs(&self, name: &[u8]) -> Result<Xattrs, RootError> {
        let path = self.child_path(Operation::Read, name)?;
        let xattrs = self.spot(name).and_then(|spot| self.root.xattrs_at(&spot));
        xattrs.map_err(|error| RootError::new(Operation::Read, &path, error))
    }

    /// Also keeps `.` and `..` from being used as names.
    fn child_path(&self, operation: Operation, name: &[u8]) -> Result<RootPath, RootError> {
        self.path.child(name).map_err(|source| {
            let source = io::Error::new(io::ErrorKind::InvalidInput, source);
            RootError::new(operation, &self.path, source)
        })
    }

    fn spot(&self, name: &[u8]) -> Result<Spot<'_>, Errno> {
        let path = self.path.join_name(name);
        let standing = match self.standing {
            Standing::Scaffold => self.root.guard.standing(&path),
            // Beneath these there is nothing of another standing.
            Standing::Plain | Standing::Displaced => self.standing,
        };
        if self.standing == Standing::Scaffold && standing == Standing::Displaced {
            return self.root.spot(&path, Purpose::Look);
        }
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        Ok(Spot { dir: DirFd::Borrowed(self.fd.as_fd()), name, path, standing })
    }

    /// Whether what is on disk under `name` is the image's.
    fn shows(&self, name: &CStr, displaced: &BTreeSet<Box<[u8]>>) -> Result<bool, Errno> {
        if displaced.contains(name.to_bytes()) {
            return Ok(false);
        }
        let path = self.path.join_name(name.to_bytes());
        match self.root.guard.standing(&path) {
            Standing::Scaffold => self.root.shows_scaffold(&path),
            Standing::Plain | Standing::Displaced => Ok(true),
        }
    }

    fn displaced(&self, name: &[u8]) -> Result<Option<Metadata>, Errno> {
        let look = || {
            let dir = self.root.guard.shadow_dir(&self.path)?;
            let name = CString::new(name).map_err(|_| Errno::INVAL)?;
            self.root.inodes.look(dir.as_fd(), &name)
        };
        match look() {
            Ok(looked) => Ok(Some(looked.seen)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Root {
    /// Whether an image made this scaffold or put something in it.
    ///
    /// Scaffolds are few and not deep, and the first file found decides.
    pub(crate) fn shows_scaffold(&self, path: &RootPath) -> Result<bool, Errno> {
        if self.guard.is_claimed(path) {
            return Ok(true);
        }
        let spot = self.spot(path, Purpose::Look)?;
        let fd = match open_listing(spot.dir.as_fd(), &spot.name) {
            Ok(fd) => fd,
            // On disk it is no directory, so nothing protected can be in it: it is the image's.
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(true),
            Err(error) => return Err(error),
        };
        let directory = Directory {
            root: self,
            fd,
            path: path.clone(),
            standing: Standing::Scaffold,
            listing: Mutex::new(()),
        };
        let displaced = self.guard.displaced_names(path);
        for name in &displaced {
            if directory.displaced(name)?.is_some() {
                return Ok(true);
            }
        }
        let mut buffer = Vec::with_capacity(NAMES_BUFFER);
        let mut listing = RawDir::new(&directory.fd, buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") && directory.shows(name, &displaced)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Lets a child process make this its working directory.
impl AsFd for Directory<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open_listing(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(dir, name, flags, Mode::empty()),
        result => result,
    }
}
