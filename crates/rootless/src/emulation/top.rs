//! A root that is not at `/`.
//!
//! Container runtimes give `/` to user 0 whatever an image says, so a builder that is somebody else can make nothing there. An
//! image for such builders has links at the top instead, which lead into a directory of the builder's: `/usr` is
//! `kaniko-root/usr`. Programs, their interpreters and their libraries are then where they should be, and the kernel finds
//! them without a question. What is left is to hide the links: calls that would show them, or that change the top itself, are
//! answered in the directory.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::Errno;

/// The directory, and which names lead where.
#[derive(Debug)]
pub(crate) struct Top {
    /// Absolute, without links.
    directory: PathBuf,
    /// The file system and the inode of `/` itself.
    itself: ((u32, u32), u64),
    /// Names at the top that lead to those of the directory.
    links: BTreeSet<Vec<u8>>,
    /// Names at the top that are something else, such as `/proc` and the container's mounts.
    others: BTreeSet<Vec<u8>>,
}

/// Where an absolute path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Led {
    /// To the same place for everybody.
    There,
    /// Into the directory.
    Here {
        /// The path there.
        path: Vec<u8>,
        /// Whether the kernel follows a link at the top to the same file.
        is_linked: bool,
        /// Whether something at the top is meant, or the top itself.
        is_at_top: bool,
    },
}

impl Top {
    /// Looks at the top; `None` where `directory` is the top itself.
    ///
    /// # Errors
    ///
    /// Where one of both cannot be read, or nothing at the top leads there.
    #[expect(clippy::disallowed_methods, reason = "the container's own top, which is in no root")]
    pub(crate) fn of(directory: &Path) -> std::io::Result<Option<Self>> {
        if directory == Path::new("/") {
            return Ok(None);
        }
        let (mut links, mut others) = (BTreeSet::new(), BTreeSet::new());
        for entry in std::fs::read_dir("/")? {
            let entry = entry?;
            let leads_here = std::fs::read_link(entry.path()).is_ok_and(|target| {
                Path::new("/").join(target) == directory.join(entry.file_name())
            });
            let names = if leads_here { &mut links } else { &mut others };
            names.insert(entry.file_name().into_vec());
        }
        if links.is_empty() {
            // A command would run on what is at `/`, which is not the image.
            let text = format!("no name at `/` is a link into `{}`", directory.display());
            return Err(std::io::Error::other(text));
        }
        let itself = statx(CWD, c"/", AtFlags::empty(), StatxFlags::INO)?;
        let itself = ((itself.stx_dev_major, itself.stx_dev_minor), itself.stx_ino);
        Ok(Some(Self { directory: directory.to_owned(), itself, links, others }))
    }

    /// Whether this is `/` itself, where paths of the guest may begin that lead into the directory.
    pub(crate) fn is_at(&self, device: (u32, u32), inode: u64) -> bool {
        (device, inode) == self.itself
    }

    /// Where an absolute path of the guest leads. A name that is not at the top is in the directory, too.
    pub(crate) fn lead(&self, path: &[u8]) -> Led {
        let mut rest = path;
        let directory = self.directory.as_os_str().as_bytes();
        let (is_linked, is_at_top) = loop {
            rest = rest.trim_ascii_start_matches(b'/');
            let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
            match &rest[..end] {
                b"." | b".." => rest = &rest[end..],
                b"" => {
                    return Led::Here {
                        path: directory.to_vec(),
                        is_linked: false,
                        is_at_top: true,
                    };
                }
                name if self.others.contains(name) => return Led::There,
                name => {
                    let is_at_top = rest[end..].iter().all(|&byte| byte == b'/');
                    break (self.links.contains(name), is_at_top);
                }
            }
        };
        Led::Here { path: [directory, b"/", rest].concat(), is_linked, is_at_top }
    }

    /// A path as the guest knows it.
    pub(crate) fn shown(&self, path: &[u8]) -> Vec<u8> {
        let path = Path::new(OsStr::from_bytes(path));
        match path.strip_prefix(&self.directory) {
            Ok(beneath) => Path::new("/").join(beneath).into_os_string().into_vec(),
            Err(_) => path.as_os_str().as_bytes().to_vec(),
        }
    }

    /// The directory's path.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Opens the directory.
    pub(crate) fn open(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, &self.directory, flags, Mode::empty())
    }
}

/// What slices have of `str::trim_start_matches`.
trait TrimStart {
    fn trim_ascii_start_matches(&self, byte: u8) -> &[u8];
}

impl TrimStart for [u8] {
    fn trim_ascii_start_matches(&self, byte: u8) -> &[u8] {
        let start = self.iter().position(|&found| found != byte).unwrap_or(self.len());
        &self[start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top() -> Top {
        let names = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect();
        Top {
            directory: "/kaniko-root".into(),
            itself: ((0, 0), 2),
            links: names(&["usr", "etc"]),
            others: names(&["proc", "kaniko", "kaniko-root"]),
        }
    }

    #[track_caller]
    fn check(path: &str, expected: &str) {
        let led = match top().lead(path.as_bytes()) {
            Led::There => path.to_owned(),
            Led::Here { path, .. } => String::from_utf8(path).unwrap(),
        };
        assert_eq!(led, expected);
    }

    #[test]
    fn names_of_the_image_are_in_the_directory() {
        check("/usr", "/kaniko-root/usr");
        check("//usr/bin/", "/kaniko-root/usr/bin/");
        check("/new/x", "/kaniko-root/new/x");
        check("/../.././usr/x", "/kaniko-root/usr/x");
        check("/", "/kaniko-root");
        check("/..", "/kaniko-root");
        check("/.", "/kaniko-root");
    }

    #[test]
    fn names_of_the_container_stay_where_they_are() {
        check("/proc/self/exe", "/proc/self/exe");
        check("/kaniko-root/usr", "/kaniko-root/usr");
        check("/procs", "/kaniko-root/procs");
    }

    #[test]
    fn the_kernel_is_trusted_with_what_lies_behind_a_link() {
        let led = |path: &str| match top().lead(path.as_bytes()) {
            Led::Here { is_linked, is_at_top, .. } => (is_linked, is_at_top),
            Led::There => panic!("{path}"),
        };
        assert_eq!(led("/usr/bin"), (true, false));
        assert_eq!(led("/usr/"), (true, true));
        assert_eq!(led("/new"), (false, true));
        assert_eq!(led("/new/x"), (false, false));
        assert_eq!(led("/"), (false, true));
    }

    #[test]
    fn paths_are_shown_as_the_guest_knows_them() {
        for (path, shown) in [
            ("/kaniko-root/usr/bin/x", "/usr/bin/x"),
            ("/kaniko-root", "/"),
            ("/kaniko-rooted", "/kaniko-rooted"),
            ("/proc/1", "/proc/1"),
            ("pipe:[1]", "pipe:[1]"),
        ] {
            assert_eq!(top().shown(path.as_bytes()), shown.as_bytes(), "{path}");
        }
    }

    #[test]
    fn the_root_at_the_top_needs_no_links() {
        assert!(Top::of(Path::new("/")).unwrap().is_none());
        let directory = tempfile::tempdir().unwrap();
        let error = Top::of(directory.path()).unwrap_err().to_string();
        assert!(error.starts_with("no name at `/` is a link into "), "{error}");
    }
}
