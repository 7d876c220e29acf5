//! The regular expressions that ignore patterns are defined by.
//!
//! Docker's matcher has no grammar of its own: a pattern is rewritten into a Go regular expression
//! and means what that means. So `\d` in an ignore file is a digit, `[[:alpha:]]` a letter, and
//! `^` in the middle never matches. This module reads exactly the expressions that the rewriting
//! can produce and runs them in time proportional to the text.
//!
//! It is not a general engine: groups, alternation, counted repetition and flags cannot occur,
//! because the rewriting escapes their characters.

mod class;

use self::class::Class;
use crate::text::{characters, decode};

/// A compiled expression. It says itself where it is anchored.
#[derive(Debug, Clone)]
pub(super) struct Regexp {
    program: Vec<Instruction>,
    /// Bytes that a text has to end with, and bytes that it has to contain: they reject most paths
    /// without running the program.
    suffix: Vec<u8>,
    needle: Vec<u8>,
}

/// The expression is not one that Go accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// One element of an expression before it is repeated.
#[derive(Debug, Clone)]
enum Atom {
    Character(u32),
    Class(Class),
    /// `.`, which is not a line feed.
    Any,
    /// `(.*/)`, the only group there is.
    Directories,
    Assert(Assertion),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Assertion {
    Start,
    End,
    WordBoundary,
    NotWordBoundary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Once,
    Maybe,
    Any,
}

#[derive(Debug, Clone)]
enum Instruction {
    Character(u32),
    Class(Class),
    Any,
    Assert(Assertion),
    /// Goes on at both places.
    Split(usize, usize),
    Accept,
}

impl Regexp {
    /// Compiles `expression`, the characters of a Go regular expression.
    pub(super) fn compile(expression: &[u32]) -> Result<Self, Malformed> {
        let atoms = parse(expression)?;
        let mut program = Vec::new();
        for (atom, repeat) in &atoms {
            emit(&mut program, atom, *repeat);
        }
        program.push(Instruction::Accept);
        Ok(Self { program, suffix: literal_suffix(&atoms), needle: longest_literal(&atoms) })
    }

    /// Whether the expression matches `text` from its start on.
    ///
    /// To its end as well, if the expression ends with `$`. That is not a matter of course: a `\Q`
    /// that is never closed makes the `$` a literal.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        if !text.ends_with(&self.suffix) || !contains(text, &self.needle) {
            return false;
        }
        let mut current = Threads::new(self.program.len());
        let mut next = Threads::new(self.program.len());
        let mut rest = text;
        let mut before = None;
        current.add(&self.program, 0, before, decode(rest).map(|(character, _)| character));
        while !current.accepted
            && !current.list.is_empty()
            && let Some((character, length)) = decode(rest)
        {
            rest = rest.get(length..).unwrap_or_default();
            let after = decode(rest).map(|(character, _)| character);
            before = Some(character);
            next.clear();
            for &at in &current.list {
                let consumes = match self.program.get(at) {
                    Some(Instruction::Character(wanted)) => *wanted == character,
                    Some(Instruction::Class(class)) => class.contains(character),
                    Some(Instruction::Any) => character != u32::from(b'\n'),
                    _ => false,
                };
                if consumes {
                    next.add(&self.program, at + 1, before, after);
                }
            }
            std::mem::swap(&mut current, &mut next);
        }
        current.accepted
    }
}

/// The places in the program that the text so far can have led to.
struct Threads {
    list: Vec<usize>,
    seen: Vec<bool>,
    pending: Vec<usize>,
    accepted: bool,
}

impl Threads {
    fn new(program: usize) -> Self {
        Self { list: Vec::new(), seen: vec![false; program], pending: Vec::new(), accepted: false }
    }

    fn clear(&mut self) {
        self.list.clear();
        self.accepted = false;
        self.seen.fill(false);
    }

    /// Adds `start` and every place that is reached from it without reading a character.
    fn add(
        &mut self,
        program: &[Instruction],
        start: usize,
        before: Option<u32>,
        after: Option<u32>,
    ) {
        self.pending.push(start);
        while let Some(at) = self.pending.pop() {
            let (Some(instruction), Some(seen)) = (program.get(at), self.seen.get_mut(at)) else {
                continue;
            };
            if std::mem::replace(seen, true) {
                continue;
            }
            match instruction {
                Instruction::Split(first, second) => self.pending.extend([*second, *first]),
                Instruction::Assert(assertion) => {
                    if assertion.holds(before, after) {
                        self.pending.push(at + 1);
                    }
                }
                Instruction::Accept => self.accepted = true,
                Instruction::Character(_) | Instruction::Class(_) | Instruction::Any => {
                    self.list.push(at);
                }
            }
        }
    }
}

