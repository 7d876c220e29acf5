//! Other people's programs, which have the last word on what we write.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::Pod;
use crate::command::{capture, capture_text};

/// What `skopeo inspect` says about an image in any of its transports, such as `oci:/dir:tag` or `docker-archive:/file`.
pub fn skopeo_inspect(source: &str) -> anyhow::Result<Value> {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "inspect", "--tls-verify=false", source]);
    serde_json::from_str(&capture_text(&mut command)?)
        .context("skopeo wrote something that is not JSON")
}

/// An image unpacked by umoci: a root directory and how a runtime would start it.
#[derive(Debug)]
pub struct Unpacked {
    dir: tempfile::TempDir,
}

/// Unpacks what skopeo calls `source` with umoci; without root, owners stay the caller's.
pub fn unpack(source: &str) -> anyhow::Result<Unpacked> {
    let dir = crate::scratch_dir("unpacked-")?;
    let layout = dir.path().join("layout");
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--src-tls-verify=false", source]);
    capture(skopeo.arg(format!("oci:{}:image", layout.display())))?;
    umoci_unpack(&layout, "image", &dir.path().join("bundle"))?;
    Ok(Unpacked { dir })
}

/// Unpacks one tag of an OCI layout into a new runtime bundle and returns its root directory.
pub fn umoci_unpack(layout: &Path, tag: &str, bundle: &Path) -> anyhow::Result<PathBuf> {
    let mut umoci = Command::new("umoci");
    umoci.arg("unpack");
    if !crate::is_root() {
        umoci.arg("--rootless");
    }
    capture(umoci.arg("--image").arg(format!("{}:{tag}", layout.display())).arg(bundle))?;
    Ok(bundle.join("rootfs"))
}

impl Unpacked {
    /// The root directory.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("bundle/rootfs")
    }

    /// umoci's runtime configuration, made of the image's config.
    pub fn runtime_config(&self) -> anyhow::Result<Value> {
        let text = std::fs::read(self.dir.path().join("bundle/config.json"))
            .context("umoci wrote no config.json")?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// A pod of this image: its root, environment and working directory, and the command that it starts by itself.
    pub fn pod(&self) -> anyhow::Result<(Pod, Vec<String>)> {
        let config = self.runtime_config()?;
        let words = |value: &Value| -> Vec<String> {
            value
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|word| word.as_str().map(str::to_owned))
                .collect()
        };
        let process = &config["process"];
        let mut pod = Pod::new(self.root()).work_dir(process["cwd"].as_str().unwrap_or("/"));
        for pair in words(&process["env"]) {
            if let Some((key, value)) = pair.split_once('=') {
                // umoci adds a terminal, which a pod has not.
                pod = if key == "TERM" { pod } else { pod.env(key, value) };
            }
        }
        Ok((pod, words(&process["args"])))
    }
}

/// `tar -tv` of an archive, compressed or not, with numeric owners and full times in UTC.
pub fn gnu_tar_list(archive: &Path) -> anyhow::Result<String> {
    let mut command = Command::new("tar");
    command
        .args(["--full-time", "--numeric-owner", "--quoting-style=literal", "-tvf"])
        .arg(archive);
    capture_text(command.env("TZ", "UTC").env("LC_ALL", "C.UTF-8"))
}

/// [`gnu_tar_list`] with columns one space apart and without times.
pub fn tar_entries(archive: &Path) -> anyhow::Result<String> {
    Ok(gnu_tar_list(archive)?.lines().map(without_time).collect())
}

/// Every layer of a docker archive, base first, as [`gnu_tar_list`] shows it but with columns one space apart and without
/// times.
pub fn docker_archive_layers(archive: &Path) -> anyhow::Result<Vec<String>> {
    layers(archive, without_time)
}

/// As [`docker_archive_layers`], with times.
pub fn docker_archive_layers_with_times(archive: &Path) -> anyhow::Result<Vec<String>> {
    layers(archive, narrow)
}

