//! An image or an index with everything beneath it, to be stored somewhere else as it is.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::{BlobSource, Descriptor, Digest, Manifest, ManifestBytes, ManifestError, MediaType};

/// A manifest or an index with everything that it leads to. Nothing in it is changed on its way, so it keeps its digest.
#[derive(Debug, Clone)]
pub struct ImageTree {
    /// What the name stands for.
    pub root: ManifestBytes,
    /// The manifests and indexes that the root leads to, each once, and before those that name it.
    pub beneath: Vec<ManifestBytes>,
    /// What is about something in the tree, each after what it is about. Nothing in the tree leads to it.
    pub referrers: Vec<Referrer>,
    /// The blobs that any of all these names, each once. Layers that must not be distributed are not among them.
    pub blobs: Vec<TreeBlob>,
}

/// A manifest about another one, such as a document or a signature: what OCI's specifications call a referrer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// The manifest.
    pub manifest: ManifestBytes,
    /// The digest of what it is about.
    pub subject: Digest,
}

/// One blob of an [`ImageTree`].
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct TreeBlob {
    pub descriptor: Descriptor,
    pub source: Arc<dyn BlobSource>,
}

impl fmt::Debug for TreeBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TreeBlob").field(&self.descriptor).finish()
    }
}

/// Where the parts of an [`ImageTree`] are.
pub trait TreeSource {
    /// Why a part cannot be had.
    type Error: From<TreeError>;

    /// The bytes of a manifest or an index, whose digest has been verified.
    fn manifest(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Self::Error>;

    /// A blob, which is not read yet.
    fn blob(&mut self, descriptor: &Descriptor) -> Result<Arc<dyn BlobSource>, Self::Error>;
}

/// What is found leads to something that is no image.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum TreeError {
    #[error("cannot read the manifest {digest}")]
    Manifest { digest: Digest, source: ManifestError },
    #[error("indexes are nested more than {DEPTH} deep")]
    TooDeep,
    #[error("it has more than {MOST_MANIFESTS} manifests")]
    TooMany,
    #[error("the manifest {digest} is about nothing that is there")]
    Stray { digest: Digest },
}

/// An index of indexes of indexes is nothing that anybody made on purpose.
const DEPTH: usize = 3;

/// An image for every platform there is, with two attestations each, is far below.
const MOST_MANIFESTS: usize = 1000;

impl ImageTree {
    /// Finds everything that `root` leads to.
    ///
    /// # Errors
    ///
    /// Fails with the first part that cannot be had or cannot be understood.
    pub fn collect<S: TreeSource>(root: ManifestBytes, source: &mut S) -> Result<Self, S::Error> {
        let mut collecting = Collecting {
            source,
            seen: BTreeSet::from([root.digest]),
            beneath: Vec::new(),
            blobs: Vec::new(),
        };
        collecting.follow(&root, DEPTH)?;
        let Collecting { beneath, blobs, .. } = collecting;
        Ok(Self { root, beneath, referrers: Vec::new(), blobs })
    }

    /// Adds a manifest that is about something in the tree, with everything that it leads to.
    ///
    /// # Errors
    ///
    /// Fails if it is about nothing in the tree, or with the first part that cannot be had or understood. The tree is then
    /// as it was.
    pub fn add_referrer<S: TreeSource>(
        &mut self,
        descriptor: &Descriptor,
        source: &mut S,
    ) -> Result<(), S::Error> {
        let digest = descriptor.digest;
        let bytes = source.manifest(descriptor)?;
        let manifest = ManifestBytes { media_type: descriptor.media_type.clone(), bytes, digest };
        let subject =
            manifest.subject().map_err(|source| TreeError::Manifest { digest, source })?;
        let subject = subject
            .filter(|subject| self.manifest(*subject).is_some())
            .ok_or(TreeError::Stray { digest })?;
        if self.manifest(digest).is_some() {
            return Ok(());
        }
        let manifests = || self.beneath.iter().chain(self.referrers.iter().map(|it| &it.manifest));
        if manifests().count() >= MOST_MANIFESTS {
            return Err(TreeError::TooMany.into());
        }
        let known = manifests().chain([&self.root]).map(|known| known.digest);
        let blobs = self.blobs.iter().map(|blob| blob.descriptor.digest);
        let mut collecting = Collecting {
            source,
            seen: known.chain(blobs).chain([digest]).collect(),
            beneath: Vec::new(),
            blobs: Vec::new(),
        };
        collecting.follow(&manifest, DEPTH)?;
        let Collecting { beneath, blobs, .. } = collecting;
        self.beneath.extend(beneath);
        self.blobs.extend(blobs);
        self.referrers.push(Referrer { manifest, subject });
        Ok(())
    }

    /// Whether a manifest is in the tree.
    pub fn has(&self, digest: Digest) -> bool {
        self.manifest(digest).is_some()
    }

    /// A manifest in the tree.
    pub(crate) fn manifest(&self, digest: Digest) -> Option<&ManifestBytes> {
        let referrers = self.referrers.iter().map(|referrer| &referrer.manifest);
        let mut all = std::iter::once(&self.root).chain(&self.beneath).chain(referrers);
        all.find(|known| known.digest == digest)
    }
}

