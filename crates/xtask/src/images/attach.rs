//! Documents about an image, in the layout of the image.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// Adds a document to an OCI layout, as an artifact whose subject is the image with this digest.
///
/// That is how registries and their clients find documents of an image: the artifact is an image manifest without a config,
/// has a type, and is listed in `index.json` without a name.
pub(super) fn attach(
    layout: &Path,
    subject: &str,
    name: &str,
    media_type: &str,
    document: &[u8],
    annotations: &Value,
) -> anyhow::Result<()> {
    let mut index = read(&layout.join("index.json"))?;
    let entries = index["manifests"].as_array_mut().context("`index.json` lists nothing")?;
    let image = entries.iter().find(|entry| entry["digest"] == subject);
    let image = image.with_context(|| format!("the layout has no image {subject}"))?;
    let subject =
        json!({"mediaType": image["mediaType"], "digest": image["digest"], "size": image["size"]});
    let mut layer = write_blob(layout, media_type, document)?;
    layer["annotations"] = json!({"org.opencontainers.image.title": name});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": media_type,
        "config": write_blob(layout, EMPTY, b"{}")?,
        "layers": [layer],
        "subject": subject,
        "annotations": annotations,
    });
    let mut entry = write_blob(layout, MANIFEST, &serde_json::to_vec(&manifest)?)?;
    entry["artifactType"] = json!(media_type);
    entry["annotations"] = annotations.clone();
    entries.push(entry);
    let path = layout.join("index.json");
    std::fs::write(&path, serde_json::to_vec(&index)?)
        .with_context(|| format!("cannot write `{}`", path.display()))
}

/// The digest and the manifest of the only image in a layout.
pub(super) fn only_manifest(layout: &Path) -> anyhow::Result<(String, Value)> {
    let index = read(&layout.join("index.json"))?;
    let entries = index["manifests"].as_array().context("`index.json` lists nothing")?;
    ensure!(entries.len() == 1, "the layout has {} images", entries.len());
    let digest = entries[0]["digest"].as_str().context("an entry has no digest")?;
    let manifest = read(&layout.join("blobs").join(digest.replace(':', "/")))?;
    Ok((digest.to_owned(), manifest))
}

pub(super) fn read(path: &Path) -> anyhow::Result<Value> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("`{}` is not JSON", path.display()))
}

/// Writes a blob and returns its descriptor.
pub(super) fn write_blob(layout: &Path, media_type: &str, bytes: &[u8]) -> anyhow::Result<Value> {
    let digest = digest(bytes);
    let path = layout.join("blobs").join(digest.replace(':', "/"));
    std::fs::write(&path, bytes).with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
}

pub(super) fn digest(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use testkit::command::capture;

    use super::*;

    #[test]
    fn a_layout_with_documents_is_still_one_for_skopeo_and_umoci() {
        let base = testkit::base::busybox().unwrap();
        let dir = testkit::scratch_dir("attach-").unwrap();
        let layout = dir.path().join("layout");
        capture(Command::new("cp").arg("-a").arg(base.layout()).arg(&layout)).unwrap();
        let (image, _) = only_manifest(&layout).unwrap();
        let annotations = json!({"made": "by a test"});
        for name in ["a.spdx.json", "a.provenance.json"] {
            let kind = format!("application/{name}");
            attach(&layout, &image, name, &kind, name.as_bytes(), &annotations).unwrap();
        }

        let source = format!("oci:{}:image", layout.display());
        assert_eq!(testkit::oracle::skopeo_inspect(&source).unwrap()["Digest"], image);
        testkit::oracle::umoci_unpack(&layout, "image", &dir.path().join("bundle")).unwrap();
        // umoci removes what nothing in the index leads to.
        capture(Command::new("umoci").args(["gc", "--layout"]).arg(&layout)).unwrap();

        let index = read(&layout.join("index.json")).unwrap();
        let entries = index["manifests"].as_array().unwrap();
        assert_eq!(entries.len(), 3);
        for entry in &entries[1..] {
            let blob = |digest: &Value| {
                let digest = digest.as_str().unwrap();
                let bytes =
                    std::fs::read(layout.join("blobs").join(digest.replace(':', "/"))).unwrap();
                assert_eq!(super::digest(&bytes), digest);
                bytes
            };
            let manifest: Value = serde_json::from_slice(&blob(&entry["digest"])).unwrap();
            assert_eq!(manifest["subject"]["digest"], image.as_str());
            assert_eq!(manifest["artifactType"], entry["artifactType"]);
            assert_eq!(blob(&manifest["config"]["digest"]), b"{}");
            let title = &manifest["layers"][0]["annotations"]["org.opencontainers.image.title"];
            assert_eq!(blob(&manifest["layers"][0]["digest"]), title.as_str().unwrap().as_bytes());
        }
        assert!(only_manifest(&layout).is_err(), "there is more in it now");
    }
}
