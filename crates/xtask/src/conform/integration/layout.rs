//! Reads an OCI layout with nothing but `serde_json`, `flate2` and `tar`, and flattens its layers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// A flattened image.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    /// The whole config file.
    pub(super) config: Value,
    pub(super) manifest: Value,
    /// The history behind the base's.
    pub(super) history: Vec<Value>,
    /// How many of the layers are the base's.
    pub(super) base_layers: usize,
    pub(super) layers_added: usize,
    pub(super) files: Files,
    pub(super) base_files: Files,
}

/// Everything in the image by its path, without a slash in front.
pub(super) type Files = BTreeMap<String, Entry>;

/// One path of the flattened image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// `file`, `dir`, `symlink`, or `other:TYPE`.
    pub(super) kind: String,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: i64,
    /// Of a symbolic link.
    pub(super) target: Option<String>,
    /// The path that this one is another name of.
    pub(super) hardlink: Option<String>,
    pub(super) xattrs: Vec<String>,
    /// Of a file.
    pub(super) data: Option<Vec<u8>>,
}

impl Entry {
    /// Whether both would look alike to a program. Times and names of links do not count.
    fn is_same(&self, other: &Self) -> bool {
        let facts = |entry: &Self| (entry.mode, entry.uid, entry.gid);
        facts(self) == facts(other)
            && self.kind == other.kind
            && self.target == other.target
            && self.data == other.data
    }
}

impl Image {
    /// Reads the only image of the layout.
    ///
    /// The first entries of the history that BuildKit's frontend did not write are the base's, or the first
    /// `base_history` if that is given: an image that was itself built so.
    pub(super) fn read(dir: &Path, base_history: Option<u64>) -> anyhow::Result<Self> {
        let index: Value = json(&dir.join("index.json"))?;
        let manifest: Value = serde_json::from_slice(&blob(dir, &index["manifests"][0])?)?;
        let config: Value = serde_json::from_slice(&blob(dir, &manifest["config"])?)?;
        let history = config["history"].as_array().cloned().unwrap_or_default();
        let is_base = |line: &Value| line["comment"] != "buildkit.dockerfile.v0";
        let count = match base_history {
            Some(count) => usize::try_from(count)?.min(history.len()),
            None => history.iter().take_while(|line| is_base(line)).count(),
        };
        let (base, new) = history.split_at(count);
        let base_layers = base.iter().filter(|line| line["empty_layer"] != true).count();
        let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
        let mut files = Files::new();
        let mut base_files = Files::new();
        for (number, layer) in layers.iter().enumerate() {
            if number == base_layers {
                base_files.clone_from(&files);
            }
            add_layer(&mut files, dir, layer)?;
        }
        if layers.len() <= base_layers {
            base_files.clone_from(&files);
        }
        Ok(Self {
            history: new.to_vec(),
            base_layers,
            layers_added: layers.len().saturating_sub(base_layers),
            files,
            base_files,
            config,
            manifest,
        })
    }

    /// What is new or different from the base.
    pub(super) fn new_files(&self) -> impl Iterator<Item = (&String, &Entry)> {
        let is_new = |path: &String, entry: &Entry| {
            self.base_files.get(path).is_none_or(|old| !old.is_same(entry))
        };
        self.files.iter().filter(move |(path, entry)| is_new(path, entry))
    }

    /// Paths of the base that are gone; of a directory only itself.
    pub(super) fn deleted(&self) -> BTreeSet<&str> {
        let gone =
            |path: &str| self.base_files.contains_key(path) && !self.files.contains_key(path);
        let paths = self.base_files.keys().map(String::as_str).filter(|path| gone(path));
        paths.filter(|path| !ancestors(path).any(gone)).collect()
    }

    /// Follows symbolic links inside the image.
    pub(super) fn resolve(&self, path: &str) -> String {
        resolve(&self.files, path, 0)
    }

    /// The entry that a path leads to.
    pub(super) fn entry(&self, path: &str) -> Option<&Entry> {
        self.files.get(&self.resolve(path))
    }

