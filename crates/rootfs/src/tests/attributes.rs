//! What is set reads back, whoever runs the build.

use std::io::Write;

use super::*;
use crate::{DeviceNumber, Time, Xattrs};

fn xattrs(pairs: &[(&str, &[u8])]) -> Xattrs {
    pairs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
}

/// `cap_net_raw+ep`, as setcap(8) writes it.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn everything(mode: u32) -> Attributes {
    Attributes {
        uid: Some(33),
        gid: Some(101),
        mode: Some(mode),
        mtime: Some(Time { secs: 1_234_567_890, nanos: 123_456_789 }),
        xattrs: Some(xattrs(&[
            ("user.note", b"n"),
            ("security.capability", CAPABILITY),
            ("trusted.t", b"t"),
        ])),
    }
}

#[track_caller]
fn assert_reads_back(root: &Root, at: &RootPath, wanted: &Attributes, mode: u32) {
    let found = root.metadata(at).unwrap();
    assert_eq!((Some(found.uid), Some(found.gid)), (wanted.uid, wanted.gid), "owner of {at}");
    assert_eq!(format!("{:o}", found.mode), format!("{mode:o}"), "mode of {at}");
    assert_eq!(Some(found.mtime), wanted.mtime, "time of {at}");
    assert_eq!(Some(root.xattrs(at).unwrap()), wanted.xattrs, "extended attributes of {at}");
}

fn attributes_read_back() {
    let sandbox = Sandbox::new();
    for (_, root) in sandbox.roots() {
        dir(&root, "dir");
        write(&root, "file", "x");
        link(&root, "dir", "link");
        root.make_node(&path("fifo"), Kind::Fifo, DeviceNumber::default()).unwrap();
        for (text, mode) in [
            ("dir", 0o1555),
            ("dir", 0o0),
            ("dir", 0o2775),
            ("file", 0o6755),
            ("file", 0o0),
            ("file", 0o4111),
            ("link", 0o777),
            ("fifo", 0o640),
            ("", 0o755),
        ] {
            let (at, wanted) = (path(text), everything(mode));
            root.set_attributes(&at, &wanted).unwrap();
            assert_reads_back(&root, &at, &wanted, mode);
            // A second time from another state.
            root.set_attributes(
                &at,
                &Attributes { xattrs: Some(Xattrs::new()), uid: Some(0), ..everything(0o700) },
            )
            .unwrap();
            assert_eq!(root.xattrs(&at).unwrap(), Xattrs::new(), "{at}");
            root.set_attributes(&at, &wanted).unwrap();
            assert_reads_back(&root, &at, &wanted, mode);
        }
        assert_eq!(
            root.metadata(&path("dir")).unwrap().mode,
            0o2775,
            "the link's target is untouched"
        );
        assert_eq!(content(&root, &path("file")), "x", "a file without permissions can be packed");
        write(&root, "dir/new", "a directory without permissions can be written to");
        root.clear().unwrap();
    }
}

#[test]
fn attributes_read_back_with_the_rights_of_this_process() {
    attributes_read_back();
}

#[test]
fn attributes_read_back_without_any_rights() {
    unprivileged(attributes_read_back);
}

fn open_files_too() {
    let sandbox = Sandbox::new();
    let root = sandbox.root();
    let at = path("file");
    let mut file = root.create_file(&at).unwrap();
    file.write_all(b"content").unwrap();
    root.set_file_attributes(&file, &at, &everything(0o4755)).unwrap();
    assert_reads_back(&root, &at, &everything(0o4755), 0o4755);
}

#[test]
fn attributes_of_open_files_read_back() {
    open_files_too();
    unprivileged(open_files_too);
}

fn owner_alone() {
    let sandbox = Sandbox::new();
    let root = sandbox.root();
    let at = path("ping");
    write(&root, "ping", "x");
    root.set_attributes(&at, &everything(0o4755)).unwrap();
    root.set_attributes(&at, &Attributes { uid: Some(7), ..Attributes::default() }).unwrap();
    assert_reads_back(&root, &at, &Attributes { uid: Some(7), ..everything(0) }, 0o4755);
}

#[test]
fn changing_only_the_owner_keeps_set_id_bits_and_capabilities() {
    owner_alone();
    unprivileged(owner_alone);
}

fn devices() {
    let sandbox = Sandbox::new();
    let root = sandbox.root();
    let rdev = DeviceNumber { major: 1, minor: 3 };
    for (name, kind) in [("null", Kind::CharDevice), ("disk", Kind::BlockDevice)] {
        let at = path(name);
        root.make_node(&at, kind, rdev).unwrap();
        root.set_attributes(&at, &everything(0o666)).unwrap();
        root.hard_link(&at, &path("again")).unwrap();
        for at in [&at, &path("again")] {
            let found = root.metadata(at).unwrap();
            assert_eq!((found.kind, found.rdev, found.size, found.nlink), (kind, rdev, 0, 2));
            assert_reads_back(&root, at, &everything(0o666), 0o666);
            let error = root.open_file(at).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "a device is not opened");
        }
        root.remove(&at).unwrap();
        assert_eq!(
            root.metadata(&path("again")).unwrap().kind,
            kind,
            "the other name still stands for it"
        );
        root.remove(&path("again")).unwrap();
    }
}

