//! Performs one `RUN` in a directory, in a private root.
//!
//! ```text
//! perform [--user USER] [--cwd PATH] [--env NAME=VALUE]... [--protect PATH]... [--in-place] [--scratch PATH]
//!     [--caches PATH] [--context PATH] [--ignore PATTERN] [--stage PATH] [--secret ID=VALUE]... [--ssh ID=PATH]...
//!     [--mount TYPE,KEY=VALUE,...]... [--script NAME=CONTENT]... [--network-none] [--insecure] [--host-name NAME]
//!     [--shm-size BYTES] [--limit NAME=NUMBER]... [--host NAME=ADDRESS]...
//!     ROOT COMMAND [ARGUMENT]...
//! ```
//!
//! With `--in-place` the directory becomes the `/` of the example first, as in a container; paths are then those in
//! it. Without `--may-mount` the example gives up the right to mount then. With `--container` it is in a container already. The mount types are `bind` (from the context, or with
//! `from=stage`), `cache`, `tmpfs`, `secret` and `ssh`. `--ssh` takes a socket, or key files between commas.
//!
//! A protected path is one that belongs to the builder, as in a container. Prints the output of the command, then what failed and what can be done about it. Exits as the
//! command did.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example is a program")]
#![expect(clippy::disallowed_methods, reason = "a program reads its environment")]

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use ebiko_context::Context;
use ebiko_exec::{Agent, Archives, Inputs, Secret, Site, Supplies, perform};
use ebiko_oci::{Event, Observer, PortError};
use ebiko_plan::{
    Action, CopyFrom, InlineFile, Mount, MountKind, Network, RunAction, Security, Sharing, StageId,
};
use ebiko_rootfs::{Root, RootOptions, RootPath, Time};
use ebiko_rootless::{
    Entered, HeldSignals, Interrupt, Place, Resource, ResourceLimit, enter_private,
};

struct Printer;

impl Observer for Printer {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Output { bytes } => std::io::stdout().write_all(bytes).unwrap_or_default(),
            Event::Warning { text } => println!("warning: {text}"),
            _ => {}
        }
    }
}

struct NoArchives;

impl Archives for NoArchives {
    fn unpack(
        &self,
        _file: &mut File,
        _root: &Root,
        _destination: &RootPath,
        _owner: Option<(u32, u32)>,
    ) -> Result<Option<BTreeSet<RootPath>>, PortError> {
        Ok(None)
    }
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--in-place" || argument == "--container") {
        return inside(&Place::InPlace).unwrap_or_else(|error| {
            eprintln!("error: {error}");
            exit_code(125)
        });
    }
    match enter_private(&std::env::var_os("PATH").unwrap_or_default()) {
        Ok(Entered::Ended(ending)) => exit_code(ending.exit_status()),
        Ok(Entered::Inside(place)) => inside(&place).unwrap_or_else(|error| {
            eprintln!("error: {error}");
            exit_code(125)
        }),
        Err(error) => {
            eprintln!("error: {error}\nhint: {}", error.hint());
            exit_code(125)
        }
    }
}

fn exit_code(status: i32) -> ExitCode {
    ExitCode::from(u8::try_from(status).unwrap_or(255))
}

