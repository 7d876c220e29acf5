//! What in a root belongs to the container and not to the image.
//!
//! A *protected* path is a mount point or the builder's own directory, with all that lies beneath. What an
//! image puts there is *displaced*: it lives in a shadow tree beside the root, under the same name, and
//! reading finds it there.
//!
//! A directory on the way to a protected path is a *scaffold*: it cannot go away, but it is the image's as
//! soon as the image makes it (then it is *claimed*) or has something in it. A scaffold that is neither is
//! hidden, because no image asked for it: a pod that mounts `/var/run/secrets/token` has made `/var` and
//! `/var/run`, and an image built from scratch must not get them. Where an image wants something other than a
//! directory in a scaffold's place (`/var/run` is a link in most of them), the scaffold is *overridden*: the
//! image's file is displaced and wins; `settle.rs` keeps the directory and the link's target together.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, PoisonError, RwLock};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use crate::RootPath;

/// Why a path is not the image's to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// A mount point, or beneath one.
    Mount,
    /// The builder's own directory, or beneath it.
    Builder,
}

/// Where the image's file of a path, free of links, is kept and what may happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In the root, like any file.
    Plain,
    /// In the root, as a directory that must stay.
    Scaffold,
    /// In the shadow tree.
    Displaced,
}

#[derive(Debug, Default)]
pub(crate) struct Guard {
    /// No path in here lies beneath another, which makes the neighbour in order the only candidate.
    protected: BTreeMap<RootPath, Protection>,
    wishes: RwLock<Wishes>,
    store: Option<PathBuf>,
    shadow: OnceLock<Shadow>,
}

/// What the image made of scaffolds.
#[derive(Debug, Default)]
struct Wishes {
    claimed: BTreeSet<RootPath>,
    overridden: BTreeSet<RootPath>,
    /// The links that [`Root::settle`](crate::Root::settle) made, by the real directory that they are in: an
    /// overridden scaffold or a scaffold beneath one.
    mirrored: BTreeMap<RootPath, Mirror>,
}

/// Links in one directory that lead to the files of the same names in another.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    pub(crate) target: RootPath,
    pub(crate) names: BTreeSet<CString>,
}

/// The tree that holds displaced files; removed with the guard.
#[derive(Debug)]
struct Shadow {
    store: OwnedFd,
    name: CString,
    tree: OwnedFd,
}

impl Guard {
    pub(crate) fn new(
        builder: impl IntoIterator<Item = RootPath>,
        mounts: impl IntoIterator<Item = RootPath>,
        store: Option<PathBuf>,
    ) -> Self {
        let builder = builder.into_iter().map(|path| (path, Protection::Builder));
        let mut all: BTreeMap<RootPath, Protection> =
            mounts.into_iter().map(|path| (path, Protection::Mount)).collect();
        all.extend(builder);

        let mut protected: BTreeMap<RootPath, Protection> = BTreeMap::new();
        for (path, protection) in all {
            let above = protected.last_key_value().is_some_and(|(last, _)| path.starts_with(last));
            if !above {
                protected.insert(path, protection);
            }
        }
        Self { protected, wishes: RwLock::default(), store, shadow: OnceLock::new() }
    }

    /// Whether every path is plain.
    pub(crate) fn is_trivial(&self) -> bool {
        self.protected.is_empty()
    }

    pub(crate) fn protects(&self, path: &RootPath) -> Option<Protection> {
        let (above, protection) = self.protected.range(..=path).next_back()?;
        path.starts_with(above).then_some(*protection)
    }

    pub(crate) fn holds_protected(&self, path: &RootPath) -> bool {
        let next = self.protected.range(path..).next();
        next.is_some_and(|(beneath, _)| beneath != path && beneath.starts_with(path))
    }

    pub(crate) fn standing(&self, path: &RootPath) -> Standing {
        if self.is_trivial() {
            Standing::Plain
        } else if self.protects(path).is_some() || self.is_overridden(path) {
            Standing::Displaced
        } else if self.holds_protected(path) {
            Standing::Scaffold
        } else {
            Standing::Plain
        }
    }

