//! Files with holes, in the four ways that archives spell them.

use super::number::read_number;
use super::pax::{Record, parse_decimal};
use super::{BLOCK, field};

/// Where the bytes that are in the archive belong in a file; the rest of the file is zeros.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sparse {
    /// Offset and length of each piece, in order.
    pub(crate) pieces: Vec<(u64, u64)>,
    /// The size of the file.
    pub(crate) real_size: u64,
}

/// A map of more pieces than this is refused; 64 MiB of alternating blocks need fewer.
pub(crate) const MAX_PIECES: usize = 1 << 18;

impl Sparse {
    /// Whether the pieces are in order, apart, inside the file, and make up `stored` bytes.
    pub(crate) fn is_valid(&self, stored: u64) -> bool {
        let mut end = 0_u64;
        let mut sum = 0_u64;
        for (offset, length) in &self.pieces {
            let Some(next) = offset.checked_add(*length) else { return false };
            if *offset < end || next > self.real_size {
                return false;
            }
            end = next;
            sum += length;
        }
        sum == stored
    }
}

/// What the records of an extended header say of holes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PaxSparse {
    /// Nothing.
    No,
    /// Versions 0.0 and 0.1: the map is in the records.
    Map(Sparse),
    /// Version 1.0: the map precedes the content. The real size.
    MapInContent(u64),
}

/// `None` where the records contradict themselves or the version is not known.
pub(crate) fn from_records(records: &[Record]) -> Option<PaxSparse> {
    let find = |key: &str| {
        let key = [b"GNU.sparse.", key.as_bytes()].concat();
        records.iter().rev().find(|(name, _)| *name == key).map(|(_, value)| &value[..])
    };
    if !records.iter().any(|(key, _)| key.starts_with(b"GNU.sparse.")) {
        return Some(PaxSparse::No);
    }
    let real_size = find("realsize").or_else(|| find("size")).and_then(parse_decimal);
    match (find("major"), find("minor")) {
        (Some(b"1"), Some(b"0")) => return Some(PaxSparse::MapInContent(real_size?)),
        (None, None) | (Some(b"0"), Some(b"0" | b"1")) => {}
        _ => return None,
    }
    let numbers: Vec<u64> = match find("map") {
        Some(map) => map.split(|byte| *byte == b',').map(parse_decimal).collect::<Option<_>>()?,
        // Version 0.0 repeats two keys, which POSIX does not allow; the order of the records is the map.
        None => records
            .iter()
            .filter(|(key, _)| matches!(&key[..], b"GNU.sparse.offset" | b"GNU.sparse.numbytes"))
            .map(|(_, value)| parse_decimal(value))
            .collect::<Option<_>>()?,
    };
    let count = find("numblocks").and_then(parse_decimal)?;
    if !numbers.len().is_multiple_of(2)
        || numbers.len() as u64 / 2 != count
        || numbers.len() / 2 > MAX_PIECES
    {
        return None;
    }
    let pieces = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    Some(PaxSparse::Map(Sparse { pieces, real_size: real_size? }))
}

/// Adds the pieces of an old GNU header or one of its continuation blocks.
pub(crate) fn push_old_pieces(fields: &[u8], pieces: &mut Vec<(u64, u64)>) -> Option<()> {
    for field in fields.chunks_exact(24) {
        if field[0] == 0 {
            break;
        }
        let number = |bytes: &[u8]| u64::try_from(read_number(bytes)?).ok();
        pieces.push((number(&field[..12])?, number(&field[12..])?));
    }
    (pieces.len() <= MAX_PIECES).then_some(())
}

/// Whether an old GNU header says that continuation blocks follow, and the real size.
pub(crate) fn old_header(block: &[u8; BLOCK]) -> Option<(bool, u64)> {
    let real_size = u64::try_from(read_number(&block[field::SPARSE_REAL_SIZE])?).ok()?;
    Some((block[field::SPARSE_EXTENDED] != 0, real_size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &[(&str, &str)]) -> Vec<Record> {
        text.iter()
            .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn a_map_must_be_ordered_inside_and_complete() {
        let sparse = |pieces: &[(u64, u64)]| Sparse { pieces: pieces.to_vec(), real_size: 100 };
        assert!(sparse(&[(0, 10), (50, 10)]).is_valid(20));
        assert!(sparse(&[(0, 10), (10, 10), (100, 0)]).is_valid(20));
        assert!(!sparse(&[(0, 10), (50, 10)]).is_valid(21), "bytes that belong nowhere");
        assert!(!sparse(&[(50, 10), (0, 10)]).is_valid(20), "out of order");
        assert!(!sparse(&[(0, 10), (5, 10)]).is_valid(20), "overlapping");
        assert!(!sparse(&[(95, 10)]).is_valid(10), "outside");
        assert!(!sparse(&[(u64::MAX, 10)]).is_valid(10), "overflowing");
    }

    #[test]
    fn the_three_pax_spellings_are_told_apart() {
        let map = |pieces: &[(u64, u64)], real_size| {
            Some(PaxSparse::Map(Sparse { pieces: pieces.to_vec(), real_size }))
        };
        assert_eq!(from_records(&records(&[("path", "x")])), Some(PaxSparse::No));
        assert_eq!(
            from_records(&records(&[
                ("GNU.sparse.size", "100"),
                ("GNU.sparse.numblocks", "2"),
                ("GNU.sparse.offset", "1"),
                ("GNU.sparse.numbytes", "2"),
                ("GNU.sparse.offset", "3"),
                ("GNU.sparse.numbytes", "4"),
            ])),
            map(&[(1, 2), (3, 4)], 100)
        );
        assert_eq!(
            from_records(&records(&[
                ("GNU.sparse.size", "100"),
                ("GNU.sparse.numblocks", "1"),
                ("GNU.sparse.map", "5,6"),
            ])),
            map(&[(5, 6)], 100)
        );
        assert_eq!(
            from_records(&records(&[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.realsize", "7"),
            ])),
            Some(PaxSparse::MapInContent(7))
        );
    }

    #[test]
    fn contradictions_and_unknown_versions_are_refused() {
        for bad in [
            &[("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "7")][..],
            &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.numblocks", "2"), ("GNU.sparse.map", "5,6")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", "5")],
            &[("GNU.sparse.size", "9"), ("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", "5,-6")],
            &[("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", "5,6")],
        ] {
            assert_eq!(from_records(&records(bad)), None, "{bad:?}");
        }
    }
}
