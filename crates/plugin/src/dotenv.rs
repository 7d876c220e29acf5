//! Files of variables: the one that `PLUGIN_ENV_FILE` names is read, the one that `DRONE_OUTPUT` names is written.

use std::collections::BTreeMap;

/// Reads lines `NAME=VALUE`, perhaps with `export` before them. Text in single quotes is as it stands; elsewhere `$NAME` and
/// `${NAME}` are values of earlier lines or of `variables`.
pub(crate) fn parse(
    text: &str,
    variables: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some(at) = line.find(['=', ':']) else {
            return Err(format!("line {} has no `=`", number + 1));
        };
        let name = line[..at].trim();
        if name.is_empty() {
            return Err(format!("line {} has no name before the `=`", number + 1));
        }
        let value = value(line[at + 1..].trim(), &|name| {
            values.get(name).or_else(|| variables.get(name)).cloned().unwrap_or_default()
        });
        values.insert(name.to_owned(), value);
    }
    Ok(values)
}

fn value(text: &str, lookup: &dyn Fn(&str) -> String) -> String {
    let quoted = |quote: char| {
        let rest = text.strip_prefix(quote)?;
        let mut is_escaped = false;
        let end = rest.char_indices().find_map(|(at, character)| {
            let is_end = character == quote && !is_escaped;
            is_escaped = character == '\\' && !is_escaped && quote == '"';
            is_end.then_some(at)
        })?;
        Some(&rest[..end])
    };
    if let Some(plain) = quoted('\'') {
        return plain.to_owned();
    }
    if let Some(text) = quoted('"') {
        return expand(text, true, lookup);
    }
    let end = if text.starts_with('#') { Some(0) } else { text.find(" #") };
    expand(text[..end.unwrap_or(text.len())].trim(), false, lookup)
}

/// Puts values in the place of names, and in double quotes characters in the place of escapes.
fn expand(text: &str, has_escapes: bool, lookup: &dyn Fn(&str) -> String) -> String {
    let mut value = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '\\' if has_escapes => {
                let escaped = rest.chars().next();
                rest = escaped.map_or(rest, |escaped| &rest[escaped.len_utf8()..]);
                value.push(match escaped {
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some(other) => other,
                    None => '\\',
                });
            }
            '\\' if rest.starts_with('$') => {
                value.push('$');
                rest = &rest[1..];
            }
            '$' => {
                let braced = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
                let (name, after) = braced.unwrap_or_else(|| {
                    let is_part =
                        |character: char| character.is_ascii_alphanumeric() || character == '_';
                    let end = rest.find(|character| !is_part(character));
                    rest.split_at(end.unwrap_or(rest.len()))
                });
                if name.is_empty() {
                    value.push('$');
                } else {
                    value.push_str(&lookup(name));
                    rest = after;
                }
            }
            plain => value.push(plain),
        }
    }
    value
}

/// Lines `NAME="VALUE"`, sorted; a number has no quotes.
pub(crate) fn write(values: &BTreeMap<&str, String>) -> String {
    let line = |(name, value): (&&str, &String)| format!("{name}={}\n", quoted(value));
    values.iter().map(line).collect::<Vec<_>>().concat()
}

fn quoted(value: &str) -> String {
    if value.parse::<i64>().is_ok_and(|number| number.to_string() == value) {
        return value.to_owned();
    }
    let mut text = String::from("\"");
    for character in value.chars() {
        match character {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\\' | '"' | '!' | '$' | '`' => {
                text.push('\\');
                text.push(character);
            }
            plain => text.push(plain),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_variables_is_read() {
        let known = BTreeMap::from([("HOME".to_owned(), "/root".to_owned())]);
        let text = "# comment\n\nA=1\nexport B = two words # why\nC: yaml\nD='$A #'\nE=\"a\\n\\\"b\\\" ${A}\"\nF=$HOME/x$\nG=\nH=a#b\n";
        let values = parse(text, &known).unwrap();
        let shown: Vec<String> =
            values.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            shown,
            ["A=1", "B=two words", "C=yaml", "D=$A #", "E=a\n\"b\" 1", "F=/root/x$", "G=", "H=a#b"]
        );
        assert_eq!(parse("A=1\nnothing\n", &known), Err("line 2 has no `=`".into()));
        assert_eq!(parse("=x", &known), Err("line 1 has no name before the `=`".into()));
    }

    #[test]
    fn what_is_written_can_be_read() {
        let values = BTreeMap::from([
            ("b", "a\"\\$`!\n\r".to_owned()),
            ("a", "12".into()),
            ("c", "012".into()),
        ]);
        let text = write(&values);
        assert_eq!(text, "a=12\nb=\"a\\\"\\\\\\$\\`\\!\\n\\r\"\nc=\"012\"\n");
        let read = parse(&text, &BTreeMap::new()).unwrap();
        assert_eq!(read["b"], "a\"\\$`!\n\r");
    }
}
