//! The build context.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use ebiko_transport::Verification;

use crate::bucket::{self, Clouds};
use crate::download::{DownloadError, DownloadOptions, Downloaded, download};
use crate::git::{Authorization, GitError, GitRequest, History, checkout};
use crate::spec::{ContextSpec, RepositorySpec, SpecError, WebUrl};
use crate::{Network, host};

/// What fetching a context may use.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The directory that relative paths start from.
    pub current_dir: &'a Path,
    /// An empty or missing directory that fetched contexts are put into.
    pub work_dir: &'a Path,
    /// The network.
    pub network: Network<'a>,
    /// The standard input.
    pub stdin: Option<&'a File>,
    /// The repository that the context is, if it is written as one in a Dockerfile would be; this
    /// crate does not know that language.
    pub repository: Option<&'a GitRequest>,
    /// How repositories that are written `git://` are fetched.
    pub git: &'a GitSettings,
    /// Who this machine is to the clouds.
    pub clouds: &'a Clouds,
}

/// How repositories that are written `git://` are fetched, and, where it says so, others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitSettings {
    /// Whether they are asked for without encryption.
    pub is_plain_http: bool,
    /// The branch or tag, whatever the context names.
    pub branch: Option<String>,
    /// Whether submodules are checked out; if nothing is said, those of a repository that is written `git://` are not.
    pub submodules: Option<bool>,
    /// How many commits are fetched, and kept in `.git`; without it there is no `.git`.
    pub history: Option<History>,
    /// Whether `.git` is kept.
    pub keep_git_dir: bool,
    /// Whether the certificate of the host is verified.
    pub verification: Verification,
    /// Who we are to the host.
    pub authorization: Option<Authorization>,
}

/// A build context on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalContext {
    /// Where it is.
    pub material: Material,
    /// Whether it was fetched, so that nobody else needs it after the build.
    pub is_fetched: bool,
    /// Whether its `.dockerignore` counts: other builders leave it alone in contexts that come
    /// from a server.
    pub heeds_ignore_file: bool,
    /// When it was last changed, in seconds since 1970: the commit's time or the server's
    /// `Last-Modified`. For an archive the newest of its members counts instead, which the one who
    /// unpacks it sees.
    pub last_modified: Option<i64>,
}

/// What a context is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Material {
    /// A directory, of which the context is the directory `sub_path`. Whether it can be read, and whether a link in it
    /// leads out, is for the one who opens it to find.
    Directory {
        /// Where the directory is.
        path: PathBuf,
        /// Relative, without `.` and `..`; empty for the whole.
        sub_path: PathBuf,
    },
    /// A file: an archive, or, where it is none, the Dockerfile itself. Which of them it is, is for
    /// the one who knows archives to find; the context is `sub_path` in the archive.
    File {
        /// Where the file is.
        path: PathBuf,
        /// Relative, without `.` and `..`; empty for the whole.
        sub_path: PathBuf,
    },
}

/// A build context cannot be fetched.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum RemoteError {
    #[error("cannot fetch the build context")]
    Spec { source: SpecError },
    #[error("the sub-path `{sub_path}` leaves the build context")]
    SubPath { sub_path: String },
    #[error("there is no standard input to read the build context from")]
    NoStdin,
    #[error("the standard input is a terminal")]
    Terminal,
    #[error("cannot read the build context from the standard input")]
    Stdin { source: io::Error },
    #[error("the build context has more than {limit} bytes")]
    TooLong { limit: u64 },
    #[error("cannot write the build context to `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot fetch the build context")]
    Git { source: Box<GitError> },
    #[error("cannot fetch the build context")]
    Download { source: Box<DownloadError> },
    #[error("interrupted")]
    Interrupted,
}

impl RemoteError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Spec { source } => Some(source.hint()),
            Self::Git { source } => source.hint(),
            Self::Download { source } => source.hint(),
            Self::Terminal => Some("pipe an archive into the program: `… < context.tar`"),
            _ => None,
        }
    }
}

