//! Ignore patterns: the language of `.dockerignore` lines and of `COPY --exclude`.
//!
//! A path is excluded or not by the last pattern that has something to say about it, and a pattern
//! that matches a directory speaks for everything in it. This is a port of the behaviour of
//! `moby/patternmatcher`, which BuildKit uses; the differences to a shell, to `.gitignore` and to
//! [`Glob`] are theirs.

mod regexp;

use self::regexp::Regexp;
use crate::glob::{Glob, GlobError};
use crate::text::{characters, clean, trim};

/// Patterns in the order in which they are considered.
#[derive(Debug, Clone, Default)]
pub struct PatternList {
    patterns: Vec<Pattern>,
}

/// One compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    /// Whether it began with `!`: paths that it matches are not excluded after all.
    reincludes: bool,
    matcher: Matcher,
    /// What every match begins with, in whole path components.
    literal_prefix: Vec<u8>,
    /// Which of the given texts this is; empty ones make no pattern.
    index: usize,
    text: Vec<u8>,
}

/// How a pattern is compared; most are compared without an expression.
#[derive(Debug, Clone)]
enum Matcher {
    Exact(Vec<u8>),
    /// `a/**`: everything that begins so.
    Prefix(Vec<u8>),
    /// `**/a`: everything that ends so, and the path itself at the top.
    Suffix(Vec<u8>),
    Regexp(Regexp),
    /// An expression that means nothing. Upstream sees it where it first compares it with a path.
    Unusable,
}

/// A pattern that Docker does not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum PatternError {
    #[error("illegal exclusion pattern: \"!\"")]
    NothingReincluded,
    #[error(transparent)]
    Syntax(#[from] GlobError),
    #[error("syntax error in pattern `{pattern}`: an escape or a class in it means nothing")]
    Expression { pattern: String },
}

/// What a [`PatternList`] says about one path, and what its children need to know.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Whether the path is excluded.
    pub excluded: bool,
    /// Which of the given patterns had the last word, if any had.
    pub decided_by: Option<usize>,
    /// For each pattern whether it was seen to match this path or one above it.
    matched: Vec<bool>,
}

impl PatternList {
    /// Compiles `patterns`. Blank ones are skipped.
    ///
    /// # Errors
    ///
    /// The first pattern that is not well formed, with its index.
    pub fn compile<P: AsRef<[u8]>>(
        patterns: impl IntoIterator<Item = P>,
    ) -> Result<Self, (usize, PatternError)> {
        let mut compiled = Vec::new();
        for (index, pattern) in patterns.into_iter().enumerate() {
            let text = trim(pattern.as_ref());
            if !text.is_empty() {
                compiled.push(Pattern::compile(text, index).map_err(|error| (index, error))?);
            }
        }
        Ok(Self { patterns: compiled })
    }

    /// Checks that each pattern can be compared: `[z-a]` compiles, as it does upstream, and matches nothing.
    ///
    /// Who walks a tree asks this first, because a pattern that does not count would let files through.
    ///
    /// # Errors
    ///
    /// The first pattern that cannot be compared, with its index.
    pub fn check(&self) -> Result<(), (usize, PatternError)> {
        match self.patterns.iter().find(|pattern| pattern.is_unusable()) {
            Some(pattern) => Err((pattern.index, pattern.error())),
            None => Ok(()),
        }
    }

    /// Whether `path` is excluded, judged on its own (`MatchesOrParentMatches`).
    ///
    /// The path is cleaned first; `.` is never excluded.
    ///
    /// # Errors
    ///
    /// Fails where a pattern has a say that cannot be compared. After [`check`](Self::check) there is none.
    pub fn excludes(&self, path: &[u8]) -> Result<bool, PatternError> {
        let path = clean(path);
        if path == b"." {
            return Ok(false);
        }
        // An absolute path has `/` itself for a parent, and nothing before it.
        let ends = path.iter().enumerate().skip(1).filter(|&(_, &byte)| byte == b'/');
        let mut parents: Vec<&[u8]> = ends.filter_map(|(end, _)| path.get(..end)).collect();
        if path.first() == Some(&b'/') {
            parents.push(if parents.is_empty() { b"/" } else { b"" });
        }
        let mut excluded = false;
        for pattern in &self.patterns {
            if pattern.reincludes != excluded {
                continue;
            }
            if pattern.is_unusable() {
                return Err(pattern.error());
            }
            if pattern.matches(&path) || parents.iter().any(|parent| pattern.matches(parent)) {
                excluded = !pattern.reincludes;
            }
        }
        Ok(excluded)
    }

