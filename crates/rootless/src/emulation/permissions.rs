//! What somebody who is not root may do with files.
//!
//! On disk all files belong to the builder, so the kernel would let a guest's user do anything. A program that finds
//! out what it may do, and then does something else, would leave another image than in a pod with root. So where a call
//! comes from somebody without `CAP_DAC_OVERRIDE`, the rules of `path_resolution(7)` are applied here first. This is for
//! equal images and protects nothing: what the kernel does afterwards may be decided by memory that changes meanwhile.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ebiko_rootfs::{Kind, Metadata, OpenTo};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, StatxFlags, Timespec, Timestamps, ftruncate, linkat,
    openat, readlinkat, renameat_with, unlinkat, utimensat,
};

use super::credentials::Identity;
use super::path::{AtEnd, Found, Place};
use super::{Answer, Emulation, Refused, Result, SUCCESS};
use crate::caller::Caller;

/// The bits of a class in a mode.
pub(super) const READ: u32 = 4;
pub(super) const WRITE: u32 = 2;
pub(super) const EXECUTE: u32 = 1;

pub(super) const STICKY: u32 = 0o1000;

impl Emulation {
    /// A call that is the kernel's when the caller may make it.
    pub(super) fn guarded(&self, caller: &Caller<'_>) -> Result {
        let identity = self.identity(caller)?;
        if identity.overrides_permissions() && caller.top().is_none() {
            return Ok(Answer::GoOn);
        }
        let here = libc::AT_FDCWD;
        let at = |index| caller.signed_word(index);
        match caller.number() {
            libc::SYS_faccessat => self.access(caller, &identity, at(0), 1, 0),
            libc::SYS_faccessat2 => self.access(caller, &identity, at(0), 1, at(3)),
            libc::SYS_unlinkat => self.remove(caller, &identity, at(0), 1, at(2)),
            libc::SYS_renameat => self.rename(caller, &identity, [(at(0), 1), (at(2), 3)], 0),
            libc::SYS_renameat2 => {
                self.rename(caller, &identity, [(at(0), 1), (at(2), 3)], caller.word(4))
            }
            libc::SYS_linkat => self.link(caller, &identity, [(at(0), 1), (at(2), 3)], at(4)),
            libc::SYS_truncate => self.truncate(caller, &identity),
            libc::SYS_chdir => self.go(caller, &identity),
            libc::SYS_utimensat => self.times(caller, &identity),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_access => self.access(caller, &identity, here, 0, 0),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_unlink => self.remove(caller, &identity, here, 0, 0),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rmdir => self.remove(caller, &identity, here, 0, libc::AT_REMOVEDIR),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename => self.rename(caller, &identity, [(here, 0), (here, 1)], 0),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_link => self.link(caller, &identity, [(here, 0), (here, 1)], 0),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_utime | libc::SYS_utimes => self.old_times(caller, &identity),
            _ => Ok(Answer::GoOn),
        }
    }

    /// Where the path leads that is the argument `path`; `None` where it is the kernel's to say what is wrong. Nothing may be
    /// done because of it before [`Caller::require_alive`].
    fn glimpse_place(
        &self,
        caller: &Caller<'_>,
        directory: i32,
        path: usize,
    ) -> Result<Option<Place>> {
        let text = caller.glimpse_text(caller.argument(path))?;
        Ok(self.files.place(caller, directory, &text).ok())
    }

    /// The same for whatever may be done.
    pub(super) fn place(
        &self,
        caller: &Caller<'_>,
        directory: i32,
        path: usize,
    ) -> Result<Option<Place>> {
        let place = self.glimpse_place(caller, directory, path)?;
        caller.require_alive()?;
        Ok(place)
    }

    /// The file at the path that is the argument `path`, and whether the kernel would find the same; `None` where nothing
    /// is to be judged: the kernel finds it and this is root, or there is none.
    fn judged(
        &self,
        caller: &Caller<'_>,
        identity: &Identity,
        directory: i32,
        path: usize,
        at_end: AtEnd,
    ) -> Result<Option<(Found, bool)>> {
        let Some(place) = self.glimpse_place(caller, directory, path)? else { return Ok(None) };
        let is_shared = place.is_shared(at_end);
        if is_shared && identity.overrides_permissions() {
            return Ok(None);
        }
        caller.require_alive()?;
        Ok(self.files.open(caller, &place, at_end).ok().map(|found| (found, is_shared)))
    }

