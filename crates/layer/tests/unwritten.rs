//! A layer whose regular files are read and not written leaves the same index and fails with the same errors as one that
//! is unpacked. [`Place::unpack`] compares the two for every layer of every test; here are those that were made for it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "tests arrange the world around the root")]

mod support;

use std::collections::BTreeSet;
use std::io::Write as _;

use ebiko_layer::{Files, UnpackOptions, unpack};
use ebiko_rootfs::{Attributes, Kind, Root, RootPath, Time};
use ebiko_snapshot::{AdvanceOptions, IgnoreSet, Mode, Snapshot};
use support::{FIXED, LATER, Place, Tar, chain, everything, layer_of, path};

#[track_caller]
fn check(layers: &[Tar]) {
    let mut place = Place::new();
    for layer in layers {
        if place.unpack(&layer.clone().end()).is_err() {
            return;
        }
    }
}

/// Unpacks layers, all of which are whole.
#[track_caller]
fn check_whole(layers: &[Tar]) {
    let mut place = Place::new();
    for layer in layers {
        if let Err(error) = place.unpack(&layer.clone().end()) {
            panic!("{}", chain(&error));
        }
    }
}

#[test]
fn names_of_a_file_come_and_go() {
    let linked = Tar::new().file("a", "1").hard_link("b", "a").hard_link("d/c", "b");
    check_whole(&[linked.clone(), Tar::new().file(".wh.b", "")]);
    check_whole(&[linked.clone(), Tar::new().file(".wh.b", "").hard_link("e", "a")]);
    check_whole(&[linked.clone(), Tar::new().hard_link("e", "a").file("a", "2").file("b", "3")]);
    check_whole(&[linked.clone().file("a", "2").file("b", "2").directory("d")]);
    check_whole(&[linked.clone(), Tar::new().file("d", "in the place of a directory")]);
    check_whole(&[Tar::new().file("a", "1").hard_link("b", "a").file("a", "2")]);
    check_whole(&[linked, Tar::new().hard_link("a", "b").hard_link("b", "a").file("x", "y")]);
}

#[test]
fn a_file_in_the_place_of_a_directory_that_has_to_stay_is_known_to_the_root() {
    check_whole(&[Tar::new().file("mount", "1")]);
    check_whole(&[
        Tar::new().file("mount", "1"),
        Tar::new().directory("mount").file("mount/x", "2"),
    ]);
    check_whole(&[
        Tar::new().file("mount/x", "1"),
        Tar::new().file("mount", "2").hard_link("y", "mount"),
    ]);
    check_whole(&[Tar::new().file("mount/point", "1").hard_link("y", "mount/point")]);
    check(&[Tar::new().file("mount", "1").file("mount/point/x", "2")]);
}

#[test]
fn what_leads_through_an_unwritten_file_leads_nowhere() {
    let base = Tar::new()
        .file("f", "1")
        .file("d/g", "2")
        .symlink("over", "f/../d")
        .symlink("slash", "f/")
        .symlink("plain", "f");
    for name in ["f/x", "f/x/y", "over/x", "slash/x", "plain/x", "plain/x/y", "over/g/x"] {
        check(&[base.clone(), Tar::new().file(name, "3")]);
        check(&[base.clone(), Tar::new().directory(name)]);
        check(&[base.clone(), Tar::new().symlink(name, "f")]);
        check(&[base.clone(), Tar::new().hard_link(name, "f")]);
        check(&[base.clone(), Tar::new().hard_link("h", name)]);
        check(&[base.clone(), Tar::new().fifo(name)]);
        let (parent, last) = name.rsplit_once('/').unwrap();
        check(&[base.clone(), Tar::new().file(format!("{parent}/.wh.{last}"), "")]);
        check(&[base.clone(), Tar::new().file(format!("{parent}/.wh..wh..opq"), "")]);
    }
}