    /// Judges a path on a walk, knowing the `parent` directory's verdict; the top directory's is
    /// `Verdict::default()`.
    ///
    /// This is what BuildKit does when it sends a context (`MatchesUsingParentResults`), and it
    /// is not always what [`PatternList::excludes`] says: a pattern that had no say when the
    /// directory was judged is not asked about the directory again for the sake of its children.
    /// With `*/a` and then `!d`, `d/a` is left out, although its directory is listed as wanted.
    #[must_use]
    pub fn judge(&self, parent: &Verdict, path: &[u8]) -> Verdict {
        let mut verdict =
            Verdict { matched: Vec::with_capacity(self.patterns.len()), ..Verdict::default() };
        for (position, pattern) in self.patterns.iter().enumerate() {
            let matches = parent.matched.get(position).copied().unwrap_or(false)
                || (pattern.reincludes == verdict.excluded && pattern.matches(path));
            verdict.matched.push(matches);
            if matches {
                verdict.excluded = !pattern.reincludes;
                verdict.decided_by = Some(pattern.index);
            }
        }
        verdict
    }

    /// Whether a `!` pattern could match something beneath `directory`.
    ///
    /// An excluded directory for which this is `false` need not be read.
    pub fn may_reinclude_below(&self, directory: &[u8]) -> bool {
        self.may_concern_below(directory, true)
    }

    /// Whether a pattern without `!` could match something beneath `directory`.
    ///
    /// Where the patterns say what is wanted, a directory for which this is `false` need not be read.
    pub fn may_match_below(&self, directory: &[u8]) -> bool {
        self.may_concern_below(directory, false)
    }

    fn may_concern_below(&self, directory: &[u8], reincludes: bool) -> bool {
        self.patterns.iter().filter(|pattern| pattern.reincludes == reincludes).any(|pattern| {
            let prefix = pattern.literal_prefix.as_slice();
            is_at_or_below(prefix, directory) || is_at_or_below(directory, prefix)
        })
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether there is a `!` pattern.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.reincludes)
    }
}

/// Whether `path` is `directory` or lies beneath it; the empty path is the top.
fn is_at_or_below(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty()
        || path
            .strip_prefix(directory)
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

impl Pattern {
    fn compile(text: &[u8], index: usize) -> Result<Self, PatternError> {
        let cleaned = clean(text);
        let (reincludes, pattern) = match cleaned.split_first() {
            Some((b'!', [])) => return Err(PatternError::NothingReincluded),
            Some((b'!', rest)) => (true, rest),
            _ => (false, cleaned.as_slice()),
        };
        // Upstream checks the syntax with `filepath.Match`, although it then matches otherwise.
        Glob::parse(pattern)?;
        let matcher = Matcher::compile(pattern).unwrap_or(Matcher::Unusable);
        let literal_prefix = literal_prefix(pattern);
        Ok(Self { reincludes, matcher, literal_prefix, index, text: pattern.to_vec() })
    }

    fn is_unusable(&self) -> bool {
        matches!(self.matcher, Matcher::Unusable)
    }

    /// What is said of an unusable one.
    fn error(&self) -> PatternError {
        PatternError::Expression { pattern: String::from_utf8_lossy(&self.text).into_owned() }
    }

    fn matches(&self, path: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Exact(exact) => path == exact,
            Matcher::Prefix(prefix) => path.starts_with(prefix),
            Matcher::Suffix(suffix) => {
                path.ends_with(suffix) || suffix.strip_prefix(b"/").is_some_and(|rest| rest == path)
            }
            Matcher::Regexp(regexp) => regexp.matches(path),
            Matcher::Unusable => false,
        }
    }
}

/// The leading components of `pattern` that hold nothing special.
fn literal_prefix(pattern: &[u8]) -> Vec<u8> {
    let special = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b']' | b'^' | b'\\');
    let literal: Vec<&[u8]> = pattern
        .split(|&byte| byte == b'/')
        .take_while(|component| !component.iter().any(special))
        .collect();
    literal.join(&b'/')
}

