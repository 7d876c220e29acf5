//! What a storage answers instead of a file.

use std::error::Error;
use std::fmt;

use ebiko_transport::{Request, Response, StatusCode};

/// How much of an answer is read to find its words.
const EXCERPT: usize = 16 << 10;

/// How much of a storage's own words is shown.
const SHOWN: usize = 300;

/// A storage refuses a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    store: &'static str,
    status: StatusCode,
    /// The storage's own words.
    said: String,
    /// With whom as whom it was asked.
    identity: String,
    is_anonymous: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, status, said, identity, .. } = self;
        let colon = if said.is_empty() { "" } else { ": " };
        write!(f, "{store} answers {status}{colon}{said}; it was asked {identity}")
    }
}

impl Error for Refusal {}

impl Refusal {
    /// Reads the words of `response`, the answer to `request`. `asker` is who signed, or why nobody did.
    pub(super) fn read(
        store: &'static str,
        request: &Request,
        response: Response,
        asker: Result<&str, &str>,
    ) -> Self {
        let status = response.status();
        let body = response.into_excerpt(EXCERPT);
        let said = without_secrets(&words(&String::from_utf8_lossy(&body)), request);
        let identity = match asker {
            Ok(who) => format!("as {who}"),
            Err(why) => format!("without credentials, because {why}"),
        };
        Self { store, status, said, identity, is_anonymous: asker.is_err() }
    }

    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self.status.as_u16() {
            301 | 307 | 400 if self.store == "S3" => {
                Some("set AWS_REGION to the region of the bucket")
            }
            401 | 403 if self.is_anonymous => {
                Some("give the builder an identity that may read the file, or make the file public")
            }
            401 | 403 => Some("allow this identity to read the file"),
            404 => Some(
                "the bucket or the file in it is not there, or not to be seen by this identity",
            ),
            _ => None,
        }
    }
}

/// `Code: Message` of an error in XML, or the message of one in JSON.
fn words(body: &str) -> String {
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        let text = rest.split_once(&format!("</{name}>"))?.0.lines().next()?.trim();
        Some(text).filter(|text| !text.is_empty() && !text.contains('<'))
    };
    let text = if let Some(code) = element("Code") {
        match element("Message") {
            Some(message) => format!("{code}: {message}"),
            None => code.to_owned(),
        }
    } else {
        let json: Option<serde_json::Value> = serde_json::from_str(body).ok();
        let message = json.as_ref().and_then(|json| json.get("error")?.get("message")?.as_str());
        match message {
            Some(message) => message.lines().next().unwrap_or_default().to_owned(),
            // A page of somebody in between is of no use, a line may be.
            None if body.trim_start().starts_with(['<', '{']) => String::new(),
            None => body.lines().next().unwrap_or_default().to_owned(),
        }
    };
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SHOWN)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// `text` without what the request held that is secret: a server may repeat it.
fn without_secrets(text: &str, request: &Request) -> String {
    let values = request.headers.values().filter(|value| value.is_sensitive());
    let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    let parts = values.iter().flat_map(|value| value.split([' ', ',', '=', ':']));
    let mut text = text.to_owned();
    for part in parts.chain(values.iter().copied()).filter(|part| part.len() >= 8) {
        // The name of what is signed is no secret.
        if !matches!(
            part,
            "AWS4-HMAC-SHA256" | "SharedKey" | "Signature" | "Credential" | "SignedHeaders"
        ) {
            text = text.replace(part, "…");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebiko_transport::Url;

    #[test]
    fn the_words_of_all_three_storages_are_found() {
        for (body, expected) in [
            (
                "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>",
                "AccessDenied: Access Denied",
            ),
            (
                "\u{feff}<?xml?><Error><Code>AuthenticationFailed</Code><Message>Server failed.\nRequestId:1</Message></Error>",
                "AuthenticationFailed: Server failed.",
            ),
            (r#"{"error":{"code":403,"message":"no access\nmore"}}"#, "no access"),
            ("<html><body>Bad gateway</body></html>", ""),
            ("{\"a\":", ""),
            ("Not Found\nmore", "Not Found"),
            ("a\u{1b}[31mb", "a [31mb"),
            ("", ""),
        ] {
            assert_eq!(words(body), expected, "{body}");
        }
    }

    #[test]
    fn a_secret_that_the_server_repeats_is_not_shown() {
        let url = Url::parse("https://b.s3.amazonaws.com/k").expect("a URL");
        let request = Request::get(url).with_authorization("Bearer ya29.s3cret").expect("a header");
        let said = without_secrets("you sent Bearer ya29.s3cret and ya29.s3cret", &request);
        assert_eq!(said, "you sent Bearer … and …");
    }
}
