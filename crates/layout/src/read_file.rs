//! Reading what somebody else wrote, with everything beneath it: docker archives, OCI layouts, and archives of layouts.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ebiko_oci::{
    BlobSource, Descriptor, Digest, Image, ImageIndex, ImageTree, ManifestBytes, TreeError,
    TreeSource,
};

use crate::blob::{CheckedBlob, FileBlob};
use crate::read_archive::{MAX_JSON, ReadArchiveFault, read_from};
use crate::read_layout::{
    ReadLayoutFault, blob_name, index_of, only_entry, read_file as read_in_directory,
};
use crate::tar_index::{TarFault, TarIndex};

/// What a path holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFileKind {
    /// A tar as `docker save` writes it.
    DockerArchive,
    /// A directory with an OCI layout.
    Layout,
    /// A tar of an OCI layout.
    LayoutArchive,
}

/// A path could not be read as an image.
#[derive(Debug, thiserror::Error)]
#[error("cannot read an image from `{}`", path.display())]
#[expect(missing_docs, reason = "the message names every field")]
pub struct ReadFileError {
    pub path: PathBuf,
    pub source: ReadFileFault,
}

/// Why a [`ReadFileError`] happened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ReadFileFault {
    #[error("cannot look at it")]
    Look { source: io::Error },
    #[error("it is neither a file nor a directory")]
    Neither,
    #[error(
        "it is a tar with neither `manifest.json` nor `oci-layout` in it: neither an archive of docker nor one of an OCI layout"
    )]
    Unknown,
    #[error(transparent)]
    Archive(ReadArchiveFault),
    #[error(transparent)]
    Layout(ReadLayoutFault),
}

/// Finds the one image, or the one index of images, that `path` holds, with everything beneath it, and in a layout with what
/// is about it.
///
/// What an OCI layout holds keeps its digest. A docker archive stores no manifest, so its image gets one of Docker's kind, with
/// the layers as they are. A tar that is both, as newer versions of Docker write it, is read as a docker archive: its index
/// may list platforms that it does not hold.
///
/// Manifests are verified now, blobs while they are read, and they are read from the path, which has to stay as it is. That
/// they are there and how large they are is looked at now.
///
/// # Errors
///
/// Fails if the path holds none of these, or more than one image.
pub fn read_image_file(path: &Path) -> Result<(ImageFileKind, ImageTree), ReadFileError> {
    read(path).map_err(|source| ReadFileError { path: path.into(), source })
}

fn read(path: &Path) -> Result<(ImageFileKind, ImageTree), ReadFileFault> {
    let metadata = fs::metadata(path).map_err(|source| ReadFileFault::Look { source })?;
    if metadata.is_dir() {
        let tree = read_tree(&Directory(path)).map_err(ReadFileFault::Layout)?;
        return Ok((ImageFileKind::Layout, tree));
    }
    if !metadata.is_file() {
        return Err(ReadFileFault::Neither);
    }
    let tar = |fault: TarFault| ReadFileFault::Archive(fault.into());
    let index = TarIndex::read(path).map_err(tar)?;
    if index.file("manifest.json").is_some() {
        let image = read_from(path, &index).map_err(ReadFileFault::Archive)?;
        return Ok((ImageFileKind::DockerArchive, of_image(&image)?));
    }
    if index.file("oci-layout").is_some() {
        let tree = read_tree(&index).map_err(ReadFileFault::Layout)?;
        return Ok((ImageFileKind::LayoutArchive, tree));
    }
    Err(ReadFileFault::Unknown)
}

/// The tree of an image that is wholly known.
fn of_image(image: &Image) -> Result<ImageTree, ReadFileFault> {
    struct Parts<'i>(&'i Image);
    impl TreeSource for Parts<'_> {
        type Error = ReadLayoutFault;

        fn manifest(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, ReadLayoutFault> {
            Err(ReadLayoutFault::Missing { digest: descriptor.digest })
        }

        fn blob(
            &mut self,
            descriptor: &Descriptor,
        ) -> Result<Arc<dyn BlobSource>, ReadLayoutFault> {
            let Self(image) = self;
            if descriptor.digest == image.config_digest() {
                return Ok(Arc::new(ebiko_oci::BytesBlob::new(image.config_bytes())));
            }
            let mut layers = image.layers().iter();
            let layer = layers.find(|layer| layer.descriptor.digest == descriptor.digest);
            let missing = ReadLayoutFault::Missing { digest: descriptor.digest };
            layer.map(|layer| Arc::clone(&layer.blob)).ok_or(missing)
        }
    }
    let root = image.manifest().clone();
    ImageTree::collect(root, &mut Parts(image)).map_err(ReadFileFault::Layout)
}

/// The files of an OCI layout, wherever they are.
trait LayoutFiles {
    /// A small file.
    fn read(&self, name: &str) -> Result<Vec<u8>, ReadLayoutFault>;

