//! From a blob to the tar stream inside, verified and within limits.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use ebiko_oci::{DiffId, Digest, Layer, PortError, Sha256Hasher};

use crate::{Limit, Limits};

/// How much is read ahead, in pieces of [`PIECE`] bytes.
const PIECES: usize = 8;
const PIECE: usize = 256 * 1024;

/// A blob did not give the tar stream that was promised.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum SourceError {
    #[error("cannot open the blob")]
    Open { source: PortError },
    #[error("cannot read the blob")]
    Read { source: io::Error },
    #[error("cannot decompress the blob")]
    Decompress { source: io::Error },
    #[error("the blob has more than the {expected} bytes that the manifest promises")]
    TooLong { expected: u64 },
    #[error("the blob has {actual} bytes, and the manifest promises {expected}")]
    Size { expected: u64, actual: u64 },
    #[error("the digest of the blob is {actual}, and the manifest promises {expected}")]
    Digest { expected: Digest, actual: Digest },
    #[error("the diff id of the layer is {actual}, and the image config promises {expected}")]
    DiffId { expected: DiffId, actual: DiffId },
    #[error("more than {limit} {what}")]
    Limit { what: Limit, limit: u64 },
    #[error("cannot start a thread to decompress")]
    Thread { source: io::Error },
    #[error("the thread that decompressed panicked")]
    Panicked,
}

/// How a stream is compressed, by its first bytes. What a manifest says of it is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Plain,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Encoding {
    pub(crate) fn sniff(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // A skippable frame may come first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// Windows above 128 MiB are refused: a decoder must hold a window in memory.
const ZSTD_WINDOW_LOG: u32 = 27;
const XZ_MEMORY: u64 = 128 << 20;

/// The stream inside `input`: all members of gzip and bzip2, all frames of zstd, all streams of xz.
pub(crate) fn decoder<'a, R: Read + 'a>(input: R) -> io::Result<Box<dyn Read + 'a>> {
    let mut input = BufReader::with_capacity(128 * 1024, StartFirst::new(input)?);
    let encoding = Encoding::sniff(input.fill_buf()?);
    Ok(match encoding {
        Encoding::Plain => Box::new(input),
        Encoding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Encoding::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Encoding::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(
                XZ_MEMORY,
                liblzma::stream::CONCATENATED,
            )
            .map_err(io::Error::from)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }
        Encoding::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// Gives the first six bytes in one piece, however they arrive.
struct StartFirst<R> {
    start: Vec<u8>,
    input: R,
}

impl<R: Read> StartFirst<R> {
    fn new(mut input: R) -> io::Result<Self> {
        let mut start = Vec::with_capacity(6);
        (&mut input).take(6).read_to_end(&mut start)?;
        Ok(Self { start, input })
    }
}

impl<R: Read> Read for StartFirst<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.start.is_empty() || buffer.len() < self.start.len() {
            let count = self.start.len().min(buffer.len());
            if count > 0 {
                buffer[..count].copy_from_slice(&self.start[..count]);
                self.start.drain(..count);
                return Ok(count);
            }
            return self.input.read(buffer);
        }
        let count = self.start.len();
        buffer[..count].copy_from_slice(&self.start);
        self.start.clear();
        Ok(count)
    }
}

/// Reads a blob, sums it, and stops where it is longer than promised.
struct VerifiedBlob {
    input: Box<dyn Read + Send>,
    hasher: Sha256Hasher,
    size: u64,
    expected: u64,
    /// Why reading failed, which a decoder would not pass on.
    error: Option<SourceError>,
}

impl Read for VerifiedBlob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.input.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(source) => {
                let kind = source.kind();
                self.error = Some(SourceError::Read { source });
                return Err(kind.into());
            }
        };
        self.size += count as u64;
        if self.size > self.expected {
            self.error = Some(SourceError::TooLong { expected: self.expected });
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// The tar stream of a layer, decompressed and verified by a thread of its own.
///
/// What it yields before its end is not verified: only [`LayerStream::finish`] says whether it was the right stream.
pub(crate) struct LayerStream<'scope> {
    pieces: Receiver<Vec<u8>>,
    current: Vec<u8>,
    read: usize,
    /// Sums the stream here and not in the thread, which has more to do: it sums the blob and decompresses it.
    hasher: Sha256Hasher,
    diff_id: DiffId,
    thread: ScopedJoinHandle<'scope, Result<Streamed, SourceError>>,
}

/// What came out of a blob.
#[derive(Debug)]
pub(crate) struct Streamed {
    /// Bytes of the tar stream.
    pub(crate) size: u64,
    /// The stream, if it was to be kept and could be.
    pub(crate) kept: Option<File>,
}

