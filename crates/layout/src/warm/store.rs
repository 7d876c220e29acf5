//! Filling the directory.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ebiko_oci::{Digest, Image, Layer, ManifestBytes};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{INDEXES, LOCKS, State, WarmDirectory};
use crate::blob::{FileBlob, measure};
use crate::layout::{index, write_blobs, write_index};
use crate::output::Output;
use crate::{WriteError, WriteFault};

/// Which entries are made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// Those that are too old or damaged.
    Needed,
    /// All.
    Always,
}

/// What was done for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warmed {
    /// Its entry was there.
    Present,
    /// Its entry was there and too old; every byte of it was verified.
    Renewed,
    /// Its entry is new.
    Stored,
}

impl WarmDirectory {
    /// Sees to it that the directory has `image`, readable for everybody.
    ///
    /// A new entry appears when it is complete, also where it takes the place of another. Whoever warms the same image at the
    /// same time waits, and finds the entry there.
    ///
    /// # Errors
    ///
    /// Fails if a layer cannot be read or is not what its digest says, or if writing fails. What was there before is still
    /// there.
    pub fn warm(&self, image: &Image, refresh: Refresh) -> Result<Warmed, WriteError> {
        self.try_warm(image, refresh)
            .map_err(|source| WriteError { path: self.entry(image.digest()), source })
    }

    fn try_warm(&self, image: &Image, refresh: Refresh) -> Result<Warmed, WriteFault> {
        let digest = image.digest();
        make_directory(&self.path)?;
        let _lock = self.lock(digest)?;
        if refresh == Refresh::Needed {
            match self.state(digest) {
                State::Fresh if self.is_whole(digest, |_| true) => return Ok(Warmed::Present),
                State::Expired if self.is_whole(digest, is_verified) => {
                    self.stamp(&self.entry(digest))?;
                    return Ok(Warmed::Renewed);
                }
                _ => {}
            }
        }
        // Only who has the lock uses this name, so what is there is left over from a warmer that was killed.
        let partial = self.path.join(format!(".{digest}.partial"));
        remove(&partial)?;
        let written = self.write_entry(&partial, image).and_then(|()| {
            replace(&partial, &self.entry(digest))
                .map_err(|source| WriteFault::Write { path: self.entry(digest), source })
        });
        // Either what was replaced, or what came to nothing, and then that is the error to tell.
        let removed = remove(&partial);
        written.and(removed)?;
        Ok(Warmed::Stored)
    }

    /// Keeps an index by whose digest an image here may be asked for.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written.
    pub fn keep_index(&self, index: &ManifestBytes) -> Result<(), WriteError> {
        let path = self.path.join(INDEXES).join(index.digest.to_string());
        if matches!(self.index(index.digest), Ok(Some(_))) {
            return Ok(());
        }
        self.write_small(&path, &index.bytes).map_err(|source| WriteError { path, source })
    }

    /// Writes a file that everybody can read, and its directory.
    pub(super) fn write_small(&self, path: &Path, bytes: &[u8]) -> Result<(), WriteFault> {
        make_directory(&self.path)?;
        if let Some(parent) = path.parent() {
            make_directory(parent)?;
        }
        let mut output = Output::create(path)?;
        output
            .write_all(bytes)
            .map_err(|source| WriteFault::Write { path: path.into(), source })?;
        output.finish()?;
        allow(path, 0o644)
    }

    /// Waits until nobody else warms the image. The lock ends with the file.
    fn lock(&self, digest: Digest) -> Result<File, WriteFault> {
        let locks = self.path.join(LOCKS);
        make_directory(&locks)?;
        let path = locks.join(format!("{digest}.lock"));
        let create = |source| WriteFault::Create { path: path.clone(), source };
        let file = match OpenOptions::new().create(true).append(true).open(&path) {
            // Another user's; to lock it, it need not be written.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                File::open(&path).map_err(create)?
            }
            opened => opened.map_err(create)?,
        };
        file.lock().map_err(create)?;
        Ok(file)
    }

    /// Whether the entry has all its parts and `is_right` says so of every layer.
    fn is_whole(&self, digest: Digest, is_right: impl Fn(&Layer) -> bool) -> bool {
        let file = |path: PathBuf, size: u64| FileBlob::new(path, 0, size).shared();
        let opened = self.open(digest, |path, descriptor| file(path, descriptor.size));
        opened.is_ok_and(|image| image.layers().iter().all(is_right))
    }

    fn write_entry(&self, directory: &Path, image: &Image) -> Result<(), WriteFault> {
        write_blobs(directory, image, |_, _, _| false)?;
        write_index(directory, &index(image, &[]))?;
        let blobs = directory.join("blobs");
        let sums = blobs.join("sha256");
        let create = |source| WriteFault::Create { path: sums.clone(), source };
        let mut files = vec![directory.join("oci-layout"), directory.join("index.json")];
        for file in fs::read_dir(&sums).map_err(create)? {
            files.push(file.map_err(create)?.path());
        }
        for file in files {
            allow(&file, 0o644)?;
        }
        for directory in [&sums, &blobs, directory] {
            allow(directory, 0o755)?;
        }
        self.stamp(directory)
    }

    /// Makes an entry as old as now.
    fn stamp(&self, directory: &Path) -> Result<(), WriteFault> {
        let write = |source| WriteFault::Write { path: directory.into(), source };
        let seconds = u64::try_from(self.freshness.now.seconds()).unwrap_or(0);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::open(directory).and_then(|file| file.set_modified(now)).map_err(write)
    }
}

/// Makes a directory that everybody can look into, unless it is there.
fn make_directory(path: &Path) -> Result<(), WriteFault> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(|source| WriteFault::Create { path: path.into(), source })?;
    allow(path, 0o755)
}

/// Whether the bytes of the layer are what its digest says.
fn is_verified(layer: &Layer) -> bool {
    let descriptor = &layer.descriptor;
    let measured = layer.blob.open().map(|mut reader| measure(&mut reader));
    matches!(measured, Ok(Ok(measured)) if measured == (descriptor.digest, descriptor.size))
}

fn allow(path: &Path, mode: u32) -> Result<(), WriteFault> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|source| WriteFault::Write { path: path.into(), source })
}

/// Puts the directory `new` in the place of `old`, so that at no moment there is neither; `old` is then at `new`, if it was.
///
/// A build may be reading: it has the paths of layers, and opens them when it needs them.
fn replace(new: &Path, old: &Path) -> io::Result<()> {
    match fs::rename(new, old) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::AlreadyExists
                    | io::ErrorKind::DirectoryNotEmpty
                    | io::ErrorKind::NotADirectory
            ) => {}
        renamed => return renamed,
    }
    match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
        // Some file systems cannot: then for a moment there is neither, and who looks then asks the registry.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            let aside = new.with_extension("replaced");
            fs::rename(old, &aside)?;
            fs::rename(new, old)?;
            fs::rename(&aside, new)
        }
        exchanged => Ok(exchanged?),
    }
}

/// Removes what is at `path`, if anything is.
fn remove(path: &Path) -> Result<(), WriteFault> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(WriteFault::Write { path: path.into(), source })
        }
        _ => Ok(()),
    }
}
