//! `COPY` and `ADD`.

mod filter;
mod source;
mod taking;
mod target;

mod archive;
mod fetched;
mod tree;

use std::collections::BTreeSet;
use std::path::PathBuf;

use ebiko_context::{PatternError, PatternList, SelectError, has_wildcard};
use ebiko_oci::{Event, PortError};
use ebiko_plan::{CopyAction, CopySource, ModeChange, Unpack};
use ebiko_rootfs::{
    Attributes, Kind, Metadata, OpenRootError, RootError, RootPath, RootPathError, Time,
};

use crate::account::{self, Owner, OwnerError};
use crate::directories::MakeDirError;
use crate::{ExecError, Site, Touched};
pub(crate) use filter::{Decision, Filter, Judged, exclusions};
pub(crate) use source::{Item, Source};
use taking::Taking;
use target::{Sight, Target};

/// Something could not be copied. What was copied before it stays.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum CopyError {
    #[error("cannot copy `{pattern}`")]
    Select { pattern: String, source: SelectError },
    #[error("there is no `{from}` to copy from")]
    NoRoot { from: String },
    #[error("`{what}` was not fetched")]
    NotFetched { what: String },
    #[error("cannot copy `{pattern}`: \"{path}\": not found")]
    Nothing { pattern: String, path: String },
    #[error("cannot copy `{pattern}` with its parents: \"{path}\": not found")]
    NoMember { pattern: String, path: String },
    #[error("invalid includepatterns: [{pattern}]")]
    Include { pattern: String, source: PatternError },
    #[error("invalid excludepatterns: [{patterns}]")]
    Exclude { patterns: String, source: PatternError },
    #[error("open /{name}: no such file or directory")]
    InlineName { name: String },
    #[error("the destination `{destination}` is not a path")]
    Destination { destination: String, source: RootPathError },
    #[error("a file cannot have this name")]
    Name(#[from] RootPathError),
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
    #[error("cannot use the builder's directory `{}`", path.display())]
    Scratch { path: PathBuf, source: OpenRootError },
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
            Self::NoMember { .. } => Some(
                "with `--parents`, links on the way to a source are not followed, and something \
                 must follow a `/./`",
            ),
            Self::InlineName { .. } => Some(
                "the name of a here-document is a file name; write directories in the destination",
            ),
            Self::Include { .. } | Self::Exclude { .. } => {
                Some("patterns are those of an ignore file; write `[[]` for a literal `[`")
            }
            Self::NotADirectory { .. } => {
                Some("a directory cannot be copied over a file or a link")
            }
            Self::Directory { .. } => Some("remove the directory in an earlier step"),
            Self::MakeDir(error) => error.hint(),
            Self::Owner(error) => error.hint(),
            Self::Root(error) => error.hint(),
            Self::Scratch { source, .. } => source.hint(),
            Self::NoRoot { .. }
            | Self::NotFetched { .. }
            | Self::Destination { .. }
            | Self::Name(_)
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
    let sight = if action.link { Sight::OwnWork } else { Sight::Everything };
    let names = (sight == Sight::Everything).then_some(site.root);
    let owner = action.chown.as_deref().map(|spec| account::owner(names, spec)).transpose()?;
    let by_default = match action.user.as_str() {
        "" => Owner::ROOT,
        user => account::owner(Some(site.root), user)?,
    };
    let exclude = exclusions(&action.exclude)?;
    let all = Filter::all_but(&exclude);
    let source = Source::of(&action.from, site)?;
    let mut copier = Copier {
        site,
        taking: Taking::of(action, &source, site),
        destination: Destination::parse(&action.destination)?,
        sight,
        target: Target::new(
            site.view(),
            sight,
            owner.unwrap_or(by_default),
            mode_of_new_directories(action.chmod.as_ref().filter(|_| !action.plain_parents)),
        ),
        owner,
        by_default,
        chmod: action.chmod.as_ref(),
    };
    for named in &action.sources {
        match named {
            CopySource::Path(pattern) if action.parents => {
                copier.copy_with_parents(&source, pattern, action.unpack, &exclude)?;
            }
            CopySource::Path(pattern) => {
                for item in source.select(pattern)? {
                    copier.copy(&source, &item, action.unpack, &all)?;
                }
            }
            CopySource::Download(download) => {
                fetched::copy_download(&mut copier, download, action.unpack)?;
            }
            CopySource::Git(git) => fetched::copy_checkout(&mut copier, git, &all)?,
        }
    }
    for file in &action.files {
        fetched::write_inline(&mut copier, file)?;
    }
    if let Some(Taking { count: count @ 1.., .. }) = copier.taking {
        let text = format!("moved instead of copied: {count} files or trees");
        site.observer.event(Event::Debug { text: &text });
    }
    Ok(copier.target.touched())
}

