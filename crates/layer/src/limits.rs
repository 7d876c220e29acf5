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
    /// How many times its own size a blob may unpack to, as soon as that is more than `ratio_floor`.
    pub ratio: u64,
    /// Blobs that unpack to no more than this may do so from any size: gzip makes a thousandth of an empty disk image and
    /// zstd much less, both with the best intentions.
    pub ratio_floor: u64,
}

impl Limits {
    /// The limit that a blob of `blob` bytes has reached if `size` bytes have come out of it.
    pub(crate) fn reached(&self, size: u64, blob: u64) -> Option<(Limit, u64)> {
        if size > self.bytes {
            Some((Limit::Bytes, self.bytes))
        } else if size > self.ratio_floor && size / self.ratio.max(1) > blob {
            Some((Limit::Ratio, self.ratio))
        } else {
            None
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 4_000_000,
            bytes: 256 << 30,
            path: 4096,
            extended_header: 1 << 20,
            ratio: 2000,
            ratio_floor: 4 << 30,
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

impl Limit {
    /// What the user can do about it, if there is something they can do.
    pub(crate) fn hint(self) -> Option<&'static str> {
        match self {
            Self::Entries => {
                Some("if it is to be trusted, raise the limit: --layer-max-entries=NUMBER")
            }
            Self::Bytes => Some("if it is to be trusted, raise the limit: --layer-max-size=BYTES"),
            Self::Ratio => {
                Some("if it is to be trusted, raise the limit: --layer-max-ratio=NUMBER")
            }
            // No file system takes a longer one.
            Self::Path => None,
        }
    }
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
