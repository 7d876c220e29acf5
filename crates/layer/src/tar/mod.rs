//! The tar format: POSIX 1003.1-2001 (`pax`) as it is written, and its older relatives as they are read.

mod number;
mod pax;
mod read;
mod sparse;
mod write;

pub use read::TarError;
pub(crate) use read::{Member, MemberKind, TarReader};
pub(crate) use write::{Header, HeaderKind, TarWriter};

/// Everything in a tar stream comes in blocks of this size.
pub(crate) const BLOCK: usize = 512;

/// Where the fields of a header block are.
pub(crate) mod field {
    use std::ops::Range;

    pub(crate) const NAME: Range<usize> = 0..100;
    pub(crate) const MODE: Range<usize> = 100..108;
    pub(crate) const UID: Range<usize> = 108..116;
    pub(crate) const GID: Range<usize> = 116..124;
    pub(crate) const SIZE: Range<usize> = 124..136;
    pub(crate) const MTIME: Range<usize> = 136..148;
    pub(crate) const CHECKSUM: Range<usize> = 148..156;
    pub(crate) const TYPE: usize = 156;
    pub(crate) const LINK: Range<usize> = 157..257;
    /// The magic and the version, which GNU tar spells as one.
    pub(crate) const MAGIC: Range<usize> = 257..265;
    pub(crate) const MAJOR: Range<usize> = 329..337;
    pub(crate) const MINOR: Range<usize> = 337..345;
    pub(crate) const PREFIX: Range<usize> = 345..500;
    /// In `star` archives the prefix is shorter, and this follows.
    pub(crate) const STAR_PREFIX: Range<usize> = 345..476;
    pub(crate) const STAR_TRAILER: Range<usize> = 508..512;
    /// In old GNU sparse headers.
    pub(crate) const SPARSE: Range<usize> = 386..482;
    pub(crate) const SPARSE_EXTENDED: usize = 482;
    pub(crate) const SPARSE_REAL_SIZE: Range<usize> = 483..495;
}

pub(crate) const POSIX_MAGIC: &[u8; 8] = b"ustar\x0000";
pub(crate) const GNU_MAGIC: &[u8; 8] = b"ustar  \x00";

/// Bytes that fill the last block of `size` bytes of content.
pub(crate) fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}
