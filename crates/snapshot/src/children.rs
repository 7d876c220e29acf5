//! The files of one directory, sorted by name.

use crate::record::Record;

/// How many files one chunk holds at most. Inserting moves the rest of a chunk, 8 KiB at most, so a directory
/// with a million files in any order costs no more per file than a small one.
const CHUNK: usize = 128;

/// The files of one directory: a two-level B-tree whose leaves grow in small steps.
///
/// `BTreeMap` would need half as much memory again (its nodes are two thirds full), and a single vector would make a
/// large directory that comes in no order quadratic.
#[derive(Debug, Default, Clone)]
pub(crate) struct Children {
    chunks: Vec<Chunk>,
}

#[derive(Debug, Default, Clone)]
struct Chunk {
    records: Vec<Record>,
    /// The names, in any order; [`Record::name_start`] points here. 128 names of 255 bytes are fewer than 65,536.
    names: Vec<u8>,
}

/// Where a file is, or would be.
pub(crate) type Position = (usize, usize);

impl Chunk {
    fn name(&self, index: usize) -> &[u8] {
        let record = &self.records[index];
        let start = usize::from(record.name_start);
        &self.names[start..start + usize::from(record.name_len)]
    }

    fn search(&self, name: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.records.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.name(middle).cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    fn insert(&mut self, index: usize, name: &[u8], mut record: Record) {
        let live: usize = self.records.iter().map(|record| usize::from(record.name_len)).sum();
        if self.names.len() > live + CHUNK * 16 {
            self.compact();
        }
        // Small steps: the vectors of a typical directory never have much to spare.
        if self.records.len() == self.records.capacity() {
            self.records.reserve_exact((self.records.len() / 4).clamp(1, 16));
        }
        if self.names.len() + name.len() > self.names.capacity() {
            self.names.reserve_exact(name.len() + (self.names.len() / 4).min(256));
        }
        // Both fit: names are at most 255 bytes by the file system's rule and 128 of them less than 2^16.
        record.name_start = u16::try_from(self.names.len()).unwrap_or(u16::MAX);
        record.name_len = u8::try_from(name.len()).unwrap_or(u8::MAX);
        self.names.extend_from_slice(name);
        self.records.insert(index, record);
    }

    /// Drops what is to spare, and names that nobody has any more.
    fn compact(&mut self) {
        let mut names = Vec::with_capacity(
            self.records.iter().map(|record| usize::from(record.name_len)).sum(),
        );
        for record in &mut self.records {
            let start = usize::from(record.name_start);
            record.name_start = u16::try_from(names.len()).unwrap_or(u16::MAX);
            names.extend_from_slice(&self.names[start..start + usize::from(record.name_len)]);
        }
        self.names = names;
        self.records.shrink_to_fit();
    }
}

impl Children {
    /// Where `name` is, or where it belongs.
    pub(crate) fn search(&self, name: &[u8]) -> Result<Position, Position> {
        let after = self.chunks.partition_point(|chunk| chunk.name(0) <= name);
        let chunk = after.saturating_sub(1);
        match self.chunks.get(chunk).map(|chunk| chunk.search(name)) {
            Some(Ok(index)) => Ok((chunk, index)),
            Some(Err(index)) => Err((chunk, index)),
            None => Err((0, 0)),
        }
    }

    pub(crate) fn get(&self, name: &[u8]) -> Option<&Record> {
        self.search(name).ok().map(|(chunk, index)| &self.chunks[chunk].records[index])
    }

    pub(crate) fn get_mut(&mut self, name: &[u8]) -> Option<&mut Record> {
        self.search(name).ok().map(|(chunk, index)| &mut self.chunks[chunk].records[index])
    }

    /// Adds a file that is not there, or replaces what the index knows of it.
    ///
    /// A name longer than a component can be (255 bytes) is not kept; no file system has one.
    pub(crate) fn insert(&mut self, name: &[u8], record: Record) {
        if name.len() > usize::from(u8::MAX) {
            return;
        }
        match self.search(name) {
            Ok((chunk, index)) => {
                let old = &mut self.chunks[chunk].records[index];
                let (start, len) = (old.name_start, old.name_len);
                *old = record;
                (old.name_start, old.name_len) = (start, len);
            }
            Err(position) => self.insert_at(position, name, record),
        }
    }

    fn insert_at(&mut self, (chunk, index): Position, name: &[u8], record: Record) {
        let is_last = chunk + 1 >= self.chunks.len();
        let Some(target) = self.chunks.get_mut(chunk) else {
            let mut first = Chunk::default();
            first.insert(0, name, record);
            self.chunks.reserve_exact(1);
            self.chunks.push(first);
            return;
        };
        if target.records.len() < CHUNK {
            target.insert(index, name, record);
            return;
        }
        // Names usually come in order: then full chunks stay full.
        let split = if is_last && index == CHUNK { CHUNK } else { CHUNK / 2 };
        let mut upper =
            Chunk { records: target.records.split_off(split), names: target.names.clone() };
        upper.compact();
        target.compact();
        if index < split || split < CHUNK && index == split {
            target.insert(index, name, record);
        } else {
            upper.insert(index - split, name, record);
        }
        self.chunks.insert(chunk + 1, upper);
    }

    /// Forgets `name`.
    pub(crate) fn remove(&mut self, name: &[u8]) -> Option<Record> {
        let (chunk, index) = self.search(name).ok()?;
        let record = self.chunks[chunk].records.remove(index);
        if self.chunks[chunk].records.is_empty() {
            self.chunks.remove(chunk);
        }
        Some(record)
    }

