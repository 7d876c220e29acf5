//! From a changeset to a layer.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::sync::Arc;

use ebiko_oci::{BlobSource, Descriptor, DiffId, ImageFormat, Layer, Sha256Hasher};
use ebiko_rootfs::{
    Directory, Kind, Metadata, OpenedFile, Root, RootError, RootPath, Time, Whole, Xattrs,
};
use ebiko_snapshot::{Change, Changeset, ContentHash, ContentHasher, Snapshot, is_recorded_xattr};

use crate::CompressedBlob;
use crate::load::{Loaded, Loading, Panicked};
use crate::tar::{Header, HeaderKind, TarWriter};

/// A name that begins like this marks a removal (OCI image specification, layer.md, "Whiteouts").
pub(crate) const WHITEOUT: &[u8] = b".wh.";

/// How much of the stream is written and summed at once.
const PIECE: usize = 256 * 1024;

/// A changeset as a tar stream that is not compressed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// The digest of the stream.
    pub diff_id: DiffId,
    /// Its size in bytes.
    pub size: u64,
    /// How many members it has.
    pub entries: u64,
    /// What was odd about some files.
    pub warnings: Vec<PackWarning>,
}

impl Spooled {
    /// The layer that this stream became when it was compressed to `blob`, which can be read from `source`.
    ///
    /// The table of a seekable layer shows in annotations, and eStargz' in the diff id, because it is part of its stream.
    pub fn layer(
        &self,
        blob: &CompressedBlob,
        format: ImageFormat,
        source: Arc<dyn BlobSource>,
    ) -> Layer {
        let media_type = format.layer(blob.compression);
        let mut descriptor = Descriptor::new(media_type, blob.digest, blob.size);
        descriptor.annotations = blob.table.map(|table| table.annotations());
        let diff_id = blob.table.and_then(|table| table.diff_id()).unwrap_or(self.diff_id);
        Layer { descriptor, diff_id, blob: source }
    }
}

/// A file that somebody changed while it was being packed. The layer is well-formed all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the message names every field")]
pub struct PackWarning {
    pub path: RootPath,
    pub what: Unsteady,
}

/// How a file changed while it was being packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsteady {
    /// It ended early; the rest is zeros in the layer.
    Shrank,
    /// It got longer; what came later is not in the layer.
    Grew,
    /// It went away and is not in the layer.
    Vanished,
}

impl fmt::Display for PackWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            Unsteady::Shrank => "shrank while it was read; the rest is zeros in the layer",
            Unsteady::Grew => "grew while it was read; the layer has the size it had at first",
            Unsteady::Vanished => "went away before it was read and is not in the layer",
        };
        write!(f, "`{}` {what}", self.path)
    }
}

/// A changeset could not be packed. What was written so far is no layer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum PackError {
    #[error("cannot put `{path}` into the layer")]
    Entry { path: RootPath, source: PackErrorKind },
    #[error("cannot write the layer")]
    Write { source: io::Error },
    #[error("a thread that read files panicked")]
    Panicked,
}

/// Why one file could not be packed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum PackErrorKind {
    #[error(transparent)]
    Root(#[from] RootError),
    #[error("cannot read the contents")]
    Read { source: io::Error },
    #[error("names that begin with `.wh.` mark removals in layers")]
    WhiteoutName,
    #[error("the extended attribute `{name}` has a `=` in its name, which archives cannot hold")]
    XattrName { name: String },
}

impl PackError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Entry { source: PackErrorKind::Root(error), .. } => error.hint(),
            Self::Entry { source: PackErrorKind::WhiteoutName, .. } => {
                Some("rename or remove the file in the same step")
            }
            Self::Entry { source: PackErrorKind::XattrName { .. }, .. } => {
                Some("remove the attribute in the same step: setfattr -x NAME FILE")
            }
            Self::Write { source } => full_disk(source),
            Self::Entry { .. } | Self::Panicked => None,
        }
    }
}

/// What to do where there is no space left.
pub(crate) fn full_disk(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Some("free space, or give the builder a larger volume")
        }
        _ => None,
    }
}

