//! `--exclude`, and what `--parents` wants of a directory.

use ebiko_context::{PatternError, PatternList, Verdict};
use ebiko_rootfs::RootPath;

use crate::copy::CopyError;

/// Which members of a directory are copied. Paths are seen from that directory.
pub(crate) struct Filter<'a> {
    /// What is wanted, if not everything.
    include: Option<PatternList>,
    exclude: &'a PatternList,
}

/// What a [`Filter`] said about a directory, for judging what is in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Judged {
    include: Verdict,
    exclude: Verdict,
}

/// What is done with a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Copy,
    /// It is not copied for itself; something in it may be, and then needs it.
    Search,
    Leave,
}

/// Compiles the values of `--exclude`.
pub(crate) fn exclusions(patterns: &[String]) -> Result<PatternList, CopyError> {
    let failed = |(_, source): (usize, PatternError)| CopyError::Exclude {
        patterns: patterns.join(" "),
        source,
    };
    let list = PatternList::compile(patterns).map_err(failed)?;
    list.check().map_err(failed)?;
    Ok(list)
}

impl<'a> Filter<'a> {
    /// Everything that is not excluded.
    pub(crate) fn all_but(exclude: &'a PatternList) -> Self {
        Self { include: None, exclude }
    }

    /// What `pattern` matches and is not excluded. Its `**` spans directories.
    pub(crate) fn only(pattern: &RootPath, exclude: &'a PatternList) -> Result<Self, CopyError> {
        let compiled = PatternList::compile([pattern.as_bytes()]);
        let checked = compiled.and_then(|list| list.check().map(|()| list));
        let include = checked.map_err(|(_, source)| CopyError::Include {
            pattern: String::from_utf8_lossy(pattern.as_bytes()).into_owned(),
            source,
        })?;
        Ok(Self { include: Some(include), exclude })
    }

    /// Whether it could let something pass or not.
    pub(crate) fn is_selective(&self) -> bool {
        self.include.is_some() || !self.exclude.is_empty()
    }

    /// Decides about `path`, which is in a directory that was judged before; the top directory's
    /// judgement is the default.
    pub(crate) fn judge(&self, parent: &Judged, path: &RootPath) -> (Decision, Judged) {
        let path = path.as_bytes();
        let include = self.include.as_ref();
        let judged = Judged {
            // To an ignore file's patterns, what is matched is excluded; to these it is wanted.
            include: include.map(|list| list.judge(&parent.include, path)).unwrap_or_default(),
            exclude: self.exclude.judge(&parent.exclude, path),
        };
        let wanted = include.is_none() || judged.include.excluded;
        let decision = if judged.exclude.excluded {
            if self.exclude.may_reinclude_below(path) { Decision::Search } else { Decision::Leave }
        } else if wanted {
            Decision::Copy
        } else if include.is_some_and(|list| list.may_match_below(path)) {
            Decision::Search
        } else {
            Decision::Leave
        };
        (decision, judged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is done with each of `paths`, whose parents come before them.
    #[track_caller]
    fn check(include: Option<&str>, exclude: &[&str], expected: &str) {
        let exclude: Vec<String> = exclude.iter().map(|&pattern| pattern.to_owned()).collect();
        let exclude = exclusions(&exclude).unwrap();
        let path = |text: &str| RootPath::parse(text.as_bytes()).unwrap();
        let filter = match include {
            Some(pattern) => Filter::only(&path(pattern), &exclude).unwrap(),
            None => Filter::all_but(&exclude),
        };
        let mut seen: Vec<(RootPath, Judged)> = Vec::new();
        let mut actual = Vec::new();
        for text in ["a", "x", "x/a", "x/y", "x/y/a", "x/y/b"] {
            let path = path(text);
            let parent = seen.iter().find(|(seen, _)| Some(seen) == path.parent().as_ref());
            let parent = parent.map(|(_, judged)| judged.clone()).unwrap_or_default();
            let (decision, judged) = filter.judge(&parent, &path);
            actual.push(format!("{text}:{decision:?}"));
            seen.push((path, judged));
        }
        assert_eq!(actual.join(" "), expected, "{include:?} without {exclude:?}");
    }

    #[test]
    fn what_is_excluded_is_left_with_everything_in_it() {
        check(None, &[], "a:Copy x:Copy x/a:Copy x/y:Copy x/y/a:Copy x/y/b:Copy");
        check(None, &["a"], "a:Leave x:Copy x/a:Copy x/y:Copy x/y/a:Copy x/y/b:Copy");
        check(None, &["**/a"], "a:Leave x:Copy x/a:Leave x/y:Copy x/y/a:Leave x/y/b:Copy");
        check(None, &["x"], "a:Copy x:Leave x/a:Leave x/y:Leave x/y/a:Leave x/y/b:Leave");
        check(None, &["/x"], "a:Copy x:Copy x/a:Copy x/y:Copy x/y/a:Copy x/y/b:Copy");
    }

    #[test]
    fn an_exception_is_searched_for() {
        check(
            None,
            &["x", "!x/y/b"],
            "a:Copy x:Search x/a:Leave x/y:Search x/y/a:Leave x/y/b:Copy",
        );
    }

    #[test]
    fn only_what_is_wanted_is_copied() {
        check(Some("x/y"), &[], "a:Leave x:Search x/a:Leave x/y:Copy x/y/a:Copy x/y/b:Copy");
        check(Some("**/a"), &[], "a:Copy x:Search x/a:Copy x/y:Search x/y/a:Copy x/y/b:Search");
        check(Some(""), &[], "a:Leave x:Leave x/a:Leave x/y:Leave x/y/a:Leave x/y/b:Leave");
        check(Some("x"), &["**/b"], "a:Leave x:Copy x/a:Copy x/y:Copy x/y/a:Copy x/y/b:Leave");
    }

    #[test]
    fn a_pattern_that_is_none_is_named() {
        let error = exclusions(&["a".to_owned(), "[".to_owned()]).unwrap_err().to_string();
        assert_eq!(error, "invalid excludepatterns: [a []");
    }
}
