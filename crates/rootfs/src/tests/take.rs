//! Files go from one root to another.

use super::*;
use crate::Xattrs;

/// A second root beside that of the sandbox.
fn other(sandbox: &Sandbox) -> Root {
    std::fs::create_dir_all(sandbox.host("other")).unwrap();
    Root::open(&sandbox.host("other"), RootOptions::default()).unwrap()
}

#[test]
fn a_file_and_a_tree_are_taken_as_they_are() {
    for number in 0..4 {
        let sandbox = Sandbox::new();
        let (to, from) = (sandbox.roots().swap_remove(number).1, other(&sandbox));
        write(&from, "d/s/f", "x");
        write(&from, "f", "y");
        link(&from, "../f", "d/l");
        // No disk takes this one from us, so that it is virtual.
        let label = Xattrs::from([(b"security.selinux".to_vec(), b"label".to_vec())]);
        let attributes =
            Attributes { xattrs: Some(label.clone()), mode: Some(0o4711), ..Attributes::default() };
        from.set_attributes(&path("d/s/f"), &attributes).unwrap();
        let inode = from.metadata(&path("d/s/f")).unwrap().ino;

        let taker = to.taker(&from).unwrap();
        assert!(taker.take(&path("d"), &path("t")), "root {number}");
        assert!(taker.take(&path("f"), &path("t/g")), "root {number}");

        assert_eq!(shown(&from), "d /\n");
        assert_eq!(
            describe(&sandbox.host("root/t"), false),
            "d .\nf g \"y\"\nl l -> ../f\nd s\nf s/f \"x\"\n"
        );
        let found = to.metadata(&path("t/s/f")).unwrap();
        assert_eq!((found.ino, found.mode), (inode, 0o4711), "root {number}");
        assert_eq!(to.xattrs(&path("t/s/f")).unwrap(), label, "root {number}");
    }
}

#[test]
fn what_takes_more_than_a_rename_changes_nothing() {
    let sandbox = Sandbox::new();
    let to = sandbox.root_with(Resolution::Openat2, &["kaniko", "var/mount"]);
    std::fs::create_dir_all(sandbox.host("root/var/mount")).unwrap();
    let from = other(&sandbox);
    write(&from, "f", "x");
    write(&from, "d/f", "y");
    write(&to, "there", "z");
    write(&to, "dir/full", "z");
    let before = (shown(&from), shown(&to), describe(&sandbox.host("root"), false));
    let taker = to.taker(&from).unwrap();
    for (source, target) in [
        ("f", "there"),
        ("d", "dir"),
        ("d", "there/d"),
        ("f", "none/f"),
        ("none", "new"),
        ("", "new"),
        ("d", "kaniko"),
        ("f", "kaniko/f"),
        ("d", "var"),
        ("f", "var/mount"),
    ] {
        let [source_path, target_path] = [source, target].map(path);
        assert!(!taker.take(&source_path, &target_path), "{source} to {target}");
    }
    let after = (shown(&from), shown(&to), describe(&sandbox.host("root"), false));
    assert_eq!(after, before);
}

#[test]
fn nothing_is_taken_across_file_systems_or_from_what_is_only_read() {
    let sandbox = Sandbox::new();
    let to = sandbox.root_with(Resolution::Openat2, &[]);
    write(&other(&sandbox), "f", "x");
    let read_only = Root::open_read_only(&sandbox.host("other")).unwrap();
    assert!(to.taker(&read_only).is_none());
    assert!(read_only.taker(&to).is_none());
    let guarded = RootOptions { protected: vec![path("kaniko")], ..RootOptions::default() };
    let guarded = Root::open(&sandbox.host("other"), guarded).unwrap();
    assert!(to.taker(&guarded).is_none());

    // Memory, which the sandbox is not in, or this shows nothing; machines without it are rare.
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    let from = Root::open(elsewhere.path(), RootOptions::default()).unwrap();
    write(&from, "f", "x");
    let same = from.metadata(&path("f")).unwrap().dev == to.metadata(&path("")).unwrap().dev;
    assert_eq!(to.taker(&from).unwrap().take(&path("f"), &path("f")), same);
}
