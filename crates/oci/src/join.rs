//! One index of images that were made apart from each other.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use crate::image::canonical_json;
use crate::{
    Descriptor, Digest, ImageConfig, ImageIndex, ImageManifest, ImageTree, Manifest, ManifestBytes,
    ManifestError, MediaType, Platform, PortError,
};

/// Images cannot be joined to one index.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message names every field")]
#[error("`{image}` cannot be a part of the index")]
pub struct JoinError {
    pub image: String,
    pub source: JoinFault,
}

/// Why a [`JoinError`] happened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum JoinFault {
    #[error("it is for {platform}, and so is `{other}`")]
    SamePlatform { platform: Box<Platform>, other: String },
    #[error("its config does not say what it runs on")]
    NoPlatform,
    #[error("cannot read its config {digest}")]
    Config { digest: Digest, source: PortError },
    #[error("cannot read its manifest {digest}")]
    Manifest { digest: Digest, source: ManifestError },
    #[error("it is an index of indexes")]
    Nested,
}

/// Configs are read into memory up to this many bytes, the usual limit of registries themselves.
const CONFIG_LIMIT: u64 = 4 << 20;

impl ImageTree {
    /// Joins images, each with the name by which messages call it, to one OCI index that lists them in this order.
    ///
    /// The platform of an image is that of its config. An index among them counts as the images that it lists; what else it
    /// lists, such as attestations, stays with them.
    ///
    /// # Errors
    ///
    /// Fails if two images are for the same platform: of these, nobody would ever get the second.
    pub fn join(
        images: Vec<(String, Self)>,
        annotations: BTreeMap<String, String>,
    ) -> Result<Self, JoinError> {
        let mut entries = Vec::new();
        let mut known: Vec<(Platform, String)> = Vec::new();
        for (name, tree) in &images {
            let fail = |source| JoinError { image: name.clone(), source };
            for entry in tree.entries().map_err(fail)? {
                if let Some(platform) = entry.platform.as_ref().filter(|_| !entry.is_attestation())
                {
                    let platform = platform.normalized();
                    if let Some((_, other)) = known.iter().find(|(known, _)| *known == platform) {
                        let (platform, other) = (Box::new(platform), other.clone());
                        return Err(fail(JoinFault::SamePlatform { platform, other }));
                    }
                    known.push((platform, name.clone()));
                }
                entries.push(entry);
            }
        }
        let index = ImageIndex {
            schema_version: 2,
            media_type: Some(MediaType::OciIndex),
            manifests: entries,
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
        };
        let bytes = canonical_json(&index);
        let digest = Digest::of(&bytes);
        let root = ManifestBytes { media_type: MediaType::OciIndex, bytes, digest };
        let mut joined =
            Self { root, beneath: Vec::new(), referrers: Vec::new(), blobs: Vec::new() };
        let mut seen = BTreeSet::new();
        for (_, tree) in images {
            // An index among the images is taken apart, and nothing names it any more.
            let image = Some(tree.root).filter(|root| !is_index(root));
            joined.beneath.extend(
                tree.beneath.into_iter().chain(image).filter(|part| seen.insert(part.digest)),
            );
            for referrer in tree.referrers {
                if joined.has(referrer.subject) && seen.insert(referrer.manifest.digest) {
                    joined.referrers.push(referrer);
                }
            }
            joined
                .blobs
                .extend(tree.blobs.into_iter().filter(|blob| seen.insert(blob.descriptor.digest)));
        }
        Ok(joined)
    }

    /// What an index says of this: one line for an image, and for an index its own lines.
    fn entries(&self) -> Result<Vec<Descriptor>, JoinFault> {
        let unnamed = |manifest: &ManifestBytes| {
            let size = manifest.bytes.len() as u64;
            Descriptor::new(media_type(manifest), manifest.digest, size)
        };
        let index = match parse(&self.root)? {
            Manifest::Image(image) => {
                let platform = Some(self.platform(&image)?);
                return Ok(vec![Descriptor { platform, ..unnamed(&self.root) }]);
            }
            Manifest::Index(index) => index,
        };
        let complete = |entry: Descriptor| {
            let Some(manifest) = self.manifest(entry.digest) else { return Ok(entry) };
            match parse(manifest)? {
                Manifest::Index(_) => Err(JoinFault::Nested),
                Manifest::Image(image) if entry.platform.is_none() && !entry.is_attestation() => {
                    Ok(Descriptor { platform: Some(self.platform(&image)?), ..entry })
                }
                Manifest::Image(_) => Ok(entry),
            }
        };
        index.manifests.into_iter().map(complete).collect()
    }

