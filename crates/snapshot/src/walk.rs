//! The walk over everything, in parallel.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ebiko_rootfs::{Directory, Kind, Metadata, Root, RootError, RootPath, Xattrs};

use crate::children::Children;
use crate::judge::{Place, Verdict, judge};
use crate::numbers::FileNumbers;
use crate::record::{Flag, Record};
use crate::snapshot::is_racy;
use crate::tree::Tree;
use crate::{AdvanceOptions, SnapshotError};

/// From this depth on directories are opened by path, not through their parent, so that the open descriptors of a deep
/// tree stay few.
const MAX_OPEN_DEPTH: usize = 32;

/// A directory to look at.
#[derive(Debug)]
pub(crate) struct Job<'r> {
    id: u32,
    path: RootPath,
    parent: Option<Arc<Directory<'r>>>,
}

/// One walk: threads take directories from a common stack until it is empty and nobody can add to it.
///
/// Every directory is looked at by one thread, which takes its children out of the index meanwhile; so the threads meet
/// only at the stack and when they take and give back.
pub(crate) struct Walk<'w> {
    root: &'w Root,
    options: &'w AdvanceOptions<'w>,
    tree: Mutex<Tree>,
    queue: Mutex<Queue<'w>>,
    wake: Condvar,
}

struct Queue<'w> {
    jobs: Vec<Job<'w>>,
    busy: usize,
    vanished: Vec<RootPath>,
    error: Option<SnapshotError>,
}

/// What one thread remembers from one directory to the next.
#[derive(Default)]
struct Worker {
    /// The file system and owner seen last, and their numbers: nearly always the next ones too.
    numbers: Option<((u64, u32, u32), FileNumbers)>,
    path: Vec<u8>,
    listing: Listing,
}

/// What is in one directory, in memory that is used again for the next.
#[derive(Default)]
struct Listing {
    names: Vec<u8>,
    /// Where the name is in `names`, and what is known of the file.
    files: Vec<(Range<usize>, Metadata)>,
}

/// One file of a listing.
#[derive(Clone, Copy)]
struct Seen<'a> {
    name: &'a [u8],
    metadata: &'a Metadata,
}

impl Listing {
    /// Lists in the order of names what is in `directory`, without sockets and what `is_ignored`.
    fn fill(
        &mut self,
        directory: &Directory<'_>,
        mut is_ignored: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), RootError> {
        let Self { names, files } = self;
        names.clear();
        files.clear();
        directory.visit(|name, metadata| {
            if metadata.kind == Kind::Socket || is_ignored(name) {
                return;
            }
            let start = names.len();
            names.extend_from_slice(name);
            files.push((start..names.len(), metadata));
        })?;
        files.sort_unstable_by(|(left, _), (right, _)| {
            names[left.clone()].cmp(&names[right.clone()])
        });
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = Seen<'_>> {
        self.files.iter().map(|(name, metadata)| Seen { name: &self.names[name.clone()], metadata })
    }
}

/// What came up in one directory.
#[derive(Default)]
struct Findings {
    is_dirty: bool,
    added: Vec<(Box<[u8]>, Record)>,
    /// Directories that are no more.
    freed: Vec<u32>,
    /// Directories to look at next, with their place if they had one.
    directories: Vec<(Box<[u8]>, Option<u32>)>,
}

impl<'r> Job<'r> {
    pub(crate) fn new(id: u32, path: RootPath) -> Self {
        Self { id, path, parent: None }
    }

