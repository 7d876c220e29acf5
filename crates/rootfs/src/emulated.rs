//! Files as a process sees them that believes it is root.
//!
//! The other side of the seam: who answers the system calls of such a process asks here what its files are and changes
//! them here, so that layers, snapshots and the process itself agree. Paths are not resolved here, because they are the
//! process's own; what is held is one descriptor.

use std::ffi::{CStr, CString};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, statx};
use rustix::io::Errno;

use crate::attributes::{CAPABILITY, Handle, Inodes, Looked, MARK, SET_ID, is_mark};
use crate::{DeviceNumber, Kind, Metadata, Root, Xattrs};

const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;

/// The files of a root and of everything around it, by descriptors.
///
/// Owners, modes, devices and capabilities that are set here are seen in the [`Root`] that this was made from, and the
/// other way round. Cheap to clone, and may be used from any thread.
#[derive(Debug, Clone)]
pub struct EmulatedFiles {
    inodes: Arc<Inodes>,
}

impl Root {
    /// The same inodes for whoever emulates system calls.
    pub fn emulated(&self) -> EmulatedFiles {
        EmulatedFiles { inodes: Arc::clone(&self.inodes) }
    }
}

/// What a directory is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenTo {
    /// To find entries.
    Search,
    /// To make and remove them as well.
    Change,
}

/// A file as it was when it was looked at.
#[derive(Debug, Clone, Copy)]
pub struct Sight {
    raw: Statx,
    looked: Looked,
}

impl Sight {
    /// The file as root sees it.
    pub fn metadata(&self) -> &Metadata {
        &self.looked.seen
    }

    /// Major and minor number of the file system that it is in.
    pub fn file_system(&self) -> (u32, u32) {
        (self.raw.stx_dev_major, self.raw.stx_dev_minor)
    }

    /// What `statx(2)` answers to root.
    pub fn status(&self) -> Statx {
        let (mut raw, seen) = (self.raw, &self.looked.seen);
        raw.stx_uid = seen.uid;
        raw.stx_gid = seen.gid;
        raw.stx_rdev_major = seen.rdev.major;
        raw.stx_rdev_minor = seen.rdev.minor;
        let file_type = match seen.kind {
            Kind::CharDevice => FileType::CharacterDevice.as_raw_mode(),
            Kind::BlockDevice => FileType::BlockDevice.as_raw_mode(),
            _ => u32::from(raw.stx_mode) & 0o170_000,
        };
        #[expect(clippy::cast_possible_truncation, reason = "sixteen bits of each")]
        let mode = (file_type | seen.mode) as u16;
        raw.stx_mode = mode;
        raw
    }
}

