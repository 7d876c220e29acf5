//! Where a path of the guest leads.
//!
//! Guest and supervisor have the same root here, so an absolute path means the same to both, but for those that lead through
//! `/proc/self`. A relative one begins at a link of the guest's in `/proc`.

use std::cell::RefCell;
use std::ffi::{CStr, CString, OsStr};
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Instant;

use ebiko_rootfs::{EmulatedFiles, Kind, Metadata, OpenTo, Sight};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags, fstat, openat, openat2,
    readlinkat, statx,
};
use rustix::io::Errno;

use super::calls::Voids;
use super::identities::is_guest;
use super::lately::{Base, Lately};
use super::top::{Led, Top};
use crate::caller::Caller;

/// As many links as the kernel follows.
const MOST_LINKS: u32 = 40;

/// The files of the machine that a guest sees.
pub(crate) struct Files {
    emulated: EmulatedFiles,
    /// The file system of `/proc`.
    proc: Option<(u32, u32)>,
    /// Directories in which paths of the guest began lately: most calls begin where the one before did.
    directories: RefCell<Vec<(Directory, Arc<OwnedFd>)>>,
    lately: Lately,
}

/// How many directories are remembered.
const REMEMBERED: usize = 8;

/// Which directory: by its file system, inode and mount, whose numbers are its own for as long as it is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Directory((u32, u32), u64, u64);

/// A file that was found, held so that nobody can put another one in its place.
pub(crate) struct Found {
    /// Good for looking only (`O_PATH`).
    pub(crate) file: OwnedFd,
    pub(crate) sight: Sight,
    /// Whether it was found through a link to a name at the top that the kernel does not find.
    pub(crate) is_hidden: bool,
}

impl Found {
    /// The file as root sees it.
    pub(crate) fn metadata(&self) -> &Metadata {
        self.sight.metadata()
    }

    fn is_directory(&self) -> bool {
        self.metadata().kind == Kind::Directory
    }
}

impl std::ops::Deref for Files {
    type Target = EmulatedFiles;

    fn deref(&self) -> &EmulatedFiles {
        &self.emulated
    }
}

impl Files {
    pub(crate) fn new(emulated: EmulatedFiles) -> Self {
        let (directories, lately) = Default::default();
        let mut files = Self { emulated, proc: None, directories, lately };
        files.find_proc();
        files
    }

    /// Looks which file system `/proc` is; false where it is none that the kernel fills, or something is mounted on what it
    /// says of this process. What is found there would be the guest's word.
    pub(crate) fn find_proc(&mut self) -> bool {
        let look = |path| {
            let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
            let found = statx(CWD, path, AtFlags::empty(), mask).ok()?;
            Some(((found.stx_dev_major, found.stx_dev_minor), found.stx_mnt_id))
        };
        let proc = look(c"/proc");
        self.proc = proc.map(|(device, _)| device);
        let is_filled = rustix::fs::statfs(c"/proc/self/fd")
            .is_ok_and(|found| found.f_type == rustix::fs::PROC_SUPER_MAGIC);
        is_filled && proc.is_some() && proc == look(c"/proc/self/fd")
    }

    /// Whether a file is one of `/proc`'s.
    pub(crate) fn is_of_proc(&self, sight: &Sight) -> bool {
        self.proc == Some(sight.file_system())
    }

    fn found(&self, file: OwnedFd) -> Result<Found, Errno> {
        let sight = self.look_at(file.as_fd())?;
        Ok(Found { file, sight, is_hidden: false })
    }

    /// What a descriptor of the guest is open for, which may be a link.
    pub(crate) fn of_descriptor(
        &self,
        caller: &Caller<'_>,
        descriptor: i32,
    ) -> Result<Found, Errno> {
        let link = link_of(caller.thread(), descriptor)?;
        let opened = openat(CWD, link.path(), AtEnd::Follow.flags(), Mode::empty());
        self.found(opened.map_err(bad_descriptor)?)
    }

