//! Layers in which every file can be read on its own: eStargz and zstd:chunked.
//!
//! Both are ordinary gzip and zstd to a reader that knows no better. The content of each file begins a gzip member or a
//! zstd frame of its own (of each chunk of [`CHUNK`] bytes, where it is longer), and a table of contents at the end of the
//! blob says where; annotations of the layer's descriptor say where the table is and what its digest is.
//!
//! # Guarantees
//!
//! - The bytes depend on the tar stream, the format and the level only.
//! - A zstd:chunked blob decompresses to the tar stream that went in. An eStargz blob has two more members, which its format
//!   wants: an empty landmark in front and the table at the end.
//! - What the table cannot say is an error, never a table that says something else.
//! - Memory does not grow with the number of files: the table waits in a file ([`spool`]). Of one file it grows by 48 bytes
//!   for each chunk, because the digest of the whole comes first in the table.
//!
//! # Reading order
//!
//! [`split`] cuts the tar stream into frames, [`pipeline`] compresses them on several threads, [`table`] turns what comes out
//! into entries; [`estargz`] and [`zstd_chunked`] end the blob.

mod crc64;
mod estargz;
mod pipeline;
mod split;
mod spool;
mod table;
mod tar_split;
mod unit;
mod zstd_chunked;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use ebiko_oci::{DiffId, Digest};

use crate::CompressError;
use crate::compress::BlobSink;

/// How much of a file is in one piece at most. eStargz' own tools cut there too.
const CHUNK: usize = 4 << 20;

/// A format with a table of files, and the level of its compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Estargz { level: i32 },
    ZstdChunked { level: i32 },
}

/// What the descriptor of a seekable layer must say, so that readers find the table and can trust it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// The table is a member of the tar stream, which therefore is another one than that which was compressed.
    Estargz {
        /// Of the table, not compressed.
        digest: Digest,
        /// Of the tar stream with landmark and table.
        diff_id: DiffId,
        /// Its size in bytes.
        size: u64,
    },
    /// The tables are in frames that decompressors skip.
    ZstdChunked {
        /// Of the table, compressed.
        manifest_digest: Digest,
        /// Where the table is.
        manifest: Position,
        /// Of what else the tar stream has in it, compressed.
        tar_split_digest: Digest,
        /// Where that is.
        tar_split: Position,
    },
}

/// Where something compressed is in a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Bytes in front of it.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
    /// Bytes that come out of it.
    pub uncompressed: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.offset, self.length, self.uncompressed)
    }
}

/// The only kind of table there is: that of CRFS, from which both formats descend.
const MANIFEST_TYPE: u64 = 1;

impl Table {
    /// The annotations of the layer's descriptor.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let pairs = match self {
            Self::Estargz { digest, size, .. } => vec![
                ("containerd.io/snapshot/stargz/toc.digest", digest.to_string()),
                ("io.containers.estargz.uncompressed-size", size.to_string()),
            ],
            Self::ZstdChunked { manifest_digest, manifest, tar_split_digest, tar_split } => vec![
                (
                    "io.github.containers.zstd-chunked.manifest-checksum",
                    manifest_digest.to_string(),
                ),
                (
                    "io.github.containers.zstd-chunked.manifest-position",
                    format!("{manifest}:{MANIFEST_TYPE}"),
                ),
                (
                    "io.github.containers.zstd-chunked.tarsplit-checksum",
                    tar_split_digest.to_string(),
                ),
                ("io.github.containers.zstd-chunked.tarsplit-position", tar_split.to_string()),
            ],
        };
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// The digest of what the blob decompresses to, where that is not the tar stream that was compressed.
    pub fn diff_id(&self) -> Option<DiffId> {
        match self {
            Self::Estargz { diff_id, .. } => Some(*diff_id),
            Self::ZstdChunked { .. } => None,
        }
    }
}

/// Compresses the layer that `tar` yields into `sink`.
pub(crate) fn write(
    tar: &mut dyn Read,
    sink: &mut BlobSink<'_>,
    format: Format,
    threads: usize,
    scratch: Option<&Path>,
) -> Result<Table, CompressError> {
    match format {
        Format::Estargz { level } => estargz::write(tar, sink, level, threads, scratch),
        Format::ZstdChunked { level } => zstd_chunked::write(tar, sink, level, threads, scratch),
    }
}
