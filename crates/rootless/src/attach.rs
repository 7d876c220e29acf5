//! What a guest sees at places of its root while it runs, and nobody afterwards.

#![expect(clippy::disallowed_methods, reason = "what is attached is not below a root")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ebiko_rootfs::{Kind, RootPath};

use crate::Place;
use crate::child::{self, errno, open_beneath};
use crate::mounts::{check, make_read_only, make_tree_read_only, mount};

/// One thing that is attached to a guest's root for as long as it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Where it is seen. Links are followed as in a chroot.
    pub target: RootPath,
    /// What is seen there.
    pub content: Content,
    /// Whether the guest may not change it. Without mounts this holds for users other than root only.
    pub read_only: bool,
}

/// What an [`Attachment`] shows. Paths are the machine's, absolute and without links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file or directory that stays when the guest has ended, with all that the guest did to it.
    Kept(PathBuf),
    /// Somebody else's file or directory, which no guest may change: it is mounted read-only. Where nothing can be
    /// mounted the guest is not run.
    Foreign(PathBuf),
    /// A file, directory or socket that was made for this guest. What becomes of it is of no interest.
    Disposable(PathBuf),
    /// A file in memory that must never get to a disk. Where nothing can be mounted, a link shows it; if its mode or
    /// owner are somebody's wish, a copy, which is overwritten afterwards.
    Secret {
        /// The file.
        path: PathBuf,
        /// Whether mode and owner are those of every secret.
        is_plain: bool,
    },
    /// A new directory in memory that holds at most so many bytes.
    Tmpfs {
        /// The kernel's default where there is none.
        size: Option<u64>,
    },
}

impl Content {
    /// What must be at the target for this to be mounted there.
    pub(crate) fn kind(&self) -> io::Result<Kind> {
        match self {
            Self::Kept(path)
            | Self::Foreign(path)
            | Self::Disposable(path)
            | Self::Secret { path, .. } => {
                let is_dir = std::fs::symlink_metadata(path)?.is_dir();
                Ok(if is_dir { Kind::Directory } else { Kind::Regular })
            }
            Self::Tmpfs { .. } => Ok(Kind::Directory),
        }
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Kept(path)
            | Self::Foreign(path)
            | Self::Disposable(path)
            | Self::Secret { path, .. } => Some(path),
            Self::Tmpfs { .. } => None,
        }
    }
}

/// Whether guests of `place` get mounts. Where they do not, files stand in for them, and what must not be changed is
/// best a copy.
pub fn can_mount(place: &Place) -> bool {
    match place {
        Place::Private(_) => true,
        Place::InPlace => child::can_mount(),
        Place::Nowhere(_) => false,
    }
}

/// The attachments in the order in which they are made: who holds another one first.
pub(crate) fn in_order(attachments: &[Attachment]) -> Vec<&Attachment> {
    let mut ordered: Vec<&Attachment> = attachments.iter().collect();
    ordered.sort_by_key(|attachment| attachment.target.components().count());
    ordered
}

/// An attachment as the guest's process makes it.
#[derive(Debug)]
pub(crate) struct Attach {
    /// Every path from the top down to the target: what is missing is made.
    pub(crate) way: Vec<Component>,
    pub(crate) is_directory: bool,
    pub(crate) what: AttachWhat,
}

/// A path on the way to a target, and its last name.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) path: CString,
    pub(crate) name: CString,
}

#[derive(Debug)]
pub(crate) enum AttachWhat {
    Bind { source: CString, read_only: bool },
    Tmpfs { data: CString, read_only: bool },
}

impl Attach {
    /// `target` with the links resolved that the root itself has.
    pub(crate) fn new(target: &RootPath, attachment: &Attachment) -> io::Result<Self> {
        let c_string = |bytes: &[u8]| CString::new(bytes).map_err(|_| io::ErrorKind::InvalidInput);
        let way = target.ancestors().skip(1).chain([target.clone()]).map(|path| {
            let name = c_string(path.file_name().unwrap_or(b"."))?;
            Ok(Component { path: c_string(path.as_bytes())?, name })
        });
        let read_only = attachment.read_only || matches!(attachment.content, Content::Foreign(_));
        let what = match (&attachment.content, attachment.content.path()) {
            (Content::Tmpfs { size }, _) => {
                let size = size.map(|size| format!(",size={size}")).unwrap_or_default();
                AttachWhat::Tmpfs {
                    data: c_string(format!("mode=1777{size}").as_bytes())?,
                    read_only,
                }
            }
            (_, path) => {
                let path = path.unwrap_or(Path::new("")).as_os_str().as_bytes();
                AttachWhat::Bind { source: c_string(path)?, read_only }
            }
        };
        Ok(Self {
            way: way.collect::<io::Result<_>>()?,
            is_directory: attachment.content.kind()? == Kind::Directory,
            what,
        })
    }

    /// Where, for messages.
    pub(crate) fn target(&self) -> &CStr {
        self.way.last().map_or(c"", |last| last.path.as_c_str())
    }
}

