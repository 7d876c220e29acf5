//! Places that are written when everything else is done, and the files that say what was pushed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ebiko_oci::{Digest, Event, Observer, Reference};

use crate::environment::Environment;
use crate::flags::DigestFlags;
use crate::report::Reporter;

/// The files that say what was pushed, in kaniko's formats.
#[derive(Debug)]
pub(crate) struct DigestFiles {
    digest: Option<Place>,
    names: Option<Place>,
    tagged_names: Option<Place>,
}

impl DigestFiles {
    pub(crate) fn plan(flags: &DigestFlags, environment: &Environment) -> Self {
        let place = |path: &Option<PathBuf>| {
            path.as_ref().map(|path| Place::find(environment.absolute(path)))
        };
        Self {
            digest: place(&flags.digest),
            names: place(&flags.names),
            tagged_names: place(&flags.tagged_names),
        }
    }

    /// Where they are.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        [&self.digest, &self.names, &self.tagged_names].into_iter().flatten()
    }

    pub(crate) fn write(
        &self,
        digest: Digest,
        destinations: &[Reference],
        reporter: &Reporter,
    ) -> anyhow::Result<()> {
        if let Some(Place { path, .. }) = &self.digest {
            // No newline: kaniko writes none, and scripts splice the content into a reference.
            write_file(path, &digest.to_string(), reporter)?;
        }
        let lines = |name: &dyn Fn(&Reference) -> String| {
            let line = |destination| format!("{}@{digest}\n", name(destination));
            destinations.iter().map(line).collect::<Vec<_>>().concat()
        };
        if let Some(Place { path, .. }) = &self.names {
            write_file(path, &lines(&Reference::name), reporter)?;
        }
        if let Some(Place { path, .. }) = &self.tagged_names {
            write_file(path, &lines(&Reference::to_string), reporter)?;
        }
        Ok(())
    }
}

/// The names of `--destination`.
pub(crate) fn destinations(texts: &[String]) -> anyhow::Result<Vec<Reference>> {
    let destinations = texts
        .iter()
        .map(|text| text.parse().context("`--destination` does not name an image"))
        .collect::<anyhow::Result<Vec<Reference>>>()?;
    if let Some(pinned) = destinations.iter().find(|destination| destination.digest().is_some()) {
        bail!("`--destination={pinned}` has a digest; an image gets its digest from its content");
    }
    Ok(destinations)
}

/// A file or directory that is written when the build is over.
///
/// In a pod, the steps of the build can change the directories that lead to it, and a step that runs as somebody else can
/// put a link where everybody may write. Nothing that a step has put there is followed.
#[derive(Debug)]
pub(crate) struct Place {
    /// Absolute, as the user wrote it.
    pub(crate) path: PathBuf,
    /// Where it led before the first step.
    real: PathBuf,
}

/// What is written to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
}

impl Place {
    /// Fails if nothing can be written there.
    #[expect(clippy::disallowed_methods, reason = "the user names a path on the host")]
    pub(crate) fn try_out(&self, kind: Kind) -> anyhow::Result<()> {
        if self.is_special() {
            return Ok(());
        }
        let shown = self.path.display();
        let may_write = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK);
        for path in self.real.ancestors() {
            match std::fs::metadata(path) {
                Ok(found) => {
                    let is_file_wanted = path == self.real && kind == Kind::File;
                    if is_file_wanted && found.is_dir() {
                        bail!("`{shown}` cannot be written: it is a directory");
                    }
                    if !is_file_wanted && !found.is_dir() {
                        bail!("`{shown}` cannot be written: `{}` is no directory", path.display());
                    }
                    return may_write(path).map_err(std::io::Error::from).with_context(|| {
                        format!("`{shown}` cannot be written: no access to `{}`", path.display())
                    });
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                // A file among its parents; the next turn finds it.
                Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("`{shown}` cannot be written"));
                }
            }
        }
        Ok(())
    }

    /// Whether it is one of the container's own, of which `/dev/stdout` leads to another path in every process.
    fn is_special(&self) -> bool {
        self.path.starts_with("/dev") || self.path.starts_with("/proc")
    }

    pub(crate) fn find(path: PathBuf) -> Self {
        let real = follow(&path);
        Self { path, real }
    }

    /// Fails if the path leads somewhere else than before the first step.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.is_special() {
            return Ok(());
        }
        let now = follow(&self.path);
        if now != self.real {
            bail!(
                "`{}` leads to `{}` since a step of the build put a link there; nothing was written",
                self.path.display(),
                now.display()
            );
        }
        Ok(())
    }
}

