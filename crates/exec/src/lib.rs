//! Performs one planned action on a root.
//!
//! [`perform`] takes an [`Action`] of a plan and a [`Site`], which is everything the action may
//! need, and changes the site's root: it runs a process, copies files or makes a directory. It says
//! what it [`Touched`], so that whoever records the change knows where to look. Everything that
//! could be decided before was decided by the plan; what is decided here is what only a root can
//! tell: who a user is, what a wildcard matches, what lies at a destination.
//!
//! # Guarantees
//!
//! - A step gets the image's environment and nothing of the builder's: no variable, no descriptor.
//! - When a `RUN` has ended, well or not, every process that it started has ended.
//! - What an image says about itself (`/etc/passwd`, links, `PATH`) is read with bounds and inside
//!   the root only.
//! - A path that a copy makes is either among the touched ones, or beneath a new directory that is, or the copy has failed.
//!
//! # Reading order
//!
//! [`perform`], then `run.rs`, `copy.rs` and `work_dir.rs`, one per action; `account.rs` is whom a
//! name means.

mod site;

mod account;
mod passwd;

mod copy;
mod digest;
mod directories;
mod run;
mod work_dir;

use ebiko_plan::Action;

pub use account::{AccountError, OwnerError};
pub use copy::CopyError;
pub use digest::{SourceFiles, SourceState, read_sources, reads_sources, stamp_sources};
pub use directories::MakeDirError;
pub use ebiko_rootless::{Resource, ResourceLimit, Resources};
pub use passwd::ACCOUNT_FILES;
pub use run::{
    AgentSocket, AgentSocketError, CommandDirError, CommandError, GuestError, KeyError, MountError,
    is_usable_key,
};
pub use site::{Agent, Archives, Download, ExecError, Inputs, Secret, Site, Supplies, Touched};
pub use work_dir::{WorkDirError, WorkDirErrorKind};

/// Whether `action` looks up names in the [`ACCOUNT_FILES`] of its root.
pub fn reads_accounts(action: &Action) -> bool {
    match action {
        Action::Run(_) => true,
        Action::Copy(copy) => {
            let chown = copy.chown.as_deref().filter(|_| !copy.link);
            chown.is_some_and(account::has_names) || account::has_names(&copy.user)
        }
        Action::WorkDir(work_dir) => account::has_names(&work_dir.user),
    }
}

/// Does what `action` says to the root of `site`.
///
/// # Errors
///
/// A failed action leaves the root as far as it came; the build is over then. No process of a
/// failed or interrupted command is left.
pub fn perform(action: &Action, site: &Site<'_>) -> Result<Touched, ExecError> {
    match action {
        Action::Run(action) => run::perform(action, site),
        Action::Copy(action) => copy::perform(action, site),
        Action::WorkDir(action) => work_dir::perform(action, site),
    }
}
