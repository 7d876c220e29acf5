//! The index as a whole.

use std::collections::HashMap;

use ebiko_rootfs::{Metadata, RootPath, Time, Xattrs};

use crate::numbers::FileNumbers;
use crate::record::{Flag, Record};
use crate::tree::{ROOT, Tree};
use crate::{ContentHash, Entry};

/// How far the clock that stamps inodes may lag behind: its tick at 100 Hz, the slowest that Linux knows.
const TICK_NANOS: u32 = 10_000_000;

/// A compact index of every file beneath a root, as of the last look.
///
/// It comes to be in three ways that can be mixed: [`Snapshot::record`] by whoever writes files and knows what was
/// written, [`Snapshot::advance`](Snapshot::advance) by looking at everything, and
/// [`Snapshot::advance_paths`](Snapshot::advance_paths) by looking at some paths only.
#[derive(Debug)]
pub struct Snapshot {
    pub(crate) tree: Tree,
    /// The layer that is being recorded; see [`Snapshot::begin_layer`].
    layer: u16,
    /// How many files were recorded that are on no disk; each has its number for an inode.
    pub(crate) unwritten: u64,
}

impl Snapshot {
    /// The index of an empty root.
    pub fn empty() -> Self {
        Self { tree: Tree::new(), layer: 1, unwritten: 0 }
    }

    /// What is known of the file at `path`; `None` where nothing was, and for the root.
    pub fn get(&self, path: &RootPath) -> Option<Entry> {
        self.tree.find(path).map(|record| record.to_entry(&self.tree.numbers))
    }

    /// How many files are in the index. Counts them.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether no file is in the index.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The paths in the index, in path order.
    pub fn paths(&self) -> Vec<RootPath> {
        let mut paths = Vec::new();
        let mut pending = vec![(ROOT, RootPath::root())];
        while let Some((id, path)) = pending.pop() {
            let Some(directory) = self.tree.directory(id) else { continue };
            for (name, record) in directory.children.iter() {
                let Ok(child) = path.child(name) else { continue };
                if let Some(id) = record.directory() {
                    pending.push((id, child.clone()));
                }
                paths.push(child);
            }
        }
        paths.sort();
        paths
    }

    /// Bytes of memory that the index takes.
    pub fn heap_size(&self) -> usize {
        self.tree.heap_size()
    }

    /// Begins to record a layer: [`Snapshot::older_beneath`] tells what this layer wrote from what others did.
    pub fn begin_layer(&mut self) {
        if let Some(next) = self.layer.checked_add(1) {
            self.layer = next;
            return;
        }
        self.tree.for_each_record(|record| (record.written, record.written_below) = (0, 0));
        self.layer = 1;
    }

    /// Takes note of a file that the caller has just written and not yet let anybody else touch.
    ///
    /// `metadata` is what the root says of it now that everything is set, `content` the hash of what was written (of
    /// the target, for a link) and `xattrs` everything that was set. What was at `path` before is forgotten, with
    /// everything beneath it, except where a directory takes the place of a directory.
    ///
    /// Until [`Snapshot::settle`] says that time has passed, the file counts as one that may yet change unseen.
    pub fn record(
        &mut self,
        path: &RootPath,
        metadata: &Metadata,
        content: Option<ContentHash>,
        xattrs: &Xattrs,
    ) {
        let numbers = self.tree.numbers.of(metadata);
        let mut record = Record::new(metadata, numbers);
        record.xattrs = self.tree.xattr_sets.number(xattrs);
        if let Some(hash) = content {
            record.set_content(hash);
        }
        self.put_record(path, record);
    }

