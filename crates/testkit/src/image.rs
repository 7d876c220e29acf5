//! One image as different tools show it, for comparison.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::command::capture;

/// What identifies an image wherever it is kept: the bytes of its config and the digests of its layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// The config, byte for byte.
    pub config: Vec<u8>,
    /// The layers' digests as they are stored, base first.
    pub layers: Vec<String>,
    /// The manifest, byte for byte; a docker archive has none.
    pub manifest: Option<Vec<u8>>,
    /// The manifest's digest.
    pub manifest_digest: Option<String>,
}

impl ImageFacts {
    /// From the bytes of a manifest and of the config that it names.
    ///
    /// # Errors
    ///
    /// Fails if the manifest is not one image's, or does not name this config.
    pub fn from_manifest_and_config(manifest: Vec<u8>, config: Vec<u8>) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_slice(&manifest).context("the manifest is not JSON")?;
        let config_digest =
            value["config"]["digest"].as_str().context("the manifest names no config")?;
        ensure!(
            config_digest == digest(&config),
            "the manifest names the config {config_digest}, not {}",
            digest(&config)
        );
        let layers = match &value["layers"] {
            // BuildKit's list of no layers.
            Value::Null => &[][..],
            other => other.as_array().context("the manifest has no layers")?,
        };
        let layers = layers.iter().map(|layer| layer["digest"].as_str().map(str::to_owned));
        let layers = layers.collect::<Option<_>>().context("a layer has no digest")?;
        Ok(Self {
            config,
            layers,
            manifest_digest: Some(digest(&manifest)),
            manifest: Some(manifest),
        })
    }

    /// From a docker archive with one image, read with GNU tar.
    pub fn from_docker_archive(archive: &Path) -> anyhow::Result<Self> {
        let dir = crate::scratch_dir("archive-")?;
        capture(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(dir.path()))?;
        let read = |name: &str| {
            std::fs::read(dir.path().join(name))
                .with_context(|| format!("no `{name}` in the archive"))
        };
        let manifest: Value = serde_json::from_slice(&read("manifest.json")?)?;
        let images = manifest.as_array().context("manifest.json is not a list")?;
        ensure!(images.len() == 1, "the archive holds {} images", images.len());
        let config = read(images[0]["Config"].as_str().context("the archive names no config")?)?;
        let names = images[0]["Layers"].as_array().context("the archive lists no layers")?;
        let layers = names
            .iter()
            .map(|name| Ok(digest(&read(name.as_str().context("a layer has no name")?)?)));
        Ok(Self {
            config,
            layers: layers.collect::<anyhow::Result<_>>()?,
            manifest: None,
            manifest_digest: None,
        })
    }

    /// From an OCI layout directory with one image. Every blob's digest is checked.
    pub fn from_oci_layout(dir: &Path) -> anyhow::Result<Self> {
        let index: Value = serde_json::from_slice(&std::fs::read(dir.join("index.json"))?)?;
        let manifests = index["manifests"].as_array().context("the index lists nothing")?;
        ensure!(manifests.len() == 1, "the layout holds {} images", manifests.len());
        let blob = |name: &Value| {
            let name = name.as_str().context("a digest is missing")?;
            let bytes = std::fs::read(dir.join("blobs").join(name.replace(':', "/")))
                .with_context(|| format!("no blob {name} in the layout"))?;
            ensure!(digest(&bytes) == name, "the blob {name} has other content");
            Ok(bytes)
        };
        let manifest = blob(&manifests[0]["digest"])?;
        let value: Value = serde_json::from_slice(&manifest)?;
        for layer in value["layers"].as_array().into_iter().flatten() {
            blob(&layer["digest"])?;
        }
        Self::from_manifest_and_config(manifest, blob(&value["config"]["digest"])?)
    }

    /// The config as JSON.
    ///
    /// # Panics
    ///
    /// Panics if it is not JSON.
    #[track_caller]
    pub fn config_json(&self) -> Value {
        match serde_json::from_slice(&self.config) {
            Ok(value) => value,
            Err(error) => panic!("the config is not JSON: {error}"),
        }
    }

    /// The config's digest, which docker calls the image's id.
    pub fn config_digest(&self) -> String {
        digest(&self.config)
    }
}

/// Checks that all are one image: the same config, byte for byte, and the same layers.
///
/// # Panics
///
/// Panics naming the first two places that differ.
#[track_caller]
pub fn assert_same_image(places: &[(&str, &ImageFacts)]) {
    let Some(((first_name, first), others)) = places.split_first() else { return };
    for (name, other) in others {
        let text = |facts: &ImageFacts| String::from_utf8_lossy(&facts.config).into_owned();
        assert_eq!(text(first), text(other), "the configs of `{first_name}` and `{name}` differ");
        assert_eq!(first.layers, other.layers, "the layers of `{first_name}` and `{name}` differ");
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_and_registry_agree_on_an_image() {
        let base = crate::base::busybox().unwrap();
        let registry = crate::Registry::builder().start().unwrap();
        registry.push(&base.source(), "x:1", "oci").unwrap();
        let layout = ImageFacts::from_oci_layout(&base.layout()).unwrap();
        assert_same_image(&[("layout", &layout), ("registry", &registry.image("x:1").unwrap())]);
        assert_eq!(layout.config_json()["os"], "linux");
    }

    #[test]
    fn a_docker_archive_that_skopeo_wrote_is_read() {
        let base = crate::base::busybox().unwrap();
        let dir = crate::scratch_dir("archive-").unwrap();
        let archive = dir.path().join("image.tar");
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy"]).arg(base.source());
        capture(skopeo.arg(format!("docker-archive:{}", archive.display()))).unwrap();
        let facts = ImageFacts::from_docker_archive(&archive).unwrap();
        // skopeo stores the layer uncompressed, so its digest is the diff id.
        assert_eq!(facts.layers[0], facts.config_json()["rootfs"]["diff_ids"][0].as_str().unwrap());
    }

    #[test]
    fn a_blob_with_other_content_is_refused() {
        let base = crate::base::busybox().unwrap();
        let dir = crate::scratch_dir("layout-").unwrap();
        capture(Command::new("cp").args(["-a"]).arg(base.layout()).arg(dir.path().join("copy")))
            .unwrap();
        let layout = dir.path().join("copy");
        let layer = ImageFacts::from_oci_layout(&layout).unwrap().layers[0].replace(':', "/");
        std::fs::write(layout.join("blobs").join(layer), "other").unwrap();
        let error = ImageFacts::from_oci_layout(&layout).unwrap_err().to_string();
        assert!(error.ends_with("has other content"), "{error}");
    }
}
