//! The comma-separated fields of `--mount` and `--device`: one record of RFC 4180, as Go's `encoding/csv` reads it.

/// The fields of one record with commas between them, as `--mount` and Docker's `--secret` have it: RFC 4180 as Go's
/// `encoding/csv` reads it.
///
/// # Errors
///
/// Fails with Go's words where a quotation mark is out of place.
pub fn fields(record: &str) -> Result<Vec<String>, String> {
    if record.is_empty() {
        return Err("EOF".to_owned());
    }
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let (field, behind) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_field(quoted)?
        } else {
            let (field, behind) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
            if field.contains('"') {
                return Err("bare \" in non-quoted field".to_owned());
            }
            (field.to_owned(), behind)
        };
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(behind) => rest = behind,
            None if behind.is_empty() => return Ok(fields),
            None => return Err("extraneous or missing \" in quoted-field".to_owned()),
        }
    }
}

/// The text up to the closing quote, and what is behind it. Two quotes stand for one.
fn quoted_field(mut rest: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    loop {
        let (text, behind) =
            rest.split_once('"').ok_or("extraneous or missing \" in quoted-field")?;
        field.push_str(text);
        match behind.strip_prefix('"') {
            Some(behind) => {
                field.push('"');
                rest = behind;
            }
            None => return Ok((field, behind)),
        }
    }
}

/// The words that Go's `strconv.ParseBool` knows.
pub(crate) fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(record: &str, expected: &str) {
        let actual = fields(record)
            .map_or_else(|error| format!("error: {error}"), |fields| fields.join("|"));
        assert_eq!(actual, expected, "reading {record:?}");
    }

    #[test]
    fn fields_are_separated_by_commas_outside_quotes() {
        check("type=bind,target=/a", "type=bind|target=/a");
        check("a,", "a|");
        check(",", "|");
        check(r#"type=bind,"target=/a,b""#, "type=bind|target=/a,b");
        check(r#""a""b",c"#, "a\"b|c");
    }

    #[test]
    fn misplaced_quotes_are_errors() {
        check("", "error: EOF");
        check(r#"a"b"#, "error: bare \" in non-quoted field");
        check(r#""a"b"#, "error: extraneous or missing \" in quoted-field");
        check(r#""a"#, "error: extraneous or missing \" in quoted-field");
    }
}
