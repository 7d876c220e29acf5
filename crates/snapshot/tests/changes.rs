//! What counts as a change, in every mode: the table that the crate's front page promises.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "the tests are the ones who change files behind the root's back"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ebiko_rootfs::{
    Attributes, Kind, Root, RootOptions, RootPath, StandIns, Substitute, Time, Xattrs,
};
use ebiko_snapshot::{AdvanceOptions, Change, Changeset, ContentHash, IgnoreSet, Mode, Snapshot};

/// Long after every file of a test: nothing is racy.
const LATER: Time = Time { secs: i64::MAX / 2, nanos: 0 };
/// Long before every file of a test: everything is racy.
const EARLIER: Time = Time { secs: 0, nanos: 0 };

struct Fixture {
    dir: tempfile::TempDir,
    root: Root,
    snapshot: Snapshot,
    ignore: IgnoreSet,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path(), RootOptions::default()).unwrap();
        Self { dir, root, snapshot: Snapshot::empty(), ignore: IgnoreSet::empty() }
    }

    /// A root with one of everything, known to the index as if a layer had just been unpacked and time had passed.
    fn known() -> Self {
        let mut fixture = Self::new();
        let dir = fixture.dir.path();
        for name in ["d", "d/sub", "e", "empty"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        for (name, content) in [
            ("d/f", "content"),
            ("d/g", "12345"),
            ("d/sub/deep", "x"),
            ("e/other", ""),
            ("tool", "#!"),
        ] {
            fs::write(dir.join(name), content).unwrap();
        }
        symlink("d/f", dir.join("link")).unwrap();
        fs::write(dir.join("h1"), "linked").unwrap();
        fs::hard_link(dir.join("h1"), dir.join("h2")).unwrap();
        fixture.take(LATER);
        // The slowest clock that stamps inodes ticks every 10 ms.
        std::thread::sleep(Duration::from_millis(20));
        fixture
    }

    /// Looks at everything and learns all content, as a layer that is packed would.
    fn take(&mut self, now: Time) {
        let changes = self.advance(Mode::Full, now);
        self.learn(&changes);
    }

    fn learn(&mut self, changes: &Changeset) {
        for change in changes {
            let Change::Put { path, hard_link, .. } = change else { continue };
            if let Some(first) = hard_link {
                self.snapshot.learn_link(&path, &first);
                continue;
            }
            let metadata = self.root.metadata(&path).unwrap();
            let content = match metadata.kind {
                Kind::Regular => {
                    Some(ContentHash::of_reader(&mut self.root.open_file(&path).unwrap()).unwrap())
                }
                Kind::Symlink => Some(ContentHash::of(&self.root.read_link(&path).unwrap())),
                _ => None,
            };
            self.snapshot.learn(&path, &metadata, content, &self.root.xattrs(&path).unwrap());
        }
    }

    fn options(&self, mode: Mode, now: Time) -> AdvanceOptions<'_> {
        AdvanceOptions { mode, ignore: &self.ignore, threads: 2, now }
    }

    fn advance(&mut self, mode: Mode, now: Time) -> Changeset {
        let options = AdvanceOptions { mode, ignore: &self.ignore, threads: 2, now };
        self.snapshot.advance(&self.root, &options).unwrap()
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.dir.path().join(path)
    }

    fn set(&self, name: &str, attributes: &Attributes) {
        self.root.set_attributes(&path(name), attributes).unwrap();
    }
}

fn path(path: &str) -> RootPath {
    RootPath::parse(path.as_bytes()).unwrap()
}

/// Does something to a file and puts its modification time back.
fn keeping_time(file: &Path, act: impl FnOnce()) {
    let time = fs::metadata(file).unwrap().modified().unwrap();
    act();
    fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
}

