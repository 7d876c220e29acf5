//! Why a private root could not be made, and what to do about it.

#![expect(clippy::disallowed_methods, reason = "asks the machine, not a root")]

use std::io;
use std::path::Path;

/// A private root could not be made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a private root to build in: {attempt}")]
pub struct PrivateError {
    pub(crate) attempt: Attempt,
    /// What stands in the way, as far as the machine tells.
    pub obstacle: Option<Obstacle>,
    pub(crate) source: io::Error,
}

/// What was tried last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Attempt {
    #[error("the program has more than one thread already")]
    Threads,
    #[error("a process could not be started")]
    Fork,
    #[error("new user, mount, process and IPC namespaces were refused")]
    UserNamespaces,
    #[error(
        "new mount, process and IPC namespaces were refused, with and without a user namespace"
    )]
    Namespaces,
    #[error("the ids of the new user namespace could not be set")]
    Ids,
    #[error("mounting in the new namespaces was refused")]
    Mount,
    #[error("user namespaces could not be forbidden to the commands that will run there")]
    Limit,
    #[error("the process in the new namespaces ended before it was ready")]
    Ended,
}

/// A known reason why a machine refuses namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// `user.max_user_namespaces` is 0.
    NoUserNamespaces,
    /// `kernel.unprivileged_userns_clone` is 0 and the user is not root.
    NoUnprivilegedUserNamespaces,
    /// `AppArmor` takes the rights out of user namespaces of programs without a profile.
    AppArmor,
    /// A seccomp filter is active, as in a container.
    Seccomp,
    /// A command could make a user namespace, have every capability in it, and reach the machine
    /// with them; `user.max_user_namespaces` cannot be set to prevent that.
    NestedUserNamespaces,
}

impl Obstacle {
    /// Reads what the machine says about itself. The most specific reason wins.
    pub(crate) fn find(is_root: bool) -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let setting = |name: &str| std::fs::read_to_string(Path::new("/proc/sys").join(name)).ok();
        Self::judge(is_root, &status, setting)
    }

    fn judge(
        is_root: bool,
        status: &str,
        setting: impl Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let is = |name: &str, value: &str| setting(name).is_some_and(|text| text.trim() == value);
        if is("user/max_user_namespaces", "0") {
            return Some(Self::NoUserNamespaces);
        }
        if !is_root && is("kernel/unprivileged_userns_clone", "0") {
            return Some(Self::NoUnprivilegedUserNamespaces);
        }
        let filtered = status
            .lines()
            .any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"));
        if filtered {
            return Some(Self::Seccomp);
        }
        if !is_root && is("kernel/apparmor_restrict_unprivileged_userns", "1") {
            return Some(Self::AppArmor);
        }
        None
    }
}

impl PrivateError {
    pub(crate) fn new(attempt: Attempt, source: impl Into<io::Error>) -> Self {
        Self { attempt, obstacle: None, source: source.into() }
    }

    /// What is missing and what the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self.obstacle {
            Some(Obstacle::NoUserNamespaces) => {
                "user namespaces are switched off on this machine: set `sysctl user.max_user_namespaces=15000`, \
                 build as root, or build in a container with the executor image"
            }
            Some(Obstacle::NoUnprivilegedUserNamespaces) => {
                "user namespaces are for root only on this machine: set `sysctl kernel.unprivileged_userns_clone=1`, \
                 build as root, or build in a container with the executor image"
            }
            Some(Obstacle::AppArmor) => {
                "AppArmor takes the rights out of user namespaces on this machine: give this program a profile with `userns,`, \
                 set `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, build as root, \
                 or build in a container with the executor image"
            }
            Some(Obstacle::Seccomp) => {
                "a seccomp filter, as containers have, forbids namespaces: in a container the program must be \
                 `/kaniko/executor` of the executor image (or lie in `$KANIKO_DIR`) to build on the container's own root, \
                 and the pod must not share the host's processes (`hostPID`)"
            }
            Some(Obstacle::NestedUserNamespaces) => {
                "the program must be able to write its own `/proc/sys/user/max_user_namespaces`, which a container with \
                 a read-only `/proc/sys` prevents: build outside of it, in one whose `/proc` is not masked, \
                 or with the executor image"
            }
            None => {
                "a private root needs user namespaces (as a normal user) or CAP_SYS_ADMIN (as root); \
                 without either, build in a container with the executor image"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(is_root: bool, status: &str, settings: &[(&str, &str)], expected: Option<Obstacle>) {
        let setting = |name: &str| {
            settings.iter().find(|entry| entry.0 == name).map(|entry| format!("{}\n", entry.1))
        };
        assert_eq!(Obstacle::judge(is_root, status, setting), expected);
    }

    #[test]
    fn the_obstacle_is_what_the_machine_says() {
        let off = ("user/max_user_namespaces", "0");
        let on = ("user/max_user_namespaces", "96343");
        let debian = ("kernel/unprivileged_userns_clone", "0");
        let ubuntu = ("kernel/apparmor_restrict_unprivileged_userns", "1");
        let filtered = "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        let free = "Name:\tx\nSeccomp:\t0\nSeccomp_filters:\t0\n";
        check(true, free, &[off], Some(Obstacle::NoUserNamespaces));
        check(false, filtered, &[on, debian], Some(Obstacle::NoUnprivilegedUserNamespaces));
        check(true, filtered, &[on, debian], Some(Obstacle::Seccomp));
        check(false, free, &[on, ubuntu], Some(Obstacle::AppArmor));
        check(true, free, &[on, ubuntu], None);
        check(false, free, &[], None);
    }
}
