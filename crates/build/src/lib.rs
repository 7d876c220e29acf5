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
//! [`build`], [`BuildRequest`], then `stage.rs` (one stage), `roots.rs` (where files are), `bases.rs` and `blobs.rs` (images).

mod request;

mod bases;
mod blobs;
mod roots;
mod stage;

mod failure;

use ebiko_oci::Image;
use ebiko_plan::{BuildPlan, StageGraph};

use crate::bases::ResolvedBases;
use crate::stage::Workshop;

pub use dockerfile_parser::Diagnostics;
pub use ebiko_context::find_ignore_file;
pub use ebiko_layer::Compression;
pub use ebiko_oci::Timestamp;
pub use ebiko_plan::BuildOptions;
pub use ebiko_rootfs::Time;
pub use ebiko_snapshot::Mode;

pub use failure::{BuildError, StepFailure};
pub use request::{Afterwards, BaseLayers, BuildRequest, Ground, Layering, PlatformChoice, Ports};
pub use roots::{Roots, RootsError};

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
    let dockerfile = Dockerfile::parse(&request.dockerfile_name, &request.dockerfile)?;
    let graph = StageGraph::select(&dockerfile, &request.options)?;
    let bases = ResolvedBases::resolve(&graph, request, ports)?;
    let plan = BuildPlan::lower(&graph, bases.planned())?;
    let bases = bases.kept(&plan, request.base_layers, &roots.directory("blobs"));

    let mut workshop = Workshop::open(request, ports, roots, &bases, &plan)?;
    for stage in &plan.stages {
        workshop.build_stage(stage)?;
    }
    workshop.close()
}
