//! Files that steps read besides the build context: made ready when they are needed for the first time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use ebiko_context::{Context, FindIgnoreFileError, OpenContextError, find_ignore_file};
use ebiko_exec::{Download, Inputs};
use ebiko_layer::{ArchiveError, Limits, newest_member};
use ebiko_oci::PortError;
use ebiko_plan::{CopySource, DownloadSource, EpochSource, GitSource, GitSourceError};
use ebiko_rootfs::{OpenRootError, Root, RootPath, RootPathError, Time};

use crate::archive::{ContextArchiveError, unpack_context};
use crate::request::{BuildRequest, Ports};

/// Something that a step reads could not be made ready.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum InputError {
    #[error("cannot download `{url}`")]
    Download { url: String, source: PortError },
    #[error("cannot fetch the git repository `{remote}`")]
    Checkout { remote: String, source: PortError },
    #[error("cannot use the context `{name}`")]
    Context { name: String, source: ContextFault },
    #[error("there is no context `{name}`")]
    NoContext { name: String },
    #[error("cannot make the directory `{}`", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot open `{}`", path.display())]
    Open { path: PathBuf, source: OpenRootError },
    #[error("cannot find out how old `{url}` is")]
    Age { url: String, source: ArchiveError },
}

/// Why a context with a name cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are those of the causes")]
pub enum ContextFault {
    #[error(transparent)]
    Open(#[from] OpenContextError),
    #[error(transparent)]
    IgnoreFile(#[from] FindIgnoreFileError),
    #[error("cannot read what was downloaded")]
    Read { source: io::Error },
    #[error(transparent)]
    Archive(#[from] ContextArchiveError),
    #[error(transparent)]
    Git(#[from] GitSourceError),
    #[error(transparent)]
    Fetch(Box<InputError>),
}

/// What a fetched context is called that is no archive but a file.
const FETCHED: &str = "context";

/// The files that were made ready so far, and how.
pub(crate) struct InputStore<'a> {
    request: &'a BuildRequest,
    ports: &'a Ports<'a>,
    /// A directory of the builder's for what is fetched; made when it is needed.
    directory: PathBuf,
    /// How many directories were made in it; they are numbered.
    count: usize,
    files: Inputs,
    /// How old the contexts with names are, where that is known.
    ages: BTreeMap<String, Option<Time>>,
    /// The times of the commits of `files.checkouts`.
    commits: BTreeMap<GitSource, Commit>,
}

/// What a repository stood for.
struct Commit {
    hash: String,
    time: Time,
}

#[expect(clippy::disallowed_methods, reason = "the builder's own directory is on the host")]
impl<'a> InputStore<'a> {
    pub(crate) fn new(request: &'a BuildRequest, ports: &'a Ports<'a>, directory: PathBuf) -> Self {
        Self {
            request,
            ports,
            directory,
            count: 0,
            files: Inputs::default(),
            ages: BTreeMap::new(),
            commits: BTreeMap::new(),
        }
    }

    /// What is ready.
    pub(crate) fn files(&self) -> &Inputs {
        &self.files
    }

    /// For what others make ready: stages and images.
    pub(crate) fn files_mut(&mut self) -> &mut Inputs {
        &mut self.files
    }

    /// The commit that a repository stood for when it was fetched.
    pub(crate) fn commit(&self, source: &GitSource) -> Option<&str> {
        self.commits.get(source).map(|commit| commit.hash.as_str())
    }

    /// What was downloaded, if it was.
    pub(crate) fn downloaded(&self, source: &DownloadSource) -> Option<&Download> {
        self.files.downloads.get(source)
    }

    /// Makes the source of a copy ready; files of a context are there already.
    pub(crate) fn fetch(&mut self, source: &CopySource) -> Result<(), InputError> {
        match source {
            CopySource::Path(_) => Ok(()),
            CopySource::Download(source) => self.download(source).map(drop),
            CopySource::Git(source) => self.checkout(source),
        }
    }

    /// A download, which is fetched now if it was not before.
    pub(crate) fn download(&mut self, source: &DownloadSource) -> Result<&Download, InputError> {
        if !self.files.downloads.contains_key(source) {
            let directory = self.make_directory()?;
            let found = self.ports.sources.download(source, &directory);
            let found = found
                .map_err(|error| InputError::Download { url: shown(&source.url), source: error })?;
            let path = RootPath::parse(found.name.as_os_str().as_encoded_bytes());
            let bad = |error: RootPathError| InputError::Download {
                url: shown(&source.url),
                source: error.into(),
            };
            let download = Download {
                root: open(&directory)?,
                path: path.map_err(bad)?,
                digest: found.digest,
                etag: found.etag,
                last_modified: found.last_modified,
            };
            self.files.downloads.insert(source.clone(), download);
        }
        // It was inserted above, and without indexing there is no panic to explain.
        self.files
            .downloads
            .get(source)
            .ok_or_else(|| InputError::NoContext { name: shown(&source.url) })
    }

    fn checkout(&mut self, source: &GitSource) -> Result<(), InputError> {
        if self.files.checkouts.contains_key(source) {
            return Ok(());
        }
        let directory = self.make_directory()?;
        let found = self.ports.sources.checkout(source, &directory).map_err(|error| {
            InputError::Checkout { remote: shown(&source.remote), source: error }
        })?;
        let commit = Commit { hash: found.commit, time: found.committed };
        self.commits.insert(source.clone(), commit);
        self.files.checkouts.insert(source.clone(), open(&found.directory)?);
        Ok(())
    }

    /// Makes the context `name` ready.
    pub(crate) fn context(&mut self, name: &str) -> Result<(), InputError> {
        if self.files.contexts.contains_key(name) {
            return Ok(());
        }
        let request = self.request;
        let source = request.options.contexts.get(name);
        let source = source.ok_or_else(|| InputError::NoContext { name: name.to_owned() })?;
        let (context, age) = self
            .open_context(source)
            .map_err(|source| InputError::Context { name: name.to_owned(), source })?;
        self.files.contexts.insert(name.to_owned(), context);
        self.ages.insert(name.to_owned(), age);
        Ok(())
    }

    /// Only files come here: what is an image was made one by the plan.
    fn open_context(&mut self, value: &str) -> Result<(Context, Option<Time>), ContextFault> {
        let fetch = |error| ContextFault::Fetch(Box::new(error));
        if let Some(source) = GitSource::parse(value)? {
            self.checkout(&source).map_err(fetch)?;
            let root = self.files.checkouts.get(&source);
            let path = root.map(|root| root.host_path().to_owned()).unwrap_or_default();
            return Ok((
                Context::open(&path, None)?,
                self.commits.get(&source).map(|commit| commit.time),
            ));
        }
        if value.starts_with("http://") || value.starts_with("https://") {
            let source =
                DownloadSource { url: value.to_owned(), name: FETCHED.to_owned(), checksum: None };
            let directory = self.make_directory().map_err(fetch)?;
            let download = self.download(&source).map_err(fetch)?;
            let file = download.root.host_path().join(download.path.to_string());
            let last_modified = download.last_modified;
            let alone = download.root.host_path().to_owned();
            let mut archive = File::open(&file).map_err(|source| ContextFault::Read { source })?;
            return match unpack_context(&mut archive, &directory, &self.request.limits)? {
                Some(newest) => {
                    Ok((Context::open(&directory, None)?, last_modified.or(Some(newest))))
                }
                None => Ok((Context::open(&alone, None)?, last_modified)),
            };
        }
        let path = Path::new(value.strip_prefix("local:").unwrap_or(value));
        let ignore = find_ignore_file(path, &path.join("Dockerfile"))?;
        let ignore = ignore.as_ref().map(|found| found.text.as_slice());
        Ok((Context::open(path, ignore)?, None))
    }

    /// The time that `SOURCE_DATE_EPOCH` stands for, in seconds since 1970; `None` where what it names has none.
    pub(crate) fn epoch(&mut self, source: &EpochSource) -> Result<Option<i64>, InputError> {
        let time = match source {
            EpochSource::Seconds(seconds) => return Ok(Some(*seconds)),
            EpochSource::Context => self.request.context_age,
            EpochSource::Named(name) => {
                self.context(name)?;
                self.ages.get(name).copied().flatten()
            }
            EpochSource::Source(CopySource::Path(_)) => None,
            EpochSource::Source(CopySource::Git(source)) => {
                self.checkout(source)?;
                self.commits.get(source).map(|commit| commit.time)
            }
            EpochSource::Source(CopySource::Download(source)) => {
                let download = self.download(source)?;
                let path = download.root.host_path().join(download.path.to_string());
                age(&source.url, &path, download.last_modified, &self.request.limits)?
            }
        };
        Ok(time.map(|time| time.secs))
    }

    fn make_directory(&mut self) -> Result<PathBuf, InputError> {
        self.count += 1;
        let path = self.directory.join(self.count.to_string());
        std::fs::create_dir_all(&path)
            .map_err(|source| InputError::Directory { path: path.clone(), source })?;
        Ok(path)
    }
}

/// An address as messages show it: without a login, which can be in one that the user gave a name.
fn shown(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

fn open(path: &Path) -> Result<Root, InputError> {
    Root::open_read_only(path).map_err(|source| InputError::Open { path: path.to_owned(), source })
}

/// What the server says, else what the youngest member of an archive says.
#[expect(clippy::disallowed_methods, reason = "the builder's own directory is on the host")]
fn age(
    url: &str,
    file: &Path,
    last_modified: Option<Time>,
    limits: &Limits,
) -> Result<Option<Time>, InputError> {
    if last_modified.is_some() {
        return Ok(last_modified);
    }
    let failed = |source| InputError::Age { url: shown(url), source };
    let mut file = File::open(file).map_err(|source| failed(ArchiveError::Read { source }))?;
    newest_member(&mut file, limits).map_err(failed)
}

impl InputError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Directory { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some("free space, or give the builder a larger volume")
                }
                _ => None,
            },
            Self::Age { source, .. } => source.hint(),
            Self::Context { source: ContextFault::Archive(error), .. } => error.hint(),
            Self::NoContext { .. } => Some("give it with `--build-context NAME=VALUE`"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_not_shown() {
        for (address, expected) in [
            ("https://u:p@h.example:80/a@b?c@d", "https://h.example:80/a@b?c@d"),
            ("https://u:p@x@h.example", "https://h.example"),
            ("https://h.example/a.git", "https://h.example/a.git"),
            ("git@h.example:a", "git@h.example:a"),
        ] {
            assert_eq!(shown(address), expected);
        }
    }
}
