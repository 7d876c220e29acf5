//! Reads tar streams that nobody vouches for.
//!
//! Where readers disagree, Go's `archive/tar` is right: it is what every container runtime reads layers with, so what
//! it sees is what the image is. The `tar` crate is not used for this: it holds extended headers of any size in memory,
//! reads the files of PAX sparse 1.0 wrongly, and cannot say times before 1970.

use std::io::{self, Read};

use ebiko_rootfs::{DeviceNumber, Time, Xattrs};
use ebiko_snapshot::is_recorded_xattr;

use super::number::read_number;
use super::pax::{self, Record, XATTR, parse_decimal, parse_time};
use super::sparse::{self, PaxSparse, Sparse};
use super::{BLOCK, GNU_MAGIC, POSIX_MAGIC, field, padding};

/// A stream is not a tar archive that can be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum TarError {
    #[error("cannot read the archive")]
    Read { source: io::Error },
    #[error("the archive ends in the middle of a member")]
    Truncated,
    #[error("the checksum of a header is wrong")]
    Checksum,
    #[error("a block of zeros is followed by something else")]
    LoneZeroBlock,
    #[error("the field `{field}` of a header is not a valid number")]
    Number { field: &'static str },
    #[error("an extended header is malformed")]
    Pax,
    #[error("an extended header has {size} bytes, and the limit is {limit}")]
    PaxSize { size: u64, limit: u64 },
    #[error("a global header sets `{key}`, which readers understand differently")]
    Global { key: String },
    #[error("the map of a sparse file is malformed")]
    Sparse,
    #[error("members of type `{}` are not supported", type_flag.escape_ascii())]
    Type { type_flag: u8 },
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemberKind {
    Regular,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// Everything about a member except its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// As it is spelled.
    pub(crate) path: Vec<u8>,
    /// The target of a link, as it is spelled.
    pub(crate) link: Vec<u8>,
    pub(crate) kind: MemberKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    /// Bytes of content in the archive.
    pub(crate) size: u64,
    pub(crate) rdev: DeviceNumber,
    /// Those that belong to an image.
    pub(crate) xattrs: Xattrs,
    pub(crate) sparse: Option<Sparse>,
}

/// Reads members one after the other. After [`TarReader::next`] it reads as that member's content.
#[derive(Debug)]
pub(crate) struct TarReader<R> {
    input: R,
    /// Content of the current member that nobody has read.
    left: u64,
    padding: u64,
    /// How large an extended header, a long name or a sparse map may be.
    limit: u64,
}

/// What precedes a member and belongs to it.
#[derive(Default)]
struct Extensions {
    records: Option<Vec<Record>>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.records.is_none() && self.long_path.is_none() && self.long_link.is_none()
    }

    /// The last value of a key; an empty one means "as in the header".
    fn find(&self, key: &[u8]) -> Option<&[u8]> {
        let records = self.records.as_deref().unwrap_or_default();
        let value = records.iter().rev().find(|(name, _)| name == key).map(|(_, value)| &value[..]);
        value.filter(|value| !value.is_empty())
    }
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(input: R, limit: u64) -> Self {
        Self { input, left: 0, padding: 0, limit }
    }

    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    pub(crate) fn get_mut(&mut self) -> &mut R {
        &mut self.input
    }

    /// The next member; `None` at the end of the archive, of which the rest of the stream is no part.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, TarError> {
        self.skip()?;
        let mut extensions = Extensions::default();
        loop {
            let Some(block) = self.block()? else {
                // Archives without an end mark are common; a member that was announced must come.
                return if extensions.is_empty() { Ok(None) } else { Err(TarError::Truncated) };
            };
            if is_zero(&block) {
                return match self.block()? {
                    _ if !extensions.is_empty() => Err(TarError::Truncated),
                    Some(second) if !is_zero(&second) => Err(TarError::LoneZeroBlock),
                    _ => Ok(None),
                };
            }
            check_sum(&block)?;
            match block[field::TYPE] {
                b'x' => {
                    let payload = self.payload(&block)?;
                    extensions.records = Some(pax::parse(&payload).ok_or(TarError::Pax)?);
                }
                b'g' => {
                    if !extensions.is_empty() {
                        return Err(TarError::Pax);
                    }
                    let payload = self.payload(&block)?;
                    check_global(&pax::parse(&payload).ok_or(TarError::Pax)?)?;
                }
                b'L' => extensions.long_path = Some(until_nul(&self.payload(&block)?).to_vec()),
                b'K' => extensions.long_link = Some(until_nul(&self.payload(&block)?).to_vec()),
                _ => return self.member(&block, &extensions).map(Some),
            }
        }
    }

    fn member(&mut self, block: &[u8; BLOCK], extensions: &Extensions) -> Result<Member, TarError> {
        let mut member = read_header(block, extensions)?;
        let mut size = number(block, field::SIZE, "size")?;
        if let Some(value) = extensions.find(b"size") {
            size = parse_decimal(value).ok_or(TarError::Number { field: "size" })?;
        }
        // Whatever the field says, only regular files have content.
        self.left = if member.kind == MemberKind::Regular { size } else { 0 };
        self.padding = padding(self.left);
        self.read_sparse(block, extensions, &mut member)?;
        member.size = self.left;
        if member.sparse.as_ref().is_some_and(|sparse| !sparse.is_valid(member.size)) {
            return Err(TarError::Sparse);
        }
        Ok(member)
    }

    fn read_sparse(
        &mut self,
        block: &[u8; BLOCK],
        extensions: &Extensions,
        member: &mut Member,
    ) -> Result<(), TarError> {
        if block[field::TYPE] == b'S' {
            if !block[field::MAGIC].starts_with(b"ustar  ") {
                return Err(TarError::Sparse);
            }
            member.sparse = Some(self.old_gnu_map(block)?);
            return Ok(());
        }
        if member.kind != MemberKind::Regular {
            return Ok(());
        }
        let records = extensions.records.as_deref().unwrap_or_default();
        let found = sparse::from_records(records).ok_or(TarError::Sparse)?;
        if found == PaxSparse::No {
            return Ok(());
        }
        if let Some(name) = extensions.find(b"GNU.sparse.name") {
            member.path = name.to_vec();
        }
        member.sparse = match found {
            PaxSparse::No => None,
            PaxSparse::Map(sparse) => Some(sparse),
            PaxSparse::MapInContent(real_size) => {
                Some(Sparse { pieces: self.map_in_content()?, real_size })
            }
        };
        Ok(())
    }

    /// The map in the header and in the blocks that follow it.
    fn old_gnu_map(&mut self, block: &[u8; BLOCK]) -> Result<Sparse, TarError> {
        let (mut more, real_size) = sparse::old_header(block).ok_or(TarError::Sparse)?;
        let mut pieces = Vec::new();
        sparse::push_old_pieces(&block[field::SPARSE], &mut pieces).ok_or(TarError::Sparse)?;
        while more {
            let block = self.block()?.ok_or(TarError::Truncated)?;
            sparse::push_old_pieces(&block[..504], &mut pieces).ok_or(TarError::Sparse)?;
            more = block[504] != 0;
        }
        Ok(Sparse { pieces, real_size })
    }

    /// The map at the start of the content: decimal numbers, one in a line, filled up to a block.
    fn map_in_content(&mut self) -> Result<Vec<(u64, u64)>, TarError> {
        let mut numbers = Vec::new();
        let mut digits = Vec::new();
        let mut wanted = 1;
        while numbers.len() < wanted {
            if self.left < BLOCK as u64 {
                return Err(TarError::Sparse);
            }
            self.left -= BLOCK as u64;
            for byte in self.block()?.ok_or(TarError::Truncated)? {
                if byte != b'\n' {
                    digits.push(byte);
                    if digits.len() > 20 {
                        return Err(TarError::Sparse);
                    }
                    continue;
                }
                numbers.push(parse_decimal(&digits).ok_or(TarError::Sparse)?);
                digits.clear();
                if numbers.len() == 1 {
                    let count = usize::try_from(numbers[0])
                        .ok()
                        .filter(|count| *count <= sparse::MAX_PIECES);
                    wanted = 1 + 2 * count.ok_or(TarError::Sparse)?;
                }
                if numbers.len() == wanted {
                    break;
                }
            }
        }
        Ok(numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }

    /// Skips what nobody read of the current member, and what fills its last block.
    pub(crate) fn skip(&mut self) -> Result<(), TarError> {
        let rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        let skipped = io::copy(&mut (&mut self.input).take(rest), &mut io::sink());
        match skipped {
            Ok(count) if count == rest => Ok(()),
            Ok(_) => Err(TarError::Truncated),
            Err(source) => Err(TarError::Read { source }),
        }
    }

    /// One block; `None` at the end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Truncated),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { source }),
            }
        }
        Ok(Some(block))
    }

    /// The content of an extension, which is small or refused.
    fn payload(&mut self, header: &[u8; BLOCK]) -> Result<Vec<u8>, TarError> {
        let size = number(header, field::SIZE, "size")?;
        if size > self.limit {
            return Err(TarError::PaxSize { size, limit: self.limit });
        }
        let mut payload = Vec::new();
        let whole = size + padding(size);
        let count = (&mut self.input).take(whole).read_to_end(&mut payload);
        if count.map_err(|source| TarError::Read { source })? as u64 != whole {
            return Err(TarError::Truncated);
        }
        payload.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(payload)
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if length == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..length])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, TarError::Truncated));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn read_header(block: &[u8; BLOCK], extensions: &Extensions) -> Result<Member, TarError> {
    let text = |key: &[u8], header: Vec<u8>| match extensions.find(key) {
        Some(value) if value.contains(&0) => Err(TarError::Pax),
        Some(value) => Ok(value.to_vec()),
        None => Ok(header),
    };
    let path = match &extensions.long_path {
        Some(path) => path.clone(),
        None => text(b"path", header_path(block))?,
    };
    let link = match &extensions.long_link {
        Some(link) => link.clone(),
        None => text(b"linkpath", until_nul(&block[field::LINK]).to_vec())?,
    };
    let kind = match block[field::TYPE] {
        // Archives older than POSIX know no type for directories.
        0 | b'0' | b'7' if path.ends_with(b"/") => MemberKind::Directory,
        0 | b'0' | b'7' | b'S' => MemberKind::Regular,
        b'1' => MemberKind::HardLink,
        b'2' => MemberKind::Symlink,
        b'3' => MemberKind::CharDevice,
        b'4' => MemberKind::BlockDevice,
        b'5' => MemberKind::Directory,
        b'6' => MemberKind::Fifo,
        type_flag => return Err(TarError::Type { type_flag }),
    };
    let id = |range: std::ops::Range<usize>, key: &'static str| {
        let value = match extensions.find(key.as_bytes()) {
            Some(value) => parse_decimal(value).ok_or(TarError::Number { field: key })?,
            None => number(block, range, key)?,
        };
        // The largest number means "leave it as it is" to the kernel.
        u32::try_from(value)
            .ok()
            .filter(|id| *id != u32::MAX)
            .ok_or(TarError::Number { field: key })
    };
    let mtime = match extensions.find(b"mtime") {
        Some(value) => parse_time(value).ok_or(TarError::Number { field: "mtime" })?,
        None => Time { secs: signed(block, field::MTIME, "mtime")?, nanos: 0 },
    };
    let is_device = matches!(kind, MemberKind::CharDevice | MemberKind::BlockDevice);
    let rdev = if is_device { device_number(block, extensions)? } else { DeviceNumber::default() };
    let mode = signed(block, field::MODE, "mode")? & 0o7777;
    Ok(Member {
        path,
        link,
        kind,
        mode: u32::try_from(mode).unwrap_or(0),
        uid: id(field::UID, "uid")?,
        gid: id(field::GID, "gid")?,
        mtime,
        size: 0,
        rdev,
        xattrs: xattrs(extensions),
        sparse: None,
    })
}

