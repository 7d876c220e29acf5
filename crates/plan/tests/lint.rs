//! Every directory in `testdata/lint` holds a `Dockerfile` and the `warnings.txt` that the checks print of it, every
//! one in `testdata/outline` the `outline.txt` that is printed of its target.
//!
//! `options`, if there, has one flag per line as the program takes it. `bases.json` maps the names of images to their
//! configs; others are not known. `ignored` has the paths that are excluded, or `*`, or exceptions with `!`.
//! `EBIKO_BLESS=1` rewrites the recorded texts; read the diff before you commit it.

#![expect(clippy::unwrap_used, reason = "a case that cannot be read is a mistake in the case")]

use std::sync::Arc;

use dockerfile_parser::Dockerfile;
use ebiko_oci::{Digest, ImageConfig, Platform};
use ebiko_plan::lint::{CheckReport, ExcludedPaths, Rule, check};
use ebiko_plan::{BaseImage, Bases, BuildOptions, BuildPlan, StageGraph, TargetList};
use proptest::prelude::*;
use serde_json::Value;
use testkit::Case;

#[test]
fn checks_say_what_is_recorded() {
    for case in testkit::cases("testdata/lint") {
        case.assert_golden("warnings.txt", &report(&case).to_string());
    }
}

#[test]
fn every_rule_has_a_case() {
    let broken: Vec<Rule> = testkit::cases("testdata/lint")
        .iter()
        .flat_map(|case| report(case).warnings)
        .map(|warning| warning.rule)
        .collect();
    for rule in Rule::ALL {
        assert!(broken.contains(&rule), "no case breaks {rule:?}");
    }
}

#[test]
fn the_documentation_has_every_rule() {
    let page = include_str!("../../../docs/reference/checks.md");
    for rule in Rule::ALL {
        assert!(page.contains(&format!("| `{}` |", rule.name())), "{rule:?}");
        assert_eq!(
            page.contains(&format!("| `{}` | experimental", rule.name())),
            rule.is_experimental()
        );
    }
}

/// A build whose target needs every stage has the warnings of a check.
#[test]
fn a_plan_has_the_warnings_of_a_check() {
    let case = named("testdata/lint", "triggers");
    let file = Dockerfile::parse("Dockerfile", &case.bytes("Dockerfile")).unwrap();
    let graph = StageGraph::select(&file, &options(&case)).unwrap();
    let plan = BuildPlan::lower(&graph, &bases(&case, &file), None).unwrap();
    assert_eq!(plan.warnings, report(&case).warnings);
    assert!(!plan.warnings.is_empty());
}

#[test]
fn a_plan_fails_where_warnings_are_errors() {
    let case = named("testdata/lint", "warnings-are-errors");
    let file = Dockerfile::parse("Dockerfile", &case.bytes("Dockerfile")).unwrap();
    let graph = StageGraph::select(&file, &options(&case)).unwrap();
    let errors = BuildPlan::lower(&graph, &Bases::new(), None).unwrap_err();
    assert_eq!(
        errors.items()[0].message,
        "lint violation found for rules: JSONArgsRecommended, StageNameCasing"
    );
}

#[test]
fn a_report_for_programs_has_the_same_in_it() {
    let report = report(&named("testdata/lint", "broken-value"));
    let json = report.json();
    assert_eq!(json["warnings"].as_array().map(Vec::len), Some(report.warnings.len()));
    assert_eq!(
        json["warnings"][0],
        serde_json::json!({
            "ruleName": "UndefinedVar",
            "description": "Variables should be defined before their use",
            "url": "https://docs.docker.com/go/dockerfile/rule/undefined-var/",
            "detail": "Usage of undefined variable '$one'",
            "location": { "ranges": [{ "start": { "line": 2 }, "end": { "line": 2 } }] },
        })
    );
    assert_eq!(json["sources"][0]["filename"], "Dockerfile");
    assert_eq!(json["buildError"]["location"]["ranges"][0]["start"]["line"], 4);
}

#[test]
fn outlines_are_what_is_recorded() {
    for case in testkit::cases("testdata/outline") {
        let file = Dockerfile::parse("Dockerfile", &case.bytes("Dockerfile")).unwrap();
        let graph = StageGraph::select(&file, &options(&case)).unwrap();
        let outline = graph.outline(&Bases::new()).unwrap();
        let targets = TargetList::of(&file);
        let text = format!(
            "{outline}{targets}\n{}\n{}\n",
            without_sources(outline.json()),
            without_sources(targets.json())
        );
        case.assert_golden("outline.txt", &text);
    }
}

fn without_sources(mut json: Value) -> Value {
    assert!(json.as_object_mut().unwrap().remove("sources").is_some(), "{json}");
    json
}

fn named(folder: &str, name: &str) -> Case {
    testkit::cases(folder).into_iter().find(|case| case.name() == name).unwrap()
}

