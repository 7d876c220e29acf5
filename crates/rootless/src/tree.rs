//! Which processes descend from one, and ending them.

#![expect(clippy::disallowed_methods, reason = "procfs is not below a root")]

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Process ids and their parents'.
pub(crate) type Parents = BTreeMap<i32, i32>;

/// The processes that `/proc` shows now.
pub(crate) fn processes() -> Parents {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Parents::new() };
    let parent = |pid: i32| parse_parent(&std::fs::read(format!("/proc/{pid}/stat")).ok()?);
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        // A process may have ended since.
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect()
}

/// The parent in a `/proc/PID/stat`. The name before it is in parentheses and may itself hold any
/// byte.
fn parse_parent(stat: &[u8]) -> Option<i32> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = str::from_utf8(stat.get(end + 1..)?).ok()?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Where this process has its arguments: start and length.
pub(crate) fn command_line() -> Option<(usize, usize)> {
    parse_command_line(&std::fs::read("/proc/self/stat").ok()?)
}

/// Fields 48 and 49 of a `/proc/PID/stat`, which is the 46th behind the name on.
fn parse_command_line(stat: &[u8]) -> Option<(usize, usize)> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let mut fields = str::from_utf8(stat.get(end + 1..)?).ok()?.split_ascii_whitespace().skip(45);
    let mut next = || fields.next()?.parse::<usize>().ok();
    let (first, behind) = (next()?, next()?);
    (first > 0 && behind > first).then(|| (first, behind - first))
}

/// Everything beneath `ancestor`, without it.
pub(crate) fn descendants(parents: &Parents, ancestor: i32) -> BTreeSet<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (&pid, &parent) in parents {
        children.entry(parent).or_default().push(pid);
    }
    let mut found = BTreeSet::new();
    let mut open = vec![ancestor];
    while let Some(pid) = open.pop() {
        for &child in children.get(&pid).into_iter().flatten() {
            if child != ancestor && found.insert(child) {
                open.push(child);
            }
        }
    }
    found
}

/// Sends SIGKILL to each; who is gone already is gone.
pub(crate) fn kill_all(pids: &BTreeSet<i32>) {
    for &pid in pids {
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parse_parent(b"12 (sh) S 7 12 12 0"), Some(7));
        assert_eq!(parse_parent(b"12 (a) S 1 (b\n) R 34 1"), Some(34));
        assert_eq!(parse_parent(b"12 (sh"), None);
        assert_eq!(parse_parent(b""), None);
    }

    #[test]
    fn the_command_line_is_where_the_kernel_put_it() {
        let (start, length) = command_line().unwrap();
        let shown = std::fs::read("/proc/self/cmdline").unwrap();
        assert_eq!(length, shown.len());
        #[expect(unsafe_code, reason = "looks where the kernel says")]
        // SAFETY: the arguments stay where they are for as long as the process lives.
        let found = unsafe {
            std::slice::from_raw_parts(std::ptr::with_exposed_provenance::<u8>(start), length)
        };
        assert_eq!(found, shown);
        assert_eq!(parse_command_line(b"1 (sh) S 0 0"), None);
    }

    #[test]
    fn descendants_are_all_generations_and_not_the_ancestor() {
        let parents = Parents::from([(2, 1), (3, 2), (4, 3), (5, 1), (6, 6), (1, 0)]);
        assert_eq!(descendants(&parents, 2), BTreeSet::from([3, 4]));
        assert_eq!(descendants(&parents, 4), BTreeSet::new());
        assert_eq!(descendants(&parents, 6), BTreeSet::new());
    }

    #[test]
    fn this_process_is_listed_with_its_parent() {
        let own = nix::unistd::getpid().as_raw();
        assert_eq!(processes().get(&own), Some(&nix::unistd::getppid().as_raw()));
    }
}
