//! Looking at files.

use std::fs::File;
use std::io::{self, Read};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::Errno;

use crate::attributes::{Handle, Looked};
use crate::guard::Standing;
use crate::resolve::Spot;
use crate::{
    Directory, DirectoryEntry, Kind, Metadata, Operation, Root, RootError, RootPath, Xattrs,
};

impl Root {
    /// The metadata of what is at `path`; a last component that is a link is not followed.
    pub fn metadata(&self, path: &RootPath) -> Result<Metadata, RootError> {
        let spot = self.look(Operation::Find, path)?;
        self.metadata_at(&spot).map_err(|error| RootError::new(Operation::Find, path, error))
    }

    /// Like [`Root::metadata`], with `None` where nothing is: no such file, or a component on the way is not
    /// a directory.
    pub fn find(&self, path: &RootPath) -> Result<Option<Metadata>, RootError> {
        match self.metadata(path) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The target of the symbolic link at `path`, verbatim.
    pub fn read_link(&self, path: &RootPath) -> Result<Vec<u8>, RootError> {
        let spot = self.look(Operation::Read, path)?;
        read_link_at(&spot).map_err(|error| RootError::new(Operation::Read, path, error))
    }

    /// What is in the directory at `path`, sorted by name.
    pub fn list(&self, path: &RootPath) -> Result<Vec<DirectoryEntry>, RootError> {
        self.open_dir(path)?.entries()
    }

    /// Opens the directory at `path` for walking; `ENOTDIR` where it is something else, a link included.
    pub fn open_dir(&self, path: &RootPath) -> Result<Directory<'_>, RootError> {
        let spot = self.look(Operation::List, path)?;
        Directory::open(self, spot).map_err(|error| RootError::new(Operation::List, path, error))
    }

    /// Opens the regular file at `path` for reading.
    ///
    /// A link is not followed (`ELOOP`), and anything else that is not a regular file is refused
    /// (`InvalidInput`) without being opened: opening a FIFO waits for a writer and opening a device can act on
    /// it. The access time is left alone where the kernel allows.
    pub fn open_file(&self, path: &RootPath) -> Result<File, RootError> {
        let spot = self.look(Operation::Read, path)?;
        self.open_file_at(&spot).map_err(|source| RootError::new(Operation::Read, path, source))
    }

    /// The extended attributes of what is at `path`, without those that belong to the machine (such as
    /// `security.selinux`).
    pub fn xattrs(&self, path: &RootPath) -> Result<Xattrs, RootError> {
        let spot = self.look(Operation::Read, path)?;
        self.xattrs_at(&spot).map_err(|error| RootError::new(Operation::Read, path, error))
    }

    /// The same of a file that [`Root::open_file`] returned, without resolving its path; `path` is for messages.
    pub fn file_xattrs(&self, file: &File, path: &RootPath) -> Result<Xattrs, RootError> {
        let handle = Handle::of_file(file.as_fd());
        self.inodes.xattrs(&handle).map_err(|error| RootError::new(Operation::Read, path, error))
    }

    /// Where `path` leads when all links on it are followed as in a chroot, the last component included.
    ///
    /// What does not exist cannot be a link, so missing components are kept as they are spelled, and the result
    /// may be a path to create.
    ///
    /// # Errors
    ///
    /// `ENOTDIR` where a component on the way exists and is not a directory, `ELOOP` where links have no end.
    pub fn resolve(&self, path: &RootPath) -> Result<RootPath, RootError> {
        self.resolve_among(path, &|_| false)
    }

    /// Like [`Root::resolve`], in a root of which the caller knows files that are not on disk: where nothing is at a path
    /// for which `is_file` says so, something that is no directory is there.
    ///
    /// # Errors
    ///
    /// As [`Root::resolve`].
    pub fn resolve_among(
        &self,
        path: &RootPath,
        is_file: &dyn Fn(&RootPath) -> bool,
    ) -> Result<RootPath, RootError> {
        self.resolve_all(path, is_file)
            .map_err(|error| RootError::new(Operation::Find, path, error))
    }