/// Makes the context that `spec` names available, and picks the directory `sub_path` in it; an
/// empty `sub_path` is the whole.
///
/// # Errors
///
/// Fails if the kind of context is unknown or not supported, if `sub_path` has a `..` that climbs
/// out, and if it cannot be fetched; what was fetched until then is left in the work directory.
pub fn fetch(
    spec: &str,
    sub_path: &str,
    surroundings: &Surroundings<'_>,
) -> Result<LocalContext, RemoteError> {
    let sub_path = inside(sub_path)?;
    if let Some(request) = surroundings.repository {
        let own = request.authorization.clone();
        let mut request = surroundings.git.applied_to(request.clone());
        if !request.remote.starts_with("https://") {
            // Only who asks for it by GIT_PULL_METHOD sends a login without encryption.
            request.authorization = own;
        }
        return repository(&request, sub_path, Ignoring::Nothing, surroundings);
    }
    let spec = ContextSpec::parse(spec).map_err(|source| RemoteError::Spec { source })?;
    match spec {
        ContextSpec::Path(path) => {
            let path = surroundings.current_dir.join(path);
            let material = if host::is_file(&path) {
                Material::File { path, sub_path }
            } else {
                Material::Directory { path, sub_path }
            };
            Ok(LocalContext {
                material,
                is_fetched: false,
                heeds_ignore_file: true,
                last_modified: None,
            })
        }
        ContextSpec::Stdin => stdin(sub_path, surroundings),
        ContextSpec::Repository(spec) => {
            let request = request(spec, surroundings.git);
            repository(&request, sub_path, Ignoring::AsTheFileSays, surroundings)
        }
        ContextSpec::Stored(file) => {
            let path = spool(surroundings)?;
            let (network, options) = (&surroundings.network, DownloadOptions::default());
            let downloaded = bucket::fetch(network, surroundings.clouds, &file, options, &path);
            Ok(archive(&downloaded?, path, sub_path, Ignoring::AsTheFileSays))
        }
        ContextSpec::Url(WebUrl(url)) => {
            let path = spool(surroundings)?;
            let options = DownloadOptions::default();
            let downloaded = download(&surroundings.network, &url, None, &options, &path)?;
            Ok(archive(&downloaded, path, sub_path, Ignoring::Nothing))
        }
    }
}

/// What becomes of a context's `.dockerignore`: other builders leave it alone in what comes from a server, and kaniko,
/// whose ways to write a context are its own, does not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ignoring {
    AsTheFileSays,
    Nothing,
}

fn archive(
    downloaded: &Downloaded,
    path: PathBuf,
    sub_path: PathBuf,
    ignoring: Ignoring,
) -> LocalContext {
    LocalContext {
        material: Material::File { path, sub_path },
        is_fetched: true,
        heeds_ignore_file: ignoring == Ignoring::AsTheFileSays,
        last_modified: downloaded.last_modified,
    }
}

impl From<DownloadError> for RemoteError {
    fn from(source: DownloadError) -> Self {
        Self::Download { source: Box::new(source) }
    }
}

/// What `spec` is, as far as the settings say.
fn request(spec: RepositorySpec, settings: &GitSettings) -> GitRequest {
    let scheme = if settings.is_plain_http { "http" } else { "https" };
    settings.applied_to(GitRequest {
        remote: format!("{scheme}://{}", spec.address),
        reference: spec.reference,
        fetch_by_commit: spec.commit.is_some(),
        checksum: spec.commit,
        subdir: spec.directory,
        ..GitRequest::default()
    })
}

impl GitSettings {
    /// `request`, as these settings change it. What it says itself about who we are comes first.
    fn applied_to(&self, request: GitRequest) -> GitRequest {
        let authorization = request.authorization.or_else(|| self.authorization.clone());
        GitRequest {
            reference: self.branch.clone().or(request.reference),
            submodules: self.submodules.unwrap_or(request.submodules),
            keep_git_dir: request.keep_git_dir || self.keep_git_dir || self.history.is_some(),
            history: self.history.unwrap_or(request.history),
            verification: self.verification,
            authorization,
            ..request
        }
    }
}

fn repository(
    request: &GitRequest,
    sub_path: PathBuf,
    ignoring: Ignoring,
    surroundings: &Surroundings<'_>,
) -> Result<LocalContext, RemoteError> {
    let done = checkout(&surroundings.network, request, surroundings.work_dir)
        .map_err(|source| RemoteError::Git { source: Box::new(source) })?;
    Ok(LocalContext {
        material: Material::Directory { path: done.directory, sub_path },
        is_fetched: true,
        heeds_ignore_file: ignoring == Ignoring::AsTheFileSays,
        last_modified: Some(done.commit_time),
    })
}

/// Where a fetched file goes.
fn spool(surroundings: &Surroundings<'_>) -> Result<PathBuf, RemoteError> {
    let dir = surroundings.work_dir;
    host::create_dirs(dir).map_err(|source| RemoteError::Write { path: dir.to_owned(), source })?;
    Ok(dir.join("context"))
}

