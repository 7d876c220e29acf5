//! The fully static release binary.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::images::Architecture;
use crate::progress::{cargo, run};

/// `getrandom_backend`: without it `getrandom` looks a symbol up with dlsym, which fails in a static binary, and falls
/// back to `/dev/urandom`, which an empty root does not have.
const FLAGS: &str = r#"-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom""#;

/// Three hundred thousand bytes of relocations become three thousand. Needs glibc 2.36, which the C compilers for other
/// processors do not always bring, and a linker that knows it.
const SHORT_RELOCATIONS: &str = "-C link-arg=-Wl,-z,pack-relative-relocs";

/// What the compiler is told about the program that is shipped.
pub(crate) fn flags(architecture: Architecture) -> String {
    match architecture {
        Architecture::Amd64 => format!("{FLAGS} {SHORT_RELOCATIONS}"),
        Architecture::Arm64 => FLAGS.to_owned(),
    }
}

/// The same as cargo takes it from `CARGO_ENCODED_RUSTFLAGS`, and a short name in the place of the directory in which this
/// machine keeps the sources of crates. Messages of panics name files in it, and the program is the same wherever it is
/// built.
fn encoded_flags(architecture: Architecture, cargo_home: &Path) -> String {
    let flags = flags(architecture);
    let sources = cargo_home.join("registry/src");
    let remap = format!("--remap-path-prefix={}=/crates", sources.display());
    flags.split(' ').chain([&*remap]).collect::<Vec<_>>().join("\u{1f}")
}

/// Where cargo keeps what it has fetched.
fn cargo_home() -> anyhow::Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME").filter(|home| !home.is_empty()) {
        return Ok(home.into());
    }
    let home = std::env::var_os("HOME").context("`HOME` is not set")?;
    Ok(Path::new(&home).join(".cargo"))
}

/// Builds it for this machine's architecture and checks that it is static.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    build_for(Architecture::native()?)
}

/// Builds it for an architecture and checks that it is static, and if it can be started here that it does start.
pub(crate) fn build_for(architecture: Architecture) -> anyhow::Result<PathBuf> {
    architecture.check_tools()?;
    let target = architecture.triple();
    // Naming the target keeps the flags away from build scripts, which must stay dynamic to load procedural macros.
    let mut command =
        cargo(&["build", "--release", "--locked", "--package", "ebiko", "--target", target]);
    let name = target.replace('-', "_");
    command
        .env("CARGO_ENCODED_RUSTFLAGS", encoded_flags(architecture, &cargo_home()?))
        // Nothing unwinds through C.
        .env(format!("CFLAGS_{name}"), "-fno-asynchronous-unwind-tables");
    if architecture != Architecture::native()? {
        let (compiler, _) = architecture.compiler();
        command.env(format!("CARGO_TARGET_{}_LINKER", name.to_uppercase()), compiler);
    }
    run(&mut command)?;
    let path = target_dir()?.join(target).join("release/ebiko");
    check_static(&path)?;
    architecture.check(&path)?;
    if architecture == Architecture::native()? {
        testkit::command::capture(std::process::Command::new(&path).arg("--version"))?;
    }
    println!("      {}: {}, static", relative(&path), size(&path)?);
    Ok(path)
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> anyhow::Result<PathBuf> {
    let mut metadata = cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"]);
    let metadata: serde_json::Value =
        serde_json::from_slice(&testkit::command::capture(&mut metadata)?)?;
    Ok(metadata["target_directory"].as_str().context("cargo names no target directory")?.into())
}

/// A path as people of this workspace write it.
pub(crate) fn relative(path: &Path) -> String {
    path.strip_prefix(testkit::workspace_dir()).unwrap_or(path).display().to_string()
}

/// The size of a file for people.
pub(crate) fn size(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::metadata(path)
        .with_context(|| format!("cannot look at `{}`", path.display()))?
        .len();
    #[expect(clippy::cast_precision_loss, reason = "for people, who read one digit")]
    Ok(match bytes {
        0..10_240 => format!("{bytes} bytes"),
        10_240..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
    })
}

/// A dynamic program names its loader in a program header of this type; a static one, position-independent or not, has none.
const PT_INTERP: u32 = 3;

/// Fails on a program that needs a loader or shared libraries.
pub(crate) fn check_static(path: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let types = program_header_types(&bytes)
        .with_context(|| format!("`{}` is not a 64-bit ELF file", path.display()))?;
    if types.contains(&PT_INTERP) {
        bail!(
            "`{}` is dynamically linked; is a static C library installed (libc6-dev)?",
            path.display()
        );
    }
    ensure!(!types.is_empty(), "`{}` has no program header", path.display());
    Ok(())
}

/// Reads the types of the program headers of a little-endian 64-bit ELF file.
fn program_header_types(bytes: &[u8]) -> Option<Vec<u32>> {
    let half =
        |at: usize| Some(usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
    bytes.starts_with(b"\x7fELF\x02\x01").then_some(())?;
    let table =
        usize::try_from(u64::from_le_bytes(bytes.get(0x20..0x28)?.try_into().ok()?)).ok()?;
    let (entry_size, count) = (half(0x36)?, half(0x38)?);
    (0..count)
        .map(|index| {
            let entry = bytes.get(table.checked_add(index * entry_size)?..)?;
            Some(u32::from_le_bytes(entry.get(..4)?.try_into().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_told_from_a_static_one() {
        // This test runs from a dynamic program, and Debian's static busybox is an oracle for the other side.
        let own = std::env::current_exe().unwrap();
        let error = check_static(&own).unwrap_err().to_string();
        assert!(error.contains("is dynamically linked"), "{error}");
        check_static(Path::new("/bin/busybox")).unwrap();
    }

    /// A directory may have blanks in its name, so words are not told apart by blanks.
    #[test]
    fn no_directory_of_this_machine_is_in_the_program() {
        let encoded = encoded_flags(Architecture::Arm64, Path::new("/home/a b/.cargo"));
        let words: Vec<&str> = encoded.split('\u{1f}').collect();
        assert_eq!(words[..2], ["-C", "target-feature=+crt-static"]);
        let last = words.last().unwrap();
        assert_eq!(*last, "--remap-path-prefix=/home/a b/.cargo/registry/src=/crates");
    }

    #[test]
    fn what_is_not_elf_is_named_as_such() {
        assert_eq!(program_header_types(b"#!/bin/sh\n"), None);
        assert_eq!(program_header_types(b"\x7fELF\x02\x01"), None, "a truncated header");
    }
}
