//! Tar archives as literals, compressed by the programs of the distribution.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

/// One entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveEntry {
    /// The name, as it is written into the header. At most 100 bytes.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: u64,
    /// What it is.
    pub kind: ArchiveKind,
}

/// What an [`ArchiveEntry`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ArchiveKind {
    File(Vec<u8>),
    Directory,
    Symlink(String),
    HardLink(String),
}

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Packing {
    Plain,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

const BLOCK: usize = 512;

/// GNU tar's and Python's record: archives are filled up to a multiple of it.
const RECORD: usize = 20 * BLOCK;

/// Writes a ustar archive, filled up with zeros to a multiple of 10240 bytes as GNU tar and Python do.
///
/// # Errors
///
/// Fails if something does not fit into a ustar header: a long name, a time after 2242.
pub fn archive(entries: &[ArchiveEntry]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for entry in entries {
        let header = header(entry)
            .with_context(|| format!("cannot put `{}` into an archive", entry.path))?;
        bytes.extend_from_slice(&header);
        if let ArchiveKind::File(content) = &entry.kind {
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
    }
    bytes.resize((bytes.len() + 2 * BLOCK).next_multiple_of(RECORD), 0);
    Ok(bytes)
}

fn header(entry: &ArchiveEntry) -> anyhow::Result<[u8; BLOCK]> {
    let (size, kind, link) = match &entry.kind {
        ArchiveKind::File(content) => (content.len() as u64, b'0', ""),
        ArchiveKind::HardLink(target) => (0, b'1', target.as_str()),
        ArchiveKind::Symlink(target) => (0, b'2', target.as_str()),
        ArchiveKind::Directory => (0, b'5', ""),
    };
    // A directory's name ends with a slash, which is how readers that know no types see it.
    let name = match entry.kind {
        ArchiveKind::Directory => format!("{}/", entry.path.trim_end_matches('/')),
        _ => entry.path.clone(),
    };
    let mut header = [0; BLOCK];
    let mut put = |at: usize, room: usize, value: &[u8]| {
        ensure!(value.len() <= room, "{} bytes do not fit into {room}", value.len());
        header[at..at + value.len()].copy_from_slice(value);
        Ok(())
    };
    put(0, 100, name.as_bytes())?;
    put(100, 8, format!("{:07o}\0", entry.mode).as_bytes())?;
    put(108, 8, format!("{:07o}\0", entry.uid).as_bytes())?;
    put(116, 8, format!("{:07o}\0", entry.gid).as_bytes())?;
    put(124, 12, format!("{size:011o}\0").as_bytes())?;
    put(136, 12, format!("{:011o}\0", entry.mtime).as_bytes())?;
    put(148, 8, b"        ")?;
    put(156, 1, &[kind])?;
    put(157, 100, link.as_bytes())?;
    put(257, 8, b"ustar\x0000")?;
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

/// Compresses with `gzip -9n`, `bzip2`, `xz` or `zstd`.
///
/// # Errors
///
/// Fails if the program is missing.
pub fn packed(bytes: Vec<u8>, packing: Packing) -> anyhow::Result<Vec<u8>> {
    let (program, args): (_, &[&str]) = match packing {
        Packing::Plain => return Ok(bytes),
        Packing::Gzip => ("gzip", &["-9", "-n", "-c"]),
        Packing::Bzip2 => ("bzip2", &["-c"]),
        Packing::Xz => ("xz", &["-c"]),
        Packing::Zstd => ("zstd", &["-q", "-c"]),
    };
    // A file and not a pipe: nobody has to write and read at the same time.
    let mut input: File = tempfile::tempfile().context("cannot create a temporary file")?;
    input.write_all(&bytes)?;
    input.rewind()?;
    let output = Command::new(program)
        .args(args)
        .stdin(input)
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot start `{program}`; is it installed?"))?;
    if !output.status.success() {
        bail!("`{program}` ended with {}", output.status);
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<ArchiveEntry> {
        let entry = |path: &str, kind| ArchiveEntry {
            path: path.into(),
            mode: 0o640,
            uid: 1,
            gid: 2,
            mtime: 1_600_000_000,
            kind,
        };
        vec![
            entry("d", ArchiveKind::Directory),
            entry("d/f", ArchiveKind::File(b"hello".to_vec())),
            entry("l", ArchiveKind::Symlink("d/f".into())),
            entry("h", ArchiveKind::HardLink("d/f".into())),
        ]
    }

    #[test]
    fn tar_lists_what_was_written_in_every_packing() {
        let dir = crate::scratch_dir("archive-").unwrap();
        let path = dir.path().join("a");
        let mut listings = Vec::new();
        for packing in [Packing::Plain, Packing::Gzip, Packing::Bzip2, Packing::Xz, Packing::Zstd] {
            std::fs::write(&path, packed(archive(&entries()).unwrap(), packing).unwrap()).unwrap();
            let mut tar = Command::new("tar");
            tar.env("TZ", "UTC").args(["--numeric-owner", "-tvf"]).arg(&path);
            listings.push(crate::command::capture_text(&mut tar).unwrap());
        }
        listings.dedup();
        assert_eq!(
            listings,
            ["drw-r----- 1/2               0 2020-09-13 12:26 d/\n\
              -rw-r----- 1/2               5 2020-09-13 12:26 d/f\n\
              lrw-r----- 1/2               0 2020-09-13 12:26 l -> d/f\n\
              hrw-r----- 1/2               0 2020-09-13 12:26 h link to d/f\n"]
        );
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut entry = entries().remove(1);
        entry.path = "x".repeat(101);
        assert!(archive(&[entry]).unwrap_err().to_string().starts_with("cannot put `xxx"));
    }
}