#[test]
fn device_nodes_read_back() {
    devices();
    unprivileged(devices);
}

#[test]
fn without_rights_own_files_read_as_roots_and_the_table_stays_small() {
    unprivileged(|| {
        let sandbox = Sandbox::new();
        let root = sandbox.root();
        write(&root, "a", "x");
        let found = root.metadata(&path("a")).unwrap();
        assert_eq!((found.uid, found.gid), (0, 0));
        let plain =
            Attributes { uid: Some(0), gid: Some(0), mode: Some(0o644), ..Attributes::default() };
        root.set_attributes(&path("a"), &plain).unwrap();
        assert!(root.inodes.table.is_empty(), "what most files are needs no memory");
        root.set_attributes(&path("a"), &Attributes { uid: Some(1000), ..plain.clone() }).unwrap();
        assert_eq!(root.metadata(&path("a")).unwrap().uid, 1000, "also where the disk says so");
        root.set_attributes(&path("a"), &plain).unwrap();
        assert!(root.inodes.table.is_empty());
    });
}

#[test]
fn what_is_virtual_goes_with_the_file() {
    unprivileged(|| {
        let sandbox = Sandbox::new();
        let root = sandbox.root();
        let owned = Attributes { uid: Some(33), ..Attributes::default() };
        write(&root, "d/e/a", "x");
        for text in ["d", "d/e", "d/e/a"] {
            root.set_attributes(&path(text), &owned).unwrap();
        }
        root.rename_within(&path("d/e/a"), &path("b")).unwrap();
        assert_eq!(root.metadata(&path("b")).unwrap().uid, 33);
        write(&root, "c", "x");
        root.rename_within(&path("c"), &path("b")).unwrap();
        root.remove(&path("d")).unwrap();
        assert!(root.inodes.table.is_empty(), "nothing is left to remember");
    });
}

#[test]
fn a_chmod_by_a_step_wins_over_what_was_virtual() {
    unprivileged(|| {
        let sandbox = Sandbox::new();
        let root = sandbox.root();
        write(&root, "a", "x");
        dir(&root, "d");
        let mode_of = |text: &str| root.metadata(&path(text)).unwrap().mode;
        // Also where it asks for what the disk holds instead of the mode that is seen.
        for (text, virtually, by_step) in [
            ("a", 0o555, 0o640),
            ("a", 0o555, 0o755),
            ("a", 0o444, 0o644),
            ("a", 0o0, 0o600),
            ("a", 0o4755, 0o755),
            ("a", 0o1444, 0o644),
            ("d", 0o555, 0o755),
            ("d", 0o1055, 0o755),
        ] {
            let wanted = Attributes { mode: Some(virtually), ..Attributes::default() };
            root.set_attributes(&path(text), &wanted).unwrap();
            assert_eq!(mode_of(text), virtually, "{text}");
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(by_step);
            std::fs::set_permissions(sandbox.host("root").join(text), permissions).unwrap();
            assert_eq!(mode_of(text), by_step, "{text} after {virtually:o}");
        }
    });
}

#[test]
fn files_that_are_read_elsewhere_have_no_marks() {
    unprivileged(|| {
        let sandbox = Sandbox::new();
        for (read_elsewhere, on_disk) in [(true, 0o644), (false, 0o1644)] {
            let options = RootOptions { read_elsewhere, ..RootOptions::default() };
            let root = Root::open(&sandbox.host("root"), options).unwrap();
            write(&root, "a", "x");
            let wanted = Attributes { mode: Some(0o444), ..Attributes::default() };
            root.set_attributes(&path("a"), &wanted).unwrap();
            assert_eq!(root.metadata(&path("a")).unwrap().mode, 0o444);
            let plain = Root::open_read_only(&sandbox.host("root")).unwrap();
            assert_eq!(plain.metadata(&path("a")).unwrap().mode, on_disk);
            root.remove(&path("a")).unwrap();
        }
    });
}

#[test]
fn marks_of_another_build_are_not_seen_and_sticky_bits_are() {
    unprivileged(|| {
        let sandbox = Sandbox::new();
        let modes = [("f", 0o444), ("d", 0o555), ("s", 0o1640), ("t", 0o1777), ("u", 0o1755)];
        let root = sandbox.root();
        for (text, mode) in modes {
            if matches!(text, "d" | "t" | "u") {
                dir(&root, text);
            } else {
                write(&root, text, "x");
            }
            let wanted = Attributes { mode: Some(mode), ..Attributes::default() };
            root.set_attributes(&path(text), &wanted).unwrap();
            assert_eq!(root.metadata(&path(text)).unwrap().mode, mode, "{text}");
        }
        // As a cache that is used again. What was virtual is gone, which is not the same as being sticky.
        let again = Root::open(&sandbox.host("root"), RootOptions::default()).unwrap();
        let seen = |text: &str| again.metadata(&path(text)).unwrap().mode;
        assert_eq!([seen("f"), seen("d"), seen("t")], [0o644, 0o755, 0o1777]);
    });
}

