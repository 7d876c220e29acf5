//! Running one process in a root.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use ebiko_rootfs::{Root, RootError, RootPath, StandInError};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::Pid;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::attach::{self, Attach, Attachment};
use crate::child::{self, Filter, Identity, PointerList, Prepared, RootEntry};
use crate::emulation::{At, Emulation};
use crate::filter::{self, Purpose};
use crate::message::Failed;
use crate::mounts;
use crate::private::{HOST_NAME, IdMapping, Nowhere, Place, Private};
use crate::protect::protect_self;
use crate::pump::{self, Outcome, Stream, Watch};
use crate::resources::Resources;
use crate::stubs::Stubs;
use crate::supervisor::{self, Rules, Supervisor};
use crate::{Interrupt, in_place, tree};

/// A process to run: everything it gets, and nothing else.
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
    /// What it sees besides its root.
    pub attachments: &'a [Attachment],
    /// A directory of the builder's, on the file system of the root where guests run in place: what gives way to
    /// attachments is kept there while it runs.
    pub store: &'a Path,
    /// What it sees of the network.
    pub network: NetworkAccess,
    /// Whether it keeps all rights that the builder has.
    pub insecure: bool,
    /// What it takes for the name of its host; the place's own where there is none.
    pub host_name: Option<&'a str>,
    /// How much it gets of the machine.
    pub resources: &'a Resources,
}

/// Without the environment, which may hold secrets.
impl fmt::Debug for Guest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest")
            .field("root", &self.root)
            .field("argv", &self.argv)
            .field("work_dir", &self.work_dir)
            .field("credentials", &self.credentials)
            .field("attachments", &self.attachments)
            .finish_non_exhaustive()
    }
}

