//! The keys of the layer cache: what changes a layer changes its key, and nothing else does.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;

use dockerfile_parser::Dockerfile;
use ebiko_oci::{Descriptor, DiffId, Digest, ImageConfig, ImageFormat, LayerCompression, Platform};
use ebiko_plan::{
    Action, BaseImage, Bases, BuildOptions, BuildPlan, CacheHits, Habit, KeyInputs, Reuse,
    ReusedLayer, StageGraph, StageHit, StageId, copy_source, path_source,
};

/// What a key is made from besides the Dockerfile.
#[derive(Clone)]
struct World {
    options: BuildOptions,
    base: &'static [u8],
    /// Added to the content of every file.
    files: &'static str,
    layers: Vec<(String, String)>,
    commands: Vec<(String, String)>,
}

fn world() -> World {
    World {
        options: BuildOptions::new(Platform::linux("amd64")),
        base: b"base",
        files: "",
        layers: Vec::new(),
        commands: Vec::new(),
    }
}

fn plan(dockerfile: &str, world: &World) -> (BuildPlan, Bases) {
    let parsed = Dockerfile::parse("Dockerfile", dockerfile.as_bytes()).unwrap();
    let graph = StageGraph::select(&parsed, &world.options).unwrap();
    let config = ImageConfig::scratch(Platform::linux("amd64"));
    let base = BaseImage { config, digest: Digest::of(world.base) };
    let missing = graph.missing_references(&Bases::new()).unwrap();
    let bases: Bases = missing.into_iter().map(|name| (name, base.clone())).collect();
    (BuildPlan::lower(&graph, &bases, None).unwrap(), bases)
}

/// The keys of the last stage's steps that have one.
fn keys(dockerfile: &str, world: &World) -> Vec<Digest> {
    let (plan, bases) = plan(dockerfile, world);
    let mut files = BTreeMap::new();
    for stage in &plan.stages {
        for (index, step) in stage.steps.iter().enumerate() {
            let Some(action) = &step.action else { continue };
            let content = |name: &str| Digest::of(format!("{name}{}", world.files).as_bytes());
            let mut sources = BTreeMap::new();
            if let Action::Copy(copy) = action {
                for source in &copy.sources {
                    let name = copy_source(&copy.from, source);
                    sources.insert(name.clone(), content(&name));
                }
            }
            for from in action.reads() {
                for path in ["/", "/a", "/b"] {
                    let name = path_source(from, path);
                    sources.insert(name.clone(), content(&name));
                }
            }
            files.insert((stage.id, index), sources);
        }
    }
    let inputs =
        KeyInputs { files, layers: world.layers.clone(), commands: world.commands.clone() };
    let keys = plan.keys(&bases, &inputs);
    let stage = keys.stage(plan.target).unwrap();
    stage.steps.iter().flatten().map(|key| key.key).collect()
}

