//! Measurements that have a limit.

use std::process::Command;

use anyhow::{Context as _, bail};

/// What can be measured: a name, and the package and example that measure it.
const BENCHES: [(&str, &str, &str); 1] = [("parser", "dockerfile-parser", "throughput")];

/// Runs the measurements that `args` name, or all; fails where one is over its limit.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    if let Some(unknown) = args.iter().find(|arg| !BENCHES.iter().any(|(name, ..)| name == arg)) {
        let names = BENCHES.map(|(name, ..)| name).join(", ");
        bail!("there is no bench `{unknown}`; there are {names}");
    }
    for (name, package, example) in BENCHES {
        if !args.is_empty() && !args.iter().any(|arg| arg == name) {
            continue;
        }
        let status = Command::new(env!("CARGO"))
            .args(["run", "--quiet", "--release", "--package", package, "--example", example])
            .current_dir(testkit::workspace_dir())
            .status()
            .with_context(|| format!("cannot start cargo for the bench `{name}`"))?;
        if !status.success() {
            bail!("the bench `{name}` failed");
        }
    }
    Ok(())
}
