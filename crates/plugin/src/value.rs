//! Text to values as the flag library of the original reads it: Go's `strconv` and `urfave/cli` version 1.

use std::fmt::Write as _;

/// Go's `strconv.ParseBool`.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quoted(text))),
    }
}

/// Go's `strconv.ParseInt(text, 0, 64)`: a prefix may name the base, and then digits may have underscores among them.
pub(crate) fn integer(text: &str) -> Result<i64, String> {
    let fail = |why: &str| format!("strconv.ParseInt: parsing {}: {why}", quoted(text));
    let (is_negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, body, has_prefix) = if let Some(rest) = lower.strip_prefix("0x") {
        (16, rest, true)
    } else if let Some(rest) = lower.strip_prefix("0b") {
        (2, rest, true)
    } else if let Some(rest) = lower.strip_prefix("0o") {
        (8, rest, true)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..], true)
    } else {
        (10, lower.as_str(), false)
    };
    // Underscores stand between digits, or between the prefix and a digit.
    let is_separated =
        !body.contains("__") && !body.ends_with('_') && (has_prefix || !body.contains('_'));
    let plain: String = body.chars().filter(|character| *character != '_').collect();
    if !is_separated || plain.is_empty() || !plain.chars().all(|digit| digit.is_digit(base)) {
        return Err(fail("invalid syntax"));
    }
    let signed = if is_negative { format!("-{plain}") } else { plain };
    i64::from_str_radix(&signed, base).map_err(|_| fail("value out of range"))
}

/// A list with commas between its elements, which cannot be escaped. Nothing is one empty element.
pub(crate) fn list(text: &str) -> Vec<String> {
    text.split(',').map(|element| element.trim().to_owned()).collect()
}

/// The list of the newer build arguments, whose elements may have commas.
pub(crate) fn semicolon_list(text: &str) -> Vec<String> {
    text.split(';').map(|element| element.trim().to_owned()).collect()
}

/// Go's `%q`, for the characters that are likely in a variable.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => {
                // Writing to a string cannot fail.
                let _written = write!(quoted, "\\x{:02x}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_gos() {
        for (text, expected) in [
            ("24", Ok(24)),
            ("-3", Ok(-3)),
            ("+3", Ok(3)),
            ("0x18", Ok(24)),
            ("0X18", Ok(24)),
            ("0b11", Ok(3)),
            ("0o17", Ok(15)),
            ("017", Ok(15)),
            ("0", Ok(0)),
            ("0x_1_0", Ok(16)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err("value out of range")),
            ("", Err("invalid syntax")),
            ("1_0", Err("invalid syntax")),
            ("09", Err("invalid syntax")),
            ("0x", Err("invalid syntax")),
            ("24h", Err("invalid syntax")),
            (" 1", Err("invalid syntax")),
            ("--1", Err("invalid syntax")),
        ] {
            let wrong = |why| format!("strconv.ParseInt: parsing \"{text}\": {why}");
            assert_eq!(integer(text), expected.map_err(wrong), "{text}");
        }
    }

    #[test]
    fn booleans_are_gos() {
        assert_eq!(boolean("T"), Ok(true));
        assert_eq!(boolean("0"), Ok(false));
        let wrong = "strconv.ParseBool: parsing \"yes\": invalid syntax";
        assert_eq!(boolean("yes"), Err(wrong.into()));
        assert_eq!(
            boolean("a\"\n"),
            Err("strconv.ParseBool: parsing \"a\\\"\\n\": invalid syntax".into())
        );
    }

    #[test]
    fn lists_are_split_and_trimmed_and_never_escaped() {
        assert_eq!(list("1, 2 ,latest"), ["1", "2", "latest"]);
        assert_eq!(list(""), [""]);
        assert_eq!(list("a\\,b"), ["a\\", "b"]);
        assert_eq!(semicolon_list("A=1,2; B=x ;"), ["A=1,2", "B=x", ""]);
    }
}