fn stdin(sub_path: PathBuf, surroundings: &Surroundings<'_>) -> Result<LocalContext, RemoteError> {
    let limit = DownloadOptions::default().limit;
    let mut input = surroundings.stdin.ok_or(RemoteError::NoStdin)?;
    if input.is_terminal() {
        return Err(RemoteError::Terminal);
    }
    let path = spool(surroundings)?;
    let local = |source| RemoteError::Write { path: path.clone(), source };
    let mut file = host::create_file(&path).map_err(local)?;
    let mut buffer = vec![0; 128 << 10];
    let mut left = limit;
    loop {
        if (surroundings.network.is_interrupted)() {
            return Err(RemoteError::Interrupted);
        }
        let count = match input.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(|source| RemoteError::Stdin { source })?,
        };
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
        left = left.checked_sub(count as u64).ok_or(RemoteError::TooLong { limit })?;
        file.write_all(piece).map_err(local)?;
    }
    Ok(LocalContext {
        material: Material::File { path, sub_path },
        is_fetched: true,
        heeds_ignore_file: true,
        last_modified: None,
    })
}

/// A path without `.`, `..` and a slash in front.
fn inside(sub_path: &str) -> Result<PathBuf, RemoteError> {
    let mut inside = PathBuf::new();
    for part in sub_path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if !inside.pop() {
                    return Err(RemoteError::SubPath { sub_path: sub_path.to_owned() });
                }
            }
            name => inside.push(name),
        }
    }
    Ok(inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebiko_transport::{Options, Transport};

    /// A machine that is nobody to any cloud.
    fn nobody() -> Clouds {
        let read = |_: &Path| Err(io::ErrorKind::NotFound.into());
        let variables = std::collections::BTreeMap::new();
        let surroundings = ebiko_cloud::Surroundings { variables: &variables, read: &read };
        Clouds::read(&surroundings, std::sync::Arc::new(|| 0))
    }

    #[track_caller]
    fn check(spec: &str, sub_path: &str, expected: &str) {
        let transport = Transport::new(&Options::default()).expect("the defaults are right");
        let surroundings = Surroundings {
            current_dir: Path::new("/workspace"),
            work_dir: Path::new("/kaniko/buildcontext"),
            network: Network { transport: &transport, is_interrupted: &|| false, ssh: None },
            stdin: None,
            repository: None,
            git: &GitSettings::default(),
            clouds: &nobody(),
        };
        let actual = match fetch(spec, sub_path, &surroundings) {
            Ok(LocalContext { material: Material::Directory { path, sub_path }, .. }) => {
                let more = if sub_path == Path::new("") { "" } else { " and there " };
                format!("{}{more}{}", path.display(), sub_path.display())
            }
            Ok(other) => format!("{other:?}"),
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
        check("/src", "a//./b/", "/src and there a/b");
        check("/src", "/a/../b", "/src and there b");
        check("/src", "../etc", "the sub-path `../etc` leaves the build context");
        check("/src", "a/../../etc", "the sub-path `a/../../etc` leaves the build context");
    }

    #[test]
    fn without_a_standard_input_there_is_no_context_in_it() {
        check("-", "", "there is no standard input to read the build context from");
    }

    #[test]
    fn the_settings_say_how_a_repository_is_fetched() {
        let ContextSpec::Repository(spec) =
            ContextSpec::parse("git://h.example/r#main:sub#1234").expect("a context")
        else {
            panic!("it is a repository");
        };
        let settings = GitSettings {
            is_plain_http: true,
            branch: Some("other".into()),
            submodules: Some(true),
            history: Some(History::Whole),
            verification: Verification::NotOfTheChosen,
            ..GitSettings::default()
        };
        let expected = GitRequest {
            remote: "http://h.example/r".into(),
            reference: Some("other".into()),
            checksum: Some("1234".into()),
            fetch_by_commit: true,
            subdir: "sub".into(),
            submodules: true,
            keep_git_dir: true,
            history: History::Whole,
            verification: Verification::NotOfTheChosen,
            ..GitRequest::default()
        };
        assert_eq!(request(spec.clone(), &settings), expected);
        let plain = request(spec, &GitSettings::default());
        assert_eq!(plain.remote, "https://h.example/r");
        assert_eq!(plain.reference.as_deref(), Some("main"));
        assert!(!plain.submodules && !plain.keep_git_dir);
    }
}
