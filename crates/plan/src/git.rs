//! Git repositories as sources.

use crate::go;
use crate::url::{self, Url};

/// A git repository and what is wanted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question that a source answers")]
pub struct GitSource {
    /// Where it is, as git takes it: an address without query and fragment, or `user@host:path`.
    pub remote: String,
    /// A branch, a tag, a full name (`refs/…`), or a whole commit hash; the remote's default if `None`.
    pub reference: Option<String>,
    /// The beginning of the hash that the commit must have.
    pub checksum: Option<String>,
    /// The directory that is copied; empty for all.
    pub subdir: String,
    /// Whether `.git` is kept.
    pub keep_git_dir: bool,
    /// Whether submodules are checked out, recursively.
    pub submodules: bool,
    /// Whether files are as old as the commit, rather than as old as the checkout.
    pub commit_time: bool,
    /// Whether the commit of `checksum` is fetched by its hash and not by `reference`.
    pub fetch_by_commit: bool,
}

/// An address is that of a git repository, and says something about it that makes no sense. The messages are BuildKit's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum GitSourceError {
    #[error("query {} has no value", go::quote(.0))]
    NoValue(String),
    #[error("query {} has multiple values", go::quote(.0))]
    ManyValues(String),
    #[error("unexpected query {}", go::quote(.0))]
    Unexpected(String),
    #[error("invalid {key} value: {}", go::quote(.value))]
    Value { key: String, value: String },
    #[error("invalid mtime value: {} (must be \"checkout\" or \"commit\")", go::quote(.0))]
    Time(String),
    #[error("{what} conflicts: {} vs {}", go::quote(.first), go::quote(.second))]
    Conflict { what: &'static str, first: String, second: String },
    #[error("branch conflicts with tag")]
    BranchAndTag,
    #[error("inconsistent keep-git-dir configuration")]
    KeepGitDir,
    #[error("checksum mismatch {} != {}", go::quote(.flag), go::quote(.query))]
    Checksums { flag: String, query: String },
    #[error("invalid checksum {0} for Git URL, expected hex commit hash")]
    Checksum(String),
}

impl GitSource {
    /// Reads the address of a build context.
    ///
    /// `None` is no git repository: a path, or an address whose path does not end in `.git` where its scheme does not
    /// say git. `github.com/a/b` is a repository here, unlike in `ADD`.
    ///
    /// ```
    /// # use ebiko_plan::GitSource;
    /// let source = GitSource::parse("https://example.com/a.git#v1:docs")?.unwrap();
    /// assert_eq!(source.remote, "https://example.com/a.git");
    /// assert_eq!((source.reference.as_deref(), source.subdir.as_str()), (Some("v1"), "docs"));
    /// assert_eq!(GitSource::parse("https://example.com/a.tar")?, None);
    /// # Ok::<(), ebiko_plan::GitSourceError>(())
    /// ```
    pub fn parse(text: &str) -> Result<Option<Self>, GitSourceError> {
        let Some(address) = GitAddress::parse(text)? else { return Ok(None) };
        let keep_git_dir = address.keep_git_dir.unwrap_or(false);
        let source = Self { keep_git_dir, ..address.source };
        source.check()?;
        Ok(Some(source))
    }

    fn check(&self) -> Result<(), GitSourceError> {
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match &self.checksum {
            Some(checksum) if !is_hex(checksum) => Err(GitSourceError::Checksum(checksum.clone())),
            _ => Ok(()),
        }
    }

    fn set_reference(&mut self, reference: String) -> Result<(), GitSourceError> {
        let first = self.reference.get_or_insert_with(|| reference.clone());
        if *first == reference {
            return Ok(());
        }
        let first = first.clone();
        Err(GitSourceError::Conflict { what: "ref", first, second: reference })
    }
}

/// The address of a repository, before flags of `ADD` are taken into account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GitAddress {
    /// What it says; `keep_git_dir` is not set.
    source: GitSource,
    /// What it says about `.git`, if anything.
    keep_git_dir: Option<bool>,
    /// Whether it could be a path as well, which `ADD` takes it for: `github.com/a/b`.
    pub(crate) is_like_a_path: bool,
}

