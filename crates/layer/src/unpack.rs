//! From a layer to files.

use ebiko_oci::{Digest, Layer};
use ebiko_rootfs::{Metadata, Root, RootError, RootPath, Xattrs};
use ebiko_snapshot::{ContentHash, Snapshot};

use crate::apply::{Applier, Destination, Journal};
use crate::decompress::LayerStream;
use crate::tar::TarReader;
use crate::{Limits, SourceError, TarError, UnpackErrorKind};

/// How to unpack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnpackOptions {
    /// What a layer may ask for.
    pub limits: Limits,
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
    let digest = layer.descriptor.digest;
    let source_error = |source| UnpackError::Source { layer: digest, source };
    snapshot.begin_layer();
    std::thread::scope(|scope| {
        let stream = LayerStream::open(scope, layer, &options.limits).map_err(source_error)?;
        let mut tar = TarReader::new(stream, options.limits.extended_header);
        let mut journal = Index(snapshot);
        let applied = apply_all(
            &mut tar,
            Applier::new(root, &mut journal, &options.limits, Destination::layer()),
        );
        let stream = tar.into_inner();
        match applied {
            Ok(entries) => {
                let bytes = stream.finish().map_err(source_error)?;
                Ok(Unpacked { entries, bytes })
            }
            Err(failure) => {
                // A stream that broke off explains what the archive then lacks.
                stream.abandon().map_err(source_error)?;
                Err(match failure {
                    Failure::Entry(path, source) => {
                        UnpackError::Entry { path: shown(&path), layer: digest, source }
                    }
                    Failure::Archive(source) => UnpackError::Archive { layer: digest, source },
                })
            }
        }
    })
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

/// Applies all members; returns how many there were.
pub(crate) fn apply_all(
    tar: &mut TarReader<impl std::io::Read>,
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
}
