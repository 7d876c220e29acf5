//! What is packed: goldens of the tar stream, and what GNU tar, Python and the `tar` crate make of it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the oracles need files of their own")]

mod support;

use std::fmt::Write as _;
use std::sync::Arc;

use ebiko_layer::{Compression, FileBlob, UnpackOptions, compress, spool, unpack};
use ebiko_oci::ImageFormat;
use ebiko_rootfs::{Kind, Time};
use ebiko_snapshot::Changeset;
use support::{FIXED, Place, describe, output, path};

/// One of everything that a layer can hold, and what a plain header cannot say.
fn everything() -> Place {
    let place = Place::new();
    place.directory("bin").file("bin/su", "#!").own("bin/su", 0, 0, 0o4755);
    place.file("bin/ping", "ELF").xattr("bin/ping", "security.capability", &CAP_NET_RAW);
    place.directory("dev").node("dev/null", Kind::CharDevice, 1, 3).node(
        "dev/sda",
        Kind::BlockDevice,
        8,
        0,
    );
    place.node("dev/pipe", Kind::Fifo, 0, 0);
    place.directory("etc").file("etc/motd", "").symlink("etc/mtab", "/proc/mounts");
    place.file("etc/late", "x").set(
        "etc/late",
        0o600,
        Time { secs: 1_600_000_000, nanos: 123_456_789 },
    );
    place.file("etc/early", "x").set("etc/early", 0o644, Time { secs: -13, nanos: 500_000_000 });
    place.directory("home").directory("home/joe").file("home/joe/note", "hello").own(
        "home/joe/note",
        3_000_000,
        2_097_151,
        0o640,
    );
    place.xattr("home/joe/note", "user.comment", b"a=b c");
    place.hard_link("home/joe/same", "home/joe/note").hard_link("home/also", "home/joe/note");
    let long = "n".repeat(101);
    place.file(&long, "a name that fits no header");
    let deep = format!("{}/{}", "d".repeat(90), "e".repeat(90));
    place
        .directory("d".repeat(90))
        .directory(&deep)
        .file(format!("{deep}/split-into-prefix-and-name"), "x");
    place.symlink("long-link", &"t/".repeat(80));
    place
        .file("gr\u{fc}n", "UTF-8")
        .file(b"latin-gr\xfcn", "not UTF-8")
        .file([b"latin-long-\xfc".as_slice(), &[b'x'; 100]].concat(), "");
    place.directory("tmp").own("tmp", 0, 0, 0o1777);
    for directory in ["bin", "dev", "etc", "home", "home/joe", &"d".repeat(90), &deep, "tmp"] {
        let mode = place.root.metadata(&path(directory)).unwrap().mode;
        place.set(directory, mode, FIXED);
    }
    place
}

/// `cap_net_raw=ep`, as the kernel stores it (version 2).
const CAP_NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn tar_of(place: &mut Place, changes: &Changeset) -> Vec<u8> {
    let mut tar = Vec::new();
    let spooled = spool(changes, &place.root, &mut place.snapshot, None, &mut tar).unwrap();
    assert_eq!((spooled.size, spooled.warnings.len()), (tar.len() as u64, 0));
    assert_eq!(spooled.diff_id, ebiko_oci::DiffId::of(&tar));
    assert_eq!(spooled.entries, changes.len() as u64);
    tar
}

/// The stream as text, as the `tar` crate reads it: an independent reader, and the records of extended headers as they are.
fn listing(tar: &[u8]) -> String {
    let mut text = String::new();
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut records = String::new();
        for record in entry.pax_extensions().unwrap().into_iter().flatten() {
            let record = record.unwrap();
            let (key, value) =
                (record.key_bytes().escape_ascii(), record.value_bytes().escape_ascii());
            writeln!(records, "  {key}={value}").unwrap();
        }
        let header = entry.header();
        let letter = char::from(header.as_bytes()[156]);
        let size = entry.size();
        write!(
            text,
            "{letter} {:04o} {}:{} {:>3} {} {}",
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            size,
            header.mtime().unwrap(),
            entry.path_bytes().escape_ascii(),
        )
        .unwrap();
        if let Some(link) = entry.link_name_bytes() {
            write!(text, " -> {}", link.escape_ascii()).unwrap();
        }
        if letter == '3' || letter == '4' {
            let device = (header.device_major().unwrap(), header.device_minor().unwrap());
            write!(text, " {}:{}", device.0.unwrap(), device.1.unwrap()).unwrap();
        }
        text.push('\n');
        text.push_str(&records);
    }
    text
}

