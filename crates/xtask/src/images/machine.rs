//! The source and the tools that the images come from.

use std::process::Command;

use anyhow::Context as _;
use testkit::command::capture_text;

use super::Architecture;
use crate::progress::cargo;

/// What is true for all images of one run.
#[derive(Debug)]
pub(super) struct Machine {
    /// The version of the workspace.
    pub(super) version: String,
    /// The commit, if this is a checkout.
    pub(super) commit: Option<String>,
    /// Whether a file differs from that commit.
    pub(super) is_changed: bool,
    /// When that commit was made, in seconds since 1970; 0 where that is not known.
    pub(super) source_time: u64,
    /// The same in RFC 3339.
    pub(super) created: String,
    /// The compiler, such as `1.95.0`.
    pub(super) rustc: String,
    /// The C compiler, whose runtime is linked in.
    pub(super) gcc: String,
    /// The C library, which is linked in.
    pub(super) glibc: String,
}

impl Machine {
    pub(super) fn ask(architecture: Architecture) -> anyhow::Result<Self> {
        let git = |args: &[&str]| {
            let mut git = Command::new("git");
            capture_text(git.args(args).current_dir(testkit::workspace_dir()))
                .map(|text| text.trim().to_owned())
        };
        let commit = git(&["rev-parse", "HEAD"]).ok();
        let source_time = match &commit {
            Some(_) => {
                git(&["log", "-1", "--format=%ct"])?.parse().context("a time is no number")?
            }
            None => 0,
        };
        let is_changed = commit.is_some()
            && !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        let rustc = capture_text(rustc.arg("--version"))?;
        let (compiler, _) = architecture.compiler();
        let gcc = capture_text(Command::new(compiler).arg("-dumpfullversion"))
            .or_else(|_no_such_name| capture_text(Command::new("cc").arg("-dumpfullversion")))?;
        Ok(Self {
            version: version()?,
            commit,
            is_changed,
            source_time,
            created: time_text(source_time)?,
            rustc: rustc.split_whitespace().nth(1).unwrap_or_default().to_owned(),
            gcc: gcc.trim().to_owned(),
            glibc: glibc(compiler)?,
        })
    }

    /// What the images say about themselves besides what stands in the Dockerfile.
    pub(super) fn labels(&self) -> Vec<(&'static str, &str)> {
        let mut labels = vec![("version", self.version.as_str()), ("created", &self.created)];
        // An image of a changed source is not the one of the commit.
        if let (Some(commit), false) = (&self.commit, self.is_changed) {
            labels.push(("revision", commit));
        }
        labels
    }
}

fn version() -> anyhow::Result<String> {
    let mut metadata = cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"]);
    let metadata: serde_json::Value =
        serde_json::from_slice(&testkit::command::capture(&mut metadata)?)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let mut ebiko = packages.filter(|package| package["name"] == "ebiko");
    let version = ebiko.next().and_then(|package| package["version"].as_str());
    version.map(str::to_owned).context("cargo knows no package `ebiko`")
}

/// What the C library's header says its version is.
fn glibc(compiler: &str) -> anyhow::Result<String> {
    let preprocess = |compiler: &str| {
        let script =
            r#"printf '#include <features.h>\n__GLIBC__.__GLIBC_MINOR__\n' | "$0" -E -P -"#;
        capture_text(Command::new("sh").args(["-c", script, compiler]))
    };
    let text = preprocess(compiler).or_else(|_no_such_name| preprocess("cc"))?;
    let version = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    Ok(version.split_whitespace().collect())
}

fn time_text(seconds: u64) -> anyhow::Result<String> {
    let mut date = Command::new("date");
    date.args(["-u", "+%Y-%m-%dT%H:%M:%SZ", "-d", &format!("@{seconds}")]);
    Ok(capture_text(&mut date)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_say_their_versions() {
        let machine = Machine::ask(Architecture::native().unwrap()).unwrap();
        for version in [&machine.version, &machine.rustc, &machine.gcc, &machine.glibc] {
            let mut parts = version.split('.');
            assert!(parts.all(|part| part.parse::<u32>().is_ok()), "{machine:?}");
        }
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time_text(1_700_000_000).unwrap(), "2023-11-14T22:13:20Z");
    }
}
