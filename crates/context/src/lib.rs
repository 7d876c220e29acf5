//! Answers which files of the build context a source names.
//!
//! A [`Context`] is a directory and its `.dockerignore`. [`Context::select`] turns the source of a
//! `COPY` or `ADD` into files, and [`Context::walk`] lists what is in a selected directory. The
//! same rules, without an ignore file, serve `COPY --from`: [`select()`] and [`Walk`] take any
//! [`Root`](ebiko_rootfs::Root). This crate does not copy anything and does not know Dockerfiles.
//!
//! # Guarantees
//!
//! - Nothing outside of the root is looked at: `..` and links end there.
//! - The context is never written, and files are never opened; only directories and links are read.
//! - What the ignore file excludes does not exist, for wildcards, links and walks alike.
//! - Results are sorted by name, byte by byte, and names need not be UTF-8.
//!
//! # Reading order
//!
//! [`Glob`] (wildcards in sources) and [`PatternList`] (lines of an ignore file) are two languages
//! that look alike and are not. Then [`IgnoreFile`], [`Walk`], [`select()`] and [`Context`].

mod text;

mod glob;

mod ignore;
mod pattern;

mod select;
mod walk;

mod context;

#[cfg(test)]
mod tree;

pub use context::{
    Context, FindIgnoreFileError, FindIgnoreFileFault, FoundIgnoreFile, OpenContextError,
    find_ignore_file, read_inside,
};
pub use glob::{Glob, GlobError, GlobFault, has_wildcard};
pub use ignore::{IgnoreFile, IgnoreFileError, IgnoreLine};
pub use pattern::{PatternError, PatternList, Verdict};
pub use select::{SelectError, Selected, follow, select};
pub use walk::{Member, Walk};