/// Directories that lead to the destination get the permissions of an octal `--chmod`, and nothing of a symbolic one.
fn mode_of_new_directories(chmod: Option<&ModeChange>) -> u32 {
    match chmod {
        Some(ModeChange::Octal(mode)) => mode & 0o777,
        Some(ModeChange::Symbolic(_)) | None => 0o755,
    }
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
    destination: Destination,
    sight: Sight,
    target: Target<'a>,
    /// How files are moved instead of copied, if they may be.
    taking: Option<Taking<'a>>,
    /// Who owns everything, if `--chown` says so.
    owner: Option<Owner>,
    /// Who owns what has no owner where it comes from.
    by_default: Owner,
    chmod: Option<&'a ModeChange>,
}

impl Copier<'_> {
    /// Copies one file, or what is in one directory and passes `filter`; whether anything passed. Files, which are named
    /// by the instruction, always do.
    fn copy(
        &mut self,
        source: &Source<'_>,
        item: &Item,
        unpack: Unpack,
        filter: &Filter<'_>,
    ) -> Result<bool, Stop> {
        if item.metadata.is_dir() {
            return self.copy_directory(source, item, filter);
        }
        if unpack != Unpack::Nothing
            && item.metadata.is_file()
            && let Some(files) = source.files()
            && archive::unpack(self, files, &item.path)?
        {
            return Ok(true);
        }
        self.check_interrupt()?;
        let path = self.place_file(&item.name)?;
        if !taking::take_file(self, source, &item.path, &item.metadata, &path)? {
            tree::copy_node(self, source, &item.path, &item.metadata, &path)?;
        }
        Ok(true)
    }

    /// Copies for `--parents`: what is before the `/./` is a directory, what is behind it is a pattern for what is in it.
    fn copy_with_parents(
        &mut self,
        source: &Source<'_>,
        written: &str,
        unpack: Unpack,
        exclude: &PatternList,
    ) -> Result<(), Stop> {
        let (top, wanted) = written.split_once("/./").unwrap_or(("/", written));
        let resolve = |path: &str| RootPath::resolve(&RootPath::root(), path.as_bytes());
        let (top_path, wanted_path) = (resolve(top)?, resolve(wanted)?);
        let filter = Filter::only(&wanted_path, exclude)?;
        let is_exact = ![top, wanted].iter().any(|&path| has_wildcard(path.as_bytes()));
        let missing = || CopyError::NoMember {
            pattern: written.to_owned(),
            path: match top_path.join(&wanted_path) {
                path if path.is_root() => path.to_string(),
                path => format!("/{path}"),
            },
        };
        // BuildKit looks for what has to be there without following a link at the end of the top, and for a `\` that
        // escapes something as it is written.
        if is_exact && (wanted.contains('\\') || source.is_link(&top_path)?) {
            return Err(missing().into());
        }
        let items = source.select(top).map_err(|error| match error {
            CopyError::Select { source: SelectError::NotFound { .. }, .. } if is_exact => missing(),
            error => error,
        })?;
        // Of a context with several tops, BuildKit sees only those that hold something.
        let sees_all = !source.is_context() || !has_wildcard(top.as_bytes());
        let nothing = PatternList::default();
        let wanted = Filter::only(&wanted_path, &nothing)?;
        for item in items {
            let is_seen =
                sees_all || (item.metadata.is_dir() && tree::holds_any(source, &item, &wanted)?);
            if !is_seen {
                continue;
            }
            if is_exact && !item.metadata.is_dir() {
                return Err(missing().into());
            }
            if !self.copy(source, &item, unpack, &filter)? && is_exact {
                return Err(missing().into());
            }
        }
        Ok(())
    }

    fn copy_directory(
        &mut self,
        source: &Source<'_>,
        item: &Item,
        filter: &Filter<'_>,
    ) -> Result<bool, Stop> {
        let target = self.find_destination()?;
        match self.target.find(&target)? {
            None => self.target.make_directories(&target)?,
            Some(Kind::Directory) => {}
            Some(_) => return Err(CopyError::NotADirectory { path: target }.into()),
        }
        tree::copy_members(self, source, item, &target, filter)
    }

    /// Where the destination leads, after what must be there was made: itself if it is written as a directory, and
    /// otherwise what it is in.
    ///
    /// It is looked for anew for each source, because what was copied before may have changed what is there.
    fn find_destination(&mut self) -> Result<RootPath, Stop> {
        let path = &self.destination.path;
        let directory =
            if self.destination.is_directory { Some(path.clone()) } else { path.parent() };
        let directory = self.target.resolve(&directory.unwrap_or_default())?;
        self.target.make_directories(&directory)?;
        Ok(self.target.resolve(&self.destination.path)?)
    }

    /// Where a file goes that is called `name` if it goes into a directory. The way there is made and nothing is at the
    /// end of it.
    fn place_file(&mut self, name: &[u8]) -> Result<RootPath, Stop> {
        let mut path = self.find_destination()?;
        if self.target.find(&path)? == Some(Kind::Directory) {
            path = path.child(name)?;
        }
        self.target.make_directories(&path.parent().unwrap_or_default())?;
        self.target.clear_for_file(&path)?;
        Ok(path)
    }

    /// The attributes of a copy of what is at `path` in the source.
    fn attributes(
        &self,
        source: &Source<'_>,
        path: &RootPath,
        metadata: &Metadata,
    ) -> Result<Attributes, Stop> {
        let mut attributes = self.own_attributes(source, metadata);
        if let Some(files) = source.files() {
            attributes.xattrs = Some(files.xattrs(path)?);
        }
        Ok(attributes)
    }

    /// The same without extended attributes.
    fn own_attributes(&self, source: &Source<'_>, metadata: &Metadata) -> Attributes {
        let owner = self.owner.or((!source.has_owners()).then_some(self.by_default));
        let mut attributes = metadata.attributes();
        if let Some(owner) = owner {
            (attributes.uid, attributes.gid) = (Some(owner.uid), Some(owner.gid));
        }
        if let (Some(chmod), Some(mode)) = (self.chmod, attributes.mode) {
            attributes.mode = Some(chmod.apply(mode, metadata.is_dir()));
        }
        attributes
    }

    /// The attributes of something that is in no root.
    fn fetched(&self, mode: u32, kind: Kind, mtime: Time) -> Attributes {
        let owner = self.owner.unwrap_or(self.by_default);
        let mode = self.chmod.map_or(mode, |chmod| chmod.apply(mode, kind == Kind::Directory));
        Attributes {
            uid: Some(owner.uid),
            gid: Some(owner.gid),
            mode: Some(mode),
            mtime: Some(mtime),
            xattrs: None,
        }
    }

    fn check_interrupt(&self) -> Result<(), Stop> {
        self.site.interrupt.signal().map_or(Ok(()), |signal| Err(Stop::Interrupted(signal)))
    }
}
