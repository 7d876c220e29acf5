//! Directories that must stay and show something else for a while.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use super::{Sandbox, path};
use crate::resolve::Resolution;
use crate::{Root, StandInError, StandIns, Substitute};

/// Files of an image in `etc` around two that are protected, and files beside the root.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    for directory in ["root/etc/deep/way", "root/etc/dir", "store", "cache/deep", "cache/new"] {
        fs::create_dir_all(sandbox.host(directory)).unwrap();
    }
    for file in [
        "root/etc/hosts",
        "root/etc/passwd",
        "root/etc/dir/file",
        "root/etc/deep/own",
        "root/etc/deep/way/mount",
        "root/etc/deep/way/own",
        "cache/hosts",
        "cache/first",
        "cache/second",
        "cache/deep/file",
        "file",
    ] {
        fs::write(sandbox.host(file), file).unwrap();
    }
    fs::hard_link(sandbox.host("root/etc/passwd"), sandbox.host("root/etc/dir/linked")).unwrap();
    fs::set_permissions(sandbox.host("root/etc"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::set_permissions(sandbox.host("cache"), fs::Permissions::from_mode(0o705)).unwrap();
    sandbox
}

fn root(sandbox: &Sandbox) -> Root {
    sandbox.root_with(Resolution::Openat2, &["etc/hosts", "etc/deep/way/mount"])
}

fn stand_ins<'r>(sandbox: &Sandbox, root: &'r Root) -> StandIns<'r> {
    StandIns::new(root, &sandbox.host("store")).unwrap()
}

/// Everything beneath a directory but when its inodes changed.
fn listing(sandbox: &Sandbox, top: &str) -> Vec<String> {
    let mut open = vec![sandbox.host(top)];
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        let file = fs::symlink_metadata(&path).unwrap();
        if file.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push(format!(
            "{} {:o} {}:{} {} {} {}.{}",
            path.strip_prefix(sandbox.host(top)).unwrap().display(),
            file.mode(),
            file.uid(),
            file.gid(),
            file.ino(),
            file.nlink(),
            file.mtime(),
            file.mtime_nsec()
        ));
    }
    found.sort();
    found
}

/// The names beneath a directory, with a slash after directories.
fn names(sandbox: &Sandbox, top: &str) -> String {
    let mut open = vec![sandbox.host(top)];
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path).unwrap().map(Result::unwrap) {
            let name = entry.path().strip_prefix(sandbox.host(top)).unwrap().display().to_string();
            let is_dir = entry.file_type().unwrap().is_dir();
            found.push(if is_dir { name + "/" } else { name });
            if is_dir {
                open.push(entry.path());
            }
        }
    }
    found.sort();
    found.join(" ")
}

fn is_empty(sandbox: &Sandbox, directory: &str) -> bool {
    fs::read_dir(sandbox.host(directory)).unwrap().next().is_none()
}

const PROTECTED: &str = "deep/ deep/way/ deep/way/mount hosts";
const WITH_CACHE: &str = "deep/ deep/file deep/way/ deep/way/mount first hosts new/ second";
const WITH_COPY: &str = "deep/ deep/way/ deep/way/mount first hosts new/ second";

#[test]
fn a_new_directory_hides_all_that_is_not_protected_and_what_is_in_it_goes_with_it() {
    let sandbox = sandbox();
    let root = root(&sandbox);
    let before = listing(&sandbox, "root");
    let mut stand_ins = stand_ins(&sandbox, &root);
    assert_eq!(stand_ins.put(&path("etc"), Substitute::Directory).unwrap(), path("etc"));
    assert_eq!(names(&sandbox, "root/etc"), PROTECTED);
    assert_eq!(fs::metadata(sandbox.host("root/etc")).unwrap().mode() & 0o7777, 0o1777);
    for directory in ["root/etc/dir/file", "root/etc/deep/new"] {
        fs::create_dir_all(sandbox.host(directory)).unwrap();
    }
    for file in ["root/etc/passwd", "root/etc/deep/way/own", "root/etc/deep/new/file"] {
        fs::write(sandbox.host(file), "of the command").unwrap();
    }
    fs::set_permissions(sandbox.host("root/etc"), fs::Permissions::from_mode(0o700)).unwrap();
    stand_ins.restore().unwrap();
    assert_eq!(listing(&sandbox, "root"), before);
    assert_eq!(fs::read_to_string(sandbox.host("root/etc/passwd")).unwrap(), "root/etc/passwd");
    assert!(is_empty(&sandbox, "store"));
}

