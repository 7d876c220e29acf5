//! Decides, as printable data, everything that can be decided before anything runs.
//!
//! A Dockerfile becomes a plan in two steps, because a stage cannot be lowered before the config
//! of its base is known: [`StageGraph::select`] resolves what stages name, the caller looks up the
//! images that are [missing](StageGraph::missing_references) and the [time](StageGraph::epoch) if it is written
//! elsewhere, and [`BuildPlan::lower`] expands every variable and turns every instruction into a [`Step`]. Printing
//! the [`BuildPlan`] shows the very value that is then executed.
//!
//! # Guarantees
//!
//! - Planning is pure: no clock, no environment, no files, no network. The same inputs print the
//!   same plan.
//! - Histories and configs are BuildKit's to the byte.
//! - Nothing that is parsed is ignored in the stages that the target needs. Other stages may hold whatever parses.
//! - A stage that the target does not reach is not in the plan, and the plan says so.
//!
//! # Reading order
//!
//! [`BuildPlan`] and [`Step`] (what comes out), [`Action`] (what a step does to files),
//! [`StageGraph`] (what is known before bases are), [`expand`] (the language of words).

mod actions;
mod chmod;
mod download;
mod git;
mod plan;
mod print;

mod contexts;
mod epoch;
mod frontend;
mod graph;
mod options;
mod reach;

mod lower;

mod keys;
mod prune;

pub mod lint;
mod outline;
mod targets;

pub mod expand;
pub mod paths;
mod platform;
pub mod ports;
mod scope;
mod signal;

mod go;
mod suggest;
mod system;
mod url;

pub use actions::{
    Action, BaseReference, CopyAction, CopyFrom, CopySource, DownloadSource, ImageStore,
    InlineFile, Mount, MountKind, RunAction, StageId, Unpack, WorkDirAction,
};
pub use chmod::{ModeChange, ModeError, SymbolicMode};
pub use dockerfile_parser::{Network, Security, Sharing};
pub use epoch::EpochSource;
pub use git::{GitSource, GitSourceError};
pub use graph::StageGraph;
pub use keys::{CacheKeys, KeyInputs, SourceDigests, StageKeys, StepKey, copy_source, path_source};
pub use options::{BuildOptions, Entitlement, Habit};
pub use outline::{Outline, OutlineArg, OutlineMount};
pub use plan::{
    BuildPlan, DropReason, DroppedStage, Reuse, ReusedLayer, StageBase, StagePlan, Step,
};
pub use platform::parse as parse_platform;
pub use prune::{CacheHits, StageHit};
pub use reach::{BaseImage, Bases};
pub use targets::{Target, TargetList};
