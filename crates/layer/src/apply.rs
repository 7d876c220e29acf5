//! One member of an archive becomes one file.
//!
//! Everything goes through [`Root`], which does not leave the root whatever links an archive has planted. The last
//! component of a member's path is never followed: what is there is replaced, as container runtimes do.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Seek, SeekFrom, Write};

use ebiko_rootfs::{
    Attributes, DeviceNumber, Existing, Kind, Metadata, Root, RootError, RootPath, RootPathError,
    Time, Xattrs,
};
use ebiko_snapshot::{ContentHash, ContentHasher, Snapshot};

use crate::pack::{WHITEOUT, full_disk};
use crate::tar::{Member, MemberKind, TarReader};
use crate::{Files, Limit, Limits, TarError};

/// Whatever was in this directory in lower layers is gone.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Notes of aufs to itself, in layers of old versions of Docker.
const AUFS: &[u8] = b".wh..wh.";
/// What file systems take as a name.
const MAX_NAME: usize = 255;

/// Why one member of an archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum UnpackErrorKind {
    #[error("the path is not one inside the root")]
    Path { source: RootPathError },
    #[error("the hard link's target is not a path inside the root")]
    LinkTarget { source: RootPathError },
    #[error("the hard link's target `{target}` is not there")]
    MissingLinkTarget { target: RootPath },
    #[error("the hard link's target `{target}` is a directory")]
    LinkToDirectory { target: RootPath },
    #[error("a name that begins with `.wh.` must mark one removal")]
    Whiteout,
    #[error("a name has more than {MAX_NAME} bytes")]
    NameTooLong,
    #[error("more than {limit} {what}")]
    Limit { what: Limit, limit: u64 },
    #[error("cannot write the contents")]
    Write { source: io::Error },
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Tar(#[from] TarError),
}

impl UnpackErrorKind {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Root(error) => error.hint(),
            Self::Write { source } => full_disk(source),
            Self::Limit { what, .. } => what.hint(),
            _ => None,
        }
    }
}

/// Who wants to know what was written.
pub(crate) trait Journal {
    /// A file was written; everything about it is final but a directory's time.
    fn wrote(
        &mut self,
        path: &RootPath,
        metadata: &Metadata,
        content: Option<ContentHash>,
        xattrs: &Xattrs,
    );
    /// A file got another name.
    fn linked(&mut self, path: &RootPath, first: &RootPath, metadata: &Metadata);
    /// A file that was written before has this metadata now.
    fn refreshed(&mut self, path: &RootPath, metadata: &Metadata);
    /// A tree was removed.
    fn removed(&mut self, path: &RootPath);
    /// What is beneath a directory and does not come from this archive: the topmost paths.
    fn older_beneath(&self, root: &Root, directory: &RootPath) -> Result<Vec<RootPath>, RootError>;
    /// The index of everything in the root, where there is one; only then may files be left unwritten.
    fn index(&mut self) -> Option<&mut Snapshot> {
        None
    }
}

/// Where members go, and what their paths may be.
pub(crate) struct Destination<'a> {
    /// The directory that the archive's paths are relative to.
    base: RootPath,
    /// The owner of everything, instead of what the archive says.
    owner: Option<(u32, u32)>,
    climbing: Climbing,
    /// Which regular files are written.
    files: &'a Files,
}

/// What becomes of `..` in a path.
enum Climbing {
    /// No builder writes it into a layer: it is refused.
    Refused,
    /// As in a chroot, there is nothing above the top; BuildKit unpacks archives of `ADD` so.
    EndsAtTop,
}

impl<'a> Destination<'a> {
    pub(crate) fn layer(files: &'a Files) -> Self {
        Self { base: RootPath::root(), owner: None, climbing: Climbing::Refused, files }
    }

    pub(crate) fn archive(base: RootPath, owner: Option<(u32, u32)>) -> Self {
        Self { base, owner, climbing: Climbing::EndsAtTop, files: &Files::All }
    }

