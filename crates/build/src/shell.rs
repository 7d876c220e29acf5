//! The shell that a container has for scripts of its own.

#![expect(clippy::disallowed_methods, reason = "looks at the container's files, not the image's")]

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ebiko_rootfs::{Attributes, Kind, Root, RootError, RootPath};

/// A shell in a directory of its own that is the container's and never the image's: the script that started the build goes on
/// with it, and so does whoever enters the container later.
///
/// The directory is protected like the builder's own. `/bin/sh` cannot be: as long as a build lasts it is the image's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnShell {
    program: PathBuf,
}

/// What the directory and the program looked like. Owners and modes do not count: `chown -R` of `/` means the image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ShellState([Option<Seen>; 2]);

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    size: u64,
    mtime: (i64, i64),
}

impl OwnShell {
    /// A shell at this absolute path, whose directory holds nothing but the shell and what belongs to it.
    pub fn new(program: PathBuf) -> Self {
        Self { program }
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.program.parent().unwrap_or(Path::new("/")).to_owned()
    }

    /// What it is like now.
    pub(crate) fn state(&self) -> io::Result<ShellState> {
        let see = |path: &Path| match std::fs::metadata(path) {
            Ok(found) => Ok(Some(Seen {
                // A directory has a size of which the file system thinks what it likes.
                size: if found.is_dir() { 0 } else { found.len() },
                mtime: (found.mtime(), found.mtime_nsec()),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        Ok(ShellState([see(&self.directory())?, see(&self.program)?]))
    }

    /// Makes `/bin/sh` of a root that is no longer the image's a link to this shell, whatever is there.
    ///
    /// What the last stage has left there may be for another machine, or lack the files that no step needed.
    pub(crate) fn install(&self, root: &Root) -> Result<(), RootError> {
        let link = RootPath::parse(b"bin/sh").unwrap_or_default();
        let bin = link.parent().unwrap_or_default();
        let install = || {
            root.create_parents(&link, &Attributes { mode: Some(0o755), ..Attributes::default() })?;
            root.make_way(&link, Kind::Symlink)?;
            root.symlink(self.program.as_os_str().as_encoded_bytes(), &link)
        };
        // `/bin` may be a file, or a link to nowhere.
        install().or_else(|_in_the_way| {
            root.remove(&bin)?;
            install()
        })
    }
}

#[cfg(test)]
mod tests {
    use ebiko_rootfs::RootOptions;

    use super::*;

    /// Arranges a root with `arrange`, installs a shell in it, and returns what `/bin/sh` of it is then.
    #[track_caller]
    fn check(arrange: impl FnOnce(&Path)) -> PathBuf {
        let directory = tempfile::tempdir().unwrap();
        arrange(directory.path());
        let protected = vec![RootPath::parse(b"busybox").unwrap()];
        let options = RootOptions { protected, ..RootOptions::default() };
        let root = Root::open(directory.path(), options).unwrap();
        OwnShell::new("/busybox/sh".into()).install(&root).unwrap();
        let found = root.read_link(&RootPath::parse(b"bin/sh").unwrap()).unwrap();
        PathBuf::from(String::from_utf8(found).unwrap())
    }

    #[test]
    fn whatever_an_image_has_at_bin_the_shell_is_the_containers_again() {
        use std::os::unix::fs::symlink;
        type Arrange = fn(&Path);
        let arrangements: [(&str, Arrange); 8] = [
            ("nothing", |_| ()),
            ("a shell", |root| {
                std::fs::create_dir(root.join("bin")).unwrap();
                std::fs::write(root.join("bin/sh"), "foreign").unwrap();
            }),
            ("merged directories", |root| {
                std::fs::create_dir_all(root.join("usr/bin")).unwrap();
                symlink("usr/bin", root.join("bin")).unwrap();
                symlink("dash", root.join("usr/bin/sh")).unwrap();
            }),
            ("a link to a directory that is not there", |root| {
                symlink("usr/bin", root.join("bin")).unwrap();
            }),
            ("a file", |root| std::fs::write(root.join("bin"), "").unwrap()),
            ("a link to itself", |root| symlink("bin", root.join("bin")).unwrap()),
            ("a link to what is protected", |root| symlink("busybox", root.join("bin")).unwrap()),
            ("a directory in the place of the shell", |root| {
                std::fs::create_dir_all(root.join("bin/sh/deep")).unwrap();
            }),
        ];
        for (name, arrange) in arrangements {
            assert_eq!(check(arrange), Path::new("/busybox/sh"), "{name}");
        }
    }

    #[test]
    fn a_command_that_adds_to_the_shell_or_writes_into_it_shows() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("sh");
        std::fs::write(&program, "a").unwrap();
        let shell = OwnShell::new(program.clone());
        let before = shell.state().unwrap();
        assert_eq!(shell.state().unwrap(), before, "nothing has happened");

        std::os::unix::fs::chown(&program, None, None).unwrap();
        assert_eq!(shell.state().unwrap(), before, "an owner does not count");
        std::fs::write(&program, "ab").unwrap();
        let written = shell.state().unwrap();
        assert_ne!(written, before);
        std::fs::write(directory.path().join("ls"), "").unwrap();
        let added = shell.state().unwrap();
        assert_ne!(added, written);
        std::fs::remove_file(&program).unwrap();
        assert_ne!(shell.state().unwrap(), added);
    }
}
