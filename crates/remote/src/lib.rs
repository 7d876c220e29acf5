//! Brings a build context to local bytes.
//!
//! [`fetch`] turns the value of `--context` into a [`LocalContext`]: a directory on this machine.
//! Today the directory has to be there already; every other kind of context is refused by its
//! name. What is fetched over the network will go through the [`Transport`] and land below the
//! work directory, so the boundary is the one that remains.

mod spec;

use std::path::{Path, PathBuf};

use ebiko_transport::Transport;

pub use spec::{ContextSpec, SpecError};

/// What fetching a context may use.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The directory that relative paths start from.
    pub current_dir: &'a Path,
    /// An empty or missing directory that fetched contexts are put into.
    pub work_dir: &'a Path,
    /// The network.
    pub transport: &'a Transport,
}

/// A build context on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalContext {
    /// An absolute path. Whether it is a readable directory is for the one who opens it to find.
    pub dir: PathBuf,
    /// Whether it was fetched, so that nobody else needs it after the build.
    pub is_fetched: bool,
}

/// A build context cannot be fetched.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum RemoteError {
    #[error("cannot fetch the build context")]
    Spec { source: SpecError },
    #[error("the sub-path `{sub_path}` leaves the build context")]
    SubPath { sub_path: String },
}

/// Makes the context that `spec` names available, and picks the directory `sub_path` in it; an
/// empty `sub_path` is the whole.
///
/// # Errors
///
/// Fails if the kind of context is unknown or not supported, or if `sub_path` has a `..` that
/// climbs out. Nothing is left behind.
pub fn fetch(
    spec: &str,
    sub_path: &str,
    surroundings: &Surroundings<'_>,
) -> Result<LocalContext, RemoteError> {
    let ContextSpec::Directory(dir) =
        ContextSpec::parse(spec).map_err(|source| RemoteError::Spec { source })?;
    let mut dir = surroundings.current_dir.join(dir);
    let mut depth = 0_usize;
    for part in sub_path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                let error = || RemoteError::SubPath { sub_path: sub_path.to_owned() };
                depth = depth.checked_sub(1).ok_or_else(error)?;
                dir.pop();
            }
            name => {
                depth += 1;
                dir.push(name);
            }
        }
    }
    Ok(LocalContext { dir, is_fetched: false })
}

impl RemoteError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Spec { source } => Some(source.hint()),
            Self::SubPath { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebiko_transport::Options;

    #[track_caller]
    fn check(spec: &str, sub_path: &str, expected: &str) {
        let transport = Transport::new(&Options::default()).expect("the defaults are right");
        let surroundings = Surroundings {
            current_dir: Path::new("/workspace"),
            work_dir: Path::new("/kaniko/buildcontext"),
            transport: &transport,
        };
        let actual = match fetch(spec, sub_path, &surroundings) {
            Ok(context) => context.dir.display().to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected, "{spec} {sub_path:?}");
    }

    #[test]
    fn a_directory_is_used_in_place() {
        check("/src", "", "/src");
        check("dir:///src", "", "/src");
        check("dir://src", "", "/workspace/src");
        check("src/app", "", "/workspace/src/app");
        check(".", "", "/workspace/.");
    }

    #[test]
    fn a_sub_path_stays_inside() {
        check("/src", "a//./b/", "/src/a/b");
        check("/src", "/a/../b", "/src/b");
        check("/src", "../etc", "the sub-path `../etc` leaves the build context");
        check("/src", "a/../../etc", "the sub-path `a/../../etc` leaves the build context");
    }

    #[test]
    fn other_contexts_are_refused_by_name() {
        check("git://github.com/a/b", "", "cannot fetch the build context");
    }
}