#[test]
fn a_cache_gets_back_what_the_command_made_of_it() {
    let sandbox = sandbox();
    let root = root(&sandbox);
    let before = listing(&sandbox, "root");
    let kept = fs::metadata(sandbox.host("cache/second")).unwrap().ino();
    let (cache, time) = (sandbox.host("cache"), |path| {
        fs::metadata(sandbox.host(path)).unwrap().modified().unwrap()
    });
    let untouched = time("cache/new");
    let mut stand_ins = stand_ins(&sandbox, &root);
    stand_ins.put(&path("etc"), Substitute::Kept(&cache)).unwrap();
    stand_ins.put(&path("again"), Substitute::Kept(&cache)).unwrap();
    stand_ins.put(&path("within"), Substitute::Kept(&cache.join("deep"))).unwrap();
    assert_eq!(names(&sandbox, "root/etc"), WITH_CACHE);
    let of_root = |name: &str| fs::read_to_string(sandbox.host("root").join(name)).unwrap();
    assert_eq!(of_root("etc/hosts"), "root/etc/hosts", "what is mounted is not covered");
    assert_eq!(of_root("again/first"), "cache/first", "in two places at once");
    assert_eq!(of_root("within/file"), "cache/deep/file");
    assert_eq!(fs::metadata(sandbox.host("root/etc")).unwrap().mode() & 0o7777, 0o705);
    fs::remove_file(sandbox.host("root/etc/first")).unwrap();
    fs::write(sandbox.host("root/etc/deep/way/made"), "").unwrap();
    fs::write(sandbox.host("root/etc/passwd"), "").unwrap();
    fs::set_permissions(sandbox.host("root/etc"), fs::Permissions::from_mode(0o750)).unwrap();
    stand_ins.restore().unwrap();
    assert_eq!(listing(&sandbox, "root"), before);
    assert_eq!(
        names(&sandbox, "cache"),
        "deep/ deep/file deep/way/ deep/way/made hosts new/ passwd second"
    );
    assert_eq!(fs::metadata(&cache).unwrap().mode() & 0o7777, 0o750);
    assert_eq!(fs::metadata(cache.join("second")).unwrap().ino(), kept, "moved, not copied");
    assert_eq!(time("cache/new"), untouched);
}

