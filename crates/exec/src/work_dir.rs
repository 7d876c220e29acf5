//! `WORKDIR`.

use ebiko_plan::WorkDirAction;
use ebiko_rootfs::{Attributes, RootPath, RootPathError};

use crate::account::{self, Owner, OwnerError};
use crate::directories::MakeDirError;
use crate::{ExecError, Site, Touched};

/// A working directory could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the working directory `{path}`")]
#[expect(missing_docs, reason = "the message names every field")]
pub struct WorkDirError {
    pub path: String,
    pub source: WorkDirErrorKind,
}

/// Why a [`WorkDirError`] happened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are those of the causes")]
pub enum WorkDirErrorKind {
    #[error(transparent)]
    Path(#[from] RootPathError),
    #[error(transparent)]
    Owner(#[from] OwnerError),
    #[error(transparent)]
    MakeDir(#[from] MakeDirError),
}

impl WorkDirError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<String> {
        match &self.source {
            WorkDirErrorKind::Path(_) => None,
            WorkDirErrorKind::Owner(error) => error.hint().map(str::to_owned),
            WorkDirErrorKind::MakeDir(error) => error.hint().map(str::to_owned),
        }
    }
}

pub(crate) fn perform(action: &WorkDirAction, site: &Site<'_>) -> Result<Touched, ExecError> {
    let made =
        make(action, site).map_err(|source| WorkDirError { path: action.path.clone(), source })?;
    Ok(Touched::Paths(made.into_iter().collect()))
}

fn make(action: &WorkDirAction, site: &Site<'_>) -> Result<Vec<RootPath>, WorkDirErrorKind> {
    let path = RootPath::resolve(&RootPath::root(), action.path.as_bytes())?;
    let owner = match action.user.as_str() {
        "" => Owner::ROOT,
        user => account::owner(Some(site.root), user)?,
    };
    let path = site.view().resolve(&path)?;
    let made = site.view().make(&path, owner)?;
    // From below: making a directory changes the time of the one that it is in.
    let attributes = Attributes { mtime: Some(site.created), ..Attributes::default() };
    for directory in made.iter().rev() {
        let is_parent = *directory != path;
        let owner = (is_parent && action.root_parents).then_some(0);
        let attributes = Attributes { uid: owner, gid: owner, ..attributes.clone() };
        site.root.set_attributes(directory, &attributes).map_err(MakeDirError::from)?;
    }
    Ok(made)
}
