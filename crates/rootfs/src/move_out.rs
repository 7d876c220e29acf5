//! Moving a finished stage out of the way.

#![expect(clippy::disallowed_methods, reason = "the new directory is named by a host path")]

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Mode, mkdirat, renameat, unlinkat};
use rustix::io::Errno;

use crate::attributes::Failure;
use crate::climb::{Climber, Identity};
use crate::guard::Standing;
use crate::resolve::{DirFd, Purpose, Spot};
use crate::root::open_host;
use crate::{Attributes, OpenRootError, Operation, Root, RootError, RootPath};

/// A root could not be moved out.
///
/// What was moved stays moved: the root and the destination together hold everything.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum MoveOutError {
    #[error("cannot make the directory `{}`", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Open(OpenRootError),
    #[error("cannot move the root `{}` into itself at `{}`", root.display(), path.display())]
    Inside { root: PathBuf, path: PathBuf },
    #[error(transparent)]
    Move(RootError),
}

impl MoveOutError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Move(error) => error.hint(),
            Self::Open(error) => error.hint(),
            Self::Create { .. } | Self::Inside { .. } => None,
        }
    }
}

impl Root {
    /// Moves everything in the root into the directory `to`, which is made for it, and returns that directory
    /// as a root of its own.
    ///
    /// Top-level entries are renamed, so this takes as long as there are names in `/`. Where the kernel refuses
    /// (`EXDEV`: a directory that came with the executor's image, or `to` is on another file system) or something
    /// protected is beneath, the directory is made again and its entries are moved. Virtual attributes go along,
    /// and displaced files arrive where the image wanted them. Hard links among copied files are kept.
    ///
    /// Afterwards this root is empty but for what is protected, and serves the next stage.
    ///
    /// # Errors
    ///
    /// `to` must not exist, its parent must, and it must be outside of the root or in the builder's directory.
    pub fn move_out(&self, to: &Path) -> Result<Self, MoveOutError> {
        let root = RootPath::root();
        self.changing(Operation::Move, &root).map_err(MoveOutError::Move)?;
        let create = |source: io::Error| MoveOutError::Create { path: to.to_owned(), source };
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = std::fs::canonicalize(parent.unwrap_or(Path::new("."))).map_err(create)?;
        if let Ok(beneath) = parent.strip_prefix(self.host_path()) {
            let inside = RootPath::parse(beneath.as_os_str().as_bytes())
                .is_ok_and(|beneath| self.protects(&beneath).is_none());
            if inside {
                let root = self.host_path().to_owned();
                return Err(MoveOutError::Inside { root, path: to.to_owned() });
            }
        }
        std::fs::create_dir(to).map_err(create)?;
        let (dir, host) = open_host(to).map_err(MoveOutError::Open)?;
        let stage = self.sibling(dir, host);

        let mut mover = Mover { from: self, to: &stage, links: HashMap::new() };
        mover.scaffold(&root).map_err(MoveOutError::Move)?;
        self.clear().map_err(MoveOutError::Move)?;
        Ok(stage)
    }
}

pub(crate) struct Mover<'a> {
    pub(crate) from: &'a Root,
    pub(crate) to: &'a Root,
    /// Where the first name of a file with several was copied to.
    pub(crate) links: HashMap<(u64, u64), RootPath>,
}

/// A directory that is moved entry by entry: both climbers stand in it.
struct Level {
    name: CString,
    path: RootPath,
    attributes: Attributes,
    above: Option<(Identity, Identity)>,
    names: Vec<CString>,
}

pub(crate) fn at(path: &RootPath) -> impl Fn(Errno) -> RootError {
    move |error| RootError::new(Operation::Move, path, error)
}

