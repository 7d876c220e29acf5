//! Storage that holds an image before the registry starts.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Registry;
use crate::base::BaseImage;

/// Adds the image to the storage directory `to`.
pub(super) fn seed(image: &BaseImage, to: &Path) -> anyhow::Result<()> {
    let from = prepared(image)?;
    for entry in walkdir::WalkDir::new(&from) {
        let entry = entry?;
        let target = to.join(entry.path().strip_prefix(&from)?);
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(&target)?;
            continue;
        }
        // A blob is only ever replaced by rename, so sharing it is safe; links to blobs are rewritten in place. Where
        // the storage is on another file system there is nothing to share.
        let is_shared =
            entry.file_name() == "data" && std::fs::hard_link(entry.path(), &target).is_ok();
        if !is_shared && !target.exists() {
            std::fs::copy(entry.path(), &target)
                .with_context(|| format!("cannot write `{}`", target.display()))?;
        }
    }
    Ok(())
}

/// The storage of a registry into which the image was pushed once; made on first use and kept.
fn prepared(image: &BaseImage) -> anyhow::Result<PathBuf> {
    image.cached("storage", |partial| {
        let registry = Registry::builder().start()?;
        registry.push(&image.source(), &image.repository(), "v2s2")?;
        let storage = registry.storage();
        for entry in walkdir::WalkDir::new(&storage) {
            let entry = entry?;
            let target = partial.join(entry.path().strip_prefix(&storage)?);
            if entry.file_type().is_dir() {
                std::fs::create_dir_all(&target)?;
            } else {
                std::fs::copy(entry.path(), &target)?;
            }
        }
        Ok(())
    })
}
