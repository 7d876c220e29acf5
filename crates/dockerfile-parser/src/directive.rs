//! Parser directives: `# key=value` lines at the very top of a file.

use crate::ast::{Directive, Directives, Escape};
use crate::diagnostic::Diagnostic;
use crate::source::{Source, Word};
use crate::text::{Line, Text, lines};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Syntax,
    Escape,
    Check,
}

const KEYS: [(&str, Key); 3] =
    [("syntax", Key::Syntax), ("escape", Key::Escape), ("check", Key::Check)];

/// Reads directives line by line until the first line that is none.
#[derive(Debug)]
struct Scanner {
    comment: &'static str,
    found: Directives,
    done: bool,
}

impl Scanner {
    fn new(comment: &'static str) -> Self {
        Self { comment, found: Directives::default(), done: false }
    }

    /// Looks at the next line. `Some` if it is a directive, which may be one too many.
    fn read(&mut self, content: &Text, number: u32) -> Option<Result<(Key, &Word), Diagnostic>> {
        if self.done {
            return None;
        }
        let Some((key, value)) = key_and_value(content, self.comment) else {
            self.done = true;
            return None;
        };
        let (name, slot) = match key {
            Key::Syntax => ("syntax", &mut self.found.syntax),
            Key::Escape => ("escape", &mut self.found.escape),
            Key::Check => ("check", &mut self.found.check),
        };
        if slot.is_some() {
            let message = format!("only one {name} parser directive can be used");
            return Some(Err(Diagnostic::error(content.whole(), message)));
        }
        Some(Ok((key, &slot.insert(Directive { value, line: number }).value)))
    }
}

/// `None` if the line is not a directive with a known key and a value.
fn key_and_value(content: &Text, comment: &str) -> Option<(Key, Word)> {
    let is_blank = |c: char| matches!(c, '\t' | '\n' | '\x0c' | '\r' | ' ');
    let string = content.as_str();
    let line = string.strip_prefix(comment)?.trim_start();
    let (name, rest) = line.split_at(line.find(|c: char| !c.is_ascii_alphanumeric())?);
    let (_, key) = KEYS.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    let rest = rest.trim_start_matches(is_blank).strip_prefix('=')?;
    let value = rest.trim_matches(is_blank);
    // A value of blanks only is the last of them: the pattern that BuildKit uses wants one character.
    let value = if value.is_empty() { rest.get(rest.len().checked_sub(1)?..)? } else { value };
    let start = string.len() - rest.len() + rest.find(value)?;
    Some((key, content.word(start..start + value.len())))
}

impl Directives {
    /// Finds the directives at the top of a file, without reading the file.
    ///
    /// A line that begins with `#!` may come first. Unlike for reading the file, where `escape` may be indented, a
    /// directive begins with `#`. Of a directive that is given twice the first counts, and nothing after the second.
    pub fn find(text: &[u8]) -> Self {
        find(&lines(&Source::new("", top(text))).0, "#")
    }
}

/// The lines at the top that may be directives in some language: nothing else needs to be read to find them.
fn top(text: &[u8]) -> &[u8] {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    let start = if text.starts_with(MARK) { MARK.len() } else { 0 };
    let lines = text[start..].split_inclusive(|&byte| byte == b'\n');
    let length: usize = lines
        .take_while(|line| line.starts_with(b"#") || line.starts_with(b"//"))
        .map(<[u8]>::len)
        .sum();
    &text[..start + length]
}

fn find(lines: &[Line], comment: &'static str) -> Directives {
    let shebang = lines.first().is_some_and(|line| line.text.as_str().starts_with("#!"));
    let mut scanner = Scanner::new(comment);
    for line in &lines[usize::from(shebang)..] {
        match scanner.read(&line.text.slice(line.content()), line.number) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break,
        }
    }
    scanner.found
}

