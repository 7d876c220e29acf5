//! The process that stays outside of the private namespaces: it sets their ids, waits, and passes
//! on what comes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::idmap::{self, Range};
use crate::interrupt::STOPPING;
use crate::refusal::{Attempt, Obstacle, PrivateError};

/// How the builder in its private namespaces ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this status.
    Exited(i32),
    /// It was ended by this signal.
    Signalled(i32),
}

impl Ending {
    /// The exit status that says the same: a shell's 128 plus the signal.
    pub fn exit_status(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Signalled(signal) => 128 + signal,
        }
    }
}

/// What the processes inside tell: a tag and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// The namespaces exist; whether a user namespace is among them.
    Unshared(bool),
    /// The namespaces were refused.
    UnshareRefused(i32),
    /// The builder has this process id outside.
    Builder(i32),
    /// The builder's namespaces are set up.
    Ready,
    /// Setting them up was refused.
    MountRefused(i32),
    /// New user namespaces could not be forbidden to guests.
    LimitRefused(i32),
    /// The builder has exited.
    Exited(i32),
    /// A signal has ended the builder.
    Signalled(i32),
}

impl Report {
    pub(crate) fn encode(self) -> [u8; 8] {
        let (tag, value): (u64, i32) = match self {
            Self::Unshared(user) => (1, i32::from(user)),
            Self::UnshareRefused(error) => (2, error),
            Self::Builder(pid) => (3, pid),
            Self::Ready => (4, 0),
            Self::MountRefused(error) => (5, error),
            Self::Exited(status) => (6, status),
            Self::Signalled(signal) => (7, signal),
            Self::LimitRefused(error) => (8, error),
        };
        (tag << 32 | u64::from(value.cast_unsigned())).to_be_bytes()
    }

    fn decode(bytes: [u8; 8]) -> Option<Self> {
        let whole = u64::from_be_bytes(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "takes the two halves apart")]
        let value = (whole as u32).cast_signed();
        Some(match whole >> 32 {
            1 => Self::Unshared(value != 0),
            2 => Self::UnshareRefused(value),
            3 => Self::Builder(value),
            4 => Self::Ready,
            5 => Self::MountRefused(value),
            6 => Self::Exited(value),
            7 => Self::Signalled(value),
            8 => Self::LimitRefused(value),
            _ => return None,
        })
    }

    /// The next report; `None` when everyone who could report has ended.
    fn read(from: &mut File) -> Option<Self> {
        let mut bytes = [0; 8];
        from.read_exact(&mut bytes).ok()?;
        Self::decode(bytes)
    }
}

/// Which ids a new user namespace shall have, decided before there is one.
#[derive(Debug)]
pub(crate) struct IdPlan {
    pub(crate) is_root: bool,
    own: (u32, u32),
    pub(crate) users: Vec<Range>,
    pub(crate) groups: Vec<Range>,
    /// `newuidmap` and `newgidmap`, where they are needed and there.
    helpers: Option<(PathBuf, PathBuf)>,
}

/// Which part of an [`IdPlan`] came true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdsGranted {
    pub(crate) users: bool,
    pub(crate) groups: bool,
}

impl IdsGranted {
    pub(crate) fn encode(self) -> u8 {
        u8::from(self.users) | u8::from(self.groups) << 1
    }

    pub(crate) fn decode(byte: u8) -> Self {
        Self { users: byte & 1 != 0, groups: byte & 2 != 0 }
    }
}

