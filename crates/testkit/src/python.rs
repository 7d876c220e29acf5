//! Virtual environments for tools that are Python.

use std::path::PathBuf;
use std::process::Command;

use crate::base::once;
use crate::cache_dir;
use crate::command::capture;

/// The Python of an environment that has what `requirements` names, with its versions, and nothing else; it is made where it is
/// missing. Programs are started with `-m`: those beside it name the directory in which the environment was made.
///
/// # Errors
///
/// Fails without `python3 -m venv`, or where a package cannot be fetched.
pub(crate) fn environment(name: &str, requirements: &str) -> anyhow::Result<PathBuf> {
    let sum = crate::image::digest(requirements.as_bytes());
    let sum: String = sum.chars().skip("sha256:".len()).take(12).collect();
    let directory = once(&cache_dir()?.join(format!("{name}-{sum}")), |directory| {
        let list = directory.join("requirements.txt");
        std::fs::write(&list, requirements)?;
        let venv = directory.join("venv");
        capture(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&venv))?;
        let mut pip = Command::new(venv.join("bin/python"));
        let quiet = ["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"];
        capture(pip.args(quiet).arg("--requirement").arg(&list)).map(drop)
    })?;
    Ok(directory.join("venv/bin/python"))
}
