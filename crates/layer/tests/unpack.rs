//! What unpacking a layer means: replacing, whiteouts, links, times, formats, and verification.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the oracles need files of their own")]

mod support;

use std::io::{Read, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use ebiko_layer::{Compression, Limits, UnpackOptions, compress, unpack};
use ebiko_oci::{BlobSource, DiffId, Digest, Layer, LayerCompression, PortError};
use ebiko_rootfs::{Kind, Time};
use support::{
    FIXED, LATER, Place, Tar, blob_layer, chain, describe, layer_of, outline, output, path,
};

/// Unpacks layers one after the other and returns what is there then.
#[track_caller]
fn check(layers: &[Tar], expected: &str) {
    let mut place = Place::new();
    for layer in layers {
        if let Err(error) = place.unpack(&layer.clone().end()) {
            panic!("{}", chain(&error));
        }
    }
    assert_eq!(outline(&place.root), expected);
    place.snapshot.settle(LATER);
    assert_eq!(place.advance().to_string(), "", "the index is what is there");
}

#[track_caller]
fn check_error(place: &mut Place, layer: &Layer, options: &UnpackOptions, expected: &str) {
    let error = unpack(layer, &place.root, &mut place.snapshot, options).unwrap_err();
    let digest = layer.descriptor.digest.to_string();
    assert_eq!(chain(&error).replace(&digest, "DIGEST"), expected);
}

fn base() -> Tar {
    Tar::new()
        .directory("d")
        .file("d/a", "1")
        .file("d/b", "2")
        .directory("d/sub")
        .file("d/sub/x", "3")
        .file("top", "4")
}

#[test]
fn a_whiteout_removes_a_file_or_a_tree_and_leaves_nothing_itself() {
    check(&[base(), Tar::new().file("d/.wh.a", "")], "d/ d/b=2 d/sub/ d/sub/x=3 top=4");
    check(&[base(), Tar::new().file(".wh.d", "")], "top=4");
    check(
        &[base(), Tar::new().file("d/.wh.none", "").file("none/.wh.x", "").file("top/.wh.x", "")],
        "d/ d/a=1 d/b=2 d/sub/ d/sub/x=3 top=4",
    );
}

#[test]
fn an_opaque_directory_loses_what_lower_layers_wrote() {
    let opaque = |tar: Tar| tar.file("d/.wh..wh..opq", "");
    check(&[base(), opaque(Tar::new().directory("d")).file("d/new", "5")], "d/ d/new=5 top=4");
    // The mark may come after what it must spare, and directories that only this layer fills survive.
    check(
        &[base(), opaque(Tar::new().file("d/sub/new", "5").file("d/a", "6"))],
        "d/ d/a=6 d/sub/ d/sub/new=5 top=4",
    );
    check(&[base(), Tar::new().file("new", "5").file(".wh..wh..opq", "")], "new=5");
    check(
        &[base(), Tar::new().file("none/.wh..wh..opq", "")],
        "d/ d/a=1 d/b=2 d/sub/ d/sub/x=3 top=4",
    );
}

#[test]
fn notes_of_aufs_are_of_no_meaning() {
    check(
        &[Tar::new()
            .directory(".wh..wh.plnk")
            .file(".wh..wh.plnk/12.34", "x")
            .file(".wh..wh.aufs", "")
            .file("f", "1")],
        "f=1",
    );
}

#[test]
fn the_new_replaces_the_old_whatever_the_two_are() {
    check(&[base(), Tar::new().file("d", "a file")], "d=a file top=4");
    check(
        &[base(), Tar::new().directory("top").file("top/x", "5")],
        "d/ d/a=1 d/b=2 d/sub/ d/sub/x=3 top/ top/x=5",
    );
    check(&[base(), Tar::new().symlink("d", "top")], "d->top top=4");
    check(&[base(), Tar::new().directory("d")], "d/ d/a=1 d/b=2 d/sub/ d/sub/x=3 top=4");
    check(
        &[base(), Tar::new().file("top", "5").file("top", "6")],
        "d/ d/a=1 d/b=2 d/sub/ d/sub/x=3 top=6",
    );
    // busybox: `bin/sh` is a link in one layer and a program in the next; the link's target must not change.
    let shell = Tar::new().file("bin/dash", "dash").symlink("bin/sh", "dash");
    check(&[shell, Tar::new().file("bin/sh", "bash")], "bin/ bin/dash=dash bin/sh=bash");
}

#[test]
fn members_lead_through_links_inside_the_root() {
    let merged = Tar::new()
        .directory("usr")
        .directory("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr");
    check(
        &[
            merged.clone(),
            Tar::new().file("lib/a", "1").file("abs/lib/b", "2").file("lib/.wh.a", ""),
        ],
        "abs->/usr lib->usr/lib usr/ usr/lib/ usr/lib/b=2",
    );
    check(
        &[merged, Tar::new().directory("lib").file("lib/a", "1")],
        "abs->/usr lib/ lib/a=1 usr/ usr/lib/",
    );
    // A link whose target comes later, or never: made as a directory where it leads.
    check(
        &[Tar::new().symlink("var/run", "/run").file("var/run/pid", "1")],
        "run/ run/pid=1 var/ var/run->/run",
    );
}

#[test]
fn hard_links_join_files_of_this_layer_and_of_lower_ones() {
    let linked = |target: &str| Tar::new().hard_link("link", target);
    for target in ["d/a", "/d/a", "./d/a"] {
        let mut place = Place::new();
        place.unpack(&base().end()).unwrap();
        place.unpack(&linked(target).end()).unwrap();
        let (a, link) = (
            place.root.metadata(&path("d/a")).unwrap(),
            place.root.metadata(&path("link")).unwrap(),
        );
        assert_eq!((a.ino, a.nlink), (link.ino, 2), "{target}");
        place.snapshot.settle(LATER);
        assert_eq!(place.advance().to_string(), "", "{target}");
    }
    // Through a directory that is a link, to a link, to a FIFO, and to itself.
    check(
        &[base()
            .symlink("s", "d")
            .hard_link("via", "s/b")
            .hard_link("t", "s")
            .fifo("p")
            .hard_link("q", "p")
            .hard_link("top", "top")],
        "d/ d/a=1 d/b=2 d/sub/ d/sub/x=3 p q s->d t->d top=4 via=2",
    );
}

#[test]
fn directories_keep_their_times_although_files_are_written_into_them() {
    let mut place = Place::new();
    place.unpack(&base().end()).unwrap();
    place
        .unpack(
            &Tar::new().file("d/new", "x").file("d/sub/.wh.x", "").file("made/by/need", "x").end(),
        )
        .unwrap();
    for name in ["d", "d/sub", "made", "made/by", "d/new"] {
        assert_eq!(place.root.metadata(&path(name)).unwrap().mtime, FIXED, "time of {name}");
    }
    assert_eq!(place.root.metadata(&path("made/by")).unwrap().mode, 0o755);
}

#[test]
fn every_attribute_arrives() {
    let tar = Tar::new()
        .pax(b'x', &[("mtime", "-12.5"), ("uid", "3000000"), ("SCHILY.xattr.user.note", "a=b\nc")])
        .member(b'0', "f", "", 0o4750, b"x")
        .pax(
            b'x',
            &[("mtime", "1.000000001"), ("gid", "5"), ("SCHILY.xattr.security.selinux", "no")],
        )
        .symlink("l", "anywhere/../at all")
        .pax(b'x', &[("mtime", "2")])
        .member(b'5', "d/", "", 0o1777, b"")
        .raw(device(b'3', "null", 1, 3))
        .raw(device(b'4', "disk", 8, 1))
        .fifo("p");
    let mut place = Place::new();
    place.unpack(&tar.end()).unwrap();
    let hash = ebiko_snapshot::ContentHash::of(b"x");
    assert_eq!(
        describe(&place.root),
        format!(
            "d1777 0:0 2.000000000 d\n\
             b0644 0:0 1600000000.000000000 disk 8:1\n\
             -4750 3000000:0 -13.500000000 f 1 {hash:?} user.note=a=b\\nc\n\
             l0777 0:5 1.000000001 l -> anywhere/../at all\n\
             c0644 0:0 1600000000.000000000 null 1:3\n\
             p0644 0:0 1600000000.000000000 p\n"
        )
    );
    place.snapshot.settle(LATER);
    assert_eq!(place.advance().to_string(), "");
}

fn device(type_flag: u8, name: &str, major: u32, minor: u32) -> [u8; 512] {
    let mut block = support::header(type_flag, name.as_bytes(), b"", 0o644, 0);
    block[329..337].copy_from_slice(format!("{major:07o}\0").as_bytes());
    block[337..345].copy_from_slice(format!("{minor:07o}\0").as_bytes());
    support::seal(block)
}

#[test]
fn archives_of_gnu_tar_in_all_its_formats_arrive_whole() {
    let source = Place::new();
    let long = format!("d/{}", "n".repeat(150));
    source
        .directory("d")
        .file("d/f", "content")
        .symlink("d/l", &"t".repeat(120))
        .hard_link("h", "d/f");
    source.set("d", 0o755, FIXED);
    let holes = || {
        let mut file = source.root.create_file(&path("holes")).unwrap();
        file.set_len(20 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 10 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"end", (20 << 20) - 3).unwrap();
        file.flush().unwrap();
        source.set("holes", 0o644, FIXED);
    };
    holes();
    source.file(&long, "long").set("d", 0o755, FIXED);
    let names: Vec<String> =
        support::everything(&source.root).iter().map(ToString::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for format in [
        &["--format=gnu"][..],
        &["--format=oldgnu"],
        &["--format=posix"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
        &["--format=gnu", "--sparse"],
        &["--format=oldgnu", "--sparse"],
    ] {
        let args = [
            &["--create", "--no-recursion", "--file=../a.tar", "--owner=0", "--group=0"],
            format,
            &names,
        ]
        .concat();
        output("tar", &args, &source.host(""));
        let tar = std::fs::read(source.dir.path().join("a.tar")).unwrap();
        let mut copy = Place::new();
        if let Err(error) = copy.unpack(&tar) {
            panic!("{format:?}: {}", chain(&error));
        }
        assert_eq!(describe(&copy.root), describe(&source.root), "{format:?}");
        if format.contains(&"--sparse") {
            let blocks = std::fs::metadata(copy.host("holes")).unwrap().blocks();
            assert!(tar.len() < 1 << 20 && blocks < 2048, "{format:?}: holes stay holes");
        }
    }
}

#[test]
fn archives_of_python_in_all_its_formats_arrive_whole() {
    let mut place = Place::new();
    for format in ["USTAR_FORMAT", "GNU_FORMAT", "PAX_FORMAT"] {
        let script = format!(
            "import tarfile,io\n\
             t = tarfile.open('a.tar', 'w', format=tarfile.{format})\n\
             def add(name, data=b'', **fields):\n\
             \x20 i = tarfile.TarInfo(name); i.size = len(data); i.mtime = 1600000000\n\
             \x20 for k, v in fields.items(): setattr(i, k, v)\n\
             \x20 t.addfile(i, io.BytesIO(data))\n\
             add('p' * 90 + '/' + 'q' * 90, b'prefix')\n\
             add('gr\\u00fcn', b'1', uid=7, mode=0o600)\n\
             add('link', type=tarfile.SYMTYPE, linkname='gr\\u00fcn')\n\
             add('hard', type=tarfile.LNKTYPE, linkname='gr\\u00fcn')\n\
             t.close()"
        );
        output("python3", &["-c", &script], place.dir.path());
        let tar = std::fs::read(place.dir.path().join("a.tar")).unwrap();
        place.unpack(&tar).unwrap();
        let expected = format!(
            "gr\u{fc}n=1 hard=1 link->gr\u{fc}n {0}/ {0}/{1}=prefix",
            "p".repeat(90),
            "q".repeat(90)
        );
        assert_eq!(outline(&place.root), expected, "{format}");
        assert_eq!(place.root.metadata(&path("hard")).unwrap().uid, 7);
    }
}

#[test]
fn every_compression_is_recognised_by_its_bytes() {
    let tar = base().end();
    let mut blobs: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut compressed = |name, compression| {
        let mut blob = Vec::new();
        compress(&mut &tar[..], &mut blob, compression, 2, None).unwrap();
        blobs.push((name, blob));
    };
    compressed("plain", Compression::None);
    compressed("gzip", Compression::Gzip { level: 6 });
    compressed("zstd", Compression::Zstd { level: 3 });
    // Two members, two frames with a skippable one before, as eStargz and zstd:chunked have them.
    let (first, second) = tar.split_at(1500);
    let members = [first, second].map(|half| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(half).unwrap();
        encoder.finish().unwrap()
    });
    blobs.push(("gzip members", members.concat()));
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"skip"].concat();
    let frames = [first, second].map(|half| zstd::encode_all(half, 1).unwrap());
    blobs.push(("zstd frames", [skippable, frames.concat()].concat()));
    for (name, blob) in blobs {
        let mut place = Place::new();
        // What the manifest says of the compression is not believed either.
        let layer = blob_layer(&tar, &blob, LayerCompression::Gzip);
        unpack(&layer, &place.root, &mut place.snapshot, &UnpackOptions::default())
            .unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        assert_eq!(outline(&place.root), "d/ d/a=1 d/b=2 d/sub/ d/sub/x=3 top=4", "{name}");
    }
}

#[test]
fn a_blob_that_is_not_the_promised_one_is_refused() {
    let tar = base().end();
    let options = UnpackOptions::default();
    let good = layer_of(&tar);
    let place = || Place::new();

    let mut other = good.clone();
    other.diff_id = DiffId::of(b"other");
    let expected = format!(
        "cannot unpack layer DIGEST: the diff id of the layer is DIGEST, and the image config promises {}",
        other.diff_id
    );
    check_error(&mut place(), &other, &options, &expected);

    let mut longer = good.clone();
    longer.descriptor.size -= 1;
    let size = longer.descriptor.size;
    let expected = format!(
        "cannot unpack layer DIGEST: the blob has more than the {size} bytes that the manifest promises"
    );
    check_error(&mut place(), &longer, &options, &expected);

    let mut shorter = good.clone();
    shorter.descriptor.size += 1;
    let expected = format!(
        "cannot unpack layer DIGEST: the blob has {} bytes, and the manifest promises {}",
        tar.len(),
        tar.len() + 1
    );
    check_error(&mut place(), &shorter, &options, &expected);

    let mut replaced = good.clone();
    replaced.descriptor.digest = Digest::of(b"other");
    let expected = format!(
        "cannot unpack layer DIGEST: the digest of the blob is {}, and the manifest promises DIGEST",
        good.descriptor.digest
    );
    check_error(&mut place(), &replaced, &options, &expected);

    // A broken gzip stream in a blob that is the wrong one: the digest is the reason, not the decoder's words.
    let mut blob = Vec::new();
    compress(&mut &tar[..], &mut blob, Compression::default(), 1, None).unwrap();
    let honest = blob_layer(&tar, &blob, LayerCompression::Gzip);
    let middle = blob.len() / 2;
    blob[middle] ^= 0xff;
    let mut broken = blob_layer(&tar, &blob, LayerCompression::Gzip);
    let actual = std::mem::replace(&mut broken.descriptor.digest, honest.descriptor.digest);
    let expected = format!(
        "cannot unpack layer DIGEST: the digest of the blob is {actual}, and the manifest promises DIGEST"
    );
    check_error(&mut place(), &broken, &options, &expected);

    let garbage = [tar.clone(), b"garbage".to_vec()].concat();
    let layer = blob_layer(&garbage, &garbage, LayerCompression::None);
    let mut after = place();
    unpack(&layer, &after.root, &mut after.snapshot, &options)
        .expect("what follows the end is summed and ignored");
}

#[test]
fn a_blob_that_cannot_be_read_is_reported_with_its_reason() {
    struct Broken;
    impl BlobSource for Broken {
        fn open(&self) -> Result<Box<dyn Read + Send>, PortError> {
            struct Reset(usize);
            impl Read for Reset {
                fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                    self.0 += 1;
                    if self.0 > 3 {
                        Err(std::io::Error::other("connection reset"))
                    } else {
                        Ok(buffer.len().min(100))
                    }
                }
            }
            Ok(Box::new(Reset(0)))
        }
    }
    let tar = base().end();
    let mut layer = layer_of(&tar);
    layer.blob = Arc::new(Broken);
    let expected = "cannot unpack layer DIGEST: cannot read the blob: connection reset";
    check_error(&mut Place::new(), &layer, &UnpackOptions::default(), expected);
}