/// Each pair differs in one thing, which must change the last key.
#[test]
fn whatever_changes_a_layer_changes_its_key() {
    let pairs = [
        ("RUN x", "RUN y"),
        ("RUN x", "RUN [\"x\"]"),
        ("RUN [\"a\", \"b\"]", "RUN [\"ab\"]"),
        ("RUN [\"a b\"]", "RUN [\"a\", \"b\"]"),
        ("ENV A=1\nRUN x", "ENV A=2\nRUN x"),
        ("ENV A=x-B=z B=y\nRUN x", "ENV A=x B=z-B=y\nRUN x"),
        ("ENV AB=c\nRUN x", "ENV A=Bc\nRUN x"),
        ("ARG A=1\nRUN x", "ARG A=2\nRUN x"),
        ("ARG A\nRUN x", "ARG A=\nRUN x"),
        ("USER a\nRUN x", "USER b\nRUN x"),
        ("USER a\nRUN x", "USER a:b\nRUN x"),
        ("WORKDIR /a\nRUN x", "WORKDIR /b\nRUN x"),
        ("SHELL [\"/a\"]\nRUN x", "SHELL [\"/b\"]\nRUN x"),
        ("RUN --network=none x", "RUN x"),
        ("RUN --mount=type=cache,target=/c x", "RUN x"),
        ("RUN --mount=type=cache,target=/c x", "RUN --mount=type=cache,target=/d x"),
        ("RUN --mount=type=cache,id=a,target=/c x", "RUN --mount=type=cache,id=b,target=/c x"),
        ("RUN --mount=type=tmpfs,target=/c x", "RUN --mount=type=cache,target=/c x"),
        ("RUN --mount=target=/c,source=a x", "RUN --mount=target=/c,source=b x"),
        ("RUN --mount=target=/c x", "RUN --mount=target=/c,rw x"),
        ("RUN --mount=type=secret,id=a x", "RUN --mount=type=secret,id=b x"),
        ("RUN --mount=type=secret,id=a x", "RUN --mount=type=secret,id=a,mode=0444 x"),
        ("RUN <<E\na\nE", "RUN <<E\nb\nE"),
        ("RUN <<E\n#!/a\nE", "RUN <<E\n#!/b\nE"),
        ("COPY a /", "COPY b /"),
        ("COPY a /", "COPY a /x"),
        ("COPY a /x", "COPY a /x/"),
        ("COPY a b /", "COPY b a /"),
        ("COPY a /", "ADD a /"),
        ("COPY --chown=1 a /", "COPY --chown=2 a /"),
        ("COPY --chmod=644 a /", "COPY --chmod=755 a /"),
        ("COPY --link a /", "COPY a /"),
        ("COPY --parents a /", "COPY a /"),
        ("COPY --exclude=x a /", "COPY a /"),
        ("COPY --exclude=x --exclude=y a /", "COPY --exclude=y --exclude=x a /"),
        ("COPY <<E /\nx\nE", "COPY <<E /\ny\nE"),
        ("COPY <<E /\nx\nE", "COPY <<F /\nx\nF"),
        ("COPY --from=other /a /", "COPY a /"),
        ("COPY --from=scratch / /", "COPY --from=other / /"),
        ("ADD https://h/a /", "ADD https://h/b /"),
        ("ADD https://h/a.git#x /", "ADD https://h/a.git#y /"),
        (
            "ADD https://h/a.git#x https://h/a.git#y /d/",
            "ADD https://h/a.git#z https://h/a.git#y /d/",
        ),
        ("ADD https://h/a.git#x /", "ADD https://h/a.git#x:sub /"),
        ("ADD --unpack=false a /", "ADD a /"),
        ("WORKDIR /a", "WORKDIR /a/b"),
        ("USER a\nWORKDIR /a", "USER b\nWORKDIR /a"),
        ("RUN x\nRUN z", "RUN y\nRUN z"),
    ];
    for (one, other) in pairs {
        let last = |text: &str| *keys(&format!("FROM base\n{text}\n"), &world()).last().unwrap();
        assert_ne!(last(one), last(other), "{one:?} and {other:?}");
    }
}

/// What a habit of kaniko changes has another key with it, and nothing else has.
#[test]
fn a_habit_changes_the_keys_of_the_steps_that_it_changes() {
    use Habit::{
        CopiesForUser, HereDocumentsAsWritten, ParentsForRoot, ParentsWithoutChmod, RunWithoutGroup,
    };

    let changes = |habit: Habit, text: &str| {
        let options =
            BuildOptions { habits: [habit].into(), ..BuildOptions::new(Platform::linux("amd64")) };
        let dockerfile = format!("FROM base\n{text}\n");
        keys(&dockerfile, &world()) != keys(&dockerfile, &World { options, ..world() })
    };
    for (habit, changed, same) in [
        (CopiesForUser, "USER u\nCOPY a /", "COPY a /\nUSER u\nCOPY --from=other /a /"),
        (CopiesForUser, "USER u\nADD a /", "USER u\nCOPY --chown=1 a /\nWORKDIR /w\nRUN x"),
        (CopiesForUser, "USER u\nADD https://h/a /", "USER u\nCOPY --from=other /a /"),
        (CopiesForUser, "USER u\nCOPY <<E /\nx\nE", "USER u\nRUN <<E\nx\nE"),
        (ParentsForRoot, "WORKDIR /w", "USER u\nCOPY a /w/"),
        (ParentsWithoutChmod, "COPY --chmod=600 a /d/", "COPY a /d/"),
        (RunWithoutGroup, "USER u:g\nRUN x", "USER u\nRUN x\nUSER u:g\nWORKDIR /w"),
        (HereDocumentsAsWritten, "COPY <<E /\n$x\nE", "COPY <<'E' /\n$x\nE\nRUN <<E\n$x\nE"),
    ] {
        assert!(changes(habit, changed), "{habit:?} and {changed:?}");
        assert!(!changes(habit, same), "{habit:?} and {same:?}");
    }
}