    /// Whether `path` or a directory above it is overridden.
    fn is_overridden(&self, path: &RootPath) -> bool {
        let wishes = self.wishes.read().unwrap_or_else(PoisonError::into_inner);
        wishes.overridden.range(..=path).next_back().is_some_and(|above| path.starts_with(above))
    }

    pub(crate) fn is_claimed(&self, scaffold: &RootPath) -> bool {
        scaffold.is_root()
            || self.wishes.read().unwrap_or_else(PoisonError::into_inner).claimed.contains(scaffold)
    }

    pub(crate) fn claim(&self, scaffold: &RootPath) {
        self.wishes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .claimed
            .insert(scaffold.clone());
    }

    pub(crate) fn override_with_displaced(&self, scaffold: &RootPath) {
        self.wishes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .overridden
            .insert(scaffold.clone());
    }

    /// Hides the scaffold and those beneath it again.
    pub(crate) fn forget(&self, scaffold: &RootPath) {
        let mut wishes = self.wishes.write().unwrap_or_else(PoisonError::into_inner);
        wishes.claimed.retain(|path| !path.starts_with(scaffold));
        wishes.overridden.retain(|path| !path.starts_with(scaffold));
        wishes.mirrored.retain(|path, _| !path.starts_with(scaffold));
    }

    pub(crate) fn overridden(&self) -> Vec<RootPath> {
        let wishes = self.wishes.read().unwrap_or_else(PoisonError::into_inner);
        wishes.overridden.iter().cloned().collect()
    }

    /// The directories at and beneath a scaffold that have links in them.
    pub(crate) fn mirrored(&self, scaffold: &RootPath) -> Vec<(RootPath, Mirror)> {
        let wishes = self.wishes.read().unwrap_or_else(PoisonError::into_inner);
        let beneath = wishes.mirrored.range(scaffold..);
        beneath
            .take_while(|(path, _)| path.starts_with(scaffold))
            .map(|(path, mirror)| (path.clone(), mirror.clone()))
            .collect()
    }

    pub(crate) fn add_mirrored(&self, directory: &RootPath, target: &RootPath, name: CString) {
        let mut wishes = self.wishes.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Mirror { target: target.clone(), names: BTreeSet::new() };
        wishes.mirrored.entry(directory.clone()).or_insert_with(new).names.insert(name);
    }

    pub(crate) fn forget_mirrored(&self, directory: &RootPath, name: &CStr) {
        let mut wishes = self.wishes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(mirror) = wishes.mirrored.get_mut(directory) {
            mirror.names.remove(name);
            if mirror.names.is_empty() {
                wishes.mirrored.remove(directory);
            }
        }
    }

    /// The names in the scaffold `directory` whose image's file, if there is one, is in the shadow tree.
    pub(crate) fn displaced_names(&self, directory: &RootPath) -> BTreeSet<Box<[u8]>> {
        let wishes = self.wishes.read().unwrap_or_else(PoisonError::into_inner);
        let beneath = self.protected.keys().chain(&wishes.overridden);
        let names = beneath.filter(|path| path.parent().as_ref() == Some(directory));
        names.filter_map(RootPath::file_name).map(Into::into).collect()
    }

    /// Opens a directory of the shadow tree; `ENOENT` where nothing was displaced yet.
    pub(crate) fn shadow_dir(&self, path: &RootPath) -> Result<OwnedFd, Errno> {
        let shadow = self.shadow.get().ok_or(Errno::NOENT)?;
        descend(shadow.tree.as_fd(), path, Missing::Refuse)
    }

    /// Like [`Guard::shadow_dir`], making the tree and the directories on the way.
    ///
    /// # Errors
    ///
    /// `EBUSY` where there is no place to keep displaced files.
    pub(crate) fn make_shadow_dir(&self, path: &RootPath) -> Result<OwnedFd, Errno> {
        let shadow = if let Some(shadow) = self.shadow.get() {
            shadow
        } else {
            let made = Shadow::make(self.store.as_ref().ok_or(Errno::BUSY)?)?;
            // When two threads come here at once, one tree stays and the other is removed unused.
            self.shadow.get_or_init(|| made)
        };
        descend(shadow.tree.as_fd(), path, Missing::Make)
    }
}

