//! What is asked of a server.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use reqwest::{Method, Url};

/// One request: plain data, to be changed freely until it is sent.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where it goes first.
    pub url: Url,
    /// Headers besides those that describe the body. `Authorization` and `Cookie` are dropped on
    /// a redirect to another origin.
    pub headers: HeaderMap,
    /// What is sent along.
    pub body: Body,
    /// Who chose the host of `url`.
    pub trust: Trust,
    /// Whose certificates are verified.
    pub verification: Verification,
    /// Whether sending this twice does no harm, so that it may be sent again after a failure.
    pub is_repeatable: bool,
    /// How often more than usual it is tried, if it is repeatable.
    pub extra_attempts: u32,
    /// How long one attempt may take until the response headers are there, besides the time-outs
    /// of [`Timeouts`](crate::Timeouts). For probes; uploads have none.
    pub deadline: Option<Duration>,
    /// Whether it goes on a connection of its own, which ends with it. Where something on the way cuts connections after
    /// so many bytes, what came before does not count then.
    pub is_alone: bool,
    /// Whether redirects are followed. A body is sent again to wherever a redirect leads, so this
    /// is off where the body is a secret; the redirect is then the response.
    pub follows_redirects: bool,
}

impl Request {
    /// A request without a body to a host that the user chose.
    ///
    /// It is repeatable if its method is idempotent.
    pub fn new(method: Method, url: Url) -> Self {
        let is_repeatable = method.is_idempotent();
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Body::Empty,
            trust: Trust::User,
            verification: Verification::Always,
            is_repeatable,
            extra_attempts: 0,
            deadline: None,
            is_alone: false,
            follows_redirects: true,
        }
    }

    /// A `GET` of `url`.
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// Sets one header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets `Authorization`, marked so that no debug print shows it.
    ///
    /// # Errors
    ///
    /// Fails if `value` holds a byte that no header may hold; the error does not repeat it.
    pub fn with_authorization(mut self, value: &str) -> Result<Self, InvalidHeaderValue> {
        let mut value = HeaderValue::from_str(value)?;
        value.set_sensitive(true);
        self.headers.insert(AUTHORIZATION, value);
        Ok(self)
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Says who chose the host.
    #[must_use]
    pub fn with_trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().map(HeaderName::as_str).collect();
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &ShownUrl::of(&self.url).to_string())
            .field("headers", &headers)
            .field("body", &self.body)
            .field("trust", &self.trust)
            .field("verification", &self.verification)
            .field("is_repeatable", &self.is_repeatable)
            .field("extra_attempts", &self.extra_attempts)
            .field("deadline", &self.deadline)
            .field("is_alone", &self.is_alone)
            .field("follows_redirects", &self.follows_redirects)
            .finish()
    }
}

/// Who chose the host that a request goes to.
///
/// A person may point the builder at any address. A server may not: otherwise a registry could
/// make the builder talk to the metadata service of the cloud it runs in and carry the answer out.
#[derive(Clone)]
pub enum Trust {
    /// The user named the host.
    User,
    /// A server named it, in an answer to a request to `chosen`, whose host the user named.
    ///
    /// Allowed are that same host on any port, and public addresses. Where a proxy looks the name
    /// up, the address is not known here, and the proxy's rules are the ones that hold.
    Server {
        /// The URL whose host the user named.
        chosen: Url,
    },
}

impl Trust {
    /// The URL whose host the user named, for a request to `url`.
    pub(crate) fn chosen<'r>(&'r self, url: &'r Url) -> &'r Url {
        match self {
            Self::User => url,
            Self::Server { chosen } => chosen,
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("User"),
            Self::Server { chosen } => write!(f, "Server {{ chosen: {} }}", ShownUrl::of(chosen)),
        }
    }
}

/// Whose certificates are verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verification {
    /// Everybody's.
    #[default]
    Always,
    /// Everybody's but that of the host and port that the user named.
    NotOfTheChosen,
    /// Nobody's: whoever is on the way can read and change everything.
    Never,
}

/// Opens the bytes of a body from their start.
pub type OpenBody = Arc<dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync>;

/// The body of a request.
#[derive(Clone)]
pub enum Body {
    /// None.
    Empty,
    /// Bytes that are in memory.
    Bytes(Vec<u8>),
    /// Bytes that are read while they are sent. They are opened again for every attempt and every
    /// followed redirect.
    Stream {
        /// How many bytes there are. Fewer are an error, more are not read. `None` where nobody knows yet: the body ends where
        /// its source ends, and goes in chunks over HTTP/1.1.
        length: Option<u64>,
        /// Opens them.
        open: OpenBody,
    },
}

impl Body {
    /// A body of `length` bytes that `open` yields.
    pub fn stream(
        length: u64,
        open: impl Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync + 'static,
    ) -> Self {
        Self::Stream { length: Some(length), open: Arc::new(open) }
    }

    /// A body of whatever `open` yields.
    pub fn stream_to_its_end(
        open: impl Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync + 'static,
    ) -> Self {
        Self::Stream { length: None, open: Arc::new(open) }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Stream { length: Some(length), .. } => write!(f, "Stream({length} bytes)"),
            Self::Stream { length: None, .. } => f.write_str("Stream"),
        }
    }
}

/// A URL as it may be shown: without user name, password, query and fragment.
///
/// Presigned URLs carry their signature in the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownUrl(String);

impl ShownUrl {
    /// Takes the presentable part of `url`.
    pub fn of(url: &Url) -> Self {
        let mut shown = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        if let Some(port) = url.port() {
            shown.push(':');
            shown.push_str(&port.to_string());
        }
        shown.push_str(url.path());
        if url.query().is_some() {
            shown.push_str("?…");
        }
        Self(shown)
    }

    /// `host[:port]`.
    pub fn host(&self) -> &str {
        let rest = self.0.split_once("://").map_or("", |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }
}

impl fmt::Display for ShownUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_printed() {
        let url = Url::parse("https://me:s3cret@h.example:8443/a/b?X-Signature=s3cret#s3cret");
        let request = Request::get(url.expect("a URL")).with_authorization("Basic s3cret");
        let request = request.expect("a header value");
        let request =
            Request { trust: Trust::Server { chosen: request.url.clone() }, ..request.clone() };
        let print = format!("{request:?} {}", ShownUrl::of(&request.url));
        assert!(!print.contains("s3cret"), "{print}");
        assert!(print.contains("https://h.example:8443/a/b?…"), "{print}");
    }

    #[test]
    fn only_idempotent_methods_are_repeatable_unless_said_otherwise() {
        let url = Url::parse("https://h.example/").expect("a URL");
        for (method, expected) in
            [(Method::GET, true), (Method::HEAD, true), (Method::PUT, true), (Method::POST, false)]
        {
            assert_eq!(Request::new(method, url.clone()).is_repeatable, expected);
        }
        assert!(!Request::new(Method::PATCH, url).is_repeatable);
    }
}
