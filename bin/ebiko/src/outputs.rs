//! What is done with a finished image: files and pushes.

use std::path::PathBuf;

use anyhow::bail;
use ebiko_build::Compression;
use ebiko_oci::{Image, Reference};
use ebiko_registry::Registry;
use ebiko_transport::Transport;

use crate::cli::{Cli, Verbosity};
use crate::compression;
use crate::digest_files::{self, DigestFiles, Kind, Place, create_parent, exported};
use crate::environment::Environment;
use crate::formats;
use crate::report::Reporter;

/// Where the image goes.
#[derive(Debug)]
pub(crate) struct Outputs {
    destinations: Vec<Reference>,
    push: bool,
    archive: Option<Place>,
    layout: Option<Place>,
    digests: DigestFiles,
}

/// The name in a tar of an image that has no destination; kaniko's.
const UNNAMED: &str = "unset-repo/unset-image-name";

impl Outputs {
    /// Reads the flags, and refuses a build whose result would go nowhere.
    pub(crate) fn plan(
        cli: &Cli,
        environment: &Environment,
        reporter: &Reporter,
    ) -> anyhow::Result<Self> {
        let destinations = digest_files::destinations(&cli.destinations, reporter)?;
        // kaniko lets the variable win in both directions.
        let no_push = environment.get_bool("KANIKO_NO_PUSH")?.unwrap_or(cli.no_push);
        if destinations.is_empty() && !no_push {
            // The wording of these three is kaniko's: scripts look for it.
            bail!("you must provide --destination, or use --no-push: the image would go nowhere");
        }
        for (flag, target) in [
            ("ImageNameDigestFile", &cli.digests.names),
            ("ImageNameTagDigestFile", &cli.digests.tagged_names),
        ] {
            if destinations.is_empty() && target.is_some() {
                bail!("you must provide --destination if setting {flag}");
            }
        }
        formats::check(cli)?;
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
            digests: DigestFiles::plan(&cli.digests, environment)?,
        })
    }

    /// Every file or directory that will be written, for the build to stay away from.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.places().map(|place| &place.path)
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        [&self.archive, &self.layout].into_iter().flatten().chain(self.digests.places())
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
        if !cli.registry.skip_push_permission_check {
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
        network: &Transport,
        reporter: &Reporter,
    ) -> anyhow::Result<()> {
        for place in self.places() {
            place.check()?;
        }
        self.digests.write(image.digest(), &self.destinations, network, reporter)?;
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
        self.digests.pushed(image.digest(), &self.destinations, reporter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::MessageFlags;

    fn plan(arguments: &str) -> Result<Vec<String>, String> {
        let arguments = ["executor"].into_iter().chain(arguments.split_whitespace());
        let cli = Cli::read(arguments.map(Into::into)).map_err(|error| error.to_string())?;
        let environment = Environment::of([("BUILDER_OUTPUT", "/b")]);
        let quiet = MessageFlags { verbosity: Verbosity::Panic, ..MessageFlags::PLAIN };
        let reporter = Reporter::new(&quiet, &environment);
        Outputs::plan(&cli, &environment, &reporter)
            .map(|outputs| outputs.destinations().iter().map(ToString::to_string).collect())
            .map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn what_goes_nowhere_is_refused_in_kanikos_words() {
        for (arguments, expected) in [
            ("", "you must provide --destination, or use --no-push"),
            (
                "--no-push --image-name-with-digest-file=x",
                "you must provide --destination if setting ImageNameDigestFile",
            ),
            (
                "--no-push --image-name-tag-with-digest-file=x",
                "you must provide --destination if setting ImageNameTagDigestFile",
            ),
            (
                "-d=a --digest-file=http://h/x",
                "`--digest-file` takes a file or an address that begins",
            ),
            ("-d=a --digest-file=https://", "`--digest-file` has an address that is none"),
        ] {
            let error = plan(arguments).unwrap_err();
            assert!(error.starts_with(expected), "{arguments}: {error}");
        }
        assert!(plan("-d=a --image-name-with-digest-file=x").is_ok());
        assert!(plan("--no-push --digest-file=https://h/x?signature=s").is_ok());
    }

    #[test]
    fn an_address_in_the_place_of_a_name_is_understood() {
        for (given, expected) in [
            ("https://index.docker.io/v1/foo/bar:tag", "index.docker.io/foo/bar:tag"),
            ("https://index.docker.io/foo/bar", "index.docker.io/foo/bar:latest"),
            ("https://ghcr.io/ns/img", "ghcr.io/ns/img:latest"),
            ("http://r.io:5000/v2/img:1", "r.io:5000/v2/img:1"),
        ] {
            assert_eq!(plan(&format!("-d {given}")), Ok(vec![expected.to_owned()]), "{given}");
        }
        let error = plan("-d https://user:s3cret@r.io/x").unwrap_err();
        assert!(error.contains("has a user in it") && !error.contains("s3cret"), "{error}");
    }
}