impl Assertion {
    fn holds(self, before: Option<u32>, after: Option<u32>) -> bool {
        let boundary = || is_word(before) != is_word(after);
        match self {
            Assertion::Start => before.is_none(),
            Assertion::End => after.is_none(),
            Assertion::WordBoundary => boundary(),
            Assertion::NotWordBoundary => !boundary(),
        }
    }
}

fn is_word(character: Option<u32>) -> bool {
    character
        .and_then(char::from_u32)
        .is_some_and(|character| character.is_ascii_alphanumeric() || character == '_')
}

fn emit(program: &mut Vec<Instruction>, atom: &Atom, repeat: Repeat) {
    let start = program.len();
    if repeat != Repeat::Once {
        program.push(Instruction::Split(start + 1, start + 1)); // patched below
    }
    match atom {
        Atom::Character(character) => program.push(Instruction::Character(*character)),
        Atom::Class(class) => program.push(Instruction::Class(class.clone())),
        Atom::Any => program.push(Instruction::Any),
        Atom::Assert(assertion) => program.push(Instruction::Assert(*assertion)),
        Atom::Directories => {
            emit(program, &Atom::Any, Repeat::Any);
            program.push(Instruction::Character(u32::from(b'/')));
        }
    }
    if repeat == Repeat::Any {
        program.push(Instruction::Split(start, program.len() + 1));
    }
    let end = program.len();
    if repeat != Repeat::Once
        && let Some(split) = program.get_mut(start)
    {
        *split = Instruction::Split(start + 1, end);
    }
}

/// The bytes at the end of every text that `atoms` match.
fn literal_suffix(atoms: &[(Atom, Repeat)]) -> Vec<u8> {
    match atoms.split_last() {
        Some(((Atom::Assert(Assertion::End), Repeat::Once), atoms)) => {
            literal_runs(atoms).pop().unwrap_or_default().into_bytes()
        }
        _ => Vec::new(),
    }
}

/// The most bytes in a row that every text has which `atoms` match.
fn longest_literal(atoms: &[(Atom, Repeat)]) -> Vec<u8> {
    literal_runs(atoms).into_iter().max_by_key(String::len).unwrap_or_default().into_bytes()
}

/// What stands between the wildcards; the last run is empty if `atoms` end with one.
fn literal_runs(atoms: &[(Atom, Repeat)]) -> Vec<String> {
    let mut runs = vec![String::new()];
    for (atom, repeat) in atoms {
        let literal = match (atom, repeat) {
            (Atom::Character(character), Repeat::Once) => char::from_u32(*character),
            _ => None,
        };
        match (literal, runs.last_mut()) {
            (Some(literal), Some(run)) => run.push(literal),
            _ => runs.push(String::new()),
        }
    }
    runs
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || text.windows(needle.len()).any(|window| window == needle)
}

fn parse(expression: &[u32]) -> Result<Vec<(Atom, Repeat)>, Malformed> {
    let directories: Vec<u32> = characters(b"(.*/)").collect();
    let mut atoms = Vec::new();
    let mut text = Text { rest: expression };
    while let Some(character) = text.next() {
        let atom = match char::from_u32(character) {
            Some('^') => Atom::Assert(Assertion::Start),
            Some('$') => Atom::Assert(Assertion::End),
            Some('.') => Atom::Any,
            Some('[') => Atom::Class(class::parse(&mut text)?),
            Some('\\') if text.accept('Q') => {
                while !text.rest.is_empty()
                    && !text.rest.starts_with(&[u32::from(b'\\'), u32::from(b'E')])
                {
                    atoms.extend(
                        text.next().map(|literal| (Atom::Character(literal), Repeat::Once)),
                    );
                }
                text.rest = text.rest.get(2..).unwrap_or_default();
                continue;
            }
            Some('\\') => parse_escape(&mut text)?,
            Some('(') if text.rest.starts_with(directories.get(1..).unwrap_or_default()) => {
                text.rest = text.rest.get(directories.len() - 1..).unwrap_or_default();
                Atom::Directories
            }
            // A literal run closed by `\E` can leave an operator with nothing, or with something
            // unforeseen, before it. Nobody writes that on purpose.
            Some('*' | '?' | '+' | '(' | ')' | '|' | '{') => return Err(Malformed),
            _ => Atom::Character(character),
        };
        let repeat = if text.accept('*') {
            Repeat::Any
        } else if text.accept('?') {
            Repeat::Maybe
        } else {
            Repeat::Once
        };
        atoms.push((atom, repeat));
    }
    Ok(atoms)
}