    /// Looks at what a descriptor of the guest is open for.
    pub(crate) fn sight_of_descriptor(
        &self,
        caller: &Caller<'_>,
        descriptor: i32,
        mask: StatxFlags,
    ) -> Result<Sight, Errno> {
        let link = link_of(caller.thread(), descriptor)?;
        self.look(CWD, link.path(), AtFlags::empty(), mask).map_err(bad_descriptor)
    }

    /// Where `path` leads relative to the descriptor `directory` of the guest, or to its working directory.
    pub(crate) fn place(
        &self,
        caller: &Caller<'_>,
        directory: i32,
        path: &[u8],
    ) -> Result<Place, Errno> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        let place = if path.first() == Some(&b'/') {
            Place::at_top(caller, path)?
        } else {
            match self.base(caller, directory)? {
                Base::Top => Place::at_top(caller, &[b"/", path].concat())?,
                Base::Directory(base) => {
                    let path = CString::new(path).map_err(|_| Errno::INVAL)?;
                    Place { base: Some(base), path, way: Way::Same }
                }
            }
        };
        self.beneath_top(caller, place)
    }

    /// The same place, if the path does not go up to `/`, as which the guest knows the directory.
    fn beneath_top(&self, caller: &Caller<'_>, place: Place) -> Result<Place, Errno> {
        let path = place.path.as_bytes();
        let Some((top, end)) = caller.top().zip(behind_last_parent(path)) else {
            return Ok(place);
        };
        let found = self.open_part(caller, &place, &path[..end], AtEnd::Follow);
        if found.is_ok_and(|found| top.is_at(found.sight.file_system(), found.metadata().ino)) {
            return Place::at_top(caller, &[b"/", &path[end..]].concat());
        }
        Ok(place)
    }

    /// To be called before a call is answered.
    pub(crate) fn asks(&self, caller: &Caller<'_>) {
        self.lately.asks(caller.thread(), caller.number());
    }

    /// Where relative paths of the guest begin that belong to the descriptor `directory`, or to its working directory.
    fn base(&self, caller: &Caller<'_>, directory: i32) -> Result<Base, Errno> {
        if directory != libc::AT_FDCWD {
            return self.find_base(caller, directory);
        }
        if let Some(base) = self.lately.base_of(caller.thread(), Instant::now()) {
            return Ok(base);
        }
        let is_settled = self.lately.is_settled(Voids::Everything);
        let base = self.find_base(caller, directory)?;
        if is_settled {
            self.lately.remember_base(caller.thread(), &base, Instant::now());
        }
        Ok(base)
    }

    fn find_base(&self, caller: &Caller<'_>, directory: i32) -> Result<Base, Errno> {
        let link = link_of(caller.thread(), directory)?;
        let mask = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::MNT_ID;
        let found = statx(CWD, link.path(), AtFlags::empty(), mask).map_err(bad_descriptor)?;
        let device = (found.stx_dev_major, found.stx_dev_minor);
        if caller.top().is_some_and(|top| top.is_at(device, found.stx_ino)) {
            return Ok(Base::Top);
        }
        // Kernels before 5.8 do not tell the mount.
        let which = if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
            None
        } else {
            Some(Directory(device, found.stx_ino, found.stx_mnt_id))
        };
        Ok(Base::Directory(self.directory(which, link.path())?))
    }

    /// Opens a directory, or remembers it.
    fn directory(&self, which: Option<Directory>, link: &CStr) -> Result<Arc<OwnedFd>, Errno> {
        let mut known = self.directories.borrow_mut();
        if let Some(at) = known.iter().position(|(directory, _)| Some(*directory) == which) {
            known[..=at].rotate_right(1);
            return Ok(Arc::clone(&known[0].1));
        }
        let opened = Arc::new(open_base(link)?);
        if let Some(which) = which {
            known.truncate(REMEMBERED - 1);
            known.insert(0, (which, Arc::clone(&opened)));
        }
        Ok(opened)
    }

    /// Opens a path to be looked at.
    pub(crate) fn open(
        &self,
        caller: &Caller<'_>,
        place: &Place,
        at_end: AtEnd,
    ) -> Result<Found, Errno> {
        self.open_part(caller, place, place.path.as_bytes(), at_end)
    }

    /// Looks at a file, which need not be opened for that if it is an entry of the directory in which the path begins.
    pub(crate) fn sight(
        &self,
        caller: &Caller<'_>,
        place: &Place,
        at_end: AtEnd,
    ) -> Result<Sight, Errno> {
        match self.glimpse(place, at_end, AtFlags::empty(), StatxFlags::empty()) {
            Some(sight) => sight,
            None => Ok(self.open(caller, place, at_end)?.sight),
        }
    }

    /// The same; `None` where the file must be opened: where a link could be followed on the way or at the end, or where
    /// `/proc` says something else to the guest.
    pub(crate) fn glimpse(
        &self,
        place: &Place,
        at_end: AtEnd,
        flags: AtFlags,
        mask: StatxFlags,
    ) -> Option<Result<Sight, Errno>> {
        let base = place.base.as_ref().filter(|_| !place.path.as_bytes().contains(&b'/'))?;
        let flags = flags | AtFlags::SYMLINK_NOFOLLOW;
        match self.look(base.as_fd(), &place.path, flags, mask) {
            Ok(sight) => {
                let is_link = sight.metadata().kind == Kind::Symlink;
                let is_other = (is_link && at_end == AtEnd::Follow) || self.is_of_proc(&sight);
                (!is_other).then_some(Ok(sight))
            }
            Err(Errno::NOENT) => Some(Err(Errno::NOENT)),
            Err(_) => None,
        }
    }

    /// The directory that a path leads to an entry of, and the name of the entry there.
    pub(crate) fn parent(
        &self,
        caller: &Caller<'_>,
        place: &Place,
    ) -> Result<(Found, CString), Errno> {
        let bytes = place.path.as_bytes();
        let trimmed = bytes.len() - bytes.iter().rev().take_while(|&&byte| byte == b'/').count();
        let start = bytes[..trimmed].iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let name = CString::new(&bytes[start..]).map_err(|_| Errno::INVAL)?;
        let parent = match &place.base {
            Some(base) if start == 0 => self.found(base.try_clone().map_err(|_| Errno::MFILE)?)?,
            _ => self.open_part(caller, place, &bytes[..start], AtEnd::Follow)?,
        };
        if !parent.is_directory() {
            return Err(Errno::NOTDIR);
        }
        self.keep_open(parent.file.as_fd(), &parent.sight, OpenTo::Change);
        Ok((parent, name))
    }

    /// Whether one look at the directory, or none, is enough: the kernel finds the same, and what is made in it belongs to who
    /// makes it.
    ///
    /// What is not seen is a link on the way that leads through `/proc/self`, and so through the builder's.
    pub(crate) fn has_plain_parent(
        &self,
        caller: &Caller<'_>,
        directory: i32,
        path: &[u8],
    ) -> bool {
        let end = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let (above, name) = path.split_at(end);
        if matches!(name, b"" | b"." | b"..") {
            return false;
        }
        let can_be_known = directory == libc::AT_FDCWD || above.first() == Some(&b'/');
        let (thread, now) = (caller.thread(), Instant::now());
        if can_be_known && self.lately.is_plain(thread, above, now) {
            return true;
        }
        let is_settled = can_be_known && self.lately.is_settled(Voids::Directories);
        let is_plain = self.is_plain_parent(caller, directory, above) == Some(true);
        if is_plain && is_settled {
            self.lately.remember_plain(thread, above, now);
        }
        is_plain
    }

    fn is_plain_parent(&self, caller: &Caller<'_>, directory: i32, above: &[u8]) -> Option<bool> {
        const OF_A_PROCESS: [&[u8]; 4] = [b"proc", b"self", b"thread-self", b"fd"];
        const SET_GROUP_ID: u32 = 0o2000;
        let mut parts = above.split(|&byte| byte == b'/');
        if parts.any(|part| OF_A_PROCESS.contains(&part)) {
            return None;
        }
        let base = if above.first() != Some(&b'/') {
            match self.base(caller, directory).ok()? {
                Base::Top => return None,
                Base::Directory(base) => Some(base),
            }
        } else if Place::at_top(caller, above).ok()?.is_shared(AtEnd::Follow) {
            None
        } else {
            return None;
        };
        let start = base.as_ref().map_or(CWD, |base| base.as_fd());
        let above = CString::new(above).ok()?;
        let sight = self.look(start, &above, AtFlags::EMPTY_PATH, StatxFlags::empty()).ok()?;
        let found = sight.metadata();
        let is_top = caller.top().is_some_and(|top| top.is_at(sight.file_system(), found.ino));
        let hands_on = found.mode & SET_GROUP_ID != 0;
        let is_plain = found.is_dir() && !is_top && !hands_on && !self.is_of_proc(&sight);
        Some(is_plain && self.is_open(&sight, OpenTo::Change))
    }

    /// Opens a part of the path, and never through what the builder has open: the guest could name that as
    /// `/proc/self/fd/7` or as a link to it, and the kernel would take the builder for who asks.
    fn open_part(
        &self,
        caller: &Caller<'_>,
        place: &Place,
        part: &[u8],
        at_end: AtEnd,
    ) -> Result<Found, Errno> {
        let directory = place.base.as_ref().map_or(CWD, |base| base.as_fd());
        let (flags, resolve) = (at_end.flags(), ResolveFlags::NO_MAGICLINKS);
        match openat2(directory, part, flags, Mode::empty(), resolve) {
            Ok(opened) => {
                let found = self.found(opened)?;
                if !self.is_of_proc(&found.sight) {
                    return Ok(found);
                }
            }
            Err(Errno::NOTDIR) => return Err(Errno::NOTDIR),
            Err(Errno::NOENT) => {
                // Where no link is on the way, nothing is there for anybody.
                let resolve = ResolveFlags::NO_SYMLINKS;
                if openat2(directory, part, flags, Mode::empty(), resolve).err()
                    == Some(Errno::NOENT)
                {
                    return Err(Errno::NOENT);
                }
            }
            Err(_) => {}
        }
        // It may have been sought in the builder's `/proc/self`; and kernels before 5.6 do not know the call.
        let (file, is_hidden) = self.walk(caller, directory, part, at_end)?;
        Ok(Found { is_hidden, ..self.found(file)? })
    }

    /// Goes one step after the other, and through `/proc/self` as the guest would. Also returns whether a link leads to a name at
    /// the top that the kernel does not find.
    fn walk(
        &self,
        caller: &Caller<'_>,
        start: BorrowedFd<'_>,
        path: &[u8],
        at_end: AtEnd,
    ) -> Result<(OwnedFd, bool), Errno> {
        let top = || openat(CWD, c"/", AtEnd::Stay.flags(), Mode::empty());
        let is_absolute = path.first() == Some(&b'/');
        let mut here = if is_absolute { top()? } else { self.step(start, b".")? };
        let mut left = components(path);
        let mut links = 0;
        let mut is_hidden = false;
        while let Some(name) = left.pop() {
            if name == b"/" {
                here = top()?;
                continue;
            }
            let is_last = left.is_empty();
            let next = self.step(here.as_fd(), &name)?;
            let is_link = FileType::from_raw_mode(fstat(&next)?.st_mode) == FileType::Symlink;
            if !is_link || (is_last && at_end == AtEnd::Stay) {
                here = next;
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::LOOP);
            }
            if is_of_proc(&next)? {
                if !is_top_of_proc(&here)? {
                    // It leads to what a process has open, and not along a path.
                    if !process_of(&next)?.is_some_and(is_guest) {
                        return Err(Errno::ACCESS);
                    }
                    here = openat(&here, name.as_slice(), AtEnd::Follow.flags(), Mode::empty())?;
                    continue;
                }
                if matches!(name.as_slice(), b"self" | b"thread-self") {
                    left.push(caller.thread().to_string().into_bytes());
                    continue;
                }
            }
            let target = readlinkat(&next, c"", Vec::new())?;
            let target = match caller.top().map(|top| top.lead(target.as_bytes())) {
                Some(Led::Here { path, is_linked, .. })
                    if target.as_bytes().first() == Some(&b'/') =>
                {
                    is_hidden |= !is_linked;
                    path
                }
                _ => target.into_bytes(),
            };
            left.extend(components(&target));
        }
        Ok((here, is_hidden))
    }

    /// Opens an entry of a directory, also where a command took the right to do so from the builder.
    fn step(&self, here: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
        let next = || openat(here, name, AtEnd::Stay.flags(), Mode::empty());
        match next() {
            Err(Errno::ACCESS) => {
                self.keep_open(here, &self.look_at(here)?, OpenTo::Search);
                next()
            }
            found => found,
        }
    }
}

