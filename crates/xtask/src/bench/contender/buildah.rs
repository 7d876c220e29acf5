//! Debian's buildah, outside a pod.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use testkit::command::{capture, run_for};

use super::{Contender, Job, Used};
use crate::bench::request::Mode;

/// buildah with a storage of its own: overlay on this machine's disk, emptied after every build.
#[derive(Debug)]
pub(in crate::bench) struct Buildah {
    dir: PathBuf,
}

impl Buildah {
    /// With its storage below `dir`, which may be there from a run that was ended.
    pub(in crate::bench) fn new(dir: PathBuf) -> anyhow::Result<Self> {
        capture(Command::new("buildah").arg("--version"))
            .context("`--buildah` needs Debian's package buildah")?;
        let buildah = Self { dir };
        buildah.remove()?;
        Ok(buildah)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.dir.join("root"));
        command.arg("--runroot").arg(self.dir.join("run"));
        command.args(["--storage-driver", "overlay", name]);
        command
    }

    /// With where to read which images are to be trusted: what the machine says about that is not our business.
    fn trusting(&self, name: &str) -> Command {
        let mut command = self.command(name);
        command.arg("--signature-policy").arg(self.dir.join("policy.json"));
        command.arg("--tls-verify=false");
        command
    }

    fn remove(&self) -> anyhow::Result<()> {
        if !self.dir.exists() {
            return Ok(());
        }
        // It mounts its storage onto itself, and keeps that.
        for mounted in ["root/overlay", "root"] {
            let _not_mounted =
                rustix::mount::unmount(self.dir.join(mounted), rustix::mount::UnmountFlags::DETACH);
        }
        std::fs::remove_dir_all(&self.dir)
            .with_context(|| format!("cannot remove `{}`", self.dir.display()))
    }
}

impl Contender for Buildah {
    fn name(&self) -> &'static str {
        "buildah"
    }

    fn has(&self, mode: Mode) -> bool {
        mode == Mode::Full
    }

    fn has_cache(&self) -> bool {
        false
    }

    fn build(&self, job: &Job<'_>) -> anyhow::Result<Used> {
        std::fs::create_dir_all(&self.dir)?;
        std::fs::write(
            self.dir.join("policy.json"),
            r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
        )?;
        let base = job.base();
        run(self.trusting("pull").arg(&base), job.workload.limit)?;
        rustix::fs::sync();
        let (before, started) = (children_cpu()?, Instant::now());
        let image = "localhost/bench:1";
        let mut build = self.trusting("bud");
        build.args(["--pull-never", "--network=host", "--tag", image]);
        build.arg(format!("--build-arg=BASE={base}"));
        build.arg("--file").arg(job.context.join("Dockerfile")).arg(job.context);
        run(&mut build, job.workload.limit)?;
        let mut push = self.trusting("push");
        push.arg(image).arg(format!("docker://{}", job.destination()));
        run(&mut push, job.workload.limit)?;
        let wall = started.elapsed();
        let cpu = children_cpu()?.saturating_sub(before);
        self.remove()?;
        Ok(Used { wall, cpu: Some(cpu), peak_anonymous: None })
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        // The next run tries again and says what is wrong.
        let _removed = self.remove();
    }
}

fn run(command: &mut Command, limit: Duration) -> anyhow::Result<()> {
    let output = run_for(command, limit)?;
    let last = output.stderr.lines().last().unwrap_or_default();
    ensure!(output.code == 0, "ended with exit code {}: {last}", output.code);
    Ok(())
}

/// The processor time of all processes that this one has waited for, and of those that they have waited for.
fn children_cpu() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(Path::new("/proc/self/stat"))?;
    cpu_of(&stat).context("`/proc/self/stat` is not as expected")
}

/// `cutime` and `cstime`, in hundredths of a second.
fn cpu_of(stat: &str) -> Option<Duration> {
    // The second field is a name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(13);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Duration::from_millis((user + system) * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_children_is_found_behind_any_name() {
        let stat = "1 (a) b (c) S 0 1 1 0 -1 4 5 6 7 8 9 10 250 50 20 0 1 0";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu_of("1 x"), None);
    }

    #[test]
    fn a_child_that_worked_and_was_waited_for_counts() {
        let before = children_cpu().unwrap();
        let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        capture(Command::new("sh").args(["-c", script])).unwrap();
        assert!(children_cpu().unwrap() > before);
    }
}
