//! Where a copy comes from.

use ebiko_context::{IgnoreFile, Walk, select};
use ebiko_plan::{CopyAction, CopyFrom};
use ebiko_rootfs::{Kind, Metadata, Root, RootPath};

use crate::Site;
use crate::account::Owner;
use crate::copy::CopyError;

/// The files that a copy may take from.
pub(super) enum Source<'a> {
    /// The build context: what the ignore file leaves, owned by nobody.
    Context { root: &'a Root, ignore: Option<&'a IgnoreFile> },
    /// A root that was built or pulled.
    Root(&'a Root),
    /// A root without files.
    Empty,
}

/// One thing that a source's pattern names.
pub(super) struct Item {
    /// Where it is in the source, free of links.
    pub(super) path: RootPath,
    /// What it is called where it goes into a directory.
    pub(super) name: Box<[u8]>,
    pub(super) metadata: Metadata,
}

impl<'a> Source<'a> {
    pub(super) fn of(action: &CopyAction, site: &Site<'a>) -> Result<Self, CopyError> {
        let missing = |from: String| CopyError::NoRoot { pattern: action.sources.join(" "), from };
        Ok(match &action.from {
            CopyFrom::Context => {
                Self::Context { root: site.context.root(), ignore: site.context.ignore() }
            }
            CopyFrom::Stage(id) => {
                Self::Root(site.stages.get(id).ok_or_else(|| missing(id.to_string()))?)
            }
            CopyFrom::Image(image) => {
                Self::Root(site.images.get(image).ok_or_else(|| missing(image.to_string()))?)
            }
            CopyFrom::Scratch => Self::Empty,
        })
    }

    /// Where the files are read; `None` where there are none.
    pub(super) fn root(&self) -> Option<&'a Root> {
        match self {
            Self::Context { root, .. } | Self::Root(root) => Some(root),
            Self::Empty => None,
        }
    }

    /// Who owns every file, if the source does not say: context files belong to whoever checked
    /// them out.
    pub(super) fn owner(&self) -> Option<Owner> {
        matches!(self, Self::Context { .. }).then_some(Owner::ROOT)
    }

    /// Whether sockets become empty files, as they do when a context is sent to a daemon.
    pub(super) fn flattens_sockets(&self) -> bool {
        matches!(self, Self::Context { .. })
    }

    pub(super) fn select(&self, pattern: &str) -> Result<Vec<Item>, CopyError> {
        let (root, ignore) = match self {
            Self::Context { root, ignore } => (*root, *ignore),
            Self::Root(root) => (*root, None),
            Self::Empty => return select_from_nothing(pattern),
        };
        let selected = select(root, ignore, pattern)
            .map_err(|source| CopyError::Select { pattern: pattern.to_owned(), source })?;
        let items = selected.into_iter();
        Ok(items
            .map(|item| Item { path: item.path, name: item.name, metadata: item.metadata })
            .collect())
    }

    /// What is beneath a directory that was selected.
    pub(super) fn walk(&self, directory: &RootPath) -> Option<Walk<'a>> {
        match self {
            Self::Context { root, ignore } => Some(Walk::new(root, *ignore, directory)),
            Self::Root(root) => Some(Walk::new(root, None, directory)),
            Self::Empty => None,
        }
    }
}

/// An empty root has itself, and wildcards match nothing in it.
fn select_from_nothing(pattern: &str) -> Result<Vec<Item>, CopyError> {
    let path = RootPath::resolve(&RootPath::root(), pattern.as_bytes())
        .map_err(|source| CopyError::Destination { destination: pattern.to_owned(), source })?;
    if path.is_root() {
        return Ok(vec![Item { path, name: Box::default(), metadata: EMPTY_DIRECTORY }]);
    }
    if path.as_bytes().iter().any(|byte| matches!(byte, b'*' | b'?' | b'[')) {
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
