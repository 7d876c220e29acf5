//! Where may a build run?

#![expect(clippy::disallowed_methods, reason = "asks the machine, not a root")]

use std::path::{Path, PathBuf};

/// What was seen around the program before it did anything.
///
/// Plain data, so that [`decide`](Self::decide) can be read and tested without a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The first sign of a container, if there is one.
    pub container: Option<Evidence>,
    /// Whose process namespace this is.
    pub processes: Standing,
    /// Whose mount namespace this is.
    pub mounts: Standing,
}

/// A sign that the program runs in a container. Signs can be left over or copied; they never decide
/// alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// A file or directory that a container engine leaves.
    Path(PathBuf),
    /// A line of `/proc/self/cgroup` that names an engine.
    ControlGroup(String),
    /// A variable that an engine or orchestrator sets.
    Variable(String),
}

/// Whether a namespace is the machine's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The namespace that the machine was started with.
    Initial,
    /// A namespace that somebody made.
    Own,
    /// The question has no answer here, which counts as [`Initial`](Self::Initial).
    Unknown,
}

/// Where the build runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// On the container's own `/`, as kaniko does.
    InPlace,
    /// In a root of its own, in namespaces of its own; `/` is not touched.
    Private,
}

/// `--force` asks to build on `/`, and `/` is not a container's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`--force` would build on `/`, and `/` is this machine's own root: {reason}")]
pub struct ForceRefused {
    reason: &'static str,
}

impl ForceRefused {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        "leave `--force` away to build in a private root; in a pod, leave `hostPID` away"
    }
}

/// The inode of the namespace that every Linux machine starts with: `PROC_PID_INIT_INO`.
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The inode of the first mount namespace on kernels that fix it. Others number it like any other,
/// and then only the process namespace tells.
const INITIAL_MOUNT_NAMESPACE: u64 = 0xEFFF_FFF8;

const MARKS: [&str; 4] = [
    "/.dockerenv",
    "/run/.containerenv",
    "/var/run/secrets/kubernetes.io/serviceaccount",
    "/run/secrets/kubernetes.io/serviceaccount",
];

/// Looks around. `environment` is the program's, because only the binary reads it.
pub fn survey<'a>(environment: impl IntoIterator<Item = (&'a str, &'a str)>) -> Surroundings {
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let container = MARKS
        .iter()
        .map(Path::new)
        .find(|path| path.exists())
        .map(|path| Evidence::Path(path.to_owned()))
        .or_else(|| control_group(&cgroups))
        .or_else(|| variable(environment));
    Surroundings {
        container,
        processes: standing("/proc/self/ns/pid", INITIAL_PID_NAMESPACE),
        mounts: standing("/proc/self/ns/mnt", INITIAL_MOUNT_NAMESPACE),
    }
}

impl Surroundings {
    /// Chooses where the build runs.
    ///
    /// `/` is chosen only where three things agree: the program lies in the builder's directory
    /// (`/kaniko`, or what `KANIKO_DIR` says), which is so in an executor image and nowhere else;
    /// something says that this is a container; and the namespaces are not the machine's own.
    /// `force` stands in for the first two, never for the third.
    pub fn decide(
        &self,
        executable_dir: &Path,
        builder_dir: &Path,
        force: bool,
    ) -> Result<Choice, ForceRefused> {
        match (self.machine_root(), force) {
            (Some(reason), true) => Err(ForceRefused { reason }),
            (Some(_), false) => Ok(Choice::Private),
            (None, true) => Ok(Choice::InPlace),
            (None, false) => {
                let is_executor = executable_dir == builder_dir && self.container.is_some();
                Ok(if is_executor { Choice::InPlace } else { Choice::Private })
            }
        }
    }

    /// Why `/` must be taken for the machine's own, if it must.
    fn machine_root(&self) -> Option<&'static str> {
        match (self.processes, self.mounts) {
            (Standing::Initial, _) => {
                Some("the program runs in the machine's own process namespace")
            }
            (Standing::Unknown, _) => {
                Some("`/proc` does not tell in which process namespace the program runs")
            }
            (_, Standing::Initial) => Some("the program runs in the machine's own mount namespace"),
            (Standing::Own, _) => None,
        }
    }
}

fn standing(link: &str, initial: u64) -> Standing {
    let target = std::fs::read_link(link).unwrap_or_default();
    let inode = target
        .to_str()
        .and_then(|text| text.split_once(":[")?.1.strip_suffix(']')?.parse::<u64>().ok());
    match inode {
        Some(inode) if inode == initial => Standing::Initial,
        Some(_) => Standing::Own,
        None => Standing::Unknown,
    }
}