fn report(case: &Case) -> CheckReport {
    let text = case.bytes("Dockerfile");
    let bases = match Dockerfile::parse("Dockerfile", &text) {
        Ok(file) => bases(case, &file),
        Err(_) => Bases::new(),
    };
    let excluded = case.text_if_present("ignored").map(|text| {
        Arc::new(Excluded(text.lines().map(ToOwned::to_owned).collect())) as Arc<dyn ExcludedPaths>
    });
    check("Dockerfile", &text, &options(case), &bases, excluded)
}

/// An ignore file whose patterns are plain paths.
#[derive(Debug)]
struct Excluded(Vec<String>);

impl ExcludedPaths for Excluded {
    fn has_exceptions(&self) -> bool {
        self.0.iter().any(|pattern| pattern.starts_with('!'))
    }

    fn excludes_everything(&self) -> bool {
        self.0.iter().any(|pattern| pattern == "*")
    }

    fn excludes(&self, path: &str) -> bool {
        let first = path.split('/').next().unwrap();
        self.excludes_everything() || self.0.iter().any(|pattern| pattern == first)
    }
}

fn bases(case: &Case, file: &Dockerfile) -> Bases {
    let mut bases = Bases::new();
    let Some(configs) = case.text_if_present("bases.json") else { return bases };
    let configs: Value = serde_json::from_str(&configs).unwrap();
    let graph = StageGraph::select_every_stage(file, &options(case)).unwrap();
    for wanted in graph.missing_references(&bases).unwrap() {
        let bytes = configs[wanted.reference.familiar()].to_string().into_bytes();
        let config = ImageConfig::parse(&bytes).unwrap();
        bases.insert(wanted, BaseImage { config, digest: Digest::of(&bytes) });
    }
    bases
}

fn options(case: &Case) -> BuildOptions {
    let mut options = BuildOptions::new(Platform::linux("amd64"));
    for line in case.text_if_present("options").unwrap_or_default().lines() {
        let (flag, value) = line.split_once(' ').unwrap();
        match flag {
            "--target" => options.target = Some(value.into()),
            "--build-arg" => {
                let (name, value) = value.split_once('=').unwrap();
                options.build_args.push((name.into(), Some(value.into())));
            }
            other => panic!("`{other}` in the options of `{}`", case.name()),
        }
    }
    options
}

const PIECES: [&str; 44] = [
    "FROM scratch",
    "FROM scratch AS a",
    "from a As B",
    "FROM --platform=$X a",
    "FROM $Y:$Z AS c",
    "ARG X=${Y:-1}",
    "ARG TOKEN Y=$X",
    "ENV A $A",
    "ENV A=$B$A C=${A%%?}",
    "LABEL $X=$Y",
    "COPY $X . <<E /x/\n$Z\nE\n",
    "COPY --from=a x y",
    "ADD http://x/$X /",
    "RUN --mount=type=secret,id=$X y",
    "RUN --mount=type=ssh,$X y",
    "WORKDIR $X",
    "CMD x",
    "ENTRYPOINT []",
    "HEALTHCHECK NONE",
    "SHELL [\"x\"]",
    "EXPOSE 80/TCP $X ::1",
    "USER \"$X",
    "ONBUILD COPY $X /",
    "MAINTAINER x",
    "# check=skip=all",
    "# check=error=true;experimental=all",
    "# check=$;",
    "# X is",
    "#",
    "\\\n\n",
    "\n",
    " ",
    "$",
    "${X",
    "}",
    "\"",
    "=",
    "é",
    "\0",
    "\u{feff}",
    "<<E",
    ":",
    "/",
    "STOPSIGNAL $X",
];

proptest! {
    #[test]
    fn any_text_can_be_checked(
        pieces in prop::collection::vec(
            (prop::sample::select(&PIECES[..]), prop::sample::select(&["\n", "\n", "\n", "", " "][..])),
            0..20,
        ),
        target in prop::option::of(prop::sample::select(&["a", "B", "d"][..])),
        bytes in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let text: String = pieces.iter().flat_map(|(piece, end)| [*piece, *end]).collect();
        let text = [text.as_bytes(), &bytes].concat();
        let mut options = BuildOptions::new(Platform::linux("amd64"));
        options.target = target.map(Into::into);
        let report = check("Dockerfile", &text, &options, &Bases::new(), None);
        let lines = u32::try_from(text.split(|&byte| byte == b'\n').count()).unwrap();
        for warning in &report.warnings {
            prop_assert!(*warning.lines.start() >= 1, "{report}");
            prop_assert!(*warning.lines.end() <= lines, "{report}");
            prop_assert!(report.to_string().contains(&warning.message));
        }
        prop_assert!(report.json()["warnings"].is_array());
        if let Ok(file) = Dockerfile::parse("Dockerfile", &text) {
            prop_assert_eq!(TargetList::of(&file).targets.len(), file.stages.len());
            if let Ok(graph) = StageGraph::select(&file, &options) {
                drop(graph.outline(&Bases::new()).map(|outline| outline.to_string()));
            }
        }
    }
}
