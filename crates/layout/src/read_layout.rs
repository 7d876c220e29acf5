//! Reading OCI layout directories.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ebiko_oci::{
    Descriptor, Digest, Image, ImageError, Manifest, ManifestBytes, ManifestError, MediaType,
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
    #[error("its parts do not belong together")]
    Image { source: ImageError },
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

fn read(directory: &Path) -> Result<Image, ReadLayoutFault> {
    let marker: Marker = serde_json::from_slice(&read_file(directory, "oci-layout")?)
        .map_err(|source| ReadLayoutFault::Marker { source })?;
    if marker.image_layout_version != "1.0.0" {
        return Err(ReadLayoutFault::Version { version: marker.image_layout_version });
    }
    let name = "index.json";
    let index = Manifest::parse(&read_file(directory, name)?, Some(&MediaType::OciIndex))
        .map_err(|source| ReadLayoutFault::Manifest { name: name.into(), source })?;
    let Manifest::Index(index) = index else { return Err(ReadLayoutFault::NotAnIndex) };
    let digests: BTreeSet<Digest> =
        index.manifests.iter().map(|descriptor| descriptor.digest).collect();
    let (Some(descriptor), 1) = (index.manifests.first(), digests.len()) else {
        return Err(ReadLayoutFault::NotOne { count: digests.len() });
    };
    let manifest = ManifestBytes {
        media_type: descriptor.media_type.clone(),
        bytes: read_blob(directory, descriptor.digest)?,
        digest: descriptor.digest,
    };
    let parsed = Manifest::parse(&manifest.bytes, Some(&manifest.media_type))
        .map_err(|source| ReadLayoutFault::Manifest { name: blob_name(manifest.digest), source })?;
    let Manifest::Image(parsed) = parsed else {
        return Err(ReadLayoutFault::Image { source: ImageError::IsIndex });
    };
    let config = read_blob(directory, parsed.config.digest)?;
    Image::received(manifest, config, |Descriptor { digest, size, .. }| {
        // One byte more than promised, so that a longer file is noticed.
        let path = directory.join(blob_name(*digest));
        FileBlob::new(path, 0, size.saturating_add(1)).shared()
    })
    .map_err(|source| ReadLayoutFault::Image { source })
}

/// A digest is 64 hexadecimal digits, so this stays in the layout.
fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn read_blob(directory: &Path, digest: Digest) -> Result<Vec<u8>, ReadLayoutFault> {
    let bytes = read_file(directory, &blob_name(digest))?;
    let actual = Digest::of(&bytes);
    if actual != digest {
        return Err(ReadLayoutFault::Digest { expected: digest, actual });
    }
    Ok(bytes)
}

fn read_file(directory: &Path, name: &str) -> Result<Vec<u8>, ReadLayoutFault> {
    let mut bytes = Vec::new();
    File::open(directory.join(name))
        .and_then(|file| file.take(MAX_JSON + 1).read_to_end(&mut bytes))
        .map_err(|source| ReadLayoutFault::File { name: name.into(), source })?;
    if bytes.len() as u64 > MAX_JSON {
        return Err(ReadLayoutFault::TooLarge { name: name.into(), limit: MAX_JSON });
    }
    Ok(bytes)
}
