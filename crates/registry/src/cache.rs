//! Layers of builds that are kept in a repository, one tag for each key.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use ebiko_oci::{Digest, Event, Image, LayerCache, Observer, PortError, Reference};

use crate::pull::{self, PullErrorKind};
use crate::push;
use crate::registry::Registry;
use crate::routes::{Access, Endpoint};
use crate::session::{ExchangeError, Session};

/// So many questions about the layers of one entry are asked at the same time.
const PARALLEL: usize = 4;

/// A repository in which entries of a layer cache are kept: each is an image whose tag is its key.
///
/// What is found is read from the repository itself and from no mirror, as what is kept there is sent to it.
#[derive(Debug, Clone)]
pub struct CacheRepository {
    registry: Registry,
    repository: Reference,
}

/// An entry cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum CacheError {
    #[error("cannot read from the cache `{repository}`")]
    Pull { repository: String, source: Box<PullErrorKind> },
    #[error("cannot ask the cache `{repository}` for a layer")]
    Ask { repository: String, source: Box<ExchangeError> },
    #[error("the layer {digest} of its entry is no longer in `{repository}`")]
    Gone { repository: String, digest: Digest },
}

impl Registry {
    /// The repository of `reference`, whose tag means nothing, as a layer cache. Nothing is asked yet.
    pub fn cache(&self, reference: &Reference) -> CacheRepository {
        CacheRepository { registry: self.clone(), repository: reference.clone() }
    }
}

impl CacheRepository {
    fn endpoint(&self) -> Endpoint {
        let push = self.registry.client.routes.for_push(&self.repository);
        Endpoint { access: Access::Pull, ..push }
    }

    /// Fails if a layer is missing: registries remove manifests and blobs at different times.
    fn check_layers(&self, image: &Image, endpoint: &Endpoint) -> Result<(), CacheError> {
        let session = Session::new(&self.registry.client, endpoint).map_err(|source| {
            CacheError::Ask { repository: endpoint.to_string(), source: source.into() }
        })?;
        let digests: Vec<Digest> =
            image.layers().iter().map(|layer| layer.descriptor.digest).collect();
        let waiting = Mutex::new(digests.into_iter());
        let failure = Mutex::new(None);
        let work = || {
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(digest) = next else { return };
                let repository = endpoint.to_string();
                let error = match push::is_there(&session, digest) {
                    Ok(true) => continue,
                    Ok(false) => CacheError::Gone { repository, digest },
                    Err(source) => CacheError::Ask { repository, source: source.into() },
                };
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                return;
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..PARALLEL.min(image.layers().len()) {
                scope.spawn(work);
            }
            work();
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

impl LayerCache for CacheRepository {
    /// Fails where the registry refuses, cannot be reached, or has lost a part of the entry.
    fn find(&self, key: &Digest) -> Result<Option<Image>, PortError> {
        let endpoint = self.endpoint();
        let client = &self.registry.client;
        let image = match pull::fetch_tagged(client, &endpoint, &key.hex()) {
            Ok(image) => image,
            Err(PullErrorKind::NotFound { .. }) => return Ok(None),
            Err(source) => {
                let repository = endpoint.to_string();
                return Err(CacheError::Pull { repository, source: source.into() }.into());
            }
        };
        self.check_layers(&image, &endpoint)?;
        Ok(Some(image))
    }

    /// Layers that are in another repository of the same registry, or on their way there, are taken from there.
    fn keep(&self, key: &Digest, image: &Image) -> Result<(), PortError> {
        let tagged = self.repository.keyed(*key);
        let client = &self.registry.client;
        let here = client.routes.for_push(&tagged);
        let layers = image.layers().iter().map(|layer| layer.descriptor.digest);
        let layers: BTreeSet<Digest> = layers.collect();
        client.delivered().wait_for(|(endpoint, digest)| {
            endpoint.registry == here.registry && *endpoint != here && layers.contains(digest)
        });
        Ok(self.registry.push(image, &[tagged], &Silent)?)
    }
}

/// What happens to a cache is nobody's progress.
struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event<'_>) {}
}