#[test]
fn limits_end_the_unpacking_with_the_name_of_the_layer() {
    let tar = base().file("n".repeat(60), "x").end();
    let with = |limits: Limits| UnpackOptions { limits, ..UnpackOptions::default() };
    let normal = Limits::default();
    for (limits, expected) in [
        (
            Limits { entries: 3, ..normal },
            "cannot unpack `d/sub` from layer DIGEST: more than 3 entries",
        ),
        (
            Limits { bytes: 1024, ..normal },
            "cannot unpack layer DIGEST: more than 1024 unpacked bytes",
        ),
        (
            Limits { path: 50, ..normal },
            &format!(
                "cannot unpack `{}` from layer DIGEST: more than 50 bytes in one path",
                "n".repeat(60)
            ),
        ),
    ] {
        check_error(&mut Place::new(), &layer_of(&tar), &with(limits), expected);
    }
    // A megabyte of zeros from a kilobyte.
    let zeros = Tar::new().file("zeros", vec![0; 1 << 20]).end();
    let mut blob = Vec::new();
    compress(&mut &zeros[..], &mut blob, Compression::Zstd { level: 1 }, 1, None).unwrap();
    let bomb = blob_layer(&zeros, &blob, LayerCompression::Zstd);
    let limits = Limits { ratio: 100, ratio_floor: 1 << 19, ..normal };
    let expected =
        "cannot unpack layer DIGEST: more than 100 unpacked bytes for each byte of the blob";
    check_error(&mut Place::new(), &bomb, &with(limits), expected);
    let mut place = Place::new();
    let limits = Limits { ratio: 100, ..normal };
    unpack(&bomb, &place.root, &mut place.snapshot, &with(limits)).unwrap();
    let tar = Tar::new().pax(b'x', &[("comment", &"x".repeat(1000))]).file("f", "x").end();
    check_error(
        &mut Place::new(),
        &layer_of(&tar),
        &with(Limits { extended_header: 512, ..normal }),
        "cannot unpack layer DIGEST: an extended header has 1014 bytes, and the limit is 512",
    );
}

