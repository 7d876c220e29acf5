//! From a changeset to a layer.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use ebiko_oci::{BlobSource, Descriptor, DiffId, ImageFormat, Layer, Sha256Hasher};
use ebiko_rootfs::{Kind, Metadata, Root, RootError, RootPath, Time, Xattrs};
use ebiko_snapshot::{Change, Changeset, ContentHash, ContentHasher, Snapshot, is_recorded_xattr};

use crate::compress::compress_from;
use crate::tar::{Header, HeaderKind, TarWriter};
use crate::{CompressError, CompressedBlob, Compression};

/// A name that begins like this marks a removal (OCI image specification, layer.md, "Whiteouts").
pub(crate) const WHITEOUT: &[u8] = b".wh.";

/// How to pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackOptions<'p> {
    /// How the tar stream is stored.
    pub compression: Compression,
    /// How many threads compress; 0 counts as 1. The bytes do not depend on it.
    pub threads: usize,
    /// The latest modification time that a member may have; what is younger gets this one. `None` keeps all.
    pub newest: Option<Time>,
    /// Where the table of a seekable layer is kept until it is written; in memory if `None`.
    pub scratch: Option<&'p Path>,
}

impl Default for PackOptions<'_> {
    fn default() -> Self {
        Self { compression: Compression::default(), threads: 1, newest: None, scratch: None }
    }
}

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

/// A changeset as a layer's blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The tar stream inside.
    pub tar: Spooled,
    /// The blob.
    pub blob: CompressedBlob,
}

