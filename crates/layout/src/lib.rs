//! OCI layout directories and docker-archive tars: images as files, in and out.
//!
//! [`write_layout`] and [`write_archive`] store an [`Image`](ebiko_oci::Image); [`read_layout()`] and
//! [`read_archive()`] find it again; [`find_in_layout`] picks one of several, and [`read_image_file`] takes whatever a path holds, whole indexes
//! too. A [`WarmDirectory`] has base images for builds to come; [`WarmSource`] finds them there. Layers are copied as the blobs they are, never unpacked or
//! compressed anew, so an image that is pushed and stored has one digest.
//!
//! # Guarantees
//!
//! - Digest and size of every blob are verified while it is copied.
//! - What is being written gets its final name when it is complete: a failure leaves an existing
//!   image as it was, and never half of a new one.
//! - The bytes of an archive depend only on the image and its names.
//! - Nothing holds a blob in memory.
//!
//! # Reading order
//!
//! `blob.rs` (copying with verification), `output.rs` (files that appear when complete), then the
//! two formats, each written and read.

#![expect(
    clippy::disallowed_methods,
    reason = "this crate writes to and reads from the places on the host that the user named"
)]

mod blob;
mod output;

mod archive;
mod cache;
mod layout;

mod read_archive;
mod read_file;
mod read_layout;
mod tar_index;

mod warm;

pub use archive::write_archive;
pub use blob::BlobFault;
pub use cache::{CacheError, CacheLayout};
pub use layout::write_layout;
pub use output::{WriteError, WriteFault};
pub use read_archive::{ReadArchiveError, ReadArchiveFault, read_archive};
pub use read_file::{ImageFileKind, ReadFileError, ReadFileFault, read_image_file};
pub use read_layout::{ReadLayoutError, ReadLayoutFault, find_in_layout, read_layout};
pub use warm::{Freshness, Refresh, WarmDirectory, WarmSource, Warmed};
