//! Licences, sources and duplicates of what we depend on, with cargo-deny.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::progress::{self, cargo};

const VERSION: &str = "0.20.2";

/// `cargo xtask deny`.
///
/// Advisories are checked where a database lies in cargo's home already: fetching one is the business of the person who
/// wants it, and a check that needs a network is none.
pub(crate) fn run() -> anyhow::Result<()> {
    let program = installed()?;
    let workspace = testkit::workspace_dir();
    let deny = |checks: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["--locked", "check", "--hide-inclusion-graph"]).args(checks);
        progress::run(command.current_dir(&workspace))
    };
    deny(&["bans", "licenses", "sources"])?;
    if has_advisories() {
        deny(&["--disable-fetch", "advisories"])
    } else {
        println!("      no advisory database here; `cargo deny fetch` gets one");
        Ok(())
    }
}

/// The program, compiled into `target/tools` when it is missing, which takes some minutes once.
fn installed() -> anyhow::Result<PathBuf> {
    let is_right = |program: &str| {
        let version = testkit::command::capture_text(Command::new(program).arg("--version"));
        version.is_ok_and(|text| text.trim().ends_with(VERSION))
    };
    if is_right("cargo-deny") {
        return Ok("cargo-deny".into());
    }
    let tools = testkit::workspace_dir().join("target/tools");
    let program = tools.join("bin/cargo-deny");
    if !is_right(&program.to_string_lossy()) {
        let build = tools.join("build");
        let package = format!("cargo-deny@{VERSION}");
        let mut install = cargo(&["install", "--quiet", "--locked", &package, "--root"]);
        progress::run(install.arg(&tools).env("CARGO_TARGET_DIR", &build))?;
        std::fs::remove_dir_all(&build)
            .with_context(|| format!("cannot remove `{}`", build.display()))?;
    }
    Ok(program)
}

fn has_advisories() -> bool {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let databases = home.and_then(|home| std::fs::read_dir(home.join("advisory-dbs")).ok());
    databases.is_some_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.path().is_dir()))
    })
}
