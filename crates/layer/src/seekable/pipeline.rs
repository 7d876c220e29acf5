//! Compresses the frames of a layer on several threads and keeps them in order.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use ebiko_oci::Digest;
use libdeflater::{CompressionLvl, Compressor};

use super::estargz::Sum;
use super::split::{Framing, Link, split};
use super::table::TableWriter;
use super::unit::{Frame, Item, Unit};
use crate::CompressError;
use crate::compress::BlobSink;

/// Each has a chunk before and after compression, so that more threads would need more memory than a small pod has.
const MOST_THREADS: usize = 4;

/// How frames are compressed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Codec {
    Gzip(i32),
    Zstd(i32),
}

/// Compresses all of `tar` into `sink` and tells `table` of every frame.
pub(super) fn run(
    tar: &mut dyn Read,
    framing: Framing,
    sum: Option<&mut Sum>,
    codec: Codec,
    threads: usize,
    sink: &mut BlobSink<'_>,
    table: &mut TableWriter<'_>,
) -> Result<(), CompressError> {
    let threads = threads.clamp(1, MOST_THREADS);
    let (to_fill, empty) = channel();
    let (full, to_compress) = channel::<Unit>();
    let (to_write, compressed) = channel();
    for _ in 0..threads + 2 {
        let _receiver_is_alive = to_fill.send(Unit::default());
    }
    let to_compress = Mutex::new(to_compress);
    std::thread::scope(|scope| {
        let spawn = |source| CompressError::Thread { source };
        let writer = std::thread::Builder::new()
            .spawn_scoped(scope, move || write_in_order(sink, table, &compressed, &to_fill))
            .map_err(spawn)?;
        let mut workers = Vec::new();
        for _ in 0..threads {
            let (to_compress, to_write) = (&to_compress, to_write.clone());
            match std::thread::Builder::new()
                .spawn_scoped(scope, move || compress_units(to_compress, &to_write, codec))
            {
                Ok(worker) => workers.push(worker),
                Err(source) if workers.is_empty() => return Err(spawn(source)),
                // Fewer threads give the same bytes.
                Err(_) => break,
            }
        }
        drop(to_write);
        let read = split(tar, framing, sum, Link { empty, full });
        let mut ended = Ok(());
        for worker in workers {
            match worker.join() {
                Ok(Ok(())) => {}
                Ok(Err(source)) => ended = Err(CompressError::Write { source }),
                Err(_) => ended = Err(CompressError::Panicked),
            }
        }
        // Why the writer stopped explains why the others could not go on.
        writer.join().map_err(|_| CompressError::Panicked)??;
        ended?;
        read
    })
}

/// What one thread compresses with.
enum Encoder {
    Gzip(Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoder {
    fn new(codec: Codec) -> io::Result<Self> {
        Ok(match codec {
            Codec::Gzip(level) => {
                Self::Gzip(Compressor::new(CompressionLvl::new(level).unwrap_or_default()))
            }
            Codec::Zstd(level) => Self::Zstd(zstd::bulk::Compressor::new(level)?),
        })
    }

    /// Appends a frame and says how long it is.
    fn frame(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
        let start = output.len();
        let bound = match self {
            Self::Gzip(compressor) => compressor.gzip_compress_bound(input.len()),
            Self::Zstd(_) => zstd::zstd_safe::compress_bound(input.len()),
        };
        output.resize(start + bound, 0);
        let length = match self {
            Self::Gzip(compressor) => compressor
                .gzip_compress(input, &mut output[start..])
                .map_err(|error| io::Error::other(error.to_string()))?,
            Self::Zstd(compressor) => compressor.compress_to_buffer(input, &mut output[start..])?,
        };
        output.truncate(start + length);
        Ok(length)
    }
}

fn compress_units(
    to_compress: &Mutex<Receiver<Unit>>,
    to_write: &Sender<Unit>,
    codec: Codec,
) -> io::Result<()> {
    let mut encoder = Encoder::new(codec)?;
    loop {
        let next = to_compress.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut unit) = next else { return Ok(()) };
        let Unit { input, items, output, .. } = &mut unit;
        let mut rest = &input[..];
        for item in items {
            let Item::Frame(Frame { content, length, digest, compressed }) = item else { continue };
            let (frame, behind) = rest.split_at(*length);
            rest = behind;
            *digest = (*content > 0).then(|| Digest::of(&frame[..*content]));
            *compressed = encoder.frame(frame, output)?;
        }
        if to_write.send(unit).is_err() {
            return Ok(());
        }
    }
}

fn write_in_order(
    sink: &mut BlobSink<'_>,
    table: &mut TableWriter<'_>,
    compressed: &Receiver<Unit>,
    to_fill: &Sender<Unit>,
) -> Result<(), CompressError> {
    // Holds no more than there are buffers.
    let mut waiting = BTreeMap::new();
    let mut next = 0;
    for unit in compressed {
        waiting.insert(unit.number, unit);
        while let Some(mut unit) = waiting.remove(&next) {
            table.write(&mut unit, sink)?;
            unit.clear();
            next += 1;
            // Nobody may want it any more.
            let _end_of_stream = to_fill.send(unit);
        }
    }
    Ok(())
}
