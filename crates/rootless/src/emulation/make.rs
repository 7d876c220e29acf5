//! Calls that make files.
//!
//! Most are the kernel's: what root makes belongs to the builder on disk, which reads as root. What somebody else makes,
//! what is made in a directory that hands its group on, and what would be made unreadable for its own maker is made
//! here, in the guest's stead.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ebiko_rootfs::{DeviceNumber, Kind};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, mknodat, openat, openat2,
    readlinkat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::credentials::Identity;
use super::path::{AtEnd, Found, Place, is_of_proc};
use super::permissions::{STICKY, link_to};
use super::{Answer, Emulation, Refused, Result, SUCCESS};
use crate::caller::Caller;

const SET_GROUP_ID: u32 = 0o2000;

/// What the owner must be able to do with a file and with a directory, because the builder is the owner.
const OWNERS_FILE: u32 = 0o600;
const OWNERS_DIRECTORY: u32 = 0o700;

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// Where something is made, and whose it becomes.
pub(super) struct Birth {
    parent: OwnedFd,
    name: CString,
    owner: (u32, u32),
    /// Whether the directory hands on its group, and to directories that it does so.
    hands_on: bool,
    /// Whether the kernel would make it in the same place.
    is_shared: bool,
}

impl Birth {
    /// Whether what the kernel would make would belong to the same.
    fn is_plain(&self) -> bool {
        self.owner == (0, 0) && self.is_shared
    }
}

/// A socket with a name, which only the guest itself can make.
pub(super) struct Unborn {
    thread: u32,
    birth: Birth,
}

/// Whether a mode means the same on the disk, where a sticky bit can be a mark.
fn holds(mode: u32, owners: u32) -> bool {
    mode & (owners | STICKY) == owners
}

/// `None` where it is the kernel's to refuse.
type Maybe<T> = Result<Option<T>>;

impl Emulation {
    /// What is to be made at the path that is the argument `path`.
    fn birth(&self, caller: &Caller<'_>, directory: i32, path: usize) -> Maybe<Birth> {
        let Some(place) = self.place(caller, directory, path)? else { return Ok(None) };
        self.birth_at(caller, &*self.identity(caller)?, &place)
    }

    fn birth_at(&self, caller: &Caller<'_>, identity: &Identity, place: &Place) -> Maybe<Birth> {
        let Ok((parent, name)) = self.files.parent(caller, place) else { return Ok(None) };
        if matches!(name.as_bytes(), b"" | b"." | b"..") {
            return Ok(None);
        }
        self.birth_in(identity, parent, name, place.has_shared_parent()).map(Some)
    }

    fn birth_in(
        &self,
        identity: &Identity,
        parent: Found,
        name: CString,
        is_shared: bool,
    ) -> Result<Birth> {
        self.require_entry(identity, &parent, None)?;
        let above = parent.metadata();
        let hands_on = above.mode & SET_GROUP_ID != 0;
        let gid = if hands_on { above.gid } else { identity.groups.files };
        let owner = (identity.users.files, gid);
        Ok(Birth { parent: parent.file, name, owner, hands_on, is_shared })
    }

