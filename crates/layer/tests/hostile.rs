//! Archives made to harm. After each, whatever it was, nothing outside the root and nothing of the builder has changed.
//!
//! What an attacker has tried elsewhere, and the tests that try it here; those without a file are in this one:
//!
//! | | what | tests |
//! |---|---|---|
//! | 1 | names | `names_that_lead_out_are_refused`, `odd_spellings_of_names_are_what_they_mean`, `names_that_are_too_long_or_broken_are_refused`, `whiteouts_of_nothing_or_of_too_much_are_refused`, `names_in_archives_of_add_stay_beneath_the_destination`; unpack.rs: `notes_of_aufs_are_of_no_meaning` |
//! | 2 | planted links | `planted_links_lead_nowhere_outside`, `links_planted_by_archives_of_add_lead_nowhere_outside`, `links_into_proc_lead_nowhere`; rootfs: `tests/escape.rs` |
//! | 3 | members for the root | `members_that_stand_for_the_root_are_skipped_whatever_they_are`, `a_file_where_a_directory_is_needed_is_an_error` |
//! | 4 | a directory over a link | `a_directory_over_a_link_replaces_the_link_and_its_target_keeps_its_mode`, `attributes_do_not_reach_what_a_link_leads_to` |
//! | 5 | a file over a link | `a_file_over_a_link_replaces_the_link`; unpack.rs: `the_new_replaces_the_old_whatever_the_two_are` |
//! | 6 | targets of hard links | `hard_links_to_what_is_not_there_are_refused`, `hard_links_are_looked_up_in_the_root_and_not_where_the_program_was_started`, `a_link_that_removes_its_own_target_is_refused`; unpack.rs: `hard_links_join_files_of_this_layer_and_of_lower_ones`; archive.rs: `hard_links_are_relative_to_the_destination` |
//! | 7 | odd but honest | `odd_but_honest_layers_pass`; unpack.rs: `members_lead_through_links_inside_the_root` |
//! | 8 | headers and streams | `the_size_that_counts_is_the_one_that_go_takes`, `global_headers_are_skipped_unless_readers_would_disagree`, `numbers_that_mean_nothing_are_refused`, `broken_streams_are_told_from_whole_ones`, `holes_are_where_they_belong_or_refused`, `odd_blobs_are_refused_or_what_other_readers_take_them_for`; unpack.rs: `archives_of_gnu_tar_in_all_its_formats_arrive_whole`, `archives_of_python_in_all_its_formats_arrive_whole`, `every_compression_is_recognised_by_its_bytes` |
//! | 9 | bombs | `a_bomb_stops_at_the_limit`, `many_members_and_deep_directories_cost_no_more_than_their_share`, `an_attribute_larger_than_any_file_system_takes_is_kept_or_refused`; unpack.rs and archive.rs: `limits_end_the_unpacking_…` |
//! | 10 | whiteouts | `the_builders_own_files_survive_and_are_not_shown`, `privileged_no_layer_reaches_what_is_mounted`; unpack.rs: `a_whiteout_removes_a_file_or_a_tree_and_leaves_nothing_itself` |
//! | 1, 2, 6 | in contexts | build: `archive.rs`, `an_archive_made_to_harm_changes_nothing_around_the_context` |
//! | 11 | special files | rootfs: `tests/attributes.rs`; exec: `tests/copy/hostile.rs`; ebiko: `e2e/hostile.rs` |
//! | 12 | set-id bits, capabilities | `attributes_do_not_reach_what_a_link_leads_to`, `the_builders_own_files_survive_and_are_not_shown`; unpack.rs: `every_attribute_arrives` |
//! | 13 | the builder itself | `the_builders_own_files_survive_and_are_not_shown`; rootfs: `tests/protected.rs`; ebiko: `e2e/hostile.rs` |
//! | 14 | users and groups | exec: `account.rs`, `hostile_user_files_are_read_within_bounds_and_inside_the_root` |

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the canary is outside the root")]

