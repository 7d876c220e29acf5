//! Blobs: copying them with verification, and reading them from files.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ebiko_oci::{BlobSource, Digest, PortError, Sha256Hasher};

/// Large enough that system calls do not count beside hashing, small enough for any limit.
const BUFFER: usize = 128 * 1024;

/// A blob could not be copied.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum BlobFault {
    #[error("cannot open the blob {digest}")]
    Open { digest: Digest, source: PortError },
    #[error("cannot read the blob {digest}")]
    Read { digest: Digest, source: io::Error },
    #[error("the blob {digest} should have {expected} bytes, and has {actual}")]
    TooShort { digest: Digest, expected: u64, actual: u64 },
    #[error("the blob {digest} should have {expected} bytes, and has more")]
    TooLong { digest: Digest, expected: u64 },
    #[error("the blob {expected} has other content, whose digest is {actual}")]
    Digest { expected: Digest, actual: Digest },
    #[error("cannot write the blob {digest}")]
    Write { digest: Digest, source: io::Error },
}

/// Copies one blob and verifies it on the way.
///
/// # Errors
///
/// Wrong content is known only at the end: `to` has then received all of it, and the caller has to
/// throw it away. It never receives more than `size` bytes.
pub(crate) fn copy_verified(
    digest: Digest,
    size: u64,
    from: &dyn BlobSource,
    to: &mut dyn Write,
) -> Result<(), BlobFault> {
    let mut from = from.open().map_err(|source| BlobFault::Open { digest, source })?;
    let mut hasher = Sha256Hasher::new();
    let mut buffer = vec![0; BUFFER];
    let mut copied = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(BlobFault::Read { digest, source }),
        };
        copied += read.len() as u64;
        if copied > size {
            return Err(BlobFault::TooLong { digest, expected: size });
        }
        hasher.update(read);
        to.write_all(read).map_err(|source| BlobFault::Write { digest, source })?;
    }
    if copied < size {
        return Err(BlobFault::TooShort { digest, expected: size, actual: copied });
    }
    let actual = Digest::new(hasher.finish());
    if actual != digest {
        return Err(BlobFault::Digest { expected: digest, actual });
    }
    Ok(())
}

/// Digest and size of everything that `from` has to give.
pub(crate) fn measure(from: &mut dyn Read) -> io::Result<(Digest, u64)> {
    let mut hasher = Sha256Hasher::new();
    let mut buffer = vec![0; BUFFER];
    let mut size = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok((Digest::new(hasher.finish()), size)),
            Ok(read) => {
                size += read as u64;
                hasher.update(buffer.get(..read).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A part of a file, or all of it, that is a blob.
#[derive(Debug, Clone)]
pub(crate) struct FileBlob {
    path: PathBuf,
    start: u64,
    size: u64,
}

impl FileBlob {
    pub(crate) fn new(path: PathBuf, start: u64, size: u64) -> Self {
        Self { path, start, size }
    }

    pub(crate) fn shared(self) -> Arc<dyn BlobSource> {
        Arc::new(self)
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All bytes, or `None` if there are more than `limit`.
    pub(crate) fn read_at_most(&self, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        self.read()?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= limit))
    }

    pub(crate) fn read(&self) -> io::Result<impl Read + Send + use<>> {
        self.read_at(0)
    }

    fn read_at(&self, offset: u64) -> io::Result<impl Read + Send + use<>> {
        let mut file = File::open(&self.path)?;
        let offset = offset.min(self.size);
        file.seek(SeekFrom::Start(self.start + offset))?;
        Ok(file.take(self.size - offset))
    }
}

impl BlobSource for FileBlob {
    fn open(&self) -> Result<Box<dyn Read + Send>, PortError> {
        let reader =
            self.read().map_err(|source| OpenBlobError { path: self.path.clone(), source });
        Ok(Box::new(reader?))
    }

    fn open_at(&self, offset: u64) -> Result<Box<dyn Read + Send>, PortError> {
        let reader = self.read_at(offset);
        let reader = reader.map_err(|source| OpenBlobError { path: self.path.clone(), source });
        Ok(Box::new(reader?))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot open `{}`", path.display())]
struct OpenBlobError {
    path: PathBuf,
    source: io::Error,
}

/// A blob in a file that is verified while it is read, for readers that would only notice that somebody else refuses it.
#[derive(Debug)]
pub(crate) struct CheckedBlob {
    file: FileBlob,
    digest: Digest,
    size: u64,
}

impl CheckedBlob {
    pub(crate) fn new(file: FileBlob, digest: Digest, size: u64) -> Self {
        Self { file, digest, size }
    }
}

impl BlobSource for CheckedBlob {
    fn open(&self) -> Result<Box<dyn Read + Send>, PortError> {
        Ok(Box::new(Checked {
            input: self.file.open()?,
            path: self.file.path().to_owned(),
            hasher: Sha256Hasher::new(),
            digest: self.digest,
            left: self.size,
        }))
    }
}

struct Checked {
    input: Box<dyn Read + Send>,
    path: PathBuf,
    hasher: Sha256Hasher,
    digest: Digest,
    /// How many bytes are missing.
    left: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot use `{}`", path.display())]
struct CheckError {
    path: PathBuf,
    source: BlobFault,
}

impl Read for Checked {
    /// The last bytes are not given away before they are verified: who knows the size does not ask for more.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.left = self.left.saturating_sub(count as u64);
        if self.left == 0 {
            let actual = Digest::new(self.hasher.clone().finish());
            if actual != self.digest {
                let source = BlobFault::Digest { expected: self.digest, actual };
                let error = CheckError { path: self.path.clone(), source };
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebiko_oci::BytesBlob;

    #[track_caller]
    fn check(content: &[u8], size: u64, expected: &str) {
        let digest = Digest::of(b"content");
        let mut copy = Vec::new();
        let result = copy_verified(digest, size, &BytesBlob::new(content.to_vec()), &mut copy);
        let actual = match result {
            Ok(()) => "copied".to_owned(),
            Err(error) => error.to_string().replace(&digest.to_string(), "X"),
        };
        assert_eq!(actual, expected);
        assert!(copy.len() as u64 <= size, "no more than the promised bytes are written");
    }

    #[test]
    fn a_blob_that_is_what_it_is_called_is_copied() {
        check(b"content", 7, "copied");
    }

    #[test]
    fn a_blob_that_is_something_else_is_refused() {
        check(b"conten", 7, "the blob X should have 7 bytes, and has 6");
        check(b"contents", 7, "the blob X should have 7 bytes, and has more");
        let other = Digest::of(b"CONTENT");
        check(b"CONTENT", 7, &format!("the blob X has other content, whose digest is {other}"));
    }
}
