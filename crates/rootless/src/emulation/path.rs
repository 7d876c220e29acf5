//! Where a path of the guest leads.
//!
//! Guest and builder have the same root here, so an absolute path means the same to both, but for those that lead through
//! `/proc/self`. A relative one begins at a link of the guest's in `/proc`.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat};
use rustix::io::Errno;

use super::identities::is_guest;
use super::top::Led;
use crate::caller::{Caller, LONGEST_PATH};

/// As many links as the kernel follows.
const MOST_LINKS: u32 = 40;

/// A path that the builder can use in the guest's stead.
#[derive(Debug)]
pub(crate) struct Place {
    directory: Option<OwnedFd>,
    path: CString,
    /// The link in `/proc` at which it begins.
    base: Option<String>,
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
    fn flags(self) -> OFlags {
        match self {
            Self::Follow => OFlags::PATH | OFlags::CLOEXEC,
            Self::Stay => OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        }
    }
}

impl Place {
    /// Of `path` relative to the descriptor `directory` of the guest, or to its working directory.
    pub(crate) fn new(caller: &Caller<'_>, directory: i32, path: &[u8]) -> Result<Self, Errno> {
        let thread = caller.thread();
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        if path.first() == Some(&b'/') {
            return Self::at_top(caller, path);
        }
        let base = base(thread, directory)?;
        if caller.top().is_some()
            && readlinkat(CWD, base.as_str(), Vec::new()).is_ok_and(|base| base.as_bytes() == b"/")
        {
            return Self::at_top(caller, &[b"/", path].concat());
        }
        let joined = [base.as_bytes(), b"/", path].concat();
        if joined.len() < LONGEST_PATH {
            return Ok(Self { base: Some(base), ..Self::absolute(joined)? });
        }
        let directory = open_base(&base)?;
        let path = CString::new(path).map_err(|_| Errno::INVAL)?;
        Ok(Self { directory: Some(directory), path, base: None, way: Way::Same })
    }

    /// Of what a descriptor of the guest is open for.
    pub(crate) fn of_descriptor(caller: &Caller<'_>, descriptor: i32) -> Result<Self, Errno> {
        Self::absolute(base(caller.thread(), descriptor)?.into_bytes())
    }

    fn at_top(caller: &Caller<'_>, path: &[u8]) -> Result<Self, Errno> {
        let path = of_the_guest(caller.thread(), path);
        match caller.top().map(|top| top.lead(&path)) {
            None | Some(Led::There) => Self::absolute(path),
            Some(Led::Here { path, is_linked, is_at_top }) => {
                let way = match (is_linked, is_at_top) {
                    (true, false) => Way::ThroughLink,
                    (true, true) => Way::AtLink,
                    (false, _) => Way::Hidden,
                };
                Ok(Self { way, ..Self::absolute(path)? })
            }
        }
    }

    /// Whether the kernel finds the same file when it follows a link at the end.
    pub(crate) fn is_shared(&self) -> bool {
        self.way != Way::Hidden
    }

    /// Whether the kernel finds the same directory and the same name in it.
    pub(crate) fn has_shared_parent(&self) -> bool {
        matches!(self.way, Way::Same | Way::ThroughLink)
    }

