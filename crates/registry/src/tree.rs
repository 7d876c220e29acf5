//! Images and indexes with everything beneath them.

use std::sync::Arc;

use ebiko_oci::{
    BlobSource, Descriptor, Digest, ImageTree, LookUpError, ManifestBytes, NameSource, Reference,
    TreeError, TreeSource,
};

use crate::blob::RemoteBlob;
use crate::pull::{self, PullError, PullErrorKind};
use crate::registry::{Client, Registry};
use crate::routes::Endpoint;

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
        let endpoint = self.client.routes.for_origin(reference);
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
