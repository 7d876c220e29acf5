//! Wildcards of `COPY` and `ADD` sources: Go's `filepath.Match`.
//!
//! The language is smaller and stranger than a shell's: `*` and `?` do not match `/`, a character
//! class does; `[^a]` negates and `[!a]` does not; `{a,b}` is literal; `\` escapes one character.
//! A star takes the shortest run that lets the following part match and never reconsiders, which
//! shows only where a class matches `/`. Builds depend on the answers, so they are the same here.

use crate::text::decode;

/// A compiled pattern.
///
/// # Examples
///
/// ```
/// # use ebiko_context::Glob;
/// let glob = Glob::parse(b"src/*.[ch]")?;
/// assert!(glob.matches(b"src/main.c"));
/// assert!(!glob.matches(b"src/sub/main.c"), "a star stays within one directory");
/// # Ok::<(), ebiko_context::GlobError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    chunks: Vec<Chunk>,
}

/// A pattern that is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern `{}`", String::from_utf8_lossy(.pattern))]
pub struct GlobError {
    /// The whole pattern.
    pub pattern: Vec<u8>,
    /// What is wrong with it.
    pub source: GlobFault,
}

/// Why a pattern is not well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum GlobFault {
    #[error("`[` is never closed by `]`")]
    OpenClass,
    #[error("`-` or `]` stands where a character of a class is expected; put `\\` before it")]
    UnexpectedInClass,
    #[error("a class holds a byte that is not UTF-8")]
    ClassNotUtf8,
    #[error("`\\` at the end escapes nothing")]
    TrailingEscape,
}

/// The part of a pattern from one star to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chunk {
    after_star: bool,
    items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Byte(u8),
    /// `?`: one character other than `/`.
    Any,
    Class {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
}

impl Glob {
    /// Compiles `pattern`.
    ///
    /// # Errors
    ///
    /// Fails for what Go calls a bad pattern: an open class, an escape of nothing.
    pub fn parse(pattern: &[u8]) -> Result<Self, GlobError> {
        parse_chunks(pattern)
            .map(|chunks| Self { chunks })
            .map_err(|source| GlobError { pattern: pattern.to_vec(), source })
    }

    /// Whether the pattern matches all of `name`.
    pub fn matches(&self, name: &[u8]) -> bool {
        let mut name = name;
        let last = self.chunks.len().saturating_sub(1);
        for (index, chunk) in self.chunks.iter().enumerate() {
            if chunk.after_star && chunk.items.is_empty() {
                return !name.contains(&b'/');
            }
            // The last chunk has to use up the name; any other may leave some to its successors.
            let skips = if chunk.after_star {
                name.iter().position(|&byte| byte == b'/').unwrap_or(name.len())
            } else {
                0
            };
            let rest = (0..=skips)
                .filter_map(|skip| chunk.match_start(name.get(skip..)?))
                .find(|rest| index < last || rest.is_empty());
            match rest {
                Some(rest) => name = rest,
                None => return false,
            }
        }
        name.is_empty()
    }

    /// The pattern for each directory level, where levels can be matched one by one.
    ///
    /// `None` if a class may match `/`, because then one level of the pattern can stand for
    /// several of the path.
    pub(crate) fn levels(&self, pattern: &[u8]) -> Option<Vec<Glob>> {
        let crosses = self
            .chunks
            .iter()
            .flat_map(|chunk| &chunk.items)
            .any(|item| matches!(item, Item::Class { .. }) && item.match_start(b"/").is_some());
        if crosses {
            return None;
        }
        pattern.split(|&byte| byte == b'/').map(|level| Glob::parse(level).ok()).collect()
    }

    /// How many directory levels a name that this pattern matches has at most.
    pub(crate) fn max_levels(&self) -> usize {
        let slashes = self.chunks.iter().flat_map(|chunk| &chunk.items).filter(|item| match item {
            Item::Byte(byte) => *byte == b'/',
            Item::Any => false,
            Item::Class { .. } => true,
        });
        slashes.count() + 1
    }
}

