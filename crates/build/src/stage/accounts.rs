//! Whom names mean in a root whose base was read and not unpacked.

use std::cell::RefCell;

use ebiko_exec::{ACCOUNT_FILES, reads_accounts};
use ebiko_layer::Files;
use ebiko_plan::Action;
use ebiko_rootfs::{Attributes, Root, RootError, RootPath, copy_file_contents};
use ebiko_snapshot::Snapshot;

use super::Workshop;
use crate::failure::StepFailure;

/// The files of a base that are written although no step needs it whole: they say whom names mean, and are small.
pub(super) fn files() -> Files {
    Files::Only(account_files().collect())
}

fn account_files() -> impl Iterator<Item = RootPath> {
    ACCOUNT_FILES.iter().filter_map(|file| RootPath::parse(file.as_bytes()).ok())
}

impl Workshop<'_> {
    /// Writes what a look at the account files needs and no layer has written: where these are links, or names of other
    /// files, that is not known when a layer is read.
    pub(super) fn bring_accounts(
        &mut self,
        action: &Action,
        root: &Root,
        seen: &Snapshot,
    ) -> Result<(), StepFailure> {
        if self.thin.is_none() || !reads_accounts(action) {
            return Ok(());
        }
        for path in account_files() {
            while let Some(file) = unwritten_on(root, seen, &path)? {
                self.bring(root, &file)?;
            }
        }
        // In a root without any file, names mean nobody.
        let top = RootPath::root();
        if root.list(&top)?.is_empty()
            && let Some(file) = seen.paths().into_iter().find(|path| seen.unwritten(path).is_some())
        {
            self.bring(root, &file)?;
        }
        Ok(())
    }

    /// Writes one file of the base. The directory that it is in does not become younger by that.
    fn bring(&mut self, root: &Root, path: &RootPath) -> Result<(), StepFailure> {
        let Some((layers, files)) = self.thin.take() else { return Ok(()) };
        let files = match files {
            Some(files) => files,
            None => self.unpack_beside(&layers)?,
        };
        let directory = path.parent().unwrap_or_default();
        let mtime = Some(root.metadata(&directory)?.mtime);
        let content = files.open_file(path)?;
        let copy = root.create_file(path)?;
        copy_file_contents(&content, &copy)
            .map_err(|source| StepFailure::Accounts { path: path.clone(), source })?;
        if !directory.is_root() {
            root.set_attributes(&directory, &Attributes { mtime, ..Attributes::default() })?;
        }
        self.thin = Some((layers, Some(files)));
        Ok(())
    }
}

/// The first file on the way to where `path` leads, or at the end of it, that is in the root and not on its disk.
fn unwritten_on(
    root: &Root,
    seen: &Snapshot,
    path: &RootPath,
) -> Result<Option<RootPath>, RootError> {
    let met = RefCell::new(None);
    let is_unwritten = |at: &RootPath| {
        let is_unwritten = seen.unwritten(at).is_some();
        if is_unwritten {
            met.borrow_mut().get_or_insert_with(|| at.clone());
        }
        is_unwritten
    };
    match root.resolve_among(path, &is_unwritten) {
        Ok(end) => Ok((root.find(&end)?.is_none() && is_unwritten(&end)).then_some(end)),
        // What is wrong otherwise is said by whoever reads the file.
        Err(_) => Ok(met.take()),
    }
}
