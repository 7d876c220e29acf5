//! From a path to a directory descriptor and a name.
//!
//! Every operation on a file happens relative to the descriptor of its parent directory and never follows
//! the last component, so all that resolution has to find is that descriptor. Links on the way mean what they
//! mean in a chroot: an absolute target starts at the root, and `..` at the root stays there.
//!
//! One `openat2` does it for nearly every path. Where something is protected it must also be known *which*
//! directory was reached, and the kernel does not say; so there `openat2` is asked for paths without links,
//! which reach what they spell, and a path with links is walked component by component. The walk serves
//! kernels and seccomp profiles without `openat2` as well.

use std::ffi::CString;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat};
use rustix::io::Errno;

use crate::OpenTo;
use crate::guard::Standing;
use crate::{Root, RootPath};

/// As many links as Linux follows in one path.
const MAX_LINKS: usize = 40;

/// Bounds the work on a path whose links were made to be slow: each can be a page long and climb to and fro.
const MAX_STEPS: usize = 1 << 14;

/// The longest path that is walked. A tree can be deeper than one system call can name, and is still looked at;
/// beyond this, the work per path is not worth what anybody could have meant.
const MAX_LENGTH: usize = 16 * 1024;

/// How often a resolution is repeated that a rename elsewhere made uncertain, before it is walked.
const MAX_ATTEMPTS: usize = 4;

const ENTER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// How parents are resolved; tests choose, everybody else gets what the kernel offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolution {
    Openat2,
    Walk,
}

impl Resolution {
    /// What works here: containers may run under a seccomp profile that refuses `openat2`.
    pub(crate) fn detect(dir: BorrowedFd<'_>) -> Self {
        match openat2(dir, c".", ENTER, Mode::empty(), ResolveFlags::IN_ROOT) {
            Ok(_) => Self::Openat2,
            Err(_) => Self::Walk,
        }
    }
}

/// A directory descriptor that may be the root's own.
#[derive(Debug)]
pub(crate) enum DirFd<'a> {
    Borrowed(BorrowedFd<'a>),
    Owned(OwnedFd),
}

impl AsFd for DirFd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Borrowed(fd) => *fd,
            Self::Owned(fd) => fd.as_fd(),
        }
    }
}

/// Where a file is or would be: a name in an open directory.
#[derive(Debug)]
pub(crate) struct Spot<'a> {
    pub(crate) dir: DirFd<'a>,
    /// One component, or `.` for the root itself.
    pub(crate) name: CString,
    /// The path without links; exact only where something is protected, because only there anybody asks.
    pub(crate) path: RootPath,
    pub(crate) standing: Standing,
}

/// Whether a spot is wanted to look at a file or to make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Look,
    Make,
}

/// What the walk does with components that do not exist.
#[derive(Clone, Copy)]
enum Missing<'a> {
    Refuse,
    /// They are as they are spelled, unless they are said to be files.
    Keep(&'a dyn Fn(&RootPath) -> bool),
}

/// The position of a walk. `dir` is `None` where it has yet to be opened again or is no directory.
struct Position<'r> {
    path: RootPath,
    dir: Option<DirFd<'r>>,
    exists: bool,
}

impl Root {
    pub(crate) fn spot(&self, path: &RootPath, purpose: Purpose) -> Result<Spot<'_>, Errno> {
        if path.as_bytes().len() > MAX_LENGTH {
            return Err(Errno::NAMETOOLONG);
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(Spot {
                dir: DirFd::Borrowed(self.dir.as_fd()),
                name: c".".into(),
                path: RootPath::root(),
                standing: self.guard.standing(path),
            });
        };
        let name = CString::new(name).map_err(|_| Errno::INVAL)?;
        let standing = self.guard.standing(path);
        if standing != Standing::Displaced
            && let Some(dir) = self.enter_at_once(&parent)?
        {
            return Ok(Spot { dir, name, path: path.clone(), standing });
        }

