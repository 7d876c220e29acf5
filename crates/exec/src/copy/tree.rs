//! Copying one file, and the members of one directory.

use std::collections::HashMap;

use ebiko_rootfs::{Attributes, DeviceNumber, Kind, Metadata, RootPath, copy_file_contents};

use crate::copy::source::Item;
use crate::copy::{Copier, CopyError, Stop};

/// Merges what is in the directory `item` into the directory `target`, which exists and itself
/// keeps its attributes.
pub(super) fn copy_members(
    copier: &mut Copier<'_>,
    item: &Item,
    target: &RootPath,
) -> Result<(), Stop> {
    let Some(mut walk) = copier.source.walk(&item.path) else { return Ok(()) };
    // A context may lie in the root and the destination in the context; then the walk must not find
    // what it makes.
    let itself = copier.root().metadata(target)?;
    let mut links: HashMap<(u64, u64), RootPath> = HashMap::new();
    let mut open: Vec<(RootPath, Attributes)> = Vec::new();
    while let Some(member) = walk.next().transpose()? {
        copier.check_interrupt()?;
        if (member.metadata.dev, member.metadata.ino) == (itself.dev, itself.ino) {
            walk.skip_below(&member.path);
            continue;
        }
        let Some(relative) = member.path.strip_prefix(&item.path) else { continue };
        let path = target.join(&relative);
        close_directories(copier, &mut open, Some(&path))?;
        if member.metadata.is_dir() {
            enter_directory(copier, &path)?;
            open.push((
                path.clone(),
                directory_attributes(copier, &member.path, &member.metadata, &path)?,
            ));
            copier.touched.insert(path);
            continue;
        }
        copier.clear_for_file(&path)?;
        let identity = (member.metadata.dev, member.metadata.ino);
        if let Some(first) = links.get(&identity).filter(|_| member.metadata.is_file()) {
            copier.root().hard_link(first, &path)?;
            // The first name's inode has changed too.
            copier.touched.insert(first.clone());
            copier.touched.insert(path);
            continue;
        }
        copy_node(copier, &member.path, &member.metadata, &path)?;
        if member.metadata.nlink > 1 {
            links.insert(identity, path);
        }
    }
    close_directories(copier, &mut open, None)
}

/// Makes `path` a directory unless it is one.
fn enter_directory(copier: &Copier<'_>, path: &RootPath) -> Result<(), Stop> {
    match copier.root().find(path)? {
        None => copier.root().create_dir(path)?,
        Some(metadata) if metadata.is_dir() => {}
        Some(_) => return Err(CopyError::NotADirectory { path: path.clone() }.into()),
    }
    Ok(())
}

/// A directory that exists keeps the extended attributes that the source does not have.
fn directory_attributes(
    copier: &Copier<'_>,
    from: &RootPath,
    metadata: &Metadata,
    to: &RootPath,
) -> Result<Attributes, Stop> {
    let mut attributes = copier.attributes(from, metadata)?;
    if let Some(xattrs) = &mut attributes.xattrs {
        for (name, value) in copier.root().xattrs(to)? {
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
    open: &mut Vec<(RootPath, Attributes)>,
    next: Option<&RootPath>,
) -> Result<(), Stop> {
    while let Some((path, attributes)) =
        open.pop_if(|(path, _)| next.is_none_or(|next| !next.starts_with(path)))
    {
        copier.root().set_attributes(&path, &attributes)?;
    }
    Ok(())
}

/// Copies what is no directory to `to`, where nothing is.
///
/// Devices, FIFOs and sockets are made anew and never opened: reading one may never end.
pub(super) fn copy_node(
    copier: &mut Copier<'_>,
    from: &RootPath,
    metadata: &Metadata,
    to: &RootPath,
) -> Result<(), Stop> {
    let Some(source) = copier.source.root() else { return Ok(()) };
    let attributes = copier.attributes(from, metadata)?;
    let root = copier.root();
    match metadata.kind {
        Kind::Regular => {
            let file = source.open_file(from)?;
            let copy = root.create_file(to)?;
            copy_file_contents(&file, &copy)
                .map_err(|source| CopyError::Contents { path: from.clone(), source })?;
            root.set_file_attributes(&copy, to, &attributes)?;
        }
        Kind::Symlink => {
            root.symlink(&source.read_link(from)?, to)?;
            root.set_attributes(to, &attributes)?;
        }
        Kind::Socket if copier.source.flattens_sockets() => {
            let copy = root.create_file(to)?;
            root.set_file_attributes(&copy, to, &attributes)?;
        }
        Kind::CharDevice | Kind::BlockDevice => {
            root.make_node(to, metadata.kind, metadata.rdev)?;
            root.set_attributes(to, &attributes)?;
        }
        Kind::Fifo | Kind::Socket => {
            root.make_node(to, metadata.kind, DeviceNumber::default())?;
            root.set_attributes(to, &attributes)?;
        }
        // The caller merges directories.
        Kind::Directory => {}
    }
    copier.touched.insert(to.clone());
    Ok(())
}
