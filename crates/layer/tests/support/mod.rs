//! Roots as text, and archives by hand.

#![allow(dead_code, reason = "every test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "tests arrange the world around the root")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use ebiko_layer::{Files, UnpackError, UnpackOptions, Unpacked, unpack};
use ebiko_oci::{BytesBlob, Descriptor, DiffId, Digest, ImageFormat, Layer, LayerCompression};
use ebiko_rootfs::{Attributes, DeviceNumber, Kind, Root, RootOptions, RootPath, Time, Xattrs};
use ebiko_snapshot::{AdvanceOptions, ContentHash, Entry, IgnoreSet, Mode, Snapshot};

/// Long after every file of a test.
pub(crate) const LATER: Time = Time { secs: i64::MAX / 2, nanos: 0 };

/// The time of everything a [`Place`] makes, unless it says otherwise.
pub(crate) const FIXED: Time = Time { secs: 1_600_000_000, nanos: 0 };

pub(crate) fn path(path: impl AsRef<[u8]>) -> RootPath {
    RootPath::parse(path.as_ref()).unwrap()
}

/// A root in a directory of its own, with the index of what is in it.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) root: Root,
    pub(crate) snapshot: Snapshot,
    /// Gets the same layers, but no regular files.
    pub(crate) thin: (Root, Snapshot),
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            // What is mounted is not shown, which is not the same as not being written.
            std::fs::create_dir_all(dir.path().join(name).join("mount/point")).unwrap();
            let options = RootOptions {
                protected: vec![path("kaniko"), path("mount/point")],
                displaced_store: Some(dir.path().join(format!("{name}-displaced"))),
                ..RootOptions::default()
            };
            Root::open(&dir.path().join(name), options).unwrap()
        };
        let (root, thin) = (open("root"), open("thin"));
        Self { dir, root, snapshot: Snapshot::empty(), thin: (thin, Snapshot::empty()) }
    }

    /// Opens the root anew, as it is now.
    pub(crate) fn reopen(&mut self) {
        let options = RootOptions {
            protected: vec![path("kaniko"), path("mount/point")],
            displaced_store: Some(self.dir.path().join("root-displaced")),
            ..RootOptions::default()
        };
        self.root = Root::open(&self.dir.path().join("root"), options).unwrap();
    }

    pub(crate) fn host(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join("root").join(path)
    }

    pub(crate) fn directory(&self, name: impl AsRef<[u8]>) -> &Self {
        self.root.create_dir(&path(&name)).unwrap();
        self.set(name, 0o755, FIXED)
    }

    pub(crate) fn file(&self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> &Self {
        let mut file = self.root.create_file(&path(&name)).unwrap();
        file.write_all(content.as_ref()).unwrap();
        self.set(name, 0o644, FIXED)
    }

    pub(crate) fn symlink(&self, name: &str, target: &str) -> &Self {
        self.root.symlink(target.as_bytes(), &path(name)).unwrap();
        self.set(name, 0o777, FIXED)
    }

    pub(crate) fn hard_link(&self, name: &str, first: &str) -> &Self {
        self.root.hard_link(&path(first), &path(name)).unwrap();
        self
    }

    pub(crate) fn node(&self, name: &str, kind: Kind, major: u32, minor: u32) -> &Self {
        self.root.make_node(&path(name), kind, DeviceNumber { major, minor }).unwrap();
        self.set(name, 0o644, FIXED)
    }

    pub(crate) fn set(&self, name: impl AsRef<[u8]>, mode: u32, mtime: Time) -> &Self {
        let attributes = Attributes {
            uid: Some(0),
            gid: Some(0),
            mode: Some(mode),
            mtime: Some(mtime),
            xattrs: None,
        };
        self.root.set_attributes(&path(name), &attributes).unwrap();
        self
    }

    pub(crate) fn own(&self, name: &str, uid: u32, gid: u32, mode: u32) -> &Self {
        let attributes = Attributes {
            uid: Some(uid),
            gid: Some(gid),
            mode: Some(mode),
            ..Attributes::default()
        };
        self.root.set_attributes(&path(name), &attributes).unwrap();
        self
    }

    pub(crate) fn xattr(&self, name: &str, xattr: &str, value: &[u8]) -> &Self {
        let mut xattrs = self.root.xattrs(&path(name)).unwrap();
        xattrs.insert(xattr.as_bytes().to_vec(), value.to_vec());
        self.root
            .set_attributes(
                &path(name),
                &Attributes { xattrs: Some(xattrs), ..Attributes::default() },
            )
            .unwrap();
        self
    }

    pub(crate) fn advance(&mut self) -> ebiko_snapshot::Changeset {
        let ignore = IgnoreSet::empty();
        let options = AdvanceOptions { mode: Mode::Full, ignore: &ignore, threads: 2, now: LATER };
        self.snapshot.advance(&self.root, &options).unwrap()
    }

    /// Unpacks a layer, into the thin root too: what is known of it afterwards, and the error, must be the same.
    #[track_caller]
    pub(crate) fn unpack(&mut self, tar: &[u8]) -> Result<Unpacked, UnpackError> {
        let layer = layer_of(tar);
        let result = unpack(&layer, &self.root, &mut self.snapshot, &UnpackOptions::default());
        let only =
            UnpackOptions { files: Files::Only(BTreeSet::new()), ..UnpackOptions::default() };
        let thin = unpack(&layer, &self.thin.0, &mut self.thin.1, &only);
        match (&result, &thin) {
            (Ok(result), Ok(thin)) => {
                assert_eq!(thin, result);
                self.snapshot.settle(LATER);
                self.thin.1.settle(LATER);
                assert_eq!(known(&self.thin.1), known(&self.snapshot), "the thin index differs");
                let (thin, full) = (without_files(&self.thin.0), without_files(&self.root));
                assert_eq!(thin, full, "directories and links differ");
                for path in everything(&self.thin.0) {
                    let metadata = self.thin.0.metadata(&path).unwrap();
                    let is_needed = self.thin.0.holds_protected(&path) || metadata.nlink > 1;
                    assert!(!metadata.is_file() || is_needed, "`{path}` was written");
                    assert_eq!(self.thin.1.unwritten(&path), None, "`{path}` is there");
                }
            }
            (result, thin) => {
                let text = |error: Option<&UnpackError>| error.map(|error| chain(error));
                let (thin, full) = (text(thin.as_ref().err()), text(result.as_ref().err()));
                assert_eq!(thin, full, "the thin root fails otherwise");
            }
        }
        result
    }
}

