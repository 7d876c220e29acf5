//! What the files are that a step reads, before it reads them.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ebiko_context::Context;
use ebiko_oci::{Digest, Sha256, Sha256Hasher};
use ebiko_plan::{Action, CopyFrom, CopySource, MountKind, copy_source, path_source};
use ebiko_rootfs::{Metadata, Root, RootPath, Xattrs};
use ebiko_rootless::Interrupt;

use crate::copy::{CopyError, Decision, Filter, Item, Judged, Source, exclusions};
use crate::site::Inputs;

/// So many files are looked at before they are read, by all threads together.
const BATCH: usize = 4096;

/// Where the files are that steps read besides those of their own root.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "contexts and roots have no state of interest")]
pub struct SourceFiles<'a> {
    /// The build context.
    pub context: &'a Context,
    /// Everything besides the context.
    pub inputs: &'a Inputs,
    /// How many threads read.
    pub threads: usize,
    /// Ends the reading early.
    pub interrupt: &'a Interrupt,
}

/// What one source of a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceState {
    /// Everything about the files that gets into an image, but their times.
    ///
    /// Two that are equal make equal layers. Owners count only where a copy would keep them.
    pub content: Digest,
    /// Which files they are: changes whenever one of them is written.
    pub stamp: Digest,
}

/// Looks at all files of contexts that `action` reads, for each source by its name in the keys.
///
/// Stages, images, downloads and repositories are not looked at: what is in them has a name.
///
/// # Errors
///
/// Fails where the action would, because a source is not there or cannot be read.
pub fn read_sources(
    action: &Action,
    files: &SourceFiles<'_>,
) -> Result<BTreeMap<String, SourceState>, CopyError> {
    look(action, files, Depth::Content)
}

/// The [stamps](SourceState::stamp) alone, for which no file is read.
///
/// # Errors
///
/// As [`read_sources`].
pub fn stamp_sources(
    action: &Action,
    files: &SourceFiles<'_>,
) -> Result<BTreeMap<String, Digest>, CopyError> {
    let states = look(action, files, Depth::Stamp)?;
    Ok(states.into_iter().map(|(name, state)| (name, state.stamp)).collect())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Content,
    Stamp,
}

fn look(
    action: &Action,
    files: &SourceFiles<'_>,
    depth: Depth,
) -> Result<BTreeMap<String, SourceState>, CopyError> {
    let mut states = BTreeMap::new();
    match action {
        Action::Copy(copy) => {
            let exclude = exclusions(&copy.exclude)?;
            for named in &copy.sources {
                match named {
                    CopySource::Path(path) => {
                        let Some(source) = source(&copy.from, files)? else { continue };
                        let mut sum = Sum::new(source, files, depth);
                        if copy.parents {
                            let (top, wanted) = path.split_once("/./").unwrap_or(("/", path));
                            let wanted = resolve(wanted)?;
                            let filter = Filter::only(&wanted, &exclude)?;
                            sum.add_all(top, &filter)?;
                        } else {
                            sum.add_all(path, &Filter::all_but(&exclude))?;
                        }
                        states.insert(copy_source(&copy.from, named), sum.finish()?);
                    }
                    CopySource::Download(_) | CopySource::Git(_) => {}
                }
            }
        }
        Action::Run(run) => {
            let exclude = exclusions(&[])?;
            for mount in &run.mounts {
                let (MountKind::Bind { from, source: path }
                | MountKind::Cache { seed: from, source: path, .. }) = &mount.kind
                else {
                    continue;
                };
                let Some(source) = source(from, files)? else { continue };
                let mut sum = Sum::new(source, files, depth);
                sum.add_all(path, &Filter::all_but(&exclude))?;
                states.insert(path_source(from, path), sum.finish()?);
            }
        }
        Action::WorkDir(_) => {}
    }
    Ok(states)
}

/// The context that is read; `None` is something else.
fn source<'a>(from: &CopyFrom, files: &SourceFiles<'a>) -> Result<Option<Source<'a>>, CopyError> {
    match from {
        CopyFrom::Context => Ok(Some(Source::context(files.context))),
        CopyFrom::Named(name) => {
            let context = files.inputs.contexts.get(name);
            let context = context.ok_or_else(|| CopyError::NoRoot { from: name.clone() })?;
            Ok(Some(Source::context(context)))
        }
        CopyFrom::Stage(_) | CopyFrom::Image(_) | CopyFrom::Scratch => Ok(None),
    }
}

