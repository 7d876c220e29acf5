//! The wildcards of `${name#…}`, `${name%…}` and `${name/…/…}`.
//!
//! `*` and `?` do not match a line end, because BuildKit compiles them to regular expressions in
//! which `.` does not. Matching runs all alternatives side by side in order of preference, so that
//! it takes time proportional to text times pattern and memory proportional to the pattern.

use super::ExpandErrorReason as Reason;
use super::MAX_COMPARISONS;
use super::word::{is_name_character, push};

type Result<T> = std::result::Result<T, Reason>;

/// Which end of a value is cut off.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Front,
    Back,
}

/// `${name#pattern}` and its kin: `value` without the shortest or longest match at one end.
pub(super) fn cut(value: &str, pattern: &str, end: End, is_greedy: bool) -> Result<String> {
    let mut value: Vec<char> = value.chars().collect();
    // The shortest match at the back is found from the front of both read backwards.
    let pattern = match end {
        End::Front => pattern.to_owned(),
        End::Back => {
            value.reverse();
            backwards(pattern)
        }
    };
    let pattern = Pattern::parse(&pattern, is_greedy)?;
    pattern.check_size(&value)?;
    let cut_off = pattern.find(&value, 0, Start::Here).map_or(0, |(_, end)| end);
    let rest = value[cut_off..].iter();
    Ok(if end == End::Front { rest.collect() } else { rest.rev().collect() })
}

/// `${name/pattern/replacement}`, or `${name//pattern/replacement}` where `is_global`.
pub(super) fn replace(
    value: &str,
    pattern: &str,
    replacement: &str,
    is_global: bool,
) -> Result<String> {
    let pattern = Pattern::parse(pattern, true)?;
    let value: Vec<char> = value.chars().collect();
    pattern.check_size(&value)?;
    let mut text = String::new();
    let mut copied = 0;
    let mut from = 0;
    while from <= value.len() {
        let Some((start, end)) = pattern.find(&value, from, Start::Anywhere) else { break };
        push_characters(&mut text, &value[copied..start])?;
        // An empty match directly behind another match does not count.
        if end > copied || start == 0 {
            if is_global {
                push_template(&mut text, replacement, &value[start..end])?;
            } else {
                push(&mut text, replacement)?;
            }
        }
        copied = end;
        from = if end > from { end } else { from + 1 };
        if !is_global {
            break;
        }
    }
    push_characters(&mut text, &value[copied..])?;
    Ok(text)
}

fn push_characters(text: &mut String, characters: &[char]) -> Result<()> {
    let mut buffer = [0; 4];
    characters.iter().try_for_each(|c| push(text, c.encode_utf8(&mut buffer)))
}

/// Go's replacement templates: `$0` and `${0}` are the match, other names are empty, `$$` is `$`.
fn push_template(text: &mut String, template: &str, matched: &[char]) -> Result<()> {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        push(text, before)?;
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            push(text, "$")?;
            rest = after;
        } else if let Some((name, after)) = template_name(rest) {
            if name == "0" {
                push_characters(text, matched)?;
            }
            rest = after;
        } else {
            push(text, "$")?;
        }
    }
    push(text, rest)
}

fn template_name(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('{').unwrap_or(text);
    let length = inner.find(|c| !is_name_character(c)).unwrap_or(inner.len());
    let (name, rest) = inner.split_at(length);
    let rest = if inner.len() == text.len() { rest } else { rest.strip_prefix('}')? };
    (!name.is_empty()).then_some((name, rest))
}

/// The pattern read from its end, with each escape character still in front of what it escapes.
fn backwards(pattern: &str) -> String {
    let mut units: Vec<&str> = Vec::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        let escaped = rest[first.len_utf8()..].chars().next().filter(|_| first == '\\');
        let (unit, after) = rest.split_at(first.len_utf8() + escaped.map_or(0, char::len_utf8));
        units.push(unit);
        rest = after;
    }
    units.into_iter().rev().collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    One,
    Many,
}