/// What a guest sees of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkAccess {
    /// What the builder sees.
    Shared,
    /// Nothing but itself.
    None,
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
    #[error("cannot show anything to the command at `/{target}`")]
    Attach { target: RootPath, source: io::Error },
    #[error(transparent)]
    StandIn(#[from] StandInError),
    #[error("cannot change `/etc/hosts`")]
    Hosts { source: io::Error },
    #[error("cannot give `/dev/shm` a size: to mount it, the container needs CAP_SYS_ADMIN")]
    SharedMemory,
    #[error("cannot tidy the root after the command")]
    TidyUp { source: RootError },
    #[error("cannot start the command: {stage}")]
    Start { stage: GuestStage, source: io::Error },
    #[error("cannot wait for the command")]
    Wait { source: io::Error },
    #[error("no command can run: {reason}")]
    Nowhere { reason: String },
    #[error("root cannot be emulated for the command any more, which was ended")]
    Emulation,
    #[error("the command uses `{path}`, which is not at `/` for the kernel, and was ended")]
    NotAtTop { path: String },
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
    #[error("the network could not be put out of reach")]
    Network,
    #[error("the host name could not be set")]
    HostName,
    #[error("system calls could not be filtered")]
    Filter,
    #[error("the limit `{name}` could not be set to {soft}:{hard}")]
    Limit { name: &'static str, soft: u64, hard: u64 },
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
            (Self::StandIn(error), _) => error.hint(),
            (
                Self::Start {
                    stage:
                        GuestStage::Groups { .. } | GuestStage::Group { .. } | GuestStage::User { .. },
                    ..
                },
                _,
            ) => match place {
                Place::Private(private) => private.ids.hint(),
                Place::Nowhere(nowhere) => Some(nowhere.hint),
                Place::InPlace => Some(
                    "to run commands as this user the container itself must run as root, with the capabilities SETUID and SETGID",
                ),
            },
            (Self::Start { stage: GuestStage::UserNamespaces, .. }, _) => Some(
                "the program was refused a user namespace, as in a `chroot`, and the command would not be: \
                 build outside of the `chroot`, or with the executor image",
            ),
            (Self::Start { stage: GuestStage::Limit { .. }, .. }, _) => {
                Some("limits can be lowered; to raise one, the builder needs CAP_SYS_RESOURCE")
            }
            (Self::Nowhere { .. }, Place::Nowhere(nowhere)) => Some(nowhere.hint),
            (Self::Emulation, _) => Some(
                "the builder must be able to read the memory of its own children: `kernel.yama.ptrace_scope` of the \
                 node must be 0 or 1",
            ),
            (Self::NotAtTop { .. }, _) => Some(
                "without root, new names directly in `/` can hold files, and no working directory, program or socket: \
                 use a directory below one of the names that the executor's image has (docs/guide/non-root.md), such as \
                 `/app`, `/srv`, `/opt` or `/usr/local`, or add a link for the name to an image of your own",
            ),
            (Self::SharedMemory, _) => {
                Some("leave `--shm-size` out, or set the size of the container's own `/dev/shm`")
            }
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
    // Of a step that shares the builder's process namespace, what is left behind is the builder's to end.
    nix::sys::prctl::set_child_subreaper(true).map_err(|error| process(error.into()))?;
    match place {
        Place::Nowhere(Nowhere { reason, .. }) => Err(RunError::Nowhere { reason: reason.clone() }),
        Place::InPlace => {
            in_place::run(guest, |in_place| start_and_watch(guest, in_place, interrupt, output))
        }
        Place::Private(private) => {
            let mut stubs = Stubs::default();
            let outcome = Surroundings::private(private, guest, &mut stubs)
                .and_then(|surroundings| start_and_watch(guest, surroundings, interrupt, output));
            let tidied = stubs.remove(guest.root).map_err(|source| RunError::TidyUp { source });
            // The first failure is the one to tell about.
            outcome.and_then(|outcome| tidied.map(|()| outcome))
        }
    }
}

/// What differs between the places.
pub(crate) struct Surroundings {
    namespaces: libc::c_int,
    entry: Option<RootEntry>,
    /// Mounts on the builder's own root.
    steps: Vec<mounts::Step>,
    may_set_groups: bool,
    filter: Purpose,
    rules: Rules,
}

impl Surroundings {
    /// Without namespaces; `filter` is what is left.
    pub(crate) fn in_place(mut filter: Purpose, rules: Rules) -> Self {
        filter.emulate = rules.emulation.as_ref().map(Emulation::scope);
        let steps = Vec::new();
        Self { namespaces: 0, entry: None, steps, may_set_groups: true, filter, rules }
    }

    /// On the builder's own root, with mounts that nobody else sees.
    pub(crate) fn mounted(guest: &Guest<'_>, steps: Vec<mounts::Step>) -> Self {
        let namespaces = libc::CLONE_NEWNS | namespaces(guest);
        let (filter, rules) = (Purpose::default(), Rules::default());
        Self { namespaces, entry: None, steps, may_set_groups: true, filter, rules }
    }

    fn private(private: &Private, guest: &Guest<'_>, stubs: &mut Stubs) -> Result<Self, RunError> {
        let root = guest.root;
        let prepare = |source| RunError::Prepare { source };
        let targets = stubs.make(root).map_err(prepare)?;
        let known = [guest.resources.host_lines().as_bytes(), &private.hosts].concat();
        let hosts = mounts::hosts_file(guest.host_name.unwrap_or(HOST_NAME), &known);
        let metadata = root.metadata(&RootPath::root()).map_err(prepare)?;
        let path = root.host_path().as_os_str().as_bytes();
        let mut steps = mounts::plan(
            &targets,
            &private.resolv_conf,
            &hosts,
            guest.resources.shm_size.unwrap_or(mounts::SHM_SIZE),
        );
        if guest.insecure {
            steps.retain(|step| {
                !matches!(step, mounts::Step::Hide { .. } | mounts::Step::Freeze { .. })
            });
        }
        let emulation = one_user(private, guest);
        if emulation.is_none() && private.has_user_namespaces {
            let source = io::Error::from_raw_os_error(libc::EPERM);
            return Err(RunError::Start { stage: GuestStage::UserNamespaces, source });
        }
        let mut covered = vec![targets.proc.clone(), targets.dev, targets.sys];
        for attachment in attach::in_order(guest.attachments) {
            let failed = |source| RunError::Attach { target: attachment.target.clone(), source };
            let kind = attachment.content.kind().map_err(failed)?;
            let mut target = root.resolve(&attachment.target).map_err(prepare)?;
            if emulation.is_some() && target.starts_with(&targets.proc) {
                return Err(failed(io::Error::other(
                    "users are emulated here, with the help of `/proc`, on which nothing may be mounted",
                )));
            }
            // Beneath another mount the root's own files are not what the guest sees.
            if !covered.iter().any(|above| target.starts_with(above)) {
                target = stubs.place(root, &target, kind).map_err(prepare)?;
            }
            steps.push(mounts::Step::Attach(Attach::new(&target, attachment).map_err(failed)?));
            covered.push(target);
        }
        let mut own = libc::CLONE_NEWNS | libc::CLONE_NEWIPC;
        if emulation.is_none() {
            own |= libc::CLONE_NEWPID;
        }
        let filter =
            Purpose { emulate: emulation.as_ref().map(Emulation::scope), ..Purpose::default() };
        Ok(Self {
            namespaces: own | namespaces(guest),
            steps: Vec::new(),
            entry: Some(RootEntry {
                path: c_string(path, "the path of the root")?,
                device_and_inode: (metadata.dev, metadata.ino),
                steps,
                insecure: guest.insecure,
                filtered: emulation.is_some(),
            }),
            may_set_groups: private.ids == IdMapping::Complete,
            filter,
            rules: Rules { emulation, ..Rules::default() },
        })
    }
}

/// Others than the only user that there is, for a step that may become somebody else. It shares the builder's process
/// namespace then, so that both mean the same by a number.
///
/// A step with all capabilities could look into the builder there; and on a file system that does not tell when files were
/// made, owners could be mistaken. Both do without.
fn one_user(private: &Private, guest: &Guest<'_>) -> Option<Emulation> {
    if private.ids == IdMapping::Complete || guest.insecure || !Private::knows_processes() {
        return None;
    }
    Emulation::new(guest.root, guest.credentials, At::RootOfStep).ok()
}

fn start_and_watch(
    guest: &Guest<'_>,
    mut surroundings: Surroundings,
    interrupt: &Interrupt,
    output: &mut dyn FnMut(Stream, &[u8]),
) -> Result<Outcome, RunError> {
    let process = |source: io::Error| RunError::Start { stage: GuestStage::Process, source };
    let shares_processes = surroundings.namespaces & libc::CLONE_NEWPID == 0;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| process(error.into()));
    let ((stdout, stdout_to), (stderr, stderr_to), (status, status_to)) =
        (pipe()?, pipe()?, pipe()?);
    let rules = std::mem::take(&mut surroundings.rules);
    let mut filtering = Filtering::prepare(surroundings.filter, rules)?;
    let guests_end = filtering.as_mut().and_then(|filtering| filtering.socket.take());
    let filter = filtering.as_mut().map(|filtering| std::mem::take(&mut filtering.filter));
    let emulates = surroundings.filter.emulate.is_some();
    let supervisor = filtering.as_ref().and_then(|filtering| filtering.supervisor.as_ref());
    let failure = supervisor.filter(|_| emulates).map(Supervisor::failure).transpose();
    let failure = failure.map_err(process)?;
    let prepared = prepare(guest, surroundings, filter, [&stdout_to, &stderr_to, &status_to])?;
    // Whoever is there before is not the guest's.
    let others = if shares_processes { tree::processes() } else { tree::Parents::new() };

    // No handler of this program may run in the child before it has put the signals back.
    let mask = SigSet::all()
        .thread_swap_mask(SigmaskHow::SIG_SETMASK)
        .map_err(|error| process(error.into()))?;
    let started = child::start(&prepared);
    mask.thread_set_mask().map_err(|error| process(error.into()))?;
    let init =
        Pid::from_raw(started.map_err(|error| process(io::Error::from_raw_os_error(error)))?);
    drop((stdout_to, stderr_to, status_to, guests_end));

    let watch = Watch {
        init,
        in_place: shares_processes,
        others,
        stdout,
        stderr,
        status,
        failure,
        interrupt,
    };
    watch.until_all_ended(output).map_err(|error| match error {
        pump::WatchError::Failed(what, error) => RunError::Start {
            stage: stage(what, guest, &prepared),
            source: io::Error::from_raw_os_error(error),
        },
        pump::WatchError::Io(source) => RunError::Wait { source },
        pump::WatchError::Leftovers(pids) => RunError::Leftovers { pids },
        pump::WatchError::Emulation(path) if path.is_empty() => RunError::Emulation,
        pump::WatchError::Emulation(path) => {
            RunError::NotAtTop { path: String::from_utf8_lossy(&path).into_owned() }
        }
    })
}

