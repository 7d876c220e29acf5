//! What a build is asked for besides the Dockerfile.

use std::collections::{BTreeMap, BTreeSet};

use ebiko_oci::Platform;

/// The part of a build request that decides the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOptions {
    /// `--build-arg`, in order; a name without a value counts as not given.
    pub build_args: Vec<(String, Option<String>)>,
    /// `--target`: the name of a stage, in any case. The last stage if `None` or empty.
    pub target: Option<String>,
    /// Further names of stages that are built as well, although nobody gets their images.
    pub also: Vec<String>,
    /// `--label`, in order: labels of the finished image that win over those of the Dockerfile.
    pub labels: Vec<(String, String)>,
    /// What the image is for.
    pub platform: Platform,
    /// What the build runs on.
    pub build_platform: Platform,
    /// `--build-context`: what a name stands for instead of a stage or an image. A value is
    /// `docker-image://name`, `oci-layout://directory[:tag][@digest]`, or else whatever files come from, which whoever
    /// builds must know. A name may end in `::platform`.
    pub contexts: BTreeMap<String, String>,
    /// `--allow`: what instructions may ask for that is refused otherwise.
    pub allow: BTreeSet<Entitlement>,
}

/// A right that a Dockerfile cannot give itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entitlement {
    /// `network.host`: `RUN --network=host`.
    NetworkHost,
    /// `security.insecure`: `RUN --security=insecure`.
    SecurityInsecure,
}

impl BuildOptions {
    /// A build of the last stage on and for `platform`, with no arguments.
    pub fn new(platform: Platform) -> Self {
        Self {
            build_args: Vec::new(),
            target: None,
            also: Vec::new(),
            labels: Vec::new(),
            build_platform: platform.clone(),
            platform,
            contexts: BTreeMap::new(),
            allow: BTreeSet::new(),
        }
    }
}

impl std::fmt::Display for Entitlement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NetworkHost => "network.host",
            Self::SecurityInsecure => "security.insecure",
        })
    }
}
