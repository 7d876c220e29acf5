//! Texts as Go's `fmt` and `path` packages write them.
//!
//! Histories, stored paths and error texts come from BuildKit's `%q`, `%v` and `path.Join`; images are compared
//! byte for byte, so the rules are kept here and nowhere else.

use std::fmt::Write as _;

/// `%q` of a string: double quotes around it, and escapes for whatever does not print.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            c if is_printable(c) => quoted.push(c),
            c => {
                let code = u32::from(c);
                // Writing to a string does not fail.
                let _ = match code {
                    0..=0x1f | 0x7f => write!(quoted, "\\x{code:02x}"),
                    ..=0xffff => write!(quoted, "\\u{code:04x}"),
                    _ => write!(quoted, "\\U{code:08x}"),
                };
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Go's `unicode.IsPrint`, by way of the table that the standard library has for `{:?}`.
///
/// At the start of a string that one also escapes combining marks, which Go prints, hence the letter in front.
fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~') || ['x', c].iter().collect::<String>().escape_debug().eq(['x', c])
}

/// `%q` of a list of strings: `["a" "b"]`.
pub(crate) fn quoted_list(words: &[String]) -> String {
    format!("[{}]", words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "))
}

/// `%v` of a list of strings: `[a b]`.
pub(crate) fn plain_list(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

/// A `time.Duration` of so many nanoseconds: `1h2m3.5s`, `1.5ms`, `0s`.
pub(crate) fn duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let total = nanoseconds.unsigned_abs();
    if total == 0 {
        return "0s".into();
    }
    let (unit, digits, name) = match total {
        0..1_000 => (1, 0, "ns"),
        1_000..1_000_000 => (1_000, 3, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, 6, "ms"),
        _ => (1_000_000_000, 9, "s"),
    };
    let (whole, rest) = (total / unit, total % unit);
    let fraction = match rest {
        0 => String::new(),
        rest => format!(".{rest:0digits$}").trim_end_matches('0').to_owned(),
    };
    let (minutes, seconds) = (whole / 60, whole % 60);
    match (name, minutes) {
        ("s", 60..) => format!("{sign}{}h{}m{seconds}{fraction}s", minutes / 60, minutes % 60),
        ("s", 1..) => format!("{sign}{minutes}m{seconds}{fraction}s"),
        _ => format!("{sign}{whole}{fraction}{name}"),
    }
}

/// `path.Clean`: the shortest equal path by spelling alone, `.` for nothing.
pub(crate) fn clean_path(path: &str) -> String {
    let is_rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|&last| last != "..") => {
                parts.pop();
            }
            ".." if is_rooted => {}
            part => parts.push(part),
        }
    }
    match (is_rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

/// `path.Join` of two parts.
pub(crate) fn join_path(parent: &str, path: &str) -> String {
    match (parent, path) {
        ("", "") => String::new(),
        ("", path) | (path, "") => clean_path(path),
        (parent, path) => clean_path(&format!("{parent}/{path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_with_go_escapes() {
        for (text, expected) in [
            ("", r#""""#),
            ("a b", r#""a b""#),
            ("it's \"x\\\"", r#""it's \"x\\\"""#),
            ("\x07\x08\x0c\n\r\t\x0b", r#""\a\b\f\n\r\t\v""#),
            ("\x01\x7f", r#""\x01\x7f""#),
            ("\u{80}\u{a0}\u{200b}\u{feff}", r#""\u0080\u00a0\u200b\ufeff""#),
            ("한é", r#""한é""#),
            ("e\u{301}", "\"e\u{301}\""),
            ("\u{301}", "\"\u{301}\""),
            ("\u{e0001}", r#""\U000e0001""#),
        ] {
            assert_eq!(quote(text), expected, "{text:?}");
        }
    }

    #[test]
    fn lists_are_separated_by_blanks() {
        let words = ["a".to_owned(), "b c".to_owned()];
        assert_eq!(quoted_list(&words), r#"["a" "b c"]"#);
        assert_eq!(plain_list(&words), "[a b c]");
        assert_eq!(quoted_list(&[]), "[]");
    }

    #[test]
    fn durations_have_the_largest_fitting_units() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (1_000_000, "1ms"),
            (1_234_500_000, "1.2345s"),
            (60_000_000_000, "1m0s"),
            (90_061_500_000_000, "25h1m1.5s"),
            (-2_000_000_000, "-2s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(duration(nanoseconds), expected);
        }
    }

    #[test]
    fn paths_are_cleaned_by_spelling() {
        for (path, expected) in [
            ("", "."),
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("/a/../../b", "/b"),
            ("a/..", "."),
            ("../a", "../a"),
            ("a/../../b", "../b"),
            ("/.", "/"),
        ] {
            assert_eq!(clean_path(path), expected, "{path:?}");
        }
        assert_eq!(join_path("/w", "../a"), "/a");
        assert_eq!(join_path("/", ""), "/");
        assert_eq!(join_path("", ""), "");
    }
}
