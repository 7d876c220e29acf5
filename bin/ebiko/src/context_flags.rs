//! The flags that say where the build context is and how it is fetched: kaniko's.

use std::num::NonZero;

use anyhow::bail;
use clap::Args;
use ebiko_build::GitSource;
use ebiko_remote::History;

use crate::environment::Environment;

/// Where an executor image has the context unless something else is said.
const USUAL: &str = "/workspace/";

/// A part of the command line.
#[derive(Debug, Default, Clone, Args)]
#[expect(clippy::doc_markdown, reason = "the comments are the text of `--help`")]
pub(crate) struct ContextFlags {
    /// The build context: a directory, an archive (tar://FILE, or - for standard input), a git
    /// repository (git://HOST/PATH, https://HOST/PATH.git#REF:DIRECTORY), a file in a bucket
    /// (s3://BUCKET/FILE, gs://BUCKET/FILE), the URL of a blob in Azure or of any archive [default:
    /// /workspace/]
    #[arg(short = 'c', long, value_name = "CONTEXT")]
    pub(crate) context: Option<String>,

    /// Build from this directory of the context
    #[arg(long, value_name = "DIRECTORY", default_value = "", hide_default_value = true)]
    pub(crate) context_sub_path: String,

    /// The bucket that is the context, where --context is not given: one of Google's, or with its
    /// scheme. Older than --context, which can say it too
    #[arg(short = 'b', long, value_name = "BUCKET", default_value = "", hide = true)]
    pub(crate) bucket: String,

    /// How a repository is fetched: branch=NAME, depth=COMMITS (0 for all; with it .git is kept),
    /// recurse-submodules=BOOL, insecure-skip-tls=BOOL, single-branch=BOOL (which is always so)
    /// (repeatable, or with commas)
    #[arg(long = "git", value_name = "KEY=VALUE")]
    pub(crate) git: Vec<String>,
}

/// What `--git` says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct GitFlags {
    pub(crate) branch: Option<String>,
    pub(crate) history: Option<History>,
    pub(crate) submodules: Option<bool>,
    pub(crate) skips_tls: bool,
}

impl ContextFlags {
    /// The context, and a warning if one of the flags says something that does not count.
    pub(crate) fn place(&self) -> anyhow::Result<(String, Option<String>)> {
        let context = self.context.as_deref().filter(|context| !context.is_empty());
        if self.bucket.is_empty() {
            return match (context, &self.context) {
                (Some(context), _) => Ok((context.to_owned(), None)),
                (None, None) => Ok((USUAL.to_owned(), None)),
                (None, Some(_)) => bail!("`--context` is empty, and there is no `--bucket`"),
            };
        }
        match context {
            // As in kaniko, where scripts may always give both.
            Some(path) if !path.contains("://") => {
                let warning = "`--bucket` does not count, because `--context` names a path";
                Ok((path.to_owned(), Some(warning.to_owned())))
            }
            Some(_) => bail!("`--context` and `--bucket` both name a place; give one of them"),
            None if self.bucket.contains("://") => Ok((self.bucket.clone(), None)),
            None => Ok((format!("gs://{}", self.bucket), None)),
        }
    }

    /// Whether `--git` was given and there is no repository.
    pub(crate) fn has_git_in_vain(&self) -> bool {
        let is_repository = |context: &str| {
            context.starts_with("git://") || !matches!(GitSource::parse(context), Ok(None))
        };
        let place = self.place().map(|(place, _)| place);
        !self.git.is_empty() && place.is_ok_and(|place| !is_repository(&place))
    }