impl Chunk {
    /// What is left of `name` after this chunk matched its beginning.
    fn match_start<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        self.items.iter().try_fold(name, |rest, item| item.match_start(rest))
    }
}

impl Item {
    fn match_start<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        let (character, length) = decode(name)?;
        let length = match self {
            Item::Byte(byte) => (name.first() == Some(byte)).then_some(1),
            Item::Any => (character != u32::from(b'/')).then_some(length),
            Item::Class { negated, ranges } => {
                let listed = ranges.iter().any(|&(low, high)| (low..=high).contains(&character));
                (listed != *negated).then_some(length)
            }
        };
        name.get(length?..)
    }
}

fn parse_chunks(pattern: &[u8]) -> Result<Vec<Chunk>, GlobFault> {
    let mut chunks = Vec::new();
    let mut chunk = Chunk { after_star: false, items: Vec::new() };
    let mut rest = pattern;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'*' => {
                if chunk.after_star || !chunk.items.is_empty() {
                    if chunk.items.is_empty() {
                        continue; // several stars in a row are one
                    }
                    chunks.push(std::mem::replace(
                        &mut chunk,
                        Chunk { after_star: true, items: Vec::new() },
                    ));
                }
                chunk.after_star = true;
            }
            b'?' => chunk.items.push(Item::Any),
            b'[' => {
                let (class, after) = parse_class(rest)?;
                chunk.items.push(class);
                rest = after;
            }
            b'\\' => {
                let (&escaped, after) = rest.split_first().ok_or(GlobFault::TrailingEscape)?;
                chunk.items.push(Item::Byte(escaped));
                rest = after;
            }
            literal => chunk.items.push(Item::Byte(literal)),
        }
    }
    if chunk.after_star || !chunk.items.is_empty() {
        chunks.push(chunk);
    }
    Ok(chunks)
}

/// Parses a class after its `[`; also returns what follows its `]`.
fn parse_class(text: &[u8]) -> Result<(Item, &[u8]), GlobFault> {
    let (negated, mut rest) = match text.split_first() {
        Some((b'^', rest)) => (true, rest),
        _ => (false, text),
    };
    let mut ranges = Vec::new();
    loop {
        if let Some((b']', after)) = rest.split_first()
            && !ranges.is_empty()
        {
            return Ok((Item::Class { negated, ranges }, after));
        }
        let (low, after) = parse_class_character(rest)?;
        rest = after;
        let mut high = low;
        if let Some((b'-', after)) = rest.split_first() {
            (high, rest) = parse_class_character(after)?;
        }
        ranges.push((low, high));
    }
}

fn parse_class_character(text: &[u8]) -> Result<(u32, &[u8]), GlobFault> {
    let text = match text.split_first() {
        None => return Err(GlobFault::OpenClass),
        Some((b'-' | b']', _)) => return Err(GlobFault::UnexpectedInClass),
        Some((b'\\', rest)) => rest,
        Some(_) => text,
    };
    let (character, length) = decode(text).ok_or(GlobFault::OpenClass)?;
    if char::from_u32(character).is_none() {
        return Err(GlobFault::ClassNotUtf8);
    }
    match text.get(length..) {
        Some(rest) if !rest.is_empty() => Ok((character, rest)),
        _ => Err(GlobFault::OpenClass),
    }
}