/// Checks what `act` amounts to in the three modes; `-` stands for the same as in full mode.
#[track_caller]
fn check(act: impl Fn(&Fixture), full: &[&str], redo: &[&str], time: &[&str]) {
    for (mode, expected) in [(Mode::Full, full), (Mode::Redo, redo), (Mode::Time, time)] {
        let expected = if expected == ["-"] { full } else { expected };
        for by_path in [false, true] {
            let mut fixture = Fixture::known();
            let before: BTreeSet<RootPath> = fixture.snapshot.paths().into_iter().collect();
            act(&fixture);
            let changes = if by_path {
                let all = before.into_iter().chain(everything(&fixture.root)).collect();
                let options =
                    AdvanceOptions { mode, ignore: &fixture.ignore, threads: 2, now: LATER };
                fixture.snapshot.advance_paths(&fixture.root, &all, &options).unwrap()
            } else {
                fixture.advance(mode, LATER)
            };
            let lines: Vec<String> = changes.iter().map(|change| change.to_string()).collect();
            assert_eq!(lines, expected, "in {mode:?} mode, by path: {by_path}");
            assert_eq!(
                fixture.snapshot.paths(),
                everything(&fixture.root),
                "the index is what is there"
            );
            fixture.learn(&changes);
            let again = fixture.advance(Mode::Full, LATER);
            assert!(mode != Mode::Full || again.is_empty(), "a second look finds {again:?}");
        }
    }
}

fn everything(root: &Root) -> Vec<RootPath> {
    let mut paths = Vec::new();
    let mut pending = vec![RootPath::root()];
    while let Some(directory) = pending.pop() {
        for entry in root.list(&directory).unwrap() {
            let path = directory.child(&entry.name).unwrap();
            if entry.metadata.is_dir() {
                pending.push(path.clone());
            }
            if entry.metadata.kind != Kind::Socket {
                paths.push(path);
            }
        }
    }
    paths.sort();
    paths
}

const SAME: &[&str] = &["-"];
const NOTHING: &[&str] = &[];

#[test]
fn nothing_done_is_no_change() {
    check(|_| {}, NOTHING, NOTHING, NOTHING);
}

#[test]
fn a_new_file_comes_with_the_directories_that_lead_to_it() {
    check(
        |f| fs::write(f.path("d/sub/new"), "x").unwrap(),
        &["put d", "put d/sub", "put d/sub/new"],
        SAME,
        SAME,
    );
}

#[test]
fn a_new_tree_is_put_whole_and_unchanged_siblings_are_not() {
    check(
        |f| {
            fs::create_dir_all(f.path("e/a/b")).unwrap();
            fs::write(f.path("e/a/b/c"), "x").unwrap();
        },
        &["put e", "put e/a", "put e/a/b", "put e/a/b/c"],
        SAME,
        SAME,
    );
}

#[test]
fn a_removed_file_is_one_removal_in_its_directory() {
    check(|f| fs::remove_file(f.path("d/f")).unwrap(), &["put d", "remove d/f"], SAME, SAME);
}

#[test]
fn a_removed_tree_is_one_removal() {
    check(|f| fs::remove_dir_all(f.path("d")).unwrap(), &["remove d"], SAME, SAME);
}

#[test]
fn a_changed_mode_shows_except_to_time() {
    check(
        |f| fs::set_permissions(f.path("tool"), fs::Permissions::from_mode(0o4755)).unwrap(),
        &["put tool"],
        SAME,
        NOTHING,
    );
    check(
        |f| fs::set_permissions(f.path("empty"), fs::Permissions::from_mode(0o1777)).unwrap(),
        &["put empty"],
        SAME,
        NOTHING,
    );
}

#[test]
fn a_mode_that_was_changed_and_put_back_is_no_change() {
    let act = |f: &Fixture| {
        let old = fs::metadata(f.path("tool")).unwrap().permissions();
        fs::set_permissions(f.path("tool"), fs::Permissions::from_mode(0o0)).unwrap();
        fs::set_permissions(f.path("tool"), old).unwrap();
    };
    check(act, NOTHING, NOTHING, NOTHING);
}

