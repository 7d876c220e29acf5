//! The layer cache: keys before anything runs, layers of earlier builds in the place of steps, new layers for later ones.

mod entry;
mod keeper;
mod search;
mod sources;
mod trail;
mod versions;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::thread::Scope;

use ebiko_context::Context;
use ebiko_exec::{SourceFiles, reads_sources, stamp_sources};
use ebiko_oci::{Digest, Event, Image, Layer, LayerCache};
use ebiko_plan::{Action, BuildPlan, CacheKeys, CopyFrom, StageBase, StageId, StagePlan};

use crate::bases::ResolvedBases;
use crate::blobs::{interruptible, kept};
use crate::failure::BuildError;
use crate::inputs::InputStore;
use crate::request::{BaseLayers, BuildRequest, CachePolicy, Layering, Ports};
use crate::roots::Roots;
use sources::Known;
use versions::Versions;

pub(crate) use keeper::Keeper;

/// What the cache has to do with one build.
pub(crate) struct Reuse<'a> {
    /// The plan with layers in the place of steps.
    pub(crate) plan: BuildPlan,
    /// Those layers, by the digests of their blobs.
    pub(crate) layers: HashMap<Digest, Layer>,
    /// What is needed to keep new layers, if they are kept.
    pub(crate) keeping: Option<Keeping<'a>>,
}

/// Decides which new layers are kept, and under which keys.
pub(crate) struct Keeping<'a> {
    store: &'a dyn LayerCache,
    policy: &'a CachePolicy,
    keys: CacheKeys,
    known: BTreeMap<(StageId, usize), Known>,
    /// What is left for the next build to tell by what has changed; not if nothing has.
    trail: Option<(Digest, Image)>,
    layering: Layering,
    /// Stages whose files are not what their keys say, because something was changed while the build ran.
    tainted: BTreeSet<StageId>,
}

impl<'a> Reuse<'a> {
    /// Looks for layers of earlier builds. Without a cache, the plan stays as it is.
    ///
    /// Nothing that goes wrong here ends the build: what cannot be found out is not in the cache.
    pub(crate) fn find(
        plan: BuildPlan,
        request: &'a BuildRequest,
        ports: &Ports<'a>,
        roots: &Roots<'_>,
        bases: &ResolvedBases,
        inputs: &mut InputStore<'_>,
    ) -> Self {
        let (Some(policy), Some(store)) = (&request.cache, ports.cache) else {
            return Self { plan, layers: HashMap::new(), keeping: None };
        };
        let versions = Versions { ports, store, policy };
        let known = sources::look(&plan, request, ports, &versions, inputs);
        let inputs = sources::key_inputs(&known, &plan, request);
        let keys = plan.keys(bases.planned(), &inputs);
        let search =
            search::Search { plan: &plan, keys: &keys, policy, store, layering: request.layering };
        let found = search.run();
        trail::explain(&plan, &keys, &found.misses, policy, store, ports.observer);
        let has_changed = !found.misses.is_empty();
        let trail = has_changed.then(|| trail::trail(&plan, &keys, policy)).flatten();
        let pruned = plan.prune(&found.hits);
        let layers = found.layers.into_iter().map(|(digest, layer)| {
            let blob = interruptible(&layer.blob, ports.interrupt);
            let layer = Layer { blob, ..layer };
            let blob = match request.base_layers {
                BaseLayers::Keep => kept(&layer, &roots.directory("blobs")),
                BaseLayers::Stream => Arc::clone(&layer.blob),
            };
            (digest, Layer { blob, ..layer })
        });
        let layers = layers.collect();
        let keeping = policy.keeps.then(|| Keeping {
            store,
            policy,
            keys,
            known,
            trail,
            layering: request.layering,
            tainted: BTreeSet::new(),
        });
        Self { plan: pruned, layers, keeping }
    }
}

/// Whether a step's layer is looked for and kept.
fn is_cached(action: &Action, policy: &CachePolicy) -> bool {
    match action {
        Action::Run(_) | Action::WorkDir(_) => policy.runs,
        Action::Copy(_) => policy.copies,
    }
}

/// Whether step `index` of `stage` leaves a layer: with one layer for the whole stage, only the last one does.
fn leaves_layer(stage: &StagePlan, index: usize, layering: Layering) -> bool {
    match layering {
        Layering::PerStep => stage.steps.get(index).is_some_and(|step| !step.empty_layer),
        Layering::PerStage => stage.layer_steps().last() == Some(index),
    }
}

impl<'a> Keeping<'a> {
    /// Starts to keep layers. It ends when the build does, which waits for it.
    pub(crate) fn start<'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        ports: &'scope Ports<'scope>,
    ) -> Result<Keeper<'a>, BuildError>
    where
        'a: 'scope,
    {
        Keeper::start(self, scope, ports)
    }

    /// The key under which the layers up to step `index` of `stage` are to be kept, if they are.
    pub(crate) fn key(&self, stage: &StagePlan, index: usize) -> Option<Digest> {
        let action = stage.steps.get(index)?.action.as_ref()?;
        let is_kept = is_cached(action, self.policy)
            && leaves_layer(stage, index, self.layering)
            && !self.tainted.contains(&stage.id);
        let key = self.keys.step(stage.id, index).filter(|_| is_kept)?;
        Some(key.key)
    }

    /// Looks once more at the files that a step has read. If they changed, or those of a stage that the step stands on or
    /// reads, no key says what its layer is, and that of no later step.
    pub(crate) fn check(
        &mut self,
        stage: &StagePlan,
        index: usize,
        context: &Context,
        inputs: &InputStore<'_>,
        ports: &Ports<'_>,
    ) {
        let Some(action) = stage.steps.get(index).and_then(|step| step.action.as_ref()) else {
            return;
        };
        let reads_tainted = action
            .reads()
            .any(|from| matches!(from, CopyFrom::Stage(read) if self.tainted.contains(read)));
        let stands_on_tainted =
            matches!(stage.base, StageBase::Stage(base) if self.tainted.contains(&base));
        if reads_tainted || stands_on_tainted {
            self.tainted.insert(stage.id);
            return;
        }
        if self.tainted.contains(&stage.id) || !reads_sources(action) {
            return;
        }
        let Some(known) = self.known.get(&(stage.id, index)) else { return };
        let files =
            SourceFiles { context, inputs: inputs.files(), threads: 1, interrupt: ports.interrupt };
        let stamps = stamp_sources(action, &files);
        let same_files = stamps.is_ok_and(|stamps| stamps == known.stamps);
        let same_commits = known
            .commits
            .iter()
            .all(|(source, commit)| inputs.commit(source).is_none_or(|now| now == commit));
        let same_downloads = known.downloads.iter().all(|(source, digest)| {
            inputs.downloaded(source).is_none_or(|now| now.digest == *digest)
        });
        if same_files && same_commits && same_downloads {
            return;
        }
        self.tainted.insert(stage.id);
        let text = format!(
            "what `{}` reads was changed while the build ran: its layer is not kept in the cache",
            stage.steps[index].text
        );
        ports.observer.event(Event::Warning { text: &text });
    }
}

/// An error with its causes.
fn in_one_line(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
