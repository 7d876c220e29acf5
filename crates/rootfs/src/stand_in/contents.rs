//! Showing a command something else in a directory that cannot be moved, because there is a mount point in it.
//!
//! The directory stays, and what is in it is exchanged: everything that neither is nor holds something protected is
//! moved into the builder's store, what stands in is moved there, and afterwards both go back. The directories that
//! lead to what is protected are gone through in the same way. What is protected stays where it is, and is seen.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, fstat, mkdirat, openat, readlinkat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::{DIRECTORY, StandInError, look};
use crate::attributes::Failure;
use crate::climb::Climber;
use crate::guard::{Missing, Standing, descend};
use crate::move_out::{Mover, plain_spot};
use crate::{Attributes, Operation, Root, RootError, RootPath};

/// One directory whose contents stand aside.
#[derive(Debug)]
pub(super) struct Exchange {
    target: RootPath,
    /// Where the directory must be found again.
    parent: OwnedFd,
    name: CString,
    guest: Guest,
    /// The directory, and those in it that lead to something protected; who holds another one comes first.
    levels: Vec<Level>,
}

/// The directory whose entries are shown.
#[derive(Debug)]
pub(super) struct Guest {
    root: Root,
    fate: Fate,
}

/// What becomes of the entries that are found in the end.
#[derive(Debug)]
pub(super) enum Fate {
    /// They go back.
    Kept,
    /// They cannot be moved, and links lead to them; what is new is copied there.
    Linked(PathBuf),
    /// They are removed, and so is the directory, by its name.
    Removed(OwnedFd, CString),
}

#[derive(Debug)]
struct Level {
    path: RootPath,
    directory: OwnedFd,
    before: Attributes,
    aside: Root,
    aside_name: CString,
    /// The names of links to entries of the guest.
    linked: Vec<CString>,
    shown: Shown,
}

/// How far a guest is shown in a directory.
#[derive(Debug)]
enum Shown {
    Nothing,
    /// Some of it; the guest's directory had these attributes.
    Begun(Attributes),
    Everything,
}

/// What was open before and must be open again.
type Opened = (RootPath, OwnedFd);

impl Guest {
    /// The directory `path` of the machine, for a root on the same disk or another.
    pub(super) fn open(root: &Root, path: &Path, fate: Fate) -> Result<Self, Errno> {
        let directory = rustix::fs::open(path, DIRECTORY, Mode::empty())?;
        Ok(Self { root: root.sibling(directory, path.to_owned()), fate })
    }

    /// A directory that is kept; with links where it is on another file system than the directory `target`.
    pub(super) fn keep(root: &Root, path: &Path, target: &OwnedFd) -> Result<Self, Errno> {
        let mut guest = Self::open(root, path, Fate::Kept)?;
        if fstat(&guest.root)?.st_dev != fstat(target)?.st_dev {
            guest.fate = Fate::Linked(path.to_owned());
        }
        Ok(guest)
    }

    /// The directory `within` it.
    fn directory(&self, within: &RootPath, missing: Missing) -> Result<Option<OwnedFd>, Errno> {
        match descend(self.root.as_fd(), within, missing) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if missing == Missing::Refuse => {
                Ok(None)
            }
            result => result.map(Some),
        }
    }
}

impl Exchange {
    pub(super) fn new(target: RootPath, parent: OwnedFd, name: CString, guest: Guest) -> Self {
        Self { target, parent, name, guest, levels: Vec::new() }
    }

    /// Moves out what is in the directory, and in what stands in for it.
    ///
    /// # Errors
    ///
    /// [`Exchange::end`] puts back what was moved until then.
    pub(super) fn begin(
        &mut self,
        root: &Root,
        store: &OwnedFd,
        mut next_name: impl FnMut() -> Result<CString, Errno>,
    ) -> Result<(), StandInError> {
        let failed = |error| StandInError::from(moving(&self.target)(error));
        let top = openat(&self.parent, &self.name, DIRECTORY, Mode::empty()).map_err(failed)?;
        let mut open = vec![(self.target.clone(), top)];
        while let Some((path, directory)) = open.pop() {
            let name = next_name().map_err(moving(&path))?;
            self.levels.push(Level::new(root, path, directory, store, name)?);
            if let Some(level) = self.levels.last() {
                open.extend(level.move_aside(root)?);
            }
        }
        let paths: Vec<RootPath> = self.levels.iter().map(|level| level.path.clone()).collect();
        for level in &mut self.levels {
            self.guest.fill(root, level, &self.target, &paths)?;
        }
        Ok(())
    }