impl Matcher {
    /// Rewrites `pattern` as upstream does; `None` if the result is no expression.
    ///
    /// Upstream rewrites character by character without regard to classes, so `[*]` becomes
    /// `[[^/]*]`: any number of `[`, `^` and `/`, then `]`. It is kept, oddities included, because
    /// an ignore file has to keep meaning what it means elsewhere.
    fn compile(pattern: &[u8]) -> Option<Self> {
        #[derive(PartialEq)]
        enum Form {
            Exact,
            Prefix,
            Suffix,
            Regexp,
        }
        let mut form = Form::Exact;
        let mut expression: Vec<u32> = vec![u32::from(b'^')];
        let mut rest = characters(pattern).peekable();
        let mut first = true;
        while let Some(character) = rest.next() {
            let at_start = std::mem::take(&mut first);
            match char::from_u32(character) {
                Some('*') if rest.next_if_eq(&u32::from(b'*')).is_some() => {
                    // `**/` means the same as `**`.
                    rest.next_if_eq(&u32::from(b'/'));
                    if rest.peek().is_some() {
                        expression.extend(characters(b"(.*/)?"));
                        form = Form::Regexp;
                    } else if form == Form::Exact {
                        form = Form::Prefix;
                    } else {
                        expression.extend(characters(b".*"));
                        form = Form::Regexp;
                    }
                    if at_start {
                        form = Form::Suffix;
                    }
                }
                Some('*') => {
                    expression.extend(characters(b"[^/]*"));
                    form = Form::Regexp;
                }
                Some('?') => {
                    expression.extend(characters(b"[^/]"));
                    form = Form::Regexp;
                }
                Some('.' | '+' | '(' | ')' | '|' | '{' | '}' | '$') => {
                    expression.extend([u32::from(b'\\'), character]);
                }
                Some('\\') => {
                    expression.push(character);
                    if let Some(escaped) = rest.next() {
                        expression.push(escaped);
                        form = Form::Regexp;
                    }
                }
                Some('[' | ']') => {
                    expression.push(character);
                    form = Form::Regexp;
                }
                _ => expression.push(character),
            }
        }
        let without_stars = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
        Some(match form {
            Form::Exact => Self::Exact(pattern.to_vec()),
            Form::Prefix => Self::Prefix(without_stars(pattern.strip_suffix(b"**"))),
            Form::Suffix => Self::Suffix(without_stars(pattern.strip_prefix(b"**"))),
            Form::Regexp => {
                expression.push(u32::from(b'$'));
                Self::Regexp(Regexp::compile(&expression).ok()?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `patterns`, separated by blanks, say about each of `paths`.
    #[track_caller]
    fn check(patterns: &str, excluded: &[&str], kept: &[&str]) {
        let list = PatternList::compile(patterns.split(' ')).expect("the patterns are well formed");
        for path in excluded {
            assert!(list.excludes(path.as_bytes()).unwrap(), "`{patterns}` excludes `{path}`");
        }
        for path in kept {
            assert!(!list.excludes(path.as_bytes()).unwrap(), "`{patterns}` keeps `{path}`");
        }
    }

    #[test]
    fn a_pattern_speaks_for_everything_beneath_what_it_matches() {
        check("dir", &["dir", "dir/file", "dir/sub/file"], &["dirt", "sub/dir"]);
        check("*/dir", &["a/dir", "a/dir/b/c"], &["dir", "a/b/dir"]);
        check("util/docker/web", &["util/docker/web/foo"], &["util/docker"]);
    }

    #[test]
    fn two_stars_cross_directories() {
        check("**", &["file", "dir/file", ".hid"], &["."]);
        check("**/file", &["file", "a/file", "a/b/file"], &["afile", "file2"]);
        check("**file", &["file", "afile", "a/file"], &[]);
        check("dir/**", &["dir/file", "dir/a/b"], &["dir", "dirt/file"]);
        check("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["ab", "a/xb"]);
        check("**/dir2/**", &["dir/dir2/file", "dir2/x"], &["dir/dir2"]);
        check("a**/*.txt", &["a/file.txt", "a/dir/dir/file.txt"], &["file.txt"]);
        check("a/*.txt**", &["a/file.txt", "a/file.txt.bak"], &["a/dir/file.txt"]);
    }

    #[test]
    fn one_star_and_question_mark_stay_within_a_directory() {
        check("*.go", &["main.go"], &["dir/main.go", "main.goo"]);
        check("?.txt", &["a.txt", "\u{e9}.txt"], &["ab.txt", "a/.txt"]);
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        check("* !foo", &["bar"], &["foo", "foo/x"]);
        check("!foo foo", &["foo"], &[]);
        check("*.md README-secret.md !README*.md", &["CHANGES.md"], &["README-secret.md"]);
        check("docs !docs/README.md", &["docs", "docs/a"], &["docs/README.md"]);
    }

    #[test]
    fn patterns_are_cleaned_before_they_are_read() {
        check("./a//b/ c/../d", &["a/b", "d"], &["c"]);
        check(". /", &[], &["a", "."]);
    }

    #[test]
    fn characters_with_a_meaning_in_expressions_are_literal() {
        check("a.b+c(d)|{e}$", &["a.b+c(d)|{e}$"], &["axb+c(d)|{e}$"]);
        check("*.b+$", &["a.b+$"], &["axb+$", "a.bb$"]);
    }

    #[test]
    fn what_is_left_of_the_rewriting_keeps_its_meaning_in_expressions() {
        check(r"\d", &["1"], &["d"]);
        check(r"a\*b", &["a*b"], &["axb"]);
        check("[[:digit:]]", &["1"], &[":]"]);
        check("[*]", &["]", "[^]"], &["*"]);
        check("[^a]b", &["xb", "/b"], &["ab"]);
        check("?a^b", &[], &["xa^b"]);
        check("a^b", &["a^b"], &[]);
    }

    #[test]
    fn names_that_are_not_utf8_are_matched_byte_by_byte() {
        let list = PatternList::compile([b"\xff*".as_slice(), b"?.o"]).unwrap();
        assert_eq!(list.excludes(b"\xff\xfe"), Ok(true));
        assert_eq!(list.excludes(b"\xfe\xff"), Ok(false));
        assert_eq!(list.excludes(b"\xfe.o"), Ok(true));
    }

    #[test]
    fn malformed_patterns_are_refused_with_their_index() {
        for (patterns, index, message) in [
            (["a", "!"], 1, "illegal exclusion pattern: \"!\""),
            (["a", "! "], 1, "illegal exclusion pattern: \"!\""),
            (["!/", "a"], 0, "illegal exclusion pattern: \"!\""),
            (["[", "a"], 0, "syntax error in pattern `[`"),
            (["a\\", "a"], 0, "syntax error in pattern `a\\`"),
            (["", "[a-]"], 1, "syntax error in pattern `[a-]`"),
        ] {
            let (at, error) = PatternList::compile(patterns).unwrap_err();
            assert_eq!((at, error.to_string().as_str()), (index, message), "{patterns:?}");
        }
    }

    #[test]
    fn an_expression_that_means_nothing_is_an_error_where_it_has_a_say() {
        for pattern in [r"\q", "[z-a]"] {
            let list = PatternList::compile(["a", pattern]).unwrap();
            let message = format!(
                "syntax error in pattern `{pattern}`: an escape or a class in it means nothing"
            );
            let (at, error) = list.check().unwrap_err();
            assert_eq!((at, error.to_string()), (1, message.clone()));
            assert_eq!(list.excludes(b"b").unwrap_err().to_string(), message);
            assert_eq!(list.excludes(b"a"), Ok(true), "what is excluded already is not compared");
        }
        assert_eq!(PatternList::compile(["a", "[a-z]"]).unwrap().check(), Ok(()));
    }

    #[test]
    fn on_a_walk_a_pattern_without_a_say_about_the_directory_has_none_in_it() {
        let list = PatternList::compile(["*/a", "!d"]).unwrap();
        let directory = list.judge(&Verdict::default(), b"d");
        assert!(!directory.excluded);
        let file = list.judge(&directory, b"d/a");
        assert!(file.excluded);
        assert_eq!(file.decided_by, Some(0));
        assert_eq!(list.excludes(b"d/a"), Ok(false), "judged alone, the file would be kept");
    }

    #[test]
    fn an_excluded_directory_is_read_only_if_an_exception_may_lie_in_it() {
        let list = PatternList::compile(["*", "!src/*.c", "!doc/keep/**"]).unwrap();
        for directory in ["src", "src/sub", "doc", "doc/keep", "doc/keep/x"] {
            assert!(list.may_reinclude_below(directory.as_bytes()), "{directory}");
        }
        for directory in ["node_modules", "sr", "srcs", "doc/other"] {
            assert!(!list.may_reinclude_below(directory.as_bytes()), "{directory}");
        }
        let anywhere = PatternList::compile(["*", "!**/*.md"]).unwrap();
        assert!(anywhere.may_reinclude_below(b"node_modules"));
    }

    #[test]
    fn a_directory_is_searched_only_if_something_wanted_may_lie_in_it() {
        let list = PatternList::compile(["src/*/a", "doc", "!etc"]).unwrap();
        for directory in ["src", "src/sub", "doc", "doc/sub"] {
            assert!(list.may_match_below(directory.as_bytes()), "{directory}");
        }
        for directory in ["lib", "sr", "etc"] {
            assert!(!list.may_match_below(directory.as_bytes()), "{directory}");
        }
    }
}
