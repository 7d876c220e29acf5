//! What the Harness and Drone step means: `PLUGIN_*` variables to the command line of an executor.
//!
//! [`Settings::read`] reads variables and flags as the original's parser does, [`Settings::logins`] says who the step is to
//! registries, and [`Settings::plan`] what is to be run and what is to be written afterwards. Nothing here touches a file but
//! through [`Files`], runs anything or prints anything.
//!
//! # Guarantees
//!
//! - The command line has the original's words in the original's order, where the original's work. What it makes of inputs
//!   that it gets wrong is in `docs/COMPATIBILITY.md`.
//! - No password is in the command line or in a message, nor printed by a type of this crate.
//!
//! # Reading order
//!
//! [`Name`], `flags` (the table of inputs), [`Settings`], [`Plan`], [`Logins`].

mod name;

mod flags;
mod value;

mod settings;

mod dotenv;
mod logins;
mod plan;

mod argv;
mod buildx;
mod outputs;
mod repository;
mod tags;
mod version;

pub use logins::{Cloud, Logins, Text};
pub use name::Name;
pub use outputs::Outputs;
pub use plan::{Plan, Repository};
pub use settings::{Files, PluginError, Question, Settings};
