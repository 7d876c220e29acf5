//! The seam between what an image says about its files and what the disk can hold.
//!
//! Everything is tried for real. What the process may not do or the file system cannot hold is remembered in
//! the [`VirtualTable`] and wins whenever the file is looked at.
//!
//! Two things differ where the process is not privileged. Without `CAP_CHOWN` every file on disk is the
//! process's own, so its user and group read as 0, as in a user namespace, and other owners are virtual.
//! Without `CAP_DAC_OVERRIDE` modes bind the builder as well, so owners keep the right to read and write on
//! disk and the mode that takes it away is virtual.

use std::ffi::{CStr, CString};
use std::io;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Statx, StatxAttributes, StatxFlags, StatxTimestamp,
    Timespec, Timestamps, Uid, chownat, openat, statx, utimensat,
};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use crate::resolve::Spot;
use crate::virtual_table::{InodeKey, VirtualTable, Wish};
use crate::xattr::{Reach, is_machines_own};
use crate::{Attributes, DeviceNumber, Kind, Metadata, Operation, Time, Xattrs};

pub(crate) const SET_ID: u32 = 0o6000;

/// The sticky bit, which marks a mode on the disk that is not the one that is seen. A command may set usual modes of open
/// files without a word, and those are without it, so the older wish is void then. It means nothing to Linux but in
/// directories where others write, and there are no others where modes are virtual.
pub(crate) const MARK: u32 = 0o1000;

/// Whether a sticky bit is only such a mark. Where it is what was wanted, that is remembered.
pub(crate) fn is_mark(kind: Kind, mode: u32) -> bool {
    const OTHERS_WRITE: u32 = 0o022;
    mode & MARK != 0 && (kind != Kind::Directory || mode & OTHERS_WRITE == 0)
}

/// What the process may do to files, found once when a root is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Privileges {
    /// The user and group that read as 0, where files cannot be given away: without `CAP_CHOWN`, or where they could not be
    /// reached afterwards.
    pub(crate) own_files_as: Option<(u32, u32)>,
    /// `CAP_DAC_OVERRIDE`, and files of others.
    pub(crate) ignores_modes: bool,
    /// `CAP_SETFCAP`: capabilities of programs are on the disk.
    pub(crate) sets_capabilities: bool,
}

impl Privileges {
    /// For a root that is only read: shows everything as it is.
    pub(crate) const AS_IT_IS: Self =
        Self { own_files_as: None, ignores_modes: true, sets_capabilities: true };

    pub(crate) fn of_this_thread() -> io::Result<Self> {
        let effective = rustix::thread::capabilities(None)?.effective;
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let gives = CapabilitySet::CHOWN | CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER;
        Ok(Self {
            own_files_as: (!effective.contains(gives)).then_some(own),
            ignores_modes: effective.contains(CapabilitySet::DAC_OVERRIDE),
            sets_capabilities: effective.contains(CapabilitySet::SETFCAP),
        })
    }
}

/// Reads and sets what inodes carry. Shared by the roots that a root was moved out to.
#[derive(Debug)]
pub(crate) struct Inodes {
    pub(crate) table: VirtualTable,
    pub(crate) privileges: Privileges,
    /// Whether modes are marked. Who reads the files elsewhere does not know what is a mark.
    pub(crate) marks: bool,
    /// Whether `/proc/self/fd` is procfs; in a root without it an image could have put something there.
    pub(crate) proc_usable: bool,
}

/// One inode, held by a descriptor so that nobody can swap another under its name.
#[derive(Debug)]
pub(crate) struct Handle<'a> {
    fd: DescriptorOf<'a>,
    reach: Reach<'a>,
}

#[derive(Debug)]
enum DescriptorOf<'a> {
    Path(OwnedFd, &'a Spot<'a>),
    File(BorrowedFd<'a>),
}

/// What was attempted, and why it failed.
pub(crate) type Failure = (Operation, Errno);

