//! Finding the members of a tar without unpacking it.
//!
//! An archive of images is read in place: this remembers where each member's bytes are. The `tar`
//! crate parses the headers; walking from one to the next is done here, because the crate reads
//! the long names of an archive into memory whatever size they claim to have.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::blob::FileBlob;

/// The members of a tar by name. Names are relative and clean; what leaves the archive is not there.
#[derive(Debug)]
pub(crate) struct TarIndex {
    path: PathBuf,
    members: BTreeMap<Vec<u8>, Member>,
}

#[derive(Debug)]
enum Member {
    File {
        start: u64,
        size: u64,
    },
    /// Another name in this archive.
    Link(Vec<u8>),
}

/// A tar is not well formed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarFault {
    #[error("cannot read the file")]
    Read(#[from] io::Error),
    #[error("the header at byte {position} is not one of a tar")]
    Header { position: u64 },
    #[error("it ends in the middle of the member at byte {position}")]
    Truncated { position: u64 },
    #[error("the extended header at byte {position} is too large")]
    LongHeader { position: u64 },
    #[error("it has more than {MAX_MEMBERS} members")]
    TooMany,
    #[error("it is compressed; decompress it first")]
    Compressed,
}

/// Images have tens of layers; docker stores three files for each.
const MAX_MEMBERS: usize = 65_536;
/// The largest extended header: a path has at most 4 KiB.
const MAX_EXTENSION: u64 = 1 << 20;
/// Links that lead to links.
const MAX_LINKS: usize = 8;
const BLOCK: u64 = 512;

impl TarIndex {
    pub(crate) fn read(path: &Path) -> Result<Self, TarFault> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut file = BufReader::new(file);
        let mut index = Self { path: path.into(), members: BTreeMap::new() };
        let mut extension = Extension::default();
        let mut position = 0;
        while let Some(header) = read_header(&mut file, position)? {
            let bad = |_| TarFault::Header { position };
            let start = position + BLOCK;
            let kind = header.entry_type();
            let size = match extension.size {
                Some(size) if !is_extension(kind) => size,
                _ => header.entry_size().map_err(bad)?,
            };
            let end = start.checked_add(size).filter(|&end| end <= length);
            let end = end.ok_or(TarFault::Truncated { position })?;
            if is_extension(kind) {
                if size > MAX_EXTENSION {
                    return Err(TarFault::LongHeader { position });
                }
                let mut bytes = Vec::new();
                (&mut file).take(size).read_to_end(&mut bytes)?;
                extension.add(kind, &bytes).ok_or(TarFault::Header { position })?;
            } else {
                let extension = std::mem::take(&mut extension);
                let name = extension.name.unwrap_or_else(|| header.path_bytes().into_owned());
                index.add(&header, &name, extension.link, start, size)?;
            }
            position = end.next_multiple_of(BLOCK);
            file.seek(SeekFrom::Start(position))?;
        }
        Ok(index)
    }

    fn add(
        &mut self,
        header: &tar::Header,
        name: &[u8],
        link: Option<Vec<u8>>,
        start: u64,
        size: u64,
    ) -> Result<(), TarFault> {
        let kind = header.entry_type();
        let target = || link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let member = if kind.is_file() {
            Some(Member::File { start, size })
        } else if kind.is_symlink() {
            // Relative to the directory that the link is in.
            let parent = name.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
            target().and_then(|target| {
                clean(&[name.get(..parent).unwrap_or_default(), &target].concat()).map(Member::Link)
            })
        } else if kind.is_hard_link() {
            target().and_then(|target| clean(&target).map(Member::Link))
        } else {
            None
        };
        if let (Some(name), Some(member)) = (clean(name), member) {
            if self.members.len() >= MAX_MEMBERS {
                return Err(TarFault::TooMany);
            }
            // As when a tar is unpacked, a later member replaces an earlier one.
            self.members.insert(name, member);
        }
        Ok(())
    }

    /// The file that `name` is or leads to.
    pub(crate) fn file(&self, name: &str) -> Option<FileBlob> {
        let mut name = clean(name.as_bytes())?;
        for _ in 0..MAX_LINKS {
            match self.members.get(&name)? {
                Member::File { start, size } => {
                    return Some(FileBlob::new(self.path.clone(), *start, *size));
                }
                Member::Link(target) => name.clone_from(target),
            }
        }
        None
    }
}

/// The header at `position`, or `None` at the end of the archive.
fn read_header(file: &mut impl Read, position: u64) -> Result<Option<tar::Header>, TarFault> {
    let mut header = tar::Header::new_old();
    let block = header.as_mut_bytes();
    let mut filled = 0;
    while let Some(rest) = block.get_mut(filled..)
        && !rest.is_empty()
    {
        match file.read(rest) {
            // Archives without the two empty blocks at the end are common enough.
            Ok(0) if filled == 0 && position > 0 => return Ok(None),
            Ok(0) => return Err(TarFault::Truncated { position }),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    if block.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    if position == 0 && (block.starts_with(b"\x1f\x8b") || block.starts_with(b"\x28\xb5\x2f\xfd")) {
        return Err(TarFault::Compressed);
    }
    // The sum counts its own field as blanks.
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, &byte)| u32::from(if (148..156).contains(&at) { b' ' } else { byte }))
        .sum();
    match header.cksum() {
        Ok(stored) if stored == sum => Ok(Some(header)),
        _ => Err(TarFault::Header { position }),
    }
}