/// A path that the builder can use in the guest's stead.
#[derive(Debug)]
pub(crate) struct Place {
    /// The directory at which it begins; it is absolute where there is none.
    base: Option<Arc<OwnedFd>>,
    path: CString,
    way: Way,
}

/// Whether the kernel would find the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As the path is.
    Same,
    /// Through a link at the top, and not at its end.
    ThroughLink,
    /// At a link at the top, which must be followed.
    AtLink,
    /// Not at all.
    Hidden,
}

/// Whether a link at the end of a path is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtEnd {
    Follow,
    Stay,
}

impl AtEnd {
    pub(crate) fn follow_if(follows: bool) -> Self {
        if follows { Self::Follow } else { Self::Stay }
    }

    fn flags(self) -> OFlags {
        match self {
            Self::Follow => OFlags::PATH | OFlags::CLOEXEC,
            Self::Stay => OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        }
    }
}

impl Place {
    fn at_top(caller: &Caller<'_>, path: &[u8]) -> Result<Self, Errno> {
        let path = of_the_guest(caller.thread(), path);
        match caller.top().map(|top| top.lead(&path)) {
            None | Some(Led::There) => Self::absolute(path, Way::Same),
            Some(Led::Here { path, is_linked, is_at_top }) => {
                let way = match (is_linked, is_at_top) {
                    (true, false) => Way::ThroughLink,
                    (true, true) => Way::AtLink,
                    (false, _) => Way::Hidden,
                };
                Self::absolute(path, way)
            }
        }
    }

