//! The build context.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ebiko_rootfs::{OpenRootError, Root, RootError, RootPath, RootPathError};

use crate::select::{SelectError, Selected, select};
use crate::walk::Walk;
use crate::{IgnoreFile, IgnoreFileError};

/// A local build context: a directory, read through its ignore file. It is never written.
#[derive(Debug)]
pub struct Context {
    root: Root,
    ignore: Option<IgnoreFile>,
}

/// A build context could not be opened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum OpenContextError {
    #[error("cannot open the build context `{}`", path.display())]
    Root { path: PathBuf, source: OpenRootError },
    #[error(transparent)]
    IgnoreFile(#[from] IgnoreFileError),
}

/// The ignore file of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundIgnoreFile {
    /// Where it is, for messages.
    pub path: PathBuf,
    /// What is in it.
    pub text: Vec<u8>,
}

/// Looking for the ignore file failed; that there is none is not a failure.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the ignore file `{}`", path.display())]
#[expect(missing_docs, reason = "the message names every field")]
pub struct FindIgnoreFileError {
    pub path: PathBuf,
    pub source: FindIgnoreFileFault,
}

/// Why a [`FindIgnoreFileError`] happened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are those of the causes")]
pub enum FindIgnoreFileFault {
    #[error(transparent)]
    Open(#[from] OpenRootError),
    #[error(transparent)]
    Path(#[from] RootPathError),
    #[error(transparent)]
    Read(#[from] RootError),
}

/// Larger files are not lists that somebody maintains. Raising it costs memory only.
const MAX_IGNORE_FILE: u64 = 4 << 20;

impl Context {
    /// Opens the directory `directory` as a context.
    ///
    /// `ignore_text` is what [`find_ignore_file`] found; without it nothing is excluded.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be opened or a line of the ignore file is not a pattern.
    pub fn open(directory: &Path, ignore_text: Option<&[u8]>) -> Result<Self, OpenContextError> {
        let ignore = ignore_text.map(IgnoreFile::parse).transpose()?;
        let root = Root::open_read_only(directory)
            .map_err(|source| OpenContextError::Root { path: directory.into(), source })?;
        Ok(Self { root, ignore })
    }

    /// Finds what `source` names in the context; see [`select`].
    pub fn select(&self, source: &str) -> Result<Vec<Selected>, SelectError> {
        select(&self.root, self.ignore.as_ref(), source)
    }

    /// Walks what is beneath `directory`, a selected directory's path, without what is excluded.
    pub fn walk(&self, directory: &RootPath) -> Walk<'_> {
        Walk::new(&self.root, self.ignore.as_ref(), directory)
    }

    /// The directory, for reading the files that were selected.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The ignore file.
    pub fn ignore(&self) -> Option<&IgnoreFile> {
        self.ignore.as_ref()
    }
}

/// Finds the ignore file of a build: `<dockerfile>.dockerignore` beside the Dockerfile, even if
/// it is empty, and otherwise `.dockerignore` at the top of the context.
///
/// Links are followed inside the context, or, for a Dockerfile that is elsewhere, inside its
/// directory.
///
/// # Errors
///
/// Fails if a file is there and cannot be read, is no regular file or is larger than 4 MiB. It is
/// not passed over: building with files that should have been left out may publish them.
pub fn find_ignore_file(
    context: &Path,
    dockerfile: &Path,
) -> Result<Option<FoundIgnoreFile>, FindIgnoreFileError> {
    let mut specific = OsString::from(dockerfile);
    specific.push(".dockerignore");
    let specific = PathBuf::from(specific);
    let directory = match specific.parent() {
        _ if specific.starts_with(context) => context,
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if let Some(found) = read_ignore_file(directory, &specific)? {
        return Ok(Some(found));
    }
    read_ignore_file(context, &context.join(".dockerignore"))
}

fn read_ignore_file(
    directory: &Path,
    path: &Path,
) -> Result<Option<FoundIgnoreFile>, FindIgnoreFileError> {
    let relative = path.strip_prefix(directory).unwrap_or(path);
    let text = read_inside(directory, relative, MAX_IGNORE_FILE)
        .map_err(|source| FindIgnoreFileError { path: path.into(), source })?;
    Ok(text.map(|text| FoundIgnoreFile { path: path.into(), text }))
}

/// Reads the file `relative` of `directory`, `None` where there is none. Links are followed as if `directory` were the
/// root: what somebody else has put into a context must not lead to files outside of it.
///
/// # Errors
///
/// Fails if the file cannot be read, is no regular file or has more than `limit` bytes.
pub fn read_inside(
    directory: &Path,
    relative: &Path,
    limit: u64,
) -> Result<Option<Vec<u8>>, FindIgnoreFileFault> {
    let relative = RootPath::resolve(&RootPath::root(), relative.as_os_str().as_encoded_bytes())?;
    let root = Root::open_read_only(directory)?;
    Ok(root.read_bounded(&relative, limit)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Tree, members, selection};

    /// Looks for the ignore file of `dockerfile` in a tree; prints its name and text.
    #[track_caller]
    fn check(tree: &Tree, dockerfile: &str, expected: &str) {
        let actual = match find_ignore_file(tree.path(), &tree.path().join(dockerfile)) {
            Ok(None) => "none".to_owned(),
            Ok(Some(found)) => {
                let name = found.path.strip_prefix(tree.path()).unwrap().display().to_string();
                format!("{name}: {}", String::from_utf8(found.text).unwrap())
            }
            Err(error) => format!("error: {}", error.source),
        };
        assert_eq!(actual, expected, "for `{dockerfile}`");
    }

    #[test]
    fn the_file_beside_the_dockerfile_wins_even_if_it_is_empty() {
        let tree = Tree::new(&["sub/Dockerfile", "X.Dockerfile.dockerignore"]);
        check(&tree, "Dockerfile", "none");
        tree.write(".dockerignore", "general");
        tree.write("Dockerfile2.dockerignore", "specific");
        tree.write("sub/Dockerfile.dockerignore", "beside");
        check(&tree, "Dockerfile", ".dockerignore: general");
        check(&tree, "Dockerfile2", "Dockerfile2.dockerignore: specific");
        check(&tree, "sub/Dockerfile", "sub/Dockerfile.dockerignore: beside");
        check(&tree, "X.Dockerfile", "X.Dockerfile.dockerignore: ");
    }

    #[test]
    fn a_dockerfile_elsewhere_brings_its_own_ignore_file() {
        let context = Tree::new(&["a"]);
        let elsewhere = Tree::new(&["Dockerfile"]);
        context.write(".dockerignore", "general");
        let dockerfile = elsewhere.path().join("Dockerfile");
        let found = find_ignore_file(context.path(), &dockerfile).unwrap().unwrap();
        assert_eq!(found.text, b"general");
        elsewhere.write("Dockerfile.dockerignore", "specific");
        let found = find_ignore_file(context.path(), &dockerfile).unwrap().unwrap();
        assert_eq!(found.text, b"specific");
    }

    #[test]
    fn an_ignore_file_that_cannot_be_read_stops_the_build() {
        let tree = Tree::new(&[".dockerignore/x"]);
        let error = find_ignore_file(tree.path(), &tree.path().join("Dockerfile")).unwrap_err();
        let path = tree.path().join(".dockerignore");
        assert_eq!(error.to_string(), format!("cannot read the ignore file `{}`", path.display()));
    }

    #[test]
    fn an_ignore_file_may_be_a_link_inside_the_context() {
        let tree = Tree::new(&["sub/x", "sub/Dockerfile.dockerignore -> ../shared"]);
        tree.write("shared", "*.o");
        check(&tree, "sub/Dockerfile", "sub/Dockerfile.dockerignore: *.o");
    }

    #[test]
    fn a_bad_line_or_directory_is_an_error_when_the_context_is_opened() {
        let tree = Tree::new(&["a"]);
        let error = Context::open(tree.path(), Some(b"!\n")).unwrap_err();
        assert_eq!(error.to_string(), "line 1 of the ignore file is not a pattern: `!`");
        let nowhere = tree.path().join("nope");
        let error = Context::open(&nowhere, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot open the build context `{}`", nowhere.display())
        );
    }

    #[test]
    fn dockerfile_and_ignore_file_are_files_like_others() {
        let tree = Tree::new(&["Dockerfile", "foo", "bar", "bay"]);
        tree.write(".dockerignore", "");
        assert_eq!(members(&tree.context(""), ""), ".dockerignore Dockerfile bar bay foo");
        let context = tree.context("\nba*\nDockerfile\n!bay\n.dockerignore\n");
        assert_eq!(members(&context, ""), "bay foo");
        assert_eq!(selection(&context, "*"), "bay, foo");
    }
}