#[track_caller]
fn check_golden(name: &str, tar: &[u8]) {
    let dir = testkit::workspace_dir().join("testdata/layer").join(name);
    std::fs::create_dir_all(&dir).unwrap();
    testkit::Case::new(dir).assert_golden("layer.txt", &listing(tar));
}

#[test]
fn a_first_layer_holds_everything_in_order() {
    let mut place = everything();
    let changes = place.advance();
    let tar = tar_of(&mut place, &changes);
    check_golden("everything", &tar);
}

#[test]
fn a_second_layer_holds_the_difference() {
    let mut place = everything();
    let changes = place.advance();
    tar_of(&mut place, &changes);
    assert!(place.advance().is_empty(), "packing told the index what it read");
    place.root.remove(&path("dev")).unwrap();
    place.root.remove(&path("etc/motd")).unwrap();
    place.root.remove(&path("etc/mtab")).unwrap();
    place.directory("etc/mtab").file("etc/mtab/now-a-directory", "x");
    place.root.remove(&path("tmp")).unwrap();
    place.file("tmp", "now a file");
    place.own("bin/su", 0, 0, 0o755);
    place.hard_link("home/joe/third", "home/joe/note");
    for directory in ["etc", "etc/mtab", "home/joe"] {
        place.set(directory, 0o755, FIXED);
    }
    let changes = place.advance();
    let tar = tar_of(&mut place, &changes);
    check_golden("difference", &tar);
}

#[test]
fn no_change_is_an_empty_archive() {
    let mut place = Place::new();
    let changes = place.advance();
    assert_eq!(tar_of(&mut place, &changes), [0; 1024]);
}

#[test]
fn what_is_packed_unpacks_to_the_same_root() {
    let mut place = everything();
    let changes = place.advance();
    let tar = tar_of(&mut place, &changes);
    let mut copy = Place::new();
    let unpacked = copy.unpack(&tar).unwrap();
    assert_eq!((unpacked.entries, unpacked.bytes), (changes.len() as u64, tar.len() as u64));
    assert_eq!(describe(&copy.root), describe(&place.root));
    copy.snapshot.settle(support::LATER);
    let again = copy.advance();
    assert!(again.is_empty(), "the index came with the files: {again:?}");
    // And packed again, from a root that the index has never seen.
    copy.snapshot = ebiko_snapshot::Snapshot::empty();
    let changes = copy.advance();
    assert!(tar_of(&mut copy, &changes) == tar, "packing what was unpacked gives the same bytes");
}

#[test]
fn the_second_layer_applies_on_top_of_the_first() {
    let mut place = everything();
    let changes = place.advance();
    let first = tar_of(&mut place, &changes);
    place.root.remove(&path("etc")).unwrap();
    place.root.remove(&path("bin/su")).unwrap();
    place.file("etc", "a file now");
    place.directory("new").file("new/x", "x").hard_link("new/note", "home/joe/note");
    place.set("bin", 0o700, FIXED).set("new", 0o755, FIXED);
    let changes = place.advance();
    let second = tar_of(&mut place, &changes);
    let mut copy = Place::new();
    copy.unpack(&first).unwrap();
    copy.unpack(&second).unwrap();
    assert_eq!(describe(&copy.root), describe(&place.root));
    copy.snapshot.settle(support::LATER);
    assert_eq!(copy.advance().to_string(), "");
}

