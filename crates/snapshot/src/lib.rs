//! Sees what changed under a root since the last look.
//!
//! A [`Snapshot`] is a compact index of every file beneath a root. [`Snapshot::advance`] looks at the root
//! again, brings the index up to date and returns the difference as a [`Changeset`]: what was put there and
//! what was removed. Whoever writes files and knows what it wrote, such as the unpacking of a layer, tells the
//! index directly ([`Snapshot::record`]), so the first look costs nothing. This crate knows nothing about tar,
//! Dockerfiles or images.
//!
//! # Guarantees
//!
//! - Looking changes nothing beneath the root.
//! - The result does not depend on thread count, directory order or a clock: the time is a parameter.
//! - A symbolic link is recorded, never followed.
//! - `ctime` decides, content confirms: a file whose device, inode, `ctime` and size are the same was not
//!   touched, because user space cannot set `ctime`. Only what may have been touched is looked at closely.
//! - At most 120 bytes of memory for a file, its name included.
//!
//! # What counts as a change
//!
//! The answer is `BuildKit`'s, so that layers hold what people expect:
//!
//! - A file with new content, mode, owner, modification time, extended attributes, device number or link
//!   target; a file that was rewritten with all of these equal is not a change.
//! - The modification time of a *directory* is not looked at. It changes with every temporary file inside,
//!   and neither containerd nor `BuildKit` compare it. Where a directory is recorded, its time is.
//! - Directories that lead to a change are part of the changeset; the root itself never is.
//! - One [`Change::Remove`] for a removed tree, whatever was in it. Where something of another kind took its
//!   place there is none: the new file replaces the old tree.
//! - If one name of a file with several names changed, all its names are in the changeset, the first in path
//!   order carries the content. A layer has no other way to say that names belong together.
//! - A name that left a group of hard links, or joined one, changed, even if its bytes are the same.
//! - Sockets do not exist. A file that vanishes while being looked at does not exist either.
//!
//! # Reading order
//!
//! [`Change`] and [`Changeset`], then [`Snapshot`], then `judge.rs` (did this file change?) and `walk.rs`.
//! `record.rs`, `numbers.rs`, `children.rs` and `tree.rs` are the index, from one file to the whole.

mod changeset;
mod entry;
mod glob;
mod ignore;
mod snapshot;
mod unwritten;

mod advance;
mod judge;
mod walk;

mod children;
mod numbers;
mod record;
mod tree;

pub use advance::{AdvanceOptions, Mode, SnapshotError};
pub use changeset::{Change, Changes, Changeset};
pub use entry::{ContentHash, ContentHasher, Entry, is_recorded_xattr};
pub use glob::PatternError;
pub use ignore::{IgnoreSet, IgnoreSetError};
pub use snapshot::Snapshot;