    fn absolute(path: Vec<u8>, way: Way) -> Result<Self, Errno> {
        let path = CString::new(path).map_err(|_| Errno::INVAL)?;
        Ok(Self { base: None, path, way })
    }

    /// Whether the kernel finds the same file: when it follows a link at the end, or when it stays there.
    pub(crate) fn is_shared(&self, at_end: AtEnd) -> bool {
        match at_end {
            AtEnd::Follow => self.way != Way::Hidden,
            AtEnd::Stay => self.has_shared_parent(),
        }
    }

    /// Whether this is `/`, where the kernel finds something else and a process may be all the same.
    pub(crate) fn is_top(&self, caller: &Caller<'_>) -> bool {
        let directory = caller.top().map(Top::directory);
        directory.is_some_and(|directory| directory.as_os_str().as_bytes() == self.path.as_bytes())
    }

    /// Whether the kernel finds the same directory and the same name in it.
    pub(crate) fn has_shared_parent(&self) -> bool {
        matches!(self.way, Way::Same | Way::ThroughLink)
    }
}

/// What `/proc` does not have is no descriptor of the guest's.
fn bad_descriptor(error: Errno) -> Errno {
    if error == Errno::NOENT { Errno::BADF } else { error }
}

/// Opens the directory of the guest that a link in its `/proc` stands for.
fn open_base(base: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, base, flags, Mode::empty()).map_err(bad_descriptor)
}

