//! Keeping the two sides of an overridden directory together while a step runs.
//!
//! In most images `/var/run` is a link to `/run`, and in most pods it is a directory, because credentials are
//! mounted beneath it. The image's link is displaced, but a command that runs in the root sees the directory:
//! what it makes as `/var/run/sshd` must become `/run/sshd`, and what is in `/run` must be found in `/var/run`.
//! So the directory is filled with one link per file of the directory that the image's link leads to, and
//! whatever else appears in it is moved there. The directories between it and the mount point cannot be links
//! either, so each of them is treated in the same way: `/var/run/secrets` is a real directory for `/run/secrets`,
//! which is made when a command puts something into it.

use std::ffi::{CStr, CString};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, openat, readlinkat, renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::climb::Climber;
use crate::guard::{Mirror, Standing};
use crate::{Attributes, Directory, Operation, Root, RootError, RootPath};

/// A directory of the container and the image's directory that it stands for.
type Pair = (RootPath, RootPath);

fn at(path: &RootPath) -> impl Fn(Errno) -> RootError {
    move |error| RootError::new(Operation::Move, path, error)
}

impl Root {
    /// Makes directories of the container that an image has a link for look like that link. To be called before
    /// and after a command runs in the root; without such directories it does nothing.
    ///
    /// Afterwards everything that the command made, replaced or removed through the directory is made, replaced
    /// or removed where the image's link leads.
    ///
    /// # Errors
    ///
    /// What was moved until then stays moved; calling again continues.
    pub fn settle(&self) -> Result<(), RootError> {
        for scaffold in self.guard.overridden() {
            for (directory, mirror) in self.guard.mirrored(&scaffold) {
                self.withdraw(&directory, &mirror)?;
            }
            if let Some(target) = self.linked_directory(&scaffold)? {
                self.collect(&scaffold, &target)?;
                self.mirror(&scaffold, &target)?;
            }
        }
        Ok(())
    }

    /// The directory that the image's link in place of a scaffold leads to, if it is one in the root itself.
    fn linked_directory(&self, scaffold: &RootPath) -> Result<Option<RootPath>, RootError> {
        if !self.find(scaffold)?.is_some_and(|found| found.is_symlink()) {
            return Ok(None);
        }
        let Some(target) = self.counterpart(scaffold)? else { return Ok(None) };
        let is_dir = self.find(&target)?.is_some_and(|found| found.is_dir());
        Ok(is_dir.then_some(target))
    }

    /// Where a file belongs that a command puts into the image's directory `path`, which need not exist; `None`
    /// where the image has no such directory and cannot get it, or it is the container's.
    fn counterpart(&self, path: &RootPath) -> Result<Option<RootPath>, RootError> {
        let target = match self.resolve(path) {
            Ok(target) => target,
            Err(error) if error.is_missing() || is_loop(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let inside = self.guard.standing(&target) != Standing::Displaced && !target.is_root();
        let usable = self.find(&target)?.is_none_or(|found| found.is_dir());
        Ok((inside && usable).then_some(target))
    }

    /// Takes the links out of a directory again, so that whatever is in it was put there by the command, and
    /// removes where they led what the command removed through them.
    ///
    /// Each link is forgotten as soon as it is dealt with, because a link that is missing means a removal.
    fn withdraw(&self, directory: &RootPath, mirror: &Mirror) -> Result<(), RootError> {
        let here = match self.open_real(directory) {
            Ok(here) => Some(here),
            // A command can remove directories that lead to something that is protected but not mounted.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            Err(error) => return Err(at(directory)(error)),
        };
        for name in &mirror.names {
            let led_to = mirror.target.join_name(name.to_bytes());
            let found = here.as_ref().map_or(Err(Errno::NOENT), |here| {
                self.inodes.look(here.as_fd(), name).map(|_| here)
            });
            match found {
                Ok(here) => {
                    if is_mirror(here.as_fd(), name, &led_to) {
                        unlinkat(here, name, AtFlags::empty())
                            .map_err(at(&directory.join_name(name.to_bytes())))?;
                    }
                }
                Err(Errno::NOENT) => {
                    self.remove(&led_to)?;
                }
                Err(error) => return Err(at(directory)(error)),
            }
            self.guard.forget_mirrored(directory, name);
        }
        Ok(())
    }

    /// Moves to `target` what the command made in the directory.
    fn collect(&self, scaffold: &RootPath, target: &RootPath) -> Result<(), RootError> {
        let mut pending = vec![(scaffold.clone(), target.clone())];
        let mut merged = Vec::new();
        while let Some((from, to)) = pending.pop() {
            pending.extend(self.collect_from(&from, &to)?);
            let stays = from == *scaffold || self.holds_protected(&from);
            if !stays {
                merged.push(from);
            }
        }
        for directory in merged.iter().rev() {
            let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
                continue;
            };
            let parent = self.open_real(&parent).map_err(at(directory))?;
            match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
                // What would have to take the place of something protected stays.
                Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(error) => return Err(at(directory)(error)),
            }
        }
        Ok(())
    }

