//! From a reference to an image whose layers are still in the registry.

use std::sync::Arc;

use ebiko_cloud::one_line;
use ebiko_oci::{
    Descriptor, Digest, Image, ImageError, ImageSource, Manifest, ManifestBytes, ManifestError,
    MediaType, NoPlatform, Platform, PortError, Reference, ResolvedImage, TreeError,
};
use ebiko_transport::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use ebiko_transport::{Method, Request, Response, StatusCode};

use crate::blob::RemoteBlob;
use crate::registry::{Client, Registry};
use crate::routes::Endpoint;
use crate::session::{ExchangeError, Session};

/// Manifests and configs are read into memory up to this many bytes, the usual limit of registries
/// themselves.
const DOCUMENT_LIMIT: usize = 4 * 1024 * 1024;

/// An index may hold indexes. Nobody nests them deeper, unless to waste our time.
const INDEX_DEPTH: usize = 3;

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// An image cannot be pulled.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message names every field")]
#[error("cannot pull `{reference}`")]
pub struct PullError {
    pub reference: String,
    pub source: PullErrorKind,
}

/// Why a [`PullError`] happened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum PullErrorKind {
    #[error(transparent)]
    Exchange(Box<ExchangeError>),
    #[error("there is no such image in `{registry}`{answer}")]
    NotFound { registry: String, answer: String },
    #[error("none of its {} places has it: {}", failures.len(), failures.join("; "))]
    Nowhere {
        failures: Vec<String>,
        /// Whether none of them could even be asked.
        is_unreachable: bool,
    },
    #[error("`{registry}` sent {what} {actual} where {expected} was asked for")]
    Digest { registry: String, what: &'static str, expected: Digest, actual: Digest },
    #[error("`{registry}` sent {what} of {actual} bytes where its descriptor says {expected}")]
    Size { registry: String, what: &'static str, expected: u64, actual: u64 },
    #[error("the manifest cannot be used")]
    Manifest { source: ManifestError },
    #[error("the index cannot be used")]
    Platform { source: NoPlatform },
    #[error("indexes are nested more than {INDEX_DEPTH} deep")]
    TooDeep,
    #[error("manifest and config do not fit together")]
    Image { source: ImageError },
    #[error("what it leads to cannot be used")]
    Tree { source: TreeError },
}

impl PullErrorKind {
    /// Whether nobody could be asked, so that this says nothing about the image.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Exchange(error) => error.is_unreachable(),
            Self::Nowhere { is_unreachable, .. } => *is_unreachable,
            _ => false,
        }
    }
}

impl From<ExchangeError> for PullErrorKind {
    fn from(error: ExchangeError) -> Self {
        Self::Exchange(Box::new(error))
    }
}

impl PullError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<String> {
        match &self.source {
            PullErrorKind::Exchange(error) => error.hint(),
            _ => None,
        }
    }
}

/// A manifest or index, and the place it came from.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) manifest: ManifestBytes,
    endpoint: Endpoint,
}

impl ImageSource for Registry {
    /// Looks up `reference`; see the crate's guarantees.
    ///
    /// The layers of the result are fetched when they are opened, anew each time, verified while
    /// they are read, and resumed where the connection breaks.
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ResolvedImage, PortError> {
        let key = (reference.clone(), platform.clone());
        let resolved =
            self.client.images().get_or_find(&key, || resolve(&self.client, reference, platform));
        resolved.map_err(|source| PullError { reference: reference.familiar(), source }.into())
    }
}

fn resolve(
    client: &Arc<Client>,
    reference: &Reference,
    platform: &Platform,
) -> Result<ResolvedImage, PullErrorKind> {
    let endpoints = client.routes.for_pull(reference);
    let fetched = fetch_manifest(client, reference, &endpoints)?;
    let digest = fetched.manifest.digest;

    let mut image = fetched;
    for _ in 0..INDEX_DEPTH {
        // What led here should lead on; the other places are for when it does not.
        let mut endpoints = endpoints.clone();
        endpoints.sort_by_key(|endpoint| *endpoint != image.endpoint);
        let parsed = Manifest::parse(&image.manifest.bytes, Some(&image.manifest.media_type))
            .map_err(|source| PullErrorKind::Manifest { source })?;
        match parsed {
            Manifest::Index(index) => {
                let entry =
                    index.select(platform).map_err(|source| PullErrorKind::Platform { source })?;
                image = fetch_manifest(client, &reference.at(entry.digest), &endpoints)?;
                let actual = image.manifest.bytes.len() as u64;
                check_size(&image.endpoint, "a manifest", entry.size, actual)?;
            }
            Manifest::Image(manifest) => {
                let image = image_of(client, image.manifest, &manifest.config, &endpoints)?;
                return Ok(ResolvedImage { image, digest });
            }
        }
    }
    Err(PullErrorKind::TooDeep)
}

/// The image of a manifest, whose config is fetched.
fn image_of(
    client: &Arc<Client>,
    manifest: ManifestBytes,
    config: &Descriptor,
    endpoints: &[Endpoint],
) -> Result<Image, PullErrorKind> {
    let config = fetch_config(client, config, endpoints)?;
    Image::received(manifest, config, |descriptor| {
        Arc::new(RemoteBlob::new(client, endpoints, descriptor))
    })
    .map_err(|source| PullErrorKind::Image { source })
}

