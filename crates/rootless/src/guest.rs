//! Running one process in a root.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use ebiko_rootfs::{Root, RootError, RootPath};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::Pid;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::child::{self, Identity, PointerList, Prepared, RootEntry};
use crate::message::Failed;
use crate::mounts;
use crate::private::{HOST_NAME, IdMapping, Place, Private};
use crate::protect::protect_self;
use crate::pump::{self, Outcome, Stream, Watch};
use crate::stubs::Stubs;
use crate::{Interrupt, tree};

/// A process to run: everything it gets, and nothing else.
#[derive(Debug)]
pub struct Guest<'a> {
    /// Its root.
    pub root: &'a Root,
    /// The program and its arguments. A program without a slash is looked up in the absolute
    /// directories of `PATH` of [`env`](Self::env).
    pub argv: &'a [String],
    /// Its whole environment.
    pub env: &'a [(String, String)],
    /// Where it starts: a directory of the root that exists, free of links.
    pub work_dir: &'a RootPath,
    /// Whom it runs as.
    pub credentials: &'a Credentials,
}

/// Whom a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// All groups besides.
    pub groups: Vec<u32>,
}

/// A guest could not be run, or not be ended.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum RunError {
    #[error("there is no command")]
    NoCommand,
    #[error("{what} holds a NUL byte")]
    Nul { what: &'static str },
    #[error("cannot prepare the root for the command")]
    Prepare { source: RootError },
    #[error("cannot tidy the root after the command")]
    TidyUp { source: RootError },
    #[error("cannot start the command: {stage}")]
    Start { stage: GuestStage, source: io::Error },
    #[error("cannot wait for the command")]
    Wait { source: io::Error },
    #[error("{} processes that the command left behind cannot be ended", pids.len())]
    Leftovers { pids: Vec<i32> },
}

/// How far the start of a guest came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
#[non_exhaustive]
pub enum GuestStage {
    #[error("no pipe or process could be made")]
    Process,
    #[error("the root could not be entered")]
    EnterRoot,
    #[error("`{path}` could not be mounted")]
    Mount { path: String },
    #[error("abstract unix sockets of others could not be put out of reach")]
    AbstractSockets,
    #[error("the capabilities could not be reduced")]
    Capabilities,
    #[error("it could make a user namespace and have all capabilities in it")]
    UserNamespaces,
    #[error("the streams could not be set up")]
    Streams,
    #[error("the working directory `{path}` could not be entered")]
    WorkDir { path: String },
    #[error("the groups {groups:?} could not be set")]
    Groups { groups: Vec<u32> },
    #[error("the group {gid} could not be set")]
    Group { gid: u32 },
    #[error("the user {uid} could not be set")]
    User { uid: u32 },
    #[error("exec: `{program}`")]
    Execute { program: String },
}

impl RunError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self, place: &Place) -> Option<&'static str> {
        match (self, place) {
            (Self::Prepare { source } | Self::TidyUp { source }, _) => source.hint(),
            (
                Self::Start {
                    stage:
                        GuestStage::Groups { .. } | GuestStage::Group { .. } | GuestStage::User { .. },
                    ..
                },
                _,
            ) => match place {
                Place::Private(private) => private.ids.hint(),
                Place::InPlace => Some(
                    "to run commands as this user the container itself must run as root, with the capabilities SETUID and SETGID",
                ),
            },
            (Self::Start { stage: GuestStage::UserNamespaces, .. }, _) => Some(
                "the program was refused a user namespace, as in a `chroot`, and the command would not be: \
                 build outside of the `chroot`, or with the executor image",
            ),
            (Self::Leftovers { .. }, Place::InPlace) => {
                Some("the container needs the capability KILL to end processes of other users")
            }
            _ => None,
        }
    }
}

