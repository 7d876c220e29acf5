//! Lays out the directories of a case, and makes the bodies that its servers serve.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};
use serde_json::Value;
use testkit::{ArchiveEntry, ArchiveKind, Packing};

/// The time of directories and links, and the earliest one of files.
const FIRST_TIME: i64 = 1_600_000_000;

/// Times of files are spread over this many seconds, so that a different content has a different time.
const SPREAD: u32 = 80_000_000;

/// Writes the entries below `root`, which is made, and sets every time.
pub(super) fn write(root: &Path, entries: &[Value]) -> anyhow::Result<()> {
    std::fs::create_dir_all(root)?;
    let mut times = BTreeMap::new();
    for entry in entries {
        let path = root.join(text(entry, "path"));
        let time = write_entry(root, &path, entry)
            .with_context(|| format!("cannot make `{}` of a context", path.display()))?;
        times.insert(path, time);
    }
    // Children before parents, because every new name changes the time of its directory.
    for found in walkdir::WalkDir::new(root).contents_first(true) {
        let found = found?;
        let Some(time) = times.get(found.path()).copied().unwrap_or(Some(FIRST_TIME)) else {
            continue;
        };
        let time = Timespec { tv_sec: time, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, found.path(), &times, AtFlags::SYMLINK_NOFOLLOW)
            .with_context(|| format!("cannot set the time of `{}`", found.path().display()))?;
    }
    Ok(())
}

/// Returns the time that the entry is to have; `None` if it has the time of another one.
fn write_entry(root: &Path, path: &Path, entry: &Value) -> anyhow::Result<Option<i64>> {
    if let Some(parent) = path.parent() {
        make_parents(parent)?;
    }
    let mode = |default| octal(entry, default);
    let mut time = FIRST_TIME;
    match entry["type"].as_str().unwrap_or("file") {
        "file" => {
            let bytes = body(entry)?;
            time += i64::from(crc32(&bytes) % SPREAD);
            std::fs::write(path, bytes)?;
            set_mode(path, mode(0o644)?)?;
        }
        "dir" => {
            if !path.is_dir() {
                std::fs::create_dir(path)?;
            }
            set_mode(path, mode(0o755)?)?;
        }
        "symlink" => symlink(text(entry, "target"), path)?,
        "hardlink" => {
            let first = root.join(text(entry, "target"));
            std::fs::hard_link(&first, path)?;
            // One file with two names has one time: that of its first name.
            return Ok(None);
        }
        "socket" => drop(UnixListener::bind(path)?),
        "fifo" => {
            mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(mode(0o644)?), 0)?;
        }
        other => bail!("there is no type `{other}`"),
    }
    Ok(Some(entry["mtime"].as_i64().unwrap_or(time)))
}

fn make_parents(dir: &Path) -> anyhow::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        make_parents(parent)?;
    }
    std::fs::create_dir(dir)?;
    set_mode(dir, 0o755)
}

fn set_mode(path: &Path, mode: u32) -> anyhow::Result<()> {
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

/// The bytes of a file of a context or of a server: `content`, `b64`, or `tar` and `compress`.
pub(super) fn body(entry: &Value) -> anyhow::Result<Vec<u8>> {
    if let Some(entries) = entry["tar"].as_array() {
        let entries =
            entries.iter().map(archive_entry).collect::<anyhow::Result<Vec<ArchiveEntry>>>()?;
        let packing = match entry["compress"].as_str() {
            None => Packing::Plain,
            Some("gzip") => Packing::Gzip,
            Some("bzip2") => Packing::Bzip2,
            Some("xz") => Packing::Xz,
            Some("zstd") => Packing::Zstd,
            Some(other) => bail!("there is no compression `{other}`"),
        };
        return testkit::packed(testkit::archive(&entries)?, packing);
    }
    if let Some(text) = entry["b64"].as_str() {
        return base64::engine::general_purpose::STANDARD
            .decode(text)
            .context("a content is not base64");
    }
    Ok(entry["content"].as_str().unwrap_or_default().as_bytes().to_vec())
}

fn archive_entry(entry: &Value) -> anyhow::Result<ArchiveEntry> {
    let target = || text(entry, "target").to_owned();
    let kind = match entry["type"].as_str().unwrap_or("file") {
        "file" => ArchiveKind::File(text(entry, "content").as_bytes().to_vec()),
        "dir" => ArchiveKind::Directory,
        "symlink" => ArchiveKind::Symlink(target()),
        "hardlink" => ArchiveKind::HardLink(target()),
        other => bail!("an archive of this kind holds no `{other}`"),
    };
    let number = |name: &str, default| entry[name].as_u64().unwrap_or(default);
    Ok(ArchiveEntry {
        path: text(entry, "path").to_owned(),
        mode: octal(entry, 0o644)?,
        uid: u32::try_from(number("uid", 0))?,
        gid: u32::try_from(number("gid", 0))?,
        mtime: number("mtime", FIRST_TIME.cast_unsigned()),
        kind,
    })
}

fn octal(entry: &Value, default: u32) -> anyhow::Result<u32> {
    match entry["mode"].as_str() {
        None => Ok(default),
        Some(mode) => u32::from_str_radix(mode, 8).context("a mode is not octal"),
    }
}

fn text<'a>(entry: &'a Value, name: &str) -> &'a str {
    entry[name].as_str().unwrap_or_default()
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Writes one more file, such as a secret.
pub(super) fn write_text(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn a_tree_has_modes_kinds_and_times() {
        let dir = testkit::scratch_dir("tree-").unwrap();
        let root = dir.path().join("r");
        let entries = [
            json!({"path": "a/b/f", "content": "123456789", "mode": "0600"}),
            json!({"path": "a", "type": "dir", "mode": "0711"}),
            json!({"path": "l", "type": "symlink", "target": "a", "mtime": 5}),
            json!({"path": "h", "type": "hardlink", "target": "a/b/f"}),
            json!({"path": "s", "type": "socket"}),
            json!({"path": "p", "type": "fifo", "mode": "0640"}),
            json!({"path": "e", "b64": "AP8=", "mtime": 7}),
        ];
        write(&root, &entries).unwrap();
        let look = |path: &str| root.join(path).symlink_metadata().unwrap();
        assert_eq!(look("a").mode() & 0o7777, 0o711);
        assert_eq!(look("a/b").mode() & 0o7777, 0o755);
        assert_eq!((look("a").mtime(), look("l").mtime(), look("e").mtime()), (FIRST_TIME, 5, 7));
        assert_eq!(look("h").ino(), look("a/b/f").ino());
        assert_eq!(std::fs::read(root.join("e")).unwrap(), [0, 255]);
        // 0xcbf43926 is the well-known check value of CRC-32.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(i64::from(0xcbf4_3926_u32 % SPREAD), 3_421_780_262 % 80_000_000);
    }
}