#[test]
fn whatever_changes_no_layer_changes_no_key() {
    let equal = [
        ("RUN x", "# comment\nRUN   x"),
        ("RUN x", "LABEL a=b\nRUN x"),
        ("RUN x", "CMD y\nENTRYPOINT z\nEXPOSE 1\nVOLUME /v\nSTOPSIGNAL 9\nRUN x"),
        ("RUN x", "HEALTHCHECK CMD y\nONBUILD RUN z\nRUN x"),
        ("ENV A=1 B=2\nRUN x", "ENV B=2\nENV A=1\nRUN x"),
        ("ARG A=1\nRUN x", "ENV A=1\nRUN x"),
        ("ENV A=1\nCOPY a /", "ENV A=2\nCOPY a /"),
        ("COPY a /", "USER x\nCOPY a /"),
        ("ENV D=/x\nCOPY a $D", "COPY a /x"),
    ];
    for (one, other) in equal {
        let all = |text: &str| keys(&format!("FROM base\n{text}\n"), &world());
        assert_eq!(all(one), all(other), "{one:?} and {other:?}");
    }
}

#[test]
fn what_is_around_a_build_is_in_its_keys_where_it_matters() {
    let dockerfile = "FROM base\nCOPY a /\nRUN x\n";
    let usual = keys(dockerfile, &world());
    let differs = |world: &World| {
        let other = keys(dockerfile, world);
        usual.iter().zip(other).map(|(one, other)| *one != other).collect::<Vec<_>>()
    };
    assert_eq!(differs(&world()), [false, false]);
    assert_eq!(differs(&World { base: b"other", ..world() }), [true, true]);
    assert_eq!(differs(&World { files: "changed", ..world() }), [true, true]);
    let pair = || vec![("compression".to_owned(), "zstd".to_owned())];
    assert_eq!(differs(&World { layers: pair(), ..world() }), [true, true]);
    assert_eq!(differs(&World { commands: pair(), ..world() }), [false, true]);
    let with = |options: BuildOptions| World { options, ..world() };
    let options = || BuildOptions::new(Platform::linux("amd64"));
    let other = BuildOptions::new(Platform::linux("arm64"));
    assert_eq!(differs(&with(other)), [true, true]);
    let labels = vec![("a".to_owned(), "b".to_owned())];
    assert_eq!(differs(&with(BuildOptions { labels, ..options() })), [false, false]);
    let argument = |name: &str| vec![(name.to_owned(), Some("v".to_owned()))];
    let proxy = BuildOptions { build_args: argument("HTTP_PROXY"), ..options() };
    assert_eq!(differs(&with(proxy.clone())), [false, false], "a proxy is the way, not the goal");
    let declared = "FROM base\nARG HTTP_PROXY\nRUN x\n";
    assert_ne!(keys(declared, &world()), keys(declared, &with(proxy)), "unless it is asked for");
}

/// The same path of two contexts, and two versions of one repository.
#[test]
fn no_source_of_a_step_takes_the_place_of_another() {
    let contexts = || [("one".to_owned(), "/1".to_owned()), ("two".to_owned(), "/2".to_owned())];
    let options =
        BuildOptions { contexts: contexts().into(), ..BuildOptions::new(Platform::linux("amd64")) };
    let names = |instruction: &str| {
        let dockerfile = format!("FROM base\n{instruction}\n");
        let (plan, _) = plan(&dockerfile, &World { options: options.clone(), ..world() });
        let Some(action) = plan.stages[0].steps[0].action.clone() else { panic!("it has one") };
        let mut names: Vec<String> = match &action {
            Action::Copy(copy) => {
                copy.sources.iter().map(|source| copy_source(&copy.from, source)).collect()
            }
            _ => action.reads().map(|from| path_source(from, "/a")).collect(),
        };
        names.sort();
        names.dedup();
        names.len()
    };
    let mounts = "--mount=target=/x,source=a --mount=from=one,target=/y,source=a";
    assert_eq!(names(&format!("RUN {mounts} --mount=from=two,target=/z,source=a x")), 3);
    assert_eq!(names("ADD https://h/a.git#x https://h/a.git#y https://h/a.git /d/"), 3);
    assert_eq!(names("COPY a b /d/"), 2);
}