impl AsFd for Handle<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            DescriptorOf::Path(fd, _) => fd.as_fd(),
            DescriptorOf::File(fd) => *fd,
        }
    }
}

impl<'a> Handle<'a> {
    pub(crate) fn of_file(fd: BorrowedFd<'a>) -> Self {
        Self { fd: DescriptorOf::File(fd), reach: Reach::Open(fd) }
    }

    /// Of an `O_PATH` descriptor that is reached through its magic link. Its times cannot be set with it.
    pub(crate) fn of_path(fd: BorrowedFd<'a>, magic: CString) -> Self {
        Self { fd: DescriptorOf::File(fd), reach: Reach::Magic(magic) }
    }
}

/// Metadata in both views, with the key to the virtual one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looked {
    pub(crate) seen: Metadata,
    pub(crate) disk: Metadata,
    pub(crate) key: InodeKey,
    /// Whether something is mounted here, as far as the kernel says (Linux 5.8).
    pub(crate) is_mount_point: bool,
}

impl Inodes {
    pub(crate) fn new(privileges: Privileges, marks: bool) -> Self {
        let table = VirtualTable::default();
        // Where owners are real, others may write in a directory, and a sticky bit means something.
        let marks = marks && privileges.own_files_as.is_some();
        Self { table, privileges, marks, proc_usable: proc_is_usable() }
    }

    /// Looks at `name` in `dir` without following it; an empty name is `dir` itself.
    pub(crate) fn look(&self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Looked, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
        let raw = statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
        Ok(self.interpret(&raw))
    }

    /// What the kernel's answer, with the basic fields and the birth time, means.
    pub(crate) fn interpret(&self, raw: &Statx) -> Looked {
        let disk = metadata(raw);
        let born = if raw.stx_mask & StatxFlags::BTIME.bits() == 0 {
            Time::default()
        } else {
            time(raw.stx_btime)
        };
        let key = InodeKey { dev: disk.dev, ino: disk.ino, born };
        let mut seen = disk;
        if let Some((uid, gid)) = self.privileges.own_files_as {
            seen.uid = if disk.uid == uid { 0 } else { disk.uid };
            seen.gid = if disk.gid == gid { 0 } else { disk.gid };
            if self.marks && disk.uid == uid && is_mark(disk.kind, disk.mode) {
                seen.mode &= !MARK;
            }
        }
        self.table.overlay(key, &disk, &mut seen);
        let is_mount_point = raw.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        Looked { seen, disk, key, is_mount_point }
    }

    pub(crate) fn look_at(&self, handle: &Handle<'_>) -> Result<Looked, Errno> {
        self.look(handle.as_fd(), c"")
    }

