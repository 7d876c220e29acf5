//! Showing a command something else in the place of a file, where nothing can be mounted.
//!
//! What is at the target is renamed away, something is renamed or made in its place, and afterwards both go back.
//! Paths are what the command itself sees, so this looks at the disk and not at the image's view of it.
//! Every directory on the way is held open: a command may rename what lies above a target.
//!
//! A directory that holds a mount point cannot be renamed away; `contents.rs` exchanges what is in it.

mod contents;

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, StatxFlags, Timespec, Timestamps, Uid,
    mkdirat, openat, renameat, renameat_with, statx, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use self::contents::{Exchange, Fate, Guest};
use crate::attributes::Handle;
use crate::climb::Climber;
use crate::{Operation, Protection, Root, RootError, RootPath};

/// What is put in the place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Substitute<'a> {
    /// A file of the machine, moved there. It is removed afterwards. In a mount of the container a link leads to it.
    Disposable(&'a Path),
    /// A directory of the machine, moved there and moved back afterwards. Where it is on another file system, a link
    /// leads to it.
    Kept(&'a Path),
    /// A secret that is a file in memory, which therefore never is in the root itself: a link leads to it. Where the
    /// directory is missing below `run`, the link is in the place of the directory, so that a plain file is seen.
    InMemory(&'a Path),
    /// A secret whose mode or owner somebody looks at: a copy of a file in memory, in the root. It is overwritten and
    /// removed afterwards.
    Secret(&'a Path),
    /// A new directory that everybody may write to, removed afterwards. An empty directory of a mount of the container
    /// is taken as it is, and emptied afterwards.
    Directory,
    /// A place to mount on: what is there, or an empty directory or file, which is removed afterwards.
    Place {
        /// What is mounted there.
        is_directory: bool,
    },
}

/// What could not be put back as it was.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum StandInError {
    #[error("cannot open the builder's directory `{path}`")]
    Store { path: String, source: io::Error },
    #[error(
        "`/{target}` is a mount point of the container, lies in one, or belongs to the builder"
    )]
    Protected { target: RootPath },
    #[error("the command moved or replaced what it was given at `/{target}`")]
    Moved { target: RootPath },
    #[error("the command removed the directory that held `/{target}`")]
    Lost { target: RootPath },
    #[error("the command gave the secret at `/{target}` another name")]
    Linked { target: RootPath },
    #[error("the command wrote `{name}` to `/{target}`, which is only there for secrets")]
    Beside { target: RootPath, name: String },
    #[error(transparent)]
    Root(#[from] RootError),
}

impl StandInError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store { .. } => None,
            Self::Protected { .. } => Some(
                "nothing can be mounted in this container, and a mount point cannot be moved aside: use another target",
            ),
            Self::Moved { .. } | Self::Lost { .. } => Some(
                "what is mounted may be read and, if it is writable, changed, but the command must leave it in its place",
            ),
            Self::Linked { .. } => {
                Some("a secret must not get into the image: read it where it is")
            }
            Self::Beside { .. } => {
                Some("make the directory in an earlier step, or give the secret another target")
            }
            Self::Root(error) if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => Some(
                "nothing can be mounted in this container, and the builder's directory is on another file system than `/`: \
                 do not mount a volume there",
            ),
            Self::Root(error) => error.hint(),
        }
    }
}

/// Everything that stands in for something else in a root. When it is dropped everything is put back.
#[derive(Debug)]
pub struct StandIns<'r> {
    root: &'r Root,
    store: OwnedFd,
    store_path: PathBuf,
    placed: Vec<Standing>,
    /// What was moved to a target and goes back.
    kept: Vec<(PathBuf, RootPath)>,
    /// Directories in mounts of the container that had nothing in them.
    lent: Vec<OwnedFd>,
    /// Directories in memory that links lead to.
    shown: Vec<Shown>,
    count: usize,
}

/// What was done for one target.
#[derive(Debug)]
enum Standing {
    Placed(Placed),
    Exchanged(Exchange),
}

/// A directory in memory that stands for one that was missing.
#[derive(Debug)]
struct Shown {
    /// Where the link to it is.
    target: RootPath,
    path: PathBuf,
    /// The secrets in it.
    files: Vec<RootPath>,
}

