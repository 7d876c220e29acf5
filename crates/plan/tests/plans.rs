//! Every directory in `testdata/plan` holds a `Dockerfile` and the `plan.txt` that becomes of it.
//!
//! `options`, if there, has one flag per line as the program takes it, or a habit of kaniko. `bases.json` maps the names
//! of images to their configs. `EBIKO_BLESS=1` rewrites each `plan.txt`; read the diff before you
//! commit it.

#![expect(clippy::unwrap_used, reason = "a case that cannot be read is a mistake in the case")]

use dockerfile_parser::{Diagnostics, Dockerfile};
use ebiko_oci::{Digest, ImageConfig, Platform};
use ebiko_plan::{
    BaseImage, Bases, BuildOptions, BuildPlan, Entitlement, EpochSource, Habit, StageGraph,
};
use testkit::Case;

/// What the time of everything is that has one.
const ANSWERED_TIME: i64 = 1_700_000_000;

const HABITS: [Habit; 5] = [
    Habit::CopiesForUser,
    Habit::ParentsForRoot,
    Habit::ParentsWithoutChmod,
    Habit::RunWithoutGroup,
    Habit::HereDocumentsAsWritten,
];

#[test]
fn dockerfiles_lower_to_their_recorded_plan() {
    for case in testkit::cases("testdata/plan") {
        case.assert_golden("plan.txt", &plan_text(&case));
    }
}

#[test]
fn planning_twice_gives_the_same_plan() {
    for case in testkit::cases("testdata/plan") {
        assert_eq!(plan_text(&case), plan_text(&case), "{}", case.name());
    }
}

/// The printed plan, or what is wrong; before it, the images that were asked for in each round.
fn plan_text(case: &Case) -> String {
    let images = images(case);
    let mut asked = Vec::new();
    let result = match plan(case, &images, &mut asked) {
        Ok(plan) => plan.to_string(),
        Err(diagnostics) => format!("{diagnostics}\n"),
    };
    asked.concat() + &result
}

fn plan(
    case: &Case,
    images: &serde_json::Map<String, serde_json::Value>,
    asked: &mut Vec<String>,
) -> Result<BuildPlan, Diagnostics> {
    let dockerfile = Dockerfile::parse("Dockerfile", &case.bytes("Dockerfile"))?;
    let graph = StageGraph::select(&dockerfile, &options(case))?;
    let mut bases = Bases::new();
    loop {
        let missing = graph.missing_references(&bases)?;
        if missing.is_empty() {
            asked.extend(
                graph
                    .named_contexts(&bases)?
                    .iter()
                    .map(|name| format!("needs   context {name}\n")),
            );
            let epoch = match graph.epoch() {
                Some(EpochSource::Seconds(seconds)) => Some(*seconds),
                Some(source) => {
                    asked.push(format!("needs   the time of {source:?}\n"));
                    Some(ANSWERED_TIME)
                }
                None => None,
            };
            return BuildPlan::lower(&graph, &bases, epoch);
        }
        for wanted in missing {
            asked.push(format!("needs   {wanted}\n"));
            let name = wanted.reference.familiar();
            let config = images.get(&name).unwrap_or_else(|| {
                panic!("bases.json of `{}` has no `{name}`", case.name());
            });
            let bytes = config.to_string().into_bytes();
            let config = ImageConfig::parse(&bytes).unwrap();
            bases.insert(wanted, BaseImage { config, digest: Digest::of(&bytes) });
        }
    }
}

fn images(case: &Case) -> serde_json::Map<String, serde_json::Value> {
    let text = case.text_if_present("bases.json").unwrap_or_else(|| "{}".into());
    serde_json::from_str(&text).unwrap()
}

fn options(case: &Case) -> BuildOptions {
    let mut options = BuildOptions::new(Platform::linux("amd64"));
    for line in case.text_if_present("options").unwrap_or_default().lines() {
        let (flag, value) = line.split_once(' ').unwrap();
        let pair = || value.split_once('=').unwrap();
        match flag {
            "--target" if options.target.is_some() => options.also.push(value.into()),
            "--target" => options.target = Some(value.into()),
            "--platform" => options.platform = value.parse().unwrap(),
            "--build-context" => {
                options.contexts.insert(pair().0.into(), pair().1.into());
            }
            "--allow" => {
                let known = [Entitlement::NetworkHost, Entitlement::SecurityInsecure];
                let wanted = known.into_iter().find(|known| known.to_string() == value);
                options.allow.insert(wanted.unwrap());
            }
            "habit" => {
                let wanted = HABITS.into_iter().find(|known| format!("{known:?}") == value);
                options.habits.insert(wanted.unwrap());
            }
            "--label" => options.labels.push((pair().0.into(), pair().1.into())),
            "--build-arg" => {
                let value = value.split_once('=').map_or((value, None), |(n, v)| (n, Some(v)));
                options.build_args.push((value.0.into(), value.1.map(Into::into)));
            }
            other => panic!("`{other}` in the options of `{}`", case.name()),
        }
    }
    options
}
