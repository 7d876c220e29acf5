//! Blobs that are fetched once and read more often, and whose reading can be stopped.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ebiko_oci::{BlobOrigin, BlobSource, Descriptor, Layer, PortError, Sha256Hasher};
use ebiko_rootless::Interrupt;

/// The blob of a layer, written to `directory` when it is read for the first time.
///
/// The file is named by its digest, so that a blob that two images share is fetched once.
pub(crate) fn kept(layer: &Layer, directory: &Path) -> Arc<dyn BlobSource> {
    Arc::new(KeptBlob {
        source: Arc::clone(&layer.blob),
        descriptor: layer.descriptor.clone(),
        path: directory.join(layer.descriptor.digest.hex()),
        fetching: Mutex::new(()),
    })
}

/// A blob whose reading fails as soon as the build is asked to stop.
pub(crate) fn interruptible(
    source: &Arc<dyn BlobSource>,
    interrupt: &Arc<Interrupt>,
) -> Arc<dyn BlobSource> {
    Arc::new(Stoppable { source: Arc::clone(source), interrupt: Arc::clone(interrupt) })
}

struct Stoppable<S> {
    source: S,
    interrupt: Arc<Interrupt>,
}

impl BlobSource for Stoppable<Arc<dyn BlobSource>> {
    fn open(&self) -> Result<Box<dyn Read + Send>, PortError> {
        let source = self.source.open()?;
        Ok(Box::new(Stoppable { source, interrupt: Arc::clone(&self.interrupt) }))
    }

    fn origins(&self) -> Vec<BlobOrigin> {
        self.source.origins()
    }
}

impl Read for Stoppable<Box<dyn Read + Send>> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.interrupt.signal() {
            // Not `ErrorKind::Interrupted`, upon which readers try again.
            Some(signal) => Err(io::Error::other(format!("stopped by signal {signal}"))),
            None => self.source.read(buffer),
        }
    }
}

struct KeptBlob {
    source: Arc<dyn BlobSource>,
    descriptor: Descriptor,
    path: PathBuf,
    /// Held while the blob is being fetched, so that a second reader waits and does not fetch too.
    fetching: Mutex<()>,
}

/// A blob is not what its descriptor says.
#[derive(Debug, thiserror::Error)]
enum KeptBlobError {
    #[error("the blob {wanted} has other content: it is {actual} and has {size} bytes")]
    Content { wanted: ebiko_oci::Digest, actual: ebiko_oci::Digest, size: u64 },
    #[error("cannot keep the blob {digest} in `{}`", path.display())]
    Write { digest: ebiko_oci::Digest, path: PathBuf, source: io::Error },
    #[error("cannot read the blob {digest}")]
    Read { digest: ebiko_oci::Digest, source: io::Error },
}

#[expect(clippy::disallowed_methods, reason = "the builder's own directory is on the host")]
impl BlobSource for KeptBlob {
    fn open(&self) -> Result<Box<dyn Read + Send>, PortError> {
        let _alone = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        match File::open(&self.path) {
            Ok(file) => return Ok(Box::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.fetch()?,
            Err(source) => return Err(self.write_error(source).into()),
        }
        Ok(Box::new(File::open(&self.path).map_err(|source| self.write_error(source))?))
    }

    fn origins(&self) -> Vec<BlobOrigin> {
        self.source.origins()
    }
}

#[expect(clippy::disallowed_methods, reason = "the builder's own directory is on the host")]
impl KeptBlob {
    /// Fetches the blob beside its place and moves it there when it has proved to be the right one.
    fn fetch(&self) -> Result<(), PortError> {
        let partial = self.path.with_extension("partial");
        let result = self.fetch_to(&partial).and_then(|()| {
            std::fs::rename(&partial, &self.path).map_err(|source| self.write_error(source).into())
        });
        if result.is_err() {
            // The first error counts; a partial file that cannot be removed goes with its directory.
            drop(std::fs::remove_file(&partial));
        }
        result
    }

    fn fetch_to(&self, partial: &Path) -> Result<(), PortError> {
        let wanted = self.descriptor.digest;
        let mut file = File::create(partial).map_err(|source| self.write_error(source))?;
        let mut source = self.source.open()?.take(self.descriptor.size.saturating_add(1));
        let mut hasher = Sha256Hasher::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut size = 0;
        loop {
            let read = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(KeptBlobError::Read { digest: wanted, source }.into()),
            };
            size += read as u64;
            hasher.update(&buffer[..read]);
            io::Write::write_all(&mut file, &buffer[..read])
                .map_err(|source| self.write_error(source))?;
        }
        let actual = ebiko_oci::Digest::new(hasher.finish());
        if actual != wanted || size != self.descriptor.size {
            return Err(KeptBlobError::Content { wanted, actual, size }.into());
        }
        Ok(())
    }

    fn write_error(&self, source: io::Error) -> KeptBlobError {
        KeptBlobError::Write { digest: self.descriptor.digest, path: self.path.clone(), source }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "looks at what is left on the host")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ebiko_oci::{BytesBlob, DiffId, Digest, ImageFormat, LayerCompression};

    use super::*;

    struct Counted(BytesBlob, AtomicUsize);

    impl BlobSource for Counted {
        fn open(&self) -> Result<Box<dyn Read + Send>, PortError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.open()
        }
    }

    fn layer(content: &[u8], claimed: &[u8]) -> (Layer, Arc<Counted>) {
        let blob = Arc::new(Counted(BytesBlob::new(content), AtomicUsize::new(0)));
        let media_type = ImageFormat::Oci.layer(LayerCompression::None);
        let descriptor = Descriptor::new(media_type, Digest::of(claimed), claimed.len() as u64);
        (Layer { descriptor, diff_id: DiffId::of(claimed), blob: Arc::clone(&blob) as _ }, blob)
    }

    fn read(blob: &dyn BlobSource) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut source = blob.open().map_err(|error| error.to_string())?;
        source.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    #[test]
    fn a_kept_blob_is_fetched_once() {
        let directory = tempfile::tempdir().unwrap();
        let (layer, source) = layer(b"abc", b"abc");
        let blob = kept(&layer, directory.path());
        assert_eq!(read(&*blob).unwrap(), b"abc");
        assert_eq!(read(&*blob).unwrap(), b"abc");
        assert_eq!(source.1.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_blob_with_other_content_is_refused_and_not_kept() {
        for (content, claimed) in [(&b"abd"[..], &b"abc"[..]), (b"abcd", b"abc"), (b"ab", b"abc")] {
            let directory = tempfile::tempdir().unwrap();
            let (layer, _) = layer(content, claimed);
            let error = read(&*kept(&layer, directory.path())).unwrap_err();
            assert!(error.contains("has other content"), "{error}");
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn reading_stops_when_the_build_is_asked_to_stop() {
        let (layer, _) = layer(b"abc", b"abc");
        let interrupt = Arc::new(Interrupt::new().unwrap());
        let blob = interruptible(&layer.blob, &interrupt);
        assert_eq!(read(&*blob).unwrap(), b"abc");
        interrupt.raise(15);
        assert_eq!(read(&*blob).unwrap_err(), "stopped by signal 15");
    }
}
