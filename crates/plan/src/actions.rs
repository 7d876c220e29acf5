//! What a step does to a root: the values that `exec` performs.
//!
//! An [`Action`] leaves nothing of the language to interpret: variables are expanded, relative paths are joined to the
//! working directory, the shell is in front of a shell-form command, stage names are numbers. What remains open
//! is what only a root can tell: whether a file exists, whom a user name means, what a wildcard matches.

use std::fmt;

use dockerfile_parser::{Network, Security, Sharing};
use ebiko_oci::{Platform, Reference};

use crate::chmod::ModeChange;
use crate::git::GitSource;

/// A stage of the Dockerfile, counted from 0 in the order of its `FROM` lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(pub usize);

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage {}", self.0)
    }
}

/// An image that must be known before a plan can be made: its name, where it is, and for which platform it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub struct BaseReference {
    pub reference: Reference,
    pub platform: Platform,
    pub store: ImageStore,
}

/// Where an image is looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImageStore {
    /// The registry of its name.
    Registry,
    /// An OCI image layout: its directory, as it is written behind `oci-layout://`.
    Layout(String),
}

impl fmt::Display for BaseReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.reference, self.platform)
    }
}

/// Something that changes a root.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a plan has few of them, and most are of this kind")]
pub enum Action {
    /// Runs a process.
    Run(RunAction),
    /// Copies files, or unpacks archives.
    Copy(CopyAction),
    /// Makes a directory.
    WorkDir(WorkDirAction),
}

impl Action {
    /// Whose files it reads besides those of its own root.
    pub fn reads(&self) -> impl Iterator<Item = &CopyFrom> {
        let (copy, mounts) = match self {
            Self::Copy(copy) => (Some(&copy.from), [].as_slice()),
            Self::Run(run) => (None, run.mounts.as_slice()),
            Self::WorkDir(_) => (None, [].as_slice()),
        };
        let mounted = mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Bind { from, .. } | MountKind::Cache { seed: from, .. } => Some(from),
            MountKind::Tmpfs { .. } | MountKind::Secret { .. } | MountKind::Ssh { .. } => None,
        });
        copy.into_iter().chain(mounted)
    }
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
    /// the home directory of the user. Secrets and agents of [`mounts`](Self::mounts) add to it.
    pub env: Vec<(String, String)>,
    /// Those names among them that say how the network is reached and not what is made: proxies that no `ARG` declares.
    pub ambient: Vec<String>,
    /// Who runs it, as `USER` wrote it: `name`, `uid`, `name:group`, `uid:gid`; empty means 0:0.
    pub user: String,
    /// Where it starts: absolute, not cleaned. It is made where it does not exist.
    pub work_dir: String,
    /// Here-documents that are programs of their own (`#!`): each is executable at `/dev/pipes/<name>` while the
    /// command runs, and nowhere afterwards.
    pub scripts: Vec<InlineFile>,
    /// What is mounted while it runs, in the order of the flags.
    pub mounts: Vec<Mount>,
    /// What it sees of the network.
    pub network: Network,
    /// Whether it has more rights than others.
    pub security: Security,
    /// What it takes for the name of its host; the place's own where there is none.
    pub host_name: Option<String>,
}

/// One `RUN --mount`, with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is seen: absolute and cleaned, never `/`. `None` for a secret that is only a variable.
    pub target: Option<String>,
    /// What is mounted.
    pub kind: MountKind,
    /// Whether the command may not write to it.
    pub read_only: bool,
}