fn layers(archive: &Path, line: impl Fn(&str) -> String) -> anyhow::Result<Vec<String>> {
    let dir = crate::scratch_dir("layers-")?;
    capture(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(dir.path()))?;
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("manifest.json"))?)?;
    let names = manifest[0]["Layers"].as_array().context("the archive lists no layers")?;
    let list = |name: &Value| {
        let name = name.as_str().context("a layer has no name")?;
        Ok(gnu_tar_list(&dir.path().join(name))?.lines().map(&line).collect())
    };
    names.iter().map(list).collect()
}

/// `MODE OWNER SIZE DATE TIME NAME`, columns one space apart; a name keeps its spaces.
fn narrow(line: &str) -> String {
    let mut rest = line;
    let mut text = String::new();
    for _ in 0..5 {
        let (column, tail) = rest.split_once(' ').unwrap_or((rest, ""));
        text.push_str(column);
        text.push(' ');
        rest = tail.trim_start_matches(' ');
    }
    text + rest + "\n"
}

/// `MODE OWNER SIZE DATE TIME NAME` without date and time, columns one space apart.
fn without_time(line: &str) -> String {
    let mut words = line.splitn(2, "-> ");
    let (entry, target) = (words.next().unwrap_or_default(), words.next());
    let columns: Vec<&str> = entry.split_whitespace().collect();
    let mut text =
        columns.iter().take(3).chain(columns.iter().skip(5)).copied().collect::<Vec<_>>().join(" ");
    if let Some(target) = target {
        text.push_str(" -> ");
        text.push_str(target);
    }
    text.push('\n');
    text
}

/// A layout with an image index of two platforms under the tag `image`: what `layout` holds, and the same for arm64 with the
/// variable `ARM=1`.
pub fn two_platforms(layout: &Path, into: &Path) -> anyhow::Result<()> {
    capture(Command::new("cp").args(["-aT", "--"]).arg(layout).arg(into))?;
    let index = read_json(&into.join("index.json"))?;
    let mut native = index["manifests"][0].clone();
    let (mut manifest, mut config) = manifest_and_config(into, &native)?;
    native["platform"] = json!({"os": config["os"], "architecture": config["architecture"]});
    config["architecture"] = json!("arm64");
    config["config"]["Env"] = json!(["ARM=1"]);
    manifest["config"] = write_blob(into, &config, IMAGE_CONFIG)?;
    let mut arm = write_blob(into, &manifest, IMAGE_MANIFEST)?;
    arm["platform"] = json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
    let both = json!({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": [arm, native]});
    let entry = write_blob(into, &both, IMAGE_INDEX)?;
    write_index(into, entry)
}

/// A layout that holds the image of another one with its config and the manifest's list of layers changed, under the tag
/// `image`.
pub fn edited(
    layout: &Path,
    into: &Path,
    edit: impl FnOnce(&mut Value, &mut Value),
) -> anyhow::Result<()> {
    capture(Command::new("cp").args(["-aT", "--"]).arg(layout).arg(into))?;
    let index = read_json(&into.join("index.json"))?;
    let (mut manifest, mut config) = manifest_and_config(into, &index["manifests"][0])?;
    edit(&mut config, &mut manifest["layers"]);
    manifest["config"] = write_blob(into, &config, IMAGE_CONFIG)?;
    let entry = write_blob(into, &manifest, IMAGE_MANIFEST)?;
    write_index(into, entry)
}

fn read_json(path: &Path) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn manifest_and_config(layout: &Path, descriptor: &Value) -> anyhow::Result<(Value, Value)> {
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        read_json(&layout.join("blobs").join(digest.replace(':', "/")))
    };
    let manifest = blob(descriptor)?;
    let config = blob(&manifest["config"])?;
    Ok((manifest, config))
}

/// Writes a blob and returns its descriptor.
fn write_blob(layout: &Path, value: &Value, media_type: &str) -> anyhow::Result<Value> {
    let bytes = serde_json::to_vec(value)?;
    let digest = crate::image::digest(&bytes);
    std::fs::write(layout.join("blobs").join(digest.replace(':', "/")), &bytes)?;
    Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
}

fn write_index(layout: &Path, mut entry: Value) -> anyhow::Result<()> {
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "image"});
    let top = json!({"schemaVersion": 2, "manifests": [entry]});
    std::fs::write(layout.join("index.json"), serde_json::to_vec(&top)?)
        .context("cannot write the index")
}