#[test]
fn what_a_step_hid_from_its_own_user_can_still_be_read_and_removed() {
    unprivileged(|| {
        let sandbox = Sandbox::new();
        let root = sandbox.root();
        write(&root, "d/a", "x");
        for (text, mode) in [("d/a", 0o200), ("d", 0o0)] {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(sandbox.host("root").join(text), permissions).unwrap();
        }
        assert_eq!(root.list(&path("d")).unwrap().len(), 1);
        assert_eq!(root.metadata(&path("d")).unwrap().mode, 0o0, "the mode is still the step's");
        assert_eq!(content(&root, &path("d/a")), "x");
        assert_eq!(root.metadata(&path("d/a")).unwrap().mode, 0o200);

        dir(&root, "e");
        write(&root, "e/f/g", "x");
        for text in ["e/f", "e"] {
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o500);
            std::fs::set_permissions(sandbox.host("root").join(text), permissions).unwrap();
        }
        root.clear().unwrap();
        assert_eq!(shown(&root), "d /\n");
    });
}

#[test]
fn attributes_of_the_machine_are_left_to_it() {
    let sandbox = Sandbox::new();
    let root = sandbox.root();
    write(&root, "a", "x");
    let wanted =
        xattrs(&[("security.selinux", b"label"), ("no-namespace", b"v"), ("user.\0", b"v")]);
    root.set_attributes(
        &path("a"),
        &Attributes { xattrs: Some(wanted.clone()), ..Attributes::default() },
    )
    .unwrap();
    assert_eq!(root.xattrs(&path("a")).unwrap(), wanted, "what an image says about them is kept");
    root.set_attributes(
        &path("a"),
        &Attributes { xattrs: Some(Xattrs::new()), ..Attributes::default() },
    )
    .unwrap();
    assert_eq!(root.xattrs(&path("a")).unwrap(), Xattrs::new());
}

#[test]
fn large_and_many_extended_attributes_read_back() {
    let sandbox = Sandbox::new();
    let root = sandbox.root();
    write(&root, "a", "x");
    let mut wanted: Xattrs = (0..50)
        .map(|number| (format!("user.{number}").into_bytes(), vec![b'v'; number * 20]))
        .collect();
    wanted.insert(b"user.large".to_vec(), vec![b'v'; 60_000]);
    wanted.insert(b"user.too-large".to_vec(), vec![b'v'; 70_000]);
    root.set_attributes(
        &path("a"),
        &Attributes { xattrs: Some(wanted.clone()), ..Attributes::default() },
    )
    .unwrap();
    assert!(root.xattrs(&path("a")).unwrap() == wanted);
}

#[test]
fn numbers_that_no_kernel_takes_read_back() {
    let sandbox = Sandbox::new();
    let root = sandbox.root();
    write(&root, "a", "x");
    for uid in [u32::MAX, u32::MAX - 1, 1 << 31] {
        let owned = Attributes { uid: Some(uid), gid: Some(uid), ..Attributes::default() };
        root.set_attributes(&path("a"), &owned).unwrap();
        let found = root.metadata(&path("a")).unwrap();
        assert_eq!((found.uid, found.gid), (uid, uid));
    }
    for (number, secs) in [i64::MIN, -1, 0, 1 << 31, 1 << 40, i64::MAX].into_iter().enumerate() {
        for nanos in [0, 999_999_999] {
            let mtime = Time { secs, nanos };
            let dated = Attributes { mtime: Some(mtime), ..Attributes::default() };
            root.set_attributes(&path("a"), &dated).unwrap();
            assert_eq!(root.metadata(&path("a")).unwrap().mtime, mtime, "{number}");
        }
    }
    let never =
        Attributes { mtime: Some(Time { secs: 0, nanos: 0x3fff_ffff }), ..Attributes::default() };
    assert!(root.set_attributes(&path("a"), &never).is_err(), "this would mean now");

    for rdev in [(0, 0), (4096, 1), (1, 1 << 20), (u32::MAX, u32::MAX)] {
        let rdev = DeviceNumber { major: rdev.0, minor: rdev.1 };
        root.make_node(&path("dev"), Kind::CharDevice, rdev).unwrap();
        let found = root.metadata(&path("dev")).unwrap();
        assert_eq!((found.kind, found.rdev), (Kind::CharDevice, rdev));
        root.remove(&path("dev")).unwrap();
    }
}

#[test]
fn attributes_read_back_where_proc_is_missing() {
    let sandbox = Sandbox::new();
    let mut root = sandbox.root();
    std::sync::Arc::get_mut(&mut root.inodes).unwrap().proc_usable = false;
    dir(&root, "dir");
    write(&root, "file", "x");
    link(&root, "file", "link");
    root.make_node(&path("fifo"), Kind::Fifo, DeviceNumber::default()).unwrap();
    for (text, mode) in [("dir", 0o1555), ("file", 0o4755), ("link", 0o777), ("fifo", 0o640)] {
        let wanted = everything(mode);
        root.set_attributes(&path(text), &wanted).unwrap();
        assert_reads_back(&root, &path(text), &wanted, mode);
    }
}