#[expect(clippy::disallowed_methods, reason = "the machine's own files, not a root's")]
impl IdPlan {
    /// `search_path` is where the helpers are looked for, before the places that distributions use.
    pub(crate) fn make(search_path: &OsStr) -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        if own.0 == 0 {
            let users = idmap::identity(&idmap::parse_map(&text("/proc/self/uid_map")));
            let groups = idmap::identity(&idmap::parse_map(&text("/proc/self/gid_map")));
            return Self { is_root: true, own, users, groups, helpers: None };
        }
        let passwd = text("/etc/passwd");
        let name = idmap::name_of(&passwd, own.0);
        let ranges = |file| idmap::parse_subordinate(&text(file), own.0, name);
        Self {
            is_root: false,
            own,
            users: idmap::with_subordinate(own.0, &ranges("/etc/subuid")),
            groups: idmap::with_subordinate(own.1, &ranges("/etc/subgid")),
            helpers: find_program("newuidmap", search_path)
                .zip(find_program("newgidmap", search_path)),
        }
    }

    /// Whether the plan gives more than the user's own id.
    pub(crate) fn has_ranges(&self) -> bool {
        let has_more =
            |ranges: &[Range]| ranges.len() > 1 || ranges.iter().any(|range| range.count > 1);
        has_more(&self.users) && has_more(&self.groups)
    }

    /// Whether there could be more than one id. Helpers have no effect where no program may gain privileges.
    pub(crate) fn may_have_ids(&self) -> bool {
        let may_gain = self.is_root || rustix::thread::no_new_privs().is_ok_and(|none| !none);
        self.has_ranges() && self.has_helpers() && may_gain
    }

    pub(crate) fn has_helpers(&self) -> bool {
        self.is_root || self.helpers.is_some()
    }

    /// Gives the ids to the user namespace of process `pid`; where that is refused, gives it at
    /// least the user's own.
    fn apply(&self, pid: Pid) -> io::Result<IdsGranted> {
        let file = |name: &str| format!("/proc/{pid}/{name}");
        let users = self.grant(
            pid,
            &file("uid_map"),
            &self.users,
            self.helpers.as_ref().map(|both| &both.0),
        );
        if !users {
            std::fs::write(
                file("uid_map"),
                idmap::render(&idmap::with_subordinate(self.own.0, &[])),
            )?;
        }
        let groups = self.grant(
            pid,
            &file("gid_map"),
            &self.groups,
            self.helpers.as_ref().map(|both| &both.1),
        );
        if !groups {
            // The kernel's condition for letting somebody without rights write a `gid_map`. Refused
            // where the map is root's, which does not need it.
            std::fs::write(file("setgroups"), "deny").ok();
            std::fs::write(
                file("gid_map"),
                idmap::render(&idmap::with_subordinate(self.own.1, &[])),
            )?;
        }
        Ok(IdsGranted { users, groups })
    }

    fn grant(&self, pid: Pid, file: &str, ranges: &[Range], helper: Option<&PathBuf>) -> bool {
        if self.is_root {
            return std::fs::write(file, idmap::render(ranges)).is_ok();
        }
        let Some(helper) = helper.filter(|_| ranges.len() > 1) else { return false };
        let numbers = idmap::render(ranges);
        std::process::Command::new(helper)
            .arg(pid.to_string())
            .args(numbers.split_ascii_whitespace())
            .stdin(std::process::Stdio::null())
            .output()
            .is_ok_and(|output| output.status.success())
    }
}

fn find_program(name: &str, search_path: &OsStr) -> Option<PathBuf> {
    const USUAL: [&[u8]; 3] = [b"/usr/bin", b"/bin", b"/run/wrappers/bin"];
    let directories = search_path.as_bytes().split(|&byte| byte == b':').chain(USUAL);
    directories
        .filter(|directory| directory.starts_with(b"/"))
        .map(|directory| Path::new(OsStr::from_bytes(directory)).join(name))
        .find(|path| path.is_file())
}

/// Sees the processes inside through their start, then waits for the builder and passes signals on
/// to it.
///
/// The signals of [`watched`] must be blocked.
pub(crate) fn attend(
    middle: Pid,
    plan: &IdPlan,
    mut reports: File,
    mut go: impl FnMut(IdsGranted) -> io::Result<()>,
) -> Result<Ending, PrivateError> {
    match start(middle, plan, &mut reports, &mut go) {
        Ok(builder) => Ok(wait(middle, builder, &mut reports)),
        Err(error) => {
            // It may wait for an answer that will not come.
            kill(middle, Signal::SIGKILL).ok();
            waitpid(middle, None).ok();
            Err(error)
        }
    }
}

