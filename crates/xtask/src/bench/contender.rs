//! Who builds, and what a build took.

mod buildah;
mod buildkit;
mod pod;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use testkit::base::BaseImage;
use testkit::{ImageFacts, Registry};

pub(super) use self::buildah::Buildah;
pub(super) use self::buildkit::BuildKit;
pub(super) use self::pod::{InPod, Terms};
use super::request::Mode;
use super::workload::Workload;

/// A builder of images that is measured.
pub(super) trait Contender {
    /// What the tables call it.
    fn name(&self) -> &str;

    /// Whether it can look for changes in this way. Who has only one way has the default's.
    fn has(&self, mode: Mode) -> bool;

    /// Whether it has a layer cache in a repository.
    fn has_cache(&self) -> bool;

    /// Builds and pushes once. What is prepared, so that the base is there, and what is cleaned up afterwards does not count.
    ///
    /// # Errors
    ///
    /// Fails if the build fails or is not over in time.
    fn build(&self, job: &Job<'_>) -> anyhow::Result<Used>;
}

/// One build, in a registry of its own that has the base.
#[derive(Debug)]
pub(super) struct Job<'a> {
    pub(super) workload: &'a Workload,
    pub(super) context: &'a Path,
    pub(super) mode: Mode,
    pub(super) base: &'a BaseImage,
    pub(super) registry: &'a Registry,
}

/// What the image is called in the registry.
const IMAGE: &str = "bench/image:1";

/// Where layers are kept by who keeps them.
const CACHE: &str = "bench/cache";

impl Job<'_> {
    /// The base image as the Dockerfile names it.
    fn base(&self) -> String {
        address(self.registry, &self.base.repository())
    }

    /// Where the image is pushed to.
    fn destination(&self) -> String {
        address(self.registry, IMAGE)
    }

    /// The repository where layers are kept.
    fn cache(&self) -> String {
        address(self.registry, CACHE)
    }
}

/// By number, because a name may be looked up in more than one way.
fn address(registry: &Registry, name: &str) -> String {
    registry.reference(name).replacen("localhost:", "127.0.0.1:", 1)
}

/// What one build used; what is not known about others' daemons is left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) wall: Duration,
    pub(super) cpu: Option<Duration>,
    /// In bytes.
    pub(super) peak_anonymous: Option<u64>,
}

/// A build that went well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) used: Used,
    /// Bytes of the layers that the build added.
    pub(super) new_layers: u64,
    /// Bytes of the layers of the base.
    pub(super) base_layers: u64,
}

/// Has a job done and looks at what was pushed.
///
/// Everything that the build left in the registry goes with the registry. Before it starts, the context and the base are read
/// once, so that whoever comes first does not wait for the disk alone; and each contender brings what others have written to
/// the disk.
pub(super) fn measure(
    contender: &dyn Contender,
    workload: &Workload,
    context: &Path,
    mode: Mode,
    base: &BaseImage,
) -> anyhow::Result<Measured> {
    let registry = Registry::builder().image(base.clone()).start()?;
    read_all(context)?;
    read_all(&registry.storage())?;
    let job = Job { workload, context, mode, base, registry: &registry };
    if workload.again {
        contender.build(&job).context("the first of two builds failed")?;
    }
    let used = contender.build(&job)?;
    let sizes = layer_sizes(&registry.image(IMAGE).context("the image is not in the registry")?)?;
    let of_base = layer_sizes(&registry.image(&base.repository())?)?;
    let (base_layers, new_layers): (Vec<_>, Vec<_>) =
        sizes.into_iter().partition(|(digest, _)| of_base.contains_key(digest));
    let sum = |layers: Vec<(String, u64)>| layers.into_iter().map(|(_, size)| size).sum();
    Ok(Measured { used, new_layers: sum(new_layers), base_layers: sum(base_layers) })
}

/// Reads every file beneath `dir`, which leaves them in memory.
fn read_all(dir: &Path) -> anyhow::Result<()> {
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let mut file = std::fs::File::open(entry.path())?;
            std::io::copy(&mut file, &mut std::io::sink())
                .with_context(|| format!("cannot read `{}`", entry.path().display()))?;
        }
    }
    Ok(())
}

/// The layers that a manifest lists, by digest.
fn layer_sizes(image: &ImageFacts) -> anyhow::Result<BTreeMap<String, u64>> {
    let manifest = image.manifest.as_deref().context("a registry has manifests")?;
    let manifest: Value = serde_json::from_slice(manifest)?;
    let layers = manifest["layers"].as_array().context("the manifest lists no layers")?;
    let sizes = layers.iter().map(|layer| {
        let digest = layer["digest"].as_str()?.to_owned();
        Some((digest, layer["size"].as_u64()?))
    });
    sizes.collect::<Option<_>>().context("a layer has no digest or size")
}

/// `wall 1.23 s, cpu 2.34 s, anon 12.3 MiB, pushed 3.4 MiB`.
impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wall {:.2} s", self.used.wall.as_secs_f64())?;
        if let Some(cpu) = self.used.cpu {
            write!(f, ", cpu {:.2} s", cpu.as_secs_f64())?;
        }
        if let Some(peak) = self.used.peak_anonymous {
            write!(f, ", anon {:.1} MiB", mebibytes(peak))?;
        }
        write!(f, ", new layers {:.2} MiB", mebibytes(self.new_layers))
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people, who read a few digits")]
pub(super) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
