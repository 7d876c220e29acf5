//! `warmer`: base images on a volume, for builds that come later.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser};
use ebiko_build::{BuildOptions, base_images, parse_platform};
use ebiko_layout::{Refresh, WarmDirectory, Warmed};
use ebiko_oci::{
    ImageSource as _, NameSource as _, Platform, PortError, Reference, ReferenceError,
};
use ebiko_registry::Registry;
use ebiko_remote::Network;
use ebiko_transport::Transport;

use super::usage;
use crate::cli::Verbosity;
use crate::context::{fetch_dockerfile, read_dockerfile};
use crate::credentials::Asking;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::flags::{MessageFlags, PullFlags, RegistryFlags};
use crate::report::Reporter;
use crate::request::{given_args, temporary_dir};
use crate::{network, signals, warmed};

/// Puts base images into a directory, from which builds with `--cache` take them.
#[derive(Debug, Parser)]
#[command(name = "warmer", version, max_term_width = 100, args_override_self = true)]
pub(crate) struct WarmerCli {
    /// An image to warm (repeatable)
    #[arg(short = 'i', long = "image", value_name = "IMAGE")]
    pub(crate) images: Vec<String>,

    /// Warm every image that this Dockerfile names: a path or a URL
    #[arg(short = 'd', long, value_name = "PATH")]
    pub(crate) dockerfile: Option<String>,

    /// Where images are kept
    #[arg(short = 'c', long, value_name = "DIRECTORY", default_value = warmed::CACHE_DIR)]
    pub(crate) cache_dir: PathBuf,

    /// Fetch images again that are there
    #[arg(short = 'f', long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) force: bool,

    /// How old an image may be before it is looked at again
    #[arg(long, value_name = "DURATION", default_value = "336h")]
    pub(crate) cache_ttl: String,

    /// Warm images for this platform instead of the machine's own
    #[arg(long, alias = "customPlatform", value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) custom_platform: Option<String>,

    /// Set a build argument for the FROM of the Dockerfile; without a value it is taken from the
    /// environment (repeatable)
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(crate) build_args: Vec<String>,

    #[command(flatten)]
    pub(crate) pull: PullFlags,

    #[command(flatten)]
    pub(crate) messages: MessageFlags,
}

/// Warms. The answer is the exit status.
pub(crate) fn run(
    flags: &WarmerCli,
    environment: &Environment,
    reporter: &Arc<Reporter>,
) -> Result<u8, Failure> {
    if flags.images.is_empty() && flags.dockerfile.is_none() {
        return Err(usage::<WarmerCli>(
            "there is nothing to warm: give an `--image` or a `--dockerfile`",
        )
        .into());
    }
    let directory = warmed::open(&flags.cache_dir, &flags.cache_ttl, environment)?;
    signals::end_at_first().context("cannot prepare for signals")?;
    let registry_flags = RegistryFlags { pull: flags.pull.clone(), ..RegistryFlags::default() };
    let transport = network::transport(&registry_flags, environment, reporter)?;
    let registry = network::registry(
        &registry_flags,
        environment,
        transport.clone(),
        Asking::Later,
        &[],
        reporter,
    )?;
    let Wanted { images, wrong } = wanted(flags, environment, &transport, &registry)?;

    let refresh = if flags.force { Refresh::Always } else { Refresh::Needed };
    let mut failed = wrong.len();
    for error in &wrong {
        reporter.say(Verbosity::Error, format!("`--image` does not name an image: {error}"));
    }
    for (reference, platform) in &images {
        let shown = format!("{} for {platform}", reference.familiar());
        match warm(reference, platform, &registry, &directory, refresh) {
            Ok(done) => reporter.say(Verbosity::Info, format!("{shown}: {done}")),
            Err(error) => {
                failed += 1;
                let error = Failure::from_port(&*error);
                reporter.say(Verbosity::Error, format!("cannot warm {shown}\n{error}"));
            }
        }
    }
    match (failed, images.len() + wrong.len()) {
        (0, 0) => reporter.say(Verbosity::Info, "no image is named, so none is warmed"),
        (0, _) => {}
        (failed, all) if failed == all => {
            let text = format!("none of {all} images could be warmed");
            return Err(anyhow::Error::msg(text).into());
        }
        // The builds that need the others are the better for them; kaniko's status, too.
        (failed, all) => {
            reporter.say(Verbosity::Warn, format!("{failed} of {all} images could not be warmed"));
        }
    }
    Ok(0)
}

/// What is to be warmed. One wrong name is no reason to leave the others cold.
struct Wanted {
    /// Each once and in order.
    images: BTreeSet<(Reference, Platform)>,
    /// What is wrong with names that name no image.
    wrong: Vec<ReferenceError>,
}

fn wanted(
    flags: &WarmerCli,
    environment: &Environment,
    transport: &Transport,
    registry: &Registry,
) -> Result<Wanted, Failure> {
    let build_platform = Platform::linux(std::env::consts::ARCH);
    let platform = match &flags.custom_platform {
        Some(text) => parse_platform(text, &build_platform)
            .map_err(anyhow::Error::msg)
            .context("`--custom-platform` is wrong")?,
        None => build_platform.clone(),
    };
    let mut wanted = Wanted { images: BTreeSet::new(), wrong: Vec::new() };
    for text in flags.images.iter().filter(|text| *text != "scratch") {
        match text.parse::<Reference>() {
            Ok(reference) => {
                wanted.images.insert((reference, platform.clone()));
            }
            Err(error) => wanted.wrong.push(error),
        }
    }
    if let Some(dockerfile) = &flags.dockerfile {
        let text = dockerfile_text(dockerfile, environment, transport)?;
        let build_args = given_args(&flags.build_args, environment);
        let options = BuildOptions { build_args, build_platform, ..BuildOptions::new(platform) };
        let images = base_images(dockerfile, &text, &options, registry);
        wanted.images.extend(images.map_err(ebiko_build::BuildError::from)?);
    }
    Ok(wanted)
}

fn dockerfile_text(
    dockerfile: &str,
    environment: &Environment,
    transport: &Transport,
) -> anyhow::Result<Vec<u8>> {
    if !dockerfile.contains("://") {
        return read_dockerfile(&environment.absolute(Path::new(dockerfile)));
    }
    let directory = temporary_dir(environment)?;
    let path = directory.path().join("Dockerfile");
    let network = Network { transport, is_interrupted: &|| false, ssh: None };
    fetch_dockerfile(&network, dockerfile, &path)
}

/// Sees to it that the directory has one image, and remembers what its name stands for.
fn warm(
    reference: &Reference,
    platform: &Platform,
    registry: &Registry,
    directory: &WarmDirectory,
    refresh: Refresh,
) -> Result<String, PortError> {
    let resolved = registry.resolve(reference, platform)?;
    let warmed = directory.warm(&resolved.image, refresh)?;
    let digest = resolved.image.digest();
    if resolved.digest != digest {
        // It has been fetched for the image, and is only handed out.
        directory.keep_index(&registry.look_up(reference)?)?;
    }
    if reference.digest().is_none() {
        directory.note(reference, platform, &resolved)?;
    }
    Ok(match warmed {
        Warmed::Stored => format!("stored {digest}"),
        Warmed::Renewed => format!("{digest} was too old; it is verified, and as new again"),
        Warmed::Present => format!("{digest} is there"),
    })
}
