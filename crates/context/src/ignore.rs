//! The `.dockerignore` file.

use crate::pattern::{PatternError, PatternList, Verdict};
use crate::text::{clean, trim};

/// A compiled `.dockerignore`: a [`PatternList`] that remembers its lines.
///
/// # Examples
///
/// ```
/// # use ebiko_context::IgnoreFile;
/// let file = IgnoreFile::parse(b"# build products\n*.o\n!keep.o\n")?;
/// assert_eq!(file.patterns().excludes(b"main.o"), Ok(true));
/// assert_eq!(file.patterns().excludes(b"keep.o"), Ok(false));
/// # Ok::<(), ebiko_context::IgnoreFileError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct IgnoreFile {
    patterns: PatternList,
    lines: Vec<IgnoreLine>,
    /// Whether one of the patterns matches every name.
    excludes_everything: bool,
}

/// A line of an ignore file that is a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoreLine {
    /// Counted from 1.
    pub number: usize,
    /// As it is written, without white space around it.
    pub text: String,
}

/// A line of an ignore file is not a pattern.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message names every field")]
#[error("line {} of the ignore file is not a pattern: `{}`", line.number, line.text)]
pub struct IgnoreFileError {
    pub line: IgnoreLine,
    pub source: PatternError,
}

impl IgnoreFile {
    /// Reads and compiles the text of an ignore file.
    ///
    /// A `#` in the first column begins a comment, blank lines are skipped, a byte order mark is
    /// allowed, and a `/` in front of a pattern means nothing.
    ///
    /// # Errors
    ///
    /// The first line that is not a pattern. Nothing is skipped: a pattern that does not count
    /// would put files into the image that should not be there.
    pub fn parse(text: &[u8]) -> Result<Self, IgnoreFileError> {
        let (patterns, lines): (Vec<_>, Vec<_>) = read(text).into_iter().unzip();
        let excludes_everything =
            patterns.iter().any(|pattern| matches!(&pattern[..], b"*" | b"**" | b"**/*"));
        let compiled = PatternList::compile(&patterns);
        match compiled.and_then(|list| list.check().map(|()| list)) {
            Ok(patterns) => Ok(Self { patterns, lines, excludes_everything }),
            Err((index, source)) => {
                let line = lines.into_iter().nth(index);
                let line = line.unwrap_or(IgnoreLine { number: 0, text: String::new() });
                Err(IgnoreFileError { line, source })
            }
        }
    }

    /// The patterns.
    pub fn patterns(&self) -> &PatternList {
        &self.patterns
    }

    /// Whether there is a pattern `*`, `**` or `**/*`: nothing is left of the context but what others let in again.
    pub fn excludes_everything(&self) -> bool {
        self.excludes_everything
    }

    /// The line that had the last word in `verdict`.
    pub fn line(&self, verdict: &Verdict) -> Option<&IgnoreLine> {
        self.lines.get(verdict.decided_by?)
    }
}

impl IgnoreFileError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self.source {
            PatternError::NothingReincluded => {
                "write what to keep directly after the `!`, or remove the line"
            }
            PatternError::Syntax(_) | PatternError::Expression { .. } => {
                "`[`, `]` and `\\` have a meaning in patterns; separate directories with `/` and \
                 write `[[]` for a literal `[`"
            }
        }
    }
}

/// The patterns in `text` before they are compiled, with their lines.
fn read(text: &[u8]) -> Vec<(Vec<u8>, IgnoreLine)> {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let mut patterns = Vec::new();
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        if line.first() == Some(&b'#') {
            continue;
        }
        let line = trim(line);
        if line.is_empty() {
            continue;
        }
        let (mark, body) = match line.split_first() {
            Some((b'!', body)) => (b"!".as_slice(), trim(body)),
            _ => (b"".as_slice(), line),
        };
        let cleaned = if body.is_empty() { Vec::new() } else { clean(body) };
        let relative = match cleaned.split_first() {
            Some((b'/', relative)) if !relative.is_empty() => relative,
            _ => &cleaned,
        };
        let text = String::from_utf8_lossy(line).into_owned();
        patterns.push(([mark, relative].concat(), IgnoreLine { number: index + 1, text }));
    }
    patterns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let patterns: Vec<String> = read(text.as_bytes())
            .into_iter()
            .map(|(pattern, line)| {
                format!("{}: {}", line.number, String::from_utf8(pattern).unwrap())
            })
            .collect();
        assert_eq!(patterns, expected, "reading {text:?}");
    }

    #[test]
    fn comments_blank_lines_and_space_are_not_patterns() {
        check("a\n\n# b\n  \t\n c \r\n", &["1: a", "5: c"]);
        check("", &[]);
    }

    #[test]
    fn a_comment_begins_in_the_first_column() {
        check(" #a\n\\#b\nc # d\n", &["1: #a", "2: \\#b", "3: c # d"]);
    }

    #[test]
    fn a_byte_order_mark_is_skipped_before_a_comment_too() {
        check("\u{feff}a\n", &["1: a"]);
        check("\u{feff}# a\nb", &["2: b"]);
    }

    #[test]
    fn patterns_are_relative_and_clean() {
        check(
            "/a\na/\n/\n./b\n../c\na//b\na/./b\na/b/..",
            &["1: a", "2: a", "3: /", "4: b", "5: ../c", "6: a/b", "7: a/b", "8: a"],
        );
    }

    #[test]
    fn an_exception_keeps_its_mark() {
        check(
            "! /a/b\n!\n! \n!!c\n! !d\n!.",
            &["1: !a/b", "2: !", "3: !", "4: !!c", "5: !!d", "6: !."],
        );
    }

    #[test]
    fn a_line_that_is_not_a_pattern_is_named() {
        let error = IgnoreFile::parse(b"a\n\n  [b\n").unwrap_err();
        assert_eq!(error.to_string(), "line 3 of the ignore file is not a pattern: `[b`");
        assert_eq!(error.source.to_string(), "syntax error in pattern `[b`");
        let error = IgnoreFile::parse(b"!\n").unwrap_err();
        assert_eq!(error.source.to_string(), "illegal exclusion pattern: \"!\"");
    }

    #[test]
    fn the_deciding_line_is_known_although_lines_are_skipped() {
        let file = IgnoreFile::parse(b"# secrets\n\n*.key\n").unwrap();
        let verdict = file.patterns().judge(&Verdict::default(), b"a.key");
        assert_eq!(file.line(&verdict), Some(&IgnoreLine { number: 3, text: "*.key".into() }));
    }
}
