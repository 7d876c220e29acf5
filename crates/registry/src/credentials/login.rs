//! Writing a login down.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ebiko_oci::DOCKER_HUB;
use serde_json::{Map, Value, json};

use super::config::{DOCKER_HUB_KEY, Scope};

/// A login cannot be written into a config.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum LoginError {
    #[error("`{registry}` is not a registry, written `host[:port]`, perhaps with a path")]
    Registry { registry: String },
    #[error("the user name must have no colon")]
    User,
    #[error("the docker config is not a JSON object (line {line}, column {column})")]
    Syntax { line: usize, column: usize },
    #[error("`{key}` of the docker config is not a JSON object")]
    NoObject { key: &'static str },
}

/// The content of the Docker config `config`, where there is one, with the user and password for `registry`.
///
/// What the config has besides is kept, except other entries for the very same registry or path, under whichever spelling:
/// of two, the wrong one might be used.
///
/// # Errors
///
/// Fails if the config is not JSON of its kind, or if the entry could not be read back.
pub fn log_in(
    config: Option<&[u8]>,
    registry: &str,
    user: &str,
    password: &str,
) -> Result<String, LoginError> {
    let name = registry.strip_prefix("https://").or_else(|| registry.strip_prefix("http://"));
    let name = name.unwrap_or(registry).trim_end_matches('/');
    let scope = Scope::parse(name);
    let no_registry = || LoginError::Registry { registry: registry.to_owned() };
    let host = scope.registry.as_str();
    // A reference has the exact rules; a single word would be a user of Docker Hub there.
    let is_host = format!("{host}/x")
        .parse::<ebiko_oci::Reference>()
        .is_ok_and(|reference| reference.registry().eq_ignore_ascii_case(host));
    if !is_host && host != DOCKER_HUB {
        return Err(no_registry());
    }
    if user.contains(':') {
        return Err(LoginError::User);
    }
    let key = if host == DOCKER_HUB && scope.path.is_empty() {
        DOCKER_HUB_KEY.to_owned()
    } else {
        [std::slice::from_ref(&scope.registry), &scope.path].concat().join("/")
    };
    let mut config: Map<String, Value> = match config {
        Some(text) if !text.trim_ascii().is_empty() => serde_json::from_slice(text)
            .map_err(|error| LoginError::Syntax { line: error.line(), column: error.column() })?,
        _ => Map::new(),
    };
    let auths = config.entry("auths").or_insert(Value::Null);
    if auths.is_null() {
        *auths = json!({});
    }
    let auths = auths.as_object_mut().ok_or(LoginError::NoObject { key: "auths" })?;
    auths.retain(|other, _| Scope::parse(other) != scope);
    let auth = STANDARD.encode(format!("{user}:{password}"));
    auths.insert(key, json!({ "auth": auth }));
    // A program for exactly this registry would be asked first.
    if let Some(programs) = config.get_mut("credHelpers").and_then(Value::as_object_mut) {
        programs.retain(|other, _| Scope::parse(other) != scope);
    }
    Ok(format!("{:#}\n", Value::Object(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(config: &str, registry: &str, expected: &str) {
        let actual = match log_in(Some(config.as_bytes()), registry, "u", "p:w") {
            Ok(text) => text.split_whitespace().collect::<String>(),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(actual, expected, "{registry}");
    }

    #[test]
    fn an_entry_is_added_and_everything_else_is_kept() {
        check(
            r#"{"auths":{"a.io":{"auth":"x"}},"psFormat":"y"}"#,
            "r.io:5000",
            r#"{"auths":{"a.io":{"auth":"x"},"r.io:5000":{"auth":"dTpwOnc="}},"psFormat":"y"}"#,
        );
        check("", "r.io/team", r#"{"auths":{"r.io/team":{"auth":"dTpwOnc="}}}"#);
        let localhost = r#"{"auths":{"localhost":{"auth":"dTpwOnc="}}}"#;
        check(r#"{"auths":null}"#, "http://localhost/", localhost);
    }

    #[test]
    fn docker_hub_has_one_entry_under_its_old_name() {
        for name in ["docker.io", "index.docker.io", "https://index.docker.io/v1/"] {
            check(
                r#"{"auths":{"docker.io":{},"docker.io/me":{}}}"#,
                name,
                r#"{"auths":{"docker.io/me":{},"https://index.docker.io/v1/":{"auth":"dTpwOnc="}}}"#,
            );
        }
    }

    #[test]
    fn a_program_that_would_be_asked_first_is_forgotten() {
        check(
            r#"{"credHelpers":{"https://r.io":"pass","s.io":"pass"}}"#,
            "r.io",
            r#"{"auths":{"r.io":{"auth":"dTpwOnc="}},"credHelpers":{"s.io":"pass"}}"#,
        );
    }

    #[test]
    fn what_cannot_be_written_is_refused_without_a_secret() {
        check("{}", "", "error: `` is not a registry, written `host[:port]`, perhaps with a path");
        let error = "error: `a b` is not a registry, written `host[:port]`, perhaps with a path";
        check("{}", "a b", error);
        check("[]", "r.io", "error: the docker config is not a JSON object (line 1, column 0)");
        check(r#"{"auths":1}"#, "r.io", "error: `auths` of the docker config is not a JSON object");
        assert_eq!(log_in(None, "r.io", "a:b", "s3cret"), Err(LoginError::User));
    }
}
