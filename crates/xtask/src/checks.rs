//! Everything that CI runs, and the rewriting of golden files.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::progress::{self, Progress, cargo};

/// Tests with this in their name need root, and pass where they have it.
const PRIVILEGED: &str = "privileged_";

/// How the tests that need root get it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Privilege {
    /// This process is root already.
    Here,
    /// Test programs are started through sudo; what is compiled stays the user's.
    Sudo(&'static [&'static str]),
    /// They are left out.
    Without,
}

/// `cargo xtask test`: in the order that fails fastest.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let without_root = match args {
        [] => false,
        [flag] if flag == "--unprivileged" => true,
        _ => bail!("`cargo xtask test` takes `--unprivileged` or nothing"),
    };
    let privilege = privilege(without_root)?;
    let mut progress = Progress::new(11);
    progress.step("install what the tests need from Debian", || match privilege {
        Privilege::Without => {
            println!("      not without root");
            Ok(())
        }
        Privilege::Here | Privilege::Sudo(_) => crate::packages::install(),
    })?;
    progress.step("format", || progress::run(&mut cargo(&["fmt", "--all", "--check"])))?;
    progress.step("tidy", crate::tidy::run)?;
    progress.step("lint", || {
        let lint = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ];
        progress::run(&mut cargo(&lint))
    })?;
    let executor = progress.step("build the static binary", crate::binary::build)?;
    progress.step("make base images", || base_images(privilege))?;
    progress.step("fetch what the tests need from PyPI and npm", packages)?;
    progress.step("test", || tests(privilege, &executor))?;
    progress.step("test the examples in the documentation", || {
        progress::run(&mut cargo(&["test", "--workspace", "--doc", "--locked", "--quiet"]))
    })?;
    progress.step("documentation", || {
        let doc =
            ["doc", "--workspace", "--no-deps", "--document-private-items", "--locked", "--quiet"];
        progress::run(cargo(&doc).env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    progress.step("licences and sources", crate::deny::run)?;
    match privilege {
        Privilege::Without => progress.finish("everything that needs no root passed,"),
        Privilege::Here | Privilege::Sudo(_) => progress.finish("everything passed,"),
    }
    Ok(())
}

/// `cargo xtask bless`: runs the tests that compare with recorded files and lets them record.
pub(crate) fn bless() -> anyhow::Result<()> {
    let mut tests = test_command(Selection::Unprivileged);
    progress::run(
        tests.env("EBIKO_BLESS", "1").env("INSTA_UPDATE", "always").env("INSTA_FORCE_PASS", "1"),
    )
}

fn privilege(without_root: bool) -> anyhow::Result<Privilege> {
    if without_root {
        return Ok(Privilege::Without);
    }
    if testkit::is_root() {
        return Ok(Privilege::Here);
    }
    match crate::packages::root_prefix() {
        Some(sudo) => Ok(Privilege::Sudo(sudo)),
        None => {
            bail!("pods need root: run this as root, or where sudo works, or with `--unprivileged`")
        }
    }
}

fn base_images(privilege: Privilege) -> anyhow::Result<()> {
    if privilege == Privilege::Without && !Path::new("/usr/bin/umoci").exists() {
        println!("      not without umoci");
        return Ok(());
    }
    let mut images = vec![testkit::base::busybox()?];
    if privilege == Privilege::Here {
        images.push(testkit::base::debian()?);
        testkit::base::workstation()?;
    }
    for image in images {
        println!("      {} in {}", image.name(), crate::binary::relative(&image.root()));
    }
    Ok(())
}

/// The versions are in `crates/testkit/src`, in `storage`, `schemas` and `kubectl`.
fn packages() -> anyhow::Result<()> {
    let python = [testkit::storage_python()?, testkit::schema_python()?];
    for program in python.into_iter().chain([testkit::azurite()?, testkit::kubectl()?]) {
        println!("      {}", crate::binary::relative(&program));
    }
    Ok(())
}

fn tests(privilege: Privilege, executor: &Path) -> anyhow::Result<()> {
    let run = |selection| progress::run(test_command(selection).env("EBIKO_EXECUTOR", executor));
    match privilege {
        Privilege::Here => run(Selection::All),
        Privilege::Without => run(Selection::Unprivileged),
        Privilege::Sudo(sudo) => {
            run(Selection::Unprivileged)?;
            let runner = format!(
                "CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER",
                std::env::consts::ARCH.to_uppercase()
            );
            let mut command = test_command(Selection::Privileged);
            command
                .env("EBIKO_EXECUTOR", executor)
                .env(runner, [sudo, &["--preserve-env"]].concat().join(" "));
            progress::run(&mut command)
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selection {
    All,
    Unprivileged,
    Privileged,
}

/// nextest where it is installed, because it ends tests that hang; otherwise what cargo brings.
fn test_command(selection: Selection) -> Command {
    let has_nextest = Command::new("cargo-nextest")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    let mut command = if has_nextest {
        let mut command = cargo(&[
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--no-fail-fast",
            "--status-level=fail",
        ]);
        match selection {
            Selection::All => &mut command,
            Selection::Unprivileged => command.args(["-E", &format!("not test(/{PRIVILEGED}/)")]),
            Selection::Privileged => command.args(["-E", &format!("test(/{PRIVILEGED}/)")]),
        };
        command
    } else {
        let mut command = cargo(&[
            "test",
            "--workspace",
            "--all-targets",
            "--locked",
            "--no-fail-fast",
            "--quiet",
        ]);
        match selection {
            Selection::All => &mut command,
            Selection::Unprivileged => command.args(["--", "--skip", PRIVILEGED]),
            Selection::Privileged => command.args(["--", PRIVILEGED]),
        };
        command
    };
    // A backtrace of a failed assertion hides the assertion.
    command.env("RUST_BACKTRACE", "0");
    command
}
