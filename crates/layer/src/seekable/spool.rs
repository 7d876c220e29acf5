//! Where a table waits until it can be written.

use std::fs::File;
use std::io::{self, BufWriter, Cursor, Read, Seek as _, SeekFrom, Write};
use std::path::Path;

use ebiko_oci::{Digest, Sha256Hasher};

use crate::CompressError;

/// Takes bytes now and gives them back later.
pub(super) struct Spool {
    encoder: Encoder,
    /// How much came in.
    size: u64,
}

enum Encoder {
    Plain(BufWriter<Kept>),
    Zstd(zstd::Encoder<'static, BufWriter<Kept>>),
}

/// What is kept, with its digest.
struct Kept {
    store: Store,
    hasher: Sha256Hasher,
    size: u64,
}

enum Store {
    File(File),
    Memory(Cursor<Vec<u8>>),
}

/// A table that is complete.
pub(super) struct Spooled {
    store: Store,
    /// Of what is kept.
    pub(super) digest: Digest,
    /// How much is kept.
    pub(super) length: u64,
    /// How much it was before it was compressed.
    pub(super) uncompressed: u64,
}

fn scratch(source: io::Error) -> CompressError {
    CompressError::Scratch { source }
}

impl Spool {
    /// Keeps what comes as it is.
    pub(super) fn plain(directory: Option<&Path>) -> Result<Self, CompressError> {
        Ok(Self { encoder: Encoder::Plain(BufWriter::new(Kept::new(directory)?)), size: 0 })
    }

    /// Compresses what comes, at zstd's own default level: sums are most of it, and no level makes them smaller.
    pub(super) fn zstd(directory: Option<&Path>) -> Result<Self, CompressError> {
        let kept = BufWriter::new(Kept::new(directory)?);
        let encoder = zstd::Encoder::new(kept, crate::DEFAULT_ZSTD_LEVEL).map_err(scratch)?;
        Ok(Self { encoder: Encoder::Zstd(encoder), size: 0 })
    }

    /// Adds to it.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), CompressError> {
        self.size += bytes.len() as u64;
        match &mut self.encoder {
            Encoder::Plain(kept) => kept.write_all(bytes),
            Encoder::Zstd(encoder) => encoder.write_all(bytes),
        }
        .map_err(scratch)
    }

    /// Ends it.
    pub(super) fn finish(self) -> Result<Spooled, CompressError> {
        let kept = match self.encoder {
            Encoder::Plain(kept) => kept,
            Encoder::Zstd(encoder) => encoder.finish().map_err(scratch)?,
        };
        let kept = kept.into_inner().map_err(|error| scratch(error.into_error()))?;
        let Kept { mut store, hasher, size } = kept;
        match &mut store {
            Store::File(file) => drop(file.seek(SeekFrom::Start(0)).map_err(scratch)?),
            Store::Memory(memory) => memory.set_position(0),
        }
        let digest = Digest::new(hasher.finish());
        Ok(Spooled { store, digest, length: size, uncompressed: self.size })
    }
}

impl Kept {
    fn new(directory: Option<&Path>) -> Result<Self, CompressError> {
        let store = match directory {
            Some(directory) => Store::File(tempfile::tempfile_in(directory).map_err(scratch)?),
            None => Store::Memory(Cursor::default()),
        };
        Ok(Self { store, hasher: Sha256Hasher::new(), size: 0 })
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = match &mut self.store {
            Store::File(file) => file.write(bytes)?,
            Store::Memory(memory) => memory.write(bytes)?,
        };
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Spooled {
    /// Gives the bytes to `take`, piece by piece and always in the same pieces.
    pub(super) fn copy(
        mut self,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), CompressError> {
        let mut buffer = vec![0; 64 * 1024];
        let mut left = self.length;
        while left > 0 {
            let length = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let piece = &mut buffer[..length];
            match &mut self.store {
                Store::File(file) => file.read_exact(piece),
                Store::Memory(memory) => memory.read_exact(piece),
            }
            .map_err(scratch)?;
            take(piece).map_err(|source| CompressError::Write { source })?;
            left -= length as u64;
        }
        Ok(())
    }
}