/// Everything that the command line says.
struct Request {
    action: RunAction,
    options: RootOptions,
    supplies: Supplies,
    context: Option<String>,
    ignore: Option<String>,
    stage: Option<String>,
    root: String,
    becomes_root: bool,
    may_mount: bool,
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Request, Box<dyn Error>> {
    let action = RunAction {
        argv: Vec::new(),
        env: Vec::new(),
        ambient: Vec::new(),
        user: String::new(),
        work_dir: "/".to_owned(),
        scripts: Vec::new(),
        mounts: Vec::new(),
        network: Network::Default,
        security: Security::Sandbox,
        host_name: None,
    };
    let mut request = Request {
        action,
        options: RootOptions::default(),
        supplies: Supplies::default(),
        context: None,
        ignore: None,
        stage: None,
        root: String::new(),
        becomes_root: false,
        may_mount: false,
    };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        let mut pair = || {
            let value = value();
            let (name, value) = value.split_once('=').unwrap_or((&value, ""));
            (name.to_owned(), value.to_owned())
        };
        match argument.as_str() {
            "--user" => request.action.user = value(),
            "--protect" => request.options.protected.push(RootPath::parse(value().as_bytes())?),
            "--cwd" => request.action.work_dir = value(),
            "--env" => request.action.env.push(pair()),
            "--in-place" => request.becomes_root = true,
            "--may-mount" => request.may_mount = true,
            "--container" => {}
            "--scratch" => request.supplies.scratch = value().into(),
            "--caches" => request.supplies.caches = value().into(),
            "--context" => request.context = Some(value()),
            "--ignore" => request.ignore = Some(value()),
            "--stage" => request.stage = Some(value()),
            "--secret" => {
                let (id, value) = pair();
                request.supplies.secrets.insert(id, Secret::new(value.into_bytes()));
            }
            "--ssh" => {
                let (id, paths) = pair();
                request.supplies.agents.insert(id, agent(&paths)?);
            }
            "--script" => {
                let (name, content) = pair();
                request.action.scripts.push(InlineFile { name, content });
            }
            "--mount" => request.action.mounts.push(mount(&value())),
            "--network-none" => request.action.network = Network::None,
            "--insecure" => request.action.security = Security::Insecure,
            "--host-name" => request.action.host_name = Some(value()),
            "--shm-size" => request.supplies.resources.shm_size = Some(value().parse()?),
            "--limit" => {
                let (name, value) = pair();
                let resource = Resource::named(&name).ok_or("no such limit")?;
                let limit = value.parse()?;
                let limit = ResourceLimit { resource, soft: limit, hard: limit };
                request.supplies.resources.limits.push(limit);
            }
            "--host" => {
                let (name, address) = pair();
                request.supplies.resources.hosts.push((name, address.parse()?));
            }
            root => {
                root.clone_into(&mut request.root);
                request.action.argv.extend(arguments.by_ref());
            }
        }
    }
    Ok(request)
}

fn agent(paths: &str) -> Result<Agent, Box<dyn Error>> {
    use std::os::unix::fs::FileTypeExt;
    if std::fs::metadata(paths).is_ok_and(|found| found.file_type().is_socket()) {
        return Ok(Agent::Forwarded(paths.into()));
    }
    let keys = paths.split(',').map(|path| Ok(Secret::new(std::fs::read(path)?)));
    Ok(Agent::Keys(keys.collect::<Result<_, std::io::Error>>()?))
}

fn mount(text: &str) -> Mount {
    let (kind, rest) = text.split_once(',').unwrap_or((text, ""));
    let get = |key: &str| {
        rest.split(',')
            .find_map(|field| Some(field.strip_prefix(key)?.strip_prefix('=')?.to_owned()))
    };
    let number =
        |key: &str, default: u32| get(key).and_then(|text| text.parse().ok()).unwrap_or(default);
    let mode = |default: u32| {
        get("mode").and_then(|text| u32::from_str_radix(&text, 8).ok()).unwrap_or(default)
    };
    let (uid, gid) = (number("uid", 0), number("gid", 0));
    let id = get("id").or_else(|| get("target")).unwrap_or_default();
    let required = rest.split(',').any(|field| field == "required");
    let source = get("source").unwrap_or_else(|| "/".to_owned());
    let from_stage = get("from").is_some();
    let from = |default: CopyFrom| if from_stage { CopyFrom::Stage(StageId(0)) } else { default };
    let kind = match kind {
        "bind" => MountKind::Bind { from: from(CopyFrom::Context), source },
        "cache" => MountKind::Cache {
            id,
            sharing: match get("sharing").as_deref() {
                Some("locked") => Sharing::Locked,
                Some("private") => Sharing::Private,
                _ => Sharing::Shared,
            },
            seed: from(CopyFrom::Scratch),
            source,
            mode: mode(0o755),
            uid,
            gid,
        },
        "tmpfs" => MountKind::Tmpfs { size: get("size").and_then(|text| text.parse().ok()) },
        "secret" => {
            MountKind::Secret { id, env: get("env"), required, mode: mode(0o400), uid, gid }
        }
        _ => MountKind::Ssh { id, required, mode: mode(0o600), uid, gid },
    };
    let is_bind = matches!(kind, MountKind::Bind { .. });
    let read_only = rest.split(',').any(|field| field == "ro")
        || is_bind && !rest.split(',').any(|field| field == "rw");
    Mount { target: get("target"), kind, read_only }
}

