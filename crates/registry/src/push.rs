//! From an image to the registries.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use ebiko_cloud::one_line;
use ebiko_oci::{
    BlobSource, BytesBlob, Descriptor, Digest, Event, Image, ImageTree, ManifestBytes, MediaType,
    Observer, Reference, Referrer, TreeBlob,
};
use ebiko_transport::header::{CONTENT_TYPE, HeaderValue};
use ebiko_transport::{Body, Method, StatusCode};

use crate::pull::PullErrorKind;
use crate::referrers;
use crate::registry::{Client, Delivery, Registry, lock};
use crate::routes::Endpoint;
use crate::sending::Sending;
use crate::session::{ExchangeError, Session};

/// So many blobs of one image are sent at the same time.
const PARALLEL: usize = 4;

/// So many registries are pushed to at the same time, each with so many connections as it has blobs on the way.
const PARALLEL_REGISTRIES: usize = 4;

const DENIED: &str = "these credentials may not write there; where a registry lets nobody begin an upload and cancel it, leave \
                      the check out with --skip-push-permission-check";

const UNFIT: &str = "some registries want a repository to be created before it is pushed to; where a registry lets nobody begin \
                     an upload and cancel it, leave the check out with --skip-push-permission-check";

/// What registries say of a tag that must stay as it is: Google Artifact Registry, Amazon ECR (two wordings), Harbor, Alibaba
/// Cloud. The texts are all that tells such an answer from other refusals.
const IMMUTABLE: [&str; 5] = [
    "The repository has enabled tag immutability",
    "cannot be overwritten because the tag is immutable",
    "cannot be overwritten because the repository is immutable",
    "configured as immutable",
    "The requested tag already exists and cannot be overwritten",
];

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
    #[error("the repository would not take it, so nothing is begun")]
    Check(#[source] Box<ExchangeError>),
    #[error("cannot send blob {digest}")]
    Blob { digest: Digest, source: Box<ExchangeError> },
    #[error("a destination needs a tag and cannot have a digest")]
    NoTag,
    #[error("the registry stored the manifest as {actual} instead of {expected}")]
    Digest { expected: Digest, actual: String },
    #[error("cannot read the list of referrers `{tag}`")]
    List { tag: String, source: Box<PullErrorKind> },
    #[error("what is under `{tag}` is no list of referrers")]
    NoList { tag: String },
    #[error("a document about the image cannot be listed")]
    Document { source: serde_json::Error },
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
            PushErrorKind::Check(error) => error.hint().or_else(|| match **error {
                ExchangeError::Denied { .. } => Some(DENIED.into()),
                ExchangeError::Status { .. } => Some(UNFIT.into()),
                _ => None,
            }),
            PushErrorKind::NoList { .. } => Some(
                "the registry keeps no such lists itself, and the tag that it is kept under by agreement is taken".into(),
            ),
            PushErrorKind::NoTag
            | PushErrorKind::Digest { .. }
            | PushErrorKind::List { .. }
            | PushErrorKind::Document { .. } => None,
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

/// What is pushed: what gets the tags, and what has to be there before.
struct Everything<'a> {
    root: &'a ManifestBytes,
    /// Manifests that the root leads to, each before those that name it.
    beneath: &'a [ManifestBytes],
    /// Manifests that are about these.
    referrers: &'a [Referrer],
    blobs: Vec<Blob>,
}

impl Registry {
    /// Makes `image` available under every one of `destinations`, in several registries at the same time.
    ///
    /// Blobs that a registry has are not sent again; layers of a base image are read from where
    /// the base came from if the destination lacks them. The manifest is the same everywhere and
    /// is sent after all blobs of its repository, so that no tag ever names an incomplete image.
    ///
    /// # Errors
    ///
    /// Returns the error of the first destination, in their order, that failed; the others are told as warnings. Where one
    /// fails, no other repository is begun, and those that are under way are gone on with.
    pub fn push(
        &self,
        image: &Image,
        destinations: &[Reference],
        observer: &dyn Observer,
    ) -> Result<(), PushError> {
        let blobs = blobs(image);
        let all = Everything { root: image.manifest(), beneath: &[], referrers: &[], blobs };
        self.push_everything(&all, destinations, observer)
    }

