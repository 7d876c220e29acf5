//! What belongs to the container stays, and what an image wants in its place is shown.

use std::io::ErrorKind;

use super::*;
use crate::{Protection, Removed, Time};

const PROTECTED: [&str; 5] =
    ["kaniko", "proc", "etc/hosts", "etc/resolv.conf", "var/run/secrets/cluster/token"];

/// A root as a pod has it: files and directories of the container in place of mounts.
fn pod() -> Sandbox {
    let sandbox = Sandbox::new();
    for directory in ["kaniko", "proc/1", "etc", "var/run/secrets/cluster"] {
        std::fs::create_dir_all(sandbox.host("root").join(directory)).unwrap();
    }
    for file in [
        "kaniko/executor",
        "proc/1/mem",
        "etc/hosts",
        "etc/resolv.conf",
        "var/run/secrets/cluster/token",
    ] {
        std::fs::write(sandbox.host("root").join(file), "the container's").unwrap();
    }
    sandbox
}

fn pods() -> Vec<(&'static str, Sandbox, Root)> {
    [("openat2", Resolution::Openat2), ("walk", Resolution::Walk)]
        .map(|(way, resolution)| {
            let sandbox = pod();
            let root = sandbox.root_with(resolution, &PROTECTED);
            (way, sandbox, root)
        })
        .into()
}

const CONTAINERS_OWN: &str = "\
d .
d etc
f etc/hosts \"the container's\"
f etc/resolv.conf \"the container's\"
d kaniko
f kaniko/executor \"the container's\"
d proc
d proc/1
f proc/1/mem \"the container's\"
d var
d var/run
d var/run/secrets
d var/run/secrets/cluster
f var/run/secrets/cluster/token \"the container's\"
";

#[test]
fn a_new_root_shows_nothing_of_the_container() {
    for (way, sandbox, root) in pods() {
        assert_eq!(shown(&root), "d /\n", "{way}");
        for text in PROTECTED {
            assert_eq!(root.protects(&path(text)), Some(Protection::Builder), "{way}");
            assert_eq!(root.find(&path(text)).unwrap(), None, "{way}: {text}");
            assert!(root.open_file(&path(text)).is_err(), "{way}: {text}");
        }
        for text in ["etc", "var", "var/run"] {
            assert!(root.holds_protected(&path(text)), "{way}");
            assert_eq!(root.find(&path(text)).unwrap(), None, "{way}: {text}");
            assert_eq!(
                root.open_dir(&path(text)).unwrap_err().kind(),
                ErrorKind::NotFound,
                "{way}"
            );
        }
        assert_eq!(root.clear().unwrap(), Removed::SparedProtected, "{way}");
        assert_eq!(describe(&sandbox.host("root"), false), CONTAINERS_OWN, "{way}");
    }
}

#[test]
fn an_image_sees_its_own_files_in_place_of_the_containers() {
    for (way, sandbox, root) in pods() {
        write(&root, "etc/hosts", "the image's");
        dir(&root, "proc");
        write(&root, "kaniko/executor", "the image's");
        link(&root, "../run/resolv.conf", "etc/resolv.conf");
        root.hard_link(&path("etc/hosts"), &path("etc/hosts.copy")).unwrap();
        let owned = Attributes {
            uid: Some(33),
            mode: Some(0o4711),
            mtime: Some(Time { secs: 5, nanos: 6 }),
            ..Attributes::default()
        };
        root.set_attributes(&path("etc/hosts"), &owned).unwrap();
        assert_eq!(
            shown(&root),
            "d /\nd etc\nf etc/hosts \"the image's\"\nf etc/hosts.copy \"the image's\"\n\
             l etc/resolv.conf -> ../run/resolv.conf\n\
             d kaniko\nf kaniko/executor \"the image's\"\nd proc\n",
            "{way}"
        );
        let found = root.metadata(&path("etc/hosts")).unwrap();
        assert_eq!(
            (found.uid, found.mode, found.mtime.nanos, found.nlink),
            (33, 0o4711, 6, 2),
            "{way}"
        );
        let directory = root.open_dir(&path("etc")).unwrap();
        assert!(directory.open_file(b"hosts").is_ok(), "{way}");
        assert_eq!(directory.read_link(b"resolv.conf").unwrap(), b"../run/resolv.conf", "{way}");
        assert!(root.open_dir(&RootPath::root()).unwrap().child(b"proc").is_ok(), "{way}");

        assert_eq!(root.remove(&path("etc/hosts")).unwrap(), Removed::Everything, "{way}");
        assert_eq!(root.remove(&path("etc/hosts")).unwrap(), Removed::Nothing, "{way}");
        root.clear().unwrap();
        assert_eq!(shown(&root), "d /\n", "{way}");
        assert_eq!(describe(&sandbox.host("root"), false), CONTAINERS_OWN, "{way}");
    }
}