/// Runs a process in a root and returns when it and everything that it started has ended.
///
/// Its two output streams go to `output` as they come; its input is empty. A process that the guest
/// leaves in the background is killed when the guest itself has ended, and cannot hold up the
/// return by keeping a stream open. When `interrupt` is raised, all are killed at once and the
/// outcome is [`Outcome::Interrupted`].
///
/// What had to be made in a private root to mount on is removed again, whatever happened.
pub fn run(
    place: &Place,
    guest: &Guest<'_>,
    interrupt: &Interrupt,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Outcome, RunError> {
    let process = |source: io::Error| RunError::Start { stage: GuestStage::Process, source };
    protect_self().map_err(process)?;
    match place {
        Place::InPlace => {
            nix::sys::prctl::set_child_subreaper(true).map_err(|error| process(error.into()))?;
            start_and_watch(guest, Surroundings::in_place(), interrupt, output)
        }
        Place::Private(private) => {
            let mut stubs = Stubs::default();
            let outcome = stubs
                .make(guest.root)
                .map_err(|source| RunError::Prepare { source })
                .and_then(|targets| Surroundings::private(private, guest.root, &targets))
                .and_then(|surroundings| start_and_watch(guest, surroundings, interrupt, output));
            let tidied = stubs.remove(guest.root).map_err(|source| RunError::TidyUp { source });
            // The first failure is the one to tell about.
            outcome.and_then(|outcome| tidied.map(|()| outcome))
        }
    }
}

/// What differs between the places.
struct Surroundings {
    namespaces: libc::c_int,
    entry: Option<RootEntry>,
    may_set_groups: bool,
}

impl Surroundings {
    fn in_place() -> Self {
        Self { namespaces: 0, entry: None, may_set_groups: true }
    }

    fn private(
        private: &Private,
        root: &Root,
        targets: &mounts::Targets,
    ) -> Result<Self, RunError> {
        let hosts = mounts::hosts_file(HOST_NAME, &private.hosts);
        let metadata =
            root.metadata(&RootPath::root()).map_err(|source| RunError::Prepare { source })?;
        let path = root.host_path().as_os_str().as_bytes();
        Ok(Self {
            namespaces: libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC,
            entry: Some(RootEntry {
                path: c_string(path, "the path of the root")?,
                device_and_inode: (metadata.dev, metadata.ino),
                steps: mounts::plan(targets, &private.resolv_conf, &hosts),
            }),
            may_set_groups: private.ids == IdMapping::Complete,
        })
    }
}

fn start_and_watch(
    guest: &Guest<'_>,
    surroundings: Surroundings,
    interrupt: &Interrupt,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Outcome, RunError> {
    let process = |source: io::Error| RunError::Start { stage: GuestStage::Process, source };
    let in_place = surroundings.entry.is_none();
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| process(error.into()));
    let ((stdout, stdout_to), (stderr, stderr_to), (status, status_to)) =
        (pipe()?, pipe()?, pipe()?);
    let prepared = prepare(guest, surroundings, [&stdout_to, &stderr_to, &status_to])?;
    // Whoever is there before is not the guest's.
    let others = if in_place { tree::processes() } else { tree::Parents::new() };

    // No handler of this program may run in the child before it has put the signals back.
    let mask = SigSet::all()
        .thread_swap_mask(SigmaskHow::SIG_SETMASK)
        .map_err(|error| process(error.into()))?;
    let started = child::start(&prepared);
    mask.thread_set_mask().map_err(|error| process(error.into()))?;
    let init =
        Pid::from_raw(started.map_err(|error| process(io::Error::from_raw_os_error(error)))?);
    drop((stdout_to, stderr_to, status_to));

    let watch = Watch { init, in_place, others, stdout, stderr, status, interrupt };
    watch.until_all_ended(output).map_err(|error| match error {
        pump::WatchError::Failed(what, error) => RunError::Start {
            stage: stage(what, guest, &prepared),
            source: io::Error::from_raw_os_error(error),
        },
        pump::WatchError::Io(source) => RunError::Wait { source },
        pump::WatchError::Leftovers(pids) => RunError::Leftovers { pids },
    })
}

fn prepare(
    guest: &Guest<'_>,
    surroundings: Surroundings,
    pipes: [&OwnedFd; 3],
) -> Result<Prepared, RunError> {
    let arguments = guest.argv.iter().map(|argument| c_string(argument.as_bytes(), "the command"));
    let environment = guest.env.iter().map(|(name, value)| {
        c_string(format!("{name}={value}").as_bytes(), "the environment of the command")
    });
    let credentials = guest.credentials;
    let is = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Ok(Prepared {
        namespaces: surroundings.namespaces,
        programs: programs(guest)?,
        arguments: PointerList::new(arguments.collect::<Result<_, _>>()?),
        environment: PointerList::new(environment.collect::<Result<_, _>>()?),
        work_dir: work_dir(guest.work_dir)?,
        identity: Identity {
            // Who is not root cannot become anybody, and need not become itself.
            switch: is.0 == 0 || is != (credentials.uid, credentials.gid),
            uid: credentials.uid,
            gid: credentials.gid,
            groups: surroundings.may_set_groups.then(|| credentials.groups.clone()),
        },
        entry: surroundings.entry,
        command_line: tree::command_line(),
        stdout: pipes[0].as_raw_fd(),
        stderr: pipes[1].as_raw_fd(),
        status: pipes[2].as_raw_fd(),
    })
}

/// Where the program may be. Relative directories in `PATH` are skipped, as Go and therefore every
/// container engine does: what runs must not depend on what lies in the working directory.
fn programs(guest: &Guest<'_>) -> Result<Vec<CString>, RunError> {
    let program = guest.argv.first().ok_or(RunError::NoCommand)?;
    if program.contains('/') {
        return Ok(vec![c_string(program.as_bytes(), "the command")?]);
    }
    if program.is_empty() {
        return Ok(Vec::new());
    }
    let path =
        guest.env.iter().rev().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
    path.split(':')
        .filter(|directory| directory.starts_with('/'))
        .map(|directory| c_string(format!("{directory}/{program}").as_bytes(), "the command"))
        .collect()
}

fn work_dir(path: &RootPath) -> Result<CString, RunError> {
    let bytes = if path.is_root() { b".".as_slice() } else { path.as_bytes() };
    c_string(bytes, "the working directory")
}

fn c_string(bytes: &[u8], what: &'static str) -> Result<CString, RunError> {
    CString::new(bytes).map_err(|_| RunError::Nul { what })
}

fn stage(failed: Failed, guest: &Guest<'_>, prepared: &Prepared) -> GuestStage {
    match failed {
        Failed::Fork => GuestStage::Process,
        Failed::FindRoot | Failed::EnterRoot => GuestStage::EnterRoot,
        Failed::Mount(number) => {
            let step = prepared
                .entry
                .as_ref()
                .and_then(|entry| entry.steps.get(usize::try_from(number).ok()?));
            GuestStage::Mount { path: step.map(mounts::Step::subject).unwrap_or_default() }
        }
        Failed::Landlock => GuestStage::AbstractSockets,
        Failed::Capabilities => GuestStage::Capabilities,
        Failed::UserNamespaces => GuestStage::UserNamespaces,
        Failed::Streams => GuestStage::Streams,
        Failed::WorkDir => GuestStage::WorkDir {
            path: format!("/{}", String::from_utf8_lossy(guest.work_dir.as_bytes())),
        },
        Failed::Groups => GuestStage::Groups { groups: guest.credentials.groups.clone() },
        Failed::Group => GuestStage::Group { gid: guest.credentials.gid },
        Failed::User => GuestStage::User { uid: guest.credentials.uid },
        Failed::Execute => {
            GuestStage::Execute { program: guest.argv.first().cloned().unwrap_or_default() }
        }
    }
}