    /// Reads `--git`.
    pub(crate) fn git(&self) -> anyhow::Result<GitFlags> {
        let mut flags = GitFlags::default();
        for (key, value) in self.git.iter().flat_map(|text| pairs(text)) {
            let boolean = || match Environment::boolean(&value) {
                Some(value) => Ok(value),
                None => bail!("`--git={key}={value}` must be `true` or `false`"),
            };
            match key {
                "branch" if value.is_empty() => bail!("`--git=branch=` names no branch"),
                "branch" => flags.branch = Some(value),
                "depth" => match value.parse::<u32>() {
                    Ok(depth) => {
                        let count = NonZero::new(depth);
                        flags.history = Some(count.map_or(History::Whole, History::Commits));
                    }
                    Err(_) => bail!("`--git=depth={value}` must be a number of commits"),
                },
                "recurse-submodules" => flags.submodules = Some(boolean()?),
                "insecure-skip-tls" => flags.skips_tls = boolean()?,
                // No other branch is ever fetched.
                "single-branch" => drop(boolean()?),
                other => bail!(
                    "`--git={other}` is unknown; there are branch, depth, recurse-submodules, \
                     insecure-skip-tls and single-branch, each as KEY=VALUE"
                ),
            }
        }
        Ok(flags)
    }
}

/// `KEY=VALUE[,KEY=VALUE…]`. A comma that no `KEY=` follows belongs to the value: branches may have one in their name.
fn pairs(text: &str) -> Vec<(&str, String)> {
    let mut pairs: Vec<(&str, String)> = Vec::new();
    for piece in text.split(',') {
        match (piece.split_once('='), pairs.last_mut()) {
            (Some((key, value)), _) => pairs.push((key, value.to_owned())),
            (None, Some((_, value))) => {
                value.push(',');
                value.push_str(piece);
            }
            (None, None) => pairs.push((piece, String::new())),
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_place(context: Option<&str>, bucket: &str, expected: &str) {
        let context = context.map(str::to_owned);
        let flags = ContextFlags { context, bucket: bucket.into(), ..ContextFlags::default() };
        let actual = match flags.place() {
            Ok((place, None)) => place,
            Ok((place, Some(warning))) => format!("{place}, and {warning}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected, "{flags:?}");
    }

    #[test]
    fn a_bucket_is_the_context_where_nothing_else_is() {
        check_place(None, "", "/workspace/");
        check_place(Some("src"), "", "src");
        check_place(Some(""), "", "`--context` is empty, and there is no `--bucket`");
        for context in [None, Some("")] {
            check_place(context, "b/c.tgz", "gs://b/c.tgz");
            check_place(context, "s3://b", "s3://b");
        }
        check_place(
            Some("src"),
            "b",
            "src, and `--bucket` does not count, because `--context` names a path",
        );
        check_place(
            Some("gs://a"),
            "b",
            "`--context` and `--bucket` both name a place; give one of them",
        );
    }

    #[track_caller]
    fn check_git(texts: &[&str], expected: &str) {
        let git = texts.iter().map(|text| (*text).to_owned()).collect();
        let actual = match (ContextFlags { git, ..ContextFlags::default() }).git() {
            Ok(GitFlags { branch, history, submodules, skips_tls }) => {
                format!("{} {history:?} {submodules:?} {skips_tls}", branch.unwrap_or_default())
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected, "{texts:?}");
    }

    #[test]
    fn several_settings_may_be_in_one_flag_or_in_several() {
        check_git(&[], " None None false");
        check_git(&["branch=a", "depth=3"], "a Some(Commits(3)) None false");
        check_git(
            &["branch=a,depth=0,recurse-submodules=1,single-branch=true,insecure-skip-tls=true"],
            "a Some(Whole) Some(true) true",
        );
        check_git(&["branch=fix,this,depth=1"], "fix,this Some(Commits(1)) None false");
        check_git(&["branch=a", "branch=b"], "b None None false");
    }

    #[test]
    fn a_setting_that_is_unknown_or_wrong_is_an_error() {
        let known = "is unknown; there are branch, depth, recurse-submodules, insecure-skip-tls and \
                     single-branch, each as KEY=VALUE";
        check_git(&["tag=1"], &format!("`--git=tag` {known}"));
        check_git(&["shallow"], &format!("`--git=shallow` {known}"));
        check_git(&["branch=a,tag=1"], &format!("`--git=tag` {known}"));
        check_git(&["depth=-1"], "`--git=depth=-1` must be a number of commits");
        check_git(&["depth"], "`--git=depth=` must be a number of commits");
        check_git(
            &["recurse-submodules=yes"],
            "`--git=recurse-submodules=yes` must be `true` or `false`",
        );
        check_git(&["branch="], "`--git=branch=` names no branch");
    }
}
