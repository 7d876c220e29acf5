//! What a command is given for as long as it runs: mounts, scripts, secrets, agents.

mod agent;
mod bind;
mod cache;
mod keys;
mod secret;

use std::io;
use std::path::{Path, PathBuf};

use ebiko_oci::Event;
use ebiko_plan::{InlineFile, Mount, MountKind, Network, RunAction};
use ebiko_rootfs::{Attributes, OpenRootError, Root, RootError, RootPath, RootPathError};
use ebiko_rootless::{Attachment, Content, MemoryDirectory, MemoryError, Overlay, Place};

use crate::{CopyError, ExecError, Site};
use agent::AgentThread;
pub use agent::{AgentSocket, AgentSocketError, is_usable_key};
use cache::Cache;

pub use keys::KeyError;

/// Something that a command asks for cannot be given to it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum MountError {
    #[error("invalid mount target {target:?}")]
    Target { target: String, source: RootPathError },
    #[error("\"{path}\": not found")]
    NotFound { path: String },
    #[error("there is no {from} to mount from")]
    NoRoot { from: String },
    #[error("cannot copy what is mounted at `{target}`")]
    Copy { target: String, source: Box<CopyError> },
    #[error("secret {id}: not found")]
    NoSecret { id: String },
    #[error("the secret {id} is not text, and cannot be the variable {name}")]
    SecretNotText { id: String, name: String },
    #[error("no SSH key {id:?} forwarded from the client")]
    NoAgents { id: String },
    #[error("unset ssh forward key {id}")]
    NoAgent { id: String },
    #[error("cannot read the SSH keys of {id:?}")]
    Keys { id: String, source: KeyError },
    #[error("cannot serve the SSH agent {id:?}")]
    Agent { id: String, source: io::Error },
    #[error("cannot use the cache {id:?} in `{}`", path.display())]
    Cache { id: String, path: PathBuf, source: io::Error },
    #[error("cannot look at the cache {id:?}")]
    CacheRoot { id: String, source: RootError },
    #[error("there is no directory for `--mount=type=cache`")]
    NoCaches,
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("cannot use the builder's directory `{}`", path.display())]
    Scratch { path: PathBuf, source: io::Error },
    #[error(transparent)]
    OpenRoot(#[from] OpenRootError),
    #[error(transparent)]
    Root(#[from] RootError),
}

impl MountError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Copy { source, .. } => return source.hint(),
            Self::Keys { source, .. } => source.hint(),
            Self::NoSecret { .. } => {
                Some("give it with `--secret id=…,src=FILE` or `env=VARIABLE`")
            }
            Self::NoAgents { .. } | Self::NoAgent { .. } => {
                Some("give an agent or keys with `--ssh ID=SOCKET` or `--ssh ID=KEY_FILE`")
            }
            Self::NoCaches => Some("name one with `--cache-run-dir`"),
            Self::Memory(error) => error.hint(),
            Self::Root(error) | Self::CacheRoot { source: error, .. } => error.hint(),
            Self::OpenRoot(error) => error.hint(),
            _ => None,
        };
        text.map(str::to_owned)
    }
}

/// Everything that was made ready for one command; dropping it takes it away again.
#[derive(Default)]
pub(super) struct Equipment {
    pub(super) attachments: Vec<Attachment>,
    /// Variables besides those of the action.
    pub(super) env: Vec<(String, String)>,
    /// What gives way in a root in which nothing can be mounted.
    pub(super) store: PathBuf,
    caches: Vec<Cache>,
    agents: Vec<AgentThread>,
    memory: Option<MemoryDirectory>,
    overlays: Vec<Overlay>,
    scratch: Option<Scratch>,
}

/// A directory of the builder's that is removed with all that is in it.
struct Scratch {
    directory: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is in the builder's directory, which is emptied before the next build.
        if let Ok(root) = Root::open(&self.directory, ebiko_rootfs::RootOptions::default()) {
            root.clear().ok();
        }
        std::fs::remove_dir(&self.directory).ok();
    }
}

/// Why the equipment is not complete.
pub(super) enum Stop {
    Failed(MountError),
    Interrupted(i32),
}

impl<E: Into<MountError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Makes ready what one command needs.
struct Outfitter<'a> {
    site: &'a Site<'a>,
    equipment: Equipment,
    /// Numbers what is made in the scratch directory.
    count: usize,
}

impl Equipment {
    pub(super) fn prepare(action: &RunAction, site: &Site<'_>) -> Result<Self, Stop> {
        let mut outfitter = Outfitter { site, equipment: Self::default(), count: 0 };
        if action.network == Network::None && !ebiko_rootless::can_mount(site.place) {
            let text = "this container lacks CAP_SYS_ADMIN and can make no network: with `--network=none` the command \
                        reaches nobody, but sees the names of the container's interfaces";
            site.observer.event(Event::Warning { text });
        }
        let is_bare = action.mounts.is_empty() && action.scripts.is_empty();
        let resources = &site.supplies.resources;
        let has_hosts = action.host_name.is_some() || !resources.hosts.is_empty();
        if is_bare && !has_hosts && resources.shm_size.is_none() {
            return Ok(outfitter.equipment);
        }
        // The place may need it for what gives way.
        outfitter.scratch()?;
        for mount in &action.mounts {
            outfitter.mount(mount)?;
        }
        for script in &action.scripts {
            outfitter.script(script)?;
        }
        Ok(outfitter.equipment)
    }

    /// Gives back what is kept. To be called when the command has ended, well or not.
    pub(super) fn give_back(self) -> Result<(), MountError> {
        let mut result = Ok(());
        for cache in &self.caches {
            let separated = cache.separate();
            result = result.and(separated);
        }
        result
    }
}

