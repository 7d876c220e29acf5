//! What a step does to a root: the values that `exec` performs.
//!
//! An [`Action`] leaves nothing of the language to interpret: variables are expanded, relative paths are joined to the
//! working directory, the shell is in front of a shell-form command, stage names are numbers. What remains open
//! is what only a root can tell: whether a file exists, whom a user name means, what a wildcard matches.

use std::fmt;

use ebiko_oci::{Platform, Reference};

/// A stage of the Dockerfile, counted from 0 in the order of its `FROM` lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(pub usize);

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {}", self.0)
    }
}

/// An image that must be known before a plan can be made: its name, and for which platform it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub struct BaseReference {
    pub reference: Reference,
    pub platform: Platform,
}

impl fmt::Display for BaseReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.reference, self.platform)
    }
}

/// Something that changes a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Runs a process.
    Run(RunAction),
    /// Copies files, or unpacks archives.
    Copy(CopyAction),
    /// Makes a directory.
    WorkDir(WorkDirAction),
}

/// `RUN`: one process, started with exactly what is written here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAction {
    /// The program and its arguments; for the shell form the shell comes first.
    ///
    /// The program is looked up in the `PATH` of [`env`](Self::env) when it has no slash. Empty for `RUN []`, which
    /// cannot be started.
    pub argv: Vec<String>,
    /// The whole environment, each name once, except for `HOME`: where it is not among these it is
    /// the home directory of the user.
    pub env: Vec<(String, String)>,
    /// Who runs it, as `USER` wrote it: `name`, `uid`, `name:group`, `uid:gid`; empty means 0:0.
    pub user: String,
    /// Where it starts: absolute, not cleaned. It is made where it does not exist.
    pub work_dir: String,
}

/// `COPY`, and `ADD` of local files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyAction {
    /// Whose files are read.
    pub from: CopyFrom,
    /// What is copied, in this order: absolute within [`from`](Self::from), wildcards not resolved.
    ///
    /// A source that was written absolute is not cleaned: `/a/../b` and `/a/` stay.
    pub sources: Vec<String>,
    /// Where it goes: absolute; a trailing `/` or `/.` is kept, because it says that this is a directory.
    pub destination: String,
    /// `--chown`, `user[:group]`; `None` where the flag is absent or its value is empty.
    pub chown: Option<String>,
    /// Whether a source that is a local archive is unpacked rather than copied, as `ADD` does.
    pub extract_archives: bool,
}

/// Where [`CopyAction::sources`] are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CopyFrom {
    /// The build context.
    Context,
    /// What an earlier stage left behind.
    Stage(StageId),
    /// An image that is no stage of this Dockerfile.
    Image(BaseReference),
    /// `--from=scratch`: a root with nothing in it.
    Scratch,
}

/// `WORKDIR`: makes the directory and its missing parents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkDirAction {
    /// Absolute, not cleaned: `/a/../b` and `/a/` are kept as written. Never `/` itself.
    pub path: String,
    /// Who owns each directory that is made, as `USER` wrote it; empty means 0:0. Directories that exist stay untouched.
    pub user: String,
}
