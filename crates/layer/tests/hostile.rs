//! Archives made to harm. After each, whatever it was, nothing outside the root and nothing of the builder has changed.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the canary is outside the root")]

mod support;

use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use support::{Place, Tar, chain, header, outline, seal};

/// A root beside things that must not change: files of the host and of the builder.
struct Hostile {
    place: Place,
    before: String,
}

impl Hostile {
    fn new() -> Self {
        let place = Place::new();
        let outside = place.dir.path().join("outside");
        std::fs::create_dir_all(outside.join("dir")).unwrap();
        std::fs::write(outside.join("secret"), "canary").unwrap();
        std::fs::set_permissions(outside.join("secret"), std::fs::Permissions::from_mode(0o600))
            .unwrap();
        std::fs::create_dir(place.host("kaniko")).unwrap();
        std::fs::write(place.host("kaniko/executor"), "builder").unwrap();
        let before = Self::canary(place.dir.path());
        Self { place, before }
    }

    fn canary(dir: &Path) -> String {
        let mut text = String::new();
        for name in
            ["outside", "outside/dir", "outside/secret", "root/kaniko", "root/kaniko/executor"]
        {
            let metadata = std::fs::symlink_metadata(dir.join(name)).unwrap();
            let content = std::fs::read_to_string(dir.join(name)).unwrap_or_default();
            let listing: Vec<_> = std::fs::read_dir(dir.join(name))
                .into_iter()
                .flatten()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            let facts = (
                metadata.mode(),
                metadata.uid(),
                metadata.gid(),
                metadata.mtime(),
                metadata.nlink(),
            );
            writeln!(text, "{name} {facts:?} {content:?} {}", listing.len()).unwrap();
        }
        text
    }

    /// Unpacks layers and says what came of it; the canary must live.
    fn run(mut self, layers: &[Vec<u8>]) -> String {
        let mut result = String::from("ok");
        for layer in layers {
            if let Err(error) = self.place.unpack(layer) {
                let text = chain(&error);
                let digest = ebiko_oci::Digest::of(layer).to_string();
                result = text.replace(&digest, "DIGEST");
                break;
            }
        }
        assert_eq!(
            Self::canary(self.place.dir.path()),
            self.before,
            "the canary is dead: {result}"
        );
        if result == "ok" { outline(&self.place.root) } else { result }
    }

    fn outside(&self) -> String {
        self.place.dir.path().join("outside").to_str().unwrap().to_owned()
    }
}

#[track_caller]
fn check(layer: Tar, expected: &str) {
    check_layers(&[layer.end()], expected);
}

#[track_caller]
fn check_layers(layers: &[Vec<u8>], expected: &str) {
    assert_eq!(Hostile::new().run(layers), expected);
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../x", "a/../../x", "a/..", "..", "/../x", "./../x", "a/../b"] {
        let expected = format!(
            "cannot unpack `{name}` from layer DIGEST: the path is not one inside the root: `{name}` leaves the root through `..`"
        );
        check(Tar::new().file(name, "x"), &expected);
    }
}

#[test]
fn odd_spellings_of_names_are_what_they_mean() {
    for (name, expected) in [
        ("/abs", "abs=x"),
        ("//a//b", "a/ a/b=x"),
        ("./a/./b", "a/ a/b=x"),
        ("a\\..\\b", "a\\..\\b=x"),
        ("new\nline", "new\\nline=x"),
        (" ", " =x"),
        ("...", "...=x"),
        ("-rf", "-rf=x"),
    ] {
        check(Tar::new().file(name, "x"), expected);
    }
    check(Tar::new().directory("d/").directory("d//").file("trailing/", ""), "d/ trailing/");
    check(Tar::new().file(b"\xff\xfe", "x"), "\u{fffd}\u{fffd}=x");
}

#[test]
fn members_that_stand_for_the_root_are_skipped_whatever_they_are() {
    for name in ["", ".", "./", "/", "//", "./."] {
        let links = Tar::new().symlink(name, "/etc").member(b'5', name, "", 0, b"").file("f", "x");
        check(links, "f=x");
        check(Tar::new().member(b'0', name, "", 0, b"").fifo(name), "");
    }
}

