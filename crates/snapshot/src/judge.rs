//! Did this file change?

use ebiko_rootfs::{Directory, Kind, Metadata, Root, RootError, RootPath, Xattrs};

use crate::numbers::FileNumbers;
use crate::record::{Flag, Record, XATTRS_UNKNOWN, is_linked};
use crate::snapshot::is_racy;
use crate::{AdvanceOptions, ContentHash, Mode, SnapshotError};

/// The answer. The record is up to date whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Same,
    Changed,
    /// It went away while being looked at.
    Gone,
}

/// One file, for the questions that its metadata cannot answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    /// In an open directory.
    In(&'a Directory<'a>, &'a [u8]),
    /// At a path.
    At(&'a Root, &'a RootPath),
}

impl Place<'_> {
    fn xattrs(self) -> Result<Xattrs, RootError> {
        match self {
            Self::In(directory, name) => directory.xattrs(name),
            Self::At(root, path) => root.xattrs(path),
        }
    }

    fn target(self) -> Result<ContentHash, RootError> {
        let target = match self {
            Self::In(directory, name) => directory.read_link(name)?,
            Self::At(root, path) => root.read_link(path)?,
        };
        Ok(ContentHash::of(&target))
    }

    fn content(self) -> Result<ContentHash, SnapshotError> {
        let mut file = match self {
            Self::In(directory, name) => directory.open_file(name)?,
            Self::At(root, path) => root.open_file(path)?,
        };
        ContentHash::of_reader(&mut file).map_err(|source| {
            let path = match self {
                Self::In(directory, name) => directory.path().child(name).unwrap_or_default(),
                Self::At(_, path) => path.clone(),
            };
            SnapshotError::Read { path, source }
        })
    }
}

/// Compares what is known with what is there, and takes it over.
///
/// A file of another kind must have lost its children before. `number` turns extended attributes into what a record
/// holds of them.
pub(crate) fn judge(
    record: &mut Record,
    metadata: &Metadata,
    numbers: FileNumbers,
    place: Place<'_>,
    options: &AdvanceOptions<'_>,
    number: &dyn Fn(&Xattrs) -> u16,
) -> Result<Verdict, SnapshotError> {
    let is_untouched = !record.has(Flag::Racy) && record.is_untouched(metadata, numbers);
    if is_untouched && !may_be_virtual(record, place, options.mode) {
        return Ok(Verdict::Same);
    }
    let mut verdict = if differs_at_sight(record, metadata, numbers, options.mode) {
        Verdict::Changed
    } else if options.mode == Mode::Full {
        match differs_inside(record, metadata, place, number, is_untouched) {
            Ok(true) => Verdict::Changed,
            Ok(false) => Verdict::Same,
            Err(error) if error.is_missing() => return Ok(Verdict::Gone),
            Err(error) => return Err(error),
        }
    } else {
        Verdict::Same
    };
    if record.has(Flag::Changed) {
        verdict = Verdict::Changed;
    }
    record.refresh(metadata, numbers);
    record.set(Flag::Racy, is_racy(metadata.ctime, options.now));
    if verdict == Verdict::Changed {
        // Whoever packs the change reads it anyway and tells; see `Snapshot::learn`.
        record.xattrs = XATTRS_UNKNOWN;
        record.forget_content();
        record.set(Flag::Changed, true);
    }
    Ok(verdict)
}

/// Whether extended attributes may differ although the inode was not touched: where they are virtual, setting them
/// leaves no trace. Asked only for a path that somebody says was touched; a step that a process ran has to touch the
/// inode, as the kernel does.
fn may_be_virtual(record: &Record, place: Place<'_>, mode: Mode) -> bool {
    matches!(place, Place::At(..)) && mode == Mode::Full && record.xattrs != XATTRS_UNKNOWN
}

/// What the metadata alone shows.
fn differs_at_sight(
    record: &Record,
    metadata: &Metadata,
    numbers: FileNumbers,
    mode: Mode,
) -> bool {
    if record.kind() != metadata.kind {
        return true;
    }
    let is_dir = metadata.is_dir();
    let same_mtime = is_dir || record.same_mtime(metadata);
    // Another inode under the same name, and one of the two has other names: the groups of hard links are not what
    // they were, even if every byte is.
    let is_relinked = !is_dir
        && record.inode() != (numbers.device, metadata.ino)
        && (record.has(Flag::Linked) || is_linked(metadata));
    let same_rest = mode == Mode::Time
        || record.same_permissions(metadata, numbers) && record.same_extent(metadata);
    !same_mtime || is_relinked || !same_rest
}

/// What shows only on a closer look: extended attributes, link targets, content.
fn differs_inside(
    record: &mut Record,
    metadata: &Metadata,
    place: Place<'_>,
    number: &dyn Fn(&Xattrs) -> u16,
    is_untouched: bool,
) -> Result<bool, SnapshotError> {
    if record.xattrs == XATTRS_UNKNOWN || number(&place.xattrs()?) != record.xattrs {
        return Ok(true);
    }
    if is_untouched {
        return Ok(false);
    }
    let has_content = matches!(metadata.kind, Kind::Regular | Kind::Symlink);
    let Some(known) = record.content() else { return Ok(has_content) };
    Ok(match metadata.kind {
        Kind::Symlink => place.target()? != known,
        Kind::Regular if metadata.size > 0 => place.content()? != known,
        _ => false,
    })
}
