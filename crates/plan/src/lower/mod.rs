//! From stages to steps: every instruction becomes an edit of the config, an action, or both.

mod config;
mod copy;
mod mounts;
mod run;
mod stage;
mod work_dir;

use std::collections::{BTreeMap, BTreeSet};

use dockerfile_parser::{Diagnostic, Diagnostics, Instruction, InstructionKind};
use ebiko_oci::ConfigEdit;

use crate::actions::{Action, CopyAction, CopyFrom, CopySource, StageId, Unpack};
use crate::graph::{NamedSource, Node, StageGraph};
use crate::options::Habit;
use crate::plan::{
    BuildPlan, DropReason, DroppedStage, MAX_PLAN, StageBase, StagePlan, Step, TOO_LARGE,
};
use crate::platform;
use crate::reach::{Bases, Reach};
use stage::{Origin, StageState};

impl BuildPlan {
    /// Makes the plan of a build.
    ///
    /// `epoch` is what became of [`StageGraph::epoch`]: the time of the image in seconds since 1970, `None` if there is
    /// none. It is what `ARG SOURCE_DATE_EPOCH` gives.
    ///
    /// # Errors
    ///
    /// Finds the first error of every stage. `bases` must hold all of
    /// [`missing_references`](StageGraph::missing_references); one that is not there is an error
    /// at the line that needs it.
    pub fn lower(
        graph: &StageGraph,
        bases: &Bases,
        epoch: Option<i64>,
    ) -> Result<Self, Diagnostics> {
        let mut plan = Self::lower_unchecked(graph, bases, epoch)?;
        let warnings = graph
            .reach(bases)
            .and_then(|reach| graph.warnings(bases, &reach).map_err(|violation| vec![violation]));
        plan.warnings = warnings.map_err(|items| Diagnostics::new(graph.source.clone(), items))?;
        Ok(plan)
    }

    /// The same without a look at the rules of [`lint`](crate::lint).
    pub(crate) fn lower_unchecked(
        graph: &StageGraph,
        bases: &Bases,
        epoch: Option<i64>,
    ) -> Result<Self, Diagnostics> {
        Lowering { graph, bases, epoch, built: BTreeMap::new(), size: 0, notes: Vec::new() }
            .plan()
            .map_err(|items| Diagnostics::new(graph.source.clone(), items))
    }
}

struct Lowering<'a> {
    graph: &'a StageGraph,
    bases: &'a Bases,
    epoch: Option<i64>,
    /// How the stages so far ended; what starts from one begins with its state.
    built: BTreeMap<StageId, StageState>,
    /// About how much memory all of it takes.
    size: usize,
    notes: Vec<String>,
}

