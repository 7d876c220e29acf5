//! A blob on its way into a repository, whatever happens on the way.
//!
//! A large blob is sent in one request, in the way that every registry knows. Where that breaks, the registry is asked how
//! much it has, and the rest goes in chunks, each of them a request with an answer: what was answered is never sent again.
//! A registry that has no answer to the question, as distribution and its relatives after a chunk that broke, gets the blob
//! once more, in chunks that are small enough to pass.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use ebiko_oci::Digest;
use ebiko_transport::header::RANGE;
use ebiko_transport::{Body, Method, Response, StatusCode};

use crate::blob::Verification;
use crate::progress::{Direction, Meter, Metered};
use crate::push::{Blob, is_there};
use crate::registry::Delivery;
use crate::routes::Endpoint;
use crate::session::{ExchangeError, Session};
use crate::upload::{PROGRESS, UPLOAD, UPLOAD_END, Upload, end_of_range, is_taken};

/// Blobs up to this size are sent in one request; larger ones in the form that can grow into pieces, which all registries
/// prefer for large blobs.
const SMALL: u64 = 1 << 20;

/// A chunk is never larger: so much is lost where a registry forgets what it has of a chunk that broke.
const LARGEST_CHUNK: u64 = 64 << 20;

/// A chunk is never smaller, unless it is the last. nginx lets bodies of 1 MiB pass where nobody configured it.
const SMALLEST_CHUNK: u64 = 512 << 10;

/// How the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// What is missing in one request, and the digest in another.
    Stream,
    /// In pieces of this many bytes, each in a request and on a connection of its own.
    Chunks(u64),
    /// Everything in one request, with its digest.
    Once,
}

/// What an error of the registry means for the way of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Less at once may pass (413).
    TooLarge,
    /// This registry does not send like this (405).
    NoSuchMethod,
    /// The upload is not known any more, or not what the registry expects.
    Refused,
    /// The registry has another idea of where the upload is (416).
    OutOfStep,
    /// Something on the way gave up in the middle.
    Broken,
    /// The registry is there and asks for patience.
    NotNow,
}

/// A blob on its way into one repository.
pub(crate) struct Sending<'s, 'c> {
    session: &'s Session<'c>,
    blob: &'s Blob,
    verification: Option<Arc<Verification>>,
    meter: Arc<Meter>,
    manner: Manner,
    upload: Option<Upload>,
    /// Failures since the registry had more of the blob than ever before.
    failures: u32,
    /// The most that it had.
    farthest: u64,
    /// Whether the last failure was one in the middle of a request.
    has_broken: bool,
    /// Whether the registry put the blob together from several requests.
    is_pieced: bool,
    /// Whether all of it was sent, so that finding it is no surprise.
    was_sent: bool,
    /// How often the registry has lost an upload or refused what came.
    refusals: u32,
}

impl<'s, 'c> Sending<'s, 'c> {
    pub(crate) fn new(session: &'s Session<'c>, blob: &'s Blob) -> Self {
        // What another registry gives is not ours; what is ours was summed when it was made.
        let is_ours = blob.source.origins().is_empty();
        let verification = (!is_ours).then(|| Arc::new(Verification::new(blob.digest, blob.size)));
        let meter = session.client.meter(Direction::ToRegistry, Some(blob.digest), Some(blob.size));
        Self {
            session,
            blob,
            verification,
            meter: Arc::new(meter),
            manner: if blob.size <= SMALL { Manner::Once } else { Manner::Stream },
            upload: None,
            failures: 0,
            farthest: 0,
            has_broken: false,
            is_pieced: false,
            was_sent: false,
            refusals: 0,
        }
    }

    /// Goes on with an upload that has a part of the blob, or all of it.
    pub(crate) fn go_on(mut self, upload: Upload) -> Result<Delivery, ExchangeError> {
        self.manner = Manner::Chunks(LARGEST_CHUNK);
        self.farthest = upload.has.unwrap_or(0);
        self.is_pieced = upload.has != Some(self.blob.size);
        self.was_sent = !self.is_pieced;
        self.upload = Some(upload);
        self.run()
    }

    /// Sends the blob unless it is there.
    ///
    /// What may pass is tried again. Failures count only as long as the registry gets no more of the blob than it ever had,
    /// so that a slow and broken way is gone to its end.
    pub(crate) fn run(mut self) -> Result<Delivery, ExchangeError> {
        let mut last = None;
        loop {
            if self.upload.is_none()
                && let Some(delivery) = self.begin()?
            {
                return Ok(delivery);
            }
            let Some(has) = self.whereabouts()? else { continue };
            if self.failures >= self.session.attempts()
                && let Some(error) = last.take()
            {
                return Err(error);
            }
            match self.send_from(has) {
                Ok(Some(delivery)) => return Ok(delivery),
                Ok(None) => {}
                Err(error) => last = Some(self.learn(error)?),
            }
        }
    }

