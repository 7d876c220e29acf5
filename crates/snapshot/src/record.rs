//! One file in 64 bytes.

use ebiko_rootfs::{DeviceNumber, Kind, Metadata, Time};

use crate::numbers::{FileNumbers, Numbers, OWNER_UNKNOWN};
use crate::{ContentHash, Entry};

/// What the index keeps of one file, besides its name.
///
/// There are as many of these as files, so every byte counts: the layout has no padding, the kind shares a word
/// with the mode, and fields that no kind of file needs together share a place.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Record {
    pub(crate) content: [u8; 16],
    /// Regular files and links: the size. Device nodes: the device number. Directories: where their children are.
    extra: u64,
    ino: u64,
    mtime: Nanos,
    ctime: Nanos,
    /// Which set of extended attributes; see [`crate::numbers::XattrSets`].
    pub(crate) xattrs: u16,
    numbers: FileNumbers,
    kind_and_mode: u16,
    /// Where `children.rs` keeps the name.
    pub(crate) name_start: u16,
    pub(crate) name_len: u8,
    flags: u8,
    /// The layer that wrote this file.
    pub(crate) written: u16,
    /// The last layer that wrote something beneath this directory.
    pub(crate) written_below: u16,
}

const _: () = assert!(size_of::<Record>() == 64, "the promise of 120 bytes per file rests on this");

/// Bits of [`Record::flags`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Flag {
    /// `content` is what the file holds.
    HasContent = 1,
    /// The inode has more names than this.
    Linked = 2,
    /// The file may have changed after the look without a new `ctime`.
    Racy = 4,
    /// Found changed by the look that is under way.
    Changed = 8,
    /// Found missing by the look that is under way.
    Gone = 16,
    /// Not there before the look that is under way.
    Added = 32,
    /// In the root, and not on its disk; see [`crate::Snapshot::record_unwritten`].
    Unwritten = 64,
}

/// The index of a set of extended attributes that nobody has read.
pub(crate) const XATTRS_UNKNOWN: u16 = u16::MAX;

impl Record {
    /// What `metadata` says; content and extended attributes unknown.
    pub(crate) fn new(metadata: &Metadata, numbers: FileNumbers) -> Self {
        let mut record = Self {
            content: [0; 16],
            extra: 0,
            ino: 0,
            mtime: Nanos(0),
            ctime: Nanos(0),
            xattrs: XATTRS_UNKNOWN,
            numbers,
            kind_and_mode: 0,
            name_start: 0,
            name_len: 0,
            flags: 0,
            written: 0,
            written_below: 0,
        };
        record.refresh(metadata, numbers);
        record
    }

    /// Takes over what `metadata` says of a file on disk. Content, extended attributes, other flags, and a directory's
    /// children stay, unless the kind changes.
    pub(crate) fn refresh(&mut self, metadata: &Metadata, numbers: FileNumbers) {
        if self.kind() != metadata.kind {
            self.extra = 0;
            self.forget_content();
        }
        self.kind_and_mode = (metadata.kind as u16) << 12 | permission_bits(metadata);
        match metadata.kind {
            Kind::Regular | Kind::Symlink => self.extra = metadata.size,
            Kind::CharDevice | Kind::BlockDevice => self.extra = join(metadata.rdev),
            Kind::Directory | Kind::Fifo | Kind::Socket => {}
        }
        self.numbers = numbers;
        self.ino = metadata.ino;
        (self.mtime, self.ctime) = (Nanos::of(metadata.mtime), Nanos::of(metadata.ctime));
        self.set(Flag::Linked, is_linked(metadata));
        self.set(Flag::Unwritten, false);
    }

    pub(crate) fn kind(&self) -> Kind {
        const KINDS: [Kind; 7] = [
            Kind::Regular,
            Kind::Directory,
            Kind::Symlink,
            Kind::CharDevice,
            Kind::BlockDevice,
            Kind::Fifo,
            Kind::Socket,
        ];
        KINDS.get(usize::from(self.kind_and_mode >> 12)).copied().unwrap_or(Kind::Socket)
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind() == Kind::Directory
    }

    /// Where a directory's children are.
    pub(crate) fn directory(&self) -> Option<u32> {
        self.is_dir().then(|| u32::try_from(self.extra).ok()).flatten()
    }

    pub(crate) fn set_directory(&mut self, id: u32) {
        self.extra = u64::from(id);
    }

