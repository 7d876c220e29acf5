//! The value of `--context`.

use std::path::PathBuf;

/// A build context, as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContextSpec {
    /// A directory on this machine: `dir://PATH`, or a path without `://`.
    Directory(PathBuf),
}

/// A text does not name a context that can be used. The text itself is not repeated beyond its
/// scheme, because what follows may hold a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum SpecError {
    #[error("no context is given")]
    Empty,
    #[error("contexts of the kind `{scheme}://` are not supported yet")]
    NotYet { scheme: &'static str },
    #[error("`{scheme}://` is not a kind of context")]
    Unknown { scheme: String },
}

/// What other tools, and later versions, fetch.
const NOT_YET: [&str; 6] = ["tar", "gs", "s3", "https", "http", "git"];

impl ContextSpec {
    /// Reads the value of `--context`.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return match text {
                "" => Err(SpecError::Empty),
                path => Ok(Self::Directory(path.into())),
            };
        };
        match scheme {
            "dir" if rest.is_empty() => Err(SpecError::Empty),
            "dir" => Ok(Self::Directory(rest.into())),
            _ => match NOT_YET.into_iter().find(|known| *known == scheme) {
                Some(scheme) => Err(SpecError::NotYet { scheme }),
                None => Err(SpecError::Unknown { scheme: scheme.chars().take(40).collect() }),
            },
        }
    }
}

impl SpecError {
    /// What is allowed.
    pub fn hint(&self) -> &'static str {
        "use a directory: `dir:///path` or `/path`"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let actual = match ContextSpec::parse(text) {
            Ok(ContextSpec::Directory(path)) => path.display().to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected, "{text:?}");
    }

    #[test]
    fn paths_and_dir_urls_are_directories() {
        check("/workspace/", "/workspace/");
        check("dir:///workspace", "/workspace");
        check("dir://relative", "relative");
        check("a:b/c", "a:b/c");
    }

    #[test]
    fn every_other_kind_is_refused_by_name() {
        for scheme in NOT_YET {
            let message = format!("contexts of the kind `{scheme}://` are not supported yet");
            check(&format!("{scheme}://bucket/x"), &message);
        }
        check("tar://stdin", "contexts of the kind `tar://` are not supported yet");
        check("ftp://x", "`ftp://` is not a kind of context");
        check("", "no context is given");
        check("dir://", "no context is given");
    }

    #[test]
    fn what_may_be_a_token_is_not_repeated() {
        let error = ContextSpec::parse("git://s3cret@host/repository").expect_err("not yet");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}