mod support;

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use ebiko_layer::{Compression, Limits, UnpackOptions, compress, unpack, unpack_archive};
use ebiko_oci::LayerCompression;
use support::{Place, Tar, chain, header, outline, path, seal};

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
        for name in ["dir", "secret"] {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::lsetxattr(outside.join(name), "user.canary", b"alive", flags).unwrap();
        }
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
            let mut names = [0; 1024];
            let names_length =
                rustix::fs::llistxattr(dir.join(name), &mut names[..]).unwrap_or_default();
            let facts = (
                String::from_utf8_lossy(&names[..names_length]),
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
    fn run(self, layers: &[Vec<u8>]) -> String {
        self.run_with(layers, |place, layer| {
            let digest = ebiko_oci::Digest::of(layer).to_string();
            place.unpack(layer).map_err(|error| chain(&error).replace(&digest, "DIGEST")).map(drop)
        })
    }

    /// Unpacks archives as `ADD` and contexts do, into the directory `to`.
    fn add(self, archives: &[Vec<u8>]) -> String {
        self.place.directory("to");
        self.run_with(archives, |place, archive| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(archive).unwrap();
            unpack_archive(&mut file, &place.root, &path("to"), None, &Limits::default())
                .map_err(|error| chain(&error))
                .map(drop)
        })
    }

    fn run_with(
        mut self,
        archives: &[Vec<u8>],
        mut unpack: impl FnMut(&mut Place, &[u8]) -> Result<(), String>,
    ) -> String {
        let result = archives.iter().try_for_each(|archive| unpack(&mut self.place, archive));
        let result = result.err().unwrap_or_else(|| String::from("ok"));
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

/// Plants a link to the outside in every way and goes through it with every kind of member, in one archive or in two.
fn plant_and_go_through(unpack: fn(Hostile, &[Vec<u8>]) -> String) {
    for chained in [false, true] {
        for second_archive in [false, true] {
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
                    let archives = if second_archive {
                        vec![plant.end(), attack.end()]
                    } else {
                        vec![plant.raw(attack.open()).end()]
                    };
                    let result = unpack(hostile, &archives);
                    assert!(!result.contains("canary"), "{result}");
                }
            }
        }
    }
}

#[test]
fn planted_links_lead_nowhere_outside() {
    plant_and_go_through(Hostile::run);
}

#[test]
fn links_planted_by_archives_of_add_lead_nowhere_outside() {
    plant_and_go_through(Hostile::add);
}

#[test]
fn names_in_archives_of_add_stay_beneath_the_destination() {
    let add = |tar: Tar| Hostile::new().add(&[tar.end()]);
    for name in ["../x", "a/../../x", "/../../x", "./../x"] {
        let result = add(Tar::new().file(name, "x"));
        assert!(result.ends_with("to/x=x"), "{name}: {result}");
    }
    for name in ["", ".", "./", "/", "//"] {
        assert_eq!(add(Tar::new().symlink(name, "/etc").file("f", "x")), "to/ to/f=x", "{name:?}");
    }
    let hostile = Hostile::new();
    let link = Tar::new().hard_link("l", &format!("../..{}/secret", hostile.outside())).end();
    assert!(hostile.add(&[link]).contains("is not there"));
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
fn attributes_do_not_reach_what_a_link_leads_to() {
    let attributes = [
        ("SCHILY.xattr.user.evil", "1"),
        ("SCHILY.xattr.security.capability", CAPABLE),
        ("mtime", "1"),
    ];
    for type_flag in [b'0', b'2', b'5'] {
        let over = |link: &Tar, name: &str| {
            let member = link.clone().pax(b'x', &attributes);
            member.member(type_flag, name, "elsewhere", 0o7777, b"").end()
        };
        for target in ["dir", "secret"] {
            let hostile = Hostile::new();
            let link = Tar::new().symlink("l", &format!("{}/{target}", hostile.outside()));
            hostile.run(&[over(&link, "l")]);
            let hostile = Hostile::new();
            let link = Tar::new().symlink("l", &hostile.outside());
            hostile.run(&[over(&link, &format!("l/{target}"))]);
        }
        // Inside of the root neither.
        let mut place = Place::new();
        let inside = Tar::new().member(b'5', "d", "", 0o700, b"").symlink("l", "d");
        place.unpack(&over(&inside, "l")).unwrap();
        let metadata = place.root.metadata(&path("d")).unwrap();
        assert_eq!((metadata.mode, metadata.mtime.secs), (0o700, 0o13_727_410_000));
        let mut xattrs = place.root.xattrs(&path("d")).unwrap();
        xattrs.retain(|name, _| ebiko_snapshot::is_recorded_xattr(name));
        assert!(xattrs.is_empty(), "{xattrs:?}");
    }
}

/// `cap_net_raw=ep`, as the kernel stores it (version 2).
const CAPABLE: &str = "\u{1}\0\0\u{2}\0 \0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn hard_links_are_looked_up_in_the_root_and_not_where_the_program_was_started() {
    assert!(Path::new("Cargo.toml").exists(), "this is where tests are started");
    let expected =
        "cannot unpack `l` from layer DIGEST: the hard link's target `Cargo.toml` is not there";
    check(Tar::new().hard_link("l", "Cargo.toml"), expected);
    check(
        Tar::new().raw(header(b'3', b"null", b"", 0o666, 0)).hard_link("again", "null"),
        "again null",
    );
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
    for compression in [Compression::Zstd { level: 1 }, Compression::Gzip { level: 1 }] {
        let mut stream = std::io::Read::chain(
            &bomb[..],
            std::io::Read::take(std::io::repeat(0), (256 << 20) + 1024),
        );
        let mut blob = Vec::new();
        compress(&mut stream, &mut blob, compression, 2, None).unwrap();
        assert!(blob.len() < 4 << 20);
        let layer = support::blob_layer(b"", &blob, compression.kind());
        let mut place = Place::new();
        let limits = Limits { bytes: 32 << 20, ..Limits::default() };
        let error = unpack(
            &layer,
            &place.root,
            &mut place.snapshot,
            &UnpackOptions { limits, ..UnpackOptions::default() },
        );
        let error = error.unwrap_err();
        assert!(chain(&error).contains("more than 33554432 unpacked bytes"), "{}", chain(&error));
        assert!(error.to_string().contains(&layer.descriptor.digest.to_string()));
    }
}

