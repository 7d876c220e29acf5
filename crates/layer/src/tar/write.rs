//! Writes canonical tar streams.

use std::borrow::Cow;
use std::io::{self, Write};

use ebiko_rootfs::{DeviceNumber, Time, Xattrs};

use super::number::write_octal;
use super::pax::{XATTR, format_time, push_record};
use super::{BLOCK, POSIX_MAGIC, field, padding};

/// What a member is, with what only its kind has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HeaderKind<'a> {
    /// As many bytes of content follow.
    Regular(u64),
    /// Another name of a member before, by its path.
    HardLink(&'a [u8]),
    /// The target, verbatim.
    Symlink(&'a [u8]),
    CharDevice(DeviceNumber),
    BlockDevice(DeviceNumber),
    Directory,
    Fifo,
}

/// Everything about a member except its content.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) kind: HeaderKind<'a>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) xattrs: &'a Xattrs,
}

impl HeaderKind<'_> {
    fn type_flag(self) -> u8 {
        match self {
            Self::Regular(_) => b'0',
            Self::HardLink(_) => b'1',
            Self::Symlink(_) => b'2',
            Self::CharDevice(_) => b'3',
            Self::BlockDevice(_) => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }
}

/// Writes members as POSIX.1-2001 wants them: a `ustar` header, and before it an extended header with what the first
/// cannot say. User and group names, access times and change times are never written.
#[derive(Debug)]
pub(crate) struct TarWriter<W> {
    out: W,
    /// Bytes of content that the last header promised and that have not come.
    missing: u64,
    padding: u64,
    records: Vec<u8>,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, missing: 0, padding: 0, records: Vec::new() }
    }

    /// Begins a member. The content of the one before must be complete.
    pub(crate) fn header(&mut self, header: &Header<'_>) -> io::Result<()> {
        self.end_content()?;
        let mut block = [0; BLOCK];
        self.records.clear();
        fill(&mut block, header, &mut self.records);
        if !self.records.is_empty() {
            let mut extended = [0; BLOCK];
            // A constant name: it is never seen, and compresses to nothing.
            extended[..19].copy_from_slice(b"PaxHeaders/extended");
            start(&mut extended, 0o644, b'x');
            let size = self.records.len() as u64;
            write_octal(&mut extended[field::SIZE], size);
            write_octal(&mut extended[field::MTIME], 0);
            finish(&mut extended);
            self.out.write_all(&extended)?;
            self.out.write_all(&self.records)?;
            self.zeros(padding(size))?;
        }
        finish(&mut block);
        self.out.write_all(&block)?;
        if let HeaderKind::Regular(size) = header.kind {
            self.missing = size;
            self.padding = padding(size);
        }
        Ok(())
    }

    /// Adds content to the member that was begun last; what is more than was promised is cut off.
    pub(crate) fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length =
            usize::try_from(self.missing).map_or(bytes.len(), |missing| missing.min(bytes.len()));
        self.out.write_all(&bytes[..length])?;
        self.missing -= length as u64;
        Ok(())
    }

    /// Ends the stream with two blocks of zeros.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.end_content()?;
        self.zeros(2 * BLOCK as u64)?;
        Ok(self.out)
    }

    /// Content that was promised and did not come is zeros: the headers after it must stay where they belong.
    fn end_content(&mut self) -> io::Result<()> {
        let zeros = std::mem::take(&mut self.missing) + std::mem::take(&mut self.padding);
        self.zeros(zeros)
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        const ZEROS: [u8; 8 * BLOCK] = [0; 8 * BLOCK];
        let mut left = count;
        while left > 0 {
            let length = usize::try_from(left).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            self.out.write_all(&ZEROS[..length])?;
            left -= length as u64;
        }
        Ok(())
    }
}