impl Outfitter<'_> {
    fn mount(&mut self, mount: &Mount) -> Result<(), Stop> {
        match &mount.kind {
            MountKind::Bind { from, source } => {
                let target = target(mount)?;
                let content = self.bind(from, source, mount.read_only, &target)?;
                self.attach(target, content, mount.read_only);
            }
            MountKind::Cache { .. } => self.cache(mount)?,
            MountKind::Tmpfs { size } => {
                if size.is_some() && !ebiko_rootless::can_mount(self.site.place) {
                    let target = mount.target.as_deref().unwrap_or_default();
                    let text = format!(
                        "this container lacks CAP_SYS_ADMIN and mounts nothing: the size of `{target}` is not enforced"
                    );
                    self.site.observer.event(Event::Warning { text: &text });
                }
                self.attach(target(mount)?, Content::Tmpfs { size: *size }, mount.read_only);
            }
            MountKind::Secret { .. } => self.secret(mount)?,
            MountKind::Ssh { .. } => self.agent(mount)?,
        }
        Ok(())
    }

    fn script(&mut self, script: &InlineFile) -> Result<(), Stop> {
        let directory = RootPath::parse(scripts_dir(self.site).as_bytes()).unwrap_or_default();
        let target = directory.child(script.name.as_bytes()).map_err(|source| {
            MountError::Target { target: format!("{SCRIPTS}{}", script.name), source }
        })?;
        let file = FileAttributes { mode: 0o755, uid: 0, gid: 0 };
        let (root, path) = self.next()?;
        write(&root, &path, script.content.as_bytes(), file)?;
        self.attach(target, Content::Disposable(host_path(&root, &path)), true);
        Ok(())
    }

    fn attach(&mut self, target: RootPath, content: Content, read_only: bool) {
        self.equipment.attachments.push(Attachment { target, content, read_only });
    }

    fn is_in_place(&self) -> bool {
        matches!(self.site.place, Place::InPlace)
    }

    /// The directory for this command.
    #[expect(clippy::disallowed_methods, reason = "the builder's own directory is on the host")]
    fn scratch(&mut self) -> Result<PathBuf, MountError> {
        if let Some(scratch) = &self.equipment.scratch {
            return Ok(scratch.directory.clone());
        }
        let directory = self.site.supplies.scratch.join("command");
        let failed = |source| MountError::Scratch { path: directory.clone(), source };
        std::fs::create_dir_all(&self.site.supplies.scratch).map_err(failed)?;
        match std::fs::create_dir(&directory) {
            // Of a builder that was killed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Root::open(&directory, ebiko_rootfs::RootOptions::default())?.clear()?;
            }
            result => result.map_err(failed)?,
        }
        self.equipment.scratch = Some(Scratch { directory: directory.clone() });
        for name in ["store", "files"] {
            std::fs::create_dir(directory.join(name)).map_err(failed)?;
        }
        self.equipment.store = directory.join("store");
        Ok(directory)
    }

    /// A path in the scratch directory where nothing is yet.
    fn next(&mut self) -> Result<(Root, RootPath), MountError> {
        let directory = self.scratch()?.join("files");
        let root = self.site.root.beside(&directory)?;
        self.count += 1;
        let path = RootPath::parse(self.count.to_string().as_bytes()).unwrap_or_default();
        Ok((root, path))
    }
}

/// Where a plan has here-documents that are programs.
const SCRIPTS: &str = "/dev/pipes/";

/// Where they are: whose root is not at `/` cannot write to the container's `/dev`.
fn scripts_dir(site: &Site<'_>) -> &'static str {
    let is_at_top = site.root.host_path() == Path::new("/");
    if matches!(site.place, Place::InPlace) && !is_at_top { "/run/pipes/" } else { SCRIPTS }
}

/// The command with its here-documents where they are.
pub(super) fn argv(action: &RunAction, site: &Site<'_>) -> Vec<String> {
    let at = |word: &String| match word.strip_prefix(SCRIPTS) {
        Some(name) if action.scripts.iter().any(|script| script.name == name) => {
            format!("{}{name}", scripts_dir(site))
        }
        _ => word.clone(),
    };
    action.argv.iter().map(at).collect()
}

/// Mode and owner of a file that is made for a command.
#[derive(Clone, Copy)]
struct FileAttributes {
    mode: u32,
    uid: u32,
    gid: u32,
}

fn target(mount: &Mount) -> Result<RootPath, MountError> {
    let target = mount.target.as_deref().unwrap_or_default();
    RootPath::resolve(&RootPath::root(), target.as_bytes())
        .map_err(|source| MountError::Target { target: target.to_owned(), source })
}

fn write(
    root: &Root,
    path: &RootPath,
    content: &[u8],
    file: FileAttributes,
) -> Result<(), MountError> {
    let mut made = root.create_file(path)?;
    // Nobody else may look before it is theirs.
    let closed = Attributes { mode: Some(0o600), ..Attributes::default() };
    root.set_file_attributes(&made, path, &closed)?;
    io::Write::write_all(&mut made, content)
        .map_err(|source| MountError::Scratch { path: host_path(root, path), source })?;
    root.set_file_attributes(&made, path, &attributes(file))?;
    Ok(())
}

fn attributes(file: FileAttributes) -> Attributes {
    Attributes {
        uid: Some(file.uid),
        gid: Some(file.gid),
        mode: Some(file.mode),
        ..Attributes::default()
    }
}

fn host_path(root: &Root, path: &RootPath) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let beneath = Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()));
    if path.is_root() { root.host_path().to_owned() } else { root.host_path().join(beneath) }
}

impl From<Stop> for ExecError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Failed(error) => crate::CommandError::Mount(error).into(),
            Stop::Interrupted(signal) => Self::Interrupted { signal },
        }
    }
}
