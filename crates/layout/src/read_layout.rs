//! Reading OCI layout directories.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ebiko_oci::{
    Descriptor, Digest, Image, ImageError, ImageIndex, Manifest, ManifestBytes, ManifestError,
    MediaType, NoPlatform, Platform, Reference, ResolvedImage, TreeError,
};
use serde::Deserialize;

use crate::blob::FileBlob;
use crate::read_archive::MAX_JSON;

/// An OCI layout could not be read as an image.
#[derive(Debug, thiserror::Error)]
#[error("cannot read an image from the OCI layout `{}`", path.display())]
#[expect(missing_docs, reason = "the message names every field")]
pub struct ReadLayoutError {
    pub path: PathBuf,
    pub source: ReadLayoutFault,
}

/// Why a [`ReadLayoutError`] happened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ReadLayoutFault {
    #[error("cannot read `{name}`")]
    File { name: String, source: io::Error },
    #[error("`{name}` has more than {limit} bytes")]
    TooLarge { name: String, limit: u64 },
    #[error("`oci-layout` is not valid JSON of its kind")]
    Marker { source: serde_json::Error },
    #[error("layout version `{version}` is not supported (only 1.0.0 is)")]
    Version { version: String },
    #[error("cannot read the manifest `{name}`")]
    Manifest { name: String, source: ManifestError },
    #[error("`index.json` is not an index")]
    NotAnIndex,
    #[error("it names {count} images, and exactly one is wanted")]
    NotOne { count: usize },
    #[error("the blob {expected} has other content, whose digest is {actual}")]
    Digest { expected: Digest, actual: Digest },
    #[error("it has no image of the name `{name}`")]
    NoSuchName { name: String },
    #[error("its index cannot be used")]
    Platform { source: Box<NoPlatform> },
    #[error("its indexes are nested more than {INDEX_DEPTH} deep")]
    TooDeep,
    #[error("its parts do not belong together")]
    Image { source: ImageError },
    #[error("it has no blob {digest}, which is a part of the image")]
    Missing { digest: Digest },
    #[error("the blob {digest} should have {expected} bytes, and has {actual}")]
    Size { digest: Digest, expected: u64, actual: u64 },
    #[error("what it leads to cannot be used")]
    Tree { source: TreeError },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

/// Finds the one image in the OCI layout `directory`. It may have several names.
///
/// Manifest and config are verified now, layers by whoever reads them; they are read from the
/// directory, which has to stay where it is.
///
/// # Errors
///
/// Fails if the directory is not an OCI layout, names several images or an index of images, or
/// has a manifest or config with a wrong digest.
pub fn read_layout(directory: &Path) -> Result<Image, ReadLayoutError> {
    read(directory).map_err(|source| ReadLayoutError { path: directory.into(), source })
}

/// Finds the image that `reference` means in the OCI layout `directory`: the one of its digest, else the one of its tag,
/// else the only one there; and of an index the image for `platform`.
///
/// # Errors
///
/// As [`read_layout`], and where nothing in the layout is meant by the reference.
pub fn find_in_layout(
    directory: &Path,
    reference: &Reference,
    platform: &Platform,
) -> Result<ResolvedImage, ReadLayoutError> {
    find(directory, reference, platform)
        .map_err(|source| ReadLayoutError { path: directory.into(), source })
}

/// An index of indexes of indexes is no image that anybody made.
const INDEX_DEPTH: usize = 4;

fn find(
    directory: &Path,
    reference: &Reference,
    platform: &Platform,
) -> Result<ResolvedImage, ReadLayoutFault> {
    let index = read_index(directory)?;
    let mut entry = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => {
            let entry = index.manifests.iter().find(|entry| entry.digest == digest);
            // What an index in the layout lists is not listed in `index.json`.
            entry.cloned().unwrap_or_else(|| Descriptor::new(MediaType::OciManifest, digest, 0))
        }
        (None, tag) => {
            let tag = tag.unwrap_or("latest");
            let names = [tag.to_owned(), reference.to_string(), reference.familiar()];
            let is_named = |entry: &&Descriptor| {
                let annotations = entry.annotations.iter().flatten();
                let mut tags = annotations.filter(|(key, _)| *key == REF_NAME);
                tags.any(|(_, value)| names.contains(value))
            };
            match (index.manifests.iter().find(is_named), &index.manifests[..]) {
                (Some(entry), _) => entry.clone(),
                (None, [only]) if tag == "latest" => only.clone(),
                _ => return Err(ReadLayoutFault::NoSuchName { name: tag.to_owned() }),
            }
        }
    };
    let digest = entry.digest;
    for _ in 0..INDEX_DEPTH {
        let bytes = read_blob(directory, entry.digest)?;
        let parsed = Manifest::parse(&bytes, None).map_err(|source| ReadLayoutFault::Manifest {
            name: blob_name(entry.digest),
            source,
        })?;
        let Manifest::Index(index) = parsed else {
            let image = read_image(directory, entry.digest, parsed, bytes)?;
            return Ok(ResolvedImage { image, digest });
        };
        let selected = index.select(platform);
        entry = selected
            .map_err(|source| ReadLayoutFault::Platform { source: Box::new(source) })?
            .clone();
    }
    Err(ReadLayoutFault::TooDeep)
}

