//! What is done with a finished image: files and pushes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ebiko_build::Compression;
use ebiko_oci::{Event, Image, Observer, Reference};
use ebiko_registry::Registry;

use crate::cli::{Cli, Verbosity};
use crate::compression;
use crate::environment::Environment;
use crate::report::Reporter;

/// Where the image goes.
#[derive(Debug)]
pub(crate) struct Outputs {
    destinations: Vec<Reference>,
    push: bool,
    archive: Option<Place>,
    layout: Option<Place>,
    digest_file: Option<Place>,
    name_file: Option<Place>,
    tagged_name_file: Option<Place>,
}

/// The name in a tar of an image that has no destination; kaniko's.
const UNNAMED: &str = "unset-repo/unset-image-name";

impl Outputs {
    /// Reads the flags, and refuses a build whose result would go nowhere.
    pub(crate) fn plan(cli: &Cli, environment: &Environment) -> anyhow::Result<Self> {
        let destinations = cli
            .destinations
            .iter()
            .map(|text| text.parse().context("`--destination` does not name an image"))
            .collect::<anyhow::Result<Vec<Reference>>>()?;
        if let Some(pinned) = destinations.iter().find(|destination| destination.digest().is_some())
        {
            bail!(
                "`--destination={pinned}` has a digest; an image gets its digest from its content"
            );
        }
        // kaniko lets the variable win in both directions.
        let no_push = environment.get_bool("KANIKO_NO_PUSH")?.unwrap_or(cli.no_push);
        if destinations.is_empty() && !no_push {
            bail!("the image would go nowhere: give a `--destination`, or `--no-push`");
        }
        if let (Some(_), Compression::Zstd { .. } | Compression::ZstdChunked { .. }) =
            (&cli.tar_path, compression::compression(cli)?)
        {
            bail!(
                "`--tar-path` and a compression with zstd cannot be used together: few readers of such archives know zstd; \
                 `--oci-layout-path` takes it"
            );
        }
        let place = |path: &Option<PathBuf>| {
            path.as_ref().map(|path| Place::find(environment.absolute(path)))
        };
        Ok(Self {
            destinations,
            push: !no_push,
            archive: place(&cli.tar_path),
            layout: place(&cli.oci_layout_path),
            digest_file: place(&cli.digest_file),
            name_file: place(&cli.image_name_with_digest_file),
            tagged_name_file: place(&cli.image_name_tag_with_digest_file),
        })
    }

    /// Every file or directory that will be written, for the build to stay away from.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.places().map(|place| &place.path)
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        [&self.archive, &self.layout, &self.digest_file, &self.name_file, &self.tagged_name_file]
            .into_iter()
            .flatten()
    }

    /// The names of the image, whether it is pushed or not.
    pub(crate) fn destinations(&self) -> &[Reference] {
        &self.destinations
    }

    /// Where the image is pushed.
    pub(crate) fn pushes(&self) -> &[Reference] {
        if self.push { &self.destinations } else { &[] }
    }

    /// Finds out before anything is built what would fail when everything is: whether files can be written where they shall
    /// be, as far as that can be seen without writing, and whether the destinations may be pushed to.
    pub(crate) fn try_out(&self, cli: &Cli, registry: &Registry) -> anyhow::Result<()> {
        for place in self.places() {
            let is_layout = self.layout.as_ref().is_some_and(|layout| std::ptr::eq(layout, place));
            place.try_out(if is_layout { Kind::Directory } else { Kind::File })?;
        }
        if !cli.network.skip_push_permission_check {
            registry.check_push(self.pushes())?;
        }
        Ok(())
    }

    /// How often the blobs of the image will be read.
    pub(crate) fn reads(&self) -> usize {
        usize::from(self.archive.is_some())
            + usize::from(self.layout.is_some())
            + self.pushes().len()
    }

    /// Writes the files, then pushes; kaniko's order. The digest files are there even if a push fails.
    pub(crate) fn write(
        &self,
        image: &Image,
        registry: &Registry,
        reporter: &Reporter,
    ) -> anyhow::Result<()> {
        for place in self.places() {
            place.check()?;
        }
        self.write_names(image, reporter)?;
        if let Some(Place { path, .. }) = &self.layout {
            create_parent(path)?;
            let tags: Vec<&str> = self.destinations.iter().filter_map(Reference::tag).collect();
            ebiko_layout::write_layout(path, image, &tags)?;
            exported(path, reporter);
        }
        if let Some(Place { path, .. }) = &self.archive {
            create_parent(path)?;
            let unnamed = [UNNAMED.parse()?];
            let names =
                if self.destinations.is_empty() { &unnamed } else { &self.destinations[..] };
            ebiko_layout::write_archive(path, image, names)?;
            exported(path, reporter);
        }
        if !self.push {
            // Scripts look for this wording of kaniko.
            reporter
                .say(Verbosity::Info, "Skipping push to container registry due to --no-push flag");
            reporter.say(Verbosity::Info, format!("built {}", image.digest()));
            return Ok(());
        }
        registry.push(image, &self.destinations, reporter)?;
        Ok(())
    }

    fn write_names(&self, image: &Image, reporter: &Reporter) -> anyhow::Result<()> {
        let digest = image.digest();
        if let Some(Place { path, .. }) = &self.digest_file {
            // No newline: kaniko writes none, and scripts splice the content into a reference.
            write_file(path, &digest.to_string(), reporter)?;
        }
        let lines = |name: &dyn Fn(&Reference) -> String| {
            let line = |destination| format!("{}@{digest}\n", name(destination));
            self.destinations.iter().map(line).collect::<Vec<_>>().concat()
        };
        if let Some(Place { path, .. }) = &self.name_file {
            write_file(path, &lines(&Reference::name), reporter)?;
        }
        if let Some(Place { path, .. }) = &self.tagged_name_file {
            write_file(path, &lines(&Reference::to_string), reporter)?;
        }
        Ok(())
    }
}

/// A file or directory that is written when the build is over.
///
/// In a pod, the steps of the build can change the directories that lead to it, and a step that runs as somebody else can
/// put a link where everybody may write. Nothing that a step has put there is followed.
#[derive(Debug)]
struct Place {
    /// Absolute, as the user wrote it.
    path: PathBuf,
    /// Where it led before the first step.
    real: PathBuf,
}

/// What is written to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

impl Place {
    /// Fails if nothing can be written there.
    #[expect(clippy::disallowed_methods, reason = "the user names a path on the host")]
    fn try_out(&self, kind: Kind) -> anyhow::Result<()> {
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

    fn find(path: PathBuf) -> Self {
        let real = follow(&path);
        Self { path, real }
    }

    /// Fails if the path leads somewhere else than before the first step.
    fn check(&self) -> anyhow::Result<()> {
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

fn exported(path: &Path, reporter: &Reporter) {
    reporter.event(Event::Exported { path: &path.display().to_string() });
}

#[expect(clippy::disallowed_methods, reason = "the user names a path on the host")]
fn create_parent(path: &Path) -> anyhow::Result<()> {
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
