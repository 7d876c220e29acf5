//! Tests of what stands in for a file.

#![expect(clippy::disallowed_methods, reason = "tests look at the files themselves")]

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::RootOptions;

struct Bench {
    directory: tempfile::TempDir,
    root: Root,
}

impl Bench {
    fn new(protected: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for path in ["root/etc", "root/a/b", "store", "builder/cache"] {
            fs::create_dir_all(directory.path().join(path)).unwrap();
        }
        let write = |path: &str| fs::write(directory.path().join(path), path).unwrap();
        for path in ["root/etc/file", "builder/file", "builder/cache/kept", "root/a/b/own"] {
            write(path);
        }
        let protected = protected.iter().map(|path| at(path)).collect();
        let options = RootOptions { protected, ..RootOptions::default() };
        let root = Root::open(&directory.path().join("root"), options).unwrap();
        Self { directory, root }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join(path)
    }

    fn stand_ins(&self) -> StandIns<'_> {
        StandIns::new(&self.root, &self.path("store")).unwrap()
    }

    /// Names, inodes and times of everything in the root.
    fn listing(&self) -> Vec<(String, u64, i64, i64)> {
        let mut open = vec![self.path("root")];
        let mut found = Vec::new();
        while let Some(path) = open.pop() {
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            let name = path.display().to_string();
            found.push((name, metadata.ino(), metadata.mtime(), metadata.mtime_nsec()));
        }
        found.sort();
        found
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }
}

fn at(path: &str) -> RootPath {
    RootPath::parse(path.as_bytes()).unwrap()
}

#[test]
fn everything_is_put_back_in_the_same_inodes_with_the_same_times() {
    let bench = Bench::new(&[]);
    let before = bench.listing();
    let mut stand_ins = bench.stand_ins();
    let (cache, file) = (bench.path("builder/cache"), bench.path("builder/file"));
    stand_ins.put(&at("a/b"), Substitute::Kept(&cache)).unwrap();
    stand_ins.put(&at("etc/file"), Substitute::InMemory(&file)).unwrap();
    stand_ins.put(&at("new/deep/dir"), Substitute::Directory).unwrap();
    stand_ins.put(&at("new/place"), Substitute::Place { is_directory: false }).unwrap();
    stand_ins.put(&at("etc"), Substitute::Place { is_directory: true }).unwrap();
    stand_ins.put(&at("a/b/file"), Substitute::Disposable(&file)).unwrap();
    assert_eq!(bench.read("root/a/b/kept"), "builder/cache/kept");
    fs::write(bench.path("root/a/b/added"), "").unwrap();
    stand_ins.restore().unwrap();
    assert_eq!(bench.listing(), before);
    assert!(bench.path("builder/cache/added").exists() && !file.exists());
    assert_eq!(fs::read_dir(bench.path("store")).unwrap().count(), 0);
}

#[test]
fn secrets_in_a_missing_directory_below_run_are_plain_files_in_memory() {
    let bench = Bench::new(&[]);
    fs::create_dir_all(bench.path("memory")).unwrap();
    let before = bench.listing();
    let mut stand_ins = bench.stand_ins();
    for (number, target) in
        ["run/secrets/one", "run/secrets/two", "run/secrets/deep/er/three", "a/four"]
            .into_iter()
            .enumerate()
    {
        let file = bench.path("memory").join(number.to_string());
        fs::write(&file, target).unwrap();
        let put = stand_ins.put(&at(target), Substitute::InMemory(&file)).unwrap();
        assert_eq!(put, at(target));
        assert_eq!(bench.read(&format!("root/{target}")), target);
        let found = fs::symlink_metadata(bench.path("root").join(target)).unwrap();
        assert_eq!(found.is_file(), target.starts_with("run"), "{target}");
    }
    assert!(fs::symlink_metadata(bench.path("root/run/secrets")).unwrap().is_symlink());
    stand_ins.restore().unwrap();
    assert_eq!(bench.listing(), before);
}

