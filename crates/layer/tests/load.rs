//! A changeset of many files, which are read ahead of the packer.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::BTreeMap;
use std::io::Read as _;

use ebiko_layer::spool;
use ebiko_oci::DiffId;
use support::{FIXED, Place, path};

/// Sizes around everything that decides who reads a file: nothing, the largest small one, what fills a batch, large ones.
const SIZES: [usize; 9] = [0, 1, 511, 512, 4097, 60_000, 65_536, 65_537, 300_000];

fn content(number: usize) -> Vec<u8> {
    (0..SIZES[number % SIZES.len()]).map(|at| (at * 31 + number).to_le_bytes()[0]).collect()
}

/// Files, links of them, symbolic links and directories, in an order in which directories change often.
fn place() -> (Place, BTreeMap<String, Vec<u8>>) {
    let place = Place::new();
    let mut files = BTreeMap::new();
    for directory in 0..20 {
        place.directory(format!("d{directory}"));
        for number in 0..25 {
            let name = format!("d{directory}/f{number:02}");
            let content = content(directory * 7 + number);
            place.file(&name, &content);
            files.insert(name, content);
        }
        place.symlink(&format!("d{directory}/link"), "f00");
        place.hard_link(&format!("d{directory}/zz"), &format!("d{directory}/f01"));
    }
    (place, files)
}

#[test]
fn every_file_is_in_the_layer_once_with_its_content() {
    let (mut place, expected) = place();
    let changes = place.advance();
    let mut tar = Vec::new();
    let spooled = spool(&changes, &place.root, &mut place.snapshot, None, &mut tar).unwrap();
    assert_eq!(spooled.diff_id, DiffId::of(&tar));
    assert_eq!((spooled.entries, spooled.warnings.len()), (changes.len() as u64, 0));

    let mut paths = Vec::new();
    let mut found = BTreeMap::new();
    for member in tar::Archive::new(&tar[..]).entries().unwrap() {
        let mut member = member.unwrap();
        let name = member.path().unwrap().to_str().unwrap().to_owned();
        if member.header().entry_type() == tar::EntryType::Regular {
            let mut content = Vec::new();
            member.read_to_end(&mut content).unwrap();
            found.insert(name.clone(), content);
        }
        paths.push(name.trim_end_matches('/').to_owned());
    }
    assert!(found == expected);
    let in_order: Vec<String> = changes.iter().map(|change| change.path().to_string()).collect();
    assert_eq!(paths, in_order);
}

#[test]
fn what_was_read_ahead_is_known_to_the_index() {
    let (mut place, files) = place();
    let changes = place.advance();
    spool(&changes, &place.root, &mut place.snapshot, None, &mut std::io::sink()).unwrap();
    // The change time is another one, and nothing else is: only who knows the content can tell.
    for name in files.keys() {
        let before = place.root.metadata(&path(name)).unwrap();
        place.set(name, 0o600, FIXED);
        place.set(name, before.mode, before.mtime);
    }
    let touched = place.advance();
    assert!(touched.is_empty(), "{touched}");
    place.root.remove(&path("d3/f04")).unwrap();
    place.file("d3/f04", vec![b'!'; content(25).len()]);
    assert_eq!(place.advance().to_string(), "put d3\nput d3/f04\n");
}

#[test]
fn files_that_went_away_are_left_out_wherever_they_are() {
    let (mut place, files) = place();
    let changes = place.advance();
    let gone = ["d0/f00", "d19/f24", "d7/f13"];
    for name in gone {
        place.root.remove(&path(name)).unwrap();
    }
    let mut tar = Vec::new();
    let spooled = spool(&changes, &place.root, &mut place.snapshot, None, &mut tar).unwrap();
    let warned: Vec<String> =
        spooled.warnings.iter().map(|warning| warning.path.to_string()).collect();
    assert_eq!(warned, gone);
    let mut archive = tar::Archive::new(&tar[..]);
    let members = archive.entries().unwrap();
    let is_file = |kind: tar::EntryType| kind == tar::EntryType::Regular;
    let regular = members.filter(|member| is_file(member.as_ref().unwrap().header().entry_type()));
    assert_eq!(regular.count(), files.len() - gone.len());
}
