//! One line of text that remembers where each of its bytes was written.
//!
//! An instruction is one line to the language, whatever the number of lines it was written on. [`Text`] is that line,
//! and maps places in it back to the file.

use std::ops::Range;

use crate::source::{Source, Span, Word};

/// The longest line, in bytes and without its line end, that BuildKit's scanner accepts.
const LONGEST_LINE: usize = 65_535;

/// A string whose bytes know their places in a [`Source`].
#[derive(Clone, Debug)]
pub(crate) struct Text {
    string: String,
    /// Where the string begins.
    first: Part,
    /// The other parts, in ascending order of `at`. Most texts have none, and so cost one allocation.
    more: Vec<Part>,
    /// The first byte that is not UTF-8.
    invalid: Option<Span>,
}

/// From `at` on, the string is made of `length` bytes of the source from `source` on.
#[derive(Clone, Copy, Debug)]
struct Part {
    at: usize,
    source: usize,
    length: usize,
}

impl Text {
    /// The bytes of `range`, with U+FFFD in place of each byte that is not UTF-8, as Go reads it.
    pub(crate) fn read(bytes: &[u8], range: Range<usize>) -> Self {
        let mut source = range.start;
        let mut text = Self {
            string: String::with_capacity(range.len()),
            first: Part { at: 0, source, length: 0 },
            more: Vec::new(),
            invalid: None,
        };
        for chunk in bytes[range].utf8_chunks() {
            text.add(chunk.valid(), source, chunk.valid().len());
            source += chunk.valid().len();
            for _ in chunk.invalid() {
                text.invalid = text.invalid.or(Some(Span::new(source, source + 1)));
                text.add("\u{fffd}", source, 1);
                source += 1;
            }
        }
        text
    }

    fn add(&mut self, string: &str, source: usize, length: usize) {
        let part = Part { at: self.string.len(), source, length };
        if part.at == 0 {
            self.first = part;
        } else {
            self.more.push(part);
        }
        self.string.push_str(string);
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.string
    }

    pub(crate) fn into_string(self) -> String {
        self.string
    }

    pub(crate) fn invalid(&self) -> Option<Span> {
        self.invalid
    }

    /// The same, as if the replacement characters had been written.
    pub(crate) fn without_invalid(self) -> Self {
        Self { invalid: None, ..self }
    }

    /// Appends a part of `other`, which keeps its places; `range` lies on character boundaries.
    pub(crate) fn push(&mut self, other: &Self, range: Range<usize>) {
        let offset = self.string.len();
        let string = &other.string[range.clone()];
        self.string.push_str(string);
        self.more.extend(other.parts_in(range).map(|part| Part { at: part.at + offset, ..part }));
        self.invalid = self.invalid.or(other.invalid_in(string));
    }

    /// A part of the line; `range` lies on character boundaries.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        let string = self.string[range.clone()].to_owned();
        let invalid = self.invalid_in(&string);
        let mut parts = self.parts_in(range);
        Self { string, first: parts.next().unwrap_or(self.first), more: parts.collect(), invalid }
    }

    /// Leaves the first `length` bytes, which end with a character.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.string.truncate(length);
        self.more.retain(|part| part.at < length);
        self.invalid = self.invalid_in(&self.string);
    }

    /// The parts that make a range, of which there is at least one, seen from its beginning.
    fn parts_in(&self, range: Range<usize>) -> impl Iterator<Item = Part> {
        let first = self.part_at(range.start);
        // Only the first part can begin before the range.
        let skip = (range.start - first.at).min(first.length);
        let first = Part { at: 0, source: first.source + skip, length: first.length - skip };
        let next = self.more.partition_point(|part| part.at <= range.start);
        let more = self.more[next..].iter().take_while(move |part| part.at < range.end);
        std::iter::once(first)
            .chain(more.map(move |part| Part { at: part.at - range.start, ..*part }))
    }

    /// The invalid byte, if a part of the string can hold it: one without a replacement character cannot.
    fn invalid_in(&self, string: &str) -> Option<Span> {
        self.invalid.filter(|_| string.contains('\u{fffd}'))
    }

    /// Where a range of the line was written, from its first to its last byte.
    pub(crate) fn span(&self, range: Range<usize>) -> Span {
        let start = self.place(range.start);
        if range.is_empty() {
            return Span::new(start, start);
        }
        let part = self.part_at(range.end - 1);
        Span::new(start, part.source + (range.end - part.at).min(part.length))
    }

    /// Where the whole line was written.
    pub(crate) fn whole(&self) -> Span {
        self.span(0..self.string.len())
    }

    /// A range of the line as a word.
    pub(crate) fn word(&self, range: Range<usize>) -> Word {
        Word::new(self.string[range.clone()].to_owned(), self.span(range))
    }

    fn part_at(&self, at: usize) -> Part {
        let before = self.more.partition_point(|part| part.at <= at);
        before.checked_sub(1).and_then(|index| self.more.get(index)).copied().unwrap_or(self.first)
    }

    fn place(&self, at: usize) -> usize {
        let part = self.part_at(at);
        part.source + (at - part.at).min(part.length)
    }

    /// The range of the line without Unicode white space at both ends, as `strings.TrimSpace` has it.
    pub(crate) fn trimmed(&self) -> Range<usize> {
        trim(&self.string, 0..self.string.len())
    }
}