struct Pattern {
    tokens: Vec<Token>,
    is_greedy: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Here,
    Anywhere,
}

/// One alternative that is still possible: where its match began and the token that is next.
#[derive(Clone, Copy)]
struct Thread {
    start: usize,
    token: usize,
}

/// Threads in order of preference; of those at one token only the first counts.
struct Threads {
    list: Vec<Thread>,
    seen: Vec<bool>,
}

impl Pattern {
    fn parse(pattern: &str, is_greedy: bool) -> Result<Self> {
        let mut tokens = Vec::new();
        let mut rest = pattern.chars().peekable();
        while let Some(c) = rest.next() {
            let token = match c {
                '*' => Token::Many,
                '?' => Token::One,
                // These two had to be escaped to be part of the pattern at all.
                '\\' if matches!(rest.peek(), Some('}' | '/')) => continue,
                '\\' => match rest.next() {
                    Some(escaped @ ('*' | '?' | '\\')) => Token::Literal(escaped),
                    other => {
                        return Err(Reason::InvalidPattern {
                            pattern: pattern.to_owned(),
                            escaped: other.unwrap_or(char::REPLACEMENT_CHARACTER),
                        });
                    }
                },
                c => Token::Literal(c),
            };
            // `**` matches what `*` matches.
            if token != Token::Many || tokens.last() != Some(&Token::Many) {
                tokens.push(token);
            }
        }
        Ok(Self { tokens, is_greedy })
    }

    fn check_size(&self, text: &[char]) -> Result<()> {
        let comparisons = self.tokens.len().saturating_mul(text.len());
        if comparisons > MAX_COMPARISONS { Err(Reason::TooSlow) } else { Ok(()) }
    }

    /// The preferred match that begins first at or after `from`: where it starts and ends.
    fn find(&self, text: &[char], from: usize, start: Start) -> Option<(usize, usize)> {
        let mut found = None;
        let mut now = Threads::new(self);
        let mut next = Threads::new(self);
        for position in from..=text.len() {
            if found.is_none() && (position == from || start == Start::Anywhere) {
                now.add(self, Thread { start: position, token: 0 });
            }
            if now.list.is_empty() {
                break;
            }
            for index in 0..now.list.len() {
                let thread = now.list[index];
                let Some(&token) = self.tokens.get(thread.token) else {
                    found = Some((thread.start, position));
                    // What comes later is liked less than a match.
                    break;
                };
                let Some(&c) = text.get(position) else { continue };
                match token {
                    Token::Literal(wanted) if wanted == c => next.add(self, thread.advanced()),
                    Token::One if c != '\n' => next.add(self, thread.advanced()),
                    Token::Many if c != '\n' => next.add(self, thread),
                    _ => {}
                }
            }
            now.clear();
            std::mem::swap(&mut now, &mut next);
        }
        found
    }
}

impl Thread {
    fn advanced(self) -> Self {
        Self { token: self.token + 1, ..self }
    }
}

impl Threads {
    fn new(pattern: &Pattern) -> Self {
        Self { list: Vec::new(), seen: vec![false; pattern.tokens.len() + 1] }
    }

    fn clear(&mut self) {
        for thread in self.list.drain(..) {
            self.seen[thread.token] = false;
        }
    }

    /// Adds a thread, and behind or before it the one that leaves a `*`.
    fn add(&mut self, pattern: &Pattern, thread: Thread) {
        if pattern.tokens.get(thread.token) != Some(&Token::Many) {
            self.add_one(thread);
        } else if pattern.is_greedy {
            self.add_one(thread);
            self.add_one(thread.advanced());
        } else {
            self.add_one(thread.advanced());
            self.add_one(thread);
        }
    }

    fn add_one(&mut self, thread: Thread) {
        if !std::mem::replace(&mut self.seen[thread.token], true) {
            self.list.push(thread);
        }
    }
}
