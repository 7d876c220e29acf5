//! Which mount points lie beneath a directory, and whether they are where they were.

#![expect(
    clippy::disallowed_methods,
    reason = "mountinfo is about the process, not beneath any root"
)]

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::RootPath;

/// Something mounted beneath a root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mount {
    pub(crate) point: RootPath,
    /// The kernel's number of the mount, which it keeps when it is moved.
    id: Box<[u8]>,
    /// The device and the path on it, as mountinfo spells them.
    source: Box<[u8]>,
}

/// The mounts beneath a root are not what they were when it was opened.
///
/// What is protected is found by its path, so from now on files of the container could be taken for the image's.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum MountsError {
    #[error("cannot find the mount points below `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the mount point `{from}` was moved to `{to}`")]
    Moved { from: RootPath, to: RootPath },
    #[error("the mount point `{point}` is gone")]
    Gone { point: RootPath },
    #[error("something was mounted at `{point}` since the build began")]
    Added { point: RootPath },
}

impl MountsError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Read { .. } => "`/proc` must stay mounted, so that mounted files are recognized",
            Self::Moved { .. } => {
                "a command must not rename a directory that holds one of the container's mounts; \
                 rename what is in it instead, or mount somewhere else"
            }
            Self::Gone { .. } => {
                "a command must not unmount what is mounted into the container, nor remove a directory that holds it"
            }
            Self::Added { .. } => {
                "files of a mount cannot become a part of the image; a command must unmount what it mounts"
            }
        })
    }
}

/// Reads the mounts beneath `directory`, an absolute path without links, from the kernel.
///
/// The calling thread's table is read: it is the one that its system calls obey.
pub(crate) fn beneath(directory: &Path) -> io::Result<Vec<Mount>> {
    let table =
        std::fs::read("/proc/thread-self/mountinfo").or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => std::fs::read("/proc/self/mountinfo"),
            _ => Err(error),
        })?;
    Ok(parse(&table, directory))
}

/// Compares two lists of mounts in the order of [`beneath`]; `protects` tells what was protected by the first.
///
/// Mounts that come and go inside of something protected change nothing: a volume may propagate mounts from the
/// node at any time, and a look into `/proc` can make one. Of several differences the one is told that says most:
/// a move before what is only gone or new.
pub(crate) fn compare(
    before: &[Mount],
    now: &[Mount],
    protects: impl Fn(&RootPath) -> bool,
) -> Result<(), MountsError> {
    let missing_in = |list: &[Mount], mount: &Mount| {
        list.binary_search_by(|other| other.point.cmp(&mount.point)).is_err()
    };
    let is_inner = |mount: &Mount| mount.point.parent().is_some_and(|parent| protects(&parent));
    let gone: Vec<&Mount> = before.iter().filter(|mount| missing_in(now, mount)).collect();
    let added: Vec<&Mount> = now.iter().filter(|mount| missing_in(before, mount)).collect();

    for from in &gone {
        let same_id = added.iter().find(|to| to.id == from.id);
        let to = same_id.or_else(|| added.iter().find(|to| to.source == from.source));
        if let Some(to) = to
            && (!is_inner(from) || !protects(&to.point))
        {
            return Err(MountsError::Moved { from: from.point.clone(), to: to.point.clone() });
        }
    }
    if let Some(mount) = gone.iter().find(|mount| !is_inner(mount)) {
        return Err(MountsError::Gone { point: mount.point.clone() });
    }
    match added.iter().find(|mount| !protects(&mount.point)) {
        Some(mount) => Err(MountsError::Added { point: mount.point.clone() }),
        None => Ok(()),
    }
}

fn parse(table: &[u8], directory: &Path) -> Vec<Mount> {
    let Ok(directory) = RootPath::parse(directory.as_os_str().as_bytes()) else {
        return Vec::new();
    };
    let mut found: Vec<Mount> = table
        .split(|&byte| byte == b'\n')
        .filter_map(|line| parse_line(line, &directory))
        .filter(|mount| !mount.point.is_root())
        .collect();
    found.sort();
    found
}