    /// Puts everything back.
    ///
    /// # Errors
    ///
    /// The first failure; everything else is put back all the same.
    pub(super) fn end(self, root: &Root, store: &OwnedFd) -> Result<(), StandInError> {
        let Self { target, parent, name, guest, levels } = self;
        let paths: Vec<RootPath> = levels.iter().map(|level| level.path.clone()).collect();
        let mut result = Ok(());
        if let Some(top) = levels.first() {
            let expected = look(&top.directory, c"").map(|(identity, _)| identity);
            if look(&parent, &name).map(|(identity, _)| identity) != expected {
                result = result.and(Err(StandInError::Moved { target: target.clone() }));
            }
        }
        for level in &levels {
            let taken = guest.take_back(root, level, &target, &paths);
            result = result.and(taken);
        }
        for level in levels {
            let returned = level.move_back(root, store, &target);
            result = result.and(returned);
        }
        if let Fate::Removed(directory, name) = &guest.fate {
            // It is out of the root, and goes with the builder's directory if not now.
            crate::remove::tree(directory.as_fd(), name, None).ok();
        }
        result
    }
}

impl Guest {
    /// Shows what is in it in the emptied directory, and makes that look like the directory it is in.
    fn fill(
        &self,
        root: &Root,
        level: &mut Level,
        target: &RootPath,
        levels: &[RootPath],
    ) -> Result<(), StandInError> {
        let failed = moving(&level.path);
        let within = level.path.strip_prefix(target).unwrap_or_default();
        let Some(source) = self.directory(&within, Missing::Refuse).map_err(&failed)? else {
            level.shown = Shown::Everything;
            return Ok(());
        };
        let attributes =
            self.root.attributes_at(&plain_spot(source.as_fd(), c".", &within)).map_err(&failed)?;
        level.shown = Shown::Begun(attributes.clone());
        let mut mover = Mover { from: &self.root, to: root, links: HashMap::new() };
        for name in names_in(root, &source).map_err(&failed)? {
            let child = level.path.join_name(name.to_bytes());
            if stays(root, &child, levels) {
                continue;
            }
            if let Fate::Linked(path) = &self.fate {
                let to = linked_to(path, &within, &name);
                symlinkat(to, &level.directory, &name).map_err(moving(&child))?;
                level.linked.push(name);
            } else {
                mover.entry(source.as_fd(), &name, level.directory.as_fd(), &child)?;
            }
        }
        level.set(root, &attributes)?;
        level.shown = Shown::Everything;
        Ok(())
    }

    /// Takes everything that is not protected out of the directory again.
    fn take_back(
        &self,
        root: &Root,
        level: &Level,
        target: &RootPath,
        levels: &[RootPath],
    ) -> Result<(), StandInError> {
        let failed = moving(&level.path);
        let within = level.path.strip_prefix(target).unwrap_or_default();
        let attributes = match &level.shown {
            Shown::Nothing => return Ok(()),
            Shown::Begun(attributes) => attributes.clone(),
            Shown::Everything => {
                let spot = plain_spot(level.directory.as_fd(), c".", &level.path);
                root.attributes_at(&spot).map_err(&failed)?
            }
        };
        let mut names = names_in(root, &level.directory).map_err(&failed)?;
        let gone: Vec<_> = level.linked.iter().filter(|name| !names.contains(name)).collect();
        names.retain(|name| !stays(root, &level.path.join_name(name.to_bytes()), levels));
        if let Fate::Linked(path) = &self.fate {
            for name in &level.linked {
                let link = readlinkat(&level.directory, name, Vec::new());
                let expected = linked_to(path, &within, name);
                if link.is_ok_and(|link| link.as_bytes() == expected.as_os_str().as_bytes()) {
                    unlinkat(&level.directory, name, AtFlags::empty()).map_err(&failed)?;
                    names.retain(|other| other != name);
                }
            }
        }
        let mut result = Ok(());
        if matches!(self.fate, Fate::Removed(..)) {
            for name in names {
                let removed = remove(root, &level.directory, &name, &level.path);
                result = result.and(removed);
            }
            return result;
        }
        let missing = if names.is_empty() { Missing::Refuse } else { Missing::Make };
        let Some(home) = self.directory(&within, missing).map_err(&failed)? else {
            return Ok(());
        };
        for name in gone {
            let removed = remove(&self.root, &home, name, &level.path);
            result = result.and(removed);
        }
        let mut mover = Mover { from: root, to: &self.root, links: HashMap::new() };
        for name in &names {
            if level.linked.contains(name) {
                let removed = remove(&self.root, &home, name, &level.path);
                result = result.and(removed);
            }
            let to = within.join_name(name.to_bytes());
            let taken = mover.entry(level.directory.as_fd(), name, home.as_fd(), &to);
            result = result.and(taken.map_err(|error| beneath(target, error)));
        }
        result.and(set(&self.root, &home, &level.path, &attributes))
    }
}

impl Level {
    fn new(
        root: &Root,
        path: RootPath,
        directory: OwnedFd,
        store: &OwnedFd,
        aside_name: CString,
    ) -> Result<Self, StandInError> {
        let make = || {
            let before = root.attributes_at(&plain_spot(directory.as_fd(), c".", &path))?;
            mkdirat(store, &aside_name, Mode::RWXU)?;
            let aside = openat(store, &aside_name, DIRECTORY, Mode::empty())?;
            Ok((before, root.sibling(aside, root.host.clone())))
        };
        let (before, aside) = make().map_err(moving(&path))?;
        Ok(Self {
            path,
            directory,
            before,
            aside,
            aside_name,
            linked: Vec::new(),
            shown: Shown::Nothing,
        })
    }

