//! Reading docker-archive tars.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ebiko_oci::{
    Descriptor, Digest, Image, ImageError, ImageFormat, ImageManifest, LayerCompression,
    ManifestBytes,
};
use serde::Deserialize;

use crate::blob::{FileBlob, measure};
use crate::tar_index::{TarFault, TarIndex};

/// A docker-archive could not be read as an image.
#[derive(Debug, thiserror::Error)]
#[error("cannot read an image from the archive `{}`", path.display())]
#[expect(missing_docs, reason = "the message names every field")]
pub struct ReadArchiveError {
    pub path: PathBuf,
    pub source: ReadArchiveFault,
}

/// Why a [`ReadArchiveError`] happened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ReadArchiveFault {
    #[error("it is not a tar: {reason}")]
    Tar { reason: String, source: Option<io::Error> },
    #[error("it has no `{name}`")]
    Missing { name: String },
    #[error("cannot read `{name}`")]
    Member { name: String, source: io::Error },
    #[error("`{name}` has more than {limit} bytes")]
    TooLarge { name: String, limit: u64 },
    #[error("`manifest.json` is not valid JSON of its kind")]
    Manifest { source: serde_json::Error },
    #[error("it holds {count} images, and exactly one is wanted")]
    NotOne { count: usize },
    #[error("the layer `{name}` is compressed in a way that is not supported")]
    Compression { name: String },
    #[error("its parts do not belong together")]
    Image { source: ImageError },
}

/// An element of `manifest.json`, as far as it matters.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// No config or manifest in use comes near; a larger one is an attack on memory.
pub(crate) const MAX_JSON: u64 = 32 << 20;

/// Finds the one image in the docker-archive `path`.
///
/// The image has Docker's media types, whatever it had before it was saved: the format does not
/// store them. Every layer is read once, since its digest is not stored either; afterwards the
/// layers are read from the archive, which has to stay where it is.
///
/// # Errors
///
/// Fails if the file is not such an archive, holds several images, or its config is of another
/// image. That a layer's content is what the config says shows when it is unpacked.
pub fn read_archive(path: &Path) -> Result<Image, ReadArchiveError> {
    TarIndex::read(path)
        .map_err(ReadArchiveFault::from)
        .and_then(|index| read_from(path, &index))
        .map_err(|source| ReadArchiveError { path: path.into(), source })
}

/// Finds the one image in an archive whose members are known.
pub(crate) fn read_from(path: &Path, index: &TarIndex) -> Result<Image, ReadArchiveFault> {
    let manifest = read_member(index, "manifest.json")?;
    let entries: Vec<Entry> = serde_json::from_slice(&manifest)
        .map_err(|source| ReadArchiveFault::Manifest { source })?;
    let [entry] = entries.as_slice() else {
        return Err(ReadArchiveFault::NotOne { count: entries.len() });
    };
    let config = read_member(index, &entry.config)?;
    let mut layers = Vec::new();
    let mut blobs = Vec::new();
    for name in entry.layers.iter().flatten() {
        let blob = find(index, name)?;
        layers.push(describe(&blob, name)?);
        blobs.push(blob);
    }
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(ImageFormat::Docker.manifest()),
        config: Descriptor::new(
            ImageFormat::Docker.config(),
            Digest::of(&config),
            config.len() as u64,
        ),
        layers,
        annotations: None,
    };
    // Through `Value`, which sorts keys: an image made here then gets its own digest back.
    let bytes = serde_json::to_value(&manifest)
        .and_then(|value| serde_json::to_vec(&value))
        .map_err(|source| ReadArchiveFault::Manifest { source })?;
    let manifest = ManifestBytes {
        media_type: ImageFormat::Docker.manifest(),
        digest: Digest::of(&bytes),
        bytes,
    };
    let mut blobs = blobs.into_iter();
    Image::received(manifest, config, |_| match blobs.next() {
        Some(blob) => blob.shared(),
        // One blob was put down for every layer above.
        None => FileBlob::new(path.into(), 0, 0).shared(),
    })
    .map_err(|source| ReadArchiveFault::Image { source })
}

fn find(index: &TarIndex, name: &str) -> Result<FileBlob, ReadArchiveFault> {
    index.file(name).ok_or_else(|| ReadArchiveFault::Missing { name: name.into() })
}

fn read_member(index: &TarIndex, name: &str) -> Result<Vec<u8>, ReadArchiveFault> {
    let bytes = find(index, name)?
        .read_at_most(MAX_JSON)
        .map_err(|source| ReadArchiveFault::Member { name: name.into(), source })?;
    bytes.ok_or_else(|| ReadArchiveFault::TooLarge { name: name.into(), limit: MAX_JSON })
}

/// Reads a layer for its digest; how it is compressed shows in its first bytes.
fn describe(blob: &FileBlob, name: &str) -> Result<Descriptor, ReadArchiveFault> {
    let fail = |source| ReadArchiveFault::Member { name: name.into(), source };
    let mut start = Vec::new();
    blob.read().and_then(|reader| reader.take(6).read_to_end(&mut start)).map_err(fail)?;
    let compression = match start.as_slice() {
        [0x1f, 0x8b, ..] => LayerCompression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => LayerCompression::Zstd,
        [b'B', b'Z', b'h', ..] | [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            return Err(ReadArchiveFault::Compression { name: name.into() });
        }
        _ => LayerCompression::None,
    };
    let (digest, size) = blob.read().and_then(|mut reader| measure(&mut reader)).map_err(fail)?;
    Ok(Descriptor::new(ImageFormat::Docker.layer(compression), digest, size))
}

impl From<TarFault> for ReadArchiveFault {
    fn from(fault: TarFault) -> Self {
        let reason = fault.to_string();
        let source = match fault {
            TarFault::Read(source) => Some(source),
            _ => None,
        };
        Self::Tar { reason, source }
    }
}
