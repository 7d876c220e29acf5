//! Opening a root.

#![expect(clippy::disallowed_methods, reason = "the root itself is named by a host path, once")]

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fstatvfs};
use rustix::io::Errno;

use crate::attributes::{Inodes, Privileges};
use crate::guard::Guard;
use crate::mounts::{self, Mount};
use crate::operation::Operation;
use crate::resolve::{Purpose, Resolution, Spot};
use crate::{MountsError, Protection, RootError, RootPath};

/// A directory and everything beneath it; the only way to touch it.
///
/// All methods take `&self` and may be called from any number of threads. Two threads that change the same
/// path at once get what the kernel makes of it, never something outside of the root.
///
/// Reading shows the image's view: protected files are not there unless the image displaced them, directories
/// that exist only because something protected is in them are not there, and virtual attributes are
/// indistinguishable from real ones.
pub struct Root {
    pub(crate) dir: OwnedFd,
    pub(crate) guard: Guard,
    pub(crate) inodes: Arc<Inodes>,
    pub(crate) resolution: Resolution,
    access: Access,
    pub(crate) host: PathBuf,
    /// As they were when the root was opened.
    mounts: Vec<Mount>,
}

/// What in a root is not the image's.
#[derive(Debug, Clone, Default)]
pub struct RootOptions {
    /// The builder's own directory and others that must stay. They need not exist. Without links.
    pub protected: Vec<RootPath>,
    /// A host directory in which to keep what an image wants in the place of something protected. It is made
    /// when it is first needed (its parent must exist) and may be shared between roots. It must be outside of
    /// the root or in a protected directory. Without it such a wish fails with `EBUSY`.
    pub displaced_store: Option<PathBuf>,
    /// Whether the files are read later by somebody who knows nothing of what is virtual. The disk then has no more than the
    /// modes that it can have; no command may run in such a root.
    pub read_elsewhere: bool,
}

/// A root could not be opened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum OpenRootError {
    #[error("cannot open the root `{}`", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot find the mount points below `{}`", path.display())]
    Mounts { path: PathBuf, source: io::Error },
    #[error("cannot find the capabilities of this process")]
    Capabilities { source: io::Error },
    #[error("the whole root `{}` is protected", path.display())]
    EverythingProtected { path: PathBuf },
}

impl OpenRootError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Mounts { .. } => {
                Some("`/proc` must be mounted, so that mounted files are not overwritten")
            }
            Self::EverythingProtected { .. } => {
                Some("the builder's own directory cannot be the root")
            }
            Self::Open { .. } | Self::Capabilities { .. } => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Build,
    ReadOnly,
}

/// As much as the smallest file takes.
const PAGE: u64 = 4096;

impl Root {
    /// Opens a root to build in; `host` may be `/` or any directory.
    ///
    /// Mount points beneath it are found now, once, and are protected. What was there before stays there;
    /// [`Root::clear`] removes it. Nothing is created.
    ///
    /// # Errors
    ///
    /// Fails where `host` is not a directory or mount points cannot be found: a root whose mounts are not
    /// known could not be emptied safely.
    pub fn open(host: &Path, options: RootOptions) -> Result<Self, OpenRootError> {
        let (dir, host) = open_host(host)?;
        let resolution = Resolution::detect(dir.as_fd());
        Self::open_with(dir, host, options, resolution)
    }

    /// Opens a directory to read from, such as a build context.
    ///
    /// Nothing is protected or hidden: mounts beneath it are a part of it and owners are as they are on disk.
    /// Every change fails with `EROFS`.
    pub fn open_read_only(host: &Path) -> Result<Self, OpenRootError> {
        let (dir, host) = open_host(host)?;
        let resolution = Resolution::detect(dir.as_fd());
        let inodes = Arc::new(Inodes::new(Privileges::AS_IT_IS, false));
        Ok(Self {
            dir,
            guard: Guard::default(),
            inodes,
            resolution,
            access: Access::ReadOnly,
            host,
            mounts: Vec::new(),
        })
    }

    pub(crate) fn open_with(
        dir: OwnedFd,
        host: PathBuf,
        options: RootOptions,
        resolution: Resolution,
    ) -> Result<Self, OpenRootError> {
        if options.protected.iter().any(RootPath::is_root) {
            return Err(OpenRootError::EverythingProtected { path: host });
        }
        let mounts = mounts::beneath(&host)
            .map_err(|source| OpenRootError::Mounts { path: host.clone(), source })?;
        let privileges = Privileges::of_this_thread()
            .map_err(|source| OpenRootError::Capabilities { source })?;
        let points = mounts.iter().map(|mount| mount.point.clone());
        let guard = Guard::new(options.protected, points, options.displaced_store);
        let inodes = Arc::new(Inodes::new(privileges, !options.read_elsewhere));
        Ok(Self { dir, guard, inodes, resolution, access: Access::Build, host, mounts })
    }

