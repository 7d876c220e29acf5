//! How much of a good thing is too much.

use std::fmt;

/// What an archive may ask for. The defaults are far above any image that is in use, and low enough that an archive
/// made to harm ends with an error and not with a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Members.
    pub entries: u64,
    /// Bytes of the tar stream, and bytes of all files together if holes count.
    pub bytes: u64,
    /// Bytes of one path.
    pub path: u64,
    /// Bytes of one extended header, with all extended attributes of the member.
    pub extended_header: u64,
    /// How many times its own size a blob may unpack to, as soon as that is more than [`Limits::RATIO_FLOOR`].
    pub ratio: u64,
}

impl Limits {
    /// Blobs that unpack to less than this may do so from any size: gzip makes a thousandth of an empty disk image and
    /// zstd much less, both with the best intentions.
    pub const RATIO_FLOOR: u64 = 4 << 30;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 4_000_000,
            bytes: 256 << 30,
            path: 4096,
            extended_header: 1 << 20,
            ratio: 2000,
        }
    }
}

/// Which of the [`Limits`] was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of `Limits`")]
pub enum Limit {
    Entries,
    Bytes,
    Path,
    Ratio,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Entries => "entries",
            Self::Bytes => "unpacked bytes",
            Self::Path => "bytes in one path",
            Self::Ratio => "unpacked bytes for each byte of the blob",
        })
    }
}
