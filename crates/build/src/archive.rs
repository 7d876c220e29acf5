//! Build contexts that come as an archive.

use std::fs::File;
use std::path::Path;

use ebiko_layer::{ArchiveError, Limits};
use ebiko_rootfs::{OpenRootError, Root, RootError, RootOptions, RootPath, Time};

/// An archive could not be unpacked to be the build context.
#[derive(Debug, thiserror::Error)]
#[error("cannot unpack the build context")]
#[expect(missing_docs, reason = "the messages are those of the causes")]
pub enum ContextArchiveError {
    Open { source: OpenRootError },
    Archive { source: ArchiveError },
    Look { source: RootError },
}

impl ContextArchiveError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Open { source } => source.hint(),
            Self::Archive { source } => source.hint(),
            Self::Look { source } => source.hint(),
        }
    }
}

/// Unpacks `file`, in any compression, into the empty directory `directory`, and says when the newest of its members was changed.
///
/// `None` means that it is no archive, so that it must be the Dockerfile itself; nothing was done then. Nothing is written
/// outside of the directory, whatever links the archive has.
///
/// # Errors
///
/// What came before the failure is left in `directory`.
pub fn unpack_context(
    file: &mut File,
    directory: &Path,
    limits: &Limits,
) -> Result<Option<Time>, ContextArchiveError> {
    let options = RootOptions { read_elsewhere: true, ..RootOptions::default() };
    let root =
        Root::open(directory, options).map_err(|source| ContextArchiveError::Open { source })?;
    let unpacked = ebiko_layer::unpack_archive(file, &root, &RootPath::root(), None, limits)
        .map_err(|source| ContextArchiveError::Archive { source })?;
    let Some(members) = unpacked else { return Ok(None) };
    let mut newest = Time::default();
    for member in &members {
        let found = root.find(member).map_err(|source| ContextArchiveError::Look { source })?;
        // A whiteout leaves nothing to look at.
        if let Some(found) = found {
            newest = newest.max(found.mtime);
        }
    }
    Ok(Some(newest))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests arrange files around the crate")]
mod tests {
    use std::io::Write as _;

    use super::*;
    use testkit::command::capture;
    use testkit::{ArchiveEntry, ArchiveKind, FIXED_TIME, Tree, archive, listing, scratch_dir};

    /// Archives a tree with GNU tar, and unpacks it.
    #[track_caller]
    fn check(arguments: &[&str]) {
        let dir = scratch_dir("context-").unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        Tree::new()
            .file("Dockerfile", "FROM scratch\n")
            .exe("a/b", "x")
            .symlink("a/out", "../../..")
            .write_to(&from)
            .unwrap();
        std::fs::create_dir(&to).unwrap();
        let tar = dir.path().join("context");
        let mut command = std::process::Command::new("tar");
        command.arg("-C").arg(&from).args(arguments).arg("-cf").arg(&tar).arg(".");
        capture(&mut command).unwrap();
        let newest =
            unpack_context(&mut File::open(&tar).unwrap(), &to, &Limits::default()).unwrap();
        assert_eq!(newest.map(|time| time.secs), Some(FIXED_TIME.cast_signed()), "{arguments:?}");
        assert_eq!(listing(&to).unwrap(), listing(&from).unwrap(), "{arguments:?}");
    }

    #[test]
    fn an_archive_in_any_compression_is_a_context() {
        check(&[]);
        check(&["-z"]);
        check(&["--zstd"]);
        check(&["-j"]);
        check(&["-J"]);
    }

    #[test]
    fn an_archive_made_to_harm_changes_nothing_around_the_context() {
        let dir = scratch_dir("context-").unwrap();
        let outside = dir.path().join("outside");
        Tree::new().file("secret", "canary").write_to(&outside).unwrap();
        let before = listing(&outside).unwrap();
        let entry = |path: &str, kind| ArchiveEntry {
            path: path.to_owned(),
            mode: 0o777,
            uid: 0,
            gid: 0,
            mtime: 0,
            kind,
        };
        let file = |path: &str| entry(path, ArchiveKind::File(b"evil".to_vec()));
        let target = outside.to_str().unwrap().to_owned();
        let plant = entry("l", ArchiveKind::Symlink(target.clone()));
        for (index, attack) in [
            vec![file("../outside/secret")],
            vec![file(&format!("{target}/secret"))],
            vec![plant.clone(), file("l/secret")],
            vec![plant.clone(), entry("l", ArchiveKind::Directory), file("l/secret")],
            vec![plant.clone(), file("l/.wh.secret")],
            vec![plant, entry("stolen", ArchiveKind::HardLink("l/secret".to_owned()))],
            vec![entry("stolen", ArchiveKind::HardLink(format!("{target}/secret")))],
            vec![entry(".", ArchiveKind::Symlink(target)), file("./secret")],
        ]
        .into_iter()
        .enumerate()
        {
            let context = dir.path().join(index.to_string());
            std::fs::create_dir(&context).unwrap();
            let mut tar = tempfile::tempfile().unwrap();
            tar.write_all(&archive(&attack).unwrap()).unwrap();
            // Refused or harmless, as it may be.
            let unpacked = unpack_context(&mut tar, &context, &Limits::default());
            assert_eq!(listing(&outside).unwrap(), before, "{attack:?}: {unpacked:?}");
            assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "canary");
            let stolen = std::fs::metadata(outside.join("secret")).unwrap();
            assert_eq!(std::os::unix::fs::MetadataExt::nlink(&stolen), 1, "{attack:?}");
        }
    }

    #[test]
    fn what_is_no_archive_is_left_to_be_the_dockerfile() {
        let dir = scratch_dir("context-").unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"FROM scratch\n").unwrap();
        assert_eq!(unpack_context(&mut file, dir.path(), &Limits::default()).unwrap(), None);
        assert_eq!(listing(dir.path()).unwrap(), "");
    }
}
