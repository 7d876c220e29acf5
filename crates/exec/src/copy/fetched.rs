//! Sources that are in no root: downloads, git repositories, and files that are written in the Dockerfile.

use std::io::Write as _;

use ebiko_plan::{DownloadSource, GitSource, InlineFile, Unpack};
use ebiko_rootfs::{Attributes, Kind, Time, copy_file_contents};

use crate::copy::filter::Filter;
use crate::copy::source::Source;
use crate::copy::{Copier, CopyError, Stop, archive, tree};

/// The mode of a file that was fetched.
const DOWNLOADED: u32 = 0o600;
/// The mode of a file that is written in the Dockerfile.
const INLINE: u32 = 0o644;
/// The mode of a directory that a repository is checked out to.
const CHECKOUT: u32 = 0o755;

/// Copies a download, which is as old as the server says.
pub(super) fn copy_download(
    copier: &mut Copier<'_>,
    source: &DownloadSource,
    unpack: Unpack,
) -> Result<(), Stop> {
    let download = copier.site.inputs.downloads.get(source);
    let download = download.ok_or_else(|| CopyError::NotFetched { what: source.url.clone() })?;
    if unpack == Unpack::Everything && archive::unpack(copier, &download.root, &download.path)? {
        return Ok(());
    }
    let path = copier.place_file(source.name.as_bytes())?;
    let file = download.root.open_file(&download.path)?;
    let copy = copier.target.root.create_file(&path)?;
    copy_file_contents(&file, &copy)
        .map_err(|source| CopyError::Contents { path: path.clone(), source })?;
    let attributes =
        copier.fetched(DOWNLOADED, Kind::Regular, download.last_modified.unwrap_or_default());
    copier.target.root.set_file_attributes(&copy, &path, &attributes)?;
    copier.target.touch(path);
    Ok(())
}

/// Copies a repository. The destination is a directory, and if it is new, it is that of the repository.
pub(super) fn copy_checkout(
    copier: &mut Copier<'_>,
    source: &GitSource,
    filter: &Filter<'_>,
) -> Result<(), Stop> {
    let root = copier.site.inputs.checkouts.get(source);
    let root = root.ok_or_else(|| CopyError::NotFetched { what: source.remote.clone() })?;
    let source = Source::checkout(root);
    let target = copier.find_destination()?;
    if let Some(parent) = target.parent() {
        copier.target.make_directories(&parent)?;
    }
    let is_new = !target.is_root() && copier.target.enter_directory(&target)?;
    if is_new {
        copier.target.touch(target.clone());
    }
    let whole = source.whole()?;
    tree::copy_members(copier, &source, &whole, &target, filter)?;
    if is_new {
        let attributes = copier.fetched(CHECKOUT, Kind::Directory, Time::default());
        let attributes = Attributes { mtime: None, ..attributes };
        copier.target.root.set_attributes(&target, &attributes)?;
    }
    Ok(())
}

/// Writes a file, which is as old as the build.
pub(super) fn write_inline(copier: &mut Copier<'_>, file: &InlineFile) -> Result<(), Stop> {
    copier.check_interrupt()?;
    // A name is that of a file in an empty directory.
    if file.name.contains('/') {
        return Err(CopyError::InlineName { name: file.name.clone() }.into());
    }
    let path = copier.place_file(file.name.as_bytes())?;
    let mut copy = copier.target.root.create_file(&path)?;
    copy.write_all(file.content.as_bytes())
        .map_err(|source| CopyError::Contents { path: path.clone(), source })?;
    let attributes = copier.fetched(INLINE, Kind::Regular, copier.site.created);
    copier.target.root.set_file_attributes(&copy, &path, &attributes)?;
    copier.target.touch(path);
    Ok(())
}
