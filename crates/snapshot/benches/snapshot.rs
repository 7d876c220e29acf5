//! What a look at 20,000 files takes: of which none changed, and of which a few did.

#![expect(clippy::unwrap_used, reason = "a benchmark ends where something is wrong")]
#![expect(clippy::disallowed_methods, reason = "a benchmark makes the tree that it looks at")]

use std::fs::{File, Permissions, create_dir_all, set_permissions};
use std::os::unix::fs::PermissionsExt as _;

use divan::Bencher;
use divan::counter::ItemsCount;
use ebiko_rootfs::{Root, RootOptions, Time};
use ebiko_snapshot::{AdvanceOptions, Changeset, IgnoreSet, Mode, Snapshot};
use rustix::time::{ClockId, clock_gettime};

const DIRECTORIES: usize = 1000;
const FILES: usize = 19;
const ALL: usize = DIRECTORIES * (FILES + 1);

fn main() {
    divan::main();
}

/// A root with [`ALL`] files, all of them known.
struct Place {
    dir: tempfile::TempDir,
    root: Root,
    snapshot: Snapshot,
    ignore: IgnoreSet,
    threads: usize,
}

impl Place {
    fn new(threads: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..DIRECTORIES {
            let directory = dir.path().join(format!("dir-{number:04}"));
            create_dir_all(&directory).unwrap();
            for file in 0..FILES {
                File::create(directory.join(format!("module-{file:08}.js"))).unwrap();
            }
        }
        // What is as old as the clock's tick counts as one that may yet change.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let root = Root::open(dir.path(), RootOptions::default()).unwrap();
        let (snapshot, ignore) = (Snapshot::empty(), IgnoreSet::empty());
        let mut place = Self { dir, root, snapshot, ignore, threads };
        assert_eq!(place.look().len(), ALL);
        place
    }

    fn look(&mut self) -> Changeset {
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let now = Time { secs: now.tv_sec, nanos: u32::try_from(now.tv_nsec).unwrap() };
        let threads = self.threads;
        let options = AdvanceOptions { mode: Mode::Full, ignore: &self.ignore, threads, now };
        self.snapshot.advance(&self.root, &options).unwrap()
    }

    /// Changes the mode of one file in each of that many directories, to one or the other of two.
    fn touch(&self, directories: usize) {
        for number in 0..directories {
            let path = self.dir.path().join(format!("dir-{number:04}/module-00000007.js"));
            let mode = path.metadata().unwrap().permissions().mode();
            set_permissions(&path, Permissions::from_mode(mode ^ 0o100)).unwrap();
        }
    }
}

/// The first look, which finds everything new.
#[divan::bench(args = [1, 2], sample_count = 20)]
fn first_look(bencher: Bencher<'_, '_>, threads: usize) {
    let mut place = Place::new(threads);
    bencher.counter(ItemsCount::new(ALL)).bench_local(|| {
        place.snapshot = Snapshot::empty();
        place.look()
    });
}

#[divan::bench(args = [1, 2])]
fn look_without_a_change(bencher: Bencher<'_, '_>, threads: usize) {
    let mut place = Place::new(threads);
    bencher.counter(ItemsCount::new(ALL)).bench_local(|| place.look());
}

/// The files that were touched count as those that may yet change, and are looked at closely.
#[divan::bench(args = [10, 1000])]
fn look_after_changes(bencher: Bencher<'_, '_>, changes: usize) {
    let mut place = Place::new(2);
    bencher.counter(ItemsCount::new(ALL)).bench_local(|| {
        place.touch(changes);
        let found = place.look();
        assert!(found.len() >= changes);
        found
    });
}