    /// Reads a small file that an image controls, such as `etc/passwd`, following links inside the root.
    ///
    /// `None` where nothing is.
    ///
    /// # Errors
    ///
    /// `InvalidInput` where it is not a regular file, `FileTooLarge` where it has more than `limit` bytes.
    pub fn read_bounded(&self, path: &RootPath, limit: u64) -> Result<Option<Vec<u8>>, RootError> {
        let failed = |source: io::Error| RootError::new(Operation::Read, path, source);
        let file = match self.resolve(path).and_then(|found| self.open_file(&found)) {
            Ok(file) => file,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(failed(error.source)),
        };
        let mut content = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut content).map_err(failed)?;
        if content.len() as u64 > limit {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        Ok(Some(content))
    }

    pub(crate) fn metadata_at(&self, spot: &Spot<'_>) -> Result<Metadata, Errno> {
        let looked = self.inodes.look(spot.dir.as_fd(), &spot.name)?;
        if !spot.path.is_root() {
            self.refuse_unknown_mount(&looked)?;
        }
        if spot.standing == Standing::Scaffold && !self.shows_scaffold(&spot.path)? {
            return Err(Errno::NOENT);
        }
        Ok(looked.seen)
    }

    /// `EBUSY` where something is mounted on a file that passes for the image's. What is mounted at a known place
    /// is displaced and never looked at, so this mount was made or moved there since the root was opened.
    pub(crate) fn refuse_unknown_mount(&self, looked: &Looked) -> Result<(), Errno> {
        if looked.is_mount_point && !self.guard.is_trivial() {
            return Err(Errno::BUSY);
        }
        Ok(())
    }

    pub(crate) fn xattrs_at(&self, spot: &Spot<'_>) -> Result<Xattrs, Errno> {
        if spot.standing == Standing::Scaffold && !self.shows_scaffold(&spot.path)? {
            return Err(Errno::NOENT);
        }
        let handle = self.inodes.handle(spot)?;
        self.inodes.xattrs(&handle)
    }

    pub(crate) fn open_file_at(&self, spot: &Spot<'_>) -> io::Result<File> {
        let found = self.metadata_at(spot)?;
        match found.kind {
            Kind::Regular => {}
            Kind::Symlink => return Err(Errno::LOOP.into()),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        }
        let opened = self.open_found(spot)?;
        let opened_inode = fstat(&opened)?;
        // Whatever was swapped in after the look may be a FIFO, which O_NONBLOCK made harmless to open.
        if (opened_inode.st_dev, opened_inode.st_ino) != (found.dev, found.ino) {
            return Err(replaced());
        }
        Ok(opened)
    }

    /// Opens what was seen to be a regular file a moment ago.
    pub(crate) fn open_found(&self, spot: &Spot<'_>) -> io::Result<File> {
        let opened = match open_for_reading(spot) {
            Err(Errno::ACCESS) if !self.inodes.privileges.ignores_modes && !self.is_read_only() => {
                self.inodes.grant_owner(&self.inodes.handle(spot)?)?;
                open_for_reading(spot)?
            }
            result => result?,
        };
        Ok(File::from(opened))
    }
}

pub(crate) fn replaced() -> io::Error {
    io::Error::other("the file was replaced while it was opened")
}

pub(crate) fn read_link_at(spot: &Spot<'_>) -> Result<Vec<u8>, Errno> {
    Ok(readlinkat(&spot.dir, &spot.name, Vec::new())?.into_bytes())
}

fn open_for_reading(spot: &Spot<'_>) -> Result<OwnedFd, Errno> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match openat(&spot.dir, &spot.name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner may leave the access time alone.
        Err(Errno::PERM) => openat(&spot.dir, &spot.name, flags, Mode::empty()),
        result => result,
    }
}
