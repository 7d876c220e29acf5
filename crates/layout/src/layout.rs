//! Writing OCI layout directories.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use ebiko_oci::{BlobSource, BytesBlob, Descriptor, Digest, Image, ImageIndex, MediaType};

use crate::blob::{copy_verified, measure};
use crate::output::Output;
use crate::{WriteError, WriteFault};

/// The annotation by which tools find an image in a layout.
const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";

/// What the `oci-layout` file says; the only version there is.
const LAYOUT_FILE: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes `image` to the OCI layout `directory`, which is created if it is not there.
///
/// Afterwards the index of the layout names this image and no other: once for each of
/// `reference_names`, or once without a name if there are none, as kaniko does. Other blobs stay;
/// a blob that is already there is verified instead of copied.
///
/// # Errors
///
/// Fails if a blob cannot be read or is not what its digest says, or if writing fails. The index
/// is replaced last and at once, so it then still names what it named before; blobs that were
/// complete stay beside it.
pub fn write_layout(
    directory: &Path,
    image: &Image,
    reference_names: &[&str],
) -> Result<(), WriteError> {
    write(directory, image, reference_names)
        .map_err(|source| WriteError { path: directory.into(), source })
}

fn write(directory: &Path, image: &Image, reference_names: &[&str]) -> Result<(), WriteFault> {
    write_blobs(directory, image, is_stored)?;
    write_index(directory, &index(image, reference_names))
}

/// Writes everything that an image consists of, but those blobs that `is_stored` says are there.
pub(crate) fn write_blobs(
    directory: &Path,
    image: &Image,
    is_stored: impl Fn(&Path, Digest, u64) -> bool,
) -> Result<(), WriteFault> {
    let blobs = directory.join("blobs").join("sha256");
    fs::create_dir_all(&blobs)
        .map_err(|source| WriteFault::Create { path: blobs.clone(), source })?;
    let write_blob = |digest: Digest, size: u64, blob: &dyn BlobSource| {
        let path = blobs.join(digest.hex());
        if is_stored(&path, digest, size) {
            return Ok(());
        }
        let mut output = Output::create(&path)?;
        copy_verified(digest, size, blob, &mut output)?;
        output.finish()
    };
    let write_bytes =
        |bytes: &[u8]| write_blob(Digest::of(bytes), bytes.len() as u64, &BytesBlob::new(bytes));
    let mut written = BTreeSet::new();
    for layer in image.layers() {
        let Descriptor { digest, size, .. } = layer.descriptor;
        if written.insert(digest) {
            write_blob(digest, size, &*layer.blob)?;
        }
    }
    write_bytes(image.config_bytes())?;
    write_bytes(&image.manifest().bytes)
}

/// Replaces the index of a layout, and says that it is one.
pub(crate) fn write_index(directory: &Path, index: &ImageIndex) -> Result<(), WriteFault> {
    write_file(&directory.join("oci-layout"), LAYOUT_FILE)?;
    let path = directory.join("index.json");
    let bytes = serde_json::to_vec(index)
        .map_err(|source| WriteFault::Write { path: path.clone(), source: source.into() })?;
    write_file(&path, &bytes)
}

pub(crate) fn index(image: &Image, reference_names: &[&str]) -> ImageIndex {
    let manifest = image.manifest();
    let size = manifest.bytes.len() as u64;
    let unnamed = Descriptor::new(manifest.media_type.clone(), manifest.digest, size);
    // Two destinations may have one tag, and a name that is there twice finds nothing.
    let mut names: Vec<&str> = Vec::new();
    for &name in reference_names {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let entries = names.into_iter().map(|name| Descriptor {
        annotations: Some(BTreeMap::from([(REFERENCE_NAME.to_owned(), name.to_owned())])),
        ..unnamed.clone()
    });
    let mut manifests: Vec<Descriptor> = entries.collect();
    if manifests.is_empty() {
        manifests.push(unnamed);
    }
    ImageIndex {
        schema_version: 2,
        media_type: Some(MediaType::OciIndex),
        manifests,
        annotations: None,
    }
}

/// Whether the blob is already there. Its name alone is no proof: somebody else may have written it.
fn is_stored(path: &Path, digest: Digest, size: u64) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
        && File::open(path)
            .and_then(|mut file| measure(&mut file))
            .is_ok_and(|measured| measured == (digest, size))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), WriteFault> {
    let mut output = Output::create(path)?;
    output.write_all(bytes).map_err(|source| WriteFault::Write { path: path.into(), source })?;
    output.finish()
}
