//! `executor push`: from a file to the registries.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use ebiko_layout::{ImageFileKind, read_image_file};

use super::Publication;
use crate::cli::Verbosity;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::flags::PublishFlags;
use crate::report::Reporter;

/// The flags of `executor push`.
#[derive(Debug, Args)]
pub(crate) struct PushFlags {
    /// A tar as `docker save` writes it, with one image; a directory with an OCI layout; or a tar of
    /// one. What a layout holds keeps its digest; of an index everything beneath it is pushed, and so
    /// is what the layout has about it, such as lists of its parts and signatures
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,

    #[command(flatten)]
    pub(crate) publish: PublishFlags,
}

/// Pushes. The answer is the exit status.
pub(super) fn run(
    flags: &PushFlags,
    environment: &Environment,
    reporter: &Arc<Reporter>,
) -> Result<u8, Failure> {
    let publication = Publication::begin(&flags.publish, environment, reporter)?;
    let path = environment.absolute(&flags.path);
    let (kind, tree) = read_image_file(&path).map_err(anyhow::Error::from)?;
    let kind = match kind {
        ImageFileKind::DockerArchive => "a docker archive",
        ImageFileKind::Layout => "an OCI layout",
        ImageFileKind::LayoutArchive => "an archive of an OCI layout",
    };
    let about = match tree.referrers.len() {
        0 => String::new(),
        1 => " and a manifest about it".to_owned(),
        count => format!(" and {count} manifests about it"),
    };
    reporter.say(
        Verbosity::Info,
        format!("`{}` is {kind} with {}{about}", path.display(), tree.root.digest),
    );
    publication.finish(&tree, reporter)?;
    Ok(0)
}