impl GitAddress {
    /// Reads an address, `None` if it is none of a repository.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, GitSourceError> {
        let is_like_a_path = text.starts_with("github.com/");
        let whole;
        let text = if is_like_a_path {
            whole = format!("https://{text}");
            &whole
        } else {
            text
        };
        let Some((remote, fragment, query)) = parts(text, is_like_a_path) else { return Ok(None) };
        let mut source = GitSource { remote, submodules: true, ..GitSource::default() };
        if !fragment.is_empty() {
            let (reference, subdir) = fragment.split_once(':').unwrap_or((&fragment, ""));
            source.reference = Some(reference.to_owned()).filter(|reference| !reference.is_empty());
            go::join_path("/", subdir).trim_start_matches('/').clone_into(&mut source.subdir);
        }
        let mut address = Self { source, keep_git_dir: None, is_like_a_path };
        address.read_query(&query)?;
        Ok(Some(address))
    }

    fn read_query(&mut self, pairs: &[(String, String)]) -> Result<(), GitSourceError> {
        let (mut tag, mut branch) = (None, None);
        for (index, (key, value)) in pairs.iter().enumerate() {
            if pairs[..index].iter().any(|(before, _)| before == key) {
                return Err(GitSourceError::ManyValues(key.clone()));
            }
            let boolean = || match value.as_str() {
                "" | "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
                "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
                _ => Err(GitSourceError::Value { key: key.clone(), value: value.clone() }),
            };
            let is_boolean =
                matches!(key.as_str(), "keep-git-dir" | "submodules" | "fetch-by-commit");
            if value.is_empty() && !is_boolean {
                return Err(GitSourceError::NoValue(key.clone()));
            }
            match key.as_str() {
                "ref" => self.source.set_reference(value.clone())?,
                "tag" => tag = Some(value),
                "branch" => branch = Some(value),
                "subdir" if !self.source.subdir.is_empty() && self.source.subdir != *value => {
                    let first = self.source.subdir.clone();
                    let second = value.clone();
                    return Err(GitSourceError::Conflict { what: "subdir", first, second });
                }
                "subdir" => self.source.subdir.clone_from(value),
                "checksum" | "commit" => self.source.checksum = Some(value.clone()),
                "keep-git-dir" => self.keep_git_dir = Some(boolean()?),
                "submodules" => self.source.submodules = boolean()?,
                "fetch-by-commit" => self.source.fetch_by_commit = boolean()?,
                "mtime" => match value.as_str() {
                    "checkout" => self.source.commit_time = false,
                    "commit" => self.source.commit_time = true,
                    _ => return Err(GitSourceError::Time(value.clone())),
                },
                _ => return Err(GitSourceError::Unexpected(key.clone())),
            }
        }
        if let Some(tag) = tag {
            self.source.set_reference(with_prefix("refs/tags/", tag))?;
        }
        match branch {
            Some(_) if tag.is_some() => Err(GitSourceError::BranchAndTag),
            Some(branch) => self.source.set_reference(with_prefix("refs/heads/", branch)),
            None => Ok(()),
        }
    }

    /// The source of an `ADD` with these flags. The query's `mtime` has no effect there, as in BuildKit.
    pub(crate) fn added(
        self,
        keep_git_dir: Option<bool>,
        checksum: Option<&str>,
    ) -> Result<GitSource, GitSourceError> {
        let keeps = match (self.keep_git_dir, keep_git_dir) {
            (Some(query), Some(flag)) if query != flag => return Err(GitSourceError::KeepGitDir),
            (query, flag) => query.or(flag).unwrap_or(false),
        };
        let mut source = GitSource { keep_git_dir: keeps, commit_time: false, ..self.source };
        match (checksum, &source.checksum) {
            (Some(flag), Some(query)) if flag != query => {
                let (flag, query) = (flag.to_owned(), query.clone());
                return Err(GitSourceError::Checksums { flag, query });
            }
            (Some(flag), None) => source.checksum = Some(flag.to_owned()),
            _ => {}
        }
        source.check()?;
        Ok(source)
    }
}

fn with_prefix(prefix: &str, name: &str) -> String {
    if name.starts_with(prefix) { name.to_owned() } else { format!("{prefix}{name}") }
}

/// Remote, fragment and query.
type Parts = (String, String, Vec<(String, String)>);

/// Takes an address apart; `None` if it is none of a repository.
fn parts(text: &str, is_any_path: bool) -> Option<Parts> {
    if text.starts_with("./") || text.starts_with("../") {
        return None;
    }
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    if !scheme.is_some_and(is_word) {
        return scp_parts(text);
    }
    let url = Url::parse(text)?;
    let is_repository = match url.scheme.as_str() {
        "git" | "ssh" => true,
        // Otherwise it is a file; the letters of `.git` must be lower case.
        "http" | "https" => is_any_path || url.path.strip_suffix(".git").is_some(),
        _ => false,
    };
    let query = url::query(url.query).filter_map(Result::ok).collect();
    is_repository.then(|| (url.without_query(), url.fragment, query))
}