/// What is done about directories on the way that do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Refuse,
    Make,
}

/// Opens a directory beneath `top`; no link is followed.
pub(crate) fn descend(
    top: BorrowedFd<'_>,
    path: &RootPath,
    missing: Missing,
) -> Result<OwnedFd, Errno> {
    const DIRECTORY: OFlags =
        OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let mut dir = openat(top, c".", DIRECTORY, Mode::empty())?;
    for component in path.components() {
        dir = match openat(&dir, component, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) if missing == Missing::Make => {
                match mkdirat(&dir, component, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                openat(&dir, component, DIRECTORY, Mode::empty())?
            }
            result => result?,
        };
    }
    Ok(dir)
}

impl Shadow {
    /// Makes a directory of its own in the store, so that what a killed build left there is not seen.
    fn make(store: &Path) -> Result<Self, Errno> {
        match rustix::fs::mkdir(store, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let store = rustix::fs::open(store, flags, Mode::empty())?;
        for number in 0_u32.. {
            let name = CString::new(format!("displaced-{number}")).map_err(|_| Errno::INVAL)?;
            match mkdirat(&store, &name, Mode::RWXU) {
                Ok(()) => {
                    let tree = openat(&store, &name, flags | OFlags::NOFOLLOW, Mode::empty())?;
                    return Ok(Self { store, name, tree });
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Errno::EXIST)
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        // The store is the builder's own and is removed with it; what cannot go now goes then.
        if crate::remove::tree(self.store.as_fd(), &self.name, None).is_err() {
            let _still_there = unlinkat(&self.store, &self.name, AtFlags::REMOVEDIR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RootPath {
        RootPath::parse(text.as_bytes()).unwrap()
    }

    fn guard() -> Guard {
        let mounts = [
            "etc/resolv.conf",
            "etc/hosts",
            "proc",
            "proc/sys",
            "var/run/secrets/token",
            "kaniko/x",
        ];
        Guard::new([path("kaniko")], mounts.map(path), None)
    }

    #[test]
    fn a_path_is_protected_at_and_beneath_a_mount_point() {
        let guard = guard();
        for (text, expected) in [
            ("proc", Some(Protection::Mount)),
            ("proc/self/fd/3", Some(Protection::Mount)),
            ("proc-", None),
            ("processes", None),
            ("etc", None),
            ("etc/hosts", Some(Protection::Mount)),
            ("etc/hosts.allow", None),
            ("kaniko", Some(Protection::Builder)),
            ("kaniko/x/y", Some(Protection::Builder)),
            ("", None),
        ] {
            assert_eq!(guard.protects(&path(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn directories_above_something_protected_hold_it() {
        let guard = guard();
        for (text, expected) in [
            ("", true),
            ("etc", true),
            ("var", true),
            ("var/run", true),
            ("var/run/secrets", true),
            ("var/run/secrets/token", false),
            ("va", false),
            ("usr", false),
            ("kaniko", false),
        ] {
            assert_eq!(guard.holds_protected(&path(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn an_overridden_scaffold_is_displaced_until_it_is_forgotten() {
        let guard = guard();
        assert_eq!(guard.standing(&path("var/run")), Standing::Scaffold);
        guard.override_with_displaced(&path("var/run"));
        assert_eq!(guard.standing(&path("var/run")), Standing::Displaced);
        assert_eq!(guard.standing(&path("var/running")), Standing::Plain);
        guard.forget(&path("var"));
        assert_eq!(guard.standing(&path("var/run")), Standing::Scaffold);
    }

    #[test]
    fn without_a_store_nothing_can_be_displaced() {
        assert_eq!(guard().shadow_dir(&RootPath::root()).unwrap_err(), Errno::NOENT);
        assert_eq!(guard().make_shadow_dir(&RootPath::root()).unwrap_err(), Errno::BUSY);
    }
}
