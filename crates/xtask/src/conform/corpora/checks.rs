//! Corpora about what can be said of a file without building it: checks, outlines, targets.

use std::sync::Arc;

use dockerfile_parser::Dockerfile;
use ebiko_context::IgnoreFile;
use ebiko_oci::{Digest, ImageConfig};
use ebiko_plan::lint::{ExcludedPaths, check};
use ebiko_plan::{BaseImage, Bases, BuildOptions, OutlineMount, StageGraph, TargetList};
use serde_json::{Map, Value, json};

use super::{text, without_guess};
use crate::conform::report::Outcome;

/// The ignore file of a case.
#[derive(Debug)]
struct Excluded {
    file: IgnoreFile,
    everything: bool,
}

impl ExcludedPaths for Excluded {
    fn has_exceptions(&self) -> bool {
        self.file.patterns().has_exceptions()
    }

    fn excludes_everything(&self) -> bool {
        self.everything
    }

    fn excludes(&self, path: &str) -> bool {
        self.file.patterns().excludes(path.as_bytes()).unwrap_or(false)
    }
}

/// The options that raw attributes of BuildKit's frontend stand for.
fn options(attributes: &Value) -> Result<BuildOptions, String> {
    let platform = "linux/amd64".parse().map_err(|error| format!("{error}"))?;
    let mut options = BuildOptions::new(platform);
    for (name, value) in attributes.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default().to_owned();
        match name.split_once(':').unwrap_or((name, "")) {
            ("build-arg", name) => options.build_args.push((name.to_owned(), Some(value))),
            ("target", "") => options.target = Some(value),
            _ => return Err(format!("no option is known for the attribute `{name}`")),
        }
    }
    Ok(options)
}

pub(super) fn lint(case: &Value) -> Outcome {
    let options = match options(&case["frontend_attrs"]) {
        Ok(options) => options,
        Err(error) => return Outcome::fail(error),
    };
    let excluded = match case["dockerignore"]
        .as_str()
        .map(|text| (text, IgnoreFile::parse(text.as_bytes())))
    {
        None => None,
        Some((_, Err(error))) => return Outcome::fail(format!("its ignore file fails: {error}")),
        Some((text, Ok(file))) => {
            let everything = text.lines().any(|line| matches!(line.trim(), "*" | "**" | "**/*"));
            Some(Arc::new(Excluded { file, everything }) as Arc<dyn ExcludedPaths>)
        }
    };
    let bytes = text(case, "dockerfile").as_bytes();
    let report = check("Dockerfile", bytes, &options, &bases(bytes, &options), excluded);
    let actual = report.warnings.iter().map(|warning| {
        let line = *warning.lines.start();
        json!({
            "rule": warning.rule.name(),
            "message": warning.message,
            "description": warning.rule.description(),
            "url": warning.rule.url(),
            "line": if line == 0 { Value::Null } else { line.into() },
        })
    });
    let wanted = case.get("check_request_warnings").unwrap_or(&case["warnings"]);
    let outcome = Outcome::compare(&json!(sorted(wanted)), &json!(sorted(&actual.collect())));
    if outcome != Outcome::Pass {
        return outcome;
    }
    let error = report.build_error.as_ref().map(|error| without_guess(&error.message));
    match (case["check_error"].as_str(), error) {
        (Some(expected), Some(error)) => {
            // We say more of what is wrong with a name than BuildKit does.
            if error.starts_with(without_guess(expected)) {
                Outcome::Pass
            } else {
                Outcome::fail(format!("expected the error {expected:?}, got {error:?}"))
            }
        }
        (Some(expected), None) => Outcome::fail(format!("it must fail: {expected}")),
        // What is recorded of the build alone need not be found by a check.
        (None, Some(error))
            if case["build_error"].is_null() && case["build_error_regex"].is_null() =>
        {
            Outcome::fail(format!("it fails: {error}"))
        }
        (None, _) => Outcome::Pass,
    }
}

/// Small images in place of all that the file names: they have a `PATH`.
fn bases(text: &[u8], options: &BuildOptions) -> Bases {
    const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},
        "config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["sh"]}}"#;
    let mut bases = Bases::new();
    let graph = Dockerfile::parse("Dockerfile", text)
        .and_then(|file| StageGraph::select_every_stage(&file, options));
    // A file that cannot be read that far is judged without.
    let Ok(graph) = graph else { return bases };
    let (Ok(missing), Ok(config)) = (graph.missing_references(&bases), ImageConfig::parse(CONFIG))
    else {
        return bases;
    };
    for reference in missing {
        bases.insert(reference, BaseImage { config: config.clone(), digest: Digest::of(CONFIG) });
    }
    bases
}

/// The warnings in one order, with all fields.
fn sorted(warnings: &Value) -> Vec<Value> {
    let mut warnings: Vec<Value> = warnings
        .as_array()
        .into_iter()
        .flatten()
        .map(|warning| {
            let field = |name: &str| (name.to_owned(), warning[name].clone());
            Map::from_iter(["rule", "message", "description", "url", "line"].map(field)).into()
        })
        .collect();
    warnings.sort_by_key(Value::to_string);
    warnings
}

pub(super) fn request(case: &Value) -> Outcome {
    let options = match options(&case["opts"]) {
        Ok(options) => options,
        Err(error) => return Outcome::fail(error),
    };
    let file = match Dockerfile::parse("Dockerfile", text(case, "dockerfile").as_bytes()) {
        Ok(file) => file,
        Err(errors) => return Outcome::fail(errors.to_string()),
    };
    let actual = match text(case, "request") {
        "frontend.targets" => targets(&file),
        "frontend.outline" => {
            let outline =
                StageGraph::select(&file, &options).and_then(|graph| graph.outline(&Bases::new()));
            match outline {
                Err(errors) => return Outcome::fail(errors.to_string()),
                Ok(outline) => json!({
                    "name": outline.name,
                    "description": outline.description,
                    "args": outline.args.iter().map(|arg| json!({
                        "name": arg.name, "value": arg.value, "description": arg.description,
                        "location": lines(*arg.lines.start()),
                    })).collect::<Value>(),
                    "secrets": mounts(&outline.secrets),
                    "ssh": mounts(&outline.ssh),
                }),
            }
        }
        other => return Outcome::fail(format!("there is no request `{other}`")),
    };
    Outcome::compare(&without_empty(&case["expect"]), &without_empty(&actual))
}

fn targets(file: &Dockerfile) -> Value {
    let targets = TargetList::of(file).targets;
    let target = |target: &ebiko_plan::Target| {
        json!({
            "name": target.name, "description": target.description, "base": target.base,
            "platform": target.platform, "default": target.is_default,
            "location": lines(*target.lines.start()),
        })
    };
    json!({ "targets": targets.iter().map(target).collect::<Value>() })
}

fn mounts(mounts: &[OutlineMount]) -> Value {
    let mount = |mount: &OutlineMount| json!({ "name": mount.id, "required": mount.required, "location": lines(*mount.lines.start()) });
    mounts.iter().map(mount).collect()
}

fn lines(first: u32) -> Value {
    json!({ "lines": [first] })
}

/// Without fields that say nothing: BuildKit's encoder leaves them out.
fn without_empty(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), without_empty(value)))
            .filter(|(_, value)| {
                !matches!(value, Value::Null | Value::Bool(false))
                    && *value != json!("")
                    && *value != json!([])
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(without_empty).collect(),
        other => other.clone(),
    }
}