#[test]
fn nothing_of_a_first_look_is_left_to_do_after_unpacking() {
    // Content that the index learned must be right, too: a file touched and put back is recognised by it.
    let mut place = Place::new();
    place.unpack(&base().end()).unwrap();
    place.snapshot.settle(LATER);
    std::thread::sleep(std::time::Duration::from_millis(20));
    let file = place.host("d/a");
    std::fs::write(&file, "1").unwrap();
    place.set("d/a", 0o644, FIXED);
    assert_eq!(place.advance().to_string(), "", "recognised by its content");
    std::fs::write(&file, "9").unwrap();
    place.set("d/a", 0o644, FIXED);
    assert_eq!(place.advance().to_string(), "put d\nput d/a\n");
    let entry = place.snapshot.get(&path("d/sub/x")).unwrap();
    assert_eq!((entry.kind, entry.mtime), (Kind::Regular, Time { secs: 1_600_000_000, nanos: 0 }));
}

#[test]
fn a_stream_that_was_kept_unpacks_as_the_layer_does() {
    let layer = layer_of(&base().end());
    let mut first = Place::new();
    let scratch = tempfile::tempdir().unwrap();
    let file = ebiko_layer::nameless_file(&scratch.path().join("stream")).unwrap();
    let options = UnpackOptions::default();
    let (unpacked, kept) =
        ebiko_layer::unpack_keeping(&layer, &first.root, &mut first.snapshot, &options, file)
            .unwrap();
    let kept = kept.unwrap();
    for _ in 0..2 {
        let mut again = Place::new();
        assert_eq!(kept.unpack(&again.root, &mut again.snapshot, &options).unwrap(), unpacked);
        assert_eq!(describe(&again.root), describe(&first.root));
    }
}

#[test]
fn a_stream_that_cannot_be_kept_is_no_failure() {
    let layer = layer_of(&base().end());
    let mut place = Place::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let options = UnpackOptions::default();
    let (unpacked, kept) =
        ebiko_layer::unpack_keeping(&layer, &place.root, &mut place.snapshot, &options, full)
            .unwrap();
    assert!(kept.is_none());
    assert!(unpacked.entries > 0);
}
