//! The whole index: directories that hold files that may be directories.

use ebiko_rootfs::RootPath;

use crate::children::Children;
use crate::numbers::{Numbers, XattrSets};
use crate::record::{Flag, Record};

/// Where the root's children are.
pub(crate) const ROOT: u32 = 0;

/// All directories. A directory's record in its parent says where its own children are.
#[derive(Debug)]
pub(crate) struct Tree {
    directories: Vec<Directory>,
    free: Vec<u32>,
    pub(crate) numbers: Numbers,
    pub(crate) xattr_sets: XattrSets,
}

#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) parent: u32,
    /// Something in or beneath it was found changed by the look that is under way.
    pub(crate) is_dirty: bool,
    pub(crate) children: Children,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self {
            directories: vec![Directory::default()],
            free: Vec::new(),
            numbers: Numbers::default(),
            xattr_sets: XattrSets::default(),
        }
    }

    pub(crate) fn directory(&self, id: u32) -> Option<&Directory> {
        self.directories.get(id as usize)
    }

    pub(crate) fn directory_mut(&mut self, id: u32) -> Option<&mut Directory> {
        self.directories.get_mut(id as usize)
    }

    /// A place for the children of a directory in `parent`.
    pub(crate) fn new_directory(&mut self, parent: u32) -> u32 {
        let new = Directory { parent, ..Directory::default() };
        if let Some(id) = self.free.pop() {
            self.directories[id as usize] = new;
            return id;
        }
        self.directories.push(new);
        u32::try_from(self.directories.len() - 1).unwrap_or(u32::MAX)
    }

    /// Forgets everything beneath a directory that is no more.
    pub(crate) fn free_directory(&mut self, id: u32) {
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            let Some(directory) = self.directory_mut(id) else { continue };
            let children = std::mem::take(directory).children;
            pending.extend(children.iter().filter_map(|(_, record)| record.directory()));
            self.free.push(id);
        }
    }

    /// Marks a directory and those that lead to it as holding a change.
    pub(crate) fn mark_dirty(&mut self, mut id: u32) {
        while let Some(directory) = self.directory_mut(id) {
            if std::mem::replace(&mut directory.is_dirty, true) || id == ROOT {
                return;
            }
            id = directory.parent;
        }
    }

    /// The children of the directory at `path`.
    pub(crate) fn find_directory(&self, path: &RootPath) -> Option<u32> {
        path.components()
            .try_fold(ROOT, |id, name| self.directory(id)?.children.get(name)?.directory())
    }

    pub(crate) fn find(&self, path: &RootPath) -> Option<&Record> {
        let directory = self.find_directory(&path.parent()?)?;
        self.directory(directory)?.children.get(path.file_name()?)
    }

    pub(crate) fn find_mut(&mut self, path: &RootPath) -> Option<&mut Record> {
        let directory = self.find_directory(&path.parent()?)?;
        self.directory_mut(directory)?.children.get_mut(path.file_name()?)
    }

    /// Puts `record` in a directory, replacing what was there; a directory that replaces one keeps its children.
    /// Returns where the children are, if it is one.
    pub(crate) fn put(&mut self, parent: u32, name: &[u8], mut record: Record) -> Option<u32> {
        let old =
            self.directory(parent).and_then(|directory| directory.children.get(name)).copied();
        let old_children = old.and_then(|old| old.directory());
        let children = match old_children {
            Some(id) if record.is_dir() => Some(id),
            Some(id) => {
                self.free_directory(id);
                None
            }
            None if record.is_dir() => Some(self.new_directory(parent)),
            None => None,
        };
        if let Some(id) = children {
            record.set_directory(id);
        }
        if let Some(directory) = self.directory_mut(parent) {
            directory.children.insert(name, record);
        }
        children
    }

    /// Forgets `name` and what is beneath it.
    pub(crate) fn remove(&mut self, parent: u32, name: &[u8]) -> Option<Record> {
        let record = self.directory_mut(parent)?.children.remove(name)?;
        if let Some(id) = record.directory() {
            self.free_directory(id);
        }
        Some(record)
    }

    /// Notes that a look did not find `name`: gone, or, if the same look had just added it, never there.
    pub(crate) fn vanish(&mut self, parent: u32, name: &[u8]) {
        let known =
            self.directory(parent).and_then(|directory| directory.children.get(name)).copied();
        let Some(mut record) = known.filter(|record| !record.has(Flag::Gone)) else { return };
        if record.has(Flag::Added) {
            self.remove(parent, name);
            return;
        }
        if let Some(id) = record.directory() {
            self.free_directory(id);
            record.set_directory(u32::MAX);
        }
        record.set(Flag::Gone, true);
        if let Some(directory) = self.directory_mut(parent) {
            directory.children.insert(name, record);
        }
        self.mark_dirty(parent);
    }

    /// Calls `visit` for every record in the index, in no order.
    pub(crate) fn for_each_record(&mut self, mut visit: impl FnMut(&mut Record)) {
        for directory in &mut self.directories {
            directory.children.records_mut().for_each(&mut visit);
        }
    }

    /// Marks every record for which `is_meant` says so as changed.
    pub(crate) fn mark_changed(&mut self, is_meant: impl Fn(&Record) -> bool) {
        let mut found = Vec::new();
        for (id, directory) in self.directories.iter_mut().enumerate() {
            let mut any = false;
            for record in directory.children.records_mut().filter(|record| is_meant(record)) {
                record.set(Flag::Changed, true);
                any = true;
            }
            if any {
                found.push(u32::try_from(id).unwrap_or(u32::MAX));
            }
        }
        for id in found {
            self.mark_dirty(id);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.directories.iter().map(|directory| directory.children.iter().count()).sum()
    }

    pub(crate) fn compact(&mut self) {
        self.directories.iter_mut().for_each(|directory| directory.children.compact());
        self.directories.shrink_to_fit();
    }

    pub(crate) fn heap_size(&self) -> usize {
        let numbers = self.numbers.heap_size() + self.xattr_sets.heap_size();
        self.directories.iter().fold(numbers, |sum, directory| {
            sum + size_of::<Directory>() + directory.children.heap_size()
        })
    }
}
