//! One request: its attempts, its hops, and what can go wrong.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, HeaderMap};
use reqwest::{Method, Url};
use tokio::time::{Instant, sleep_until};

use crate::dns::ResolveError;
use crate::hop::{self, Dial, MAX_REDIRECTS};
use crate::request::{Body, Request, ShownUrl, Verification};
use crate::response::Response;
use crate::retry::{Retrying, is_transient_status, retry_after};
use crate::transport::{Shared, Transport};
use crate::upload::{Progress, Upload};

/// A request got no answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message names every field")]
#[error("cannot {method} {url}")]
pub struct TransportError {
    pub method: Method,
    pub url: ShownUrl,
    pub source: TransportErrorKind,
}

/// Why a [`TransportError`] happened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum TransportErrorKind {
    /// A rule of this crate forbids the request; repeating it is useless.
    #[error("{reason}")]
    Refused { reason: String },
    /// A server names a host whose address is private.
    #[error("{reason}")]
    NotPublic { host: Box<str>, reason: Box<str> },
    #[error("{reason}")]
    NoName { reason: String, is_transient: bool },
    #[error("cannot connect: {reason}")]
    CannotConnect { reason: String },
    #[error("cannot agree on a TLS connection: {reason}")]
    Tls { reason: String },
    #[error("waited {} s for {during}", after.as_secs_f32())]
    TimedOut { during: &'static str, after: Duration },
    #[error("the connection broke: {reason}")]
    Broken { reason: String },
    #[error("the answer is longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("cannot read what is to be sent")]
    Source { source: io::Error },
}

impl TransportError {
    pub(crate) fn new(method: &Method, url: &Url, source: TransportErrorKind) -> Self {
        Self { method: method.clone(), url: ShownUrl::of(url), source }
    }

    /// Whether the same request may succeed a little later.
    pub fn is_transient(&self) -> bool {
        self.source.is_transient()
    }

    /// Whether the other side, as far as can be seen, does not speak TLS at all. A certificate
    /// that is not trusted is another matter.
    pub fn is_not_tls(&self) -> bool {
        match &self.source {
            TransportErrorKind::Tls { reason } => reason.contains("InvalidContentType"),
            _ => false,
        }
    }

    /// Whether the other side has shown a certificate that is not trusted, or not for it, or not now.
    pub fn is_bad_certificate(&self) -> bool {
        match &self.source {
            TransportErrorKind::Tls { reason } => reason.contains("invalid peer certificate"),
            _ => false,
        }
    }

    /// Whether the other side has ended the handshake, as far as can be seen because it wants to see a certificate of ours.
    pub fn wants_certificate(&self) -> bool {
        match &self.source {
            TransportErrorKind::Tls { reason } | TransportErrorKind::Broken { reason } => {
                ["CertificateRequired", "HandshakeFailure", "BadCertificate"]
                    .iter()
                    .any(|alert| reason.contains("alert") && reason.contains(alert))
            }
            _ => false,
        }
    }

    /// The host that a server named and whose address is private, if that is what is wrong.
    pub fn private_host(&self) -> Option<&str> {
        match &self.source {
            TransportErrorKind::NotPublic { host, .. } => Some(host),
            _ => None,
        }
    }

    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match &self.source {
            TransportErrorKind::Tls { .. } if self.is_not_tls() => {
                Some("the server does not speak TLS on this port")
            }
            TransportErrorKind::Tls { reason } if reason.contains("UnknownIssuer") => {
                Some("add the certificate of the server's issuer to the trusted certificates")
            }
            _ => None,
        }
    }
}

impl TransportErrorKind {
    fn is_transient(&self) -> bool {
        match self {
            Self::CannotConnect { .. } | Self::TimedOut { .. } | Self::Broken { .. } => true,
            Self::NoName { is_transient, .. } => *is_transient,
            Self::Refused { .. }
            | Self::NotPublic { .. }
            | Self::Tls { .. }
            | Self::TooLong { .. }
            | Self::Source { .. } => false,
        }
    }