    /// Puts what the layer that is being recorded has at `path`.
    pub(crate) fn put_record(&mut self, path: &RootPath, mut record: Record) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        let parent = self.parents(&parent);
        record.set(Flag::Racy, true);
        record.written = self.layer;
        if let Some(old) =
            self.tree.directory(parent).and_then(|directory| directory.children.get(name))
        {
            record.written_below = old.written_below;
        }
        self.tree.put(parent, name, record);
    }

    /// Takes note that `path` is now a further name of `first`, which is known; `metadata` is the file's.
    pub fn record_link(&mut self, path: &RootPath, first: &RootPath, metadata: &Metadata) {
        let (content, number) = self
            .tree
            .find(first)
            .map_or((None, None), |record| (record.content(), Some(record.xattrs)));
        self.record(path, metadata, content, &Xattrs::new());
        if let (Some(record), Some(number)) = (self.tree.find_mut(path), number) {
            record.xattrs = number;
        }
        self.refresh(first, metadata);
    }

    /// Takes over `metadata` of a file that is known and whose content and extended attributes the caller has not
    /// changed: a directory whose time was set, a file that got another name. Another file than the one that is
    /// known is not taken over.
    pub fn refresh(&mut self, path: &RootPath, metadata: &Metadata) {
        let numbers = self.tree.numbers.of(metadata);
        if let Some(record) = self.tree.find_mut(path)
            && record.kind() == metadata.kind
            && record.inode() == (numbers.device, metadata.ino)
        {
            record.refresh(metadata, numbers);
            record.set(Flag::Racy, true);
        }
    }

    /// The directory at `path`, and on the way the note that this layer wrote beneath it. Directories that nobody
    /// recorded are made up; the next look finds them changed.
    fn parents(&mut self, path: &RootPath) -> u32 {
        let mut id = ROOT;
        for name in path.components() {
            let known =
                self.tree.directory_mut(id).and_then(|directory| directory.children.get_mut(name));
            let child = known.and_then(|record| {
                record.written_below = self.layer;
                record.directory()
            });
            id = child.unwrap_or_else(|| {
                let mut record = Record::new(&unknown_directory(), FileNumbers::NONE);
                record.written_below = self.layer;
                self.tree.put(id, name, record).unwrap_or(ROOT)
            });
        }
        id
    }

    /// Takes note that the caller removed what is at `path` and beneath it.
    pub fn remove(&mut self, path: &RootPath) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        if let Some(parent) = self.tree.find_directory(&parent) {
            self.tree.remove(parent, name);
        }
    }

    /// What is beneath `directory` and does not come from the layer that is being recorded, nor holds anything that
    /// does: the topmost paths only.
    pub fn older_beneath(&self, directory: &RootPath) -> Vec<RootPath> {
        let mut older = Vec::new();
        let mut pending = vec![directory.clone()];
        while let Some(path) = pending.pop() {
            let children = self.tree.find_directory(&path).and_then(|id| self.tree.directory(id));
            for (name, record) in
                children.into_iter().flat_map(|directory| directory.children.iter())
            {
                let Ok(child) = path.child(name) else { continue };
                if record.written != self.layer && record.written_below != self.layer {
                    older.push(child);
                } else if record.is_dir() {
                    pending.push(child);
                }
            }
        }
        older.sort();
        older
    }

    /// Says that nobody but the recorder has written beneath the root before `now`, a reading of the coarse real-time
    /// clock (`CLOCK_REALTIME_COARSE`, the one that stamps inodes).
    ///
    /// From here on a change to anything recorded more than a clock tick before `now` shows in its `ctime`. To be called
    /// between the last write and the first process that may change files. Also counts names again, of which the removed
    /// ones have left others behind, and gives back spare memory.
    pub fn settle(&mut self, now: Time) {
        let mut names: HashMap<(u16, u64), u32> = HashMap::new();
        self.tree.for_each_record(|record| {
            if record.has(Flag::Racy) {
                record.set(Flag::Racy, is_racy(record.ctime(), now));
            }
            if record.has(Flag::Linked) {
                *names.entry(record.inode()).or_default() += 1;
            }
        });
        names.retain(|_, count| *count == 1);
        if !names.is_empty() {
            self.tree.for_each_record(|record| {
                if record.has(Flag::Linked) && names.contains_key(&record.inode()) {
                    record.set(Flag::Linked, false);
                }
            });
        }
        self.tree.compact();
    }

    /// Takes note of what somebody has read of a file since the last look found it new or changed, so that it need not
    /// be read again to recognise it: its content hash (of the target, for a link) and extended attributes.
    ///
    /// `metadata` is the file's as it was read. If it is not the file that the index knows, nothing is noted.
    pub fn learn(
        &mut self,
        path: &RootPath,
        metadata: &Metadata,
        content: Option<ContentHash>,
        xattrs: &Xattrs,
    ) {
        let numbers = self.tree.numbers.of(metadata);
        let number = self.tree.xattr_sets.number(xattrs);
        let Some(record) = self.tree.find_mut(path) else { return };
        if !record.is_untouched(metadata, numbers) {
            return;
        }
        record.xattrs = number;
        if let Some(hash) = content {
            record.set_content(hash);
        }
    }

    /// Takes note that `path` is another name of `first`, of which everything is known.
    pub fn learn_link(&mut self, path: &RootPath, first: &RootPath) {
        let Some(first) = self.tree.find(first).copied() else { return };
        let Some(record) = self.tree.find_mut(path) else { return };
        if record.inode() != first.inode() || record.ctime() != first.ctime() {
            return;
        }
        record.xattrs = first.xattrs;
        if let Some(hash) = first.content() {
            record.set_content(hash);
        }
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::empty()
    }
}

/// Whether a file with this `ctime` may change after `now` and keep it. A `ctime` from the future proves nothing.
pub(crate) fn is_racy(ctime: Time, now: Time) -> bool {
    let earliest = if now.nanos >= TICK_NANOS {
        Time { secs: now.secs, nanos: now.nanos - TICK_NANOS }
    } else {
        Time { secs: now.secs.saturating_sub(1), nanos: now.nanos + 1_000_000_000 - TICK_NANOS }
    };
    ctime >= earliest
}

/// A directory that nobody recorded: no real one has this inode.
fn unknown_directory() -> Metadata {
    Metadata {
        kind: ebiko_rootfs::Kind::Directory,
        mode: 0,
        uid: u32::MAX,
        gid: u32::MAX,
        size: 0,
        mtime: Time::default(),
        ctime: Time::default(),
        dev: 0,
        ino: 0,
        nlink: 1,
        rdev: ebiko_rootfs::DeviceNumber::default(),
    }
}
