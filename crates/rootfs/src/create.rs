//! Making and changing files.

use std::ffi::CStr;
use std::fs::File;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, linkat, mkdirat, mknodat, openat, renameat, symlinkat,
};
use rustix::io::Errno;

use crate::attributes::{Failure, Handle};
use crate::guard::Standing;
use crate::resolve::{Purpose, Spot};
use crate::{Attributes, DeviceNumber, Kind, Operation, Root, RootError, RootPath};

/// The mode of a directory until its attributes are set.
const NEW_DIRECTORY: Mode = Mode::from_raw_mode(0o755);

/// The mode of a file until its attributes are set.
const NEW_FILE: Mode = Mode::from_raw_mode(0o600);

/// The longest path that [`Root::create_parents`] makes: what programs in the image can name, and what other
/// builders unpack. Every component costs a few system calls.
const MAX_MADE: usize = 4096;

/// Device numbers that Linux can hold; it would cut off what is beyond them.
const MAX_MAJOR: u32 = 1 << 12;
const MAX_MINOR: u32 = 1 << 20;

/// What [`Root::make_way`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Nothing was there.
    Nothing,
    /// A directory was there, a directory is wanted, and it stays with what is in it.
    Directory,
    /// Something else was there and is gone.
    Removed,
}

impl Root {
    /// Makes a directory, `0o755` at most until its attributes are set; `EEXIST` where anything is.
    pub fn create_dir(&self, path: &RootPath) -> Result<(), RootError> {
        let spot = self.make(Operation::Create, path)?;
        let result = match (mkdirat(&spot.dir, &spot.name, NEW_DIRECTORY), spot.standing) {
            (Err(Errno::EXIST), Standing::Scaffold) => self.claim_scaffold(&spot),
            (Ok(()), Standing::Scaffold) => {
                self.guard.claim(&spot.path);
                Ok(())
            }
            (result, _) => result,
        };
        result.map_err(|error| RootError::new(Operation::Create, path, error))
    }

    /// Makes an empty regular file, `0o600` until its attributes are set, and opens it for reading and writing.
    ///
    /// `EEXIST` where anything is, a link included; see [`Root::make_way`].
    pub fn create_file(&self, path: &RootPath) -> Result<File, RootError> {
        let spot = self.make(Operation::Create, path)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = self.put(&spot, |dir, name| openat(dir, name, flags, NEW_FILE));
        made.map(File::from).map_err(|error| RootError::new(Operation::Create, path, error))
    }

    /// Makes a symbolic link; `target` is stored verbatim.
    pub fn symlink(&self, target: &[u8], path: &RootPath) -> Result<(), RootError> {
        let spot = self.make(Operation::Create, path)?;
        let made = self.put(&spot, |dir, name| symlinkat(target, dir, name));
        made.map_err(|error| RootError::new(Operation::Create, path, error))
    }

    /// Gives what is at `existing` (a link itself, not its target) the further name `path`.
    ///
    /// Where one of them is displaced to another file system, it becomes a copy.
    pub fn hard_link(&self, existing: &RootPath, path: &RootPath) -> Result<(), RootError> {
        let from = self.look(Operation::Link, existing)?;
        // A hidden directory must look missing here as well.
        self.metadata_at(&from)
            .map_err(|error| RootError::new(Operation::Link, existing, error))?;
        let to = self.make(Operation::Link, path)?;
        let made =
            self.put(&to, |dir, name| linkat(&from.dir, &from.name, dir, name, AtFlags::empty()));
        match made {
            Err(Errno::XDEV) if from.standing != to.standing => self.copy_leaf(&from, self, path),
            result => result.map_err(|error| RootError::new(Operation::Link, path, error)),
        }
    }

