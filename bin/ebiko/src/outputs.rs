//! What is done with a finished image: files and pushes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ebiko_oci::{Event, Image, Observer, Reference};
use ebiko_registry::Registry;

use crate::cli::{Cli, Verbosity};
use crate::environment::Environment;
use crate::report::Reporter;

/// Where the image goes. Paths are absolute.
#[derive(Debug)]
pub(crate) struct Outputs {
    destinations: Vec<Reference>,
    push: bool,
    archive: Option<PathBuf>,
    layout: Option<PathBuf>,
    digest_file: Option<PathBuf>,
    name_file: Option<PathBuf>,
    tagged_name_file: Option<PathBuf>,
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
        let absolute =
            |path: &Option<PathBuf>| path.as_ref().map(|path| environment.absolute(path));
        Ok(Self {
            destinations,
            push: !no_push,
            archive: absolute(&cli.tar_path),
            layout: absolute(&cli.oci_layout_path),
            digest_file: absolute(&cli.digest_file),
            name_file: absolute(&cli.image_name_with_digest_file),
            tagged_name_file: absolute(&cli.image_name_tag_with_digest_file),
        })
    }

    /// Every file or directory that will be written, for the build to stay away from.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.archive, &self.layout, &self.digest_file, &self.name_file, &self.tagged_name_file]
            .into_iter()
            .flatten()
    }

    /// How often the blobs of the image will be read.
    pub(crate) fn reads(&self) -> usize {
        usize::from(self.archive.is_some())
            + usize::from(self.layout.is_some())
            + if self.push { self.destinations.len() } else { 0 }
    }

    /// Writes the files, then pushes; kaniko's order. The digest files are there even if a push fails.
    pub(crate) fn write(
        &self,
        image: &Image,
        registry: &Registry,
        reporter: &Reporter,
    ) -> anyhow::Result<()> {
        self.write_names(image, reporter)?;
        if let Some(path) = &self.layout {
            create_parent(path)?;
            let tags: Vec<&str> = self.destinations.iter().filter_map(Reference::tag).collect();
            ebiko_layout::write_layout(path, image, &tags)?;
            exported(path, reporter);
        }
        if let Some(path) = &self.archive {
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
        if let Some(path) = &self.digest_file {
            // No newline: kaniko writes none, and scripts splice the content into a reference.
            write_file(path, &digest.to_string(), reporter)?;
        }
        let lines = |name: &dyn Fn(&Reference) -> String| {
            let line = |destination| format!("{}@{digest}\n", name(destination));
            self.destinations.iter().map(line).collect::<Vec<_>>().concat()
        };
        if let Some(path) = &self.name_file {
            write_file(path, &lines(&Reference::name), reporter)?;
        }
        if let Some(path) = &self.tagged_name_file {
            write_file(path, &lines(&Reference::to_string), reporter)?;
        }
        Ok(())
    }
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
