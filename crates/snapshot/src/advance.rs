//! Looking again, and telling the difference.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::{Mutex, PoisonError};

use ebiko_rootfs::{Kind, Metadata, Root, RootError, RootPath, Time};

use crate::judge::{Place, Verdict, judge};
use crate::record::{Flag, Record};
use crate::snapshot::is_racy;
use crate::tree::{ROOT, Tree};
use crate::walk::{Job, Walk};
use crate::{Changeset, IgnoreSet, Snapshot};

/// What makes a file that may have been touched a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Anything that an image holds: metadata, extended attributes, link target, content.
    #[default]
    Full,
    /// Mode, owner, size and modification time. Misses a same-size edit whose time was put back, and changes of
    /// extended attributes alone.
    Redo,
    /// The modification time. Misses changes of mode, owner and extended attributes too.
    Time,
}

/// How to look.
#[derive(Debug, Clone)]
pub struct AdvanceOptions<'a> {
    /// What makes a change.
    pub mode: Mode,
    /// What not to look at.
    pub ignore: &'a IgnoreSet,
    /// How many threads walk; 0 counts as 1. The result does not depend on it.
    pub threads: usize,
    /// The coarse real-time clock (`CLOCK_REALTIME_COARSE`) just before the look.
    pub now: Time,
}

/// A look at a root failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum SnapshotError {
    #[error(transparent)]
    Root(#[from] RootError),
    #[error("cannot read `{path}`")]
    Read { path: RootPath, source: io::Error },
    #[error("a thread that looked at the files panicked")]
    Panicked,
}

impl SnapshotError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Root(error) => error.hint(),
            Self::Read { .. } | Self::Panicked => None,
        }
    }

    pub(crate) fn is_missing(&self) -> bool {
        match self {
            Self::Root(error) => error.is_missing(),
            Self::Read { .. } | Self::Panicked => false,
        }
    }
}

impl Snapshot {
    /// Looks at everything beneath `root` and returns what changed since the last look.
    ///
    /// Directories are listed in parallel; of every file the metadata is taken, and nothing more unless it may have
    /// been touched. Nobody else may change files meanwhile: what changes behind the walk's back is seen by the next look.
    ///
    /// # Errors
    ///
    /// Fails if a directory cannot be listed or a file that may have been touched cannot be read; of several failures
    /// any one is returned. The index is then neither old nor new, and the build must end.
    pub fn advance(
        &mut self,
        root: &Root,
        options: &AdvanceOptions<'_>,
    ) -> Result<Changeset, SnapshotError> {
        let start = vec![Job::new(ROOT, RootPath::root())];
        self.look(root, options, start)
    }

    /// Looks at everything beneath `root` without asking what changed: for a root whose files were not recorded.
    ///
    /// Content is not read, so a file that is touched later without being changed counts as changed once.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::advance`].
    pub fn baseline(
        &mut self,
        root: &Root,
        options: &AdvanceOptions<'_>,
    ) -> Result<(), SnapshotError> {
        self.advance(root, options).map(|_changes| ())
    }

    /// Looks only at `paths` and the directories that lead to them: for whoever knows what was touched.
    ///
    /// A path that is not there any more counts as removed with everything beneath it. A directory that the index did
    /// not know is looked at whole, one that it knew by itself only. Links on the way to a path are followed, the last
    /// component is not.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::advance`].
    pub fn advance_paths(
        &mut self,
        root: &Root,
        paths: &BTreeSet<RootPath>,
        options: &AdvanceOptions<'_>,
    ) -> Result<Changeset, SnapshotError> {
        let mut new_directories = Vec::new();
        let mut looked_at = BTreeSet::new();
        let mut parents: Option<(RootPath, RootPath)> = None;
        for path in paths {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let real_parent = match &parents {
                Some((spelled, real)) if *spelled == parent => real.clone(),
                _ => match root.resolve(&parent) {
                    Ok(real) => real,
                    // Something on the way is not a directory any more: nothing is at the path.
                    Err(error) if error.is_missing() => parent.clone(),
                    Err(error) => return Err(error.into()),
                },
            };
            let Ok(path) = real_parent.child(name) else { continue };
            parents = Some((parent, real_parent));
            if options.ignore.covers(&path) {
                continue;
            }
            for path in path.ancestors().skip(1).chain([path.clone()]) {
                if looked_at.contains(&path) {
                    continue;
                }
                new_directories.extend(self.look_at(root, &path, options)?);
                looked_at.insert(path);
            }
        }
        // Outer directories first: what a walk of one finds, the others need not look for.
        self.look(root, options, new_directories)
    }

