//! Runs of the original Harness and Drone step, recorded: what environment gives which command line, config and files.
//!
//! A file `*.jsonl` with one record in a line. The program runs in pods with the record's environment and files: once for
//! its command line, once for its config, and where the record has files that were written, or the exit status of a build,
//! once for a real build, in which nothing is pushed.
//!
//! The original gets some inputs wrong. What is expected then is the record with the mistake taken out ([`fn@mend`]).

mod mend;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;
use testkit::{Executor, Pod, PodOutput};

use self::mend::mend;
use super::report::{Outcome, Report};

const CORPUS: &str = "harness";

/// A Dockerfile whose RUN ends with a status.
const FAILING: &str =
    "FROM scratch\nCOPY --chmod=755 busybox /sh\nRUN [\"/sh\", \"-c\", \"exit STATUS\"]\n";

/// One record.
#[derive(Debug, Deserialize)]
struct Vector {
    n: String,
    env: BTreeMap<String, String>,
    files: Option<BTreeMap<String, String>>,
    #[serde(default = "docker")]
    bin: String,
    uid: Option<String>,
    kaniko_mode: Option<String>,
    rc: i32,
    argv: Option<Vec<String>>,
    config: Option<String>,
    stderr: Option<String>,
    artifact: Option<Value>,
    drone_output: Option<String>,
    /// The original fails where there is no reason to: what it would have run is not recorded.
    #[serde(skip)]
    is_only_to_succeed: bool,
}

fn docker() -> String {
    "kaniko-docker".to_owned()
}

/// Runs the records of `file` that `only` selects. Needs root.
pub(super) fn run(file: &Path, only: &Regex, report: &Report) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read `{}`", file.display()))?;
    let mut executor = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let recorded: Vector = serde_json::from_str(line)
            .with_context(|| format!("`{}` has another form than expected", file.display()))?;
        if !only.is_match(&format!("{CORPUS}/{}", recorded.n)) {
            continue;
        }
        let executor = match &executor {
            Some(executor) => executor,
            None => executor.insert(new_executor()?),
        };
        let name = recorded.n.clone();
        let outcome = judge(&mend(recorded), executor)
            .unwrap_or_else(|error| Outcome::fail(format!("cannot run it: {error:#}")));
        report.add(CORPUS, &name, outcome);
    }
    Ok(())
}

fn new_executor() -> anyhow::Result<Executor> {
    if testkit::executor_binary().is_ok() {
        Executor::new()
    } else {
        Executor::with_binary(&crate::binary::build()?)
    }
}

/// The place in which a record is played.
struct Stage<'v> {
    vector: &'v Vector,
    root: tempfile::TempDir,
}

impl<'v> Stage<'v> {
    fn new(vector: &'v Vector, executor: &Executor) -> anyhow::Result<Self> {
        let root = testkit::scratch_dir("harness-")?;
        for directory in ["kaniko", "harness", "out", "addon"] {
            std::fs::create_dir(root.path().join(directory))?;
        }
        for name in ["executor", vector.bin.as_str()] {
            std::fs::hard_link(
                executor.root().join("kaniko/executor"),
                root.path().join("kaniko").join(name),
            )
            .or_else(|_| {
                std::fs::copy(
                    executor.root().join("kaniko/executor"),
                    root.path().join("kaniko").join(name),
                )
                .map(drop)
            })?;
        }
        let mode = vector.kaniko_mode.as_deref().unwrap_or("0o777");
        let mode = u32::from_str_radix(mode.trim_start_matches("0o"), 8)
            .context("the mode is not octal")?;
        std::fs::set_permissions(
            root.path().join("kaniko"),
            std::fs::Permissions::from_mode(mode),
        )?;
        let stage = Self { vector, root };
        let default = BTreeMap::from([("harness/Dockerfile".to_owned(), "x".to_owned())]);
        for (path, text) in vector.files.as_ref().unwrap_or(&default) {
            stage.write(path, text.as_bytes())?;
        }
        Ok(stage)
    }

    fn write(&self, path: &str, content: &[u8]) -> anyhow::Result<()> {
        ensure!(!path.starts_with('/') && !path.contains(".."), "the path `{path}` leads out");
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().context("a file has a directory")?)?;
        Ok(std::fs::write(path, content)?)
    }

    /// The record's environment and nothing else; the pod adds what every pod has.
    fn pod(&self) -> anyhow::Result<Pod> {
        let mut pod = Pod::new(self.root.path()).work_dir("/harness");
        for (name, value) in &self.vector.env {
            pod = pod.env(name, value);
        }
        if let Some(uid) = &self.vector.uid {
            let (user, group) = uid.split_once(':').context("the user has no group")?;
            pod = pod.user(user.parse()?, group.parse()?);
        }
        Ok(pod)
    }

    fn run(&self, flags: &[&str]) -> anyhow::Result<PodOutput> {
        let program = format!("/kaniko/{}", self.vector.bin);
        self.pod()?.run([program.as_str()].iter().chain(flags))
    }
}

