//! Why a program cannot be executed, as far as the root tells.

use std::io::Read;

use ebiko_plan::RunAction;
use ebiko_rootfs::{Metadata, Root, RootPath};
use ebiko_rootless::{GuestStage, RunError};
use nix::errno::Errno;

/// As much of a program as tells what it is.
const HEADER: u64 = 256;

/// What to do about a program that did not start.
pub(super) fn hint(error: &RunError, root: &Root, action: &RunAction) -> Option<String> {
    let RunError::Start { stage: GuestStage::Execute { program }, source } = error else {
        return None;
    };
    let found = find(root, program, action);
    match Errno::from_raw(source.raw_os_error()?) {
        Errno::ENOENT | Errno::ENOTDIR => Some(missing(root, program, found)),
        Errno::EACCES => found.map(|(path, metadata)| {
            if metadata.is_file() {
                format!("`/{path}` may not be executed by this user; check its mode and those of the directories above it")
            } else {
                format!("`/{path}` is not a file")
            }
        }),
        Errno::ENOEXEC => {
            let (path, _) = found?;
            Some(not_executable(&path, &header(root, &path)?))
        }
        _ => None,
    }
}

fn missing(root: &Root, program: &str, found: Option<(RootPath, Metadata)>) -> String {
    let Some((path, _)) = found else {
        return if program.ends_with("/sh") {
            format!(
                "the image has no shell at `{program}`: use the exec form, `RUN [\"program\", \"argument\"]`, or a base image with a shell"
            )
        } else if program.contains('/') {
            format!("the image has no `{program}`")
        } else {
            format!("`{program}` is in no directory of the image's PATH")
        };
    };
    let header = header(root, &path).unwrap_or_default();
    match interpreter(&header) {
        Some(interpreter) => {
            format!("`/{path}` is there, but `{interpreter}`, which its first line names, is not")
        }
        None => format!(
            "`/{path}` is there, but the loader that it was linked for is not: it may need another C library, or be for another architecture"
        ),
    }
}

fn not_executable(path: &RootPath, header: &[u8]) -> String {
    match machine(header) {
        Some(machine) => format!(
            "`/{path}` of the image is a program for {machine}, and this machine is {}: choose an image for this machine's platform, \
             or build on a machine for that one",
            this_machine()
        ),
        None => format!(
            "`/{path}` is neither a program nor a script with `#!` in its first line; run it with its interpreter"
        ),
    }
}

/// This machine in the words of images.
fn this_machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The file behind a program's name, if there is one.
fn find(root: &Root, program: &str, action: &RunAction) -> Option<(RootPath, Metadata)> {
    let at = |path: &str| {
        let work_dir = RootPath::resolve(&RootPath::root(), action.work_dir.as_bytes()).ok()?;
        let path = root.resolve(&RootPath::resolve(&work_dir, path.as_bytes()).ok()?).ok()?;
        let metadata = root.find(&path).ok()??;
        Some((path, metadata))
    };
    if program.contains('/') {
        return at(program);
    }
    let (_, path) = action.env.iter().rev().find(|(name, _)| name == "PATH")?;
    path.split(':')
        .filter(|directory| directory.starts_with('/'))
        .find_map(|directory| at(&format!("{directory}/{program}")))
}

fn header(root: &Root, path: &RootPath) -> Option<Vec<u8>> {
    let mut header = Vec::new();
    root.open_file(path).ok()?.take(HEADER).read_to_end(&mut header).ok()?;
    Some(header)
}

/// What the first line of a script names.
fn interpreter(header: &[u8]) -> Option<String> {
    let line = header.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
    let name = line.trim_ascii().split(u8::is_ascii_whitespace).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// For which machine an ELF file is.
fn machine(header: &[u8]) -> Option<String> {
    if !header.starts_with(b"\x7fELF") {
        return None;
    }
    let [low, high] = header.get(18..20)?.try_into().ok()?;
    let is_big_endian = header.get(5) == Some(&2);
    let number = if is_big_endian {
        u16::from_be_bytes([low, high])
    } else {
        u16::from_le_bytes([low, high])
    };
    Some(match number {
        3 => "386".to_owned(),
        8 => "mips".to_owned(),
        21 => "ppc64le".to_owned(),
        22 => "s390x".to_owned(),
        40 => "arm".to_owned(),
        62 => "amd64".to_owned(),
        183 => "arm64".to_owned(),
        243 => "riscv64".to_owned(),
        258 => "loong64".to_owned(),
        other => format!("machine {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_names_its_interpreter_in_the_first_line() {
        assert_eq!(interpreter(b"#!/bin/bash -e\nexit"), Some("/bin/bash".to_owned()));
        assert_eq!(interpreter(b"#! /usr/bin/env python3"), Some("/usr/bin/env".to_owned()));
        assert_eq!(interpreter(b"\x7fELF"), None);
        assert_eq!(interpreter(b""), None);
    }

    #[test]
    fn a_program_names_its_machine() {
        let elf = |order: u8, machine: [u8; 2]| {
            let mut header = b"\x7fELF\x02".to_vec();
            header.push(order);
            header.resize(18, 0);
            header.extend(machine);
            header
        };
        assert_eq!(machine(&elf(1, [183, 0])), Some("arm64".to_owned()));
        assert_eq!(machine(&elf(2, [0, 22])), Some("s390x".to_owned()));
        assert_eq!(machine(&elf(1, [1, 1])), Some("machine 257".to_owned()));
        assert_eq!(machine(b"\x7fELF"), None);
        assert_eq!(machine(b"#!/bin/sh"), None);
    }
}
