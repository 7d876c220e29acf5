//! Which mount points lie beneath a directory.

#![expect(
    clippy::disallowed_methods,
    reason = "mountinfo is about the process, not beneath any root"
)]

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::RootPath;

/// Reads the mount points beneath `directory`, an absolute path without links, from the kernel.
///
/// The calling thread's table is read: it is the one that its system calls obey.
pub(crate) fn beneath(directory: &Path) -> io::Result<Vec<RootPath>> {
    let table =
        std::fs::read("/proc/thread-self/mountinfo").or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => std::fs::read("/proc/self/mountinfo"),
            _ => Err(error),
        })?;
    Ok(parse(&table, directory))
}

fn parse(table: &[u8], directory: &Path) -> Vec<RootPath> {
    let Ok(directory) = RootPath::parse(directory.as_os_str().as_bytes()) else {
        return Vec::new();
    };
    let mut found: Vec<RootPath> = table
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .filter_map(|field| RootPath::parse(&unescape(field)).ok())
        .filter_map(|point| point.strip_prefix(&directory))
        .filter(|point| !point.is_root())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The kernel writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if byte == b'\\' => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => plain.push(byte),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"\
        21 1 0:20 / / rw,relatime - overlay overlay rw\n\
        22 21 0:5 / /proc rw - proc proc rw\n\
        23 22 0:5 /sys /proc/sys ro - proc proc rw\n\
        24 21 8:1 /hosts /etc/hosts rw - ext4 /dev/sda rw\n\
        25 21 8:1 /a /srv/with\\040space rw - ext4 /dev/sda rw\n\
        26 21 8:1 /b /srv/back\\134slash\\012 rw - ext4 /dev/sda rw\n\
        27 21 8:1 /b /srv/back\\134slash\\012 rw - ext4 /dev/sda rw\n\
        28 21 8:1 /b /srvs rw - ext4 /dev/sda rw\n\
        broken\n";

    #[track_caller]
    fn check(directory: &str, expected: &[&[u8]]) {
        let found = parse(TABLE, Path::new(directory));
        let found: Vec<&[u8]> = found.iter().map(RootPath::as_bytes).collect();
        assert_eq!(found, expected, "beneath {directory}");
    }

    #[test]
    fn the_root_of_the_process_holds_every_mount_but_itself() {
        check(
            "/",
            &[b"etc/hosts", b"proc", b"proc/sys", b"srv/back\\slash\n", b"srv/with space", b"srvs"],
        );
    }

    #[test]
    fn names_are_relative_to_the_directory_and_escapes_are_read() {
        check("/srv", &[b"back\\slash\n", b"with space"]);
        check("/etc", &[b"hosts"]);
        check("/etc/hosts", &[]);
        check("/usr", &[]);
    }
}
