//! The demonstration: the binary builds its own image, and a first image of somebody else.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::binary::{relative, size};
use crate::progress::{self, Progress};

/// `cargo xtask demo`.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut progress = Progress::new(4);
    let binary = progress.step("build the static binary", crate::binary::build)?;
    progress.step("build the executor image with it", || crate::images::executor(&binary))?;
    let context = progress.step("compile testdata/hello/hello.rs", hello_context)?;
    progress.step("build the hello image with it", || {
        let dockerfile = testkit::workspace_dir().join("testdata/hello/Dockerfile");
        build_image(&binary, &context, &dockerfile, "hello")
    })?;
    progress.finish("the demo is in target/images and target/demo,");
    Ok(())
}

/// `cargo xtask image`.
pub(crate) fn image() -> anyhow::Result<()> {
    let mut progress = Progress::new(2);
    let binary = progress.step("build the static binary", crate::binary::build)?;
    progress.step("build the executor image with it", || crate::images::executor(&binary))?;
    progress.finish("the executor image is in target/images,");
    Ok(())
}

/// The context of `testdata/hello/Dockerfile`: a static program for RUN to execute, so that nothing has to be fetched.
fn hello_context() -> anyhow::Result<PathBuf> {
    let context = new_dir("hello-context")?;
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args([
        "--edition=2024",
        "-O",
        "-C",
        "strip=symbols",
        "-C",
        "target-feature=+crt-static",
        "-o",
    ]);
    rustc
        .arg(context.join("hello"))
        .arg("testdata/hello/hello.rs")
        .current_dir(testkit::workspace_dir());
    progress::run(&mut rustc)?;
    Ok(context)
}

/// Builds one image into `target/demo/NAME.tar` and says what came out.
fn build_image(binary: &Path, context: &Path, dockerfile: &Path, name: &str) -> anyhow::Result<()> {
    let dir = demo_dir()?;
    let (archive, digest) = (dir.join(format!("{name}.tar")), dir.join(format!("{name}.digest")));
    progress::run(
        Command::new(binary)
            .arg(format!("--context=dir://{}", context.display()))
            .arg(format!("--dockerfile={}", dockerfile.display()))
            .arg(format!("--destination=ebiko/{name}:demo"))
            .arg(format!("--tar-path={}", archive.display()))
            .arg(format!("--digest-file={}", digest.display()))
            .arg("--no-push"),
    )?;
    let digest = std::fs::read_to_string(&digest).context("the build wrote no digest")?;
    println!("      {}: {}, {}", relative(&archive), size(&archive)?, digest.trim());
    Ok(())
}

fn demo_dir() -> anyhow::Result<PathBuf> {
    let dir = testkit::workspace_dir().join("target/demo");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
    Ok(dir)
}

/// A directory of the demo without what an earlier demo left in it.
fn new_dir(name: &str) -> anyhow::Result<PathBuf> {
    let dir = demo_dir()?.join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir)
            .with_context(|| format!("cannot remove `{}`", dir.display()))?;
    }
    std::fs::create_dir(&dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
    Ok(dir)
}
