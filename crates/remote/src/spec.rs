//! The value of `--context`.

use std::path::PathBuf;

use crate::bucket::{AzureBlob, GcsObject, S3Object, StoredFile};

/// The file that a bucket is asked for if none is named.
const STORED_NAME: &str = "context.tar.gz";

/// A build context, as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContextSpec {
    /// A directory or a file on this machine: `dir://PATH`, `tar://FILE`, or a path without `://`.
    Path(PathBuf),
    /// What comes through the standard input: `tar://stdin` or `-`.
    Stdin,
    /// A repository: `git://HOST/PATH[#REF[:DIRECTORY][#COMMIT]]`.
    Repository(RepositorySpec),
    /// A file in a cloud's storage: `s3://BUCKET[/KEY]`, `gs://BUCKET[/OBJECT]`, or a blob of Azure's that its URL holds no
    /// signature for.
    Stored(StoredFile),
    /// A file on a web server.
    Url(WebUrl),
}

/// A repository as the user names it. What it is fetched with, and by whom, is said elsewhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RepositorySpec {
    /// Host and path, perhaps with a user name and a password: not to be printed.
    pub(crate) address: String,
    /// A branch, tag, full name or commit.
    pub(crate) reference: Option<String>,
    /// The directory that is the context; empty for all.
    pub(crate) directory: String,
    /// The commit, whatever the reference points to.
    pub(crate) commit: Option<String>,
}

impl std::fmt::Debug for RepositorySpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RepositorySpec")
            .field("reference", &self.reference)
            .field("directory", &self.directory)
            .field("commit", &self.commit)
            .finish_non_exhaustive()
    }
}

/// A URL that may hold a token, and so cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct WebUrl(pub(crate) String);

impl std::fmt::Debug for WebUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebUrl(…)")
    }
}

/// A text does not name a context that can be used. The text itself is not repeated beyond its
/// scheme, because what follows may hold a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum SpecError {
    #[error("no context is given")]
    Empty,
    #[error(
        "`{scheme}://` is not followed by the name of a bucket and, after a slash, of a file in it"
    )]
    Bucket { scheme: String },
    #[error("`{scheme}://` is not a kind of context")]
    Unknown { scheme: String },
}

impl ContextSpec {
    /// Reads the value of `--context`.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return match text {
                "" => Err(SpecError::Empty),
                "-" => Ok(Self::Stdin),
                path => Ok(Self::Path(path.into())),
            };
        };
        match scheme {
            "dir" | "tar" | "git" if rest.is_empty() => Err(SpecError::Empty),
            "tar" if rest == "stdin" => Ok(Self::Stdin),
            "dir" | "tar" => Ok(Self::Path(rest.into())),
            "git" => Ok(Self::Repository(RepositorySpec::parse(rest))),
            "s3" | "gs" => {
                let (bucket, name) = rest.split_once('/').unwrap_or((rest, ""));
                let name = if name.is_empty() { STORED_NAME } else { name };
                let file = if scheme == "s3" {
                    S3Object::new(bucket, name).map(StoredFile::S3)
                } else {
                    GcsObject::new(bucket, name).map(StoredFile::Gcs)
                };
                file.map(Self::Stored).ok_or(SpecError::Bucket { scheme: scheme.to_owned() })
            }
            "http" | "https" => Ok(match AzureBlob::parse(text) {
                Some(blob) => Self::Stored(StoredFile::Azure(blob)),
                None => Self::Url(WebUrl(text.to_owned())),
            }),
            _ => Err(SpecError::Unknown { scheme: scheme.chars().take(40).collect() }),
        }
    }
}

impl RepositorySpec {
    fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '#');
        let mut part = || parts.next().filter(|part| !part.is_empty());
        let address = part().unwrap_or_default().to_owned();
        let version = part().unwrap_or_default();
        // No name of a version has a colon in it.
        let (reference, directory) = version.split_once(':').unwrap_or((version, ""));
        Self {
            address,
            reference: Some(reference.to_owned()).filter(|reference| !reference.is_empty()),
            directory: directory.to_owned(),
            commit: part().map(str::to_owned),
        }
    }
}