#[test]
fn a_step_whose_source_is_missing_has_no_key_and_nothing_that_stands_on_it() {
    let (plan, bases) = plan("FROM base\nRUN x\nCOPY a /\nRUN y\n", &world());
    let keys = plan.keys(&bases, &KeyInputs::default());
    let has_key: Vec<bool> =
        keys.stage(StageId(0)).unwrap().steps.iter().map(Option::is_some).collect();
    assert_eq!(has_key, [true, false, false]);
    assert_eq!(keys.stage(StageId(0)).unwrap().end, None);
}

fn layer(name: &str) -> ReusedLayer {
    let media_type = ImageFormat::Oci.layer(LayerCompression::Gzip);
    let descriptor = Descriptor::new(media_type, Digest::of(name.as_bytes()), 1);
    ReusedLayer { descriptor, diff_id: DiffId::of(name.as_bytes()) }
}

const STAGES: &str = "FROM base AS a\nRUN a\nFROM base AS b\nENV x=y\nRUN b\nFROM b\nRUN c\nCOPY --from=a /x /\nCMD z\n";

#[test]
fn a_stage_that_nobody_needs_any_more_goes() {
    let (plan, _) = plan(STAGES, &world());
    let hits = CacheHits::from([
        (StageId(2), StageHit { steps: 2, layers: vec![Some(layer("c")), Some(layer("copy"))] }),
        (StageId(1), StageHit { steps: 2, layers: vec![Some(layer("b"))] }),
    ]);
    let pruned = plan.prune(&hits);
    let kept: Vec<usize> = pruned.stages.iter().map(|stage| stage.id.0).collect();
    assert_eq!(kept, [1, 2], "the base stage's config is needed, its files are not");
    assert!(pruned.stages.iter().flat_map(|stage| &stage.steps).all(|step| step.action.is_none()));
    let text = pruned.to_string();
    assert!(text.contains("dropped stage 0 \"a\": what would need it is in the cache"), "{text}");
    assert!(text.contains(&format!("reuse    {}", Digest::of(b"copy"))), "{text}");
}

#[test]
fn a_stage_whose_files_are_read_stays() {
    let (plan, _) = plan(STAGES, &world());
    let hits =
        CacheHits::from([(StageId(2), StageHit { steps: 1, layers: vec![Some(layer("c"))] })]);
    let pruned = plan.prune(&hits);
    let facts: Vec<_> = pruned
        .stages
        .iter()
        .map(|stage| (stage.id.0, stage.recorded, stage.files_read_later))
        .collect();
    assert_eq!(facts, [(0, false, true), (1, true, false), (2, true, false)]);
    assert_eq!(plan.prune(&CacheHits::new()), plan);
}

#[test]
fn one_layer_may_stand_for_several_steps() {
    let (plan, _) = plan("FROM base\nRUN a\nENV x=y\nRUN b\nCMD z\n", &world());
    let hit = StageHit { steps: 3, layers: vec![None, Some(layer("both"))] };
    let pruned = plan.prune(&CacheHits::from([(StageId(0), hit)]));
    let reused: Vec<_> = pruned.stages[0].steps.iter().map(|step| step.reuse.clone()).collect();
    let layer = Reuse::Layer(Box::new(layer("both")));
    assert_eq!(reused, [Some(Reuse::Nothing), None, Some(layer), None]);
    assert!(pruned.to_string().contains("reuse    a layer of a later step"), "{pruned}");
}

#[test]
fn a_hit_that_does_not_fit_is_passed_over() {
    let (plan, _) = plan(STAGES, &world());
    for hit in [
        StageHit { steps: 1, layers: Vec::new() },
        StageHit { steps: 1, layers: vec![Some(layer("c")), Some(layer("d"))] },
        StageHit { steps: 9, layers: vec![Some(layer("c")), Some(layer("copy"))] },
    ] {
        let hits = CacheHits::from([(StageId(2), hit)]);
        assert_eq!(plan.prune(&hits), plan);
    }
}
