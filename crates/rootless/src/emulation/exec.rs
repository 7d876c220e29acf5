//! What programs with set-user-id and set-group-id make of who executes them.

use std::os::fd::AsFd;

use ebiko_rootfs::{EmulatedFiles, Metadata};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};

use super::credentials::SetId;
use super::identities;
use super::path::{AtEnd, Found};
use super::permissions::EXECUTE;
use super::{Answer, Emulation, Refused, Result};
use crate::caller::Caller;

/// Executions of which is not known yet whether they succeed.
///
/// A process that executes becomes the new one at once, because the program may never ask before it forks. When it
/// does ask and still is the old program, it becomes the old one again.
#[derive(Debug, Default)]
pub(super) struct Pending(Vec<Execution>);

#[derive(Debug)]
struct Execution {
    process: u32,
    /// When the process was started: its number can be used again.
    started: Option<u64>,
    /// What it executed before, which it does still if this has failed.
    program: Option<(u64, u64)>,
    before: u64,
}

impl Pending {
    /// Takes back what did not happen.
    pub(super) fn settle(&mut self, caller: &Caller<'_>) {
        if self.0.is_empty() {
            return;
        }
        let process = process_of(caller);
        self.0.retain(|execution| {
            if execution.process != process {
                return started(execution.process) == execution.started;
            }
            let is_same = started(process) == execution.started;
            if is_same && program_of(process) == execution.program {
                identities::mark(process.cast_signed(), execution.before).ok();
            }
            false
        });
    }
}

fn process_of(caller: &Caller<'_>) -> u32 {
    let group = caller.status().and_then(|status| status.number("Tgid:", 10));
    group.unwrap_or_else(|| caller.thread())
}

/// The file that a process executes.
fn program_of(process: u32) -> Option<(u64, u64)> {
    let found = statat(CWD, format!("/proc/{process}/exe"), AtFlags::empty()).ok()?;
    Some((found.st_dev, found.st_ino))
}

/// The time in the 22nd field of `/proc/PID/stat`; the second one, in parentheses, can hold anything.
#[expect(clippy::disallowed_methods, reason = "asks the kernel about a process")]
fn started(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    text.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

/// What is to be executed.
struct Program {
    found: Found,
    /// Whether the kernel would find the same.
    is_shared: bool,
    set_id: SetId,
}

impl Emulation {
    /// `execve(2)` and `execveat(2)`.
    pub(super) fn execute(
        &mut self,
        caller: &Caller<'_>,
        directory: i32,
        path: usize,
        flags: i32,
    ) -> Result {
        let identity = self.identity(caller)?;
        let program = self.program(caller, directory, path, flags);
        if let Some(program) = &program {
            self.require(&identity, &program.found, EXECUTE)?;
            let metadata = program.found.metadata();
            if !metadata.is_file() || !identity.permits(metadata, EXECUTE) {
                return Err(Refused(libc::EACCES));
            }
            if !program.is_shared {
                return Ok(Answer::Impossible { path: caller.argument(path) });
            }
        }
        let set_id = program.as_ref().map_or_else(SetId::default, |program| program.set_id);
        let after = identity.after_exec(set_id);
        if after == *identity {
            return Ok(Answer::GoOn);
        }
        // The kernel says what is wrong with a program that cannot be found.
        let Some(Program { found, .. }) = program else { return Ok(Answer::GoOn) };
        let process = process_of(caller);
        let before = identities::marked(process.cast_signed())?;
        let program = program_of(process);
        // Whoever executes itself again cannot be told from who failed to.
        let is_same = program == Some((found.metadata().dev, found.metadata().ino));
        self.identities.set(process, after)?;
        let started = started(process);
        if !is_same {
            self.pending.0.push(Execution { process, started, program, before });
        }
        Ok(Answer::GoOn)
    }

    /// Makes the first process who its program makes of it, which is known when it first asks.
    pub(super) fn begin(&mut self, caller: &Caller<'_>) -> Result<()> {
        let path = format!("/proc/{}/exe", caller.thread());
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let Ok(file) = openat(CWD, path, flags, Mode::empty()) else { return Ok(()) };
        let set_id = set_id(self.files.look_at(file.as_fd())?.metadata());
        let after = self.identity(caller)?.after_exec(set_id);
        Ok(self.identities.set(caller.thread(), after)?)
    }

    fn program(
        &self,
        caller: &Caller<'_>,
        directory: i32,
        path: usize,
        flags: i32,
    ) -> Option<Program> {
        let text = caller.read_text(caller.argument(path)).ok()?;
        let may_be_empty = flags & libc::AT_EMPTY_PATH != 0;
        let (found, is_shared) = if text.is_empty() && may_be_empty {
            (self.files.of_descriptor(caller, directory).ok()?, true)
        } else {
            let place = self.files.place(caller, directory, &text).ok()?;
            let found = self.files.open(caller, &place, AtEnd::Follow).ok()?;
            let is_shared = place.is_shared(AtEnd::Follow) && !found.is_hidden;
            (found, is_shared)
        };
        let mut set_id = set_id(found.metadata());
        if set_id != SetId::default() && is_script(found.file.as_fd()) {
            set_id = SetId::default();
        }
        Some(Program { found, is_shared, set_id })
    }
}

fn set_id(metadata: &Metadata) -> SetId {
    if !EmulatedFiles::changes_who_executes(metadata) {
        return SetId::default();
    }
    // Without the right to execute, set-group-id once meant mandatory locks.
    let by_group = metadata.mode & 0o2010 == 0o2010;
    SetId {
        user: (metadata.mode & 0o4000 != 0).then_some(metadata.uid),
        group: by_group.then_some(metadata.gid),
    }
}

/// Whether a file begins with `#!`: then its interpreter is executed, and its own bits mean nothing.
fn is_script(file: rustix::fd::BorrowedFd<'_>) -> bool {
    use std::os::fd::AsRawFd;

    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut start = [0; 2];
    openat(CWD, path, flags, Mode::empty())
        .and_then(|file| rustix::io::read(&file, &mut start))
        .is_ok_and(|count| count == 2 && start == *b"#!")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_was_started_and_executes_something() {
        let own = std::process::id();
        assert!(started(own).is_some_and(|time| time > 0));
        assert!(program_of(own).is_some());
        assert_eq!(started(0), None);
    }
}