    /// `open(2)` and its kin; the path is the argument `path`.
    pub(super) fn open(
        &self,
        caller: &Caller<'_>,
        directory: i32,
        path: usize,
        flags: u32,
        mode: u32,
    ) -> Result {
        let flags = OFlags::from_bits_retain(flags);
        let makes = flags.contains(OFlags::CREATE);
        if flags.contains(OFlags::PATH) && caller.top().is_none() {
            return Ok(Answer::GoOn);
        }
        if flags.contains(OFlags::TMPFILE) {
            return self.open_unnamed(caller, directory, path, flags, mode);
        }
        let identity = self.identity(caller)?;
        if !makes && identity.overrides_permissions() && caller.top().is_none() {
            return Ok(Answer::GoOn);
        }
        let text = caller.glimpse_text(caller.argument(path))?;
        let is_usual = holds(mode, OWNERS_FILE)
            && identity.overrides_permissions()
            && (identity.users.files, identity.groups.files) == (0, 0);
        if makes && is_usual && self.files.has_plain_parent(caller, directory, &text) {
            return Ok(Answer::GoOn);
        }
        let Ok(place) = self.files.place(caller, directory, &text) else {
            return Ok(Answer::GoOn);
        };
        let at_end = AtEnd::follow_if(!flags.contains(OFlags::NOFOLLOW));
        if !makes && identity.overrides_permissions() && place.is_shared(at_end) {
            return Ok(Answer::GoOn);
        }
        caller.require_alive()?;
        if let Some(answer) = self.open_existing(caller, &identity, &place, flags)? {
            return Ok(answer);
        }
        if !makes {
            return Ok(Answer::GoOn);
        }
        let Some(mut birth) = self.birth_at(caller, &identity, &place)? else {
            return Ok(Answer::GoOn);
        };
        for _ in 0..MOST_LINKS {
            if birth.is_plain() && holds(mode, OWNERS_FILE) {
                return Ok(Answer::GoOn);
            }
            let exclusive = flags | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let granted = Mode::from_raw_mode(mode & 0o7777 | OWNERS_FILE);
            match openat(&birth.parent, &birth.name, exclusive, granted) {
                Ok(file) => {
                    self.adopt(caller, file.as_fd(), birth.owner, mode & 0o7777)?;
                    let given = caller.give(file.as_fd(), flags.contains(OFlags::CLOEXEC));
                    if given.is_err() {
                        unlinkat(&birth.parent, &birth.name, AtFlags::empty()).ok();
                    }
                    return Ok(given?);
                }
                Err(Errno::EXIST) if flags.contains(OFlags::EXCL) => {
                    return Err(Refused(libc::EEXIST));
                }
                Err(Errno::EXIST) if flags.contains(OFlags::NOFOLLOW) => return Ok(Answer::GoOn),
                Err(Errno::EXIST) => match self.behind_link(caller, &identity, &birth)? {
                    Some(behind) => birth = behind,
                    None => return Ok(Answer::GoOn),
                },
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refused(libc::ELOOP))
    }

    /// An `open(2)` of what is there; `None` where nothing is, or nothing may be.
    fn open_existing(
        &self,
        caller: &Caller<'_>,
        identity: &Identity,
        place: &Place,
        flags: OFlags,
    ) -> Maybe<Answer> {
        let at_end = AtEnd::follow_if(!flags.contains(OFlags::NOFOLLOW));
        if !identity.overrides_permissions()
            && self.check_open(caller, identity, place, flags)?
            && place.is_shared(at_end)
            && !flags.contains(OFlags::EXCL)
        {
            return Ok(Some(Answer::GoOn));
        }
        if place.is_shared(at_end) || flags.contains(OFlags::EXCL) {
            return Ok(None);
        }
        let Ok(found) = self.files.open(caller, place, at_end) else { return Ok(None) };
        let kind = found.metadata().kind;
        let close = flags.contains(OFlags::CLOEXEC);
        if flags.contains(OFlags::PATH) {
            return Ok(Some(caller.give(found.file.as_fd(), close)?));
        }
        if kind == Kind::Symlink {
            return Err(Refused(libc::ELOOP));
        }
        // The kernel judges everything else by who opens it, and opening one end of a FIFO waits for the other.
        let is_file = matches!(kind, Kind::Regular | Kind::Directory);
        if !is_file || is_of_proc(&found.file)? {
            return Ok(None);
        }
        let again = (flags & !(OFlags::CREATE | OFlags::NOFOLLOW)) | OFlags::CLOEXEC;
        let file = openat(CWD, link_to(&found.file), again, Mode::empty())?;
        Ok(Some(caller.give(file.as_fd(), close)?))
    }

    /// Where a link that leads to nothing says that something should be made.
    fn behind_link(&self, caller: &Caller<'_>, identity: &Identity, birth: &Birth) -> Maybe<Birth> {
        let Ok(target) = readlinkat(&birth.parent, &birth.name, Vec::new()) else {
            return Ok(None);
        };
        let found = statat(&birth.parent, &birth.name, AtFlags::empty());
        let is_missing = matches!(found, Err(Errno::NOENT));
        if !is_missing {
            return Ok(None);
        }
        let bytes = target.as_bytes();
        if bytes.first() == Some(&b'/') {
            let Ok(place) = self.files.place(caller, libc::AT_FDCWD, bytes) else {
                return Ok(None);
            };
            return self.birth_at(caller, identity, &place);
        }
        let start = bytes.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let name = CString::new(&bytes[start..]).unwrap_or_default();
        if matches!(name.as_bytes(), b"" | b"." | b"..") {
            return Ok(None);
        }
        let above = if start == 0 { b".".as_slice() } else { &bytes[..start] };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_MAGICLINKS;
        let Ok(file) = openat2(&birth.parent, above, flags, Mode::empty(), resolve) else {
            return Ok(None);
        };
        let sight = self.files.look_at(file.as_fd())?;
        self.birth_in(identity, Found { file, sight, is_hidden: false }, name, birth.is_shared)
            .map(Some)
    }

    /// A file without a name, in the directory of the path.
    fn open_unnamed(
        &self,
        caller: &Caller<'_>,
        directory: i32,
        path: usize,
        flags: OFlags,
        mode: u32,
    ) -> Result {
        let text = caller.read_text(caller.argument(path))?;
        let place = self.files.place(caller, directory, &text)?;
        let above = self.files.open(caller, &place, AtEnd::Follow)?;
        let identity = self.identity(caller)?;
        let is_shared = place.is_shared(AtEnd::Follow);
        let birth = self.birth_in(&identity, above, CString::default(), is_shared)?;
        if birth.is_plain() && holds(mode, OWNERS_FILE) {
            return Ok(Answer::GoOn);
        }
        let granted = Mode::from_raw_mode(mode & 0o7777 | OWNERS_FILE);
        let file = openat(&birth.parent, c".", flags | OFlags::CLOEXEC, granted)?;
        self.adopt(caller, file.as_fd(), birth.owner, mode & 0o7777)?;
        Ok(caller.give(file.as_fd(), flags.contains(OFlags::CLOEXEC))?)
    }

    /// `openat2(2)`. What it says about the way is for the kernel, so only what makes no difference is made here.
    pub(super) fn open_how(&self, caller: &Caller<'_>) -> Result {
        let how = caller.read(caller.argument(2), 24)?;
        let number = |at: usize| {
            how.get(at..at + 8)
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, u64::from_ne_bytes)
        };
        let (flags, mode, resolve) = (number(0), number(8), number(16));
        let (Ok(flags), Ok(mode)) = (u32::try_from(flags), u32::try_from(mode)) else {
            return Ok(Answer::GoOn);
        };
        if resolve != 0 {
            // Who makes files along such ways falls back where the call is not there.
            let makes =
                OFlags::from_bits_retain(flags).intersects(OFlags::CREATE | OFlags::TMPFILE);
            return if makes { Err(Refused(libc::ENOSYS)) } else { Ok(Answer::GoOn) };
        }
        self.open(caller, caller.signed_word(0), 1, flags, mode)
    }