#[test]
fn a_secret_that_is_gone_may_be_in_the_image() {
    for target in ["run/secrets/s", "s"] {
        let bench = Bench::new(&[]);
        fs::create_dir_all(bench.path("memory")).unwrap();
        let before = bench.listing();
        let file = bench.path("memory/0");
        fs::write(&file, "pw").unwrap();
        let mut stand_ins = bench.stand_ins();
        let what =
            if target == "s" { Substitute::Secret(&file) } else { Substitute::InMemory(&file) };
        stand_ins.put(&at(target), what).unwrap();
        fs::remove_file(bench.path("root").join(target)).unwrap();
        let error = stand_ins.restore().unwrap_err();
        assert!(matches!(error, StandInError::Moved { .. }), "{target}: {error}");
        let names = |listing: Vec<(String, u64, i64, i64)>| -> Vec<String> {
            listing.into_iter().map(|(name, ..)| name).collect()
        };
        assert_eq!(names(bench.listing()), names(before));
    }
}

#[test]
fn what_is_written_beside_secrets_in_memory_fails_the_step() {
    let bench = Bench::new(&[]);
    fs::create_dir_all(bench.path("root/run")).unwrap();
    fs::create_dir_all(bench.path("memory")).unwrap();
    let before = bench.listing();
    let file = bench.path("memory/0");
    fs::write(&file, "pw").unwrap();
    let mut stand_ins = bench.stand_ins();
    stand_ins.put(&at("run/secrets/d/s"), Substitute::InMemory(&file)).unwrap();
    fs::write(bench.path("root/run/secrets/d/mine"), "").unwrap();
    let error = stand_ins.restore().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the command wrote `d/mine` to `/run/secrets`, which is only there for secrets"
    );
    assert_eq!(bench.listing(), before);
}

#[test]
fn a_secret_in_the_root_is_a_plain_file_that_is_overwritten_and_gone() {
    let bench = Bench::new(&[]);
    let before = bench.listing();
    let memory = bench.path("builder/file");
    fs::set_permissions(&memory, fs::Permissions::from_mode(0o741)).unwrap();
    let mut stand_ins = bench.stand_ins();
    stand_ins.put(&at("secret"), Substitute::Secret(&memory)).unwrap();
    stand_ins.put(&at("etc/file"), Substitute::Secret(&memory)).unwrap();
    let target = bench.path("root/secret");
    assert_eq!(fs::symlink_metadata(&target).unwrap().mode(), 0o100_741);
    assert_eq!(bench.read("root/secret"), "builder/file");
    // Whoever still has it open reads nothing but zeros.
    let mut open = fs::File::open(&target).unwrap();
    stand_ins.restore().unwrap();
    let mut left = Vec::new();
    open.read_to_end(&mut left).unwrap();
    assert_eq!(left, [0; "builder/file".len()]);
    assert_eq!(bench.listing(), before);
    assert_eq!(bench.read("root/etc/file"), "root/etc/file");
}

#[test]
fn a_secret_in_the_root_that_got_another_name_fails_the_step_and_is_overwritten() {
    type Act = fn(&Bench);
    let acts: [(Act, &str); 3] = [
        (
            |bench| fs::hard_link(bench.path("root/s"), bench.path("root/kept")).unwrap(),
            "the command gave the secret at `/s` another name",
        ),
        (
            |bench| fs::rename(bench.path("root/s"), bench.path("root/kept")).unwrap(),
            "the command moved or replaced what it was given at `/s`",
        ),
        (
            |bench| {
                fs::rename(bench.path("root/s"), bench.path("root/kept")).unwrap();
                fs::write(bench.path("root/s"), "").unwrap();
            },
            "the command moved or replaced what it was given at `/s`",
        ),
    ];
    for (act, expected) in acts {
        let bench = Bench::new(&[]);
        let mut stand_ins = bench.stand_ins();
        let memory = bench.path("builder/file");
        stand_ins.put(&at("s"), Substitute::Secret(&memory)).unwrap();
        act(&bench);
        assert_eq!(stand_ins.restore().unwrap_err().to_string(), expected);
        assert_eq!(fs::read(bench.path("root/kept")).unwrap(), [0; "builder/file".len()]);
    }
}

#[test]
fn what_is_dropped_is_put_back_too() {
    let bench = Bench::new(&[]);
    let before = bench.listing();
    let mut stand_ins = bench.stand_ins();
    stand_ins.put(&at("etc"), Substitute::Directory).unwrap();
    drop(stand_ins);
    assert_eq!(bench.listing(), before);
}