    fn absolute(path: Vec<u8>) -> Result<Self, Errno> {
        let path = CString::new(path).map_err(|_| Errno::INVAL)?;
        Ok(Self { directory: None, path, base: None, way: Way::Same })
    }

    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_ref().map_or(CWD, OwnedFd::as_fd)
    }

    pub(crate) fn path(&self) -> &std::ffi::CStr {
        &self.path
    }

    /// Opens it to be looked at.
    pub(crate) fn open(&self, caller: &Caller<'_>, at_end: AtEnd) -> Result<OwnedFd, Errno> {
        self.open_part(caller, self.path.as_bytes(), at_end)
    }

    /// Opens a part of the path, and never through what the builder has open: the guest could name that as `/proc/self/fd/7` or
    /// as a link to it, and the kernel would take the builder for who asks.
    fn open_part(&self, caller: &Caller<'_>, part: &[u8], at_end: AtEnd) -> Result<OwnedFd, Errno> {
        let base = self.base.as_ref().map(|base| open_base(base)).transpose()?;
        let rest = match &self.base {
            Some(base) => part.get(base.len() + 1..).unwrap_or_default(),
            None => part,
        };
        let rest = if rest.is_empty() { b".".as_slice() } else { rest };
        let directory = base.as_ref().map_or(self.directory(), OwnedFd::as_fd);
        let (flags, resolve) = (at_end.flags(), ResolveFlags::NO_MAGICLINKS);
        match openat2(directory, rest, flags, Mode::empty(), resolve) {
            Ok(opened) if is_plain(&opened)? => Ok(opened),
            Err(Errno::NOTDIR) => Err(Errno::NOTDIR),
            // It may have been sought in the builder's `/proc/self`; and kernels before 5.6 do not know the call.
            Ok(_) | Err(_) => walk(caller, directory, rest, at_end),
        }
    }

    /// Opens what a descriptor of the guest is open for, which may be a link.
    pub(crate) fn open_as_it_is(&self) -> Result<OwnedFd, Errno> {
        let opened = openat(CWD, self.path(), AtEnd::Follow.flags(), Mode::empty());
        opened.map_err(|error| if error == Errno::NOENT { Errno::BADF } else { error })
    }

    /// The directory that it is in, and its name there.
    pub(crate) fn parent(&self, caller: &Caller<'_>) -> Result<(OwnedFd, CString), Errno> {
        let bytes = self.path.as_bytes();
        let trimmed = bytes.len() - bytes.iter().rev().take_while(|&&byte| byte == b'/').count();
        let start = bytes[..trimmed].iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let name = CString::new(&bytes[start..]).map_err(|_| Errno::INVAL)?;
        let above = match &bytes[..start] {
            b"" => b".",
            above => above,
        };
        let parent = self.open_part(caller, above, AtEnd::Follow)?;
        if !is_directory(&parent)? {
            return Err(Errno::NOTDIR);
        }
        Ok((parent, name))
    }
}

/// Opens the directory of the guest that a link in its `/proc` stands for.
fn open_base(base: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, base, flags, Mode::empty())
        .map_err(|error| if error == Errno::NOENT { Errno::BADF } else { error })
}

/// Goes one step after the other, and through `/proc/self` as the guest would.
fn walk(
    caller: &Caller<'_>,
    start: BorrowedFd<'_>,
    path: &[u8],
    at_end: AtEnd,
) -> Result<OwnedFd, Errno> {
    let top = || openat(CWD, c"/", AtEnd::Stay.flags(), Mode::empty());
    let is_absolute = path.first() == Some(&b'/');
    let mut here =
        if is_absolute { top()? } else { openat(start, c".", AtEnd::Stay.flags(), Mode::empty())? };
    let mut left = components(path);
    let mut links = 0;
    while let Some(name) = left.pop() {
        if name == b"/" {
            here = top()?;
            continue;
        }
        let is_last = left.is_empty();
        let next = openat(&here, name.as_slice(), AtEnd::Stay.flags(), Mode::empty())?;
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
            Some(Led::Here { path, .. }) if target.as_bytes().first() == Some(&b'/') => path,
            _ => target.into_bytes(),
        };
        left.extend(components(&target));
    }
    Ok(here)
}

/// Whose file in `/proc` this is.
pub(crate) fn process_of(file: &OwnedFd) -> Result<Option<u32>, Errno> {
    let path = readlinkat(CWD, format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new())?;
    let path = path.to_str().ok().and_then(|path| path.strip_prefix("/proc/"));
    Ok(path.and_then(|path| path.split('/').next()?.parse().ok()))
}

fn is_directory(file: &OwnedFd) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode) == FileType::Directory)
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

/// The link in `/proc` that stands for a directory of the guest.
fn base(thread: u32, descriptor: i32) -> Result<String, Errno> {
    match descriptor {
        libc::AT_FDCWD => Ok(format!("/proc/{thread}/cwd")),
        ..0 => Err(Errno::BADF),
        descriptor => Ok(format!("/proc/{thread}/fd/{descriptor}")),
    }
}

/// Whether a file was surely reached without going through `/proc/self`: such ways end in `/proc`, or at what a process
/// has open besides files.
fn is_plain(file: &OwnedFd) -> Result<bool, Errno> {
    let kind = FileType::from_raw_mode(fstat(file)?.st_mode);
    let is_file = matches!(kind, FileType::RegularFile | FileType::Directory | FileType::Symlink);
    Ok(is_file && !is_of_proc(file)?)
}

pub(crate) fn is_of_proc(file: &OwnedFd) -> Result<bool, Errno> {
    Ok(rustix::fs::fstatfs(file)?.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// Whether this directory of `/proc` is its root, which has the inode 1 (`PROC_ROOT_INO`).
fn is_top_of_proc(directory: &OwnedFd) -> Result<bool, Errno> {
    Ok(fstat(directory)?.st_ino == 1)
}