    /// `mkdir(2)`; the mode is the argument behind the path.
    pub(super) fn make_directory(
        &self,
        caller: &Caller<'_>,
        directory: i32,
        path: usize,
    ) -> Result {
        let mode = caller.word(path + 1) & 0o1777;
        let Some(birth) = self.birth(caller, directory, path)? else {
            return Ok(Answer::GoOn);
        };
        if birth.is_plain() && holds(mode, OWNERS_DIRECTORY) {
            return Ok(Answer::GoOn);
        }
        mkdirat(&birth.parent, &birth.name, Mode::from_raw_mode(OWNERS_DIRECTORY))?;
        let file = look_at(&birth.parent, &birth.name)?;
        let handed = if birth.hands_on { SET_GROUP_ID } else { 0 };
        self.files.adopt(file.as_fd(), birth.owner, Some(masked(caller, mode) | handed))?;
        Ok(SUCCESS)
    }

    /// `symlink(2)`; the target is the first argument.
    pub(super) fn make_link(&self, caller: &Caller<'_>, directory: i32, path: usize) -> Result {
        let Some(birth) = self.birth(caller, directory, path)? else {
            return Ok(Answer::GoOn);
        };
        if birth.is_plain() {
            return Ok(Answer::GoOn);
        }
        let target = caller.read_text(caller.argument(0))?;
        symlinkat(target, &birth.parent, &birth.name)?;
        let file = look_at(&birth.parent, &birth.name)?;
        self.files.adopt(file.as_fd(), birth.owner, None)?;
        Ok(SUCCESS)
    }

