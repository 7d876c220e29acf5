//! What `ADD` does with a local archive.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "archives to add are files of the host")]

mod support;

use std::fs::File;
use std::io::Write as _;

use ebiko_layer::{Limits, newest_member, unpack_archive};
use ebiko_rootfs::Time;
use support::{FIXED, Place, Tar, chain, outline, output, path};

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn add(
    place: &Place,
    bytes: &[u8],
    destination: &str,
    owner: Option<(u32, u32)>,
) -> Option<Vec<String>> {
    let touched = unpack_archive(
        &mut file_of(bytes),
        &place.root,
        &path(destination),
        owner,
        &Limits::default(),
    )
    .unwrap_or_else(|error| panic!("{}", chain(&error)))?;
    Some(touched.iter().map(ToString::to_string).collect())
}

#[test]
fn archives_are_recognised_in_every_compression() {
    let source = Place::new();
    source.directory("d").file("d/f", "content").set("d", 0o755, FIXED);
    output("tar", &["-cf", "../a.tar", "d"], &source.host(""));
    let programs: [(&str, &[&str]); 4] =
        [("gzip", &["-9"]), ("bzip2", &[]), ("xz", &["--check=crc64"]), ("zstd", &["--quiet"])];
    let mut files = vec![("tar", std::fs::read(source.dir.path().join("a.tar")).unwrap())];
    for (program, args) in programs {
        let args = [args, &["--keep", "--stdout", "a.tar"]].concat();
        let compressed = std::process::Command::new(program)
            .args(&args)
            .current_dir(source.dir.path())
            .output()
            .unwrap();
        assert!(compressed.status.success(), "{program}");
        files.push((program, compressed.stdout));
    }
    for (program, bytes) in files {
        let place = Place::new();
        assert_eq!(add(&place, &bytes, "", None).unwrap(), ["d", "d/f"], "{program}");
        assert_eq!(outline(&place.root), "d/ d/f=content", "{program}");
    }
}

#[test]
fn what_is_no_archive_is_left_alone() {
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    for (name, bytes) in [
        ("nothing", Vec::new()),
        ("text", b"hello".to_vec()),
        ("a compressed text", gzip(b"hello")),
        ("a broken gzip", b"\x1f\x8b\x08garbage".to_vec()),
        ("a broken xz", b"\xfd7zXZ\0garbage".to_vec()),
        ("a broken bzip2", b"BZh9garbage".to_vec()),
        ("a broken zstd", b"\x28\xb5\x2f\xfdgarbage".to_vec()),
        ("an archive without members", Tar::new().end()),
        ("zeros", vec![0; 4096]),
    ] {
        let place = Place::new();
        let mut file = file_of(&bytes);
        let result =
            unpack_archive(&mut file, &place.root, &path(""), None, &Limits::default()).unwrap();
        assert_eq!(result, None, "{name}");
        let mut again = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut again).unwrap();
        assert_eq!(again, bytes, "{name}: the file is at its start");
    }
}

#[test]
fn the_destination_itself_is_not_touched() {
    let place = Place::new();
    place.directory("out").own("out", 7, 8, 0o700).set("out", 0o700, Time { secs: 5, nanos: 0 });
    place.own("out", 7, 8, 0o700);
    let tar = Tar::new().member(b'5', "./", "", 0o777, b"").file("./f", "x").end();
    assert_eq!(add(&place, &tar, "out", None).unwrap(), ["out/f"]);
    let metadata = place.root.metadata(&path("out")).unwrap();
    assert_eq!((metadata.mode, metadata.uid, metadata.gid, metadata.mtime.secs), (0o700, 7, 8, 5));
}

#[test]
fn an_owner_is_that_of_every_member() {
    let place = Place::new();
    let tar =
        Tar::new().file("f", "x").symlink("l", "f").directory("d").file("made/by/need", "x").end();
    let touched = add(&place, &tar, "out/deep", Some((100, 200))).unwrap();
    assert_eq!(
        touched,
        [
            "out",
            "out/deep",
            "out/deep/d",
            "out/deep/f",
            "out/deep/l",
            "out/deep/made",
            "out/deep/made/by",
            "out/deep/made/by/need"
        ]
    );
    for name in touched {
        let metadata = place.root.metadata(&path(&name)).unwrap();
        let is_implied = ["out/deep/made", "out/deep/made/by"].contains(&name.as_str());
        let expected = if is_implied { (0, 0) } else { (100, 200) };
        assert_eq!((metadata.uid, metadata.gid), expected, "{name}");
    }
}

