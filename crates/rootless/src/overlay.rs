//! A directory that may be written to while what lies beneath stays as it is.

#![expect(clippy::disallowed_methods, reason = "the builder's own directories are on the host")]

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::XattrFlags;

use crate::Place;

/// An overlay that only the builder and its guests see. It is unmounted when the value is dropped; what was written
/// to it is in the directory that was given for that.
#[derive(Debug)]
pub struct Overlay {
    path: PathBuf,
}

impl Overlay {
    /// Lays a new directory in `scratch` over the directory `lower`.
    ///
    /// `None` where that is impossible: outside of a private root it would be seen by others, and not every kernel or
    /// file system lets it be made. A copy does the same then.
    pub fn make(place: &Place, lower: &Path, scratch: &Path) -> Option<Self> {
        let Place::Private(_) = place else { return None };
        let (upper, work, path) =
            (scratch.join("upper"), scratch.join("work"), scratch.join("merged"));
        for directory in [&upper, &work, &path] {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).ok()?;
        }
        // The directory itself shows owner and mode of the upper one.
        copy_attributes(lower, &upper)?;
        // These separate options and directories.
        let is_plain = |path: &Path| {
            !path.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b',' | b':' | b'\\'))
        };
        if !is_plain(lower) || !is_plain(scratch) {
            return None;
        }
        // An overlay keeps notes about what was removed in extended attributes: in a user namespace only in those that
        // users may write. Without them it can be mounted all the same, and fails later.
        let flags = XattrFlags::CREATE;
        rustix::fs::setxattr(&upper, "user.overlay.probe", b"y", flags).ok()?;
        rustix::fs::removexattr(&upper, "user.overlay.probe").ok()?;
        let options = format!(
            "lowerdir={},upperdir={},workdir={},userxattr",
            lower.to_str()?,
            upper.to_str()?,
            work.to_str()?
        );
        let flags = MsFlags::MS_NODEV;
        mount(Some("overlay"), &path, Some("overlay"), flags, Some(options.as_str())).ok()?;
        Some(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn copy_attributes(from: &Path, to: &Path) -> Option<()> {
    use std::os::unix::fs::{MetadataExt, chown};
    let found = std::fs::symlink_metadata(from).ok().filter(std::fs::Metadata::is_dir)?;
    chown(to, Some(found.uid()), Some(found.gid())).ok()?;
    std::fs::set_permissions(to, found.permissions()).ok()?;
    let time = found.modified().ok()?;
    std::fs::File::open(to).ok()?.set_modified(time).ok()
}

impl Drop for Overlay {
    fn drop(&mut self) {
        // What cannot be unmounted goes with the builder's mount namespace.
        umount2(&self.path, MntFlags::MNT_DETACH).ok();
    }
}