/// What a [`Mount`] mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A file or directory; what is written to it is gone when the command has ended.
    Bind {
        /// Whose file it is.
        from: CopyFrom,
        /// Which: absolute within `from`, cleaned; links are resolved within `from`.
        source: String,
    },
    /// A directory that is kept between builds and is never part of an image.
    Cache {
        /// Its name, unique in the cache directory.
        id: String,
        /// Who else may use it at the same time.
        sharing: Sharing,
        /// What it holds when it is new.
        seed: CopyFrom,
        /// The directory within the cache that is mounted: absolute, cleaned, `/` for all of it.
        source: String,
        /// The mode of the directory when it is new.
        mode: u32,
        /// Its owner when it is new.
        uid: u32,
        /// Its group when it is new.
        gid: u32,
    },
    /// An empty directory that is gone when the command has ended.
    Tmpfs {
        /// The most bytes that it holds.
        size: Option<u64>,
    },
    /// A file, a variable, or both, that no image and no message ever holds.
    Secret {
        /// Its name in the request.
        id: String,
        /// The variable that holds it.
        env: Option<String>,
        /// Whether the step fails without it. Otherwise there is then neither file nor variable.
        required: bool,
        /// The mode of the file.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// The socket of an SSH agent; `SSH_AUTH_SOCK` names the first one.
    Ssh {
        /// The name of the agent in the request.
        id: String,
        /// Whether the step fails without it.
        required: bool,
        /// The mode of the socket.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

/// A file whose content is in the Dockerfile, with its variables expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct InlineFile {
    pub name: String,
    pub content: String,
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyAction {
    /// Whose files are read.
    pub from: CopyFrom,
    /// What is copied, in this order.
    pub sources: Vec<CopySource>,
    /// Here-documents, copied after the sources: mode 0644, owner 0:0 unless the flags say otherwise. `exclude` does
    /// not concern them.
    pub files: Vec<InlineFile>,
    /// Where it goes: absolute; a trailing `/` or `/.` is kept, because it says that this is a directory.
    pub destination: String,
    /// `--chown`, `user[:group]`; `None` where the flag is absent or its value is empty.
    pub chown: Option<String>,
    /// Who owns, without `--chown`, what no image has an owner for, as `USER` wrote it; empty means 0:0. Archives keep
    /// the owners that they name. With [`link`](Self::link), too, names are those of the root.
    pub user: String,
    /// `--chmod`; `None` where the flag is absent or its value is empty.
    pub chmod: Option<ModeChange>,
    /// Whether directories that lead to the destination have the mode 0755 in spite of `--chmod`.
    pub plain_parents: bool,
    /// Which sources are unpacked rather than copied.
    pub unpack: Unpack,
    /// `--link`: the copy is made in an empty root and laid over what is there, so that links on the way to the
    /// destination become directories.
    pub link: bool,
    /// `--parents`: directories above a source are made at the destination.
    pub parents: bool,
    /// `--exclude`, in order: patterns of an ignore file, seen from each directory that is copied.
    pub exclude: Vec<String>,
}

/// What one source of a [`CopyAction`] names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CopySource {
    /// Files in [`from`](CopyAction::from): absolute within it, wildcards not resolved.
    ///
    /// A source that was written absolute is not cleaned: `/a/../b` and `/a/` stay. With `--parents`, the `/./` that
    /// says where the copied part of the path begins is in it.
    Path(String),
    /// A file that is fetched.
    Download(DownloadSource),
    /// A git repository; its files are copied like those of a directory.
    Git(GitSource),
}

/// A file that is fetched by HTTP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DownloadSource {
    /// Where it is.
    pub url: String,
    /// What it is called where it goes into a directory.
    pub name: String,
    /// The digest it must have, `algorithm:hex`.
    pub checksum: Option<String>,
}

/// Which sources of an `ADD` are unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpack {
    /// None: `COPY`, and `ADD --unpack=false`.
    Nothing,
    /// Local archives: `ADD` without the flag.
    Local,
    /// Archives, also those that are fetched: `ADD --unpack`.
    Everything,
}

/// Where [`CopyAction::sources`] are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::large_enum_variant, reason = "a plan has few of them, and most are of this kind")]
pub enum CopyFrom {
    /// The build context.
    Context,
    /// A context of its own name, from `--build-context`, that is files and no image.
    Named(String),
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
    /// Whether those above it belong to 0:0 all the same.
    pub root_parents: bool,
}
