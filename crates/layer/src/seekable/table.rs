//! The table of files, in the JSON that both formats have from CRFS.

use std::collections::BTreeMap;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ebiko_oci::{Digest, Timestamp};
use serde::Serialize;

use super::spool::Spool;
use super::tar_split::TarSplit;
use super::unit::{Frame, Item, Unit};
use crate::CompressError;
use crate::compress::BlobSink;
use crate::tar::{Member, MemberKind};

/// Writes the table while the frames are written.
///
/// In eStargz each chunk has its digest and, unless it is the last one, its size. In zstd:chunked chunks are mentioned only
/// where there are several; then each has its digest and its size. Besides, it says where each ends.
pub(super) struct TableWriter<'s> {
    toc: Spool,
    is_first: bool,
    /// A member whose content is on its way.
    pending: Option<Pending>,
    /// What else is in the tar stream; only zstd:chunked wants it.
    split: Option<&'s mut TarSplit>,
    /// The bytes of one entry.
    buffer: Vec<u8>,
}

struct Pending {
    member: Box<Member>,
    chunks: Vec<Chunk>,
}

#[derive(Clone, Copy)]
struct Chunk {
    offset: u64,
    end: u64,
    size: u64,
    digest: Digest,
}

/// One entry, with the names of both formats.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    name: &'a str,
    r#type: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(rename = "modtime", skip_serializing_if = "Option::is_none")]
    mod_time: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    link_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(skip_serializing_if = "is_zero")]
    uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_minor: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    end_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<Digest>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl<'s> TableWriter<'s> {
    /// Begins a table in `toc`: for zstd:chunked if there is a `split`, else for eStargz.
    pub(super) fn new(
        mut toc: Spool,
        split: Option<&'s mut TarSplit>,
    ) -> Result<Self, CompressError> {
        toc.write(br#"{"version":1,"entries":["#)?;
        Ok(Self { toc, is_first: true, pending: None, split, buffer: Vec::new() })
    }

    /// Writes a piece of the layer to the blob and what is in it to the table.
    pub(super) fn write(
        &mut self,
        unit: &mut Unit,
        sink: &mut BlobSink<'_>,
    ) -> Result<(), CompressError> {
        let mut output = &unit.output[..];
        for item in unit.items.drain(..) {
            match item {
                Item::Frame(Frame { content, digest, compressed, .. }) => {
                    let offset = sink.size();
                    let (frame, behind) = output.split_at(compressed);
                    output = behind;
                    sink.write_all(frame).map_err(|source| CompressError::Write { source })?;
                    if let (Some(pending), Some(digest)) = (&mut self.pending, digest) {
                        let (end, size) = (sink.size(), content as u64);
                        pending.chunks.push(Chunk { offset, end, size, digest });
                    }
                }
                Item::Member { member, header } => {
                    if let Some(split) = &mut self.split {
                        split.segment(&unit.input[header])?;
                    }
                    if member.size > 0 {
                        self.pending = Some(Pending { member, chunks: Vec::new() });
                    } else {
                        self.entry(&entry_of(&member))?;
                        if let Some(split) = &mut self.split {
                            split.file(&member, None)?;
                        }
                    }
                }
                Item::End { crc, digest } => {
                    if let Some(Pending { member, chunks }) = self.pending.take() {
                        self.file(&member, &chunks, digest)?;
                        if let Some(split) = &mut self.split {
                            split.file(&member, Some(crc))?;
                        }
                    }
                }
                Item::Rest(bytes) => {
                    if let Some(split) = &mut self.split {
                        split.segment(&unit.input[bytes])?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The entries of a file with content: itself with its first chunk, then the others.
    fn file(
        &mut self,
        member: &Member,
        chunks: &[Chunk],
        whole: Option<Digest>,
    ) -> Result<(), CompressError> {
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else { return Ok(()) };
        let mut entry = entry_of(member);
        entry.digest = Some(whole.unwrap_or(first.digest));
        let mut position = 0;
        for (index, chunk) in chunks.iter().enumerate() {
            if index > 0 {
                entry = Entry { name: entry.name, r#type: "chunk", ..Entry::default() };
            }
            entry.offset = chunk.offset;
            entry.chunk_offset = position;
            if self.split.is_none() {
                entry.chunk_digest = Some(chunk.digest);
                entry.chunk_size = if index + 1 < chunks.len() { chunk.size } else { 0 };
            } else {
                entry.end_offset = if index == 0 { last.end } else { chunk.end };
                if chunks.len() > 1 {
                    entry.chunk_digest = Some(chunk.digest);
                    entry.chunk_size = chunk.size;
                }
            }
            self.entry(&entry)?;
            position += chunk.size;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), CompressError> {
        self.buffer.clear();
        if !std::mem::replace(&mut self.is_first, false) {
            self.buffer.push(b',');
        }
        serde_json::to_writer(&mut self.buffer, entry)
            .map_err(|error| CompressError::Scratch { source: error.into() })?;
        self.toc.write(&self.buffer)
    }

    /// The table after its last entry: the list is still to be closed.
    pub(super) fn into_toc(self) -> Spool {
        self.toc
    }
}

fn entry_of(member: &Member) -> Entry<'_> {
    let is_device = matches!(member.kind, MemberKind::CharDevice | MemberKind::BlockDevice);
    let is_link = matches!(member.kind, MemberKind::HardLink | MemberKind::Symlink);
    // Names that are no text and times without a year were refused when the stream was cut.
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let time = Timestamp::new(member.mtime.secs, member.mtime.nanos).ok();
    Entry {
        name: text(&member.path),
        r#type: match member.kind {
            MemberKind::Regular => "reg",
            MemberKind::HardLink => "hardlink",
            MemberKind::Symlink => "symlink",
            MemberKind::CharDevice => "char",
            MemberKind::BlockDevice => "block",
            MemberKind::Directory => "dir",
            MemberKind::Fifo => "fifo",
        },
        size: member.size,
        mod_time: time.map(|time| time.to_string()),
        link_name: if is_link { text(&member.link) } else { "" },
        mode: Some(member.mode),
        uid: u64::from(member.uid),
        gid: u64::from(member.gid),
        dev_major: if is_device { u64::from(member.rdev.major) } else { 0 },
        dev_minor: if is_device { u64::from(member.rdev.minor) } else { 0 },
        xattrs: member
            .xattrs
            .iter()
            .map(|(name, value)| (text(name), STANDARD.encode(value)))
            .collect(),
        ..Entry::default()
    }
}
