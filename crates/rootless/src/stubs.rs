//! Places to mount on, which a root may not have and an image must not get.

use std::collections::BTreeMap;

use ebiko_rootfs::{Attributes, Kind, Root, RootError, RootPath, Time};

use crate::mounts::Targets;

/// What was made in a root only to mount on it.
#[derive(Debug, Default)]
pub(crate) struct Stubs {
    /// From the top down.
    made: Vec<RootPath>,
    /// The time of each directory that something was made in: before, and after.
    parents: BTreeMap<RootPath, (Time, Time)>,
}

impl Stubs {
    /// Finds the places in `root` where a guest expects its mounts, and makes those that are
    /// missing.
    ///
    /// Links are followed inside the root, so that an image with `etc/resolv.conf ->
    /// ../run/resolv.conf` gets the file where its link leads. On failure what was made stays; the
    /// caller cleans up with [`Stubs::remove`].
    pub(crate) fn make(&mut self, root: &Root) -> Result<Targets, RootError> {
        Ok(Targets {
            proc: self.known(root, "proc", Kind::Directory)?,
            dev: self.known(root, "dev", Kind::Directory)?,
            sys: self.known(root, "sys", Kind::Directory)?,
            resolv_conf: self.known(root, "etc/resolv.conf", Kind::Regular)?,
            hosts: self.known(root, "etc/hosts", Kind::Regular)?,
        })
    }

    fn known(&mut self, root: &Root, path: &str, kind: Kind) -> Result<RootPath, RootError> {
        // A constant of this file, without `..`.
        self.place(root, &RootPath::parse(path.as_bytes()).unwrap_or_default(), kind)
    }

    /// Finds where `path` leads, and makes a file or directory there if there is nothing.
    pub(crate) fn place(
        &mut self,
        root: &Root,
        path: &RootPath,
        kind: Kind,
    ) -> Result<RootPath, RootError> {
        let path = root.resolve(path)?;
        if root.find(&path)?.is_some() {
            // The kernel says what is wrong where it is of another kind.
            return Ok(path);
        }
        let first_missing = first_missing(root, &path)?;
        let parent = first_missing.parent().unwrap_or_default();
        let before = root.metadata(&parent)?.mtime;
        let default = Attributes { uid: Some(0), gid: Some(0), ..Attributes::default() };
        self.made.extend(root.create_parents(&path, &default)?);
        if kind == Kind::Directory {
            root.create_dir(&path)?;
        } else {
            root.create_file(&path)?;
        }
        self.made.push(path.clone());
        let after = root.metadata(&parent)?.mtime;
        self.parents.entry(parent).or_insert((before, after)).1 = after;
        Ok(path)
    }

    /// Removes what [`Stubs::make`] made and nobody has filled, and gives the directories around it
    /// their time back unless the guest has changed them.
    pub(crate) fn remove(self, root: &Root) -> Result<(), RootError> {
        let mut times = Vec::new();
        for (parent, (before, after)) in self.parents {
            if let Some(now) = root.find(&parent)?.filter(|now| now.kind == Kind::Directory) {
                times.push((parent, if now.mtime == after { before } else { now.mtime }));
            }
        }
        for path in self.made.iter().rev() {
            let Some(now) = root.find(path)? else { continue };
            let is_stub = match now.kind {
                Kind::Directory => root.list(path)?.is_empty(),
                Kind::Regular => now.size == 0,
                _ => false,
            };
            if is_stub {
                root.remove(path)?;
            }
        }
        for (parent, time) in times {
            // A directory that was made for another stub is gone again.
            if root.find(&parent)?.is_some() {
                root.set_attributes(
                    &parent,
                    &Attributes { mtime: Some(time), ..Attributes::default() },
                )?;
            }
        }
        Ok(())
    }
}

/// The topmost component of `path` that does not exist.
fn first_missing(root: &Root, path: &RootPath) -> Result<RootPath, RootError> {
    for ancestor in path.ancestors() {
        if root.find(&ancestor)?.is_none() {
            return Ok(ancestor);
        }
    }
    Ok(path.clone())
}
