//! What the ways between files and layers take: tar, compression, unpacking.

#![expect(clippy::unwrap_used, reason = "a benchmark ends where something is wrong")]
#![expect(clippy::disallowed_methods, reason = "a benchmark makes the tree that it works on")]

use std::io;
use std::path::Path;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::BytesCount;
use ebiko_layer::{Compression, UnpackOptions, compress, spool, unpack};
use ebiko_oci::{BytesBlob, ImageFormat, Layer};
use ebiko_rootfs::{Root, RootOptions, Time};
use ebiko_snapshot::{AdvanceOptions, Changeset, IgnoreSet, Mode, Snapshot};

fn main() {
    divan::main();
}

/// A root with files of one size, and the changeset that they are.
struct Place {
    _dir: tempfile::TempDir,
    root: Root,
    snapshot: Snapshot,
    changes: Changeset,
}

/// Files in a directory, and their size: many small ones, few large ones, 32 MiB of content each.
#[derive(Clone, Copy, Debug)]
enum Files {
    Small,
    Large,
}

impl Files {
    const ALL: [Self; 2] = [Self::Small, Self::Large];

    fn write(self, dir: &Path) {
        let (count, size) = match self {
            Self::Small => (8192, 4 << 10),
            Self::Large => (4, 8 << 20),
        };
        let text = text(count * size);
        for (number, content) in text.chunks(size).enumerate() {
            let directory = dir.join(format!("dir-{:02}", number / 100));
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join(format!("file-{number:06}")), content).unwrap();
        }
    }
}

/// Half words, half numbers: it compresses to a third or so.
fn text(length: usize) -> Vec<u8> {
    const WORDS: [&str; 8] =
        ["layer", "manifest", "digest", "whiteout", "stage", "context", "snapshot", "root"];
    let mut state = 1_u32;
    let mut text = Vec::with_capacity(length + 32);
    while text.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let word = WORDS[(state >> 29) as usize];
        text.extend_from_slice(format!("{word} {} ", state >> 12).as_bytes());
    }
    text.truncate(length);
    text
}

impl Place {
    fn new(files: Files) -> Self {
        let dir = tempfile::tempdir().unwrap();
        files.write(dir.path());
        let root = Root::open(dir.path(), RootOptions::default()).unwrap();
        let mut snapshot = Snapshot::empty();
        let ignore = IgnoreSet::empty();
        let now = Time { secs: i64::MAX / 2, nanos: 0 };
        let options = AdvanceOptions { mode: Mode::Full, ignore: &ignore, threads: 1, now };
        let changes = snapshot.advance(&root, &options).unwrap();
        Self { _dir: dir, root, snapshot, changes }
    }

    fn tar(&mut self) -> Vec<u8> {
        let mut tar = Vec::new();
        spool(&self.changes, &self.root, &mut self.snapshot, None, &mut tar).unwrap();
        tar
    }

    fn layer(&mut self, compression: Compression) -> Layer {
        let (mut tar, mut blob) = (Vec::new(), Vec::new());
        let spooled = spool(&self.changes, &self.root, &mut self.snapshot, None, &mut tar).unwrap();
        let told = compress(&mut &tar[..], &mut blob, compression, 1, None).unwrap();
        spooled.layer(&told, ImageFormat::Oci, Arc::new(BytesBlob::new(blob)))
    }
}

/// Reading files and writing them as a tar stream, with its digest.
#[divan::bench(args = Files::ALL, sample_count = 20)]
fn tar(bencher: Bencher<'_, '_>, files: Files) {
    let mut place = Place::new(files);
    let size = place.tar().len();
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        spool(&place.changes, &place.root, &mut place.snapshot, None, &mut io::sink()).unwrap()
    });
}

/// Compressing a tar stream, with the blob's digest, on one thread.
#[divan::bench(args = [1, 4, 6], sample_count = 10)]
fn gzip(bencher: Bencher<'_, '_>, level: i32) {
    compressing(bencher, Compression::Gzip { level }, 1);
}

#[divan::bench(args = [2], sample_count = 10)]
fn gzip_on_threads(bencher: Bencher<'_, '_>, threads: usize) {
    compressing(bencher, Compression::default(), threads);
}

#[divan::bench(args = [1, 3], sample_count = 10)]
fn zstd(bencher: Bencher<'_, '_>, level: i32) {
    compressing(bencher, Compression::Zstd { level }, 1);
}

fn compressing(bencher: Bencher<'_, '_>, compression: Compression, threads: usize) {
    let tar = Place::new(Files::Small).tar();
    bencher.counter(BytesCount::new(tar.len())).bench_local(|| {
        compress(&mut &tar[..], &mut io::sink(), compression, threads, None).unwrap()
    });
}

/// Verifying, inflating and writing a gzip layer.
#[divan::bench(args = Files::ALL, sample_count = 10)]
fn unpack_layer(bencher: Bencher<'_, '_>, files: Files) {
    let mut place = Place::new(files);
    let size = place.tar().len();
    let layer = place.layer(Compression::default());
    bencher
        .counter(BytesCount::new(size))
        .with_inputs(|| {
            let dir = tempfile::tempdir().unwrap();
            let root = Root::open(dir.path(), RootOptions::default()).unwrap();
            (dir, root, Snapshot::empty())
        })
        .bench_local_values(|(dir, root, mut snapshot)| {
            let options = UnpackOptions::default();
            unpack(&layer, &root, &mut snapshot, &options).unwrap();
            // Removing the files is not measured: what is returned is dropped later.
            (dir, root, snapshot)
        });
}