impl EmulatedFiles {
    /// `statx(2)`. At least the basic fields and the birth time are asked for.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn look(
        &self,
        directory: BorrowedFd<'_>,
        path: &CStr,
        flags: AtFlags,
        mask: StatxFlags,
    ) -> Result<Sight, Errno> {
        let mask = mask | StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let raw = statx(directory, path, flags, mask)?;
        Ok(Sight { raw, looked: self.inodes.interpret(&raw) })
    }

    /// Looks at what `file`, which may be an `O_PATH` descriptor, stands for.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn look_at(&self, file: BorrowedFd<'_>) -> Result<Sight, Errno> {
        self.look(file, c"", AtFlags::EMPTY_PATH, StatxFlags::empty())
    }

    /// Whether the file system tells when a file was made. Where it does not, a new file could be taken for one that is gone.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn knows_births(&self, file: BorrowedFd<'_>) -> Result<bool, Errno> {
        let found = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BTIME)?;
        Ok(found.stx_mask & StatxFlags::BTIME.bits() != 0)
    }

    /// `chown(2)` by root: takes set-user-id, set-group-id where the group may execute, and capabilities away, as the
    /// kernel does. `before` is what was seen of `file`.
    ///
    /// # Errors
    ///
    /// Those of the kernel, but for a lack of rights.
    pub fn change_owner(
        &self,
        file: BorrowedFd<'_>,
        before: &Sight,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<(), Errno> {
        let (handle, before) = (handle(file), &before.looked);
        self.inodes.set_owner(&handle, before, uid, gid)?;
        if matches!(before.seen.kind, Kind::Directory | Kind::Symlink) {
            return Ok(());
        }
        let mut lost = before.seen.mode & SET_USER_ID;
        if before.seen.mode & GROUP_EXECUTE != 0 {
            lost |= before.seen.mode & SET_GROUP_ID;
        }
        if lost != 0 {
            self.inodes.set_mode(&handle, before, before.seen.mode & !lost)?;
        }
        if self.inodes.privileges.sets_capabilities {
            return self.inodes.remove_xattr(&handle, before, CAPABILITY);
        }
        self.forget_capability(before);
        Ok(())
    }

    fn forget_capability(&self, looked: &Looked) {
        self.inodes.table.change(looked.key, true, |entry| {
            entry.xattrs.remove(CAPABILITY);
        });
    }

    /// Whether a change of the owner would change nothing.
    pub fn has_owner(&self, sight: &Sight, uid: Option<u32>, gid: Option<u32>) -> bool {
        let seen = sight.metadata();
        seen.mode & SET_ID == 0
            && uid.is_none_or(|uid| uid == seen.uid)
            && gid.is_none_or(|gid| gid == seen.gid)
            && !self.inodes.privileges.sets_capabilities
            && !self.has_virtual_xattrs(sight)
    }

    /// The same where owners are kept beside files and nothing else changes, which takes no look at the file; false, and
    /// nothing is done, in any other case.
    pub fn change_owner_beside(&self, before: &Sight, uid: Option<u32>, gid: Option<u32>) -> bool {
        let (before, privileges) = (&before.looked, self.inodes.privileges);
        let changes_mode = before.seen.mode & SET_ID != 0 && !before.seen.is_dir();
        if privileges.own_files_as.is_none() || privileges.sets_capabilities || changes_mode {
            return false;
        }
        let on_disk = (before.disk.uid, before.disk.gid);
        self.inodes.wish_owner(before.key, on_disk, uid, gid);
        self.forget_capability(before);
        true
    }

    /// `chmod(2)` by root; the permission bits with set-user-id, set-group-id and sticky. `before` is what was seen of
    /// `file`.
    ///
    /// # Errors
    ///
    /// Those of the kernel, but for a lack of rights.
    pub fn change_mode(
        &self,
        file: BorrowedFd<'_>,
        before: &Sight,
        mode: u32,
    ) -> Result<(), Errno> {
        if before.looked.disk.kind == Kind::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        self.inodes.set_mode(&handle(file), &before.looked, mode & 0o7777)
    }

    /// Gives the builder back the rights in a directory of its own that a command has taken from it without a word; root needs
    /// none. The mode that is seen stays as it is. Where the kernel refuses that, nothing is done.
    pub fn keep_open(&self, directory: BorrowedFd<'_>, sight: &Sight, purpose: OpenTo) {
        if !self.is_open(sight, purpose) {
            self.inodes.grant_owner(&handle(directory)).ok();
        }
    }

    /// Whether a file needs no [`EmulatedFiles::keep_open`].
    pub fn is_open(&self, sight: &Sight, purpose: OpenTo) -> bool {
        let needed = match purpose {
            OpenTo::Search => 0o100,
            OpenTo::Change => 0o300,
        };
        let disk = &sight.looked.disk;
        let is_own = self.inodes.privileges.own_files_as.is_some_and(|(uid, _)| uid == disk.uid);
        disk.kind != Kind::Directory || disk.mode & needed == needed || !is_own
    }

    /// Says whose a file is that was just made, and its mode where the one on disk is not the one that was wanted.
    ///
    /// # Errors
    ///
    /// Those of the kernel, but for a lack of rights.
    pub fn adopt(
        &self,
        file: BorrowedFd<'_>,
        (uid, gid): (u32, u32),
        mode: Option<u32>,
    ) -> Result<(), Errno> {
        let handle = handle(file);
        let before = self.inodes.look_at(&handle)?;
        self.inodes.set_owner(&handle, &before, Some(uid), Some(gid))?;
        if let Some(mode) = mode.filter(|_| before.disk.kind != Kind::Symlink) {
            self.inodes.set_mode(&handle, &before, mode & 0o7777)?;
        }
        Ok(())
    }

    /// Lets an empty file stand for a device.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn set_device(
        &self,
        file: BorrowedFd<'_>,
        kind: Kind,
        device: DeviceNumber,
    ) -> Result<(), Errno> {
        self.inodes.set_node(&handle(file), kind, device)
    }

    /// All extended attributes that an image can have.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn xattrs(&self, file: BorrowedFd<'_>) -> Result<Xattrs, Errno> {
        self.inodes.xattrs(&handle(file))
    }

    /// Whether the kernel alone gives the file this mode: the disk can hold it, and a mark of an older wish goes away.
    pub fn holds_mode(&self, sight: &Sight, mode: u32) -> bool {
        let looked = &sight.looked;
        let executes = looked.disk.kind == Kind::Directory || mode & 0o111 != 0;
        let needed = if executes { 0o700 } else { 0o600 };
        let own = self.inodes.privileges.own_files_as;
        mode & (needed | SET_ID) == needed
            && own.is_none_or(|(uid, _)| uid == looked.disk.uid)
            && !(mode & MARK != 0 && is_mark(looked.disk.kind, mode))
            && (!self.has_virtual_mode(sight) || (self.marks_modes() && mode & MARK == 0))
    }

    /// Whether a mode on the disk tells that another one is seen, so that who changes it need not ask.
    pub fn marks_modes(&self) -> bool {
        self.inodes.marks
    }

    /// Whether the file has, or had, another mode than on the disk.
    pub fn has_virtual_mode(&self, sight: &Sight) -> bool {
        self.inodes.table.has_mode(sight.looked.key)
    }

    /// Whether any file may have other extended attributes than on the disk.
    pub fn may_have_virtual_xattrs(&self) -> bool {
        self.inodes.table.may_have_xattrs()
    }

    /// Whether the file has other extended attributes than on the disk.
    pub fn has_virtual_xattrs(&self, sight: &Sight) -> bool {
        self.inodes.table.has_xattrs(sight.looked.key)
    }

    /// Sets or, with `None`, removes `security.capability`.
    ///
    /// # Errors
    ///
    /// Those of the kernel, but for a lack of rights.
    pub fn set_capability(
        &self,
        file: BorrowedFd<'_>,
        capability: Option<&[u8]>,
    ) -> Result<(), Errno> {
        let handle = handle(file);
        let before = self.inodes.look_at(&handle)?;
        match capability {
            Some(capability) => self.inodes.set_xattr(&handle, &before, CAPABILITY, capability),
            None => self.inodes.remove_xattr(&handle, &before, CAPABILITY),
        }
    }

    /// Whether a set-id bit or a capability of `metadata` matters when the file is executed.
    pub fn changes_who_executes(metadata: &Metadata) -> bool {
        metadata.kind == Kind::Regular && metadata.mode & SET_ID != 0
    }
}

/// `/proc` is there wherever calls are emulated: the answers are found through it.
fn handle(file: BorrowedFd<'_>) -> Handle<'_> {
    let magic = CString::new(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()));
    Handle::of_path(file, magic.unwrap_or_default())
}
