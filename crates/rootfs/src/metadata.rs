//! What is known about one file without reading it.

use std::collections::BTreeMap;

/// Extended attributes by name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the documentation")]
#[repr(u8)]
pub enum Kind {
    Regular,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

/// Seconds and nanoseconds since 1970; seconds may be negative, nanoseconds count forward from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub struct Time {
    pub secs: i64,
    /// Less than 1 000 000 000.
    pub nanos: u32,
}

/// Which device a device node stands for; 0:0 for everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub struct DeviceNumber {
    pub major: u32,
    pub minor: u32,
}

/// A file's metadata as the image sees it: what is on disk, overlaid with what is virtual.
///
/// `dev`, `ino`, `ctime` and `nlink` are always the file system's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What the file is.
    pub kind: Kind,
    /// The permission bits with set-user-id, set-group-id and sticky, `0o7777` at most.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Bytes of content; for a link the length of its target.
    pub size: u64,
    /// When the content last changed, or what somebody set it to.
    pub mtime: Time,
    /// When the inode last changed; user space cannot set it.
    pub ctime: Time,
    /// The file system.
    pub dev: u64,
    /// The inode on that file system.
    pub ino: u64,
    /// How many names the inode has.
    pub nlink: u32,
    /// The device that a device node stands for.
    pub rdev: DeviceNumber,
}

/// What to set on a file; `None` leaves as it is.
///
/// `xattrs` is the complete set: others that the file has are removed, except those that only the kernel may
/// touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// The permission bits with set-user-id, set-group-id and sticky. Ignored on symbolic links, which have none.
    pub mode: Option<u32>,
    /// The modification time; the access time is set to the same.
    pub mtime: Option<Time>,
    /// All extended attributes.
    pub xattrs: Option<Xattrs>,
}

impl Kind {
    /// Whether this is a character or block device.
    pub fn is_device(self) -> bool {
        matches!(self, Self::CharDevice | Self::BlockDevice)
    }
}

impl Metadata {
    /// Whether this is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Whether this is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == Kind::Regular
    }

    /// Whether this is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind == Kind::Symlink
    }

    /// Owner, mode and time, to set on another file; extended attributes are not among the metadata.
    pub fn attributes(&self) -> Attributes {
        Attributes {
            uid: Some(self.uid),
            gid: Some(self.gid),
            mode: (!self.is_symlink()).then_some(self.mode),
            mtime: Some(self.mtime),
            xattrs: None,
        }
    }
}