    /// An `open(2)` of a file that exists, and whether it does.
    pub(super) fn check_open(
        &self,
        caller: &Caller<'_>,
        identity: &Identity,
        place: &Place,
        flags: OFlags,
    ) -> Result<bool> {
        let at_end = AtEnd::follow_if(!flags.contains(OFlags::NOFOLLOW));
        let Ok(found) = self.files.open(caller, place, at_end) else { return Ok(false) };
        let mut wanted = match flags & OFlags::RWMODE {
            OFlags::WRONLY => WRITE,
            OFlags::RDWR => READ | WRITE,
            _ => READ,
        };
        if flags.contains(OFlags::TRUNC) {
            wanted |= WRITE;
        }
        self.require(identity, &found, wanted)?;
        Ok(true)
    }

    /// Whether a file permits this, and every directory above it a search.
    ///
    /// # Errors
    ///
    /// `EACCES` where it does not.
    pub(super) fn require(&self, identity: &Identity, found: &Found, wanted: u32) -> Result<()> {
        if identity.overrides_permissions() {
            return Ok(());
        }
        let metadata = found.metadata();
        // Pipes and sockets have no place, and what processes have in `/proc` is the kernel's to judge.
        let is_file = matches!(metadata.kind, Kind::Regular | Kind::Directory | Kind::Symlink);
        if !(is_file || metadata.kind.is_device()) || self.files.is_of_proc(&found.sight) {
            return Ok(());
        }
        if metadata.kind != Kind::Symlink && !identity.permits(metadata, wanted) {
            return Err(Refused(libc::EACCES));
        }
        self.require_search(identity, &found.file)
    }

