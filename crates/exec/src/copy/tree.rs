//! Copying one file, and the members of one directory.

use std::collections::HashMap;

use ebiko_context::Member;
use ebiko_rootfs::{Attributes, DeviceNumber, Kind, Metadata, RootPath, copy_file_contents};

use crate::copy::filter::{Decision, Filter, Judged};
use crate::copy::source::{Item, Source};
use crate::copy::taking::Survey;
use crate::copy::{Copier, CopyError, Stop};

/// A directory of the source that the walk is in.
struct Open {
    from: RootPath,
    to: RootPath,
    metadata: Metadata,
    judged: Judged,
    /// What the copy gets when nothing more is made in it; `None` as long as there is no copy.
    attributes: Option<Attributes>,
}

/// Merges what is in the directory `item` and passes `filter` into the directory `target`, which exists. It gets the
/// time of the source, and otherwise stays as it is. Returns whether anything passed.
pub(super) fn copy_members(
    copier: &mut Copier<'_>,
    source: &Source<'_>,
    item: &Item,
    target: &RootPath,
    filter: &Filter<'_>,
) -> Result<bool, Stop> {
    let Some(mut walk) = source.walk(&item.path) else { return Ok(false) };
    // A context may lie in the root and the destination in the context; then the walk must not find
    // what it makes.
    let itself = copier.target.root.metadata(target)?;
    let mut links: HashMap<(u64, u64), RootPath> = HashMap::new();
    let mut open: Vec<Open> = Vec::new();
    let mut has_passed = false;
    let survey = Survey::of(copier, source, &item.path)?;
    while let Some(member) = walk.next().transpose()? {
        copier.check_interrupt()?;
        if (member.metadata.dev, member.metadata.ino) == (itself.dev, itself.ino) {
            walk.skip_below(&member.path);
            continue;
        }
        let Some(relative) = member.path.strip_prefix(&item.path) else { continue };
        let path = target.join(&relative);
        close_directories(copier, &mut open, Some(&path))?;
        let (decision, judged) = match open.last() {
            Some(parent) => filter.judge(&parent.judged, &relative),
            None => filter.judge(&Judged::default(), &relative),
        };
        match decision {
            Decision::Copy => has_passed = true,
            Decision::Search if member.metadata.is_dir() => {}
            Decision::Search | Decision::Leave => {
                walk.skip_below(&member.path);
                continue;
            }
        }
        if decision == Decision::Copy {
            if has_to_lead_somewhere(filter, item, &member) {
                source.check_link(&member.path)?;
            }
            make_parents(copier, source, &mut open)?;
        }
        let is_taken = decision == Decision::Copy
            && survey.take(copier, source, &member.path, &member.metadata, &path)?;
        if is_taken {
            walk.skip_below(&member.path);
            continue;
        }
        if member.metadata.is_dir() {
            let attributes = if decision == Decision::Copy {
                copier.target.enter_directory(&path)?;
                copier.target.touch(path.clone());
                Some(directory_attributes(copier, source, &member.path, &member.metadata, &path)?)
            } else {
                None
            };
            open.push(Open {
                from: member.path,
                to: path,
                metadata: member.metadata,
                judged,
                attributes,
            });
            continue;
        }
        copier.target.clear_for_file(&path)?;
        let identity = (member.metadata.dev, member.metadata.ino);
        if let Some(first) = links.get(&identity).filter(|_| member.metadata.is_file()) {
            copier.target.root.hard_link(first, &path)?;
            // The first name's inode has changed too.
            copier.target.touch(first.clone());
            copier.target.touch(path);
            continue;
        }
        copy_node(copier, source, &member.path, &member.metadata, &path)?;
        if member.metadata.nlink > 1 {
            links.insert(identity, path);
        }
    }
    close_directories(copier, &mut open, None)?;
    take_time(copier, item, target)?;
    Ok(has_passed)
}

/// Whether a link must not dangle. BuildKit follows links directly in the top of a source when it chooses among its
/// members, and then copies them as links all the same.
fn has_to_lead_somewhere(filter: &Filter<'_>, item: &Item, member: &Member) -> bool {
    member.metadata.is_symlink()
        && filter.is_selective()
        && item.path.is_root()
        && member.path.parent().is_some_and(|parent| parent.is_root())
}

/// Whether anything in the directory `item` passes `filter`.
pub(super) fn holds_any(
    source: &Source<'_>,
    item: &Item,
    filter: &Filter<'_>,
) -> Result<bool, CopyError> {
    let Some(mut walk) = source.walk(&item.path) else { return Ok(false) };
    let mut open: Vec<(RootPath, Judged)> = Vec::new();
    while let Some(member) = walk.next().transpose()? {
        while open.pop_if(|(directory, _)| !member.path.starts_with(directory)).is_some() {}
        let Some(relative) = member.path.strip_prefix(&item.path) else { continue };
        let (decision, judged) = match open.last() {
            Some((_, parent)) => filter.judge(parent, &relative),
            None => filter.judge(&Judged::default(), &relative),
        };
        match decision {
            Decision::Copy => return Ok(true),
            Decision::Search => open.push((member.path, judged)),
            Decision::Leave => walk.skip_below(&member.path),
        }
    }
    Ok(false)
}