    /// Looks at one path, whose parent has been looked at. A directory that the index did not know is returned.
    fn look_at(
        &mut self,
        root: &Root,
        path: &RootPath,
        options: &AdvanceOptions<'_>,
    ) -> Result<Option<Job<'static>>, SnapshotError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
        let Some(parent) = self.tree.find_directory(&parent) else { return Ok(None) };
        let metadata = root.find(path)?.filter(|metadata| metadata.kind != Kind::Socket);
        let Some(metadata) = metadata else {
            if self.unwritten(path).is_none() {
                self.tree.vanish(parent, name);
            }
            return Ok(None);
        };
        let numbers = self.tree.numbers.of(&metadata);
        let known =
            self.tree.directory(parent).and_then(|directory| directory.children.get(name)).copied();
        let Some(mut record) = known.filter(|record| !record.has(Flag::Gone)) else {
            return Ok(self.add(parent, path, &metadata, known.is_none(), options));
        };
        if record.is_dir()
            && !metadata.is_dir()
            && let Some(id) = record.directory()
        {
            self.tree.free_directory(id);
        }
        let was_dir = record.is_dir();
        let sets = Mutex::new(&mut self.tree.xattr_sets);
        let number =
            |xattrs: &_| sets.lock().unwrap_or_else(PoisonError::into_inner).number(xattrs);
        let verdict =
            judge(&mut record, &metadata, numbers, Place::At(root, path), options, &number)?;
        let mut job = None;
        if metadata.is_dir() && !was_dir {
            let id = self.tree.new_directory(parent);
            record.set_directory(id);
            job = Some(Job::new(id, path.clone()));
        }
        if let Some(directory) = self.tree.directory_mut(parent) {
            directory.children.insert(name, record);
        }
        match verdict {
            Verdict::Same => {}
            Verdict::Changed => self.tree.mark_dirty(parent),
            Verdict::Gone => self.tree.vanish(parent, name),
        }
        Ok(job)
    }

    fn add(
        &mut self,
        parent: u32,
        path: &RootPath,
        metadata: &Metadata,
        is_new: bool,
        options: &AdvanceOptions<'_>,
    ) -> Option<Job<'static>> {
        let mut record = Record::new(metadata, self.tree.numbers.of(metadata));
        record.set(Flag::Changed, true);
        record.set(Flag::Added, is_new);
        record.set(Flag::Racy, is_racy(metadata.ctime, options.now));
        let id = self.tree.put(parent, path.file_name()?, record);
        self.tree.mark_dirty(parent);
        id.map(|id| Job::new(id, path.clone()))
    }

    fn look(
        &mut self,
        root: &Root,
        options: &AdvanceOptions<'_>,
        start: Vec<Job<'static>>,
    ) -> Result<Changeset, SnapshotError> {
        if !start.is_empty() {
            let tree = std::mem::replace(&mut self.tree, Tree::new());
            let (tree, result) = Walk::run(root, options, tree, start);
            self.tree = tree;
            result?;
        }
        Ok(collect(&mut self.tree))
    }
}