#[test]
fn a_changed_owner_shows_except_to_time() {
    check(
        |f| {
            f.set(
                "d/sub/deep",
                &Attributes { uid: Some(33), gid: Some(34), ..Attributes::default() },
            );
        },
        &["put d", "put d/sub", "put d/sub/deep"],
        SAME,
        NOTHING,
    );
    check(
        |f| f.set("link", &Attributes { gid: Some(34), ..Attributes::default() }),
        &["put link"],
        SAME,
        NOTHING,
    );
}

#[test]
fn a_touched_file_is_a_change() {
    let touch = |f: &Fixture| {
        fs::File::options()
            .write(true)
            .open(f.path("tool"))
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
    };
    check(touch, &["put tool"], SAME, SAME);
}

#[test]
fn the_time_of_a_directory_alone_is_no_change() {
    let temporary = |f: &Fixture| {
        fs::write(f.path("d/tmp"), "x").unwrap();
        fs::remove_file(f.path("d/tmp")).unwrap();
    };
    check(temporary, NOTHING, NOTHING, NOTHING);
}

#[test]
fn only_full_mode_sees_an_edit_of_the_same_size_with_the_time_put_back() {
    let edit =
        |f: &Fixture| keeping_time(&f.path("d/f"), || fs::write(f.path("d/f"), "CONTENT").unwrap());
    check(edit, &["put d", "put d/f"], NOTHING, NOTHING);
}

#[test]
fn a_file_rewritten_as_it_was_is_no_change() {
    let same =
        |f: &Fixture| keeping_time(&f.path("d/f"), || fs::write(f.path("d/f"), "content").unwrap());
    check(same, NOTHING, NOTHING, NOTHING);
    // Written beside and renamed over, as editors and package managers do.
    let replaced = |f: &Fixture| {
        let time = fs::metadata(f.path("d/f")).unwrap().modified().unwrap();
        fs::copy(f.path("d/f"), f.path("d/f.new")).unwrap();
        fs::File::options()
            .write(true)
            .open(f.path("d/f.new"))
            .unwrap()
            .set_modified(time)
            .unwrap();
        fs::rename(f.path("d/f.new"), f.path("d/f")).unwrap();
    };
    check(replaced, NOTHING, NOTHING, NOTHING);
}

#[test]
fn a_file_rewritten_as_it_was_with_a_new_time_is_a_change() {
    check(|f| fs::write(f.path("d/f"), "content").unwrap(), &["put d", "put d/f"], SAME, SAME);
}

#[test]
fn a_write_through_a_memory_map_is_seen() {
    let write = |f: &Fixture| {
        let file = f.path("d/g");
        keeping_time(&file, || {
            let script = "import mmap,sys\nf=open(sys.argv[1],'r+b')\nm=mmap.mmap(f.fileno(),0)\nm[0:1]=b'Z'\nm.close()";
            let status = std::process::Command::new("python3")
                .args(["-c", script])
                .arg(&file)
                .status()
                .unwrap();
            assert!(status.success());
        });
    };
    check(write, &["put d", "put d/g"], NOTHING, NOTHING);
}

#[test]
fn a_renamed_directory_is_removed_here_and_put_there() {
    check(
        |f| fs::rename(f.path("d"), f.path("z")).unwrap(),
        &["remove d", "put z", "put z/f", "put z/g", "put z/sub", "put z/sub/deep"],
        SAME,
        SAME,
    );
}

#[test]
fn a_directory_in_place_of_a_file_needs_no_removal() {
    check(
        |f| {
            fs::remove_file(f.path("d/f")).unwrap();
            fs::create_dir(f.path("d/f")).unwrap();
            fs::write(f.path("d/f/x"), "x").unwrap();
        },
        &["put d", "put d/f", "put d/f/x"],
        SAME,
        &["put d", "put d/f", "put d/f/x"],
    );
}

