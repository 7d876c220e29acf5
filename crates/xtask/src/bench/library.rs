//! Measurements of single libraries, which need neither root nor pods.

use std::process::Command;

use anyhow::{Context as _, bail};

use super::Verdict;
use crate::progress::cargo;

/// What has a limit of its own: a name, and the package and example that measure it.
const EXAMPLES: [(&str, &str, &str); 2] =
    [("parser", "dockerfile-parser", "throughput"), ("walk", "ebiko-snapshot", "walk")];

/// The packages with micro benchmarks.
const MICRO: [&str; 2] = ["ebiko-snapshot", "ebiko-layer"];

/// Runs the measurements with these names; fails where one is over its limit.
pub(super) fn run(names: &[String]) -> anyhow::Result<()> {
    for name in names {
        if name == "micro" {
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
            let names = EXAMPLES.map(|(name, ..)| name).join(", ");
            bail!("there is no bench `{name}`; there are {names}, micro, and flags for builds");
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
