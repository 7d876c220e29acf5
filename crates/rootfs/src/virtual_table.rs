//! Attributes that could not be put on disk.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::{DeviceNumber, Kind, Metadata, Time, Xattrs};

/// Which inode: its number may be used again after a file is gone, its birth time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct InodeKey {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) born: Time,
}

/// An attribute as it was wanted, and what the disk says meanwhile.
///
/// When the disk says something else later, somebody changed the file without this crate, such as `chmod` in a
/// `RUN` step, and the wish is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish<T> {
    pub(crate) wanted: T,
    pub(crate) on_disk: T,
}

/// The virtual attributes of one inode.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Virtual {
    pub(crate) uid: Option<Wish<u32>>,
    pub(crate) gid: Option<Wish<u32>>,
    pub(crate) mode: Option<Wish<u32>>,
    pub(crate) mtime: Option<Wish<Time>>,
    /// The device that an empty file stands for.
    pub(crate) node: Option<(Kind, DeviceNumber)>,
    /// `None` hides an attribute that could not be removed.
    pub(crate) xattrs: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// All virtual attributes of a build; usually empty when it runs as root.
#[derive(Debug, Default)]
pub(crate) struct VirtualTable {
    inodes: RwLock<HashMap<InodeKey, Virtual>>,
    /// Whether there ever was an entry. Threads that look at millions of files need not pass the lock to each other then.
    was_used: AtomicBool,
    /// Whether there ever was one with extended attributes, which seldom are virtual where all owners are.
    had_xattrs: AtomicBool,
}

impl<T: PartialEq> Wish<T> {
    /// What to remember after `wanted` was asked for and the disk says `on_disk`: nothing where they agree.
    pub(crate) fn unless_granted(wanted: T, on_disk: T) -> Option<Self> {
        (wanted != on_disk).then_some(Self { wanted, on_disk })
    }
}

fn overlay<T: Copy + PartialEq>(seen: &mut T, on_disk: T, wish: Option<Wish<T>>) {
    if let Some(wish) = wish
        && wish.on_disk == on_disk
    {
        *seen = wish.wanted;
    }
}