    /// Makes a device node, FIFO or socket, `0o600` until its attributes are set.
    ///
    /// A device that the process may not make becomes an empty file that reads as one.
    ///
    /// # Errors
    ///
    /// `EINVAL` for kinds that have methods of their own.
    pub fn make_node(
        &self,
        path: &RootPath,
        kind: Kind,
        rdev: DeviceNumber,
    ) -> Result<(), RootError> {
        let failed = |error: Errno| RootError::new(Operation::Create, path, error);
        let file_type = match kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
            Kind::Regular | Kind::Directory | Kind::Symlink => return Err(failed(Errno::INVAL)),
        };
        let spot = self.make(Operation::Create, path)?;
        let device = if kind.is_device() { rustix::fs::makedev(rdev.major, rdev.minor) } else { 0 };
        let fits = !kind.is_device() || (rdev.major < MAX_MAJOR && rdev.minor < MAX_MINOR);
        let made = self.put(&spot, |dir, name| {
            if !fits {
                return Err(Errno::INVAL);
            }
            mknodat(dir, name, file_type, NEW_FILE, device)
        });
        match made {
            Err(Errno::PERM | Errno::INVAL) if kind.is_device() => {
                let file = self.create_file(path)?;
                self.inodes.set_node(&Handle::of_file(file.as_fd()), kind, rdev).map_err(failed)
            }
            result => result.map_err(failed),
        }
    }

    /// Makes the directories that lead to `path` (not `path` itself) and do not exist, following links on the
    /// way as in a chroot, a link to a missing directory included.
    ///
    /// Returns those it made, from the top down; their paths are free of links.
    ///
    /// # Errors
    ///
    /// `ENOTDIR` where something else is in the way, `ENAMETOOLONG` beyond 4096 bytes. Directories made until then
    /// stay.
    pub fn create_parents(
        &self,
        path: &RootPath,
        attributes: &Attributes,
    ) -> Result<Vec<RootPath>, RootError> {
        let Some(parent) = path.parent() else { return Ok(Vec::new()) };
        let unclaimed = |path: &RootPath| {
            self.guard.standing(path) == Standing::Scaffold && !self.guard.is_claimed(path)
        };
        if let Ok(spot) = self.spot(path, Purpose::Look)
            && spot.standing != Standing::Displaced
            && !spot.path.ancestors().any(|above| unclaimed(&above))
        {
            return Ok(Vec::new());
        }
        let parent = self.resolve(&parent)?;
        if parent.as_bytes().len() > MAX_MADE {
            return Err(RootError::new(Operation::Create, path, Errno::NAMETOOLONG));
        }
        let mut made = Vec::new();
        for directory in parent.ancestors().chain([parent.clone()]) {
            match self.find(&directory)? {
                Some(found) if found.is_dir() => continue,
                Some(_) => {
                    return Err(RootError::new(Operation::Create, &directory, Errno::NOTDIR));
                }
                None => {}
            }
            self.create_dir(&directory)?;
            self.set_attributes(&directory, attributes)?;
            made.push(directory);
        }
        Ok(made)
    }

    /// Removes what is at `path` if a `wanted` cannot be made there, as unpacking and copying replace files:
    /// everything except a directory where a directory is wanted.
    ///
    /// Nothing is opened or followed. What is protected beneath stays on disk, unseen.
    pub fn make_way(&self, path: &RootPath, wanted: Kind) -> Result<Existing, RootError> {
        self.changing(Operation::Remove, path)?;
        match self.find(path)? {
            None => Ok(Existing::Nothing),
            Some(found) if found.is_dir() && wanted == Kind::Directory => Ok(Existing::Directory),
            Some(_) => {
                self.remove(path)?;
                Ok(Existing::Removed)
            }
        }
    }

    /// Sets owner, mode, extended attributes and time, in this order, on what is at `path`; a link is not
    /// followed. What the process may not set becomes virtual.
    ///
    /// `None` leaves as it is: changing only the owner keeps set-id bits and file capabilities.
    pub fn set_attributes(
        &self,
        path: &RootPath,
        attributes: &Attributes,
    ) -> Result<(), RootError> {
        let spot = self.make(Operation::Find, path)?;
        self.metadata_at(&spot).map_err(|error| RootError::new(Operation::Find, path, error))?;
        let handle = self.inodes.handle(&spot);
        let handle = handle.map_err(|error| RootError::new(Operation::Find, path, error))?;
        let set = self.inodes.set(&handle, attributes);
        set.map_err(|(operation, error): Failure| RootError::new(operation, path, error))
    }

    /// Like [`Root::set_attributes`], for a file that [`Root::create_file`] returned, without resolving its path;
    /// `path` is for messages. Writing to the file afterwards changes its time.
    pub fn set_file_attributes(
        &self,
        file: &File,
        path: &RootPath,
        attributes: &Attributes,
    ) -> Result<(), RootError> {
        self.changing(Operation::Find, path)?;
        let set = self.inodes.set(&Handle::of_file(file.as_fd()), attributes);
        set.map_err(|(operation, error): Failure| RootError::new(operation, path, error))
    }

    /// Renames within the root, replacing `to` as rename(2) does.
    ///
    /// # Errors
    ///
    /// `EBUSY` where either is protected or holds something protected.
    pub fn rename_within(&self, from: &RootPath, to: &RootPath) -> Result<(), RootError> {
        let source = self.make(Operation::Move, from)?;
        let target = self.make(Operation::Move, to)?;
        for spot in [&source, &target] {
            if spot.standing != Standing::Plain {
                return Err(RootError::new(Operation::Move, &spot.path, Errno::BUSY));
            }
        }
        let replaced = self.inodes.look(target.dir.as_fd(), &target.name).ok();
        renameat(&source.dir, &source.name, &target.dir, &target.name)
            .map_err(|error| RootError::new(Operation::Move, from, error))?;
        if let Some(replaced) =
            replaced.filter(|found| found.disk.nlink == 1 || found.disk.is_dir())
        {
            self.inodes.table.forget(replaced.key);
        }
        Ok(())
    }

    /// Makes something other than a directory at a spot; over a hidden scaffold it is displaced and wins.
    fn put<T>(
        &self,
        spot: &Spot<'_>,
        make: impl Fn(BorrowedFd<'_>, &CStr) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        if spot.standing != Standing::Scaffold {
            return make(spot.dir.as_fd(), &spot.name);
        }
        match self.inodes.look(spot.dir.as_fd(), &spot.name) {
            Err(Errno::NOENT) => return make(spot.dir.as_fd(), &spot.name),
            Err(error) => return Err(error),
            Ok(_) if self.shows_scaffold(&spot.path)? => return Err(Errno::EXIST),
            Ok(_) => {}
        }
        let parent = spot.path.parent().ok_or(Errno::EXIST)?;
        let result = make(self.guard.make_shadow_dir(&parent)?.as_fd(), &spot.name)?;
        self.guard.override_with_displaced(&spot.path);
        Ok(result)
    }

    /// Makes a scaffold that is there already the image's, as if it were new.
    fn claim_scaffold(&self, spot: &Spot<'_>) -> Result<(), Errno> {
        if self.shows_scaffold(&spot.path)? {
            return Err(Errno::EXIST);
        }
        let as_new = Attributes {
            uid: Some(0),
            gid: Some(0),
            mode: Some(NEW_DIRECTORY.as_raw_mode()),
            ..Attributes::default()
        };
        self.inodes.set(&self.inodes.handle(spot)?, &as_new).map_err(|(_, error)| error)?;
        self.guard.claim(&spot.path);
        Ok(())
    }
}