impl<'scope> LayerStream<'scope> {
    pub(crate) fn open<'env>(
        scope: &'scope Scope<'scope, 'env>,
        layer: &'env Layer,
        limits: &'env Limits,
        keep: Option<File>,
    ) -> Result<Self, SourceError> {
        let (sender, pieces) = sync_channel(PIECES);
        let thread = std::thread::Builder::new()
            .spawn_scoped(scope, move || pump(layer, limits, keep, &sender))
            .map_err(|source| SourceError::Thread { source })?;
        let hasher = Sha256Hasher::new();
        let diff_id = layer.diff_id;
        Ok(Self { pieces, current: Vec::new(), read: 0, hasher, diff_id, thread })
    }

    /// Reads what nobody wanted, and says whether blob and stream are the promised ones.
    pub(crate) fn finish(mut self) -> Result<Streamed, SourceError> {
        for rest in &self.pieces {
            self.hasher.update(&rest);
        }
        let streamed = self.thread.join().unwrap_or(Err(SourceError::Panicked))?;
        let (expected, actual) = (self.diff_id, DiffId::new(self.hasher.finish()));
        if actual != expected {
            return Err(SourceError::DiffId { expected, actual });
        }
        Ok(streamed)
    }

    /// Why the stream ended early, or `Ok` if the reader gave up without such a reason.
    pub(crate) fn abandon(self) -> Result<(), SourceError> {
        drop(self.pieces);
        self.thread.join().unwrap_or(Err(SourceError::Panicked)).map(|_streamed| ())
    }
}

impl Read for LayerStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.current.len() {
            let Ok(piece) = self.pieces.recv() else { return Ok(0) };
            self.hasher.update(&piece);
            self.current = piece;
            self.read = 0;
        }
        let count = buffer.len().min(self.current.len() - self.read);
        buffer[..count].copy_from_slice(&self.current[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

/// Reads the whole blob and sends the stream inside, until the other side hangs up.
fn pump(
    layer: &Layer,
    limits: &Limits,
    mut keep: Option<File>,
    sender: &SyncSender<Vec<u8>>,
) -> Result<Streamed, SourceError> {
    let input = layer.blob.open().map_err(|source| SourceError::Open { source })?;
    let expected = layer.descriptor.size;
    let mut blob =
        VerifiedBlob { input, hasher: Sha256Hasher::new(), size: 0, expected, error: None };
    let mut size = 0;
    let result = pump_stream(&mut blob, limits, expected, &mut |piece| {
        size += piece.len() as u64;
        // Whoever wants the stream again reads the blob again where this disk cannot hold it.
        keep = keep.take().filter(|mut file| file.write_all(&piece).is_ok());
        sender.send(piece).is_ok()
    });
    if let Some(error) = blob.error.take() {
        return Err(error);
    }
    if matches!(result, Ok(false)) {
        return Ok(Streamed { size, kept: None });
    }
    if let Err(error @ SourceError::Limit { .. }) = result {
        return Err(error);
    }
    // A decoder stops where its format ends or is violated. The blob goes on; and if it is not the promised one, that
    // explains what the decoder did not understand.
    let rest = io::copy(&mut blob, &mut io::sink());
    if let Some(error) = blob.error.take() {
        return Err(error);
    }
    rest.map_err(|source| SourceError::Read { source })?;
    if blob.size != expected {
        return Err(SourceError::Size { expected, actual: blob.size });
    }
    let digest = Digest::new(blob.hasher.finish());
    if digest != layer.descriptor.digest {
        return Err(SourceError::Digest { expected: layer.descriptor.digest, actual: digest });
    }
    result?;
    Ok(Streamed { size, kept: keep })
}

/// Sends piece after piece; `false` if the other side hung up.
fn pump_stream(
    blob: &mut VerifiedBlob,
    limits: &Limits,
    blob_size: u64,
    send: &mut dyn FnMut(Vec<u8>) -> bool,
) -> Result<bool, SourceError> {
    let decompress = |source| SourceError::Decompress { source };
    let mut decoder = decoder(blob).map_err(decompress)?;
    let mut size = 0_u64;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let count =
            (&mut decoder).take(PIECE as u64).read_to_end(&mut piece).map_err(decompress)?;
        if count == 0 {
            return Ok(true);
        }
        size += count as u64;
        if let Some((what, limit)) = limits.reached(size, blob_size) {
            return Err(SourceError::Limit { what, limit });
        }
        if !send(piece) {
            return Ok(false);
        }
    }
}