    /// The file at `position` or, past the end of a chunk, at the start of the next.
    pub(crate) fn at(&self, position: Position) -> Option<(Position, &[u8], &Record)> {
        let (chunk, index) = position;
        let found = self.chunks.get(chunk)?;
        match found.records.get(index) {
            Some(record) => Some((position, found.name(index), record)),
            None => self.at((chunk + 1, 0)),
        }
    }

    pub(crate) fn record_mut(&mut self, (chunk, index): Position) -> Option<&mut Record> {
        self.chunks.get_mut(chunk)?.records.get_mut(index)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Record)> {
        self.chunks.iter().flat_map(|chunk| {
            chunk.records.iter().enumerate().map(|(index, record)| (chunk.name(index), record))
        })
    }

    pub(crate) fn records_mut(&mut self) -> impl Iterator<Item = &mut Record> {
        self.chunks.iter_mut().flat_map(|chunk| chunk.records.iter_mut())
    }

    /// Keeps only the files for which `keep` says so.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut Record) -> bool) {
        for chunk in &mut self.chunks {
            chunk.records.retain_mut(&mut keep);
        }
        self.chunks.retain(|chunk| !chunk.records.is_empty());
    }

    /// Gives back memory that is to spare.
    pub(crate) fn compact(&mut self) {
        for chunk in &mut self.chunks {
            chunk.compact();
        }
        self.chunks.shrink_to_fit();
    }

    /// Bytes on the heap.
    pub(crate) fn heap_size(&self) -> usize {
        let chunks = self.chunks.capacity() * size_of::<Chunk>();
        self.chunks.iter().fold(chunks, |sum, chunk| {
            sum + chunk.records.capacity() * size_of::<Record>() + chunk.names.capacity()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ebiko_rootfs::{DeviceNumber, Kind, Metadata, Time};

    use super::*;
    use crate::numbers::{FileNumbers, Numbers};

    fn size(record: &Record) -> u64 {
        record.to_entry(&Numbers::default()).size
    }

    fn record(size: u64) -> Record {
        let time = Time { secs: 1, nanos: 2 };
        let metadata = Metadata {
            kind: Kind::Regular,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size,
            mtime: time,
            ctime: time,
            dev: 1,
            ino: size,
            nlink: 1,
            rdev: DeviceNumber::default(),
        };
        Record::new(&metadata, FileNumbers::NONE)
    }

    /// A fixed shuffle of `0..count` (a full-period linear congruential sequence).
    fn shuffled(count: u64) -> impl Iterator<Item = u64> {
        let period = count.next_power_of_two();
        (0..period)
            .scan(7_u64, move |state, _| {
                *state = (*state * 5 + 3) % period;
                Some(*state)
            })
            .filter(move |value| *value < count)
    }

    #[track_caller]
    fn check_equal(children: &Children, expected: &BTreeMap<String, u64>) {
        let actual: Vec<(String, u64)> = children
            .iter()
            .map(|(name, record)| (String::from_utf8_lossy(name).into_owned(), size(record)))
            .collect();
        let expected: Vec<(String, u64)> =
            expected.iter().map(|(name, size)| (name.clone(), *size)).collect();
        assert_eq!(actual, expected);
    }

    #[test]
    fn any_order_of_insertion_and_removal_gives_the_sorted_list() {
        for stride in [1, 3] {
            let mut children = Children::default();
            let mut expected = BTreeMap::new();
            for value in shuffled(3000) {
                let name = format!("f{:x}", value.wrapping_mul(0x9e37_79b9) % 100_000);
                children.insert(name.as_bytes(), record(value));
                expected.insert(name, value);
                if value % 3 == stride % 3 {
                    let gone = format!("f{:x}", (value / 2).wrapping_mul(0x9e37_79b9) % 100_000);
                    assert_eq!(
                        children.remove(gone.as_bytes()).is_some(),
                        expected.remove(&gone).is_some()
                    );
                }
            }
            check_equal(&children, &expected);
            children.compact();
            check_equal(&children, &expected);
            children.retain(|record| size(record).is_multiple_of(2));
            expected.retain(|_, size| *size % 2 == 0);
            check_equal(&children, &expected);
        }
    }

    #[test]
    fn the_longest_names_fit_a_full_chunk() {
        let mut children = Children::default();
        let mut expected = BTreeMap::new();
        for value in shuffled(500) {
            let name = format!("{value:0>255}");
            children.insert(name.as_bytes(), record(value));
            expected.insert(name, value);
        }
        check_equal(&children, &expected);
    }

    #[test]
    fn replacing_one_name_over_and_over_does_not_pile_up() {
        let mut children = Children::default();
        for value in 0..10_000 {
            children.insert(b"same", record(value));
            children.remove(b"other");
            children.insert(b"other", record(value));
        }
        assert!(children.heap_size() < 8 * 1024, "{} bytes for two files", children.heap_size());
    }

    #[test]
    fn names_in_order_leave_full_chunks() {
        let mut children = Children::default();
        for value in 0..100_000_u64 {
            children.insert(format!("{value:06}").as_bytes(), record(value));
        }
        children.compact();
        let each = children.heap_size() / 100_000;
        assert!(each <= 64 + 6 + 1, "{each} bytes each");
    }
}
