//! Where things are on the host.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The root of the workspace.
pub fn workspace_dir() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().nth(2).unwrap_or(crate_dir).to_owned()
}

/// Where base images and other costly things are kept from one run to the next: `target/testkit`.
///
/// It may be deleted at any time while no test runs.
pub fn cache_dir() -> anyhow::Result<PathBuf> {
    let dir = workspace_dir().join("target/testkit");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
    Ok(dir)
}

/// A new directory that goes away with the value, readable by every user of the machine.
///
/// `TempDir`'s own mode is 0700, which keeps the users of a pod out of what is bound into it.
pub fn scratch_dir(prefix: &str) -> anyhow::Result<tempfile::TempDir> {
    let dir = tempfile::Builder::new()
        .prefix(prefix)
        .tempdir()
        .context("cannot create a temporary directory")?;
    set_mode(dir.path(), 0o755)?;
    Ok(dir)
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of `{}`", path.display()))
}

/// Whether this process has user id 0.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