/// A key and its value.
type Record<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// Fills a header block, and `records` with what does not fit, sorted by key.
fn fill(block: &mut [u8; BLOCK], header: &Header<'_>, records: &mut Vec<u8>) {
    let mut extra: Vec<Record<'_>> = Vec::new();
    start(block, header.mode & 0o7777, header.kind.type_flag());
    let is_directory = matches!(header.kind, HeaderKind::Directory);
    let path = if is_directory {
        Cow::Owned([header.path, b"/"].concat())
    } else {
        Cow::Borrowed(header.path)
    };
    if !write_path(block, &path) {
        extra.push((Cow::Borrowed(b"path"), path));
    }
    if let HeaderKind::HardLink(link) | HeaderKind::Symlink(link) = header.kind
        && !write_text(&mut block[field::LINK], link)
    {
        extra.push((Cow::Borrowed(b"linkpath"), Cow::Borrowed(link)));
    }
    for (range, id, key) in [(field::UID, header.uid, "uid"), (field::GID, header.gid, "gid")] {
        if !write_octal(&mut block[range.clone()], u64::from(id)) {
            write_octal(&mut block[range], 0);
            extra.push(number(key, id.into()));
        }
    }
    let size = if let HeaderKind::Regular(size) = header.kind { size } else { 0 };
    if !write_octal(&mut block[field::SIZE], size) {
        write_octal(&mut block[field::SIZE], 0);
        extra.push(number("size", size));
    }
    let secs = u64::try_from(header.mtime.secs).ok();
    let fits = secs.is_some_and(|secs| write_octal(&mut block[field::MTIME], secs));
    if !fits {
        write_octal(&mut block[field::MTIME], 0);
    }
    if !fits || header.mtime.nanos != 0 {
        let time = format_time(header.mtime).into_bytes();
        extra.push((Cow::Borrowed(b"mtime"), Cow::Owned(time)));
    }
    if let HeaderKind::CharDevice(device) | HeaderKind::BlockDevice(device) = header.kind {
        let numbers = [
            (field::MAJOR, device.major, "SCHILY.devmajor"),
            (field::MINOR, device.minor, "SCHILY.devminor"),
        ];
        for (range, value, key) in numbers {
            if !write_octal(&mut block[range.clone()], u64::from(value)) {
                write_octal(&mut block[range], 0);
                extra.push(number(key, value.into()));
            }
        }
    }
    for (name, value) in header.xattrs {
        extra.push((Cow::Owned([XATTR, name].concat()), Cow::Borrowed(value)));
    }
    // POSIX wants `hdrcharset=BINARY` before names that are not UTF-8. Nobody writes it, GNU tar warns of it, and every
    // reader takes such names as they are.
    extra.sort();
    for (key, value) in &extra {
        push_record(records, key, value);
    }
}

/// A record whose value is a number.
fn number(key: &str, value: u64) -> Record<'_> {
    (Cow::Borrowed(key.as_bytes()), Cow::Owned(value.to_string().into_bytes()))
}

/// The fields that all headers have.
fn start(block: &mut [u8; BLOCK], mode: u32, type_flag: u8) {
    write_octal(&mut block[field::MODE], u64::from(mode));
    write_octal(&mut block[field::UID], 0);
    write_octal(&mut block[field::GID], 0);
    write_octal(&mut block[field::MAJOR], 0);
    write_octal(&mut block[field::MINOR], 0);
    block[field::TYPE] = type_flag;
    block[field::MAGIC].copy_from_slice(POSIX_MAGIC);
}

/// The checksum, in the spelling of every tar since the seventh edition: six digits, NUL, space.
fn finish(block: &mut [u8; BLOCK]) {
    block[field::CHECKSUM].fill(b' ');
    let sum = block.iter().map(|byte| u64::from(*byte)).sum();
    write_octal(&mut block[field::CHECKSUM.start..field::CHECKSUM.end - 1], sum);
}

fn write_text(field: &mut [u8], text: &[u8]) -> bool {
    let fits = text.len() <= field.len();
    if fits {
        field[..text.len()].copy_from_slice(text);
    }
    fits
}