/// A file, whatever its name is by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: (u32, u32),
    inode: u64,
}

#[derive(Debug)]
struct Placed {
    target: RootPath,
    parent: OwnedFd,
    name: CString,
    identity: Identity,
    /// Itself, unless it is a link.
    itself: OwnedFd,
    /// What was there before, by its name in the store.
    aside: Option<CString>,
    /// Where it came from and goes back to.
    home: Option<(OwnedFd, CString)>,
    /// A secret that is in the root itself, to be overwritten.
    secret: Option<File>,
    /// Directories that were made for it, from the top down, with the time of the one above: before, and after.
    made: Vec<(OwnedFd, CString, Identity)>,
    times: Vec<(OwnedFd, Timespec, Timespec)>,
}

const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const ITSELF: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl<'r> StandIns<'r> {
    /// For `root`; what is moved away is kept in the directory `store` of the builder's, which must be on the file
    /// system of the root.
    pub fn new(root: &'r Root, store: &Path) -> Result<Self, StandInError> {
        let opened = rustix::fs::open(store, DIRECTORY, Mode::empty()).map_err(|error| {
            StandInError::Store { path: store.display().to_string(), source: error.into() }
        })?;
        Ok(Self {
            root,
            store: opened,
            store_path: store.to_owned(),
            placed: Vec::new(),
            kept: Vec::new(),
            lent: Vec::new(),
            shown: Vec::new(),
            count: 0,
        })
    }

    /// Puts something at `target`; links are followed as in a chroot, and missing directories are made. Returns where
    /// it is.
    ///
    /// # Errors
    ///
    /// What was changed until then is put back when this value is dropped.
    pub fn put(
        &mut self,
        target: &RootPath,
        what: Substitute<'_>,
    ) -> Result<RootPath, StandInError> {
        if let Substitute::InMemory(file) = what
            && let Some(shown) = self.show(target, file)?
        {
            return Ok(shown);
        }
        let target = self.root.resolve(target)?;
        let protection = self.root.protects(&target);
        let is_place = matches!(what, Substitute::Place { .. });
        let holds_protected = !is_place && self.root.holds_protected(&target);
        if protection == Some(Protection::Builder) {
            return Err(StandInError::Protected { target });
        }
        let failed =
            |operation, error: Errno| StandInError::from(RootError::new(operation, &target, error));
        let create = |error| failed(Operation::Create, error);
        let Some(name) = target.file_name() else {
            return Err(StandInError::Protected { target: target.clone() });
        };
        let name = CString::new(name).map_err(|_| create(Errno::INVAL))?;
        let mut made = Vec::new();
        let mut times = Vec::new();
        let way = self.make_way_to(&target, &mut made, &mut times);
        let parent = match way {
            Ok(parent) => parent,
            Err(error) => {
                let tidied = remove_made(&made, &times);
                return Err(tidied.map_or_else(create, |()| create(error)));
            }
        };
        if holds_protected && let Ok((_, mode)) = look(&parent, &name) {
            if !is_directory(mode) {
                return Err(create(Errno::NOTDIR));
            }
            return self.put_contents(target, parent, name, what);
        }
        if is_place && look(&parent, &name).is_ok() {
            // The kernel says what is wrong where it is of another kind.
            return Ok(target);
        }
        if protection.is_some()
            && what == Substitute::Directory
            && let Some(lent) = borrow(&parent, &name).map_err(create)?
        {
            self.lent.push(lent);
            return Ok(target);
        }
        if protection.is_some() && look(&parent, &name).is_ok() {
            // What is in a mount of the container cannot be moved out of it.
            remove_made(&made, &times).map_err(create)?;
            return Err(StandInError::Protected { target });
        }
        let before = time_of(&parent).map_err(create)?;
        let mut secret = None;
        let placed = self.exchange(&parent, &name, what, &mut secret);
        let after = time_of(&parent).map_err(create)?;
        times.push((parent.try_clone().map_err(|_| create(Errno::MFILE))?, before, after));
        match placed {
            Ok((identity, itself, aside, home)) => {
                if home.is_some()
                    && let Substitute::Kept(path) = what
                {
                    self.kept.push((path.to_owned(), target.clone()));
                }
                let placed_at = target.clone();
                self.placed.push(Standing::Placed(Placed {
                    target,
                    parent,
                    name,
                    identity,
                    itself,
                    aside,
                    home,
                    secret,
                    made,
                    times,
                }));
                Ok(placed_at)
            }
            Err(error) => {
                let tidied = remove_made(&made, &times);
                tidied.map_err(create).and(Err(create(error)))
            }
        }
    }

    /// Shows a file in memory in a directory that is missing in the root; where it is seen, if that is so.
    ///
    /// Only below `run`: elsewhere a command may well make files beside a secret that are for the image.
    fn show(&mut self, target: &RootPath, file: &Path) -> Result<Option<RootPath>, StandInError> {
        let failed = |path: &RootPath, error: Errno| {
            StandInError::from(RootError::new(Operation::Create, path, error))
        };
        for above in target.ancestors().skip(1) {
            let (Some(parent), Some(name)) = (above.parent(), above.file_name()) else { continue };
            let Ok(parent) = self.root.resolve(&parent) else { continue };
            let Ok(above_at) = parent.child(name) else { continue };
            let Some(rest) = target.strip_prefix(&above) else { continue };
            let at = above_at.join(&rest);
            if let Some(shown) = self.shown.iter_mut().find(|shown| shown.target == above_at) {
                move_to(file, &shown.path, &rest).map_err(|error| failed(&at, error))?;
                shown.files.push(rest);
                return Ok(Some(at));
            }
            let is_below_run = above_at.parent().is_some_and(|parent| !parent.is_root())
                && above_at.components().next() == Some(b"run");
            if !is_below_run
                || self.root.protects(&above_at).is_some()
                || self.root.find(&above_at)?.is_some()
            {
                continue;
            }
            let Some(memory) = file.parent() else { return Ok(None) };
            let path = memory.join(format!("shown-{}", self.shown.len() + 1));
            make_directory(&path).map_err(|error| failed(&above_at, error))?;
            move_to(file, &path, &rest).map_err(|error| failed(&at, error))?;
            self.put(&above_at, Substitute::InMemory(&path))?;
            self.shown.push(Shown { target: above_at, path, files: vec![rest] });
            return Ok(Some(at));
        }
        Ok(None)
    }

    /// Fails if anything else than secrets is in the directory that was shown at `target`.
    fn take_shown(&mut self, target: &RootPath) -> Result<(), StandInError> {
        let Some(index) = self.shown.iter().position(|shown| shown.target == *target) else {
            return Ok(());
        };
        let Shown { path, files, .. } = self.shown.swap_remove(index);
        let failed =
            |error: Errno| StandInError::from(RootError::new(Operation::Find, target, error));
        let mut missing = files.clone();
        let mut open = vec![RootPath::root()];
        while let Some(directory) = open.pop() {
            let on_host = path.join(OsStr::from_bytes(directory.as_bytes()));
            let opened = match rustix::fs::open(&on_host, DIRECTORY, Mode::empty()) {
                Ok(opened) => opened,
                // The command removed it.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(error)),
            };
            let climber = Climber::start(opened.as_fd(), c".", false).map_err(failed)?;
            for name in climber.names().map_err(failed)? {
                let Ok(found) = directory.child(name.to_bytes()) else { continue };
                if files.contains(&found) {
                    missing.retain(|file| *file != found);
                    continue;
                }
                if files.iter().any(|file| file.starts_with(&found)) {
                    open.push(found);
                    continue;
                }
                let name = found.to_string();
                return Err(StandInError::Beside { target: target.clone(), name });
            }
        }
        // It may have been moved to another file system, and that is the image.
        match missing.pop() {
            Some(file) => Err(StandInError::Moved { target: target.join(&file) }),
            None => Ok(()),
        }
    }

    /// Puts something into a directory that must stay, because something protected is in it.
    fn put_contents(
        &mut self,
        target: RootPath,
        parent: OwnedFd,
        name: CString,
        what: Substitute<'_>,
    ) -> Result<RootPath, StandInError> {
        let failed = |error| RootError::new(Operation::Create, &target, error);
        let guest = self.guest(&parent, &name, what).map_err(failed)?;
        let kept = match what {
            Substitute::Kept(path) if self.elsewhere(path).is_none() => Some(path.to_owned()),
            _ => None,
        };
        let mut exchange = Exchange::new(target.clone(), parent, name, guest);
        let count = &mut self.count;
        let begun = exchange.begin(self.root, &self.store, || numbered("aside", count));
        // What was exchanged until a failure goes back with everything else.
        self.placed.push(Standing::Exchanged(exchange));
        begun?;
        self.kept.extend(kept.map(|path| (path, target.clone())));
        Ok(target)
    }

    /// The directory whose entries are shown in another one.
    fn guest(
        &mut self,
        parent: &OwnedFd,
        name: &CString,
        what: Substitute<'_>,
    ) -> Result<Guest, Errno> {
        match what {
            Substitute::Directory => {
                let own = self.next_name("guest")?;
                mkdirat(&self.store, &own, Mode::RWXU)?;
                let mode = Mode::from_raw_mode(0o1777);
                rustix::fs::chmodat(&self.store, &own, mode, AtFlags::empty())?;
                let path = self.store_path.join(OsStr::from_bytes(own.to_bytes()));
                let store = self.store.try_clone().map_err(|_| Errno::MFILE)?;
                Guest::open(self.root, &path, Fate::Removed(store, own))
            }
            Substitute::Disposable(path) => {
                let (directory, own) = split(path)?;
                Guest::open(self.root, path, Fate::Removed(directory, own))
            }
            Substitute::Kept(path) => {
                if let Some(there) = self.elsewhere(path) {
                    return Guest::open(self.root, &there, Fate::Linked(there.clone()));
                }
                let target = openat(parent, name, DIRECTORY, Mode::empty())?;
                Guest::keep(self.root, path, &target)
            }
            // Only files are shown by a link; and a place is not filled.
            Substitute::InMemory(_) | Substitute::Secret(_) | Substitute::Place { .. } => {
                Err(Errno::NOTDIR)
            }
        }
    }

    /// Where something that is kept is, if it is at another target of this command already.
    fn elsewhere(&self, path: &Path) -> Option<PathBuf> {
        self.kept.iter().find_map(|(home, target)| {
            let within = path.strip_prefix(home).ok()?;
            let there = self.root.host.join(OsStr::from_bytes(target.as_bytes()));
            Some(if within.as_os_str().is_empty() { there } else { there.join(within) })
        })
    }

    /// Gives a copy the virtual owner and mode of what it was copied from.
    fn take_looks(&self, from: &Path, copy: &File) -> Result<(), Errno> {
        let inodes = &self.root.inodes;
        if inodes.table.is_empty() {
            return Ok(());
        }
        let path = CString::new(from.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
        let seen = inodes.look(rustix::fs::CWD, &path)?.seen;
        let wanted = crate::Attributes {
            uid: Some(seen.uid),
            gid: Some(seen.gid),
            mode: Some(seen.mode),
            ..crate::Attributes::default()
        };
        inodes.set(&Handle::of_file(copy.as_fd()), &wanted).map_err(|(_, error)| error)
    }

    /// Opens the directory of `target`, which is free of links, and makes what is missing.
    fn make_way_to(
        &self,
        target: &RootPath,
        made: &mut Vec<(OwnedFd, CString, Identity)>,
        times: &mut Vec<(OwnedFd, Timespec, Timespec)>,
    ) -> Result<OwnedFd, Errno> {
        let mut parent = openat(&self.root.dir, c".", DIRECTORY, Mode::empty())?;
        for component in target.parent().unwrap_or_default().components() {
            let component = CString::new(component).map_err(|_| Errno::INVAL)?;
            parent = match openat(&parent, &component, DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) => {
                    let before = time_of(&parent)?;
                    mkdirat(&parent, &component, Mode::from_raw_mode(0o755))?;
                    let next = openat(&parent, &component, DIRECTORY, Mode::empty())?;
                    rustix::fs::chmodat(
                        &parent,
                        &component,
                        Mode::from_raw_mode(0o755),
                        AtFlags::empty(),
                    )?;
                    let (identity, _) = look(&next, c"")?;
                    let above = parent.try_clone().map_err(|_| Errno::MFILE)?;
                    let after = time_of(&parent)?;
                    made.push((above, component, identity));
                    times.push((parent, before, after));
                    next
                }
                result => result?,
            };
        }
        Ok(parent)
    }

    #[expect(clippy::type_complexity, reason = "the parts of one `Placed`")]
    fn exchange(
        &mut self,
        parent: &OwnedFd,
        name: &CString,
        what: Substitute<'_>,
        secret: &mut Option<File>,
    ) -> Result<(Identity, OwnedFd, Option<CString>, Option<(OwnedFd, CString)>), Errno> {
        let wants_directory = match what {
            Substitute::Disposable(path)
            | Substitute::InMemory(path)
            | Substitute::Secret(path) => is_directory(rustix::fs::stat(path)?.st_mode),
            Substitute::Kept(_) | Substitute::Directory => true,
            Substitute::Place { is_directory } => is_directory,
        };
        let existing = match look(parent, name) {
            Ok((_, mode)) => Some(is_directory(mode)),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        let aside = match existing {
            // As the kernel says it about mounts.
            Some(is_directory) if is_directory != wants_directory => return Err(Errno::NOTDIR),
            Some(_) => {
                let aside = self.next_name("aside")?;
                renameat(parent, name, &self.store, &aside)?;
                Some(aside)
            }
            None => None,
        };
        let put = self.fill(parent, name, what, secret);
        if put.is_err()
            && let Some(aside) = &aside
        {
            renameat(&self.store, aside, parent, name)?;
        }
        let home = put?;
        let (identity, _) = look(parent, name)?;
        let itself = openat(parent, name, ITSELF, Mode::empty())?;
        Ok((identity, itself, aside, home))
    }

    /// Puts something where nothing is; returns where it came from if it shall go back there.
    fn fill(
        &self,
        parent: &OwnedFd,
        name: &CString,
        what: Substitute<'_>,
        secret: &mut Option<File>,
    ) -> Result<Option<(OwnedFd, CString)>, Errno> {
        match what {
            Substitute::Directory => {
                mkdirat(parent, name, Mode::RWXU)?;
                rustix::fs::chmodat(parent, name, Mode::from_raw_mode(0o1777), AtFlags::empty())?;
                Ok(None)
            }
            Substitute::Place { is_directory: true } => {
                mkdirat(parent, name, Mode::from_raw_mode(0o755)).map(|()| None)
            }
            Substitute::Place { is_directory: false } => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(|_| None)
            }
            Substitute::InMemory(to) => symlinkat(to, parent, name).map(|()| None),
            Substitute::Secret(path) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let file = openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?;
                // Whatever comes now, it is overwritten.
                let file = secret.insert(File::from(file));
                let copied = copy_secret(path, file).and_then(|()| self.take_looks(path, file));
                if copied.is_err() {
                    erase(file).ok();
                    unlinkat(parent, name, AtFlags::empty())?;
                }
                copied.map(|()| None)
            }
            Substitute::Disposable(path) => {
                let (directory, from) = split(path)?;
                match renameat_with(&directory, &from, parent, name, RenameFlags::NOREPLACE) {
                    // Into a mount of the container.
                    Err(Errno::XDEV) => symlinkat(path, parent, name).map(|()| None),
                    result => result.map(|()| None),
                }
            }
            Substitute::Kept(path) => {
                if let Some(there) = self.elsewhere(path) {
                    return symlinkat(there, parent, name).map(|()| None);
                }
                let (directory, from) = split(path)?;
                match renameat_with(&directory, &from, parent, name, RenameFlags::NOREPLACE) {
                    Ok(()) => Ok(Some((directory, from))),
                    // Another file system.
                    Err(Errno::XDEV) => symlinkat(path, parent, name).map(|()| None),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Puts everything back.
    ///
    /// # Errors
    ///
    /// The first failure; everything else is put back all the same. What the command did must not become a part of
    /// an image then: something that is not the image's may be in it.
    pub fn restore(mut self) -> Result<(), StandInError> {
        self.restore_all()
    }

    fn restore_all(&mut self) -> Result<(), StandInError> {
        let mut result = Ok(());
        for directory in std::mem::take(&mut self.lent) {
            // What stays is in a mount, and so in no image.
            for name in names_in(&directory).unwrap_or_default() {
                crate::remove::tree(directory.as_fd(), &name, None).ok();
            }
        }
        while let Some(standing) = self.placed.pop() {
            let restored = match standing {
                Standing::Placed(placed) => self.restore_one(placed),
                Standing::Exchanged(exchange) => exchange.end(self.root, &self.store),
            };
            result = result.and(restored);
        }
        result
    }

    fn restore_one(&mut self, placed: Placed) -> Result<(), StandInError> {
        let Placed { target, parent, name, identity, itself, aside, home, secret, made, times } =
            placed;
        let failed =
            |error: Errno| StandInError::from(RootError::new(Operation::Move, &target, error));
        let now: Vec<Option<Timespec>> =
            times.iter().map(|(directory, ..)| time_of(directory).ok()).collect();
        let found = match look(&parent, &name) {
            Ok((found, _)) => Some(found),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(failed(error)),
        };
        let links = rustix::fs::fstat(&itself).map_or(0, |found| found.st_nlink);
        let is_linked = links > 0;
        // Wherever it is by now.
        let erased = secret.as_ref().map_or(Ok(()), erase).map_err(failed);
        let beside = self.take_shown(&target);
        // Where secrets are mounted, none can be removed. Whoever can, may have moved it.
        let may_be_gone = secret.is_none();
        let mut result = if found == Some(identity) {
            let taken = match &home {
                Some((directory, home)) => renameat(&parent, &name, directory, home),
                None => self.discard(&parent, &name),
            };
            taken.map_err(failed)
        } else if found.is_none() && !is_linked && may_be_gone {
            // The command removed it, which is nobody's loss.
            Ok(())
        } else {
            Err(StandInError::Moved { target: target.clone() })
        };
        if secret.is_some() && links > 1 {
            result = result.and(Err(StandInError::Linked { target: target.clone() }));
        }
        result = result.and(erased).and(beside);
        if let Some(aside) = aside {
            let returned =
                match renameat_with(&self.store, &aside, &parent, &name, RenameFlags::NOREPLACE) {
                    Ok(()) => Ok(()),
                    Err(Errno::EXIST) => Err(StandInError::Moved { target: target.clone() }),
                    Err(Errno::NOENT) => Err(StandInError::Lost { target: target.clone() }),
                    Err(error) => Err(failed(error)),
                };
            result = result.and(returned);
        }
        let times: Vec<_> = times
            .into_iter()
            .zip(now)
            .map(|((directory, before, after), now)| {
                // Who changed the directory in the meantime was the command.
                let time = now.map_or(before, |now| if now == after { before } else { now });
                (directory, time, time)
            })
            .collect();
        result.and(remove_made(&made, &times).map_err(failed))
    }

    fn discard(&mut self, parent: &OwnedFd, name: &CString) -> Result<(), Errno> {
        let spent = self.next_name("spent")?;
        match renameat(parent, name, &self.store, &spent) {
            Ok(()) => {
                // It is out of the root, and goes with the store if not now.
                crate::remove::tree(self.store.as_fd(), &spent, None).ok();
                Ok(())
            }
            Err(Errno::XDEV) => crate::remove::tree(parent.as_fd(), name, None)
                .map(drop)
                .map_err(|(_, error)| error),
            Err(error) => Err(error),
        }
    }

    fn next_name(&mut self, kind: &str) -> Result<CString, Errno> {
        numbered(kind, &mut self.count)
    }
}

/// A name that nothing in the store has.
fn numbered(kind: &str, count: &mut usize) -> Result<CString, Errno> {
    *count += 1;
    CString::new(format!("{kind}-{count}")).map_err(|_| Errno::INVAL)
}

impl Drop for StandIns<'_> {
    fn drop(&mut self) {
        // The step has failed already, or `restore` has done it and told.
        self.restore_all().ok();
    }
}

/// Removes the directories that were made, as far as they are empty, and sets the times of those above.
fn remove_made(
    made: &[(OwnedFd, CString, Identity)],
    times: &[(OwnedFd, Timespec, Timespec)],
) -> Result<(), Errno> {
    for (above, name, identity) in made.iter().rev() {
        if look(above, name).is_ok_and(|(found, _)| found == *identity) {
            match unlinkat(above, name, AtFlags::REMOVEDIR) {
                // The command put something into it.
                Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
    }
    for (directory, time, _) in times.iter().rev() {
        let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let times = Timestamps { last_access: omit, last_modification: *time };
        match utimensat(directory, c"", &times, AtFlags::EMPTY_PATH) {
            // The directory was one of those that were made.
            Ok(()) | Err(Errno::NOENT) => {}
            // Kernels before 5.8 do not set the times of a directory that is opened like this.
            Err(Errno::INVAL) => utimensat(directory, c".", &times, AtFlags::empty())?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Moves a file in memory to `rest` in a directory beside it, and makes the directories on the way.
fn move_to(file: &Path, directory: &Path, rest: &RootPath) -> Result<(), Errno> {
    for above in rest.ancestors().skip(1).filter(|above| !above.is_root()) {
        make_directory(&directory.join(OsStr::from_bytes(above.as_bytes())))?;
    }
    let to = directory.join(OsStr::from_bytes(rest.as_bytes()));
    rustix::fs::rename(file, to)
}

/// Makes a directory in memory that everybody may look into.
fn make_directory(path: &Path) -> Result<(), Errno> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => rustix::fs::chmod(path, Mode::from_raw_mode(0o755)),
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Copies content, owner and mode.
fn copy_secret(from: &Path, to: &File) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = File::from(rustix::fs::open(from, flags, Mode::empty())?);
    let found = rustix::fs::fstat(&from)?;
    io::copy(&mut &from, &mut &*to).map_err(|error| errno_of(&error))?;
    let (owner, group) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    rustix::fs::fchown(to, Some(owner), Some(group))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(found.st_mode & 0o7777))
}

/// Overwrites a file where it is on the disk.
fn erase(mut file: &File) -> Result<(), Errno> {
    use std::io::{Read, Seek};
    let length = rustix::fs::fstat(file)?.st_size;
    let written = file.rewind().and_then(|()| {
        let length = u64::try_from(length).unwrap_or_default();
        io::copy(&mut io::repeat(0).take(length), &mut file)?;
        // Without this the disk might not see it before the file is gone.
        file.sync_data()
    });
    written.map_err(|error| errno_of(&error))
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// The names in a directory, without those of the builder's own.
fn names_in(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    const HIDDEN: &[u8] = b".ebiko-";
    let climber = Climber::start(directory.as_fd(), c".", false)?;
    let mut names = climber.names()?;
    names.retain(|name| !name.to_bytes().starts_with(HIDDEN));
    Ok(names)
}

fn split(path: &Path) -> Result<(OwnedFd, CString), Errno> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL);
    };
    let directory = rustix::fs::open(parent, DIRECTORY, Mode::empty())?;
    Ok((directory, CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?))
}

/// Which file a name stands for, and its mode; the directory itself for no name.
fn look(directory: &OwnedFd, name: &std::ffi::CStr) -> Result<(Identity, u32), Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let found = statx(directory, name, flags, StatxFlags::INO | StatxFlags::TYPE)?;
    let identity =
        Identity { device: (found.stx_dev_major, found.stx_dev_minor), inode: found.stx_ino };
    Ok((identity, u32::from(found.stx_mode)))
}

fn is_directory(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::Directory
}

fn time_of(directory: &OwnedFd) -> Result<Timespec, Errno> {
    let found = statx(directory, c"", AtFlags::EMPTY_PATH, StatxFlags::MTIME)?;
    Ok(Timespec { tv_sec: found.stx_mtime.tv_sec, tv_nsec: found.stx_mtime.tv_nsec.into() })
}

/// A directory in a mount of the container, such as `/dev/shm`, that is as good as a new one: there is nothing in
/// it but what the builder itself hides there.
fn borrow(parent: &OwnedFd, name: &CString) -> Result<Option<OwnedFd>, Errno> {
    let directory = match openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error),
    };
    let names = names_in(&directory)?;
    Ok(names.is_empty().then_some(directory))
}

#[cfg(test)]
mod tests;