    /// Makes `tree` available under every one of `destinations`, with its digest unchanged.
    ///
    /// The same as [`push`](Self::push), also for an index: what is beneath it is sent before it, and so are all blobs.
    /// What is about it is in the repository, and found from it, before it gets its tags.
    ///
    /// # Errors
    ///
    /// As [`push`](Self::push).
    pub fn push_tree(
        &self,
        tree: &ImageTree,
        destinations: &[Reference],
        observer: &dyn Observer,
    ) -> Result<(), PushError> {
        let blob = |blob: &TreeBlob| Blob {
            digest: blob.descriptor.digest,
            size: blob.descriptor.size,
            source: Arc::clone(&blob.source),
        };
        let blobs = tree.blobs.iter().map(blob).collect();
        let ImageTree { root, beneath, referrers, .. } = tree;
        let all = Everything { root, beneath, referrers, blobs };
        self.push_everything(&all, destinations, observer)
    }

    fn push_everything(
        &self,
        all: &Everything<'_>,
        destinations: &[Reference],
        observer: &dyn Observer,
    ) -> Result<(), PushError> {
        if let Some(destination) =
            destinations.iter().find(|to| to.tag().is_none() || to.digest().is_some())
        {
            let destination = destination.to_string();
            return Err(PushError { destination, source: PushErrorKind::NoTag });
        }
        // Tags of one repository share its blobs.
        let mut repositories: Vec<(Endpoint, Vec<usize>)> = Vec::new();
        for (index, destination) in destinations.iter().enumerate() {
            let endpoint = self.client.routes.for_push(destination);
            match repositories.iter_mut().find(|(known, _)| *known == endpoint) {
                Some((_, tags)) => tags.push(index),
                None => repositories.push((endpoint, vec![index])),
            }
        }
        // What one repository of a registry has, the next one takes from there.
        let mut registries: BTreeMap<String, Vec<(Endpoint, Vec<usize>)>> = BTreeMap::new();
        for (endpoint, tags) in repositories {
            registries.entry(endpoint.registry.clone()).or_default().push((endpoint, tags));
        }
        let registries: Vec<_> = registries.into_values().collect();
        let failures: Mutex<Vec<(usize, PushErrorKind)>> = Mutex::default();
        at_once(PARALLEL_REGISTRIES, &registries, |repositories| {
            repositories.iter().all(|(endpoint, tags)| {
                let failed = push_to(&self.client, endpoint, tags, destinations, all, observer);
                let goes_on = failed.is_empty();
                lock(&failures).extend(failed);
                goes_on
            })
        });
        let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
        failures.sort_by_key(|(index, _)| *index);
        let mut errors = failures.into_iter().map(|(index, source)| PushError {
            destination: destinations[index].to_string(),
            source,
        });
        let Some(first) = errors.next() else { return Ok(()) };
        for other in errors {
            observer.event(Event::Warning { text: &one_line(&other) });
        }
        Err(first)
    }
}

