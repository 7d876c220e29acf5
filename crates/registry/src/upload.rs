//! An upload of a blob, as the registry sees it: where it goes on, and how much is there.
//!
//! The requests of the OCI distribution specification, "Pushing blobs". Which of them are sent when is for `sending`.

use ebiko_oci::Digest;
use ebiko_transport::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE};
use ebiko_transport::{Body, Method, Request, Response, StatusCode, Url};

use crate::progress::Meter;
use crate::registry::Delivery;
use crate::session::{ExchangeError, Session};

/// So much that the registry did not have before makes a failure a new one and not one more of the same. Less would let a
/// registry that takes a byte at a time hold us for ever.
pub(crate) const PROGRESS: u64 = 256 << 10;

/// The largest `OCI-Chunk-Min-Length` that is listened to. Registries ask for 5 to 10 MiB; what nobody could keep for the
/// next chunk is no wish but a trap.
const MOST_LEAST_CHUNK: u64 = 1 << 30;

pub(crate) const UPLOAD: &str = "the upload of a blob";
pub(crate) const UPLOAD_END: &str = "the end of an upload";
const UPLOAD_STATE: &str = "the question how far an upload is";

/// An upload that a registry has begun.
#[derive(Debug)]
pub(crate) struct Upload {
    /// Where it goes on, as the registry said last.
    location: Url,
    /// So many bytes are there. `None` after a failure, until the registry has been asked.
    pub(crate) has: Option<u64>,
    /// The smallest chunk that the registry takes (`OCI-Chunk-Min-Length`).
    pub(crate) least_chunk: u64,
}

impl Upload {
    /// Asks the registry to begin one.
    pub(crate) fn begin(session: &Session<'_>) -> Result<Self, ExchangeError> {
        let what = "the start of an upload";
        let mut request = session.request(Method::POST, "blobs/uploads/")?;
        // An upload that was started and never used is cleaned up by the registry.
        request.is_repeatable = true;
        let response = session.send(&request, what)?;
        match response.status() {
            StatusCode::ACCEPTED => Self::begun(session, &response),
            _ => Err(session.status(response, what)),
        }
    }

    /// The upload that `response` says has begun.
    pub(crate) fn begun(session: &Session<'_>, response: &Response) -> Result<Self, ExchangeError> {
        let location = session
            .location(response)?
            .ok_or_else(|| session.protocol("it does not say where to upload"))?;
        let mut upload = Self { location, has: Some(0), least_chunk: 0 };
        upload.note_least_chunk(response);
        Ok(upload)
    }

    /// Ends it without a blob. The registry would forget it anyway.
    pub(crate) fn cancel(self, session: &Session<'_>) {
        session.send_and_forget(session.request_to(Method::DELETE, self.location));
    }

    fn note_least_chunk(&mut self, response: &Response) {
        let least = response.header("oci-chunk-min-length");
        let least = least.and_then(|text| text.trim().parse().ok());
        self.least_chunk =
            least.filter(|least| *least <= MOST_LEAST_CHUNK).unwrap_or(self.least_chunk);
    }

    /// Takes over where the upload goes on. Who says nothing new means the same place.
    pub(crate) fn moved(
        &mut self,
        session: &Session<'_>,
        response: &Response,
    ) -> Result<(), ExchangeError> {
        if let Some(location) = session.location(response)? {
            self.location = location;
        }
        self.note_least_chunk(response);
        Ok(())
    }