/// `range` of `string` without white space at both ends.
pub(crate) fn trim(string: &str, range: Range<usize>) -> Range<usize> {
    let part = &string[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    start..start.max(range.start + part.trim_end().len())
}

/// A line of the file, with its line end.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) text: Text,
    /// Counted from 1.
    pub(crate) number: u32,
}

impl Line {
    /// The range of the line without its line end; several carriage returns count as one.
    pub(crate) fn content(&self) -> Range<usize> {
        0..self.text.as_str().trim_end_matches(['\r', '\n']).len()
    }
}

/// The lines of a file, without its byte order mark, and those that are too long.
pub(crate) fn lines(source: &Source) -> (Vec<Line>, Vec<Span>) {
    let bytes = source.text();
    let mut start = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let mut lines = Vec::new();
    let mut too_long = Vec::new();
    for (number, piece) in (1..).zip(bytes[start..].split_inclusive(|&byte| byte == b'\n')) {
        let end = start + piece.len();
        if piece.strip_suffix(b"\n").unwrap_or(piece).len() > LONGEST_LINE {
            too_long.push(Span::new(start, end));
        }
        lines.push(Line { text: Text::read(bytes, start..end), number });
        start = end;
    }
    (lines, too_long)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_texts_keep_the_places_of_their_bytes() {
        let bytes = b"RUN a \\\n  b";
        let mut line = Text::read(bytes, 0..6);
        line.push(&Text::read(bytes, 8..11), 0..3);
        assert_eq!(line.as_str(), "RUN a   b");
        assert_eq!(line.span(4..5), Span::new(4, 5));
        assert_eq!(line.span(8..9), Span::new(10, 11));
        assert_eq!(
            line.span(4..9),
            Span::new(4, 11),
            "a range over two parts covers what is between them"
        );
        assert_eq!(line.span(0..6), Span::new(0, 6), "an end belongs to the byte before it");
        assert_eq!(line.slice(4..9).span(4..5), Span::new(10, 11), "slices keep places");
        assert_eq!(line.span(9..9), Span::new(11, 11));
    }

    #[test]
    fn bytes_that_are_not_utf8_become_one_replacement_each() {
        let bytes = b"a\xe2\x82b\xff";
        let text = Text::read(bytes, 0..5);
        assert_eq!(text.as_str(), "a\u{fffd}\u{fffd}b\u{fffd}");
        assert_eq!(text.invalid(), Some(Span::new(1, 2)));
        assert_eq!(text.span(7..8), Span::new(3, 4), "places behind a replacement are right");
        assert_eq!(text.whole(), Span::new(0, 5));
        assert_eq!(text.slice(7..8).invalid(), None);
    }

    #[test]
    fn an_empty_text_has_a_place() {
        assert_eq!(Text::read(b"abc", 2..2).whole(), Span::new(2, 2));
        assert_eq!(Text::read(b"abc", 1..3).slice(1..1).whole(), Span::new(2, 2));
    }

    #[test]
    fn the_longest_line_is_the_one_that_buildkit_reads() {
        let check = |length: usize, end: &str| {
            let text = format!("{}{end}", "x".repeat(length));
            lines(&Source::new("x", text.as_bytes())).1.len()
        };
        assert_eq!(
            [check(65_535, "\n"), check(65_535, ""), check(65_536, "\n"), check(65_536, "")],
            [0, 0, 1, 1]
        );
    }
}
