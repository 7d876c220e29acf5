//! The ways in which a line is divided: into name, flags and rest, at blanks, and into quoted words.

use std::ops::Range;

use crate::ast::{Escape, Flag};
use crate::source::Word;
use crate::text::{Text, trim};

/// The blanks between name and arguments, and between arguments. Other Unicode white space is data there.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\x0b' | '\x0c' | '\r' | ' ')
}

/// A line in three parts.
#[derive(Debug)]
pub(crate) struct Split {
    pub(crate) keyword: Word,
    pub(crate) flags: Vec<Flag>,
    /// What follows the flags, without white space at both ends.
    pub(crate) rest: Text,
}

/// Divides a line into the instruction's name, its flags, and the rest.
pub(crate) fn split(line: &Text, escape: Escape) -> Split {
    let string = line.as_str();
    let whole = line.trimmed();
    let name_end = string[whole.clone()].find(is_blank).map_or(whole.end, |at| whole.start + at);
    let arguments = &string[name_end..whole.end];
    let first = name_end + (arguments.len() - arguments.trim_start_matches(is_blank).len());
    let mut flags = FlagReader { line, bytes: &string.as_bytes()[..whole.end], at: first, escape };
    let (flags, rest) = flags.read();
    Split {
        keyword: line.word(whole.start..name_end),
        flags,
        rest: line.slice(trim(string, rest..whole.end)),
    }
}

struct FlagReader<'a> {
    line: &'a Text,
    bytes: &'a [u8],
    at: usize,
    escape: Escape,
}

impl FlagReader<'_> {
    /// The flags, and where the rest of the line begins.
    fn read(&mut self) -> (Vec<Flag>, usize) {
        let mut flags = Vec::new();
        loop {
            while self.bytes.get(self.at).copied().is_some_and(is_latin1_space) {
                self.at += 1;
            }
            if !self.bytes[self.at..].starts_with(b"--") {
                return (flags, self.boundary());
            }
            let start = self.at;
            match self.word() {
                None => {}
                Some(word) if word == "--" => return (flags, self.boundary()),
                Some(word) => {
                    let (name, value) = match word[2..].split_once('=') {
                        Some((name, value)) => (name, Some(value.to_owned())),
                        None => (&word[2..], None),
                    };
                    let end = self.boundary();
                    flags.push(Flag {
                        name: name.to_owned(),
                        value,
                        span: self.line.span(start..end),
                    });
                }
            }
        }
    }

    /// The next word with quotes and escapes resolved; `None` where only a bare `--` was left of the line.
    fn word(&mut self) -> Option<String> {
        let escape = self.escape.as_char();
        let mut word = String::new();
        let mut quote = None;
        while let Some(&byte) = self.bytes.get(self.at) {
            // Byte by byte, each byte a character: so `é` becomes `Ã©`, as it does in BuildKit.
            let c = char::from(byte);
            if quote.is_none() && is_latin1_space(byte) {
                return Some(word);
            }
            self.at += 1;
            match quote {
                None if matches!(c, '\'' | '"') => quote = Some(c),
                Some(open) if c == open => quote = None,
                // Both kinds of quotes honour the escape character, which is dropped; the last one of a line is too.
                _ if c == escape => {
                    if let Some(&next) = self.bytes.get(self.at) {
                        word.push(char::from(next));
                        self.at += 1;
                    } else {
                        quote = None;
                    }
                }
                _ => word.push(c),
            }
        }
        (word != "--").then_some(word)
    }

    /// The current place, moved on to where a character begins: a flag may end within one.
    fn boundary(&self) -> usize {
        let string = self.line.as_str();
        (self.at..=string.len()).find(|&at| string.is_char_boundary(at)).unwrap_or(string.len())
    }
}

/// White space of Go's `unicode.IsSpace` when a byte is taken for a character.
fn is_latin1_space(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\x0b' | b'\x0c' | b'\r' | b' ' | 0x85 | 0xa0)
}

/// The words between blanks. Quotes mean nothing here.
pub(crate) fn blank_separated(rest: &Text) -> Vec<Word> {
    ranges(rest.as_str(), is_blank).map(|range| rest.word(range)).collect()
}

/// The ranges between separators.
fn ranges(string: &str, is_separator: fn(char) -> bool) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + string[at..].find(|c| !is_separator(c))?;
        at = string[start..].find(is_separator).map_or(string.len(), |end| start + end);
        Some(start..at)
    })
}

