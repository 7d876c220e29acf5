//! The YAML of the pages for Harness and Drone.

use serde_json::{Value, json};
use testkit::yaml;

use super::Step;
use crate::deployment::blocks;

/// A value of YAML as it is in a variable.
fn variable(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(variable).collect::<Vec<_>>().join(","),
        // A secret of the system.
        Value::Object(fields) if fields.contains_key("from_secret") => "secret".to_owned(),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(key, value)| format!("{key}={}", variable(value)));
            pairs.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

/// The only block of a page, with the registry of the bench in the place of this one.
fn page(step: &Step, name: &str, registry: &str) -> Value {
    let text = blocks(name)[0].replace(registry, &step.bench.registry.host());
    yaml(&text).unwrap().remove(0)
}

#[test]
fn privileged_the_step_of_the_page_for_harness_runs() {
    let step = Step::new();
    step.bench.write("Dockerfile", "FROM busybox\nARG VERSION\nRUN echo $VERSION > /v\n");
    let page = page(&step, "harness.md", "ghcr.io");
    let spec = page.pointer("/0/step/spec").unwrap();
    let text = |field: &str| variable(&spec[field]).replace("<+pipeline.sequenceId>", "7");
    // As Harness makes variables of them.
    let registry = format!("http://{}", step.bench.registry.host());
    let (repository, tags, labels, arguments) =
        (text("repo"), text("tags"), text("labels"), text("buildArgs"));
    let (dockerfile, context, cache) =
        (text("dockerfile"), text("context"), text("remoteCacheRepo"));
    assert_eq!(spec["optimize"], json!(true));
    let output = step.run(
        "kaniko-docker",
        &[
            ("PLUGIN_REGISTRY", registry.as_str()),
            ("PLUGIN_USERNAME", "u"),
            ("PLUGIN_PASSWORD", "secret"),
            ("PLUGIN_REPO", &repository),
            ("PLUGIN_TAGS", &tags),
            ("PLUGIN_CUSTOM_LABELS", &labels),
            ("PLUGIN_BUILD_ARGS", &arguments),
            ("PLUGIN_DOCKERFILE", &dockerfile),
            ("PLUGIN_CONTEXT", &context),
            ("PLUGIN_SNAPSHOT_MODE", "redo"),
            ("PLUGIN_ENABLE_CACHE", "true"),
            ("PLUGIN_CACHE_REPO", &cache),
        ],
    );
    output.assert_success();
    assert_eq!(step.digest("team/app:7"), step.digest("team/app:latest"));
}

#[test]
fn privileged_the_step_of_the_page_for_drone_runs() {
    let step = Step::new();
    step.bench.write("Dockerfile", "FROM busybox\nRUN echo 1 > /v\n");
    let page = page(&step, "drone.md", "registry.example");
    let settings = page.pointer("/steps/0/settings").and_then(Value::as_object).unwrap();
    let variables: Vec<(String, String)> = settings
        .iter()
        .map(|(name, value)| (format!("PLUGIN_{}", name.to_uppercase()), variable(value)))
        .collect();
    let mut variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    variables.push(("DRONE_COMMIT_REF", "refs/tags/v1.2.3"));
    let output = step.run("kaniko-docker", &variables).assert_success();
    assert!(!output.stderr.contains("is ignored"), "{output}");
    let mut tags = step.bench.registry.tags("team/app").unwrap();
    tags.sort_unstable();
    assert_eq!(tags, ["1", "1.2", "1.2.3"]);
}