    /// `mknod(2)`; mode and device are the arguments behind the path.
    pub(super) fn make_node(&self, caller: &Caller<'_>, directory: i32, path: usize) -> Result {
        let (mode, device) = (caller.word(path + 1), caller.word(path + 2));
        let kind = match FileType::from_raw_mode(mode) {
            // That of a whiteout is everybody's.
            FileType::CharacterDevice if device != 0 => Some(Kind::CharDevice),
            FileType::BlockDevice => Some(Kind::BlockDevice),
            _ => None,
        };
        if kind.is_some() && !self.identity(caller)?.can_make_devices() {
            return Err(Refused(libc::EPERM));
        }
        let Some(birth) = self.birth(caller, directory, path)? else {
            return Ok(Answer::GoOn);
        };
        if kind.is_none() && birth.is_plain() && holds(mode, OWNERS_FILE) {
            return Ok(Answer::GoOn);
        }
        let file_type =
            if kind.is_some() { FileType::RegularFile } else { FileType::from_raw_mode(mode) };
        mknodat(&birth.parent, &birth.name, file_type, Mode::from_raw_mode(OWNERS_FILE), 0)?;
        let file = look_at(&birth.parent, &birth.name)?;
        if let Some(kind) = kind {
            self.files.set_device(file.as_fd(), kind, decoded(device))?;
        }
        self.adopt(caller, file.as_fd(), birth.owner, mode & 0o7777)?;
        Ok(SUCCESS)
    }

    /// `bind(2)` of a local socket: the kernel makes the file, which is then found when the guest asks for something else.
    pub(super) fn bind(&mut self, caller: &Caller<'_>) -> Result {
        const LONGEST: usize = size_of::<libc::sockaddr_un>();
        let length = usize::try_from(caller.argument(2)).unwrap_or(usize::MAX).min(LONGEST);
        let Ok(address) = caller.read(caller.argument(1), length) else {
            return Ok(Answer::GoOn);
        };
        let Some((family, path)) = address.split_first_chunk() else { return Ok(Answer::GoOn) };
        let path = path.split(|&byte| byte == 0).next().unwrap_or_default();
        if libc::c_int::from(u16::from_ne_bytes(*family)) != libc::AF_UNIX || path.is_empty() {
            return Ok(Answer::GoOn);
        }
        let Ok(place) = self.files.place(caller, libc::AT_FDCWD, path) else {
            return Ok(Answer::GoOn);
        };
        let identity = self.identity(caller)?;
        let Some(birth) = self.birth_at(caller, &identity, &place)? else {
            return Ok(Answer::GoOn);
        };
        let is_there = look_at(&birth.parent, &birth.name).is_ok();
        if !birth.is_shared && is_there {
            return Err(Refused(libc::EADDRINUSE));
        }
        if !birth.is_shared {
            let family = size_of::<libc::sa_family_t>() as u64;
            return Ok(Answer::Impossible { path: caller.argument(1).saturating_add(family) });
        }
        if !birth.is_plain() && !is_there {
            self.unborn.push(Unborn { thread: caller.thread(), birth });
        }
        Ok(Answer::GoOn)
    }

    /// Says whose the sockets are that were made meanwhile. Who asks again has made its own, or could not.
    pub(super) fn settle_sockets(&mut self, caller: &Caller<'_>) {
        let mut unborn = std::mem::take(&mut self.unborn);
        unborn.retain(|socket| {
            let Birth { parent, name, owner, .. } = &socket.birth;
            let found = look_at(parent, name).ok().filter(|file| {
                let sight = self.files.look_at(file.as_fd());
                sight.is_ok_and(|sight| sight.metadata().kind == Kind::Socket)
            });
            if let Some(file) = &found {
                self.files.adopt(file.as_fd(), *owner, None).ok();
            }
            found.is_none() && socket.thread != caller.thread()
        });
        self.unborn = unborn;
    }

    fn adopt(
        &self,
        caller: &Caller<'_>,
        file: BorrowedFd<'_>,
        owner: (u32, u32),
        mode: u32,
    ) -> Result<()> {
        Ok(self.files.adopt(file, owner, Some(masked(caller, mode)))?)
    }
}

fn look_at(parent: &OwnedFd, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

/// A mode as the mask of the process leaves it.
fn masked(caller: &Caller<'_>, mode: u32) -> u32 {
    const USUAL: u32 = 0o022;
    mode & !caller.status().and_then(|status| status.number("Umask:", 8)).unwrap_or(USUAL)
}

/// A device as `mknod(2)` is given it: `new_decode_dev` of the kernel.
fn decoded(device: u32) -> DeviceNumber {
    DeviceNumber { major: device >> 8 & 0xfff, minor: device & 0xff | device >> 12 & 0xf_ff00 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_decoded_as_the_kernel_encodes_them() {
        for (major, minor) in [(1, 3), (8, 0), (259, 0x1_2345), (0xfff, 0xf_ffff)] {
            #[expect(clippy::cast_possible_truncation, reason = "32 bits are used")]
            let encoded = rustix::fs::makedev(major, minor) as u32;
            assert_eq!(decoded(encoded), DeviceNumber { major, minor }, "{major}:{minor}");
        }
    }
}