#[test]
fn names_that_are_too_long_or_broken_are_refused() {
    let long = "n".repeat(256);
    check(
        Tar::new().pax(b'x', &[("path", &long)]).file("f", "x"),
        &format!("cannot unpack `{long}` from layer DIGEST: a name has more than 255 bytes"),
    );
    let deep = "d/".repeat(2100);
    check(
        Tar::new().extension(b'L', deep.as_bytes()).file("f", "x"),
        &format!("cannot unpack `{deep}` from layer DIGEST: more than 4096 bytes in one path"),
    );
    check(
        Tar::new().pax(b'x', &[("path", "a\0b")]).file("f", "x"),
        "cannot unpack layer DIGEST: an extended header is malformed",
    );
}

#[test]
fn whiteouts_of_nothing_or_of_too_much_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh.", "a/.wh...", ".wh.a/b", "a/.wh.b/c"] {
        let expected = format!(
            "cannot unpack `{name}` from layer DIGEST: a name that begins with `.wh.` must mark one removal"
        );
        check(Tar::new().file(name, ""), &expected);
    }
    check(Tar::new().directory("a").file("a/.wh..wh.foo", "").file(".wh..wh..opq.x", ""), "a/");
}

/// Every kind of member, at a path that leads through a link.
fn through(name: &str) -> Vec<Tar> {
    vec![
        Tar::new().file(format!("{name}/new"), "x"),
        Tar::new().file(format!("{name}/secret"), "overwritten"),
        Tar::new().member(b'5', format!("{name}/dir"), "", 0o777, b""),
        Tar::new().member(b'5', format!("{name}/newdir"), "", 0o777, b""),
        Tar::new().symlink(format!("{name}/secret"), "x"),
        Tar::new().file("f", "x").hard_link(format!("{name}/secret"), "f"),
        Tar::new().fifo(&format!("{name}/secret")),
        Tar::new().raw(header(b'3', format!("{name}/secret").as_bytes(), b"", 0o666, 0)),
        Tar::new().file(format!("{name}/.wh.secret"), ""),
        Tar::new().file(format!("{name}/.wh..wh..opq"), ""),
        Tar::new().file(format!("{name}/.wh.dir"), ""),
        Tar::new().hard_link("stolen", &format!("{name}/secret")),
    ]
}

#[test]
fn planted_links_lead_nowhere_outside() {
    for chained in [false, true] {
        for second_layer in [false, true] {
            for index in 0..through("x").len() {
                for relative in [false, true] {
                    let hostile = Hostile::new();
                    let outside = hostile.outside();
                    let target = if relative {
                        "../".repeat(12) + outside.trim_start_matches('/')
                    } else {
                        outside
                    };
                    let plant = if chained {
                        Tar::new().symlink("a", &target).symlink("b", "a").symlink("evil", "./b")
                    } else {
                        Tar::new().symlink("evil", &target)
                    };
                    let attack = through("evil").swap_remove(index);
                    let layers = if second_layer {
                        vec![plant.end(), attack.end()]
                    } else {
                        vec![plant.raw(attack.open()).end()]
                    };
                    let result = hostile.run(&layers);
                    assert!(!result.contains("canary"), "{result}");
                }
            }
        }
    }
}

#[test]
fn links_into_proc_lead_nowhere() {
    for target in
        ["/proc/self/fd/3", "/proc/self/root", "/proc/self/cwd", "/dev/fd/3", "/proc/1/root"]
    {
        for attack in through("evil") {
            let layer = Tar::new().symlink("evil", target).raw(attack.open()).end();
            let result = Hostile::new().run(&[layer]);
            assert!(!result.contains("canary"), "{target}: {result}");
        }
    }
}

#[test]
fn a_directory_over_a_link_replaces_the_link_and_its_target_keeps_its_mode() {
    let hostile = Hostile::new();
    let layer = Tar::new()
        .symlink("l", &hostile.outside())
        .member(b'5', "l", "", 0o777, b"")
        .file("l/f", "x")
        .end();
    assert_eq!(hostile.run(&[layer]), "l/ l/f=x");
    check(
        Tar::new()
            .member(b'5', "d", "", 0o700, b"")
            .symlink("l", "d")
            .member(b'5', "l", "", 0o777, b""),
        "d/ l/",
    );
}

#[test]
fn a_file_over_a_link_replaces_the_link() {
    let hostile = Hostile::new();
    let layer = Tar::new()
        .symlink("l", &format!("{}/secret", hostile.outside()))
        .member(b'0', "l", "", 0o4777, b"x")
        .end();
    assert_eq!(hostile.run(&[layer]), "l=x");
}