    /// The path without following its last component.
    pub(super) fn resolve_parent(&self, path: &str) -> String {
        match path.rsplit_once('/') {
            Some((parent, name)) => joined(&self.resolve(parent), name),
            None => path.to_owned(),
        }
    }

    /// The name under which the file of `path` was written first.
    pub(super) fn first_name<'a>(&'a self, path: &'a str) -> &'a str {
        let mut name = path;
        // A chain is as long as the layer at most; a circle cannot be written, but costs nothing to end.
        for _ in 0..self.files.len() {
            match self.files.get(name).and_then(|entry| entry.hardlink.as_deref()) {
                Some(first) if self.files.contains_key(first) => name = first,
                _ => break,
            }
        }
        name
    }
}

fn json(path: &Path) -> anyhow::Result<Value> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("`{}` is not JSON", path.display()))
}

fn blob(dir: &Path, descriptor: &Value) -> anyhow::Result<Vec<u8>> {
    let digest = descriptor["digest"].as_str().context("a descriptor has no digest")?;
    std::fs::read(dir.join("blobs").join(digest.replace(':', "/")))
        .with_context(|| format!("there is no blob {digest} in the layout"))
}

fn add_layer(files: &mut Files, dir: &Path, layer: &Value) -> anyhow::Result<()> {
    let bytes = blob(dir, layer)?;
    let reader: Box<dyn Read> = match layer["mediaType"].as_str().unwrap_or_default() {
        kind if kind.ends_with("gzip") => Box::new(flate2::read::MultiGzDecoder::new(&*bytes)),
        kind if kind.strip_suffix(".tar").is_some() => Box::new(&*bytes),
        other => bail!("layers of type `{other}` cannot be read here"),
    };
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries()? {
        add_entry(files, entry?)?;
    }
    Ok(())
}

fn add_entry<R: Read>(files: &mut Files, mut item: tar::Entry<'_, R>) -> anyhow::Result<()> {
    let path = normal(&String::from_utf8_lossy(&item.path_bytes()));
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
    if let Some(hidden) = name.strip_prefix(".wh.") {
        let is_opaque = hidden == ".wh..opq";
        let gone = if is_opaque { parent.to_owned() } else { joined(parent, hidden) };
        files.retain(|path, _| !is_below(path, &gone) && (is_opaque || *path != gone));
        return Ok(());
    }
    let mut entry = Entry {
        mode: item.header().mode()? & 0o7777,
        uid: item.header().uid()?,
        gid: item.header().gid()?,
        mtime: item.header().mtime().map_or(0, u64::cast_signed),
        ..Entry::default()
    };
    let link = item.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned());
    for record in item.pax_extensions()?.into_iter().flatten() {
        let record = record?;
        let (key, value) = (record.key().unwrap_or_default(), record.value().unwrap_or_default());
        if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
            entry.xattrs.push(name.to_owned());
        }
        match key {
            "mtime" => entry.mtime = value.split('.').next().unwrap_or_default().parse()?,
            "uid" => entry.uid = value.parse()?,
            "gid" => entry.gid = value.parse()?,
            _ => {}
        }
    }
    entry.xattrs.sort();
    let kind = item.header().entry_type();
    match kind {
        tar::EntryType::Directory => "dir".clone_into(&mut entry.kind),
        tar::EntryType::Symlink => {
            "symlink".clone_into(&mut entry.kind);
            entry.target = link;
        }
        tar::EntryType::Link => {
            let first = normal(&link.unwrap_or_default());
            entry = files.get(&first).cloned().unwrap_or_default();
            if entry.kind.is_empty() {
                "file".clone_into(&mut entry.kind);
            }
            entry.hardlink = Some(first);
        }
        tar::EntryType::Regular | tar::EntryType::Continuous => {
            "file".clone_into(&mut entry.kind);
            let mut data = Vec::new();
            item.read_to_end(&mut data)?;
            entry.data = Some(data);
        }
        other => entry.kind = format!("other:{}", char::from(other.as_byte())),
    }
    if entry.kind != "dir" {
        files.retain(|other, _| !is_below(other, &path));
    }
    if !path.is_empty() {
        files.insert(path, entry);
    }
    Ok(())
}