/// A layer whose blob is `blob`, whatever comes out of it.
#[track_caller]
fn check_blob(tar: &[u8], blob: &[u8], expected: &str) {
    let result = Hostile::new().run_with(&[blob.to_vec()], |place, blob| {
        let layer = support::blob_layer(tar, blob, LayerCompression::Gzip);
        let digest = layer.descriptor.digest.to_string();
        unpack(&layer, &place.root, &mut place.snapshot, &UnpackOptions::default())
            .map_err(|error| chain(&error).replace(&digest, "DIGEST"))
            .map(drop)
    });
    assert_eq!(result, expected);
}

#[test]
fn odd_blobs_are_refused_or_what_other_readers_take_them_for() {
    let tar = Tar::new().file("f", "x").end();
    let gzip = |bytes: &[u8]| {
        let mut blob = Vec::new();
        compress(&mut &bytes[..], &mut blob, Compression::default(), 1, None).unwrap();
        blob
    };
    // What is behind the end of the archive belongs to the stream and not to the files.
    let with_rest = [&tar[..], b"not a header"].concat();
    check_blob(&with_rest, &with_rest, "f=x");
    // What is behind the last member is no gzip.
    let with_garbage = [gzip(&tar), b"garbage and not a header".to_vec()].concat();
    check_blob(
        &tar,
        &with_garbage,
        "cannot unpack layer DIGEST: cannot decompress the blob: invalid gzip header",
    );
    // An archive in gzip in gzip is no archive.
    let nested = gzip(&gzip(&tar));
    check_blob(
        &gzip(&tar),
        &nested,
        "cannot unpack layer DIGEST: the archive ends in the middle of a member",
    );
    // Window descriptor 0xa8: 2 GiB, which a decoder would have to hold.
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 0x09, 0, 0, b'x'];
    check_blob(
        b"x",
        &window,
        "cannot unpack layer DIGEST: cannot decompress the blob: Frame requires too much memory for decoding",
    );
}

#[test]
fn an_attribute_larger_than_any_file_system_takes_is_kept_or_refused() {
    let large = "x".repeat(70_000);
    let layer = Tar::new().pax(b'x', &[("SCHILY.xattr.user.large", &large)]).file("f", "x").end();
    let result = Hostile::new().run(&[layer]);
    assert!(result == "f=x" || result.contains("cannot unpack `f` from layer DIGEST"), "{result}");
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

#[test]
fn privileged_no_layer_reaches_what_is_mounted() {
    // In a thread with mounts of its own, which go with it.
    let thread = std::thread::spawn(|| {
        use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
        use rustix::thread::UnshareFlags;
        #[expect(
            unsafe_code,
            reason = "unshare is unsafe where it takes descriptors away; this does not"
        )]
        // SAFETY: only the mount namespace and the working directory become the thread's own.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        for attack in [
            Tar::new().file(".wh.mounted", ""),
            Tar::new().file(".wh..wh..opq", ""),
            Tar::new().file("mounted/.wh..wh..opq", ""),
            Tar::new().file("mounted/.wh.secret", ""),
            Tar::new().file("mounted", "a file"),
            Tar::new().symlink("mounted", "/etc"),
            Tar::new().member(b'5', "mounted", "", 0o777, b""),
            Tar::new().file("mounted/secret", "overwritten"),
            Tar::new().file("mounted/new", "x"),
            Tar::new().hard_link("stolen", "mounted/secret"),
            Tar::new().symlink("l", "mounted").file("l/secret", "overwritten"),
        ] {
            let mut hostile = Hostile::new();
            let mount_point = hostile.place.host("mounted");
            std::fs::create_dir(&mount_point).unwrap();
            mount_bind(hostile.outside(), &mount_point).unwrap();
            // A root knows the mounts that are there when it is opened.
            hostile.place.reopen();
            let result = hostile.run(&[attack.end()]);
            assert!(!result.contains("canary"), "{result}");
        }
    });
    thread.join().unwrap();
}