#[expect(unsafe_code, reason = "no wrapper is async-signal-safe by contract")]
impl Attach {
    /// Makes what is missing at the target, beneath the working directory, and mounts on it. Async-signal-safe.
    ///
    /// Nothing that is found on the way leads out: a directory that was attached before is full of what a guest
    /// put there.
    pub(crate) fn perform(&self) -> Result<(), i32> {
        // SAFETY: these take C strings and descriptors, which are closed once.
        unsafe {
            let root = open_beneath(libc::AT_FDCWD, c".", libc::O_PATH | libc::O_DIRECTORY)?;
            let result = self.find_or_make(root).and_then(|target| {
                let mounted = self.mount_on(target);
                libc::close(target);
                mounted
            });
            libc::close(root);
            result
        }
    }

    /// The target, opened.
    unsafe fn find_or_make(&self, root: RawFd) -> Result<RawFd, i32> {
        // SAFETY: as in `perform`.
        let mut above = unsafe { libc::fcntl(root, libc::F_DUPFD_CLOEXEC, 3) };
        if above < 0 {
            return Err(errno());
        }
        let last = self.way.len().saturating_sub(1);
        for (index, component) in self.way.iter().enumerate() {
            // SAFETY: as in `perform`.
            let next = unsafe {
                open_beneath(root, &component.path, libc::O_PATH).or_else(|error| {
                    if error != libc::ENOENT {
                        return Err(error);
                    }
                    self.make(above, &component.name, index == last)?;
                    open_beneath(above, &component.name, libc::O_PATH | libc::O_NOFOLLOW)
                })
            };
            // SAFETY: as in `perform`.
            unsafe { libc::close(above) };
            above = next?;
        }
        Ok(above)
    }

    unsafe fn make(&self, above: RawFd, name: &CStr, is_last: bool) -> Result<(), i32> {
        // SAFETY: as in `perform`.
        unsafe {
            if !is_last || self.is_directory {
                return check(libc::mkdirat(above, name.as_ptr(), 0o755));
            }
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
            let file = libc::openat(above, name.as_ptr(), flags, 0o644);
            if file == -1 {
                return Err(errno());
            }
            libc::close(file);
            Ok(())
        }
    }

    unsafe fn mount_on(&self, target: RawFd) -> Result<(), i32> {
        let mut buffer = [0; 32];
        let target = descriptor_path(target, &mut buffer).ok_or(libc::EBADF)?;
        match &self.what {
            AttachWhat::Bind { source, read_only } => {
                mount(Some(source), target, None, libc::MS_BIND | libc::MS_REC, None)?;
                // The descriptor is of what is covered now.
                if *read_only { self.freeze() } else { Ok(()) }
            }
            AttachWhat::Tmpfs { data, read_only } => {
                mount(None, target, Some(c"tmpfs"), libc::MS_NOSUID | libc::MS_NODEV, Some(data))?;
                if *read_only { self.freeze() } else { Ok(()) }
            }
        }
    }

    /// Makes what was mounted read-only, with all that is mounted in it.
    fn freeze(&self) -> Result<(), i32> {
        let Some(last) = self.way.last() else { return Err(libc::EINVAL) };
        // SAFETY: as in `perform`; another lookup of the same path finds the new mount.
        unsafe {
            let mounted = open_beneath(libc::AT_FDCWD, &last.path, libc::O_PATH)?;
            let mut buffer = [0; 32];
            let result = descriptor_path(mounted, &mut buffer)
                .ok_or(libc::EBADF)
                .and_then(|path| make_tree_read_only(path).or_else(|_| make_read_only(path)));
            libc::close(mounted);
            result
        }
    }
}

/// The name by which a path of the kernel's leads to a descriptor of this process.
fn descriptor_path(descriptor: RawFd, buffer: &mut [u8; 32]) -> Option<&CStr> {
    const START: &[u8] = b"/proc/self/fd/";
    let mut digits = [0_u8; 10];
    let mut count = 0;
    let mut rest = u32::try_from(descriptor).ok()?;
    loop {
        *digits.get_mut(count)? = b'0' + u8::try_from(rest % 10).ok()?;
        count += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    *buffer = [0; 32];
    buffer[..START.len()].copy_from_slice(START);
    for (place, digit) in buffer[START.len()..].iter_mut().zip(digits[..count].iter().rev()) {
        *place = *digit;
    }
    CStr::from_bytes_until_nul(buffer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_has_a_path() {
        let mut buffer = [0; 32];
        assert_eq!(descriptor_path(0, &mut buffer), Some(c"/proc/self/fd/0"));
        assert_eq!(descriptor_path(1207, &mut buffer), Some(c"/proc/self/fd/1207"));
        assert_eq!(descriptor_path(RawFd::MAX, &mut buffer), Some(c"/proc/self/fd/2147483647"));
        assert_eq!(descriptor_path(-1, &mut buffer), None);
    }

    #[test]
    fn who_holds_another_attachment_comes_first() {
        let at = |text: &str| Attachment {
            target: RootPath::parse(text.as_bytes()).unwrap(),
            content: Content::Tmpfs { size: None },
            read_only: false,
        };
        let all = [at("a/b/c"), at("x"), at("a/b"), at("a")];
        let ordered: Vec<String> =
            in_order(&all).iter().map(|attachment| attachment.target.to_string()).collect();
        assert_eq!(ordered, ["x", "a", "a/b", "a/b/c"]);
    }
}