/// `./a/b/` → `a/b`
fn normal(path: &str) -> String {
    let path = path.trim_matches('/');
    if path == "." { String::new() } else { path.trim_start_matches("./").to_owned() }
}

fn joined(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

fn is_below(path: &str, dir: &str) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(at, _)| path.get(..at))
}

fn resolve(files: &Files, path: &str, depth: usize) -> String {
    // As many links as Linux follows.
    const DEEPEST: usize = 40;
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let mut current = String::new();
    for (index, part) in parts.iter().enumerate() {
        let next = joined(&current, part);
        let target = files.get(&next).and_then(|entry| entry.target.as_deref());
        if let Some(target) = target.filter(|_| depth < DEEPEST) {
            let rest = parts.get(index + 1..).unwrap_or_default().join("/");
            let start = if target.starts_with('/') { "" } else { current.as_str() };
            let path = format!("{}/{rest}", cleaned(&format!("{start}/{target}")));
            return resolve(files, &path, depth + 1);
        }
        current = next;
    }
    current
}

/// The path without `.` and `..`.
fn cleaned(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::{ArchiveEntry, ArchiveKind, archive};

    fn layer(files: &mut Files, entries: &[(&str, ArchiveKind)]) {
        let entries: Vec<ArchiveEntry> = entries
            .iter()
            .map(|(path, kind)| ArchiveEntry {
                path: (*path).to_owned(),
                mode: 0o644,
                uid: 0,
                gid: 0,
                mtime: 1,
                kind: kind.clone(),
            })
            .collect();
        let bytes = archive(&entries).unwrap();
        for entry in tar::Archive::new(&*bytes).entries().unwrap() {
            add_entry(files, entry.unwrap()).unwrap();
        }
    }

    fn file(text: &str) -> ArchiveKind {
        ArchiveKind::File(text.as_bytes().to_vec())
    }

    #[test]
    fn whiteouts_hide_what_is_below_them() {
        let mut files = Files::new();
        layer(
            &mut files,
            &[
                ("d", ArchiveKind::Directory),
                ("d/a", file("1")),
                ("d/b", file("2")),
                ("e", ArchiveKind::Directory),
                ("e/x", file("3")),
                ("ex", file("4")),
            ],
        );
        layer(
            &mut files,
            &[("d/.wh.a", file("")), ("e/.wh..wh..opq", file("")), ("e/y", file("5"))],
        );
        assert_eq!(files.keys().collect::<Vec<_>>(), ["d", "d/b", "e", "e/y", "ex"]);
        layer(&mut files, &[(".wh.d", file("")), ("./e", file("6"))]);
        assert_eq!(files.keys().collect::<Vec<_>>(), ["e", "ex"], "a file replaces a directory");
    }

    #[test]
    fn links_are_followed_inside_the_image() {
        let mut image = Image::default();
        layer(
            &mut image.files,
            &[
                ("a", ArchiveKind::Directory),
                ("a/f", file("x")),
                ("l", ArchiveKind::Symlink("/a".into())),
                ("a/up", ArchiveKind::Symlink("../../l".into())),
                ("loop", ArchiveKind::Symlink("loop".into())),
                ("h", ArchiveKind::HardLink("a/f".into())),
            ],
        );
        assert_eq!(image.resolve("/l/up/f"), "a/f");
        assert_eq!(image.resolve_parent("l/up"), "a/up");
        assert_eq!(image.resolve("loop"), "loop");
        assert_eq!(image.first_name("h"), "a/f");
        assert_eq!(image.entry("h").unwrap().data.as_deref(), Some(&b"x"[..]));
    }

    #[test]
    fn what_is_different_from_the_base_is_new_and_what_is_gone_is_deleted() {
        let mut image = Image::default();
        layer(
            &mut image.base_files,
            &[("d/a", file("1")), ("d", ArchiveKind::Directory), ("k", file("k"))],
        );
        layer(&mut image.files, &[("k", file("k")), ("n", file("n"))]);
        assert_eq!(image.new_files().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["n"]);
        assert_eq!(image.deleted(), BTreeSet::from(["d"]));
    }
}
