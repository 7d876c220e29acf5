//! The images that a build starts from.

use std::collections::BTreeMap;
use std::path::Path;

use ebiko_oci::{Event, Image};
use ebiko_plan::{BaseImage, BaseReference, Bases, BuildPlan, StageBase, StageGraph, StagePlan};

use crate::blobs::kept;
use crate::failure::BuildError;
use crate::request::{BaseLayers, Ports};

/// Every image that the plan needs, found once for each name and platform.
#[derive(Debug, Default)]
pub(crate) struct ResolvedBases {
    planned: Bases,
    images: BTreeMap<BaseReference, Image>,
}

impl ResolvedBases {
    /// Asks for images until nothing is missing: a base's triggers may name more of them.
    pub(crate) fn resolve(graph: &StageGraph, ports: &Ports<'_>) -> Result<Self, BuildError> {
        let mut bases = Self::default();
        loop {
            let missing = graph.missing_references(&bases.planned)?;
            if missing.is_empty() {
                return Ok(bases);
            }
            for base in missing {
                let resolved =
                    ports.images.resolve(&base.reference, &base.platform).map_err(|source| {
                        BuildError::Resolve { image: base.reference.to_string(), source }
                    })?;
                ports
                    .observer
                    .event(Event::Resolved { reference: &base.reference, digest: resolved.digest });
                let config = resolved.image.config().clone();
                let digest = resolved.image.digest();
                bases.planned.insert(base.clone(), BaseImage { config, digest });
                bases.images.insert(base, resolved.image);
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
