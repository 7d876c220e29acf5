//! From an image to the registries.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use ebiko_oci::{
    BlobSource, BytesBlob, Descriptor, Digest, Event, Image, MediaType, Observer, Reference,
};
use ebiko_transport::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use ebiko_transport::{Body, Method, Request, Response, StatusCode};

use crate::blob::Verified;
use crate::registry::{Client, Delivery, Registry};
use crate::routes::Endpoint;
use crate::session::{ExchangeError, Session};

/// So many blobs of one image are sent at the same time.
const PARALLEL: usize = 4;

/// Blobs up to this size are sent in one request; larger ones in the form that can grow into
/// pieces, which all registries prefer for large blobs.
const SMALL: u64 = 1024 * 1024;

const UPLOAD: &str = "the upload of a blob";
const UPLOAD_END: &str = "the end of an upload";

/// An image cannot be pushed to one of its destinations.
///
/// Blobs, and the manifests of earlier destinations, may have arrived.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message names every field")]
#[error("cannot push to `{destination}`")]
pub struct PushError {
    pub destination: String,
    pub source: PushErrorKind,
}

/// Why a [`PushError`] happened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum PushErrorKind {
    #[error(transparent)]
    Exchange(Box<ExchangeError>),
    #[error("cannot send blob {digest}")]
    Blob { digest: Digest, source: Box<ExchangeError> },
    #[error("a destination needs a tag and cannot have a digest")]
    NoTag,
    #[error("the registry stored the manifest as {actual} instead of {expected}")]
    Digest { expected: Digest, actual: String },
}

impl From<ExchangeError> for PushErrorKind {
    fn from(error: ExchangeError) -> Self {
        Self::Exchange(Box::new(error))
    }
}

impl PushError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<String> {
        match &self.source {
            PushErrorKind::Exchange(error) | PushErrorKind::Blob { source: error, .. } => {
                error.hint()
            }
            PushErrorKind::NoTag | PushErrorKind::Digest { .. } => None,
        }
    }
}

/// Something to send.
#[derive(Clone)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) source: Arc<dyn BlobSource>,
}

impl Registry {
    /// Makes `image` available under every one of `destinations`.
    ///
    /// Blobs that a registry has are not sent again; layers of a base image are read from where
    /// the base came from if the destination lacks them. The manifest is the same everywhere and
    /// is sent after all blobs, so that no tag ever names an incomplete image.
    ///
    /// # Errors
    ///
    /// Stops at the first destination that fails. The ones before it have the image.
    pub fn push(
        &self,
        image: &Image,
        destinations: &[Reference],
        observer: &dyn Observer,
    ) -> Result<(), PushError> {
        let fail = |destination: &Reference, source| PushError {
            destination: destination.to_string(),
            source,
        };
        for destination in destinations {
            if destination.tag().is_none() || destination.digest().is_some() {
                return Err(fail(destination, PushErrorKind::NoTag));
            }
        }
        let blobs = blobs(image);
        // Tags of one repository share its blobs.
        let mut complete = BTreeSet::new();
        for destination in destinations {
            observer.event(Event::PushStarted { reference: destination });
            let endpoint = self.client.routes.for_push(destination);
            if complete.insert(endpoint.clone()) {
                push_blobs(&self.client, &endpoint, &blobs, observer)
                    .map_err(|source| fail(destination, source))?;
            }
            push_manifest(&self.client, &endpoint, destination, image)
                .map_err(|source| fail(destination, source))?;
            observer.event(Event::Pushed { reference: destination, digest: image.digest() });
        }
        Ok(())
    }
}

/// Every blob of the image once, in the order of the layers, the config last.
fn blobs(image: &Image) -> Vec<Blob> {
    let mut seen = BTreeSet::new();
    let mut blobs = Vec::new();
    let is_ours =
        |descriptor: &Descriptor| !matches!(descriptor.media_type, MediaType::ForeignLayer(_));
    for layer in image.layers().iter().filter(|layer| is_ours(&layer.descriptor)) {
        let Descriptor { digest, size, .. } = layer.descriptor;
        if seen.insert(digest) {
            blobs.push(Blob { digest, size, source: Arc::clone(&layer.blob) });
        }
    }
    let config = image.config_bytes();
    blobs.push(Blob {
        digest: image.config_digest(),
        size: config.len() as u64,
        source: Arc::new(BytesBlob::new(config)),
    });
    blobs
}

