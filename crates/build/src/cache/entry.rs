//! What is kept in a cache: an image that consists of the layers of one build, up to one step.
//!
//! All layers above the base are in it and not only the last one, so that a hit gives layers of one build: those of two
//! builds need not fit together, although each step was the same in both.

use std::time::Duration;

use ebiko_oci::{
    ConfigEdit, Digest, Image, ImageBuilder, ImageFormat, Layer, MediaType, Platform, Timestamp,
};

/// The label that says which key an entry was made for.
const KEY: &str = "io.ebiko.cache.key";

/// Why an entry cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("its entry is from {created}, which is too long ago (`--cache-ttl`)")]
    Expired { created: String },
    #[error("its entry does not say when it was made")]
    NoTime,
    #[error("its entry was made for something else")]
    OtherKey,
    #[error("its entry has {found} layers where there must be {expected}")]
    Layers { found: usize, expected: usize },
    #[error("its entry has a layer of the type `{media_type}`")]
    Kind { media_type: MediaType },
    #[error("it was built on another run of the stage that it starts from")]
    OtherBase,
    #[error("the cache cannot be read: {reason}")]
    Unreadable { reason: String },
}

/// The entry for `key`: `layers` from the bottom up, each with its line of history.
pub(crate) fn entry(
    key: &Digest,
    platform: &Platform,
    layers: &[(Layer, String)],
    created: Timestamp,
) -> Image {
    let label = ConfigEdit::Labels(vec![(KEY.to_owned(), key.hex())]);
    let empty = ImageBuilder::from_scratch(platform.clone(), ImageFormat::Oci).edit(&label);
    let image = layers.iter().fold(empty, |image, (layer, created_by)| {
        let mut layer = layer.clone();
        layer.descriptor.media_type = layer.descriptor.media_type.in_format(ImageFormat::Oci);
        image.layer(layer, created_by)
    });
    image.finish(created)
}

/// The layers of the entry for `key`, of which there must be `expected`.
pub(crate) fn layers(
    entry: &Image,
    key: &Digest,
    expected: usize,
    now: Timestamp,
    ttl: Duration,
) -> Result<Vec<Layer>, Unusable> {
    let config = entry.config();
    let label = config.config.labels.as_ref().and_then(|labels| labels.get(KEY));
    if label != Some(&key.hex()) {
        return Err(Unusable::OtherKey);
    }
    let created = config.created.as_deref().ok_or(Unusable::NoTime)?;
    let made: Timestamp = created.parse().map_err(|_| Unusable::NoTime)?;
    if made.plus(ttl) < now {
        return Err(Unusable::Expired { created: created.to_owned() });
    }
    let layers = entry.layers();
    if layers.len() != expected {
        return Err(Unusable::Layers { found: layers.len(), expected });
    }
    for layer in layers {
        if !matches!(layer.descriptor.media_type, MediaType::OciLayer(_)) {
            let media_type = layer.descriptor.media_type.clone();
            return Err(Unusable::Kind { media_type });
        }
    }
    Ok(layers.to_vec())
}
