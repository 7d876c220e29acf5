//! Why a step is not in the cache: what its key was made from the last time.
//!
//! A key does not say what it was made from. So each build that performs a step leaves a trail: for every step the
//! ingredients of its key, each as a short sum that says whether it is another one now, and not what it was.

use std::collections::BTreeMap;

use ebiko_oci::{
    ConfigEdit, Digest, Event, Image, ImageBuilder, ImageFormat, LayerCache, Observer, Platform,
    Sha256Hasher,
};
use ebiko_plan::{BuildPlan, CacheKeys, StageBase, StagePlan, StepKey};
use serde::{Deserialize, Serialize};

use super::search::Miss;
use crate::request::CachePolicy;

/// The label that a trail is in.
const LABEL: &str = "io.ebiko.cache.trail";

/// So much of a sum tells two values apart, where nobody tries to mislead.
const SHORT: usize = 12;

/// So large a trail is still stored: registries limit the config of an image.
const LIMIT: usize = 1 << 20;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Trail {
    /// By the name of the stage, or its number.
    stages: BTreeMap<String, StageTrail>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct StageTrail {
    base: StepTrail,
    steps: Vec<Option<StepTrail>>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct StepTrail {
    key: String,
    ingredients: BTreeMap<String, String>,
}

/// Where the trail of builds of this name is kept.
fn place(policy: &CachePolicy) -> Digest {
    let mut hasher = Sha256Hasher::new();
    hasher.update(b"ebiko trail 1\0");
    hasher.update(policy.name.as_bytes());
    Digest::new(hasher.finish())
}

/// Tells why steps are not in the cache.
pub(super) fn explain(
    plan: &BuildPlan,
    keys: &CacheKeys,
    misses: &[Miss],
    policy: &CachePolicy,
    store: &dyn LayerCache,
    observer: &dyn Observer,
) {
    let is_silent = |miss: &Miss| miss.reason.is_none();
    // What cannot be read now is told for the step.
    let before = misses.iter().any(is_silent).then(|| store.find(&place(policy)).ok()).flatten();
    let before = before.flatten().and_then(|image| Trail::read(&image));
    let now = Trail::of(plan, keys);
    for miss in misses.iter().rev() {
        let stage = plan.stages.iter().find(|stage| stage.id == miss.stage);
        let Some((stage, step)) =
            stage.and_then(|stage| Some((stage, stage.steps.get(miss.step)?)))
        else {
            continue;
        };
        let reason = match &miss.reason {
            Some(reason) => reason.to_string(),
            None => now.difference(before.as_ref(), plan, stage, miss.step),
        };
        observer.event(Event::CacheMissed {
            line: *step.lines.start(),
            text: &step.text,
            reason: &reason,
        });
    }
}

/// What is to be kept for the next build of this name, and where; `None` if it would be too large.
pub(super) fn trail(
    plan: &BuildPlan,
    keys: &CacheKeys,
    policy: &CachePolicy,
) -> Option<(Digest, Image)> {
    let text = serde_json::to_string(&Trail::of(plan, keys)).ok()?;
    let label = ConfigEdit::Labels(vec![(LABEL.to_owned(), text)]);
    let platform =
        plan.target_stage().map_or_else(|| Platform::linux(""), |stage| stage.platform.clone());
    let image = ImageBuilder::from_scratch(platform, ImageFormat::Oci).edit(&label);
    let image = image.finish(policy.now);
    (image.config_bytes().len() <= LIMIT).then(|| (place(policy), image))
}

impl Trail {
    fn of(plan: &BuildPlan, keys: &CacheKeys) -> Self {
        let stages = plan.stages.iter().filter_map(|stage| {
            let keys = keys.stage(stage.id)?;
            let base = StepTrail::of(&keys.base);
            let steps = keys.steps.iter().map(|key| key.as_ref().map(StepTrail::of)).collect();
            Some((name(stage), StageTrail { base, steps }))
        });
        Self { stages: stages.collect() }
    }

    fn read(image: &Image) -> Option<Self> {
        let text = image.config().config.labels.as_ref()?.get(LABEL)?;
        serde_json::from_str(text).ok()
    }

    /// What is other for a step than it was in `before`.
    fn difference(
        &self,
        before: Option<&Self>,
        plan: &BuildPlan,
        stage: &StagePlan,
        step: usize,
    ) -> String {
        let name = name(stage);
        let (Some(now), Some(before)) =
            (self.stages.get(&name), before.and_then(|before| before.stages.get(&name)))
        else {
            return "nothing was kept for it yet".to_owned();
        };
        if let Some(change) = now.base.change(&before.base) {
            return change;
        }
        for (index, now) in now.steps.iter().enumerate().take(step + 1) {
            let (Some(now), before) = (now, before.steps.get(index).and_then(Option::as_ref))
            else {
                continue;
            };
            let change = match before {
                Some(before) => now.change(before),
                None => Some("the instruction changed".to_owned()),
            };
            match change {
                Some(change) if index == step => return change,
                Some(change) => {
                    let line = stage.steps.get(index).map_or(0, |step| *step.lines.start());
                    return format!("it stands on line {line}, of which {change}");
                }
                None => {}
            }
        }
        if now.base.key != before.base.key
            && let StageBase::Stage(base) = stage.base
            && let Some(base) = plan.stages.iter().find(|other| other.id == base)
        {
            return format!("the stage {} that it starts from changed", self::name(base));
        }
        "its entry is gone, or the build that made it did not keep it".to_owned()
    }
}

impl StepTrail {
    fn of(key: &StepKey) -> Self {
        let short = |digest: &Digest| digest.hex().chars().take(SHORT).collect::<String>();
        Self {
            key: short(&key.key),
            ingredients: key
                .ingredients
                .iter()
                .map(|(name, digest)| (name.clone(), short(digest)))
                .collect(),
        }
    }

    /// The first thing that is not what it was.
    fn change(&self, before: &Self) -> Option<String> {
        if self.ingredients == before.ingredients {
            return None;
        }
        // Which instruction it is says more than what is in it.
        let kind = "the instruction";
        if self.ingredients.get(kind) != before.ingredients.get(kind) {
            return Some(format!("{kind} changed"));
        }
        let changed =
            self.ingredients.iter().find_map(|(name, sum)| match before.ingredients.get(name) {
                Some(old) if old == sum => None,
                Some(_) => Some(format!("{name} changed")),
                None => Some(format!("{name} is new")),
            });
        changed.or_else(|| {
            let gone = before.ingredients.keys();
            let mut gone = gone.filter(|name| !self.ingredients.contains_key(*name));
            gone.next().map(|name| format!("{name} is gone"))
        })
    }
}

fn name(stage: &StagePlan) -> String {
    stage.name.clone().unwrap_or_else(|| stage.id.to_string())
}
