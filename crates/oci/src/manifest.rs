//! Manifests and indexes: what a registry stores under a tag.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Digest, MediaType, Platform};

/// A blob: what it is, its name and its size in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are the OCI image specification's (descriptor.md)")]
pub struct Descriptor {
    pub media_type: MediaType,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Keys that the model does not know, kept as they came.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl Descriptor {
    /// A descriptor with nothing optional in it.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self { media_type, digest, size, platform: None, annotations: None, extra: BTreeMap::new() }
    }

    /// Whether this index entry is an attestation of BuildKit and not an image.
    pub(crate) fn is_attestation(&self) -> bool {
        let is_marked = self
            .annotations
            .as_ref()
            .is_some_and(|annotations| annotations.contains_key("vnd.docker.reference.type"));
        let is_unknown = self
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "unknown" && platform.architecture == "unknown");
        is_marked || is_unknown
    }
}

/// The manifest of one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are the OCI image specification's (manifest.md)")]
pub struct ImageManifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    pub config: Descriptor,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// A list of manifests, usually one for each platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the names are the OCI image specification's (image-index.md)")]
pub struct ImageIndex {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Go writes an empty slice that was never filled as `null`.
pub(crate) fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// What stands behind a tag or digest.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it is taken apart at once"
)]
pub enum Manifest {
    /// One image.
    Image(ImageManifest),
    /// A choice of images.
    Index(ImageIndex),
}

/// A manifest exactly as it is stored, with the name those bytes have.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ManifestBytes {
    pub media_type: MediaType,
    pub bytes: Vec<u8>,
    pub digest: Digest,
}

impl ManifestBytes {
    /// The digest of the manifest that this one says it is about: documents and signatures have a `subject`.
    pub fn subject(&self) -> Result<Option<Digest>, ManifestError> {
        #[derive(Deserialize)]
        struct About {
            subject: Option<Subject>,
        }
        #[derive(Deserialize)]
        struct Subject {
            digest: Digest,
        }
        let about: About =
            serde_json::from_slice(&self.bytes).map_err(|source| ManifestError::Json { source })?;
        Ok(about.subject.map(|subject| subject.digest))
    }
}

/// Bytes are not a manifest that this program reads.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ManifestError {
    #[error("the manifest is not valid JSON of its kind")]
    Json { source: serde_json::Error },
    #[error(
        "the manifest has both `layers` and `manifests`, so that two readers may see two images"
    )]
    Ambiguous,
    #[error("the registry called the manifest `{header}`, and the manifest calls itself `{body}`")]
    Mismatch { header: MediaType, body: MediaType },
    #[error("schema version {version} is not supported (only 2 is)")]
    SchemaVersion { version: u64 },
    #[error("`{media_type}` is neither an image manifest nor an index")]
    MediaType { media_type: MediaType },
}

impl Manifest {
    /// Reads a manifest or an index. `content_type` is what the sender called it, if it did.
    ///
    /// Documents that could be read both as manifest and as index are refused, and so is a
    /// content type that contradicts the document (CVE-2021-41190).
    pub fn parse(bytes: &[u8], content_type: Option<&MediaType>) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Outline {
            schema_version: Option<u64>,
            media_type: Option<MediaType>,
            layers: Option<serde::de::IgnoredAny>,
            manifests: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
            fs_layers: Option<serde::de::IgnoredAny>,
        }
        let json = |source| ManifestError::Json { source };
        let outline: Outline = serde_json::from_slice(bytes).map_err(json)?;
        match outline.schema_version {
            Some(2) => {}
            version => {
                return Err(ManifestError::SchemaVersion { version: version.unwrap_or_default() });
            }
        }
        let is_image = outline.layers.is_some() || outline.config.is_some();
        if outline.fs_layers.is_some() || is_image && outline.manifests.is_some() {
            return Err(ManifestError::Ambiguous);
        }
        // Registries answer `application/json` or nothing for manifests they do not know.
        let header = content_type
            .filter(|media_type| media_type.is_index() || media_type.is_image_manifest());
        if let (Some(header), Some(body)) = (header, &outline.media_type)
            && header != body
        {
            return Err(ManifestError::Mismatch { header: header.clone(), body: body.clone() });
        }
        let kind = match outline.media_type.as_ref().or(header) {
            Some(media_type) => media_type.clone(),
            None if outline.manifests.is_some() => MediaType::OciIndex,
            None => MediaType::OciManifest,
        };
        if kind.is_index() && !is_image {
            serde_json::from_slice(bytes).map(Self::Index).map_err(json)
        } else if kind.is_image_manifest() && outline.manifests.is_none() {
            serde_json::from_slice(bytes).map(Self::Image).map_err(json)
        } else if kind.is_index() || kind.is_image_manifest() {
            Err(ManifestError::Ambiguous)
        } else {
            Err(ManifestError::MediaType { media_type: kind })
        }
    }
}

