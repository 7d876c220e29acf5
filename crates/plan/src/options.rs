//! What a build is asked for besides the Dockerfile.

use ebiko_oci::Platform;

/// The part of a build request that decides the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOptions {
    /// `--build-arg`, in order; a name without a value counts as not given.
    pub build_args: Vec<(String, Option<String>)>,
    /// `--target`: the name of a stage, in any case. The last stage if `None` or empty.
    pub target: Option<String>,
    /// `--label`, in order: labels of the finished image that win over those of the Dockerfile.
    pub labels: Vec<(String, String)>,
    /// What the image is for.
    pub platform: Platform,
    /// What the build runs on.
    pub build_platform: Platform,
}

impl BuildOptions {
    /// A build of the last stage on and for `platform`, with no arguments.
    pub fn new(platform: Platform) -> Self {
        Self {
            build_args: Vec::new(),
            target: None,
            labels: Vec::new(),
            build_platform: platform.clone(),
            platform,
        }
    }
}
