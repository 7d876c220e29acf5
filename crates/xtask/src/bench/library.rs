//! Measurements of single libraries, which need neither root nor pods.

use std::process::Command;

use anyhow::{Context as _, bail};

use super::Verdict;
use crate::progress::cargo;

/// What has a limit of its own: a name, and the package and example that measure it.
const EXAMPLES: [(&str, &str, &str); 2] =
    [("parser", "dockerfile-parser", "throughput"), ("walk", "ebiko-snapshot", "walk")];

/// The name of all of [`MICRO`].
const MICRO_NAME: &str = "micro";

/// The packages with micro benchmarks.
const MICRO: [&str; 2] = ["ebiko-snapshot", "ebiko-layer"];

/// What [`run`] knows.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    EXAMPLES.iter().map(|(name, ..)| *name).chain([MICRO_NAME])
}

/// Runs the measurements with these names; fails where one is over its limit.
pub(super) fn run(wanted: &[String]) -> anyhow::Result<()> {
    for name in wanted {
        if name == MICRO_NAME {
            for package in MICRO {
                crate::progress::run(&mut cargo(&["bench", "--quiet", "--package", package]))?;
            }
        } else if let Some(mut example) = example(name) {
            let status = example
                .status()
                .with_context(|| format!("cannot start cargo for the bench `{name}`"))?;
            if !status.success() {
                bail!("the bench `{name}` failed");
            }
        } else {
            let names: Vec<&str> = names().collect();
            bail!("there is no bench `{name}`; there are {}, and flags", names.join(", "));
        }
    }
    Ok(())
}

/// The walk over a million files, which prints its own figures.
pub(super) fn walk() -> anyhow::Result<Verdict> {
    let mut example = example("walk").context("there is a bench `walk`")?;
    let status = example.status().context("cannot start cargo for the bench `walk`")?;
    Ok(Verdict::new("walk and memory of a million files, as printed above", status.success()))
}

fn example(name: &str) -> Option<Command> {
    let (_, package, example) = EXAMPLES.iter().find(|(known, ..)| *known == name)?;
    Some(cargo(&["run", "--quiet", "--release", "--package", package, "--example", example]))
}