/// A line is `id parent device root point …`.
fn parse_line(line: &[u8], directory: &RootPath) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let (id, _parent) = (fields.next()?, fields.next()?);
    let source = [fields.next()?, fields.next()?].join(&b' ');
    let point = RootPath::parse(&unescape(fields.next()?)).ok()?.strip_prefix(directory)?;
    Some(Mount { point, id: id.into(), source: source.into() })
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
    use crate::guard::Guard;

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
        let mut found: Vec<&[u8]> = found.iter().map(|mount| mount.point.as_bytes()).collect();
        found.dedup();
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

    #[track_caller]
    fn check_compare(before: &str, now: &str, expected: &str) {
        let parsed = |table: &str| parse(table.as_bytes(), Path::new("/"));
        let (before_list, now_list) = (parsed(before), parsed(now));
        let points = before_list.iter().map(|mount| mount.point.clone());
        let builder = RootPath::parse(b"kaniko").unwrap();
        let guard = Guard::new([builder], points, None);
        let protects = |path: &RootPath| guard.protects(path).is_some();
        let said = compare(&before_list, &now_list, protects).map_err(|error| {
            assert!(error.hint().is_some(), "{error}");
            error.to_string()
        });
        assert_eq!(said.err().unwrap_or_default(), expected, "{before} => {now}");
    }

    #[test]
    fn mounts_that_stay_where_they_are_are_no_error() {
        check_compare("", "", "");
        check_compare("1 0 0:1 / / rw", "9 0 0:1 /other / rw", "");
        check_compare("2 1 0:5 / /proc rw", "2 1 0:5 / /proc ro", "");
        let twice = "2 1 0:5 / /mnt rw\n3 2 0:6 / /mnt rw\n4 1 0:5 / /proc rw";
        check_compare(twice, twice, "");
    }

    #[test]
    fn mounts_come_and_go_inside_of_what_is_protected() {
        let volume = "2 1 0:5 / /data rw";
        let with_inner = "2 1 0:5 / /data rw\n3 2 0:6 / /data/x rw\n4 2 0:7 / /kaniko/y rw";
        let with_another = "2 1 0:5 / /data rw\n3 2 0:6 / /data/z rw";
        check_compare(volume, with_inner, "");
        check_compare(with_inner, volume, "");
        check_compare(with_inner, with_another, "");
        check_compare(
            with_inner,
            "2 1 0:5 / /data rw\n3 2 0:6 / /data/x rw\n4 2 0:7 / /kaniko2/y rw",
            "the mount point `kaniko/y` was moved to `kaniko2/y`",
        );
        check_compare(with_inner, "", "the mount point `data` is gone");
    }

    #[test]
    fn a_mount_that_moved_is_named_with_both_places() {
        let before = "5 1 8:1 /token /var/run/token rw\n6 1 8:1 /hosts /etc/hosts rw";
        check_compare(
            before,
            "5 1 8:1 /token /var2/run/token rw\n6 1 8:1 /hosts /etc/hosts rw",
            "the mount point `var/run/token` was moved to `var2/run/token`",
        );
        check_compare(
            before,
            "6 1 8:1 /hosts /etc/hosts rw\n7 1 8:1 /new /a rw\n9 1 8:1 /token /x\\040y rw",
            "the mount point `var/run/token` was moved to `x y`",
        );
    }

    #[test]
    fn mounts_that_are_gone_or_new_are_named() {
        let before = "5 1 8:1 /token /var/run/token rw\n6 1 8:1 /hosts /etc/hosts rw";
        check_compare(
            before,
            "5 1 8:1 /token /var/run/token rw",
            "the mount point `etc/hosts` is gone",
        );
        check_compare(
            "5 1 8:1 /token /var/run/token rw",
            before,
            "something was mounted at `etc/hosts` since the build began",
        );
    }
}