    /// Opens another directory with the same inodes, for files that come to this root while a command runs, or go from it: what
    /// is virtual there is seen here.
    ///
    /// # Errors
    ///
    /// As [`Root::open`].
    pub fn beside(&self, host: &Path) -> Result<Self, OpenRootError> {
        let other = Self::open(host, RootOptions::default())?;
        Ok(Self { inodes: Arc::clone(&self.inodes), ..other })
    }

    /// The root that this one is moved out to: a new directory without mounts, for the same inodes.
    pub(crate) fn sibling(&self, dir: OwnedFd, host: PathBuf) -> Self {
        Self {
            dir,
            guard: Guard::default(),
            inodes: Arc::clone(&self.inodes),
            resolution: self.resolution,
            access: Access::Build,
            host,
            mounts: Vec::new(),
        }
    }

    /// Whether the file system that the root is on has no room for another file of a page.
    ///
    /// `false` where it does not say.
    pub fn is_full(&self) -> bool {
        fstatvfs(&self.dir).is_ok_and(|disk| {
            // File systems without a table of inodes count none.
            let no_inodes = disk.f_files > 0 && disk.f_favail == 0;
            no_inodes || disk.f_bavail.saturating_mul(disk.f_frsize) < PAGE
        })
    }

    /// Where the root is on the host, absolute and without links, for messages and for processes that enter it.
    pub fn host_path(&self) -> &Path {
        &self.host
    }

    /// Whether `path`, free of links, is protected or lies beneath something protected.
    pub fn protects(&self, path: &RootPath) -> Option<Protection> {
        self.guard.protects(path)
    }

    /// Whether something protected lies beneath `path`, which therefore cannot go away.
    pub fn holds_protected(&self, path: &RootPath) -> bool {
        self.guard.holds_protected(path)
    }

    /// Checks that what was mounted beneath the root when it was opened is mounted at the same places, and nothing
    /// else is, except inside of what is protected. To be called after a command ran in the root and before
    /// anything else is done with it, [`Root::settle`] included.
    ///
    /// Linux lets a process rename a directory that holds a mount point, and the mount travels with it. Its files
    /// are protected at the place where they were found, so at the new one they would become the image's.
    /// This reads one file of the kernel; for a root without mounts, or one that is only read, it does nothing.
    ///
    /// # Errors
    ///
    /// Nothing is undone. The root must not be recorded or moved out any more, because mounted files would go with
    /// it; clearing it fails with `EBUSY` where the mount is now.
    pub fn check_mounts(&self) -> Result<(), MountsError> {
        if self.mounts.is_empty() {
            return Ok(());
        }
        let now = mounts::beneath(&self.host)
            .map_err(|source| MountsError::Read { path: self.host.clone(), source })?;
        mounts::compare(&self.mounts, &now, |path| self.guard.protects(path).is_some())
    }

    /// Where a file is, to look at it.
    pub(crate) fn look(
        &self,
        operation: Operation,
        path: &RootPath,
    ) -> Result<Spot<'_>, RootError> {
        self.spot(path, Purpose::Look).map_err(|error| RootError::new(operation, path, error))
    }

    /// Where a file will be, to make it.
    pub(crate) fn make(
        &self,
        operation: Operation,
        path: &RootPath,
    ) -> Result<Spot<'_>, RootError> {
        self.changing(operation, path)?;
        self.spot(path, Purpose::Make).map_err(|error| RootError::new(operation, path, error))
    }

    /// Refuses to change what was opened for reading.
    pub(crate) fn changing(&self, operation: Operation, path: &RootPath) -> Result<(), RootError> {
        match self.access {
            Access::Build => Ok(()),
            Access::ReadOnly => Err(RootError::new(operation, path, Errno::ROFS)),
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }
}

/// The root directory itself, for a child process that enters it.
impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root")
            .field("host", &self.host)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

pub(crate) fn open_host(host: &Path) -> Result<(OwnedFd, PathBuf), OpenRootError> {
    let failed = |source: io::Error| OpenRootError::Open { path: host.to_owned(), source };
    let absolute = std::fs::canonicalize(host).map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir =
        rustix::fs::open(&absolute, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    Ok((dir, absolute))
}
