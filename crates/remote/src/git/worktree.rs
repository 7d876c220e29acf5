//! From a tree object to files.

use std::io::Write as _;

use ebiko_rootfs::{Attributes, Root, RootError, RootPath, Time};

use super::object::{EntryKind, tree_entries};
use super::object_id::{Kind, ObjectId};
use super::pack::Damage;
use super::store::Store;
use super::{GitErrorKind, Limits, names};

/// The longest target that Linux makes a link to.
const MAX_TARGET: u64 = 4095;

/// The longest path in a tree; it also bounds how deep trees are nested.
const MAX_PATH: usize = 4096;

/// One file of the checkout, for the index.
pub(crate) struct IndexEntry {
    pub(crate) path: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) id: ObjectId,
}

/// A submodule that a tree names.
pub(crate) struct Gitlink {
    pub(crate) path: RootPath,
    pub(crate) commit: ObjectId,
}

/// Writes trees, within what is left of the limits.
pub(crate) struct Writer<'a> {
    pub(crate) root: &'a Root,
    pub(crate) limits: &'a Limits,
    pub(crate) is_interrupted: &'a dyn Fn() -> bool,
    /// The time of every file; that of the checkout if `None`.
    pub(crate) time: Option<Time>,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// What a tree had in it.
#[derive(Default)]
pub(crate) struct Written {
    /// In the order of an index.
    pub(crate) index: Vec<IndexEntry>,
    pub(crate) links: Vec<Gitlink>,
}

impl Writer<'_> {
    /// Writes `tree` into the empty directory `directory`.
    ///
    /// Everything is made new, so there is no link of the tree's that a later file could be
    /// written through; and no path resolves outside of the root in any case.
    pub(crate) fn write(
        &mut self,
        store: &Store,
        tree: &ObjectId,
        directory: &RootPath,
    ) -> Result<Written, GitErrorKind> {
        let mut written = Written::default();
        let mut pending = vec![(*tree, directory.clone())];
        while let Some((id, directory)) = pending.pop() {
            let data = store.read(&id, Kind::Tree)?;
            for entry in tree_entries(id, &data)? {
                self.count(1, 0)?;
                let is_safe = match entry.kind {
                    EntryKind::Link => names::is_safe_link(entry.name),
                    _ => names::is_safe(entry.name),
                };
                let path = directory.child(entry.name).ok().filter(|_| is_safe);
                let path = path.filter(|path| path.as_bytes().len() <= MAX_PATH);
                let Some(path) = path else {
                    let name = String::from_utf8_lossy(entry.name).escape_debug().to_string();
                    return Err(GitErrorKind::Name { name });
                };
                let mode = match entry.kind {
                    EntryKind::Tree => {
                        self.root.create_dir(&path)?;
                        self.settle(&path, Some(0o755))?;
                        pending.push((entry.id, path));
                        continue;
                    }
                    EntryKind::Submodule => {
                        self.root.create_dir(&path)?;
                        self.settle(&path, Some(0o755))?;
                        let link = Gitlink { path: path.clone(), commit: entry.id };
                        written.links.push(link);
                        0o160_000
                    }
                    EntryKind::File => self.file(store, &entry.id, &path, 0o644)?,
                    EntryKind::Executable => self.file(store, &entry.id, &path, 0o755)?,
                    EntryKind::Link => self.link(store, &entry.id, &path)?,
                };
                let path = path.as_bytes().to_vec();
                written.index.push(IndexEntry { path, mode, id: entry.id });
            }
        }
        written.index.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        written.links.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(written)
    }

    fn file(
        &mut self,
        store: &Store,
        id: &ObjectId,
        path: &RootPath,
        mode: u32,
    ) -> Result<u32, GitErrorKind> {
        let mut file = self.root.create_file(path)?;
        let size = store.copy_blob(id, &mut file)?;
        self.count(0, size)?;
        file.flush().map_err(Damage::from)?;
        let attributes = Attributes { mode: Some(mode), mtime: self.time, ..Attributes::default() };
        self.root.set_file_attributes(&file, path, &attributes)?;
        Ok(0o100_000 | mode)
    }

    fn link(&mut self, store: &Store, id: &ObjectId, path: &RootPath) -> Result<u32, GitErrorKind> {
        let target = store.read(id, Kind::Blob)?;
        let size = target.len() as u64;
        if size > MAX_TARGET || target.contains(&0) {
            let name = path.to_string();
            return Err(GitErrorKind::Target { name });
        }
        self.root.symlink(&target, path)?;
        self.settle(path, None)?;
        Ok(0o120_000)
    }

    fn settle(&self, path: &RootPath, mode: Option<u32>) -> Result<(), RootError> {
        self.root.set_attributes(path, &Attributes { mode, ..Attributes::default() })
    }

    /// Sets the time of all that is not a regular file, from the leaves up: making a file in a
    /// directory changes the directory's.
    pub(crate) fn set_times(&self) -> Result<(), RootError> {
        if self.time.is_none() {
            return Ok(());
        }
        let attributes = Attributes { mtime: self.time, ..Attributes::default() };
        let mut directories = vec![RootPath::root()];
        let mut next = 0;
        while let Some(directory) = directories.get(next).cloned() {
            next += 1;
            for entry in self.root.list(&directory)? {
                let Ok(path) = directory.child(&entry.name) else { continue };
                if self.root.metadata(&path)?.is_dir() {
                    directories.push(path);
                } else {
                    self.root.set_attributes(&path, &attributes)?;
                }
            }
        }
        directories.iter().rev().try_for_each(|path| self.root.set_attributes(path, &attributes))
    }

    /// Ten trees of ten names each, every one of them the same tree, are ten thousand million
    /// files in a pack of a few hundred bytes.
    fn count(&mut self, files: u64, bytes: u64) -> Result<(), GitErrorKind> {
        if (self.is_interrupted)() {
            return Err(GitErrorKind::Interrupted);
        }
        self.files = self.files.saturating_add(files);
        self.bytes = self.bytes.saturating_add(bytes);
        let limits = self.limits;
        if self.files > limits.files {
            return Err(GitErrorKind::TooManyFiles { limit: limits.files });
        }
        if self.bytes > limits.checkout {
            return Err(GitErrorKind::TooManyBytes { limit: limits.checkout });
        }
        Ok(())
    }
}
