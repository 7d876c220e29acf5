//! What somebody who is not root may do with files.
//!
//! On disk all files belong to the builder, so the kernel would let a guest's user do anything. A program that finds
//! out what it may do, and then does something else, would leave another image than in a pod with root. So where a call
//! comes from somebody without `CAP_DAC_OVERRIDE`, the rules of `path_resolution(7)` are applied here first. This is for
//! equal images and protects nothing: what the kernel does afterwards may be decided by memory that changes meanwhile.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ebiko_rootfs::{Kind, Metadata};
use rustix::fs::{CWD, Mode, OFlags, fstatfs, openat, readlinkat};

use super::credentials::Identity;
use super::path::{AtEnd, Place};
use super::{Answer, Emulation, Refused, Result, SUCCESS};
use crate::caller::Caller;

/// The bits of a class in a mode.
pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
pub(super) const EXECUTE: u32 = 1;

const STICKY: u32 = 0o1000;

/// Which end of a path a call is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The file itself must permit this.
    File(u32),
    /// An entry of its directory goes.
    Removed,
    /// An entry of its directory comes, and takes the place of another one.
    Placed,
}

impl Emulation {
    /// A call that is the kernel's when the caller may make it.
    pub(super) fn guarded(&self, caller: &Caller<'_>) -> Result {
        let identity = self.identity(caller)?;
        if identity.overrides_permissions() {
            return Ok(Answer::GoOn);
        }
        let here = libc::AT_FDCWD;
        let at = |index| caller.signed_word(index);
        match caller.number() {
            libc::SYS_faccessat => self.access(caller, &identity, at(0), 1, 0),
            libc::SYS_faccessat2 => self.access(caller, &identity, at(0), 1, at(3)),
            libc::SYS_unlinkat => self.check(caller, &identity, at(0), 1, End::Removed),
            libc::SYS_renameat | libc::SYS_renameat2 => {
                self.check(caller, &identity, at(0), 1, End::Removed)?;
                self.check(caller, &identity, at(2), 3, End::Placed)
            }
            libc::SYS_linkat => self.check(caller, &identity, at(2), 3, End::Placed),
            libc::SYS_truncate => self.check(caller, &identity, here, 0, End::File(WRITE)),
            libc::SYS_chdir => self.check(caller, &identity, here, 0, End::File(EXECUTE)),
            libc::SYS_utimensat => self.times(caller, &identity),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_access => self.access(caller, &identity, here, 0, 0),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink | libc::SYS_rmdir => {
                self.check(caller, &identity, here, 0, End::Removed)
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename => {
                self.check(caller, &identity, here, 0, End::Removed)?;
                self.check(caller, &identity, here, 1, End::Placed)
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_link => self.check(caller, &identity, here, 1, End::Placed),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_utime | libc::SYS_utimes => {
                self.check(caller, &identity, here, 0, End::File(WRITE))
            }
            _ => Ok(Answer::GoOn),
        }
    }

    /// An `open(2)` of a file that exists, and whether it does.
    pub(super) fn check_open(
        &self,
        caller: &Caller<'_>,
        identity: &Identity,
        place: &Place,
        flags: OFlags,
    ) -> Result<bool> {
        let at_end = if flags.contains(OFlags::NOFOLLOW) { AtEnd::Stay } else { AtEnd::Follow };
        let Ok(file) = place.open(caller, at_end) else { return Ok(false) };
        let mut wanted = match flags & OFlags::RWMODE {
            OFlags::WRONLY => WRITE,
            OFlags::RDWR => READ | WRITE,
            _ => READ,
        };
        if flags.contains(OFlags::TRUNC) {
            wanted |= WRITE;
        }
        self.require(identity, &file, wanted)?;
        Ok(true)
    }

    /// Whether a file permits this, and every directory above it a search.
    ///
    /// # Errors
    ///
    /// `EACCES` where it does not.
    pub(super) fn require(&self, identity: &Identity, file: &OwnedFd, wanted: u32) -> Result<()> {
        if identity.overrides_permissions() {
            return Ok(());
        }
        let metadata = self.files.metadata(file.as_fd())?;
        // Pipes and sockets have no place, and what processes have in `/proc` is the kernel's to judge.
        let is_file = matches!(metadata.kind, Kind::Regular | Kind::Directory | Kind::Symlink);
        if !(is_file || metadata.kind.is_device())
            || fstatfs(file)?.f_type == rustix::fs::PROC_SUPER_MAGIC
        {
            return Ok(());
        }
        if metadata.kind != Kind::Symlink && !identity.permits(&metadata, wanted) {
            return Err(Refused(libc::EACCES));
        }
        self.require_search(identity, file)
    }

    fn require_search(&self, identity: &Identity, file: &OwnedFd) -> Result<()> {
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let path = readlinkat(CWD, link, Vec::new())?;
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        for above in path.ancestors().skip(1).filter(|above| above.is_absolute()) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // What was removed meanwhile hinders nobody.
            let Ok(above) = openat(CWD, above, flags, Mode::empty()) else { continue };
            if !identity.permits(&self.files.metadata(above.as_fd())?, EXECUTE) {
                return Err(Refused(libc::EACCES));
            }
        }
        Ok(())
    }

    /// Whether an entry `name` of a directory may come or go.
    pub(super) fn require_entry(
        &self,
        identity: &Identity,
        parent: &OwnedFd,
        name: Option<&CStr>,
    ) -> Result<()> {
        self.require(identity, parent, WRITE | EXECUTE)?;
        let above = self.files.metadata(parent.as_fd())?;
        let Some(name) = name.filter(|_| above.mode & STICKY != 0) else { return Ok(()) };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(file) = openat(parent, name, flags, Mode::empty()) else { return Ok(()) };
        let owner = self.files.metadata(file.as_fd())?.uid;
        let is_own = identity.may_change(owner) || identity.may_change(above.uid);
        if is_own { Ok(()) } else { Err(Refused(libc::EPERM)) }
    }

    fn check(
        &self,
        caller: &Caller<'_>,
        identity: &Identity,
        directory: i32,
        path: usize,
        end: End,
    ) -> Result {
        let text = caller.read_text(caller.argument(path))?;
        let Ok(place) = Place::new(caller, directory, &text) else { return Ok(Answer::GoOn) };
        match end {
            End::File(wanted) => {
                if let Ok(file) = place.open(caller, AtEnd::Follow) {
                    self.require(identity, &file, wanted)?;
                }
            }
            End::Removed | End::Placed => {
                if let Ok((parent, name)) = place.parent() {
                    self.require_entry(identity, &parent, Some(&name))?;
                }
            }
        }
        Ok(Answer::GoOn)
    }

    /// `access(2)` and its kin, which ask for the real user but for `AT_EACCESS`. The mode is the argument behind the path.
    fn access(
        &self,
        caller: &Caller<'_>,
        identity: &Identity,
        directory: i32,
        path: usize,
        flags: i32,
    ) -> Result {
        let text = caller.read_text(caller.argument(path))?;
        let Ok(place) = Place::new(caller, directory, &text) else { return Ok(Answer::GoOn) };
        let at_end =
            if flags & libc::AT_SYMLINK_NOFOLLOW == 0 { AtEnd::Follow } else { AtEnd::Stay };
        let Ok(file) = place.open(caller, at_end) else { return Ok(Answer::GoOn) };
        let asking =
            if flags & libc::AT_EACCESS == 0 { identity.as_real() } else { identity.clone() };
        self.require(&asking, &file, caller.word(path + 1) & 7)?;
        // The kernel would ask for the right of a user that the file does not know.
        Ok(if self.files.metadata(file.as_fd())?.is_file() { SUCCESS } else { Answer::GoOn })
    }

    /// `utimensat(2)`: certain times are for the owner, the present is for who may write.
    fn times(&self, caller: &Caller<'_>, identity: &Identity) -> Result {
        let file = match caller.argument(1) {
            0 => Place::of_descriptor(caller, caller.signed_word(0))?.open_as_it_is()?,
            address => {
                let text = caller.read_text(address)?;
                let place = Place::new(caller, caller.signed_word(0), &text)?;
                let follows = caller.signed_word(3) & libc::AT_SYMLINK_NOFOLLOW == 0;
                let Ok(file) =
                    place.open(caller, if follows { AtEnd::Follow } else { AtEnd::Stay })
                else {
                    return Ok(Answer::GoOn);
                };
                file
            }
        };
        let owner = self.files.metadata(file.as_fd())?.uid;
        if identity.may_change(owner) {
            return Ok(Answer::GoOn);
        }
        if caller.argument(2) != 0 {
            return Err(Refused(libc::EPERM));
        }
        self.require(identity, &file, WRITE)?;
        Ok(Answer::GoOn)
    }
}

impl Identity {
    /// Whether the bits of a file permit this.
    fn permits(&self, metadata: &Metadata, wanted: u32) -> bool {
        let mode = metadata.mode;
        if self.overrides_permissions() {
            let executes = metadata.is_dir() || mode & 0o111 != 0;
            return executes || wanted & EXECUTE == 0;
        }
        let class = if self.users.files == metadata.uid {
            mode >> 6
        } else if self.is_in(metadata.gid) {
            mode >> 3
        } else {
            mode
        };
        let missing = wanted & !class;
        missing & (READ | WRITE | EXECUTE) == 0
    }
}

#[cfg(test)]
mod tests {
    use ebiko_rootfs::{DeviceNumber, Time};

