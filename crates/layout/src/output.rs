//! Files that appear under their name only when they are complete.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::BlobFault;

/// An image could not be written as files.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the image to `{}`", path.display())]
#[expect(missing_docs, reason = "the message names every field")]
pub struct WriteError {
    pub path: PathBuf,
    pub source: WriteFault,
}

/// Why a [`WriteError`] happened.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum WriteFault {
    #[error(transparent)]
    Blob(#[from] BlobFault),
    #[error("cannot create `{}`", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl WriteError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        let io = match &self.source {
            WriteFault::Blob(BlobFault::Write { source, .. })
            | WriteFault::Create { source, .. }
            | WriteFault::Write { source, .. } => source,
            WriteFault::Blob(_) => return None,
        };
        match io.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Some("free space, or choose a path on a larger volume")
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Some("choose a path that the builder may write to")
            }
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Some("the directory of the path must exist")
            }
            _ => None,
        }
    }
}

/// A file that is written beside its final place and moved there when it is complete.
///
/// Dropped before [`Output::finish`], it goes away again.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    target: PathBuf,
    /// Where the bytes are until then; `None` if they go straight to the target.
    beside: Option<PathBuf>,
}

/// Left-overs of builds that were killed are stepped over; so many of them are a problem to report.
const MAX_LEFT_OVERS: u32 = 1000;

impl Output {
    /// Begins a file that is to appear at `target`.
    ///
    /// A target that is no regular file (a pipe, `/dev/stdout`) is written directly: it has no
    /// name that could be replaced. A link is followed, and what it leads to is replaced.
    pub(crate) fn create(target: &Path) -> Result<Self, WriteFault> {
        let create = |path: &Path, source| WriteFault::Create { path: path.into(), source };
        if is_direct(target) {
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(target);
            let file = file.map_err(|source| create(target, source))?;
            return Ok(Self { file, target: target.into(), beside: None });
        }
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.into());
        let (file, beside) =
            create_beside(&target).map_err(|(path, source)| create(&path, source))?;
        Ok(Self { file, target, beside: Some(beside) })
    }

    /// Puts the file in its place.
    pub(crate) fn finish(mut self) -> Result<(), WriteFault> {
        let Some(beside) = self.beside.take() else { return Ok(()) };
        let moved = match fs::rename(&beside, &self.target) {
            // A file that is itself a mount point cannot be replaced, but it can be written.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                let copied = copy_over(&beside, &self.target);
                // Nothing can be done about it, and the target is complete.
                drop(fs::remove_file(&beside));
                copied
            }
            moved => moved,
        };
        moved.map_err(|source| {
            drop(fs::remove_file(&beside));
            WriteFault::Write { path: self.target.clone(), source }
        })
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            // There is no one left to tell, and the error that led here is the one to report.
            drop(fs::remove_file(beside));
        }
    }
}

/// Whether `target` has to be opened and written as it is.
fn is_direct(target: &Path) -> bool {
    // `/dev/stdout` may lead to a regular file. The shell that redirected to it holds that very
    // file, so another one of the same name would be lost on it.
    if target.starts_with("/dev") || target.starts_with("/proc") {
        return true;
    }
    match fs::metadata(target) {
        Ok(metadata) => !metadata.is_file(),
        // A dangling link: opening it makes the file that it names.
        Err(_) => fs::symlink_metadata(target).is_ok(),
    }
}

fn create_beside(target: &Path) -> Result<(File, PathBuf), (PathBuf, io::Error)> {
    let Some(name) = target.file_name() else {
        return Err((target.into(), io::ErrorKind::InvalidFilename.into()));
    };
    let mut number = 0;
    loop {
        let mut beside = OsString::from(".");
        beside.push(name);
        beside.push(format!(".partial-{number}"));
        let beside = target.with_file_name(beside);
        match OpenOptions::new().write(true).create_new(true).open(&beside) {
            Ok(file) => return Ok((file, beside)),
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && number < MAX_LEFT_OVERS =>
            {
                number += 1;
            }
            Err(error) => return Err((beside, error)),
        }
    }
}

fn copy_over(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = File::open(from)?;
    let mut to = OpenOptions::new().write(true).truncate(true).open(to)?;
    io::copy(&mut from, &mut to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("x.tar");
        let mut output = Output::create(&target).unwrap();
        output.write_all(b"new").unwrap();
        assert!(!target.exists());
        output.finish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["x.tar"]);
    }

    #[test]
    fn a_file_that_is_given_up_leaves_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("x.tar");
        fs::write(&target, "old").unwrap();
        let mut output = Output::create(&target).unwrap();
        output.write_all(b"new").unwrap();
        drop(output);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(names(directory.path()), ["x.tar"]);
    }

    #[test]
    fn left_overs_of_a_killed_build_are_stepped_over() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(".x.tar.partial-0"), "left over").unwrap();
        Output::create(&directory.path().join("x.tar")).unwrap().finish().unwrap();
        assert_eq!(names(directory.path()), [".x.tar.partial-0", "x.tar"]);
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        std::os::unix::fs::symlink("real", &link).unwrap();
        for text in ["first", "second"] {
            let mut output = Output::create(&link).unwrap();
            output.write_all(text.as_bytes()).unwrap();
            output.finish().unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read_to_string(&real).unwrap(), text);
        }
    }

    #[test]
    fn a_device_is_written_directly() {
        let mut output = Output::create(Path::new("/dev/null")).unwrap();
        output.write_all(b"gone").unwrap();
        output.finish().unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_missing_directory_is_an_error_with_a_hint() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("nope/x.tar");
        let source = Output::create(&target).unwrap_err();
        let error = WriteError { path: target, source };
        assert_eq!(error.hint(), Some("the directory of the path must exist"));
    }
}