    fn open(&self, root: &'r Root) -> Result<Directory<'r>, RootError> {
        match (&self.parent, self.path.file_name()) {
            (Some(parent), Some(name)) => parent.child(name),
            _ => root.open_dir(&self.path),
        }
    }
}

impl<'w> Walk<'w> {
    /// Looks at the directories of `start` and everything beneath them, and marks in `tree` what changed.
    pub(crate) fn run(
        root: &'w Root,
        options: &'w AdvanceOptions<'w>,
        tree: Tree,
        start: Vec<Job<'static>>,
    ) -> (Tree, Result<(), SnapshotError>) {
        let queue = Queue { jobs: start, busy: 0, vanished: Vec::new(), error: None };
        let walk = Walk {
            root,
            options,
            tree: Mutex::new(tree),
            queue: Mutex::new(queue),
            wake: Condvar::new(),
        };
        let mut result = std::thread::scope(|scope| {
            let mut result = Ok(());
            let mut threads = Vec::new();
            for _ in 1..options.threads {
                match std::thread::Builder::new().spawn_scoped(scope, || walk.work()) {
                    Ok(thread) => threads.push(thread),
                    // This thread alone is enough.
                    Err(_) => break,
                }
            }
            walk.work();
            for thread in threads {
                if thread.join().is_err() {
                    result = Err(SnapshotError::Panicked);
                }
            }
            result
        });
        let queue = walk.queue.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut tree = walk.tree.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = queue.error {
            result = Err(error);
        }
        for path in queue.vanished {
            let parent = path.parent().and_then(|parent| tree.find_directory(&parent));
            if let (Some(parent), Some(name)) = (parent, path.file_name()) {
                tree.vanish(parent, name);
            }
        }
        (tree, result)
    }

    fn queue(&self) -> MutexGuard<'_, Queue<'w>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        // A panic must not leave the others waiting for a job that never ends.
        struct Busy<'a, 'w>(&'a Walk<'w>);
        impl Drop for Busy<'_, '_> {
            fn drop(&mut self) {
                self.0.queue().busy -= 1;
                self.0.wake.notify_all();
            }
        }
        let mut worker = Worker::default();
        while let Some(job) = self.next() {
            let _busy = Busy(self);
            match self.look_into(&job, &mut worker) {
                Ok(jobs) => self.queue().jobs.extend(jobs),
                Err(error) if error.is_missing() => self.queue().vanished.push(job.path),
                Err(error) => {
                    let mut queue = self.queue();
                    queue.error.get_or_insert(error);
                    queue.jobs.clear();
                }
            }
        }
    }

