//! Where things are: a named text, and byte ranges in it.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A range of bytes of a [`Source`]: from `start` up to, and not including, `end`.
///
/// Invariant of every span that this crate hands out: `start <= end <= source.text().len()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The offset of the first byte.
    pub start: usize,
    /// The offset behind the last byte.
    pub end: usize,
}

impl Span {
    /// The span from `start` to `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The smallest span that covers `self` and `other`.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self::new(range.start, range.end)
    }
}

/// A value together with the place it was read from.
///
/// It dereferences to the value, so that code that does not care about places reads as if they were not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spanned<T> {
    /// What was read.
    pub value: T,
    /// Where it was written; for a flag the whole `--name=value`.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// Puts a value and its place together.
    pub fn new(value: T, span: impl Into<Span>) -> Self {
        Self { value, span: span.into() }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Display> fmt::Display for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// A word of an instruction, exactly as BuildKit hands it to its expander: quotes, escapes and `$` are still in it.
pub type Word = Spanned<String>;

/// A named text. Cloning is cheap: clones share the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    name: Arc<str>,
    text: Arc<[u8]>,
    line_starts: Arc<[usize]>,
}

impl Source {
    /// Names `text`; `name` is what diagnostics put before the line number.
    pub fn new(name: &str, text: &[u8]) -> Self {
        let after_newlines =
            text.iter().enumerate().filter(|&(_, &byte)| byte == b'\n').map(|(at, _)| at + 1);
        Self {
            name: name.into(),
            text: text.into(),
            line_starts: std::iter::once(0).chain(after_newlines).collect(),
        }
    }

    /// The name that diagnostics show, usually a path as the user gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes, as they were given.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The same text under another name.
    #[must_use]
    pub fn renamed(&self, name: &str) -> Self {
        Self { name: name.into(), ..self.clone() }
    }

    /// The number of the line that holds the byte at `offset`; the first line is 1.
    ///
    /// An offset behind the end counts as the end.
    pub fn line(&self, offset: usize) -> u32 {
        let line = self.line_starts.partition_point(|&start| start <= offset);
        u32::try_from(line).unwrap_or(u32::MAX)
    }

    /// The bytes of line `number` without its line end, as a span; `None` where there is no such line.
    pub fn line_span(&self, number: u32) -> Option<Span> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        let start = *self.line_starts.get(index)?;
        let next = self.line_starts.get(index + 1).copied().unwrap_or(self.text.len());
        let line = &self.text[start..next];
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Some(Span::new(start, start + line.len()))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({:?}, {} bytes)", self.name, self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_from_one_and_exclude_their_ends() {
        let source = Source::new("x", b"a\r\nbc\n\nd");
        let lines: Vec<_> = (0..6).map(|n| source.line_span(n).map(|s| (s.start, s.end))).collect();
        assert_eq!(
            lines,
            [None, Some((0, 1)), Some((3, 5)), Some((6, 6)), Some((7, 8)), None],
            "lines of {source:?}"
        );
        assert_eq!([0, 2, 3, 6, 7, 8, 99].map(|at| source.line(at)), [1, 1, 2, 3, 4, 4, 4]);
    }
}
