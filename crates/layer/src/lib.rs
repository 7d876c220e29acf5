//! Turns a changeset into a layer and a layer into files.
//!
//! [`spool`] writes a [`Changeset`](ebiko_snapshot::Changeset) as a canonical tar stream, [`compress()`] makes a blob of it; [`unpack()`]
//! applies a layer of an image to a [`Root`](ebiko_rootfs::Root), and [`unpack_archive`] any tar archive, as `ADD`
//! does. Tar headers and whiteouts are known here and nowhere else.
//!
//! # Guarantees
//!
//! - The same changeset and options give the same bytes, on any number of threads.
//! - A packed tar is sorted by path with parents before children, and has relative names, no duplicates and no
//!   entry for the root. Extended headers appear only where a plain header cannot say it.
//! - Nothing in a layer is trusted: digest, size and diff id are verified, no name leads out of the root, whiteouts
//!   are applied and never written, and every count, length and size has a limit.
//! - Memory does not grow with the size of a file or layer.
//!
//! # Reading order
//!
//! [`spool`], `load.rs` (small files are read ahead) and `tar/write.rs`; `compress.rs`, and `seekable` for layers with a table of files; then [`unpack()`], `apply.rs` (one member to one file) and
//! `tar/read.rs`.

mod blob;
mod compress;
mod growing;
mod load;
mod pack;
mod seekable;
mod tar;

mod apply;
mod archive;
mod decompress;
mod limits;
mod unpack;
mod verified;

pub use apply::UnpackErrorKind;
pub use archive::{ArchiveError, newest_member, unpack_archive};
pub use blob::FileBlob;
pub use compress::{
    CompressError, CompressedBlob, Compression, DEFAULT_GZIP_LEVEL, DEFAULT_ZSTD_LEVEL, compress,
};
pub use decompress::SourceError;
pub use growing::{FollowingReader, GrowingFile, growing_blob, growing_file, nameless_file};
pub use limits::{Limit, Limits};
pub use pack::{PackError, PackErrorKind, PackWarning, Spooled, Unsteady, spool};
pub use seekable::{Position, Table};
pub use tar::TarError;
pub use unpack::{Files, UnpackError, UnpackOptions, Unpacked, unpack};
pub use verified::{VerifiedStream, unpack_keeping};
