//! Moving single files and trees from one root to another.

use std::sync::Arc;

use rustix::fs::{RenameFlags, renameat_with};

use crate::guard::Standing;
use crate::resolve::Purpose;
use crate::{Root, RootPath};

/// Takes files out of one root and puts them into another, where that is a matter of a rename.
#[derive(Debug)]
pub struct Taker<'a> {
    from: &'a Root,
    to: &'a Root,
}

impl Root {
    /// Makes ready to take files of `from`. `None` where they are not to be taken: one of the roots is only read, or
    /// something is protected in `from`.
    pub fn taker<'a>(&'a self, from: &'a Root) -> Option<Taker<'a>> {
        if self.is_read_only() || from.is_read_only() || !from.guard.is_trivial() {
            return None;
        }
        if !Arc::ptr_eq(&self.inodes, &from.inodes) && !from.inodes.table.is_empty() {
            self.inodes.table.absorb(&from.inodes.table);
        }
        Some(Taker { from, to: self })
    }
}

impl Taker<'_> {
    /// Moves what is at `source`, with everything beneath it, to `path`, where nothing is; both are free of links. All
    /// attributes come along, virtual ones too.
    ///
    /// `false` where a rename does not do it: the roots are on different file systems, the kernel refuses to move a
    /// directory of an overlay's lower layer, something protected or mounted is in the way, or something is at `path`.
    /// Nothing has changed then, and who copies instead finds out what is wrong.
    pub fn take(&self, source: &RootPath, path: &RootPath) -> bool {
        let (Ok(source), Ok(target)) =
            (self.from.spot(source, Purpose::Look), self.to.spot(path, Purpose::Make))
        else {
            return false;
        };
        if target.standing != Standing::Plain || source.path.is_root() {
            return false;
        }
        let flags = RenameFlags::NOREPLACE;
        renameat_with(&source.dir, &source.name, &target.dir, &target.name, flags).is_ok()
    }
}