/// What an index knows, without what no two roots have in common.
pub(crate) fn known(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    let mut firsts = BTreeMap::new();
    for path in snapshot.paths() {
        let Some(entry) = snapshot.get(&path) else { continue };
        let Entry { kind, mode, uid, gid, mtime, rdev, content, is_linked, .. } = entry;
        let size = if kind == Kind::Regular { entry.size } else { 0 };
        let first = firsts
            .entry((snapshot.unwritten(&path).is_some(), entry.ino))
            .or_insert_with(|| path.clone())
            .clone();
        let mode = if kind == Kind::Symlink { 0o777 } else { mode };
        writeln!(
            text,
            "{path} {kind:?} {mode:o} {uid}:{gid} {size} {mtime:?} {rdev:?} {content:?} {is_linked} ={first}"
        )
        .unwrap();
    }
    text
}

fn without_files(root: &Root) -> String {
    let text = describe(root);
    text.lines().filter(|line| !line.starts_with('-')).collect::<Vec<_>>().join("\n")
}

/// Everything in a root, one line each: kind, mode, owner, time, path, and what only its kind has.
pub(crate) fn describe(root: &Root) -> String {
    let mut text = String::new();
    let mut names = BTreeMap::new();
    for path in everything(root) {
        let metadata = root.metadata(&path).unwrap();
        let (letter, details) = match metadata.kind {
            Kind::Regular => ('-', format!(" {} {:?}", metadata.size, content(root, &path))),
            Kind::Directory => ('d', String::new()),
            Kind::Symlink => {
                ('l', format!(" -> {}", String::from_utf8_lossy(&root.read_link(&path).unwrap())))
            }
            Kind::CharDevice => ('c', format!(" {}:{}", metadata.rdev.major, metadata.rdev.minor)),
            Kind::BlockDevice => ('b', format!(" {}:{}", metadata.rdev.major, metadata.rdev.minor)),
            Kind::Fifo => ('p', String::new()),
            Kind::Socket => ('s', String::new()),
        };
        let mode = if metadata.is_symlink() { 0o777 } else { metadata.mode };
        let Time { secs, nanos } = metadata.mtime;
        write!(
            text,
            "{letter}{mode:04o} {}:{} {secs}.{nanos:09} {path}{details}",
            metadata.uid, metadata.gid
        )
        .unwrap();
        if !metadata.is_dir() && metadata.nlink > 1 {
            match names.get(&metadata.ino) {
                Some(first) => write!(text, " = {first}").unwrap(),
                None => drop(names.insert(metadata.ino, path.clone())),
            }
        }
        for (name, value) in root.xattrs(&path).unwrap() {
            if ebiko_snapshot::is_recorded_xattr(&name) {
                write!(text, " {}={}", name.escape_ascii(), value.escape_ascii()).unwrap();
            }
        }
        text.push('\n');
    }
    text
}

/// Only kinds, paths, and what is in files and links.
pub(crate) fn outline(root: &Root) -> String {
    let mut text = String::new();
    for path in everything(root) {
        let metadata = root.metadata(&path).unwrap();
        match metadata.kind {
            Kind::Regular if metadata.size < 20 => {
                let mut content = String::new();
                root.open_file(&path).unwrap().read_to_string(&mut content).unwrap();
                write!(text, "{path}={content} ").unwrap();
            }
            Kind::Symlink => {
                write!(
                    text,
                    "{path}->{} ",
                    String::from_utf8_lossy(&root.read_link(&path).unwrap())
                )
                .unwrap();
            }
            Kind::Directory => write!(text, "{path}/ ").unwrap(),
            _ => write!(text, "{path} ").unwrap(),
        }
    }
    text.trim_end().to_owned()
}

