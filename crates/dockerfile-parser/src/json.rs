//! JSON arrays of strings, as Go's `encoding/json` reads them.
//!
//! `serde_json` is no substitute: it refuses lone surrogates, which Go replaces, and it does not say where an element is.
//! Whether a text is JSON at all decides between two meanings of an instruction, so the edges matter.

use std::ops::Range;

/// Go's limit for nested arrays and objects.
const DEEPEST: usize = 10_000;

/// Why a text is not an array of strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotStrings {
    /// It is no JSON array. The instruction has another form for such texts.
    NotJson,
    /// It is a JSON array, and the element at this range is no string.
    Element(Range<usize>),
}

/// The elements of the array that `text` is, each with its range.
pub(crate) fn strings(text: &str) -> Result<Vec<(String, Range<usize>)>, NotStrings> {
    let start = text.len() - text.trim_start().len();
    let mut reader = Reader { text, bytes: text.as_bytes(), at: start };
    reader.array().ok_or(NotStrings::NotJson)?
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

type Elements = Result<Vec<(String, Range<usize>)>, NotStrings>;

impl Reader<'_> {
    /// The whole text; `None` where it is not JSON.
    fn array(&mut self) -> Option<Elements> {
        self.expect(b'[')?;
        let mut elements = Vec::new();
        let mut other = None;
        self.blanks();
        if self.bytes.get(self.at) == Some(&b']') {
            self.at += 1;
        } else {
            loop {
                self.blanks();
                let start = self.at;
                if self.bytes.get(start) == Some(&b'"') {
                    let string = self.string()?;
                    elements.push((string, start..self.at));
                } else {
                    self.value()?;
                    other = other.or(Some(start..self.at));
                }
                self.blanks();
                match self.next()? {
                    b',' => {}
                    b']' => break,
                    _ => return None,
                }
            }
        }
        self.blanks();
        if self.at != self.bytes.len() {
            return None;
        }
        Some(other.map_or(Ok(elements), |range| Err(NotStrings::Element(range))))
    }

    fn next(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn blanks(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Steps over any value. A loop, because a nested array is a cheap way to exhaust a stack.
    fn value(&mut self) -> Option<()> {
        let mut open = Vec::new();
        loop {
            self.blanks();
            match *self.bytes.get(self.at)? {
                bracket @ (b'[' | b'{') => {
                    // The array around this value counts too.
                    if open.len() + 2 > DEEPEST {
                        return None;
                    }
                    self.at += 1;
                    self.blanks();
                    if *self.bytes.get(self.at)? == bracket + 2 {
                        self.at += 1;
                    } else {
                        open.push(bracket);
                        if bracket == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => drop(self.string()?),
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.literal("true")?,
                b'f' => self.literal("false")?,
                b'n' => self.literal("null")?,
                _ => return None,
            }
            loop {
                let Some(&bracket) = open.last() else { return Some(()) };
                self.blanks();
                match self.next()? {
                    b',' if bracket == b'{' => {
                        self.key()?;
                        break;
                    }
                    b',' => break,
                    // `[` and `{` are two before their closing brackets.
                    byte if byte == bracket + 2 => drop(open.pop()),
                    _ => return None,
                }
            }
        }
    }

    fn key(&mut self) -> Option<()> {
        self.blanks();
        self.string()?;
        self.blanks();
        self.expect(b':')
    }

    fn literal(&mut self, word: &str) -> Option<()> {
        self.text[self.at..].starts_with(word).then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        let start = self.at;
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        // Go fails to decode a number that no float64 can hold.
        self.text[start..self.at].parse::<f64>().ok().filter(|number| number.is_finite()).map(drop)
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn string(&mut self) -> Option<String> {
        self.expect(b'"')?;
        let mut string = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| matches!(c, '"' | '\\' | '\0'..='\x1f'))?;
            string.push_str(&rest[..plain]);
            self.at += plain;
            match self.next()? {
                b'"' => return Some(string),
                b'\\' => string.push(self.escaped()?),
                _ => return None,
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        Some(match self.next()? {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                match char::from_u32(first) {
                    Some(c) => c,
                    None => self.surrogate(first)?,
                }
            }
            byte @ (b'"' | b'\\' | b'/') => char::from(byte),
            _ => return None,
        })
    }

    /// The character that `first` begins, or U+FFFD if the other half does not follow.
    fn surrogate(&mut self, first: u32) -> Option<char> {
        if !self.text[self.at..].starts_with("\\u") {
            return Some('\u{fffd}');
        }
        let back = self.at;
        self.at += 2;
        let second = self.hex()?;
        if (0xd800..0xdc00).contains(&first) && (0xdc00..0xe000).contains(&second) {
            return char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00));
        }
        self.at = back;
        Some('\u{fffd}')
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.bytes.get(self.at..self.at + 4)?;
        self.at += 4;
        digits
            .iter()
            .try_fold(0, |number, &digit| Some(number * 16 + char::from(digit).to_digit(16)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let actual = match strings(text) {
            Ok(elements) => {
                format!("{:?}", elements.iter().map(|(string, _)| string).collect::<Vec<_>>())
            }
            Err(NotStrings::NotJson) => "not JSON".to_owned(),
            Err(NotStrings::Element(range)) => format!("no string: {}", &text[range]),
        };
        assert_eq!(actual, expected, "reading {text:?}");
    }

    #[test]
    fn an_array_of_strings_is_its_elements() {
        check("[]", "[]");
        check("\t[ \"a\" ,\t\"b\"\n] ", r#"["a", "b"]"#);
        check(
            r#"["♥ \" \\ \/ \b\f\n\r\t \u0000 \u00e9"]"#,
            r#"["♥ \" \\ / \u{8}\u{c}\n\r\t \0 é"]"#,
        );
        check("\u{a0}[\"a\"]", r#"["a"]"#);
    }

    #[test]
    fn surrogates_are_paired_or_replaced() {
        check(r#"["\ud83d\ude00"]"#, r#"["😀"]"#);
        check(r#"["\ud800"]"#, r#"["�"]"#);
        check(r#"["\ude00\ud83dx"]"#, r#"["��x"]"#);
        check(r#"["\ud800\u0041"]"#, r#"["�A"]"#);
        check(r#"["\ud800\u00"]"#, "not JSON");
    }

    #[test]
    fn what_go_does_not_read_is_not_json() {
        for text in [
            "",
            "a",
            "{}",
            "['a']",
            "[a]",
            r#"["a",]"#,
            r#"["a""#,
            r#"["a" "b"]"#,
            r#"["a"] x"#,
            "[\"a\nb\"]",
            r#"["\x"]"#,
            "[01]",
            "[1.]",
            "[.5]",
            "[+1]",
            "[1e]",
            "[nul]",
            "[tru",
            "[{\"a\"}]",
            "[{1:2}]",
            "[[}]",
            "[1e999]",
        ] {
            check(text, "not JSON");
        }
    }

    #[test]
    fn the_first_element_that_is_no_string_is_named() {
        for element in
            ["1", "-0.5e+3", "true", "false", "null", "{}", "[]", r#"{"a":[1,{"b":"c"}]}"#]
        {
            check(&format!(r#"["a", {element} , 2]"#), &format!("no string: {element}"));
        }
    }

    #[test]
    fn nesting_is_limited_as_in_go() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(matches!(strings(&nested(10_000)), Err(NotStrings::Element(_))));
        assert_eq!(strings(&nested(10_001)), Err(NotStrings::NotJson));
    }
}
