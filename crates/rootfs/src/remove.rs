//! Removing trees.

use std::ffi::{CStr, CString};

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType, unlinkat};
use rustix::io::Errno;

use crate::attributes::{Inodes, Looked};
use crate::climb::{Climber, Identity};
use crate::guard::Standing;
use crate::resolve::Purpose;
use crate::{Attributes, Operation, Root, RootError, RootPath, Xattrs};

/// How often a directory is swept whose removal finds something in it again. Some file systems skip names
/// while others are removed; a process that keeps adding names must not keep this one busy for ever.
const MAX_SWEEPS: usize = 16;

/// What [`Root::remove`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// Nothing was there to begin with.
    Nothing,
    /// Everything is gone.
    Everything,
    /// Something protected, and the directories that lead to it, stay on disk; the root no longer shows them.
    SparedProtected,
}

/// What could not be removed, relative to the removed path.
pub(crate) type TreeFailure = (RootPath, Errno);

impl Root {
    /// Removes what is at `path` and everything beneath it, sparing what is protected. No link is followed.
    ///
    /// Trees of any depth are removed with a fixed number of descriptors.
    ///
    /// # Errors
    ///
    /// The error names the path that could not be removed; what came before it is gone. `EBUSY` also where
    /// something was mounted since the root was opened.
    pub fn remove(&self, path: &RootPath) -> Result<Removed, RootError> {
        if path.is_root() {
            return self.clear();
        }
        self.changing(Operation::Remove, path)?;
        let failed = |error: Errno| RootError::new(Operation::Remove, path, error);
        let spot = match self.spot(path, Purpose::Look) {
            Ok(spot) => spot,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Removed::Nothing),
            Err(error) => return Err(failed(error)),
        };
        let is_scaffold =
            self.guard.protects(&spot.path).is_none() && self.guard.holds_protected(&spot.path);
        if !is_scaffold {
            let gone = self.remove_tree(spot.dir.as_fd(), &spot.name, &spot.path)?;
            return Ok(if gone { Removed::Everything } else { Removed::Nothing });
        }
        match self.metadata_at(&spot) {
            Ok(_) => self.remove_scaffold(&spot.path),
            Err(Errno::NOENT) => Ok(Removed::Nothing),
            Err(error) => Err(failed(error)),
        }
    }

    /// Removes everything beneath the root, sparing what is protected, and makes the root directory as new:
    /// `0o755`, owned by 0:0, without extended attributes.
    pub fn clear(&self) -> Result<Removed, RootError> {
        let root = RootPath::root();
        self.changing(Operation::Remove, &root)?;
        let removed = self.remove_scaffold(&root)?;
        let as_new = Attributes {
            uid: Some(0),
            gid: Some(0),
            mode: Some(0o755),
            mtime: None,
            xattrs: Some(Xattrs::new()),
        };
        self.set_attributes(&root, &as_new)?;
        Ok(removed)
    }

    /// Removes a directory that leads to something protected, as far as it goes. Recursion goes no deeper than
    /// the path of the protected file.
    pub(crate) fn remove_scaffold(&self, path: &RootPath) -> Result<Removed, RootError> {
        let failed = |error: Errno| RootError::new(Operation::Remove, path, error);
        self.remove_shadow(path)?;
        self.guard.forget(path);

        let spot = self.spot(path, Purpose::Look).map_err(failed)?;
        let here = match Climber::start(spot.dir.as_fd(), &spot.name, self.grants()) {
            Ok(here) => here,
            Err(Errno::NOENT) => return Ok(Removed::Everything),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                self.remove_tree(spot.dir.as_fd(), &spot.name, path)?;
                return Ok(Removed::Everything);
            }
            Err(error) => return Err(failed(error)),
        };
        let mut removed = Removed::Everything;
        for name in here.names().map_err(failed)? {
            let child = path.join_name(name.to_bytes());
            match self.guard.standing(&child) {
                Standing::Displaced => removed = Removed::SparedProtected,
                Standing::Scaffold => {
                    if self.remove_scaffold(&child)? == Removed::SparedProtected {
                        removed = Removed::SparedProtected;
                    }
                }
                Standing::Plain => {
                    self.remove_tree(here.as_fd(), &name, &child)?;
                }
            }
        }
        if removed == Removed::Everything && !path.is_root() {
            unlinkat(&spot.dir, &spot.name, AtFlags::REMOVEDIR).map_err(failed)?;
        }
        Ok(removed)
    }

    /// Removes everything that is displaced at or beneath a scaffold.
    fn remove_shadow(&self, path: &RootPath) -> Result<(), RootError> {
        let failed = |error: Errno| RootError::new(Operation::Remove, path, error);
        let parent = path.parent().unwrap_or_default();
        let Ok(dir) = self.guard.shadow_dir(&parent) else { return Ok(()) };
        if let Some(name) = path.file_name() {
            let name = CString::new(name).map_err(|_| failed(Errno::INVAL))?;
            self.remove_tree(dir.as_fd(), &name, path)?;
            return Ok(());
        }
        let tree = Climber::start(dir.as_fd(), c".", self.grants()).map_err(failed)?;
        for name in tree.names().map_err(failed)? {
            let child = path.join_name(name.to_bytes());
            self.remove_tree(tree.as_fd(), &name, &child)?;
        }
        Ok(())
    }

    /// Removes a tree with nothing protected in it and says whether there was one.
    fn remove_tree(
        &self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &RootPath,
    ) -> Result<bool, RootError> {
        tree(dir, name, Some(&self.inodes)).map_err(|(beneath, error)| {
            RootError::new(Operation::Remove, &path.join(&beneath), error)
        })
    }

    pub(crate) fn grants(&self) -> bool {
        !self.inodes.privileges.ignores_modes
    }
}

