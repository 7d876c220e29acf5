//! Decides, as printable data, everything that can be decided before anything runs.
//!
//! A Dockerfile becomes a plan in two steps, because a stage cannot be lowered before the config
//! of its base is known: [`StageGraph::select`] resolves what stages name, the caller looks up the
//! images that are [missing](StageGraph::missing_references), and [`BuildPlan::lower`] expands
//! every variable and turns every instruction into a [`Step`]. Printing the [`BuildPlan`] shows the
//! very value that is then executed.
//!
//! # Guarantees
//!
//! - Planning is pure: no clock, no environment, no files, no network. The same inputs print the
//!   same plan.
//! - Histories and configs are BuildKit's to the byte.
//! - Nothing is parsed and ignored: what there is no lowering for is an error with the words "not
//!   supported yet", in the stages that the target needs. Other stages may hold whatever parses.
//! - A stage that the target does not reach is not in the plan, and the plan says so.
//!
//! # Reading order
//!
//! [`BuildPlan`] and [`Step`] (what comes out), [`Action`] (what a step does to files),
//! [`StageGraph`] (what is known before bases are), [`expand`] (the language of words).

mod actions;
mod plan;
mod print;

mod graph;
mod options;
mod reach;
mod unsupported;

mod lower;

pub mod expand;
mod paths;
mod ports;
mod remote;
mod scope;
mod signal;

mod go;
mod suggest;

pub use actions::{Action, BaseReference, CopyAction, CopyFrom, RunAction, StageId, WorkDirAction};
pub use graph::StageGraph;
pub use options::BuildOptions;
pub use plan::{BuildPlan, DropReason, DroppedStage, StageBase, StagePlan, Step};
pub use reach::{BaseImage, Bases};
