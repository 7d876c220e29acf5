//! Character classes and escapes of Go's regular expressions.

use super::{Malformed, Text};

/// A set of characters.
#[derive(Debug, Clone)]
pub(super) struct Class {
    negated: bool,
    ranges: Vec<(u32, u32)>,
}

impl Class {
    pub(super) fn contains(&self, character: u32) -> bool {
        let listed = self.ranges.iter().any(|&(low, high)| (low..=high).contains(&character));
        listed != self.negated
    }

    /// All characters that are not in `ranges`, which are sorted and do not touch.
    fn complement(ranges: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let mut rest = Vec::new();
        let mut low = 0;
        for &(first, last) in ranges {
            if low < first {
                rest.push((low, first - 1));
            }
            low = last + 1;
        }
        rest.push((low, u32::MAX));
        rest
    }
}

const DIGITS: &[(char, char)] = &[('0', '9')];
const SPACES: &[(char, char)] = &[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')];
const WORD: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];

/// The named classes. Each list is sorted.
const NAMED: &[(&str, &[(char, char)])] = &[
    ("alnum", &[('0', '9'), ('A', 'Z'), ('a', 'z')]),
    ("alpha", &[('A', 'Z'), ('a', 'z')]),
    ("ascii", &[('\0', '\x7f')]),
    ("blank", &[('\t', '\t'), (' ', ' ')]),
    ("cntrl", &[('\0', '\x1f'), ('\x7f', '\x7f')]),
    ("digit", DIGITS),
    ("graph", &[('!', '~')]),
    ("lower", &[('a', 'z')]),
    ("print", &[(' ', '~')]),
    ("punct", &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
    ("space", &[('\t', '\r'), (' ', ' ')]),
    ("upper", &[('A', 'Z')]),
    ("word", WORD),
    ("xdigit", &[('0', '9'), ('A', 'F'), ('a', 'f')]),
];

fn ranges_of(named: &[(char, char)], negated: bool) -> Vec<(u32, u32)> {
    let ranges: Vec<_> =
        named.iter().map(|&(low, high)| (u32::from(low), u32::from(high))).collect();
    if negated { Class::complement(&ranges) } else { ranges }
}

/// Parses a class after its `[`.
pub(super) fn parse(text: &mut Text<'_>) -> Result<Class, Malformed> {
    let negated = text.accept('^');
    let mut ranges = Vec::new();
    let mut first = true;
    loop {
        // A `]` that comes first is an ordinary member.
        if !first && text.accept(']') {
            return Ok(Class { negated, ranges });
        }
        first = false;
        if let Some(named) = parse_named(text)? {
            ranges.extend(named);
            continue;
        }
        if let Some(('\\', rest)) = split(text.rest) {
            let mut escaped = Text { rest };
            if let Some(class) = parse_perl(&mut escaped) {
                text.rest = escaped.rest;
                ranges.extend(class.ranges);
                continue;
            }
        }
        let low = parse_member(text)?;
        let mut high = low;
        // A `-` just before the closing bracket is an ordinary member as well.
        if let Some(('-', rest)) = split(text.rest)
            && rest.first().is_some_and(|&next| next != u32::from(b']'))
        {
            text.rest = rest;
            high = parse_member(text)?;
        }
        if high < low {
            return Err(Malformed);
        }
        ranges.push((low, high));
    }
}

/// Parses `[:alpha:]` and its like; `None` if that is not what comes next.
fn parse_named(text: &mut Text<'_>) -> Result<Option<Vec<(u32, u32)>>, Malformed> {
    let Some(('[', rest)) = split(text.rest) else { return Ok(None) };
    let Some((':', rest)) = split(rest) else { return Ok(None) };
    let closing = [u32::from(b':'), u32::from(b']')];
    let Some(end) = rest.windows(2).position(|pair| pair == closing) else { return Ok(None) };
    let (name, rest) = rest.split_at(end);
    let name: String = name.iter().filter_map(|&character| char::from_u32(character)).collect();
    let (name, negated) = match name.strip_prefix('^') {
        Some(name) => (name, true),
        None => (name.as_str(), false),
    };
    let (_, named) = NAMED.iter().find(|(candidate, _)| *candidate == name).ok_or(Malformed)?;
    text.rest = rest.get(2..).unwrap_or_default();
    Ok(Some(ranges_of(named, negated)))
}

/// Parses the letter of `\d`, `\S` and their like; `None`, and nothing is read, for other letters.
pub(super) fn parse_perl(text: &mut Text<'_>) -> Option<Class> {
    let letter = text.peek()?;
    let named = match letter.to_ascii_lowercase() {
        'd' => DIGITS,
        's' => SPACES,
        'w' => WORD,
        _ => return None,
    };
    text.next();
    Some(Class { negated: false, ranges: ranges_of(named, letter.is_ascii_uppercase()) })
}

fn parse_member(text: &mut Text<'_>) -> Result<u32, Malformed> {
    match text.next() {
        None => Err(Malformed),
        Some(character) if character == u32::from(b'\\') => parse_escaped_character(text),
        Some(character) => Ok(character),
    }
}

/// Parses what follows a `\` that stands for one character.
///
/// Unicode groups (`\pL`) are refused: Go would take them, but no path list has been seen that
/// means one, and a `\p` in it is far more likely a separator from another system.
pub(super) fn parse_escaped_character(text: &mut Text<'_>) -> Result<u32, Malformed> {
    let escaped = text.next().and_then(char::from_u32).ok_or(Malformed)?;
    let character = match escaped {
        'a' => '\x07',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        'x' => return parse_hexadecimal(text),
        '0'..='7' => return parse_octal(text, escaped),
        other if other.is_ascii() && !other.is_ascii_alphanumeric() => other,
        _ => return Err(Malformed),
    };
    Ok(u32::from(character))
}

fn parse_hexadecimal(text: &mut Text<'_>) -> Result<u32, Malformed> {
    let mut digit = || {
        text.next().and_then(char::from_u32).and_then(|digit| digit.to_digit(16)).ok_or(Malformed)
    };
    let high = digit()?;
    Ok(high * 16 + digit()?)
}

fn parse_octal(text: &mut Text<'_>, first: char) -> Result<u32, Malformed> {
    let mut value = first.to_digit(8).ok_or(Malformed)?;
    let mut digits = 1;
    while digits < 3
        && let Some(digit) = text.peek().and_then(|digit| digit.to_digit(8))
    {
        text.next();
        value = value * 8 + digit;
        digits += 1;
    }
    // One digit alone would be a reference to a group, which Go does not have.
    if digits == 1 && first != '0' { Err(Malformed) } else { Ok(value) }
}

fn split(text: &[u32]) -> Option<(char, &[u32])> {
    let (&first, rest) = text.split_first()?;
    Some((char::from_u32(first)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::characters;

    #[track_caller]
    fn check(class: &str, members: &str, others: &str) {
        let characters: Vec<u32> = characters(class.as_bytes()).collect();
        let mut text = Text { rest: characters.get(1..).unwrap_or_default() };
        let parsed = parse(&mut text).unwrap_or_else(|Malformed| panic!("`{class}` is malformed"));
        assert!(text.rest.is_empty(), "`{class}` is read to its end");
        for member in members.chars() {
            assert!(parsed.contains(u32::from(member)), "`{class}` holds {member:?}");
        }
        for other in others.chars() {
            assert!(!parsed.contains(u32::from(other)), "`{class}` does not hold {other:?}");
        }
    }

    #[test]
    fn ranges_escapes_and_named_classes_are_members() {
        check("[a-cx]", "abcx", "dy-");
        check("[^a-c]", "d/\n", "abc");
        check("[]a]", "]a", "[");
        check("[^]a]", "b", "]a");
        check("[a-]", "a-", "b");
        check("[--/]", "-./", "0,");
        check("[[^/]", "[^/", "]a");
        check("[[:alpha:]_]", "azAZ_", "0:[");
        check("[[:^digit:]]", "a:", "0");
        check("[[:x]", "[:x", "a");
        check("[\\d\\-]", "09-", "a\\");
        check("[\\D]", "a", "5");
        check("[\\]\\\\]", "]\\", "a");
        check("[\u{e0}-\u{ff}]", "\u{e9}", "e");
    }

    #[test]
    fn malformed_classes_are_refused() {
        for class in ["[", "[a", "[]", "[^]", "[b-a]", "[[:nope:]]", "[\\q]", "[a-\\d]", "[\\"] {
            let characters: Vec<u32> = characters(class.as_bytes()).collect();
            let mut text = Text { rest: characters.get(1..).unwrap_or_default() };
            assert!(parse(&mut text).is_err(), "`{class}` is refused");
        }
    }
}
