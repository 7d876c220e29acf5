//! Whatever a Dockerfile holds, planning ends with a plan or with diagnostics.

use dockerfile_parser::Dockerfile;
use ebiko_oci::{Digest, ImageConfig, Platform};
use ebiko_plan::{
    Action, BaseImage, Bases, BuildOptions, BuildPlan, CopyFrom, StageBase, StageGraph, StageId,
};
use proptest::prelude::*;

/// Lines that can be part of a plan, in most places.
const GOOD: [&str; 48] = [
    "FROM scratch",
    "FROM scratch AS a",
    "FROM scratch AS b",
    "FROM a AS b",
    "FROM base",
    "FROM base AS a",
    "ARG X=a",
    "ARG X",
    "ARG Y=${X:-b} Z",
    "ENV X=$Y Y=$X",
    "ENV Z=$Z$Z$Z",
    "ENV P=${X%%?} Q=${Y/a/$Z}",
    "RUN echo $X",
    "RUN [\"x\"]",
    "RUN []",
    "COPY --from=a x y",
    "COPY --from=b x /y/.",
    "COPY --from=0 $X .",
    "COPY --from=busybox x ''",
    "COPY [\"a\", \"$Z\", \"/b/\"]",
    "ADD --chown=$X x y",
    "USER $X",
    "WORKDIR $Y/x",
    "WORKDIR /",
    "CMD x",
    "CMD []",
    "ENTRYPOINT [\"$X\"]",
    "SHELL [\"s\"]",
    "EXPOSE 80 1-3/udp",
    "HEALTHCHECK CMD x",
    "ONBUILD COPY --from=b x y",
    "ONBUILD ENV X=$Z",
    "FROM --platform=$BUILDPLATFORM base AS b",
    "FROM files AS a",
    "FROM replaced AS replaced",
    "MAINTAINER $X",
    "RUN --mount=from=a,target=/m$X --mount=type=cache,target=$Y/c,from=b x",
    "RUN --mount=type=secret,id=s$X,env=Y --mount=type=ssh --mount=from=files,target=x $Y",
    "RUN --network=none --device=a.b/c=d x",
    "RUN <<E\n#!$X\nE",
    "RUN <<-E cat <<F\n\t$X\n\tE\nF",
    "COPY <<E <<'F' x /y/\n$X\nE\n$X\nF",
    "COPY --from=files --chmod=u+x,g=o --parents --exclude=*.$X a/./$X /y/",
    "COPY --link --from=replaced /$X y",
    "ADD --unpack https://h/$X /y",
    "ADD --keep-git-dir --checksum= https://h/$Y.git?submodules=0#$X git@h:$X y",
    "ONBUILD RUN --mount=from=files,target=/x y",
    "ONBUILD COPY <<E /x\n$X\nE",
];

/// Lines that are errors, in most places.
const BAD: [&str; 18] = [
    "FROM $X AS c",
    "COPY --from=2 x ..",
    "RUN --mount=target=$X y",
    "RUN --mount=from=$X y",
    "RUN --network=host y",
    "RUN <<../E\n#!\n../E",
    "COPY <<a/b /x\na/b",
    "COPY --chmod=$X x y",
    "ADD https://h/a.git?$X y",
    "ADD --checksum=$X:$Y http://y z",
    "FROM --platform=$X scratch AS a",
    "E",
    "EXPOSE $X",
    "VOLUME $X /v",
    "STOPSIGNAL $X",
    "LABEL \"$X\"=\"$Y\" z='",
    "ENV X=${Y",
    "ONBUILD NONSENSE",
];

fn plan(text: &str, target: Option<&str>) -> Option<BuildPlan> {
    let dockerfile = Dockerfile::parse("Dockerfile", text.as_bytes()).ok()?;
    let options = BuildOptions {
        target: target.map(Into::into),
        build_args: vec![("X".into(), None), ("Z".into(), Some("9".into()))],
        contexts: [("files", "./dir"), ("replaced", "docker-image://base")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..BuildOptions::new(Platform::linux("amd64"))
    };
    let graph = StageGraph::select(&dockerfile, &options).ok()?;
    let mut config = ImageConfig::scratch(Platform::linux("amd64"));
    config.config.on_build = vec!["COPY --from=a x y".into(), "ARG Y".into(), "RUN $Y".into()];
    let mut bases = Bases::new();
    loop {
        let missing = graph.missing_references(&bases).ok()?;
        if missing.is_empty() {
            return BuildPlan::lower(&graph, &bases, None).ok();
        }
        for wanted in missing {
            let image = BaseImage { config: config.clone(), digest: Digest::of(b"") };
            assert!(bases.insert(wanted, image).is_none(), "what is known is not missing");
        }
    }
}

/// Every stage comes after what it uses, and the target is the last.
fn check_order(plan: &BuildPlan) {
    let mut before: Vec<StageId> = Vec::new();
    for stage in &plan.stages {
        if let StageBase::Stage(base) = stage.base {
            assert!(before.contains(&base), "{plan}");
        }
        for step in &stage.steps {
            for from in step.action.iter().flat_map(Action::reads) {
                if let CopyFrom::Stage(from) = from {
                    assert!(before.contains(from), "{plan}");
                }
            }
            assert!(step.empty_layer || step.action.is_some(), "{plan}");
        }
        before.push(stage.id);
    }
    assert_eq!(before.last(), Some(&plan.target), "{plan}");
}

proptest! {
    #[test]
    fn a_plan_is_in_order_and_always_the_same(
        lines in prop::collection::vec(
            prop_oneof![60 => prop::sample::select(&GOOD[..]), 1 => prop::sample::select(&BAD[..])],
            1..20,
        ),
        target in prop::option::of(prop::sample::select(&["a", "B", "d"][..])),
    ) {
        let text = format!("FROM scratch\n{}\n", lines.join("\n"));
        let first = plan(&text, target);
        if let Some(plan) = &first {
            check_order(plan);
        }
        prop_assert_eq!(first.map(|plan| plan.to_string()), plan(&text, target).map(|plan| plan.to_string()));
    }
}
