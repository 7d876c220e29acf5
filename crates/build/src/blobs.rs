//! Blobs that are fetched once and read more often, and whose reading can be stopped.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use ebiko_oci::{BlobOrigin, BlobSource, Descriptor, Digest, Layer, PortError, Sha256Hasher};
use ebiko_rootless::Interrupt;

/// The blob of a layer, written to `directory` while it is read for the first time.
///
/// The file is named by its digest, so that a blob that two images share is fetched once. It is there when the first
/// reader has come to its end and the blob has proved to be the right one; who wants it meanwhile waits.
pub(crate) fn kept(layer: &Layer, directory: &Path) -> Arc<dyn BlobSource> {
    Arc::new(KeptBlob {
        source: Arc::clone(&layer.blob),
        descriptor: layer.descriptor.clone(),
        path: directory.join(layer.descriptor.digest.hex()),
        fetching: Arc::default(),
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

    fn open_at(&self, offset: u64) -> Result<Box<dyn Read + Send>, PortError> {
        let source = self.source.open_at(offset)?;
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
    fetching: Arc<Fetching>,
}

/// Whether somebody is fetching the blob.
#[derive(Default)]
struct Fetching {
    is_under_way: Mutex<bool>,
    ended: Condvar,
}

/// A blob is not what its descriptor says.
#[derive(Debug, thiserror::Error)]
enum KeptBlobError {
    #[error("the blob {wanted} has other content: it is {actual} and has {size} bytes")]
    Content { wanted: Digest, actual: Digest, size: u64 },
    #[error("cannot keep the blob {digest} in `{}`", path.display())]
    Write { digest: Digest, path: PathBuf, source: io::Error },
    #[error("cannot read the blob {digest}")]
    Read { digest: Digest, source: io::Error },
}

#[expect(clippy::disallowed_methods, reason = "the builder's own directory is on the host")]
impl BlobSource for KeptBlob {
    fn open(&self) -> Result<Box<dyn Read + Send>, PortError> {
        let fetching = Arc::clone(&self.fetching);
        let mut is_under_way = fetching.is_under_way();
        while *is_under_way {
            is_under_way =
                fetching.ended.wait(is_under_way).unwrap_or_else(PoisonError::into_inner);
        }
        let write_error = |source| KeptBlobError::Write {
            digest: self.descriptor.digest,
            path: self.path.clone(),
            source,
        };
        match File::open(&self.path) {
            Ok(file) => return Ok(Box::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(write_error(source).into()),
        }
        let input = self.source.open()?;
        let partial = self.path.with_extension("partial");
        let file = File::create(&partial).map_err(write_error)?;
        *is_under_way = true;
        Ok(Box::new(Fetch {
            input,
            file,
            partial,
            path: self.path.clone(),
            hasher: Sha256Hasher::new(),
            digest: self.descriptor.digest,
            expected: self.descriptor.size,
            size: 0,
            is_complete: false,
            fetching: Arc::clone(&self.fetching),
        }))
    }

    fn origins(&self) -> Vec<BlobOrigin> {
        self.source.origins()
    }
}

impl Fetching {
    fn is_under_way(&self) -> std::sync::MutexGuard<'_, bool> {
        self.is_under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a blob and writes it beside its place; moves it there when it has proved to be the right one. Dropped before, it
/// leaves nothing.
struct Fetch {
    input: Box<dyn Read + Send>,
    file: File,
    partial: PathBuf,
    path: PathBuf,
    hasher: Sha256Hasher,
    digest: Digest,
    expected: u64,
    size: u64,
    is_complete: bool,
    fetching: Arc<Fetching>,
}

impl Read for Fetch {
    /// The last bytes are given away when they are verified and kept.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_complete || buffer.is_empty() {
            return Ok(0);
        }
        let count = match self.input.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            other => other.map_err(|source| {
                io::Error::other(KeptBlobError::Read { digest: self.digest, source })
            })?,
        };
        let bytes = &buffer[..count];
        self.hasher.update(bytes);
        self.size += count as u64;
        if self.size <= self.expected {
            self.file.write_all(bytes).map_err(|source| self.write_error(source))?;
        }
        if count == 0 || self.size >= self.expected {
            self.finish()?;
        }
        Ok(count)
    }
}

#[expect(clippy::disallowed_methods, reason = "the builder's own directory is on the host")]
impl Fetch {
    fn finish(&mut self) -> io::Result<()> {
        let (wanted, size) = (self.digest, self.size);
        let actual = Digest::new(self.hasher.clone().finish());
        if actual != wanted || size != self.expected {
            return Err(io::Error::other(KeptBlobError::Content { wanted, actual, size }));
        }
        std::fs::rename(&self.partial, &self.path).map_err(|source| self.write_error(source))?;
        self.is_complete = true;
        self.end();
        Ok(())
    }

    fn end(&self) {
        *self.fetching.is_under_way() = false;
        self.fetching.ended.notify_all();
    }

    fn write_error(&self, source: io::Error) -> io::Error {
        let (digest, path) = (self.digest, self.path.clone());
        let kind = source.kind();
        io::Error::new(kind, KeptBlobError::Write { digest, path, source })
    }
}

#[expect(clippy::disallowed_methods, reason = "the builder's own directory is on the host")]
impl Drop for Fetch {
    fn drop(&mut self) {
        if !self.is_complete {
            // A partial file that cannot be removed goes with its directory.
            drop(std::fs::remove_file(&self.partial));
            self.end();
        }
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
    fn a_blob_can_be_used_while_it_is_being_fetched_and_is_kept_at_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let (layer, source) = layer(&content, &content);
        let blob = kept(&layer, directory.path());
        let mut first = blob.open().unwrap();
        let mut start = [0; 1000];
        first.read_exact(&mut start).unwrap();
        assert_eq!(start, content[..1000], "before all of it is there");
        let second = std::thread::scope(|scope| {
            let second = scope.spawn(|| read(&*blob));
            let mut rest = vec![0; content.len() - 1000];
            first.read_exact(&mut rest).unwrap();
            assert!(rest == content[1000..]);
            second.join().unwrap()
        });
        assert!(second.unwrap() == content);
        assert_eq!(source.1.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_blob_whose_first_reader_gives_up_is_fetched_again() {
        let directory = tempfile::tempdir().unwrap();
        let (layer, source) = layer(b"abc", b"abc");
        let blob = kept(&layer, directory.path());
        let mut first = blob.open().unwrap();
        first.read_exact(&mut [0]).unwrap();
        drop(first);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert_eq!(read(&*blob).unwrap(), b"abc");
        assert_eq!(source.1.load(Ordering::Relaxed), 2);
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