#[test]
fn a_file_in_place_of_a_directory_needs_no_removal() {
    check(
        |f| {
            fs::remove_dir_all(f.path("d")).unwrap();
            fs::write(f.path("d"), "x").unwrap();
        },
        &["put d"],
        SAME,
        SAME,
    );
}

#[test]
fn a_tree_replaced_by_another_removes_what_the_other_lacks() {
    check(
        |f| {
            fs::remove_dir_all(f.path("d")).unwrap();
            fs::create_dir(f.path("d")).unwrap();
            fs::write(f.path("d/new"), "x").unwrap();
        },
        &["put d", "remove d/f", "remove d/g", "put d/new", "remove d/sub"],
        SAME,
        SAME,
    );
}

#[test]
fn a_further_name_brings_the_content_and_all_other_names_along() {
    check(
        |f| fs::hard_link(f.path("d/f"), f.path("aa")).unwrap(),
        &["put aa", "put d", "put d/f = aa"],
        SAME,
        SAME,
    );
    check(
        |f| fs::hard_link(f.path("h1"), f.path("e/h3")).unwrap(),
        &["put e", "put e/h3", "put h1 = e/h3", "put h2 = e/h3"],
        SAME,
        SAME,
    );
}

#[test]
fn a_changed_file_with_two_names_is_put_with_both() {
    check(|f| fs::write(f.path("h2"), "other").unwrap(), &["put h1", "put h2 = h1"], SAME, SAME);
}

#[test]
fn a_name_less_is_a_removal_only() {
    check(|f| fs::remove_file(f.path("h1")).unwrap(), &["remove h1"], SAME, SAME);
}

#[test]
fn a_name_that_leaves_its_group_changed_even_if_its_bytes_did_not() {
    let separate = |f: &Fixture| {
        let time = fs::metadata(f.path("h2")).unwrap().modified().unwrap();
        fs::copy(f.path("h2"), f.path("h2.new")).unwrap();
        fs::File::options().write(true).open(f.path("h2.new")).unwrap().set_modified(time).unwrap();
        fs::rename(f.path("h2.new"), f.path("h2")).unwrap();
    };
    check(separate, &["put h2"], SAME, SAME);
}

#[test]
fn extended_attributes_are_seen_by_full_mode_only() {
    let capability =
        b"\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
            .to_vec();
    // Version 2; user::rw-, user:7:r--, group::r--, mask::r--, other::r--: the mode that the file has.
    let list = [
        (1_u16, 6_u16, u32::MAX),
        (2, 4, 7),
        (4, 4, u32::MAX),
        (16, 4, u32::MAX),
        (32, 4, u32::MAX),
    ];
    let entries = list.map(|(tag, rights, id)| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    });
    let acl = [2_u32.to_le_bytes().to_vec(), entries.concat()].concat();
    for (name, value) in [
        ("user.note", b"hello".to_vec()),
        ("security.capability", capability),
        ("system.posix_acl_access", acl),
    ] {
        let xattrs = Xattrs::from([(name.as_bytes().to_vec(), value)]);
        check(
            |f| {
                f.set(
                    "tool",
                    &Attributes { xattrs: Some(xattrs.clone()), ..Attributes::default() },
                );
                // The kernel touches the inode; where the attribute is virtual, whoever sets it for a
                // step has to.
                let mode = fs::metadata(f.path("tool")).unwrap().permissions();
                fs::set_permissions(f.path("tool"), mode).unwrap();
            },
            &["put tool"],
            NOTHING,
            NOTHING,
        );
    }
}