    /// Moves into the store what may be moved, and returns the directories that lead to what may not.
    fn move_aside(&self, root: &Root) -> Result<Vec<Opened>, StandInError> {
        let failed = moving(&self.path);
        let mut inner = Vec::new();
        let mut mover = Mover { from: root, to: &self.aside, links: HashMap::new() };
        for name in names_in(root, &self.directory).map_err(failed)? {
            let child = self.path.join_name(name.to_bytes());
            match root.guard.standing(&child) {
                Standing::Displaced => continue,
                Standing::Plain => {}
                Standing::Scaffold => {
                    match openat(&self.directory, &name, DIRECTORY, Mode::empty()) {
                        Ok(directory) => {
                            inner.push((child, directory));
                            continue;
                        }
                        // On disk it is no directory, so nothing protected can be in it.
                        Err(Errno::NOTDIR | Errno::LOOP) => {}
                        Err(error) => return Err(moving(&child)(error).into()),
                    }
                }
            }
            let to = RootPath::root().join_name(name.to_bytes());
            mover
                .entry(self.directory.as_fd(), &name, self.aside.as_fd(), &to)
                .map_err(|error| beneath(&self.path, error))?;
        }
        Ok(inner)
    }

    /// Puts back what was moved aside, and makes the directory what it was.
    fn move_back(
        self,
        root: &Root,
        store: &OwnedFd,
        target: &RootPath,
    ) -> Result<(), StandInError> {
        let failed = moving(&self.path);
        let mut result = Ok(());
        let mut mover = Mover { from: &self.aside, to: root, links: HashMap::new() };
        for name in names_in(root, &self.aside).map_err(failed)? {
            let child = self.path.join_name(name.to_bytes());
            let returned = match look(&self.directory, &name) {
                Ok(_) => Err(StandInError::Moved { target: target.clone() }),
                Err(Errno::NOENT) => {
                    let (from, to) = (self.aside.as_fd(), self.directory.as_fd());
                    mover.entry(from, &name, to, &child).map_err(|error| {
                        let is_lost = fstat(&self.directory).is_ok_and(|found| found.st_nlink == 0);
                        if is_lost {
                            StandInError::Lost { target: target.clone() }
                        } else {
                            error.into()
                        }
                    })
                }
                Err(error) => Err(moving(&child)(error).into()),
            };
            result = result.and(returned);
        }
        let set = self.set(root, &self.before);
        result = result.and(set);
        if result.is_ok() {
            unlinkat(store, &self.aside_name, AtFlags::REMOVEDIR).map_err(moving(&self.path))?;
        }
        result
    }

    fn set(&self, root: &Root, attributes: &Attributes) -> Result<(), StandInError> {
        set(root, &self.directory, &self.path, attributes)
    }
}

/// Sets the attributes of an open directory, virtual ones included.
fn set(
    root: &Root,
    directory: &OwnedFd,
    path: &RootPath,
    attributes: &Attributes,
) -> Result<(), StandInError> {
    let spot = plain_spot(directory.as_fd(), c".", path);
    let handle = root.inodes.handle(&spot).map_err(moving(path))?;
    let set = root.inodes.set(&handle, attributes);
    set.map_err(|(operation, error): Failure| RootError::new(operation, path, error).into())
}

/// Whether what is at `path` is shown whatever stands in for the directory that it is in.
fn stays(root: &Root, path: &RootPath, levels: &[RootPath]) -> bool {
    root.guard.standing(path) == Standing::Displaced || levels.contains(path)
}

fn names_in(root: &Root, directory: impl AsFd) -> Result<Vec<CString>, Errno> {
    Climber::start(directory.as_fd(), c".", root.grants())?.names()
}

fn remove(
    root: &Root,
    directory: &OwnedFd,
    name: &CStr,
    path: &RootPath,
) -> Result<(), StandInError> {
    let removed = crate::remove::tree(directory.as_fd(), name, Some(&root.inodes));
    removed.map(drop).map_err(|(within, error)| {
        let path = path.join_name(name.to_bytes()).join(&within);
        RootError::new(Operation::Remove, &path, error).into()
    })
}

fn linked_to(guest: &Path, within: &RootPath, name: &CStr) -> PathBuf {
    let mut path = guest.to_owned();
    if !within.is_root() {
        path.push(OsStr::from_bytes(within.as_bytes()));
    }
    path.join(OsStr::from_bytes(name.to_bytes()))
}

fn moving(path: &RootPath) -> impl Fn(Errno) -> RootError {
    move |error| RootError::new(Operation::Move, path, error)
}

/// Names what failed by its place in the root.
fn beneath(directory: &RootPath, error: RootError) -> StandInError {
    RootError { path: directory.join(&error.path), ..error }.into()
}