#[test]
fn hard_links_are_relative_to_the_destination() {
    let place = Place::new();
    let tar = Tar::new().file("f", "x").hard_link("g", "f").hard_link("h", "/f").end();
    assert_eq!(add(&place, &tar, "out", None).unwrap(), ["out", "out/f", "out/g", "out/h"]);
    assert_eq!(place.root.metadata(&path("out/f")).unwrap().nlink, 3);
    let outside = Tar::new().hard_link("stolen", "../etc/shadow").end();
    let error =
        unpack_archive(&mut file_of(&outside), &place.root, &path("out"), None, &Limits::default())
            .unwrap_err();
    assert_eq!(
        chain(&error),
        "cannot unpack `stolen` from the archive: the hard link's target `etc/shadow` is not there"
    );
}

#[test]
fn limits_end_the_unpacking_and_the_advice_names_the_flag() {
    let tar = Tar::new().file("a", vec![0; 1 << 20]).file("b", "x").end();
    let mut blob = Vec::new();
    let compression = ebiko_layer::Compression::Zstd { level: 1 };
    ebiko_layer::compress(&mut &tar[..], &mut blob, compression, 1, None).unwrap();
    let normal = Limits::default();
    for (limits, expected, flag) in [
        (
            Limits { entries: 1, ..normal },
            "cannot unpack `b` from the archive: more than 1 entries",
            "--layer-max-entries=NUMBER",
        ),
        (
            Limits { bytes: 1 << 19, ..normal },
            "cannot unpack `a` from the archive: more than 524288 unpacked bytes",
            "--layer-max-size=BYTES",
        ),
        (
            Limits { ratio: 100, ratio_floor: 1 << 19, ..normal },
            "the archive has more than 100 unpacked bytes for each byte of the blob",
            "--layer-max-ratio=NUMBER",
        ),
    ] {
        let place = Place::new();
        let unpacked = unpack_archive(&mut file_of(&blob), &place.root, &path(""), None, &limits);
        let error = unpacked.unwrap_err();
        assert_eq!(chain(&error), expected);
        assert!(error.hint().unwrap().ends_with(flag), "{:?}", error.hint());
    }
    // Headers alone are bytes, too, and so is what is only read for its time.
    let many = (0..100).fold(Tar::new(), |tar, index| tar.file(format!("{index}"), "")).end();
    let place = Place::new();
    let limits = Limits { bytes: 10_000, ..normal };
    let expected = "the archive has more than 10000 unpacked bytes";
    let unpacked = unpack_archive(&mut file_of(&many), &place.root, &path(""), None, &limits);
    assert_eq!(chain(&unpacked.unwrap_err()), expected);
    assert_eq!(chain(&newest_member(&mut file_of(&many), &limits).unwrap_err()), expected);
}

/// `cap_net_raw=ep`, as the kernel stores it (version 2).
const CAPABLE: &str = "\u{1}\0\0\u{2}\0 \0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn a_file_with_several_names_is_what_the_last_one_says() {
    let place = Place::new();
    let tar = Tar::new().file("f", "x").member(b'1', "g", "f", 0o4750, b"").end();
    add(&place, &tar, "out", Some((7, 8))).unwrap();
    for name in ["out/f", "out/g"] {
        let metadata = place.root.metadata(&path(name)).unwrap();
        assert_eq!((metadata.mode, metadata.uid, metadata.gid), (0o4750, 7, 8), "{name}");
    }
    // GNU tar writes extended attributes for the first name only. Docker adds those of the others; the owner that it sets for
    // each clears the capabilities.
    let tar = Tar::new()
        .pax(
            b'x',
            &[("SCHILY.xattr.user.first", "1"), ("SCHILY.xattr.security.capability", CAPABLE)],
        )
        .file("noted", "x")
        .pax(b'x', &[("SCHILY.xattr.user.second", "2")])
        .hard_link("again", "noted")
        .end();
    add(&place, &tar, "out", None).unwrap();
    let mut xattrs = place.root.xattrs(&path("out/noted")).unwrap();
    xattrs.retain(|name, _| ebiko_snapshot::is_recorded_xattr(name));
    assert_eq!(xattrs, support::xattrs(&[("user.first", "1"), ("user.second", "2")]));
    let tar = Tar::new().symlink("l", "f").hard_link("m", "l").end();
    add(&place, &tar, "out", Some((7, 8))).unwrap();
    assert_eq!(place.root.metadata(&path("out/f")).unwrap().mode, 0o4750, "no link is followed");
}

