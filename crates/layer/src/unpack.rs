//! From a layer to files.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;

use ebiko_oci::{Digest, Layer};
use ebiko_rootfs::{Metadata, Root, RootError, RootPath, Xattrs};
use ebiko_snapshot::{ContentHash, Snapshot};

use crate::apply::{Applier, Destination, Journal};
use crate::decompress::{LayerStream, Streamed};
use crate::tar::TarReader;
use crate::{Limits, SourceError, TarError, UnpackErrorKind};

/// How to unpack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnpackOptions {
    /// What a layer may ask for.
    pub limits: Limits,
    /// Which regular files are written.
    pub files: Files,
}

/// Which regular files of a layer are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Files {
    /// All.
    #[default]
    All,
    /// Those at these paths, free of links. The others are read, verified and recorded
    /// ([`Snapshot::record_unwritten`]), as if they had been written; further names of such a file are none on disk
    /// either. One that takes the place of a directory which has something protected in it is written.
    Only(BTreeSet<RootPath>),
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    /// Members of the archive, whiteouts included.
    pub entries: u64,
    /// Bytes of the tar stream.
    pub bytes: u64,
}

/// A layer could not be unpacked. What came before is on the root, which is of no use any more.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum UnpackError {
    #[error("cannot unpack `{path}` from layer {layer}")]
    Entry { path: String, layer: Digest, source: UnpackErrorKind },
    #[error("cannot unpack layer {layer}")]
    Archive { layer: Digest, source: TarError },
    #[error("cannot unpack layer {layer}")]
    Source { layer: Digest, source: SourceError },
}

impl UnpackError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Entry { source, .. } => source.hint(),
            Self::Source { source: SourceError::Limit { what, .. }, .. } => what.hint(),
            Self::Archive { .. } | Self::Source { .. } => None,
        }
    }
}

/// Applies `layer` on top of what is in `root`, and tells `snapshot` what was written.
///
/// Blob and tar stream are verified against the layer's digest, size and diff id while they pass by; a thread reads and
/// decompresses ahead. A member over something existing replaces it, except that a directory over a directory only
/// changes its attributes. Directories that members lead through and that do not exist are made with mode 0755, owner
/// 0:0 and the member's time; those that exist keep their time. Whiteouts remove from `root` and are never written.
///
/// With [`Files::Only`], result, index and error are the same as if every file had been written.
///
/// # Errors
///
/// Everything before the failure has been applied, and nothing of it has been verified as a whole: the root must not be
/// used. Nothing outside the root was touched.
pub fn unpack(
    layer: &Layer,
    root: &Root,
    snapshot: &mut Snapshot,
    options: &UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    unpack_from(layer, root, snapshot, options, None).map(|(unpacked, _kept)| unpacked)
}

/// As [`unpack`]; the verified stream goes to `keep`, too, and comes back if it could be written.
pub(crate) fn unpack_from(
    layer: &Layer,
    root: &Root,
    snapshot: &mut Snapshot,
    options: &UnpackOptions,
    keep: Option<File>,
) -> Result<(Unpacked, Option<File>), UnpackError> {
    let digest = layer.descriptor.digest;
    let source_error = |source| UnpackError::Source { layer: digest, source };
    std::thread::scope(|scope| {
        let stream =
            LayerStream::open(scope, layer, &options.limits, keep).map_err(source_error)?;
        let (applied, stream) = apply_stream(stream, root, snapshot, options);
        match applied {
            Ok(entries) => {
                let Streamed { size: bytes, kept } = stream.finish().map_err(source_error)?;
                Ok((Unpacked { entries, bytes }, kept))
            }
            Err(failure) => {
                // A stream that broke off explains what the archive then lacks.
                stream.abandon().map_err(source_error)?;
                Err(failure.in_layer(digest))
            }
        }
    })
}

/// Applies a tar stream as the next layer; gives back the stream as well. Returns how many members there were.
pub(crate) fn apply_stream<R: Read>(
    stream: R,
    root: &Root,
    snapshot: &mut Snapshot,
    options: &UnpackOptions,
) -> (Result<u64, Failure>, R) {
    snapshot.begin_layer();
    let mut tar = TarReader::new(stream, options.limits.extended_header);
    let mut journal = Index(snapshot);
    let to = Destination::layer(&options.files);
    let applied = apply_all(&mut tar, Applier::new(root, &mut journal, &options.limits, to));
    (applied, tar.into_inner())
}

/// A member's path for a message: an archive must not write its own lines, or colours, into a log.
pub(crate) fn shown(path: &[u8]) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(path).chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

/// What stopped the unpacking.
pub(crate) enum Failure {
    Entry(Vec<u8>, UnpackErrorKind),
    Archive(TarError),
}

impl Failure {
    pub(crate) fn in_layer(self, layer: Digest) -> UnpackError {
        match self {
            Self::Entry(path, source) => UnpackError::Entry { path: shown(&path), layer, source },
            Self::Archive(source) => UnpackError::Archive { layer, source },
        }
    }
}

/// Applies all members; returns how many there were.
pub(crate) fn apply_all(
    tar: &mut TarReader<impl Read>,
    mut applier: Applier<'_>,
) -> Result<u64, Failure> {
    while let Some(member) = tar.next().map_err(Failure::Archive)? {
        applier.apply(&member, tar).map_err(|source| Failure::Entry(member.path, source))?;
    }
    applier.finish().map_err(|(path, source)| Failure::Entry(path.as_bytes().to_vec(), source))
}

/// The index learns what is written.
struct Index<'a>(&'a mut Snapshot);

impl Journal for Index<'_> {
    fn wrote(
        &mut self,
        path: &RootPath,
        metadata: &Metadata,
        content: Option<ContentHash>,
        xattrs: &Xattrs,
    ) {
        self.0.record(path, metadata, content, xattrs);
    }

    fn linked(&mut self, path: &RootPath, first: &RootPath, metadata: &Metadata) {
        self.0.record_link(path, first, metadata);
    }

    fn refreshed(&mut self, path: &RootPath, metadata: &Metadata) {
        self.0.refresh(path, metadata);
    }

    fn removed(&mut self, path: &RootPath) {
        self.0.remove(path);
    }

    fn older_beneath(
        &self,
        _root: &Root,
        directory: &RootPath,
    ) -> Result<Vec<RootPath>, RootError> {
        Ok(self.0.older_beneath(directory))
    }

    fn index(&mut self) -> Option<&mut Snapshot> {
        Some(self.0)
    }
}
