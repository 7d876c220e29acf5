//! Small files are read ahead of the packer, several at a time.
//!
//! Where a step left more files than memory holds, each read waits for the disk. Waiting for several at once is what makes
//! a disk fast, and the packer needs the files one after the other.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use ebiko_rootfs::{Directory, Metadata, OpenedFile, Root, RootPath, Xattrs};
use ebiko_snapshot::{Change, Changes, Changeset, ContentHash};

/// How many threads read. They wait for the disk more than for the processor.
const READERS: usize = 4;

/// How many changes a reader takes at once, and how many such batches are under way.
const BATCH: usize = 64;
const BATCHES: usize = 2 * READERS;

/// How much a batch holds of its files; what does not fit any more the packer reads itself.
const BATCH_BYTES: usize = 256 * 1024;

/// Larger files are read by the packer, whose disk reads ahead in each by itself.
const SMALL: u64 = 64 * 1024;

/// A regular file that was read whole.
#[derive(Debug)]
pub(crate) struct Loaded<'a> {
    pub(crate) metadata: &'a Metadata,
    pub(crate) xattrs: &'a Xattrs,
    pub(crate) hash: ContentHash,
    pub(crate) content: &'a [u8],
}

/// Changes in their order, with those files that could be read ahead.
pub(crate) struct Loading<'c, 'scope> {
    changes: Changes<'c>,
    readers: Vec<ScopedJoinHandle<'scope, ()>>,
    /// `None` where nobody reads ahead.
    jobs: Option<Sender<Job>>,
    /// In the order of the changes.
    under_way: VecDeque<Receiver<Batch>>,
    spare: Vec<Batch>,
}

struct Job {
    batch: Batch,
    done: Sender<Batch>,
}

/// Some consecutive changes. Batches go round, so their number bounds the memory.
#[derive(Default)]
pub(crate) struct Batch {
    changes: Vec<Change>,
    /// One for each change; `None` is for the packer.
    files: Vec<Option<LoadedFile>>,
    bytes: Vec<u8>,
}

struct LoadedFile {
    metadata: Metadata,
    xattrs: Xattrs,
    hash: ContentHash,
    content: Range<usize>,
}

/// A reader panicked.
#[derive(Debug)]
pub(crate) struct Panicked;

impl Batch {
    /// The changes, each with its file if that was read.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Change, Option<Loaded<'_>>)> {
        let files = self.files.iter().map(Option::as_ref).chain(std::iter::repeat(None));
        self.changes.iter().zip(files.map(|file| file.map(|file| file.loaded(&self.bytes))))
    }
}

impl LoadedFile {
    fn loaded<'a>(&'a self, bytes: &'a [u8]) -> Loaded<'a> {
        let LoadedFile { metadata, xattrs, hash, content } = self;
        let content = bytes.get(content.clone()).unwrap_or_default();
        Loaded { metadata, xattrs, hash: *hash, content }
    }
}

impl<'c, 'scope> Loading<'c, 'scope> {
    /// Starts to read the files of `changes` from `root`. Changes that are few are not worth a thread, and where no thread
    /// can be had nothing is read ahead.
    pub(crate) fn start(
        scope: &'scope Scope<'scope, '_>,
        changes: &'c Changeset,
        root: &'scope Root,
    ) -> Self {
        let mut loading = Self {
            changes: changes.iter(),
            readers: Vec::new(),
            jobs: None,
            under_way: VecDeque::new(),
            spare: Vec::new(),
        };
        if changes.len() <= BATCH {
            return loading;
        }
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..READERS {
            let queue = Arc::clone(&queue);
            let thread = std::thread::Builder::new().name("reader".into());
            if let Ok(reader) = thread.spawn_scoped(scope, move || work(root, &queue)) {
                loading.readers.push(reader);
            }
        }
        loading.jobs = (!loading.readers.is_empty()).then_some(jobs);
        loading
    }

    /// The next changes; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Batch>, Panicked> {
        let Some(jobs) = &self.jobs else {
            let batch = take(&mut self.changes, self.spare.pop());
            return Ok(batch);
        };
        while self.under_way.len() < BATCHES
            && let Some(batch) = take(&mut self.changes, self.spare.pop())
        {
            let (done, finished) = channel();
            if jobs.send(Job { batch, done }).is_err() {
                return Err(Panicked);
            }
            self.under_way.push_back(finished);
        }
        match self.under_way.pop_front() {
            Some(finished) => finished.recv().map(Some).map_err(|_| Panicked),
            None => Ok(None),
        }
    }

    /// Takes back a batch that was used.
    pub(crate) fn recycle(&mut self, batch: Batch) {
        self.spare.push(batch);
    }
}

/// Whoever drops this has got all it wants, or an error. A panic was told, and must not become one of the packer.
impl Drop for Loading<'_, '_> {
    fn drop(&mut self) {
        self.jobs = None;
        for reader in self.readers.drain(..) {
            let _told = reader.join();
        }
    }
}

/// The next batch, which nobody has read for yet.
fn take(changes: &mut Changes<'_>, spare: Option<Batch>) -> Option<Batch> {
    let mut batch = spare.unwrap_or_default();
    batch.changes.clear();
    batch.files.clear();
    batch.bytes.clear();
    batch.changes.extend(changes.take(BATCH));
    (!batch.changes.is_empty()).then_some(batch)
}

/// Reads batch after batch, until the packer hangs up.
fn work(root: &Root, queue: &Mutex<Receiver<Job>>) {
    let mut parent = None;
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { mut batch, done }) = next else { return };
        for change in &batch.changes {
            let file = match change {
                Change::Put { path, is_file: true, .. } => {
                    load(root, path, &mut parent, &mut batch.bytes)
                }
                Change::Put { .. } | Change::Remove { .. } => None,
            };
            batch.files.push(file);
        }
        // A directory that is kept open between two batches is of no use if the next one is elsewhere.
        parent = None;
        if done.send(batch).is_err() {
            return;
        }
    }
}

/// Reads a small regular file. Whatever is odd about it is left to the packer, which reads it again and reports.
fn load<'r>(
    root: &'r Root,
    path: &RootPath,
    parent: &mut Option<(RootPath, Directory<'r>)>,
    bytes: &mut Vec<u8>,
) -> Option<LoadedFile> {
    let name = path.file_name()?;
    let directory_path = path.parent()?;
    let directory = match parent.take() {
        Some((known, directory)) if known == directory_path => directory,
        _ => root.open_dir(&directory_path).ok()?,
    };
    let found = directory.open_seen_file(name);
    *parent = Some((directory_path, directory));
    let OpenedFile { mut file, metadata, xattrs } = found.ok()?;
    let start = bytes.len();
    let size = usize::try_from(metadata.size).ok().filter(|_| metadata.size <= SMALL)?;
    if start + size > BATCH_BYTES {
        return None;
    }
    // One byte more than there should be shows whether the file has grown.
    bytes.resize(start + size + 1, 0);
    let read = read_once(&mut file, &mut bytes[start..]);
    bytes.truncate(start + size);
    if read.is_ok_and(|count| count == size) {
        let hash = ContentHash::of(&bytes[start..]);
        Some(LoadedFile { metadata, xattrs, hash, content: start..start + size })
    } else {
        bytes.truncate(start);
        None
    }
}

fn read_once(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
