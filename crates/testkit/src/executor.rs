//! The program as it lies in the executor image.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::{Pod, workspace_dir};

/// The static release binary that goes into pods.
///
/// `cargo xtask test` builds it and names it in `EBIKO_EXECUTOR`; otherwise the place where
/// `cargo xtask demo` leaves it is tried. A dynamically linked binary would not start in an empty root.
pub fn executor_binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("EBIKO_EXECUTOR") {
        return Ok(path.into());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace_dir().join("target"), PathBuf::from);
    let path = target.join(format!("{}-unknown-linux-gnu/release/ebiko", std::env::consts::ARCH));
    if path.is_file() {
        return Ok(path);
    }
    bail!(
        "there is no `{}`; run `cargo xtask test`, or `cargo xtask demo` once, or set EBIKO_EXECUTOR",
        path.display()
    )
}

/// The root of an executor image: `/kaniko/executor` and nothing else. It goes with the value.
#[derive(Debug)]
pub struct Executor {
    root: tempfile::TempDir,
}

impl Executor {
    /// Lays out the root with the static binary.
    ///
    /// # Errors
    ///
    /// As [`executor_binary`].
    pub fn new() -> anyhow::Result<Self> {
        Self::with_binary(&executor_binary()?)
    }

    /// Lays out the root with another binary.
    pub fn with_binary(binary: &Path) -> anyhow::Result<Self> {
        let root = crate::scratch_dir("executor-")?;
        for dir in ["kaniko", "workspace"] {
            std::fs::create_dir(root.path().join(dir))?;
        }
        // As in the image.
        crate::place::set_mode(&root.path().join("kaniko"), 0o777)?;
        std::fs::copy(binary, root.path().join("kaniko/executor"))
            .with_context(|| format!("cannot copy `{}`", binary.display()))?;
        Ok(Self { root })
    }

    /// Lays out the root of the image for users other than root, whose files belong to user 1000 but for `/` itself.
    ///
    /// # Errors
    ///
    /// As [`executor_binary`]; and without root, which nobody else can give files away.
    pub fn nonroot() -> anyhow::Result<Self> {
        let executor = Self::new()?;
        let root = executor.root();
        crate::own_image::linked_root(crate::Tree::new(), "").write_to(root)?;
        let entries = std::fs::read_dir(root)?.map(|entry| anyhow::Ok(entry?.path()));
        let entries = entries.collect::<anyhow::Result<Vec<_>>>()?;
        let mut command = std::process::Command::new("chown");
        crate::command::capture(command.args(["-hR", "1000:1000"]).args(entries))?;
        Ok(executor)
    }

    /// The root directory.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// An ordinary root pod of the image, with its environment. The command is `/kaniko/executor` and its flags.
    pub fn pod(&self) -> Pod {
        Pod::new(self.root())
            .work_dir("/workspace")
            .env("HOME", "/root")
            .env("USER", "root")
            .env("PATH", "/usr/local/bin:/kaniko")
            .env("SSL_CERT_DIR", "/kaniko/ssl/certs")
            .env("DOCKER_CONFIG", "/kaniko/.docker/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileged_the_pod_holds_the_binary_and_nothing_else() {
        let executor = Executor::with_binary(Path::new("/bin/true")).unwrap();
        let pod = executor.pod().bind_read_only("/bin/busybox", "/busybox/sh");
        let output = pod.run(["/busybox/sh", "-c", "pwd; echo $HOME; echo /kaniko/* /workspace/*"]);
        assert_eq!(
            output.unwrap().assert_success().stdout,
            "/workspace\n/root\n/kaniko/executor /workspace/*\n"
        );
    }
}