/// Reads the differences off the marks that a look left in the index, and wipes them.
fn collect(tree: &mut Tree) -> Changeset {
    let inodes = changed_links(tree);
    if !inodes.is_empty() {
        // One name of a group is in the changeset: all of them have to be.
        tree.mark_changed(|record| {
            record.has(Flag::Linked) && !record.has(Flag::Gone) && inodes.contains(&record.inode())
        });
    }
    let mut emitter = Emitter::default();
    // By an explicit stack: how deep directories are nested is not ours to say.
    let mut open = vec![(ROOT, (0, 0), 0)];
    while let Some((id, position, length)) = open.pop() {
        emitter.path.truncate(length);
        let Some((next, child)) = emitter.emit_until_dirty(tree, id, position) else {
            finish(tree, id);
            continue;
        };
        open.push((id, next, length));
        open.push((child, (0, 0), emitter.path.len()));
    }
    emitter.changes
}

/// The inodes with several names of which one changed.
fn changed_links(tree: &Tree) -> HashSet<(u16, u64)> {
    let mut inodes = HashSet::new();
    let mut pending = vec![ROOT];
    while let Some(directory) = pending.pop().and_then(|id| tree.directory(id)) {
        if !directory.is_dirty {
            continue;
        }
        for (_, record) in directory.children.iter().filter(|(_, record)| !record.has(Flag::Gone)) {
            if record.has(Flag::Changed) && record.has(Flag::Linked) {
                inodes.insert(record.inode());
            }
            pending.extend(record.directory());
        }
    }
    inodes
}

/// Wipes the marks of one directory.
fn finish(tree: &mut Tree, id: u32) {
    let Some(directory) = tree.directory_mut(id) else { return };
    directory.is_dirty = false;
    directory.children.retain(|record| {
        record.set(Flag::Changed, false);
        record.set(Flag::Added, false);
        !record.has(Flag::Gone)
    });
}

#[derive(Default)]
struct Emitter {
    changes: Changeset,
    path: Vec<u8>,
    links: HashMap<(u16, u64), First>,
}

/// The first name of a file with several.
enum First {
    /// Its path, as long as nobody needs it.
    Alone(Vec<u8>),
    /// Where the changeset keeps it.
    Named(usize),
}

impl Emitter {
    /// Emits a directory's changes from `position` on, until one that holds more: its place, and where to go on after.
    /// The path is then that directory's.
    fn emit_until_dirty(
        &mut self,
        tree: &Tree,
        id: u32,
        mut position: (usize, usize),
    ) -> Option<((usize, usize), u32)> {
        let directory = tree.directory(id).filter(|directory| directory.is_dirty)?;
        let length = self.path.len();
        while let Some(((chunk, index), name, record)) = directory.children.at(position) {
            position = (chunk, index + 1);
            let dirty = record.directory().filter(|id| {
                !record.has(Flag::Gone)
                    && tree.directory(*id).is_some_and(|directory| directory.is_dirty)
            });
            if dirty.is_none() && !record.has(Flag::Changed) && !record.has(Flag::Gone) {
                continue;
            }
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            if record.has(Flag::Gone) {
                self.changes.remove(&self.path);
            } else if record.has(Flag::Linked) {
                self.put_linked(record);
            } else {
                self.changes.put(&self.path, record.kind() == Kind::Regular);
            }
            if let Some(child) = dirty {
                return Some((position, child));
            }
            self.path.truncate(length);
        }
        None
    }

    fn put_linked(&mut self, record: &Record) {
        let inode = record.inode();
        let Some(first) = self.links.get_mut(&inode) else {
            self.links.insert(inode, First::Alone(self.path.clone()));
            self.changes.put(&self.path, record.kind() == Kind::Regular);
            return;
        };
        let index = match first {
            First::Alone(path) => {
                let index = self.changes.add_first(path);
                *first = First::Named(index);
                index
            }
            First::Named(index) => *index,
        };
        self.changes.put_link(&self.path, index);
    }
}