/// Whose file in `/proc` this is.
pub(crate) fn process_of(file: &OwnedFd) -> Result<Option<u32>, Errno> {
    let path = readlinkat(CWD, format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new())?;
    let path = path.to_str().ok().and_then(|path| path.strip_prefix("/proc/"));
    Ok(path.and_then(|path| path.split('/').next()?.parse().ok()))
}

/// Where a path goes on behind the last `..` in it; `None` where there is none.
fn behind_last_parent(path: &[u8]) -> Option<usize> {
    let mut start = 0;
    let mut end = None;
    for part in path.split(|&byte| byte == b'/') {
        start += part.len();
        if part == b".." {
            end = Some(start);
        }
        start += 1;
    }
    end
}

/// The parts of a path, the first one last.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = Path::new(OsStr::from_bytes(path)).components();
    let mut parts: Vec<Vec<u8>> = parts
        .map(|part| match part {
            Component::RootDir => b"/".to_vec(),
            part => part.as_os_str().as_bytes().to_vec(),
        })
        .collect();
    parts.reverse();
    parts
}

/// Rewrites what means something else to the builder.
fn of_the_guest(thread: u32, path: &[u8]) -> Vec<u8> {
    let forms: [(&[u8], &str); 6] = [
        (b"/proc/self", ""),
        (b"/proc/thread-self", ""),
        (b"/dev/fd", "/fd"),
        (b"/dev/stdin", "/fd/0"),
        (b"/dev/stdout", "/fd/1"),
        (b"/dev/stderr", "/fd/2"),
    ];
    for (form, behind) in forms {
        if let Some(rest) = path.strip_prefix(form)
            && rest.first() == Some(&b'/')
        {
            return [format!("/proc/{thread}{behind}").as_bytes(), rest].concat();
        }
    }
    path.to_vec()
}

