//! Making directories and what leads to them.

use ebiko_rootfs::{Attributes, Root, RootError, RootPath};

use crate::account::Owner;

/// A directory could not be made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum MakeDirError {
    #[error("mkdir /{path}: not a directory")]
    NotADirectory { path: RootPath },
    #[error("too many links: /{path}")]
    TooManyLinks { path: RootPath },
    #[error(transparent)]
    Root(#[from] RootError),
}

impl MakeDirError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotADirectory { .. } => Some("something else is in the place of the directory"),
            Self::TooManyLinks { .. } => {
                Some("the links on the way to the path lead to each other")
            }
            Self::Root(error) => error.hint(),
        }
    }
}

/// Where `path` leads in `root`, to make something there.
pub(crate) fn resolve(root: &Root, path: &RootPath) -> Result<RootPath, MakeDirError> {
    root.resolve(path).map_err(|error| {
        if error.raw_os_error() == Some(nix::libc::ELOOP) {
            return MakeDirError::TooManyLinks { path: path.clone() };
        }
        if error.kind() != std::io::ErrorKind::NotADirectory {
            return error.into();
        }
        let blocks = |at: &RootPath| {
            let found = root.resolve(at).and_then(|at| root.find(&at));
            found.is_ok_and(|found| found.is_some_and(|metadata| !metadata.is_dir()))
        };
        let path = path.ancestors().find(blocks).unwrap_or_else(|| path.clone());
        MakeDirError::NotADirectory { path }
    })
}

/// Makes `path`, which is free of links, a directory with mode 0755, and the missing ones above it
/// likewise. What exists stays as it is. Returns what was made, from the top down.
pub(crate) fn make(
    root: &Root,
    path: &RootPath,
    owner: Owner,
) -> Result<Vec<RootPath>, MakeDirError> {
    if root.find(path)?.is_some_and(|metadata| metadata.is_dir()) {
        return Ok(Vec::new());
    }
    let attributes = Attributes {
        uid: Some(owner.uid),
        gid: Some(owner.gid),
        mode: Some(0o755),
        ..Attributes::default()
    };
    let mut made = Vec::new();
    for directory in path.ancestors().chain([path.clone()]) {
        match root.find(&directory)? {
            Some(metadata) if metadata.is_dir() => {}
            Some(_) => return Err(MakeDirError::NotADirectory { path: directory }),
            None => {
                root.create_dir(&directory)?;
                root.set_attributes(&directory, &attributes)?;
                made.push(directory);
            }
        }
    }
    Ok(made)
}