/// The image, and no index, of the name `name`; `None` if the layout has none.
pub(crate) fn find_named(directory: &Path, name: &str) -> Result<Option<Image>, ReadLayoutFault> {
    let index = read_index(directory)?;
    let is_named = |entry: &&Descriptor| {
        entry.annotations.iter().flatten().any(|(key, value)| key == REF_NAME && value == name)
    };
    let Some(entry) = index.manifests.iter().find(is_named) else { return Ok(None) };
    let bytes = read_blob(directory, entry.digest)?;
    let parsed = Manifest::parse(&bytes, Some(&entry.media_type))
        .map_err(|source| ReadLayoutFault::Manifest { name: blob_name(entry.digest), source })?;
    read_image(directory, entry.digest, parsed, bytes).map(Some)
}

/// Where a layout keeps the tags of its images.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

fn read(directory: &Path) -> Result<Image, ReadLayoutFault> {
    let index = read_index(directory)?;
    let descriptor = only_entry(&index)?;
    let bytes = read_blob(directory, descriptor.digest)?;
    let parsed = Manifest::parse(&bytes, Some(&descriptor.media_type)).map_err(|source| {
        ReadLayoutFault::Manifest { name: blob_name(descriptor.digest), source }
    })?;
    read_image(directory, descriptor.digest, parsed, bytes)
}

/// The one image of a layout, which may have several names.
pub(crate) fn only_entry(index: &ImageIndex) -> Result<&Descriptor, ReadLayoutFault> {
    let digests: BTreeSet<Digest> =
        index.manifests.iter().map(|descriptor| descriptor.digest).collect();
    match (index.manifests.first(), digests.len()) {
        (Some(descriptor), 1) => Ok(descriptor),
        (_, count) => Err(ReadLayoutFault::NotOne { count }),
    }
}

/// The list of images, after a look at the version of the layout.
pub(crate) fn read_index(directory: &Path) -> Result<ImageIndex, ReadLayoutFault> {
    index_of(|name| read_file(directory, name))
}

/// The list of images of a layout whose files `read` reads.
pub(crate) fn index_of(
    read: impl Fn(&str) -> Result<Vec<u8>, ReadLayoutFault>,
) -> Result<ImageIndex, ReadLayoutFault> {
    let marker: Marker = serde_json::from_slice(&read("oci-layout")?)
        .map_err(|source| ReadLayoutFault::Marker { source })?;
    if marker.image_layout_version != "1.0.0" {
        return Err(ReadLayoutFault::Version { version: marker.image_layout_version });
    }
    let name = "index.json";
    let index = Manifest::parse(&read(name)?, Some(&MediaType::OciIndex))
        .map_err(|source| ReadLayoutFault::Manifest { name: name.into(), source })?;
    match index {
        Manifest::Index(index) => Ok(index),
        Manifest::Image(_) => Err(ReadLayoutFault::NotAnIndex),
    }
}

pub(crate) fn read_image(
    directory: &Path,
    digest: Digest,
    manifest: Manifest,
    bytes: Vec<u8>,
) -> Result<Image, ReadLayoutFault> {
    let Manifest::Image(parsed) = manifest else {
        return Err(ReadLayoutFault::Image { source: ImageError::IsIndex });
    };
    let config = read_blob(directory, parsed.config.digest)?;
    let media_type = parsed.media_type.clone().unwrap_or(MediaType::OciManifest);
    let manifest = ManifestBytes { media_type, bytes, digest };
    Image::received(manifest, config, |Descriptor { digest, size, .. }| {
        // One byte more than promised, so that a longer file is noticed.
        let path = directory.join(blob_name(*digest));
        FileBlob::new(path, 0, size.saturating_add(1)).shared()
    })
    .map_err(|source| ReadLayoutFault::Image { source })
}

/// A digest is 64 hexadecimal digits, so this stays in the layout.
pub(crate) fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

pub(crate) fn read_blob(directory: &Path, digest: Digest) -> Result<Vec<u8>, ReadLayoutFault> {
    let bytes = read_file(directory, &blob_name(digest))?;
    let actual = Digest::of(&bytes);
    if actual != digest {
        return Err(ReadLayoutFault::Digest { expected: digest, actual });
    }
    Ok(bytes)
}

pub(crate) fn read_file(directory: &Path, name: &str) -> Result<Vec<u8>, ReadLayoutFault> {
    let mut bytes = Vec::new();
    let path = directory.join(name);
    let mut read = || {
        // Opening a pipe would wait for somebody to write to it.
        if !std::fs::metadata(&path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        File::open(&path)?.take(MAX_JSON + 1).read_to_end(&mut bytes)
    };
    read().map_err(|source| ReadLayoutFault::File { name: name.into(), source })?;
    if bytes.len() as u64 > MAX_JSON {
        return Err(ReadLayoutFault::TooLarge { name: name.into(), limit: MAX_JSON });
    }
    Ok(bytes)
}
