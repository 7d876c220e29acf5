//! Small numbers for what many files have in common, so that a record is small.

use std::collections::HashMap;

use ebiko_rootfs::{Metadata, Xattrs};

use crate::ContentHash;
use crate::record::XATTRS_UNKNOWN;

/// The owner of a file where more owners were seen than there are numbers: equal to none, itself included.
pub(crate) const OWNER_UNKNOWN: u16 = u16::MAX;

/// The numbers of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileNumbers {
    /// Which file system.
    pub(crate) device: u16,
    /// Which user and group.
    pub(crate) owner: u16,
}

impl FileNumbers {
    /// Of a file that is on no file system and belongs to nobody.
    pub(crate) const NONE: Self = Self { device: u16::MAX, owner: OWNER_UNKNOWN };
}

/// The file systems and owners seen.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    devices: Vec<u64>,
    owners: Vec<(u32, u32)>,
    by_owner: HashMap<(u32, u32), u16>,
}

/// The sets of extended attributes seen. Most files have none, and many that have any have the same.
#[derive(Debug, Default)]
pub(crate) struct XattrSets {
    numbers: HashMap<ContentHash, u16>,
}

impl Numbers {
    pub(crate) fn of(&mut self, metadata: &Metadata) -> FileNumbers {
        let known = self.devices.iter().position(|known| *known == metadata.dev);
        let device = known.unwrap_or_else(|| {
            self.devices.push(metadata.dev);
            self.devices.len() - 1
        });
        // More file systems than that share one number; inode numbers still tell most files apart.
        let device = u16::try_from(device).unwrap_or(u16::MAX);
        FileNumbers { device, owner: self.number_of_owner((metadata.uid, metadata.gid)) }
    }

    fn number_of_owner(&mut self, owner: (u32, u32)) -> u16 {
        if let Some(number) = self.by_owner.get(&owner) {
            return *number;
        }
        let number = u16::try_from(self.owners.len()).unwrap_or(OWNER_UNKNOWN);
        if number != OWNER_UNKNOWN {
            self.owners.push(owner);
            self.by_owner.insert(owner, number);
        }
        number
    }

    /// User and group; those of nobody where they are not known.
    pub(crate) fn owner(&self, numbers: FileNumbers) -> (u32, u32) {
        self.owners.get(usize::from(numbers.owner)).copied().unwrap_or((u32::MAX, u32::MAX))
    }

    pub(crate) fn heap_size(&self) -> usize {
        self.devices.capacity() * size_of::<u64>()
            + self.owners.capacity() * size_of::<(u32, u32)>()
            + self.by_owner.capacity() * size_of::<((u32, u32), u16)>()
    }
}

impl XattrSets {
    /// 0 for the empty set. Where more sets were seen than there are numbers, the answer is that nothing is known.
    pub(crate) fn number(&mut self, xattrs: &Xattrs) -> u16 {
        let Some(hash) = ContentHash::of_xattrs(xattrs) else { return 0 };
        if let Some(number) = self.numbers.get(&hash) {
            return *number;
        }
        let next = u16::try_from(self.numbers.len() + 1).unwrap_or(XATTRS_UNKNOWN);
        if next != XATTRS_UNKNOWN {
            self.numbers.insert(hash, next);
        }
        next
    }

    pub(crate) fn heap_size(&self) -> usize {
        self.numbers.capacity() * size_of::<(ContentHash, u16)>()
    }
}

#[cfg(test)]
mod tests {
    use ebiko_rootfs::{DeviceNumber, Kind, Time};

    use super::*;

    fn owned_by(uid: u32) -> Metadata {
        Metadata {
            kind: Kind::Regular,
            mode: 0o644,
            uid,
            gid: uid,
            size: 0,
            mtime: Time::default(),
            ctime: Time::default(),
            dev: 1,
            ino: 1,
            nlink: 1,
            rdev: DeviceNumber::default(),
        }
    }

    #[test]
    fn an_owner_beyond_the_last_number_is_like_no_other() {
        let mut numbers = Numbers::default();
        for uid in 0..u32::from(OWNER_UNKNOWN) {
            let found = numbers.of(&owned_by(uid));
            assert_eq!(numbers.owner(found), (uid, uid));
        }
        let beyond = numbers.of(&owned_by(1 << 20));
        assert_eq!(beyond.owner, OWNER_UNKNOWN);
        let record = crate::record::Record::new(&owned_by(1 << 20), beyond);
        assert!(!record.same_permissions(&owned_by(1 << 20), beyond));
        assert_eq!(numbers.of(&owned_by(7)).owner, 7);
    }

    #[test]
    fn sets_beyond_the_last_number_are_unknown() {
        let mut sets = XattrSets::default();
        let set = |value: u32| Xattrs::from([(b"user.a".to_vec(), value.to_le_bytes().to_vec())]);
        assert_eq!(sets.number(&Xattrs::new()), 0);
        for value in 1..u32::from(XATTRS_UNKNOWN) {
            assert_eq!(u32::from(sets.number(&set(value))), value);
        }
        assert_eq!(sets.number(&set(1 << 20)), XATTRS_UNKNOWN);
        assert_eq!(sets.number(&set(5)), 5);
    }
}
