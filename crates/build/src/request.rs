//! What a caller says about one build.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ebiko_exec::{Agent, Resources, Secret};
use ebiko_layer::{Compression, Limits};
use ebiko_oci::{BlobSink, ImageFormat, ImageSource, LayerCache, Observer, Timestamp};
use ebiko_plan::BuildOptions;
use ebiko_rootfs::Time;
use ebiko_rootless::{Interrupt, Place};
use ebiko_snapshot::Mode;

use crate::shell::OwnShell;
use crate::sources::Sources;

/// One build, with every default filled in.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The Dockerfile's name, for messages.
    pub dockerfile_name: String,
    /// The Dockerfile's text.
    pub dockerfile: Vec<u8>,
    /// The directory of the build context. It is only read.
    pub context: PathBuf,
    /// The text of the `.dockerignore` that applies, if there is one. It applies to local contexts only.
    pub ignore_file: Option<Vec<u8>>,
    /// How old the context is, where it comes from somewhere that says so: for `SOURCE_DATE_EPOCH=context`.
    pub context_age: Option<Time>,
    /// Build arguments, target, labels, platforms and named contexts.
    pub options: BuildOptions,
    /// Who chose the platform in `options`.
    pub platform: PlatformChoice,
    /// How a change of a file is found.
    pub snapshot_mode: Mode,
    /// Whether the layers of a stage become one.
    pub layering: Layering,
    /// Paths or patterns that stay out of every layer.
    pub ignore_paths: Vec<String>,
    /// How new layers are stored. Where a base has Docker's media types and this needs OCI's, it is gzip, with a warning, or
    /// an error.
    pub compression: Compression,
    /// The media types of the image; those of its base if `None`.
    pub format: Option<ImageFormat>,
    /// The media types of an image that starts from nothing, if `format` does not say.
    pub scratch_format: ImageFormat,
    /// Annotations of the image's manifest. Those of a base are not inherited.
    pub annotations: BTreeMap<String, String>,
    /// What layers of bases, archives of `ADD` and contexts may unpack to.
    pub limits: Limits,
    /// The time that is written into config and history where no `SOURCE_DATE_EPOCH` says another.
    pub created: Timestamp,
    /// Which times the files of new layers have.
    pub file_times: FileTimes,
    /// What `RUN --mount=type=secret` may ask for, by id.
    pub secrets: BTreeMap<String, Secret>,
    /// What `RUN --mount=type=ssh` may ask for, by id.
    pub agents: BTreeMap<String, Agent>,
    /// Where the directories of `RUN --mount=type=cache` are kept; beneath the builder's directory if `None`, where they
    /// stay for the next build.
    pub caches: Option<PathBuf>,
    /// How much of the machine each `RUN` gets, and which hosts it knows.
    pub resources: Resources,
    /// How many threads look at files and compress.
    pub threads: usize,
    /// Whether each base layer is read once or more often; see [`BaseLayers`].
    pub base_layers: BaseLayers,
    /// Whether stages have the files of their bases where no step needs them.
    pub base_files: BaseFiles,
    /// What is done with [`Ports::cache`]; nothing if `None`.
    pub cache: Option<CachePolicy>,
}

/// Which layers are looked for in the cache and kept in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachePolicy {
    /// Those of `RUN` and `WORKDIR`.
    pub runs: bool,
    /// Those of `COPY` and `ADD`.
    pub copies: bool,
    /// Whether new ones are kept.
    pub keeps: bool,
    /// How old one may be.
    pub ttl: Duration,
    /// The time by which that is judged.
    pub now: Timestamp,
    /// What builds of this image have in common, so that one can tell what has changed since the one before.
    pub name: String,
}

impl BuildRequest {
    /// Where a line of the Dockerfile is, and the line itself, for an error.
    pub(crate) fn location(&self, line: u32) -> String {
        let name = &self.dockerfile_name;
        let text = String::from_utf8_lossy(&self.dockerfile);
        let index = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
        let written = text.lines().nth(index).unwrap_or_default().trim_end();
        format!("at {name}:{line}\n{line:>4} | {written}")
    }
}

/// Which times the files of new layers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileTimes {
    /// Their own.
    Kept,
    /// None later than `SOURCE_DATE_EPOCH`, if it is given.
    Clamped,
    /// None later than `SOURCE_DATE_EPOCH`, or than 1970 if it is not given.
    Fixed,
}

impl FileTimes {
    /// The latest time that a file may have, in seconds since 1970, where `SOURCE_DATE_EPOCH` is `epoch`.
    pub(crate) fn newest(self, epoch: Option<i64>) -> Option<i64> {
        match self {
            Self::Kept => None,
            Self::Clamped => epoch,
            Self::Fixed => Some(epoch.unwrap_or(0)),
        }
    }
}

/// Into how many layers a stage goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layering {
    /// One for each instruction that changes files.
    PerStep,
    /// One for the whole stage.
    PerStage,
}

/// Who chose the platform of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlatformChoice {
    /// Nobody: it is the machine's own, and an image has the platform of its base.
    Machine,
    /// The user: the image is for this platform, even if its base is a single image for another one.
    Explicit,
}

/// Whether stages have the files of their bases on disk. The image is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseFiles {
    /// Where a step needs them: one that runs a command or may unpack an archive, or one of another stage that reads them.
    AsNeeded,
    /// In every stage, also where nobody but who looks at the root after the build would miss them.
    Always,
}

/// What happens to the blobs of a base image after they were unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseLayers {
    /// They are kept until the build ends, because an export or another stage reads them again.
    Keep,
    /// They are streamed and gone; whoever reads them again fetches them again.
    Stream,
}

/// What a build needs from outside.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "ports have no state of interest")]
pub struct Ports<'p> {
    /// Finds base images.
    pub images: &'p dyn ImageSource,
    /// Fetches downloads and git repositories.
    pub sources: &'p dyn Sources,
    /// Is offered the new layers of the image while the build goes on.
    pub ahead: &'p dyn BlobSink,
    /// Has layers of earlier builds, and keeps those of this one.
    pub cache: Option<&'p dyn LayerCache>,
    /// Is told what happens.
    pub observer: &'p dyn Observer,
    /// The file system clock: `CLOCK_REALTIME_COARSE`, by which the kernel stamps `ctime`.
    pub clock: &'p (dyn Fn() -> Time + Sync),
    /// Ends the build early.
    pub interrupt: &'p Arc<Interrupt>,
}

/// Where a build takes place.
#[derive(Debug)]
pub struct Ground<'w> {
    /// How a RUN gets its root.
    pub place: &'w Place,
    /// Where the build takes place if it does so in place: `/`, or a directory into which the names at `/` lead.
    pub root: PathBuf,
    /// The builder's own directory. Everything a build leaves beneath it is removed when it ends.
    pub builder_dir: PathBuf,
    /// Absolute paths that must neither be seen by a snapshot nor removed: the context, and files that
    /// are written when the build is over.
    pub protected: Vec<PathBuf>,
    /// The shell that a container has besides the image's, in place.
    pub shell: Option<OwnShell>,
    /// What happens to `/` after a build in place.
    pub after: Afterwards,
}

/// What happens to `/` after a build in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// The files of the last stage stay, as after kaniko, except that `/bin/sh` is the container's own shell if it has one.
    Leave,
    /// They are removed, and what was there before the build comes back.
    Restore,
}