/// An index has no image for the platform that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message names every field")]
#[error("no image for {wanted}; there is {}", list(available))]
pub struct NoPlatform {
    pub wanted: Platform,
    pub available: Vec<Platform>,
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "none at all".into();
    }
    platforms.iter().map(Platform::to_string).collect::<Vec<_>>().join(", ")
}

impl ImageIndex {
    /// The entry that runs best on `wanted`; of two that are equally good, the first.
    ///
    /// Attestations are no images and are never chosen. An entry without a platform fits only
    /// where it is the single image of the index.
    pub fn select(&self, wanted: &Platform) -> Result<&Descriptor, NoPlatform> {
        let images: Vec<&Descriptor> =
            self.manifests.iter().filter(|entry| !entry.is_attestation()).collect();
        if let [single] = images[..]
            && single.platform.is_none()
        {
            return Ok(single);
        }
        images
            .iter()
            .filter_map(|entry| Some((entry.platform.as_ref()?.distance(wanted)?, entry)))
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, entry)| *entry)
            .ok_or_else(|| NoPlatform {
                wanted: wanted.clone(),
                available: images.iter().filter_map(|entry| entry.platform.clone()).collect(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[track_caller]
    fn check(json: &str, content_type: Option<&str>, expected: &str) {
        let content_type = content_type.map(MediaType::parse);
        let actual = match Manifest::parse(json.as_bytes(), content_type.as_ref()) {
            Ok(Manifest::Image(image)) => format!("image with {} layers", image.layers.len()),
            Ok(Manifest::Index(index)) => format!("index of {}", index.manifests.len()),
            Err(error) => format!("refused: {error}"),
        };
        assert_eq!(actual, expected, "{json}");
    }

    fn config() -> String {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{DIGEST}","size":2}}"#
        )
    }

    #[test]
    fn a_manifest_without_a_media_type_is_known_by_its_fields() {
        check(
            &format!(r#"{{"schemaVersion":2,"config":{},"layers":null}}"#, config()),
            None,
            "image with 0 layers",
        );
        check(r#"{"schemaVersion":2,"manifests":[]}"#, None, "index of 0");
    }

    #[test]
    fn a_document_with_two_readings_is_refused() {
        let ambiguous = "refused: the manifest has both `layers` and `manifests`, so that two readers may see two images";
        let both =
            format!(r#"{{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}}"#, config());
        check(&both, None, ambiguous);
        check(&both, Some("application/vnd.oci.image.index.v1+json"), ambiguous);
        let image = format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, config());
        check(&image, Some("application/vnd.oci.image.index.v1+json"), ambiguous);
    }

    #[test]
    fn a_content_type_that_contradicts_the_document_is_refused() {
        let index = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        check(
            index,
            Some("application/vnd.docker.distribution.manifest.list.v2+json"),
            "refused: the registry called the manifest `application/vnd.docker.distribution.manifest.list.v2+json`, and the manifest calls itself `application/vnd.oci.image.index.v1+json`",
        );
        check(index, Some("application/json"), "index of 0");
    }

    #[test]
    fn schema_1_is_refused_by_its_number() {
        check(
            r#"{"schemaVersion":1,"fsLayers":[]}"#,
            None,
            "refused: schema version 1 is not supported (only 2 is)",
        );
    }

    fn index(platforms: &[&str]) -> ImageIndex {
        let entry = |text: &&str| {
            let digest = Digest::of(text.as_bytes());
            let mut entry = Descriptor::new(MediaType::OciManifest, digest, 1);
            let (os, rest) = text.split_once('/').unwrap();
            entry.platform = Some(Platform {
                os: os.into(),
                architecture: rest.into(),
                os_version: None,
                variant: None,
            });
            if let Some((architecture, variant)) = rest.split_once('/') {
                let platform = entry.platform.as_mut().unwrap();
                platform.architecture = architecture.into();
                platform.variant = Some(variant.into());
            }
            entry
        };
        ImageIndex {
            schema_version: 2,
            media_type: None,
            manifests: platforms.iter().map(entry).collect(),
            annotations: None,
        }
    }

    #[track_caller]
    fn check_choice(platforms: &[&str], wanted: &str, expected: &str) {
        let index = index(platforms);
        let actual = match index.select(&wanted.parse().unwrap()) {
            Ok(entry) => entry.platform.as_ref().unwrap().to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected, "{wanted} of {platforms:?}");
    }

    #[test]
    fn the_nearest_variant_is_chosen() {
        let arms = ["linux/arm/v5", "linux/arm/v6", "linux/arm64/v8", "linux/amd64"];
        check_choice(&arms, "linux/arm/v7", "linux/arm/v6");
        check_choice(&arms, "linux/arm64", "linux/arm64/v8");
        check_choice(&arms, "linux/amd64", "linux/amd64");
        check_choice(
            &arms,
            "linux/s390x",
            "no image for linux/s390x; there is linux/arm/v5, linux/arm/v6, linux/arm64/v8, linux/amd64",
        );
    }

    #[test]
    fn an_attestation_is_no_image() {
        check_choice(
            &["unknown/unknown"],
            "linux/amd64",
            "no image for linux/amd64; there is none at all",
        );
    }
}
