//! The plan: everything that a build will do, in order.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use dockerfile_parser::Span;
use ebiko_oci::{ConfigEdit, Descriptor, DiffId, Platform};

use crate::actions::{Action, BaseReference, StageId};
use crate::lint::Warning;

/// How large a plan may be, in bytes of its texts, roughly.
///
/// A plan of some thousand steps has one megabyte. Variables double with every `ENV A=$A$A`, and each
/// RUN has a copy of all of them, so that a small file could fill all memory.
pub(crate) const MAX_PLAN: usize = 16 << 20;

/// The error of a larger one.
pub(crate) const TOO_LARGE: &str = "the variables of this build take more than 16 MiB";

/// What a build does, decided before anything runs. Its [`Display`](std::fmt::Display) form is what
/// `--dryrun` shows and what golden files compare.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildPlan {
    /// The stages that the target needs, in an order in which each comes after what it uses. The
    /// target is the last one, unless stages of [`also`](Self::also) come behind it.
    pub stages: Vec<StagePlan>,
    /// The stage that becomes the image.
    pub target: StageId,
    /// Stages that are built although the image does not need them.
    pub also: BTreeSet<StageId>,
    /// The time of the image in seconds since 1970, if `SOURCE_DATE_EPOCH` gave one.
    pub epoch: Option<i64>,
    /// The stages of the file that are left out.
    pub dropped: Vec<DroppedStage>,
    /// The rules of [`lint`](crate::lint) that the stages break, in the order in which they are checked.
    pub warnings: Vec<Warning>,
    /// What the user should know and what does not end the build, one sentence each.
    pub notes: Vec<String>,
}

/// One stage.
#[derive(Debug, Clone, PartialEq)]
pub struct StagePlan {
    /// Which stage of the file.
    pub id: StageId,
    /// The name after `AS`, in lower case.
    pub name: Option<String>,
    /// What it starts from.
    pub base: StageBase,
    /// What follows `FROM`, variables expanded.
    pub base_text: String,
    /// The line of its `FROM`.
    pub line: u32,
    /// What its image is for.
    pub platform: Platform,
    /// Changes of the base's config before the first step, without history lines.
    pub base_edits: Vec<ConfigEdit>,
    /// The triggers of the base, then the instructions of the stage. None where a named context that is an image has
    /// taken the place of the stage.
    pub steps: Vec<Step>,
    /// Changes of the config after the last step, without history lines: labels of the request.
    pub final_edits: Vec<ConfigEdit>,
    /// Whether its image is used: it is the target, or another stage starts from it. Otherwise
    /// nobody will look at its layers, config and history.
    pub recorded: bool,
    /// Whether a later stage copies from it, or mounts files of it.
    pub files_read_later: bool,
}

/// What a stage starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a plan has few of them, and most are of this kind")]
pub enum StageBase {
    /// No files, and a config with `PATH` and the working directory `/`.
    ///
    /// A stage that is based on a named context of files starts here too, and its first step copies them.
    Scratch,
    /// An image that was resolved before.
    Image(BaseReference),
    /// An earlier stage.
    Stage(StageId),
}

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Its lines; for a trigger, those of the `FROM` that set it off.
    pub lines: RangeInclusive<u32>,
    /// The bytes of the Dockerfile that an error is shown at.
    pub span: Span,
    /// Whether it comes from the ONBUILD of the base.
    pub is_trigger: bool,
    /// The instruction in one line, for people.
    pub text: String,
    /// The history line, as BuildKit words it; `None` where there is none, which is so for ONBUILD.
    pub created_by: Option<String>,
    /// Whether the history line stands for no layer. Otherwise there is a layer, even if it is empty.
    pub empty_layer: bool,
    /// What changes in the config.
    pub edit: Option<ConfigEdit>,
    /// What changes in the root. None where a layer takes its place.
    pub action: Option<Action>,
    /// What takes the place of performing the step.
    pub reuse: Option<Reuse>,
}

/// What takes the place of performing a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Reuse {
    /// The layer that the step left in an earlier build.
    Layer(Box<ReusedLayer>),
    /// Nothing: what it left is in the layer of a later step.
    Nothing,
}

/// A layer that an earlier build made.
#[derive(Debug, Clone, PartialEq)]
pub struct ReusedLayer {
    /// The blob.
    pub descriptor: Descriptor,
    /// The tar stream inside it.
    pub diff_id: DiffId,
}

/// A stage that is not built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedStage {
    /// Which stage of the file.
    pub id: StageId,
    /// The name after `AS`, in lower case.
    pub name: Option<String>,
    /// Why.
    pub reason: DropReason,
}

/// Why a stage is not built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Nothing that the target needs starts from it or copies from it.
    NotReached,
    /// Layers of earlier builds take the place of all steps that would need it.
    Reused,
}

impl Step {
    /// About how much memory it takes. Lists of short words take several times the bytes of their text.
    pub(crate) fn size(&self) -> usize {
        let action = match &self.action {
            Some(Action::Run(run)) => {
                let env = run.env.iter().map(|(name, value)| name.len() + value.len() + 48);
                let scripts = run.scripts.iter().map(|script| script.content.len());
                env.chain(scripts).sum()
            }
            Some(Action::Copy(copy)) => copy.files.iter().map(|file| file.content.len()).sum(),
            Some(Action::WorkDir(_)) | None => 0,
        };
        self.text.len() + 6 * self.created_by.as_ref().map_or(0, String::len) + action
    }
}

impl BuildPlan {
    /// The stage that becomes the image.
    pub fn target_stage(&self) -> Option<&StagePlan> {
        self.stage(self.target)
    }

    /// The stages whose layers the image has: the target, and what it starts from.
    pub fn target_and_beneath(&self) -> impl Iterator<Item = StageId> {
        let base = |stage: &StagePlan| match stage.base {
            StageBase::Stage(base) => self.stage(base),
            StageBase::Scratch | StageBase::Image(_) => None,
        };
        std::iter::successors(self.target_stage(), move |stage| base(stage)).map(|stage| stage.id)
    }

    fn stage(&self, id: StageId) -> Option<&StagePlan> {
        self.stages.iter().find(|stage| stage.id == id)
    }
}
