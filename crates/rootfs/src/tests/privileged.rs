//! What only real mounts show. These tests need `CAP_SYS_ADMIN` and change nothing outside of their thread's own
//! mount namespace.

use std::os::unix::fs::MetadataExt;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use rustix::thread::UnshareFlags;

use super::*;
use crate::{DeviceNumber, Protection, Removed, Time};

/// Runs a test in a thread with mounts of its own.
#[expect(unsafe_code, reason = "unshare is unsafe where it takes descriptors away; this does not")]
fn with_own_mounts<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: only the mount namespace and the working directory become the thread's own.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }
                .unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            test()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn open(sandbox: &Sandbox) -> Root {
    let options = RootOptions {
        protected: vec![path("kaniko")],
        displaced_store: Some(sandbox.host("root/kaniko/displaced")),
        ..RootOptions::default()
    };
    Root::open(&sandbox.host("root"), options).unwrap()
}

#[test]
fn privileged_mounts_on_files_and_directories_are_spared_and_displaced() {
    with_own_mounts(|| {
        let sandbox = Sandbox::new();
        let host = |text: &str| sandbox.host("root").join(text);
        for directory in ["kaniko", "etc", "with space/mnt"] {
            std::fs::create_dir_all(host(directory)).unwrap();
        }
        std::fs::write(host("etc/hosts"), "under the mount").unwrap();
        mount_bind(sandbox.host("canary/secret"), host("etc/hosts")).unwrap();
        mount("tmpfs", host("with space/mnt"), "tmpfs", MountFlags::empty(), None).unwrap();
        std::fs::write(host("with space/mnt/token"), "the container's").unwrap();
        let canary = sandbox.canary();

        let root = open(&sandbox);
        assert_eq!(root.protects(&path("etc/hosts")), Some(Protection::Mount));
        assert_eq!(root.protects(&path("with space/mnt/token")), Some(Protection::Mount));
        assert_eq!(shown(&root), "d /\n");

        write(&root, "etc/hosts", "the image's");
        write(&root, "with space/mnt/token", "the image's");
        link(&root, "/with space/mnt", "link");
        write(&root, "link/more", "the image's");
        assert_eq!(sandbox.canary(), canary, "the mounted file is as it was");
        let stage = root.move_out(&host("kaniko/stage")).unwrap();
        assert_eq!(
            shown(&stage),
            "d /\nd etc\nf etc/hosts \"the image's\"\nl link -> /with space/mnt\nd with space\n\
             d with space/mnt\nf with space/mnt/more \"the image's\"\nf with space/mnt/token \"the image's\"\n"
        );
        assert_eq!(root.clear().unwrap(), Removed::SparedProtected);
        assert_eq!(
            describe(&host("with space"), false),
            "d .\nd mnt\nf mnt/token \"the container's\"\n"
        );
        assert_eq!(sandbox.canary(), canary);
    });
}

#[test]
fn privileged_a_mount_made_since_is_not_emptied() {
    with_own_mounts(|| {
        let sandbox = Sandbox::new();
        let root = open(&sandbox);
        dir(&root, "a/b/mnt");
        write(&root, "a/b/file", "x");
        mount_bind(sandbox.host("canary"), sandbox.host("root/a/b/mnt")).unwrap();
        let error = root.remove(&path("a")).unwrap_err();
        assert_eq!(error.to_string(), "cannot remove `/a/b`");
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
        assert!(sandbox.canary().contains("secret"));
    });
}

/// A root as a pod has it: `var/run/secrets/token` is mounted.
fn with_token(sandbox: &Sandbox) -> Root {
    let mount_point = sandbox.host("root/var/run/secrets/token");
    std::fs::create_dir(sandbox.host("root/kaniko")).unwrap();
    std::fs::create_dir_all(&mount_point).unwrap();
    mount_bind(sandbox.host("canary"), &mount_point).unwrap();
    open(sandbox)
}