    /// Reads reqwest's chain of causes, of which only the last says anything to a user.
    pub(crate) fn from_reqwest(error: &reqwest::Error) -> Self {
        let mut cause: &(dyn Error + 'static) = error;
        let mut is_tls = false;
        while let Some(next) = cause_of(cause) {
            cause = next;
            is_tls |= cause.is::<rustls::Error>();
            if let Some(error) = cause.downcast_ref::<ResolveError>() {
                return Self::from_resolve(error);
            }
        }
        let reason = cause.to_string();
        if is_tls {
            Self::Tls { reason }
        } else if error.is_connect() {
            Self::CannotConnect { reason }
        } else if error.is_builder() {
            Self::Refused { reason }
        } else {
            Self::Broken { reason }
        }
    }

    fn from_resolve(error: &ResolveError) -> Self {
        let reason = error.to_string();
        match error {
            ResolveError::NotPublic { host, .. } => {
                Self::NotPublic { host: host.as_str().into(), reason: reason.into() }
            }
            ResolveError::NoNameServer { .. } | ResolveError::NoSuchHost { .. } => {
                Self::NoName { reason, is_transient: false }
            }
            ResolveError::Lookup { .. } => Self::NoName { reason, is_transient: true },
        }
    }
}

/// The next cause. An `io::Error` stands for the error it wraps and leaves it out of the chain.
fn cause_of<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

impl Transport {
    /// Sends `request` and waits for the head of the response.
    ///
    /// Redirects are followed, within the rules of [`Trust`](crate::Trust). A repeatable request
    /// is sent again after a broken connection or a response that says "not now" (408, 429, 5xx),
    /// as often as [`Retries`](crate::Retries) allows; the last such response is returned like
    /// any other.
    ///
    /// # Errors
    ///
    /// Fails if there is no answer or a rule forbids the request. A status is never an error here.
    pub fn send(&self, request: &Request) -> Result<Response, TransportError> {
        let attempts = self.attempts().saturating_add(request.extra_attempts);
        let mut attempt = 1;
        loop {
            let is_last = !request.is_repeatable || attempt >= attempts;
            let outcome = self.shared.runtime().block_on(self.attempt(request));
            let (reason, wish) = match outcome {
                Ok(response) if is_last || !is_transient_status(response.status()) => {
                    return Ok(response);
                }
                Ok(response) => (response.status().to_string(), retry_after(response.headers())),
                Err(error) if is_last || !error.is_transient() => return Err(error),
                Err(error) => (error.source.to_string(), None),
            };
            self.pause(&request.url, attempt, &reason, wish);
            attempt += 1;
        }
    }

    /// How often something is to be tried in all. For callers who repeat more than one request.
    pub fn attempts(&self) -> u32 {
        self.shared.retries.attempts.max(1)
    }

    /// Waits after failed attempt number `attempt` (from 1), as [`send`](Self::send) does itself.
    pub fn pause(&self, url: &Url, attempt: u32, reason: &str, wish: Option<Duration>) {
        let wait = self.shared.retries.wait(attempt, wish, random());
        if let Some(tell) = &self.shared.on_retry {
            tell(&Retrying { url: ShownUrl::of(url), reason: reason.to_owned(), attempt, wait });
        }
        std::thread::sleep(wait);
    }

    /// One attempt: the first hop and those it is redirected to.
    async fn attempt(&self, request: &Request) -> Result<Response, TransportError> {
        let chosen = request.trust.chosen(&request.url);
        let deadline = request.deadline.map(|deadline| (deadline, Instant::now() + deadline));
        let mut url = request.url.clone();
        let mut headers = request.headers.clone();
        for _ in 0..=MAX_REDIRECTS {
            let fail = |kind| TransportError::new(&request.method, &url, kind);
            let refuse = |error: hop::HopError| {
                fail(TransportErrorKind::Refused { reason: error.to_string() })
            };
            let is_proxy = self.shared.is_unproxied_proxy(&url);
            let dial = hop::vet(&url, chosen, is_proxy, &self.shared.allowed_hosts);
            let dial = dial.map_err(|error| match error {
                hop::HopError::NotPublic { ref host } => {
                    let (host, reason) = (host.as_str().into(), error.to_string().into());
                    fail(TransportErrorKind::NotPublic { host, reason })
                }
                other => refuse(other),
            })?;
            let is_verified = match request.verification {
                Verification::Always => true,
                Verification::NotOfTheChosen => !hop::same_server(&url, chosen),
                Verification::Never => false,
            };
            let exchange =
                Exchange { request, url: &url, headers: &headers, dial, is_verified, deadline };
            let response = exchange.run(&self.shared).await.map_err(fail)?;

            let has_body = !matches!(request.body, Body::Empty);
            let (status, answer) = (response.status(), response.headers());
            let next = hop::next_hop(&request.method, has_body, &url, status, answer);
            let Some(next) = next.filter(|_| request.follows_redirects) else {
                return Ok(Response {
                    shared: Arc::clone(&self.shared),
                    method: request.method.clone(),
                    inner: response,
                    piece: Vec::new(),
                    read: 0,
                });
            };
            let next = next.map_err(refuse)?;
            hop::keep_headers_for(&mut headers, &url, &next);
            url = next;
        }
        let kind = TransportErrorKind::Refused { reason: hop::HopError::TooMany.to_string() };
        Err(TransportError::new(&request.method, &request.url, kind))
    }
}

/// One request to one URL, and its response.
struct Exchange<'r> {
    request: &'r Request,
    url: &'r Url,
    headers: &'r HeaderMap,
    dial: Dial,
    is_verified: bool,
    deadline: Option<(Duration, Instant)>,
}