    pub(crate) fn same_mtime(&self, metadata: &Metadata) -> bool {
        self.mtime == Nanos::of(metadata.mtime)
    }

    pub(crate) fn ctime(&self) -> Time {
        self.ctime.time()
    }

    /// The inode, unique together with the device.
    pub(crate) fn inode(&self) -> (u16, u64) {
        (self.numbers.device, self.ino)
    }

    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.flags & flag as u8 != 0
    }

    pub(crate) fn set(&mut self, flag: Flag, value: bool) {
        if value {
            self.flags |= flag as u8;
        } else {
            self.flags &= !(flag as u8);
        }
    }

    pub(crate) fn content(&self) -> Option<ContentHash> {
        self.has(Flag::HasContent).then_some(ContentHash(self.content))
    }

    pub(crate) fn set_content(&mut self, hash: ContentHash) {
        self.content = hash.0;
        self.set(Flag::HasContent, true);
    }

    pub(crate) fn forget_content(&mut self) {
        self.content = [0; 16];
        self.set(Flag::HasContent, false);
    }

    /// Same mode and owner.
    pub(crate) fn same_permissions(&self, metadata: &Metadata, numbers: FileNumbers) -> bool {
        self.kind_and_mode & 0o7777 == permission_bits(metadata)
            && numbers.owner != OWNER_UNKNOWN
            && self.numbers.owner == numbers.owner
    }

    /// Same size (or device number, by kind); directories have none.
    pub(crate) fn same_extent(&self, metadata: &Metadata) -> bool {
        match metadata.kind {
            Kind::Regular | Kind::Symlink => self.extra == metadata.size,
            Kind::CharDevice | Kind::BlockDevice => self.extra == join(metadata.rdev),
            Kind::Directory | Kind::Fifo | Kind::Socket => true,
        }
    }

    /// Same inode, and nobody touched it since.
    pub(crate) fn is_untouched(&self, metadata: &Metadata, numbers: FileNumbers) -> bool {
        self.inode() == (numbers.device, metadata.ino) && self.ctime == Nanos::of(metadata.ctime)
            // Virtual attributes change without a `ctime`.
            && self.kind() == metadata.kind && self.same_permissions(metadata, numbers)
            && self.same_extent(metadata) && self.same_mtime(metadata)
    }

    pub(crate) fn to_entry(self, known: &Numbers) -> Entry {
        let (uid, gid) = known.owner(self.numbers);
        let kind = self.kind();
        let (size, rdev) = match kind {
            Kind::Regular | Kind::Symlink => (self.extra, DeviceNumber::default()),
            Kind::CharDevice | Kind::BlockDevice => (0, split(self.extra)),
            Kind::Directory | Kind::Fifo | Kind::Socket => (0, DeviceNumber::default()),
        };
        Entry {
            kind,
            mode: u32::from(self.kind_and_mode & 0o7777),
            uid,
            gid,
            size,
            mtime: self.mtime.time(),
            ctime: self.ctime.time(),
            ino: self.ino,
            rdev,
            content: self.content(),
            is_linked: self.has(Flag::Linked),
        }
    }
}

/// A time in nanoseconds since 1970, modulo 2^64: exact from 1678 to 2262. Outside of that, times that are a multiple of
/// 584 years apart count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Nanos(i64);

const NANOS_IN_SECOND: i64 = 1_000_000_000;

impl Nanos {
    fn of(time: Time) -> Self {
        Self(time.secs.wrapping_mul(NANOS_IN_SECOND).wrapping_add(i64::from(time.nanos)))
    }

    fn time(self) -> Time {
        let nanos = u32::try_from(self.0.rem_euclid(NANOS_IN_SECOND)).unwrap_or(0);
        Time { secs: self.0.div_euclid(NANOS_IN_SECOND), nanos }
    }
}

/// Whether the file has other names. Directories have a link for every subdirectory, which is not that.
pub(crate) fn is_linked(metadata: &Metadata) -> bool {
    metadata.nlink > 1 && metadata.kind != Kind::Directory
}

fn permission_bits(metadata: &Metadata) -> u16 {
    (metadata.mode & 0o7777) as u16
}

fn join(device: DeviceNumber) -> u64 {
    u64::from(device.major) << 32 | u64::from(device.minor)
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of what `join` made")]
fn split(device: u64) -> DeviceNumber {
    DeviceNumber { major: (device >> 32) as u32, minor: device as u32 }
}