/// Fetches the image, and no index, that `tag` stands for at one place now.
pub(crate) fn fetch_tagged(
    client: &Arc<Client>,
    endpoint: &Endpoint,
    tag: &str,
) -> Result<Image, PullErrorKind> {
    let endpoints = std::slice::from_ref(endpoint);
    let fetched = fetch_anew(client, tag, None, endpoints)?;
    let parsed = Manifest::parse(&fetched.manifest.bytes, Some(&fetched.manifest.media_type))
        .map_err(|source| PullErrorKind::Manifest { source })?;
    match parsed {
        Manifest::Image(manifest) => {
            image_of(client, fetched.manifest, &manifest.config, endpoints)
        }
        Manifest::Index(_) => Err(PullErrorKind::Image { source: ImageError::IsIndex }),
    }
}

/// Fetches what is behind `reference`, once for each reference.
pub(crate) fn fetch_manifest(
    client: &Client,
    reference: &Reference,
    endpoints: &[Endpoint],
) -> Result<Fetched, PullErrorKind> {
    let name = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    };
    // A tag beside a digest is a comment.
    let key = reference.digest().map_or_else(|| reference.clone(), |digest| reference.at(digest));
    let find = || fetch_anew(client, &name, reference.digest(), endpoints);
    client.manifests().get_or_find(&key, find)
}

/// Fetches a manifest by its name at one of `endpoints`. If its digest is known, it has to have that.
pub(crate) fn fetch_anew(
    client: &Client,
    name: &str,
    digest: Option<Digest>,
    endpoints: &[Endpoint],
) -> Result<Fetched, PullErrorKind> {
    try_all(client, endpoints, |session| {
        let path = format!("manifests/{name}");
        let request = session
            .request(Method::GET, &path)?
            .with_header(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let response = get(session, &request, "the request for the manifest")?;
        let media_type = response.header(CONTENT_TYPE).map(MediaType::parse);
        let claimed = response.header("docker-content-digest").and_then(|text| text.parse().ok());
        let bytes = read_document(session, response)?;
        let actual = Digest::of(&bytes);
        // A tag has no digest of its own, but a registry that contradicts itself is not to be
        // trusted either.
        for expected in digest.into_iter().chain(claimed) {
            check_digest(session.endpoint, "a manifest", expected, actual)?;
        }
        let media_type = media_type.unwrap_or_else(|| MediaType::Other(String::new()));
        let manifest = ManifestBytes { media_type, bytes, digest: actual };
        Ok(Fetched { manifest, endpoint: session.endpoint.clone() })
    })
}

fn fetch_config(
    client: &Client,
    descriptor: &Descriptor,
    endpoints: &[Endpoint],
) -> Result<Vec<u8>, PullErrorKind> {
    try_all(client, endpoints, |session| {
        let path = format!("blobs/{}", descriptor.digest);
        let request = session.request(Method::GET, &path)?;
        let bytes = read_document(session, get(session, &request, "the request for the config")?)?;
        check_size(session.endpoint, "a config", descriptor.size, bytes.len() as u64)?;
        check_digest(session.endpoint, "a config", descriptor.digest, Digest::of(&bytes))?;
        Ok(bytes)
    })
}

fn get(
    session: &Session<'_>,
    request: &Request,
    what: &'static str,
) -> Result<Response, PullErrorKind> {
    let response = session.send(request, what)?;
    match response.status() {
        StatusCode::OK => Ok(response),
        StatusCode::NOT_FOUND => {
            let answer = match ebiko_cloud::error_text(response) {
                text if text.is_empty() => text,
                text => format!(" ({text})"),
            };
            Err(PullErrorKind::NotFound { registry: session.endpoint.registry.clone(), answer })
        }
        _ => Err(PullErrorKind::from(session.status(response, what))),
    }
}

fn read_document(session: &Session<'_>, response: Response) -> Result<Vec<u8>, PullErrorKind> {
    response.into_bytes(DOCUMENT_LIMIT).map_err(|source| session.unreachable(source).into())
}

fn check_digest(
    endpoint: &Endpoint,
    what: &'static str,
    expected: Digest,
    actual: Digest,
) -> Result<(), PullErrorKind> {
    if expected == actual {
        return Ok(());
    }
    let registry = endpoint.registry.clone();
    Err(PullErrorKind::Digest { registry, what, expected, actual })
}

pub(crate) fn check_size(
    endpoint: &Endpoint,
    what: &'static str,
    expected: u64,
    actual: u64,
) -> Result<(), PullErrorKind> {
    if expected == actual {
        return Ok(());
    }
    let registry = endpoint.registry.clone();
    Err(PullErrorKind::Size { registry, what, expected, actual })
}

/// Asks one place after the other until one answers rightly, whatever is wrong with the others.
fn try_all<T>(
    client: &Client,
    endpoints: &[Endpoint],
    ask: impl Fn(&Session<'_>) -> Result<T, PullErrorKind>,
) -> Result<T, PullErrorKind> {
    let mut failures = Vec::new();
    let mut is_unreachable = true;
    for (index, endpoint) in endpoints.iter().enumerate() {
        let outcome = Session::new(client, endpoint)
            .map_err(PullErrorKind::from)
            .and_then(|session| ask(&session));
        match outcome {
            Ok(value) => return Ok(value),
            Err(error) if endpoints.len() == 1 => return Err(error),
            Err(error) => {
                is_unreachable &= error.is_unreachable();
                let failure = format!("{}: {}", endpoint.registry, one_line(&error));
                if let Some(next) = endpoints.get(index + 1) {
                    client.warn(&format!("{failure}; trying {}", next.registry));
                }
                failures.push(failure);
            }
        }
    }
    Err(PullErrorKind::Nowhere { failures, is_unreachable })
}