#[test]
fn hard_links_to_what_is_not_there_are_refused() {
    for (target, expected) in [
        (
            "../outside/secret",
            "the hard link's target is not a path inside the root: `../outside/secret` leaves the root through `..`",
        ),
        ("/etc/passwd", "the hard link's target `etc/passwd` is not there"),
        ("later", "the hard link's target `later` is not there"),
        ("dir", "the hard link's target `dir` is a directory"),
        ("/", "the hard link's target `/` is a directory"),
        ("", "the hard link's target `/` is a directory"),
        ("kaniko/executor", "the hard link's target `kaniko/executor` is not there"),
    ] {
        let layer = Tar::new().directory("dir").hard_link("l", target).file("later", "x");
        check(layer, &format!("cannot unpack `l` from layer DIGEST: {expected}"));
    }
    // The order attack: the target's directory becomes a link after the target was written.
    let hostile = Hostile::new();
    let layer = Tar::new()
        .file("d/secret", "mine")
        .file(".wh.d", "")
        .symlink("d", &hostile.outside())
        .hard_link("l", "d/secret")
        .end();
    assert_eq!(
        hostile.run(&[layer]),
        "cannot unpack `l` from layer DIGEST: the hard link's target `d/secret` is not there"
    );
}

#[test]
fn a_link_that_removes_its_own_target_is_refused() {
    check(
        Tar::new().file("d/f", "x").hard_link("d", "d/f"),
        "cannot unpack `d` from layer DIGEST: the hard link's target `d/f` is not there",
    );
}

#[test]
fn the_builders_own_files_survive_and_are_not_shown() {
    check(Tar::new().file(".wh.kaniko", "").file("f", "x"), "f=x");
    check(Tar::new().file(".wh..wh..opq", "").file("f", "x"), "f=x");
    check(Tar::new().file("kaniko/.wh.executor", "").file("f", "x"), "f=x");
    check(Tar::new().file("kaniko/.wh..wh..opq", "").file("f", "x"), "f=x");
    // What an image wants there is in the image, and not on disk.
    check(Tar::new().file("kaniko/executor", "evil"), "kaniko/ kaniko/executor=evil");
    check(
        Tar::new().symlink("l", "kaniko").file("l/executor", "evil"),
        "kaniko/ kaniko/executor=evil l->kaniko",
    );
    check(Tar::new().file("kaniko", "a file"), "kaniko=a file");
    check(Tar::new().member(b'5', "kaniko", "", 0o777, b""), "kaniko/");
    check(Tar::new().symlink("kaniko", "/etc"), "kaniko->/etc");
}

#[test]
fn a_file_where_a_directory_is_needed_is_an_error() {
    check(
        Tar::new().file("d", "x").file("d/f", "x"),
        "cannot unpack `d/f` from layer DIGEST: cannot create `/d/f`: Not a directory (os error 20)",
    );
}

#[test]
fn links_that_lead_to_each_other_are_an_error_not_a_hang() {
    let result = Hostile::new().run(&[Tar::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .file("a/f", "x")
        .end()]);
    assert!(
        result.contains("`a/f`") && result.contains("Too many levels of symbolic links"),
        "{result}"
    );
}

#[test]
fn odd_but_honest_layers_pass() {
    // Corretto's link to the certificates, links completed by a later layer, a link to itself.
    check_layers(
        &[
            Tar::new()
                .symlink("usr/lib/jvm/cacerts", &("../".repeat(10) + "etc/pki/java/cacerts"))
                .symlink("self", "self")
                .end(),
            Tar::new().directory("etc/pki/java").file("etc/pki/java/cacerts", "certs").end(),
        ],
        "etc/ etc/pki/ etc/pki/java/ etc/pki/java/cacerts=certs self->self usr/ usr/lib/ usr/lib/jvm/ \
         usr/lib/jvm/cacerts->../../../../../../../../../../etc/pki/java/cacerts",
    );
}

