//! Going down and up a tree of any depth with one descriptor.

use std::ffi::{CStr, CString};

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, fchmod, fstat, openat, openat2, seek,
};
use rustix::io::Errno;

const OPEN: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

const NAMES_BUFFER: usize = 64 * 1024;

/// An open directory in a tree, which can become its child and its parent again.
///
/// Holding one descriptor per level would run out of descriptors in a tree that was made deep on purpose, so
/// the way up is `..`, and whoever goes up says which directory has to be there: a directory that was moved
/// meanwhile is an error, never a way out. Mounts are not entered.
#[derive(Debug)]
pub(crate) struct Climber {
    fd: OwnedFd,
    identity: Identity,
    /// Whether the process is bound by modes and has to grant itself the right to list and change.
    grants: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    dev: u64,
    ino: u64,
}

impl Climber {
    /// Starts at the directory `name` in `dir`; `ENOTDIR` where it is something else, `EBUSY` where it is a
    /// mount point.
    pub(crate) fn start(dir: BorrowedFd<'_>, name: &CStr, grants: bool) -> Result<Self, Errno> {
        let (fd, identity) = open(dir, name, grants)?;
        Ok(Self { fd, identity, grants })
    }

    /// Becomes the directory `name` in this one and returns what [`Climber::leave`] wants to know.
    pub(crate) fn enter(&mut self, name: &CStr) -> Result<Identity, Errno> {
        let (fd, identity) = open(self.fd.as_fd(), name, self.grants)?;
        let above = std::mem::replace(&mut self.identity, identity);
        self.fd = fd;
        Ok(above)
    }

    /// Becomes the parent again; `ESTALE` where the directory was moved to another parent.
    pub(crate) fn leave(&mut self, above: Identity) -> Result<(), Errno> {
        let fd = openat(&self.fd, c"..", OPEN, Mode::empty())?;
        if identity(&fd)?.0 != above {
            return Err(Errno::STALE);
        }
        self.fd = fd;
        self.identity = above;
        Ok(())
    }

    /// Calls `visit` with everything in the directory until it fails. What is removed while this goes on may
    /// hide something else, so who wants a directory empty asks again.
    pub(crate) fn visit(
        &self,
        mut visit: impl FnMut(&CStr, FileType) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut buffer = Vec::with_capacity(NAMES_BUFFER);
        seek(&self.fd, SeekFrom::Start(0))?;
        let mut listing = RawDir::new(&self.fd, buffer.spare_capacity_mut());
        while let Some(entry) = listing.next() {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                visit(entry.file_name(), entry.file_type())?;
            }
        }
        Ok(())
    }

    /// The names of everything in the directory.
    pub(crate) fn names(&self) -> Result<Vec<CString>, Errno> {
        let mut names = Vec::new();
        self.visit(|name, _| {
            names.push(name.to_owned());
            Ok(())
        })?;
        Ok(names)
    }
}

impl AsFd for Climber {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn identity(fd: &OwnedFd) -> Result<(Identity, Mode), Errno> {
    let stat = fstat(fd)?;
    Ok((Identity { dev: stat.st_dev, ino: stat.st_ino }, Mode::from_raw_mode(stat.st_mode)))
}

fn open(dir: BorrowedFd<'_>, name: &CStr, grants: bool) -> Result<(OwnedFd, Identity), Errno> {
    let fd = match open_on_this_mount(dir, name) {
        Err(Errno::ACCESS) if grants => {
            grant(dir, name)?;
            open_on_this_mount(dir, name)?
        }
        result => result?,
    };
    let (identity, mode) = identity(&fd)?;
    if grants && !mode.contains(Mode::RWXU) {
        fchmod(&fd, mode | Mode::RWXU)?;
    }
    Ok((fd, identity))
}

fn open_on_this_mount(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    match openat2(dir, name, OPEN, Mode::empty(), how) {
        Err(Errno::XDEV) => return Err(Errno::BUSY),
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => {}
        result => return result,
    }
    let fd = openat(dir, name, OPEN, Mode::empty())?;
    if fstat(&fd)?.st_dev != fstat(dir)?.st_dev {
        return Err(Errno::BUSY);
    }
    Ok(fd)
}

/// Lets the owner of a directory into it.
fn grant(dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    rustix::fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), Mode::RWXU)
}
