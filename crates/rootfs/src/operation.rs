//! The error of everything that touches a file beneath a root.

use std::{fmt, io};

use rustix::io::Errno;

use crate::RootPath;

/// What was attempted on a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the documentation")]
#[non_exhaustive]
pub enum Operation {
    Find,
    Read,
    List,
    Create,
    Link,
    SetOwner,
    SetMode,
    SetTime,
    SetXattr,
    Remove,
    Move,
    Copy,
}

/// One operation on one file beneath a root failed.
///
/// Changes that came before it in the same call may have happened; each method says what is left behind.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message names every field")]
#[error("cannot {operation} `{}{path}`", if path.is_root() { "" } else { "/" })]
pub struct RootError {
    pub operation: Operation,
    pub path: RootPath,
    pub source: io::Error,
}

impl RootError {
    pub(crate) fn new(operation: Operation, path: &RootPath, source: impl Into<io::Error>) -> Self {
        Self { operation, path: path.clone(), source: source.into() }
    }

    /// The kind of the cause, such as `NotFound`, `PermissionDenied` or `StorageFull`.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The cause as the kernel numbers it, such as `ENOENT`.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// Whether there is nothing at the path: no such file, or a component of it is not a directory.
    pub fn is_missing(&self) -> bool {
        matches!(self.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    }

    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        if self.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
            return Some(
                "links that lead to each other have no end; check the links on the way to this path",
            );
        }
        match self.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Some("free space, or give the builder a larger volume")
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                Some("the file system is mounted read-only; builds need a writable root")
            }
            io::ErrorKind::PermissionDenied => Some(
                "the file belongs to another user; run the build as the owner of the root file system, or as root",
            ),
            io::ErrorKind::ResourceBusy => {
                Some("the path is a mount point or is in use by the builder; it cannot be replaced")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Find => "look at",
            Self::Read => "read",
            Self::List => "list",
            Self::Create => "create",
            Self::Link => "link",
            Self::SetOwner => "set the owner of",
            Self::SetMode => "set the mode of",
            Self::SetTime => "set the time of",
            Self::SetXattr => "set the extended attributes of",
            Self::Remove => "remove",
            Self::Move => "move",
            Self::Copy => "copy",
        })
    }
}
