//! Why there is no image.

use std::error::Error;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use dockerfile_parser::{Diagnostics, Dockerfile};
use ebiko_context::OpenContextError;
use ebiko_exec::ExecError;
use ebiko_layer::{ArchiveError, CompressError, PackError, UnpackError};
use ebiko_oci::{FormatError, PortError, Position};
use ebiko_plan::StageId;
use ebiko_rootfs::{MountsError, RootError, RootPath};
use ebiko_snapshot::{IgnoreSetError, SnapshotError};

use crate::compression::CompressionError;
use crate::inputs::InputError;
use crate::roots::RootsError;

/// A build ended without an image.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum BuildError {
    #[error("the Dockerfile has errors")]
    Dockerfile(#[from] Diagnostics),
    #[error("cannot find the image `{image}`")]
    Resolve {
        image: String,
        /// As in [`BuildError::Step`]; `None` where a trigger of a base names the image.
        location: Option<String>,
        /// The lines of the instruction that names the image, if one does.
        lines: Option<RangeInclusive<u32>>,
        source: PortError,
    },
    #[error("the image `{image}` was not resolved before it was used")]
    NotResolved { image: String },
    #[error("{stage} was not built before it was used")]
    NotBuilt { stage: StageId },
    #[error("cannot use the build context")]
    Context(#[from] OpenContextError),
    #[error(transparent)]
    IgnorePath(#[from] IgnoreSetError),
    #[error(transparent)]
    Roots(#[from] RootsError),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error("cannot find out what a step changed")]
    Look(#[from] SnapshotError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Compress(#[from] CompressError),
    #[error(transparent)]
    Compression(#[from] CompressionError),
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error("cannot create the file `{}` for a layer", path.display())]
    LayerFile { path: PathBuf, source: io::Error },
    #[error("step {} of {} failed: `{text}`", step.number, step.total)]
    Step {
        step: Position,
        /// `Dockerfile:12`, and the line itself below it.
        location: String,
        /// The lines of the instruction.
        lines: RangeInclusive<u32>,
        text: String,
        source: Box<StepFailure>,
    },
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("the time {seconds} of SOURCE_DATE_EPOCH is out of range")]
    Epoch { seconds: i64 },
    #[error("stopped by signal {signal}")]
    Interrupted { signal: i32 },
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum StepFailure {
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Roots(#[from] RootsError),
    #[error("cannot bring together what the image has and what the container has at one path")]
    Settle { source: RootError },
    #[error(transparent)]
    Mounts { source: MountsError },
    #[error("cannot make the files of the image ready")]
    Image { source: Box<BuildError> },
    #[error("cannot find out whom names mean")]
    Lookup(#[from] RootError),
    #[error("cannot copy the contents of `/{path}`")]
    Accounts { path: RootPath, source: io::Error },
    #[error("cannot record what the step changed")]
    Record { source: Box<BuildError> },
}

impl BuildError {
    /// The exit status of the program: that of the command that failed, 128 plus the signal where one ended the
    /// build, otherwise 1.
    pub fn exit_status(&self) -> u8 {
        let status = match self {
            Self::Step { source, .. } => source.exit_status(),
            Self::Interrupted { signal } => Some(128 + signal),
            _ => None,
        };
        // A status of 0 would call the failure a success.
        status
            .and_then(|status| u8::try_from(status).ok())
            .filter(|status| *status != 0)
            .unwrap_or(1)
    }

    /// Where in the Dockerfile it happened, with the line itself.
    pub fn location(&self) -> Option<&str> {
        match self {
            Self::Step { location, .. } => Some(location),
            Self::Resolve { location, .. } => location.as_deref(),
            _ => None,
        }
    }

    /// The lines of the instructions that it is about.
    pub fn lines(&self) -> Vec<u32> {
        match self {
            Self::Dockerfile(diagnostics) => {
                let source = diagnostics.source();
                let reading = Dockerfile::read(source.name(), source.text());
                diagnostics.items().first().map(|first| reading.lines(first)).unwrap_or_default()
            }
            Self::Step { lines, .. } => lines.clone().collect(),
            Self::Resolve { lines, .. } => lines.clone().into_iter().flatten().collect(),
            _ => Vec::new(),
        }
    }

    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unpack(error) => error.hint().map(Into::into),
            Self::Look(error) => error.hint().map(Into::into),
            Self::Pack(error) => error.hint().map(Into::into),
            Self::Compress(error) => error.hint().map(Into::into),
            Self::Format(_) => Some(FormatError::HINT.into()),
            Self::Compression(_) => Some(CompressionError::hint().into()),
            Self::Roots(error) => error.hint().map(Into::into),
            Self::Input(error) => error.hint().map(Into::into),
            Self::LayerFile { source, .. } if source.kind() == io::ErrorKind::NotFound => Some(
                "the command removed the builder's own directory; in a pod it is part of `/`"
                    .into(),
            ),
            Self::Step { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// The advice about an archive of `ADD`, of which `exec` knows only that it could not be unpacked.
fn archive_hint(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(archive) = error.downcast_ref::<ArchiveError>() {
            return archive.hint().map(Into::into);
        }
        cause = error.source();
    }
    None
}

impl StepFailure {
    pub(crate) fn nested(source: BuildError) -> Self {
        Self::Image { source: Box::new(source) }
    }

    pub(crate) fn recording(source: BuildError) -> Self {
        Self::Record { source: Box::new(source) }
    }

    fn exit_status(&self) -> Option<i32> {
        match self {
            Self::Exec(error) => error.exit_status(),
            Self::Image { source } | Self::Record { source } => {
                Some(i32::from(source.exit_status()))
            }
            Self::Input(_)
            | Self::Roots(_)
            | Self::Lookup(_)
            | Self::Accounts { .. }
            | Self::Settle { .. }
            | Self::Mounts { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Exec(error) => error.hint().or_else(|| archive_hint(error)),
            Self::Roots(error) => error.hint().map(Into::into),
            Self::Input(error) => error.hint().map(Into::into),
            Self::Settle { source } | Self::Lookup(source) => source.hint().map(Into::into),
            Self::Accounts { .. } => None,
            Self::Mounts { source } => source.hint().map(Into::into),
            Self::Image { source } | Self::Record { source } => source.hint(),
        }
    }
}