    /// Begins an upload, unless the blob is there. These requests are repeated by the transport; if they fail, that is all.
    fn begin(&mut self) -> Result<Option<Delivery>, ExchangeError> {
        if is_there(self.session, self.blob.digest)? {
            return Ok(Some(if self.was_sent { Delivery::Sent } else { Delivery::Found }));
        }
        self.upload = Some(match mount(self.session, self.blob) {
            Some(mounted) if mounted.status() == StatusCode::CREATED => {
                return Ok(Some(Delivery::Mounted));
            }
            Some(begun) => Upload::begun(self.session, &begun)?,
            None => Upload::begin(self.session)?,
        });
        Ok(None)
    }

    /// How much of the blob is there; `None` where the upload is gone.
    fn whereabouts(&mut self) -> Result<Option<u64>, ExchangeError> {
        let Some(upload) = &mut self.upload else { return Ok(None) };
        let has = match upload.has {
            Some(has) => has,
            None => match upload.ask(self.session, self.blob.size) {
                Ok(has) => {
                    self.is_pieced |= has > 0;
                    has
                }
                // The way is still broken. The upload may be there when it is mended.
                Err(error) if error.is_transient() => {
                    self.failures += 1;
                    if self.failures >= self.session.attempts() {
                        return Err(error);
                    }
                    self.session.pause(self.failures, &error);
                    return Ok(None);
                }
                Err(_) => {
                    self.upload = None;
                    return Ok(None);
                }
            },
        };
        let is_further = self.note(has);
        if std::mem::take(&mut self.has_broken) {
            self.manner = match self.manner {
                Manner::Once => Manner::Once,
                Manner::Chunks(chunk) if is_further => Manner::Chunks(chunk),
                // A quarter: a guess that is far off must be right before patience ends.
                Manner::Chunks(chunk) => Manner::Chunks(power_below(chunk / 4)),
                // So far it came. It will not come farther next time.
                Manner::Stream => Manner::Chunks(power_below(self.meter.position() / 2)),
            };
        }
        Ok(Some(has))
    }

    /// Notes that the registry has so much; whether that is more than ever.
    fn note(&mut self, has: u64) -> bool {
        let is_further = has >= self.farthest.saturating_add(PROGRESS)
            || (has == self.blob.size && has > self.farthest);
        if is_further {
            self.farthest = has;
            self.failures = 0;
        }
        is_further
    }

    /// One request further.
    fn send_from(&mut self, has: u64) -> Result<Option<Delivery>, ExchangeError> {
        let (digest, size) = (self.blob.digest, self.blob.size);
        let Some(upload) = &mut self.upload else { return Ok(None) };
        if self.manner == Manner::Once {
            let body = body(self.blob, self.verification.as_ref(), &self.meter, 0..size);
            self.was_sent = true;
            return upload.put(self.session, body, digest).map(Some);
        }
        if has == size {
            return upload.end(self.session, digest).map(Some);
        }
        let end = match self.manner {
            Manner::Chunks(chunk) => has.saturating_add(chunk.max(upload.least_chunk)).min(size),
            Manner::Stream | Manner::Once => size,
        };
        let is_whole = has == 0 && end == size;
        self.is_pieced |= !is_whole;
        self.was_sent |= end == size;
        let body = body(self.blob, self.verification.as_ref(), &self.meter, has..end);
        let response = upload.append(self.session, body, (!is_whole).then_some((has, end)))?;
        if !is_taken(response.status()) {
            return Err(self.session.status(response, UPLOAD));
        }
        upload.moved(self.session, &response)?;
        let said = response.header(RANGE).and_then(end_of_range);
        // Who has taken less than was sent says so when asked; who writes odd ranges is overruled by the digest.
        let is_less = said.is_some_and(|said| said != end)
            && upload.ask(self.session, end).is_ok_and(|asked| asked > has);
        if !is_less {
            upload.has = Some(end);
        }
        Ok(None)
    }

    /// Finds out what `error` says about the way of sending, and waits; or gives it back if it is final.
    fn learn(&mut self, error: ExchangeError) -> Result<ExchangeError, ExchangeError> {
        let Some(fault) = fault(&error) else { return Err(error) };
        let is_end = matches!(&error, ExchangeError::Status { what, .. } if *what == UPLOAD_END);
        let is_once = self.manner == Manner::Once;
        match fault {
            Fault::TooLarge => {
                let least = self.upload.as_ref().map_or(0, |upload| upload.least_chunk);
                let smaller = match self.manner {
                    Manner::Chunks(chunk) => chunk / 2,
                    Manner::Stream | Manner::Once => (self.blob.size / 2).min(LARGEST_CHUNK),
                };
                if smaller < SMALLEST_CHUNK.max(least) {
                    return Err(error);
                }
                self.manner = Manner::Chunks(power_below(smaller));
                if is_once {
                    self.upload = None;
                }
                // Each such answer halves the chunk, so there are few of them.
                return Ok(error);
            }
            Fault::NoSuchMethod if is_once || is_end => return Err(error),
            Fault::NoSuchMethod => {
                self.start_over(Manner::Once);
                return Ok(error);
            }
            Fault::Refused => {
                let is_lost = is_status(&error, StatusCode::NOT_FOUND);
                let manner = match self.manner {
                    // What came whole and is refused will be refused again.
                    _ if is_end && !is_lost && !self.is_pieced => return Err(error),
                    Manner::Once if !is_lost => return Err(error),
                    _ if is_end => Manner::Stream,
                    Manner::Chunks(_) if self.farthest == 0 => Manner::Once,
                    Manner::Stream if !is_lost || self.refusals > 0 => Manner::Once,
                    same => same,
                };
                self.refusals += 1;
                self.start_over(manner);
            }
            Fault::Broken => {
                self.has_broken = true;
                if is_once {
                    self.upload = None;
                }
            }
            // Asking has not helped.
            Fault::OutOfStep if is_once || self.refusals > 0 => self.start_over(self.manner),
            Fault::OutOfStep => self.refusals += 1,
            Fault::NotNow if is_once => self.upload = None,
            Fault::NotNow => {}
        }
        self.failures += 1;
        if self.failures < self.session.attempts() {
            self.session.pause(self.failures, &error);
        }
        Ok(error)
    }

