//! From an OCI layout to a [`Record`].

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::{Entry, History, Record, YOUNGEST_FIXED_TIME};
use crate::ImageFacts;

/// Content up to this length is recorded as it is.
const SHORT: usize = 300;

/// The comment by which a line of history is known to be of the build and not of its base.
const COMMENT: &str = "buildkit.dockerfile.v0";

impl Record {
    /// Reads the only image of an OCI layout directory.
    ///
    /// # Errors
    ///
    /// Fails on a layout that holds anything but one image, and on layers that are no tar, plain or gzip.
    pub fn of_layout(dir: &Path) -> anyhow::Result<Self> {
        let facts = ImageFacts::from_oci_layout(dir)?;
        let config: Value =
            serde_json::from_slice(&facts.config).context("the config is not JSON")?;
        let history = config["history"].as_array().map_or(&[][..], Vec::as_slice);
        let of_base = history.iter().take_while(|line| line["comment"] != COMMENT);
        let of_base: Vec<&Value> = of_base.collect();
        let of_build = &history[of_base.len()..];
        let layers_of_base = of_base.iter().filter(|line| line["empty_layer"] != true).count();
        ensure!(
            layers_of_base <= facts.layers.len(),
            "the history tells of more layers than there are"
        );

        let mut tree = Tree::default();
        let mut base = BTreeMap::new();
        for (index, digest) in facts.layers.iter().enumerate() {
            if index == layers_of_base {
                base = tree.entries();
            }
            let blob = std::fs::read(dir.join("blobs").join(digest.replace(':', "/")))?;
            tree.apply(&blob).with_context(|| format!("cannot read the layer {digest}"))?;
        }
        if layers_of_base == facts.layers.len() {
            base = tree.entries();
        }
        let all = tree.entries();
        let gone = |path: &String| !all.contains_key(path);
        let parent_is_gone =
            |path: &str| path.rsplit_once('/').is_some_and(|(up, _)| gone(&up.to_owned()));

        let text = |key: &str| config[key].as_str().map(str::to_owned);
        Ok(Self {
            status: "ok".to_owned(),
            config: config["config"].clone(),
            os: text("os"),
            architecture: text("architecture"),
            variant: text("variant"),
            author: text("author"),
            created: fixed(&config["created"]),
            history: of_base
                .into_iter()
                .filter(|line| fixed(&line["created"]).is_some())
                .chain(of_build)
                .map(line_of_history)
                .collect(),
            layers_added: facts.layers.len() - layers_of_base,
            deleted: base
                .keys()
                .filter(|path| gone(path) && !parent_is_gone(path))
                .cloned()
                .collect(),
            files: all.into_iter().filter(|(path, entry)| base.get(path) != Some(entry)).collect(),
            ..Self::default()
        })
    }
}

fn line_of_history(line: &Value) -> History {
    History {
        created_by: line["created_by"].as_str().unwrap_or_default().to_owned(),
        empty_layer: line["empty_layer"] == true,
        created: fixed(&line["created"]),
    }
}

/// A time as images have it, if it is from before [`YOUNGEST_FIXED_TIME`].
fn fixed(time: &Value) -> Option<String> {
    time.as_str().filter(|time| *time < "2023").map(str::to_owned)
}

/// A tree in the making. Names of one file share a node.
#[derive(Default)]
struct Tree {
    paths: BTreeMap<String, usize>,
    nodes: Vec<Entry>,
}

impl Tree {
    /// Puts a layer on top.
    fn apply(&mut self, blob: &[u8]) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        if blob.starts_with(&[0x1f, 0x8b]) {
            flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut bytes)?;
        } else {
            bytes.extend_from_slice(blob);
        }
        // A whiteout is about the layers beneath, wherever it stands in its own.
        let mut archive = tar::Archive::new(bytes.as_slice());
        for entry in archive.entries()? {
            let path = path_of(&entry?.path_bytes());
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            let prefix = if parent.is_empty() { String::new() } else { format!("{parent}/") };
            if name == ".wh..wh..opq" {
                self.paths.retain(|path, _| !path.starts_with(&prefix));
            } else if let Some(name) = name.strip_prefix(".wh.") {
                self.remove(&format!("{prefix}{name}"));
            }
        }
        let mut archive = tar::Archive::new(bytes.as_slice());
        for entry in archive.entries()? {
            self.add(&mut entry?)?;
        }
        Ok(())
    }

    fn add<R: Read>(&mut self, tar: &mut tar::Entry<'_, R>) -> anyhow::Result<()> {
        let path = path_of(&tar.path_bytes());
        let name = path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name);
        if path.is_empty() || name.starts_with(".wh.") {
            return Ok(());
        }
        let target = tar.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        if tar.header().entry_type().is_hard_link() {
            let first = path_of(&target);
            let node = self.paths.get(&first).copied();
            let node = node
                .with_context(|| format!("`{path}` is a link to `{first}`, which is not there"))?;
            self.remove(&path);
            self.paths.insert(path, node);
            return Ok(());
        }
        let entry = read_entry(tar, &target).with_context(|| format!("cannot read `{path}`"))?;
        if entry.kind == "dir"
            && self.paths.get(&path).is_some_and(|node| self.nodes[*node].kind == "dir")
        {
            self.paths.remove(&path);
        } else {
            self.remove(&path);
        }
        self.paths.insert(path, self.nodes.len());
        self.nodes.push(entry);
        Ok(())
    }

    fn remove(&mut self, path: &str) {
        let beneath = format!("{path}/");
        self.paths.retain(|known, _| known != path && !known.starts_with(&beneath));
    }

    /// Every path with its entry; of several names of one file the first in order has no `hardlink`, the others name it.
    fn entries(&self) -> BTreeMap<String, Entry> {
        let mut first: BTreeMap<usize, &str> = BTreeMap::new();
        let mut entries = BTreeMap::new();
        for (path, node) in &self.paths {
            let mut entry = self.nodes[*node].clone();
            match first.get(node) {
                Some(name) => entry.hardlink = Some((*name).to_owned()),
                None => drop(first.insert(*node, path)),
            }
            entries.insert(path.clone(), entry);
        }
        entries
    }
}