#[test]
fn a_link_with_another_target_is_a_change() {
    let retarget = |f: &Fixture| {
        fs::remove_file(f.path("link")).unwrap();
        symlink("d/g", f.path("link")).unwrap();
    };
    check(retarget, &["put link"], SAME, SAME);
    let in_disguise = |f: &Fixture| {
        let metadata = fs::symlink_metadata(f.path("link")).unwrap();
        retarget(f);
        let mtime =
            Time { secs: metadata.mtime(), nanos: u32::try_from(metadata.mtime_nsec()).unwrap() };
        f.set("link", &Attributes { mtime: Some(mtime), ..Attributes::default() });
    };
    check(in_disguise, &["put link"], NOTHING, NOTHING);
}

#[test]
fn a_socket_does_not_exist() {
    check(
        |f| {
            drop(UnixListener::bind(f.path("e/socket")).unwrap());
        },
        NOTHING,
        NOTHING,
        NOTHING,
    );
    check(
        |f| {
            fs::remove_file(f.path("e/other")).unwrap();
            drop(UnixListener::bind(f.path("e/other")).unwrap());
        },
        &["put e", "remove e/other"],
        SAME,
        SAME,
    );
}

#[test]
fn ignored_paths_neither_come_nor_go() {
    let mut fixture = Fixture::known();
    fixture.ignore = IgnoreSet::new(["/d/s*", "/e"]).unwrap();
    fs::remove_dir_all(fixture.path("e")).unwrap();
    fs::write(fixture.path("d/sub/deep"), "changed").unwrap();
    fs::write(fixture.path("d/f"), "changed").unwrap();
    fs::write(fixture.path("d/secret"), "new").unwrap();
    let changes = fixture.advance(Mode::Full, LATER);
    assert_eq!(changes.to_string(), "put d\nput d/f\n");
    let paths = ["e/other", "d/sub/deep", "d/secret"].map(path).into_iter().collect();
    let options =
        AdvanceOptions { mode: Mode::Full, ignore: &fixture.ignore, threads: 1, now: LATER };
    let changes = fixture.snapshot.advance_paths(&fixture.root, &paths, &options).unwrap();
    assert_eq!(changes.to_string(), "");
}

#[test]
fn a_look_at_paths_sees_those_and_the_way_to_them_only() {
    let mut fixture = Fixture::known();
    fs::write(fixture.path("d/f"), "changed").unwrap();
    fs::write(fixture.path("d/g"), "changed too").unwrap();
    fs::create_dir_all(fixture.path("new/tree")).unwrap();
    fs::write(fixture.path("new/tree/file"), "x").unwrap();
    fs::remove_dir_all(fixture.path("empty")).unwrap();
    symlink("/d/sub", fixture.path("shortcut")).unwrap();
    fs::write(fixture.path("d/sub/via"), "x").unwrap();
    let paths =
        ["d/f", "new", "empty", "shortcut/via", "never/there"].map(path).into_iter().collect();
    let options =
        AdvanceOptions { mode: Mode::Full, ignore: &fixture.ignore, threads: 1, now: LATER };
    let changes = fixture.snapshot.advance_paths(&fixture.root, &paths, &options).unwrap();
    assert_eq!(
        changes.to_string(),
        "put d\nput d/f\nput d/sub\nput d/sub/via\nremove empty\nput new\nput new/tree\nput new/tree/file\n"
    );
    let rest = fixture.advance(Mode::Full, LATER);
    assert_eq!(
        rest.to_string(),
        "put d\nput d/g\nput shortcut\n",
        "the rest is found by the next look"
    );
}

#[test]
fn a_racy_file_is_confirmed_by_content_although_nothing_else_shows() {
    // Both looks pretend that the clock stood still: the second must not trust what the first saw.
    for (now, expected) in [(EARLIER, "put d\nput d/f\n"), (LATER, "")] {
        let mut fixture = Fixture::new();
        fs::create_dir(fixture.path("d")).unwrap();
        fs::write(fixture.path("d/f"), "content").unwrap();
        let changes = fixture.advance(Mode::Full, now);
        // The index learns content that is not there, as if the file had changed after the read and within one tick.
        for change in &changes {
            let metadata = fixture.root.metadata(change.path()).unwrap();
            let hash = metadata.is_file().then(|| ContentHash::of(b"CONTENT"));
            fixture.snapshot.learn(change.path(), &metadata, hash, &Xattrs::new());
        }
        let second = fixture.advance(Mode::Full, LATER);
        assert_eq!(second.to_string(), expected, "now = {now:?}");
    }
}

