//! Looking at files that an image made.

use std::io::ErrorKind;

use super::*;
use crate::DeviceNumber;

#[test]
fn small_files_are_read_through_links_and_only_small_regular_ones() {
    let sandbox = Sandbox::new();
    for (way, root) in sandbox.roots() {
        write(&root, "etc/passwd", "root:x:0:0");
        write(&root, "etc/large", &"x".repeat(101));
        write(&root, "etc/full", &"x".repeat(100));
        link(&root, "/etc/passwd", "etc/link");
        link(&root, &sandbox.host("canary/secret").display().to_string(), "etc/out");
        root.make_node(&path("etc/fifo"), Kind::Fifo, DeviceNumber::default()).unwrap();
        root.make_node(&path("etc/socket"), Kind::Socket, DeviceNumber::default()).unwrap();
        let read = |text| root.read_bounded(&path(text), 100).map_err(|error| error.kind());
        assert_eq!(read("etc/passwd"), Ok(Some(b"root:x:0:0".to_vec())), "{way}");
        assert_eq!(read("etc/link"), Ok(Some(b"root:x:0:0".to_vec())), "{way}");
        assert_eq!(read("etc/out"), Ok(None), "{way}: the target is looked for inside");
        assert_eq!(
            read("etc/full").map(|content| content.map(|content| content.len())),
            Ok(Some(100))
        );
        assert_eq!(read("etc/large"), Err(ErrorKind::FileTooLarge), "{way}");
        assert_eq!(read("etc/fifo"), Err(ErrorKind::InvalidInput), "{way}: and it did not wait");
        assert_eq!(read("etc/socket"), Err(ErrorKind::InvalidInput), "{way}");
        assert_eq!(read("etc"), Err(ErrorKind::InvalidInput), "{way}");
        assert_eq!(read("etc/passwd/x"), Ok(None), "{way}");
        assert_eq!(read("missing"), Ok(None), "{way}");
        root.clear().unwrap();
    }
}

#[test]
fn the_last_component_is_never_followed() {
    let sandbox = Sandbox::new();
    for (way, root) in sandbox.roots() {
        write(&root, "file", "x");
        dir(&root, "dir");
        link(&root, "file", "to-file");
        link(&root, "dir", "to-dir");
        assert!(root.metadata(&path("to-file")).unwrap().is_symlink(), "{way}");
        assert_eq!(root.open_file(&path("to-file")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(root.open_dir(&path("to-dir")).unwrap_err().kind(), ErrorKind::NotADirectory);
        assert_eq!(
            root.create_file(&path("to-file")).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        let top = root.open_dir(&RootPath::root()).unwrap();
        assert_eq!(top.child(b"to-dir").unwrap_err().kind(), ErrorKind::NotADirectory, "{way}");
        assert_eq!(
            top.open_file(b"to-file").unwrap_err().raw_os_error(),
            Some(libc::ELOOP),
            "{way}"
        );
        assert_eq!(top.read_link(b"to-dir").unwrap(), b"dir", "{way}");
        root.clear().unwrap();
    }
}

#[test]
fn what_took_the_place_of_a_file_is_not_read_as_one() {
    let sandbox = Sandbox::new();
    for (way, root) in sandbox.roots() {
        write(&root, "dir/file", "x");
        dir(&root, "dir/dir");
        link(&root, "file", "dir/link");
        link(&root, &sandbox.host("canary/secret").display().to_string(), "dir/out");
        root.make_node(&path("dir/fifo"), Kind::Fifo, DeviceNumber::default()).unwrap();
        root.make_node(&path("dir/socket"), Kind::Socket, DeviceNumber::default()).unwrap();
        let null = DeviceNumber { major: 1, minor: 3 };
        root.make_node(&path("dir/null"), Kind::CharDevice, null).unwrap();
        let directory = root.open_dir(&path("dir")).unwrap();
        let opened = directory.open_seen_file(b"file").unwrap();
        assert_eq!(opened.metadata, root.metadata(&path("dir/file")).unwrap(), "{way}");
        for name in ["dir", "link", "out", "fifo", "socket", "null", "missing", "..", "a/b"] {
            let found = directory.open_seen_file(name.as_bytes());
            assert!(found.is_err(), "{way}: {name}, and it did not wait");
        }
        root.clear().unwrap();
    }
}

#[test]
fn a_directory_is_listed_in_order_again_and_again() {
    let sandbox = Sandbox::in_memory();
    let root = sandbox.root();
    let mut expected: Vec<String> = (0..1500).map(|number| format!("{number}")).collect();
    for name in &expected {
        root.create_file(&path(name)).unwrap();
    }
    expected.sort();
    let directory = root.open_dir(&RootPath::root()).unwrap();
    for _ in 0..2 {
        let names: Vec<String> = directory
            .entries()
            .unwrap()
            .iter()
            .map(|entry| String::from_utf8_lossy(&entry.name).into_owned())
            .collect();
        assert_eq!(names, expected);
    }
}

#[test]
fn a_root_that_is_only_read_refuses_every_change() {
    let sandbox = Sandbox::new();
    write(&sandbox.root(), "a", "x");
    let before = describe(&sandbox.host("root"), true);
    let root = Root::open_read_only(&sandbox.host("root")).unwrap();
    let at = path("b");
    for (name, result) in [
        ("create_file", root.create_file(&at).map(drop)),
        ("create_dir", root.create_dir(&at)),
        ("symlink", root.symlink(b"x", &at)),
        ("hard_link", root.hard_link(&path("a"), &at)),
        ("make_node", root.make_node(&at, Kind::Fifo, DeviceNumber::default())),
        ("set_attributes", root.set_attributes(&path("a"), &Attributes::default())),
        ("create_parents", root.create_parents(&path("p/q"), &Attributes::default()).map(drop)),
        ("rename", root.rename_within(&path("a"), &at)),
        ("remove", root.remove(&path("a")).map(drop)),
        ("clear", root.clear().map(drop)),
        ("make_way", root.make_way(&path("a"), Kind::Directory).map(drop)),
    ] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem, "{name}");
    }
    assert!(root.move_out(&sandbox.host("stage")).is_err());
    assert_eq!(describe(&sandbox.host("root"), true), before);
}

#[test]
fn errors_name_the_operation_and_the_path() {
    let sandbox = Sandbox::new();
    let root = sandbox.root();
    let error = root.open_file(&path("srv/missing")).unwrap_err();
    assert_eq!(error.to_string(), "cannot read `/srv/missing`");
    assert!(error.is_missing());
    assert_eq!(error.hint(), None);
    let error = Root::open_read_only(&sandbox.host("nowhere")).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot open the root `/") && error.ends_with("/nowhere`"),
        "{error}"
    );
}

#[test]
fn no_descriptor_reaches_a_child_process() {
    use rustix::io::{FdFlags, fcntl_getfd};

    let sandbox = Sandbox::new();
    for (way, root) in sandbox.roots() {
        let file = root.create_file(&path("a")).unwrap();
        let read = root.open_file(&path("a")).unwrap();
        let directory = root.open_dir(&RootPath::root()).unwrap();
        for fd in [root.as_fd(), file.as_fd(), read.as_fd(), directory.as_fd()] {
            assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC), "{way}");
        }
        root.clear().unwrap();
    }
}