        let at = self.walk(&parent, Missing::Refuse)?;
        let path = at.path.join_name(name.as_bytes());
        let standing = self.guard.standing(&path);
        let displaced_here =
            standing == Standing::Displaced && self.guard.standing(&at.path) != Standing::Displaced;
        let dir = match (displaced_here, purpose) {
            (true, Purpose::Look) => DirFd::Owned(self.guard.shadow_dir(&at.path)?),
            (true, Purpose::Make) => DirFd::Owned(self.guard.make_shadow_dir(&at.path)?),
            (false, _) => match at.dir {
                Some(dir) => dir,
                None => self.reopen(&at.path)?,
            },
        };
        Ok(Spot { dir, name, path, standing })
    }

    /// The path that `path` leads to when every link is followed, with missing components as they are spelled.
    /// A missing one for which `is_file` says so leads nowhere.
    pub(crate) fn resolve_all(
        &self,
        path: &RootPath,
        is_file: &dyn Fn(&RootPath) -> bool,
    ) -> Result<RootPath, Errno> {
        if path.as_bytes().len() > MAX_LENGTH {
            return Err(Errno::NAMETOOLONG);
        }
        if self.resolution == Resolution::Openat2
            && self.guard.standing(path) != Standing::Displaced
        {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
            let spelled = if path.is_root() { b"." } else { path.as_bytes() };
            if openat2(&self.dir, spelled, flags, Mode::empty(), how).is_ok() {
                return Ok(path.clone());
            }
        }
        Ok(self.walk(path, Missing::Keep(is_file))?.path)
    }

    /// Opens a directory with one system call, or says `None` where it takes a walk.
    fn enter_at_once(&self, path: &RootPath) -> Result<Option<DirFd<'_>>, Errno> {
        if path.is_root() {
            return Ok(Some(DirFd::Borrowed(self.dir.as_fd())));
        }
        if self.resolution == Resolution::Walk {
            return Ok(None);
        }
        let mut how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        if !self.guard.is_trivial() {
            how |= ResolveFlags::NO_SYMLINKS;
        }
        let mut is_permitted = self.is_read_only();
        for _ in 0..MAX_ATTEMPTS {
            match openat2(&self.dir, path.as_bytes(), ENTER, Mode::empty(), how) {
                Err(Errno::ACCESS) if !is_permitted => {
                    is_permitted = true;
                    self.keep_open_along(path);
                }
                Ok(dir) => return Ok(Some(DirFd::Owned(dir))),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::LOOP | Errno::NAMETOOLONG | Errno::XDEV) => break,
                // Without links allowed, a link as the last component is not a directory.
                Err(Errno::NOTDIR) if !self.guard.is_trivial() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Gives the builder back the right to search what leads to a path, as far as there are no links on the way.
    fn keep_open_along(&self, path: &RootPath) {
        let mut dir = DirFd::Borrowed(self.dir.as_fd());
        for component in path.components() {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let Ok(next) = openat(&dir, component, flags, Mode::empty()) else { break };
            self.keep_open(next.as_fd());
            dir = DirFd::Owned(next);
        }
    }

    /// The same for one directory.
    pub(crate) fn keep_open(&self, directory: BorrowedFd<'_>) {
        if self.inodes.privileges.own_files_as.is_none() || self.is_read_only() {
            return;
        }
        let files = self.emulated();
        if let Ok(sight) = files.look_at(directory) {
            files.keep_open(directory, &sight, OpenTo::Search);
        }
    }

    fn walk(&self, path: &RootPath, missing: Missing<'_>) -> Result<Position<'_>, Errno> {
        let mut pending: Vec<Box<[u8]>> = path.components().rev().map(Into::into).collect();
        let mut at = self.start();
        let mut links = 0;
        let mut steps = 0;
        while let Some(component) = pending.pop() {
            match &*component {
                b"" | b"." => continue,
                b".." => {
                    at.path = at.path.parent().unwrap_or_default();
                    at.dir = None;
                    at.exists = true;
                    continue;
                }
                _ => {}
            }
            let next = at.path.join_name(&component);
            steps += 1;
            if at.dir.is_none() && at.exists {
                steps += at.path.components().count();
            }
            if steps > MAX_STEPS {
                return Err(Errno::LOOP);
            }
            if next.as_bytes().len() > MAX_LENGTH {
                return Err(Errno::NAMETOOLONG);
            }
            let found = if at.exists {
                self.look_up(&mut at, &next, &component)
            } else {
                Err(Errno::NOENT)
            };
            match (found, missing) {
                (Err(Errno::NOENT), Missing::Keep(is_file)) => {
                    if !pending.is_empty() && is_file(&next) {
                        return Err(Errno::NOTDIR);
                    }
                    at = Position { path: next, dir: None, exists: false };
                }
                (Err(error), _) => return Err(error),
                (Ok((parent, child)), _) => match FileType::from_raw_mode(fstat(&child)?.st_mode) {
                    FileType::Directory => {
                        at = Position { path: next, dir: Some(DirFd::Owned(child)), exists: true };
                    }
                    FileType::Symlink => {
                        links += 1;
                        let target = readlinkat(&child, c"", Vec::new())?.into_bytes();
                        if links > MAX_LINKS {
                            return Err(Errno::LOOP);
                        }
                        if target.starts_with(b"/") {
                            at = self.start();
                        } else {
                            // A displaced link's text is relative to where the image wanted the link,
                            // not to the shadow directory that holds it.
                            let same_side = self.guard.standing(&at.path) == Standing::Displaced
                                || self.guard.standing(&next) != Standing::Displaced;
                            at.dir = same_side.then_some(parent);
                        }
                        pending.extend(target.split(|&byte| byte == b'/').rev().map(Into::into));
                    }
                    _ if matches!(missing, Missing::Keep(_)) && pending.is_empty() => {
                        at = Position { path: next, dir: None, exists: true };
                    }
                    _ => return Err(Errno::NOTDIR),
                },
            }
        }
        Ok(at)
    }

    fn start(&self) -> Position<'_> {
        Position {
            path: RootPath::root(),
            dir: Some(DirFd::Borrowed(self.dir.as_fd())),
            exists: true,
        }
    }

    /// Opens `next`, the child of the position that is called `name`, without following it.
    fn look_up<'r>(
        &'r self,
        at: &mut Position<'r>,
        next: &RootPath,
        name: &[u8],
    ) -> Result<(DirFd<'r>, OwnedFd), Errno> {
        let displaced = self.guard.standing(next) == Standing::Displaced
            && self.guard.standing(&at.path) != Standing::Displaced;
        let parent = match at.dir.take() {
            _ if displaced => DirFd::Owned(self.guard.shadow_dir(&at.path)?),
            Some(dir) => dir,
            None => self.reopen(&at.path)?,
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let child = openat(&parent, name, flags, Mode::empty())?;
        Ok((parent, child))
    }

    /// Opens a directory by a path that has no links.
    fn reopen(&self, path: &RootPath) -> Result<DirFd<'_>, Errno> {
        if self.guard.standing(path) == Standing::Displaced {
            return self.guard.shadow_dir(path).map(DirFd::Owned);
        }
        let mut dir = DirFd::Borrowed(self.dir.as_fd());
        for component in path.components() {
            dir = DirFd::Owned(openat(&dir, component, ENTER | OFlags::NOFOLLOW, Mode::empty())?);
        }
        Ok(dir)
    }
}
