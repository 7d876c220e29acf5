//! Layers of builds that are kept in a directory.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use ebiko_oci::{Digest, Image, ImageIndex, LayerCache, MediaType, PortError};

use crate::layout::{index, write_blobs, write_index};
use crate::read_layout::{ReadLayoutFault, blob_name, find_named, read_index};
use crate::{WriteError, WriteFault};

/// The file whose lock is held by who changes the index.
const LOCK: &str = ".lock";

/// A layer cache in a directory: an OCI layout whose index names each entry by its key.
///
/// Any number of builds may use it at the same time, on one machine or on a file system that has locks for all of them.
#[derive(Debug, Clone)]
pub struct CacheLayout {
    directory: PathBuf,
}

/// An entry cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum CacheError {
    #[error("cannot read from the cache `{}`", path.display())]
    Read { path: PathBuf, source: ReadLayoutFault },
    #[error("the layer {digest} of its entry is no longer in `{}`", path.display())]
    Gone { path: PathBuf, digest: Digest },
}

impl CacheLayout {
    /// The cache in `directory`, which is made when something is kept in it.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn write(&self, key: &Digest, image: &Image) -> Result<(), WriteFault> {
        // A blob has its name since it was complete, and whoever reads it verifies it.
        let is_there = |path: &Path, _, size| {
            fs::symlink_metadata(path).is_ok_and(|file| file.is_file() && file.len() == size)
        };
        write_blobs(&self.directory, image, is_there)?;
        let path = self.directory.join(LOCK);
        let failed = |source| WriteFault::Create { path: path.clone(), source };
        let lock = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        File::lock(&lock).map_err(failed)?;
        let mut entries = match read_index(&self.directory) {
            Ok(index) => index.manifests,
            // Nobody has made one yet, or it cannot be used, and what is lost with it is made again.
            Err(_) => Vec::new(),
        };
        let name = key.hex();
        entries
            .retain(|entry| !entry.annotations.iter().flatten().any(|(_, value)| *value == name));
        entries.extend(index(image, &[&name]).manifests);
        let index = ImageIndex {
            schema_version: 2,
            media_type: Some(MediaType::OciIndex),
            manifests: entries,
            annotations: None,
        };
        write_index(&self.directory, &index)
    }
}

impl LayerCache for CacheLayout {
    fn find(&self, key: &Digest) -> Result<Option<Image>, PortError> {
        let path = self.directory.clone();
        if !path.join("index.json").exists() {
            return Ok(None);
        }
        let found = find_named(&path, &key.hex());
        let Some(image) =
            found.map_err(|source| CacheError::Read { path: path.clone(), source })?
        else {
            return Ok(None);
        };
        for layer in image.layers() {
            let (digest, size) = (layer.descriptor.digest, layer.descriptor.size);
            let file = fs::symlink_metadata(path.join(blob_name(digest)));
            if !file.is_ok_and(|file| file.is_file() && file.len() == size) {
                return Err(CacheError::Gone { path, digest }.into());
            }
        }
        Ok(Some(image))
    }

    fn keep(&self, key: &Digest, image: &Image) -> Result<(), PortError> {
        let failed = |source| WriteError { path: self.directory.clone(), source };
        Ok(self.write(key, image).map_err(failed)?)
    }
}
