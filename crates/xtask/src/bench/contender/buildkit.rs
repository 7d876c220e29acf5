//! BuildKit, whose daemon somebody runs on this machine.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use testkit::command::run_for;

use super::{Contender, Job, Used};
use crate::bench::request::Mode;

/// A client and its daemon, whose cache is emptied after every build.
#[derive(Debug)]
pub(in crate::bench) struct BuildKit {
    buildctl: PathBuf,
    address: Option<String>,
}

impl BuildKit {
    pub(in crate::bench) fn new(buildctl: PathBuf, address: Option<String>) -> Self {
        Self { buildctl, address }
    }

    fn run(&self, args: &[String], limit: Duration) -> anyhow::Result<()> {
        let mut command = Command::new(&self.buildctl);
        if let Some(address) = &self.address {
            command.args(["--addr", address]);
        }
        let output = run_for(command.args(args), limit)
            .with_context(|| format!("cannot build with `{}`", self.buildctl.display()))?;
        let last = output.stderr.lines().last().unwrap_or_default();
        ensure!(output.code == 0, "ended with exit code {}: {last}", output.code);
        Ok(())
    }

    fn build_args(job: &Job<'_>, context: &str) -> Vec<String> {
        let mut args: Vec<String> =
            ["build", "--progress=plain", "--frontend=dockerfile.v0", "--no-cache"]
                .map(str::to_owned)
                .to_vec();
        args.push(format!("--local=context={context}"));
        args.push(format!("--local=dockerfile={context}"));
        args.push(format!("--opt=build-arg:BASE={}", job.base()));
        args
    }
}

impl Contender for BuildKit {
    fn name(&self) -> &'static str {
        "buildkit"
    }

    fn has(&self, mode: Mode) -> bool {
        mode == Mode::Full
    }

    fn has_cache(&self) -> bool {
        false
    }

    fn build(&self, job: &Job<'_>) -> anyhow::Result<Used> {
        // The base is pulled and unpacked by a build that only runs something on it.
        let first = testkit::scratch_dir("bench-base-")?;
        std::fs::write(first.path().join("Dockerfile"), "ARG BASE\nFROM ${BASE}\nRUN true\n")?;
        let first = first.path().display().to_string();
        self.run(&Self::build_args(job, &first), job.workload.limit)?;
        rustix::fs::sync();
        let mut args = Self::build_args(job, &job.context.display().to_string());
        args.push(format!(
            "--output=type=image,name={},push=true,registry.insecure=true",
            job.destination()
        ));
        let started = Instant::now();
        let built = self.run(&args, job.workload.limit);
        let wall = started.elapsed();
        self.run(&["prune".to_owned(), "--all".to_owned()], job.workload.limit)?;
        built?;
        Ok(Used { wall, cpu: None, peak_anonymous: None })
    }
}
