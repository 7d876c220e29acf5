//! Images in memory for the tests of this crate.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]
#![expect(clippy::unwrap_used, reason = "what cannot be arranged fails the test")]

use std::error::Error;
use std::sync::{Arc, Mutex};

use ebiko_oci::{
    BytesBlob, Descriptor, DiffId, Digest, Event, Image, ImageBuilder, ImageFormat, ImageIndex,
    Layer, LayerCompression, ManifestBytes, MediaType, Observer, Platform, Reference, Timestamp,
};

pub fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

pub fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds).unwrap()
}

/// An image with two layers that no other platform has.
pub fn image(on: &str) -> Image {
    let layer = |text: String| {
        let bytes = text.into_bytes();
        let kind = ImageFormat::Oci.layer(LayerCompression::None);
        Layer {
            descriptor: Descriptor::new(kind, Digest::of(&bytes), bytes.len() as u64),
            diff_id: DiffId::of(&bytes),
            blob: Arc::new(BytesBlob::new(bytes)),
        }
    };
    ImageBuilder::from_scratch(platform(on), ImageFormat::Oci)
        .layer(layer(format!("below {on}")), "below")
        .layer(layer(format!("above {on}")), "above")
        .finish(at(1_600_000_000))
}

/// An index that lists `images`.
pub fn index(images: &[&Image]) -> ManifestBytes {
    let entry = |image: &&Image| {
        let manifest = image.manifest();
        let size = manifest.bytes.len() as u64;
        let platform = Some(image.config().platform.clone());
        Descriptor { platform, ..Descriptor::new(MediaType::OciManifest, manifest.digest, size) }
    };
    let index = ImageIndex {
        schema_version: 2,
        media_type: Some(MediaType::OciIndex),
        manifests: images.iter().map(entry).collect(),
        annotations: None,
    };
    let bytes = serde_json::to_vec(&index).unwrap();
    let digest = Digest::of(&bytes);
    ManifestBytes { media_type: MediaType::OciIndex, bytes, digest }
}

/// The error with its causes, on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The bytes of every layer.
pub fn contents(image: &Image) -> Vec<Vec<u8>> {
    let read = |layer: &Layer| {
        let mut bytes = Vec::new();
        std::io::copy(&mut layer.blob.open().unwrap(), &mut bytes).unwrap();
        bytes
    };
    image.layers().iter().map(read).collect()
}

/// Keeps warnings.
#[derive(Debug, Default)]
pub struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    /// What was said since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Observer for Warnings {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning { text } = event {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
}