/// Whether a member says something about the next one instead of being a file.
fn is_extension(kind: tar::EntryType) -> bool {
    kind.is_pax_local_extensions() || kind.is_gnu_longname() || kind.is_gnu_longlink()
}

/// What extended headers said about the member that follows them.
#[derive(Debug, Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Extension {
    fn add(&mut self, kind: tar::EntryType, bytes: &[u8]) -> Option<()> {
        let terminated = || bytes.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
        if kind.is_gnu_longname() {
            self.name = Some(terminated());
        } else if kind.is_gnu_longlink() {
            self.link = Some(terminated());
        } else {
            for record in tar::PaxExtensions::new(bytes) {
                let record = record.ok()?;
                let value = record.value_bytes();
                match record.key_bytes() {
                    b"path" => self.name = Some(value.to_vec()),
                    b"linkpath" => self.link = Some(value.to_vec()),
                    b"size" => self.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
                    _ => {}
                }
            }
        }
        Some(())
    }
}

/// A relative name without `.`, `..` and empty components; `None` where it leaves the archive.
fn clean(name: &[u8]) -> Option<Vec<u8>> {
    let mut kept: Vec<&[u8]> = Vec::new();
    for component in name.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                kept.pop()?;
            }
            name => kept.push(name),
        }
    }
    (!kept.is_empty()).then(|| kept.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members as (kind, name, link target, content).
    fn archive(members: &[(tar::EntryType, &str, &str, &[u8])]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = tar::Builder::new(file.reopen().unwrap());
        for (kind, name, target, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            // Straight into the field, because the crate refuses the names that matter here.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        builder.finish().unwrap();
        file
    }

    fn content(index: &TarIndex, name: &str) -> Option<String> {
        let mut content = String::new();
        index.file(name)?.read().unwrap().read_to_string(&mut content).unwrap();
        Some(content)
    }

    #[test]
    fn members_are_found_by_clean_names_and_through_links() {
        use tar::EntryType::{Directory, Link, Regular, Symlink};
        let file = archive(&[
            (Directory, "a/", "", b""),
            (Regular, "./a/layer.tar", "", b"first"),
            (Symlink, "b/layer.tar", "../a/layer.tar", b""),
            (Link, "c.tar", "a/layer.tar", b""),
            (Regular, "twice", "", b"old"),
            (Regular, "twice", "", b"new"),
        ]);
        let index = TarIndex::read(file.path()).unwrap();
        for (name, expected) in [
            ("a/layer.tar", Some("first")),
            ("/a//./layer.tar", Some("first")),
            ("b/layer.tar", Some("first")),
            ("c.tar", Some("first")),
            ("twice", Some("new")),
            ("a", None),
            ("nope", None),
        ] {
            assert_eq!(content(&index, name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn names_and_links_that_leave_the_archive_lead_nowhere() {
        use tar::EntryType::{Regular, Symlink};
        let file = archive(&[
            (Regular, "../up", "", b"x"),
            (Symlink, "passwd", "../../etc/passwd", b""),
            (Symlink, "absolute", "/etc/passwd", b""),
            (Symlink, "loop", "loop", b""),
        ]);
        let index = TarIndex::read(file.path()).unwrap();
        for name in ["../up", "up", "passwd", "absolute", "loop", "..", ""] {
            assert_eq!(content(&index, name), None, "{name}");
        }
    }

    #[test]
    fn long_names_and_large_sizes_come_from_extended_headers() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = tar::Builder::new(file.reopen().unwrap());
        let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        builder.append_data(&mut header, &long, b"long".as_slice()).unwrap();
        builder.append_pax_extensions([("path", b"renamed".as_slice()), ("size", b"3")]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_path("original").unwrap();
        header.set_size(3);
        header.set_cksum();
        builder.append(&header, b"pax".as_slice()).unwrap();
        builder.finish().unwrap();
        let index = TarIndex::read(file.path()).unwrap();
        assert_eq!(content(&index, &long).as_deref(), Some("long"));
        assert_eq!(content(&index, "renamed").as_deref(), Some("pax"));
        assert_eq!(content(&index, "original"), None);
    }

    #[test]
    fn what_is_not_a_whole_tar_is_refused() {
        let whole = archive(&[(tar::EntryType::Regular, "a", "", &[b'x'; 600])]);
        let whole = std::fs::read(whole.path()).unwrap();
        let mut flipped = whole.clone();
        flipped[0] ^= 1;
        for (bytes, expected) in [
            (&whole[..100], "it ends in the middle of the member at byte 0"),
            (&whole[..700], "it ends in the middle of the member at byte 0"),
            (b"", "it ends in the middle of the member at byte 0"),
            (&flipped, "the header at byte 0 is not one of a tar"),
            (
                &[b"\x1f\x8b".as_slice(), &[0; 600]].concat(),
                "it is compressed; decompress it first",
            ),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let error = TarIndex::read(file.path()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