#[test]
fn the_size_that_counts_is_the_one_that_go_takes() {
    // The extended header says 3 bytes, the plain one 512: what follows is a member or content, depending on the reader.
    let smuggled = header(b'0', b"smuggled", b"", 0o644, 0);
    let layer = Tar::new()
        .pax(b'x', &[("size", "3")])
        .raw(header(b'0', b"f", b"", 0o644, 512))
        .padded(b"abc")
        .raw(smuggled);
    check(layer, "f=abc smuggled=");
    let layer = Tar::new()
        .pax(b'x', &[("size", "512")])
        .raw(header(b'0', b"f", b"", 0o644, 0))
        .raw(smuggled)
        .file("g", "x");
    check(layer, "f g=x");
    // x, then L, then the file; and two extended headers, of which the last counts.
    check(
        Tar::new().pax(b'x', &[("path", "from-pax")]).extension(b'L', b"from-l\0").file("f", "x"),
        "from-l=x",
    );
    check(
        Tar::new().pax(b'x', &[("path", "first")]).pax(b'x', &[("mtime", "1")]).file("f", "x"),
        "f=x",
    );
    check(Tar::new().pax(b'x', &[("path", "one"), ("path", "two")]).file("f", "x"), "two=x");
    // Members without content have none, whatever their size says.
    for type_flag in [b'1', b'2', b'3', b'4', b'5', b'6'] {
        let layer = Tar::new()
            .file("t", "")
            .raw(header(type_flag, b"m", b"t", 0o644, 512))
            .file("g", "x")
            .end();
        assert!(Hostile::new().run(&[layer]).starts_with("g=x m"), "type {type_flag}");
    }
}

#[test]
fn global_headers_are_skipped_unless_readers_would_disagree() {
    check(Tar::new().pax(b'g', &[("comment", "0123456789")]).file("f", "x"), "f=x");
    for key in ["path", "linkpath", "size", "GNU.sparse.map"] {
        let expected = format!(
            "cannot unpack layer DIGEST: a global header sets `{key}`, which readers understand differently"
        );
        check(Tar::new().pax(b'g', &[(key, "1")]).file("f", "x"), &expected);
    }
    check(
        Tar::new().pax(b'x', &[("path", "y")]).pax(b'g', &[("comment", "x")]).file("f", "x"),
        "cannot unpack layer DIGEST: an extended header is malformed",
    );
}

