//! `COPY`, and `ADD` of local files.

mod source;
mod tree;

use std::collections::BTreeSet;

use ebiko_context::SelectError;
use ebiko_oci::PortError;
use ebiko_plan::CopyAction;
use ebiko_rootfs::{Attributes, Metadata, Root, RootError, RootPath, RootPathError};

use crate::account::{self, Owner, OwnerError};
use crate::directories::{self, MakeDirError};
use crate::{ExecError, Site, Touched};
use source::{Item, Source};

/// Something could not be copied. What was copied before it stays.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum CopyError {
    #[error("cannot copy `{pattern}`")]
    Select { pattern: String, source: SelectError },
    #[error("cannot copy `{pattern}`: there is no `{from}`")]
    NoRoot { pattern: String, from: String },
    #[error("cannot copy `{pattern}`: \"{path}\": not found")]
    Nothing { pattern: String, path: String },
    #[error("the destination `{destination}` is not a path")]
    Destination { destination: String, source: RootPathError },
    #[error("cannot copy to non-directory: /{path}")]
    NotADirectory { path: RootPath },
    #[error("cannot replace to directory /{path} with file")]
    Directory { path: RootPath },
    #[error(transparent)]
    MakeDir(#[from] MakeDirError),
    #[error(transparent)]
    Owner(#[from] OwnerError),
    #[error("cannot unpack `/{path}`")]
    Unpack { path: RootPath, source: PortError },
    #[error("cannot copy the contents of `/{path}`")]
    Contents { path: RootPath, source: std::io::Error },
    #[error(transparent)]
    Root(#[from] RootError),
}

impl CopyError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Select { source, .. } => source.hint(),
            Self::Nothing { .. } => Some("`--from=scratch` is an empty root"),
            Self::NotADirectory { .. } => {
                Some("a directory cannot be copied over a file or a link")
            }
            Self::Directory { .. } => Some("remove the directory in an earlier step"),
            Self::MakeDir(error) => error.hint(),
            Self::Owner(error) => error.hint(),
            Self::Root(error) => error.hint(),
            Self::NoRoot { .. }
            | Self::Destination { .. }
            | Self::Unpack { .. }
            | Self::Contents { .. } => None,
        };
        text.map(str::to_owned)
    }
}

/// Why copying stopped.
enum Stop {
    Failed(CopyError),
    Interrupted(i32),
}

impl<E: Into<CopyError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

pub(crate) fn perform(action: &CopyAction, site: &Site<'_>) -> Result<Touched, ExecError> {
    match copy_all(action, site) {
        Ok(touched) => Ok(Touched::Paths(touched)),
        Err(Stop::Failed(error)) => Err(error.into()),
        Err(Stop::Interrupted(signal)) => Err(ExecError::Interrupted { signal }),
    }
}

fn copy_all(action: &CopyAction, site: &Site<'_>) -> Result<BTreeSet<RootPath>, Stop> {
    let owner = action.chown.as_deref().map(|spec| account::owner(site.root, spec)).transpose()?;
    let source = Source::of(action, site)?;
    let mut copier = Copier {
        site,
        source,
        destination: Destination::parse(&action.destination)?,
        owner,
        touched: BTreeSet::new(),
    };
    for pattern in &action.sources {
        for item in copier.source.select(pattern)? {
            if action.extract_archives && copier.unpack(&item)? {
                continue;
            }
            copier.copy(&item)?;
        }
    }
    Ok(copier.touched)
}

/// A destination as it is written.
struct Destination {
    path: RootPath,
    /// Whether it ends in `/` or `/.`, and so is a directory whatever is copied.
    is_directory: bool,
}

impl Destination {
    fn parse(written: &str) -> Result<Self, CopyError> {
        let path = RootPath::resolve(&RootPath::root(), written.as_bytes())
            .map_err(|source| CopyError::Destination { destination: written.to_owned(), source })?;
        let last = written.rsplit('/').next().unwrap_or_default();
        Ok(Self { path, is_directory: matches!(last, "" | ".") })
    }
}

/// One `COPY` or `ADD` under way.
struct Copier<'a> {
    site: &'a Site<'a>,
    source: Source<'a>,
    destination: Destination,
    /// Who owns everything, if `--chown` says so.
    owner: Option<Owner>,
    touched: BTreeSet<RootPath>,
}