struct Collecting<'s, S> {
    source: &'s mut S,
    seen: BTreeSet<Digest>,
    beneath: Vec<ManifestBytes>,
    blobs: Vec<TreeBlob>,
}

impl<S: TreeSource> Collecting<'_, S> {
    fn follow(&mut self, manifest: &ManifestBytes, depth: usize) -> Result<(), S::Error> {
        let parsed = Manifest::parse(&manifest.bytes, Some(&manifest.media_type))
            .map_err(|source| TreeError::Manifest { digest: manifest.digest, source })?;
        match parsed {
            Manifest::Image(image) => {
                for descriptor in image.layers.into_iter().chain([image.config]) {
                    let is_foreign = matches!(descriptor.media_type, MediaType::ForeignLayer(_));
                    if !is_foreign && self.seen.insert(descriptor.digest) {
                        let source = self.source.blob(&descriptor)?;
                        self.blobs.push(TreeBlob { descriptor, source });
                    }
                }
            }
            Manifest::Index(index) => {
                for entry in index.manifests {
                    if !self.seen.insert(entry.digest) {
                        continue;
                    }
                    let depth = depth.checked_sub(1).ok_or(TreeError::TooDeep)?;
                    if self.beneath.len() >= MOST_MANIFESTS {
                        return Err(TreeError::TooMany.into());
                    }
                    let bytes = self.source.manifest(&entry)?;
                    let digest = entry.digest;
                    let child = ManifestBytes { media_type: entry.media_type, bytes, digest };
                    self.follow(&child, depth)?;
                    self.beneath.push(child);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::BytesBlob;

    /// Documents by their digests.
    #[derive(Default)]
    struct Store(BTreeMap<Digest, Vec<u8>>);

    impl Store {
        fn add(&mut self, json: String) -> ManifestBytes {
            let bytes = json.into_bytes();
            let digest = Digest::of(&bytes);
            self.0.insert(digest, bytes.clone());
            ManifestBytes { media_type: MediaType::Other(String::new()), bytes, digest }
        }

        fn image(&mut self, layers: &[&str]) -> ManifestBytes {
            let descriptor = |kind: &str, name: &str| {
                let digest = Digest::of(name.as_bytes());
                format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{}}}"#, name.len())
            };
            let layers: Vec<_> = layers
                .iter()
                .map(|name| descriptor("application/vnd.oci.image.layer.v1.tar", name))
                .collect();
            let config = descriptor("application/vnd.oci.image.config.v1+json", "config");
            self.add(format!(
                r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#,
                layers.join(",")
            ))
        }

        fn index(&mut self, entries: &[&ManifestBytes]) -> ManifestBytes {
            let entries: Vec<_> = entries
                .iter()
                .map(|entry| {
                    let kind = match Manifest::parse(&entry.bytes, None).unwrap() {
                        Manifest::Image(_) => MediaType::OciManifest,
                        Manifest::Index(_) => MediaType::OciIndex,
                    };
                    format!(r#"{{"mediaType":"{kind}","digest":"{}","size":1}}"#, entry.digest)
                })
                .collect();
            self.add(format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(",")))
        }
    }

    #[derive(Debug, thiserror::Error)]
    enum Failure {
        #[error("{} is missing", .0)]
        Missing(Digest),
        #[error(transparent)]
        Tree(#[from] TreeError),
    }

    impl TreeSource for Store {
        type Error = Failure;

        fn manifest(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Failure> {
            let digest = descriptor.digest;
            self.0.get(&digest).cloned().ok_or(Failure::Missing(digest))
        }

        fn blob(&mut self, _: &Descriptor) -> Result<Arc<dyn BlobSource>, Failure> {
            Ok(Arc::new(BytesBlob::new(Vec::new())))
        }
    }

    #[test]
    fn everything_is_there_once_and_before_what_names_it() {
        let mut store = Store::default();
        let (one, two) = (store.image(&["a", "b", "a"]), store.image(&["b", "c"]));
        let inner = store.index(&[&two, &one]);
        let outer = store.index(&[&one, &inner, &two]);
        let tree = ImageTree::collect(outer.clone(), &mut store).unwrap();
        assert_eq!(tree.root, outer);
        let beneath: Vec<Digest> = tree.beneath.iter().map(|known| known.digest).collect();
        assert_eq!(beneath, [one.digest, two.digest, inner.digest]);
        let blobs: Vec<Digest> = tree.blobs.iter().map(|blob| blob.descriptor.digest).collect();
        assert_eq!(blobs, ["a", "b", "config", "c"].map(|name| Digest::of(name.as_bytes())));
    }

    #[test]
    fn what_is_missing_or_has_no_end_is_an_error() {
        let mut store = Store::default();
        let image = store.image(&[]);
        let index = store.index(&[&image]);
        store.0.remove(&image.digest);
        let error = ImageTree::collect(index, &mut store).unwrap_err();
        assert_eq!(error.to_string(), format!("{} is missing", image.digest));

        let mut deep = store.image(&["a"]);
        for _ in 0..=DEPTH {
            deep = store.index(&[&deep]);
        }
        let error = ImageTree::collect(deep, &mut store).unwrap_err();
        assert_eq!(error.to_string(), "indexes are nested more than 3 deep");
    }
}
