//! A whole image: config, layers, and the manifest that binds them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::manifest::{Descriptor, ImageManifest, Manifest, ManifestBytes};
use crate::{
    BlobSource, DiffId, Digest, ImageConfig, ImageFormat, LayerCompression, ManifestError,
    MediaType,
};

/// One layer: its names and a way to read it.
#[derive(Clone)]
pub struct Layer {
    /// The blob as it is stored.
    pub descriptor: Descriptor,
    /// The tar stream inside the blob.
    pub diff_id: DiffId,
    /// Where the blob's bytes come from.
    pub blob: Arc<dyn BlobSource>,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layer")
            .field("descriptor", &self.descriptor)
            .field("diff_id", &self.diff_id)
            .finish_non_exhaustive()
    }
}

/// A config and its layers. Immutable; [`ImageBuilder`](crate::ImageBuilder) makes new ones.
#[derive(Debug, Clone)]
pub struct Image {
    config: ImageConfig,
    config_bytes: Vec<u8>,
    layers: Vec<Layer>,
    format: ImageFormat,
    manifest: ManifestBytes,
}

/// Manifest, config and layers do not belong together.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ImageError {
    #[error("cannot read the manifest")]
    Manifest { source: ManifestError },
    #[error("the manifest is an index of images, not an image")]
    IsIndex,
    #[error("the config blob is {actual}, and the manifest wants {expected}")]
    ConfigDigest { expected: Digest, actual: Digest },
    #[error("`{media_type}` is not the config of a container image")]
    ConfigType { media_type: MediaType },
    #[error("the config is not valid JSON of its kind")]
    Config { source: serde_json::Error },
    #[error("the manifest lists {layers} layers, and the config {diff_ids}")]
    LayerCount { layers: usize, diff_ids: usize },
}

/// A layer has no media type of the family that was asked for.
#[derive(Debug, thiserror::Error)]
#[error(
    "a layer of the base is of the type `{media_type}`, for which images of the kind {format:?} have no name"
)]
pub struct FormatError {
    media_type: MediaType,
    format: ImageFormat,
}

impl FormatError {
    /// What the user can do about it.
    pub const HINT: &'static str =
        "leave `--image-format` out, or start from a base whose layers are stored with gzip";
}

impl Image {
    /// Puts together an image that was made here; the manifest is derived from the parts.
    pub(crate) fn made(config: ImageConfig, layers: Vec<Layer>, format: ImageFormat) -> Self {
        let config_bytes = config.to_bytes();
        Self::with_manifest(config, config_bytes, layers, format, BTreeMap::new())
    }

    /// Derives the manifest from the other parts.
    fn with_manifest(
        config: ImageConfig,
        config_bytes: Vec<u8>,
        layers: Vec<Layer>,
        format: ImageFormat,
        annotations: BTreeMap<String, String>,
    ) -> Self {
        let size = config_bytes.len() as u64;
        let manifest = ImageManifest {
            schema_version: 2,
            media_type: Some(format.manifest()),
            config: Descriptor::new(format.config(), Digest::of(&config_bytes), size),
            layers: layers.iter().map(|layer| layer.descriptor.clone()).collect(),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
        };
        let bytes = canonical_json(&manifest);
        let digest = Digest::of(&bytes);
        let manifest = ManifestBytes { media_type: format.manifest(), bytes, digest };
        Self { config, config_bytes, layers, format, manifest }
    }

