//! Steps with numbers and durations, and commands that are shown before they run.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, bail};
use testkit::command::shown;

/// Counts the steps of one chore.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    step: usize,
    total: usize,
}

impl Progress {
    pub(crate) fn new(total: usize) -> Self {
        Self { started: Instant::now(), step: 0, total }
    }

    /// Announces a step, does it, and says how long it took.
    pub(crate) fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.step += 1;
        println!("[{}/{}] {name}", self.step, self.total);
        let started = Instant::now();
        let value = work()
            .with_context(|| format!("step {} of {} failed: {name}", self.step, self.total))?;
        println!("      done in {}", seconds(started));
        Ok(value)
    }

    /// Ends the chore with its total time.
    pub(crate) fn finish(self, done: &str) {
        println!("{done} in {}", seconds(self.started));
    }
}

fn seconds(since: Instant) -> String {
    let elapsed = since.elapsed();
    match elapsed.as_secs() {
        0..120 => format!("{:.1} s", elapsed.as_secs_f64()),
        whole => format!("{} min {} s", whole / 60, whole % 60),
    }
}

/// Runs a command with this terminal's streams, after showing it.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    println!("      $ {}", shown(command));
    let status = command.status().with_context(|| {
        format!("cannot start `{}`; is it installed?", command.get_program().display())
    })?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

/// The cargo that runs this chore, in the workspace.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(testkit::workspace_dir());
    command
}
