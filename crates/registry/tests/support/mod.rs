//! Images and clients for the tests of this crate.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ebiko_oci::{
    BytesBlob, Descriptor, DiffId, Digest, Event, Image, ImageBuilder, ImageFormat, Layer,
    LayerCompression, Observer, Platform, Reference, ResolvedImage, Timestamp,
};
use ebiko_registry::{Credentials, Registry, Routes};
use ebiko_transport::{Options, Retries, Timeouts, Transport};

/// Larger than what is sent in one request.
pub const LARGE: usize = 3 * 1024 * 1024 + 17;

/// `length` bytes that differ for every `seed` and do not repeat soon.
pub fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(seed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn layer(format: ImageFormat, bytes: &[u8]) -> Layer {
    let media_type = format.layer(LayerCompression::None);
    Layer {
        descriptor: Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64),
        diff_id: DiffId::of(bytes),
        blob: Arc::new(BytesBlob::new(bytes)),
    }
}

pub fn platform(text: &str) -> Platform {
    text.parse().expect("the test has a platform")
}

/// An image with one large and one small layer.
pub fn image(format: ImageFormat, on: &str) -> Image {
    let seed = on.bytes().fold(0, u8::wrapping_add);
    ImageBuilder::from_scratch(platform(on), format)
        .layer(layer(format, &noise(seed, LARGE)), "large")
        .layer(layer(format, &noise(seed.wrapping_add(100), 1000)), "small")
        .finish(timestamp())
}

pub fn timestamp() -> Timestamp {
    Timestamp::from_seconds(1_700_000_000).expect("it is a time")
}

pub fn reference(text: &str) -> Reference {
    text.parse().expect("the test has a reference")
}

pub fn resolved(registry: &Registry, name: &str, on: &str) -> ResolvedImage {
    use ebiko_oci::ImageSource;
    registry.resolve(&reference(name), &platform(on)).expect("the image is there")
}

/// The error with its causes, on one line.
pub fn resolve_error(registry: &Registry, name: &str) -> String {
    use ebiko_oci::ImageSource;
    let error = registry.resolve(&reference(name), &platform("linux/amd64"));
    chain(&*error.expect_err("it cannot be pulled"))
}

pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The bytes of every layer, or the error of the first that cannot be read.
pub fn contents(image: &Image) -> Result<Vec<Vec<u8>>, String> {
    let read = |layer: &Layer| {
        let mut bytes = Vec::new();
        let mut reader = layer.blob.open().map_err(|error| chain(&*error))?;
        std::io::copy(&mut reader, &mut bytes).map_err(|error| chain(&error))?;
        Ok(bytes)
    };
    image.layers().iter().map(read).collect()
}

/// Everything fast, so that a test of a time-out takes no time.
pub fn options() -> Options {
    Options {
        user_agent: "ebiko-test".into(),
        hosts: b"127.0.0.1 registry.example evil.example\n".to_vec(),
        timeouts: Timeouts {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(10),
            small_body: Duration::from_secs(20),
        },
        retries: Retries {
            attempts: 3,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(20),
        },
        ..Options::default()
    }
}

pub fn client(config: &str, routes: Routes) -> Registry {
    let transport = Transport::new(&options()).expect("the options are right");
    let credentials = Credentials::from_docker_config(config.as_bytes());
    Registry::new(transport, credentials.expect("the config is right"), routes)
}

/// Writes down what happens.
#[derive(Debug, Default)]
pub struct Events(Mutex<Vec<String>>);

impl Events {
    /// The lines, sorted, because blobs are sent at the same time.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.0.lock().expect("nobody panicked").clone();
        lines.sort();
        lines
    }

    pub fn count(&self, kind: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(kind)).count()
    }
}

impl Observer for Events {
    fn event(&self, event: Event<'_>) {
        let line = match event {
            Event::PushStarted { reference } => format!("start {reference}"),
            Event::BlobExists { digest } => format!("exists {digest}"),
            Event::BlobSent { digest, size } => format!("sent {digest} {size}"),
            Event::Pushed { reference, digest } => format!("pushed {reference} {digest}"),
            _ => return,
        };
        self.0.lock().expect("nobody panicked").push(line);
    }
}
