//! What names stood for when they were warmed.

use std::path::Path;

use ebiko_oci::{Digest, Platform, Reference, ResolvedImage, Timestamp};
use serde::{Deserialize, Serialize};

use super::{RECORDS, WarmDirectory};
use crate::read_layout::read_file;
use crate::{WriteError, WriteFault};

/// One name for one platform at one moment, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The name with its defaults: `index.docker.io/library/debian:bookworm`.
    pub(super) reference: String,
    /// `linux/arm/v7`, for which it was looked up.
    pub(super) platform: String,
    /// The manifest of the image for that platform, whose entry has this name.
    pub(super) manifest: Digest,
    /// What the name itself stood for, where that was an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) index: Option<Digest>,
    /// When that was so, in RFC 3339.
    pub(super) time: String,
}

impl Record {
    /// What the name itself stood for.
    pub(super) fn digest(&self) -> Digest {
        self.index.unwrap_or(self.manifest)
    }
}

/// The platform as a text that is the same for all spellings of it.
fn shown(platform: &Platform) -> String {
    let platform = platform.normalized();
    match &platform.os_version {
        Some(version) => format!("{platform} {version}"),
        None => platform.to_string(),
    }
}

impl WarmDirectory {
    /// A name may hold anything that a file name may not, so the file is called by its sum. Neither half holds a line end.
    fn record_name(reference: &str, platform: &str) -> String {
        format!("{}.json", Digest::of(format!("{reference}\n{platform}").as_bytes()).hex())
    }

    /// What `reference` stood for when it was warmed, if that was not too long ago.
    pub(super) fn record(&self, reference: &Reference, platform: &Platform) -> Option<Record> {
        let (reference, platform) = (reference.to_string(), shown(platform));
        let name = Self::record_name(&reference, &platform);
        let bytes = read_file(&self.path.join(RECORDS), &name).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        let time: Timestamp = record.time.parse().ok()?;
        let is_meant = record.reference == reference && record.platform == platform;
        (is_meant && self.freshness.covers(time)).then_some(record)
    }

    /// Writes down what `reference` stands for now, for builds that cannot ask.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written. A record that was there before is still there.
    pub fn note(
        &self,
        reference: &Reference,
        platform: &Platform,
        resolved: &ResolvedImage,
    ) -> Result<(), WriteError> {
        let manifest = resolved.image.digest();
        let record = Record {
            reference: reference.to_string(),
            platform: shown(platform),
            manifest,
            index: (resolved.digest != manifest).then_some(resolved.digest),
            time: self.freshness.now.to_string(),
        };
        let directory = self.path.join(RECORDS);
        let path = directory.join(Self::record_name(&record.reference, &record.platform));
        self.write_note(&path, &record).map_err(|source| WriteError { path: directory, source })
    }

    fn write_note(&self, path: &Path, record: &Record) -> Result<(), WriteFault> {
        let mut bytes = serde_json::to_vec_pretty(record)
            .map_err(|source| WriteFault::Write { path: path.into(), source: source.into() })?;
        bytes.push(b'\n');
        self.write_small(path, &bytes)
    }
}
