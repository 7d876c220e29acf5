//! Finds out which steps need not be performed.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ebiko_oci::{Digest, Image, Layer, LayerCache};
use ebiko_plan::{
    Action, BuildPlan, CacheHits, CacheKeys, CopyFrom, ReusedLayer, StageBase, StageHit, StageId,
    StagePlan,
};

use super::entry::{self, Unusable};
use super::{in_one_line, is_cached, leaves_layer};
use crate::request::{CachePolicy, Layering};

/// So many keys are asked for at the same time.
const PARALLEL: usize = 8;

/// A look at the cache for every stage that the target needs.
pub(super) struct Search<'a> {
    pub(super) plan: &'a BuildPlan,
    pub(super) keys: &'a CacheKeys,
    pub(super) policy: &'a CachePolicy,
    pub(super) store: &'a dyn LayerCache,
    pub(super) layering: Layering,
}

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) hits: CacheHits,
    /// The layers of the hits.
    pub(super) layers: HashMap<Digest, Layer>,
    /// For each stage that is not wholly in the cache, the first step that has to be performed.
    pub(super) misses: Vec<Miss>,
}

/// A step that would have been looked for and has to be performed.
pub(super) struct Miss {
    pub(super) stage: StageId,
    pub(super) step: usize,
    /// Why what is there for it cannot be used; `None` if nothing is there.
    pub(super) reason: Option<Unusable>,
}

/// The layers of one stage alone.
type OwnLayers = Vec<Layer>;