    /// Whether this is an archive of `ADD`, of which BuildKit gives a file the attributes of its last name. Layers say the
    /// same for every name, and their files are known by what the first one says.
    fn is_archive(&self) -> bool {
        matches!(self.climbing, Climbing::EndsAtTop)
    }

    fn read(&self, raw: &[u8]) -> Result<RootPath, RootPathError> {
        match self.climbing {
            Climbing::Refused => RootPath::parse(raw),
            Climbing::EndsAtTop => RootPath::resolve(&RootPath::root(), raw),
        }
    }
}

/// Applies members to a root.
pub(crate) struct Applier<'a> {
    root: &'a Root,
    journal: &'a mut dyn Journal,
    limits: &'a Limits,
    to: Destination<'a>,
    /// The times that directories get at the end. Writing into a directory changes its time, so also those that the
    /// archive does not mention are here, with the time that they had.
    times: BTreeMap<RootPath, Time>,
    /// Names of files that got further names: each one changed the `ctime` of all.
    links: HashMap<(u64, u64), Vec<RootPath>>,
    /// The last member's directory, as spelled and as it really is.
    parent: Option<(RootPath, RootPath)>,
    pub(crate) entries: u64,
    bytes: u64,
    buffer: Vec<u8>,
}

impl<'a> Applier<'a> {
    pub(crate) fn new(
        root: &'a Root,
        journal: &'a mut dyn Journal,
        limits: &'a Limits,
        to: Destination<'a>,
    ) -> Self {
        Self {
            root,
            journal,
            limits,
            to,
            times: BTreeMap::new(),
            links: HashMap::new(),
            parent: None,
            entries: 0,
            bytes: 0,
            buffer: vec![0; 128 * 1024],
        }
    }

    /// Applies `member`, whose content is what `content` reads.
    pub(crate) fn apply(
        &mut self,
        member: &Member,
        content: &mut TarReader<impl Read>,
    ) -> Result<(), UnpackErrorKind> {
        self.entries += 1;
        check(Limit::Entries, self.entries, self.limits.entries)?;
        check(Limit::Path, member.path.len().max(member.link.len()) as u64, self.limits.path)?;
        let path = self.to.read(&member.path).map_err(|source| UnpackErrorKind::Path { source })?;
        let Some(name) = path.file_name() else {
            // Container runtimes skip members that stand for the root itself, whatever they are.
            return Ok(());
        };
        if path.components().any(|component| component.len() > MAX_NAME) {
            return Err(UnpackErrorKind::NameTooLong);
        }
        if let Some(whiteout) = Whiteout::of(&path, name)? {
            return self.remove(&whiteout);
        }
        let path = self.to.base.join(&path);
        let Some(name) = path.file_name() else { return Ok(()) };
        let parent = self.make_parent(&path, member)?;
        let path = parent.child(name).map_err(|source| UnpackErrorKind::Path { source })?;
        match member.kind {
            MemberKind::Directory => self.directory(&path, member),
            MemberKind::Regular => self.file(&path, member, content),
            MemberKind::Symlink => self.symlink(&path, member),
            MemberKind::HardLink => self.hard_link(&path, member),
            MemberKind::CharDevice => self.node(&path, member, Kind::CharDevice),
            MemberKind::BlockDevice => self.node(&path, member, Kind::BlockDevice),
            MemberKind::Fifo => self.node(&path, member, Kind::Fifo),
        }
    }

    /// Sets what only the end knows.
    pub(crate) fn finish(mut self) -> Result<u64, (RootPath, UnpackErrorKind)> {
        for (path, mtime) in std::mem::take(&mut self.times) {
            self.finish_directory(&path, mtime).map_err(|error| (path, error.into()))?;
        }
        for ((dev, ino), paths) in self.sorted_links() {
            for path in paths {
                match self.root.find(&path).map_err(|error| (path.clone(), error.into()))? {
                    Some(metadata) if (metadata.dev, metadata.ino) == (dev, ino) => {
                        self.journal.refreshed(&path, &metadata);
                    }
                    _ => {}
                }
            }
        }
        Ok(self.entries)
    }

