//! Removing trees that were made to be hard to remove.

use super::*;
use crate::{DeviceNumber, Existing, Removed};

#[test]
fn a_tree_is_removed_and_what_its_links_lead_to_is_not() {
    let sandbox = Sandbox::new();
    let before = sandbox.canary();
    for (way, root) in sandbox.roots() {
        write(&root, "a/b/c", "x");
        link(&root, &sandbox.host("canary").display().to_string(), "a/b/out");
        link(&root, "../../keep", "a/b/in");
        write(&root, "keep/file", "x");
        root.make_node(&path("a/fifo"), Kind::Fifo, DeviceNumber::default()).unwrap();
        assert_eq!(root.remove(&path("a")).unwrap(), Removed::Everything, "{way}");
        assert_eq!(root.remove(&path("a")).unwrap(), Removed::Nothing, "{way}");
        assert_eq!(root.remove(&path("a/b/c")).unwrap(), Removed::Nothing, "{way}");
        assert_eq!(root.remove(&path("keep/file/x")).unwrap(), Removed::Nothing, "{way}");
        assert_eq!(shown(&root), "d /\nd keep\nf keep/file \"x\"\n", "{way}");
        root.clear().unwrap();
    }
    assert_eq!(sandbox.canary(), before);
}

#[test]
fn a_tree_deeper_than_any_path_and_any_limit_of_descriptors_is_removed() {
    let sandbox = Sandbox::in_memory();
    for (way, root) in sandbox.roots().into_iter().step_by(3) {
        // Longer than a path may be, and more levels than there are descriptors.
        let file = deep(&sandbox.host("root"), 2100);
        assert!(root.find(&file).unwrap().is_some(), "{way}: it can still be looked at");
        assert_eq!(root.remove(&path("d")).unwrap(), Removed::Everything, "{way}");
        assert_eq!(root.list(&RootPath::root()).unwrap(), [], "{way}");
    }
}

#[test]
fn a_wide_tree_is_removed_whole() {
    let sandbox = Sandbox::in_memory();
    let root = sandbox.root();
    for number in 0..3000 {
        let name = path(&format!("w/{number}"));
        root.create_parents(&name, &Attributes::default()).unwrap();
        if number % 2 == 0 { root.create_dir(&name) } else { root.create_file(&name).map(drop) }
            .unwrap();
    }
    assert_eq!(root.remove(&path("w")).unwrap(), Removed::Everything);
    assert_eq!(root.list(&RootPath::root()).unwrap(), []);
}

#[test]
fn way_is_made_for_everything_but_a_directory_in_a_directorys_place() {
    let sandbox = Sandbox::new();
    let before = sandbox.canary();
    for (way, root) in sandbox.roots() {
        for (there, wanted, expected) in [
            ("nothing", Kind::Regular, Existing::Nothing),
            ("dir", Kind::Directory, Existing::Directory),
            ("dir", Kind::Regular, Existing::Removed),
            ("dir", Kind::Symlink, Existing::Removed),
            ("file", Kind::Directory, Existing::Removed),
            ("file", Kind::Regular, Existing::Removed),
            ("link", Kind::Directory, Existing::Removed),
            ("link", Kind::Regular, Existing::Removed),
        ] {
            let at = path("x");
            match there {
                "dir" => write(&root, "x/inside", "x"),
                "file" => write(&root, "x", "x"),
                "link" => link(&root, &sandbox.host("canary/dir").display().to_string(), "x"),
                _ => {}
            }
            assert_eq!(
                root.make_way(&at, wanted).unwrap(),
                expected,
                "{way}: {there} to {wanted:?}"
            );
            assert_eq!(root.find(&at).unwrap().is_some(), expected == Existing::Directory);
            root.remove(&at).unwrap();
        }
    }
    assert_eq!(sandbox.canary(), before);
}

#[test]
fn paths_that_nobody_could_use_are_refused_at_once() {
    let sandbox = Sandbox::in_memory();
    for (way, root) in sandbox.roots() {
        for levels in [3000, 1_000_000] {
            let file = path(&"d/".repeat(levels)).join_name(b"file");
            let error = root.create_parents(&file, &Attributes::default()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG), "{way}: {levels}");
        }
        assert_eq!(root.list(&RootPath::root()).unwrap(), [], "{way}");
    }
}