/// The frontend image that a file asks for, whatever language the file is in.
///
/// Besides `# syntax=`, the forms for other languages are understood: `// syntax=`, and a JSON object with the key
/// `syntax`, which has line 0.
pub fn detect_syntax(text: &[u8]) -> Option<Directive> {
    let source = Source::new("", top(text));
    let (lines, _) = lines(&source);
    find(&lines, "#").syntax.or_else(|| find(&lines, "//").syntax).or_else(|| {
        let object: serde_json::Map<_, _> = serde_json::from_slice(text).ok()?;
        let value = object.get("syntax")?.as_str()?;
        Some(Directive { value: Word::new(value.to_owned(), 0..text.len()), line: 0 })
    })
}

/// Follows the directives while a file is read.
#[derive(Debug)]
pub(crate) struct Tracker {
    scanner: Scanner,
    pub(crate) escape: Escape,
}

impl Tracker {
    pub(crate) fn new() -> Self {
        Self { scanner: Scanner::new("#"), escape: Escape::default() }
    }

    /// Looks at a line of which white space at the left is gone. Whether it is a directive, and what is wrong with it.
    pub(crate) fn read(&mut self, content: &Text, number: u32) -> Result<bool, Diagnostic> {
        let (key, value) = match self.scanner.read(content, number) {
            None => return Ok(false),
            Some(found) => found?,
        };
        if key == Key::Escape {
            self.escape = match value.as_str() {
                "\\" => Escape::Backslash,
                "`" => Escape::Backtick,
                other => {
                    let message = format!("invalid escape token '{other}' does not match ` or \\");
                    return Err(Diagnostic::error(value.span, message));
                }
            };
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let print = |name: &str, directive: Option<Directive>| {
            directive.map(|found| {
                format!("{name}@{}: {:?} {:?}", found.line, found.first_word(), found.value.value)
            })
        };
        let found = Directives::find(text.as_bytes());
        let detected = detect_syntax(text.as_bytes()).filter(|_| found.syntax.is_none());
        let lines: Vec<_> = [
            print("syntax", found.syntax),
            print("escape", found.escape),
            print("check", found.check),
            print("detected", detected),
        ]
        .into_iter()
        .flatten()
        .collect();
        assert_eq!(lines.join("\n"), expected, "in {text:?}");
    }

    #[test]
    fn directives_are_found_at_the_top_only() {
        check(
            "# syntax = a/b:1 // opts\r\n#CHECK=skip=all\n# escape=`\nFROM a\n",
            "syntax@1: \"a/b:1\" \"a/b:1 // opts\"\nescape@3: \"`\" \"`\"\ncheck@2: \"skip=all\" \"skip=all\"",
        );
        check("\u{feff}# syntax=a\n", "syntax@1: \"a\" \"a\"");
        for text in [
            "\n# syntax=a\n",
            "# hello\n# syntax=a\n",
            "# a=b\n# syntax=a\n",
            " # syntax=a\n",
            "FROM a\n# syntax=a",
        ] {
            check(text, "");
        }
    }

    #[test]
    fn a_shebang_may_come_first() {
        check("#!/bin/sh\n# syntax=a\n", "syntax@2: \"a\" \"a\"");
        check("#!/bin/sh\n\n# syntax=a\n", "");
    }

    #[test]
    fn a_directive_has_a_value() {
        check("# syntax=\n# check=b\n", "");
        check("# escape= \n", "escape@1: \"\" \" \"");
    }

    #[test]
    fn nothing_counts_from_the_second_of_two_on() {
        check("# syntax=a\n# syntax=b\n# check=c\n", "syntax@1: \"a\" \"a\"");
    }

    #[test]
    fn the_syntax_of_other_languages_is_detected() {
        check("//syntax=foo\n//key=value", "detected@1: \"foo\" \"foo\"");
        check("#!/bin/sh\n//syntax=x", "detected@2: \"x\" \"x\"");
        check("{\"syntax\": \"foo\", \"bar\": [\"abc\"]}", "detected@0: \"foo\" \"foo\"");
        check("{\"syntax\": \"foo\"", "");
        check("{\"syntax\": \"foo\"}\n# syntax=bar", "");
    }
}