    fn start_over(&mut self, manner: Manner) {
        self.manner = manner;
        self.upload = None;
    }
}

/// What can be learned from `error`, if something can.
fn fault(error: &ExchangeError) -> Option<Fault> {
    let ExchangeError::Status { status, .. } = error else {
        return error.is_transient().then_some(Fault::Broken);
    };
    match status.as_u16() {
        413 => Some(Fault::TooLarge),
        405 | 501 => Some(Fault::NoSuchMethod),
        400 | 404 | 409 | 411 | 415 => Some(Fault::Refused),
        416 => Some(Fault::OutOfStep),
        // From something in between that did not want to wait for the end of it.
        408 | 499 | 502 | 504 | 520..=524 => Some(Fault::Broken),
        _ => error.is_transient().then_some(Fault::NotNow),
    }
}

fn is_status(error: &ExchangeError, wanted: StatusCode) -> bool {
    matches!(error, ExchangeError::Status { status, .. } if *status == wanted)
}

/// The largest power of two that is not larger, within the limits of a chunk.
fn power_below(size: u64) -> u64 {
    let power = size.checked_ilog2().map_or(0, |log| 1 << log);
    power.clamp(SMALLEST_CHUNK, LARGEST_CHUNK)
}

/// A part of the blob as the body of a request.
fn body(
    blob: &Blob,
    verification: Option<&Arc<Verification>>,
    meter: &Arc<Meter>,
    range: Range<u64>,
) -> Body {
    let (source, meter) = (Arc::clone(&blob.source), Arc::clone(meter));
    let verification = verification.map(Arc::clone);
    let Range { start, end } = range;
    Body::stream(end - start, move || {
        let bytes = match &verification {
            Some(verification) => verification.open_at(&*source, start),
            None => source.open_at(start),
        };
        let bytes = bytes.map_err(io::Error::other)?;
        Ok(Box::new(Metered::new(bytes, start, &meter)))
    })
}

/// Asks the registry to take the blob from another of its repositories: `201` if it did, `202` if it began an upload
/// instead (OCI distribution specification, "Mounting a blob from another repository").
///
/// A registry that does not want to says so in many ways, none of which is a reason not to send the blob.
fn mount(session: &Session<'_>, blob: &Blob) -> Option<Response> {
    let Endpoint { registry, repository, .. } = session.endpoint;
    let origins = blob.source.origins();
    let came_from = origins.iter().find(|origin| origin.registry == *registry);
    if came_from.is_some_and(|origin| origin.repository == *repository) {
        return None;
    }
    let from = match came_from {
        Some(origin) => origin.repository.clone(),
        None => sent_to_another(session, blob)?,
    };
    let mut request = session.request(Method::POST, "blobs/uploads/").ok()?;
    request
        .url
        .query_pairs_mut()
        .append_pair("mount", &blob.digest.to_string())
        .append_pair("from", &from);
    request.is_repeatable = true;
    let response = session.send(&request, "the question for a blob of another repository").ok()?;
    matches!(response.status(), StatusCode::CREATED | StatusCode::ACCEPTED).then_some(response)
}

/// Another repository of the same registry to which the blob was sent a moment ago, or is on its way.
fn sent_to_another(session: &Session<'_>, blob: &Blob) -> Option<String> {
    let here = session.endpoint;
    let is_sibling = |(endpoint, digest): &(Endpoint, Digest)| {
        *digest == blob.digest && endpoint.registry == here.registry && endpoint != here
    };
    let delivered = session.client.delivered();
    // Of two that are on their way, the one that comes later in the alphabet waits, so that none waits for itself.
    delivered.wait_for(|key| is_sibling(key) && key.0 < *here);
    delivered.known(is_sibling).into_iter().next().map(|(endpoint, _)| endpoint.repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_powers_of_two_within_limits() {
        for (size, expected) in [
            (0, SMALLEST_CHUNK),
            (700 << 10, SMALLEST_CHUNK),
            (5 << 20, 4 << 20),
            (32 << 20, 32 << 20),
            (u64::MAX, LARGEST_CHUNK),
        ] {
            assert_eq!(power_below(size), expected, "{size}");
        }
    }
}
