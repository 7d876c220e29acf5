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
    /// Where the build does what kaniko has always done, and not what BuildKit does.
    pub habits: BTreeSet<Habit>,
}

/// A right that a Dockerfile cannot give itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entitlement {
    /// `network.host`: `RUN --network=host`.
    NetworkHost,
    /// `security.insecure`: `RUN --security=insecure`.
    SecurityInsecure,
}

/// A habit of kaniko that images may rely on; each is what a switch of it leaves alone as long as it is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Habit {
    /// What COPY and ADD bring that no image has an owner for belongs to the user in force, as do the directories that
    /// are made for it. Archives are no part of it: they say whose their files are.
    CopiesForUser,
    /// Directories that are made on the way to a working directory belong to 0:0.
    ParentsForRoot,
    /// Directories that are made on the way to a copy have the mode 0755, whatever `--chmod` says.
    ParentsWithoutChmod,
    /// A RUN has the user of `USER user:group` and that user's own groups.
    RunWithoutGroup,
    /// Variables in a here-document of COPY and ADD stay as they are written.
    HereDocumentsAsWritten,
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
            habits: BTreeSet::new(),
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
