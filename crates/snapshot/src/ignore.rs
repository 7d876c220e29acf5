//! Paths that are not looked at.

use ebiko_rootfs::RootPath;

use crate::glob::{Glob, PatternError};

/// Paths that a look skips, with everything beneath them (`--ignore-path`).
///
/// Nothing is built in. Mount points and the builder's own directory need no pattern: a
/// [`Root`](ebiko_rootfs::Root) does not show them.
#[derive(Debug, Clone)]
pub struct IgnoreSet {
    globs: Vec<Glob>,
}

/// A pattern cannot be understood.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message names every field")]
#[error("`{pattern}` is not a path pattern")]
pub struct IgnoreSetError {
    pub pattern: String,
    pub source: PatternError,
}

impl IgnoreSet {
    /// Skips nothing.
    pub fn empty() -> Self {
        Self { globs: Vec::new() }
    }

    /// Skips what one of `patterns` matches: a path such as `/var/cache`, or a glob such as `/home/*/.cache`, in
    /// which `*` stops at `/` and `**` does not.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, IgnoreSetError> {
        let parse = |pattern: &str| {
            let glob = Glob::parse(pattern.trim_matches('/'));
            glob.map_err(|source| IgnoreSetError { pattern: pattern.to_owned(), source })
        };
        let globs = patterns.into_iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { globs })
    }

    /// Whether `path` itself matches; a walk that asks for every directory on its way needs no more.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        !path.is_empty() && self.globs.iter().any(|glob| glob.matches(path))
    }

    /// Whether `path` or a directory on the way to it matches.
    pub fn covers(&self, path: &RootPath) -> bool {
        !self.globs.is_empty()
            && (self.matches(path.as_bytes())
                || path.ancestors().skip(1).any(|ancestor| self.matches(ancestor.as_bytes())))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.globs.is_empty()
    }
}

impl Default for IgnoreSet {
    fn default() -> Self {
        Self::empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(patterns: &[&str], path: &str, expected: bool) {
        let set = IgnoreSet::new(patterns.iter().copied()).unwrap();
        let path = RootPath::parse(path.as_bytes()).unwrap();
        assert_eq!(set.covers(&path), expected, "{patterns:?} on {path}");
    }

    #[test]
    fn a_path_covers_what_is_beneath_it() {
        check(&["/var/cache"], "var/cache", true);
        check(&["/var/cache/"], "var/cache/apt/pkg", true);
        check(&["/var/cache"], "var/cached", false);
        check(&["/var/cache"], "srv/var/cache", false);
        check(&[], "var", false);
    }

    #[test]
    fn a_star_stops_at_a_slash_and_two_do_not() {
        check(&["/home/*/.cache"], "home/joe/.cache/x", true);
        check(&["/home/*/.cache"], "home/joe/src/.cache", false);
        check(&["**/*.pyc"], "usr/lib/a/b.pyc", true);
    }

    #[test]
    fn the_root_is_never_covered() {
        check(&["*"], "", false);
        check(&["/"], "etc", false);
    }

    #[test]
    fn a_broken_pattern_is_named() {
        let error = IgnoreSet::new(["/ok", "/a[b"]).unwrap_err();
        assert_eq!(error.to_string(), "`/a[b` is not a path pattern");
    }
}
