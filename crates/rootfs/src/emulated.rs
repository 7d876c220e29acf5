//! Files as a process sees them that believes it is root.
//!
//! The other side of the seam: who answers the system calls of such a process asks here what its files are and changes
//! them here, so that layers, snapshots and the process itself agree. Paths are not resolved here, because they are the
//! process's own; what is held is one descriptor.

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Statx, StatxFlags, statx};
use rustix::io::Errno;

use crate::attributes::{CAPABILITY, Handle, Inodes, SET_ID};
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

impl EmulatedFiles {
    /// `statx(2)` as root would see the answer. At least the basic fields and the birth time are asked for.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn status(
        &self,
        directory: BorrowedFd<'_>,
        path: &std::ffi::CStr,
        flags: AtFlags,
        mask: StatxFlags,
    ) -> Result<Statx, Errno> {
        let mask = mask | StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let mut raw = statx(directory, path, flags, mask)?;
        let seen = self.inodes.interpret(&raw).seen;
        raw.stx_uid = seen.uid;
        raw.stx_gid = seen.gid;
        raw.stx_rdev_major = seen.rdev.major;
        raw.stx_rdev_minor = seen.rdev.minor;
        let file_type = match seen.kind {
            Kind::CharDevice => libc_type(rustix::fs::FileType::CharacterDevice),
            Kind::BlockDevice => libc_type(rustix::fs::FileType::BlockDevice),
            _ => u32::from(raw.stx_mode) & 0o170_000,
        };
        #[expect(clippy::cast_possible_truncation, reason = "sixteen bits of each")]
        let mode = (file_type | seen.mode) as u16;
        raw.stx_mode = mode;
        Ok(raw)
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

    /// What the file is that `file`, which may be an `O_PATH` descriptor, stands for.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn metadata(&self, file: BorrowedFd<'_>) -> Result<Metadata, Errno> {
        self.inodes.look(file, c"").map(|looked| looked.seen)
    }

    /// `chown(2)` by root: takes set-user-id, set-group-id where the group may execute, and capabilities away, as the
    /// kernel does.
    ///
    /// # Errors
    ///
    /// Those of the kernel, but for a lack of rights.
    pub fn change_owner(
        &self,
        file: BorrowedFd<'_>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<(), Errno> {
        let handle = handle(file);
        let before = self.inodes.look_at(&handle)?;
        self.inodes.set_owner(&handle, &before, uid, gid)?;
        if matches!(before.seen.kind, Kind::Directory | Kind::Symlink) {
            return Ok(());
        }
        let mut lost = before.seen.mode & SET_USER_ID;
        if before.seen.mode & GROUP_EXECUTE != 0 {
            lost |= before.seen.mode & SET_GROUP_ID;
        }
        if lost != 0 {
            let before = self.inodes.look_at(&handle)?;
            self.inodes.set_mode(&handle, &before, before.seen.mode & !lost)?;
        }
        self.inodes.table.change(before.key, true, |entry| {
            entry.xattrs.remove(CAPABILITY);
        });
        Ok(())
    }

    /// `chmod(2)` by root; the permission bits with set-user-id, set-group-id and sticky.
    ///
    /// # Errors
    ///
    /// Those of the kernel, but for a lack of rights.
    pub fn change_mode(&self, file: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
        let handle = handle(file);
        let before = self.inodes.look_at(&handle)?;
        if before.disk.kind == Kind::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        self.inodes.set_mode(&handle, &before, mode & 0o7777)
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
            let before = self.inodes.look_at(&handle)?;
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

fn libc_type(file_type: rustix::fs::FileType) -> u32 {
    file_type.as_raw_mode()
}

/// `/proc` is there wherever calls are emulated: the answers are found through it.
fn handle(file: BorrowedFd<'_>) -> Handle<'_> {
    let magic = CString::new(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()));
    Handle::of_path(file, magic.unwrap_or_default())
}