    fn next(&self) -> Option<Job<'w>> {
        let mut queue = self.queue();
        loop {
            if queue.error.is_some() {
                return None;
            }
            if let Some(job) = queue.jobs.pop() {
                queue.busy += 1;
                return Some(job);
            }
            if queue.busy == 0 {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Looks at one directory; returns those in it.
    fn look_into(&self, job: &Job<'w>, worker: &mut Worker) -> Result<Vec<Job<'w>>, SnapshotError> {
        let directory = job.open(self.root)?;
        let mut listing = std::mem::take(&mut worker.listing);
        listing.fill(&directory, |name| self.is_ignored(&job.path, name, worker))?;
        let mut children = self
            .tree()
            .directory_mut(job.id)
            .map(|known| std::mem::take(&mut known.children))
            .unwrap_or_default();
        let findings = self.compare(&directory, &job.path, &listing, &mut children, worker);
        worker.listing = listing;
        let findings = match findings {
            Ok(findings) => findings,
            Err(error) => {
                self.give_back(job.id, children);
                return Err(error);
            }
        };
        let places = self.settle(job.id, children, &findings);
        let is_shallow = job.path.components().count() < MAX_OPEN_DEPTH;
        let parent = (is_shallow && !places.is_empty()).then(|| Arc::new(directory));
        let mut jobs = Vec::with_capacity(places.len());
        for ((name, _), id) in findings.directories.iter().zip(places) {
            let Ok(path) = job.path.child(name) else { continue };
            jobs.push(Job { id, path, parent: parent.clone() });
        }
        Ok(jobs)
    }

    /// Goes through what is there and what was there, both sorted, side by side.
    fn compare(
        &self,
        directory: &Directory<'_>,
        path: &RootPath,
        listing: &Listing,
        children: &mut Children,
        worker: &mut Worker,
    ) -> Result<Findings, SnapshotError> {
        let mut findings = Findings::default();
        let mut position = (0, 0);
        let mut files = listing.iter().peekable();
        loop {
            let known = children.at(position).map(|(at, name, _)| (at, name));
            let order = match (known, files.peek()) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((_, name)), Some(file)) => name.cmp(file.name),
            };
            match (order, known) {
                (std::cmp::Ordering::Less, Some((at, name))) => {
                    position = (at.0, at.1 + 1);
                    if !self.is_ignored(path, name, worker) {
                        lose(children.record_mut(at), &mut findings);
                    }
                }
                (std::cmp::Ordering::Equal, Some((at, _))) => {
                    position = (at.0, at.1 + 1);
                    if let (Some(file), Some(record)) = (files.next(), children.record_mut(at)) {
                        let numbers = self.numbers(worker, file.metadata);
                        self.meet(directory, file, record, numbers, &mut findings)?;
                    }
                }
                _ => {
                    if let Some(file) = files.next() {
                        let numbers = self.numbers(worker, file.metadata);
                        self.find(file, numbers, &mut findings);
                    }
                }
            }
        }
        Ok(findings)
    }

    /// Something that was there before.
    fn meet(
        &self,
        directory: &Directory<'_>,
        file: Seen<'_>,
        record: &mut Record,
        numbers: FileNumbers,
        findings: &mut Findings,
    ) -> Result<(), SnapshotError> {
        let old_place = record.directory();
        let number = |xattrs: &Xattrs| self.tree().xattr_sets.number(xattrs);
        let place = Place::In(directory, file.name);
        match judge(record, file.metadata, numbers, place, self.options, &number)? {
            Verdict::Same => {}
            Verdict::Changed => findings.is_dirty = true,
            Verdict::Gone => {
                lose(Some(record), findings);
                return Ok(());
            }
        }
        if file.metadata.is_dir() {
            findings.directories.push((file.name.into(), old_place));
        } else {
            findings.freed.extend(old_place);
        }
        Ok(())
    }

    /// Something new.
    fn find(&self, file: Seen<'_>, numbers: FileNumbers, findings: &mut Findings) {
        let mut record = Record::new(file.metadata, numbers);
        record.set(Flag::Changed, true);
        record.set(Flag::Added, true);
        record.set(Flag::Racy, self.is_racy(file.metadata));
        findings.is_dirty = true;
        if file.metadata.is_dir() {
            findings.directories.push((file.name.into(), None));
        }
        findings.added.push((file.name.into(), record));
    }

    /// Gives a directory's children back to the index, with what came up; returns the places of those to look at next.
    fn settle(&self, id: u32, mut children: Children, findings: &Findings) -> Vec<u32> {
        for (name, record) in &findings.added {
            children.insert(name, *record);
        }
        let mut tree = self.tree();
        findings.freed.iter().for_each(|id| tree.free_directory(*id));
        let mut places = Vec::with_capacity(findings.directories.len());
        for (name, place) in &findings.directories {
            let place = place.unwrap_or_else(|| {
                let place = tree.new_directory(id);
                if let Some(record) = children.get_mut(name) {
                    record.set_directory(place);
                }
                place
            });
            places.push(place);
        }
        if findings.is_dirty {
            children.compact();
            tree.mark_dirty(id);
        }
        if let Some(directory) = tree.directory_mut(id) {
            directory.children = children;
        }
        places
    }

    fn give_back(&self, id: u32, children: Children) {
        if let Some(directory) = self.tree().directory_mut(id) {
            directory.children = children;
        }
    }

    fn numbers(&self, worker: &mut Worker, metadata: &Metadata) -> FileNumbers {
        let key = (metadata.dev, metadata.uid, metadata.gid);
        match worker.numbers {
            Some((known, numbers)) if known == key => numbers,
            _ => {
                let numbers = self.tree().numbers.of(metadata);
                worker.numbers = Some((key, numbers));
                numbers
            }
        }
    }

    fn is_racy(&self, metadata: &Metadata) -> bool {
        is_racy(metadata.ctime, self.options.now)
    }

    fn is_ignored(&self, directory: &RootPath, name: &[u8], worker: &mut Worker) -> bool {
        if self.options.ignore.is_empty() {
            return false;
        }
        worker.path.clear();
        worker.path.extend_from_slice(directory.as_bytes());
        if !directory.is_root() {
            worker.path.push(b'/');
        }
        worker.path.extend_from_slice(name);
        self.options.ignore.matches(&worker.path)
    }
}

/// Something that was there before and is not any more.
fn lose(record: Option<&mut Record>, findings: &mut Findings) {
    let Some(record) = record.filter(|record| !record.has(Flag::Unwritten)) else { return };
    findings.is_dirty = true;
    findings.freed.extend(record.directory());
    record.set(Flag::Gone, true);
    record.set_directory(u32::MAX);
}
