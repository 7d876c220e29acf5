//! What an action works with, and what comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::path::PathBuf;

use ebiko_context::Context;
use ebiko_oci::{Digest, Observer, PortError};
use ebiko_plan::{BaseReference, CopyAction, DownloadSource, GitSource, StageId};
use ebiko_rootfs::{Root, RootPath, Time};
use ebiko_rootless::{Interrupt, Place, Resources};

use crate::directories::View;
use crate::{CommandError, CopyError, WorkDirError};

/// Everything that an action may need.
pub struct Site<'a> {
    /// The root that is changed.
    pub root: &'a Root,
    /// The build context.
    pub context: &'a Context,
    /// Everything besides the context that files may come from.
    pub inputs: &'a Inputs,
    /// What commands may be given.
    pub supplies: &'a Supplies,
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
    /// Whether there is a regular file at a path, free of links, that is in the root and not on its disk. A site that has
    /// such files can perform `COPY` and `WORKDIR`, and nothing that reads files of its own root but [`ACCOUNT_FILES`](crate::ACCOUNT_FILES).
    pub is_unwritten: &'a dyn Fn(&RootPath) -> bool,
    /// The copies that read the source of a `COPY --from` after this action, where nothing else reads it: what none of them
    /// wants need not stay there. `None` where everything has to stay.
    pub later_reads: Option<&'a [&'a CopyAction]>,
}

impl<'a> Site<'a> {
    pub(crate) fn view(&self) -> View<'a> {
        View { root: self.root, is_unwritten: self.is_unwritten }
    }
}

/// Files that were made ready before the action: each is there if the action names it.
#[derive(Debug, Default)]
pub struct Inputs {
    /// What the earlier stages left.
    pub stages: BTreeMap<StageId, Root>,
    /// Images that are no stage.
    pub images: BTreeMap<BaseReference, Root>,
    /// Contexts with names.
    pub contexts: BTreeMap<String, Context>,
    /// Files that were fetched.
    pub downloads: BTreeMap<DownloadSource, Download>,
    /// Git repositories that were fetched; the root holds the files of `subdir`.
    pub checkouts: BTreeMap<GitSource, Root>,
}

/// A file that was fetched for `ADD`.
#[derive(Debug)]
pub struct Download {
    /// The directory that it is in.
    pub root: Root,
    /// Where it is there.
    pub path: RootPath,
    /// Its content.
    pub digest: Digest,
    /// What the server calls this version of it (`ETag`).
    pub etag: Option<String>,
    /// The server's `Last-Modified`.
    pub last_modified: Option<Time>,
}

/// What the request has for commands.
#[derive(Debug, Default)]
pub struct Supplies {
    /// For `--mount=type=secret`, by id.
    pub secrets: BTreeMap<String, Secret>,
    /// For `--mount=type=ssh`, by id.
    pub agents: BTreeMap<String, Agent>,
    /// Where the directories of `--mount=type=cache` are kept.
    pub caches: PathBuf,
    /// A directory of the builder's for what is needed while a command runs.
    pub scratch: PathBuf,
    /// How much of the machine a command gets.
    pub resources: Resources,
}

/// A secret. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Keeps `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes, for the few places that hand them on to whom they are meant for.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where the keys of an SSH agent are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agent {
    /// In an agent that listens at this socket.
    Forwarded(PathBuf),
    /// In private key files, that an agent of the builder's own serves.
    Keys(Vec<Secret>),
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
    /// At these paths: what was made, replaced or given other attributes. Of a new directory that was
    /// moved here, what is in it is not among them. Neither are directories whose time
    /// changed only because something was made in them.
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
