//! `executor push`: from a file to the registries.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use ebiko_layout::{ImageFileKind, read_image_file};

use super::client;
use crate::cli::Verbosity;
use crate::digest_files::{DigestFiles, destinations};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::flags::{DigestFlags, MessageFlags, RegistryFlags};
use crate::report::Reporter;

/// The flags of `executor push`.
#[derive(Debug, Args)]
pub(crate) struct PushFlags {
    /// A tar as `docker save` writes it, with one image; a directory with an OCI layout; or a tar of
    /// one. What a layout holds keeps its digest, and of an index everything beneath it is pushed
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,

    /// Push under this name (repeatable)
    #[arg(
        short = 'd',
        long = "destination",
        value_name = "REGISTRY/REPOSITORY[:TAG]",
        required = true
    )]
    pub(crate) destinations: Vec<String>,

    #[command(flatten)]
    pub(crate) digests: DigestFlags,

    #[command(flatten)]
    pub(crate) registry: RegistryFlags,

    #[command(flatten)]
    pub(crate) messages: MessageFlags,
}

/// Pushes. The answer is the exit status.
pub(super) fn run(
    flags: &PushFlags,
    environment: &Environment,
    reporter: &Arc<Reporter>,
) -> Result<u8, Failure> {
    let destinations = destinations(&flags.destinations)?;
    let registry = client(&flags.registry, environment, &destinations, reporter)?;
    if !flags.registry.skip_push_permission_check {
        registry.check_push(&destinations).map_err(anyhow::Error::from)?;
    }
    let path = environment.absolute(&flags.path);
    let (kind, tree) = read_image_file(&path).map_err(anyhow::Error::from)?;
    let kind = match kind {
        ImageFileKind::DockerArchive => "a docker archive",
        ImageFileKind::Layout => "an OCI layout",
        ImageFileKind::LayoutArchive => "an archive of an OCI layout",
    };
    reporter
        .say(Verbosity::Info, format!("`{}` is {kind} with {}", path.display(), tree.root.digest));
    let digests = DigestFiles::plan(&flags.digests, environment);
    digests.write(tree.root.digest, &destinations, reporter)?;
    registry.push_tree(&tree, &destinations, &**reporter).map_err(anyhow::Error::from)?;
    Ok(0)
}