fn parse_escape(text: &mut Text<'_>) -> Result<Atom, Malformed> {
    let assertion = [
        ('A', Assertion::Start),
        ('z', Assertion::End),
        ('b', Assertion::WordBoundary),
        ('B', Assertion::NotWordBoundary),
    ];
    for (letter, assertion) in assertion {
        if text.accept(letter) {
            return Ok(Atom::Assert(assertion));
        }
    }
    if let Some(class) = class::parse_perl(text) {
        return Ok(Atom::Class(class));
    }
    class::parse_escaped_character(text).map(Atom::Character)
}

/// What is left of an expression.
struct Text<'e> {
    rest: &'e [u32],
}

impl Text<'_> {
    fn next(&mut self) -> Option<u32> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn peek(&self) -> Option<char> {
        self.rest.first().copied().and_then(char::from_u32)
    }

    fn accept(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.next();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, text: &str, expected: Result<bool, Malformed>) {
        let expression = format!("^{expression}$");
        let characters: Vec<u32> = characters(expression.as_bytes()).collect();
        let actual = Regexp::compile(&characters).map(|regexp| regexp.matches(text.as_bytes()));
        assert_eq!(actual, expected, "`{expression}` on `{text}`");
    }

    #[test]
    fn generated_wildcards_match_what_docker_means_by_them() {
        check("[^/]*\\.md", "README.md", Ok(true));
        check("[^/]*\\.md", "docs/README.md", Ok(false));
        check("(.*/)?x", "x", Ok(true));
        check("(.*/)?x", "a/b/x", Ok(true));
        check("(.*/)?x", "ax", Ok(false));
        check("a/.*", "a/b/c", Ok(true));
        check("a/.*", "a/b\nc", Ok(false));
        check("[^/]", "\u{e9}", Ok(true));
    }

    #[test]
    fn escapes_mean_what_they_mean_in_a_regular_expression() {
        check("\\d\\D", "1a", Ok(true));
        check("\\w\\W\\s\\S", "_- x", Ok(true));
        check("\\f\\n\\r\\t\\v\\a", "\x0c\n\r\t\x0b\x07", Ok(true));
        check("\\x41\\101\\0", "AA\0", Ok(true));
        check("\\*\\_\\-", "*_-", Ok(true));
        check("\\ba\\b", "a", Ok(true));
        check("a\\Bb", "ab", Ok(true));
        check("\\A\\z", "", Ok(true));
        check("\\Qa[b*\\E\\d", "a[b*1", Ok(true));
        check("\\Qab", "ab$ and more", Ok(true));
        for malformed in ["\\q", "\\1", "\\8", "\\xg1", "\\E", "\\C", "\\\u{e9}", "\\pL"] {
            check(malformed, "", Err(Malformed));
        }
    }

    #[test]
    fn literal_parts_have_to_be_there_and_nothing_else() {
        check("(.*/)?cache/.*", "a/cache/x", Ok(true));
        check("(.*/)?cache/.*", "cache/", Ok(true));
        check("(.*/)?cache/.*", "a/caches/x", Ok(false));
        check("a[^/]*bc[^/]", "aXbcX", Ok(true));
        check("a[^/]*bc[^/]", "aXbXc", Ok(false));
        check("ab*c", "ac", Ok(true));
        check("ab?\u{e9}", "a\u{e9}", Ok(true));
    }

    #[test]
    fn an_anchor_in_the_middle_never_matches() {
        check("a^b", "a^b", Ok(false));
        check("^a", "a", Ok(true));
    }

    #[test]
    fn matching_takes_time_in_proportion_to_the_text() {
        let expression = "(.*/)?".repeat(200);
        check(&format!("{expression}b"), &"a/".repeat(2000), Ok(false));
    }
}