/// The namespaces that this guest asks for.
fn namespaces(guest: &Guest<'_>) -> libc::c_int {
    let network = if guest.network == NetworkAccess::None { libc::CLONE_NEWNET } else { 0 };
    let name = if guest.host_name.is_some() { libc::CLONE_NEWUTS } else { 0 };
    network | name
}

/// What is needed for the filter of a guest, if it has one.
struct Filtering {
    filter: Filter,
    /// The guest's end of the connection to the thread that answers.
    socket: Option<OwnedFd>,
    /// Answers for as long as this lives.
    supervisor: Option<Supervisor>,
}

impl Filtering {
    fn prepare(purpose: Purpose, rules: Rules) -> Result<Option<Self>, RunError> {
        if purpose.is_nothing() {
            return Ok(None);
        }
        let failed = |source: io::Error| RunError::Start { stage: GuestStage::Filter, source };
        let program = |purpose: Purpose| {
            filter::program(purpose).ok_or_else(|| failed(io::ErrorKind::Unsupported.into()))
        };
        let silent = purpose.silent();
        let silent = if silent.is_nothing() { Vec::new() } else { program(silent)? };
        if !purpose.asks() {
            let filter = Filter { silent, ..Filter::default() };
            return Ok(Some(Self { filter, socket: None, supervisor: None }));
        }
        let mark = rules.emulation.as_ref().map(|emulation| emulation.first_mark);
        let (own, guests) = UnixStream::pair().map_err(failed)?;
        let processor = mark.and_then(|_| supervisor::only_processor());
        let supervisor = Supervisor::start(own.into(), rules, processor).map_err(failed)?;
        let asking = Some((program(purpose)?, guests.as_raw_fd()));
        Ok(Some(Self {
            filter: Filter { asking, silent, mark, processor },
            socket: Some(guests.into()),
            supervisor: Some(supervisor),
        }))
    }
}