fn content(root: &Root, path: &RootPath) -> ContentHash {
    ContentHash::of_reader(&mut root.open_file(path).unwrap()).unwrap()
}

pub(crate) fn everything(root: &Root) -> Vec<RootPath> {
    let mut paths = Vec::new();
    let mut pending = vec![RootPath::root()];
    while let Some(directory) = pending.pop() {
        for entry in root.list(&directory).unwrap() {
            let path = directory.child(&entry.name).unwrap();
            if entry.metadata.is_dir() {
                pending.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort();
    paths
}

/// An uncompressed layer.
pub(crate) fn layer_of(tar: &[u8]) -> Layer {
    blob_layer(tar, tar, LayerCompression::None)
}

/// A layer whose blob is `blob` and whose tar stream should be `tar`.
pub(crate) fn blob_layer(tar: &[u8], blob: &[u8], compression: LayerCompression) -> Layer {
    let media_type = ImageFormat::Oci.layer(compression);
    Layer {
        descriptor: Descriptor::new(media_type, Digest::of(blob), blob.len() as u64),
        diff_id: DiffId::of(tar),
        blob: Arc::new(BytesBlob::new(blob)),
    }
}

/// An error and its causes, one after the other.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let message = error.to_string();
        if !text.ends_with(&message) {
            write!(text, ": {message}").unwrap();
        }
        source = error.source();
    }
    text
}

/// An archive by hand, with every field as one wants it.
#[derive(Clone, Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn directory(self, name: impl AsRef<[u8]>) -> Self {
        self.member(b'5', name, "", 0o755, b"")
    }

    pub(crate) fn file(self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.member(b'0', name, "", 0o644, content.as_ref())
    }

    pub(crate) fn symlink(self, name: impl AsRef<[u8]>, target: &str) -> Self {
        self.member(b'2', name, target, 0o777, b"")
    }

    pub(crate) fn hard_link(self, name: impl AsRef<[u8]>, target: &str) -> Self {
        self.member(b'1', name, target, 0o644, b"")
    }

    pub(crate) fn fifo(self, name: &str) -> Self {
        self.member(b'6', name, "", 0o644, b"")
    }

    pub(crate) fn member(
        self,
        type_flag: u8,
        name: impl AsRef<[u8]>,
        link: &str,
        mode: u32,
        content: &[u8],
    ) -> Self {
        let header = header(type_flag, name.as_ref(), link.as_bytes(), mode, content.len() as u64);
        self.raw(header).padded(content)
    }

    /// An extended header; `local` ones (`x`) belong to the next member.
    pub(crate) fn pax(self, type_flag: u8, records: &[(&str, &str)]) -> Self {
        let mut payload = String::new();
        for (key, value) in records {
            payload.push_str(&record(key, value));
        }
        self.extension(type_flag, payload.as_bytes())
    }

    /// An extended header, or a long name (`L`, `K`), with any payload.
    pub(crate) fn extension(self, type_flag: u8, payload: &[u8]) -> Self {
        self.raw(header(type_flag, b"ext", b"", 0o644, payload.len() as u64)).padded(payload)
    }

    pub(crate) fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.bytes.extend_from_slice(bytes.as_ref());
        self
    }

    pub(crate) fn padded(self, content: &[u8]) -> Self {
        let padding = content.len().next_multiple_of(512) - content.len();
        self.raw(content).raw(vec![0; padding])
    }

    /// The bytes without an end mark.
    pub(crate) fn open(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn end(self) -> Vec<u8> {
        self.raw([0; 1024]).bytes
    }
}

pub(crate) fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let length = (1..6)
        .map(|digits| rest + digits)
        .find(|length| length.to_string().len() + rest == *length);
    format!("{} {key}={value}\n", length.unwrap())
}

pub(crate) fn header(type_flag: u8, name: &[u8], link: &[u8], mode: u32, size: u64) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"13727410000\0");
    block[156] = type_flag;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(block)
}

/// Puts the checksum right.
pub(crate) fn seal(mut block: [u8; 512]) -> [u8; 512] {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Runs a program of the machine and returns what it prints.
#[track_caller]
pub(crate) fn output(program: &str, args: &[&str], dir: &Path) -> String {
    let output = std::process::Command::new(program)
        .args(args)
        .current_dir(dir)
        .env("TZ", "UTC")
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("cannot run `{program}`: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{program} {args:?}` failed: {error}");
    // GNU tar takes a time before 1970 as it is, but never without a word.
    let complaints: Vec<&str> =
        error.lines().filter(|line| !line.contains("implausibly old time stamp")).collect();
    assert!(complaints.is_empty(), "`{program}` complains: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn xattrs(pairs: &[(&str, &str)]) -> Xattrs {
    pairs
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}
