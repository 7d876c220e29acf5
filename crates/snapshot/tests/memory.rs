//! The promise of 120 bytes per file, measured.

use ebiko_rootfs::{DeviceNumber, Kind, Metadata, RootPath, Time, Xattrs};
use ebiko_snapshot::{ContentHash, Snapshot};

fn metadata(kind: Kind, ino: u64) -> Metadata {
    let time = Time { secs: 1_600_000_000, nanos: 123_456_789 };
    Metadata {
        kind,
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        size: ino,
        mtime: time,
        ctime: time,
        dev: 1,
        ino,
        nlink: 1,
        rdev: DeviceNumber::default(),
    }
}

#[test]
fn two_hundred_thousand_files_take_at_most_120_bytes_each() {
    let mut snapshot = Snapshot::empty();
    let mut record = |path: String, kind, ino: u64| {
        let path = RootPath::parse(path.as_bytes()).unwrap();
        let content = (kind == Kind::Regular).then(|| ContentHash::of(&ino.to_le_bytes()));
        snapshot.record(&path, &metadata(kind, ino), content, &Xattrs::new());
    };
    // As in a node_modules or a Python site-packages: 20 files in a directory, names of 20 bytes.
    for directory in 0..10_000 {
        record(
            format!("srv/package-{:03}/dir-{directory:06}", directory / 100),
            Kind::Directory,
            directory,
        );
        for file in 0..19 {
            let ino = directory * 20 + file;
            record(
                format!("srv/package-{:03}/dir-{directory:06}/module-{ino:08}.js", directory / 100),
                Kind::Regular,
                ino,
            );
        }
    }
    snapshot.settle(Time { secs: i64::MAX, nanos: 0 });
    let files = snapshot.len();
    assert!(files >= 200_000, "{files} files");
    let each = snapshot.heap_size() / files;
    assert!(each <= 120, "{each} bytes for a file");
}