/// Whether `text` has a wildcard that is not escaped.
///
/// Without one the text is a plain path, in which even `\` stands for itself.
pub fn has_wildcard(text: &[u8]) -> bool {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'*' | b'?' | b'[' => return true,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, name: &str, expected: &str) {
        let actual = match Glob::parse(pattern.as_bytes()) {
            Ok(glob) if glob.matches(name.as_bytes()) => "match".to_owned(),
            Ok(_) => "no match".to_owned(),
            Err(error) => error.source.to_string(),
        };
        assert!(
            actual.starts_with(expected),
            "`{pattern}` on `{name}`: expected {expected}, got {actual}"
        );
    }

    #[test]
    fn literals_match_only_themselves() {
        check("abc", "abc", "match");
        check("abc", "abcd", "no match");
        check("abc", "ab", "no match");
        check("", "", "match");
        check("", "x", "no match");
        check("{a,b}", "a", "no match");
        check("{a,b}", "{a,b}", "match");
        check("a]", "a]", "match");
    }

    #[test]
    fn a_star_matches_any_run_within_one_directory() {
        check("*", "abc", "match");
        check("*", "", "match");
        check("*", "a/b", "no match");
        check("*c", "abc", "match");
        check("a*", "a", "match");
        check("a*", "ab/c", "no match");
        check("a*/b", "abc/b", "match");
        check("a*/b", "a/c/b", "no match");
        check("a*b*c*d*e*/f", "axbxcxdxe/f", "match");
        check("a*b*c*d*e*/f", "axbxcxdxexxx/f", "match");
        check("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", "no match");
        check("a*b?c*x", "abxbbxdbxebxczzx", "match");
        check("a*b?c*x", "abxbbxdbxebxczzy", "no match");
        check("**", "ab", "match");
        check("a/**/b", "a/x/b", "match");
        check("a/**/b", "a/x/y/b", "no match");
        check("*x", "xxx", "match");
    }

    #[test]
    fn a_question_mark_is_one_character_and_never_a_slash() {
        check("a?b", "a☺b", "match");
        check("a??b", "a☺b", "no match");
        check("a?b", "a/b", "no match");
        check("?", "", "no match");
    }

    #[test]
    fn a_class_lists_ranges_and_may_match_a_slash() {
        check("ab[c]", "abc", "match");
        check("ab[b-d]", "abc", "match");
        check("ab[e-g]", "abc", "no match");
        check("ab[^c]", "abc", "no match");
        check("ab[^e-g]", "abc", "match");
        check("a[^a]b", "a☺b", "match");
        check("a[^a][^a]b", "a☺b", "no match");
        check("[a-ζ]*", "α", "match");
        check("*[a-ζ]", "A", "no match");
        check("a[!b]", "a!", "match");
        check("a[^b]c", "a/c", "match");
        check("[\\]a]", "]", "match");
        check("[\\-]", "-", "match");
        check("[x\\-]", "z", "no match");
        check("[\\-x]", "a", "no match");
    }

    #[test]
    fn a_star_never_reconsiders_what_it_took() {
        // By the words of the documentation `[^x]` could be the slash, and Go says no.
        check("*[^x]*c", "ab/c", "no match");
    }

    #[test]
    fn an_escape_makes_the_next_character_literal() {
        check("a\\*b", "a*b", "match");
        check("a\\*b", "axb", "no match");
        check("a\\b", "ab", "match");
        check("[[]", "[", "match");
    }

    #[test]
    fn malformed_patterns_are_refused_whatever_the_name() {
        check("[", "a", "`[` is never closed");
        check("[^", "a", "`[` is never closed");
        check("[^bc", "a", "`[` is never closed");
        check("a[", "ab", "`[` is never closed");
        check("[a-b-", "a", "`-` or `]`");
        check("x[\\", "", "`[` is never closed");
        check("[]a]", "]", "`-` or `]`");
        check("[-]", "-", "`-` or `]`");
        check("[x-]", "x", "`-` or `]`");
        check("[-x]", "x", "`-` or `]`");
        check("[a-b-c]", "a", "`-` or `]`");
        check("[^]*]", "x", "`-` or `]`");
        check("a\\", "a", "`\\` at the end");
    }

    #[test]
    fn bytes_that_are_not_utf8_match_bytewise() {
        let glob = Glob::parse(b"\xff?*").unwrap();
        assert!(glob.matches(b"\xff\xfe"));
        assert!(!glob.matches(b"\xfe\xfe"));
        assert_eq!(Glob::parse(b"[\xff]").unwrap_err().source, GlobFault::ClassNotUtf8);
    }

    #[test]
    fn only_a_wildcard_that_is_not_escaped_counts() {
        assert!(has_wildcard(b"a*"));
        assert!(has_wildcard(b"a?"));
        assert!(has_wildcard(b"a[b"));
        assert!(has_wildcard(br"a\\*"));
        assert!(!has_wildcard(br"a\*b"));
        assert!(!has_wildcard(b"a]b{c}\\"));
    }
}