fn resolve(path: &str) -> Result<RootPath, CopyError> {
    Ok(RootPath::resolve(&RootPath::root(), path.as_bytes())?)
}

/// Whether `action` may read other files the next time than it does now.
///
/// What stages and images hold is settled by their names.
pub fn reads_sources(action: &Action) -> bool {
    let is_context = |from: &CopyFrom| matches!(from, CopyFrom::Context | CopyFrom::Named(_));
    let is_fetched = |source: &CopySource| !matches!(source, CopySource::Path(_));
    let fetches = matches!(action, Action::Copy(copy) if copy.sources.iter().any(is_fetched));
    fetches || action.reads().any(is_context)
}

/// Adds up files, in the order in which they come.
struct Sum<'a, 'f> {
    source: Source<'a>,
    files: &'f SourceFiles<'a>,
    depth: Depth,
    content: Sha256Hasher,
    stamp: Sha256Hasher,
    /// Files with several names, by device and inode: which of them came first.
    links: HashMap<(u64, u64), u64>,
    waiting: Vec<Record>,
}

/// A file that was met and not read yet.
struct Record {
    content: Framed,
    /// What is to be read for the content.
    file: Option<RootPath>,
}

/// Fields, each with its length in front.
#[derive(Default)]
struct Framed(Vec<u8>);

impl Framed {
    fn field(&mut self, bytes: &[u8]) {
        self.0.extend((bytes.len() as u64).to_le_bytes());
        self.0.extend(bytes);
    }

    fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    fn xattrs(&mut self, xattrs: &Xattrs) {
        self.number(xattrs.len() as u64);
        for (name, value) in xattrs {
            self.field(name);
            self.field(value);
        }
    }
}

impl<'a, 'f> Sum<'a, 'f> {
    fn new(source: Source<'a>, files: &'f SourceFiles<'a>, depth: Depth) -> Self {
        Self {
            source,
            files,
            depth,
            content: Sha256Hasher::new(),
            stamp: Sha256Hasher::new(),
            links: HashMap::new(),
            waiting: Vec::new(),
        }
    }

    /// Everything that `pattern` names and that passes `filter`.
    fn add_all(&mut self, pattern: &str, filter: &Filter<'_>) -> Result<(), CopyError> {
        for item in self.source.select(pattern)? {
            if item.metadata.is_dir() {
                self.add_directory(&item, filter)?;
            } else {
                self.add_file(&item.name, &item.path, &item.metadata)?;
            }
        }
        Ok(())
    }

    /// What is in a directory; its own attributes do not get into a copy.
    fn add_directory(&mut self, item: &Item, filter: &Filter<'_>) -> Result<(), CopyError> {
        let mut start = Framed::default();
        start.field(b"directory");
        start.field(&item.name);
        self.push(Record { content: start, file: None })?;
        let Some(mut walk) = self.source.walk(&item.path) else { return Ok(()) };
        let mut open: Vec<(RootPath, Judged)> = Vec::new();
        while let Some(member) = walk.next().transpose()? {
            while open.pop_if(|(directory, _)| !member.path.starts_with(directory)).is_some() {}
            let Some(relative) = member.path.strip_prefix(&item.path) else { continue };
            let (decision, judged) = match open.last() {
                Some((_, parent)) => filter.judge(parent, &relative),
                None => filter.judge(&Judged::default(), &relative),
            };
            match decision {
                Decision::Copy => {}
                Decision::Search if member.metadata.is_dir() => {}
                Decision::Search | Decision::Leave => {
                    walk.skip_below(&member.path);
                    continue;
                }
            }
            self.add_file(relative.as_bytes(), &member.path, &member.metadata)?;
            if member.metadata.is_dir() {
                open.push((member.path, judged));
            }
        }
        Ok(())
    }

