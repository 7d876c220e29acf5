//! Unpacking the archives of `ADD`.

use ebiko_context::PatternList;
use ebiko_rootfs::{Attributes, Root, RootOptions, RootPath};

use crate::account::Owner;
use crate::copy::filter::Filter;
use crate::copy::source::Source;
use crate::copy::target::Sight;
use crate::copy::{Copier, CopyError, Stop, tree};
use crate::directories::{MakeDirError, View};

/// Unpacks the regular file `path` of `files` if it is an archive; whether it was one.
///
/// `--chmod` does not concern an archive, nor the directory that it is unpacked into.
pub(super) fn unpack(copier: &mut Copier<'_>, files: &Root, path: &RootPath) -> Result<bool, Stop> {
    copier.check_interrupt()?;
    match copier.sight {
        Sight::Everything => unpack_there(copier, files, path),
        Sight::OwnWork => unpack_over(copier, files, path),
    }
}

/// Unpacks into the destination.
fn unpack_there(copier: &mut Copier<'_>, files: &Root, path: &RootPath) -> Result<bool, Stop> {
    let root = copier.target.root;
    let target = copier.target.resolve(&copier.destination.path)?;
    let attempt = Attempt::make(root, &target, copier.owner.unwrap_or(copier.by_default))?;
    let mut file = files.open_file(path)?;
    let owner = copier.owner.map(|owner| (owner.uid, owner.gid));
    let unpacked = match copier.site.archives.unpack(&mut file, root, &target, owner) {
        Ok(unpacked) => unpacked,
        // Only now it is known that this is an archive, and what is wrong is not the archive.
        Err(_) if root.find(&target)?.is_some_and(|metadata| !metadata.is_dir()) => {
            return Err(MakeDirError::NotADirectory { path: target }.into());
        }
        Err(source) => return Err(CopyError::Unpack { path: path.clone(), source }.into()),
    };
    let Some(paths) = unpacked else {
        attempt.undo(root)?;
        return Ok(false);
    };
    for path in attempt.made.into_iter().chain(paths) {
        copier.target.touch(path);
    }
    Ok(true)
}

/// Unpacks into an empty root and lays that over the destination, because an archive's links must not meet those that are
/// there.
fn unpack_over(copier: &mut Copier<'_>, files: &Root, path: &RootPath) -> Result<bool, Stop> {
    let directory = &copier.site.supplies.scratch;
    let open = |directory: &std::path::Path| {
        Root::open(directory, RootOptions::default())
            .map_err(|source| CopyError::Scratch { path: directory.to_owned(), source })
    };
    let scratch = open(directory)?;
    let place = RootPath::root().child(b"unpacked")?;
    scratch.remove(&place)?;
    scratch.create_dir(&place)?;
    let unpacked = open(&scratch.host_path().join("unpacked"))?;

    let mut file = files.open_file(path)?;
    let owner = copier.owner.map(|owner| (owner.uid, owner.gid));
    let paths = copier.site.archives.unpack(&mut file, &unpacked, &RootPath::root(), owner);
    let is_archive =
        paths.map_err(|source| CopyError::Unpack { path: path.clone(), source })?.is_some();
    if is_archive {
        let target = copier.destination.path.clone();
        copier.target.make_directories(&target)?;
        let source = Source::root(&unpacked);
        let everything = PatternList::default();
        let whole = source.whole()?;
        tree::copy_members(copier, &source, &whole, &target, &Filter::all_but(&everything))?;
    }
    scratch.remove(&place)?;
    Ok(is_archive)
}

/// The destination of an archive, made before it is known whether there is one.
struct Attempt {
    made: Vec<RootPath>,
    /// The directory in which the first was made, and its attributes before.
    above: Option<(RootPath, Attributes)>,
}

impl Attempt {
    /// Makes `path` a directory unless something is there.
    fn make(root: &Root, path: &RootPath, owner: Owner) -> Result<Self, Stop> {
        if root.find(path)?.is_some() {
            return Ok(Self { made: Vec::new(), above: None });
        }
        let mut above = None;
        for ancestor in path.ancestors() {
            if let Some(metadata) = root.find(&ancestor)? {
                let time = Attributes { mtime: Some(metadata.mtime), ..Attributes::default() };
                above = Some((ancestor, time));
            }
        }
        Ok(Self { made: View::of(root).make(path, owner)?, above })
    }

    fn undo(self, root: &Root) -> Result<(), Stop> {
        let Some(first) = self.made.first() else { return Ok(()) };
        root.remove(first)?;
        if let Some((path, time)) = self.above {
            root.set_attributes(&path, &time)?;
        }
        Ok(())
    }
}