impl Exchange<'_> {
    async fn run(&self, shared: &Shared) -> Result<reqwest::Response, TransportErrorKind> {
        let client =
            shared.clients.get(self.url, self.dial, self.is_verified, self.request.is_alone)?;
        let mut builder = client
            .request(self.request.method.clone(), self.url.clone())
            .headers(self.headers.clone());
        let mut progress = None;
        match &self.request.body {
            // Some servers insist on a length where a body is usual.
            Body::Empty if !self.request.method.is_safe() => {
                builder = builder.header(CONTENT_LENGTH, 0);
            }
            Body::Empty => {}
            Body::Bytes(bytes) => builder = builder.body(bytes.clone()),
            Body::Stream { length, open } => {
                let (upload, shared) = Upload::start(*length, Arc::clone(open))
                    .map_err(|source| TransportErrorKind::Source { source })?;
                progress = Some(shared);
                if let Some(length) = length {
                    builder = builder.header(CONTENT_LENGTH, *length);
                }
                builder = builder.body(reqwest::Body::wrap_stream(upload));
            }
        }
        let outcome = self.watch(shared, builder, progress.as_deref()).await;
        match (outcome, progress.and_then(|progress| progress.take_failure())) {
            (Err(_), Some(source)) => Err(TransportErrorKind::Source { source }),
            (outcome, _) => outcome,
        }
    }

    /// Waits for the head, but not when neither side moves any more.
    ///
    /// A limit for the whole would cut off long uploads, so the limit starts again with every
    /// piece that the network took, and rests while the network waits for the source.
    async fn watch(
        &self,
        shared: &Shared,
        builder: reqwest::RequestBuilder,
        progress: Option<&Progress>,
    ) -> Result<reqwest::Response, TransportErrorKind> {
        let idle = shared.timeouts.idle;
        let send = builder.send();
        tokio::pin!(send);
        let mut seen = 0;
        let mut idle_since = Instant::now();
        loop {
            let idle_end = idle_since + idle;
            let end = self.deadline.map_or(idle_end, |(_, deadline)| deadline.min(idle_end));
            tokio::select! {
                outcome = &mut send => {
                    return outcome.map_err(|error| TransportErrorKind::from_reqwest(&error));
                }
                () = sleep_until(end) => {}
            }
            if let Some((whole, deadline)) = self.deadline
                && Instant::now() >= deadline
            {
                return Err(TransportErrorKind::TimedOut { during: "a response", after: whole });
            }
            let pieces = progress.map_or(0, Progress::pieces);
            let is_moving = pieces != seen || progress.is_some_and(Progress::is_hungry);
            if !is_moving {
                return Err(TransportErrorKind::TimedOut { during: "a response", after: idle });
            }
            seen = pieces;
            idle_since = Instant::now();
        }
    }
}

/// A random number from the kernel. Zero, where it has none yet, only means a longer wait.
fn random() -> u32 {
    let mut bytes = [0; 4];
    let flags = rustix::rand::GetRandomFlags::NONBLOCK;
    rustix::rand::getrandom(&mut bytes, flags).map_or(0, |_| u32::from_ne_bytes(bytes))
}

impl fmt::Debug for Exchange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("dial", &self.dial).finish_non_exhaustive()
    }
}