fn xattrs(extensions: &Extensions) -> Xattrs {
    let records = extensions.records.iter().flatten();
    records
        .filter_map(|(key, value)| Some((key.strip_prefix(XATTR)?, value)))
        .filter(|(name, _)| !name.is_empty() && is_recorded_xattr(name))
        .map(|(name, value)| (name.to_vec(), value.clone()))
        .collect()
}

fn device_number(block: &[u8; BLOCK], extensions: &Extensions) -> Result<DeviceNumber, TarError> {
    let part = |range, key: &'static str, record: &[u8]| {
        let value = match extensions.find(record) {
            Some(value) => parse_decimal(value).ok_or(TarError::Number { field: key })?,
            None => number(block, range, key)?,
        };
        u32::try_from(value).map_err(|_| TarError::Number { field: key })
    };
    Ok(DeviceNumber {
        major: part(field::MAJOR, "devmajor", b"SCHILY.devmajor")?,
        minor: part(field::MINOR, "devminor", b"SCHILY.devminor")?,
    })
}

/// Prefix and name, where the archive's family has a prefix there.
fn header_path(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&block[field::NAME]);
    let magic = &block[field::MAGIC];
    let prefix = if magic == GNU_MAGIC || !magic.starts_with(&POSIX_MAGIC[..6]) {
        &[][..]
    } else if &block[field::STAR_TRAILER] == b"tar\0" {
        until_nul(&block[field::STAR_PREFIX])
    } else {
        until_nul(&block[field::PREFIX])
    };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