#[test]
fn links_on_the_way_do_not_lead_out() {
    let bench = Bench::new(&[]);
    symlink("/../../a", bench.path("root/link")).unwrap();
    let mut stand_ins = bench.stand_ins();
    let target = stand_ins.put(&at("link/b/c/d"), Substitute::Directory).unwrap();
    assert_eq!(target, at("a/b/c/d"));
    assert!(bench.path("root/a/b/c/d").is_dir());
    stand_ins.restore().unwrap();
    assert!(!bench.path("root/a/b/c").exists());
}

#[test]
fn what_was_moved_or_replaced_is_told_and_the_original_is_back_where_there_is_room() {
    let bench = Bench::new(&[]);
    let mut stand_ins = bench.stand_ins();
    stand_ins.put(&at("etc"), Substitute::Directory).unwrap();
    fs::rename(bench.path("root/etc"), bench.path("root/moved")).unwrap();
    let error = stand_ins.restore().unwrap_err();
    assert_eq!(error.to_string(), "the command moved or replaced what it was given at `/etc`");
    assert!(error.hint().is_some());
    assert_eq!(bench.read("root/etc/file"), "root/etc/file");

    let mut stand_ins = bench.stand_ins();
    stand_ins.put(&at("a/b"), Substitute::Directory).unwrap();
    fs::remove_dir_all(bench.path("root/a")).unwrap();
    let error = stand_ins.restore().unwrap_err();
    assert_eq!(error.to_string(), "the command removed the directory that held `/a/b`");
}

#[test]
fn what_was_removed_is_no_loss_and_who_changed_a_directory_keeps_its_time() {
    let bench = Bench::new(&[]);
    let mut stand_ins = bench.stand_ins();
    stand_ins.put(&at("etc/file"), Substitute::Disposable(&bench.path("builder/file"))).unwrap();
    fs::remove_file(bench.path("root/etc/file")).unwrap();
    let old = fs::metadata(bench.path("root/etc")).unwrap().modified().unwrap();
    let newer = old + std::time::Duration::from_secs(5);
    fs::File::open(bench.path("root/etc")).unwrap().set_modified(newer).unwrap();
    stand_ins.restore().unwrap();
    assert_eq!(bench.read("root/etc/file"), "root/etc/file");
    assert_eq!(fs::metadata(bench.path("root/etc")).unwrap().modified().unwrap(), newer);
}

#[test]
fn protected_places_and_the_root_are_refused() {
    let bench = Bench::new(&["a/b"]);
    let before = bench.listing();
    let mut stand_ins = bench.stand_ins();
    for target in ["a/b", "a/b/c", ""] {
        let error = stand_ins.put(&at(target), Substitute::Directory).unwrap_err();
        assert!(matches!(error, StandInError::Protected { .. }), "{target}: {error}");
    }
    let error = stand_ins.put(&at("etc/file"), Substitute::Directory).unwrap_err();
    assert!(error.to_string().contains("/etc/file"), "{error}");
    let error = stand_ins.put(&at("etc/file/x/y"), Substitute::Directory).unwrap_err();
    assert!(matches!(error, StandInError::Root(_)), "{error}");
    stand_ins.restore().unwrap();
    assert_eq!(bench.listing(), before);
}

#[test]
fn what_is_seen_twice_is_not_what_has_the_same_name_elsewhere() {
    let bench = Bench::new(&[]);
    let before = bench.listing();
    for name in ["one", "two"] {
        fs::create_dir_all(bench.path("builder").join(name).join("data")).unwrap();
        fs::write(bench.path("builder").join(name).join("data/name"), name).unwrap();
    }
    let mut stand_ins = bench.stand_ins();
    for (target, name) in [("a/one", "one"), ("a/two", "two"), ("a/again", "two")] {
        let data = bench.path("builder").join(name).join("data");
        stand_ins.put(&at(target), Substitute::Kept(&data)).unwrap();
        assert_eq!(bench.read(&format!("root/{target}/name")), name, "{target}");
    }
    stand_ins.restore().unwrap();
    assert_eq!(bench.listing(), before);
    assert_eq!(bench.read("builder/two/data/name"), "two");
}
