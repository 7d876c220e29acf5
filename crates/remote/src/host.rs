//! The builder's own files: spools, packs and directories that no image can reach.
//!
//! What a repository names is written through [`Root`](ebiko_rootfs::Root) and never from here.

#![expect(
    clippy::disallowed_methods,
    reason = "these paths are made up by the builder and lie in its own directory"
)]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

/// Makes a file that is not there yet, to be written and read.
pub(crate) fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// Opens a file to read.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Makes a directory and those above it.
pub(crate) fn create_dirs(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Makes `path` if it is missing; fails if it is there with something in it.
pub(crate) fn create_empty_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    match fs::read_dir(path)?.next() {
        None => Ok(()),
        Some(_) => Err(io::ErrorKind::DirectoryNotEmpty.into()),
    }
}

/// Renames a file or directory.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// Removes a file.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// Removes a directory with what is in it.
pub(crate) fn remove_dir(path: &Path) -> io::Result<()> {
    fs::remove_dir_all(path)
}

/// Whether `path` leads to a regular file.
pub(crate) fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}
