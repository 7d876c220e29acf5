//! What an action works with, and what comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;

use ebiko_context::Context;
use ebiko_oci::{Observer, PortError};
use ebiko_plan::{BaseReference, StageId};
use ebiko_rootfs::{Root, RootPath, Time};
use ebiko_rootless::{Interrupt, Place};

use crate::{CommandError, CopyError, WorkDirError};

/// Everything that an action may need.
pub struct Site<'a> {
    /// The root that is changed.
    pub root: &'a Root,
    /// The build context.
    pub context: &'a Context,
    /// What the earlier stages left, for `COPY --from`.
    pub stages: &'a BTreeMap<StageId, Root>,
    /// Images that are no stage, for `COPY --from`.
    pub images: &'a BTreeMap<BaseReference, Root>,
    /// The modification time of directories that `WORKDIR` makes: that of the build, so that it can be repeated.
    pub created: Time,
    /// Where commands run.
    pub place: &'a Place,
    /// Raised when the build shall stop.
    pub interrupt: &'a Interrupt,
    /// Gets the output of commands.
    pub observer: &'a dyn Observer,
    /// Unpacks archives for `ADD`.
    pub archives: &'a dyn Archives,
}

impl fmt::Debug for Site<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site")
            .field("root", self.root)
            .field("place", self.place)
            .finish_non_exhaustive()
    }
}

/// Knows archives; a port, because this crate does not.
pub trait Archives: Sync {
    /// Unpacks `file` into the directory `destination` of `root` and returns every path that it
    /// made or changed there.
    ///
    /// The members keep their owners, or all get `owner` (user and group). `None` where `file` is
    /// no archive; then nothing was done.
    fn unpack(
        &self,
        file: &mut File,
        root: &Root,
        destination: &RootPath,
        owner: Option<(u32, u32)>,
    ) -> Result<Option<BTreeSet<RootPath>>, PortError>;
}

/// Where an action may have changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// Anywhere.
    Everything,
    /// At these paths: what was made, replaced or given other attributes. Directories whose time
    /// changed only because something was made in them are not among them.
    Paths(BTreeSet<RootPath>),
}

/// An action failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are those of the causes")]
pub enum ExecError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    WorkDir(#[from] WorkDirError),
    /// The build was asked to stop by this signal.
    #[error("interrupted by signal {signal}")]
    Interrupted { signal: i32 },
}

impl ExecError {
    /// The status that the command ended with, for the builder to end with too; 128 plus the signal
    /// where a signal ended it.
    pub fn exit_status(&self) -> Option<i32> {
        match self {
            Self::Command(CommandError::Exited { status, .. }) => Some(*status),
            Self::Command(CommandError::Signalled { signal, .. })
            | Self::Interrupted { signal } => Some(128 + signal),
            // The whole step was.
            Self::Command(CommandError::InitKilled) => Some(137),
            _ => None,
        }
    }

    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Command(error) => error.hint(),
            Self::Copy(error) => error.hint(),
            Self::WorkDir(error) => error.hint(),
            Self::Interrupted { .. } => None,
        }
    }
}