#[test]
fn privileged_a_mount_that_travels_with_its_parent_is_noticed_and_not_shown() {
    with_own_mounts(|| {
        let sandbox = Sandbox::new();
        let host = |text: &str| sandbox.host("root").join(text);
        let root = with_token(&sandbox);
        root.check_mounts().unwrap();

        std::fs::rename(host("var"), host("var2")).unwrap();
        std::fs::create_dir(host("var")).unwrap();
        assert_eq!(
            std::fs::read_to_string(host("var2/run/secrets/token/secret")).unwrap(),
            "secret"
        );
        let error = root.check_mounts().unwrap_err();
        assert_eq!(
            error.to_string(),
            "the mount point `var/run/secrets/token` was moved to `var2/run/secrets/token`"
        );
        assert!(error.hint().is_some());

        let error = root.list(&path("var2/run/secrets")).unwrap_err();
        assert_eq!(error.to_string(), "cannot look at `/var2/run/secrets/token`");
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
        assert!(root.metadata(&path("var2/run/secrets/token")).is_err());
        let error = root.remove(&path("var2")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
        assert_eq!(
            std::fs::read_to_string(host("var2/run/secrets/token/secret")).unwrap(),
            "secret"
        );

        std::fs::remove_dir(host("var")).unwrap();
        std::fs::rename(host("var2"), host("var")).unwrap();
        root.check_mounts().unwrap();
    });
}

#[test]
fn privileged_mounts_that_a_command_makes_or_removes_are_noticed() {
    with_own_mounts(|| {
        let sandbox = Sandbox::new();
        let host = |text: &str| sandbox.host("root").join(text);
        let root = with_token(&sandbox);
        dir(&root, "mnt");
        std::fs::write(host("file"), "").unwrap();
        mount_bind(sandbox.host("canary/secret"), host("file")).unwrap();
        let error = root.check_mounts().unwrap_err();
        assert_eq!(error.to_string(), "something was mounted at `file` since the build began");
        assert!(root.open_file(&path("file")).is_err());
        let entries = root.open_dir(&RootPath::root()).unwrap();
        assert!(entries.open_file(b"file").is_err());
        assert!(entries.entries().is_err());
        unmount(host("file"), UnmountFlags::empty()).unwrap();
        root.check_mounts().unwrap();

        // A mount in a mount is the container's as well, whoever made it.
        mount_bind(sandbox.host("canary"), host("var/run/secrets/token/dir")).unwrap();
        root.check_mounts().unwrap();
        unmount(host("var/run/secrets/token/dir"), UnmountFlags::empty()).unwrap();

        unmount(host("var/run/secrets/token"), UnmountFlags::empty()).unwrap();
        let error = root.check_mounts().unwrap_err();
        assert_eq!(error.to_string(), "the mount point `var/run/secrets/token` is gone");
    });
}

#[test]
fn privileged_writes_beside_a_mount_beneath_a_link_belong_to_the_image() {
    with_own_mounts(|| {
        let sandbox = Sandbox::new();
        let host = |text: &str| sandbox.host("root").join(text);
        let root = with_token(&sandbox);
        dir(&root, "run");
        dir(&root, "var");
        root.symlink(b"/run", &path("var/run")).unwrap();
        root.settle().unwrap();
        std::fs::create_dir(host("var/run/secrets/a")).unwrap();
        std::fs::write(host("var/run/secrets/x"), "x").unwrap();
        root.settle().unwrap();
        root.check_mounts().unwrap();
        assert_eq!(
            shown(&root),
            "d /\nd run\nd run/secrets\nd run/secrets/a\nf run/secrets/x \"x\"\nd var\nl var/run -> /run\n"
        );
        assert_eq!(
            std::fs::read_to_string(host("var/run/secrets/token/secret")).unwrap(),
            "secret"
        );
    });
}

#[test]
fn privileged_a_read_only_root_takes_mounts_for_its_own() {
    with_own_mounts(|| {
        let sandbox = Sandbox::new();
        dir(&sandbox.root(), "mnt");
        mount_bind(sandbox.host("canary"), sandbox.host("root/mnt")).unwrap();
        let root = Root::open_read_only(&sandbox.host("root")).unwrap();
        assert_eq!(content(&root, &path("mnt/secret")), "secret");
    });
}

#[test]
fn privileged_what_came_with_the_executors_image_is_moved_piece_by_piece() {
    with_own_mounts(|| {
        let sandbox = Sandbox::new();
        let host = |text: &str| sandbox.host(text);
        // An overlay needs a file system that is no overlay itself beneath its upper directory.
        std::fs::create_dir(host("disk")).unwrap();
        mount("tmpfs", host("disk"), "tmpfs", MountFlags::empty(), None).unwrap();
        for directory in ["lower/tmp/deep/er", "lower/etc", "lower/kaniko", "upper", "work"] {
            std::fs::create_dir_all(host("disk").join(directory)).unwrap();
        }
        std::fs::write(host("disk/lower/tmp/deep/er/a"), "lower").unwrap();
        std::fs::write(host("disk/lower/tmp/x"), "linked").unwrap();
        let setup = Root::open(&host("disk/lower"), RootOptions::default()).unwrap();
        let times =
            |secs| Attributes { mtime: Some(Time { secs, nanos: 1 }), ..Attributes::default() };
        setup
            .set_attributes(&path("tmp/deep"), &Attributes { mode: Some(0o1770), ..times(4) })
            .unwrap();
        let options = format!(
            "lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work",
            host("disk").display()
        );
        let options = std::ffi::CString::new(options).unwrap();
        mount("overlay", host("root"), "overlay", MountFlags::empty(), Some(options.as_c_str()))
            .unwrap();

        let root = open(&sandbox);
        write(&root, "tmp/deep/upper", "upper");
        write(&root, "usr/made", "here");
        root.hard_link(&path("tmp/x"), &path("tmp/y")).unwrap();
        root.set_attributes(&path("tmp/deep"), &times(4)).unwrap();
        let before = shown(&root);
        let made = root.metadata(&path("usr/made")).unwrap();

        let stage = root.move_out(&host("root/kaniko/stage")).unwrap();

        assert_eq!(shown(&stage), before);
        let found = stage.metadata(&path("tmp/deep")).unwrap();
        assert_eq!((found.mode, found.mtime), (0o1770, Time { secs: 4, nanos: 1 }));
        let after = stage.metadata(&path("usr/made")).unwrap();
        assert_eq!(
            (after.dev, after.ino, after.ctime),
            (made.dev, made.ino, made.ctime),
            "still renamed"
        );
        assert_eq!(
            stage.metadata(&path("tmp/x")).unwrap().ino,
            stage.metadata(&path("tmp/y")).unwrap().ino
        );
        assert_eq!(shown(&root), "d /\n");
    });
}

#[test]
fn privileged_a_stage_moves_to_another_file_system_whole() {
    with_own_mounts(|| {
        let sandbox = Sandbox::in_memory();
        std::fs::create_dir(sandbox.host("other")).unwrap();
        mount("tmpfs", sandbox.host("other"), "tmpfs", MountFlags::empty(), None).unwrap();
        let root = open(&sandbox);
        write(&root, "a/b/first", "linked");
        root.hard_link(&path("a/b/first"), &path("a/second")).unwrap();
        root.symlink(b"first", &path("a/b/link")).unwrap();
        root.make_node(&path("a/fifo"), Kind::Fifo, DeviceNumber::default()).unwrap();
        let rdev = DeviceNumber { major: 1, minor: 3 };
        root.make_node(&path("null"), Kind::CharDevice, rdev).unwrap();
        let file = deep(&sandbox.host("root"), 2100);
        let attributes = Attributes {
            uid: Some(7),
            gid: Some(8),
            mode: Some(0o4751),
            mtime: Some(Time { secs: 9, nanos: 10 }),
            xattrs: Some([(b"trusted.note".to_vec(), b"n".to_vec())].into()),
        };
        for text in ["a/b/first", "a/b", "a", "a/fifo"] {
            root.set_attributes(&path(text), &attributes).unwrap();
        }

        let stage = root.move_out(&sandbox.host("other/stage")).unwrap();

        for text in ["a/b/first", "a/b", "a", "a/fifo", "a/second"] {
            let found = stage.metadata(&path(text)).unwrap();
            let xattrs = stage.xattrs(&path(text)).unwrap();
            assert_eq!(
                Attributes { xattrs: Some(xattrs), ..found.attributes() },
                attributes,
                "{text}"
            );
        }
        assert_eq!(stage.metadata(&path("a/second")).unwrap().nlink, 2);
        assert_eq!(content(&stage, &path("a/second")), "linked");
        assert_eq!(stage.read_link(&path("a/b/link")).unwrap(), b"first");
        assert_eq!(stage.metadata(&path("null")).unwrap().rdev, rdev);
        assert!(stage.find(&file).unwrap().is_some());
        assert_eq!(shown(&root), "d /\n");
        assert_ne!(
            sandbox.host("other").metadata().unwrap().dev(),
            sandbox.host("root").metadata().unwrap().dev()
        );
    });
}
