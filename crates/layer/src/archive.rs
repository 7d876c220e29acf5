//! Archives that `ADD` unpacks.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek as _};

use ebiko_rootfs::{Metadata, Root, RootError, RootPath, Time, Xattrs};
use ebiko_snapshot::ContentHash;

use crate::apply::{Applier, Destination, Journal};
use crate::decompress::decoder;
use crate::tar::TarReader;
use crate::unpack::{Failure, apply_all, shown};
use crate::{Limit, Limits, TarError, UnpackErrorKind};

/// An archive could not be unpacked. What came before is on the root.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum ArchiveError {
    #[error("cannot unpack `{path}` from the archive")]
    Entry { path: String, source: UnpackErrorKind },
    #[error("cannot unpack the archive")]
    Archive { source: TarError },
    #[error("the archive has more than {limit} {what}")]
    Limit { what: Limit, limit: u64 },
    #[error("cannot read the file")]
    Read { source: io::Error },
}

impl ArchiveError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Entry { source, .. } => source.hint(),
            Self::Limit { what, .. } => what.hint(),
            Self::Archive { .. } | Self::Read { .. } => None,
        }
    }
}

/// Unpacks `file` into the directory `destination`, if it is a tar archive: plain or in gzip, bzip2, xz or zstd.
///
/// `None` means that it is something else, to be copied as it is; `file` is then at its start again. Otherwise the
/// result is every path that was written or removed, as it is beneath the root. Links on the way to `destination` are
/// followed; `destination` itself is made if it is missing and a member needs it, and otherwise stays as it is, also if
/// the archive has a member for it (`./`). A `..` ends at `destination`. With `owner`, every member belongs to it, and so do
/// the directories that are made on the way to `destination`; others that are made without being mentioned are root's. Whiteouts remove, because a layer with them in it would.
///
/// # Errors
///
/// Everything before the failure has been unpacked. Nothing outside the root was touched.
pub fn unpack_archive(
    file: &mut File,
    root: &Root,
    destination: &RootPath,
    owner: Option<(u32, u32)>,
    limits: &Limits,
) -> Result<Option<BTreeSet<RootPath>>, ArchiveError> {
    let read = |source| ArchiveError::Read { source };
    file.rewind().map_err(read)?;
    if !is_archive(file) {
        file.rewind().map_err(read)?;
        return Ok(None);
    }
    file.rewind().map_err(read)?;
    let mut tar =
        TarReader::new(Bounded::open(file, limits).map_err(read)?, limits.extended_header);
    let mut touched = Touched::default();
    let applier =
        Applier::new(root, &mut touched, limits, Destination::archive(destination.clone(), owner));
    let result = apply_all(&mut tar, applier);
    tar.get_mut().check()?;
    result.map_err(|failure| match failure {
        Failure::Entry(path, source) => ArchiveError::Entry { path: shown(&path), source },
        Failure::Archive(source) => ArchiveError::Archive { source },
    })?;
    let Touched { mut written, removed } = touched;
    written.extend(removed);
    Ok(Some(written))
}

/// The modification time of the youngest member of `file`, `None` if it is no tar archive.
///
/// For `SOURCE_DATE_EPOCH`, where the time of an archive is asked for and its server does not say it.
///
/// # Errors
///
/// Fails where the file is an archive at its beginning and cannot be read to its end.
pub fn newest_member(file: &mut File, limits: &Limits) -> Result<Option<Time>, ArchiveError> {
    let read = |source| ArchiveError::Read { source };
    file.rewind().map_err(read)?;
    if !is_archive(file) {
        return Ok(None);
    }
    file.rewind().map_err(read)?;
    let mut tar =
        TarReader::new(Bounded::open(file, limits).map_err(read)?, limits.extended_header);
    let mut newest = None;
    loop {
        let next = tar.next();
        tar.get_mut().check()?;
        match next.map_err(|source| ArchiveError::Archive { source })? {
            Some(member) => newest = newest.max(Some(member.mtime)),
            None => return Ok(newest),
        }
    }
}

/// What comes out of a file, until a limit is reached.
struct Bounded<'a> {
    stream: Box<dyn Read + 'a>,
    limits: &'a Limits,
    /// Bytes of the file.
    file: u64,
    /// Bytes that came out of it.
    size: u64,
    reached: Option<(Limit, u64)>,
}

impl<'a> Bounded<'a> {
    fn open(file: &'a mut File, limits: &'a Limits) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { stream: decoder(file)?, limits, file: size, size: 0, reached: None })
    }

    /// Whether a limit was reached; whatever failed then did so because of that.
    fn check(&self) -> Result<(), ArchiveError> {
        match self.reached {
            Some((what, limit)) => Err(ArchiveError::Limit { what, limit }),
            None => Ok(()),
        }
    }
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.size += count as u64;
        self.reached = self.limits.reached(self.size, self.file);
        if self.reached.is_some() { Err(io::ErrorKind::InvalidData.into()) } else { Ok(count) }
    }
}

/// Whether the file begins with a member; what is merely compressed, or an archive without members, is not unpacked.
fn is_archive(file: &mut File) -> bool {
    // Generous, because what is refused here is not an error but copied.
    const EXTENDED_HEADER: u64 = 16 << 20;
    decoder(file)
        .is_ok_and(|stream| matches!(TarReader::new(stream, EXTENDED_HEADER).next(), Ok(Some(_))))
}

#[derive(Default)]
struct Touched {
    written: BTreeSet<RootPath>,
    removed: BTreeSet<RootPath>,
}

impl Journal for Touched {
    fn wrote(&mut self, path: &RootPath, _: &Metadata, _: Option<ContentHash>, _: &Xattrs) {
        self.written.insert(path.clone());
    }

    fn linked(&mut self, path: &RootPath, first: &RootPath, _: &Metadata) {
        self.written.insert(path.clone());
        // A link to a file of another layer changes that file: it has to be in this layer, too.
        self.written.insert(first.clone());
    }

    fn refreshed(&mut self, _: &RootPath, _: &Metadata) {}

    fn removed(&mut self, path: &RootPath) {
        forget(&mut self.written, path);
        self.removed.insert(path.clone());
    }

    fn older_beneath(&self, root: &Root, directory: &RootPath) -> Result<Vec<RootPath>, RootError> {
        let mut older = Vec::new();
        let mut pending = vec![directory.clone()];
        while let Some(directory) = pending.pop() {
            if !root.find(&directory)?.is_some_and(|metadata| metadata.is_dir()) {
                continue;
            }
            for entry in root.list(&directory)? {
                let Ok(path) = directory.child(&entry.name) else { continue };
                let first_beneath = self.written.range(&path..).next();
                if first_beneath.is_some_and(|first| first.starts_with(&path)) {
                    pending.push(path);
                } else {
                    older.push(path);
                }
            }
        }
        older.sort();
        Ok(older)
    }
}

/// Forgets `path` and everything beneath it.
fn forget(paths: &mut BTreeSet<RootPath>, path: &RootPath) {
    let beneath: Vec<RootPath> =
        paths.range(path..).take_while(|other| other.starts_with(path)).cloned().collect();
    for path in beneath {
        paths.remove(&path);
    }
}