fn read_entry<R: Read>(tar: &mut tar::Entry<'_, R>, target: &[u8]) -> anyhow::Result<Entry> {
    use tar::EntryType;
    let kind = match tar.header().entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => "file",
        EntryType::Directory => "dir",
        EntryType::Symlink => "symlink",
        EntryType::Fifo => "fifo",
        EntryType::Char => "char",
        EntryType::Block => "block",
        other => bail!("an entry of type {other:?}"),
    };
    let header = tar.header();
    let mut entry = Entry {
        kind: kind.to_owned(),
        mode: format!("{:04o}", header.mode()? & 0o7777),
        uid: header.uid()?,
        gid: header.gid()?,
        mtime: Some(header.mtime()?),
        target: (kind == "symlink").then(|| String::from_utf8_lossy(target).into_owned()),
        ..Entry::default()
    };
    if matches!(kind, "char" | "block") {
        let number = |number: Option<u32>| number.unwrap_or(0);
        let (major, minor) = (number(header.device_major()?), number(header.device_minor()?));
        entry.target = Some(format!("{major}:{minor}"));
    }
    let mut xattrs = BTreeSet::new();
    for extension in tar.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        let value = String::from_utf8_lossy(extension.value_bytes()).into_owned();
        match extension.key()? {
            "uid" => entry.uid = value.parse()?,
            "gid" => entry.gid = value.parse()?,
            // Seconds are what a record has; before 1970 there is nothing to compare.
            "mtime" => entry.mtime = value.split('.').next().and_then(|whole| whole.parse().ok()),
            key => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                    xattrs.insert(format!("{name}={}", extension.value_bytes().escape_ascii()));
                }
            }
        }
    }
    entry.xattrs = xattrs.into_iter().collect();
    // A directory is as old as the last thing put into it, which is a matter of order.
    entry.mtime = entry.mtime.filter(|time| *time < YOUNGEST_FIXED_TIME && kind != "dir");
    if kind == "file" {
        let mut content = Vec::new();
        tar.read_to_end(&mut content)?;
        match String::from_utf8(content) {
            Ok(text) if text.len() <= SHORT => entry.text = Some(text),
            other => {
                let content =
                    other.map_or_else(std::string::FromUtf8Error::into_bytes, String::into_bytes);
                entry.size = Some(u64::try_from(content.len())?);
                entry.sha256 = Some(crate::image::digest(&content).replace("sha256:", ""));
            }
        }
    }
    Ok(entry)
}

/// A name in an archive as a path of the tree: no leading `/` or `./`, no trailing `/`.
fn path_of(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let parts = name.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One layer as (name, type, link or content).
    fn layer(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, text) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(7);
            header.set_size(0);
            if kind.is_symlink() || kind.is_hard_link() {
                builder.append_link(&mut header, name, text).unwrap();
            } else {
                header.set_size(text.len() as u64);
                builder.append_data(&mut header, name, text.as_bytes()).unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    fn names(tree: &Tree) -> String {
        let line = |(path, entry): (String, Entry)| match (entry.hardlink, entry.text) {
            (Some(first), _) => format!("{path}={first}"),
            (None, Some(text)) if !text.is_empty() => format!("{path}:{text}"),
            (None, _) => path,
        };
        tree.entries().into_iter().map(line).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn whiteouts_hide_what_is_beneath_and_not_what_comes_with_them() {
        use tar::EntryType::{Directory, Regular};
        let mut tree = Tree::default();
        tree.apply(&layer(&[
            ("d", Directory, ""),
            ("d/a", Regular, "1"),
            ("d/b", Regular, "1"),
            ("e", Regular, "1"),
        ]))
        .unwrap();
        tree.apply(&layer(&[
            ("d/c", Regular, "2"),
            ("d/.wh.a", Regular, ""),
            (".wh.e", Regular, ""),
        ]))
        .unwrap();
        assert_eq!(names(&tree), "d d/b:1 d/c:2");
        tree.apply(&layer(&[("d/f", Regular, "3"), ("d/.wh..wh..opq", Regular, "")])).unwrap();
        assert_eq!(names(&tree), "d d/f:3");
        tree.apply(&layer(&[("d", Regular, "4")])).unwrap();
        assert_eq!(names(&tree), "d:4");
    }

    #[test]
    fn the_first_name_of_a_file_is_the_first_in_order() {
        use tar::EntryType::{Link, Regular};
        let mut tree = Tree::default();
        tree.apply(&layer(&[("z", Regular, "1"), ("a", Link, "z"), ("m", Link, "a")])).unwrap();
        assert_eq!(names(&tree), "a:1 m=a z=a");
        tree.apply(&layer(&[("a", Regular, "2")])).unwrap();
        assert_eq!(names(&tree), "a:2 m:1 z=m");
    }
}