    fn add_file(
        &mut self,
        name: &[u8],
        path: &RootPath,
        metadata: &Metadata,
    ) -> Result<(), CopyError> {
        let mut stamp = Framed::default();
        for number in [metadata.dev, metadata.ino, metadata.size] {
            stamp.number(number);
        }
        stamp.field(&metadata.ctime.secs.to_le_bytes());
        stamp.field(&metadata.ctime.nanos.to_le_bytes());
        self.stamp.update(&stamp.0);
        if self.depth == Depth::Stamp {
            return Ok(());
        }
        let mut content = Framed::default();
        content.field(b"file");
        content.field(name);
        content.field(format!("{:?}", metadata.kind).as_bytes());
        content.number(metadata.mode.into());
        if self.source.has_owners() {
            content.number(metadata.uid.into());
            content.number(metadata.gid.into());
        }
        if metadata.is_file() && metadata.nlink > 1 {
            let next = self.links.len() as u64;
            let first = *self.links.entry((metadata.dev, metadata.ino)).or_insert(next);
            content.field(b"link");
            content.number(first);
        }
        let mut file = None;
        if let Some(root) = self.source.files() {
            if metadata.is_symlink() {
                content.field(&root.read_link(path)?);
            }
            if metadata.kind.is_device() {
                content.number(metadata.rdev.major.into());
                content.number(metadata.rdev.minor.into());
            }
            if metadata.is_file() {
                file = Some(path.clone());
            } else {
                content.xattrs(&root.xattrs(path)?);
            }
        }
        self.push(Record { content, file })
    }

    fn push(&mut self, record: Record) -> Result<(), CopyError> {
        self.waiting.push(record);
        if self.waiting.len() >= BATCH { self.settle() } else { Ok(()) }
    }

    /// Reads the files that wait.
    fn settle(&mut self) -> Result<(), CopyError> {
        let waiting = std::mem::take(&mut self.waiting);
        if self.depth == Depth::Stamp {
            return Ok(());
        }
        let files: Vec<Option<&RootPath>> =
            waiting.iter().map(|record| record.file.as_ref()).collect();
        let sums = match self.source.files() {
            Some(root) => read_files(root, &files, self.files)?,
            None => vec![None; files.len()],
        };
        for (record, sum) in std::iter::zip(&waiting, sums) {
            self.content.update(&record.content.0);
            if let Some(sum) = sum {
                self.content.update(sum.as_bytes());
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<SourceState, CopyError> {
        self.settle()?;
        Ok(SourceState {
            content: Digest::new(self.content.finish()),
            stamp: Digest::new(self.stamp.finish()),
        })
    }
}

/// The content and the extended attributes of each file, read by several threads.
fn read_files(
    root: &Root,
    files: &[Option<&RootPath>],
    settings: &SourceFiles<'_>,
) -> Result<Vec<Option<Sha256>>, CopyError> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<CopyError>> = Mutex::new(None);
    let work = || {
        let mut sums = Vec::new();
        let mut buffer = vec![0; 128 << 10];
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(index) else { return sums };
            let Some(path) = file else { continue };
            let sum = match settings.interrupt.signal() {
                Some(signal) => Err(CopyError::Contents {
                    path: (*path).clone(),
                    source: io::Error::other(format!("stopped by signal {signal}")),
                }),
                None => read_file(root, path, &mut buffer),
            };
            match sum {
                Ok(sum) => sums.push((index, sum)),
                Err(error) => {
                    next.store(files.len(), Ordering::Relaxed);
                    if let Ok(mut failure) = failure.lock() {
                        failure.get_or_insert(error);
                    }
                    return sums;
                }
            }
        }
    };
    let threads = settings.threads.min(files.len()).max(1);
    let mut sums = vec![None; files.len()];
    let found: Vec<(usize, Sha256)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut found = work();
        for other in others {
            // A panic of a thread is one of the build's.
            found.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        found
    });
    if let Ok(Some(error)) = failure.into_inner() {
        return Err(error);
    }
    for (index, sum) in found {
        sums[index] = Some(sum);
    }
    Ok(sums)
}

fn read_file(root: &Root, path: &RootPath, buffer: &mut [u8]) -> Result<Sha256, CopyError> {
    let mut file: File = root.open_file(path)?;
    let mut attributes = Framed::default();
    attributes.xattrs(&root.file_xattrs(&file, path)?);
    let mut hasher = Sha256Hasher::new();
    hasher.update(&attributes.0);
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(CopyError::Contents { path: path.clone(), source }),
        }
    }
}
