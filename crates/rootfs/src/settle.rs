//! Keeping the two sides of an overridden directory together while a step runs.
//!
//! In most images `/var/run` is a link to `/run`, and in most pods it is a directory, because credentials are
//! mounted beneath it. The image's link is displaced, but a command that runs in the root sees the directory:
//! what it makes as `/var/run/sshd` must become `/run/sshd`, and what is in `/run` must be found in `/var/run`.
//! So the directory is filled with one link per file of the directory that the image's link leads to, and
//! whatever else appears in it is moved there.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, openat, readlinkat, renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::climb::Climber;
use crate::guard::Standing;
use crate::{Operation, Root, RootError, RootPath};

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
            if let Some(target) = self.linked_directory(&scaffold)? {
                self.apply_removals(&scaffold, &target)?;
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
        let target = self.resolve(scaffold)?;
        let inside = self.guard.standing(&target) != Standing::Displaced && !target.is_root();
        let is_dir = self.find(&target)?.is_some_and(|found| found.is_dir());
        Ok((inside && is_dir).then_some(target))
    }

    /// Removes where the link leads what the command removed through the directory.
    fn apply_removals(&self, scaffold: &RootPath, target: &RootPath) -> Result<(), RootError> {
        let directory = self.open_real(scaffold).map_err(at(scaffold))?;
        for name in self.guard.mirrored(scaffold) {
            match self.inodes.look(directory.as_fd(), &name) {
                Ok(_) => {}
                Err(Errno::NOENT) => {
                    self.remove(&target.join_name(name.to_bytes()))?;
                }
                Err(error) => return Err(at(scaffold)(error)),
            }
        }
        Ok(())
    }

    /// Moves to `target` what the command made in the directory.
    fn collect(&self, scaffold: &RootPath, target: &RootPath) -> Result<(), RootError> {
        let mut pending = vec![(scaffold.clone(), target.clone())];
        let mut emptied = Vec::new();
        while let Some((from, to)) = pending.pop() {
            let source = self.open_real(&from).map_err(at(&from))?;
            let destination = self.open_dir(&to)?;
            let names = Climber::start(source.as_fd(), c".", self.grants())
                .and_then(|here| here.names())
                .map_err(at(&from))?;
            for name in names {
                let (old, new) = (from.join_name(name.to_bytes()), to.join_name(name.to_bytes()));
                let containers_own = self.protects(&old).is_some() || self.holds_protected(&old);
                if containers_own || self.guard.standing(&new) != Standing::Plain {
                    continue;
                }
                if is_mirror(source.as_fd(), &name, &new) {
                    if self.find(&new)?.is_none() {
                        unlinkat(&source, &name, AtFlags::empty()).map_err(at(&old))?;
                    }
                    continue;
                }
                let merges = self.move_over(source.as_fd(), &name, destination.as_fd(), &new)?;
                if merges {
                    pending.push((old, new));
                }
            }
            if from != *scaffold {
                emptied.push(from);
            }
        }
        for directory in emptied.iter().rev() {
            let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
                continue;
            };
            let parent = self.open_real(&parent).map_err(at(directory))?;
            unlinkat(&parent, name, AtFlags::REMOVEDIR).map_err(at(directory))?;
        }
        Ok(())
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

    /// Makes a link in the directory for everything in `target`.
    fn mirror(&self, scaffold: &RootPath, target: &RootPath) -> Result<(), RootError> {
        let directory = self.open_real(scaffold).map_err(at(scaffold))?;
        let mut mirrored = BTreeSet::new();
        for entry in self.list(target)? {
            let path = target.join_name(&entry.name);
            let name = CString::new(&*entry.name).map_err(|_| at(&path)(Errno::INVAL))?;
            match symlinkat(mirror_text(&path), &directory, &name) {
                // The container's own directory, which stays.
                Err(Errno::EXIST) if !is_mirror(directory.as_fd(), &name, &path) => {}
                Ok(()) | Err(Errno::EXIST) => {
                    mirrored.insert(name);
                }
                Err(error) => return Err(at(&path)(error)),
            }
        }
        self.guard.set_mirrored(scaffold, mirrored);
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

fn mirror_text(path: &RootPath) -> Vec<u8> {
    [b"/", path.as_bytes()].concat()
}

fn is_mirror(dir: BorrowedFd<'_>, name: &CStr, path: &RootPath) -> bool {
    readlinkat(dir, name, Vec::new()).is_ok_and(|text| text.into_bytes() == mirror_text(path))
}
