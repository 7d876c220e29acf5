//! What the build asks of the outside.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use crate::{Descriptor, Digest, Image, ManifestBytes, Platform, Reference};

/// The error of a port: whoever implements it has its own type, and the caller adds what was
/// attempted.
pub type PortError = Box<dyn std::error::Error + Send + Sync>;

/// The bytes of one blob, wherever they are.
///
/// Reading is not verified here: the consumer knows the [`Descriptor`] and
/// checks digest and size while the bytes pass by.
pub trait BlobSource: Send + Sync {
    /// Starts reading from the first byte. Each call reads anew, over the network if need be.
    fn open(&self) -> Result<Box<dyn Read + Send>, PortError>;

    /// Starts reading at `offset`, for who goes on where an earlier reading was of no use. Unless a source knows better,
    /// what comes before is read and dropped.
    fn open_at(&self, offset: u64) -> Result<Box<dyn Read + Send>, PortError> {
        let mut reader = self.open()?;
        let skipped = io::copy(&mut reader.by_ref().take(offset), &mut io::sink())?;
        if skipped < offset {
            return Err(format!("the blob ends after {skipped} bytes, before {offset}").into());
        }
        Ok(reader)
    }

    /// The repositories that have the blob, so that a registry can take it from there without it being sent.
    fn origins(&self) -> Vec<BlobOrigin> {
        Vec::new()
    }
}

/// A repository that has a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobOrigin {
    /// `host[:port]`, as a [`Reference`] has it.
    pub registry: String,
    /// The repository there.
    pub repository: String,
}

/// A blob that is small enough for memory.
#[derive(Clone)]
pub struct BytesBlob(Arc<[u8]>);

impl BytesBlob {
    /// Wraps `bytes`.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }
}

impl BlobSource for BytesBlob {
    fn open(&self) -> Result<Box<dyn Read + Send>, PortError> {
        Ok(Box::new(io::Cursor::new(self.0.clone())))
    }
}

impl fmt::Debug for BytesBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BytesBlob({} bytes)", self.0.len())
    }
}

/// Is told of blobs that an image will have while it is still being built, so that they can be on their way.
///
/// This is an offer and no promise: a build that fails later gives no image, and whoever publishes the image finds out
/// for each blob whether it has arrived.
///
/// Blobs are made one after the other: what [`BlobSink::begin`] announced last is what the next [`BlobSink::offer`] offers, or it
/// will never be complete.
pub trait BlobSink: Sync {
    /// A blob is about to be made. Returns at once and reports nothing.
    fn begin(&self, blob: Arc<dyn GrowingBlob>);

    /// A blob is complete. Returns at once and reports nothing.
    fn offer(&self, descriptor: &Descriptor, blob: &Arc<dyn BlobSource>);
}

/// A blob that is being made.
pub trait GrowingBlob: Send + Sync {
    /// Waits until it has more than `size` bytes; `false` if it has ended and has not.
    fn outgrows(&self, size: u64) -> bool;

    /// Starts reading from the first byte. The reader waits for what is not there yet, ends where the blob ends, and fails
    /// if the blob will never be complete.
    fn follow(&self) -> Box<dyn Read + Send>;
}

/// An image that a name stood for at one moment.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// The image for the platform that was asked for.
    pub image: Image,
    /// The digest behind the name: of the index where there is one, of the manifest otherwise.
    pub digest: Digest,
}

/// Finds images by name.
pub trait ImageSource: Sync {
    /// Looks up `reference` and picks the image for `platform`. Layers are not fetched yet.
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ResolvedImage, PortError>;
}

/// Finds images by name, and tells what a name stands for without looking further: for whoever may have the rest already.
pub trait NameSource: ImageSource {
    /// The manifest or index that `reference` stands for now. Asked for once, whatever is resolved besides.
    fn look_up(&self, reference: &Reference) -> Result<ManifestBytes, LookUpError>;

    /// A blob of the repository of `reference`. Nothing is asked for before it is opened.
    fn blob(&self, reference: &Reference, descriptor: &Descriptor) -> Arc<dyn BlobSource>;
}

/// It cannot be found out what a name stands for.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct LookUpError {
    /// Whether nobody could be asked, so that this says nothing about the name.
    pub is_unreachable: bool,
    /// What happened.
    pub source: PortError,
}

/// Keeps images under keys, for builds that come later, also such that run at the same time somewhere else.
pub trait LayerCache: Sync {
    /// The image under `key`, whose layers can be fetched; `None` if there is none. Layers are not fetched yet.
    ///
    /// Whoever can write to the cache can put anything there: what is found is a claim, of which only the digests of the
    /// blobs are verified when they are read.
    fn find(&self, key: &Digest) -> Result<Option<Image>, PortError>;

    /// Puts `image` under `key`, in the place of what is there. Fails and leaves what was there if a blob cannot be
    /// stored.
    fn keep(&self, key: &Digest, image: &Image) -> Result<(), PortError>;
}