impl SpecError {
    /// What is allowed.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Bucket { .. } => {
                "use `s3://BUCKET/FILE` or `gs://BUCKET/FILE`; a `.` or `..` cannot be a part of the file's name"
            }
            Self::Empty | Self::Unknown { .. } => {
                "use a directory (`/path`), an archive (`tar:///path`, `tar://stdin`), a repository \
                 (`git://host/path`, `https://host/path.git`), a file in a bucket (`s3://bucket/file`, \
                 `gs://bucket/file`) or a URL"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let actual = match ContextSpec::parse(text) {
            Ok(ContextSpec::Path(path)) => path.display().to_string(),
            Ok(ContextSpec::Url(WebUrl(url))) => format!("url {url}"),
            Ok(ContextSpec::Repository(spec)) => format!("{} {spec:?}", spec.address),
            Ok(ContextSpec::Stored(file)) => format!("stored {file}"),
            Ok(ContextSpec::Stdin) => "stdin".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected, "{text:?}");
    }

    #[test]
    fn paths_and_dir_urls_and_tar_urls_are_on_this_machine() {
        check("/workspace/", "/workspace/");
        check("dir:///workspace", "/workspace");
        check("dir://relative", "relative");
        check("tar:///context.tar.gz", "/context.tar.gz");
        check("a:b/c", "a:b/c");
    }

    #[test]
    fn the_standard_input_has_two_names() {
        check("-", "stdin");
        check("tar://stdin", "stdin");
        check("./-", "./-");
    }

    #[test]
    fn a_repository_has_a_version_a_directory_and_a_commit() {
        let spec = |reference: &str, directory: &str, commit: &str| {
            format!(
                "h.example/r RepositorySpec {{ reference: {reference}, directory: \"{directory}\", \
                 commit: {commit}, .. }}"
            )
        };
        check("git://h.example/r", &spec("None", "", "None"));
        check("git://h.example/r#main", &spec("Some(\"main\")", "", "None"));
        check("git://h.example/r#refs/heads/a:sub", &spec("Some(\"refs/heads/a\")", "sub", "None"));
        check("git://h.example/r#:sub", &spec("None", "sub", "None"));
        check("git://h.example/r#a#1234", &spec("Some(\"a\")", "", "Some(\"1234\")"));
        check("git://h.example/r##1234", &spec("None", "", "Some(\"1234\")"));
    }

    #[test]
    fn a_bucket_has_a_file_whose_name_is_the_whole_path() {
        check("gs://bucket/a/b c.tar", "stored gs://bucket/a/b c.tar");
        check("s3://bucket/a/b.tar.zst", "stored s3://bucket/a/b.tar.zst");
        for scheme in ["s3", "gs"] {
            for rest in ["bucket", "bucket/"] {
                check(
                    &format!("{scheme}://{rest}"),
                    &format!("stored {scheme}://bucket/context.tar.gz"),
                );
            }
        }
        check("s3://My.old_bucket/x", "stored s3://My.old_bucket/x");
    }

    #[test]
    fn a_name_that_is_no_buckets_never_becomes_a_piece_of_a_host() {
        for rest in
            ["", "/x", "b@evil.example/x", "b:80/x", "b#/x", "b?/x", "b%2f/x", ".b/x", "b./x"]
        {
            for scheme in ["s3", "gs"] {
                check(
                    &format!("{scheme}://{rest}"),
                    &format!(
                        "`{scheme}://` is not followed by the name of a bucket and, after a slash, of a file in it"
                    ),
                );
            }
        }
        check(
            "s3://b/a/../x",
            "`s3://` is not followed by the name of a bucket and, after a slash, of a file in it",
        );
    }

    #[test]
    fn a_blob_of_azure_is_asked_for_with_a_signature_unless_its_url_has_one() {
        check(
            "https://me.blob.core.windows.net/c/x",
            "stored https://me.blob.core.windows.net/c/x",
        );
        check(
            "https://me.blob.core.windows.net/c/x?sig=1",
            "url https://me.blob.core.windows.net/c/x?sig=1",
        );
        check(
            "https://h.example/blob.core.windows.net",
            "url https://h.example/blob.core.windows.net",
        );
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        check("ftp://x", "`ftp://` is not a kind of context");
        check("", "no context is given");
        check("dir://", "no context is given");
    }

    #[test]
    fn what_may_be_a_token_is_not_repeated() {
        for text in ["git://s3cret@host/repository", "https://s3cret@host/x", "ftp://s3cret@host"] {
            let print = match ContextSpec::parse(text) {
                Ok(spec) => format!("{spec:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!print.contains("s3cret"), "{print}");
        }
    }
}