    use super::*;

    fn file(kind: Kind, mode: u32) -> Metadata {
        Metadata {
            kind,
            mode,
            uid: 1,
            gid: 2,
            size: 0,
            mtime: Time::default(),
            ctime: Time::default(),
            dev: 0,
            ino: 0,
            nlink: 1,
            rdev: DeviceNumber::default(),
        }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let owner = Identity::new(1, 2, &[]);
        let group = Identity::new(9, 9, &[2]);
        let other = Identity::new(9, 9, &[]);
        let only_others = file(Kind::Regular, 0o007);
        assert!(!owner.permits(&only_others, READ));
        assert!(!group.permits(&only_others, READ));
        assert!(other.permits(&only_others, READ | WRITE | EXECUTE));
        let usual = file(Kind::Regular, 0o640);
        assert!(owner.permits(&usual, READ | WRITE) && !owner.permits(&usual, EXECUTE));
        assert!(group.permits(&usual, READ) && !group.permits(&usual, WRITE));
        assert!(!other.permits(&usual, READ));
    }

    #[test]
    fn root_may_do_everything_but_execute_what_nobody_may() {
        let root = Identity::new(0, 0, &[]);
        assert!(root.permits(&file(Kind::Regular, 0), READ | WRITE));
        assert!(!root.permits(&file(Kind::Regular, 0o666), EXECUTE));
        assert!(root.permits(&file(Kind::Regular, 0o001), EXECUTE));
        assert!(root.permits(&file(Kind::Directory, 0), EXECUTE));
    }
}