/// Sends everything to one repository, the manifest under all of its tags at the same time. What failed, by the number of
/// the destination.
fn push_to(
    client: &Arc<Client>,
    endpoint: &Endpoint,
    tags: &[usize],
    destinations: &[Reference],
    all: &Everything<'_>,
    observer: &dyn Observer,
) -> Vec<(usize, PushErrorKind)> {
    for index in tags {
        observer.event(Event::PushStarted { reference: &destinations[*index] });
    }
    let beneath = || {
        push_blobs(client, endpoint, &all.blobs, observer)?;
        for manifest in all.beneath {
            push_manifest(client, endpoint, &manifest.digest.to_string(), manifest)?;
        }
        if !all.referrers.is_empty() {
            // Not every registry takes a document before what it is about.
            push_manifest(client, endpoint, &all.root.digest.to_string(), all.root)?;
            referrers::push(client, endpoint, all.referrers, observer)?;
        }
        Ok(())
    };
    if let Err(error) = beneath() {
        return vec![(tags[0], error)];
    }
    let failures: Mutex<Vec<(usize, PushErrorKind)>> = Mutex::default();
    at_once(PARALLEL, tags, |index| {
        let destination = &destinations[*index];
        let tag = destination.tag().unwrap_or("latest");
        match push_manifest(client, endpoint, tag, all.root) {
            Ok(Stored::AsSent { .. }) => {
                let digest = all.root.digest;
                observer.event(Event::Pushed { reference: destination, digest });
            }
            Ok(Stored::NotAtAll { answer }) => {
                let text = format!("`{destination}` is left as it is: {answer}");
                observer.event(Event::Warning { text: &text });
            }
            Err(error) => lock(&failures).push((*index, error)),
        }
        true
    });
    failures.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Does `work` for every item, `most` of them at the same time, until one says that it is enough.
fn at_once<T: Sync>(most: usize, items: &[T], work: impl Fn(&T) -> bool + Sync) {
    let queue: Mutex<VecDeque<&T>> = Mutex::new(items.iter().collect());
    let work = || {
        loop {
            let next = lock(&queue).pop_front();
            let Some(item) = next else { return };
            if !work(item) {
                lock(&queue).clear();
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..most.min(items.len()) {
            scope.spawn(work);
        }
        work();
    });
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
    let failure: Mutex<Option<PushErrorKind>> = Mutex::new(None);
    at_once(PARALLEL, blobs, |blob| match deliver(&session, blob) {
        Ok(Delivery::Sent) => {
            observer.event(Event::BlobSent { digest: blob.digest, size: blob.size });
            true
        }
        Ok(Delivery::Found | Delivery::Mounted) => {
            observer.event(Event::BlobExists { digest: blob.digest });
            true
        }
        // The others need not start what will not be used.
        Err(source) => {
            let kind = PushErrorKind::Blob { digest: blob.digest, source: Box::new(source) };
            lock(&failure).get_or_insert(kind);
            false
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Sees to it that the blob is in the repository. Who comes second for the same blob waits for the first.
pub(crate) fn deliver(session: &Session<'_>, blob: &Blob) -> Result<Delivery, ExchangeError> {
    let key = (session.endpoint.clone(), blob.digest);
    session.client.delivered().get_or_find(&key, || Sending::new(session, blob).run())
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

/// What became of a manifest.
pub(crate) enum Stored {
    AsSent {
        /// What the registry says that the manifest is about; one that knows nothing of that says nothing.
        subject: Option<Digest>,
    },
    /// The tag is there, the registry keeps it, and the user does not mind.
    NotAtAll { answer: String },
}

/// Stores a manifest under a tag or its digest.
pub(crate) fn push_manifest(
    client: &Client,
    endpoint: &Endpoint,
    name: &str,
    manifest: &ManifestBytes,
) -> Result<Stored, PushErrorKind> {
    let session = Session::new(client, endpoint)?;
    let what = "the manifest";
    let path = format!("manifests/{name}");
    let media_type = HeaderValue::from_str(&manifest.media_type.to_string())
        .map_err(|_| session.protocol("the media type is no header"))?;
    let request = session
        .request(Method::PUT, &path)?
        .with_header(CONTENT_TYPE, media_type)
        .with_body(Body::Bytes(manifest.bytes.clone()));
    let sent = session.send(&request, what).and_then(|response| match response.status() {
        status if status.is_success() => Ok(response),
        _ => Err(session.status(response, what)),
    });
    let response = match sent {
        Ok(response) => response,
        Err(error) => {
            return match immutable(&error) {
                Some(answer) if client.settings.ignores_immutable_tags => {
                    Ok(Stored::NotAtAll { answer: answer.to_owned() })
                }
                _ => Err(error.into()),
            };
        }
    };
    match response.header("docker-content-digest") {
        Some(actual) if actual != manifest.digest.to_string() => {
            Err(PushErrorKind::Digest { expected: manifest.digest, actual: actual.to_owned() })
        }
        _ => {
            let subject = response.header("oci-subject").and_then(|text| text.parse().ok());
            Ok(Stored::AsSent { subject })
        }
    }
}

/// The answer of a registry that keeps a tag as it is.
fn immutable(error: &ExchangeError) -> Option<&str> {
    let (ExchangeError::Status { answer, .. } | ExchangeError::Denied { answer, .. }) = error
    else {
        return None;
    };
    IMMUTABLE.iter().any(|text| answer.contains(text)).then_some(answer)
}