fn prepare(
    guest: &Guest<'_>,
    surroundings: Surroundings,
    filter: Option<Filter>,
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
        filter,
        programs: programs(guest, surroundings.entry.is_none())?,
        arguments: PointerList::new(arguments.collect::<Result<_, _>>()?),
        environment: PointerList::new(environment.collect::<Result<_, _>>()?),
        work_dir: work_dir(guest, surroundings.entry.is_none())?,
        identity: Identity {
            // Who is not root cannot become anybody, and need not become itself.
            switch: surroundings.filter.emulate.is_none()
                && (is.0 == 0 || is != (credentials.uid, credentials.gid)),
            uid: credentials.uid,
            gid: credentials.gid,
            groups: surroundings.may_set_groups.then(|| credentials.groups.clone()),
        },
        steps: surroundings.steps,
        host_name: guest
            .host_name
            .filter(|_| surroundings.namespaces & libc::CLONE_NEWUTS != 0)
            .map(|name| c_string(name.as_bytes(), "the host name"))
            .transpose()?,
        entry: surroundings.entry,
        limits: guest.resources.limits.clone(),
        command_line: tree::command_line(),
        stdout: pipes[0].as_raw_fd(),
        stderr: pipes[1].as_raw_fd(),
        status: pipes[2].as_raw_fd(),
    })
}

/// Where the program may be. Relative directories in `PATH` are skipped, as Go and therefore every
/// container engine does: what runs must not depend on what lies in the working directory.
fn programs(guest: &Guest<'_>, in_place: bool) -> Result<Vec<CString>, RunError> {
    let program = guest.argv.first().ok_or(RunError::NoCommand)?;
    if program.contains('/') {
        let named = c_string(program.as_bytes(), "the command")?;
        // Of a root that is not at `/`, the kernel does not find every name there.
        let beneath =
            program.strip_prefix('/').filter(|_| guest.root.host_path() != Path::new("/"));
        let beneath = beneath.filter(|_| in_place).map(|path| guest.root.host_path().join(path));
        let beneath =
            beneath.map(|path| c_string(path.as_os_str().as_bytes(), "the command")).transpose()?;
        return Ok(std::iter::once(named).chain(beneath).collect());
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

/// Relative to where the root will be, or, in place, to `/`.
fn work_dir(guest: &Guest<'_>, in_place: bool) -> Result<CString, RunError> {
    let path = guest.work_dir;
    let host = guest.root.host_path().as_os_str().as_bytes();
    let bytes = match host.strip_prefix(b"/") {
        Some(above) if in_place && !above.is_empty() => [above, b"/", path.as_bytes()].concat(),
        _ if path.is_root() => b".".to_vec(),
        _ => path.as_bytes().to_vec(),
    };
    c_string(&bytes, "the working directory")
}

fn c_string(bytes: &[u8], what: &'static str) -> Result<CString, RunError> {
    CString::new(bytes).map_err(|_| RunError::Nul { what })
}

fn stage(failed: Failed, guest: &Guest<'_>, prepared: &Prepared) -> GuestStage {
    match failed {
        Failed::Fork => GuestStage::Process,
        Failed::FindRoot | Failed::EnterRoot => GuestStage::EnterRoot,
        Failed::Mount(number) => {
            let steps = prepared.entry.as_ref().map_or(&prepared.steps, |entry| &entry.steps);
            let step = usize::try_from(number).ok().and_then(|number| steps.get(number));
            GuestStage::Mount { path: step.map(mounts::Step::subject).unwrap_or_default() }
        }
        Failed::Landlock => GuestStage::AbstractSockets,
        Failed::Network => GuestStage::Network,
        Failed::HostName => GuestStage::HostName,
        Failed::Filter => GuestStage::Filter,
        Failed::Limit(number) => {
            let limit = usize::try_from(number).ok().and_then(|number| prepared.limits.get(number));
            GuestStage::Limit {
                name: limit.map_or("", |limit| limit.resource.name()),
                soft: limit.map_or(0, |limit| limit.soft),
                hard: limit.map_or(0, |limit| limit.hard),
            }
        }
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
