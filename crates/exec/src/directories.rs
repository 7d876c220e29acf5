//! Making directories and what leads to them.

use ebiko_rootfs::{Attributes, Kind, Root, RootError, RootPath};

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

/// A root with what is in it and not on its disk.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) root: &'a Root,
    pub(crate) is_unwritten: &'a dyn Fn(&RootPath) -> bool,
}

impl<'a> View<'a> {
    /// A root all of whose files are on its disk.
    pub(crate) fn of(root: &'a Root) -> Self {
        Self { root, is_unwritten: &|_| false }
    }

    /// What is at `path`, which is free of links.
    pub(crate) fn find(self, path: &RootPath) -> Result<Option<Kind>, RootError> {
        Ok(match self.root.find(path)? {
            Some(metadata) => Some(metadata.kind),
            None => (self.is_unwritten)(path).then_some(Kind::Regular),
        })
    }

    /// Where `path` leads, to make something there.
    pub(crate) fn resolve(self, path: &RootPath) -> Result<RootPath, MakeDirError> {
        self.lead(path).map_err(|error| {
            if error.raw_os_error() == Some(nix::libc::ELOOP) {
                return MakeDirError::TooManyLinks { path: path.clone() };
            }
            if error.kind() != std::io::ErrorKind::NotADirectory {
                return error.into();
            }
            let blocks = |at: &RootPath| {
                let found = self.lead(at).and_then(|at| self.find(&at));
                found.is_ok_and(|found| found.is_some_and(|kind| kind != Kind::Directory))
            };
            let path = path.ancestors().find(blocks).unwrap_or_else(|| path.clone());
            MakeDirError::NotADirectory { path }
        })
    }

    fn lead(self, path: &RootPath) -> Result<RootPath, RootError> {
        self.root.resolve_among(path, self.is_unwritten)
    }

    /// Makes `path`, which is free of links, a directory with mode 0755, and the missing ones above it
    /// likewise. What exists stays as it is. Returns what was made, from the top down.
    pub(crate) fn make(self, path: &RootPath, owner: Owner) -> Result<Vec<RootPath>, MakeDirError> {
        if self.find(path)? == Some(Kind::Directory) {
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
            match self.find(&directory)? {
                Some(Kind::Directory) => {}
                Some(_) => return Err(MakeDirError::NotADirectory { path: directory }),
                None => {
                    self.root.create_dir(&directory)?;
                    self.root.set_attributes(&directory, &attributes)?;
                    made.push(directory);
                }
            }
        }
        Ok(made)
    }
}