#[test]
fn numbers_that_mean_nothing_are_refused() {
    let with = |range: std::ops::Range<usize>, value: &[u8]| {
        let mut block = header(b'0', b"f", b"", 0o644, 0);
        block[range].copy_from_slice(value);
        Tar::new().raw(seal(block))
    };
    for (layer, field) in [
        (with(124..136, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "size"),
        (with(124..136, b"0000000000x\0"), "size"),
        (with(108..116, b"\xff\xff\xff\xff\xff\xff\xff\xff"), "uid"),
        (with(108..116, b"\x80\0\0\0\xff\xff\xff\xff"), "uid"),
        (with(116..124, b"\x80\0\0\x01\0\0\0\0"), "gid"),
        (with(100..108, b"99999999"), "mode"),
        (Tar::new().pax(b'x', &[("size", "-1")]).file("f", ""), "size"),
        (Tar::new().pax(b'x', &[("mtime", "soon")]).file("f", ""), "mtime"),
        (Tar::new().pax(b'x', &[("uid", "4294967295")]).file("f", ""), "uid"),
    ] {
        check(
            layer,
            &format!(
                "cannot unpack layer DIGEST: the field `{field}` of a header is not a valid number"
            ),
        );
    }
    check(with(108..116, b"\x80\0\0\0\x00\x10\0\0"), "f=");
}

#[test]
fn broken_streams_are_told_from_whole_ones() {
    let whole = Tar::new().file("f", "content").end();
    check_layers(
        &[whole[..512 + 3].to_vec()],
        "cannot unpack `f` from layer DIGEST: the archive ends in the middle of a member",
    );
    check_layers(
        &[whole[..100].to_vec()],
        "cannot unpack layer DIGEST: the archive ends in the middle of a member",
    );
    // Archives without an end mark are common.
    check_layers(&[whole[..1024].to_vec()], "f=content");
    check_layers(&[whole[..1536].to_vec()], "f=content");
    check_layers(&[Vec::new()], "");
    check(
        Tar::new().file("f", "x").raw([0; 512]).file("g", "y"),
        "cannot unpack layer DIGEST: a block of zeros is followed by something else",
    );
    let mut bad = Tar::new().file("f", "x").end();
    bad[0] = b'g';
    check_layers(&[bad], "cannot unpack layer DIGEST: the checksum of a header is wrong");
    check(
        Tar::new().extension(b'x', b"12 path=x\n"),
        "cannot unpack layer DIGEST: an extended header is malformed",
    );
    check(
        Tar::new().pax(b'x', &[("path", "x")]),
        "cannot unpack layer DIGEST: the archive ends in the middle of a member",
    );
    check(
        Tar::new().raw(header(b'x', b"ext", b"", 0, u64::from(u32::MAX) * 2)),
        "cannot unpack layer DIGEST: an extended header has 8589934590 bytes, and the limit is 1048576",
    );
    for type_flag in [b'D', b'M', b'V', b'N', b'?', 0xff] {
        let expected = format!(
            "cannot unpack layer DIGEST: members of type `{}` are not supported",
            [type_flag].escape_ascii()
        );
        check(Tar::new().member(type_flag, "f", "", 0o644, b""), &expected);
    }
}

#[test]
fn holes_are_where_they_belong_or_refused() {
    let sparse = |map: &str, size: &str, content: &[u8]| {
        let count = (map.split(',').count() / 2).to_string();
        Tar::new()
            .pax(
                b'x',
                &[
                    ("GNU.sparse.size", size),
                    ("GNU.sparse.numblocks", &count),
                    ("GNU.sparse.map", map),
                    ("GNU.sparse.name", "real"),
                ],
            )
            .member(b'0', "GNUSparseFile.1/real", "", 0o644, content)
    };
    check(sparse("2,3,8,1", "10", b"abcd"), "real=\0\0abc\0\0\0d\0");
    for bad in [
        sparse("8,1,2,3", "10", b"abcd"),
        sparse("2,3,8,1", "5", b"abcd"),
        sparse("2,3", "10", b"abcd"),
    ] {
        check(bad, "cannot unpack layer DIGEST: the map of a sparse file is malformed");
    }
    check(
        sparse("0,1", &u64::MAX.to_string(), b"a"),
        "cannot unpack `real` from layer DIGEST: more than 274877906944 unpacked bytes",
    );
    // Version 1.0 with a map that promises more than there is.
    let layer = Tar::new()
        .pax(
            b'x',
            &[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.realsize", "5"),
                ("GNU.sparse.name", "r"),
            ],
        )
        .member(b'0', "f", "", 0o644, b"99999999\n");
    check(layer, "cannot unpack layer DIGEST: the map of a sparse file is malformed");
}

#[test]
fn a_bomb_stops_at_the_limit() {
    // 256 MiB of zeros in a few kilobytes, and the limit far below.
    let bomb = Tar::new().raw(header(b'0', b"f", b"", 0o644, 256 << 20)).open();
    let mut stream = std::io::Read::chain(
        &bomb[..],
        std::io::Read::take(std::io::repeat(0), (256 << 20) + 1024),
    );
    let mut blob = Vec::new();
    let compression = ebiko_layer::Compression::Zstd { level: 1 };
    ebiko_layer::compress(&mut stream, &mut blob, compression, 2, None).unwrap();
    assert!(blob.len() < 1 << 20);
    let layer = support::blob_layer(b"", &blob, ebiko_oci::LayerCompression::Zstd);
    let mut place = Place::new();
    let limits = ebiko_layer::Limits { bytes: 32 << 20, ..ebiko_layer::Limits::default() };
    let options = ebiko_layer::UnpackOptions { limits };
    let error =
        ebiko_layer::unpack(&layer, &place.root, &mut place.snapshot, &options).unwrap_err();
    assert!(chain(&error).contains("more than 33554432 unpacked bytes"), "{}", chain(&error));
    assert!(error.to_string().contains(&layer.descriptor.digest.to_string()));
}

#[test]
fn many_members_and_deep_directories_cost_no_more_than_their_share() {
    let mut tar = Tar::new();
    for number in 0..3000 {
        tar = tar.file(format!("f{number}"), "");
    }
    for number in 0..3000 {
        tar = tar.hard_link(format!("l{number}"), "f0");
    }
    let deep = "d/".repeat(800) + "f";
    tar = tar.extension(b'L', deep.as_bytes()).file("f", "x");
    let mut place = Place::new();
    let unpacked = place.unpack(&tar.end()).unwrap();
    assert_eq!(unpacked.entries, 6001);
    place.snapshot.settle(support::LATER);
    assert_eq!(place.advance().to_string(), "");
}