#[test]
fn recorded_files_need_no_look_once_time_has_passed() {
    let mut fixture = Fixture::new();
    fs::create_dir(fixture.path("d")).unwrap();
    fs::write(fixture.path("d/f"), "content").unwrap();
    for (name, content) in
        [("d", None), ("d/f", Some(ContentHash::of(b"wrong on purpose: nobody may read the file")))]
    {
        let metadata = fixture.root.metadata(&path(name)).unwrap();
        fixture.snapshot.record(&path(name), &metadata, content, &Xattrs::new());
    }
    fixture.snapshot.settle(LATER);
    assert_eq!(fixture.advance(Mode::Full, LATER).to_string(), "");
}

#[test]
fn recorded_files_that_never_settled_are_confirmed() {
    let mut fixture = Fixture::new();
    fs::write(fixture.path("f"), "content").unwrap();
    let metadata = fixture.root.metadata(&path("f")).unwrap();
    fixture.snapshot.record(
        &path("f"),
        &metadata,
        Some(ContentHash::of(b"CONTENT")),
        &Xattrs::new(),
    );
    assert_eq!(fixture.advance(Mode::Full, LATER).to_string(), "put f\n");
}

#[test]
fn directories_that_nobody_recorded_are_found_changed() {
    let mut fixture = Fixture::new();
    fs::create_dir(fixture.path("d")).unwrap();
    fs::write(fixture.path("d/f"), "x").unwrap();
    let metadata = fixture.root.metadata(&path("d/f")).unwrap();
    fixture.snapshot.record(&path("d/f"), &metadata, Some(ContentHash::of(b"x")), &Xattrs::new());
    fixture.snapshot.settle(LATER);
    assert_eq!(fixture.advance(Mode::Full, LATER).to_string(), "put d\n");
}

#[test]
fn recording_replaces_and_removes_trees() {
    let mut fixture = Fixture::known();
    let file = fixture.root.metadata(&path("tool")).unwrap();
    fixture.snapshot.record(&path("d"), &file, None, &Xattrs::new());
    fixture.snapshot.remove(&path("e"));
    fixture.snapshot.remove(&path("not/there"));
    let paths: Vec<String> = fixture.snapshot.paths().iter().map(ToString::to_string).collect();
    assert_eq!(paths, ["d", "empty", "h1", "h2", "link", "tool"]);
    assert_eq!(fixture.snapshot.len(), 6);
    assert_eq!(fixture.snapshot.get(&path("d")).unwrap().kind, Kind::Regular);
    assert!(fixture.snapshot.get(&path("d/f")).is_none());
}