fn judge(vector: &Vector, executor: &Executor) -> anyhow::Result<Outcome> {
    let stage = Stage::new(vector, executor)?;
    let mut problems = Vec::new();
    let mut expect = |what: &str, expected: &str, actual: &str| {
        if expected != actual {
            problems.push(format!("{what}: expected {expected}, got {actual}"));
        }
    };
    let printed = stage.run(&["--print-argv"])?;
    if let Some(argv) = &vector.argv {
        expect("argv", &Value::from(argv.clone()).to_string(), printed.stdout.trim());
    }
    let is_build_failure = vector.argv.is_some() && vector.rc != 0;
    if !is_build_failure {
        expect("status", &vector.rc.to_string(), &printed.code.to_string());
        if let Some(message) = &vector.stderr {
            let line = printed.stderr.lines().next().unwrap_or_default();
            let line = line.split_once("\" ").map_or(line, |(_, rest)| rest);
            expect("message", message, line);
        }
    }
    let config = stage.run(&["--print-config"])?;
    if !vector.is_only_to_succeed {
        expect("config", vector.config.as_deref().unwrap_or_default(), &config.stdout);
    }
    if is_build_failure || vector.artifact.is_some() || vector.drone_output.is_some() {
        play(&stage, is_build_failure, &mut expect)?;
    }
    Ok(match problems.first() {
        None => Outcome::Pass,
        Some(_) => Outcome::fail(problems.join("\n")),
    })
}

/// A real build in the place of the recorded one, which had a program in the executor's place that did nothing.
fn play(
    stage: &Stage<'_>,
    fails: bool,
    expect: &mut dyn FnMut(&str, &str, &str),
) -> anyhow::Result<()> {
    let vector = stage.vector;
    let dockerfile = vector.env.get("PLUGIN_DOCKERFILE").map_or("Dockerfile", String::as_str);
    let text = if fails {
        stage.write("harness/busybox", &std::fs::read("/bin/busybox")?)?;
        FAILING.replace("STATUS", &vector.rc.to_string())
    } else {
        let stage = vector.env.get("PLUGIN_TARGET").map_or("image", String::as_str);
        format!("FROM scratch AS {stage}\nLABEL a=b\n")
    };
    stage.write(&format!("harness/{}", dockerfile.trim_start_matches("./")), text.as_bytes())?;
    let program = format!("/kaniko/{}", vector.bin);
    // The registry of the record is not there.
    let pod = stage.pod()?.env("KANIKO_NO_PUSH", "true");
    let (output, files) = pod.spawn([program])?.wait_and_inspect(|root| {
        let read = |path: &str| {
            std::fs::read_to_string(root.join(path.trim_start_matches('/'))).unwrap_or_default()
        };
        let of = |name: &str| vector.env.get(name).map(|path| read(path)).unwrap_or_default();
        [read("kaniko/digest-file"), of("PLUGIN_ARTIFACT_FILE"), of("DRONE_OUTPUT")]
    })?;
    let [digest, artifact, variables] = files;
    if vector.rc != output.code {
        expect(
            "status of the build",
            &vector.rc.to_string(),
            &format!("{}\n{output}", output.code),
        );
    }
    if fails {
        let message = vector.stderr.as_deref().unwrap_or_default();
        expect("last message", message, output.stderr.lines().last().unwrap_or_default());
        return Ok(());
    }
    if !digest.starts_with("sha256:") {
        expect("digest", "a digest", &format!("{digest}\n{output}"));
    }
    if let Some(expected) = &vector.artifact {
        let actual: Value = serde_json::from_str(&artifact).unwrap_or_default();
        expect("artifact", &expected.to_string().replace("<DG>", &digest), &actual.to_string());
    }
    if let Some(expected) = &vector.drone_output {
        expect("output", &expected.replace("<DG>", &digest), &variables);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileged_recorded_runs_of_the_harness_step_conform() {
        let file = testkit::workspace_dir().join("testdata/harness/vectors.jsonl");
        let report = Report::default();
        run(&file, &Regex::new("").unwrap(), &report).unwrap();
        let [passed, failed, unsupported] = report.counts();
        assert!(passed >= 32, "{passed} passed");
        assert_eq!((failed, unsupported), (0, 0));
    }
}