fn push_blobs(
    client: &Client,
    endpoint: &Endpoint,
    blobs: &[Blob],
    observer: &dyn Observer,
) -> Result<(), PushErrorKind> {
    let session = Session::new(client, endpoint)?;
    let queue: Mutex<VecDeque<&Blob>> = Mutex::new(blobs.iter().collect());
    let failure: Mutex<Option<PushErrorKind>> = Mutex::new(None);
    let work = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(blob) = next else { return };
            match deliver(&session, blob) {
                Ok(Delivery::Sent) => {
                    observer.event(Event::BlobSent { digest: blob.digest, size: blob.size });
                }
                Ok(Delivery::Found | Delivery::Mounted) => {
                    observer.event(Event::BlobExists { digest: blob.digest });
                }
                Err(source) => {
                    // The others need not start what will not be used.
                    queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    let source = Box::new(source);
                    let kind = PushErrorKind::Blob { digest: blob.digest, source };
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(kind);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..PARALLEL.min(blobs.len()) {
            scope.spawn(work);
        }
        work();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Sees to it that the blob is in the repository. Who comes second for the same blob waits for the first.
pub(crate) fn deliver(session: &Session<'_>, blob: &Blob) -> Result<Delivery, ExchangeError> {
    let key = (session.endpoint.clone(), blob.digest);
    session.client.delivered().get_or_find(&key, || push_blob(session, blob))
}

/// Sends one blob unless it is there.
///
/// An upload cannot be repeated piece by piece, so after a failure that may pass it starts anew,
/// with the question whether it is not there after all.
fn push_blob(session: &Session<'_>, blob: &Blob) -> Result<Delivery, ExchangeError> {
    let transport = &session.client.transport;
    let mut attempt = 1;
    loop {
        let error = match try_push_blob(session, blob) {
            Err(error)
                if (error.is_transient() || is_lost_upload(&error))
                    && attempt < transport.attempts() =>
            {
                error
            }
            outcome => return outcome,
        };
        transport.pause(session.base(), attempt, &error.to_string(), error.wish());
        attempt += 1;
    }
}

/// Whether the registry has forgotten an upload that it started.
fn is_lost_upload(error: &ExchangeError) -> bool {
    match error {
        ExchangeError::Status { what, status, .. } => {
            [UPLOAD, UPLOAD_END].contains(what)
                && matches!(*status, StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE)
        }
        _ => false,
    }
}

fn try_push_blob(session: &Session<'_>, blob: &Blob) -> Result<Delivery, ExchangeError> {
    if is_there(session, blob.digest)? {
        return Ok(Delivery::Found);
    }
    let started = match mount(session, blob) {
        Some(mounted) if mounted.status() == StatusCode::CREATED => return Ok(Delivery::Mounted),
        Some(started) => started,
        None => start_upload(session)?,
    };
    let response = if blob.size <= SMALL {
        send_at_once(session, blob, &started)?
    } else {
        let response = patch(session, &started, body(blob))?;
        match response.status() {
            status if is_taken(status) => return name_upload(session, &response, blob.digest),
            // A few servers only know the upload in one request.
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                send_at_once(session, blob, &start_upload(session)?)?
            }
            _ => return Err(session.status(response, UPLOAD)),
        }
    };
    arrived(session, response)
}

/// Whether the repository has the blob.
pub(crate) fn is_there(session: &Session<'_>, digest: Digest) -> Result<bool, ExchangeError> {
    let what = "the question for a blob";
    let response =
        session.send(&session.request(Method::HEAD, &format!("blobs/{digest}"))?, what)?;
    match response.status() {
        StatusCode::OK => Ok(true),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(false),
        _ => Err(session.status(response, what)),
    }
}

/// Sends a blob whose digest is not known yet; [`name_upload`] ends it.
pub(crate) fn send_unnamed(session: &Session<'_>, body: Body) -> Result<Response, ExchangeError> {
    let response = patch(session, &start_upload(session)?, body)?;
    if is_taken(response.status()) {
        return Ok(response);
    }
    Err(session.status(response, UPLOAD))
}

/// Ends an upload, to which `sent` was the last answer.
pub(crate) fn name_upload(
    session: &Session<'_>,
    sent: &Response,
    digest: Digest,
) -> Result<Delivery, ExchangeError> {
    let mut request = with_digest(at_location(session, Method::PUT, sent)?, digest);
    // If it arrived and its answer did not, the upload is gone and the blob is there.
    request.is_repeatable = false;
    arrived(session, session.send(&request, UPLOAD_END)?)
}

fn patch(session: &Session<'_>, started: &Response, body: Body) -> Result<Response, ExchangeError> {
    let request = at_location(session, Method::PATCH, started)?;
    session.send(&as_bytes(request).with_body(body), UPLOAD)
}

fn is_taken(status: StatusCode) -> bool {
    matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::CREATED)
}

fn arrived(session: &Session<'_>, response: Response) -> Result<Delivery, ExchangeError> {
    match response.status() {
        StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => Ok(Delivery::Sent),
        _ => Err(session.status(response, UPLOAD_END)),
    }
}

/// Asks the registry to take the blob from another of its repositories: `201` if it did, `202` if it began an upload
/// instead (OCI distribution specification, "Mounting a blob from another repository").
///
/// A registry that does not want to says so in many ways, none of which is a reason not to send the blob.
fn mount(session: &Session<'_>, blob: &Blob) -> Option<Response> {
    let Endpoint { registry, repository, .. } = session.endpoint;
    let origins = blob.source.origins();
    let origin = origins.iter().find(|origin| origin.registry == *registry)?;
    if origin.repository == *repository {
        return None;
    }
    let mut request = session.request(Method::POST, "blobs/uploads/").ok()?;
    request
        .url
        .query_pairs_mut()
        .append_pair("mount", &blob.digest.to_string())
        .append_pair("from", &origin.repository);
    request.is_repeatable = true;
    let response = session.send(&request, "the question for a blob of another repository").ok()?;
    matches!(response.status(), StatusCode::CREATED | StatusCode::ACCEPTED).then_some(response)
}

fn start_upload(session: &Session<'_>) -> Result<Response, ExchangeError> {
    let what = "the start of an upload";
    let mut request = session.request(Method::POST, "blobs/uploads/")?;
    // An upload that was started and never used is cleaned up by the registry.
    request.is_repeatable = true;
    let response = session.send(&request, what)?;
    match response.status() {
        StatusCode::ACCEPTED => Ok(response),
        _ => Err(session.status(response, what)),
    }
}

fn send_at_once(
    session: &Session<'_>,
    blob: &Blob,
    started: &Response,
) -> Result<Response, ExchangeError> {
    let request = with_digest(at_location(session, Method::PUT, started)?, blob.digest);
    let mut request = as_bytes(request).with_body(body(blob));
    // The location is good for one try; the whole upload is repeated instead.
    request.is_repeatable = false;
    session.send(&request, UPLOAD)
}

fn at_location(
    session: &Session<'_>,
    method: Method,
    response: &Response,
) -> Result<Request, ExchangeError> {
    let location = response
        .header(LOCATION)
        .ok_or_else(|| session.protocol("it does not say where to upload"))?;
    session.request_at(method, response, location)
}

fn as_bytes(request: Request) -> Request {
    request.with_header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
}

/// Adds the digest to whatever state the registry keeps in the query.
fn with_digest(mut request: Request, digest: Digest) -> Request {
    request.url.query_pairs_mut().append_pair("digest", &digest.to_string());
    request
}

fn body(blob: &Blob) -> Body {
    let Blob { digest, size, ref source } = *blob;
    let source = Arc::clone(source);
    Body::stream(size, move || {
        let bytes = source.open().map_err(io::Error::other)?;
        // What another registry gives is not ours; what is ours was summed when it was made.
        let is_ours = source.origins().is_empty();
        Ok(if is_ours { bytes } else { Box::new(Verified::new(bytes, digest, size)) })
    })
}

fn push_manifest(
    client: &Client,
    endpoint: &Endpoint,
    destination: &Reference,
    image: &Image,
) -> Result<(), PushErrorKind> {
    let session = Session::new(client, endpoint)?;
    let what = "the manifest";
    let manifest = image.manifest();
    let path = format!("manifests/{}", destination.tag().unwrap_or("latest"));
    let media_type = HeaderValue::from_str(&manifest.media_type.to_string())
        .map_err(|_| session.protocol("the media type is no header"))?;
    let request = session
        .request(Method::PUT, &path)?
        .with_header(CONTENT_TYPE, media_type)
        .with_body(Body::Bytes(manifest.bytes.clone()));
    let response = session.send(&request, what)?;
    if !response.status().is_success() {
        return Err(session.status(response, what).into());
    }
    match response.header("docker-content-digest") {
        Some(actual) if actual != manifest.digest.to_string() => {
            Err(PushErrorKind::Digest { expected: manifest.digest, actual: actual.to_owned() })
        }
        _ => Ok(()),
    }
}
