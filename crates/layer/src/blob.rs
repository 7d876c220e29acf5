//! A blob in a file on the host.

#![expect(
    clippy::disallowed_methods,
    reason = "a spooled blob is a file of the builder, not of the image"
)]

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use ebiko_oci::{BlobSource, PortError};

/// A blob that was spooled to a file. Each reading opens the file anew.
#[derive(Debug, Clone)]
pub struct FileBlob {
    path: PathBuf,
}

/// The file of a [`FileBlob`] could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the blob `{}`", path.display())]
struct OpenBlobError {
    path: PathBuf,
    source: std::io::Error,
}

impl FileBlob {
    /// The blob in the file at `path`, which must stay as long as this value is used.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl BlobSource for FileBlob {
    fn open(&self) -> Result<Box<dyn Read + Send>, PortError> {
        let file = File::open(&self.path)
            .map_err(|source| OpenBlobError { path: self.path.clone(), source })?;
        Ok(Box::new(file))
    }

    fn open_at(&self, offset: u64) -> Result<Box<dyn Read + Send>, PortError> {
        let error = |source| OpenBlobError { path: self.path.clone(), source };
        let mut file = File::open(&self.path).map_err(error)?;
        file.seek(SeekFrom::Start(offset)).map_err(error)?;
        Ok(Box::new(file))
    }
}