    fn require_search(&self, identity: &Identity, file: &OwnedFd) -> Result<()> {
        let path = readlinkat(CWD, link_to(file), Vec::new())?;
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        for above in path.ancestors().skip(1).filter(|above| above.is_absolute()) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            // What was removed meanwhile hinders nobody.
            let Ok(above) = openat(CWD, above, flags, Mode::empty()) else { continue };
            if !identity.permits(self.files.look_at(above.as_fd())?.metadata(), EXECUTE) {
                return Err(Refused(libc::EACCES));
            }
        }
        Ok(())
    }

    /// Whether an entry `name` of a directory may come or go.
    pub(super) fn require_entry(
        &self,
        identity: &Identity,
        parent: &Found,
        name: Option<&CStr>,
    ) -> Result<()> {
        self.require(identity, parent, WRITE | EXECUTE)?;
        let above = parent.metadata();
        let Some(name) = name.filter(|_| above.mode & STICKY != 0) else { return Ok(()) };
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let Ok(sight) = self.files.look(parent.file.as_fd(), name, flags, StatxFlags::empty())
        else {
            return Ok(());
        };
        let is_own = identity.may_change(sight.metadata().uid) || identity.may_change(above.uid);
        if is_own { Ok(()) } else { Err(Refused(libc::EPERM)) }
    }

    /// `chdir(2)`.
    fn go(&self, caller: &Caller<'_>, identity: &Identity) -> Result {
        let Some(place) = self.place(caller, libc::AT_FDCWD, 0)? else {
            return Ok(Answer::GoOn);
        };
        let Ok(found) = self.files.open(caller, &place, AtEnd::Follow) else {
            return Ok(Answer::GoOn);
        };
        if !found.metadata().is_dir() {
            return Err(Refused(libc::ENOTDIR));
        }
        self.require(identity, &found, EXECUTE)?;
        self.files.keep_open(found.file.as_fd(), &found.sight, OpenTo::Search);
        if (place.is_shared(AtEnd::Follow) && !found.is_hidden) || place.is_top(caller) {
            Ok(Answer::GoOn)
        } else {
            Ok(Answer::Impossible { path: caller.argument(0) })
        }
    }

    /// `utime(2)` and `utimes(2)`.
    #[cfg(target_arch = "x86_64")]
    fn old_times(&self, caller: &Caller<'_>, identity: &Identity) -> Result {
        let Some((found, is_shared)) =
            self.judged(caller, identity, libc::AT_FDCWD, 0, AtEnd::Follow)?
        else {
            return Ok(Answer::GoOn);
        };
        let address = caller.argument(1);
        if !identity.may_change(found.metadata().uid) {
            if address != 0 {
                return Err(Refused(libc::EPERM));
            }
            self.require(identity, &found, WRITE)?;
        }
        if is_shared {
            return Ok(Answer::GoOn);
        }
        let times = match (address, caller.number()) {
            (0, _) => PRESENT,
            (_, libc::SYS_utime) => {
                let [access, modification] = numbers(caller, address)?;
                timestamps([access, 0, modification, 0])
            }
            _ => {
                let [access, micros, modification, more] = numbers(caller, address)?;
                timestamps([
                    access,
                    micros.saturating_mul(1000),
                    modification,
                    more.saturating_mul(1000),
                ])
            }
        };
        utimensat(&found.file, c"", &times, AtFlags::EMPTY_PATH)?;
        Ok(SUCCESS)
    }

    /// `truncate(2)`.
    fn truncate(&self, caller: &Caller<'_>, identity: &Identity) -> Result {
        let Some((found, is_shared)) =
            self.judged(caller, identity, libc::AT_FDCWD, 0, AtEnd::Follow)?
        else {
            return Ok(Answer::GoOn);
        };
        self.require(identity, &found, WRITE)?;
        if is_shared {
            return Ok(Answer::GoOn);
        }
        match found.metadata().kind {
            Kind::Directory => Err(Refused(libc::EISDIR)),
            Kind::Regular => {
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                let file = openat(CWD, link_to(&found.file), flags, Mode::empty())?;
                ftruncate(&file, caller.argument(1))?;
                Ok(SUCCESS)
            }
            _ => Err(Refused(libc::EINVAL)),
        }
    }

    /// The directory and the name of an entry that comes or goes; `None` where it is the kernel's to say what is wrong.
    fn entry(
        &self,
        caller: &Caller<'_>,
        identity: &Identity,
        directory: i32,
        path: usize,
    ) -> Result<Option<Entry>> {
        let Some(place) = self.glimpse_place(caller, directory, path)? else { return Ok(None) };
        if identity.overrides_permissions() && place.has_shared_parent() {
            return Ok(Some(Entry { spot: Spot::At(place), is_shared: true }));
        }
        caller.require_alive()?;
        let is_shared = place.has_shared_parent();
        let Ok((parent, name)) = self.files.parent(caller, &place) else { return Ok(None) };
        self.require_entry(identity, &parent, Some(&name))?;
        Ok(Some(Entry { spot: Spot::Opened(parent.file, name), is_shared }))
    }

    /// What an entry is in, and its name there.
    fn opened(&self, caller: &Caller<'_>, entry: Entry) -> Result<(OwnedFd, CString)> {
        match entry.spot {
            Spot::Opened(parent, name) => Ok((parent, name)),
            Spot::At(place) => {
                caller.require_alive()?;
                let (parent, name) = self.files.parent(caller, &place)?;
                Ok((parent.file, name))
            }
        }
    }

    fn remove(
        &self,
        caller: &Caller<'_>,
        identity: &Identity,
        directory: i32,
        path: usize,
        flags: i32,
    ) -> Result {
        match self.entry(caller, identity, directory, path)? {
            Some(entry) if !entry.is_shared => {
                let (parent, name) = self.opened(caller, entry)?;
                unlinkat(parent, name, AtFlags::from_bits_retain(flags.cast_unsigned()))?;
                Ok(SUCCESS)
            }
            _ => Ok(Answer::GoOn),
        }
    }

    fn rename(
        &self,
        caller: &Caller<'_>,
        identity: &Identity,
        [(from, old), (to, new)]: [(i32, usize); 2],
        flags: u32,
    ) -> Result {
        let from = self.entry(caller, identity, from, old)?;
        let to = self.entry(caller, identity, to, new)?;
        let (Some(from), Some(to)) = (from, to) else { return Ok(Answer::GoOn) };
        if from.is_shared && to.is_shared {
            return Ok(Answer::GoOn);
        }
        let flags = RenameFlags::from_bits_retain(flags);
        let ((from, old), (to, new)) = (self.opened(caller, from)?, self.opened(caller, to)?);
        renameat_with(from, old, to, new, flags)?;
        Ok(SUCCESS)
    }

    fn link(
        &self,
        caller: &Caller<'_>,
        identity: &Identity,
        [(from, old), (to, new)]: [(i32, usize); 2],
        flags: i32,
    ) -> Result {
        let Some(to) = self.entry(caller, identity, to, new)? else { return Ok(Answer::GoOn) };
        if caller.top().is_none() || flags & libc::AT_EMPTY_PATH != 0 {
            return Ok(Answer::GoOn);
        }
        let Some(from) = self.place(caller, from, old)? else { return Ok(Answer::GoOn) };
        if from.has_shared_parent() && to.is_shared {
            return Ok(Answer::GoOn);
        }
        let at_end = AtEnd::follow_if(flags & libc::AT_SYMLINK_FOLLOW != 0);
        let found = self.files.open(caller, &from, at_end)?;
        let (parent, name) = self.opened(caller, to)?;
        linkat(CWD, link_to(&found.file), parent, name, AtFlags::SYMLINK_FOLLOW)?;
        Ok(SUCCESS)
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
        let at_end = AtEnd::follow_if(flags & libc::AT_SYMLINK_NOFOLLOW == 0);
        let asking =
            if flags & libc::AT_EACCESS == 0 { identity.as_real() } else { identity.clone() };
        let Some((found, is_shared)) = self.judged(caller, &asking, directory, path, at_end)?
        else {
            return Ok(Answer::GoOn);
        };
        let wanted = caller.word(path + 1) & 7;
        self.require(&asking, &found, wanted)?;
        // The kernel would ask for the right of a user that the file does not know, or for a link at the top.
        let metadata = found.metadata();
        let has_place = matches!(metadata.kind, Kind::Regular | Kind::Directory | Kind::Symlink);
        if !has_place || self.files.is_of_proc(&found.sight) {
            return Ok(Answer::GoOn);
        }
        if !asking.permits(metadata, wanted) {
            return Err(Refused(libc::EACCES));
        }
        let is_judged = metadata.is_file() || !is_shared;
        Ok(if is_judged { SUCCESS } else { Answer::GoOn })
    }

    /// `utimensat(2)`: certain times are for the owner, the present is for who may write.
    fn times(&self, caller: &Caller<'_>, identity: &Identity) -> Result {
        let (found, is_shared) = match caller.argument(1) {
            0 if identity.overrides_permissions() => return Ok(Answer::GoOn),
            0 => (self.files.of_descriptor(caller, caller.signed_word(0))?, true),
            _ => {
                let follows = caller.signed_word(3) & libc::AT_SYMLINK_NOFOLLOW == 0;
                let at_end = AtEnd::follow_if(follows);
                // An empty path can mean the descriptor, which the kernel finds as well.
                match self.judged(caller, identity, caller.signed_word(0), 1, at_end)? {
                    Some(judged) => judged,
                    None => return Ok(Answer::GoOn),
                }
            }
        };
        if !identity.may_change(found.metadata().uid) && !identity.overrides_permissions() {
            if !is_present(caller)? {
                return Err(Refused(libc::EPERM));
            }
            self.require(identity, &found, WRITE)?;
        }
        if is_shared { Ok(Answer::GoOn) } else { set_times(caller, &found.file) }
    }
}