#[test]
fn links_of_the_image_are_followed_inside_the_root() {
    let place = Place::new();
    place.directory("run").directory("var").symlink("var/run", "/run").symlink("dest", "/var");
    let tar = Tar::new()
        .directory("run/act")
        .file("run/act/HEAD", "ref")
        .hard_link("run/act/link", "run/act/HEAD")
        .end();
    let touched = add(&place, &tar, "dest", None).unwrap();
    assert_eq!(touched, ["run/act", "run/act/HEAD", "run/act/link"]);
    assert_eq!(
        outline(&place.root),
        "dest->/var run/ run/act/ run/act/HEAD=ref run/act/link=ref var/ var/run->/run"
    );
}

#[test]
fn whiteouts_remove_and_are_told() {
    let place = Place::new();
    place
        .directory("d")
        .file("d/gone", "x")
        .file("d/stays", "x")
        .directory("o")
        .file("o/old", "x")
        .file("o/new", "old");
    let tar =
        Tar::new().file("d/.wh.gone", "").file("o/new", "new").file("o/.wh..wh..opq", "").end();
    assert_eq!(add(&place, &tar, "", None).unwrap(), ["d/gone", "o/new", "o/old"]);
    assert_eq!(outline(&place.root), "d/ d/stays=x o/ o/new=new");
}

#[test]
fn what_climbs_out_of_the_archive_ends_at_the_destination() {
    let place = Place::new();
    let tar = Tar::new().file("../up", "u").file("a/../../b", "b").hard_link("l", "../../b").end();
    assert_eq!(add(&place, &tar, "z", None).unwrap(), ["z", "z/b", "z/l", "z/up"]);
    assert_eq!(outline(&place.root), "z/ z/b=b z/l=b z/up=u");
}

#[test]
fn a_broken_archive_is_named_by_its_member() {
    let place = Place::new();
    let tar = Tar::new().file("good", "x").file(".wh.", "x").end();
    let error =
        unpack_archive(&mut file_of(&tar), &place.root, &path(""), None, &Limits::default())
            .unwrap_err();
    assert!(
        chain(&error).starts_with("cannot unpack `.wh.` from the archive: "),
        "{}",
        chain(&error)
    );
}

#[test]
fn the_youngest_member_tells_how_old_an_archive_is() {
    let source = Place::new();
    let time = |secs| Time { secs, nanos: 0 };
    source.file("a", "1").set("a", 0o644, time(1000));
    source.file("b", "2").set("b", 0o644, time(3000));
    source.file("c", "3").set("c", 0o644, time(2000));
    output("tar", &["-czf", "../a.tar", "a", "b", "c"], &source.host(""));
    let bytes = std::fs::read(source.dir.path().join("a.tar")).unwrap();
    let newest = |bytes: &[u8]| newest_member(&mut file_of(bytes), &Limits::default());
    assert_eq!(newest(&bytes).unwrap(), Some(time(3000)));
    assert_eq!(newest(b"no archive").unwrap(), None);
    output("tar", &["-cf", "../b.tar", "a", "b", "c"], &source.host(""));
    let bytes = std::fs::read(source.dir.path().join("b.tar")).unwrap();
    assert!(newest(&bytes[..1300]).is_err(), "half of an archive has no age");
}