/// Puts a path into the name field, or splits it at a slash into prefix and name.
///
/// Where it does not fit, the name field gets its end: readers that know no extended headers see at least that.
fn write_path(block: &mut [u8; BLOCK], path: &[u8]) -> bool {
    if write_text(&mut block[field::NAME], path) {
        return true;
    }
    let last = path.len().min(field::PREFIX.len() + 1);
    let split = path[..last].iter().rposition(|byte| *byte == b'/').filter(|split| {
        let name = path.len() - split - 1;
        *split > 0 && name > 0 && name <= field::NAME.len()
    });
    if let Some(split) = split {
        block[field::PREFIX.start..field::PREFIX.start + split].copy_from_slice(&path[..split]);
        write_text(&mut block[field::NAME], &path[split + 1..])
    } else {
        write_text(&mut block[field::NAME], &path[path.len() - field::NAME.len()..]);
        false
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::tar::{Member, MemberKind, TarReader};

    const NO_XATTRS: &Xattrs = &Xattrs::new();

    fn file(path: &str, size: u64) -> Header<'_> {
        Header {
            path: path.as_bytes(),
            kind: HeaderKind::Regular(size),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: NO_XATTRS,
        }
    }

    fn read_one(stream: &[u8]) -> Member {
        TarReader::new(stream, 1 << 20).next().unwrap().unwrap()
    }

    #[test]
    fn content_that_does_not_come_is_zeros_and_what_was_not_promised_is_cut() {
        let mut tar = TarWriter::new(Vec::new());
        tar.header(&file("short", 1000)).unwrap();
        tar.content(b"abc").unwrap();
        tar.header(&file("long", 3)).unwrap();
        tar.content(b"ab").unwrap();
        tar.content(b"cdef").unwrap();
        let stream = tar.finish().unwrap();
        let mut reader = TarReader::new(&stream[..], 1 << 20);
        for expected in [[b"abc".to_vec(), vec![0; 997]].concat(), b"abc".to_vec()] {
            reader.next().unwrap().unwrap();
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            assert_eq!(content, expected);
        }
        assert_eq!(reader.next().unwrap(), None);
    }

    #[test]
    fn what_a_plain_header_cannot_say_is_said_before_it() {
        let xattrs = Xattrs::from([(b"user.a".to_vec(), b"\x00\n=\xff".to_vec())]);
        let header = Header {
            uid: u32::MAX - 1,
            gid: 1 << 21,
            mtime: Time { secs: 1 << 33, nanos: 1 },
            xattrs: &xattrs,
            ..file("large", 9 << 30)
        };
        let mut tar = TarWriter::new(Vec::new());
        tar.header(&header).unwrap();
        let member = read_one(&tar.out);
        assert_eq!((member.size, member.uid, member.gid), (9 << 30, u32::MAX - 1, 1 << 21));
        assert_eq!((member.mtime, member.xattrs), (header.mtime, xattrs));
        let keys = ["SCHILY.xattr.user.a", "gid", "mtime", "size", "uid"].map(|key| {
            let key = format!(" {key}=");
            tar.out.windows(key.len()).position(|window| window == key.as_bytes())
        });
        assert!(keys.iter().all(Option::is_some) && keys.is_sorted(), "sorted by key: {keys:?}");
    }

    #[test]
    fn every_kind_reads_back() {
        let device = DeviceNumber { major: 4095, minor: (1 << 20) + 7 };
        for (kind, expected) in [
            (HeaderKind::HardLink(b"first"), MemberKind::HardLink),
            (HeaderKind::Symlink(b"../any where"), MemberKind::Symlink),
            (HeaderKind::CharDevice(device), MemberKind::CharDevice),
            (HeaderKind::BlockDevice(device), MemberKind::BlockDevice),
            (HeaderKind::Directory, MemberKind::Directory),
            (HeaderKind::Fifo, MemberKind::Fifo),
        ] {
            let mut tar = TarWriter::new(Vec::new());
            tar.header(&Header { kind, mode: 0o7777, ..file("name", 0) }).unwrap();
            let member = read_one(&tar.finish().unwrap());
            assert_eq!((member.kind, member.mode, member.size), (expected, 0o7777, 0));
            let is_device = matches!(kind, HeaderKind::CharDevice(_) | HeaderKind::BlockDevice(_));
            assert_eq!(member.rdev, if is_device { device } else { DeviceNumber::default() });
            if let HeaderKind::HardLink(link) | HeaderKind::Symlink(link) = kind {
                assert_eq!(member.link, link);
            }
        }
    }

    #[test]
    fn paths_of_every_length_read_back() {
        for length in 1..600 {
            for slash_every in [7, 50, 99, 101, 160] {
                let path: String = (1..=length)
                    .map(|at| if at % slash_every == 0 && at < length { '/' } else { 'n' })
                    .collect();
                let mut tar = TarWriter::new(Vec::new());
                tar.header(&file(&path, 0)).unwrap();
                assert_eq!(read_one(&tar.out).path, path.as_bytes());
            }
        }
    }
}