#[test]
fn gnu_tar_lists_what_is_there() {
    let mut place = everything();
    let changes = place.advance();
    let tar = tar_of(&mut place, &changes);
    std::fs::write(place.dir.path().join("layer.tar"), tar).unwrap();
    let args = [
        "--list",
        "-v",
        "--full-time",
        "--numeric-owner",
        "--quoting-style=literal",
        "-f",
        "layer.tar",
    ];
    let listing = output("tar", &args, place.dir.path());
    let count = listing.lines().count();
    assert_eq!(count, changes.len(), "{listing}");
    for line in [
        "-rwsr-xr-x 0/0               2 2020-09-13 12:26:40 bin/su",
        "crw-r--r-- 0/0             1,3 2020-09-13 12:26:40 dev/null",
        "brw-r--r-- 0/0             8,0 2020-09-13 12:26:40 dev/sda",
        "prw-r--r-- 0/0               0 2020-09-13 12:26:40 dev/pipe",
        "-rw------- 0/0               1 2020-09-13 12:26:40.123456789 etc/late",
        "-rw-r----- 3000000/2097151   5 2020-09-13 12:26:40 home/also",
        "hrw-r----- 3000000/2097151   0 2020-09-13 12:26:40 home/joe/note link to home/also",
        "drwxrwxrwt 0/0               0 2020-09-13 12:26:40 tmp/",
    ] {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            listing.lines().any(|found| words(found) == words(line)),
            "`{line}` is not in\n{listing}"
        );
    }
}

#[test]
fn gnu_tar_extracts_the_same_root() {
    let mut place = everything();
    let changes = place.advance();
    let tar = tar_of(&mut place, &changes);
    std::fs::write(place.dir.path().join("layer.tar"), tar).unwrap();
    let copy = Place::new();
    // Without the right to give files away only the rest can be compared.
    let args: &[&str] = if testkit::is_root() {
        &[
            "--extract",
            "--xattrs",
            "--xattrs-include=*",
            "--same-owner",
            "--same-permissions",
            "--numeric-owner",
            "-f",
        ]
    } else {
        &["--extract", "--same-permissions", "--exclude=dev/*", "-f"]
    };
    let archive = place.dir.path().join("layer.tar");
    let args: Vec<&str> = args.iter().copied().chain([archive.to_str().unwrap()]).collect();
    output("tar", &args, &copy.host(""));
    let describe = |place: &Place| {
        let whole = describe(&place.root);
        if testkit::is_root() {
            whole
        } else {
            support::outline(&place.root).replace("dev/null dev/pipe dev/sda ", "")
        }
    };
    assert_eq!(describe(&copy), describe(&place));
}

#[test]
fn python_reads_every_field() {
    let mut place = everything();
    let changes = place.advance();
    let tar = tar_of(&mut place, &changes);
    std::fs::write(place.dir.path().join("layer.tar"), tar).unwrap();
    let script = "import tarfile,sys\n\
        for m in tarfile.open('layer.tar', errors='surrogateescape'):\n\
        \x20 x = ' '.join(k[13:] for k in sorted(m.pax_headers) if k.startswith('SCHILY.xattr.'))\n\
        \x20 print(m.type.decode(), oct(m.mode)[2:], m.uid, m.gid, m.size, repr(float(m.mtime)), m.linkname[:12], \
        ascii(m.name)[1:40], x, m.uname + m.gname, sep='|')";
    let listing = output("python3", &["-c", script], place.dir.path());
    assert_eq!(listing.lines().count(), changes.len());
    for line in [
        "0|4755|0|0|2|1600000000.0||bin/su'||",
        "0|644|0|0|3|1600000000.0||bin/ping'|security.capability|",
        "0|644|0|0|1|-12.5||etc/early'||",
        "0|600|0|0|1|1600000000.1234567||etc/late'||",
        "0|640|3000000|2097151|5|1600000000.0||home/also'|user.comment|",
        "1|640|3000000|2097151|0|1600000000.0|home/also|home/joe/note'|user.comment|",
        "2|777|0|0|0|1600000000.0|t/t/t/t/t/t/|long-link'||",
        "0|644|0|0|9|1600000000.0||latin-gr\\udcfcn'||",
        "0|644|0|0|5|1600000000.0||gr\\xfcn'||",
    ] {
        assert!(listing.lines().any(|found| found == line), "`{line}` is not in\n{listing}");
    }
}

#[test]
fn the_bytes_do_not_depend_on_threads_or_on_the_day() {
    let mut blobs = Vec::new();
    for threads in [1, 4] {
        let mut place = everything();
        place.file("large", vec![b'x'; 3 << 20]);
        let changes = place.advance();
        let tar = tar_of(&mut place, &changes);
        for compression in
            [Compression::None, Compression::default(), Compression::Zstd { level: 3 }]
        {
            let mut blob = Vec::new();
            let told = compress(&mut &tar[..], &mut blob, compression, threads, None).unwrap();
            assert_eq!(told.digest, ebiko_oci::Digest::of(&blob));
            blobs.push(blob);
        }
    }
    let (one, many) = blobs.split_at(3);
    assert!(one == many);
}