impl Search<'_> {
    /// From the target back to what it needs: what a stage that is in the cache would need is not even looked for.
    pub(super) fn run(&self) -> Found {
        let mut found = Found::default();
        let mut needed = self.plan.also.clone();
        needed.insert(self.plan.target);
        // Stages whose layers came with those of a stage that starts from them.
        let mut settled: BTreeMap<StageId, OwnLayers> = BTreeMap::new();
        for stage in self.plan.stages.iter().rev() {
            if !needed.contains(&stage.id) {
                continue;
            }
            let performed = match settled.get(&stage.id) {
                Some(own) => {
                    found.take(stage, stage.steps.len(), own, self.layering);
                    stage.steps.len()
                }
                None => self.stage(stage, &mut settled, &mut found),
            };
            if let StageBase::Stage(base) = stage.base {
                needed.insert(base);
            }
            let actions = stage.steps[performed..].iter().filter_map(|step| step.action.as_ref());
            needed.extend(actions.flat_map(Action::reads).filter_map(|from| match from {
                CopyFrom::Stage(read) => Some(*read),
                _ => None,
            }));
        }
        found
    }

    /// Looks for the longest beginning of one stage. The answer is how many of its steps need not be performed.
    fn stage(
        &self,
        stage: &StagePlan,
        settled: &mut BTreeMap<StageId, OwnLayers>,
        found: &mut Found,
    ) -> usize {
        let is_wanted = |index: &usize| {
            let action = stage.steps.get(*index).and_then(|step| step.action.as_ref());
            action.is_some_and(|action| is_cached(action, self.policy))
                && leaves_layer(stage, *index, self.layering)
                && self.keys.step(stage.id, *index).is_some()
        };
        let wanted: Vec<usize> = (0..stage.steps.len()).rev().filter(is_wanted).collect();
        // Mostly everything is there or little is: one question answers the first, and the others go together.
        let (last, others) = wanted.split_at(wanted.len().min(1));
        let mut reasons: BTreeMap<usize, Option<Unusable>> = BTreeMap::new();
        for group in [last, others] {
            for (&index, answer) in std::iter::zip(group, self.ask(stage, group)) {
                let usable = answer.and_then(|chain| match chain {
                    Some(chain) => self.settle(stage, chain, settled).map(Some),
                    None => Ok(None),
                });
                match usable {
                    Ok(Some(own)) => {
                        found.take(stage, index + 1, &own, self.layering);
                        found.missed(stage, index + 1, &reasons);
                        return index + 1;
                    }
                    Ok(None) => drop(reasons.insert(index, None)),
                    Err(reason) => drop(reasons.insert(index, Some(reason))),
                }
            }
        }
        found.missed(stage, 0, &reasons);
        0
    }

    /// What is in the cache for each of some steps.
    fn ask(&self, stage: &StagePlan, steps: &[usize]) -> Vec<Result<Option<Vec<Layer>>, Unusable>> {
        let next = AtomicUsize::new(0);
        let answers: Mutex<BTreeMap<usize, _>> = Mutex::new(BTreeMap::new());
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(&step) = steps.get(index) else { return };
                let answer = self.look_up(stage, step);
                answers.lock().unwrap_or_else(PoisonError::into_inner).insert(index, answer);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..PARALLEL.min(steps.len()) {
                scope.spawn(work);
            }
            work();
        });
        answers.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
    }

    fn look_up(&self, stage: &StagePlan, step: usize) -> Result<Option<Vec<Layer>>, Unusable> {
        let Some(key) = self.keys.step(stage.id, step) else { return Ok(None) };
        let found: Option<Image> = self
            .store
            .find(&key.key)
            .map_err(|error| Unusable::Unreadable { reason: in_one_line(&*error) })?;
        let Some(found) = found else { return Ok(None) };
        let expected = self.layers_beneath(stage) + self.own_layers(stage, step + 1);
        entry::layers(&found, &key.key, expected, self.policy.now, self.policy.ttl).map(Some)
    }

    /// How many layers the first `steps` of a stage leave.
    fn own_layers(&self, stage: &StagePlan, steps: usize) -> usize {
        (0..steps).filter(|index| leaves_layer(stage, *index, self.layering)).count()
    }

    /// How many layers the stages leave that a stage starts from.
    fn layers_beneath(&self, stage: &StagePlan) -> usize {
        self.beneath(stage).map(|base| self.own_layers(base, base.steps.len())).sum()
    }

    /// The stages that a stage starts from, the nearest one first.
    fn beneath(&self, stage: &StagePlan) -> impl Iterator<Item = &StagePlan> {
        let base = |stage: &StagePlan| match stage.base {
            StageBase::Stage(base) => self.plan.stages.iter().find(|other| other.id == base),
            StageBase::Scratch | StageBase::Image(_) => None,
        };
        std::iter::successors(base(stage), move |stage| base(stage))
    }

    /// Gives the stages beneath their part of `chain`, unless one of them has other layers already. The answer is the
    /// part of `stage` itself.
    fn settle(
        &self,
        stage: &StagePlan,
        mut chain: Vec<Layer>,
        settled: &mut BTreeMap<StageId, OwnLayers>,
    ) -> Result<OwnLayers, Unusable> {
        let mut parts = Vec::new();
        let mut rest = self.layers_beneath(stage);
        let own = chain.split_off(rest);
        for base in self.beneath(stage) {
            rest -= self.own_layers(base, base.steps.len());
            parts.push((base.id, chain.split_off(rest)));
        }
        let is_other = |(id, part): &(StageId, OwnLayers)| {
            settled.get(id).is_some_and(|known| {
                !known.iter().map(|layer| layer.diff_id).eq(part.iter().map(|layer| layer.diff_id))
            })
        };
        if parts.iter().any(is_other) {
            return Err(Unusable::OtherBase);
        }
        settled.extend(parts);
        Ok(own)
    }
}

impl Found {
    /// Takes `own` in the place of the first `steps` of `stage`.
    fn take(&mut self, stage: &StagePlan, steps: usize, own: &[Layer], layering: Layering) {
        let mut own = own.iter();
        let with_layers = stage.layer_steps().take_while(|index| *index < steps);
        let layers = with_layers.map(|index| {
            let layer = if leaves_layer(stage, index, layering) { own.next() } else { None }?;
            let Layer { descriptor, diff_id, .. } = layer.clone();
            self.layers.insert(descriptor.digest, layer.clone());
            Some(ReusedLayer { descriptor, diff_id })
        });
        let layers = layers.collect();
        self.hits.insert(stage.id, StageHit { steps, layers });
    }