impl Packed {
    /// The layer, for an image of `format`, whose blob can be read from `source`.
    pub fn layer(&self, format: ImageFormat, source: Arc<dyn BlobSource>) -> Layer {
        self.tar.layer(&self.blob, format, source)
    }
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
    #[error(transparent)]
    Compress(#[from] CompressError),
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
            Self::Compress(CompressError::Unsayable { .. }) => Some(
                "use gzip or zstd, which have no table: --compression=gzip or --compression=zstd",
            ),
            Self::Write { source }
            | Self::Compress(CompressError::Write { source } | CompressError::Scratch { source }) => {
                match source.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        Some("free space, or give the builder a larger volume")
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// Packs `changes` into one blob, as [`spool`] and [`compress`](crate::compress()) would one after the other.
///
/// # Errors
///
/// What was written to `out` so far is then no blob and the caller should delete it.
pub fn pack(
    changes: &Changeset,
    root: &Root,
    snapshot: &mut Snapshot,
    out: &mut (dyn Write + Send),
    options: &PackOptions<'_>,
) -> Result<Packed, PackError> {
    let PackOptions { compression, threads, newest, scratch } = *options;
    let (tar, blob) = compress_from(out, compression, threads, scratch, |sink| {
        spool(changes, root, snapshot, newest, sink)
    })?;
    Ok(Packed { tar, blob })
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
    let tar = TarWriter::new(Sum { out, hasher: Sha256Hasher::new(), size: 0 });
    let mut packer = Packer {
        root,
        snapshot,
        tar,
        newest,
        entries: 0,
        warnings: Vec::new(),
        buffer: vec![0; 256 * 1024],
    };
    for change in changes {
        packer.change(&change)?;
    }
    let Packer { tar, entries, warnings, .. } = packer;
    let sum = tar.finish().map_err(|source| PackError::Write { source })?;
    Ok(Spooled { diff_id: DiffId::new(sum.hasher.finish()), size: sum.size, entries, warnings })
}

struct Packer<'a> {
    root: &'a Root,
    snapshot: &'a mut Snapshot,
    tar: TarWriter<Sum<'a>>,
    newest: Option<Time>,
    entries: u64,
    warnings: Vec<PackWarning>,
    buffer: Vec<u8>,
}

impl Packer<'_> {
    fn change(&mut self, change: &Change) -> Result<(), PackError> {
        let path = change.path();
        let entry = |source: PackErrorKind| PackError::Entry { path: path.clone(), source };
        if path.file_name().is_some_and(|name| name.starts_with(WHITEOUT)) {
            return Err(entry(PackErrorKind::WhiteoutName));
        }
        let done = match change {
            Change::Remove { path } => self.whiteout(path),
            Change::Put { path, hard_link } => self.put(path, hard_link.as_ref()),
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

    fn put(&mut self, path: &RootPath, hard_link: Option<&RootPath>) -> Result<(), Failure> {
        let metadata = self.root.metadata(path)?;
        let xattrs = self.xattrs(path)?;
        if let Some(first) = hard_link {
            // With all attributes: container runtimes set owners on links too, and that would clear file capabilities
            // if they were not set again.
            self.header(path, HeaderKind::HardLink(first.as_bytes()), &metadata, &xattrs)?;
            self.snapshot.learn_link(path, first);
            return Ok(());
        }
        let content = match metadata.kind {
            Kind::Regular => return self.file(path, &metadata, &xattrs),
            Kind::Symlink => {
                let target = self.root.read_link(path)?;
                self.header(path, HeaderKind::Symlink(&target), &metadata, &xattrs)?;
                Some(ContentHash::of(&target))
            }
            Kind::Directory => {
                self.header(path, HeaderKind::Directory, &metadata, &xattrs)?;
                None
            }
            Kind::CharDevice => {
                self.header(path, HeaderKind::CharDevice(metadata.rdev), &metadata, &xattrs)?;
                None
            }
            Kind::BlockDevice => {
                self.header(path, HeaderKind::BlockDevice(metadata.rdev), &metadata, &xattrs)?;
                None
            }
            Kind::Fifo => {
                self.header(path, HeaderKind::Fifo, &metadata, &xattrs)?;
                None
            }
            // It took the place of what the changeset saw.
            Kind::Socket => return Err(Failure::Vanished),
        };
        self.snapshot.learn(path, &metadata, content, &xattrs);
        Ok(())
    }

    /// The size is asked once, of the open file, and the layer holds exactly as much.
    fn file(
        &mut self,
        path: &RootPath,
        metadata: &Metadata,
        xattrs: &Xattrs,
    ) -> Result<(), Failure> {
        let read = |source| Failure::Entry(PackErrorKind::Read { source });
        let mut file = self.root.open_file(path)?;
        let size = file.metadata().map_err(read)?.len();
        self.header(path, HeaderKind::Regular(size), metadata, xattrs)?;
        let mut hasher = ContentHasher::new();
        let mut left = size;
        while left > 0 {
            let length =
                usize::try_from(left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
            let count = read_some(&mut file, &mut self.buffer[..length]).map_err(read)?;
            if count == 0 {
                self.warn(path, Unsteady::Shrank);
                return Ok(());
            }
            hasher.update(&self.buffer[..count]);
            self.tar.content(&self.buffer[..count])?;
            left -= count as u64;
        }
        if read_some(&mut file, &mut self.buffer[..1]).map_err(read)? > 0 {
            self.warn(path, Unsteady::Grew);
            return Ok(());
        }
        self.snapshot.learn(path, metadata, Some(hasher.finish()), xattrs);
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

    fn xattrs(&self, path: &RootPath) -> Result<Xattrs, Failure> {
        let mut xattrs = self.root.xattrs(path)?;
        xattrs.retain(|name, _| is_recorded_xattr(name));
        match xattrs.keys().find(|name| name.contains(&b'=')) {
            Some(name) => {
                let name = String::from_utf8_lossy(name).into_owned();
                Err(Failure::Entry(PackErrorKind::XattrName { name }))
            }
            None => Ok(xattrs),
        }
    }

    fn warn(&mut self, path: &RootPath, what: Unsteady) {
        self.warnings.push(PackWarning { path: path.clone(), what });
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