#[test]
fn a_cache_on_another_file_system_is_shown_by_links() {
    let sandbox = sandbox();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    assert_ne!(
        memory.path().metadata().unwrap().dev(),
        sandbox.host("root").metadata().unwrap().dev()
    );
    let at = |name: &str| memory.path().join(name);
    fs::create_dir_all(at("deep")).unwrap();
    for name in ["gone", "replaced", "stays", "deep/file"] {
        fs::write(at(name), name).unwrap();
    }
    let root = root(&sandbox);
    let before = listing(&sandbox, "root");
    let mut stand_ins = stand_ins(&sandbox, &root);
    stand_ins.put(&path("etc"), Substitute::Kept(memory.path())).unwrap();
    let shown = |name: &str| sandbox.host("root/etc").join(name);
    assert_eq!(fs::read_to_string(shown("deep/file")).unwrap(), "deep/file");
    fs::write(shown("stays"), "changed").unwrap();
    fs::remove_file(shown("gone")).unwrap();
    fs::remove_file(shown("replaced")).unwrap();
    fs::create_dir(shown("replaced")).unwrap();
    fs::write(shown("replaced/new"), "new").unwrap();
    fs::write(shown("deep/new"), "new").unwrap();
    stand_ins.restore().unwrap();
    assert_eq!(listing(&sandbox, "root"), before);
    let mut found: Vec<_> =
        fs::read_dir(memory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    found.sort();
    assert_eq!(found, ["deep", "replaced", "stays"]);
    assert_eq!(fs::read_to_string(at("stays")).unwrap(), "changed");
    assert_eq!(fs::read_to_string(at("replaced/new")).unwrap(), "new");
    assert_eq!(fs::read_to_string(at("deep/new")).unwrap(), "new");
}

#[test]
fn a_copy_is_shown_and_removed() {
    let sandbox = sandbox();
    let root = root(&sandbox);
    let before = listing(&sandbox, "root");
    fs::remove_dir_all(sandbox.host("cache/deep")).unwrap();
    // Where the directory that holds a mount must stay, a file cannot be shown.
    fs::write(sandbox.host("cache/deep"), "").unwrap();
    if rustix::process::geteuid().is_root() {
        chown(sandbox.host("cache"), Some(7), Some(8)).unwrap();
    }
    let copy = sandbox.host("cache");
    let owner = fs::metadata(&copy).unwrap().uid();
    let mut stand_ins = stand_ins(&sandbox, &root);
    stand_ins.put(&path("etc"), Substitute::Disposable(&copy)).unwrap();
    assert_eq!(names(&sandbox, "root/etc"), WITH_COPY);
    assert_eq!(fs::metadata(sandbox.host("root/etc")).unwrap().uid(), owner);
    fs::write(sandbox.host("root/etc/deep/way/own"), "").unwrap();
    stand_ins.restore().unwrap();
    assert_eq!(listing(&sandbox, "root"), before);
    assert!(!copy.exists() && is_empty(&sandbox, "store"));
}

#[test]
fn what_stands_in_beneath_goes_back_first_and_what_is_dropped_goes_back_too() {
    let sandbox = sandbox();
    let root = root(&sandbox);
    let before = listing(&sandbox, "root");
    let mut stand_ins = stand_ins(&sandbox, &root);
    let (file, cache) = (sandbox.host("file"), sandbox.host("cache"));
    stand_ins.put(&path("etc"), Substitute::Directory).unwrap();
    stand_ins.put(&path("etc/deep"), Substitute::Kept(&cache)).unwrap();
    stand_ins.put(&path("etc/deep/way/x/file"), Substitute::Disposable(&file)).unwrap();
    stand_ins.put(&path("etc/passwd"), Substitute::InMemory(&cache)).unwrap();
    drop(stand_ins);
    assert_eq!(listing(&sandbox, "root"), before);
    assert_eq!(names(&sandbox, "cache"), "deep/ deep/file first hosts new/ second");
    assert!(is_empty(&sandbox, "store"));
}

#[test]
fn what_cannot_be_shown_there_is_refused_and_nothing_is_changed() {
    let sandbox = sandbox();
    let root = root(&sandbox);
    let before = listing(&sandbox, "root");
    let mut stand_ins = stand_ins(&sandbox, &root);
    for what in
        [Substitute::Disposable(&sandbox.host("file")), Substitute::InMemory(&sandbox.host("file"))]
    {
        let error = stand_ins.put(&path("etc"), what).unwrap_err();
        assert!(
            matches!(&error, StandInError::Root(error) if error.raw_os_error() == Some(20)),
            "{error}"
        );
    }
    let error = stand_ins.put(&path("etc"), Substitute::Kept(&sandbox.host("none"))).unwrap_err();
    assert!(matches!(&error, StandInError::Root(error) if error.is_missing()), "{error}");
    for target in ["", "etc/hosts", "etc/deep/way/mount"] {
        let error = stand_ins.put(&path(target), Substitute::Directory).unwrap_err();
        assert!(matches!(error, StandInError::Protected { .. }), "{target}: {error}");
    }
    stand_ins.restore().unwrap();
    assert_eq!(listing(&sandbox, "root"), before);
}

#[test]
fn a_directory_that_was_moved_or_removed_fails_and_the_image_s_files_are_not_lost() {
    let sandbox = sandbox();
    let root = root(&sandbox);
    let before = listing(&sandbox, "root/etc");
    let mut put = stand_ins(&sandbox, &root);
    put.put(&path("etc"), Substitute::Directory).unwrap();
    fs::rename(sandbox.host("root/etc"), sandbox.host("root/moved")).unwrap();
    let error = put.restore().unwrap_err();
    assert_eq!(error.to_string(), "the command moved or replaced what it was given at `/etc`");
    assert_eq!(listing(&sandbox, "root/moved"), before);

    fs::rename(sandbox.host("root/moved"), sandbox.host("root/etc")).unwrap();
    let mut put = stand_ins(&sandbox, &root);
    put.put(&path("etc"), Substitute::Directory).unwrap();
    // Nothing but the mounts keeps a command from it, and these files only pass for mounts.
    fs::remove_dir_all(sandbox.host("root/etc")).unwrap();
    let error = put.restore().unwrap_err();
    assert_eq!(error.to_string(), "the command moved or replaced what it was given at `/etc`");
    let kept = names(&sandbox, "store");
    for name in ["/passwd", "/dir/file", "/own"] {
        assert!(kept.contains(name), "{name}: {kept}");
    }
}

#[test]
fn what_was_moved_aside_before_a_failure_goes_back() {
    let sandbox = sandbox();
    let root = root(&sandbox);
    let before = (listing(&sandbox, "root"), listing(&sandbox, "cache"));
    for taken in ["store/aside-2", "store/aside-3"] {
        // What is in `etc` has been moved when there is no place for what is in a directory beneath it.
        fs::create_dir(sandbox.host(taken)).unwrap();
        let mut stand_ins = stand_ins(&sandbox, &root);
        let put = stand_ins.put(&path("etc"), Substitute::Kept(&sandbox.host("cache")));
        assert_eq!(put.unwrap_err().to_string().split('`').nth(1).unwrap().get(..4), Some("/etc"));
        drop(stand_ins);
        assert_eq!((listing(&sandbox, "root"), listing(&sandbox, "cache")), before);
        fs::remove_dir(sandbox.host(taken)).unwrap();
        assert!(is_empty(&sandbox, "store"));
    }
}