    /// Moves what is in one directory and returns the directories in it that have to be gone through themselves.
    fn collect_from(&self, from: &RootPath, to: &RootPath) -> Result<Vec<Pair>, RootError> {
        let mut inner = Vec::new();
        // Opened late: an image does not get a directory because the container has one.
        let mut destination = None;
        let source = self.open_real(from).map_err(at(from))?;
        let names = Climber::start(source.as_fd(), c".", self.grants())
            .and_then(|here| here.names())
            .map_err(at(from))?;
        for name in names {
            let (old, new) = (from.join_name(name.to_bytes()), to.join_name(name.to_bytes()));
            if self.protects(&old).is_some() {
                continue;
            }
            let looked = self.inodes.look(source.as_fd(), &name).map_err(at(&old))?;
            let is_dir = looked.disk.is_dir();
            if is_dir && self.holds_protected(&old) {
                inner.extend(self.counterpart(&new)?.map(|new| (old, new)));
                continue;
            }
            match self.guard.standing(&new) {
                Standing::Displaced => {}
                Standing::Scaffold if !is_dir => {}
                Standing::Scaffold => {
                    self.make_directory(&new)?;
                    inner.push((old, new));
                }
                Standing::Plain => {
                    let destination = match &mut destination {
                        Some(destination) => &*destination,
                        none => none.insert(self.make_directory(to)?),
                    };
                    if self.move_over(source.as_fd(), &name, destination.as_fd(), &new)? {
                        inner.push((old, new));
                    }
                }
            }
        }
        Ok(inner)
    }

    /// Opens a directory of the image, which is made if it is not there, as a package would ship it.
    fn make_directory(&self, path: &RootPath) -> Result<Directory<'_>, RootError> {
        if self.find(path)?.is_none() {
            let attributes = Attributes {
                uid: Some(0),
                gid: Some(0),
                mode: Some(0o755),
                ..Attributes::default()
            };
            self.create_parents(path, &attributes)?;
            self.create_dir(path)?;
            self.set_attributes(path, &attributes)?;
        }
        self.open_dir(path)
    }

    /// Moves `name` to the other directory, replacing what is there; says whether both are directories, which
    /// have to be merged instead.
    fn move_over(
        &self,
        from: BorrowedFd<'_>,
        name: &CStr,
        to: BorrowedFd<'_>,
        new: &RootPath,
    ) -> Result<bool, RootError> {
        let rename = || renameat_with(from, name, to, name, RenameFlags::NOREPLACE);
        match rename() {
            Err(Errno::EXIST) => {}
            result => return result.map(|()| false).map_err(at(new)),
        }
        let is_dir =
            |dir| self.inodes.look(dir, name).map(|looked| looked.disk.is_dir()).map_err(at(new));
        if is_dir(from)? && is_dir(to)? {
            return Ok(true);
        }
        self.remove(new)?;
        rename().map(|()| false).map_err(at(new))
    }

    /// Makes a link in the directory for everything in `target`, and in the directories of the container beneath
    /// it for everything that belongs there. Goes no deeper than protected paths do.
    fn mirror(&self, scaffold: &RootPath, target: &RootPath) -> Result<(), RootError> {
        let mut pending = vec![(scaffold.clone(), target.clone())];
        while let Some((from, to)) = pending.pop() {
            if self.find(&to)?.is_none() {
                continue;
            }
            let directory = self.open_real(&from).map_err(at(&from))?;
            for entry in self.list(&to)? {
                let (old, new) = (from.join_name(&entry.name), to.join_name(&entry.name));
                if self.protects(&old).is_some() {
                    continue;
                }
                let name = CString::new(&*entry.name).map_err(|_| at(&new)(Errno::INVAL))?;
                match symlinkat(mirror_text(&new), &directory, &name) {
                    Ok(()) => self.guard.add_mirrored(&from, &to, name),
                    // The container's own, which stays.
                    Err(Errno::EXIST) => {
                        let looked =
                            self.inodes.look(directory.as_fd(), &name).map_err(at(&old))?;
                        if looked.disk.is_dir() && self.holds_protected(&old) {
                            pending.extend(self.counterpart(&new)?.map(|new| (old, new)));
                        }
                    }
                    Err(error) => return Err(at(&new)(error)),
                }
            }
        }
        Ok(())
    }

    /// Opens a directory on disk, whatever the image has in its place.
    fn open_real(&self, path: &RootPath) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut dir = openat(&self.dir, c".", flags, Mode::empty())?;
        for component in path.components() {
            dir = openat(&dir, component, flags, Mode::empty())?;
        }
        Ok(dir)
    }
}

fn is_loop(error: &RootError) -> bool {
    error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

fn mirror_text(path: &RootPath) -> Vec<u8> {
    [b"/", path.as_bytes()].concat()
}

fn is_mirror(dir: BorrowedFd<'_>, name: &CStr, path: &RootPath) -> bool {
    readlinkat(dir, name, Vec::new()).is_ok_and(|text| text.into_bytes() == mirror_text(path))
}