    /// Asks how much of the blob is there, which is `most` at most.
    pub(crate) fn ask(&mut self, session: &Session<'_>, most: u64) -> Result<u64, ExchangeError> {
        self.has = None;
        let mut request = session.request_to(Method::GET, self.location.clone());
        request.follows_redirects = false;
        let response = session.send(&request, UPLOAD_STATE)?;
        // A page with 200 comes from somebody who does not know the question.
        if !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::ACCEPTED) {
            return Err(session.status(response, UPLOAD_STATE));
        }
        let has = response.header(RANGE).and_then(end_of_range).filter(|has| *has <= most);
        let has = has.ok_or_else(|| session.protocol("it cannot say how far an upload is"))?;
        self.moved(session, &response)?;
        self.has = Some(has);
        Ok(has)
    }

    /// Sends `body` as what follows; with a range where its length is known and it is not the whole.
    pub(crate) fn append(
        &mut self,
        session: &Session<'_>,
        body: Body,
        range: Option<(u64, u64)>,
    ) -> Result<Response, ExchangeError> {
        let mut request =
            as_bytes(session.request_to(Method::PATCH, self.location.clone())).with_body(body);
        if let Some((start, end)) = range {
            let range = HeaderValue::from_str(&format!("{start}-{}", end.saturating_sub(1)));
            let range = range.map_err(|_| session.protocol("a range is odd"))?;
            // A proxy that cuts a connection after so many bytes must not count those of earlier chunks.
            request = request.with_header(CONTENT_RANGE, range);
            request.is_alone = true;
        }
        self.has = None;
        session.send(&request, UPLOAD)
    }

    /// Says whose bytes they were.
    pub(crate) fn end(
        &self,
        session: &Session<'_>,
        digest: Digest,
    ) -> Result<Delivery, ExchangeError> {
        let mut request =
            with_digest(session.request_to(Method::PUT, self.location.clone()), digest);
        // If it arrived and its answer did not, the upload is gone and the blob is there.
        request.is_repeatable = false;
        arrived(session, session.send(&request, UPLOAD_END)?)
    }

    /// Sends everything and says whose it is, in one request.
    pub(crate) fn put(
        &self,
        session: &Session<'_>,
        body: Body,
        digest: Digest,
    ) -> Result<Delivery, ExchangeError> {
        let request = with_digest(session.request_to(Method::PUT, self.location.clone()), digest);
        let mut request = as_bytes(request).with_body(body);
        // The location is good for one try; the whole upload is repeated instead.
        request.is_repeatable = false;
        arrived(session, session.send(&request, UPLOAD)?)
    }

    /// Sends what a blob has that is being made, to its end; `body_at` gives it from an offset on, and `meter` says how far
    /// it was read. Goes on after a break where the registry says what it has.
    ///
    /// # Errors
    ///
    /// The upload may be gone on from, unless the registry refused it.
    pub(crate) fn follow(
        &mut self,
        session: &Session<'_>,
        meter: &Meter,
        body_at: impl Fn(u64) -> Body,
    ) -> Result<(), ExchangeError> {
        let (mut failures, mut farthest, mut start) = (0, 0, 0);
        loop {
            let error = match self.append(session, body_at(start), None) {
                Ok(response) if is_taken(response.status()) => {
                    self.moved(session, &response)?;
                    self.has = Some(meter.position());
                    return Ok(());
                }
                Ok(response) => session.status(response, UPLOAD),
                Err(error) => error,
            };
            failures += 1;
            if !error.is_transient() || failures >= session.attempts() {
                return Err(error);
            }
            session.pause(failures, &error);
            start = self.ask(session, meter.position())?;
            if start >= farthest + PROGRESS {
                (farthest, failures) = (start, 0);
            }
        }
    }
}

/// The bytes that a registry has, read from `Range`: `0-4` are five. No byte and one byte are both `0-0`, and count as none:
/// distribution means that.
pub(crate) fn end_of_range(text: &str) -> Option<u64> {
    let range = text.trim().trim_start_matches("bytes=").trim_start_matches("bytes ");
    let (start, last) = range.split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    (start.trim() == "0").then_some(if last == 0 { 0 } else { last.checked_add(1)? })
}

pub(crate) fn is_taken(status: StatusCode) -> bool {
    matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::CREATED)
}

fn arrived(session: &Session<'_>, response: Response) -> Result<Delivery, ExchangeError> {
    match response.status() {
        StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => Ok(Delivery::Sent),
        _ => Err(session.status(response, UPLOAD_END)),
    }
}

fn as_bytes(request: Request) -> Request {
    request.with_header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
}

/// Adds the digest to whatever state the registry keeps in the query.
fn with_digest(mut request: Request, digest: Digest) -> Request {
    request.url.query_pairs_mut().append_pair("digest", &digest.to_string());
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_says_how_many_bytes_are_there() {
        for (text, expected) in [
            ("0-4", Some(5)),
            ("bytes=0-4", Some(5)),
            ("0-0", Some(0)),
            ("1-4", None),
            ("0--1", None),
            ("", None),
            ("0-", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(end_of_range(text), expected, "{text}");
        }
    }
}
