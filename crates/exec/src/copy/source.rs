//! Where a copy comes from.

use ebiko_context::{Context, IgnoreFile, Walk, follow, select};
use ebiko_plan::CopyFrom;
use ebiko_rootfs::{Kind, Metadata, Root, RootPath};

use crate::Site;
use crate::copy::CopyError;

/// The files that a copy may take from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    /// Where the files are read; `None` is a root without files.
    root: Option<&'a Root>,
    /// What is not there.
    ignore: Option<&'a IgnoreFile>,
    /// Whether owners in it mean something in an image.
    has_owners: bool,
    is_context: bool,
}

/// One thing that a source's pattern names.
#[derive(Clone)]
pub(crate) struct Item {
    /// Where it is in the source, free of links.
    pub(crate) path: RootPath,
    /// What it is called where it goes into a directory.
    pub(crate) name: Box<[u8]>,
    pub(crate) metadata: Metadata,
}

impl<'a> Source<'a> {
    /// Where the paths of a copy `from` there are.
    pub(crate) fn of(from: &CopyFrom, site: &Site<'a>) -> Result<Self, CopyError> {
        let missing = |from: String| CopyError::NoRoot { from };
        Ok(match from {
            CopyFrom::Context => Self::context(site.context),
            CopyFrom::Stage(id) => {
                Self::root(site.inputs.stages.get(id).ok_or_else(|| missing(id.to_string()))?)
            }
            CopyFrom::Image(image) => {
                Self::root(site.inputs.images.get(image).ok_or_else(|| missing(image.to_string()))?)
            }
            CopyFrom::Named(name) => {
                Self::context(site.inputs.contexts.get(name).ok_or_else(|| missing(name.clone()))?)
            }
            CopyFrom::Scratch => {
                Self { root: None, ignore: None, has_owners: true, is_context: false }
            }
        })
    }

    /// What the ignore file leaves. It belongs to whoever checked it out, which means nothing in an image.
    pub(crate) fn context(context: &'a Context) -> Self {
        Self {
            root: Some(context.root()),
            ignore: context.ignore(),
            has_owners: false,
            is_context: true,
        }
    }

    /// Files that were made by a build.
    pub(crate) fn root(root: &'a Root) -> Self {
        Self { root: Some(root), ignore: None, has_owners: true, is_context: false }
    }

    /// Files that were fetched.
    pub(crate) fn checkout(root: &'a Root) -> Self {
        Self { has_owners: false, ..Self::root(root) }
    }

    pub(crate) fn files(&self) -> Option<&'a Root> {
        self.root
    }

    /// Whether this is a context, of which BuildKit sends only what an instruction names.
    pub(crate) fn is_context(&self) -> bool {
        self.is_context
    }

    pub(crate) fn has_owners(&self) -> bool {
        self.has_owners
    }

    pub(crate) fn select(&self, pattern: &str) -> Result<Vec<Item>, CopyError> {
        let Some(root) = self.root else { return select_from_nothing(pattern) };
        let selected = select(root, self.ignore, pattern)
            .map_err(|source| CopyError::Select { pattern: pattern.to_owned(), source })?;
        let items = selected.into_iter();
        Ok(items
            .map(|item| Item { path: item.path, name: item.name, metadata: item.metadata })
            .collect())
    }

    /// Fails unless the link `path` leads to something that is there.
    pub(crate) fn check_link(&self, path: &RootPath) -> Result<(), CopyError> {
        let Some(root) = self.root else { return Ok(()) };
        follow(root, self.ignore, path)
            .map_err(|source| CopyError::Select { pattern: format!("/{path}"), source })?;
        Ok(())
    }

    /// All of it, as one directory.
    pub(crate) fn whole(&self) -> Result<Item, CopyError> {
        let path = RootPath::root();
        let metadata = match self.root {
            Some(root) => root.metadata(&path)?,
            None => EMPTY_DIRECTORY,
        };
        Ok(Item { path, name: Box::default(), metadata })
    }

    /// Whether `path` is a link, after links on the way to it were followed.
    pub(crate) fn is_link(&self, path: &RootPath) -> Result<bool, CopyError> {
        let (Some(root), Some(parent), Some(name)) = (self.root, path.parent(), path.file_name())
        else {
            return Ok(false);
        };
        // What does not exist or is no directory is found out when it is selected.
        let Ok(parent) = root.resolve(&parent) else { return Ok(false) };
        Ok(root.find(&parent.child(name)?)?.is_some_and(|metadata| metadata.is_symlink()))
    }

    /// What is beneath a directory that was selected.
    pub(crate) fn walk(&self, directory: &RootPath) -> Option<Walk<'a>> {
        self.root.map(|root| Walk::new(root, self.ignore, directory))
    }
}

/// An empty root has itself, and wildcards match nothing in it.
fn select_from_nothing(pattern: &str) -> Result<Vec<Item>, CopyError> {
    let path = RootPath::resolve(&RootPath::root(), pattern.as_bytes())
        .map_err(|source| CopyError::Destination { destination: pattern.to_owned(), source })?;
    if path.is_root() {
        return Ok(vec![Item { path, name: Box::default(), metadata: EMPTY_DIRECTORY }]);
    }
    if ebiko_context::has_wildcard(path.as_bytes()) {
        return Ok(Vec::new());
    }
    Err(CopyError::Nothing { pattern: pattern.to_owned(), path: format!("/{path}") })
}

const EMPTY_DIRECTORY: Metadata = Metadata {
    kind: Kind::Directory,
    mode: 0o755,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: ebiko_rootfs::Time { secs: 0, nanos: 0 },
    ctime: ebiko_rootfs::Time { secs: 0, nanos: 0 },
    dev: 0,
    ino: 0,
    nlink: 1,
    rdev: ebiko_rootfs::DeviceNumber { major: 0, minor: 0 },
};