/// The link of the builder's to what it has open.
pub(super) fn link_to(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// `UTIME_NOW` and `UTIME_OMIT`.
const NOW: i64 = 0x3fff_ffff;
const OMIT: i64 = 0x3fff_fffe;

const PRESENT: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: NOW },
    last_modification: Timespec { tv_sec: 0, tv_nsec: NOW },
};

/// Seconds and nanoseconds of both times.
fn timestamps([access, more, modification, rest]: [i64; 4]) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: access, tv_nsec: more },
        last_modification: Timespec { tv_sec: modification, tv_nsec: rest },
    }
}

/// Numbers of 64 bits in the guest's memory.
fn numbers<const COUNT: usize>(caller: &Caller<'_>, address: u64) -> Result<[i64; COUNT]> {
    let bytes = caller.read(address, 8 * COUNT)?;
    let mut numbers = [0; COUNT];
    for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = bytes.try_into().map_or(0, i64::from_ne_bytes);
    }
    Ok(numbers)
}

/// Sets the times of a file that the kernel would not find.
fn set_times(caller: &Caller<'_>, file: &OwnedFd) -> Result {
    let times = match caller.argument(2) {
        0 => PRESENT,
        address => timestamps(numbers(caller, address)?),
    };
    utimensat(file, c"", &times, AtFlags::EMPTY_PATH)?;
    Ok(SUCCESS)
}

/// Whether the times of `utimensat(2)` are the present, or left as they are.
fn is_present(caller: &Caller<'_>) -> Result<bool> {
    let address = caller.argument(2);
    if address == 0 {
        return Ok(true);
    }
    let [_, access, _, modification] = numbers(caller, address)?;
    Ok([access, modification].iter().all(|time| matches!(*time, NOW | OMIT)))
}

/// An entry that comes or goes.
struct Entry {
    spot: Spot,
    /// Whether the kernel would find the same.
    is_shared: bool,
}

enum Spot {
    At(Place),
    /// The directory that it is in, and its name there.
    Opened(OwnedFd, CString),
}

impl Identity {
    /// Whether the bits of a file permit this.
    pub(super) fn permits(&self, metadata: &Metadata, wanted: u32) -> bool {
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
