//! The images that a build starts from.

use std::collections::BTreeMap;
use std::path::Path;

use ebiko_oci::{Event, Image, Layer};
use ebiko_plan::{BaseImage, BaseReference, Bases, BuildPlan, StageBase, StageGraph, StagePlan};

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
                let resolved =
                    ports.images.resolve(&base.reference, &base.platform).map_err(|source| {
                        BuildError::Resolve {
                            image: base.reference.to_string(),
                            location: graph.line_naming(&base).map(|line| request.location(line)),
                            source,
                        }
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
