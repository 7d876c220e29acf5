//! Extended attributes of one inode on disk.

use std::ffi::CString;

use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    Mode, OFlags, XattrFlags, fgetxattr, fgetxattr_query, flistxattr, flistxattr_query,
    fremovexattr, fsetxattr, fstat, getxattr, getxattr_query, listxattr, listxattr_query, openat,
    removexattr, setxattr,
};
use rustix::io::Errno;

use crate::Xattrs;
use crate::resolve::Spot;

/// Names that belong to the machine and not to an image: labels of security modules, integrity signatures,
/// the bookkeeping of overlay and network file systems. They are neither read from disk nor written there.
const MACHINES_OWN: [&[u8]; 9] = [
    b"security.selinux",
    b"security.SMACK64",
    b"security.apparmor",
    b"security.ima",
    b"security.evm",
    b"trusted.overlay.",
    b"user.overlay.",
    b"system.nfs4_",
    b"btrfs.compression",
];

pub(crate) fn is_machines_own(name: &[u8]) -> bool {
    MACHINES_OWN.iter().any(|prefix| name.starts_with(prefix))
}

/// How the mode and extended attributes of an inode are reached, which `O_PATH` descriptors do not allow.
#[derive(Debug)]
pub(crate) enum Reach<'a> {
    /// A descriptor open for reading or writing.
    Open(BorrowedFd<'a>),
    /// The same, opened for this purpose.
    Reopened(OwnedFd),
    /// The magic link of an `O_PATH` descriptor, which leads to that very inode, be it a symbolic link.
    Magic(CString),
    /// No way without `/proc`; such attributes become virtual.
    None,
}

impl Reach<'_> {
    /// Prefers the magic link, because opening a device or a FIFO acts on it.
    pub(crate) fn of(fd: &OwnedFd, spot: &Spot<'_>, proc_usable: bool) -> Self {
        if proc_usable {
            let magic = format!("/proc/self/fd/{}", fd.as_raw_fd());
            return CString::new(magic).map_or(Self::None, Self::Magic);
        }
        Self::reopen(fd, spot).unwrap_or(Self::None)
    }

    fn reopen(fd: &OwnedFd, spot: &Spot<'_>) -> Result<Self, Errno> {
        let wanted = fstat(fd)?;
        match rustix::fs::FileType::from_raw_mode(wanted.st_mode) {
            rustix::fs::FileType::RegularFile | rustix::fs::FileType::Directory => {}
            _ => return Ok(Self::None),
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = openat(&spot.dir, &spot.name, flags, Mode::empty())?;
        let found = fstat(&opened)?;
        let same = (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino);
        Ok(if same { Self::Reopened(opened) } else { Self::None })
    }

    pub(crate) fn set_mode(&self, mode: Mode) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fchmod(fd, mode),
            Self::Reopened(fd) => rustix::fs::fchmod(fd, mode),
            Self::Magic(path) => rustix::fs::chmod(path, mode),
            Self::None => Err(Errno::PERM),
        }
    }

    /// All extended attributes that an image can have.
    pub(crate) fn xattrs(&self) -> Result<Xattrs, Errno> {
        let mut xattrs = Xattrs::new();
        let names = match self.names() {
            Ok(names) => names,
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(xattrs),
            Err(error) => return Err(error),
        };
        let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        for name in names.filter(|name| !is_machines_own(name)) {
            match self.get(name) {
                Ok(value) => {
                    xattrs.insert(name.to_vec(), value);
                }
                // Removed meanwhile, or listed by a file system that does not let this process read it.
                Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(xattrs)
    }

    fn names(&self) -> Result<Vec<u8>, Errno> {
        read_sized(
            || match self {
                Self::Open(fd) => flistxattr_query(fd),
                Self::Reopened(fd) => flistxattr_query(fd),
                Self::Magic(path) => listxattr_query(path),
                Self::None => Err(Errno::OPNOTSUPP),
            },
            |buffer| match self {
                Self::Open(fd) => flistxattr(fd, spare_capacity(buffer)),
                Self::Reopened(fd) => flistxattr(fd, spare_capacity(buffer)),
                Self::Magic(path) => listxattr(path, spare_capacity(buffer)),
                Self::None => Err(Errno::OPNOTSUPP),
            },
        )
    }

    fn get(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        read_sized(
            || match self {
                Self::Open(fd) => fgetxattr_query(fd, name),
                Self::Reopened(fd) => fgetxattr_query(fd, name),
                Self::Magic(path) => getxattr_query(path, name),
                Self::None => Err(Errno::OPNOTSUPP),
            },
            |buffer| match self {
                Self::Open(fd) => fgetxattr(fd, name, spare_capacity(buffer)),
                Self::Reopened(fd) => fgetxattr(fd, name, spare_capacity(buffer)),
                Self::Magic(path) => getxattr(path, name, spare_capacity(buffer)),
                Self::None => Err(Errno::OPNOTSUPP),
            },
        )
    }

    pub(crate) fn set_xattr(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        let flags = XattrFlags::empty();
        match self {
            Self::Open(fd) => fsetxattr(fd, name, value, flags),
            Self::Reopened(fd) => fsetxattr(fd.as_fd(), name, value, flags),
            Self::Magic(path) => setxattr(path, name, value, flags),
            Self::None => Err(Errno::OPNOTSUPP),
        }
    }

    pub(crate) fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fremovexattr(fd, name),
            Self::Reopened(fd) => fremovexattr(fd, name),
            Self::Magic(path) => removexattr(path, name),
            Self::None => Err(Errno::OPNOTSUPP),
        }
    }
}

/// Asks for the size, then for the bytes, until nobody changes the size in between.
fn read_sized(
    query: impl Fn() -> Result<usize, Errno>,
    read: impl Fn(&mut Vec<u8>) -> Result<usize, Errno>,
) -> Result<Vec<u8>, Errno> {
    loop {
        let size = query()?;
        let mut buffer = Vec::with_capacity(size);
        // With no capacity the kernel would answer the size instead of the bytes.
        if size == 0 {
            return Ok(buffer);
        }
        match read(&mut buffer) {
            Ok(_) => return Ok(buffer),
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error),
        }
    }
}