/// Makes `root` this process's `/`, with a `/proc`, a `/dev/null` and a `/dev/shm`.
fn become_container(root: &str) -> Result<(), Box<dyn Error>> {
    use nix::mount::{MsFlags, mount};
    let none = None::<&str>;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    // The root of a container is a mount point.
    mount(Some(root), root, none, MsFlags::MS_BIND, none)?;
    for directory in ["proc", "dev/shm"] {
        std::fs::create_dir_all(format!("{root}/{directory}"))?;
    }
    if !std::fs::exists(format!("{root}/dev/null"))? {
        std::fs::write(format!("{root}/dev/null"), "")?;
    }
    mount(Some("proc"), format!("{root}/proc").as_str(), Some("proc"), MsFlags::empty(), none)?;
    mount(
        Some("tmpfs"),
        format!("{root}/dev/shm").as_str(),
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )?;
    mount(Some("/dev/null"), format!("{root}/dev/null").as_str(), none, MsFlags::MS_BIND, none)?;
    std::os::unix::fs::chroot(root)?;
    std::env::set_current_dir("/")?;
    Ok(())
}

/// As in a container that nobody gave `CAP_SYS_ADMIN`.
fn give_up_mounting() -> Result<(), Box<dyn Error>> {
    use rustix::thread::{CapabilitySet, capabilities, remove_capability_from_bounding_set};
    remove_capability_from_bounding_set(CapabilitySet::SYS_ADMIN)?;
    let mut own = capabilities(None)?;
    own.effective.remove(CapabilitySet::SYS_ADMIN);
    own.permitted.remove(CapabilitySet::SYS_ADMIN);
    own.inheritable.remove(CapabilitySet::SYS_ADMIN);
    Ok(rustix::thread::set_capabilities(None, own)?)
}

fn inside(place: &Place) -> Result<ExitCode, Box<dyn Error>> {
    let mut request = parse(std::env::args().skip(1))?;
    let interrupt = Arc::new(Interrupt::new()?);
    let signals = HeldSignals::hold()?;
    let raised = Arc::clone(&interrupt);
    if request.becomes_root {
        become_container(&request.root)?;
        if !request.may_mount {
            give_up_mounting()?;
        }
        "/".clone_into(&mut request.root);
    }
    std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            raised.raise(signal);
        }
    });
    let host_path = Path::new(&request.root);
    let root = Root::open(host_path, request.options)?;
    let context = request.context.as_deref().map_or(host_path, Path::new);
    let mut inputs = Inputs::default();
    if let Some(stage) = &request.stage {
        let stage = Root::open(Path::new(stage), RootOptions::default())?;
        inputs.stages.insert(StageId(0), stage);
    }
    let site = Site {
        root: &root,
        context: &Context::open(context, request.ignore.as_deref().map(str::as_bytes))?,
        inputs: &inputs,
        supplies: &request.supplies,
        created: Time { secs: 0, nanos: 0 },
        place,
        interrupt: &interrupt,
        observer: &Printer,
        archives: &NoArchives,
        is_unwritten: &|_| false,
        later_reads: None,
    };
    let Err(error) = perform(&Action::Run(request.action), &site) else {
        return Ok(ExitCode::SUCCESS);
    };
    println!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        println!("caused by: {error}");
        cause = error.source();
    }
    if let Some(hint) = error.hint() {
        println!("hint: {hint}");
    }
    Ok(exit_code(error.exit_status().unwrap_or(1)))
}
