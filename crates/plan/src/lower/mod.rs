//! From stages to steps: every instruction becomes an edit of the config, an action, or both.

mod config;
mod files;
mod stage;

use std::collections::{BTreeMap, BTreeSet};

use dockerfile_parser::{Diagnostic, Diagnostics, Instruction, InstructionKind};
use ebiko_oci::ConfigEdit;

use crate::actions::StageId;
use crate::graph::{NodeBase, StageGraph};
use crate::plan::{BuildPlan, DropReason, DroppedStage, MAX_PLAN, StageBase, StagePlan, TOO_LARGE};
use crate::reach::{Bases, Reach};
use crate::unsupported;
use stage::{Origin, StageState};

impl BuildPlan {
    /// Makes the plan of a build.
    ///
    /// # Errors
    ///
    /// Finds the first error of every stage. `bases` must hold all of
    /// [`missing_references`](StageGraph::missing_references); one that is not there is an error
    /// at the line that needs it.
    pub fn lower(graph: &StageGraph, bases: &Bases) -> Result<Self, Diagnostics> {
        Lowering { graph, bases, built: BTreeMap::new(), size: 0, notes: Vec::new() }
            .plan()
            .map_err(|items| Diagnostics::new(graph.source.clone(), items))
    }
}

struct Lowering<'a> {
    graph: &'a StageGraph,
    bases: &'a Bases,
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
                NodeBase::Stage(base) => Some(base),
                NodeBase::Scratch | NodeBase::Image(_) => None,
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
        if graph.has_check {
            self.notes.push("`# check=` has no effect yet".to_owned());
        }
        self.notes.extend(self.unused_arguments(&reach));
        Ok(BuildPlan { stages, target: graph.target, dropped, notes: self.notes })
    }

    /// Lowers one stage; `None` if it starts from one that could not be lowered.
    fn stage(
        &mut self,
        id: StageId,
        triggers: &[Instruction],
    ) -> Result<Option<StagePlan>, Vec<Diagnostic>> {
        let node = self.graph.stage(id);
        let (base, mut state) = match &node.base {
            NodeBase::Scratch => {
                (StageBase::Scratch, StageState::scratch(self.graph.options.platform.clone()))
            }
            NodeBase::Stage(base) => match self.built.get(base) {
                Some(state) => (StageBase::Stage(*base), StageState::child_of(state)),
                None => return Ok(None),
            },
            NodeBase::Image(reference) => {
                let image = self.graph.image(reference);
                let Some(known) = self.bases.get(&image) else {
                    let message = format!("the base image {image} is not known");
                    return Err(vec![Diagnostic::error(node.from.kind.image.span, message)]);
                };
                let platform = &known.config.platform;
                if !platform.os.is_empty() && platform.distance(&image.platform).is_none() {
                    let warning = format!(
                        "the base image {} is for {platform}, not for {}",
                        image.reference, image.platform
                    );
                    if !self.notes.contains(&warning) {
                        self.notes.push(warning);
                    }
                }
                let state = StageState::inherited(&known.config);
                (StageBase::Image(image), state)
            }
        };
        let line = *node.from.lines.start();
        let of_base = Origin::Base { at: node.from.span, line };
        let instructions = || {
            let triggers = triggers.iter().map(|trigger| (trigger, of_base));
            triggers.chain(node.instructions.iter().map(|own| (own, Origin::Stage)))
        };
        let mut refused = unsupported::in_from(node);
        for (instruction, origin) in instructions() {
            let found = unsupported::in_instruction(instruction);
            refused.extend(found.into_iter().map(|found| origin.place(found, instruction)));
        }
        if !refused.is_empty() {
            return Err(refused);
        }
        let base_edits = state.base_edits();
        let context = StageContext { graph: self.graph, id };
        let mut steps = Vec::new();
        for (instruction, origin) in instructions() {
            let step = context
                .step(&mut state, instruction, origin)
                .map_err(|error| vec![origin.place(error, instruction)])?;
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
            platform: self.graph.options.platform.clone(),
            base_edits,
            steps,
            final_edits: Vec::new(),
            recorded: false,
            files_read_later: false,
        }))
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

/// The stage that is being lowered, for the questions an instruction may have.
struct StageContext<'a> {
    graph: &'a StageGraph,
    id: StageId,
}