/// Writes `changes` as a canonical tar stream.
///
/// Files are read from `root` as they are now, which must be as `changes` found them: nobody else may write meanwhile.
/// A file that changes nevertheless gives a [`PackWarning`] and a well-formed stream. What was read of each file is
/// told to `snapshot`, the index that `changes` come from, so that no file is read twice. Members younger than `newest`
/// are as old as it says in the stream; the files themselves keep their times.
///
/// # Errors
///
/// What was written to `out` so far is then no tar stream and the caller should delete it.
pub fn spool(
    changes: &Changeset,
    root: &Root,
    snapshot: &mut Snapshot,
    newest: Option<Time>,
    out: &mut dyn Write,
) -> Result<Spooled, PackError> {
    let sum = Sum { out, hasher: Sha256Hasher::new(), size: 0 };
    let tar = TarWriter::new(BufWriter::with_capacity(PIECE, sum));
    let mut packer = Packer {
        root,
        snapshot,
        tar,
        newest,
        entries: 0,
        warnings: Vec::new(),
        parent: None,
        buffer: vec![0; PIECE],
    };
    std::thread::scope(|scope| {
        let mut loading = Loading::start(scope, changes, root);
        while let Some(batch) = loading.next().map_err(|Panicked| PackError::Panicked)? {
            for (change, loaded) in batch.iter() {
                packer.change(change, loaded)?;
            }
            loading.recycle(batch);
        }
        Ok::<(), PackError>(())
    })?;
    let Packer { tar, entries, warnings, .. } = packer;
    let write = |source| PackError::Write { source };
    let sum = tar.finish().map_err(write)?;
    let sum = sum.into_inner().map_err(|error| write(error.into_error()))?;
    Ok(Spooled { diff_id: DiffId::new(sum.hasher.finish()), size: sum.size, entries, warnings })
}

struct Packer<'a> {
    root: &'a Root,
    snapshot: &'a mut Snapshot,
    tar: TarWriter<BufWriter<Sum<'a>>>,
    newest: Option<Time>,
    entries: u64,
    warnings: Vec<PackWarning>,
    /// The directory of the last file: the next one is likely to be beside it.
    parent: Option<(RootPath, Directory<'a>)>,
    buffer: Vec<u8>,
}

