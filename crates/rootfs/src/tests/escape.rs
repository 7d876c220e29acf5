//! Images that try to leave the root.

use std::io::Read;
use std::os::fd::AsRawFd;

use super::*;
use crate::{DeviceNumber, Time};

type Links = Vec<(&'static str, Vec<u8>)>;

/// One link, or several that lead to each other, called `evil`.
fn plants(sandbox: &Sandbox, canary_fd: i32) -> Vec<(&'static str, Links)> {
    let canary = target(&sandbox.host("canary"));
    let climbing = [&b"../".repeat(40)[..], &canary[1..]].concat();
    let through_proc = [b"/proc/self/root", &canary[..]].concat();
    vec![
        ("absolute", vec![("evil", canary.clone())]),
        ("beside the root", vec![("evil", b"../canary".to_vec())]),
        ("climbing", vec![("evil", climbing)]),
        ("chained", vec![("evil", b"b".to_vec()), ("b", b"/c".to_vec()), ("c", canary.clone())]),
        ("descriptor", vec![("evil", format!("/proc/self/fd/{canary_fd}").into_bytes())]),
        ("root of the process", vec![("evil", through_proc)]),
        ("to the root and up", vec![("evil", b"/../canary".to_vec())]),
    ]
}

/// Everything that takes a path, with a path through the link.
fn attack(root: &Root, through: &str) -> Vec<String> {
    let beneath = |name: &str| path(&format!("{through}/{name}"));
    let everything = Attributes {
        uid: Some(12345),
        gid: Some(12345),
        mode: Some(0o777),
        mtime: Some(Time { secs: 1, nanos: 2 }),
        xattrs: Some([(b"user.evil".to_vec(), b"1".to_vec())].into()),
    };
    let mut read = Vec::new();
    let mut keep = |content: Vec<u8>| read.push(String::from_utf8_lossy(&content).into_owned());

    for name in ["secret", "dir", "dir/file"] {
        let at = beneath(name);
        if let Ok(mut file) = root.open_file(&at) {
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            keep(content);
        }
        if let Ok(Some(content)) = root.read_bounded(&at, 100) {
            keep(content);
        }
        if let Ok(entries) = root.list(&at) {
            for entry in entries {
                keep(entry.name.into());
            }
        }
        drop(root.set_attributes(&at, &everything));
        drop(root.hard_link(&at, &path(&format!("stolen-{}", name.len()))));
        if let Ok(content) = root.read_bounded(&path(&format!("stolen-{}", name.len())), 100) {
            content.into_iter().for_each(&mut keep);
        }
        drop(root.make_way(&at, Kind::Symlink));
        drop(root.rename_within(&at, &path("moved")));
        drop(root.remove(&at));
    }
    for name in ["new", "dir/new"] {
        let at = beneath(name);
        if let Ok(mut file) = root.create_file(&at) {
            std::io::Write::write_all(&mut file, b"planted").unwrap();
            root.set_file_attributes(&file, &at, &everything).unwrap();
        }
        for attempt in [
            root.remove(&at).map(drop),
            root.create_dir(&at),
            root.remove(&at).map(drop),
            root.symlink(b"x", &at),
            root.remove(&at).map(drop),
            root.make_node(&at, Kind::Fifo, DeviceNumber::default()),
            root.rename_within(&path("moved"), &at),
            root.create_parents(&beneath("p/q/r"), &everything).map(drop),
            root.create_file(&beneath("p/q/r")).map(drop),
        ] {
            drop(attempt);
        }
    }
    // The link itself, which must change and go without what it leads to.
    drop(root.set_attributes(&path(through), &everything));
    drop(root.list(&path(through)).map(|entries| {
        for entry in entries {
            keep(entry.name.into());
        }
    }));
    root.remove(&path(through)).unwrap();
    read
}

#[test]
fn no_planted_link_leads_out_of_the_root() {
    let sandbox = Sandbox::new();
    let canary_fd = std::fs::File::open(sandbox.host("canary")).unwrap();
    let before = sandbox.canary();
    for (way, root) in sandbox.roots() {
        for (plant, links) in plants(&sandbox, canary_fd.as_raw_fd()) {
            for (name, target) in &links {
                root.symlink(target, &path(name)).unwrap();
            }
            let read = attack(&root, "evil");
            assert!(
                !read.iter().any(|text| text.contains("secret")),
                "{way}, {plant}: read {read:?}"
            );
            assert_eq!(sandbox.canary(), before, "{way}, {plant}");
            root.clear().unwrap();
        }
    }
}

#[test]
fn a_link_to_an_absolute_path_stays_inside_the_root() {
    let sandbox = Sandbox::new();
    for (way, root) in sandbox.roots() {
        dir(&root, "run");
        link(&root, "/run", "var/run");
        link(&root, "../../../../../../run", "var/up");
        link(&root, "run", "var/lib");
        write(&root, "var/run/absolute", "1");
        write(&root, "var/up/climbing", "2");
        write(&root, "var/lib/chained", "3");
        assert_eq!(
            shown(&root),
            "d /\nd run\nf run/absolute \"1\"\nf run/chained \"3\"\nf run/climbing \"2\"\n\
             d var\nl var/lib -> run\nl var/run -> /run\nl var/up -> ../../../../../../run\n",
            "{way}"
        );
        root.clear().unwrap();
    }
}

#[test]
fn the_root_itself_cannot_be_replaced() {
    let sandbox = Sandbox::new();
    let at = RootPath::root();
    for (way, root) in sandbox.roots() {
        assert!(root.symlink(&target(&sandbox.host("canary")), &at).is_err(), "{way}");
        assert!(root.create_file(&at).is_err(), "{way}");
        assert!(root.create_dir(&at).is_err(), "{way}");
        assert!(root.make_node(&at, Kind::Fifo, DeviceNumber::default()).is_err(), "{way}");
        assert!(root.rename_within(&at, &path("x")).is_err(), "{way}");
        root.remove(&at).unwrap();
        assert!(root.metadata(&at).unwrap().is_dir(), "{way}");
        root.set_attributes(&at, &Attributes { mode: Some(0o700), ..Attributes::default() })
            .unwrap();
        assert_eq!(root.metadata(&at).unwrap().mode, 0o700, "{way}");
    }
}

#[test]
fn links_that_have_no_end_are_an_error() {
    let sandbox = Sandbox::new();
    for (way, root) in sandbox.roots() {
        link(&root, "b", "a");
        link(&root, "a", "b");
        link(&root, "self/self", "self");
        for name in ["a", "b", "self"] {
            let error = root.create_file(&path(&format!("{name}/x"))).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{way}, {name}");
            assert!(error.hint().is_some());
            let error = root.resolve(&path(name)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{way}, {name}");
        }
        root.clear().unwrap();
    }
}

#[test]
fn a_link_made_to_be_slow_is_refused() {
    let sandbox = Sandbox::in_memory();
    let deep = "d/".repeat(200);
    for (way, root) in sandbox.roots() {
        root.create_parents(&path(&format!("{deep}x")), &Attributes::default()).unwrap();
        let to_and_fro = format!("{deep}{}", "../d/".repeat(700));
        for number in 0..39 {
            let name = format!("{deep}l{number}");
            let next = format!("{to_and_fro}l{}", number + 1);
            root.symlink(&next.as_bytes()[deep.len()..], &path(&name)).unwrap();
        }
        let error = root.resolve(&path(&format!("{deep}l0/x"))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{way}");
        root.clear().unwrap();
    }
}

#[test]
fn both_resolutions_agree() {
    let sandbox = Sandbox::new();
    let setup = sandbox.root();
    write(&setup, "usr/lib/x", "x");
    write(&setup, "file", "file");
    link(&setup, "usr/lib", "lib");
    link(&setup, "/lib", "usr/lib64");
    link(&setup, "../../lib/x", "usr/lib/y");
    link(&setup, "nowhere", "dangling");
    link(&setup, "dangling/deep/../up", "through");
    link(&setup, "..", "usr/up");
    link(&setup, "/", "top");
    link(&setup, ".", "dot");
    for (text, expected) in [
        ("", "/"),
        ("lib/x", "usr/lib/x"),
        ("usr/lib64/y", "usr/lib/x"),
        ("lib/../x", "error"),
        ("dangling", "nowhere"),
        ("dangling/a/b", "nowhere/a/b"),
        ("through", "nowhere/up"),
        ("usr/up/top/dot/lib", "usr/lib"),
        ("top", "/"),
        ("file", "file"),
        ("file/x", "error"),
        ("missing/file", "missing/file"),
    ] {
        for (way, root) in sandbox.roots() {
            let resolved = RootPath::parse(text.as_bytes())
                .map_err(|error| error.to_string())
                .and_then(|text| root.resolve(&text).map_err(|error| error.to_string()));
            let resolved = resolved.map_or_else(|_| "error".to_owned(), |found| found.to_string());
            assert_eq!(resolved, expected, "{way}: {text}");
        }
    }
}

#[test]
fn names_that_are_not_names_are_refused() {
    let sandbox = Sandbox::new();
    write(&sandbox.root(), "a/b", "x");
    for raw in [&b"../x"[..], b"a/../../x", b"a/..", b"..", b"a\0b"] {
        assert!(RootPath::parse(raw).is_err(), "{raw:?}");
    }
    let root = sandbox.root();
    let directory = root.open_dir(&RootPath::root()).unwrap();
    for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0"] {
        assert!(directory.child(name).is_err(), "{name:?}");
        assert!(directory.open_file(name).is_err(), "{name:?}");
        assert!(directory.read_link(name).is_err(), "{name:?}");
        assert!(directory.xattrs(name).is_err(), "{name:?}");
    }
    for (way, root) in sandbox.roots() {
        let long = path(&"n".repeat(256));
        assert_eq!(
            root.create_file(&long).unwrap_err().raw_os_error(),
            Some(libc::ENAMETOOLONG),
            "{way}"
        );
        let odd = RootPath::parse(b"a/\xff\n\\ .wh.x").unwrap();
        root.create_file(&odd).unwrap();
        assert!(
            root.list(&path("a")).unwrap().iter().any(|entry| *entry.name == b"\xff\n\\ .wh.x"[..])
        );
        root.remove(&odd).unwrap();
    }
}

#[test]
fn a_directory_that_is_swapped_for_a_link_all_the_time_leads_nowhere_else() {
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{CWD, RenameFlags, renameat_with};

    let sandbox = Sandbox::in_memory();
    let before = sandbox.canary();
    for (way, root) in sandbox.roots() {
        dir(&root, "a");
        link(&root, &sandbox.host("canary/dir").display().to_string(), "b");
        let (one, other) = (sandbox.host("root/a"), sandbox.host("root/b"));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).ok();
                }
            });
            for round in 0..300 {
                let at = path(&format!("a/{round}"));
                let everyone = Attributes { mode: Some(0o777), ..Attributes::default() };
                drop(root.create_file(&at));
                drop(root.create_parents(&at.join_name(b"x"), &everyone));
                drop(root.set_attributes(&path("a/file"), &everyone));
                drop(root.set_attributes(&path("a"), &everyone));
                drop(root.remove(&path("a/file")));
                let read = root.read_bounded(&path("a/file"), 100).ok().flatten();
                assert_eq!(read, None, "{way}");
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(sandbox.canary(), before, "{way}");
        root.clear().unwrap();
    }
}

#[test]
fn roots_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    fn sent<T: Send>() {}
    shared::<Root>();
    sent::<crate::Directory<'_>>();
}