fn control_group(text: &str) -> Option<Evidence> {
    const ENGINES: [&str; 6] = ["docker", "kubepods", "containerd", "libpod", "lxc", "garden"];
    let names_engine = |line: &&str| {
        let path = line.splitn(3, ':').nth(2).unwrap_or_default();
        ENGINES.iter().any(|engine| path.contains(engine))
    };
    text.lines().find(names_engine).map(|line| Evidence::ControlGroup(line.to_owned()))
}

fn variable<'a>(environment: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Evidence> {
    environment
        .into_iter()
        .find(|&(name, value)| {
            matches!(name, "KUBERNETES_SERVICE_HOST" | "container") && !value.is_empty()
        })
        .map(|(name, _)| Evidence::Variable(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: Option<&str> = Some("/.dockerenv");

    #[track_caller]
    fn check(
        container: Option<&str>,
        processes: Standing,
        mounts: Standing,
        executable_dir: &str,
        force: bool,
        expected: &str,
    ) {
        let container = container.map(|path| Evidence::Path(path.into()));
        let surroundings = Surroundings { container, processes, mounts };
        let actual =
            match surroundings.decide(Path::new(executable_dir), Path::new("/kaniko"), force) {
                Ok(Choice::InPlace) => "in place".to_owned(),
                Ok(Choice::Private) => "private".to_owned(),
                Err(error) => format!("error: {error}"),
            };
        assert_eq!(actual, expected);
    }

    #[test]
    fn the_executor_in_a_pod_builds_on_the_root_of_the_pod() {
        check(DOCKER, Standing::Own, Standing::Own, "/kaniko", false, "in place");
        check(DOCKER, Standing::Own, Standing::Unknown, "/kaniko", false, "in place");
    }

    #[test]
    fn a_mark_of_a_container_alone_is_not_enough() {
        check(DOCKER, Standing::Initial, Standing::Initial, "/usr/bin", false, "private");
        check(DOCKER, Standing::Own, Standing::Own, "/usr/bin", false, "private");
        check(None, Standing::Own, Standing::Own, "/kaniko", false, "private");
    }

    #[test]
    fn the_machines_own_namespaces_are_never_built_on() {
        check(DOCKER, Standing::Initial, Standing::Own, "/kaniko", false, "private");
        check(DOCKER, Standing::Own, Standing::Initial, "/kaniko", false, "private");
        check(DOCKER, Standing::Unknown, Standing::Own, "/kaniko", false, "private");
    }

    #[test]
    fn force_replaces_evidence_but_not_namespaces() {
        check(None, Standing::Own, Standing::Own, "/usr/bin", true, "in place");
        check(
            DOCKER,
            Standing::Initial,
            Standing::Own,
            "/kaniko",
            true,
            "error: `--force` would build on `/`, and `/` is this machine's own root: \
             the program runs in the machine's own process namespace",
        );
        check(
            DOCKER,
            Standing::Own,
            Standing::Initial,
            "/kaniko",
            true,
            "error: `--force` would build on `/`, and `/` is this machine's own root: \
             the program runs in the machine's own mount namespace",
        );
        check(
            DOCKER,
            Standing::Unknown,
            Standing::Own,
            "/kaniko",
            true,
            "error: `--force` would build on `/`, and `/` is this machine's own root: \
             `/proc` does not tell in which process namespace the program runs",
        );
    }

    #[test]
    fn control_groups_name_their_engine() {
        assert_eq!(control_group("0::/\n"), None);
        assert_eq!(control_group("1:name=systemd:/user.slice\n0::/init.scope\n"), None);
        assert_eq!(
            control_group("0::/\n5:memory:/kubepods/burstable/pod1/2\n"),
            Some(Evidence::ControlGroup("5:memory:/kubepods/burstable/pod1/2".to_owned())),
        );
    }

    #[test]
    fn an_empty_variable_is_no_evidence() {
        assert_eq!(variable([("container", ""), ("HOME", "/")]), None);
        assert_eq!(
            variable([("container", "podman")]),
            Some(Evidence::Variable("container".to_owned()))
        );
    }

    #[test]
    fn a_namespace_that_cannot_be_read_is_unknown() {
        assert_eq!(standing("/proc/self/ns/no-such-namespace", 1), Standing::Unknown);
        assert_ne!(standing("/proc/self/ns/pid", 1), Standing::Unknown);
    }
}
