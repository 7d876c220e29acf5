//! The images that a build starts from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ebiko_oci::{Event, Image, Layer, PortError, ResolvedImage};
use ebiko_plan::{
    BaseImage, BaseReference, Bases, BuildPlan, ImageStore, StageBase, StageGraph, StagePlan,
};

use crate::blobs::{interruptible, kept};
use crate::failure::BuildError;
use crate::request::{BaseLayers, BuildRequest, Ports};

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

    /// What the plan is made from.
    pub(crate) fn planned(&self) -> &Bases {
        &self.planned
    }

    /// Chooses which blobs are kept in `directory` when they are read for the first time: all if they are read
    /// again when the build is over, otherwise those of images that more than one stage unpacks.
    #[must_use]
    pub(crate) fn kept(self, plan: &BuildPlan, policy: BaseLayers, directory: &Path) -> Self {
        let keep = |(base, image): (BaseReference, Image)| {
            let is_base = |stage: &&StagePlan| stage.base == StageBase::Image(base.clone());
            let is_kept =
                policy == BaseLayers::Keep || plan.stages.iter().filter(is_base).count() > 1;
            let image =
                if is_kept { image.with_blobs(|layer| kept(layer, directory)) } else { image };
            (base, image)
        };
        Self { planned: self.planned, images: self.images.into_iter().map(keep).collect() }
    }

    /// The image behind a name.
    pub(crate) fn image(&self, base: &BaseReference) -> Result<&Image, BuildError> {
        self.images.get(base).ok_or_else(|| BuildError::NotResolved { image: base.to_string() })
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
