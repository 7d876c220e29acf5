//! What is left of a plan when layers of earlier builds take the place of steps.

use std::collections::{BTreeMap, BTreeSet};

use crate::actions::{Action, CopyFrom, StageId};
use crate::plan::{BuildPlan, DropReason, DroppedStage, Reuse, ReusedLayer, StageBase, StagePlan};

/// For stages of a plan, how far they need not be performed.
pub type CacheHits = BTreeMap<StageId, StageHit>;

/// The first steps of a stage, with the layers that they left in one earlier build.
#[derive(Debug, Clone, PartialEq)]
pub struct StageHit {
    /// How many steps, counted from the first one.
    pub steps: usize,
    /// What takes their place: for each of them that leaves a layer one, in order, or as many `None` in the front as have
    /// their files in the layer of a later one.
    pub layers: Vec<Option<ReusedLayer>>,
}

impl StagePlan {
    /// Which of its steps leave a layer, if each does so for itself.
    pub fn layer_steps(&self) -> impl Iterator<Item = usize> {
        let steps = self.steps.iter().enumerate();
        steps.filter(|(_, step)| !step.empty_layer).map(|(index, _)| index)
    }
}

impl BuildPlan {
    /// The plan with layers in the place of steps, without the stages that then nobody needs.
    ///
    /// A hit whose layers do not fit its steps is passed over.
    #[must_use]
    pub fn prune(&self, hits: &CacheHits) -> Self {
        let mut plan = self.clone();
        for stage in &mut plan.stages {
            if let Some(hit) = hits.get(&stage.id) {
                reuse(stage, hit);
            }
        }
        let needs = Needs::of(&plan);
        let (kept, gone): (Vec<_>, Vec<_>) =
            plan.stages.into_iter().partition(|stage| needs.stages.contains(&stage.id));
        plan.stages = kept;
        for stage in &mut plan.stages {
            stage.recorded = stage.id == plan.target || needs.started_from.contains(&stage.id);
            stage.files_read_later = needs.read.contains(&stage.id);
        }
        plan.dropped.extend(gone.into_iter().map(|stage| DroppedStage {
            id: stage.id,
            name: stage.name,
            reason: DropReason::Reused,
        }));
        plan.dropped.sort_by_key(|stage| stage.id);
        plan
    }
}

fn reuse(stage: &mut StagePlan, hit: &StageHit) {
    let with_layers: Vec<usize> =
        stage.layer_steps().take_while(|index| *index < hit.steps).collect();
    if with_layers.len() != hit.layers.len() || hit.steps > stage.steps.len() {
        return;
    }
    for (index, layer) in std::iter::zip(with_layers, &hit.layers) {
        stage.steps[index].reuse = Some(match layer {
            Some(layer) => Reuse::Layer(Box::new(layer.clone())),
            None => Reuse::Nothing,
        });
    }
    for step in &mut stage.steps[..hit.steps] {
        step.action = None;
    }
}

/// Which stages the target needs, and what of them.
#[derive(Default)]
struct Needs {
    stages: BTreeSet<StageId>,
    started_from: BTreeSet<StageId>,
    read: BTreeSet<StageId>,
}

impl Needs {
    fn of(plan: &BuildPlan) -> Self {
        let mut needs = Self::default();
        needs.stages.insert(plan.target);
        needs.stages.extend(&plan.also);
        // Each stage comes after what it uses.
        for stage in plan.stages.iter().rev() {
            if !needs.stages.contains(&stage.id) {
                continue;
            }
            if let StageBase::Stage(base) = stage.base {
                needs.stages.insert(base);
                needs.started_from.insert(base);
            }
            let actions = stage.steps.iter().filter_map(|step| step.action.as_ref());
            for from in actions.flat_map(Action::reads) {
                if let CopyFrom::Stage(read) = from {
                    needs.stages.insert(*read);
                    needs.read.insert(*read);
                }
            }
        }
        needs
    }
}