#[test]
fn links_of_an_image_do_not_reach_what_is_protected() {
    for (way, sandbox, root) in pods() {
        link(&root, "/kaniko", "a");
        link(&root, "../kaniko/../kaniko/.", "b/c");
        link(&root, "a", "chained");
        for text in ["a", "b/c", "chained"] {
            let at = |name: &str| path(&format!("{text}/{name}"));
            assert!(
                root.create_file(&at("executor")).is_err(),
                "{way}: {text} leads to nothing yet"
            );
            root.create_parents(&at("executor"), &Attributes::default()).unwrap();
            std::io::Write::write_all(&mut root.create_file(&at("executor")).unwrap(), b"evil")
                .unwrap();
            assert_eq!(
                root.read_bounded(&at("executor"), 99).unwrap().unwrap(),
                b"evil",
                "{way}: {text}"
            );
            assert!(root.rename_within(&at("executor"), &path("x")).is_err(), "{way}: {text}");
            assert_eq!(
                root.resolve(&at("executor")).unwrap(),
                path("kaniko/executor"),
                "{way}: {text}"
            );
            root.remove(&path("kaniko")).unwrap();
        }
        root.clear().unwrap();
        assert_eq!(describe(&sandbox.host("root"), false), CONTAINERS_OWN, "{way}");
    }
}

#[test]
fn an_image_can_have_a_link_where_the_container_needs_a_directory() {
    for (way, sandbox, root) in pods() {
        dir(&root, "run");
        dir(&root, "var");
        root.symlink(b"/run", &path("var/run")).unwrap();
        assert_eq!(
            root.create_dir(&path("var/run")).unwrap_err().kind(),
            ErrorKind::AlreadyExists,
            "{way}"
        );
        write(&root, "var/run/pid", "1");
        write(&root, "var/run/secrets/cluster/token", "the image's");
        assert_eq!(
            shown(&root),
            "d /\nd run\nf run/pid \"1\"\nd run/secrets\nd run/secrets/cluster\n\
             f run/secrets/cluster/token \"the image's\"\nd var\nl var/run -> /run\n",
            "{way}"
        );

        assert_eq!(root.remove(&path("var/run")).unwrap(), Removed::SparedProtected, "{way}");
        assert_eq!(root.find(&path("var/run")).unwrap(), None, "{way}");
        root.create_dir(&path("var/run")).unwrap();
        write(&root, "var/run/pid", "2");
        assert_eq!(content(&root, &path("var/run/pid")), "2", "{way}");
        assert_eq!(content(&root, &path("run/pid")), "1", "{way}");

        root.clear().unwrap();
        assert_eq!(describe(&sandbox.host("root"), false), CONTAINERS_OWN, "{way}");
    }
}