    fn finish_directory(&mut self, path: &RootPath, mtime: Time) -> Result<(), RootError> {
        if !self.root.find(path)?.is_some_and(|metadata| metadata.is_dir()) {
            // Replaced or removed by a later member.
            return Ok(());
        }
        self.root
            .set_attributes(path, &Attributes { mtime: Some(mtime), ..Attributes::default() })?;
        self.journal.refreshed(path, &self.root.metadata(path)?);
        Ok(())
    }

    fn sorted_links(&mut self) -> BTreeMap<(u64, u64), Vec<RootPath>> {
        std::mem::take(&mut self.links).into_iter().collect()
    }

    /// The real directory that `path` is in, made where it is missing.
    fn make_parent(
        &mut self,
        path: &RootPath,
        member: &Member,
    ) -> Result<RootPath, UnpackErrorKind> {
        let Some(spelled) = path.parent() else { return Ok(RootPath::root()) };
        if let Some((known, real)) = &self.parent
            && *known == spelled
        {
            return Ok(real.clone());
        }
        let real = self.resolve(&spelled)?;
        if self.root.find(&real)?.is_some() {
            self.keep_time(&real)?;
        } else if self.is_unwritten(&real) {
            // What comes next fails, and nothing explains that better than the file.
            self.root.create_file(&real)?;
        } else {
            self.make_directories(path, &real, member)?;
        }
        self.parent = Some((spelled, real.clone()));
        Ok(real)
    }

    /// Where `path` leads, if what was not written counts as if it were there.
    fn resolve(&mut self, path: &RootPath) -> Result<RootPath, RootError> {
        match self.journal.index() {
            Some(index) => self.root.resolve_among(path, &|at| index.unwritten(at).is_some()),
            None => self.root.resolve(path),
        }
    }

    fn is_unwritten(&mut self, path: &RootPath) -> bool {
        self.journal.index().is_some_and(|index| index.unwritten(path).is_some())
    }

    /// Makes the directories that lead to `path`, of which the last is `real`.
    fn make_directories(
        &mut self,
        path: &RootPath,
        real: &RootPath,
        member: &Member,
    ) -> Result<(), UnpackErrorKind> {
        let mut above = real.parent();
        while let Some(directory) = above.filter(|directory| !directory.is_root()) {
            if self.root.find(&directory)?.is_some() {
                self.keep_time(&directory)?;
                break;
            }
            above = directory.parent();
        }
        // Nobody said what these are like; the time is the member's, because the clock would make every build differ.
        let attributes =
            Attributes { uid: Some(0), gid: Some(0), mode: Some(0o755), ..Attributes::default() };
        for directory in self.root.create_parents(path, &attributes)? {
            // The destination is the instruction's. What is in it and no member stands for is nobody's, as in BuildKit.
            if let Some((uid, gid)) = self.to.owner.filter(|_| self.to.base.starts_with(&directory))
            {
                let owner = Attributes { uid: Some(uid), gid: Some(gid), ..Attributes::default() };
                self.root.set_attributes(&directory, &owner)?;
            }
            let metadata = self.root.metadata(&directory)?;
            self.journal.wrote(&directory, &metadata, None, &Xattrs::new());
            self.times.insert(directory, member.mtime);
        }
        Ok(())
    }