#[test]
fn files_that_are_asked_for_are_written() {
    let layers = [
        Tar::new().file("etc/passwd", "first").file("etc/group", "g").file("x", "1"),
        Tar::new().file("etc/passwd", "second").hard_link("y", "etc/passwd"),
    ];
    let mut place = Place::new();
    let wanted = BTreeSet::from([path("etc/passwd"), path("etc/shadow")]);
    let options = UnpackOptions { files: Files::Only(wanted), ..UnpackOptions::default() };
    for layer in layers {
        unpack(&layer_of(&layer.end()), &place.root, &mut place.snapshot, &options).unwrap();
    }
    assert_eq!(support::outline(&place.root), "etc/ etc/passwd=second y=second");
    assert_eq!(place.snapshot.unwritten(&path("etc/passwd")), None);
    assert!(place.snapshot.unwritten(&path("etc/group")).is_some());
    place.snapshot.settle(LATER);
    assert_eq!(place.advance().to_string(), "", "what was not written was not removed");
}

/// A fixed sequence of numbers without a pattern that matters here (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % count as u64).unwrap()
    }

    fn one_of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len())]
    }

    fn path(&mut self) -> String {
        let mut path = String::new();
        for _ in 0..self.below(3) {
            path += self.one_of(&["a/", "b/", "mount/", "point/"]);
        }
        // Mostly not the name of a directory, or few images would be whole.
        let name = if self.below(8) == 0 {
            self.one_of(&["a", "b", "mount"])
        } else {
            self.one_of(&["f", "g"])
        };
        path + name
    }
}

fn random_layer(dice: &mut Dice, files: &mut Vec<String>) -> Tar {
    let mut tar = Tar::new();
    for _ in 0..=dice.below(8) {
        let path = dice.path();
        tar = match dice.below(12) {
            0..=3 => {
                files.push(path.clone());
                tar.file(path, dice.one_of(&["", "1", "2"]))
            }
            4 | 5 => tar.directory(path),
            6 => {
                let target = ["a", "b/", "../a", "/b/c", "a/../b", "/mount/point", ".", "./c/."];
                tar.symlink(path, dice.one_of(&target))
            }
            7 | 8 => {
                let target = match files.len() {
                    0 => dice.path(),
                    count => files[dice.below(count)].clone(),
                };
                tar.hard_link(path, &target)
            }
            9 => tar.fifo(&path),
            10 => {
                let (above, name) = path.rsplit_once('/').unwrap_or((".", &path));
                tar.file(format!("{above}/.wh.{name}"), "")
            }
            _ => tar.file(format!("{path}/.wh..wh..opq"), ""),
        };
    }
    tar
}

#[test]
fn layers_of_any_kind_leave_the_same_index_and_changes_are_the_same() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut whole, mut changed) = (0, 0);
    for round in 0..200 {
        let mut place = Place::new();
        let mut files = Vec::new();
        let mut next = || random_layer(&mut dice, &mut files).end();
        if !(0..3).all(|_| place.unpack(&next()).is_ok()) {
            continue;
        }
        whole += 1;
        let Place { root, snapshot, thin: (thin_root, thin), .. } = &mut place;
        for _ in 0..4 {
            let mut at = path(dice.path());
            if snapshot.get(&at.parent().unwrap()).is_none_or(|above| above.kind != Kind::Directory)
            {
                at = path(at.file_name().unwrap());
            }
            let content = dice.one_of(&["", "1", "2"]);
            let text = change(root, snapshot, &at, content);
            assert_eq!(change(thin_root, thin, &at, content), text, "round {round}: {at}");
            changed += usize::from(!text.is_empty());
        }
    }
    assert!(whole > 50 && changed > 100, "{whole} of the images are whole, {changed} changed");
}

/// Puts a file at `path` as a copy does, and says what changed.
fn change(root: &Root, snapshot: &mut Snapshot, path: &RootPath, content: &str) -> String {
    root.make_way(path, Kind::Regular).unwrap();
    let mut file = root.create_file(path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
    let attributes = Attributes {
        uid: Some(0),
        gid: Some(0),
        mode: Some(0o644),
        mtime: Some(FIXED),
        ..Attributes::default()
    };
    root.set_file_attributes(&file, path, &attributes).unwrap();
    snapshot.settle(LATER);
    let ignore = IgnoreSet::empty();
    let now = Time { secs: i64::MAX / 2, nanos: 0 };
    let options = AdvanceOptions { mode: Mode::Full, ignore: &ignore, threads: 1, now };
    let changes = snapshot.advance_paths(root, &BTreeSet::from([path.clone()]), &options).unwrap();
    assert!(everything(root).contains(path));
    changes.to_string()
}