#[test]
fn a_packed_layer_is_a_layer_of_an_image() {
    for compression in [Compression::None, Compression::default(), Compression::Zstd { level: 1 }] {
        let mut place = everything();
        let changes = place.advance();
        let file = place.dir.path().join("blob");
        let mut tar = Vec::new();
        let spooled = spool(&changes, &place.root, &mut place.snapshot, None, &mut tar).unwrap();
        let mut out = std::fs::File::create(&file).unwrap();
        let blob = compress(&mut &tar[..], &mut out, compression, 2, None).unwrap();
        let layer = spooled.layer(&blob, ImageFormat::Docker, Arc::new(FileBlob::new(&file)));
        let mut copy = Place::new();
        unpack(&layer, &copy.root, &mut copy.snapshot, &UnpackOptions::default()).unwrap();
        assert_eq!(describe(&copy.root), describe(&place.root));
    }
}

#[test]
fn names_that_mark_removals_cannot_be_packed() {
    let mut place = Place::new();
    place.directory("d").file("d/.wh.x", "");
    let changes = place.advance();
    let error =
        spool(&changes, &place.root, &mut place.snapshot, None, &mut Vec::new()).unwrap_err();
    assert_eq!(
        support::chain(&error),
        "cannot put `d/.wh.x` into the layer: names that begin with `.wh.` mark removals in layers"
    );
    assert!(error.hint().is_some());
}

#[test]
fn a_file_that_vanished_is_left_out_with_a_warning() {
    let mut place = Place::new();
    place.file("a", "1").file("b", "2");
    let changes = place.advance();
    place.root.remove(&path("a")).unwrap();
    let mut tar = Vec::new();
    let spooled = spool(&changes, &place.root, &mut place.snapshot, None, &mut tar).unwrap();
    let warnings: Vec<String> = spooled.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, ["`a` went away before it was read and is not in the layer"]);
    assert_eq!(spooled.entries, 1);
    assert!(listing(&tar).ends_with(" b\n"), "{}", listing(&tar));
}

#[test]
fn a_disk_that_is_full_is_said_in_words() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut place = everything();
    let changes = place.advance();
    let hint = Some("free space, or give the builder a larger volume");
    let error = spool(&changes, &place.root, &mut place.snapshot, None, &mut Full).unwrap_err();
    assert_eq!(error.hint(), hint, "{}", support::chain(&error));
    let tar = tar_of(&mut place, &changes);
    for compression in [Compression::None, Compression::default(), Compression::Zstd { level: 3 }] {
        let error = compress(&mut &tar[..], &mut Full, compression, 1, None).unwrap_err();
        assert_eq!(error.hint(), hint, "{}", support::chain(&error));
    }
}

#[test]
fn no_member_is_younger_than_it_may_be_and_older_ones_keep_their_time() {
    let place = &mut Place::new();
    let time = |secs| Time { secs, nanos: 5 };
    place.file("old", "").set("old", 0o644, time(100));
    place.file("young", "").set("young", 0o644, time(300));
    let changes = place.advance();
    let mut stream = Vec::new();
    let newest = Some(Time { secs: 200, nanos: 0 });
    spool(&changes, &place.root, &mut place.snapshot, newest, &mut stream).unwrap();
    let mut archive = tar::Archive::new(stream.as_slice());
    let mut times = String::new();
    for member in archive.entries().unwrap() {
        let mut member = member.unwrap();
        let fields = member.pax_extensions().unwrap();
        let fields =
            fields.into_iter().flatten().map(|field| field.unwrap().value().unwrap().to_owned());
        let precise: Vec<String> = fields.collect();
        let name = member.path().unwrap().display().to_string();
        writeln!(times, "{name} {} {precise:?}", member.header().mtime().unwrap()).unwrap();
    }
    assert_eq!(times, "old 100 [\"100.000000005\"]\nyoung 200 []\n");
    assert_eq!(place.root.metadata(&path("young")).unwrap().mtime, time(300), "the file itself");
}