    /// What the config of an image says that it runs on.
    fn platform(&self, image: &ImageManifest) -> Result<Platform, JoinFault> {
        let digest = image.config.digest;
        let fail = |source: PortError| JoinFault::Config { digest, source };
        let blob = self.blobs.iter().find(|blob| blob.descriptor.digest == digest);
        let blob = blob.ok_or_else(|| fail("it is not there".into()))?;
        let mut bytes = Vec::new();
        let reader = blob.source.open().map_err(fail)?;
        reader.take(CONFIG_LIMIT).read_to_end(&mut bytes).map_err(|error| fail(Box::new(error)))?;
        let actual = Digest::of(&bytes);
        if actual != digest {
            return Err(fail(format!("its content has the digest {actual}").into()));
        }
        let config = ImageConfig::parse(&bytes).map_err(|error| fail(Box::new(error)))?;
        if config.platform.os.is_empty() || config.platform.architecture.is_empty() {
            return Err(JoinFault::NoPlatform);
        }
        Ok(config.platform)
    }
}

fn parse(manifest: &ManifestBytes) -> Result<Manifest, JoinFault> {
    Manifest::parse(&manifest.bytes, Some(&manifest.media_type))
        .map_err(|source| JoinFault::Manifest { digest: manifest.digest, source })
}

fn is_index(manifest: &ManifestBytes) -> bool {
    matches!(parse(manifest), Ok(Manifest::Index(_)))
}

/// The type that an index has to say: an image without one is OCI's.
fn media_type(manifest: &ManifestBytes) -> MediaType {
    match &manifest.media_type {
        known if known.is_image_manifest() => known.clone(),
        _ => match parse(manifest) {
            Ok(Manifest::Image(ImageManifest { media_type: Some(known), .. })) => known,
            _ => MediaType::OciManifest,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{BytesBlob, ImageBuilder, ImageFormat, Timestamp, TreeBlob};

    fn tree(platform: Platform) -> ImageTree {
        let image = ImageBuilder::from_scratch(platform, ImageFormat::Oci)
            .finish(Timestamp::from_seconds(0).unwrap());
        let Ok(Manifest::Image(manifest)) = Manifest::parse(&image.manifest().bytes, None) else {
            unreachable!("it was made as an image")
        };
        let source = Arc::new(BytesBlob::new(image.config_bytes()));
        ImageTree {
            root: image.manifest().clone(),
            beneath: Vec::new(),
            referrers: Vec::new(),
            blobs: vec![TreeBlob { descriptor: manifest.config, source }],
        }
    }

    fn on(platform: &str) -> ImageTree {
        tree(platform.parse().unwrap())
    }

    /// The platforms of the joined index, or why there is none.
    fn join(images: Vec<(&str, ImageTree)>) -> Result<(ImageTree, Vec<String>), String> {
        let images = images.into_iter().map(|(name, tree)| (name.to_owned(), tree)).collect();
        let joined = ImageTree::join(images, BTreeMap::new())
            .map_err(|error| format!("{error}: {}", error.source))?;
        let Ok(Manifest::Index(index)) = parse(&joined.root) else {
            unreachable!("it was made as an index")
        };
        let platforms = index
            .manifests
            .iter()
            .map(|entry| entry.platform.as_ref().map_or_else(String::new, Platform::to_string));
        Ok((joined.clone(), platforms.collect()))
    }

    #[test]
    fn the_index_lists_images_in_order_with_the_platforms_of_their_configs() {
        let images =
            || vec![("a", on("linux/arm/v6")), ("b", on("linux/amd64")), ("c", on("linux/arm/v7"))];
        let (joined, platforms) = join(images()).unwrap();
        assert_eq!(platforms, ["linux/arm/v6", "linux/amd64", "linux/arm/v7"]);
        assert_eq!((joined.beneath.len(), joined.blobs.len()), (3, 3));
        assert_eq!(join(images()).unwrap().0.root, joined.root, "the same again");
    }

    #[test]
    fn an_index_among_the_images_is_taken_apart() {
        let (inner, _) = join(vec![("a", on("linux/arm64")), ("b", on("linux/amd64"))]).unwrap();
        let (joined, platforms) = join(vec![("i", inner), ("c", on("linux/s390x"))]).unwrap();
        assert_eq!(platforms, ["linux/arm64", "linux/amd64", "linux/s390x"]);
        assert_eq!(joined.beneath.len(), 3, "the inner index is gone");
    }

    #[test]
    fn two_images_of_one_platform_and_images_of_none_are_refused() {
        let error = join(vec![("a", on("linux/arm64")), ("b", on("linux/arm64/v8"))]).unwrap_err();
        let expected = "`b` cannot be a part of the index: it is for linux/arm64, and so is `a`";
        assert_eq!(error, expected);
        let nowhere = Platform { architecture: String::new(), ..Platform::linux("amd64") };
        let error = join(vec![("a", tree(nowhere))]).unwrap_err();
        assert!(error.ends_with("its config does not say what it runs on"), "{error}");
    }

    #[test]
    fn annotations_are_those_of_the_index() {
        let annotations = BTreeMap::from([("a.b".to_owned(), "c".to_owned())]);
        let joined = ImageTree::join(vec![("x".into(), on("linux/amd64"))], annotations).unwrap();
        let text = String::from_utf8(joined.root.bytes).unwrap();
        assert!(text.starts_with(r#"{"annotations":{"a.b":"c"},"manifests""#), "{text}");
    }
}
