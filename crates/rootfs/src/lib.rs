//! The only door to the files beneath a root.
//!
//! A [`Root`] is a directory descriptor, and a [`RootPath`] names a file beneath it. Every look and every
//! change goes through these two, so the questions that make an image builder dangerous are answered once:
//! where a path leads when an image is full of links, what happens to files that belong to the container
//! and not to the image, and what to do where the process may not give a file to somebody else.
//! This crate knows nothing about images, layers or Dockerfiles.
//!
//! # Guarantees
//!
//! - No path leads out of the root. Links are followed as in a chroot, and the last component only where a
//!   method says so.
//! - Mount points and the builder's own directory are neither changed nor shown. What an image wants in
//!   their place is kept beside the root and is shown there. A command that runs in the root can move a mount;
//!   [`Root::check_mounts`] notices.
//! - Owners, modes, device nodes and extended attributes read back as they were set, also where the process
//!   lacks the right to set them on disk.
//! - Lists are sorted by name, byte by byte.
//!
//! # Reading order
//!
//! [`RootPath`] and [`Metadata`] are the vocabulary; `resolve.rs` is the walk from a path to a descriptor,
//! `guard.rs` says what is protected, `attributes.rs` and `virtual_table.rs` are the seam where attributes
//! become virtual. The other modules each hold a few methods of [`Root`]; of these, `remove.rs` and `move_out.rs` are
//! written against trees that were made to be hard, and `settle.rs` is for commands that run in the root.

mod metadata;
mod path;

mod guard;
mod mounts;
mod operation;
mod resolve;
mod root;
mod virtual_table;

mod attributes;
mod climb;
mod create;
mod directory;
mod emulated;
mod move_in;
mod move_out;
mod read;
mod remove;
mod settle;
mod stand_in;
mod take;
mod xattr;

mod contents;
mod copy;

pub use contents::copy_file_contents;
pub use create::Existing;
pub use directory::{Directory, DirectoryEntry, OpenedFile, Whole};
pub use emulated::{EmulatedFiles, OpenTo, Sight};
pub use guard::Protection;
pub use metadata::{Attributes, DeviceNumber, Kind, Metadata, Time, Xattrs};
pub use mounts::MountsError;
pub use move_out::MoveOutError;
pub use operation::{Operation, RootError};
pub use path::{RootPath, RootPathError};
pub use remove::Removed;
pub use root::{OpenRootError, Root, RootOptions};
pub use stand_in::{StandInError, StandIns, Substitute};
pub use take::Taker;

#[cfg(test)]
mod tests;
