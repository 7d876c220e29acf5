//! `executor index create`: one name for images that were built apart from each other, one for each platform.

use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use ebiko_oci::{Event, ImageTree, Observer as _, Reference};

use super::Publication;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::flags::PublishFlags;
use crate::formats::annotations;
use crate::report::Reporter;

/// What is done with indexes.
#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    /// Push an OCI index of images that are in registries, one for each platform
    Create(CreateFlags),
}

/// The flags of `executor index create`.
#[derive(Debug, Args)]
pub(crate) struct CreateFlags {
    /// An image, whose config says for which platform it is; of an index, all images that it lists
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,

    /// Annotate the index (repeatable)
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub(crate) annotations: Vec<String>,

    #[command(flatten)]
    pub(crate) publish: PublishFlags,
}

/// Pushes an index. The answer is the exit status.
pub(super) fn create(
    flags: &CreateFlags,
    environment: &Environment,
    reporter: &Arc<Reporter>,
) -> Result<u8, Failure> {
    let annotations = annotations(&flags.annotations)?;
    let images = flags
        .images
        .iter()
        .map(|text| text.parse().context("an IMAGE does not name an image"))
        .collect::<anyhow::Result<Vec<Reference>>>()?;
    let publication = Publication::begin(&flags.publish, environment, reporter)?;
    let registry = &publication.registry;
    let mut parts = Vec::new();
    for reference in &images {
        let tree = registry.fetch_tree(reference).map_err(|error| anyhow::Error::from(*error))?;
        reporter.event(Event::Resolved { reference, digest: tree.root.digest });
        parts.push((reference.familiar(), tree));
    }
    let index = ImageTree::join(parts, annotations).map_err(anyhow::Error::from)?;
    publication.finish(&index, reporter)?;
    Ok(0)
}