    /// Remembers the time of a directory that is about to be written into.
    fn keep_time(&mut self, directory: &RootPath) -> Result<(), UnpackErrorKind> {
        if !directory.is_root() && !self.times.contains_key(directory) {
            let metadata = self.root.metadata(directory)?;
            if metadata.is_dir() {
                self.times.insert(directory.clone(), metadata.mtime);
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &RootPath, member: &Member) -> Result<(), UnpackErrorKind> {
        if self.make_way(path, Kind::Directory)? != Existing::Directory {
            self.root.create_dir(path)?;
        }
        self.times.insert(path.clone(), member.mtime);
        self.root.set_attributes(path, &Attributes { mtime: None, ..self.attributes(member) })?;
        self.wrote(path, member, None)
    }

    fn file(
        &mut self,
        path: &RootPath,
        member: &Member,
        content: &mut TarReader<impl Read>,
    ) -> Result<(), UnpackErrorKind> {
        let size = member.sparse.as_ref().map_or(member.size, |sparse| sparse.real_size);
        self.bytes = self.bytes.saturating_add(size);
        check(Limit::Bytes, self.bytes, self.limits.bytes)?;
        self.make_way(path, Kind::Regular)?;
        if self.may_stay_unwritten(path) {
            return self.leave_unwritten(path, member, content, size);
        }
        let mut file = self.root.create_file(path)?;
        let hash = match &member.sparse {
            None => Some(self.copy(content, &mut file, member.size)?),
            Some(sparse) => {
                let write = |source| UnpackErrorKind::Write { source };
                for (offset, length) in &sparse.pieces {
                    file.seek(SeekFrom::Start(*offset)).map_err(write)?;
                    self.copy(content, &mut file, *length)?;
                }
                file.set_len(sparse.real_size).map_err(write)?;
                // Holes may be larger than any disk; nobody reads them for the index.
                None
            }
        };
        self.root.set_file_attributes(&file, path, &self.attributes(member))?;
        drop(file);
        self.wrote(path, member, hash)
    }

    fn may_stay_unwritten(&mut self, path: &RootPath) -> bool {
        let Files::Only(written) = self.to.files else { return false };
        // In the place of a directory that has to stay, the root must know of a file; in that of no directory, it says why
        // there can be none.
        let is_wanted = written.contains(path) || self.root.holds_protected(path);
        !is_wanted && self.is_in_directory(path)
    }

    /// Whether a file can be at `path`, as far as the index of what is there can tell.
    fn is_in_directory(&mut self, path: &RootPath) -> bool {
        let Some(index) = self.journal.index() else { return false };
        let Some(parent) = path.parent().filter(|parent| !parent.is_root()) else { return true };
        index.get(&parent).is_some_and(|entry| entry.kind == Kind::Directory)
    }

    /// Does for the index what writing the file would.
    fn leave_unwritten(
        &mut self,
        path: &RootPath,
        member: &Member,
        content: &mut TarReader<impl Read>,
        size: u64,
    ) -> Result<(), UnpackErrorKind> {
        let mut sink = io::sink();
        let hash = match &member.sparse {
            None => Some(self.copy(content, &mut sink, member.size)?),
            Some(sparse) => {
                for (_, length) in &sparse.pieces {
                    self.copy(content, &mut sink, *length)?;
                }
                None
            }
        };
        let Member { mode, uid, gid, mtime, .. } = *member;
        let metadata = Metadata {
            kind: Kind::Regular,
            mode: mode & 0o7777,
            uid,
            gid,
            size,
            mtime,
            // The index has its own for what has none.
            ctime: Time::default(),
            dev: 0,
            ino: 0,
            nlink: 1,
            rdev: DeviceNumber::default(),
        };
        if let Some(index) = self.journal.index() {
            index.record_unwritten(path, &metadata, hash, &member.xattrs);
        }
        Ok(())
    }

    /// Copies exactly `length` bytes, and sums them.
    fn copy(
        &mut self,
        content: &mut TarReader<impl Read>,
        file: &mut impl Write,
        length: u64,
    ) -> Result<ContentHash, UnpackErrorKind> {
        let mut hasher = ContentHasher::new();
        let mut left = length;
        while left > 0 {
            let wanted =
                usize::try_from(left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
            let count = match content.read(&mut self.buffer[..wanted]) {
                Ok(0) => return Err(TarError::Truncated.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(TarError::Truncated.into());
                }
                Err(source) => return Err(TarError::Read { source }.into()),
            };
            hasher.update(&self.buffer[..count]);
            file.write_all(&self.buffer[..count])
                .map_err(|source| UnpackErrorKind::Write { source })?;
            left -= count as u64;
        }
        Ok(hasher.finish())
    }

    fn symlink(&mut self, path: &RootPath, member: &Member) -> Result<(), UnpackErrorKind> {
        self.make_way(path, Kind::Symlink)?;
        self.root.symlink(&member.link, path)?;
        // Directories may lead elsewhere now.
        self.parent = None;
        self.root.set_attributes(path, &Attributes { mode: None, ..self.attributes(member) })?;
        self.wrote(path, member, Some(ContentHash::of(&member.link)))
    }

    fn node(
        &mut self,
        path: &RootPath,
        member: &Member,
        kind: Kind,
    ) -> Result<(), UnpackErrorKind> {
        self.make_way(path, kind)?;
        let rdev = if kind.is_device() { member.rdev } else { DeviceNumber::default() };
        self.root.make_node(path, kind, rdev)?;
        self.root.set_attributes(path, &self.attributes(member))?;
        self.wrote(path, member, None)
    }

    /// The target is a path in the archive: from the root, whether it begins with `/` or not. It must be there already,
    /// from this layer or one below.
    fn hard_link(&mut self, path: &RootPath, member: &Member) -> Result<(), UnpackErrorKind> {
        let target =
            self.to.read(&member.link).map_err(|source| UnpackErrorKind::LinkTarget { source })?;
        let missing = || UnpackErrorKind::MissingLinkTarget { target: target.clone() };
        let spelled = self.to.base.join(&target);
        let (Some(parent), Some(name)) = (spelled.parent(), spelled.file_name()) else {
            return Err(UnpackErrorKind::LinkToDirectory { target });
        };
        let first = self
            .resolve(&parent)?
            .child(name)
            .map_err(|source| UnpackErrorKind::LinkTarget { source })?;
        if self.is_unwritten(&first) {
            return self.link_unwritten(path, &first, missing);
        }
        let found = self.root.find(&first)?.ok_or_else(missing)?;
        if found.is_dir() {
            return Err(UnpackErrorKind::LinkToDirectory { target });
        }
        if first == *path {
            return Ok(());
        }
        self.make_way(path, found.kind)?;
        self.root
            .hard_link(&first, path)
            .map_err(|error| if error.is_missing() { missing() } else { error.into() })?;
        if self.to.is_archive() && !found.is_symlink() {
            let mut attributes = self.attributes(member);
            // Of the attributes that the file has already, setting its owner takes the capabilities away.
            let mut xattrs = self.root.xattrs(path)?;
            xattrs.remove(&b"security.capability"[..]);
            xattrs.extend(attributes.xattrs.take().unwrap_or_default());
            attributes.xattrs = Some(xattrs);
            self.root.set_attributes(path, &attributes)?;
        }
        let metadata = self.root.metadata(path)?;
        self.journal.linked(path, &first, &metadata);
        let names = self.links.entry((metadata.dev, metadata.ino)).or_default();
        if names.is_empty() {
            names.push(first);
        }
        names.push(path.clone());
        Ok(())
    }

    fn link_unwritten(
        &mut self,
        path: &RootPath,
        first: &RootPath,
        missing: impl Fn() -> UnpackErrorKind,
    ) -> Result<(), UnpackErrorKind> {
        if first == path {
            return Ok(());
        }
        self.make_way(path, Kind::Regular)?;
        let is_linked = self.is_in_directory(path)
            && self.journal.index().is_some_and(|index| index.link_unwritten(path, first));
        if is_linked { Ok(()) } else { Err(missing()) }
    }

    fn make_way(&mut self, path: &RootPath, wanted: Kind) -> Result<Existing, UnpackErrorKind> {
        let was_unwritten = self.is_unwritten(path);
        let mut existing = self.root.make_way(path, wanted)?;
        if was_unwritten {
            existing = Existing::Removed;
        }
        if existing == Existing::Removed {
            self.parent = self.parent.take().filter(|(_, real)| !real.starts_with(path));
            self.journal.removed(path);
        }
        Ok(existing)
    }

    fn remove(&mut self, whiteout: &Whiteout) -> Result<(), UnpackErrorKind> {
        self.parent = None;
        let directory = match whiteout {
            Whiteout::Note => return Ok(()),
            Whiteout::Opaque(directory) | Whiteout::One(directory, _) => {
                self.to.base.join(directory)
            }
        };
        let directory = match self.resolve(&directory) {
            Ok(directory) => directory,
            // Something on the way is no directory: there is nothing to remove.
            Err(error) if error.is_missing() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let doomed = match whiteout {
            Whiteout::One(_, name) => {
                vec![directory.child(name).map_err(|source| UnpackErrorKind::Path { source })?]
            }
            _ => self.journal.older_beneath(self.root, &directory)?,
        };
        doomed.iter().try_for_each(|path| self.remove_tree(path))
    }

    fn remove_tree(&mut self, path: &RootPath) -> Result<(), UnpackErrorKind> {
        if self.root.find(path)?.is_none() && !self.is_unwritten(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.keep_time(&parent)?;
        }
        self.root.remove(path)?;
        self.journal.removed(path);
        Ok(())
    }

    fn wrote(
        &mut self,
        path: &RootPath,
        member: &Member,
        hash: Option<ContentHash>,
    ) -> Result<(), UnpackErrorKind> {
        let metadata = self.root.metadata(path)?;
        self.journal.wrote(path, &metadata, hash, &member.xattrs);
        Ok(())
    }

    fn attributes(&self, member: &Member) -> Attributes {
        let (uid, gid) = self.to.owner.unwrap_or((member.uid, member.gid));
        Attributes {
            uid: Some(uid),
            gid: Some(gid),
            mode: Some(member.mode),
            mtime: Some(member.mtime),
            xattrs: Some(member.xattrs.clone()),
        }
    }
}

fn check(what: Limit, value: u64, limit: u64) -> Result<(), UnpackErrorKind> {
    if value > limit { Err(UnpackErrorKind::Limit { what, limit }) } else { Ok(()) }
}

/// A member that is not a file but says something of others.
enum Whiteout {
    /// In this directory, this name is gone.
    One(RootPath, Vec<u8>),
    /// In this directory, everything of lower layers is gone.
    Opaque(RootPath),
    /// Of no meaning to anybody any more.
    Note,
}

impl Whiteout {
    fn of(path: &RootPath, name: &[u8]) -> Result<Option<Self>, UnpackErrorKind> {
        if !path.components().any(|component| component.starts_with(WHITEOUT)) {
            return Ok(None);
        }
        let parent = path.parent().unwrap_or_default();
        let is_note = parent.components().any(|component| component.starts_with(AUFS));
        if !is_note && parent.components().any(|component| component.starts_with(WHITEOUT)) {
            return Err(UnpackErrorKind::Whiteout);
        }
        if is_note || name.starts_with(AUFS) && name != OPAQUE {
            return Ok(Some(Self::Note));
        }
        if name == OPAQUE {
            return Ok(Some(Self::Opaque(parent)));
        }
        match name.strip_prefix(WHITEOUT) {
            None | Some(b"" | b"." | b"..") => Err(UnpackErrorKind::Whiteout),
            Some(name) => Ok(Some(Self::One(parent, name.to_vec()))),
        }
    }
}
