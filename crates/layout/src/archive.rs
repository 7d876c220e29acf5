//! Writing docker-archive tars, which `docker load` and skopeo read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use ebiko_oci::{
    BytesBlob, Descriptor, DiffId, Digest, Image, LayerCompression, MediaType, Reference,
};
use serde::Serialize;

use crate::blob::copy_verified;
use crate::output::Output;
use crate::{WriteError, WriteFault};

/// Writes `image` to `path` as `docker save` would, with the tags of `names` as its names.
///
/// Layers are stored as they are in the registry, `<digest>.tar.gz` for a gzip layer; `docker
/// load` and skopeo accept that and save themselves the compression. A name without a tag
/// (`name@sha256:…`) is not a name that the format can hold and is left out.
///
/// The bytes depend on the image and the names only. The file appears when it is complete; a
/// `path` that is not a regular file, such as `/dev/stdout`, is written as the bytes come.
///
/// # Errors
///
/// Fails if a blob cannot be read or is not what its digest says, or if writing fails. Nothing is
/// left behind, and an archive that was there before is still there.
pub fn write_archive(path: &Path, image: &Image, names: &[Reference]) -> Result<(), WriteError> {
    write(path, image, names).map_err(|source| WriteError { path: path.into(), source })
}

/// One element of `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    /// Where layers that must not be distributed come from.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    layer_sources: BTreeMap<DiffId, Descriptor>,
}

fn write(path: &Path, image: &Image, names: &[Reference]) -> Result<(), WriteFault> {
    let fail = |source| WriteFault::Write { path: path.into(), source };
    let entry = Entry {
        // With its colon the name is odd for a file, but it is what kaniko's archives have.
        config: image.config_digest().to_string(),
        repo_tags: tags(names),
        layers: image.layers().iter().map(|layer| file_name(&layer.descriptor)).collect(),
        layer_sources: image
            .layers()
            .iter()
            .filter(|layer| matches!(layer.descriptor.media_type, MediaType::ForeignLayer(_)))
            .map(|layer| (layer.diff_id, layer.descriptor.clone()))
            .collect(),
    };
    let manifest = serde_json::to_vec(&[&entry]).map_err(|error| fail(error.into()))?;

    let mut output = BufWriter::with_capacity(128 * 1024, Output::create(path)?);
    write_bytes(&mut output, &entry.config, image.config_bytes())?;
    let mut written = BTreeSet::new();
    for layer in image.layers() {
        let Descriptor { digest, size, .. } = layer.descriptor;
        if written.insert(digest) {
            let name = file_name(&layer.descriptor);
            write_member(&mut output, &name, digest, size, &*layer.blob)?;
        }
    }
    write_bytes(&mut output, "manifest.json", &manifest)?;
    // Two empty blocks end a tar.
    output.write_all(&[0; 2 * BLOCK]).map_err(fail)?;
    output.into_inner().map_err(|error| fail(error.into_error()))?.finish()
}

/// The tags in the form in which Docker shows them, each once and in order.
///
/// Without any the list is absent and not empty: so does `docker save` for an image without name.
fn tags(names: &[Reference]) -> Option<Vec<String>> {
    let mut tags: Vec<String> = Vec::new();
    for name in names.iter().filter(|name| name.tag().is_some()) {
        let familiar = name.familiar();
        let tag = familiar.split_once('@').map_or(familiar.as_str(), |(tag, _)| tag);
        if !tags.iter().any(|known| known == tag) {
            tags.push(tag.to_owned());
        }
    }
    (!tags.is_empty()).then_some(tags)
}

/// Without the algorithm: GNU tar takes a name with a colon for another machine's.
fn file_name(layer: &Descriptor) -> String {
    let extension = match layer.media_type {
        MediaType::OciLayer(LayerCompression::None)
        | MediaType::DockerLayer(LayerCompression::None) => "tar",
        MediaType::OciLayer(LayerCompression::Zstd)
        | MediaType::DockerLayer(LayerCompression::Zstd) => "tar.zst",
        _ => "tar.gz",
    };
    format!("{}.{extension}", layer.digest.hex())
}

const BLOCK: usize = 512;

fn write_bytes(output: &mut dyn Write, name: &str, bytes: &[u8]) -> Result<(), WriteFault> {
    let blob = BytesBlob::new(bytes);
    write_member(output, name, Digest::of(bytes), bytes.len() as u64, &blob)
}

fn write_member(
    output: &mut dyn Write,
    name: &str,
    digest: Digest,
    size: u64,
    blob: &dyn ebiko_oci::BlobSource,
) -> Result<(), WriteFault> {
    let fail = |source| WriteFault::Write { path: name.into(), source };
    let header = header(name, size).map_err(fail)?;
    output.write_all(header.as_bytes()).map_err(fail)?;
    copy_verified(digest, size, blob, output)?;
    let padding = size.next_multiple_of(BLOCK as u64) - size;
    io::copy(&mut io::Read::take(io::repeat(0), padding), output).map_err(fail)?;
    Ok(())
}

/// Owner, time and permissions are the same for every member of every archive.
fn header(name: &str, size: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}
