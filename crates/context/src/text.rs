//! Byte strings as Go reads them: UTF-8 where it is valid, single bytes where it is not.
//!
//! File names are bytes. Docker's pattern language counts characters (`?` is one), so both its
//! halves need the same answer to "what is the next character" for names that are not UTF-8.

/// Above every Unicode scalar value, so that a byte which is not UTF-8 equals itself and no
/// character. Go folds all of them into U+FFFD, which would let one broken name match another.
const BROKEN: u32 = 0x0011_0000;

/// The first character of `text` and its length, or `None` at the end.
///
/// A byte that does not begin valid UTF-8 is a character of its own, outside of Unicode's range.
pub(crate) fn decode(text: &[u8]) -> Option<(u32, usize)> {
    let &first = text.first()?;
    if first.is_ascii() {
        return Some((u32::from(first), 1));
    }
    let length = match first {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    let character = text
        .get(..length)
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .and_then(|valid| valid.chars().next());
    Some(match character {
        Some(character) => (u32::from(character), length),
        None => (BROKEN + u32::from(first), 1),
    })
}

/// All characters of `text`; see [`decode`].
pub(crate) fn characters(mut text: &[u8]) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let (character, length) = decode(text)?;
        text = text.get(length..).unwrap_or_default();
        Some(character)
    })
}

/// `text` without white space, as Unicode knows it, at both ends (Go's `strings.TrimSpace`).
pub(crate) fn trim(mut text: &[u8]) -> &[u8] {
    while let Some((character, length)) = decode(text)
        && is_white_space(character)
    {
        text = text.get(length..).unwrap_or_default();
    }
    // White space is at most three bytes long in UTF-8, so the last character is found by trying.
    'shorter: loop {
        for length in 1..=3 {
            let Some(start) = text.len().checked_sub(length) else { break };
            let (rest, last) = text.split_at(start);
            if decode(last)
                .is_some_and(|(character, decoded)| decoded == length && is_white_space(character))
            {
                text = rest;
                continue 'shorter;
            }
        }
        return text;
    }
}

fn is_white_space(character: u32) -> bool {
    char::from_u32(character).is_some_and(char::is_whitespace)
}

/// The shortest path that means the same by spelling alone (Go's `path.Clean`).
///
/// The empty path becomes `.`. `..` is kept where it leads out of a relative path and dropped at
/// the front of an absolute one.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let mut kept: Vec<&[u8]> = Vec::new();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => match kept.last() {
                Some(&last) if last != b".." => drop(kept.pop()),
                _ if rooted => {}
                _ => kept.push(component),
            },
            _ => kept.push(component),
        }
    }
    let relative = kept.join(&b'/');
    match (rooted, relative.is_empty()) {
        (true, _) => [b"/", relative.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => relative,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("/", "/"),
            ("//", "/"),
            ("a/", "a"),
            ("a//b/./c", "a/b/c"),
            ("a/..", "."),
            ("a/../..", ".."),
            ("../a", "../a"),
            ("../../a/..", "../.."),
            ("/..", "/"),
            ("/../a/../b", "/b"),
            ("**/x/../y", "**/y"),
        ] {
            assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "cleaning {path:?}");
        }
    }

    #[test]
    fn white_space_beyond_ascii_is_trimmed_and_broken_bytes_are_not() {
        for (text, expected) in [
            ("  a b \t\r\n".as_bytes(), "a b".as_bytes()),
            ("\u{a0}\u{2003}a\u{3000}\u{85}".as_bytes(), b"a"),
            ("é ".as_bytes(), "é".as_bytes()),
            (b"a\x85", b"a\x85"),
            (b"a\xa0 ", b"a\xa0"),
            (b"   ", b""),
            (b"", b""),
        ] {
            assert_eq!(trim(text), expected, "trimming {text:?}");
        }
    }

    #[test]
    fn a_byte_that_is_not_utf8_is_one_character_that_equals_only_itself() {
        let read = |text: &[u8]| characters(text).collect::<Vec<_>>();
        assert_eq!(read("aé\u{1F600}".as_bytes()), [0x61, 0xE9, 0x1_F600]);
        assert_eq!(read(b"\xff\xe9a"), [BROKEN + 0xFF, BROKEN + 0xE9, 0x61]);
        assert_eq!(read(b"\xed\xa0\x80").len(), 3, "a surrogate is not UTF-8");
        assert_eq!(read(b"\xe2\x82").len(), 2, "a cut character is not UTF-8");
    }
}