impl Virtual {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl VirtualTable {
    pub(crate) fn is_empty(&self) -> bool {
        self.is_unused() || self.inodes.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn is_unused(&self) -> bool {
        !self.was_used.load(Ordering::Acquire)
    }

    /// Replaces in `seen` what is virtual; `disk` is the inode's metadata as the file system has them.
    pub(crate) fn overlay(&self, key: InodeKey, disk: &Metadata, seen: &mut Metadata) {
        if self.is_unused() {
            return;
        }
        let inodes = self.inodes.read().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = inodes.get(&key) else { return };
        overlay(&mut seen.uid, disk.uid, entry.uid);
        overlay(&mut seen.gid, disk.gid, entry.gid);
        overlay(&mut seen.mode, disk.mode, entry.mode);
        overlay(&mut seen.mtime, disk.mtime, entry.mtime);
        if let Some((kind, rdev)) = entry.node
            && disk.kind == Kind::Regular
            && disk.size == 0
        {
            seen.kind = kind;
            seen.rdev = rdev;
        }
    }

    /// Whether extended attributes of some inode may be virtual.
    pub(crate) fn may_have_xattrs(&self) -> bool {
        self.had_xattrs.load(Ordering::Acquire)
    }

    /// Adds and hides extended attributes in `xattrs`, which were read from disk.
    pub(crate) fn overlay_xattrs(&self, key: InodeKey, xattrs: &mut Xattrs) {
        let inodes = self.inodes.read().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = inodes.get(&key) else { return };
        for (name, value) in &entry.xattrs {
            match value {
                Some(value) => xattrs.insert(name.clone(), value.clone()),
                None => xattrs.remove(name),
            };
        }
    }

    /// Whether the mode of an inode is virtual, or was.
    pub(crate) fn has_mode(&self, key: InodeKey) -> bool {
        let inodes = self.inodes.read().unwrap_or_else(PoisonError::into_inner);
        inodes.get(&key).is_some_and(|entry| entry.mode.is_some())
    }

    /// Whether extended attributes of an inode are virtual.
    pub(crate) fn has_xattrs(&self, key: InodeKey) -> bool {
        if !self.may_have_xattrs() {
            return false;
        }
        let inodes = self.inodes.read().unwrap_or_else(PoisonError::into_inner);
        inodes.get(&key).is_some_and(|entry| !entry.xattrs.is_empty())
    }

    /// Changes the entry of an inode; an entry with nothing in it is dropped.
    pub(crate) fn update(&self, key: InodeKey, change: impl FnOnce(&mut Virtual)) {
        self.was_used.store(true, Ordering::Release);
        let mut inodes = self.inodes.write().unwrap_or_else(PoisonError::into_inner);
        let entry = inodes.entry(key).or_default();
        change(entry);
        if !entry.xattrs.is_empty() {
            self.had_xattrs.store(true, Ordering::Release);
        }
        if entry.is_empty() {
            inodes.remove(&key);
        }
    }

    /// Like [`VirtualTable::update`]. A change that only takes something `away` does not make an entry, and does
    /// not take the lock for writing where there is none.
    pub(crate) fn change(&self, key: InodeKey, away: bool, change: impl FnOnce(&mut Virtual)) {
        let known =
            || self.inodes.read().unwrap_or_else(PoisonError::into_inner).contains_key(&key);
        if !away || known() {
            self.update(key, change);
        }
    }

    /// Takes over what another table knows about files that come here.
    pub(crate) fn absorb(&self, other: &Self) {
        if other.is_unused() {
            return;
        }
        let theirs = other.inodes.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.was_used.store(true, Ordering::Release);
        self.had_xattrs.fetch_or(other.had_xattrs.load(Ordering::Acquire), Ordering::AcqRel);
        self.inodes.write().unwrap_or_else(PoisonError::into_inner).extend(theirs);
    }

    /// Called when the last name of an inode is removed.
    pub(crate) fn forget(&self, key: InodeKey) {
        if self.is_unused() {
            return;
        }
        self.inodes.write().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: InodeKey = InodeKey { dev: 1, ino: 2, born: Time { secs: 3, nanos: 4 } };

    fn disk() -> Metadata {
        Metadata {
            kind: Kind::Regular,
            mode: 0o644,
            uid: 1000,
            gid: 1000,
            size: 0,
            mtime: Time::default(),
            ctime: Time::default(),
            dev: 1,
            ino: 2,
            nlink: 1,
            rdev: DeviceNumber::default(),
        }
    }

    fn seen(table: &VirtualTable, key: InodeKey, disk: &Metadata) -> Metadata {
        let mut seen = *disk;
        table.overlay(key, disk, &mut seen);
        seen
    }

    #[test]
    fn a_wish_holds_until_the_disk_changes() {
        let table = VirtualTable::default();
        table.update(KEY, |entry| entry.mode = Wish::unless_granted(0o4755, 0o644));
        assert_eq!(seen(&table, KEY, &disk()).mode, 0o4755);
        let changed = Metadata { mode: 0o600, ..disk() };
        assert_eq!(
            seen(&table, KEY, &changed).mode,
            0o600,
            "chmod in a step wins over an older wish"
        );
    }

    #[test]
    fn an_inode_number_that_is_used_again_starts_without_wishes() {
        let table = VirtualTable::default();
        table.update(KEY, |entry| entry.uid = Wish::unless_granted(33, 1000));
        let reused = InodeKey { born: Time { secs: 9, nanos: 9 }, ..KEY };
        assert_eq!(seen(&table, reused, &disk()).uid, 1000);
    }

    #[test]
    fn a_placeholder_that_was_written_to_is_a_file_again() {
        let table = VirtualTable::default();
        let rdev = DeviceNumber { major: 1, minor: 3 };
        table.update(KEY, |entry| entry.node = Some((Kind::CharDevice, rdev)));
        assert_eq!(seen(&table, KEY, &disk()).kind, Kind::CharDevice);
        assert_eq!(seen(&table, KEY, &Metadata { size: 1, ..disk() }).kind, Kind::Regular);
    }

    #[test]
    fn granted_wishes_take_no_memory() {
        let table = VirtualTable::default();
        table.update(KEY, |entry| entry.uid = Wish::unless_granted(33, 1000));
        assert!(!table.is_empty());
        table.change(KEY, true, |entry| entry.uid = Wish::unless_granted(33, 33));
        assert!(table.is_empty());
    }
}