/// `user@host:path[?query][#fragment]`
fn scp_parts(text: &str) -> Option<Parts> {
    let is_word = |text: &str, extra: &[u8]| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
    };
    let (user, rest) = text.split_once('@')?;
    let (host, path) = rest.split_once(':')?;
    if !is_word(user, b"-_") || !is_word(host, b"-.") || path.contains('\n') {
        return None;
    }
    let (path, fragment) = path.split_once('#').unwrap_or((path, ""));
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query = url::query(query).collect::<Result<_, _>>().ok()?;
    Some((format!("{user}@{host}:{path}"), fragment.to_owned(), query))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows only what differs from the defaults.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let actual = match GitSource::parse(text) {
            Err(error) => format!("error: {error}"),
            Ok(None) => "none".to_owned(),
            Ok(Some(source)) => {
                let flags = [
                    (source.keep_git_dir, " keeps .git"),
                    (!source.submodules, " no submodules"),
                    (source.commit_time, " commit time"),
                    (source.fetch_by_commit, " by commit"),
                ];
                let flags = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, text)| *text);
                let texts = [
                    (source.reference, " at "),
                    (source.checksum, " is "),
                    (Some(source.subdir).filter(|subdir| !subdir.is_empty()), " in "),
                ];
                let texts = texts.into_iter().filter_map(|(text, label)| Some((label, text?)));
                source.remote
                    + &texts.map(|(label, text)| label.to_owned() + &text).collect::<String>()
                    + &flags.collect::<String>()
            }
        };
        assert_eq!(actual, expected, "reading {text:?}");
    }

    #[test]
    fn git_is_recognised_by_scheme_suffix_or_scp_form() {
        check("https://example.com/foo.git", "https://example.com/foo.git");
        check("HTTPS://example.com/foo.git", "https://example.com/foo.git");
        check("git://example.com/foo", "git://example.com/foo");
        check("ssh://git@h:22/a/b", "ssh://git@h:22/a/b");
        check("git@github.com:moby/buildkit", "git@github.com:moby/buildkit");
        check("github.com/a/b", "https://github.com/a/b");
        for text in [
            "https://example.com/",
            "http://example.com/foo.git/",
            "https://h/a.GIT",
            "http://github.com/docker/docker.git:#branch",
            "https://h/%zz.git",
            "custom.xyz/moby/buildkit.git",
            "./.git",
            "../git@h:x",
            "file:///a/b.git",
            "/github.com/a/b",
            "foo@bar",
            "a b@c:d",
            "git@h:x?a=%",
            "",
        ] {
            check(text, "none");
        }
    }

    #[test]
    fn a_fragment_names_a_reference_and_a_directory() {
        check("https://h/a.git#v1", "https://h/a.git at v1");
        check("https://h/a.git#:d/../e/", "https://h/a.git in e");
        check("https://h/a.git#v1:../d", "https://h/a.git at v1 in d");
        check("u@h:a.git#b:c", "u@h:a.git at b in c");
        check("u@h:a#b?c=d", "u@h:a at b?c=d");
        check("https://h/a.git#", "https://h/a.git");
    }

    #[test]
    fn a_query_says_more() {
        check("https://h/a.git?ref=x&subdir=d", "https://h/a.git at x in d");
        check("https://h/a.git?tag=v1", "https://h/a.git at refs/tags/v1");
        check("https://h/a.git?branch=refs/heads/m", "https://h/a.git at refs/heads/m");
        check("u@h:a?branch=m&commit=AB12#", "u@h:a at refs/heads/m is AB12");
        check(
            "https://h/a.git?keep-git-dir&submodules=0&mtime=commit&fetch-by-commit=t&checksum=ab",
            "https://h/a.git is ab keeps .git no submodules commit time by commit",
        );
        check("https://h/a.git?ref=x#x:d", "https://h/a.git at x in d");
    }

    #[test]
    fn what_contradicts_itself_is_an_error() {
        let error = |query: &str, expected: &str| {
            check(&format!("https://h/a.git?{query}"), &format!("error: {expected}"));
        };
        error("ref=", r#"query "ref" has no value"#);
        error("ref", r#"query "ref" has no value"#);
        error("ref=a&ref=b", r#"query "ref" has multiple values"#);
        error("x=1", r#"unexpected query "x""#);
        error("submodules=x", r#"invalid submodules value: "x""#);
        error("mtime=x", r#"invalid mtime value: "x" (must be "checkout" or "commit")"#);
        error("ref=a#b", r#"ref conflicts: "b" vs "a""#);
        error("ref=a&tag=a", r#"ref conflicts: "a" vs "refs/tags/a""#);
        error("subdir=a#:b", r#"subdir conflicts: "b" vs "a""#);
        error("tag=a&branch=a", "branch conflicts with tag");
        error("commit=xyz", "invalid checksum xyz for Git URL, expected hex commit hash");
    }

    #[test]
    fn flags_and_query_must_agree() {
        let added = |text: &str, keeps, checksum| {
            GitAddress::parse(text).unwrap().unwrap().added(keeps, checksum)
        };
        let source = added("git@h:a?mtime=commit", Some(true), Some("ab")).unwrap();
        assert!(source.keep_git_dir && !source.commit_time);
        assert_eq!(source.checksum.as_deref(), Some("ab"));
        assert!(!added("git@h:a?keep-git-dir=0", None, None).unwrap().keep_git_dir);
        let error = |text, keeps, checksum| added(text, keeps, checksum).unwrap_err().to_string();
        assert_eq!(
            error("git@h:a?keep-git-dir=0", Some(true), None),
            "inconsistent keep-git-dir configuration"
        );
        assert_eq!(error("git@h:a?commit=a", None, Some("b")), r#"checksum mismatch "b" != "a""#);
        assert_eq!(
            error("git@h:a", None, Some("x")),
            "invalid checksum x for Git URL, expected hex commit hash"
        );
    }
}
