//! Making the same file again where it cannot be moved or linked.

use rustix::io::Errno;

use crate::resolve::Spot;
use crate::{Attributes, Kind, Operation, Root, RootError, RootPath, copy_file_contents};

impl Root {
    /// What a copy of the file must have; virtual attributes are included.
    pub(crate) fn attributes_at(&self, spot: &Spot<'_>) -> Result<Attributes, Errno> {
        let handle = self.inodes.handle(spot)?;
        let seen = self.inodes.look_at(&handle)?.seen;
        Ok(Attributes { xattrs: Some(self.inodes.xattrs(&handle)?), ..seen.attributes() })
    }

    /// Makes in `to` what is at `spot` and is no directory, with everything but its inode.
    pub(crate) fn copy_leaf(
        &self,
        spot: &Spot<'_>,
        to: &Root,
        path: &RootPath,
    ) -> Result<(), RootError> {
        let failed = |error: Errno| RootError::new(Operation::Copy, path, error);
        let attributes = self.attributes_at(spot).map_err(failed)?;
        let seen = self.metadata_at(spot).map_err(failed)?;
        match seen.kind {
            Kind::Directory => return Err(failed(Errno::ISDIR)),
            Kind::Regular => {
                let failed = |source| RootError::new(Operation::Copy, path, source);
                let content = self.open_file_at(spot).map_err(failed)?;
                let copy = to.create_file(path)?;
                copy_file_contents(&content, &copy).map_err(failed)?;
            }
            Kind::Symlink => {
                let target = crate::read::read_link_at(spot).map_err(failed)?;
                to.symlink(&target, path)?;
            }
            kind => to.make_node(path, kind, seen.rdev)?,
        }
        to.set_attributes(path, &attributes)
    }
}
