//! What a person can watch.

use std::fmt;

use crate::{Digest, Reference};

/// Is told what happens. Nothing that it does changes the build.
pub trait Observer: Sync {
    /// Something happened. Called from any thread; must not block for long.
    fn event(&self, event: Event<'_>);
}

/// "4 of 9", counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Position {
    pub number: usize,
    pub total: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.total)
    }
}

/// What a step left in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepOutcome {
    /// Only the config changed.
    ConfigOnly,
    /// The files changed, but nobody asks for this stage's layers.
    NotRecorded,
    /// A new layer.
    Layer {
        /// Entries in the layer.
        entries: u64,
        /// Size of the tar stream in bytes.
        size: u64,
    },
}

/// One thing that happened.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A name was looked up in a registry.
    Resolved {
        /// The name as it was asked for.
        reference: &'a Reference,
        /// What it stands for.
        digest: Digest,
    },
    /// An image is in a directory on this machine, so that its layers are not fetched.
    FoundOnDisk {
        /// The name as it was asked for.
        reference: &'a Reference,
        /// The manifest.
        digest: Digest,
        /// The directory.
        path: &'a str,
    },
    /// Work on a stage begins.
    StageStarted {
        /// Which of the stages that are built.
        stage: Position,
        /// The name after `AS`.
        name: Option<&'a str>,
        /// What the stage starts from, as the Dockerfile says it.
        base: &'a str,
    },
    /// A layer of a base image is on the root.
    Unpacked {
        /// The layer.
        digest: Digest,
        /// Entries written.
        entries: u64,
        /// Size of the tar stream in bytes.
        size: u64,
    },
    /// A layer of a base image was read and not unpacked: no step needs its files, only to know of them.
    Read {
        /// The layer.
        digest: Digest,
        /// Entries read.
        entries: u64,
        /// Size of the tar stream in bytes.
        size: u64,
    },
    /// The base image of a stage is not read: no step changes a file.
    NotRead,
    /// Work on one instruction begins.
    StepStarted {
        /// Which of the stages that are built.
        stage: Position,
        /// Which of the stage's steps.
        step: Position,
        /// Line in the Dockerfile, counted from 1.
        line: u32,
        /// The instruction as it is written.
        text: &'a str,
    },
    /// A step is not performed: a layer of an earlier build takes its place.
    StepReused {
        /// Which of the stages that are built.
        stage: Position,
        /// Which of the stage's steps.
        step: Position,
        /// Line in the Dockerfile, counted from 1.
        line: u32,
        /// The instruction as it is written.
        text: &'a str,
        /// The layer, if the step has one of its own.
        layer: Option<Digest>,
    },
    /// A step has to be performed although layers like its are kept.
    CacheMissed {
        /// Line in the Dockerfile, counted from 1.
        line: u32,
        /// The instruction as it is written.
        text: &'a str,
        /// Why no kept layer can take its place.
        reason: &'a str,
    },
    /// The running step printed something, to either of its two streams.
    Output {
        /// The bytes as they came, not cut at line ends.
        bytes: &'a [u8],
    },
    /// The step that was started last has ended well.
    StepFinished {
        /// What it left.
        outcome: StepOutcome,
    },
    /// The blob of a layer is complete; steps after the one that left the layer may be running.
    Compressed {
        /// The stage and the step that left the layer.
        stage: Position,
        /// The step.
        step: Position,
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// A file of the image was written.
    Exported {
        /// Where.
        path: &'a str,
    },
    /// An image is about to be sent.
    PushStarted {
        /// Where to.
        reference: &'a Reference,
    },
    /// A blob does not have to be sent: the registry has it.
    BlobExists {
        /// The blob.
        digest: Digest,
    },
    /// A blob was sent.
    BlobSent {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// An image is complete in its registry.
    Pushed {
        /// Where.
        reference: &'a Reference,
        /// The manifest.
        digest: Digest,
    },
    /// The Dockerfile breaks a rule, and can be built all the same.
    RuleBroken {
        /// The name of the rule.
        rule: &'a str,
        /// The line, counted from 1.
        line: u32,
        /// What is wrong.
        message: &'a str,
    },
    /// Something that the user should know and that does not end the build.
    Warning {
        /// One line.
        text: &'a str,
    },
    /// A fact for those who look closely.
    Debug {
        /// One line.
        text: &'a str,
    },
}
