//! Images and indexes with everything beneath them, from and to the registries.

use std::collections::BTreeSet;
use std::sync::Arc;

use ebiko_oci::{
    BlobSource, Descriptor, Digest, Event, ImageTree, LookUpError, ManifestBytes, NameSource,
    Observer, Reference, TreeError, TreeSource,
};
use ebiko_transport::header::{CONTENT_TYPE, HeaderValue};
use ebiko_transport::{Body, Method};

use crate::blob::RemoteBlob;
use crate::pull::{self, PullError, PullErrorKind};
use crate::push::{self, Blob, PushError, PushErrorKind};
use crate::registry::{Client, Registry};
use crate::routes::{Access, Endpoint};
use crate::session::Session;

impl NameSource for Registry {
    fn look_up(&self, reference: &Reference) -> Result<ManifestBytes, LookUpError> {
        let endpoints = self.client.routes.for_pull(reference);
        let fetched = pull::fetch_manifest(&self.client, reference, &endpoints);
        fetched.map(|fetched| fetched.manifest).map_err(|source| LookUpError {
            is_unreachable: source.is_unreachable(),
            source: PullError { reference: reference.familiar(), source }.into(),
        })
    }

    fn blob(&self, reference: &Reference, descriptor: &Descriptor) -> Arc<dyn BlobSource> {
        let endpoints = self.client.routes.for_pull(reference);
        Arc::new(RemoteBlob::new(&self.client, &endpoints, descriptor))
    }
}

impl Registry {
    /// Finds what `reference` stands for now, with everything beneath it, so that it can be pushed somewhere else.
    ///
    /// It is read from the registry itself and from no mirror: a mirror may not know yet what was pushed a moment ago. Blobs
    /// are not fetched.
    pub fn fetch_tree(&self, reference: &Reference) -> Result<ImageTree, Box<PullError>> {
        let routes = &self.client.routes;
        let origin = routes.for_push(reference);
        let is_insecure = origin.is_insecure || routes.insecure_pull;
        let endpoint = Endpoint { access: Access::Pull, is_insecure, ..origin };
        let mut remote = Remote { client: &self.client, endpoint };
        let mut find = || {
            let name = match (reference.digest(), reference.tag()) {
                (Some(digest), _) => digest.to_string(),
                (None, tag) => tag.unwrap_or("latest").to_owned(),
            };
            let root = remote.fetch(&name, reference.digest())?;
            ImageTree::collect(root, &mut remote)
        };
        find().map_err(|source| PullError { reference: reference.familiar(), source }.into())
    }

    /// Makes `tree` available under every one of `destinations`, with its digest unchanged.
    ///
    /// Blobs that a registry has are not sent again, and those of another of its repositories are mounted. What is beneath is
    /// sent before what names it, so that no tag ever names something incomplete.
    ///
    /// # Errors
    ///
    /// Stops at the first destination that fails. The ones before it have everything.
    pub fn push_tree(
        &self,
        tree: &ImageTree,
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
        let blobs: Vec<Blob> = tree
            .blobs
            .iter()
            .map(|blob| Blob {
                digest: blob.descriptor.digest,
                size: blob.descriptor.size,
                source: Arc::clone(&blob.source),
            })
            .collect();
        // Tags of one repository share what is beneath them.
        let mut complete = BTreeSet::new();
        for destination in destinations {
            observer.event(Event::PushStarted { reference: destination });
            let endpoint = self.client.routes.for_push(destination);
            let mut send = || {
                if complete.insert(endpoint.clone()) {
                    push::push_blobs(&self.client, &endpoint, &blobs, observer)?;
                    for manifest in &tree.beneath {
                        let name = manifest.digest.to_string();
                        put_manifest(&self.client, &endpoint, &name, manifest)?;
                    }
                }
                let tag = destination.tag().unwrap_or("latest");
                put_manifest(&self.client, &endpoint, tag, &tree.root)
            };
            send().map_err(|source| fail(destination, source))?;
            observer.event(Event::Pushed { reference: destination, digest: tree.root.digest });
        }
        Ok(())
    }
}

/// One repository, as the place of a tree.
struct Remote<'r> {
    client: &'r Arc<Client>,
    endpoint: Endpoint,
}

impl Remote<'_> {
    fn fetch(&self, name: &str, digest: Option<Digest>) -> Result<ManifestBytes, PullErrorKind> {
        let endpoints = std::slice::from_ref(&self.endpoint);
        Ok(pull::fetch_anew(self.client, name, digest, endpoints)?.manifest)
    }
}

impl TreeSource for Remote<'_> {
    type Error = PullErrorKind;

    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, PullErrorKind> {
        let name = descriptor.digest.to_string();
        let manifest = self.fetch(&name, Some(descriptor.digest))?;
        let actual = manifest.bytes.len() as u64;
        pull::check_size(&self.endpoint, "a manifest", descriptor.size, actual)?;
        Ok(manifest.bytes)
    }

    fn blob(&mut self, descriptor: &Descriptor) -> Result<Arc<dyn BlobSource>, PullErrorKind> {
        let endpoints = std::slice::from_ref(&self.endpoint);
        Ok(Arc::new(RemoteBlob::new(self.client, endpoints, descriptor)))
    }
}

impl From<TreeError> for PullErrorKind {
    fn from(source: TreeError) -> Self {
        Self::Tree { source }
    }
}

fn put_manifest(
    client: &Client,
    endpoint: &Endpoint,
    name: &str,
    manifest: &ManifestBytes,
) -> Result<(), PushErrorKind> {
    let session = Session::new(client, endpoint)?;
    let what = "a manifest";
    let media_type = HeaderValue::from_str(&manifest.media_type.to_string())
        .map_err(|_| session.protocol("the media type is no header"))?;
    let request = session
        .request(Method::PUT, &format!("manifests/{name}"))?
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