    pub(crate) fn handle<'s>(&self, spot: &'s Spot<'s>) -> Result<Handle<'s>, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&spot.dir, &spot.name, flags, Mode::empty())?;
        let reach = Reach::of(&fd, spot, self.proc_usable);
        Ok(Handle { fd: DescriptorOf::Path(fd, spot), reach })
    }

    pub(crate) fn xattrs(&self, handle: &Handle<'_>) -> Result<Xattrs, Errno> {
        let mut xattrs = handle.reach.xattrs()?;
        if self.table.may_have_xattrs() {
            self.table.overlay_xattrs(self.look_at(handle)?.key, &mut xattrs);
        }
        Ok(xattrs)
    }

    /// Sets owner, mode, extended attributes and time in this order: changing the owner clears set-id bits
    /// and capabilities, changing the mode rewrites access control lists, and each touches no earlier one.
    pub(crate) fn set(&self, handle: &Handle<'_>, attributes: &Attributes) -> Result<(), Failure> {
        let before = self.look_at(handle).map_err(|error| (Operation::Find, error))?;
        let mut mode = attributes.mode.filter(|_| before.disk.kind != Kind::Symlink);
        let mut kept_capability = None;
        if attributes.uid.is_some() || attributes.gid.is_some() {
            if before.disk.kind == Kind::Regular && attributes.xattrs.is_none() {
                kept_capability = self.capability(handle);
            }
            if mode.is_none() && before.seen.mode & SET_ID != 0 {
                mode = Some(before.seen.mode);
            }
            self.set_owner(handle, &before, attributes.uid, attributes.gid)
                .map_err(|error| (Operation::SetOwner, error))?;
        }
        if let Some(mode) = mode {
            self.set_mode(handle, &before, mode & 0o7777)
                .map_err(|error| (Operation::SetMode, error))?;
        }
        if let Some(xattrs) = &attributes.xattrs {
            self.set_xattrs(handle, &before, xattrs)
                .map_err(|error| (Operation::SetXattr, error))?;
        } else if let Some(capability) = kept_capability {
            self.set_xattr(handle, &before, CAPABILITY, &capability)
                .map_err(|error| (Operation::SetXattr, error))?;
        }
        if let Some(mtime) = attributes.mtime {
            self.set_mtime(handle, &before, mtime).map_err(|error| (Operation::SetTime, error))?;
        }
        Ok(())
    }

    /// Remembers that the empty file `handle` stands for a device.
    pub(crate) fn set_node(
        &self,
        handle: &Handle<'_>,
        kind: Kind,
        rdev: DeviceNumber,
    ) -> Result<(), Errno> {
        let key = self.look_at(handle)?.key;
        self.table.update(key, |entry| entry.node = Some((kind, rdev)));
        Ok(())
    }

    /// Gives the owner of the file the right to read it (and to write and search a directory) on disk, without
    /// changing the mode that is seen. For what a step left behind that its own user cannot read.
    pub(crate) fn grant_owner(&self, handle: &Handle<'_>) -> Result<(), Errno> {
        let before = self.look_at(handle)?;
        self.set_mode(handle, &before, before.seen.mode)
    }

    pub(crate) fn set_owner(
        &self,
        handle: &Handle<'_>,
        before: &Looked,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<(), Errno> {
        let mut on_disk = (before.disk.uid, before.disk.gid);
        if self.privileges.own_files_as.is_none() {
            // The kernel takes the highest number for "leave as it is", so nobody can own a file as that.
            let user = uid.filter(|&uid| uid != u32::MAX).map(Uid::from_raw);
            let group = gid.filter(|&gid| gid != u32::MAX).map(Gid::from_raw);
            let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
            match chownat(handle, c"", user, group, flags) {
                Ok(()) => {
                    on_disk.0 = user.map_or(on_disk.0, Uid::as_raw);
                    on_disk.1 = group.map_or(on_disk.1, Gid::as_raw);
                }
                // EINVAL: the user namespace does not map that user.
                Err(Errno::PERM | Errno::INVAL) => {}
                Err(error) => return Err(error),
            }
        }
        self.wish_owner(before.key, on_disk, uid, gid);
        Ok(())
    }

    /// Remembers who shall own a file that the disk says others own.
    pub(crate) fn wish_owner(
        &self,
        key: InodeKey,
        on_disk: (u32, u32),
        uid: Option<u32>,
        gid: Option<u32>,
    ) {
        let (own_user, own_group) = self.privileges.own_files_as.unwrap_or((0, 0));
        // What reads right by itself needs no entry; what reads wrong does, also where the disk agrees.
        let uid = uid.map(|uid| wish_of_owner(uid, on_disk.0, own_user));
        let gid = gid.map(|gid| wish_of_owner(gid, on_disk.1, own_group));
        let all_granted =
            uid.is_none_or(|wish| wish.is_none()) && gid.is_none_or(|wish| wish.is_none());
        self.table.change(key, all_granted, |entry| {
            entry.uid = uid.unwrap_or(entry.uid);
            entry.gid = gid.unwrap_or(entry.gid);
        });
    }

    pub(crate) fn set_mode(
        &self,
        handle: &Handle<'_>,
        before: &Looked,
        wanted: u32,
    ) -> Result<(), Errno> {
        let granted = match before.disk.kind {
            _ if self.privileges.ignores_modes => wanted,
            Kind::Directory => wanted | 0o700,
            // The kernel takes set-id bits away when such a process writes, and leaves them when root does. Who may
            // execute as one of many may do so as the owner.
            _ if wanted & 0o111 != 0 => wanted & 0o1777 | 0o700,
            _ => wanted & 0o1777 | 0o600,
        };
        let mark = if self.marks { MARK } else { 0 };
        let granted = if granted == wanted { granted } else { granted | mark };
        let mut on_disk = self.set_mode_on_disk(handle, granted)?;
        // The kernel silently drops set-group-id where the process is not in the group.
        if on_disk != wanted && on_disk & mark != mark {
            on_disk = self.set_mode_on_disk(handle, on_disk | mark)?;
        }
        let wish = if self.marks && is_mark(before.disk.kind, on_disk) {
            Some(Wish { wanted, on_disk })
        } else {
            Wish::unless_granted(wanted, on_disk)
        };
        self.table.change(before.key, wish.is_none(), |entry| entry.mode = wish);
        Ok(())
    }

    /// Tries to set a mode, and returns which one the disk has afterwards.
    fn set_mode_on_disk(&self, handle: &Handle<'_>, mode: u32) -> Result<u32, Errno> {
        match handle.reach.set_mode(Mode::from_raw_mode(mode)) {
            Ok(()) if mode & SET_ID == 0 => Ok(mode),
            Ok(()) | Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => {
                Ok(self.look_at(handle)?.disk.mode)
            }
            Err(error) => Err(error),
        }
    }

    fn set_mtime(&self, handle: &Handle<'_>, before: &Looked, wanted: Time) -> Result<(), Errno> {
        // The kernel takes some numbers beyond a second for "now" and "leave as it is".
        if wanted.nanos >= 1_000_000_000 {
            return Err(Errno::INVAL);
        }
        let stamp = Timespec { tv_sec: wanted.secs, tv_nsec: i64::from(wanted.nanos) };
        let times = Timestamps { last_access: stamp, last_modification: stamp };
        let result = match &handle.fd {
            DescriptorOf::File(fd) => rustix::fs::futimens(fd, &times),
            DescriptorOf::Path(fd, spot) => match utimensat(fd, c"", &times, AtFlags::EMPTY_PATH) {
                // Kernels before 5.8 know no empty path here.
                Err(Errno::INVAL | Errno::NOENT) => {
                    utimensat(&spot.dir, &spot.name, &times, AtFlags::SYMLINK_NOFOLLOW)
                }
                result => result,
            },
        };
        let on_disk = match result {
            Ok(()) if every_disk_holds(wanted) => wanted,
            Ok(()) | Err(Errno::PERM | Errno::ACCESS) => self.look_at(handle)?.disk.mtime,
            Err(error) => return Err(error),
        };
        let wish = Wish::unless_granted(wanted, on_disk);
        self.table.change(before.key, wish.is_none(), |entry| entry.mtime = wish);
        Ok(())
    }

    fn set_xattrs(
        &self,
        handle: &Handle<'_>,
        before: &Looked,
        wanted: &Xattrs,
    ) -> Result<(), Errno> {
        let on_disk = handle.reach.xattrs()?;
        self.table.change(before.key, true, |entry| entry.xattrs.clear());
        for name in on_disk.keys().filter(|&name| !wanted.contains_key(name)) {
            self.remove_xattr(handle, before, name)?;
        }
        for (name, value) in wanted {
            if on_disk.get(name) != Some(value) {
                self.set_xattr(handle, before, name, value)?;
            }
        }
        Ok(())
    }

    pub(crate) fn remove_xattr(
        &self,
        handle: &Handle<'_>,
        before: &Looked,
        name: &[u8],
    ) -> Result<(), Errno> {
        self.table.change(before.key, true, |entry| {
            entry.xattrs.remove(name);
        });
        match handle.reach.remove_xattr(name) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(error) if cannot_hold(error) => {
                // Where there is nothing, nothing need be hidden.
                if handle.reach.xattrs()?.contains_key(name) {
                    self.table.update(before.key, |entry| {
                        entry.xattrs.insert(name.to_vec(), None);
                    });
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn set_xattr(
        &self,
        handle: &Handle<'_>,
        before: &Looked,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), Errno> {
        // An attribute without a name, or with a NUL in it, exists only in archives.
        let tried = if is_machines_own(name) || name.is_empty() || name.contains(&0) {
            Err(Errno::OPNOTSUPP)
        } else {
            handle.reach.set_xattr(name, value)
        };
        match tried {
            Ok(()) => {
                self.table.change(before.key, true, |entry| {
                    entry.xattrs.remove(name);
                });
                Ok(())
            }
            Err(error) if cannot_hold(error) => {
                self.table.update(before.key, |entry| {
                    entry.xattrs.insert(name.to_vec(), Some(value.to_vec()));
                });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn capability(&self, handle: &Handle<'_>) -> Option<Vec<u8>> {
        self.xattrs(handle).ok()?.remove(CAPABILITY)
    }
}

pub(crate) const CAPABILITY: &[u8] = b"security.capability";

/// Whether an extended attribute was refused for what it is: forbidden to this process, unknown to this file
/// system, or larger than it can hold (ext4 says `ENOSPC` for that; a full disk shows at the next write).
fn cannot_hold(error: Errno) -> bool {
    matches!(
        error,
        Errno::PERM
            | Errno::ACCESS
            | Errno::OPNOTSUPP
            | Errno::NOSYS
            | Errno::INVAL
            | Errno::RANGE
            | Errno::TOOBIG
            | Errno::NOSPC
    )
}

fn wish_of_owner(wanted: u32, on_disk: u32, own: u32) -> Option<Wish<u32>> {
    let reads_as = if on_disk == own { 0 } else { on_disk };
    (wanted != reads_as).then_some(Wish { wanted, on_disk })
}

/// File systems differ in range and precision; whole seconds in the range of the oldest are the usual case.
fn every_disk_holds(time: Time) -> bool {
    time.nanos == 0 && (0..1 << 31).contains(&time.secs)
}

fn proc_is_usable() -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(c"/proc/self/fd", flags, Mode::empty());
    let magic = opened.and_then(|fd| rustix::fs::fstatfs(&fd)).map(|found| found.f_type);
    magic == Ok(rustix::fs::PROC_SUPER_MAGIC)
}

fn metadata(raw: &Statx) -> Metadata {
    let file_type = FileType::from_raw_mode(raw.stx_mode.into());
    Metadata {
        kind: kind(file_type),
        mode: u32::from(raw.stx_mode) & 0o7777,
        uid: raw.stx_uid,
        gid: raw.stx_gid,
        size: raw.stx_size,
        mtime: time(raw.stx_mtime),
        ctime: time(raw.stx_ctime),
        dev: rustix::fs::makedev(raw.stx_dev_major, raw.stx_dev_minor),
        ino: raw.stx_ino,
        nlink: raw.stx_nlink,
        rdev: if matches!(file_type, FileType::CharacterDevice | FileType::BlockDevice) {
            DeviceNumber { major: raw.stx_rdev_major, minor: raw.stx_rdev_minor }
        } else {
            DeviceNumber::default()
        },
    }
}

fn kind(file_type: FileType) -> Kind {
    match file_type {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::RegularFile | FileType::Unknown => Kind::Regular,
    }
}

fn time(stamp: StatxTimestamp) -> Time {
    Time { secs: stamp.tv_sec, nanos: stamp.tv_nsec }
}
