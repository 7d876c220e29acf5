//! A stage leaves, whole.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::{MoveOutError, Time};

fn sandbox_with_builder() -> Sandbox {
    let sandbox = Sandbox::new();
    for directory in ["kaniko/stages", "etc"] {
        std::fs::create_dir_all(sandbox.host("root").join(directory)).unwrap();
    }
    std::fs::write(sandbox.host("root/etc/hosts"), "the container's").unwrap();
    sandbox
}

const CONTAINERS_OWN: &str =
    "d .\nd etc\nf etc/hosts \"the container's\"\nd kaniko\nd kaniko/stages\n";

fn stage_leaves() {
    let sandbox = sandbox_with_builder();
    for (number, resolution) in [Resolution::Openat2, Resolution::Walk].into_iter().enumerate() {
        let root = sandbox.root_with(resolution, &["kaniko", "etc/hosts"]);
        write(&root, "usr/bin/tool", "x");
        write(&root, "etc/hosts", "the image's");
        write(&root, "etc/motd", "hello");
        write(&root, "kaniko/displaced/deep", "y");
        link(&root, "usr/bin", "bin");
        let owned = Attributes {
            uid: Some(33),
            gid: Some(33),
            mtime: Some(Time { secs: 7, nanos: 8 }),
            ..Attributes::default()
        };
        for text in ["usr/bin/tool", "etc/hosts", "etc", ""] {
            root.set_attributes(&path(text), &owned).unwrap();
        }
        let before = shown(&root);
        let inode = root.metadata(&path("usr")).unwrap().ino;

        let to = format!("root/kaniko/stages/{number}");
        let stage = root.move_out(&sandbox.host(&to)).unwrap();

        assert_eq!(shown(&stage), before);
        assert_eq!(stage.metadata(&path("usr")).unwrap().ino, inode, "renamed, not copied");
        for text in ["usr/bin/tool", "etc/hosts", "etc", ""] {
            let found = stage.metadata(&path(text)).unwrap();
            assert_eq!(
                (found.uid, found.gid, found.mtime),
                (33, 33, Time { secs: 7, nanos: 8 }),
                "{text}"
            );
        }
        assert_eq!(shown(&root), "d /\n", "the next stage begins with nothing");
        assert_eq!(
            stage.protects(&path("etc/hosts")),
            None,
            "nothing of a stage is the container's"
        );
        std::fs::remove_dir_all(sandbox.host(&to)).unwrap();
        drop(root);
        assert_eq!(describe(&sandbox.host("root"), false), CONTAINERS_OWN);
    }
}

#[test]
fn a_stage_leaves_by_renaming_and_takes_everything_along() {
    stage_leaves();
}

#[test]
fn a_stage_leaves_without_any_rights() {
    unprivileged(stage_leaves);
}

#[test]
fn an_overridden_directory_leaves_as_what_the_image_made_of_it() {
    let sandbox = sandbox_with_builder();
    let root = sandbox.root_with(Resolution::Openat2, &["kaniko", "etc/hosts"]);
    std::fs::write(sandbox.host("root/etc/seen-by-nobody"), "x").unwrap();
    root.remove(&path("etc")).unwrap();
    root.symlink(b"/usr/etc", &path("etc")).unwrap();
    write(&root, "etc/hosts", "the image's");
    let before = shown(&root);
    let stage = root.move_out(&sandbox.host("root/kaniko/stages/0")).unwrap();
    assert_eq!(shown(&stage), before);
    assert_eq!(
        before,
        "d /\nl etc -> /usr/etc\nd usr\nd usr/etc\nf usr/etc/hosts \"the image's\"\n"
    );
    assert_eq!(shown(&root), "d /\n");
}

#[test]
fn a_directory_that_its_owner_may_not_write_leaves_too() {
    unprivileged(|| {
        let sandbox = sandbox_with_builder();
        let root = sandbox.root_with(Resolution::Openat2, &["kaniko"]);
        write(&root, "d/a", "x");
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o555);
        std::fs::set_permissions(sandbox.host("root/d"), permissions).unwrap();
        let stage = root.move_out(&sandbox.host("root/kaniko/stages/0")).unwrap();
        assert_eq!(content(&stage, &path("d/a")), "x");
        assert_eq!(stage.metadata(&path("d")).unwrap().mode, 0o555);
    });
}

#[test]
fn a_root_is_not_moved_into_itself_or_over_something() {
    let sandbox = sandbox_with_builder();
    let root = sandbox.root_with(Resolution::Openat2, &["kaniko"]);
    let before = describe(&sandbox.host("root"), false);
    for (to, inside) in [
        ("root/x", true),
        ("root/etc/x", true),
        ("root/kaniko/stages", false),
        ("nowhere/x", false),
    ] {
        let error = root.move_out(&sandbox.host(to)).unwrap_err();
        assert_eq!(matches!(error, MoveOutError::Inside { .. }), inside, "{to}: {error}");
        assert!(
            matches!(error, MoveOutError::Inside { .. } | MoveOutError::Create { .. }),
            "{error}"
        );
    }
    assert_eq!(describe(&sandbox.host("root"), false), before);
    assert!(sandbox.host("canary").metadata().unwrap().ino() > 0);
}

fn moved_back() {
    let sandbox = sandbox_with_builder();
    std::fs::write(sandbox.host("root/etc/hostname"), "before").unwrap();
    std::fs::write(sandbox.host("root/tool"), "before").unwrap();
    let root = sandbox.root_with(Resolution::Openat2, &["kaniko", "etc/hosts"]);
    let owned = Attributes { uid: Some(5), mode: Some(0o711), ..Attributes::default() };
    for text in ["tool", "etc"] {
        root.set_attributes(&path(text), &owned).unwrap();
    }
    let before = shown(&root);
    let kept = root.move_out(&sandbox.host("root/kaniko/kept")).unwrap();
    write(&root, "etc/hosts", "another stage's");
    root.clear().unwrap();
    std::fs::write(sandbox.host("root/kaniko/kept/etc/hosts"), "stub").unwrap();

    root.move_in(&kept).unwrap();
    assert_eq!(shown(&root), before);
    for text in ["tool", "etc"] {
        let found = root.metadata(&path(text)).unwrap();
        assert_eq!((found.uid, found.mode), (5, 0o711), "{text}");
    }
    assert_eq!(
        shown(&kept),
        "d /\nd etc\nf etc/hosts \"stub\"\n",
        "what is protected is not replaced"
    );

    // A root that was opened anew knows nothing of the other, and takes over what is virtual.
    let again = root.move_out(&sandbox.host("root/kaniko/again")).unwrap();
    let root = sandbox.root_with(Resolution::Openat2, &["kaniko", "etc/hosts"]);
    root.move_in(&again).unwrap();
    assert_eq!(root.metadata(&path("tool")).unwrap().uid, 5);
}

#[test]
fn what_was_moved_out_comes_back() {
    moved_back();
    unprivileged(moved_back);
}