impl Mover<'_> {
    /// Moves what is in a directory that must stay. Recursion goes no deeper than protected paths do.
    fn scaffold(&mut self, path: &RootPath) -> Result<(), RootError> {
        let source = self.from.spot(path, Purpose::Look).map_err(at(path))?;
        let attributes = self.from.attributes_at(&source).map_err(at(path))?;
        if !path.is_root() {
            self.to.create_dir(path)?;
        }
        let target = self.to.open_dir(path)?;

        let displaced = self.from.guard.displaced_names(path);
        if let Ok(shadow) = self.from.guard.shadow_dir(path) {
            for name in &displaced {
                let child = path.join_name(name);
                let name = CString::new(&**name).map_err(|_| at(&child)(Errno::INVAL))?;
                match self.entry(shadow.as_fd(), &name, target.as_fd(), &child) {
                    Err(error) if error.is_missing() => {}
                    result => result?,
                }
            }
        }
        let here = Climber::start(source.dir.as_fd(), &source.name, self.from.grants())
            .map_err(at(path))?;
        for name in here.names().map_err(at(path))? {
            let child = path.join_name(name.to_bytes());
            match self.from.guard.standing(&child) {
                Standing::Displaced => {}
                Standing::Scaffold => {
                    if self.from.shows_scaffold(&child).map_err(at(&child))? {
                        self.scaffold(&child)?;
                    }
                }
                Standing::Plain => self.entry(here.as_fd(), &name, target.as_fd(), &child)?,
            }
        }
        self.to.set_attributes(path, &attributes)
    }

    /// Moves `name` in `from` to the same name in `to`, which is at `path`.
    pub(crate) fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        name: &CStr,
        to: BorrowedFd<'_>,
        path: &RootPath,
    ) -> Result<(), RootError> {
        match self.rename(from, name, to, path) {
            Err(Errno::XDEV) => {}
            result => return result.map_err(at(path)),
        }
        let looked = self.from.inodes.look(from, name).map_err(at(path))?;
        if looked.disk.is_dir() {
            self.tree(from, name, to, path)
        } else {
            self.leaf(from, name, path)
        }
    }

    fn rename(
        &self,
        from: BorrowedFd<'_>,
        name: &CStr,
        to: BorrowedFd<'_>,
        path: &RootPath,
    ) -> Result<(), Errno> {
        match renameat(from, name, to, name) {
            // Moving a directory writes its `..`, which its mode may forbid.
            Err(Errno::ACCESS) if self.from.grants() => {
                let spot = plain_spot(from, name, path);
                self.from.inodes.grant_owner(&self.from.inodes.handle(&spot)?)?;
                renameat(from, name, to, name)
            }
            result => result,
        }
    }

    /// Makes a directory again and moves its entries, to any depth.
    fn tree(
        &mut self,
        from: BorrowedFd<'_>,
        name: &CStr,
        to: BorrowedFd<'_>,
        path: &RootPath,
    ) -> Result<(), RootError> {
        let attributes =
            self.from.attributes_at(&plain_spot(from, name, path)).map_err(at(path))?;
        mkdirat(to, name, Mode::RWXU).map_err(at(path))?;
        let grants = self.from.grants();
        let mut source = Climber::start(from, name, grants).map_err(at(path))?;
        let mut target = Climber::start(to, name, grants).map_err(at(path))?;
        let names = source.names().map_err(at(path))?;
        let first =
            Level { name: name.to_owned(), path: path.clone(), attributes, above: None, names };
        let mut levels = vec![first];

        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                let Some(level) = levels.pop() else { break };
                if let Some((above_source, above_target)) = level.above {
                    source.leave(above_source).map_err(at(&level.path))?;
                    target.leave(above_target).map_err(at(&level.path))?;
                    self.finish(source.as_fd(), target.as_fd(), &level)?;
                } else {
                    self.finish(from, to, &level)?;
                }
                continue;
            };
            let child = level.path.join_name(name.to_bytes());
            match self.rename(source.as_fd(), &name, target.as_fd(), &child) {
                Err(Errno::XDEV) => {}
                result => {
                    result.map_err(at(&child))?;
                    continue;
                }
            }
            let looked = self.from.inodes.look(source.as_fd(), &name).map_err(at(&child))?;
            if !looked.disk.is_dir() {
                self.leaf(source.as_fd(), &name, &child)?;
                continue;
            }
            let spot = plain_spot(source.as_fd(), &name, &child);
            let attributes = self.from.attributes_at(&spot).map_err(at(&child))?;
            mkdirat(&target, &name, Mode::RWXU).map_err(at(&child))?;
            let above = (
                source.enter(&name).map_err(at(&child))?,
                target.enter(&name).map_err(at(&child))?,
            );
            let names = source.names().map_err(at(&child))?;
            levels.push(Level { name, path: child, attributes, above: Some(above), names });
        }
        Ok(())
    }

    /// Removes the emptied directory and gives the new one its attributes, now that nothing changes its time.
    fn finish(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        level: &Level,
    ) -> Result<(), RootError> {
        let key = self.from.inodes.look(from, &level.name).map_err(at(&level.path))?.key;
        unlinkat(from, &level.name, AtFlags::REMOVEDIR).map_err(at(&level.path))?;
        self.from.inodes.table.forget(key);
        let spot = plain_spot(to, &level.name, &level.path);
        let handle = self.to.inodes.handle(&spot).map_err(at(&level.path))?;
        let set = self.to.inodes.set(&handle, &level.attributes);
        set.map_err(|(operation, error): Failure| RootError::new(operation, &level.path, error))
    }

    /// Copies what is no directory and removes the original.
    fn leaf(
        &mut self,
        from: BorrowedFd<'_>,
        name: &CStr,
        path: &RootPath,
    ) -> Result<(), RootError> {
        let looked = self.from.inodes.look(from, name).map_err(at(path))?;
        let inode = (looked.disk.dev, looked.disk.ino);
        if let Some(first) = self.links.get(&inode) {
            self.to.hard_link(first, path)?;
        } else {
            self.from.copy_leaf(&plain_spot(from, name, path), self.to, path)?;
            if looked.disk.nlink > 1 {
                self.links.insert(inode, path.clone());
            }
        }
        unlinkat(from, name, AtFlags::empty()).map_err(at(path))?;
        if looked.disk.nlink <= 1 {
            self.from.inodes.table.forget(looked.key);
        }
        Ok(())
    }
}

pub(crate) fn plain_spot<'a>(dir: BorrowedFd<'a>, name: &CStr, path: &RootPath) -> Spot<'a> {
    Spot {
        dir: DirFd::Borrowed(dir),
        name: name.to_owned(),
        path: path.clone(),
        standing: Standing::Plain,
    }
}
