//! `executor index create`: one name for images that were built apart from each other, one for each platform.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use ebiko_oci::{Event, ImageTree, Observer as _, Reference};

use super::client;
use crate::digest_files::{DigestFiles, destinations};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::flags::{DigestFlags, MessageFlags, RegistryFlags};
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

    /// Push the index, and what it lists, under this name (repeatable)
    #[arg(
        short = 'd',
        long = "destination",
        value_name = "REGISTRY/REPOSITORY[:TAG]",
        required = true
    )]
    pub(crate) destinations: Vec<String>,

    /// Annotate the index (repeatable)
    #[arg(long = "annotation", value_name = "KEY=VALUE")]
    pub(crate) annotations: Vec<String>,

    #[command(flatten)]
    pub(crate) digests: DigestFlags,

    #[command(flatten)]
    pub(crate) registry: RegistryFlags,

    #[command(flatten)]
    pub(crate) messages: MessageFlags,
}

/// Pushes an index. The answer is the exit status.
pub(super) fn create(
    flags: &CreateFlags,
    environment: &Environment,
    reporter: &Arc<Reporter>,
) -> Result<u8, Failure> {
    let destinations = destinations(&flags.destinations)?;
    let annotations = annotations(&flags.annotations)?;
    let images = flags
        .images
        .iter()
        .map(|text| text.parse().context("an IMAGE does not name an image"))
        .collect::<anyhow::Result<Vec<Reference>>>()?;
    let registry = client(&flags.registry, environment, &destinations, reporter)?;
    if !flags.registry.skip_push_permission_check {
        registry.check_push(&destinations).map_err(anyhow::Error::from)?;
    }
    let mut parts = Vec::new();
    for reference in &images {
        let tree = registry.fetch_tree(reference).map_err(|error| anyhow::Error::from(*error))?;
        reporter.event(Event::Resolved { reference, digest: tree.root.digest });
        parts.push((reference.familiar(), tree));
    }
    let index = ImageTree::join(parts, annotations).map_err(anyhow::Error::from)?;
    let digests = DigestFiles::plan(&flags.digests, environment);
    digests.write(index.root.digest, &destinations, reporter)?;
    registry.push_tree(&index, &destinations, &**reporter).map_err(anyhow::Error::from)?;
    Ok(0)
}

/// Of one key twice the last counts, as in kaniko.
fn annotations(texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let annotation = |text: &String| {
        let (key, value) = text
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .with_context(|| format!("`--annotation={text}` must have the form `KEY=VALUE`"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    texts.iter().map(annotation).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_annotation_is_split_at_the_first_equals_sign() {
        let annotations = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            super::annotations(&texts).map_err(|error| error.to_string())
        };
        let read = annotations(&["a=b=c", "d=", "a=e"]).unwrap();
        assert_eq!(
            read.into_iter().collect::<Vec<_>>(),
            [("a".to_owned(), "e".to_owned()), ("d".to_owned(), String::new())]
        );
        for wrong in ["a", "=b"] {
            let error = annotations(&[wrong]).unwrap_err();
            assert!(error.contains("must have the form `KEY=VALUE`"), "{error}");
        }
    }
}