/// Where the words of `ENV`, `LABEL` and `ARG` are in the text behind the name: between white space outside quotes.
///
/// Quotes and escapes are kept, except an escape that ends the line.
pub fn quoted_words(string: &str, escape: Escape) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut end = string.len();
    let mut chars = string.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if start.is_none() {
            if c.is_whitespace() {
                continue;
            }
            start = Some(at);
        }
        if quote.is_none() && c.is_whitespace() {
            words.extend(start.take().map(|start| start..at));
        } else if c == escape.as_char() && quote != Some('\'') {
            if chars.next().is_none() {
                end = at;
            }
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '\'' | '"') {
            quote = Some(c);
        }
    }
    words.extend(start.map(|start| start..end).filter(|range| !range.is_empty()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(string: &str) -> Text {
        Text::read(string.as_bytes(), 0..string.len())
    }

    #[track_caller]
    fn check_split(line: &str, expected: &str) {
        let text = text(line);
        let split = split(&text, Escape::Backslash);
        let flags: Vec<_> = split
            .flags
            .iter()
            .map(|flag| match &flag.value {
                Some(value) => format!("{}={value}", flag.name),
                None => flag.name.clone(),
            })
            .collect();
        let actual = format!("{} {flags:?} {}", split.keyword, split.rest.as_str());
        assert_eq!(actual, expected, "splitting {line:?}");
    }

    #[test]
    fn flags_end_at_the_first_other_word_or_a_bare_double_dash() {
        check_split("COPY --from=x --link a --b c", r#"COPY ["from=x", "link"] a --b c"#);
        check_split("COPY --link -- --a b", r#"COPY ["link"] --a b"#);
        check_split("RUN -- --x", "RUN [] --x");
        check_split("RUN --", "RUN [] ");
        check_split("ENTRYPOINT -x", "ENTRYPOINT [] -x");
        check_split("RUN --mount=a", r#"RUN ["mount=a"] "#);
        check_split("RUN", "RUN [] ");
        check_split("", " [] ");
    }

    #[test]
    fn quotes_and_escapes_are_resolved_in_flags() {
        check_split(r#"COPY --exclude="x y" 'a b'"#, r#"COPY ["exclude=x y"] 'a b'"#);
        check_split(r"COPY --from=a\ b c", r#"COPY ["from=a b"] c"#);
        check_split(r"COPY --from='a\'b' c", r#"COPY ["from=a'b"] c"#);
        check_split(r#"COPY --from="a"#, r#"COPY ["from=a"] "#);
        check_split(r"COPY --from=a\", r#"COPY ["from=a"] "#);
        check_split(r#"COPY --"" a"#, "COPY [] a");
    }

    #[test]
    fn flags_are_read_byte_by_byte() {
        check_split("COPY --from=é a", r#"COPY ["from=Ã©"] a"#);
        // The second byte of `à` is a no-break space in Latin-1.
        check_split("COPY --from=à a", r#"COPY ["from=Ã"] a"#);
        check_split("COPY --from=\u{800} a", r#"COPY ["from=à"] a"#);
    }

    #[test]
    fn only_ascii_blanks_separate_the_name_and_plain_words() {
        check_split("RUN\u{a0}x y", "RUN\u{a0}x [] y");
        check_split("\u{a0} RUN \t\x0b\x0c x  \u{2003}", "RUN [] x");
        let words: Vec<_> =
            blank_separated(&text("a\u{a0}b \t c")).into_iter().map(|word| word.value).collect();
        assert_eq!(words, ["a\u{a0}b", "c"]);
    }

    #[track_caller]
    fn check_quoted(rest: &str, expected: &[&str]) {
        let actual: Vec<_> =
            quoted_words(rest, Escape::Backslash).into_iter().map(|range| &rest[range]).collect();
        assert_eq!(actual, expected, "splitting {rest:?}");
    }

    #[test]
    fn quoted_words_keep_their_quotes_and_escapes() {
        check_quoted(r#"a="b c" d='e f' g=h\ i"#, &[r#"a="b c""#, "d='e f'", r"g=h\ i"]);
        check_quoted(r"a 'b\' c'", &["a", r"'b\'", "c'"]);
        check_quoted(r#"k="v\\" n"#, &[r#"k="v\\""#, "n"]);
        check_quoted(r#""a\" b" c"#, &[r#""a\" b""#, "c"]);
        check_quoted("\"unterminated a b", &["\"unterminated a b"]);
        check_quoted("''", &["''"]);
        check_quoted("a\tb\x0bc\x0cd\u{a0}e", &["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn an_escape_at_the_end_of_the_line_is_dropped() {
        check_quoted("a\\", &["a"]);
        check_quoted("a \\", &["a"]);
        check_quoted("\"a\\", &["\"a"]);
        check_quoted("", &[]);
    }
}
