//! zstd:chunked (pkg/chunked of containers/storage).
//!
//! Each file's content is in zstd frames of its own. At the end are three frames that decompressors skip: the table, tar-split's
//! entries, and a footer that says where both are. Readers of today believe only the annotations; the footer is for tools.

use std::io::{Read, Write};
use std::path::Path;

use super::pipeline::{Codec, run};
use super::split::Framing;
use super::spool::{Spool, Spooled};
use super::table::TableWriter;
use super::tar_split::TarSplit;
use super::{MANIFEST_TYPE, Position, Table};
use crate::CompressError;
use crate::compress::BlobSink;

/// The first of the sixteen numbers that mark a frame to be skipped (RFC 8878, 3.1.2).
const SKIPPABLE: u32 = 0x184d_2a50;

/// Ends the footer.
const MAGIC: &[u8; 8] = b"GNUlInUx";

pub(super) fn write(
    tar: &mut dyn Read,
    sink: &mut BlobSink<'_>,
    level: i32,
    threads: usize,
    scratch: Option<&Path>,
) -> Result<Table, CompressError> {
    let mut tar_split = TarSplit::new(scratch)?;
    let mut table = TableWriter::new(Spool::zstd(scratch)?, Some(&mut tar_split))?;
    run(tar, Framing::Around, None, Codec::Zstd(level), threads, sink, &mut table)?;
    let mut manifest = table.into_toc();
    let tar_split = tar_split.finish()?;
    manifest.write(format!(r#"],"tarSplitDigest":"{}"}}"#, tar_split.digest).as_bytes())?;
    let manifest = manifest.finish()?;
    let (manifest_digest, tar_split_digest) = (manifest.digest, tar_split.digest);
    let manifest = skipped(manifest, sink)?;
    let tar_split = skipped(tar_split, sink)?;
    let mut footer = Vec::with_capacity(64);
    let Position { offset, length, uncompressed } = manifest;
    let numbers = [
        offset,
        length,
        uncompressed,
        MANIFEST_TYPE,
        tar_split.offset,
        tar_split.length,
        tar_split.uncompressed,
    ];
    for number in numbers {
        footer.extend_from_slice(&number.to_le_bytes());
    }
    footer.extend_from_slice(MAGIC);
    begin_skipped(footer.len() as u64, sink)?;
    sink.write_all(&footer).map_err(|source| CompressError::Write { source })?;
    Ok(Table::ZstdChunked { manifest_digest, manifest, tar_split_digest, tar_split })
}

/// Writes a frame to be skipped.
fn skipped(content: Spooled, sink: &mut BlobSink<'_>) -> Result<Position, CompressError> {
    let Spooled { length, uncompressed, .. } = content;
    begin_skipped(length, sink)?;
    let offset = sink.size();
    content.copy(|piece| sink.write_all(piece))?;
    Ok(Position { offset, length, uncompressed })
}

fn begin_skipped(size: u64, sink: &mut BlobSink<'_>) -> Result<(), CompressError> {
    let length = u32::try_from(size).map_err(|_| CompressError::TableSize { size })?;
    let header = [SKIPPABLE.to_le_bytes(), length.to_le_bytes()].concat();
    sink.write_all(&header).map_err(|source| CompressError::Write { source })
}
