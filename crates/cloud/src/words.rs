//! What others say about errors.

use std::error::Error;

use ebiko_transport::Response;
use serde::Deserialize;

/// How much of an error's text is read.
const ERROR_LIMIT: usize = 16 * 1024;

/// What a registry or a token service says about an error: `CODE: message` for each, or the beginning of a text.
pub fn error_text(response: Response) -> String {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<Item>,
        // Token services.
        #[serde(default, alias = "error_description", alias = "message")]
        details: Option<String>,
        // AWS, sometimes with a name space before a `#`.
        #[serde(default, rename = "__type")]
        kind: Option<String>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let body = response.into_excerpt(ERROR_LIMIT);
    let text = match serde_json::from_slice::<Body>(&body) {
        Ok(Body { errors, .. }) if !errors.is_empty() => {
            let items = errors.into_iter().map(|Item { code, message }| {
                if message.is_empty() { code } else { format!("{code}: {message}") }
            });
            items.collect::<Vec<_>>().join("; ")
        }
        Ok(Body { details: Some(details), kind: Some(kind), .. }) => {
            format!("{}: {details}", kind.rsplit('#').next().unwrap_or_default())
        }
        Ok(Body { details: Some(details), .. }) => details,
        Ok(_) => String::new(),
        Err(_) => plain_text(&String::from_utf8_lossy(&body)),
    };
    let is_shown = |character: char| !character.is_control();
    text.chars()
        .map(|c| if is_shown(c) { c } else { ' ' })
        .take(500)
        .collect::<String>()
        .trim()
        .into()
}

/// The text of a page from a proxy in between is of no use to anybody.
fn plain_text(text: &str) -> String {
    let text = text.trim();
    if text.starts_with('<') {
        String::new()
    } else {
        text.lines().next().unwrap_or_default().into()
    }
}

/// The error with its causes, on one line, for where several are listed.
pub fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