    /// Puts together an image that was received: manifest and config bytes stay as they came.
    ///
    /// `blob` is asked once for every layer, from the bottom up.
    ///
    /// # Errors
    ///
    /// Fails where the parts contradict each other. The digest of the manifest itself is the
    /// caller's to verify, who knows what was asked for.
    pub fn received(
        manifest: ManifestBytes,
        config_bytes: Vec<u8>,
        mut blob: impl FnMut(&Descriptor) -> Arc<dyn BlobSource>,
    ) -> Result<Self, ImageError> {
        let parsed = Manifest::parse(&manifest.bytes, Some(&manifest.media_type))
            .map_err(|source| ImageError::Manifest { source })?;
        let Manifest::Image(parsed) = parsed else { return Err(ImageError::IsIndex) };
        let format = match parsed.config.media_type {
            MediaType::DockerConfig => ImageFormat::Docker,
            MediaType::OciConfig => ImageFormat::Oci,
            media_type => return Err(ImageError::ConfigType { media_type }),
        };
        let actual = Digest::of(&config_bytes);
        if actual != parsed.config.digest {
            return Err(ImageError::ConfigDigest { expected: parsed.config.digest, actual });
        }
        let config =
            ImageConfig::parse(&config_bytes).map_err(|source| ImageError::Config { source })?;
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != parsed.layers.len() {
            return Err(ImageError::LayerCount {
                layers: parsed.layers.len(),
                diff_ids: diff_ids.len(),
            });
        }
        let layers = std::iter::zip(parsed.layers, diff_ids)
            .map(|(descriptor, &diff_id)| {
                let blob = blob(&descriptor);
                Layer { descriptor, diff_id, blob }
            })
            .collect();
        Ok(Self { config, config_bytes, layers, format, manifest })
    }

    /// The same image with these annotations in its manifest, and no others. Without any, the image stays as it is.
    #[must_use]
    pub fn annotated(self, annotations: BTreeMap<String, String>) -> Self {
        if annotations.is_empty() {
            return self;
        }
        let Self { config, config_bytes, layers, format, .. } = self;
        Self::with_manifest(config, config_bytes, layers, format, annotations)
    }

    /// The same config and the same blobs under the media types of `format`.
    ///
    /// # Errors
    ///
    /// Fails where a layer has no media type of that family.
    pub fn in_format(&self, format: ImageFormat) -> Result<Self, FormatError> {
        let layers = self.layers.iter().map(|layer| {
            let mut layer = layer.clone();
            let given = layer.descriptor.media_type;
            layer.descriptor.media_type = match (given.in_format(format), format) {
                (MediaType::OciLayer(_), ImageFormat::Oci) => given.in_format(format),
                // What Docker's tools read; `….tar.zstd` is BuildKit's alone.
                (MediaType::DockerLayer(kind), ImageFormat::Docker)
                    if kind != LayerCompression::Zstd =>
                {
                    given.in_format(format)
                }
                _ => return Err(FormatError { media_type: given, format }),
            };
            Ok(layer)
        });
        let layers = layers.collect::<Result<_, _>>()?;
        let (config, bytes) = (self.config.clone(), self.config_bytes.clone());
        Ok(Self::with_manifest(config, bytes, layers, format, BTreeMap::new()))
    }

    /// The same image, with its blobs read from somewhere else.
    #[must_use]
    pub fn with_blobs(mut self, mut blob: impl FnMut(&Layer) -> Arc<dyn BlobSource>) -> Self {
        for layer in &mut self.layers {
            layer.blob = blob(layer);
        }
        self
    }

    /// The config.
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The config blob.
    pub fn config_bytes(&self) -> &[u8] {
        &self.config_bytes
    }

    /// The digest of the config blob, which Docker calls the image id.
    pub fn config_digest(&self) -> Digest {
        Digest::of(&self.config_bytes)
    }

    /// The layers from the bottom up.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Whether config and manifest have Docker's or OCI's media types.
    pub fn format(&self) -> ImageFormat {
        self.format
    }

    /// The manifest, ready to be stored.
    pub fn manifest(&self) -> &ManifestBytes {
        &self.manifest
    }

    /// The name of the image: the digest of its manifest.
    pub fn digest(&self) -> Digest {
        self.manifest.digest
    }
}

