//! Base images that are kept on disk for builds to come: the directory of `--cache-dir`, which the warmer fills.
//!
//! ```text
//! <directory>/
//!   sha256:<manifest>/           the image: an OCI layout, as kaniko's warmer leaves it
//!   .warmer-indexes/sha256:<…>   an index that led to an image here, byte for byte
//!   .warmer-records/<…>.json     what a name stood for when it was warmed
//!   .warmer-locks/sha256:<…>.lock
//! ```
//!
//! Images and indexes are named by what they are, and are verified when they are read, so whoever can write to the directory
//! cannot put anything in the place of something else. A record is a claim; it counts only where the registry cannot be asked.

mod record;
mod source;
mod store;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ebiko_oci::{BlobSource, Descriptor, Digest, Image, Manifest, Timestamp};

use crate::read_layout::{ReadLayoutFault, blob_name, read_blob, read_file, read_image};

pub use source::WarmSource;
pub use store::{Refresh, Warmed};

/// Where indexes are kept.
const INDEXES: &str = ".warmer-indexes";
/// Where records are kept.
const RECORDS: &str = ".warmer-records";
/// Where locks are kept; kaniko's name, so that its warmer and this one wait for each other.
const LOCKS: &str = ".warmer-locks";

/// A directory of base images.
#[derive(Debug, Clone)]
pub struct WarmDirectory {
    path: PathBuf,
    freshness: Freshness,
}

/// How old an entry may be, by the time of its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Freshness {
    pub ttl: Duration,
    pub now: Timestamp,
}

impl Freshness {
    fn covers(self, made: Timestamp) -> bool {
        made.plus(self.ttl) >= self.now
    }
}

/// What the directory has of an image, by the looks of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Missing,
    /// A tar, as kaniko's warmer wrote before it wrote layouts.
    Tar,
    Expired,
    Fresh,
}

impl WarmDirectory {
    /// The directory at `path`, which need not be there.
    pub fn new(path: PathBuf, freshness: Freshness) -> Self {
        Self { path, freshness }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn entry(&self, digest: Digest) -> PathBuf {
        self.path.join(digest.to_string())
    }

    fn state(&self, digest: Digest) -> State {
        let Ok(metadata) = fs::metadata(self.entry(digest)) else { return State::Missing };
        if !metadata.is_dir() {
            return State::Tar;
        }
        let nanoseconds = u32::try_from(metadata.mtime_nsec()).unwrap_or(0);
        match Timestamp::new(metadata.mtime(), nanoseconds) {
            Ok(made) if self.freshness.covers(made) => State::Fresh,
            _ => State::Expired,
        }
    }

    /// The image in the entry of `digest`. Manifest and config are verified; of layers it is seen that they are there.
    ///
    /// `blob` is asked for every layer, given the file that should hold it.
    fn open(
        &self,
        digest: Digest,
        mut blob: impl FnMut(PathBuf, &Descriptor) -> Arc<dyn BlobSource>,
    ) -> Result<Image, ReadLayoutFault> {
        let entry = self.entry(digest);
        let bytes = read_blob(&entry, digest)?;
        let name = blob_name(digest);
        let parsed = Manifest::parse(&bytes, None)
            .map_err(|source| ReadLayoutFault::Manifest { name, source })?;
        let image = read_image(&entry, digest, parsed, bytes)?;
        for layer in image.layers() {
            let Descriptor { digest, size: expected, .. } = layer.descriptor;
            let file = fs::metadata(entry.join(blob_name(digest)));
            let file = file.ok().filter(fs::Metadata::is_file);
            let actual = file.ok_or(ReadLayoutFault::Missing { digest })?.len();
            if actual != expected {
                return Err(ReadLayoutFault::Size { digest, expected, actual });
            }
        }
        Ok(image.with_blobs(|layer| {
            blob(entry.join(blob_name(layer.descriptor.digest)), &layer.descriptor)
        }))
    }

    /// An index that led to an image here.
    fn index(&self, digest: Digest) -> Result<Option<Vec<u8>>, ReadLayoutFault> {
        let bytes = match read_file(&self.path.join(INDEXES), &digest.to_string()) {
            Ok(bytes) => bytes,
            Err(ReadLayoutFault::File { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let actual = Digest::of(&bytes);
        if actual != digest {
            return Err(ReadLayoutFault::Digest { expected: digest, actual });
        }
        Ok(Some(bytes))
    }
}
