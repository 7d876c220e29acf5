//! Names and describes container images.
//!
//! An [`Image`] is a config and an ordered list of [`Layer`]s; both are immutable once made. The
//! JSON models in this crate are what ebiko writes, byte for byte: maps are sorted and keys that
//! the model does not know are kept, so a base image loses nothing on its way through a build
//! (`docs/adr/0002-own-image-model.md` has the reason for not using a published crate).
//!
//! # Guarantees
//!
//! - [`Digest`] (a stored blob) and [`DiffId`] (a layer before compression) cannot be mixed up.
//! - The same values give the same bytes: no clock, no hash-map order.
//! - Nothing here knows a file path or opens a socket. Whoever does implements the ports:
//!   [`BlobSource`], [`ImageSource`] and [`Observer`].
//!
//! # Reading order
//!
//! [`Reference`] and [`Digest`] (names), [`Descriptor`] and [`Manifest`] (what a registry
//! stores), [`ImageConfig`] (what a runtime reads), [`Image`], then [`ImageBuilder`].

mod digest;
mod platform;
mod reference;

mod config;
mod manifest;
mod media_type;
mod timestamp;

mod builder;
mod edit;
mod image;

mod join;
mod tree;

mod observer;
mod ports;

pub use builder::ImageBuilder;
pub use config::{ContainerConfig, DEFAULT_PATH, Healthcheck, History, ImageConfig, RootFs};
pub use digest::{DiffId, Digest, DigestError, Sha256, Sha256Hasher};
pub use edit::ConfigEdit;
pub use image::{FormatError, Image, ImageError, Layer};
pub use join::{JoinError, JoinFault};
pub use manifest::{
    Descriptor, ImageIndex, ImageManifest, Manifest, ManifestBytes, ManifestError, NoPlatform,
};
pub use media_type::{ImageFormat, LayerCompression, MediaType};
pub use observer::{Event, Observer, Position, StepOutcome};
pub use platform::{Platform, PlatformError};
pub use ports::{
    BlobOrigin, BlobSink, BlobSource, BytesBlob, GrowingBlob, ImageSource, LayerCache, LookUpError,
    NameSource, PortError, ResolvedImage,
};
pub use reference::{DOCKER_HUB, Reference, ReferenceError};
pub use timestamp::{Timestamp, TimestampError};
pub use tree::{ImageTree, Referrer, TreeBlob, TreeError, TreeSource};