#[test]
fn what_an_opaque_directory_hides_is_what_other_layers_wrote() {
    let mut fixture = Fixture::known();
    let (file, directory) =
        (fixture.root.metadata(&path("tool")).unwrap(), fixture.root.metadata(&path("d")).unwrap());
    fixture.snapshot.begin_layer();
    fixture.snapshot.record(&path("d/new"), &file, None, &Xattrs::new());
    fixture.snapshot.record(&path("d/sub/new"), &file, None, &Xattrs::new());
    fixture.snapshot.record(&path("e"), &directory, None, &Xattrs::new());
    let older = |fixture: &Fixture, at: &str| -> Vec<String> {
        fixture.snapshot.older_beneath(&path(at)).iter().map(ToString::to_string).collect()
    };
    assert_eq!(older(&fixture, "d"), ["d/f", "d/g", "d/sub/deep"]);
    assert_eq!(
        older(&fixture, ""),
        ["d/f", "d/g", "d/sub/deep", "e/other", "empty", "h1", "h2", "link", "tool"]
    );
    fixture.snapshot.begin_layer();
    assert_eq!(older(&fixture, "d"), ["d/f", "d/g", "d/new", "d/sub"]);
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let build = |dir: &Path| {
        for number in 0..60 {
            let directory = dir.join(format!("d{}/e{}", number % 7, number));
            fs::create_dir_all(&directory).unwrap();
            for file in 0..number {
                fs::write(directory.join(format!("f{file}")), "x").unwrap();
            }
        }
    };
    let results: Vec<String> = [0, 1, 2, 8]
        .into_iter()
        .map(|threads| {
            let mut fixture = Fixture::new();
            build(fixture.dir.path());
            let options = AdvanceOptions { threads, ..fixture.options(Mode::Full, LATER) };
            let mut snapshot = Snapshot::empty();
            let first = snapshot.advance(&fixture.root, &options).unwrap();
            fixture.snapshot = snapshot;
            fs::remove_dir_all(fixture.path("d3")).unwrap();
            format!("{first}{}", fixture.advance(Mode::Full, LATER))
        })
        .collect();
    assert!(results[0].lines().count() > 1800, "{}", results[0].lines().count());
    for result in &results[1..] {
        assert!(*result == results[0]);
    }
}

#[test]
fn deep_trees_need_few_descriptors_and_no_deep_stack() {
    let mut fixture = Fixture::new();
    let depth = 1500;
    let deep = "d/".repeat(depth);
    fs::create_dir_all(fixture.path(&deep)).unwrap();
    let changes = fixture.advance(Mode::Full, LATER);
    assert_eq!(changes.len(), depth);
    fs::remove_dir_all(fixture.path("d/d")).unwrap();
    assert_eq!(fixture.advance(Mode::Full, LATER).to_string(), "put d\nremove d/d\n");
}

#[test]
fn an_edit_in_place_is_seen_whatever_writes_it() {
    check(
        |f| {
            fs::File::options()
                .write(true)
                .open(f.path("h1"))
                .unwrap()
                .write_all_at(b"L", 0)
                .unwrap();
        },
        &["put h1", "put h2 = h1"],
        SAME,
        SAME,
    );
}

#[test]
fn what_something_else_stood_in_for_is_not_changed() {
    for mode in [Mode::Full, Mode::Redo, Mode::Time] {
        let mut fixture = Fixture::new();
        fs::create_dir_all(fixture.path("etc/deep")).unwrap();
        for name in ["etc/hosts", "etc/passwd", "etc/deep/mount", "etc/deep/own"] {
            fs::write(fixture.path(name), name).unwrap();
        }
        fs::hard_link(fixture.path("etc/passwd"), fixture.path("etc/linked")).unwrap();
        symlink("passwd", fixture.path("etc/link")).unwrap();
        let protected = vec![path("etc/hosts"), path("etc/deep/mount")];
        let options = RootOptions { protected, ..RootOptions::default() };
        fixture.root = Root::open(fixture.dir.path(), options).unwrap();
        fixture.take(LATER);
        std::thread::sleep(Duration::from_millis(20));

        let store = tempfile::tempdir_in(fixture.dir.path().parent().unwrap()).unwrap();
        let mut stand_ins = StandIns::new(&fixture.root, store.path()).unwrap();
        stand_ins.put(&path("etc"), Substitute::Directory).unwrap();
        assert!(fixture.root.find(&path("etc/linked")).unwrap().is_none());
        fs::write(fixture.path("etc/passwd"), "of the command").unwrap();
        stand_ins.restore().unwrap();
        let changes = fixture.advance(mode, LATER);
        assert!(changes.is_empty(), "in {mode:?} mode: {changes:?}");
        assert_eq!(fixture.snapshot.paths(), everything(&fixture.root));
    }
}