#[test]
fn a_directory_on_the_way_appears_with_what_is_put_into_it() {
    for (way, sandbox, root) in pods() {
        std::fs::write(sandbox.host("root/etc/motd"), "a step's").unwrap();
        assert_eq!(shown(&root), "d /\nd etc\nf etc/motd \"a step's\"\n", "{way}");
        assert_eq!(root.remove(&path("etc")).unwrap(), Removed::SparedProtected, "{way}");
        assert_eq!(shown(&root), "d /\n", "{way}");

        root.create_dir(&path("etc")).unwrap();
        root.set_attributes(
            &path("etc"),
            &Attributes { mode: Some(0o711), ..Attributes::default() },
        )
        .unwrap();
        assert_eq!(root.metadata(&path("etc")).unwrap().mode, 0o711, "{way}");
        assert_eq!(root.create_dir(&path("etc")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        root.remove(&path("etc")).unwrap();
        root.create_dir(&path("etc")).unwrap();
        assert_eq!(root.metadata(&path("etc")).unwrap().mode, 0o755, "{way}: a new directory");
    }
}

#[test]
fn a_displaced_directory_holds_trees_like_any_other() {
    for (way, sandbox, root) in pods() {
        write(&root, "kaniko/a/b/c", "x");
        link(&root, "/kaniko/a/b", "kaniko/link");
        link(&root, "a/b", "kaniko/relative");
        write(&root, "kaniko/link/d", "y");
        write(&root, "kaniko/relative/e", "z");
        root.rename_within(&path("kaniko/a"), &path("kaniko/x")).unwrap_err();
        assert_eq!(
            shown(&root),
            "d /\nd kaniko\nd kaniko/a\nd kaniko/a/b\nf kaniko/a/b/c \"x\"\nf kaniko/a/b/d \"y\"\n\
             f kaniko/a/b/e \"z\"\nl kaniko/link -> /kaniko/a/b\nl kaniko/relative -> a/b\n",
            "{way}"
        );
        assert_eq!(root.remove(&path("kaniko/a")).unwrap(), Removed::Everything, "{way}");
        assert_eq!(root.resolve(&path("kaniko/link/x")).unwrap(), path("kaniko/a/b/x"), "{way}");
        drop(root);
        assert_eq!(
            describe(&sandbox.host("store"), false),
            "d .\n",
            "{way}: nothing is left in the store"
        );
        assert_eq!(describe(&sandbox.host("root"), false), CONTAINERS_OWN, "{way}");
    }
}

#[test]
fn a_displaced_link_is_relative_to_where_the_image_wanted_it() {
    for (way, _sandbox, root) in pods() {
        dir(&root, "etc/dir");
        root.symlink(b"dir", &path("etc/hosts")).unwrap();
        write(&root, "etc/hosts/inside", "x");
        assert_eq!(content(&root, &path("etc/dir/inside")), "x", "{way}");
    }
}

#[test]
fn without_a_store_a_wish_for_a_protected_path_is_refused() {
    let sandbox = pod();
    let options = RootOptions { protected: vec![path("kaniko")], ..RootOptions::default() };
    let root = Root::open(&sandbox.host("root"), options).unwrap();
    let error = root.create_dir(&path("kaniko")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceBusy);
    assert!(error.hint().is_some());

    let options = RootOptions { protected: vec![RootPath::root()], ..RootOptions::default() };
    let error = Root::open(&sandbox.host("root"), options).unwrap_err();
    assert!(error.hint().is_some(), "{error}");
}

/// A root whose image has `/var/run -> /run`, with what a command does in it done on the host.
fn settled(way: &str, sandbox: &Sandbox, root: &Root, command: impl FnOnce(&Path), expected: &str) {
    settle_around(root, sandbox, command);
    assert_eq!(shown(root), format!("d /\nd run\n{expected}d var\nl var/run -> /run\n"), "{way}");
}

#[test]
fn what_a_command_does_in_the_containers_directory_happens_where_the_images_link_leads() {
    for (way, sandbox, root) in pods() {
        write(&root, "run/lock/image", "1");
        dir(&root, "var");
        root.symlink(b"/run", &path("var/run")).unwrap();

        let daemon = |host: &Path| {
            std::fs::create_dir(host.join("var/run/sshd")).unwrap();
            std::fs::write(host.join("var/run/sshd/pid"), "2").unwrap();
            std::fs::write(host.join("var/run/lock-2"), "3").unwrap();
        };
        let made = "d run/lock\nf run/lock/image \"1\"\nf run/lock-2 \"3\"\nd run/sshd\nf run/sshd/pid \"2\"\n";
        settled(way, &sandbox, &root, daemon, made);
        settled(way, &sandbox, &root, |_| (), made);

        // The links lead to absolute paths, which on the host is somewhere else: remove and replace them only.
        let change = |host: &Path| {
            assert_eq!(host.join("var/run/sshd").read_link().unwrap(), Path::new("/run/sshd"));
            std::fs::remove_file(host.join("var/run/sshd")).unwrap();
            std::fs::remove_file(host.join("run/lock-2")).unwrap();
            std::fs::write(host.join("var/run/new"), "5").unwrap();
            std::fs::remove_file(host.join("var/run/lock")).unwrap();
            std::fs::write(host.join("var/run/lock"), "6").unwrap();
        };
        settled(way, &sandbox, &root, change, "f run/lock \"6\"\nf run/new \"5\"\n");

        // Both names made in one step: directories are merged, files in the container's directory win.
        let merge = |host: &Path| {
            std::fs::create_dir_all(host.join("run/d/e")).unwrap();
            std::fs::write(host.join("run/d/e/1"), "7").unwrap();
            std::fs::write(host.join("run/d/f"), "8").unwrap();
            std::fs::create_dir_all(host.join("var/run/d/e")).unwrap();
            std::fs::write(host.join("var/run/d/e/2"), "9").unwrap();
            std::fs::write(host.join("var/run/d/f"), "10").unwrap();
        };
        let merged = "d run/d\nd run/d/e\nf run/d/e/1 \"7\"\nf run/d/e/2 \"9\"\nf run/d/f \"10\"\n\
                      f run/lock \"6\"\nf run/new \"5\"\n";
        settled(way, &sandbox, &root, merge, merged);

        root.remove(&path("run/d")).unwrap();
        settled(way, &sandbox, &root, |_| (), "f run/lock \"6\"\nf run/new \"5\"\n");
        root.clear().unwrap();
        assert_eq!(describe(&sandbox.host("root"), false), CONTAINERS_OWN, "{way}");
    }
}

/// Settles before and after what a command does in the root, done on the host.
fn settle_around(root: &Root, sandbox: &Sandbox, command: impl FnOnce(&Path)) {
    root.settle().unwrap();
    command(&sandbox.host("root"));
    root.settle().unwrap();
    let token = sandbox.host("root/var/run/secrets/cluster/token");
    assert_eq!(std::fs::read_to_string(token).unwrap(), "the container's");
}

#[test]
fn directories_between_a_link_and_a_mount_stand_for_directories_of_the_image() {
    for (way, sandbox, root) in pods() {
        dir(&root, "run");
        dir(&root, "var");
        root.symlink(b"/run", &path("var/run")).unwrap();
        let check = |expected: &str| {
            assert_eq!(
                shown(&root),
                format!("d /\nd run\n{expected}d var\nl var/run -> /run\n"),
                "{way}"
            );
        };
        let on_disk = |text: &str| describe(&sandbox.host("root").join(text), false);

        settle_around(&root, &sandbox, |_| ());
        check("");

        settle_around(&root, &sandbox, |host| {
            std::fs::create_dir_all(host.join("var/run/secrets/a/b")).unwrap();
            std::fs::write(host.join("var/run/secrets/x"), "x").unwrap();
            std::fs::write(host.join("var/run/secrets/cluster/y"), "y").unwrap();
        });
        let made = "d run/secrets\nd run/secrets/a\nd run/secrets/a/b\nd run/secrets/cluster\n\
                    f run/secrets/cluster/y \"y\"\nf run/secrets/x \"x\"\n";
        check(made);
        assert_eq!(root.metadata(&path("run/secrets")).unwrap().mode, 0o755, "{way}");
        assert_eq!(
            on_disk("var/run"),
            "d .\nd secrets\nl secrets/a -> /run/secrets/a\nd secrets/cluster\n\
             f secrets/cluster/token \"the container's\"\n\
             l secrets/cluster/y -> /run/secrets/cluster/y\nl secrets/x -> /run/secrets/x\n",
            "{way}: the next command finds them by both names"
        );
        let before = describe(&sandbox.host("root"), false);
        settle_around(&root, &sandbox, |_| ());
        check(made);
        assert_eq!(describe(&sandbox.host("root"), false), before, "{way}");

        settle_around(&root, &sandbox, |host| {
            std::fs::remove_file(host.join("var/run/secrets/x")).unwrap();
            std::fs::remove_file(host.join("var/run/secrets/cluster/y")).unwrap();
            std::fs::write(host.join("var/run/secrets/cluster/y"), "z").unwrap();
            std::fs::write(host.join("run/secrets/new"), "1").unwrap();
            std::fs::remove_dir_all(host.join("run/secrets/a")).unwrap();
        });
        check(
            "d run/secrets\nd run/secrets/cluster\nf run/secrets/cluster/y \"z\"\n\
             f run/secrets/new \"1\"\n",
        );

        settle_around(&root, &sandbox, |host| {
            std::fs::remove_dir_all(host.join("run/secrets")).unwrap();
        });
        check("");
        assert_eq!(
            on_disk("var/run"),
            "d .\nd secrets\nd secrets/cluster\nf secrets/cluster/token \"the container's\"\n",
            "{way}"
        );
        root.clear().unwrap();
        assert_eq!(describe(&sandbox.host("root"), false), CONTAINERS_OWN, "{way}");
    }
}

#[test]
fn a_link_high_above_a_mount_keeps_all_levels_together() {
    for (way, sandbox, root) in pods() {
        write(&root, "data/run/f", "image");
        root.symlink(b"/data", &path("var")).unwrap();
        let check = |expected: &str| {
            assert_eq!(shown(&root), format!("d /\nd data\n{expected}l var -> /data\n"), "{way}");
        };
        settle_around(&root, &sandbox, |host| {
            assert_eq!(host.join("var/run/f").read_link().unwrap(), Path::new("/data/run/f"));
            std::fs::write(host.join("var/run/v"), "v").unwrap();
            std::fs::create_dir(host.join("var/lib")).unwrap();
        });
        check("d data/lib\nd data/run\nf data/run/f \"image\"\nf data/run/v \"v\"\n");

        // Nothing at all may be lost or made by commands that do not touch it.
        settle_around(&root, &sandbox, |_| ());
        settle_around(&root, &sandbox, |host| {
            std::fs::remove_file(host.join("var/run/f")).unwrap();
            std::fs::create_dir(host.join("data/run/d")).unwrap();
            std::fs::create_dir(host.join("var/run/d")).unwrap();
            std::fs::write(host.join("var/run/d/e"), "e").unwrap();
        });
        check("d data/lib\nd data/run\nd data/run/d\nf data/run/d/e \"e\"\nf data/run/v \"v\"\n");
        root.clear().unwrap();
        assert_eq!(describe(&sandbox.host("root"), false), CONTAINERS_OWN, "{way}");
    }
}

#[test]
fn links_beneath_a_link_are_followed_to_where_a_file_belongs() {
    for (way, sandbox, root) in pods() {
        dir(&root, "run");
        dir(&root, "data");
        root.symlink(b"../run", &path("data/run")).unwrap();
        root.symlink(b"/safe", &path("run/secrets")).unwrap();
        root.symlink(b"/data", &path("var")).unwrap();
        dir(&root, "safe");
        settle_around(&root, &sandbox, |host| {
            std::fs::write(host.join("var/run/v"), "v").unwrap();
            std::fs::write(host.join("var/run/secrets/s"), "s").unwrap();
        });
        assert_eq!(
            shown(&root),
            "d /\nd data\nl data/run -> ../run\nd run\nl run/secrets -> /safe\nf run/v \"v\"\n\
             d safe\nf safe/s \"s\"\nl var -> /data\n",
            "{way}"
        );
    }
}

#[test]
fn a_directory_that_becomes_a_link_does_not_swallow_what_was_mirrored() {
    for (way, sandbox, root) in pods() {
        write(&root, "run/f", "image");
        dir(&root, "var");
        root.symlink(b"/run", &path("var/run")).unwrap();
        settle_around(&root, &sandbox, |host| {
            std::fs::rename(host.join("run"), host.join("run2")).unwrap();
            std::os::unix::fs::symlink("run2", host.join("run")).unwrap();
        });
        assert_eq!(
            shown(&root),
            "d /\nl run -> run2\nd run2\nf run2/f \"image\"\nd var\nl var/run -> /run\n",
            "{way}"
        );
    }
}

#[test]
fn what_a_link_leads_to_may_hold_something_protected_itself() {
    let sandbox = pod();
    std::fs::create_dir_all(sandbox.host("root/run/secrets/vault")).unwrap();
    std::fs::write(sandbox.host("root/run/secrets/vault/key"), "the container's").unwrap();
    let protected = ["run/secrets/vault", "var/run/secrets/cluster/token"];
    let root = sandbox.root_with(Resolution::Openat2, &protected);
    root.clear().unwrap();
    dir(&root, "run");
    dir(&root, "var");
    root.symlink(b"/run", &path("var/run")).unwrap();
    settle_around(&root, &sandbox, |host| {
        std::fs::write(host.join("var/run/secrets/x"), "x").unwrap();
        std::fs::create_dir(host.join("var/run/secrets/vault")).unwrap();
        std::fs::write(host.join("var/run/secrets/vault/key"), "stolen").unwrap();
    });
    assert_eq!(
        shown(&root),
        "d /\nd run\nd run/secrets\nf run/secrets/x \"x\"\nd var\nl var/run -> /run\n"
    );
    let key = sandbox.host("root/run/secrets/vault/key");
    assert_eq!(std::fs::read_to_string(key).unwrap(), "the container's");
}

#[test]
fn settling_does_nothing_where_the_image_has_no_link() {
    for (way, sandbox, root) in pods() {
        write(&root, "var/run/pid", "1");
        let before = describe(&sandbox.host("root"), false);
        root.settle().unwrap();
        assert_eq!(describe(&sandbox.host("root"), false), before, "{way}");
        for target in ["/nowhere", "/proc", "/", "run"] {
            root.remove(&path("var/run")).unwrap();
            root.symlink(target.as_bytes(), &path("var/run")).unwrap();
            std::fs::write(sandbox.host("root/var/run/made"), "2").unwrap();
            let before = describe(&sandbox.host("root"), false);
            drop(root.settle());
            assert_eq!(describe(&sandbox.host("root"), false), before, "{way}: {target}");
        }
    }
}
