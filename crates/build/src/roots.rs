//! Where the files of each stage are.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use ebiko_plan::StageId;
use ebiko_rootfs::{MoveOutError, OpenRootError, Root, RootError, RootOptions, RootPath};
use ebiko_rootless::Place;

use crate::request::{Afterwards, Ground};
use crate::shell::{OwnShell, ShellState};

/// Gives each stage an empty root and keeps the roots that later stages read.
///
/// In place there is one root, `/`: it is emptied by renaming before the first stage and whenever a stage
/// is left (`docs/adr/0006-root-by-rename.md`). In a private place each stage has a directory of its own.
///
/// Whatever this value made beneath the builder's directory is removed by [`Roots::finish`]; what an earlier
/// build left there because it was killed is removed by [`Roots::prepare`].
#[derive(Debug)]
pub struct Roots<'g> {
    ground: &'g Ground<'g>,
    /// What the container's own shell looked like before the build.
    shell: Option<ShellState>,
    /// Locked as long as this value lives.
    _lock: File,
}

/// Whether a build in place has replaced what was in `/`, and has not brought it back; the builder's directory tells.
pub fn is_replaced(builder_dir: &Path) -> bool {
    builder_dir.join(ORIGINAL).exists()
}

/// A root could not be made ready or left behind.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum RootsError {
    #[error("cannot prepare the builder's directory `{}`", path.display())]
    Prepare { path: PathBuf, source: io::Error },
    #[error("another build is under way in `{}`", path.display())]
    Busy { path: PathBuf },
    #[error("cannot open the root of {stage}")]
    Open { stage: StageId, source: OpenRootError },
    #[error("cannot open `{}`", path.display())]
    OpenOther { path: PathBuf, source: OpenRootError },
    #[error("cannot move what was in `/` out of the way")]
    Vacate { source: MoveOutError },
    #[error("cannot keep the files of {stage} for later stages")]
    Keep { stage: StageId, source: MoveOutError },
    #[error("cannot remove the files of {stage}")]
    Clear { stage: StageId, source: RootError },
    #[error("cannot remove what a build left in the builder's directory")]
    Tidy { source: RootError },
    #[error("cannot bring back what was in `/` before the build")]
    Restore { source: RootError },
    #[error("cannot look at the container's own shell in `{}`", path.display())]
    LookAtShell { path: PathBuf, source: io::Error },
    #[error("the command changed `{}`, which is the shell of this container and in no image", path.display())]
    ShellChanged { path: PathBuf },
    #[error("cannot make `/bin/sh` the container's own shell again")]
    ReturnShell { source: RootError },
    #[error("the build would take place on `/`, and so would the protected path `{}`", path.display())]
    ProtectedRoot { path: PathBuf },
}

impl RootsError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Vacate { source } | Self::Keep { source, .. } => source.hint(),
            Self::Clear { source, .. }
            | Self::Restore { source }
            | Self::ReturnShell { source }
            | Self::Tidy { source } => source.hint(),
            Self::ShellChanged { .. } => Some(
                "a RUN cannot write there in an image of the builder that has a shell; build with one that has none, \
                 or let the command write somewhere else",
            ),
            Self::Prepare { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some("free space, or give the builder a larger volume")
                }
                _ => None,
            },
            Self::Busy { .. } => Some("wait for it, or use another container"),
            Self::ProtectedRoot { .. } => {
                Some("give the context and the outputs directories of their own")
            }
            Self::Open { .. } | Self::OpenOther { .. } | Self::LookAtShell { .. } => None,
        }
    }
}

/// The directories beneath the builder's own that one build uses and removes again.
const WORK: [&str; 7] = ["stages", "images", "inputs", "layers", "blobs", "displaced", "commands"];

/// Two builds in one container would empty each other's root.
const LOCK: &str = "lock";

/// Where the files are that were in `/` before a build in place.
const ORIGINAL: &str = "original";

