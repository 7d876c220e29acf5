//! The examples of `docs/reference/dockerfile.md` are whole Dockerfiles.

use dockerfile_parser::{Diagnostics, Dockerfile};
use ebiko_oci::{Digest, ImageConfig, Platform};
use ebiko_plan::{BaseImage, Bases, BuildOptions, BuildPlan, StageGraph};

#[test]
fn every_example_of_the_reference_can_be_planned() {
    let examples = examples(include_str!("../../../docs/reference/dockerfile.md"));
    assert!(examples.len() > 20, "the page has {} examples", examples.len());
    for example in examples {
        if let Err(errors) = plan(&example) {
            panic!("{errors}\n\nin\n{example}");
        }
    }
}

/// The blocks of Dockerfiles.
fn examples(page: &str) -> Vec<String> {
    let mut examples = Vec::new();
    let mut example: Option<String> = None;
    for line in page.lines() {
        match (&mut example, line) {
            (None, "```dockerfile") => example = Some(String::new()),
            (None, _) => {}
            (Some(_), "```") => examples.extend(example.take()),
            (Some(text), line) => text.extend([line, "\n"]),
        }
    }
    examples
}

/// The plan, where every image is an empty one.
fn plan(example: &str) -> Result<BuildPlan, Diagnostics> {
    let file = Dockerfile::parse("Dockerfile", example.as_bytes())?;
    let graph = StageGraph::select(&file, &BuildOptions::new(Platform::linux("amd64")))?;
    let mut bases = Bases::new();
    loop {
        let missing = graph.missing_references(&bases)?;
        if missing.is_empty() {
            return BuildPlan::lower(&graph, &bases, None);
        }
        bases.extend(missing.into_iter().map(|image| {
            let config = ImageConfig::scratch(image.platform.clone());
            (image, BaseImage { config, digest: Digest::of(b"") })
        }));
    }
}
