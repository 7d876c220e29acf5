//! What a server answered.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AsHeaderName, HeaderMap};
use reqwest::{Method, StatusCode, Url};
use tokio::time::{Instant, timeout, timeout_at};

use crate::request::ShownUrl;
use crate::send::{TransportError, TransportErrorKind};
use crate::transport::Shared;

/// The head of a response, and its body as a reader.
///
/// Reading fails if the server falls silent for longer than
/// [`Timeouts::idle`](crate::Timeouts), and if the connection ends before the announced length.
/// The body is not verified against anything else.
pub struct Response {
    pub(crate) shared: Arc<Shared>,
    pub(crate) method: Method,
    pub(crate) inner: reqwest::Response,
    pub(crate) piece: Vec<u8>,
    pub(crate) read: usize,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status())
            .field("url", &ShownUrl::of(self.url()).to_string())
            .finish_non_exhaustive()
    }
}

impl Response {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// The URL that answered, after redirects. What the response refers to is relative to it.
    pub fn url(&self) -> &Url {
        self.inner.url()
    }

    /// All headers.
    pub fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// One header, if it is there once and is text.
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        let mut values = self.headers().get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    }

    /// Reads the whole body, which must not be longer than `limit` bytes.
    ///
    /// # Errors
    ///
    /// Fails if it is longer, by count and not by what the server declares, if the connection
    /// breaks, or if it takes longer than [`Timeouts::small_body`](crate::Timeouts).
    pub fn into_bytes(self, limit: usize) -> Result<Vec<u8>, TransportError> {
        let (bytes, is_whole) = self.read_start(limit)?;
        if is_whole {
            return Ok(bytes.0);
        }
        Err(bytes.1.error(TransportErrorKind::TooLong { limit }))
    }

    /// Reads the beginning of the body, at most `limit` bytes, and drops the rest: for the text
    /// of an error, which must not become an error itself.
    pub fn into_excerpt(self, limit: usize) -> Vec<u8> {
        self.read_start(limit).map(|(bytes, _)| bytes.0).unwrap_or_default()
    }

    fn read_start(mut self, limit: usize) -> Result<((Vec<u8>, Self), bool), TransportError> {
        let shared = Arc::clone(&self.shared);
        let timeouts = shared.timeouts;
        let read = shared.runtime().block_on(async {
            let deadline = Instant::now() + timeouts.small_body;
            let mut bytes = Vec::new();
            loop {
                let piece = timeout_at(deadline, next_piece(&mut self.inner, timeouts.idle));
                match piece.await {
                    Ok(Ok(Some(piece))) => bytes.extend_from_slice(&piece),
                    Ok(Ok(None)) => return Ok((bytes, true)),
                    Ok(Err(kind)) => return Err(kind),
                    Err(_elapsed) => {
                        return Err(TransportErrorKind::TimedOut {
                            during: "the body of the response",
                            after: timeouts.small_body,
                        });
                    }
                }
                if bytes.len() > limit {
                    bytes.truncate(limit);
                    return Ok((bytes, false));
                }
            }
        });
        match read {
            Ok((bytes, is_whole)) => Ok(((bytes, self), is_whole)),
            Err(kind) => Err(self.error(kind)),
        }
    }

    fn error(&self, kind: TransportErrorKind) -> TransportError {
        TransportError::new(&self.method, self.url(), kind)
    }
}

impl Read for Response {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() && !buffer.is_empty() {
            let shared = Arc::clone(&self.shared);
            let next = next_piece(&mut self.inner, shared.timeouts.idle);
            match shared.runtime().block_on(next) {
                Ok(Some(piece)) => {
                    self.piece = piece;
                    self.read = 0;
                }
                Ok(None) => return Ok(0),
                Err(kind) => return Err(io::Error::other(self.error(kind))),
            }
        }
        let rest = &self.piece[self.read..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.read += count;
        Ok(count)
    }
}

async fn next_piece(
    response: &mut reqwest::Response,
    idle: Duration,
) -> Result<Option<Vec<u8>>, TransportErrorKind> {
    match timeout(idle, response.chunk()).await {
        Ok(Ok(piece)) => Ok(piece.map(Vec::from)),
        Ok(Err(error)) => Err(TransportErrorKind::from_reqwest(&error)),
        Err(_elapsed) => Err(TransportErrorKind::TimedOut {
            during: "the next piece of the response",
            after: idle,
        }),
    }
}