/// The path with every link in it followed; what does not exist stays as it is spelled, but a link that leads nowhere is
/// followed, too, because writing would follow it.
#[expect(clippy::disallowed_methods, reason = "the user names a path on the host")]
fn follow(path: &Path) -> PathBuf {
    // As many as the kernel follows.
    const MOST_LINKS: u32 = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        if let Ok(real) = std::fs::canonicalize(&path) {
            return real;
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return path };
        let parent = follow(parent);
        match std::fs::read_link(&path) {
            Ok(target) => path = parent.join(target),
            Err(_) => return parent.join(name),
        }
    }
    path
}

pub(crate) fn exported(path: &Path, reporter: &Reporter) {
    reporter.event(Event::Exported { path: &path.display().to_string() });
}

#[expect(clippy::disallowed_methods, reason = "the user names a path on the host")]
pub(crate) fn create_parent(path: &Path) -> anyhow::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(parent)
        .with_context(|| format!("cannot create the directory `{}`", parent.display()))
}

/// Writes to devices and pipes (`/dev/stdout`, `/dev/termination-log`) as well as to files.
#[expect(clippy::disallowed_methods, reason = "the user names a path on the host")]
fn write_file(path: &Path, content: &str, reporter: &Reporter) -> anyhow::Result<()> {
    create_parent(path)?;
    std::fs::write(path, content).with_context(|| format!("cannot write `{}`", path.display()))?;
    exported(path, reporter);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "arranges files on the host")]
    fn a_link_that_a_step_has_put_there_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(directory.path()).unwrap();
        std::fs::create_dir(top.join("real")).unwrap();
        symlink("real", top.join("users")).unwrap();
        let places =
            ["users/digest", "open/digest", "digest"].map(|path| Place::find(top.join(path)));
        for place in &places {
            place.check().unwrap();
        }
        // A directory that is made on the way is none of the user's links, and no danger.
        std::fs::create_dir(top.join("open")).unwrap();
        places[1].check().unwrap();

        symlink("/etc/passwd", top.join("real/digest")).unwrap();
        symlink("nowhere", top.join("digest")).unwrap();
        std::fs::remove_dir(top.join("open")).unwrap();
        symlink("/etc", top.join("open")).unwrap();
        for place in &places {
            let error = place.check().unwrap_err().to_string();
            assert!(error.contains("since a step of the build put a link there"), "{error}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "arranges files on the host")]
    fn what_cannot_be_written_is_found_out_before_the_build() {
        let directory = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(directory.path()).unwrap();
        std::fs::write(top.join("file"), "").unwrap();
        let check = |path: &str, kind: Kind| {
            let tried = Place::find(top.join(path)).try_out(kind);
            tried.map_err(|error| error.to_string().replace(&top.display().to_string(), "TOP"))
        };
        let wrong = |text: &str| Err(text.to_owned());
        assert_eq!(check("new/directory/file", Kind::File), Ok(()));
        assert_eq!(check("file", Kind::File), Ok(()));
        assert_eq!(check("", Kind::Directory), Ok(()));
        assert_eq!(check("layout", Kind::Directory), Ok(()));
        assert_eq!(std::fs::read_dir(&top).unwrap().count(), 1, "nothing was made");

        let reason = "`TOP/` cannot be written: it is a directory";
        assert_eq!(check("", Kind::File), wrong(reason));
        let reason = "`TOP/file` cannot be written: `TOP/file` is no directory";
        assert_eq!(check("file", Kind::Directory), wrong(reason));
        let reason = "`TOP/file/x` cannot be written: `TOP/file` is no directory";
        assert_eq!(check("file/x", Kind::File), wrong(reason));
    }
}
