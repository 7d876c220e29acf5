//! The root that is copied to.

use std::collections::BTreeSet;

use ebiko_rootfs::{Attributes, Existing, Kind, Root, RootError, RootPath};

use crate::account::Owner;
use crate::copy::CopyError;
use crate::directories::{MakeDirError, View};

/// A root as one copy sees it.
///
/// With `--link` it sees nothing except what it made itself, as if it began in an empty root. What it makes is laid over what
/// is there as a layer would be: directories are merged and get the attributes of the upper one, everything else is
/// replaced.
pub(super) struct Target<'a> {
    pub(super) root: &'a Root,
    view: View<'a>,
    sight: Sight,
    /// The attributes of directories that are made because something shall be in them.
    directories: Attributes,
    touched: BTreeSet<RootPath>,
}

/// What a copy sees of the root that it copies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    Everything,
    OwnWork,
}

impl<'a> Target<'a> {
    pub(super) fn new(view: View<'a>, sight: Sight, owner: Owner, mode: u32) -> Self {
        let directories = Attributes {
            uid: Some(owner.uid),
            gid: Some(owner.gid),
            mode: Some(mode),
            ..Attributes::default()
        };
        Self { root: view.root, view, sight, directories, touched: BTreeSet::new() }
    }

    /// What is at `path`, which is free of links, as far as the copy sees it.
    pub(super) fn find(&self, path: &RootPath) -> Result<Option<Kind>, RootError> {
        if self.sees(path) { self.view.find(path) } else { Ok(None) }
    }

    fn sees(&self, path: &RootPath) -> bool {
        self.sight == Sight::Everything || path.is_root() || self.touched.contains(path)
    }

    /// Where `path` leads.
    ///
    /// What leads to a destination is never a link that the copy itself has made: links that a source names are
    /// followed, and those in a directory are made beneath the destination.
    pub(super) fn resolve(&self, path: &RootPath) -> Result<RootPath, MakeDirError> {
        match self.sight {
            Sight::Everything => self.view.resolve(path),
            Sight::OwnWork => Ok(path.clone()),
        }
    }

    /// Makes `path`, which is free of links, a directory, and the missing ones above it likewise. What the copy sees
    /// stays as it is.
    pub(super) fn make_directories(&mut self, path: &RootPath) -> Result<(), MakeDirError> {
        if self.find(path)? == Some(Kind::Directory) {
            return Ok(());
        }
        for directory in path.ancestors().chain([path.clone()]) {
            match self.find(&directory)? {
                Some(Kind::Directory) => {}
                Some(_) => return Err(MakeDirError::NotADirectory { path: directory }),
                None => {
                    self.create_directory(&directory)?;
                    self.root.set_attributes(&directory, &self.directories)?;
                    self.touched.insert(directory);
                }
            }
        }
        Ok(())
    }

    /// Makes `path` a directory unless it is one; whether it was not.
    pub(super) fn enter_directory(&self, path: &RootPath) -> Result<bool, CopyError> {
        match self.find(path)? {
            None => {
                self.create_directory(path)?;
                Ok(true)
            }
            Some(Kind::Directory) => Ok(false),
            Some(_) => Err(CopyError::NotADirectory { path: path.clone() }),
        }
    }

    fn create_directory(&self, path: &RootPath) -> Result<(), RootError> {
        if self.sight == Sight::OwnWork
            && self.root.make_way(path, Kind::Directory)? == Existing::Directory
        {
            return Ok(());
        }
        self.root.create_dir(path)
    }

    /// Whether anything is at `path`, whether the copy sees it or not.
    pub(super) fn is_taken(&self, path: &RootPath) -> Result<bool, RootError> {
        Ok(self.view.find(path)?.is_some())
    }

    /// Removes what is at `path`, where something that is no directory will be.
    pub(super) fn clear_for_file(&self, path: &RootPath) -> Result<(), CopyError> {
        if self.find(path)? == Some(Kind::Directory) {
            return Err(CopyError::Directory { path: path.clone() });
        }
        self.root.make_way(path, Kind::Regular)?;
        Ok(())
    }

    /// Notes that something was made or changed at `path`.
    pub(super) fn touch(&mut self, path: RootPath) {
        self.touched.insert(path);
    }

    pub(super) fn touched(self) -> BTreeSet<RootPath> {
        self.touched
    }
}
