//! The objects that were fetched, in a directory that git would accept as `objects`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::ZlibDecoder;

use super::Limits;
use super::object::{Commit, tag_target};
use super::object_id::{Kind, ObjectHasher, ObjectId};
use super::pack::{Damage, Pack};
use crate::host;

/// How many tags may point to tags.
const MAX_TAGS: usize = 16;

/// Objects in packs, and objects in files of their own.
pub(crate) struct Store {
    dir: PathBuf,
    packs: Vec<Pack>,
    limits: Limits,
    downloads: u32,
}

impl Store {
    /// Makes the directory.
    pub(crate) fn new(dir: &Path, limits: &Limits) -> io::Result<Self> {
        host::create_dirs(&dir.join("pack"))?;
        host::create_dirs(&dir.join("info"))?;
        Ok(Self { dir: dir.to_owned(), packs: Vec::new(), limits: limits.clone(), downloads: 0 })
    }

    /// A file to download to. The next one replaces it.
    pub(crate) fn spool(&mut self) -> io::Result<(PathBuf, File)> {
        self.downloads += 1;
        let path = self.dir.join("pack").join(format!("tmp_{}", self.downloads));
        let file = host::create_file(&path)?;
        Ok((path, file))
    }

    /// Takes the pack that was downloaded to a [spool](Self::spool).
    pub(crate) fn add_pack(
        &mut self,
        path: &Path,
        file: File,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<(), Damage> {
        let pack = Pack::index(file, &self.limits, is_interrupted)?;
        host::rename(path, &self.pack_path(&pack, "pack"))?;
        if pack.len() > 0 {
            self.packs.push(pack);
        }
        Ok(())
    }

    fn pack_path(&self, pack: &Pack, extension: &str) -> PathBuf {
        self.dir.join("pack").join(format!("pack-{}.{extension}", pack.checksum()))
    }

    /// Writes the indexes of all packs, for git itself.
    pub(crate) fn write_indexes(&self) -> io::Result<()> {
        for pack in &self.packs {
            let file = host::create_file(&self.pack_path(pack, "idx"))?;
            let mut out = io::BufWriter::new(file);
            pack.write_index(&mut out)?;
            out.flush()?;
        }
        Ok(())
    }

    fn loose_path(&self, id: &ObjectId) -> PathBuf {
        let name = id.to_string();
        let (first, rest) = name.split_at_checked(2).unwrap_or_default();
        self.dir.join(first).join(rest)
    }

    /// Takes the object that was downloaded to a [spool](Self::spool), compressed and with its
    /// header, if it is what its name says.
    pub(crate) fn add_loose(
        &mut self,
        id: &ObjectId,
        path: &Path,
        file: File,
    ) -> Result<(), Damage> {
        let mut loose = Loose::open(*id, file)?;
        let limit = self.limits.object;
        if loose.size > limit {
            return Err(Damage::TooLarge { size: loose.size, limit });
        }
        let mut hasher = ObjectHasher::object(loose.kind, loose.size);
        let mut buffer = [0; 16 << 10];
        let mut seen = 0;
        loop {
            let count = loose.data.read(&mut buffer)?;
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
            seen += count as u64;
            if seen > loose.size {
                return Err(Damage::WrongName { id: *id });
            }
            hasher.update(piece);
        }
        if hasher.finish() != *id {
            return Err(Damage::WrongName { id: *id });
        }
        let target = self.loose_path(id);
        if let Some(parent) = target.parent() {
            host::create_dirs(parent)?;
        }
        Ok(host::rename(path, &target)?)
    }

    /// What the object is, if it is here.
    pub(crate) fn kind(&self, id: &ObjectId) -> Result<Option<Kind>, Damage> {
        if let Some(kind) = self.packs.iter().find_map(|pack| pack.kind(id)) {
            return Ok(Some(kind));
        }
        Ok(self.loose(id)?.map(|loose| loose.kind))
    }

    fn loose(&self, id: &ObjectId) -> Result<Option<Loose>, Damage> {
        match host::open_file(&self.loose_path(id)) {
            Ok(file) => Loose::open(*id, file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The object, which must be here and of this kind.
    pub(crate) fn read(&self, id: &ObjectId, expected: Kind) -> Result<Vec<u8>, Damage> {
        let (kind, data) = self.read_any(id)?;
        if kind == expected {
            Ok(data)
        } else {
            Err(Damage::WrongKind { id: *id, expected: expected.name() })
        }
    }

    fn read_any(&self, id: &ObjectId) -> Result<(Kind, Vec<u8>), Damage> {
        for pack in &self.packs {
            if let Some(object) = pack.read(id)? {
                return Ok(object);
            }
        }
        let loose = self.loose(id)?.ok_or(Damage::Missing { id: *id })?;
        let limit = self.limits.delta;
        if loose.size > limit {
            return Err(Damage::TooLarge { size: loose.size, limit });
        }
        let mut data = Vec::new();
        loose.data.take(loose.size).read_to_end(&mut data)?;
        Ok((loose.kind, data))
    }

    /// Writes a blob's bytes to `out` and says how many they are.
    pub(crate) fn copy_blob(&self, id: &ObjectId, out: &mut dyn Write) -> Result<u64, Damage> {
        for pack in &self.packs {
            match pack.kind(id) {
                Some(Kind::Blob) => return pack.copy(id, out),
                Some(_) => return Err(Damage::WrongKind { id: *id, expected: "blob" }),
                None => {}
            }
        }
        let loose = self.loose(id)?.ok_or(Damage::Missing { id: *id })?;
        if loose.kind != Kind::Blob {
            return Err(Damage::WrongKind { id: *id, expected: "blob" });
        }
        Ok(io::copy(&mut loose.data.take(loose.size), out)?)
    }

    /// The commit that `id` is, or that the tag `id` points to.
    pub(crate) fn peel(&self, id: &ObjectId) -> Result<(ObjectId, Commit), Damage> {
        let mut next = *id;
        for _ in 0..MAX_TAGS {
            match self.read_any(&next)? {
                (Kind::Commit, data) => return Ok((next, Commit::parse(next, &data)?)),
                (Kind::Tag, data) => next = tag_target(next, &data)?.1,
                _ => break,
            }
        }
        Err(Damage::WrongKind { id: next, expected: "commit" })
    }
}

/// An object in a file of its own, with its header read.
struct Loose {
    kind: Kind,
    size: u64,
    data: BufReader<ZlibDecoder<BufReader<File>>>,
}

impl Loose {
    fn open(id: ObjectId, file: File) -> Result<Self, Damage> {
        let mut input = &file;
        io::Seek::rewind(&mut input)?;
        let mut data = BufReader::new(ZlibDecoder::new(BufReader::new(file)));
        let mut header = Vec::new();
        data.by_ref().take(32).read_until(0, &mut header)?;
        let parsed = header.strip_suffix(&[0]).and_then(|header| {
            let (kind, size) = std::str::from_utf8(header).ok()?.split_once(' ')?;
            Some((Kind::parse(kind.as_bytes())?, size.parse().ok()?))
        });
        let bad = Damage::Object { kind: "object", id, reason: "its header is malformed" };
        let (kind, size) = parsed.ok_or(bad)?;
        Ok(Self { kind, size, data })
    }
}