/// Removes `name` in `dir` with everything beneath it, and says whether there was anything.
pub(crate) fn tree(
    dir: BorrowedFd<'_>,
    name: &CStr,
    inodes: Option<&Inodes>,
) -> Result<bool, TreeFailure> {
    let here = |error| (RootPath::root(), error);
    match unlink(dir, name, inodes).map_err(here)? {
        Unlinked::Gone => return Ok(true),
        Unlinked::Missing => return Ok(false),
        Unlinked::IsDirectory => {}
    }
    let grants = inodes.is_none_or(|inodes| !inodes.privileges.ignores_modes);
    let climber = match Climber::start(dir, name, grants) {
        Err(Errno::NOENT) => return Ok(true),
        result => result.map_err(here)?,
    };
    let mut removal = Removal { top: dir, climber, levels: Vec::new(), inodes };
    removal.descended(name.to_owned(), None).map_err(|error| (removal.path(), error))?;
    loop {
        match removal.step() {
            Ok(true) => {}
            Ok(false) => return Ok(true),
            Err(error) => return Err((removal.path(), error)),
        }
    }
}

/// A removal under way: the climber stands in the last of the levels.
struct Removal<'a> {
    top: BorrowedFd<'a>,
    climber: Climber,
    levels: Vec<Level>,
    inodes: Option<&'a Inodes>,
}

struct Level {
    name: CString,
    /// The parent directory, except for the first level, whose parent is `top`.
    above: Option<Identity>,
    directories: Vec<CString>,
    sweeps: usize,
}

impl Removal<'_> {
    /// Goes into a directory that is left to remove, or removes the one it stands in; `false` when the first
    /// one is gone.
    fn step(&mut self) -> Result<bool, Errno> {
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        if let Some(name) = level.directories.pop() {
            match self.climber.enter(&name) {
                Ok(above) => self.descended(name, Some(above))?,
                Err(Errno::NOENT) => {}
                // Replaced by a file since it was listed.
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    unlink(self.climber.as_fd(), &name, self.inodes)?;
                }
                Err(error) => {
                    level.directories.push(name);
                    return Err(error);
                }
            }
            return Ok(true);
        }
        let Some(mut level) = self.levels.pop() else { return Ok(false) };
        let removed = match level.above {
            None => remove_dir(self.top, &level.name, self.inodes),
            Some(above) => {
                self.climber.leave(above)?;
                remove_dir(self.climber.as_fd(), &level.name, self.inodes)
            }
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(!self.levels.is_empty()),
            Err(Errno::NOTEMPTY | Errno::EXIST) if level.sweeps < MAX_SWEEPS => {
                if level.above.is_some() {
                    self.climber.enter(&level.name)?;
                }
                level.sweeps += 1;
                level.directories = self.sweep()?;
                self.levels.push(level);
                Ok(true)
            }
            Err(error) => {
                self.levels.push(level);
                Err(error)
            }
        }
    }

    fn descended(&mut self, name: CString, above: Option<Identity>) -> Result<(), Errno> {
        self.levels.push(Level { name, above, directories: Vec::new(), sweeps: 1 });
        let directories = self.sweep()?;
        if let Some(level) = self.levels.last_mut() {
            level.directories = directories;
        }
        Ok(())
    }

    /// Removes what is no directory and returns the directories.
    fn sweep(&self) -> Result<Vec<CString>, Errno> {
        let mut directories = Vec::new();
        self.climber.visit(|name, kind| {
            let is_directory = kind == FileType::Directory
                || matches!(
                    unlink(self.climber.as_fd(), name, self.inodes)?,
                    Unlinked::IsDirectory
                );
            if is_directory {
                directories.push(name.to_owned());
            }
            Ok(())
        })?;
        Ok(directories)
    }

    /// Where it stands, relative to the first level.
    fn path(&self) -> RootPath {
        let beneath = self.levels.iter().skip(1);
        beneath.fold(RootPath::root(), |path, level| path.join_name(level.name.to_bytes()))
    }
}

enum Unlinked {
    Gone,
    Missing,
    IsDirectory,
}

fn unlink(dir: BorrowedFd<'_>, name: &CStr, inodes: Option<&Inodes>) -> Result<Unlinked, Errno> {
    let looked = look(dir, name, inodes);
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => {
            if let (Some(inodes), Some(looked)) = (inodes, looked)
                && looked.disk.nlink <= 1
            {
                inodes.table.forget(looked.key);
            }
            Ok(Unlinked::Gone)
        }
        Err(Errno::NOENT) => Ok(Unlinked::Missing),
        Err(Errno::ISDIR) => Ok(Unlinked::IsDirectory),
        Err(error) => Err(error),
    }
}

fn remove_dir(dir: BorrowedFd<'_>, name: &CStr, inodes: Option<&Inodes>) -> Result<(), Errno> {
    let looked = look(dir, name, inodes);
    unlinkat(dir, name, AtFlags::REMOVEDIR)?;
    if let (Some(inodes), Some(looked)) = (inodes, looked) {
        inodes.table.forget(looked.key);
    }
    Ok(())
}

/// What has to be forgotten afterwards; not asked for where nothing is virtual.
fn look(dir: BorrowedFd<'_>, name: &CStr, inodes: Option<&Inodes>) -> Option<Looked> {
    let inodes = inodes.filter(|inodes| !inodes.table.is_empty())?;
    inodes.look(dir, name).ok()
}