const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Extracts an archive with GNU tar, owners (for root), modes, times and extended attributes included.
pub fn gnu_tar_extract(archive: &Path, into: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("tar");
    command
        .args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf"])
        .arg(archive)
        .arg("-C")
        .arg(into);
    capture(&mut command).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unpacked_image_knows_its_command_and_environment() {
        let base = crate::base::busybox().unwrap();
        let unpacked = unpack(&base.source()).unwrap();
        assert!(unpacked.root().join("bin/busybox").is_file());
        let (_, command) = unpacked.pod().unwrap();
        assert_eq!(command, ["sh"]);
        assert_eq!(skopeo_inspect(&base.source()).unwrap()["Os"], "linux");
    }

    #[test]
    fn layers_are_listed_without_times() {
        assert_eq!(
            without_time("-rwxr-xr-x 0/0               2 2020-09-13 12:26:40 x"),
            "-rwxr-xr-x 0/0 2 x\n"
        );
        assert_eq!(
            narrow("-rwxr-xr-x 0/0               2 2020-09-13 12:26:40 a  b -> c"),
            "-rwxr-xr-x 0/0 2 2020-09-13 12:26:40 a  b -> c\n"
        );
        assert_eq!(
            without_time("lrwxrwxrwx 1/2 0 2020-09-13 12:26:40.5 y -> a b"),
            "lrwxrwxrwx 1/2 0 y -> a b\n"
        );
        let base = crate::base::busybox().unwrap();
        let dir = crate::scratch_dir("archive-").unwrap();
        let archive = dir.path().join("image.tar");
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy"]).arg(base.source());
        capture(skopeo.arg(format!("docker-archive:{}", archive.display()))).unwrap();
        let layers = docker_archive_layers(&archive).unwrap();
        assert_eq!(layers.len(), 1);
        assert!(layers[0].contains(" bin/ls -> busybox\n"), "{}", layers[0]);
    }

    #[test]
    fn an_index_of_two_platforms_can_be_pushed() {
        let dir = crate::scratch_dir("index-").unwrap();
        let layout = dir.path().join("both");
        two_platforms(&crate::base::busybox().unwrap().layout(), &layout).unwrap();
        let registry = crate::Registry::builder().start().unwrap();
        registry.push(&format!("oci:{}:image", layout.display()), "both:1", "oci").unwrap();
        let mut skopeo = Command::new("skopeo");
        skopeo.args([
            "--insecure-policy",
            "--override-arch=arm64",
            "inspect",
            "--config",
            "--tls-verify=false",
        ]);
        let config =
            capture_text(skopeo.arg(format!("docker://{}", registry.reference("both:1")))).unwrap();
        assert!(config.contains("ARM=1"), "{config}");
    }

    #[test]
    fn tar_lists_and_extracts_what_a_tree_holds() {
        let dir = crate::scratch_dir("tar-").unwrap();
        let (from, to, archive) =
            (dir.path().join("from"), dir.path().join("to"), dir.path().join("a.tar"));
        std::fs::create_dir(&from).unwrap();
        std::fs::create_dir(&to).unwrap();
        crate::Tree::new().exe("x", "12").symlink("y", "x").write_to(&from).unwrap();
        let mut tar = Command::new("tar");
        tar.args(["--owner=0", "--group=0", "--sort=name", "-cf"])
            .arg(&archive)
            .arg("-C")
            .arg(&from);
        capture(tar.args(["x", "y"])).unwrap();
        assert_eq!(
            gnu_tar_list(&archive).unwrap(),
            "-rwxr-xr-x 0/0               2 2020-09-13 12:26:40 x\nlrwxrwxrwx 0/0               0 2020-09-13 12:26:40 y -> x\n"
        );
        gnu_tar_extract(&archive, &to).unwrap();
        assert_eq!(std::fs::read(to.join("x")).unwrap(), b"12");
    }
}