impl Lowering<'_> {
    fn plan(mut self) -> Result<BuildPlan, Vec<Diagnostic>> {
        let graph = self.graph;
        let reach = graph.reach(self.bases)?;
        let started_from: BTreeSet<StageId> = reach
            .stages
            .keys()
            .filter_map(|&id| match graph.stage(id).base {
                NamedSource::Stage(base) => Some(base),
                _ => None,
            })
            .collect();
        let mut stages = Vec::new();
        let mut errors = Vec::new();
        for (&id, triggers) in &reach.stages {
            match self.stage(id, triggers) {
                Ok(Some(mut stage)) => {
                    let is_target = id == graph.target;
                    stage.recorded = is_target || started_from.contains(&id);
                    stage.files_read_later = reach.read.contains(&id);
                    if is_target && !graph.options.labels.is_empty() {
                        stage.final_edits.push(ConfigEdit::Labels(graph.options.labels.clone()));
                    }
                    stages.push(stage);
                }
                // An error of its base has been told.
                Ok(None) => {}
                Err(found) => errors.extend(found),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let dropped = (0..graph.nodes.len())
            .map(StageId)
            .filter(|id| !reach.stages.contains_key(id))
            .map(|id| DroppedStage {
                id,
                name: graph.stage(id).name.clone(),
                reason: DropReason::NotReached,
            })
            .collect();
        self.notes.extend(self.unused_arguments(&reach));
        Ok(BuildPlan {
            stages,
            target: graph.target,
            also: graph.also.clone(),
            epoch: self.epoch,
            dropped,
            warnings: Vec::new(),
            notes: self.notes,
        })
    }

    /// Lowers one stage; `None` if it starts from one that could not be lowered.
    fn stage(
        &mut self,
        id: StageId,
        triggers: &[Instruction],
    ) -> Result<Option<StagePlan>, Vec<Diagnostic>> {
        let node = self.graph.stage(id);
        let (base, mut state) = match &node.base {
            NamedSource::Scratch | NamedSource::Files(_) => {
                (StageBase::Scratch, StageState::scratch(node.platform.clone()))
            }
            NamedSource::Stage(base) => match self.built.get(base) {
                Some(state) => (StageBase::Stage(*base), StageState::child_of(state)),
                None => return Ok(None),
            },
            NamedSource::Image(image) => {
                let Some(known) = self.bases.get(image) else {
                    let message = format!("the base image {image} is not known");
                    return Err(vec![Diagnostic::error(node.from.kind.image.span, message)]);
                };
                let platform = &known.config.platform;
                if !platform.os.is_empty() && platform.distance(&image.platform).is_none() {
                    let warning = format!(
                        "the base image {} is for {}, not for {}",
                        image.reference,
                        platform::in_full(platform),
                        platform::in_full(&image.platform),
                    );
                    self.note(warning);
                }
                let state = StageState::inherited(&known.config);
                (StageBase::Image(image.clone()), state)
            }
        };
        let line = *node.from.lines.start();
        let of_base = Origin::Base { at: node.from.span, lines: node.from.lines.clone() };
        let instructions = || {
            let triggers = triggers.iter().map(|trigger| (trigger, &of_base));
            triggers.chain(node.instructions.iter().map(|own| (own, &Origin::Stage)))
        };
        let base_edits = state
            .base_edits()
            .map_err(|message| vec![Diagnostic::error(node.from.span, message)])?;
        let context = StageContext { graph: self.graph, id, epoch: self.epoch };
        let mut steps: Vec<Step> = files_of_base(node).into_iter().collect();
        for (instruction, origin) in instructions() {
            let step = context
                .step(&mut state, instruction, origin)
                .map_err(|error| vec![origin.place(error, instruction)])?;
            if let InstructionKind::Run(run) = &instruction.kind {
                run::notes(run).for_each(|note| self.note(note));
            }
            self.size += step.size();
            if self.size > MAX_PLAN {
                return Err(vec![Diagnostic::error(origin.span(instruction), TOO_LARGE)]);
            }
            steps.push(step);
        }
        self.size += state.size();
        if self.size > MAX_PLAN {
            return Err(vec![Diagnostic::error(node.from.keyword.span, TOO_LARGE)]);
        }
        self.built.insert(id, state);
        Ok(Some(StagePlan {
            id,
            name: node.name.clone(),
            base,
            base_text: node.base_text.clone(),
            line,
            platform: node.platform.clone(),
            base_edits,
            steps,
            final_edits: Vec::new(),
            recorded: false,
            files_read_later: false,
        }))
    }

    /// Says something once.
    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn unused_arguments(&self, reach: &Reach) -> Option<String> {
        let mut declared = self.graph.global_names.clone();
        for (&id, triggers) in &reach.stages {
            for instruction in triggers.iter().chain(&self.graph.stage(id).instructions) {
                if let InstructionKind::Arg(arg) = &instruction.kind {
                    declared.extend(arg.args.iter().map(|item| item.key.value.clone()));
                }
            }
        }
        let unused = self.graph.build_args.unused(&declared);
        (!unused.is_empty()).then(|| {
            format!("one or more build arguments were not consumed: {}", unused.join(", "))
        })
    }
}

/// The copy of all its files that a stage begins with which is based on a named context.
///
/// Like BuildKit's, it has a line of history that nobody wrote, because it makes a layer.
fn files_of_base(node: &Node) -> Option<Step> {
    let NamedSource::Files(name) = &node.base else { return None };
    let copy = CopyAction {
        from: CopyFrom::Named(name.clone()),
        sources: vec![CopySource::Path("/".to_owned())],
        files: Vec::new(),
        destination: "/".to_owned(),
        chown: None,
        user: String::new(),
        chmod: None,
        plain_parents: false,
        unpack: Unpack::Nothing,
        link: false,
        parents: false,
        exclude: Vec::new(),
    };
    let text = format!("[context {name}] load from client");
    Some(Step {
        lines: node.from.lines.clone(),
        span: node.from.span,
        is_trigger: false,
        text: text.clone(),
        created_by: Some(text),
        empty_layer: false,
        edit: None,
        action: Some(Action::Copy(copy)),
        reuse: None,
    })
}

/// The stage that is being lowered, for the questions an instruction may have.
struct StageContext<'a> {
    graph: &'a StageGraph,
    id: StageId,
    epoch: Option<i64>,
}

impl StageContext<'_> {
    /// Whether the build keeps a habit of kaniko.
    fn has(&self, habit: Habit) -> bool {
        self.graph.options.habits.contains(&habit)
    }
}
