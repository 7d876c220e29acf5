//! Files that are in the root and not on its disk.

use ebiko_rootfs::{Kind, Metadata, RootPath, Xattrs};

use crate::record::Flag;
use crate::{ContentHash, Entry, Snapshot};

/// The file system that such files are said to be on. The kernel's device numbers have 32 bits.
const NOWHERE: u64 = u64::MAX;

impl Snapshot {
    /// Takes note of a regular file as [`Snapshot::record`] does, where the caller has read it and not written it, because
    /// nobody will ask for its content: only for what there is when something else takes its place.
    ///
    /// Of `metadata`, device, inode, `ctime` and number of names are not taken over. A look that finds nothing at `path`
    /// takes the file for untouched, and one that finds something takes that for another file.
    pub fn record_unwritten(
        &mut self,
        path: &RootPath,
        metadata: &Metadata,
        content: Option<ContentHash>,
        xattrs: &Xattrs,
    ) {
        self.unwritten += 1;
        let metadata = Metadata {
            kind: Kind::Regular,
            dev: NOWHERE,
            ino: self.unwritten,
            ctime: ebiko_rootfs::Time::default(),
            nlink: 1,
            ..*metadata
        };
        self.record(path, &metadata, content, xattrs);
        if let Some(record) = self.tree.find_mut(path) {
            record.set(Flag::Unwritten, true);
        }
    }

    /// Takes note that `path` is now a further name of `first`, which was recorded as unwritten. What was at `path` is
    /// forgotten. Whether that was so, and nothing was done otherwise.
    pub fn link_unwritten(&mut self, path: &RootPath, first: &RootPath) -> bool {
        let Some(record) = self.tree.find_mut(first).filter(|record| record.has(Flag::Unwritten))
        else {
            return false;
        };
        record.set(Flag::Linked, true);
        let record = *record;
        self.put_record(path, record);
        true
    }

    /// Whether `path` is that of a file that was recorded as unwritten and that no look has found since: then what is
    /// known of it.
    pub fn unwritten(&self, path: &RootPath) -> Option<Entry> {
        if self.unwritten == 0 {
            return None;
        }
        let record = self.tree.find(path).filter(|record| record.has(Flag::Unwritten));
        record.map(|record| record.to_entry(&self.tree.numbers))
    }
}

#[cfg(test)]
mod tests {
    use ebiko_rootfs::{DeviceNumber, Time};

    use super::*;

    fn path(text: &str) -> RootPath {
        RootPath::parse(text.as_bytes()).unwrap()
    }

    fn with(files: &[&str]) -> Snapshot {
        let mut snapshot = Snapshot::empty();
        let metadata = Metadata {
            kind: Kind::Regular,
            mode: 0o640,
            uid: 1,
            gid: 2,
            size: 3,
            mtime: Time { secs: 4, nanos: 5 },
            ctime: Time::default(),
            dev: 7,
            ino: 8,
            nlink: 9,
            rdev: DeviceNumber::default(),
        };
        for file in files {
            snapshot.record_unwritten(&path(file), &metadata, None, &Xattrs::new());
        }
        snapshot
    }

    /// The names of a file, of which each may or may not know that there are others.
    fn linked(snapshot: &Snapshot) -> String {
        let mark = |path: RootPath| match snapshot.unwritten(&path) {
            Some(entry) if entry.is_linked => format!("{path}+"),
            _ => path.to_string(),
        };
        snapshot.paths().into_iter().map(mark).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn no_two_unwritten_files_are_one_unless_they_were_linked() {
        let mut snapshot = with(&["a", "b"]);
        assert!(snapshot.link_unwritten(&path("c"), &path("a")));
        assert!(!snapshot.link_unwritten(&path("d"), &path("none")));
        let ino = |name| snapshot.unwritten(&path(name)).unwrap().ino;
        assert_ne!(ino("a"), ino("b"));
        assert_eq!(ino("a"), ino("c"));
        assert_eq!(linked(&snapshot), "a+ b c+");
        let entry = snapshot.unwritten(&path("c")).unwrap();
        assert_eq!((entry.mode, entry.uid, entry.gid, entry.size), (0o640, 1, 2, 3));
        assert_eq!(entry.mtime, Time { secs: 4, nanos: 5 });
    }

    #[test]
    fn names_are_counted_when_the_index_settles() {
        let mut snapshot = with(&["a"]);
        for name in ["b", "c"] {
            assert!(snapshot.link_unwritten(&path(name), &path("a")));
        }
        snapshot.remove(&path("b"));
        snapshot.settle(Time::default());
        assert_eq!(linked(&snapshot), "a+ c+");
        snapshot.remove(&path("c"));
        assert_eq!(linked(&snapshot), "a+", "nothing tells an index which names a file has lost");
        snapshot.settle(Time::default());
        assert_eq!(linked(&snapshot), "a");
    }
}
