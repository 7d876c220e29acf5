//! The processors that there are images for.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use testkit::command::capture_text;

/// A processor, by the name that images have for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    /// This machine's.
    pub(crate) fn native() -> anyhow::Result<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("there are no images for `{other}`, only for amd64 and arm64"),
        }
    }

    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        match text {
            "amd64" => Ok(Self::Amd64),
            "arm64" => Ok(Self::Arm64),
            other => bail!("there are no images for `{other}`, only for amd64 and arm64"),
        }
    }

    /// As images have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// As Rust and the C compilers have it.
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The C compiler, which links, and the Debian package that has it.
    pub(crate) fn compiler(self) -> (&'static str, &'static str) {
        match self {
            Self::Amd64 => ("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu"),
            Self::Arm64 => ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
        }
    }

    /// What an ELF header calls it.
    fn elf_machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
        }
    }

    /// Fails if this machine cannot compile for it, and says what is missing.
    pub(crate) fn check_tools(self) -> anyhow::Result<()> {
        if self == Self::native()? {
            return Ok(());
        }
        let triple = self.triple();
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args(["--print", "target-libdir", "--target", triple]);
        let libraries = capture_text(rustc.current_dir(testkit::workspace_dir()))?;
        ensure!(
            Path::new(libraries.trim()).is_dir(),
            "Rust's standard library for {triple} is not installed: `rustup target add {triple}` fetches it from \
             static.rust-lang.org (Debian's libstd-rust-dev is too old)"
        );
        let (compiler, package) = self.compiler();
        let answer = Command::new(compiler).arg("--version").output();
        ensure!(
            answer.is_ok_and(|output| output.status.success()),
            "there is no `{compiler}`: `apt-get install {package} libc6-dev-{}-cross`",
            self.name()
        );
        // For a file that it does not have, the compiler repeats the name.
        let library = capture_text(Command::new(compiler).arg("-print-file-name=libc.a"))?;
        ensure!(
            Path::new(library.trim()).is_absolute(),
            "`{compiler}` has no static C library: `apt-get install libc6-dev-{}-cross`",
            self.name()
        );
        Ok(())
    }

    /// Fails if an ELF file is for another processor.
    pub(crate) fn check(self, path: &Path) -> anyhow::Result<()> {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let machine = bytes.get(0x12..0x14).and_then(|field| field.try_into().ok());
        let machine = machine.map(u16::from_le_bytes);
        ensure!(
            machine == Some(self.elf_machine()),
            "`{}` is not for {}; a busybox for it is in Debian's busybox-static:{} \
             (`dpkg --add-architecture {}`, `apt-get update`, `apt-get download`, `dpkg-deb -x`): name it with \
             `--busybox`",
            path.display(),
            self.name(),
            self.name(),
            self.name()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_for_another_processor_is_refused() {
        let own = std::env::current_exe().unwrap();
        let native = Architecture::native().unwrap();
        native.check(&own).unwrap();
        let other = match native {
            Architecture::Amd64 => Architecture::Arm64,
            Architecture::Arm64 => Architecture::Amd64,
        };
        let error = other.check(&own).unwrap_err().to_string();
        assert!(error.contains("is not for"), "{error}");
    }
}