    /// A blob and its size; `None` if it is not there.
    fn find(&self, name: &str) -> Option<(FileBlob, u64)>;
}

struct Directory<'p>(&'p Path);

impl LayoutFiles for Directory<'_> {
    fn read(&self, name: &str) -> Result<Vec<u8>, ReadLayoutFault> {
        read_in_directory(self.0, name)
    }

    fn find(&self, name: &str) -> Option<(FileBlob, u64)> {
        let path = self.0.join(name);
        let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        Some((FileBlob::new(path, 0, metadata.len()), metadata.len()))
    }
}

impl LayoutFiles for TarIndex {
    fn read(&self, name: &str) -> Result<Vec<u8>, ReadLayoutFault> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "it is not in the archive");
        let bytes = self
            .file(name)
            .ok_or_else(missing)
            .and_then(|blob| blob.read_at_most(MAX_JSON))
            .map_err(|source| ReadLayoutFault::File { name: name.into(), source })?;
        bytes.ok_or_else(|| ReadLayoutFault::TooLarge { name: name.into(), limit: MAX_JSON })
    }

    fn find(&self, name: &str) -> Option<(FileBlob, u64)> {
        let blob = self.file(name)?;
        let size = blob.size();
        Some((blob, size))
    }
}

/// The image or index of a layout, and what else is listed there because it is about it.
fn read_tree(files: &dyn LayoutFiles) -> Result<ImageTree, ReadLayoutFault> {
    let index = index_of(|name| files.read(name))?;
    let mut parts = Parts(files);
    let (root, mut about) = sort_entries(&index, &mut parts)?;
    let mut tree = ImageTree::collect(parts.whole(root)?, &mut parts)?;
    while !about.is_empty() {
        // A signature may be about a document that is listed after it.
        let next = about.iter().position(|(_, subject)| tree.has(*subject));
        let (entry, _) = about.remove(next.unwrap_or(0));
        tree.add_referrer(entry, &mut parts)?;
    }
    Ok(tree)
}

/// Entries that are about something, each with the digest of what that is.
type About<'i> = Vec<(&'i Descriptor, Digest)>;

/// Tells the one image from what is about others; what is alone in a layout is what is wanted, whatever it is.
fn sort_entries<'i>(
    index: &'i ImageIndex,
    parts: &mut Parts<'_>,
) -> Result<(&'i Descriptor, About<'i>), ReadLayoutFault> {
    if let Ok(only) = only_entry(index) {
        return Ok((only, Vec::new()));
    }
    let (mut images, mut about) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for entry in index.manifests.iter().filter(|entry| seen.insert(entry.digest)) {
        let subject = parts.whole(entry)?.subject().map_err(|source| {
            ReadLayoutFault::Manifest { name: blob_name(entry.digest), source }
        })?;
        match subject {
            Some(subject) => about.push((entry, subject)),
            None => images.push(entry),
        }
    }
    match images[..] {
        [image] => Ok((image, about)),
        [] => Err(ReadLayoutFault::NotOne { count: about.len() }),
        _ => Err(ReadLayoutFault::NotOne { count: images.len() }),
    }
}

struct Parts<'f>(&'f dyn LayoutFiles);

impl Parts<'_> {
    /// A manifest with what it is called.
    fn whole(&mut self, entry: &Descriptor) -> Result<ManifestBytes, ReadLayoutFault> {
        let bytes = self.manifest(entry)?;
        Ok(ManifestBytes { media_type: entry.media_type.clone(), bytes, digest: entry.digest })
    }
}

impl TreeSource for Parts<'_> {
    type Error = ReadLayoutFault;

    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, ReadLayoutFault> {
        let expected = descriptor.digest;
        let name = blob_name(expected);
        if self.0.find(&name).is_none() {
            return Err(ReadLayoutFault::Missing { digest: expected });
        }
        let bytes = self.0.read(&name)?;
        let actual = Digest::of(&bytes);
        if actual != expected {
            return Err(ReadLayoutFault::Digest { expected, actual });
        }
        Ok(bytes)
    }

    fn blob(&mut self, descriptor: &Descriptor) -> Result<Arc<dyn BlobSource>, ReadLayoutFault> {
        let Descriptor { digest, size, .. } = *descriptor;
        let found = self.0.find(&blob_name(digest));
        let (file, actual) = found.ok_or(ReadLayoutFault::Missing { digest })?;
        if actual != size {
            return Err(ReadLayoutFault::Size { digest, expected: size, actual });
        }
        Ok(Arc::new(CheckedBlob::new(file, digest, size)))
    }
}

impl From<TreeError> for ReadLayoutFault {
    fn from(source: TreeError) -> Self {
        Self::Tree { source }
    }
}
