//! The images that a build starts from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use ebiko_oci::{Digest, Event, Image, ImageFormat, Layer, PortError, ResolvedImage};
use ebiko_plan::{
    Action, BaseImage, BaseReference, Bases, BuildPlan, CopyFrom, ImageStore, Reuse, StageBase,
    StageGraph, StagePlan,
};

use crate::blobs::{interruptible, kept};
use crate::failure::BuildError;
use crate::request::{BaseLayers, BuildRequest, Ports};
use crate::thin::{Need, continuation, need};

/// Every image that the plan needs, found once for each name and platform.
#[derive(Debug, Default)]
pub(crate) struct ResolvedBases {
    planned: Bases,
    images: BTreeMap<BaseReference, Image>,
}

impl ResolvedBases {
    /// Asks for images until nothing is missing: a base's triggers may name more of them.
    pub(crate) fn resolve(
        graph: &StageGraph,
        request: &BuildRequest,
        ports: &Ports<'_>,
    ) -> Result<Self, BuildError> {
        let mut bases = Self::default();
        loop {
            let missing = graph.missing_references(&bases.planned)?;
            if missing.is_empty() {
                return Ok(bases);
            }
            for base in missing {
                let resolved = look_up(&base, ports).map_err(|source| BuildError::Resolve {
                    image: base.reference.to_string(),
                    location: graph
                        .lines_naming(&base)
                        .map(|lines| request.location(*lines.start())),
                    lines: graph.lines_naming(&base),
                    source,
                })?;
                ports
                    .observer
                    .event(Event::Resolved { reference: &base.reference, digest: resolved.digest });
                let config = resolved.image.config().clone();
                let digest = resolved.image.digest();
                bases.planned.insert(base.clone(), BaseImage { config, digest });
                let stops = |layer: &Layer| interruptible(&layer.blob, ports.interrupt);
                bases.images.insert(base, resolved.image.with_blobs(stops));
            }
        }
    }

    /// The configs of those images that can be found; a name that leads nowhere is passed over.
    pub(crate) fn as_far_as_known(graph: &StageGraph, ports: &Ports<'_>) -> Bases {
        let mut known = Bases::new();
        let mut tried = BTreeSet::new();
        while let Ok(missing) = graph.missing_references(&known) {
            let missing: Vec<_> =
                missing.into_iter().filter(|base| !tried.contains(base)).collect();
            if missing.is_empty() {
                break;
            }
            for base in missing {
                if let Ok(found) = look_up(&base, ports) {
                    let config = found.image.config().clone();
                    let digest = found.image.digest();
                    known.insert(base.clone(), BaseImage { config, digest });
                }
                tried.insert(base);
            }
        }
        known
    }

    /// Fails if the image cannot have media types of this family, before anything is done for it.
    pub(crate) fn check_format(
        &self,
        plan: &BuildPlan,
        format: Option<ImageFormat>,
    ) -> Result<(), BuildError> {
        let target = plan.target_stage();
        let Some((format, base)) = format.zip(target.and_then(|stage| base_beneath(plan, stage)))
        else {
            return Ok(());
        };
        self.image(base)?.in_format(format)?;
        Ok(())
    }

    /// What the plan is made from.
    pub(crate) fn planned(&self) -> &Bases {
        &self.planned
    }

    /// Keeps the blobs in `directory` when they are read for the first time, if they are read again when the build is over.
    #[must_use]
    pub(crate) fn kept(self, policy: BaseLayers, directory: &Path) -> Self {
        if policy == BaseLayers::Stream {
            return self;
        }
        let keep = |(base, image): (BaseReference, Image)| {
            (base, image.with_blobs(|layer| kept(layer, directory)))
        };
        Self { planned: self.planned, images: self.images.into_iter().map(keep).collect() }
    }

    /// How often the build unpacks each layer.
    pub(crate) fn readers(
        &self,
        plan: &BuildPlan,
        request: &BuildRequest,
    ) -> HashMap<Digest, usize> {
        let mut readers = HashMap::new();
        for base in bases_read(plan, request) {
            for layer in self.images.get(base).iter().flat_map(|image| image.layers()) {
                *readers.entry(layer.descriptor.digest).or_default() += 1;
            }
        }
        for digest in reused_and_read(plan, request) {
            *readers.entry(digest).or_default() += 1;
        }
        readers
    }

    /// The image behind a name.
    pub(crate) fn image(&self, base: &BaseReference) -> Result<&Image, BuildError> {
        self.images.get(base).ok_or_else(|| BuildError::NotResolved { image: base.to_string() })
    }
}

/// The images whose layers the build reads, each as often as it does.
fn bases_read<'p>(plan: &'p BuildPlan, request: &BuildRequest) -> Vec<&'p BaseReference> {
    let mut read = Vec::new();
    let mut goes_on = None;
    for stage in &plan.stages {
        let is_read = need(plan, stage, request.base_files, request.layering) > Need::Nothing;
        if goes_on != Some(stage.id) && is_read {
            read.extend(base_beneath(plan, stage));
        }
        goes_on = continuation(plan, stage).map(|next| next.id);
    }
    let actions =
        plan.stages.iter().flat_map(|stage| &stage.steps).filter_map(|step| step.action.as_ref());
    let lenders: BTreeSet<&BaseReference> = actions
        .flat_map(Action::reads)
        .filter_map(|from| match from {
            CopyFrom::Image(image) => Some(image),
            _ => None,
        })
        .collect();
    read.extend(lenders);
    read
}

/// The layers in the place of steps that the build reads, each as often as it does.
fn reused_and_read(plan: &BuildPlan, request: &BuildRequest) -> Vec<Digest> {
    let mut read = Vec::new();
    let mut goes_on = None;
    for stage in &plan.stages {
        let is_carried = goes_on == Some(stage.id);
        if need(plan, stage, request.base_files, request.layering) > Need::Nothing {
            let mut next = Some(stage);
            while let Some(from) = next {
                read.extend(from.steps.iter().filter_map(|step| match &step.reuse {
                    Some(Reuse::Layer(layer)) => Some(layer.descriptor.digest),
                    Some(Reuse::Nothing) | None => None,
                }));
                // In a root that goes on, what is beneath is there.
                next = match from.base {
                    StageBase::Stage(base) if !is_carried => {
                        plan.stages.iter().find(|stage| stage.id == base)
                    }
                    _ => None,
                };
            }
        }
        goes_on = continuation(plan, stage).map(|next| next.id);
    }
    read
}

/// The image that a stage starts from, if need be through others.
fn base_beneath<'p>(plan: &'p BuildPlan, mut stage: &'p StagePlan) -> Option<&'p BaseReference> {
    loop {
        match &stage.base {
            StageBase::Scratch => return None,
            StageBase::Image(base) => return Some(base),
            StageBase::Stage(earlier) => {
                stage = plan.stages.iter().find(|stage| stage.id == *earlier)?;
            }
        }
    }
}

fn look_up(base: &BaseReference, ports: &Ports<'_>) -> Result<ResolvedImage, PortError> {
    let BaseReference { reference, platform, store } = base;
    match store {
        ImageStore::Registry => ports.images.resolve(reference, platform),
        ImageStore::Layout(directory) => {
            ports.sources.in_layout(Path::new(directory), reference, platform)
        }
    }
}
