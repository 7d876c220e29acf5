//! Packs: many objects in one file.
//!
//! A pack is read from a file of ours and never whole into memory. Its index is always made here,
//! from the objects themselves: so every object has been hashed before its name is used, and an
//! index of the server's is never believed.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use flate2::Crc;
use flate2::bufread::ZlibDecoder;

use super::Limits;
use super::delta;
use super::object_id::{Kind, ObjectHasher, ObjectId, hash_object};

/// The longest chain of differences that git itself writes.
const MAX_DEPTH: u32 = 4095;

/// How many bytes of bases are kept for objects that are still to be made from them. Beyond that
/// they are made again.
const KEPT_BASES: u64 = 128 << 20;

/// What is wrong with objects that a server sent.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum Damage {
    #[error("the pack is not one: {reason}")]
    Pack { reason: &'static str },
    #[error("the pack's checksum is wrong")]
    Checksum,
    #[error("the pack has {count} objects, and no more than {limit} are taken")]
    TooMany { count: u64, limit: u64 },
    #[error("an object has {size} bytes, and no more than {limit} are taken")]
    TooLarge { size: u64, limit: u64 },
    #[error("the objects have more than {limit} bytes")]
    TooMuch { limit: u64 },
    #[error("a delta does not fit its base")]
    Delta,
    #[error("a delta has no base in the pack")]
    NoBase,
    #[error("a chain of deltas is longer than {MAX_DEPTH}")]
    TooDeep,
    #[error("object {id} is missing")]
    Missing { id: ObjectId },
    #[error("object {id} is not what its name says")]
    WrongName { id: ObjectId },
    #[error("object {id} is no {expected}")]
    WrongKind { id: ObjectId, expected: &'static str },
    #[error("the {kind} {id} cannot be understood: {reason}")]
    Object { kind: &'static str, id: ObjectId, reason: &'static str },
    #[error("cannot read the objects")]
    Read { source: io::Error },
    #[error("interrupted")]
    Interrupted,
}

impl From<io::Error> for Damage {
    fn from(source: io::Error) -> Self {
        Self::Read { source }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Base {
    /// None: the object is written whole.
    Whole(Kind),
    Offset(u64),
    Name(ObjectId),
}

/// One object, in the order of the file.
struct Entry {
    offset: u64,
    /// Of the header and the compressed bytes, as an index has it.
    crc: u32,
    /// Of what is compressed: the object or the delta.
    size: u64,
    base: Base,
    /// Known once the object was made.
    found: Option<Found>,
}

#[derive(Clone, Copy)]
struct Found {
    id: ObjectId,
    kind: Kind,
    /// The entry that this one is a difference to.
    base: Option<u32>,
}

/// A pack whose objects have all been made and named once.
pub(crate) struct Pack {
    file: File,
    entries: Vec<Entry>,
    /// Numbers of entries, sorted by name.
    by_name: Vec<u32>,
    checksum: ObjectId,
    largest: u64,
}

impl Pack {
    /// Reads all of `file` and names its objects.
    pub(crate) fn index(
        file: File,
        limits: &Limits,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<Self, Damage> {
        let (count, end, checksum) = frame(&file, limits)?;
        let mut pack = Self {
            file,
            entries: Vec::new(),
            by_name: Vec::new(),
            checksum,
            largest: limits.delta,
        };
        pack.scan(count, end, limits, is_interrupted)?;
        pack.resolve(limits, is_interrupted)?;
        let mut by_name: Vec<(ObjectId, u32)> = Vec::with_capacity(pack.entries.len());
        for (number, entry) in (0..).zip(&pack.entries) {
            by_name.push((entry.found.ok_or(Damage::NoBase)?.id, number));
        }
        by_name.sort_unstable();
        pack.by_name = by_name.into_iter().map(|(_, number)| number).collect();
        Ok(pack)
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The checksum at its end, which names it.
    pub(crate) fn checksum(&self) -> ObjectId {
        self.checksum
    }

    fn entry(&self, number: u32) -> Result<&Entry, Damage> {
        self.entries.get(number as usize).ok_or(Damage::NoBase)
    }

    fn find(&self, id: &ObjectId) -> Option<(u32, Found)> {
        let name = |number: &u32| {
            self.entry(*number).ok().and_then(|entry| entry.found).map(|found| found.id)
        };
        let place = self.by_name.binary_search_by(|number| name(number).cmp(&Some(*id))).ok()?;
        let number = *self.by_name.get(place)?;
        Some((number, self.entry(number).ok()?.found?))
    }

    /// What the object is, if it is in here.
    pub(crate) fn kind(&self, id: &ObjectId) -> Option<Kind> {
        self.find(id).map(|(_, found)| found.kind)
    }

    /// The size of the object, if it is in here and written whole.
    fn whole(&self, id: &ObjectId) -> Option<&Entry> {
        let (number, found) = self.find(id)?;
        self.entry(number).ok().filter(|_| found.base.is_none())
    }

    /// The object, if it is in here; an error if it is too large for memory.
    pub(crate) fn read(&self, id: &ObjectId) -> Result<Option<(Kind, Vec<u8>)>, Damage> {
        match self.find(id) {
            Some((number, found)) => Ok(Some((found.kind, self.make(number)?))),
            None => Ok(None),
        }
    }

    /// Writes the object's bytes to `out`, in pieces if it is written whole.
    pub(crate) fn copy(&self, id: &ObjectId, out: &mut dyn Write) -> Result<u64, Damage> {
        let Some(entry) = self.whole(id) else {
            let (_, data) = self.read(id)?.ok_or(Damage::Missing { id: *id })?;
            out.write_all(&data)?;
            return Ok(data.len() as u64);
        };
        let mut input = self.at(entry.offset);
        Header::read(&mut input, entry.offset)?;
        Ok(io::copy(&mut ZlibDecoder::new(input).take(entry.size), out)?)
    }

    /// Makes one object from the file, with the chain that leads to it.
    fn make(&self, number: u32) -> Result<Vec<u8>, Damage> {
        let mut deltas = Vec::new();
        let mut number = number;
        loop {
            let entry = self.entry(number)?;
            match entry.found.and_then(|found| found.base) {
                Some(base) if deltas.len() < MAX_DEPTH as usize => {
                    deltas.push(number);
                    number = base;
                }
                Some(_) => return Err(Damage::TooDeep),
                None => break,
            }
        }
        let mut data = self.inflate(self.entry(number)?)?;
        for delta in deltas.into_iter().rev() {
            data = delta::apply(&data, &self.inflate(self.entry(delta)?)?, self.largest)?;
        }
        Ok(data)
    }

    /// What is compressed at one entry.
    fn inflate(&self, entry: &Entry) -> Result<Vec<u8>, Damage> {
        if entry.size > self.largest {
            return Err(Damage::TooLarge { size: entry.size, limit: self.largest });
        }
        let mut input = self.at(entry.offset);
        Header::read(&mut input, entry.offset)?;
        let mut data = Vec::new();
        ZlibDecoder::new(input).take(entry.size).read_to_end(&mut data)?;
        if data.len() as u64 == entry.size {
            Ok(data)
        } else {
            Err(Damage::Pack { reason: "an object ends early" })
        }
    }

    fn at(&self, offset: u64) -> Scanner<'_> {
        Scanner::new(&self.file, offset, 16 << 10)
    }

    /// Finds where every object begins, and names those that are written whole.
    fn scan(
        &mut self,
        count: u32,
        end: u64,
        limits: &Limits,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<(), Damage> {
        let mut entries = Vec::new();
        let mut input = Scanner::new(&self.file, HEADER, 256 << 10);
        let mut total = 0_u64;
        for _ in 0..count {
            if is_interrupted() {
                return Err(Damage::Interrupted);
            }
            let offset = input.position;
            if offset >= end {
                return Err(Damage::Pack { reason: "it ends early" });
            }
            input.crc = Crc::new();
            let header = Header::read(&mut input, offset)?;
            let limit = match header.base {
                Base::Whole(_) => limits.object,
                Base::Offset(_) | Base::Name(_) => limits.delta,
            };
            if header.size > limit {
                return Err(Damage::TooLarge { size: header.size, limit });
            }
            total = total.saturating_add(header.size);
            if total > limits.total {
                return Err(Damage::TooMuch { limit: limits.total });
            }
            let found = pass(&mut input, &header)?;
            let crc = input.crc.sum();
            entries.push(Entry { offset, crc, size: header.size, base: header.base, found });
        }
        if input.position != end {
            return Err(Damage::Pack { reason: "there is something after the last object" });
        }
        self.entries = entries;
        Ok(())
    }

    /// Makes every object that is a difference, each from the one it refers to.
    ///
    /// From the bases outwards, so that every object is made once, and with a stack of our own,
    /// so that a long chain costs no deep recursion.
    fn resolve(
        &mut self,
        limits: &Limits,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<(), Damage> {
        let mut by_offset: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        let mut by_name: BTreeMap<ObjectId, Vec<u32>> = BTreeMap::new();
        let mut bases = Vec::new();
        for (number, entry) in (0_u32..).zip(&self.entries) {
            match entry.base {
                Base::Whole(_) => bases.push(number),
                Base::Offset(offset) => by_offset.entry(offset).or_default().push(number),
                Base::Name(id) => by_name.entry(id).or_default().push(number),
            }
        }
        let kept = Rc::new(Cell::new(0));
        let mut made = 0_u64;
        let mut pending: Vec<Pending> = Vec::new();
        for base in bases {
            let entry = self.entry(base)?;
            let Some(found) = entry.found else { continue };
            let mut children = by_offset.remove(&entry.offset).unwrap_or_default();
            children.extend(by_name.remove(&found.id).into_iter().flatten());
            if children.is_empty() {
                continue;
            }
            let data = Some(Rc::new(Held::new(self.inflate(entry)?, &kept)));
            push_all(&mut pending, children, base, data.as_ref(), 1);
            drop(data);
            while let Some(next) = pending.pop() {
                if is_interrupted() {
                    return Err(Damage::Interrupted);
                }
                if next.depth > MAX_DEPTH {
                    return Err(Damage::TooDeep);
                }
                let entry = self.entry(next.number)?;
                let delta = self.inflate(entry)?;
                // The sum of what deltas make is bounded like everything else: a small pack can
                // name petabytes.
                made = made.saturating_add(delta::result_size(&delta)?);
                if made > limits.total {
                    return Err(Damage::TooMuch { limit: limits.total });
                }
                let data = match &next.data {
                    Some(base) => delta::apply(&base.data, &delta, self.largest)?,
                    None => delta::apply(&self.make(next.base)?, &delta, self.largest)?,
                };
                let id = hash_object(found.kind, &data);
                let offset = entry.offset;
                if let Some(entry) = self.entries.get_mut(next.number as usize) {
                    entry.found = Some(Found { id, kind: found.kind, base: Some(next.base) });
                }
                let (number, depth) = (next.number, next.depth + 1);
                drop(next);
                let mut children = by_offset.remove(&offset).unwrap_or_default();
                children.extend(by_name.remove(&id).into_iter().flatten());
                if !children.is_empty() {
                    let is_kept = kept.get() + data.len() as u64 <= KEPT_BASES;
                    let data = is_kept.then(|| Rc::new(Held::new(data, &kept)));
                    push_all(&mut pending, children, number, data.as_ref(), depth);
                }
            }
        }
        if by_offset.is_empty() && by_name.is_empty() { Ok(()) } else { Err(Damage::NoBase) }
    }

    /// Writes the index that git keeps beside a pack, in its second version.
    pub(crate) fn write_index(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut hasher = ObjectHasher::plain();
        let mut put = |bytes: &[u8]| {
            hasher.update(bytes);
            out.write_all(bytes)
        };
        let sorted: Vec<(&Entry, Found)> = self
            .by_name
            .iter()
            .filter_map(|number| self.entry(*number).ok())
            .filter_map(|entry| Some((entry, entry.found?)))
            .collect();
        put(b"\xfftOc\0\0\0\x02")?;
        let mut fanout = [0_u32; 256];
        for (_, found) in &sorted {
            let first = found.id.as_bytes().first().copied().unwrap_or_default();
            fanout.iter_mut().skip(first.into()).for_each(|count| *count += 1);
        }
        fanout.iter().try_for_each(|count| put(&count.to_be_bytes()))?;
        sorted.iter().try_for_each(|(_, found)| put(found.id.as_bytes()))?;
        sorted.iter().try_for_each(|(entry, _)| put(&entry.crc.to_be_bytes()))?;
        let mut large = Vec::new();
        for (entry, _) in &sorted {
            match u32::try_from(entry.offset) {
                Ok(offset) if offset < 1 << 31 => put(&offset.to_be_bytes())?,
                _ => {
                    let place = u32::try_from(large.len()).map_err(io::Error::other)?;
                    put(&(place | 1 << 31).to_be_bytes())?;
                    large.push(entry.offset);
                }
            }
        }
        large.iter().try_for_each(|offset| put(&offset.to_be_bytes()))?;
        put(self.checksum.as_bytes())?;
        out.write_all(hasher.finish().as_bytes())
    }
}

/// A difference that waits for its turn.
struct Pending {
    number: u32,
    base: u32,
    data: Option<Rc<Held>>,
    depth: u32,
}

fn push_all(
    pending: &mut Vec<Pending>,
    numbers: Vec<u32>,
    base: u32,
    data: Option<&Rc<Held>>,
    depth: u32,
) {
    let new = |number| Pending { number, base, data: data.cloned(), depth };
    pending.extend(numbers.into_iter().map(new));
}

/// Bytes that are counted as long as they are kept.
struct Held {
    data: Vec<u8>,
    kept: Rc<Cell<u64>>,
}

impl Held {
    fn new(data: Vec<u8>, kept: &Rc<Cell<u64>>) -> Self {
        kept.set(kept.get() + data.len() as u64);
        Self { data, kept: Rc::clone(kept) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.kept.set(self.kept.get().saturating_sub(self.data.len() as u64));
    }
}

/// Signature, version, count.
const HEADER: u64 = 12;

/// Checks what is around the objects: how many there are, where they end, the checksum.
fn frame(file: &File, limits: &Limits) -> Result<(u32, u64, ObjectId), Damage> {
    let size = file.metadata()?.len();
    let end = size.checked_sub(ObjectId::LENGTH as u64).filter(|end| *end >= HEADER);
    let end = end.ok_or(Damage::Pack { reason: "it is too short" })?;
    let mut header = [0; 12];
    file.read_exact_at(&mut header, 0)?;
    let [b'P', b'A', b'C', b'K', 0, 0, 0, 2 | 3, count @ ..] = header else {
        return Err(Damage::Pack { reason: "it does not begin like one" });
    };
    let count = u32::from_be_bytes(count);
    if u64::from(count) > limits.objects {
        return Err(Damage::TooMany { count: count.into(), limit: limits.objects });
    }
    let mut expected = [0; ObjectId::LENGTH];
    file.read_exact_at(&mut expected, end)?;
    let mut input = file;
    input.seek(SeekFrom::Start(0))?;
    let mut input = BufReader::with_capacity(256 << 10, input).take(end);
    let mut hasher = ObjectHasher::plain();
    loop {
        let piece = input.fill_buf()?;
        if piece.is_empty() {
            break;
        }
        hasher.update(piece);
        let length = piece.len();
        input.consume(length);
    }
    let checksum = hasher.finish();
    if checksum.as_bytes() == expected { Ok((count, end, checksum)) } else { Err(Damage::Checksum) }
}

/// Reads over one object; gives its name if it is written whole.
fn pass(input: &mut Scanner<'_>, header: &Header) -> Result<Option<Found>, Damage> {
    let mut hasher = match header.base {
        Base::Whole(kind) => Some((kind, ObjectHasher::object(kind, header.size))),
        Base::Offset(_) | Base::Name(_) => None,
    };
    let mut inflated = ZlibDecoder::new(input);
    let mut buffer = [0; 16 << 10];
    let mut seen = 0_u64;
    loop {
        let count = inflated.read(&mut buffer)?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
        seen += piece.len() as u64;
        if seen > header.size {
            return Err(Damage::Pack { reason: "an object is longer than it says" });
        }
        if let Some((_, hasher)) = &mut hasher {
            hasher.update(piece);
        }
    }
    if seen != header.size {
        return Err(Damage::Pack { reason: "an object ends early" });
    }
    Ok(hasher.map(|(kind, hasher)| Found { id: hasher.finish(), kind, base: None }))
}

/// What stands before the compressed bytes.
struct Header {
    size: u64,
    base: Base,
}

impl Header {
    fn read(input: &mut Scanner<'_>, offset: u64) -> Result<Self, Damage> {
        let bad = Damage::Pack { reason: "an object begins with nonsense" };
        let first = input.byte()?;
        let mut size = u64::from(first & 0x0f);
        let mut shift = 4;
        let mut byte = first;
        while byte & 0x80 != 0 {
            if shift > 53 {
                return Err(bad);
            }
            byte = input.byte()?;
            size |= u64::from(byte & 0x7f) << shift;
            shift += 7;
        }
        let base = match first >> 4 & 7 {
            1 => Base::Whole(Kind::Commit),
            2 => Base::Whole(Kind::Tree),
            3 => Base::Whole(Kind::Blob),
            4 => Base::Whole(Kind::Tag),
            6 => {
                let mut byte = input.byte()?;
                let mut back = u64::from(byte & 0x7f);
                while byte & 0x80 != 0 {
                    byte = input.byte()?;
                    let next = back.checked_add(1).and_then(|back| back.checked_mul(128));
                    back = match next {
                        Some(next) => next | u64::from(byte & 0x7f),
                        None => return Err(bad),
                    };
                }
                // Only backwards, so a chain cannot be a circle.
                match offset.checked_sub(back) {
                    Some(base) if back > 0 => Base::Offset(base),
                    _ => return Err(Damage::NoBase),
                }
            }
            7 => {
                let mut id = [0; ObjectId::LENGTH];
                input.read_exact(&mut id)?;
                match ObjectId::from_bytes(&id) {
                    Some(id) => Base::Name(id),
                    None => return Err(bad),
                }
            }
            _ => return Err(bad),
        };
        Ok(Self { size, base })
    }
}

/// Reads the file from some place, and knows where it is and what the bytes sum up to.
///
/// By position, so that several may read the same file.
struct Scanner<'f> {
    file: &'f File,
    position: u64,
    crc: Crc,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<'f> Scanner<'f> {
    fn new(file: &'f File, position: u64, capacity: usize) -> Self {
        Self { file, position, crc: Crc::new(), buffer: vec![0; capacity], start: 0, end: 0 }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.read_exact(&mut byte)?;
        let [byte] = byte;
        Ok(byte)
    }
}

impl BufRead for Scanner<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.end = self.file.read_at(&mut self.buffer, self.position)?;
            self.start = 0;
        }
        Ok(self.buffer.get(self.start..self.end).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        let next = self.start.saturating_add(amount).min(self.end);
        let used = self.buffer.get(self.start..next).unwrap_or_default();
        self.crc.update(used);
        self.position += used.len() as u64;
        self.start = next;
    }
}

impl Read for Scanner<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests arrange files around the crate")]
mod tests {
    use super::*;
    use std::fs;
    use testkit::{GitRepository, scratch_dir};

    /// A pack with differences, and the index that git made for it.
    fn git_pack() -> (Vec<u8>, Vec<u8>) {
        let dir = scratch_dir("pack-").unwrap();
        let repository = GitRepository::init(dir.path()).unwrap();
        for change in 0..6 {
            let line =
                |line| if line == change * 30 { "changed".into() } else { format!("line {line}") };
            let text = (0..400).map(line).collect::<Vec<String>>().join("\n");
            repository.write("text", text).unwrap();
            repository.commit("more").unwrap();
        }
        repository.git(&["tag", "-a", "-m", "x", "tag"]).unwrap();
        repository.git(&["gc", "-q", "--aggressive"]).unwrap();
        let file = |extension: &str| {
            fs::read_dir(dir.path().join(".git/objects/pack"))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .find(|path| path.extension().is_some_and(|found| found == extension))
                .map(|path| fs::read(path).unwrap())
                .unwrap()
        };
        (file("pack"), file("idx"))
    }

    fn index(pack: &[u8], limits: &Limits) -> Result<Pack, Damage> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(pack).unwrap();
        Pack::index(file, limits, &|| false)
    }

    fn with_checksum(mut pack: Vec<u8>) -> Vec<u8> {
        pack.truncate(pack.len() - ObjectId::LENGTH);
        let mut hasher = ObjectHasher::plain();
        hasher.update(&pack);
        pack.extend_from_slice(hasher.finish().as_bytes());
        pack
    }

    #[test]
    fn the_index_is_the_one_that_git_writes() {
        let (pack, theirs) = git_pack();
        let pack = index(&pack, &Limits::default()).unwrap();
        assert!(pack.entries.iter().any(|entry| matches!(entry.base, Base::Offset(_))));
        let mut ours = Vec::new();
        pack.write_index(&mut ours).unwrap();
        assert_eq!(ours, theirs);
    }

    #[test]
    fn every_object_is_read_as_what_its_name_says() {
        let (pack, _) = git_pack();
        let pack = index(&pack, &Limits::default()).unwrap();
        for entry in &pack.entries {
            let found = entry.found.unwrap();
            let (kind, data) = pack.read(&found.id).unwrap().unwrap();
            assert_eq!(hash_object(kind, &data), found.id);
            let mut copied = Vec::new();
            assert_eq!(pack.copy(&found.id, &mut copied).unwrap(), data.len() as u64);
            assert_eq!(copied, data);
        }
    }

    #[test]
    fn a_damaged_pack_is_an_error_wherever_it_is_damaged() {
        let (pack, _) = git_pack();
        for end in (0..pack.len()).step_by(37) {
            index(&pack[..end], &Limits::default()).err().expect("it is cut");
        }
        let mut survived = 0;
        for place in (12..pack.len() - ObjectId::LENGTH).step_by(3) {
            let mut damaged = pack.clone();
            damaged[place] ^= 0x15;
            assert!(matches!(index(&damaged, &Limits::default()), Err(Damage::Checksum)));
            // A wrong checksum stops nobody who means harm.
            survived += u32::from(index(&with_checksum(damaged), &Limits::default()).is_ok());
        }
        // Bits that zlib does not look at; everything that is read is covered by a sum of its own.
        assert!(survived < 20, "{survived} damaged packs are whole");
    }

    #[test]
    fn what_a_small_pack_may_grow_to_has_limits() {
        let (pack, _) = git_pack();
        let limits = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            index(&pack, &limits).map(|pack| pack.len()).expect_err("too much").to_string()
        };
        assert!(limits(|limits| limits.objects = 3).ends_with("no more than 3 are taken"));
        assert!(limits(|limits| limits.object = 50).ends_with("no more than 50 are taken"));
        assert!(limits(|limits| limits.delta = 50).ends_with("no more than 50 are taken"));
        assert!(limits(|limits| limits.total = 500).ends_with("more than 500 bytes"));
    }
}
