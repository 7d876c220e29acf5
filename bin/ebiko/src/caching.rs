//! The layer cache: where it is, and what is looked for and kept there.

use std::path::Path;

use anyhow::{Context as _, bail};
use ebiko_build::{CachePolicy, Timestamp, duration};
use ebiko_layout::CacheLayout;
use ebiko_oci::{LayerCache, Reference};
use ebiko_registry::Registry;

use crate::cli::Cli;
use crate::digest_files::without_scheme;
use crate::environment::Environment;
use crate::outputs::Outputs;
use crate::report::Reporter;

/// The path of the cache in the registry of the image, beneath the image; kaniko's.
const BENEATH: &str = "cache";

/// Where layers are kept.
#[derive(Debug)]
enum Place {
    Repository(Reference),
    Layout(std::path::PathBuf),
}

/// What the flags say about the cache; `None` if there is none.
#[derive(Debug)]
pub(crate) struct Caching {
    place: Place,
    pub(crate) policy: CachePolicy,
}

impl Caching {
    /// Reads the flags.
    pub(crate) fn plan(
        cli: &Cli,
        environment: &Environment,
        outputs: &Outputs,
        reporter: &Reporter,
    ) -> anyhow::Result<Option<Self>> {
        if !cli.cache {
            return Ok(None);
        }
        let place = match (&cli.cache_repo, outputs.destinations()) {
            (Some(text), _) => match text.strip_prefix("oci:") {
                Some(path) if !path.is_empty() => {
                    Place::Layout(environment.absolute(Path::new(path)))
                }
                Some(_) => bail!("`--cache-repo={text}` names no directory"),
                None => {
                    let text = without_scheme("--cache-repo", text, reporter)?;
                    Place::Repository(repository(&text)?)
                }
            },
            (None, [first, ..]) => {
                let beneath = format!("{}/{BENEATH}", first.repository());
                Place::Repository(first.moved_to(first.registry(), beneath))
            }
            (None, []) => bail!(
                "if using cache with --no-push, specify cache repo with --cache-repo: without a `--destination` there is nothing \
                 beneath which layers could be kept"
            ),
        };
        // The wording is kaniko's: scripts look for it.
        if cli.cache_repo.is_none() && outputs.pushes().is_empty() && !cli.no_push_cache {
            bail!(
                "if using cache with --no-push, specify cache repo with --cache-repo: it is not clear otherwise whether layers \
                 may be pushed; `--no-push-cache` keeps none"
            );
        }
        let ttl = duration(&cli.cache_ttl).with_context(|| {
            format!("`--cache-ttl={}` is no duration such as `336h` or `90m`", cli.cache_ttl)
        })?;
        let (seconds, nanoseconds) = environment.now;
        let image = outputs.destinations().first().map(Reference::name).unwrap_or_default();
        let platform = cli.custom_platform.as_deref().unwrap_or_default();
        let policy = CachePolicy {
            runs: cli.cache_run_layers,
            copies: cli.cache_copy_layers,
            keeps: !cli.no_push_cache,
            ttl,
            now: Timestamp::new(seconds, nanoseconds)?,
            name: format!(
                "{image}\n{}\n{}\n{platform}",
                cli.dockerfile.display(),
                cli.targets.join(",")
            ),
        };
        Ok(Some(Self { place, policy }))
    }

    /// The cache itself. Nothing is asked yet.
    pub(crate) fn open(&self, registry: &Registry) -> Box<dyn LayerCache> {
        match &self.place {
            Place::Repository(repository) => Box::new(registry.cache(repository)),
            Place::Layout(directory) => Box::new(CacheLayout::new(directory.clone())),
        }
    }

    /// The repository, if it is one.
    pub(crate) fn repository(&self) -> Option<&Reference> {
        match &self.place {
            Place::Repository(repository) => Some(repository),
            Place::Layout(_) => None,
        }
    }

    /// The directory, if it is one.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match &self.place {
            Place::Repository(_) => None,
            Place::Layout(directory) => Some(directory),
        }
    }
}

/// A repository: tags in it are keys, so that it has none of its own.
fn repository(text: &str) -> anyhow::Result<Reference> {
    let reference: Reference =
        text.parse().with_context(|| format!("`--cache-repo={text}` names no repository"))?;
    let has_tag = text.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    if has_tag {
        bail!("`--cache-repo={text}` has a tag or a digest, and must be a repository alone");
    }
    Ok(reference)
}
