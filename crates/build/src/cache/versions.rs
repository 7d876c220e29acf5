//! What is at an address, without a download where the server can say that it is what it was.

use ebiko_oci::{
    ConfigEdit, Digest, ImageBuilder, ImageFormat, LayerCache, Platform, PortError, Sha256Hasher,
};
use ebiko_plan::DownloadSource;
use serde::{Deserialize, Serialize};

use crate::inputs::InputStore;
use crate::request::{CachePolicy, Ports};

/// The label that a [`Version`] is in.
const LABEL: &str = "io.ebiko.cache.download";

/// What was downloaded once, and what the server called it.
#[derive(Debug, Serialize, Deserialize)]
struct Version {
    etag: String,
    digest: Digest,
}

/// Knows the content of downloads.
pub(super) struct Versions<'a> {
    pub(super) ports: &'a Ports<'a>,
    pub(super) store: &'a dyn LayerCache,
    pub(super) policy: &'a CachePolicy,
}

impl Versions<'_> {
    /// The content of `source` as it is now. It is downloaded if nothing less can tell.
    pub(super) fn content(
        &self,
        source: &DownloadSource,
        inputs: &mut InputStore<'_>,
    ) -> Result<Digest, PortError> {
        // What does not have this sum fails the build as soon as it is used.
        if let Some(digest) = source.checksum.as_ref().and_then(|sum| sum.parse().ok()) {
            return Ok(digest);
        }
        if let Some(known) = self.known(source)
            && self.ports.sources.is_current(source, &known.etag)?
        {
            return Ok(known.digest);
        }
        let download = inputs.download(source)?;
        let digest = download.digest;
        if let Some(etag) = download.etag.clone().filter(|etag| etag.starts_with('"')) {
            self.note(source, &Version { etag, digest });
        }
        Ok(digest)
    }

    /// What an earlier build found. That it cannot be read is no failure: the file is downloaded.
    fn known(&self, source: &DownloadSource) -> Option<Version> {
        let image = self.store.find(&place(source)).ok()??;
        serde_json::from_str(image.config().config.labels.as_ref()?.get(LABEL)?).ok()
    }

    fn note(&self, source: &DownloadSource, version: &Version) {
        let Ok(text) = serde_json::to_string(version) else { return };
        if !self.policy.keeps {
            return;
        }
        let label = ConfigEdit::Labels(vec![(LABEL.to_owned(), text)]);
        let platform = Platform::linux("");
        let image = ImageBuilder::from_scratch(platform, ImageFormat::Oci).edit(&label);
        // The next build downloads the file, too, if this does not succeed.
        let _noted = self.store.keep(&place(source), &image.finish(self.policy.now));
    }
}

/// Where it is noted what is at an address. The address itself may hold a secret and is in nothing that is kept.
fn place(source: &DownloadSource) -> Digest {
    let mut hasher = Sha256Hasher::new();
    hasher.update(b"ebiko download 1\0");
    hasher.update(source.url.as_bytes());
    Digest::new(hasher.finish())
}