impl Copier<'_> {
    fn root(&self) -> &Root {
        self.site.root
    }

    /// Copies one file, or what is in one directory.
    ///
    /// The destination is looked at anew for each, because what was copied before may have changed
    /// what it is.
    fn copy(&mut self, item: &Item) -> Result<(), Stop> {
        if self.destination.is_directory {
            let path = directories::resolve(self.root(), &self.destination.path)?;
            self.make_directories(&path)?;
        } else {
            let parent = self.destination.path.parent().unwrap_or_default();
            let parent = directories::resolve(self.root(), &parent)?;
            self.make_directories(&parent)?;
        }
        let target = directories::resolve(self.root(), &self.destination.path)?;
        let existing = self.root().find(&target)?;
        if item.metadata.is_dir() {
            if existing.is_none() {
                self.make_directories(&target)?;
            } else if existing.is_some_and(|metadata| !metadata.is_dir()) {
                return Err(CopyError::NotADirectory { path: target }.into());
            }
            return tree::copy_members(self, item, &target);
        }
        let target = match existing {
            Some(metadata) if metadata.is_dir() => {
                target.child(&item.name).map_err(|source| CopyError::Destination {
                    destination: String::from_utf8_lossy(&item.name).into_owned(),
                    source,
                })?
            }
            _ => target,
        };
        let parent = target.parent().unwrap_or_default();
        self.make_directories(&parent)?;
        self.clear_for_file(&target)?;
        tree::copy_node(self, &item.path, &item.metadata, &target)
    }

    /// Unpacks an item that is an archive; whether it was one.
    fn unpack(&mut self, item: &Item) -> Result<bool, Stop> {
        let Some(from) = self.source.root().filter(|_| item.metadata.is_file()) else {
            return Ok(false);
        };
        let mut file = from.open_file(&item.path)?;
        let target = directories::resolve(self.root(), &self.destination.path)?;
        let attempt = Attempt::make(self.root(), &target, self.owner.unwrap_or(Owner::ROOT))?;
        let owner = self.owner.map(|owner| (owner.uid, owner.gid));
        let unpacked = self.site.archives.unpack(&mut file, self.root(), &target, owner);
        let unpacked =
            unpacked.map_err(|source| CopyError::Unpack { path: item.path.clone(), source })?;
        let Some(paths) = unpacked else {
            attempt.undo(self.root())?;
            return Ok(false);
        };
        self.touched.extend(attempt.made);
        self.touched.extend(paths);
        Ok(true)
    }

    fn make_directories(&mut self, path: &RootPath) -> Result<(), CopyError> {
        let made = directories::make(self.root(), path, self.owner.unwrap_or(Owner::ROOT))?;
        self.touched.extend(made);
        Ok(())
    }

    /// Removes what is at `path`, where something that is no directory will be.
    fn clear_for_file(&self, path: &RootPath) -> Result<(), CopyError> {
        match self.root().find(path)? {
            Some(metadata) if metadata.is_dir() => Err(CopyError::Directory { path: path.clone() }),
            Some(metadata) => {
                self.root().make_way(path, metadata.kind)?;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The attributes of a copy of what is at `path` in the source.
    fn attributes(&self, path: &RootPath, metadata: &Metadata) -> Result<Attributes, Stop> {
        let owner = self.owner.or(self.source.owner());
        let mut attributes = metadata.attributes();
        if let Some(owner) = owner {
            (attributes.uid, attributes.gid) = (Some(owner.uid), Some(owner.gid));
        }
        if let Some(root) = self.source.root() {
            attributes.xattrs = Some(root.xattrs(path)?);
        }
        Ok(attributes)
    }

    fn check_interrupt(&self) -> Result<(), Stop> {
        self.site.interrupt.signal().map_or(Ok(()), |signal| Err(Stop::Interrupted(signal)))
    }
}

/// The destination of an archive, made before it is known whether there is one.
struct Attempt {
    made: Vec<RootPath>,
    /// The directory in which the first was made, and its attributes before.
    above: Option<(RootPath, Attributes)>,
}

impl Attempt {
    /// Makes `path` a directory unless something is there.
    fn make(root: &Root, path: &RootPath, owner: Owner) -> Result<Self, Stop> {
        if root.find(path)?.is_some() {
            return Ok(Self { made: Vec::new(), above: None });
        }
        let mut above = None;
        for ancestor in path.ancestors() {
            if let Some(metadata) = root.find(&ancestor)? {
                let time = Attributes { mtime: Some(metadata.mtime), ..Attributes::default() };
                above = Some((ancestor, time));
            }
        }
        Ok(Self { made: directories::make(root, path, owner)?, above })
    }

    fn undo(self, root: &Root) -> Result<(), Stop> {
        let Some(first) = self.made.first() else { return Ok(()) };
        root.remove(first)?;
        if let Some((path, time)) = self.above {
            root.set_attributes(&path, &time)?;
        }
        Ok(())
    }
}