/// JSON with sorted keys and no white space, so that equal values have equal digests.
pub(crate) fn canonical_json<T: Serialize>(value: &T) -> Vec<u8> {
    // Through `Value`, whose objects are `BTreeMap`s: a struct alone would keep field order, and
    // flattened unknown keys would come last.
    let sorted: BTreeMap<String, serde_json::Value> = serde_json::to_value(value)
        .ok()
        .and_then(|value| match value {
            serde_json::Value::Object(object) => Some(object.into_iter().collect()),
            _ => None,
        })
        .expect("the models are structs of strings, numbers and string-keyed maps");
    serde_json::to_vec(&sorted).expect("a JSON value can be written to memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BytesBlob, ImageBuilder, LayerCompression, Platform, Timestamp};

    fn built() -> Image {
        let bytes = b"not really a tar".to_vec();
        let layer = Layer {
            descriptor: Descriptor::new(
                ImageFormat::Oci.layer(LayerCompression::None),
                Digest::of(&bytes),
                bytes.len() as u64,
            ),
            diff_id: DiffId::of(&bytes),
            blob: Arc::new(BytesBlob::new(bytes)),
        };
        ImageBuilder::from_scratch(Platform::linux("amd64"), ImageFormat::Oci)
            .layer(layer, "COPY x /x # buildkit")
            .finish(Timestamp::from_seconds(1_600_000_000).unwrap())
    }

    #[test]
    fn an_image_read_back_is_the_same_image() {
        let image = built();
        let blob = Arc::clone(&image.layers()[0].blob);
        let again =
            Image::received(image.manifest().clone(), image.config_bytes().to_vec(), |_| {
                Arc::clone(&blob)
            })
            .unwrap();
        assert_eq!(again.digest(), image.digest());
        assert_eq!(again.config(), image.config());
    }

    #[test]
    fn annotations_are_in_the_manifest_and_none_changes_nothing() {
        let image = built();
        assert_eq!(image.clone().annotated(BTreeMap::new()).digest(), image.digest());
        let annotated = image.clone().annotated([("a".to_owned(), "b".to_owned())].into());
        assert_eq!(annotated.config_digest(), image.config_digest());
        let manifest: serde_json::Value =
            serde_json::from_slice(&annotated.manifest().bytes).unwrap();
        assert_eq!(manifest["annotations"], serde_json::json!({"a": "b"}));
    }

    #[test]
    fn another_format_changes_media_types_and_no_blob() {
        let image = built();
        let docker = image.in_format(ImageFormat::Docker).unwrap();
        let types = |image: &Image| {
            let manifest: serde_json::Value =
                serde_json::from_slice(&image.manifest().bytes).unwrap();
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            [
                &manifest["mediaType"],
                &manifest["config"]["mediaType"],
                &manifest["layers"][0]["mediaType"],
            ]
            .map(text)
        };
        assert_eq!(
            types(&docker),
            [
                "application/vnd.docker.distribution.manifest.v2+json",
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar",
            ]
        );
        assert_eq!(docker.config_bytes(), image.config_bytes());
        assert_eq!(docker.layers()[0].descriptor.digest, image.layers()[0].descriptor.digest);
        assert_eq!(docker.in_format(ImageFormat::Oci).unwrap().digest(), image.digest());
    }

    #[test]
    fn a_layer_that_the_other_format_has_no_name_for_is_an_error() {
        for (media_type, format) in [
            (ImageFormat::Oci.layer(LayerCompression::Zstd), ImageFormat::Docker),
            (MediaType::parse("application/x"), ImageFormat::Oci),
            (
                MediaType::parse("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
                ImageFormat::Oci,
            ),
        ] {
            let mut image = built();
            image.layers[0].descriptor.media_type = media_type.clone();
            let error = image.in_format(format).unwrap_err().to_string();
            assert!(error.contains(&media_type.to_string()), "{error}");
        }
    }

    #[test]
    fn a_config_of_another_image_is_refused() {
        let image = built();
        let blob = Arc::clone(&image.layers()[0].blob);
        let other = ImageConfig::scratch(Platform::linux("arm64")).to_bytes();
        let error =
            Image::received(image.manifest().clone(), other, |_| Arc::clone(&blob)).unwrap_err();
        assert!(matches!(error, ImageError::ConfigDigest { .. }), "{error}");
    }

    #[test]
    fn the_oci_crate_reads_what_we_write() {
        let image = built();
        let manifest =
            oci_spec::image::ImageManifest::from_reader(&image.manifest().bytes[..]).unwrap();
        assert_eq!(manifest.config().digest().to_string(), image.config_digest().to_string());
        let config =
            oci_spec::image::ImageConfiguration::from_reader(image.config_bytes()).unwrap();
        assert_eq!(config.rootfs().diff_ids(), &[image.layers()[0].diff_id.to_string()]);
        assert_eq!(config.created().as_deref(), Some("2020-09-13T12:26:40Z"));
    }
}