/// A path in `/proc`, which is short.
struct Link([u8; 48]);

impl Link {
    fn path(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

/// The link in `/proc` that stands for what a descriptor of the guest is open for.
fn link_of(thread: u32, descriptor: i32) -> Result<Link, Errno> {
    let mut link = Link([0; 48]);
    // One byte remains for the end.
    let mut room = &mut link.0[..47];
    let written = match descriptor {
        libc::AT_FDCWD => write!(room, "/proc/{thread}/cwd"),
        ..0 => return Err(Errno::BADF),
        descriptor => write!(room, "/proc/{thread}/fd/{descriptor}"),
    };
    written.map(|()| link).map_err(|_| Errno::BADF)
}

/// The same asked of the file system itself, of which there may be more than one.
pub(crate) fn is_of_proc(file: &OwnedFd) -> Result<bool, Errno> {
    Ok(rustix::fs::fstatfs(file)?.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// Whether this directory of `/proc` is its root, which has the inode 1 (`PROC_ROOT_INO`).
fn is_top_of_proc(directory: &OwnedFd) -> Result<bool, Errno> {
    Ok(fstat(directory)?.st_ino == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_parts_go_up() {
        let check = |path: &str, behind: Option<&str>| {
            let end = behind_last_parent(path.as_bytes());
            assert_eq!(end.map(|end| &path[end..]), behind, "{path}");
        };
        check("../../etc/x", Some("/etc/x"));
        check("a/../b", Some("/b"));
        check("/srv/..", Some(""));
        check("..", Some(""));
        check("..//x", Some("//x"));
        check("a/..b/c../...", None);
        check("/usr/lib/x", None);
        check("", None);
    }
}
