//! The `WWW-Authenticate` header: what a registry wants to see.

/// One challenge that can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The best answerable challenge in the values of `WWW-Authenticate`: a token rather than a
/// password. `None` if there is none.
pub(crate) fn choose<'v>(values: impl Iterator<Item = &'v str>) -> Option<Challenge> {
    let mut basic = None;
    for value in values {
        for challenge in parse(value) {
            match challenge {
                Challenge::Bearer { .. } => return Some(challenge),
                Challenge::Basic => basic = Some(challenge),
            }
        }
    }
    basic
}

/// Reads `Scheme name=value, name="value", Scheme …`. What is not understood is skipped.
fn parse(value: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = value;
    let mut scheme = "";
    let mut parameters: Vec<(String, String)> = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let after = after.trim_start();
        if let Some(after) = after.strip_prefix('=').filter(|_| !word.is_empty()) {
            let (value, next) = parameter_value(after.trim_start());
            parameters.push((word.to_ascii_lowercase(), value));
            rest = next;
            continue;
        }
        // A word without a value starts the next challenge, and so does the end.
        challenges.extend(challenge(scheme, &mut parameters));
        if word.is_empty() {
            return challenges;
        }
        scheme = word;
        rest = after;
    }
}

fn challenge(scheme: &str, parameters: &mut Vec<(String, String)>) -> Option<Challenge> {
    let mut values = std::mem::take(parameters);
    let mut take = |wanted: &str| {
        let index = values.iter().position(|(name, _)| name == wanted)?;
        Some(values.swap_remove(index).1)
    };
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    Some(Challenge::Bearer {
        realm: take("realm")?,
        service: take("service"),
        scope: take("scope"),
    })
}

/// A token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[index + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[&str], expected: &str) {
        let actual = match choose(values.iter().copied()) {
            None => "none".into(),
            Some(Challenge::Basic) => "basic".into(),
            Some(Challenge::Bearer { realm, service, scope }) => {
                let show = |value: Option<String>| value.unwrap_or_else(|| "-".into());
                format!("{realm} {} {}", show(service), show(scope))
            }
        };
        assert_eq!(actual, expected, "{values:?}");
    }

    #[test]
    fn what_registries_send_is_understood() {
        check(
            &[
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
            ],
            "https://auth.docker.io/token registry.docker.io repository:a/b:pull,push",
        );
        check(&[r#"Basic realm="Registry""#], "basic");
        check(&["Basic"], "basic");
        check(&["bearer realm=https://a/b , service = x"], "https://a/b x -");
        check(&[r#"BEARER ReAlM="a \"b\", c""#], "a \"b\", c - -");
    }

    #[test]
    fn a_token_is_preferred_wherever_it_stands() {
        check(&[r#"Basic realm="x", Bearer realm="t""#], "t - -");
        check(&[r#"Bearer realm="t", Basic realm="x""#], "t - -");
        check(&[r#"Basic realm="x""#, r#"Bearer realm="t""#], "t - -");
        check(&[r#"Negotiate abc==, Digest realm="d", Basic realm="x""#], "basic");
    }

    #[test]
    fn what_cannot_be_answered_is_none() {
        check(&[], "none");
        check(&["", ",,", "=", "= =", "\"", "Negotiate", "Bearer", "Bearer service=\"x\""], "none");
        check(&[r#"Bearer realm="unclosed"#], "unclosed - -");
        check(&["Bearer realm=\"\\"], " - -");
    }
}