/// Global headers are skipped, as Go does; those that other readers would read a different archive from are refused.
fn check_global(records: &[Record]) -> Result<(), TarError> {
    let is_dangerous = |key: &[u8]| {
        matches!(key, b"path" | b"linkpath" | b"size" | b"hdrcharset")
            || key.starts_with(b"GNU.sparse.")
    };
    match records.iter().find(|(key, _)| is_dangerous(key)) {
        Some((key, _)) => Err(TarError::Global { key: String::from_utf8_lossy(key).into_owned() }),
        None => Ok(()),
    }
}

fn signed(
    block: &[u8; BLOCK],
    range: std::ops::Range<usize>,
    field: &'static str,
) -> Result<i64, TarError> {
    read_number(&block[range]).ok_or(TarError::Number { field })
}

fn number(
    block: &[u8; BLOCK],
    range: std::ops::Range<usize>,
    field: &'static str,
) -> Result<u64, TarError> {
    u64::try_from(signed(block, range, field)?).map_err(|_| TarError::Number { field })
}

/// The sum of all bytes with the field itself as spaces. Some old programs added signed bytes.
fn check_sum(block: &[u8; BLOCK]) -> Result<(), TarError> {
    let (mut unsigned, mut signed) = (0_i64, 0_i64);
    for (index, byte) in block.iter().enumerate() {
        let byte = if field::CHECKSUM.contains(&index) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    match read_number(&block[field::CHECKSUM]) {
        Some(sum) if sum == unsigned || sum == signed => Ok(()),
        _ => Err(TarError::Checksum),
    }
}

fn is_zero(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{Header, HeaderKind, TarWriter};

    fn archive() -> Vec<u8> {
        let xattrs = Xattrs::from([(b"user.note".to_vec(), b"x".to_vec())]);
        let mut tar = TarWriter::new(Vec::new());
        for (path, content) in [("plain", "content"), (&*"long/".repeat(60), "")] {
            let header = Header {
                path: path.as_bytes(),
                kind: HeaderKind::Regular(content.len() as u64),
                mode: 0o644,
                uid: 0,
                gid: 0,
                mtime: Time { secs: 1, nanos: 2 },
                xattrs: &xattrs,
            };
            tar.header(&header).unwrap();
            tar.content(content.as_bytes()).unwrap();
        }
        tar.finish().unwrap()
    }

    /// How many members a stream yields, and whether it then ends well.
    fn read_all(stream: &[u8]) -> (usize, bool) {
        let mut tar = TarReader::new(stream, 1 << 16);
        let mut members = 0;
        loop {
            match tar.next() {
                Ok(Some(_)) => members += 1,
                Ok(None) => return (members, true),
                Err(_) => return (members, false),
            }
        }
    }

    /// Puts the checksums right, so that what is broken is not found by them.
    fn seal(stream: &mut [u8]) {
        for block in stream.as_chunks_mut::<BLOCK>().0 {
            if &block[257..262] == b"ustar" {
                block[field::CHECKSUM].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[field::CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
    }

    #[test]
    fn no_change_of_one_byte_makes_the_reader_fail_otherwise_than_by_an_error() {
        let good = archive();
        assert_eq!(read_all(&good), (2, true));
        for index in 0..good.len() {
            for value in [0, b' ', b'9', b'x', b'S', b'g', 0x80, 0xff] {
                let mut bad = good.clone();
                bad[index] = value;
                read_all(&bad);
                seal(&mut bad);
                let (members, _) = read_all(&bad);
                assert!(
                    members <= good.len() / BLOCK,
                    "{members} members by byte {index} = {value}"
                );
            }
        }
    }

    #[test]
    fn a_stream_cut_anywhere_but_between_members_is_not_whole() {
        let good = archive();
        let ends: Vec<usize> =
            (0..=good.len()).filter(|length| read_all(&good[..*length]).1).collect();
        // Nothing, after each member (the first has a block of content), after each end block.
        let end = good.len();
        assert_eq!(ends, [0, 2048, end - 1024, end - 512, end]);
    }
}
