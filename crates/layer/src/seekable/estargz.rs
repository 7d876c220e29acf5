//! eStargz (docs/estargz.md of containerd's stargz-snapshotter).
//!
//! Each gzip member begins with the content of a file, or of a chunk of it, and goes on to the next one. The last two are the
//! table, as a member of the archive, and a footer that says where it is.

use std::io::{self, Read, Write};
use std::path::Path;

use ebiko_oci::{DiffId, Sha256Hasher};
use ebiko_rootfs::{Time, Xattrs};

use super::Table;
use super::pipeline::{Codec, run};
use super::split::Framing;
use super::spool::Spool;
use super::table::TableWriter;
use crate::CompressError;
use crate::compress::BlobSink;
use crate::tar::{BLOCK, Header, HeaderKind, Member, MemberKind, TarWriter};

/// The name of the table in the archive.
const TABLE: &[u8] = b"stargz.index.json";

/// Says that no file is wanted before the others. It must be there, with [`MARK`] in it.
const LANDMARK: &[u8] = b".no.prefetch.landmark";

const MARK: &[u8] = &[0xf];

/// All that belongs to the format and not to the image.
const OWN: [&[u8]; 3] = [TABLE, LANDMARK, b".prefetch.landmark"];

/// The digest and the size of a stream.
pub(super) struct Sum {
    hasher: Sha256Hasher,
    size: u64,
}

impl Sum {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }
}

pub(super) fn write(
    tar: &mut dyn Read,
    sink: &mut BlobSink<'_>,
    level: i32,
    threads: usize,
    scratch: Option<&Path>,
) -> Result<Table, CompressError> {
    let failed = |source| CompressError::Write { source };
    let mut sum = Sum { hasher: Sha256Hasher::new(), size: 0 };
    let mut table = TableWriter::new(Spool::plain(scratch)?, None)?;
    let landmark = landmark().map_err(failed)?;
    let mut tar = landmark.chain(tar);
    run(&mut tar, Framing::Before, Some(&mut sum), Codec::Gzip(level), threads, sink, &mut table)?;
    let mut toc = table.into_toc();
    toc.write(b"]}")?;
    let toc = toc.finish()?;

    let offset = sink.size();
    let digest = toc.digest;
    // libdeflate would want the whole table in memory: readers look for it in a single gzip member.
    let level = flate2::Compression::new(level.clamp(1, 9).unsigned_abs());
    let gzip = flate2::write::GzEncoder::new(&mut *sink, level);
    let mut archive = TarWriter::new(Summing { out: gzip, sum: &mut sum });
    archive.header(&header(TABLE, toc.length)).map_err(failed)?;
    toc.copy(|piece| archive.content(piece))?;
    let Summing { out: gzip, .. } = archive.finish().map_err(failed)?;
    gzip.finish().map_err(failed)?;
    sink.write_all(&footer(offset)).map_err(failed)?;
    Ok(Table::Estargz { digest, diff_id: DiffId::new(sum.hasher.finish()), size: sum.size })
}

/// Sums what it passes on.
struct Summing<'a, W> {
    out: W,
    sum: &'a mut Sum,
}

impl<W: Write> Write for Summing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.sum.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A file of the format's own.
fn header(path: &[u8], size: u64) -> Header<'_> {
    const NO_XATTRS: &Xattrs = &Xattrs::new();
    Header {
        path,
        kind: HeaderKind::Regular(size),
        mode: 0o444,
        uid: 0,
        gid: 0,
        mtime: Time { secs: 0, nanos: 0 },
        xattrs: NO_XATTRS,
    }
}

/// The first member of the archive.
fn landmark() -> io::Result<io::Cursor<Vec<u8>>> {
    let mut archive = TarWriter::new(Vec::new());
    archive.header(&header(LANDMARK, MARK.len() as u64))?;
    archive.content(MARK)?;
    let mut bytes = archive.finish()?;
    // Without the mark at the end: what follows goes on.
    bytes.truncate(bytes.len() - 2 * BLOCK);
    Ok(io::Cursor::new(bytes))
}

/// Whether a member of the image belongs to the format, as in a layer that was made from an eStargz base's files: the layer
/// gets its own, so they are left out.
///
/// # Errors
///
/// Fails where leaving it out would take something with it.
pub(super) fn is_own(member: &Member) -> Result<bool, CompressError> {
    let is_reserved = |path: &[u8]| OWN.contains(&path.strip_suffix(b"/").unwrap_or(path));
    let unsayable = |what, why| {
        let path = String::from_utf8_lossy(&member.path).into_owned();
        Err(CompressError::Unsayable { path, what, why })
    };
    if member.kind == MemberKind::HardLink && is_reserved(&member.link) {
        return unsayable("target", "it is a file of the format's own");
    }
    match member.kind {
        _ if !is_reserved(&member.path) => Ok(false),
        MemberKind::Regular => Ok(true),
        _ => unsayable("name", "it is that of a file of the format's own"),
    }
}

/// An empty gzip member with a field for those who know it: where the table begins.
fn footer(offset: u64) -> Vec<u8> {
    let field = format!("{offset:016x}STARGZ");
    let mut bytes = vec![0x1f, 0x8b, 8, FLAG_EXTRA, 0, 0, 0, 0, 0, UNKNOWN_SYSTEM];
    // The lengths are constant: 22 of the field, 4 more with its own name and length.
    bytes.extend_from_slice(&[26, 0, b'S', b'G', 22, 0]);
    bytes.extend_from_slice(field.as_bytes());
    // One last block, stored, of no bytes; then their CRC-32 and their number.
    bytes.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

const FLAG_EXTRA: u8 = 4;
const UNKNOWN_SYSTEM: u8 = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::TarReader;

    #[test]
    fn the_footer_is_an_empty_gzip_member_of_51_bytes() {
        let bytes = footer(0x0123_4567_89ab_cdef);
        assert_eq!(bytes.len(), 51);
        let mut gzip = flate2::read::GzDecoder::new(&bytes[..]);
        let mut content = Vec::new();
        gzip.read_to_end(&mut content).unwrap();
        assert!(content.is_empty());
        let extra = gzip.header().unwrap().extra().unwrap();
        assert_eq!(extra, b"SG\x16\x000123456789abcdefSTARGZ");
    }

    #[test]
    fn the_landmark_goes_on_into_what_follows() {
        let mut tar = TarReader::new(landmark().unwrap(), 1 << 20);
        let member = tar.next().unwrap().unwrap();
        assert_eq!((&member.path[..], member.size), (LANDMARK, 1));
        let mut content = Vec::new();
        tar.read_to_end(&mut content).unwrap();
        assert_eq!(content, MARK);
        assert!(tar.next().unwrap().is_none());
        assert_eq!(landmark().unwrap().into_inner().len(), 2 * BLOCK);
    }
}
