//! The pipeline from a Dockerfile to an image.
//!
//! [`build`] is the whole story: parse, select, resolve, lower, and then stage by stage and step by step. It interprets no
//! flags, prints nothing and opens no socket; images come through a port, and events go to one.
//!
//! # Guarantees
//!
//! - A build that fails gives no image.
//! - Whatever the build leaves in the builder's directory goes with [`Roots::finish`], also after a failure.
//! - The same request, bases and files give the same image; time is a parameter.
//!
//! # Reading order
//!
//! [`build`], [`BuildRequest`], then `stage.rs` (one stage), `thin.rs` (what it needs of its base), `roots.rs` (where files
//! are), `bases.rs` and `blobs.rs` (images).

mod request;
mod sources;

mod check;
mod references;

mod archive;
mod bases;
mod blobs;
mod cache;
mod compression;
mod draft;
mod inputs;
mod press;
mod roots;
mod shell;
mod stage;
mod streams;
mod thin;

mod failure;

use std::path::PathBuf;

use ebiko_oci::Image;
use ebiko_plan::StageGraph;

use crate::bases::ResolvedBases;
use crate::cache::Reuse;
use crate::inputs::InputStore;
use crate::press::Press;
use crate::stage::{Behind, Foundations, Workshop};

pub use dockerfile_parser::{Diagnostics, byte_size, comma_separated, duration};
pub use ebiko_context::{find_ignore_file, read_inside};
pub use ebiko_exec::{
    Agent, AgentSocket, AgentSocketError, Resource, ResourceLimit, Resources, Secret, is_usable_key,
};
pub use ebiko_layer::{Compression, DEFAULT_GZIP_LEVEL, DEFAULT_ZSTD_LEVEL, Limits};
pub use ebiko_oci::{ImageFormat, Timestamp};
pub use ebiko_plan::lint::CheckReport;
pub use ebiko_plan::{
    BuildOptions, BuildPlan, DownloadSource, Entitlement, GitSource, GitSourceError, Habit,
    Outline, TargetList, parse_platform,
};
pub use ebiko_rootfs::Time;
pub use ebiko_snapshot::Mode;

pub use archive::{ContextArchiveError, unpack_context};
pub use check::{check, outline, targets};
pub use compression::CompressionError;
pub use failure::{BuildError, StepFailure};
pub use inputs::{ContextFault, InputError};
pub use references::{base_images, repositories};
pub use request::{
    Afterwards, BaseFiles, BaseLayers, BuildRequest, CachePolicy, FileTimes, Ground, Layering,
    PlatformChoice, Ports,
};
pub use roots::{Roots, RootsError, is_replaced};
pub use shell::OwnShell;
pub use sources::{CheckedOut, DownloadedFile, Sources};

use dockerfile_parser::Dockerfile;

/// Builds the target stage of a Dockerfile.
///
/// The body is the whole story, in order. Each line hands a finished value to the next; nothing
/// further down reaches back. The layers of the image are files in the builder's directory: publish it before
/// [`Roots::finish`].
pub fn build(
    request: &BuildRequest,
    ports: &Ports<'_>,
    roots: &Roots<'_>,
) -> Result<Image, BuildError> {
    let Planned { plan, bases, mut inputs } = plan_for(request, ports, roots.directory("inputs"))?;
    bases.check_format(&plan, request.format)?;
    let bases = bases.kept(request.base_layers, &roots.directory("blobs"));
    let Reuse { plan, layers, keeping } =
        Reuse::find(plan, request, ports, roots, &bases, &mut inputs);

    std::thread::scope(|scope| {
        let press = Press::start(scope, ports, request.threads, roots.directory("layers"))?;
        let keeper = keeping.map(|keeping| keeping.start(scope, ports)).transpose()?;
        let bases = Foundations { bases: &bases, reused: &layers };
        let behind = Behind { press, keeper };
        let mut workshop = Workshop::open(request, ports, roots, bases, &plan, inputs, behind)?;
        for stage in &plan.stages {
            workshop.build_stage(stage)?;
        }
        workshop.close()
    })
}

/// What [`build`] would do, without doing it: images are looked up and nothing else is touched.
///
/// `directory` is for what has to be fetched to know the time of the image; it is made only if it is needed, and is the
/// caller's to remove.
pub fn plan(
    request: &BuildRequest,
    ports: &Ports<'_>,
    directory: PathBuf,
) -> Result<BuildPlan, BuildError> {
    Ok(plan_for(request, ports, directory)?.plan)
}

/// A plan with what was found on the way to it.
struct Planned<'a> {
    plan: BuildPlan,
    bases: ResolvedBases,
    inputs: InputStore<'a>,
}

fn plan_for<'a>(
    request: &'a BuildRequest,
    ports: &'a Ports<'a>,
    directory: PathBuf,
) -> Result<Planned<'a>, BuildError> {
    let dockerfile = Dockerfile::parse(&request.dockerfile_name, &request.dockerfile)?;
    let graph = StageGraph::select(&dockerfile, &request.options)?;
    let graph = graph.with_excluded_paths(check::excluded_paths(request)?);
    let bases = ResolvedBases::resolve(&graph, request, ports)?;
    let mut inputs = InputStore::new(request, ports, directory);
    let epoch = graph.epoch().map(|source| inputs.epoch(source)).transpose()?.flatten();
    let plan = BuildPlan::lower(&graph, bases.planned(), epoch)?;
    Ok(Planned { plan, bases, inputs })
}
