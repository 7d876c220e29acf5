//! Runs a command in a directory as if it were a machine of its own.
//!
//! ```text
//! guest [--in-place] [--user UID:GID] [--cwd PATH] [--env NAME=VALUE]... [--attach TARGET=KIND:PATH]...
//!     [--store PATH] [--no-network] [--insecure] [--host-name NAME] ROOT COMMAND [ARGUMENT]...
//! ```
//!
//! With `--in-place` the directory is first made the `/` of the example itself, as in a container,
//! and the command is then run on it. In a container, and lying in `/kaniko`, the example runs the
//! command on the container's `/` whatever ROOT says. Prints the output of the command and, on a
//! last line, how it ended.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example is a program")]
#![expect(clippy::disallowed_methods, reason = "a program reads its environment")]

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use ebiko_rootfs::{Root, RootOptions, RootPath};
use ebiko_rootless::{
    Attachment, Choice, Content, Credentials, Ending, Entered, Guest, HeldSignals, Interrupt,
    NetworkAccess, Place, PrivateError, Resources, enter_private, run, survey,
};

struct Request {
    in_place: bool,
    user: (u32, u32),
    work_dir: String,
    env: Vec<(String, String)>,
    attachments: Vec<Attachment>,
    store: String,
    network: NetworkAccess,
    insecure: bool,
    host_name: Option<String>,
    root: String,
    argv: Vec<String>,
}

fn main() -> ExitCode {
    match place().and_then(|place| inside(place, &parse(std::env::args().skip(1)))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Ended(ending)) => {
            ExitCode::from(u8::try_from(ending.exit_status()).unwrap_or(255))
        }
        Err(Stop::Failed(error)) => {
            eprintln!("error: {error}");
            if let Some(error) = error.downcast_ref::<PrivateError>() {
                eprintln!("hint: {}", error.hint());
            }
            ExitCode::FAILURE
        }
    }
}

enum Stop {
    Ended(Ending),
    Failed(Box<dyn Error>),
}

impl<E: Into<Box<dyn Error>>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn place() -> Result<Place, Stop> {
    let executable = std::env::current_exe()?;
    let directory = executable.parent().unwrap_or(Path::new("/"));
    match survey([]).decide(directory, Path::new("/kaniko"), false)? {
        Choice::InPlace => Ok(Place::InPlace),
        Choice::Private => match enter_private(&std::env::var_os("PATH").unwrap_or_default())? {
            Entered::Inside(place) => Ok(place),
            Entered::Ended(ending) => Err(Stop::Ended(ending)),
        },
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Request {
    let mut request = Request {
        in_place: false,
        user: (0, 0),
        work_dir: "/".to_owned(),
        env: Vec::new(),
        attachments: Vec::new(),
        store: String::new(),
        network: NetworkAccess::Shared,
        insecure: false,
        host_name: None,
        root: String::new(),
        argv: Vec::new(),
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--in-place" => request.in_place = true,
            "--store" => request.store = value(),
            "--no-network" => request.network = NetworkAccess::None,
            "--insecure" => request.insecure = true,
            "--host-name" => request.host_name = Some(value()),
            "--attach" => request.attachments.extend(attachment(&value())),
            "--cwd" => request.work_dir = value(),
            "--env" => {
                let value = value();
                let (name, value) = value.split_once('=').unwrap_or((&value, ""));
                request.env.push((name.to_owned(), value.to_owned()));
            }
            "--user" => {
                let value = value();
                let (user, group) = value.split_once(':').unwrap_or((&value, "0"));
                request.user = (user.parse().unwrap_or(0), group.parse().unwrap_or(0));
            }
            root => {
                root.clone_into(&mut request.root);
                request.argv.extend(arguments.by_ref());
            }
        }
    }
    request
}

/// `TARGET=KIND:PATH[:ro]`, with `kept`, `disposable` or `secret`; or `TARGET=tmpfs:SIZE`.
fn attachment(text: &str) -> Option<Attachment> {
    let (target, content) = text.split_once('=')?;
    let mut parts = content.split(':');
    let (kind, path) = (parts.next()?, parts.next()?);
    let content = match kind {
        "kept" => Content::Kept(path.into()),
        "disposable" => Content::Disposable(path.into()),
        "secret" => Content::Secret { path: path.into(), is_plain: true },
        _ => Content::Tmpfs { size: path.parse().ok() },
    };
    let target = RootPath::parse(target.as_bytes()).ok()?;
    Some(Attachment { target, content, read_only: parts.next().is_some() })
}

fn inside(place: Place, request: &Request) -> Result<(), Stop> {
    let interrupt = Arc::new(Interrupt::new()?);
    let signals = HeldSignals::hold()?;
    let raised = Arc::clone(&interrupt);
    std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            raised.raise(signal);
        }
    });
    let place = if request.in_place {
        become_container(&request.root)?;
        Place::InPlace
    } else {
        place
    };
    let path = if matches!(place, Place::InPlace) { "/" } else { &request.root };
    let root = Root::open(Path::new(path), RootOptions::default())?;
    let work_dir = RootPath::resolve(&RootPath::root(), request.work_dir.as_bytes())?;
    let (uid, gid) = request.user;
    let guest = Guest {
        root: &root,
        argv: &request.argv,
        env: &request.env,
        work_dir: &work_dir,
        credentials: &Credentials { uid, gid, groups: vec![gid] },
        attachments: &request.attachments,
        store: Path::new(&request.store),
        network: request.network,
        insecure: request.insecure,
        host_name: request.host_name.as_deref(),
        resources: &Resources::default(),
    };
    let outcome = run(&place, &guest, &interrupt, &mut |_, bytes| {
        std::io::stdout().write_all(bytes).ok();
    });
    match outcome {
        Ok(outcome) => println!("{outcome:?}"),
        Err(error) => {
            print!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                print!(": {error}");
                cause = error.source();
            }
            println!("\nhint: {}", error.hint(&place).unwrap_or("none"));
        }
    }
    Ok(())
}

/// Makes `root` this process's `/`, with a `/proc` and a `/dev/null`.
fn become_container(root: &str) -> Result<(), Stop> {
    use nix::mount::{MsFlags, mount};
    let none = None::<&str>;
    for directory in ["proc", "dev"] {
        std::fs::create_dir_all(format!("{root}/{directory}"))?;
    }
    std::fs::write(format!("{root}/dev/null"), "")?;
    mount(Some("proc"), format!("{root}/proc").as_str(), Some("proc"), MsFlags::empty(), none)?;
    mount(Some("/dev/null"), format!("{root}/dev/null").as_str(), none, MsFlags::MS_BIND, none)?;
    std::os::unix::fs::chroot(root)?;
    std::env::set_current_dir("/")?;
    Ok(())
}
