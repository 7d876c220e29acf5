//! Questions about a Dockerfile: they are answered, and nothing is built.

use serde_json::{Value, json};
use testkit::PodOutput;
use testkit::base::busybox;

use crate::bench::Bench;

const DOCKERFILE: &str = "ARG version=1\nFROM busybox AS tools\nRUN echo must not run\n\
    # app is what is shipped\nFROM busybox as app\nARG version\nRUN --mount=type=secret,id=token echo must not run $version\n";

/// Asks, and sees that no layer was pulled, no command was started and no image was written.
#[track_caller]
fn ask(bench: &Bench, dockerfile: &str, flag: &str) -> PodOutput {
    let destination = format!("--destination={}", bench.registry.reference("x:1"));
    let image = ["--tar-path=/out/image.tar", "--oci-layout-path=/out/layout", &destination, flag];
    let output = bench.build(dockerfile, &image);
    let layer = bench.registry.image(&busybox().unwrap().repository()).unwrap().layers[0].clone();
    let requests = bench.registry.requests();
    let is_effect = |line: &&String| {
        !line.starts_with("HEAD ") && (line.contains(&layer) || !line.starts_with("GET "))
    };
    assert_eq!(requests.iter().find(is_effect), None, "{requests:#?}");
    assert_eq!(testkit::listing(&bench.out("")).unwrap(), "", "{output}");
    assert!(!output.stdout.lines().any(|line| line == "must not run"), "{output}");
    output
}

#[test]
fn privileged_a_check_builds_nothing() {
    let bench = Bench::new();
    let output = ask(&bench, DOCKERFILE, "--check");
    assert_eq!(output.code, 1, "a check that fails is a failure\n{output}");
    for expected in ["FromAsCasing", "Dockerfile:5"] {
        assert!(output.stdout.contains(expected), "`{expected}` is missing\n{output}");
    }
    let output = ask(&bench, DOCKERFILE, "--call=check,format=json");
    assert_eq!(output.code, 1, "{output}");
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(report["warnings"][0]["ruleName"], "FromAsCasing", "{report}");
    let output = ask(&bench, "FROM busybox AS app\nRUN echo must not run\n", "--check");
    assert_eq!(output.code, 0, "{output}");
    let output = ask(&bench, "FROM busybox\nNONSENSE\n", "--check");
    assert_eq!(output.code, 1, "{output}");
    assert!(output.to_string().contains("NONSENSE"), "{output}");
}

#[test]
fn privileged_an_outline_builds_nothing() {
    let bench = Bench::new();
    let output = ask(&bench, DOCKERFILE, "--call=outline,format=json").assert_success();
    let outline: Value = serde_json::from_str(&output.stdout).unwrap();
    let argument = &outline["args"][0];
    assert_eq!((&argument["name"], &argument["value"]), (&json!("version"), &json!("1")));
    assert_eq!(outline["secrets"][0]["name"], "token", "{outline}");
    let output = ask(&bench, DOCKERFILE, "--call=targets").assert_success();
    for expected in ["tools", "app (default)", "is what is shipped"] {
        assert!(output.stdout.contains(expected), "`{expected}` is missing\n{output}");
    }
}

#[test]
fn privileged_a_dry_run_prints_the_plan_and_does_nothing() {
    let bench = Bench::new();
    let output = ask(&bench, DOCKERFILE, "--dryrun").assert_success();
    for expected in ["busybox", "echo must not run $version", "tools"] {
        assert!(output.stdout.contains(expected), "`{expected}` is missing\n{output}");
    }
    // The plan is complete, so what is wrong is found without doing anything.
    let output =
        ask(&bench, "FROM busybox\nCOPY --from=later / /\nFROM busybox AS later\n", "--dryrun");
    assert_eq!(output.code, 0, "only what the target needs counts\n{output}");
    let output = ask(&bench, "FROM busybox\nRUN --mount=type=ssh,source=x true\n", "--dryrun");
    assert_eq!(output.code, 1, "{output}");
    assert!(output.stderr.contains("ssh does not support source"), "{output}");
}
