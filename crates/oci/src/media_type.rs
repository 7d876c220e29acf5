//! Media types of manifests, configs and layers.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a blob is. Types that this program has no use for are kept as they came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the specifications'")]
pub enum MediaType {
    OciManifest,
    OciIndex,
    OciConfig,
    OciLayer(LayerCompression),
    DockerManifest,
    DockerManifestList,
    DockerConfig,
    /// Docker's type for a gzip layer, and, by convention of BuildKit, `….tar` and `….tar.zstd`.
    DockerLayer(LayerCompression),
    /// A layer whose bytes are fetched from foreign URLs (Windows bases).
    ForeignLayer(String),
    Other(String),
}

/// How a layer's tar stream is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the formats'")]
pub enum LayerCompression {
    None,
    Gzip,
    Zstd,
}

/// The two families of manifests. They carry the same information under other media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the specifications'")]
pub enum ImageFormat {
    Docker,
    Oci,
}

const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

impl ImageFormat {
    /// The media type of this family's image manifest.
    pub fn manifest(self) -> MediaType {
        match self {
            Self::Docker => MediaType::DockerManifest,
            Self::Oci => MediaType::OciManifest,
        }
    }

    /// The media type of this family's image config.
    pub fn config(self) -> MediaType {
        match self {
            Self::Docker => MediaType::DockerConfig,
            Self::Oci => MediaType::OciConfig,
        }
    }

    /// The media type of this family's layers.
    pub fn layer(self, compression: LayerCompression) -> MediaType {
        match self {
            Self::Docker => MediaType::DockerLayer(compression),
            Self::Oci => MediaType::OciLayer(compression),
        }
    }
}

impl MediaType {
    /// Reads a media type; parameters such as `; charset=utf-8` are dropped.
    pub fn parse(text: &str) -> Self {
        let text = text.split(';').next().unwrap_or(text).trim();
        match text {
            "application/vnd.oci.image.manifest.v1+json" => Self::OciManifest,
            "application/vnd.oci.image.index.v1+json" => Self::OciIndex,
            "application/vnd.oci.image.config.v1+json" => Self::OciConfig,
            "application/vnd.docker.distribution.manifest.v2+json" => Self::DockerManifest,
            "application/vnd.docker.distribution.manifest.list.v2+json" => Self::DockerManifestList,
            "application/vnd.docker.container.image.v1+json" => Self::DockerConfig,
            _ => Self::layer(text).unwrap_or_else(|| Self::Other(text.into())),
        }
    }

    fn layer(text: &str) -> Option<Self> {
        if text.contains(".foreign.") || text.contains(".nondistributable.") {
            return Some(Self::ForeignLayer(text.into()));
        }
        if let Some(suffix) = text.strip_prefix(OCI_LAYER) {
            return Some(Self::OciLayer(match suffix {
                "" => LayerCompression::None,
                "+gzip" => LayerCompression::Gzip,
                "+zstd" => LayerCompression::Zstd,
                _ => return None,
            }));
        }
        Some(Self::DockerLayer(match text.strip_prefix(DOCKER_LAYER)? {
            "" => LayerCompression::None,
            ".gzip" => LayerCompression::Gzip,
            ".zstd" => LayerCompression::Zstd,
            _ => return None,
        }))
    }

    /// The media type of the same layer in an image of family `format`; anything else stays as it is.
    #[must_use]
    pub fn in_format(&self, format: ImageFormat) -> Self {
        match self {
            Self::OciLayer(compression) | Self::DockerLayer(compression) => {
                format.layer(*compression)
            }
            other => other.clone(),
        }
    }

    /// Whether this names a list of manifests rather than one.
    pub fn is_index(&self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerManifestList)
    }

    /// Whether this names the manifest of one image.
    pub fn is_image_manifest(&self) -> bool {
        matches!(self, Self::OciManifest | Self::DockerManifest)
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OciManifest => "application/vnd.oci.image.manifest.v1+json",
            Self::OciIndex => "application/vnd.oci.image.index.v1+json",
            Self::OciConfig => "application/vnd.oci.image.config.v1+json",
            Self::DockerManifest => "application/vnd.docker.distribution.manifest.v2+json",
            Self::DockerManifestList => "application/vnd.docker.distribution.manifest.list.v2+json",
            Self::DockerConfig => "application/vnd.docker.container.image.v1+json",
            Self::OciLayer(LayerCompression::None) => OCI_LAYER,
            Self::OciLayer(LayerCompression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::OciLayer(LayerCompression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::DockerLayer(LayerCompression::None) => DOCKER_LAYER,
            Self::DockerLayer(LayerCompression::Gzip) => {
                "application/vnd.docker.image.rootfs.diff.tar.gzip"
            }
            Self::DockerLayer(LayerCompression::Zstd) => {
                "application/vnd.docker.image.rootfs.diff.tar.zstd"
            }
            Self::ForeignLayer(text) | Self::Other(text) => text,
        })
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::parse(&String::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_prints_as_it_was_read() {
        for text in [
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.docker.distribution.manifest.v2+json",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "application/vnd.docker.container.image.v1+json",
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.diff.tar.zstd",
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "text/plain",
        ] {
            assert_eq!(MediaType::parse(text).to_string(), text);
        }
    }

    #[test]
    fn parameters_are_dropped() {
        let with_charset = "application/vnd.oci.image.index.v1+json; charset=utf-8";
        assert_eq!(MediaType::parse(with_charset), MediaType::OciIndex);
    }
}
