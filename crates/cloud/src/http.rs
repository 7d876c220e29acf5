//! Requests to token services, which hold secrets.

use std::time::Duration;

use ebiko_transport::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use ebiko_transport::{Body, Method, Request, Response, Transport, Url, is_transient_status};
use serde::de::DeserializeOwned;

use crate::obstacle::{Obstacle, Outcome, failed, nothing};
use crate::words::{error_text, one_line};

/// How long a token service may take to answer once.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a token service is asked in all.
const ATTEMPTS: u32 = 3;

/// How long a metadata service may take. Where there is none, the network often says nothing at all.
const METADATA_PATIENCE: Duration = Duration::from_secs(2);

/// Tokens are smaller than what headers may hold.
const ANSWER_LIMIT: usize = 256 * 1024;

/// How much of a service's own words is shown.
const SHOWN: usize = 300;

/// A client for token services. Redirects are never followed: the requests hold secrets.
#[derive(Debug)]
pub struct Http<'t> {
    transport: &'t Transport,
}

impl<'t> Http<'t> {
    /// Sends through `transport`.
    pub fn new(transport: &'t Transport) -> Self {
        Self { transport }
    }

    /// The JSON that `what`, which must be there, answers to `request`.
    pub fn json<T: DeserializeOwned>(&self, request: Request, what: &str) -> Outcome<T> {
        let body = self.bytes(request, what)?;
        // The JSON error could quote a token.
        serde_json::from_slice(&body)
            .map_err(|_| Obstacle::Failed(format!("{what} answers something that is not its JSON")))
    }

    /// What `what`, which must be there, answers to `request`.
    pub fn bytes(&self, mut request: Request, what: &str) -> Outcome<Vec<u8>> {
        request.deadline = Some(PATIENCE);
        request.follows_redirects = false;
        // Repeated here, and less often than downloads: a build waits for it.
        request.is_repeatable = false;
        let mut attempt = 1;
        loop {
            let trouble = match self.transport.send(&request) {
                Ok(response) if !is_transient_status(response.status()) || attempt == ATTEMPTS => {
                    return read(response, what);
                }
                Ok(response) => response.status().to_string(),
                Err(error) if !error.is_transient() || attempt == ATTEMPTS => {
                    return failed(format!("{what} cannot be asked: {}", one_line(&error)));
                }
                Err(error) => one_line(&error),
            };
            self.transport.pause(&request.url, attempt, &trouble, None);
            attempt += 1;
        }
    }

    /// The JSON that a metadata service answers, which need not be there.
    pub(crate) fn metadata<T: DeserializeOwned>(&self, request: Request, what: &str) -> Outcome<T> {
        let body = self.metadata_bytes(request, what)?;
        serde_json::from_slice(&body)
            .map_err(|_| Obstacle::Failed(format!("{what} answers something that is not its JSON")))
    }

    /// What a metadata service answers, which need not be there.
    ///
    /// All clouds have theirs at the same address, so that of another cloud may answer, and it says no in many ways.
    pub(crate) fn metadata_bytes(&self, mut request: Request, what: &str) -> Outcome<Vec<u8>> {
        request.deadline = Some(METADATA_PATIENCE);
        request.follows_redirects = false;
        request.is_repeatable = false;
        let mut attempt = 1;
        loop {
            match self.transport.send(&request) {
                // It is there, and not ready: that of a pod starts together with the pod.
                Ok(response) if is_transient_status(response.status()) && attempt < ATTEMPTS => {
                    let status = response.status().to_string();
                    self.transport.pause(&request.url, attempt, &status, None);
                    attempt += 1;
                }
                Ok(response) if response.status().is_client_error() => {
                    return nothing(refusal(response, what));
                }
                Ok(response) => return read(response, what),
                Err(error) => return nothing(format!("{what} does not answer: {}", error.source)),
            }
        }
    }
}

fn refusal(response: Response, what: &str) -> String {
    let status = response.status();
    let text: String = error_text(response).chars().take(SHOWN).collect();
    let colon = if text.is_empty() { "" } else { ": " };
    format!("{what} answers {status}{colon}{text}")
}

fn read(response: Response, what: &str) -> Outcome<Vec<u8>> {
    if !response.status().is_success() {
        return failed(refusal(response, what));
    }
    response
        .into_bytes(ANSWER_LIMIT)
        .map_err(|error| Obstacle::Failed(format!("{what} breaks off: {}", one_line(&error))))
}

/// `GET url`, for JSON.
pub(crate) fn get(url: Url) -> Request {
    Request::get(url).with_header(ACCEPT, HeaderValue::from_static("application/json"))
}

/// `POST url` with a form.
pub fn form(url: Url, fields: &[(&str, &str)]) -> Request {
    let mut encoder = url.clone();
    encoder.set_query(None);
    encoder.query_pairs_mut().extend_pairs(fields);
    let body = encoder.query().unwrap_or_default().as_bytes().to_vec();
    Request::new(Method::POST, url)
        .with_header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
        .with_header(ACCEPT, HeaderValue::from_static("application/json"))
        .with_body(Body::Bytes(body))
}

/// Sets a header to a value that no print may show.
pub fn with_secret_header(request: Request, name: &'static str, value: &str) -> Outcome<Request> {
    let Ok(mut value) = HeaderValue::from_str(value) else {
        return failed(format!(
            "the value for the header `{name}` holds a byte that no header may hold"
        ));
    };
    value.set_sensitive(true);
    Ok(request.with_header(HeaderName::from_static(name), value))
}

/// The URL of a token service, which is sent secrets: `https`, or on this machine.
pub fn service_url(text: &str, what: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if url.scheme() == "https" => Ok(url),
        Ok(url) if url.scheme() == "http" && is_loopback(&url) => Ok(url),
        Ok(_) => Err(format!("{what} is not an https URL")),
        Err(_) => Err(format!("{what} is not a URL")),
    }
}

/// The URL of a metadata service, which is on the link, where there is no TLS.
pub(crate) fn metadata_url(text: &str, what: &str) -> Result<Url, String> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(format!("{what} is not a URL")),
    }
}

/// The end of a token that holds for `seconds` from `now` on.
pub fn end(now: u64, seconds: Option<u64>) -> u64 {
    now.saturating_add(seconds.unwrap_or(3600))
}

/// Whether `url` is on this machine.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost"
        || host.ends_with(".localhost")
        || address.is_ok_and(|address| address.is_loopback())
}