/// Makes the directories that were not wanted for themselves, now that something in them is.
///
/// One that is there already gets the mode of the source's, and not the one that `--chmod` says; its owner stays.
fn make_parents(
    copier: &mut Copier<'_>,
    source: &Source<'_>,
    open: &mut [Open],
) -> Result<(), Stop> {
    for directory in open.iter_mut().filter(|directory| directory.attributes.is_none()) {
        let Open { from, to, metadata, attributes, .. } = directory;
        let is_new = copier.target.enter_directory(to)?;
        *attributes = Some(if is_new {
            directory_attributes(copier, source, from, metadata, to)?
        } else {
            Attributes { mode: Some(metadata.mode), ..Attributes::default() }
        });
        copier.target.touch(to.clone());
    }
    Ok(())
}

/// A directory that exists keeps the extended attributes that the source does not have.
fn directory_attributes(
    copier: &Copier<'_>,
    source: &Source<'_>,
    from: &RootPath,
    metadata: &Metadata,
    to: &RootPath,
) -> Result<Attributes, Stop> {
    let mut attributes = copier.attributes(source, from, metadata)?;
    if let Some(xattrs) = &mut attributes.xattrs {
        for (name, value) in copier.target.root.xattrs(to)? {
            xattrs.entry(name).or_insert(value);
        }
    }
    Ok(attributes)
}

/// Gives directories their attributes when nothing more is made in them, because that changes their
/// time and may need rights that their mode does not give. With `next`, only those that do not hold
/// it.
fn close_directories(
    copier: &Copier<'_>,
    open: &mut Vec<Open>,
    next: Option<&RootPath>,
) -> Result<(), Stop> {
    while let Some(directory) =
        open.pop_if(|directory| next.is_none_or(|next| !next.starts_with(&directory.to)))
    {
        if let Some(attributes) = directory.attributes {
            copier.target.root.set_attributes(&directory.to, &attributes)?;
        }
    }
    Ok(())
}

/// Gives the directory `target` the time of `item`.
///
/// The top of a source has no time of its own: it is as old as the directory that the builder or its user keeps the
/// files in. The top of a root is in no layer.
fn take_time(copier: &mut Copier<'_>, item: &Item, target: &RootPath) -> Result<(), Stop> {
    if item.path.is_root() || target.is_root() {
        return Ok(());
    }
    let time = Attributes { mtime: Some(item.metadata.mtime), ..Attributes::default() };
    copier.target.root.set_attributes(target, &time)?;
    copier.target.touch(target.clone());
    Ok(())
}

/// Copies what is no directory to `to`, where nothing is.
///
/// Devices and FIFOs are made anew and never opened: reading one may never end. A socket without who listens to it is
/// nothing, and becomes an empty file.
pub(super) fn copy_node(
    copier: &mut Copier<'_>,
    source: &Source<'_>,
    from: &RootPath,
    metadata: &Metadata,
    to: &RootPath,
) -> Result<(), Stop> {
    let Some(files) = source.files() else { return Ok(()) };
    let root = copier.target.root;
    if metadata.kind == Kind::Regular {
        let file = files.open_file(from)?;
        let mut attributes = copier.own_attributes(source, metadata);
        attributes.xattrs = Some(files.file_xattrs(&file, from)?);
        let copy = root.create_file(to)?;
        copy_file_contents(&file, &copy)
            .map_err(|source| CopyError::Contents { path: from.clone(), source })?;
        root.set_file_attributes(&copy, to, &attributes)?;
        copier.target.touch(to.clone());
        return Ok(());
    }
    let attributes = copier.attributes(source, from, metadata)?;
    match metadata.kind {
        Kind::Symlink => {
            root.symlink(&files.read_link(from)?, to)?;
            root.set_attributes(to, &attributes)?;
        }
        Kind::Socket => {
            let copy = root.create_file(to)?;
            root.set_file_attributes(&copy, to, &attributes)?;
        }
        Kind::CharDevice | Kind::BlockDevice => {
            root.make_node(to, metadata.kind, metadata.rdev)?;
            root.set_attributes(to, &attributes)?;
        }
        Kind::Fifo => {
            root.make_node(to, metadata.kind, DeviceNumber::default())?;
            root.set_attributes(to, &attributes)?;
        }
        // The caller merges directories; files are done.
        Kind::Directory | Kind::Regular => {}
    }
    copier.target.touch(to.clone());
    Ok(())
}