impl Packer<'_> {
    fn change(&mut self, change: &Change, loaded: Option<Loaded<'_>>) -> Result<(), PackError> {
        let path = change.path();
        let entry = |source: PackErrorKind| PackError::Entry { path: path.clone(), source };
        if path.file_name().is_some_and(|name| name.starts_with(WHITEOUT)) {
            return Err(entry(PackErrorKind::WhiteoutName));
        }
        let done = match (change, loaded) {
            (Change::Remove { path }, _) => self.whiteout(path),
            (Change::Put { path, .. }, Some(loaded)) => self.loaded(path, &loaded),
            (Change::Put { path, hard_link, .. }, None) => self.put(path, hard_link.as_ref()),
        };
        match done {
            Ok(()) => self.entries += 1,
            Err(Failure::Entry(PackErrorKind::Root(error))) if error.is_missing() => {
                self.warn(path, Unsteady::Vanished);
            }
            Err(Failure::Vanished) => self.warn(path, Unsteady::Vanished),
            Err(Failure::Entry(source)) => return Err(entry(source)),
            Err(Failure::Write(source)) => return Err(PackError::Write { source }),
        }
        Ok(())
    }

    /// An empty file that says: what is below under this name is gone. Its attributes mean nothing and are constant.
    fn whiteout(&mut self, path: &RootPath) -> Result<(), Failure> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let mut marked = parent.as_bytes().to_vec();
        if !parent.is_root() {
            marked.push(b'/');
        }
        marked.extend_from_slice(WHITEOUT);
        marked.extend_from_slice(name);
        let header = Header {
            path: &marked,
            kind: HeaderKind::Regular(0),
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: &Xattrs::new(),
        };
        Ok(self.tar.header(&header)?)
    }

    fn loaded(&mut self, path: &RootPath, file: &Loaded<'_>) -> Result<(), Failure> {
        let Loaded { metadata, xattrs, hash, content } = *file;
        let size = content.len() as u64;
        let xattrs = recorded(xattrs.clone())?;
        self.header(path, HeaderKind::Regular(size), metadata, &xattrs)?;
        self.tar.content(content)?;
        self.snapshot.learn(path, metadata, Some(hash), &xattrs);
        Ok(())
    }

    fn put(&mut self, path: &RootPath, hard_link: Option<&RootPath>) -> Result<(), Failure> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let directory = match self.parent.take() {
            Some((known, directory)) if known == parent => directory,
            _ => self.root.open_dir(&parent)?,
        };
        let done = self.put_in(&directory, name, path, hard_link);
        self.parent = Some((parent, directory));
        done
    }

    fn put_in(
        &mut self,
        directory: &Directory<'_>,
        name: &[u8],
        path: &RootPath,
        hard_link: Option<&RootPath>,
    ) -> Result<(), Failure> {
        let metadata = match hard_link {
            Some(_) => directory.metadata_of(name)?,
            None => match directory.open_whole(name)? {
                Whole::File(file) => return self.file(path, file),
                Whole::Other(metadata) => metadata,
            },
        };
        let xattrs = recorded(directory.xattrs(name)?)?;
        if let Some(first) = hard_link {
            // With all attributes: container runtimes set owners on links too, and that would clear file capabilities
            // if they were not set again.
            self.header(path, HeaderKind::HardLink(first.as_bytes()), &metadata, &xattrs)?;
            self.snapshot.learn_link(path, first);
            return Ok(());
        }
        let mut content = None;
        let target;
        let kind = match metadata.kind {
            Kind::Symlink => {
                target = directory.read_link(name)?;
                content = Some(ContentHash::of(&target));
                HeaderKind::Symlink(&target)
            }
            Kind::Directory => HeaderKind::Directory,
            Kind::CharDevice => HeaderKind::CharDevice(metadata.rdev),
            Kind::BlockDevice => HeaderKind::BlockDevice(metadata.rdev),
            Kind::Fifo => HeaderKind::Fifo,
            // It took the place of what the changeset saw.
            Kind::Regular | Kind::Socket => return Err(Failure::Vanished),
        };
        self.header(path, kind, &metadata, &xattrs)?;
        self.snapshot.learn(path, &metadata, content, &xattrs);
        Ok(())
    }

    /// The size is asked once, of the open file, and the layer holds exactly as much.
    fn file(&mut self, path: &RootPath, opened: OpenedFile) -> Result<(), Failure> {
        let OpenedFile { mut file, metadata, xattrs } = opened;
        let xattrs = recorded(xattrs)?;
        let read = |source| Failure::Entry(PackErrorKind::Read { source });
        self.header(path, HeaderKind::Regular(metadata.size), &metadata, &xattrs)?;
        let mut hasher = ContentHasher::new();
        let mut left = metadata.size;
        loop {
            // One byte more than there should be shows whether the file has grown, without another call for small ones.
            let length = usize::try_from(left.saturating_add(1)).unwrap_or(usize::MAX);
            let length = length.min(self.buffer.len());
            let count = read_some(&mut file, &mut self.buffer[..length]).map_err(read)?;
            if count as u64 > left {
                self.warn(path, Unsteady::Grew);
                let rest = usize::try_from(left).unwrap_or(count);
                self.tar.content(&self.buffer[..rest])?;
                return Ok(());
            }
            if count == 0 && left > 0 {
                self.warn(path, Unsteady::Shrank);
                return Ok(());
            }
            hasher.update(&self.buffer[..count]);
            self.tar.content(&self.buffer[..count])?;
            left -= count as u64;
            // A short read that gave all there should be: the file ends here, because a regular file has no other reason.
            if left == 0 && count < length {
                break;
            }
        }
        self.snapshot.learn(path, &metadata, Some(hasher.finish()), &xattrs);
        Ok(())
    }

    fn header(
        &mut self,
        path: &RootPath,
        kind: HeaderKind<'_>,
        metadata: &Metadata,
        xattrs: &Xattrs,
    ) -> Result<(), Failure> {
        let Metadata { mode, uid, gid, mtime, .. } = *metadata;
        let mtime = self.newest.map_or(mtime, |newest| mtime.min(newest));
        Ok(self.tar.header(&Header {
            path: path.as_bytes(),
            kind,
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        })?)
    }

    fn warn(&mut self, path: &RootPath, what: Unsteady) {
        self.warnings.push(PackWarning { path: path.clone(), what });
    }
}

/// The extended attributes that go into a layer.
fn recorded(mut xattrs: Xattrs) -> Result<Xattrs, Failure> {
    xattrs.retain(|name, _| is_recorded_xattr(name));
    match xattrs.keys().find(|name| name.contains(&b'=')) {
        Some(name) => {
            let name = String::from_utf8_lossy(name).into_owned();
            Err(Failure::Entry(PackErrorKind::XattrName { name }))
        }
        None => Ok(xattrs),
    }
}

/// One file's trouble, or everybody's.
enum Failure {
    Entry(PackErrorKind),
    Write(io::Error),
    Vanished,
}

impl From<RootError> for Failure {
    fn from(error: RootError) -> Self {
        Self::Entry(error.into())
    }
}

/// Only writing the stream fails with a bare I/O error.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Sums what is written, for the diff id.
struct Sum<'a> {
    out: &'a mut dyn Write,
    hasher: Sha256Hasher,
    size: u64,
}

impl Write for Sum<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
