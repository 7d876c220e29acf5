//! What files are, whose they are, and what may be done with them.

use std::os::fd::{AsFd, OwnedFd};

use ebiko_rootfs::Sight;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Statx, StatxFlags, readlinkat};
use rustix::io::Errno;

use super::identities::is_guest;
use super::path::{AtEnd, Found, Place, process_of};
use super::{Answer, Emulation, Refused, Result, SUCCESS, layout};
use crate::caller::Caller;

/// What `newfstatat(2)` understands.
const STATUS_FLAGS: AtFlags = AtFlags::SYMLINK_NOFOLLOW
    .union(AtFlags::NO_AUTOMOUNT)
    .union(AtFlags::EMPTY_PATH)
    .union(AtFlags::STATX_FORCE_SYNC)
    .union(AtFlags::STATX_DONT_SYNC);

fn flags(bits: i32) -> Result<AtFlags> {
    AtFlags::from_bits(bits.cast_unsigned())
        .filter(|flags| STATUS_FLAGS.contains(*flags))
        .ok_or(Refused(libc::EINVAL))
}

impl Emulation {
    /// `stat(2)` and `lstat(2)`.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn status_of_path(&self, caller: &Caller<'_>, at_end: AtEnd) -> Result {
        let text = caller.read_text(caller.argument(0))?;
        let place = self.files.place(caller, libc::AT_FDCWD, &text)?;
        let raw = self.status(caller, &place, at_end, AtFlags::empty(), StatxFlags::empty())?;
        caller.write(caller.argument(1), &layout::stat(&raw))?;
        Ok(SUCCESS)
    }

    /// `fstat(2)`; `buffer` is the argument for the answer.
    pub(super) fn status_of_descriptor(
        &self,
        caller: &Caller<'_>,
        descriptor: i32,
        buffer: usize,
    ) -> Result {
        let raw = self.descriptor_status(caller, descriptor, StatxFlags::empty())?;
        caller.write(caller.argument(buffer), &layout::stat(&raw))?;
        Ok(SUCCESS)
    }

    /// `newfstatat(2)`.
    pub(super) fn status_at(&self, caller: &Caller<'_>) -> Result {
        let flags = flags(caller.signed_word(3))?;
        let raw = self.status_by_arguments(caller, flags, StatxFlags::empty())?;
        caller.write(caller.argument(2), &layout::stat(&raw))?;
        Ok(SUCCESS)
    }

    /// `statx(2)`.
    pub(super) fn extended_status(&self, caller: &Caller<'_>) -> Result {
        let flags = flags(caller.signed_word(2))?;
        let mask = StatxFlags::from_bits_retain(caller.word(3));
        let raw = self.status_by_arguments(caller, flags, mask)?;
        caller.write(caller.argument(4), layout::statx(&raw))?;
        Ok(SUCCESS)
    }

    /// Of the path in the second argument, relative to the first.
    fn status_by_arguments(
        &self,
        caller: &Caller<'_>,
        flags: AtFlags,
        mask: StatxFlags,
    ) -> Result<Statx> {
        let directory = caller.signed_word(0);
        let may_be_empty = flags.contains(AtFlags::EMPTY_PATH);
        let text = match caller.argument(1) {
            // Since Linux 6.11.
            0 if may_be_empty => Vec::new(),
            address => caller.read_text(address)?,
        };
        if text.is_empty() && may_be_empty {
            return self.descriptor_status(caller, directory, mask);
        }
        let place = self.files.place(caller, directory, &text)?;
        let at_end = AtEnd::follow_if(!flags.contains(AtFlags::SYMLINK_NOFOLLOW));
        let rest = flags & !(AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH);
        self.status(caller, &place, at_end, rest, mask)
    }

    fn descriptor_status(
        &self,
        caller: &Caller<'_>,
        descriptor: i32,
        mask: StatxFlags,
    ) -> Result<Statx> {
        let sight = self.files.sight_of_descriptor(caller, descriptor, mask)?;
        if self.files.is_of_proc(&sight) {
            let found = self.files.of_descriptor(caller, descriptor)?;
            return self.status_of_process(&found.file, &sight);
        }
        Ok(sight.status())
    }

    fn status(
        &self,
        caller: &Caller<'_>,
        place: &Place,
        at_end: AtEnd,
        flags: AtFlags,
        mask: StatxFlags,
    ) -> Result<Statx> {
        let identity = self.identity(caller)?;
        if identity.overrides_permissions()
            && let Some(sight) = self.files.glimpse(place, at_end, flags, mask)
        {
            return Ok(sight?.status());
        }
        let mut found = self.files.open(caller, place, at_end)?;
        // What every look asks for is there.
        let asked = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        if !flags.is_empty() || !asked.contains(mask) {
            let flags = flags | AtFlags::EMPTY_PATH;
            found.sight = self.files.look(found.file.as_fd(), c"", flags, mask)?;
        }
        if self.files.is_of_proc(&found.sight) {
            return self.status_of_process(&found.file, &found.sight);
        }
        self.require(&identity, &found, 0)?;
        Ok(found.sight.status())
    }

    /// The files of a process in `/proc` belong to whom it takes itself for.
    fn status_of_process(&self, file: &OwnedFd, sight: &Sight) -> Result<Statx> {
        let mut raw = sight.status();
        if let Some(process) = process_of(file)?
            && let Ok(identity) = self.identities.of(process)
            && (raw.stx_uid, raw.stx_gid) == (0, 0)
        {
            raw.stx_uid = identity.users.effective;
            raw.stx_gid = identity.groups.effective;
        }
        Ok(raw)
    }

    /// `chown(2)`, `lchown(2)` and `fchownat(2)`: the path is the argument `path`, the owners are the next two.
    pub(super) fn change_owner(
        &self,
        caller: &Caller<'_>,
        directory: i32,
        path: usize,
        flags: i32,
    ) -> Result {
        let named = self.named(caller, directory, caller.argument(path), flags)?;
        let sight = self.sight_of(caller, &named)?;
        let (uid, gid) = self.wanted_owners(caller, &sight, path + 1)?;
        if self.files.has_owner(&sight, uid, gid)
            || self.files.change_owner_beside(&sight, uid, gid)
        {
            return Ok(SUCCESS);
        }
        let found = self.open_named(caller, &named)?;
        self.wanted_owners(caller, &found.sight, path + 1)?;
        self.files.change_owner(found.file.as_fd(), &found.sight, uid, gid)?;
        Ok(SUCCESS)
    }

    pub(super) fn change_owner_of(&self, caller: &Caller<'_>, descriptor: i32) -> Result {
        let sight = self.files.sight_of_descriptor(caller, descriptor, StatxFlags::empty())?;
        let (uid, gid) = self.wanted_owners(caller, &sight, 1)?;
        if self.files.has_owner(&sight, uid, gid) {
            return Ok(SUCCESS);
        }
        caller.require_alive()?;
        if !self.files.change_owner_beside(&sight, uid, gid) {
            let found = self.files.of_descriptor(caller, descriptor)?;
            self.files.change_owner(found.file.as_fd(), &found.sight, uid, gid)?;
        }
        Ok(SUCCESS)
    }

    /// What the arguments from `owners` on say, if the caller may do that.
    fn wanted_owners(
        &self,
        caller: &Caller<'_>,
        before: &Sight,
        owners: usize,
    ) -> Result<(Option<u32>, Option<u32>)> {
        let wanted = |index| Some(caller.word(index)).filter(|&id| id != u32::MAX);
        let (uid, gid) = (wanted(owners), wanted(owners + 1));
        let before = before.metadata();
        if self.identity(caller)?.may_give((before.uid, before.gid), uid, gid) {
            Ok((uid, gid))
        } else {
            Err(Refused(libc::EPERM))
        }
    }

    /// `chmod(2)`, `fchmodat(2)` and `fchmodat2(2)`: the path is the argument `path`, the mode is the next.
    pub(super) fn change_mode(
        &self,
        caller: &Caller<'_>,
        directory: i32,
        path: usize,
        flags: i32,
    ) -> Result {
        let named = self.named(caller, directory, caller.argument(path), flags)?;
        let mode = caller.word(path + 1);
        if let Named::Path(place, at_end) = &named
            && flags == 0
            && place.is_shared(*at_end)
        {
            let glimpse = self.files.glimpse(place, *at_end, AtFlags::empty(), StatxFlags::empty());
            let sight = if let Some(sight) = glimpse {
                sight?
            } else {
                let found = self.files.open(caller, place, *at_end)?;
                if found.is_hidden {
                    return self.change_mode_to(caller, &found, mode);
                }
                found.sight
            };
            if self.is_left_to_kernel(caller, &sight, mode)? {
                return Ok(Answer::GoOn);
            }
        }
        self.change_mode_to(caller, &self.open_named(caller, &named)?, mode)
    }

    pub(super) fn change_mode_of(&self, caller: &Caller<'_>, descriptor: i32) -> Result {
        let sight = self.files.sight_of_descriptor(caller, descriptor, StatxFlags::empty())?;
        if self.is_left_to_kernel(caller, &sight, caller.word(1))? {
            return Ok(Answer::GoOn);
        }
        let found = self.files.of_descriptor(caller, descriptor)?;
        caller.require_alive()?;
        self.change_mode_to(caller, &found, caller.word(1))
    }

    /// Whether the kernel makes the mode of a file what it shall be: where the disk can hold it.
    pub(super) fn is_left_to_kernel(
        &self,
        caller: &Caller<'_>,
        sight: &Sight,
        mode: u32,
    ) -> Result<bool> {
        let may_change = self.identity(caller)?.may_change(sight.metadata().uid);
        Ok(may_change && self.files.holds_mode(sight, mode))
    }

    pub(super) fn change_mode_to(&self, caller: &Caller<'_>, found: &Found, mode: u32) -> Result {
        const SET_GROUP_ID: u32 = 0o2000;
        let identity = self.identity(caller)?;
        let before = found.metadata();
        if !identity.may_change(before.uid) {
            return Err(Refused(libc::EPERM));
        }
        let lost = if identity.may_set_group_id(before.gid) { 0 } else { SET_GROUP_ID };
        self.files.change_mode(found.file.as_fd(), &found.sight, mode & !lost)?;
        Ok(SUCCESS)
    }

    /// `chroot(2)` to where the process is already; to any other place it is refused, as the process' paths would lead
    /// elsewhere than the builder's.
    pub(super) fn change_root(&self, caller: &Caller<'_>) -> Result {
        let named = self.named(caller, libc::AT_FDCWD, caller.argument(0), 0)?;
        let found = self.open_named(caller, &named)?;
        let root = match caller.top() {
            Some(top) => top.open()?,
            None => rustix::fs::open(c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?,
        };
        let root = self.files.look_at(root.as_fd())?;
        let (found, root) = (found.metadata(), root.metadata());
        if (found.dev, found.ino) == (root.dev, root.ino) {
            Ok(SUCCESS)
        } else {
            Err(Refused(libc::EPERM))
        }
    }

    /// `readlink(2)` and `readlinkat(2)`; the buffer and its size are the arguments behind the path.
    pub(super) fn read_link(&self, caller: &Caller<'_>, directory: i32, path: usize) -> Result {
        let text = caller.read_text(caller.argument(path))?;
        let found = if text.is_empty() {
            self.files.of_descriptor(caller, directory)?
        } else {
            self.files.open(caller, &self.files.place(caller, directory, &text)?, AtEnd::Stay)?
        };
        // What links of `/proc` show depends on who reads them, and some are not the guest's to read.
        let is_of_proc = self.files.is_of_proc(&found.sight);
        if is_of_proc && !process_of(&found.file)?.is_some_and(is_guest) {
            return Ok(Answer::GoOn);
        }
        let target = readlinkat(&found.file, c"", Vec::new())
            .map_err(|error| if error == Errno::NOENT { Errno::INVAL } else { error })?;
        let target = shown(caller, target.as_bytes());
        let room = usize::try_from(caller.signed_word(path + 2)).unwrap_or_default();
        if room == 0 {
            return Err(Refused(libc::EINVAL));
        }
        let written = &target[..target.len().min(room)];
        caller.write(caller.argument(path + 1), written)?;
        Ok(Answer::Done(i64::try_from(written.len()).unwrap_or_default()))
    }

    fn sight_of(&self, caller: &Caller<'_>, named: &Named) -> Result<Sight> {
        Ok(match named {
            Named::Descriptor(number) => {
                self.files.sight_of_descriptor(caller, *number, StatxFlags::empty())?
            }
            Named::Path(place, at_end) => self.files.sight(caller, place, *at_end)?,
        })
    }

    fn open_named(&self, caller: &Caller<'_>, named: &Named) -> Result<Found> {
        Ok(match named {
            Named::Descriptor(number) => self.files.of_descriptor(caller, *number)?,
            Named::Path(place, at_end) => self.files.open(caller, place, *at_end)?,
        })
    }

    /// What a path of the guest names, with `AT_SYMLINK_NOFOLLOW` and `AT_EMPTY_PATH` among the flags.
    pub(super) fn named(
        &self,
        caller: &Caller<'_>,
        directory: i32,
        path: u64,
        flags: i32,
    ) -> Result<Named> {
        if flags & !(libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH) != 0 {
            return Err(Refused(libc::EINVAL));
        }
        let may_be_empty = flags & libc::AT_EMPTY_PATH != 0;
        let text = match path {
            0 if may_be_empty => Vec::new(),
            address => caller.read_text(address)?,
        };
        if text.is_empty() && may_be_empty {
            return Ok(Named::Descriptor(directory));
        }
        let at_end = AtEnd::follow_if(flags & libc::AT_SYMLINK_NOFOLLOW == 0);
        Ok(Named::Path(self.files.place(caller, directory, &text)?, at_end))
    }
}

/// What a call is about.
pub(super) enum Named {
    /// What a descriptor of the guest is open for.
    Descriptor(i32),
    Path(Place, AtEnd),
}

/// `getcwd(2)`.
pub(super) fn tell_directory(caller: &Caller<'_>) -> Result {
    let link = format!("/proc/{}/cwd", caller.thread());
    let target = readlinkat(CWD, link, Vec::new())?;
    let Some(path) = target.as_bytes().strip_suffix(b" (deleted)") else {
        let mut path = shown(caller, target.as_bytes());
        path.push(0);
        if usize::try_from(caller.argument(1)).is_ok_and(|room| room < path.len()) {
            return Err(Refused(libc::ERANGE));
        }
        caller.write(caller.argument(0), &path)?;
        return Ok(Answer::Done(i64::try_from(path.len()).unwrap_or_default()));
    };
    // A directory may be called so.
    let is_there = rustix::fs::stat(path).is_ok();
    if is_there { Ok(Answer::GoOn) } else { Err(Refused(libc::ENOENT)) }
}

/// Where a link leads, as the guest knows it.
fn shown(caller: &Caller<'_>, target: &[u8]) -> Vec<u8> {
    caller.top().map_or_else(|| target.to_vec(), |top| top.shown(target))
}
