//! Bringing back what was moved out.

use std::collections::HashMap;
use std::sync::Arc;

use rustix::fd::AsFd;

use crate::climb::Climber;
use crate::guard::Standing;
use crate::move_out::{Mover, at, plain_spot};
use crate::resolve::Purpose;
use crate::{Operation, Root, RootError, RootPath};

impl Root {
    /// Moves everything in `from`, a root in which nothing is protected, into this one: the way back from
    /// [`Root::move_out`], with the same means.
    ///
    /// What would have to take the place of something protected stays in `from`. This root should be empty:
    /// what is in the way is replaced as rename(2) does.
    ///
    /// # Errors
    ///
    /// What was moved stays moved: the two roots together hold everything.
    pub fn move_in(&self, from: &Root) -> Result<(), RootError> {
        let root = RootPath::root();
        self.changing(Operation::Move, &root)?;
        from.changing(Operation::Move, &root)?;
        if !Arc::ptr_eq(&self.inodes, &from.inodes) {
            self.inodes.table.absorb(&from.inodes.table);
        }
        let mut mover = Mover { from, to: self, links: HashMap::new() };
        mover.fill(&root)
    }
}

impl Mover<'_> {
    /// Moves what is in a directory that is there on both sides. Recursion goes no deeper than protected paths do.
    fn fill(&mut self, path: &RootPath) -> Result<(), RootError> {
        let source = self.from.spot(path, Purpose::Look).map_err(at(path))?;
        let attributes = self.from.attributes_at(&source).map_err(at(path))?;
        if self.to.find(path)?.is_none() {
            self.to.create_dir(path)?;
        }
        let target = self.to.open_dir(path)?;
        let here = Climber::start(source.dir.as_fd(), &source.name, self.from.grants())
            .map_err(at(path))?;
        for name in here.names().map_err(at(path))? {
            let child = path.join_name(name.to_bytes());
            match self.to.guard.standing(&child) {
                Standing::Plain => self.entry(here.as_fd(), &name, target.as_fd(), &child)?,
                Standing::Displaced => {}
                Standing::Scaffold => {
                    let spot = plain_spot(here.as_fd(), &name, &child);
                    if self.from.metadata_at(&spot).map_err(at(&child))?.is_dir() {
                        self.fill(&child)?;
                    }
                }
            }
        }
        self.to.set_attributes(path, &attributes)
    }
}
