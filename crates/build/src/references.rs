//! Which images and repositories a Dockerfile names.

use std::collections::BTreeSet;
use std::path::PathBuf;

use dockerfile_parser::{Diagnostics, Dockerfile};
use ebiko_oci::{ImageSource, Platform, Reference};
use ebiko_plan::{
    BaseImage, BaseReference, Bases, BuildOptions, CopyFrom, CopySource, GitSource, ImageStore,
    StageGraph,
};

use crate::failure::BuildError;
use crate::request::{BuildRequest, Ports};

/// Every image that any stage of the Dockerfile starts from, copies from or mounts, each with the platform that it is wanted
/// for. Stages and `scratch` are none.
///
/// `images` is asked for them, because what a base does when it is built upon may name more; one that it does not find is in the
/// answer all the same.
///
/// # Errors
///
/// Fails where the Dockerfile has errors.
pub fn base_images(
    name: &str,
    text: &[u8],
    options: &BuildOptions,
    images: &dyn ImageSource,
) -> Result<Vec<(Reference, Platform)>, Diagnostics> {
    let dockerfile = Dockerfile::parse(name, text)?;
    let graph = StageGraph::select_every_stage(&dockerfile, options)?;
    let mut known = Bases::new();
    let mut named: BTreeSet<BaseReference> = BTreeSet::new();
    loop {
        let missing = graph.missing_references(&known)?;
        let missing: Vec<_> = missing.into_iter().filter(|base| !named.contains(base)).collect();
        if missing.is_empty() {
            break;
        }
        for base in missing {
            if base.store == ImageStore::Registry
                && let Ok(found) = images.resolve(&base.reference, &base.platform)
            {
                let config = found.image.config().clone();
                let digest = found.image.digest();
                known.insert(base.clone(), BaseImage { config, digest });
            }
            named.insert(base);
        }
    }
    let in_registries = named.into_iter().filter(|base| base.store == ImageStore::Registry);
    Ok(in_registries.map(|base| (base.reference, base.platform)).collect())
}

/// Every git repository that a build will read besides its context, each once, for a caller that can fetch some of them only
/// before the build.
///
/// `directory` is as in [`plan`](crate::plan).
pub fn repositories(
    request: &BuildRequest,
    ports: &Ports<'_>,
    directory: PathBuf,
) -> Result<BTreeSet<GitSource>, BuildError> {
    let plan = crate::plan(request, ports, directory)?;
    let mut found = BTreeSet::new();
    let steps = plan.stages.iter().flat_map(|stage| &stage.steps);
    for action in steps.filter_map(|step| step.action.as_ref()) {
        if let ebiko_plan::Action::Copy(copy) = action {
            found.extend(copy.sources.iter().filter_map(|source| match source {
                CopySource::Git(git) => Some(git.clone()),
                CopySource::Path(_) | CopySource::Download(_) => None,
            }));
        }
        for from in action.reads() {
            let CopyFrom::Named(name) = from else { continue };
            let value = request.options.contexts.get(name);
            // One that is written wrongly is for the step to complain about.
            found.extend(value.and_then(|value| GitSource::parse(value).ok().flatten()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use ebiko_oci::{ConfigEdit, ImageBuilder, ImageFormat, PortError, ResolvedImage, Timestamp};

    use super::*;

    /// Has one image, which copies from another one when it is built upon.
    struct Trigger;

    impl ImageSource for Trigger {
        fn resolve(
            &self,
            reference: &Reference,
            platform: &Platform,
        ) -> Result<ResolvedImage, PortError> {
            if reference.repository() != "library/trigger" {
                return Err("there is no such image".into());
            }
            let image = ImageBuilder::from_scratch(platform.clone(), ImageFormat::Oci)
                .edit(&ConfigEdit::OnBuild("COPY --from=late:1 /a /b".into()))
                .finish(Timestamp::from_seconds(0)?);
            Ok(ResolvedImage { digest: image.digest(), image })
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let mut options = BuildOptions::new(Platform::linux("amd64"));
        options.build_args = vec![("VERSION".into(), Some("7".into()))];
        let actual = match base_images("Dockerfile", text.as_bytes(), &options, &Trigger) {
            Ok(images) => {
                images.iter().map(|(name, on)| format!("{} {on}", name.familiar())).collect()
            }
            Err(diagnostics) => vec![diagnostics.to_string()],
        };
        assert_eq!(actual, expected);
    }

    #[test]
    fn every_place_that_names_an_image_counts_and_stages_and_scratch_do_not() {
        check(
            "ARG VERSION=1\n\
             FROM debian:$VERSION AS build\n\
             RUN --mount=from=tools:1,target=/t true\n\
             FROM scratch\n\
             COPY --from=build /a /a\n\
             COPY --from=busybox:1 /b /b\n\
             FROM build\n\
             FROM --platform=linux/arm64 debian:$VERSION\n",
            &[
                "busybox:1 linux/amd64",
                "debian:7 linux/amd64",
                "debian:7 linux/arm64",
                "tools:1 linux/amd64",
            ],
        );
        check("FROM scratch\n", &[]);
    }

    #[test]
    fn what_a_base_does_when_it_is_built_upon_may_name_images() {
        check("FROM trigger\n", &["late:1 linux/amd64", "trigger:latest linux/amd64"]);
    }
}