/// Returns the builder's process id once it is ready.
fn start(
    middle: Pid,
    plan: &IdPlan,
    reports: &mut File,
    go: &mut impl FnMut(IdsGranted) -> io::Result<()>,
) -> Result<Pid, PrivateError> {
    let refused = |attempt, error: i32| PrivateError {
        attempt,
        obstacle: Obstacle::find(plan.is_root),
        source: io::Error::from_raw_os_error(error),
    };
    let mut builder = None;
    let mut ready = false;
    loop {
        match Report::read(reports) {
            Some(Report::Unshared(with_user)) => {
                let granted = if with_user {
                    plan.apply(middle).map_err(|source| PrivateError {
                        attempt: Attempt::Ids,
                        obstacle: Obstacle::find(plan.is_root),
                        source,
                    })?
                } else {
                    IdsGranted { users: true, groups: true }
                };
                go(granted).map_err(|source| PrivateError::new(Attempt::Ended, source))?;
            }
            Some(Report::UnshareRefused(error)) => {
                let attempt =
                    if plan.is_root { Attempt::Namespaces } else { Attempt::UserNamespaces };
                return Err(refused(attempt, error));
            }
            Some(Report::MountRefused(error)) => return Err(refused(Attempt::Mount, error)),
            Some(Report::LimitRefused(error)) => {
                return Err(PrivateError {
                    attempt: Attempt::Limit,
                    obstacle: Some(Obstacle::NestedUserNamespaces),
                    source: io::Error::from_raw_os_error(error),
                });
            }
            Some(Report::Builder(pid)) => builder = Some(Pid::from_raw(pid)),
            Some(Report::Ready) => ready = true,
            Some(Report::Exited(_) | Report::Signalled(_)) | None => {
                return Err(PrivateError::new(Attempt::Ended, io::ErrorKind::BrokenPipe));
            }
        }
        // The two come from two processes, in either order.
        if let Some(pid) = builder.filter(|_| ready) {
            return Ok(pid);
        }
    }
}

/// Waits for the builder to end.
fn wait(middle: Pid, builder: Pid, reports: &mut File) -> Ending {
    let signals = watched();
    loop {
        match next_signal(&signals) {
            Some((Signal::SIGCHLD, _)) => {
                let status = waitpid(middle, Some(WaitPidFlag::WNOHANG));
                if status == Ok(WaitStatus::StillAlive) {
                    continue;
                }
                return last_words(reports);
            }
            // What the terminal sends, it sends to the builder too.
            Some((_, true)) | None => {}
            Some((signal, false)) => {
                kill(builder, signal).ok();
            }
        }
    }
}

fn last_words(reports: &mut File) -> Ending {
    while let Some(report) = Report::read(reports) {
        match report {
            Report::Exited(status) => return Ending::Exited(status),
            Report::Signalled(signal) => return Ending::Signalled(signal),
            _ => {}
        }
    }
    // The process in between was killed, and the builder with it.
    Ending::Signalled(libc::SIGKILL)
}

/// The signals that [`attend`] waits for.
pub(crate) fn watched() -> SigSet {
    STOPPING.into_iter().chain([Signal::SIGCHLD]).collect()
}

/// The next of the signals, and whether the kernel sent it (as for Ctrl-C) and not a process.
fn next_signal(signals: &SigSet) -> Option<(Signal, bool)> {
    #[expect(unsafe_code, reason = "no wrapper returns who sent a signal")]
    // SAFETY: an all-zero `siginfo_t` is a valid value, and `sigwaitinfo` only reads the set and
    // writes the struct.
    let (signal, code) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let signal = libc::sigwaitinfo(std::ptr::from_ref(signals.as_ref()), &raw mut info);
        (signal, info.si_code)
    };
    Signal::try_from(signal).ok().map(|signal| (signal, code > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_the_pipe() {
        for report in [
            Report::Unshared(true),
            Report::Unshared(false),
            Report::UnshareRefused(1),
            Report::Builder(i32::MAX),
            Report::Ready,
            Report::MountRefused(13),
            Report::LimitRefused(30),
            Report::Exited(255),
            Report::Signalled(9),
        ] {
            assert_eq!(Report::decode(report.encode()), Some(report));
        }
        assert_eq!(Report::decode([9; 8]), None);
    }

    #[test]
    fn an_ending_by_signal_is_what_a_shell_says() {
        assert_eq!(Ending::Exited(3).exit_status(), 3);
        assert_eq!(Ending::Signalled(15).exit_status(), 143);
    }

    #[test]
    fn a_program_is_looked_up_in_absolute_directories_only() {
        assert_eq!(find_program("sh", OsStr::new("usr/bin::/usr/bin")), Some("/usr/bin/sh".into()));
        assert_eq!(find_program("no-such-program", OsStr::new("/usr/bin")), None);
    }
}