#[expect(clippy::disallowed_methods, reason = "the builder's own directory is on the host")]
impl<'g> Roots<'g> {
    /// Makes the builder's directory ready, and `/` empty if the build takes place there.
    pub fn prepare(ground: &'g Ground<'g>) -> Result<Self, RootsError> {
        let prepare = |path: &Path, source| RootsError::Prepare { path: path.into(), source };
        std::fs::create_dir_all(&ground.builder_dir)
            .map_err(|source| prepare(&ground.builder_dir, source))?;
        let path = ground.builder_dir.join(LOCK);
        let lock = File::create(&path).map_err(|source| prepare(&path, source))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(RootsError::Busy { path: ground.builder_dir.clone() });
            }
            Err(TryLockError::Error(source)) => return Err(prepare(&path, source)),
        }
        let mut roots = Self { ground, shell: None, _lock: lock };
        roots.shell = roots.shell_state()?;
        roots.remove_work()?;
        for name in WORK {
            let path = ground.builder_dir.join(name);
            std::fs::create_dir(&path).map_err(|source| prepare(&path, source))?;
        }
        if roots.is_in_place() {
            roots.vacate()?;
        }
        Ok(roots)
    }

    fn is_in_place(&self) -> bool {
        matches!(self.ground.place, Place::InPlace)
    }

    /// How a RUN gets its root.
    pub(crate) fn place(&self) -> &Place {
        self.ground.place
    }

    /// The builder's directory for layers, blobs and the like.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.ground.builder_dir.join(name)
    }

    /// An empty root for `stage`.
    pub(crate) fn begin(&self, stage: StageId) -> Result<Root, RootsError> {
        let store = self.directory("displaced").join(stage.0.to_string());
        let open = |source| RootsError::Open { stage, source };
        if self.is_in_place() {
            return Root::open(&self.ground.root, self.options(Some(store))?).map_err(open);
        }
        let path = self.directory("stages").join(stage.0.to_string());
        std::fs::create_dir(&path)
            .map_err(|source| RootsError::Prepare { path: path.clone(), source })?;
        let options = RootOptions { displaced_store: Some(store), ..RootOptions::default() };
        Root::open(&path, options).map_err(open)
    }

    /// An empty root beside the stages, for an image that is only read.
    pub(crate) fn beside(&self, number: usize) -> Result<Root, RootsError> {
        let path = self.directory("images").join(number.to_string());
        std::fs::create_dir(&path)
            .map_err(|source| RootsError::Prepare { path: path.clone(), source })?;
        Root::open(&path, RootOptions::default())
            .map_err(|source| RootsError::OpenOther { path, source })
    }

    /// Leaves a stage and keeps its files where later stages find them.
    pub(crate) fn keep(&self, stage: StageId, root: Root) -> Result<Root, RootsError> {
        if !self.is_in_place() {
            return Ok(root);
        }
        let path = self.directory("stages").join(stage.0.to_string());
        root.move_out(&path).map_err(|source| RootsError::Keep { stage, source })
    }

    /// Leaves a stage whose files nobody reads any more.
    pub(crate) fn discard(stage: StageId, root: &Root) -> Result<(), RootsError> {
        root.clear().map(drop).map_err(|source| RootsError::Clear { stage, source })
    }

    fn shell_state(&self) -> Result<Option<ShellState>, RootsError> {
        let Some(shell) = &self.ground.shell else { return Ok(None) };
        let failed = |source| RootsError::LookAtShell { path: shell.directory(), source };
        shell.state().map(Some).map_err(failed)
    }

    /// Fails if a command has written where the container has its own shell. What it wrote would be missing from the image.
    pub(crate) fn check_shell(&self) -> Result<(), RootsError> {
        let Some(shell) = &self.ground.shell else { return Ok(()) };
        if self.shell_state()? == self.shell {
            return Ok(());
        }
        Err(RootsError::ShellChanged { path: shell.directory() })
    }

    /// Moves what is in `/` out of the way. If an earlier build has done so and was not cleaned up, what
    /// is in `/` now is that build's, and goes.
    fn vacate(&self) -> Result<(), RootsError> {
        let slash = self.slash()?;
        let original = self.directory(ORIGINAL);
        let result = if original.exists() {
            slash.clear().map(drop).map_err(MoveOutError::Move)
        } else {
            slash.move_out(&original).map(drop)
        };
        result.map_err(|source| RootsError::Vacate { source })
    }

    fn slash(&self) -> Result<Root, RootsError> {
        let path = &self.ground.root;
        // The container's own files are brought back by a root that knows nothing of this one.
        let options = RootOptions { read_elsewhere: true, ..self.options(None)? };
        Root::open(path, options)
            .map_err(|source| RootsError::OpenOther { path: path.clone(), source })
    }

    fn options(&self, displaced_store: Option<PathBuf>) -> Result<RootOptions, RootsError> {
        let shell = self.ground.shell.as_ref().map(OwnShell::directory);
        let protected = std::iter::once(&self.ground.builder_dir)
            .chain(&self.ground.protected)
            .chain(&shell)
            .map(|path| match RootPath::parse(path.as_os_str().as_encoded_bytes()) {
                Ok(inside) if !inside.is_root() => Ok(inside),
                _ => Err(RootsError::ProtectedRoot { path: path.clone() }),
            })
            .collect::<Result<_, _>>()?;
        Ok(RootOptions { protected, displaced_store, ..RootOptions::default() })
    }

    /// Removes what the build left beneath the builder's directory and, if that is wanted, brings back what was
    /// in `/`. Otherwise the container's own shell is at `/bin/sh` again. To be called also when the build has failed.
    pub fn finish(&self) -> Result<(), RootsError> {
        if self.is_in_place() {
            match (self.ground.after, &self.ground.shell) {
                (Afterwards::Restore, _) => self.restore()?,
                (Afterwards::Leave, Some(shell)) => shell
                    .install(&self.slash()?)
                    .map_err(|source| RootsError::ReturnShell { source })?,
                (Afterwards::Leave, None) => {}
            }
        }
        self.remove_work()
    }

    fn restore(&self) -> Result<(), RootsError> {
        let restore = |source| RootsError::Restore { source };
        let slash = self.slash()?;
        slash.clear().map_err(restore)?;
        let path = self.directory(ORIGINAL);
        let original = Root::open(&path, RootOptions::default())
            .map_err(|source| RootsError::OpenOther { path: path.clone(), source })?;
        slash.move_in(&original).map_err(restore)?;
        // What is left are stubs of mount points, which the container still has.
        original.clear().map_err(restore)?;
        drop(original);
        std::fs::remove_dir(&path).map_err(|source| RootsError::Prepare { path, source })
    }

    /// Removes the work directories through [`Root`], which is indifferent to modes and depth.
    fn remove_work(&self) -> Result<(), RootsError> {
        for name in WORK {
            let path = self.directory(name);
            let prepare = |source| RootsError::Prepare { path: path.clone(), source };
            match std::fs::symlink_metadata(&path) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(prepare(source)),
            }
            let root = Root::open(&path, RootOptions::default())
                .map_err(|source| RootsError::OpenOther { path: path.clone(), source })?;
            root.clear().map_err(|source| RootsError::Tidy { source })?;
            drop(root);
            std::fs::remove_dir(&path).map_err(prepare)?;
        }
        Ok(())
    }
}
