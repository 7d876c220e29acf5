//! One layout for several processors.

use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::attach::{read, write_blob};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Writes an OCI layout whose one image is an index of those in `layouts`, with the documents about each of them.
///
/// The index lists the images in this order, each for the platform that its config names, under the tag that they have.
/// The answer is its digest.
pub(super) fn join(layouts: &[&Path], joined: &Path) -> anyhow::Result<String> {
    let blobs = joined.join("blobs/sha256");
    if joined.exists() {
        std::fs::remove_dir_all(joined)
            .with_context(|| format!("cannot remove `{}`", joined.display()))?;
    }
    std::fs::create_dir_all(&blobs)
        .with_context(|| format!("cannot create `{}`", blobs.display()))?;
    let (mut images, mut documents, mut tag) = (Vec::new(), Vec::new(), Value::Null);
    for layout in layouts {
        copy_blobs(&layout.join("blobs/sha256"), &blobs)?;
        let mut entries = read(&layout.join("index.json"))?;
        let entries = entries["manifests"].as_array_mut().context("`index.json` lists nothing")?;
        let (about, of_images): (Vec<Value>, Vec<Value>) = std::mem::take(entries)
            .into_iter()
            .partition(|entry| entry["artifactType"].is_string());
        ensure!(of_images.len() == 1, "`{}` has {} images", layout.display(), of_images.len());
        let mut image = of_images.into_iter().next().unwrap_or_default();
        tag = image["annotations"].take();
        images.push(json!({
            "mediaType": image["mediaType"],
            "digest": image["digest"],
            "size": image["size"],
            "platform": platform(joined, &image)?,
        }));
        documents.extend(about);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": images});
    let mut entry = write_blob(joined, INDEX, &serde_json::to_vec(&index)?)?;
    let digest = entry["digest"].as_str().unwrap_or_default().to_owned();
    entry["annotations"] = tag;
    let mut entries = vec![entry];
    entries.extend(documents);
    let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    write(&joined.join("index.json"), &serde_json::to_vec(&list)?)?;
    write(&joined.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(digest)
}

/// What the config of an image says that it runs on.
fn platform(layout: &Path, image: &Value) -> anyhow::Result<Value> {
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().context("a descriptor has no digest")?;
        read(&layout.join("blobs").join(digest.replace(':', "/")))
    };
    let config = blob(&blob(image)?["config"])?;
    Ok(json!({"architecture": config["architecture"], "os": config["os"]}))
}

fn copy_blobs(from: &Path, to: &Path) -> anyhow::Result<()> {
    let entries =
        std::fs::read_dir(from).with_context(|| format!("cannot read `{}`", from.display()))?;
    for entry in entries {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))
            .with_context(|| format!("cannot copy `{}`", entry.path().display()))?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use testkit::command::capture;

    use super::*;
    use crate::images::attach::{attach, only_manifest};

    #[test]
    fn two_layouts_become_an_index_with_the_documents_of_both() {
        let base = testkit::base::busybox().unwrap();
        let dir = testkit::scratch_dir("join-").unwrap();
        let both = dir.path().join("both");
        testkit::oracle::two_platforms(&base.layout(), &both).unwrap();
        let layouts = ["amd64", "arm64"].map(|architecture| {
            let layout = dir.path().join(architecture);
            let mut copy = Command::new("skopeo");
            copy.args(["--insecure-policy", "copy", &format!("--override-arch={architecture}")]);
            copy.arg(format!("oci:{}:image", both.display()));
            capture(copy.arg(format!("oci:{}:1", layout.display()))).unwrap();
            let (image, _) = only_manifest(&layout).unwrap();
            let text = architecture.as_bytes();
            attach(&layout, &image, "a.txt", "text/plain", text, &json!({})).unwrap();
            layout
        });
        let joined = dir.path().join("joined");
        let digest = join(&layouts.each_ref().map(|layout| &**layout), &joined).unwrap();
        let again = join(&layouts.each_ref().map(|layout| &**layout), &joined).unwrap();
        assert_eq!(digest, again);

        // skopeo follows the index, and each image is still itself.
        for (architecture, layout) in ["amd64", "arm64"].into_iter().zip(&layouts) {
            let mut inspect = Command::new("skopeo");
            inspect.args(["--insecure-policy", "inspect"]);
            inspect.arg(format!("--override-arch={architecture}"));
            let source = format!("oci:{}:1", joined.display());
            let facts: Value =
                serde_json::from_slice(&capture(inspect.arg(source)).unwrap()).unwrap();
            assert_eq!(facts["Architecture"], architecture);
            let list = read(&layout.join("index.json")).unwrap();
            let about = &list["manifests"][1];
            let all = read(&joined.join("index.json")).unwrap();
            assert!(all["manifests"].as_array().unwrap().contains(about), "{all}");
        }
        let (kind, tree) = (read(&joined.join("index.json")).unwrap(), digest);
        assert_eq!(kind["manifests"].as_array().unwrap().len(), 3);
        assert_eq!(kind["manifests"][0]["digest"], tree);
    }
}