    /// Notes the first step from `performed` on that was looked for.
    fn missed(
        &mut self,
        stage: &StagePlan,
        performed: usize,
        reasons: &BTreeMap<usize, Option<Unusable>>,
    ) {
        if let Some((&step, reason)) = reasons.range(performed..).next() {
            self.misses.push(Miss { stage: stage.id, step, reason: reason.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use dockerfile_parser::Dockerfile;
    use ebiko_oci::{
        BytesBlob, Descriptor, DiffId, ImageConfig, ImageFormat, LayerCompression, Platform,
        PortError, Timestamp,
    };
    use ebiko_plan::{BaseImage, Bases, BuildOptions, KeyInputs, StageGraph};

    use super::*;

    /// Stage, step or number of steps, and what there is to say.
    type Shown = Vec<(usize, usize, String)>;

    /// A cache in memory that notes what it is asked for.
    #[derive(Default)]
    struct Memory {
        entries: BTreeMap<Digest, Image>,
        asked: Mutex<Vec<Digest>>,
    }

    impl LayerCache for Memory {
        fn find(&self, key: &Digest) -> Result<Option<Image>, PortError> {
            self.asked.lock().unwrap().push(*key);
            Ok(self.entries.get(key).cloned())
        }

        fn keep(&self, _: &Digest, _: &Image) -> Result<(), PortError> {
            Err("not while it is searched".into())
        }
    }

    fn layer(name: &str) -> Layer {
        let media_type = ImageFormat::Docker.layer(LayerCompression::Gzip);
        let descriptor = Descriptor::new(media_type, Digest::of(name.as_bytes()), 1);
        let blob = Arc::new(BytesBlob::new(name.as_bytes()));
        Layer { descriptor, diff_id: DiffId::of(name.as_bytes()), blob }
    }

    struct Setup {
        plan: BuildPlan,
        keys: CacheKeys,
        policy: CachePolicy,
        memory: Memory,
    }

    impl Setup {
        fn new(dockerfile: &str) -> Self {
            let parsed = Dockerfile::parse("Dockerfile", dockerfile.as_bytes()).unwrap();
            let options = BuildOptions::new(Platform::linux("amd64"));
            let graph = StageGraph::select(&parsed, &options).unwrap();
            let config = ImageConfig::scratch(Platform::linux("amd64"));
            let base = BaseImage { config, digest: Digest::of(b"") };
            let missing = graph.missing_references(&Bases::new()).unwrap();
            let bases = missing.into_iter().map(|name| (name, base.clone())).collect();
            let plan = BuildPlan::lower(&graph, &bases, None).unwrap();
            let keys = plan.keys(&bases, &KeyInputs::default());
            let policy = CachePolicy {
                runs: true,
                copies: true,
                keeps: true,
                ttl: Duration::from_secs(100),
                now: Timestamp::from_seconds(1_000_000).unwrap(),
                name: String::new(),
            };
            Self { plan, keys, policy, memory: Memory::default() }
        }

        fn key(&self, stage: usize, step: usize) -> Digest {
            self.keys.step(StageId(stage), step).unwrap().key
        }

        /// Keeps layers for a step, as somebody did so many seconds ago.
        fn keep(&mut self, stage: usize, step: usize, layers: &[&str], seconds_ago: i64) {
            let key = self.key(stage, step);
            let layers: Vec<_> =
                layers.iter().map(|name| (layer(name), (*name).to_owned())).collect();
            let created = Timestamp::from_seconds(1_000_000 - seconds_ago).unwrap();
            let platform = Platform::linux("amd64");
            self.memory.entries.insert(key, entry::entry(&key, &platform, &layers, created));
        }

        /// For each stage with a hit, how many steps and which layers; then what is missing and why.
        fn run(&self) -> (Shown, Shown) {
            let search = Search {
                plan: &self.plan,
                keys: &self.keys,
                policy: &self.policy,
                store: &self.memory,
                layering: Layering::PerStep,
            };
            let found = search.run();
            let names = ["a", "b", "c", "d", "old a", "old b"];
            let name_of = |digest: Digest| {
                let known = names.iter().find(|name| Digest::of(name.as_bytes()) == digest);
                (*known.unwrap()).to_owned()
            };
            let hits = found.hits.iter().map(|(stage, hit)| {
                let layers = hit.layers.iter().flatten();
                let layers = layers.map(|layer| name_of(layer.descriptor.digest));
                (stage.0, hit.steps, layers.collect::<Vec<_>>().join(","))
            });
            let misses = found.misses.iter().map(|miss| {
                let reason = miss.reason.as_ref().map(ToString::to_string).unwrap_or_default();
                (miss.stage.0, miss.step, reason)
            });
            (hits.collect(), misses.collect())
        }

        fn asked(&self) -> usize {
            self.memory.asked.lock().unwrap().len()
        }
    }

    fn text(items: &[(usize, usize, &str)]) -> Shown {
        items.iter().map(|(stage, step, text)| (*stage, *step, (*text).to_owned())).collect()
    }

    const STEPS: &str = "FROM base\nRUN a\nRUN b\nENV x=y\nRUN c\n";

    #[test]
    fn what_is_wholly_there_costs_one_question() {
        let mut setup = Setup::new(STEPS);
        setup.keep(0, 3, &["a", "b", "c"], 1);
        assert_eq!(setup.run(), (text(&[(0, 4, "a,b,c")]), vec![]));
        assert_eq!(setup.asked(), 1);
    }

    #[test]
    fn the_longest_beginning_counts_and_its_layers_are_of_one_build() {
        let mut setup = Setup::new(STEPS);
        setup.keep(0, 0, &["old a"], 1);
        setup.keep(0, 1, &["a", "b"], 1);
        assert_eq!(setup.run(), (text(&[(0, 2, "a,b")]), text(&[(0, 3, "")])));
        let nothing = Setup::new(STEPS);
        assert_eq!(nothing.run(), (vec![], text(&[(0, 0, "")])));
        assert_eq!(nothing.asked(), 3);
    }

    #[test]
    fn an_entry_that_is_old_or_odd_is_passed_over_with_a_reason() {
        let mut setup = Setup::new(STEPS);
        setup.keep(0, 0, &["a"], 100);
        setup.keep(0, 1, &["a", "b"], 101);
        setup.keep(0, 3, &["a", "b"], 1);
        let reason =
            "its entry is from 1970-01-12T13:44:59Z, which is too long ago (`--cache-ttl`)";
        assert_eq!(setup.run(), (text(&[(0, 1, "a")]), text(&[(0, 1, reason)])));

        let mut setup = Setup::new(STEPS);
        setup.keep(0, 0, &["a", "b"], 1);
        let (from, to) = (setup.key(0, 0), setup.key(0, 1));
        let other = setup.memory.entries[&from].clone();
        setup.memory.entries.insert(to, other);
        let (hits, misses) = setup.run();
        assert_eq!(hits, vec![], "somebody gave an entry another name");
        assert_eq!(misses, text(&[(0, 0, "its entry has 2 layers where there must be 1")]));
        setup.memory.entries.remove(&from);
        let misses = setup.run().1;
        assert_eq!(misses, text(&[(0, 0, "")]));
    }

    const STAGES: &str =
        "FROM base AS a\nRUN a\nFROM a AS b\nRUN b\nFROM a\nRUN c\nCOPY --from=b /x /\n";

    #[test]
    fn the_layers_of_a_base_come_with_those_of_who_starts_from_it() {
        let mut setup = Setup::new(STAGES);
        setup.keep(2, 1, &["a", "c", "d"], 1);
        assert_eq!(setup.run(), (text(&[(0, 1, "a"), (2, 2, "c,d")]), vec![]));
        assert_eq!(setup.asked(), 1, "who copies is there, and nobody asks for what it copied");
    }

    #[test]
    fn two_runs_of_one_base_are_not_mixed() {
        let mut setup = Setup::new(STAGES);
        setup.keep(2, 0, &["a", "c"], 1);
        setup.keep(1, 0, &["old a", "b"], 1);
        let reason = "it was built on another run of the stage that it starts from";
        let expected = (text(&[(0, 1, "a"), (2, 1, "c")]), text(&[(2, 1, ""), (1, 0, reason)]));
        assert_eq!(setup.run(), expected);
        setup.keep(1, 0, &["a", "b"], 1);
        assert_eq!(setup.run().0, text(&[(0, 1, "a"), (1, 1, "b"), (2, 1, "c")]));
    }

    #[test]
    fn what_is_not_wanted_is_not_asked_for() {
        let mut setup = Setup::new(STAGES);
        setup.policy.copies = false;
        setup.keep(2, 1, &["a", "c", "d"], 1);
        setup.keep(2, 0, &["a", "c"], 1);
        assert_eq!(setup.run(), (text(&[(0, 1, "a"), (2, 1, "c")]), text(&[(1, 0, "")])));
        setup.policy.runs = false;
        assert_eq!(setup.run(), (vec![], vec![]));
    }
}
