//! A directory for what must never get to a disk.

#![expect(clippy::disallowed_methods, reason = "the builder's own directories are on the host")]

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::Place;

/// A directory whose files are only in memory. It is removed, with all that is in it, when the value is dropped.
#[derive(Debug)]
pub struct MemoryDirectory {
    path: PathBuf,
    is_mounted: bool,
    /// Held for as long as it is in use: one that nobody holds was left by a builder that was killed.
    _lock: Option<File>,
}

/// There is no place in memory for files.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum MemoryError {
    #[error("cannot keep files in memory at `{}`", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("none of {} is in memory and can be written to", CANDIDATES.map(|path| format!("`{path}`")).join(", "))]
    Nowhere,
}

impl MemoryError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Make { .. } => None,
            Self::Nowhere => Some(
                "secrets are kept in memory only: give the container a writable `/dev/shm` (an `emptyDir` with `medium: Memory`)",
            ),
        }
    }
}

/// What the directories are called, with a number.
const PREFIX: &str = ".ebiko-";

/// So many builders may share a file system in memory.
const MOST: usize = 100;

/// Where containers have file systems in memory.
const CANDIDATES: [&str; 3] = ["/dev/shm", "/run", "/tmp"];

impl MemoryDirectory {
    /// Makes one. In a private root it is mounted at `at`, a directory of the builder's, which is made, and is seen
    /// by nobody outside; elsewhere it is in a file system that is in memory already.
    ///
    /// Only the builder's user can look into it.
    pub fn make(place: &Place, at: &Path) -> Result<Self, MemoryError> {
        match place {
            Place::Private(_) => {
                let failed = |source| MemoryError::Make { path: at.to_owned(), source };
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(at)
                    .map_err(failed)?;
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
                mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some("mode=700"))
                    .map_err(|error| failed(error.into()))?;
                Ok(Self { path: at.to_owned(), is_mounted: true, _lock: None })
            }
            Place::InPlace | Place::Nowhere(_) => CANDIDATES
                .iter()
                .filter(|candidate| is_in_memory(Path::new(candidate)))
                .find_map(|candidate| Self::make_in(Path::new(candidate)))
                .ok_or(MemoryError::Nowhere),
        }
    }

    fn make_in(directory: &Path) -> Option<Self> {
        remove_abandoned(directory);
        (0..MOST).find_map(|number| {
            let path = directory.join(format!("{PREFIX}{number}"));
            std::fs::DirBuilder::new().mode(0o700).create(&path).ok()?;
            let lock = File::open(&path).ok()?;
            lock.try_lock().ok()?;
            Some(Self { path, is_mounted: false, _lock: Some(lock) })
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets other users than the builder's pass through it to files whose names they know.
    pub fn open_to_all(&self) -> io::Result<()> {
        std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o711))
    }
}

impl Drop for MemoryDirectory {
    fn drop(&mut self) {
        // What cannot be removed is still in memory only.
        if self.is_mounted {
            umount2(&self.path, MntFlags::MNT_DETACH).ok();
            std::fs::remove_dir(&self.path).ok();
        } else {
            std::fs::remove_dir_all(&self.path).ok();
        }
    }
}

/// Removes what builders left that were killed.
fn remove_abandoned(directory: &Path) {
    for number in 0..MOST {
        let path = directory.join(format!("{PREFIX}{number}"));
        // A link is not followed to somebody else's directory.
        let is_own = std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
        if is_own && File::open(&path).is_ok_and(|lock| lock.try_lock().is_ok()) {
            std::fs::remove_dir_all(&path).ok();
        }
    }
}

fn is_in_memory(path: &Path) -> bool {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    statfs(path).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}
