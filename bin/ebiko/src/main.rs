//! `executor`, `warmer` and the steps of Harness and Drone: flags to a request, adapters to ports, events to lines, errors to an exit code.
//!
//! The order of the steps matters: the process must have one thread until it has entered its namespaces, and
//! must have read every file of its own (credentials, roots of trust, `resolv.conf`) before the first layer replaces
//! what is in `/`.

mod caching;
mod cli;
mod commands;
mod compression;
mod context;
mod context_flags;
mod digest_files;
mod environment;
mod flags;
mod formats;
mod help;

mod credentials;
mod login;
mod network;
mod network_flags;
mod outputs;
mod plugin;
mod questions;
mod request;
mod resources;
mod sources;
mod ssh;
mod supplies;
mod variables;
mod warmed;
mod words;

mod failure;
mod report;
mod signals;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use ebiko_build::{BuildError, BuildRequest, Ports, Roots};
use ebiko_layout::{WarmDirectory, WarmSource};
use ebiko_oci::Reference;
use ebiko_rootless::{
    Choice, Entered, IdMapping, Nowhere, Place, Private, PrivateError, enter_private,
    missing_capabilities, protect_self, scrub_environment, survey,
};

use crate::caching::Caching;
use crate::cli::{Cli, Verbosity};
use crate::commands::Program;
use crate::credentials::Asking;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::outputs::Outputs;
use crate::questions::Question;
use crate::report::Reporter;
use crate::request::{Home, Workplace};
use crate::sources::Fetcher;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let environment = Environment::read();
    // Everything that is needed of it has been copied. A process that has more than one thread here is none of ours.
    drop(scrub_environment());
    if let Some(name) = plugin::name(&arguments) {
        return ExitCode::from(plugin::run(name, &arguments, environment));
    }
    let program = match Program::read(arguments.into_iter()) {
        Ok(program) => program,
        Err(error) => {
            // `--help` and `--version` come this way too; they are printed to standard output and are no failures.
            error.print().ok();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let (environment, unreadable) = match environment {
        Ok(environment) => (environment, None),
        Err(error) => (Environment::default(), Some(Failure::from(error))),
    };
    let reporter = Arc::new(Reporter::new(program.messages(), &environment));
    let done = match unreadable {
        Some(failure) => Err(failure),
        None => perform(&program, &environment, &reporter),
    };
    ExitCode::from(end(done, &reporter).status)
}

/// How a program ended, and whether it was this process that did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ended {
    status: u8,
    /// A process in a private place has done everything, this one has only waited for it.
    is_elsewhere: bool,
}

impl Ended {
    const fn here(status: u8) -> Self {
        Self { status, is_elsewhere: false }
    }
}

/// Does what the command line says.
fn perform(
    program: &Program,
    environment: &Environment,
    reporter: &Arc<Reporter>,
) -> Result<Ended, Failure> {
    match program {
        Program::Warmer(flags) => {
            commands::warmer::run(flags, environment, reporter).map(Ended::here)
        }
        Program::Executor(cli) => match &cli.command {
            Some(command) => command.run(environment, reporter).map(Ended::here),
            None => run(cli, environment, reporter),
        },
    }
}

/// Prints the failure, if it is one.
fn end(done: Result<Ended, Failure>, reporter: &Reporter) -> Ended {
    done.unwrap_or_else(|failure| {
        reporter.failure(&failure.text, failure.lines);
        Ended::here(failure.status)
    })
}

/// Builds and publishes.
fn run(cli: &Cli, environment: &Environment, reporter: &Arc<Reporter>) -> Result<Ended, Failure> {
    if let Some(question) = Question::of(cli)? {
        return ask(question, cli, environment, reporter).map(Ended::here);
    }
    if let (_, Some(warning)) = cli.place.place()? {
        reporter.say(Verbosity::Warn, warning);
    }
    if cli.place.git()?.skips_tls {
        let warning =
            "the certificate of the repository's host is not verified (--git=insecure-skip-tls)";
        reporter.say(Verbosity::Warn, warning.to_owned());
    }
    for (level, note) in variables::notes(cli, environment) {
        reporter.say(level, note);
    }
    let outputs = Outputs::plan(cli, environment, reporter)?;
    let caching = Caching::plan(cli, environment, &outputs, reporter)?;
    let warm = warmed::directory(cli, environment)?;
    let home = Home::find(cli, environment);
    let place = match settle_place(cli, environment, &home, reporter)? {
        Ok(place) => place,
        Err(ended) => return Ok(ended),
    };
    tell_emulation(&place, reporter);
    let (interrupt, temporary) = signals::watch().context("cannot prepare for signals")?;
    let transport = network::transport(&cli.registry, environment, reporter)?;
    credentials::prepare_repository(environment, &transport)?;
    // What knows credentials must be a program of the machine, not one that a layer or a RUN has put in its place.
    let asking = if matches!(place, Place::InPlace) { Asking::Now } else { Asking::Later };
    let kept_in = caching.as_ref().and_then(Caching::repository);
    let known: Vec<Reference> = outputs.pushes().iter().chain(kept_in).cloned().collect();
    let flags = &cli.registry;
    let registry =
        network::registry(flags, environment, transport.clone(), asking, &known, reporter)?;
    protect_self().context("cannot hide this process from the steps of the build")?;
    outputs.try_out(cli, &registry)?;

    let workplace = Workplace::prepare(place, home, environment)?;
    temporary.set(workplace.temporary_dir());
    let secrets = supplies::secrets(cli, environment)?;
    let ssh = Fetcher::ssh(cli, environment, workplace.builder_dir(), &interrupt)?;
    let sources = Fetcher::new(transport.clone(), &interrupt, secrets, ssh);
    let fetched = workplace.builder_dir().join("fetched-context");
    let request = request::read(cli, environment, outputs.reads(), &fetched, &sources);
    if let (Some(signal), Err(_)) = (interrupt.signal(), &request) {
        return Err(BuildError::Interrupted { signal }.into());
    }
    let mut request = request?;
    request.cache = caching.as_ref().map(|caching| caching.policy.clone());
    // What is not there may be in an image.
    let warmed_at = warm.as_ref().map(WarmDirectory::path).filter(|path| path.is_dir());
    let kept_at = caching.as_ref().and_then(Caching::directory).into_iter().chain(warmed_at);
    let ground = request::ground(cli, environment, &request, &outputs, kept_at, &workplace)?;
    let cache = caching.as_ref().map(|caching| caching.open(&registry));
    let ahead = registry.ahead(outputs.pushes());
    let warm = warm.as_ref().map(|warm| WarmSource::new(warm, &registry, &**reporter));
    let ports = Ports {
        images: warm.as_ref().map_or(&registry, |warm| warm),
        sources: &sources,
        ahead: &ahead,
        cache: cache.as_deref(),
        observer: &**reporter,
        clock: &environment::coarse_clock,
        interrupt: &interrupt,
    };
    if variables::prints_plan(environment)? {
        print_plan(&request, &ports, environment)?;
    }
    if workplace.is_in_place() {
        // A program of the machine's must not run after the first layer.
        sources.fetch_ahead(&request, &ports, workplace.builder_dir())?;
    }
    let roots = Roots::prepare(&ground).map_err(BuildError::from)?;
    let result = ebiko_build::build(&request, &ports, &roots)
        .map_err(Failure::from)
        .and_then(|image| Ok(outputs.write(&image, &registry, &transport, reporter)?));
    let cleaned = roots.finish().map_err(BuildError::from);
    let removed = context::remove(&fetched).and_then(|()| sources.remove_kept());
    if let (Some(signal), Err(_)) = (interrupt.signal(), &result) {
        // Whatever failed did so because of the signal.
        return Err(BuildError::Interrupted { signal }.into());
    }
    // The first failure is the one to tell; what is left behind then is told by the next build.
    result?;
    cleaned?;
    removed?;
    Ok(Ended::here(0))
}

/// Prints what is about to be done.
fn print_plan(
    request: &BuildRequest,
    ports: &Ports<'_>,
    environment: &Environment,
) -> Result<(), Failure> {
    let directory = request::temporary_dir(environment)?;
    let plan = ebiko_build::plan(request, ports, directory.path().join("inputs"))?;
    // Whoever closed our standard output does not want to see more of it.
    drop(io::stdout().lock().write_all(plan.to_string().as_bytes()));
    Ok(())
}

/// Answers a question about the Dockerfile, wherever this is: nothing is run and no root is touched.
fn ask(
    question: Question,
    cli: &Cli,
    environment: &Environment,
    reporter: &Arc<Reporter>,
) -> Result<u8, Failure> {
    let (interrupt, temporary) = signals::watch().context("cannot prepare for signals")?;
    let flags = &cli.registry;
    let transport = network::transport(flags, environment, reporter)?;
    let asking = Asking::Later;
    let registry = network::registry(flags, environment, transport.clone(), asking, &[], reporter)?;
    let directory = request::temporary_dir(environment)?;
    temporary.set(Some(directory.path().to_owned()));
    let secrets = supplies::secrets(cli, environment)?;
    let ssh = Fetcher::ssh(cli, environment, directory.path(), &interrupt)?;
    let sources = Fetcher::new(transport, &interrupt, secrets, ssh);
    let fetched = directory.path().join("fetched-context");
    let request = request::read(cli, environment, 0, &fetched, &sources)?;
    let warm = warmed::directory(cli, environment)?;
    let warm = warm.as_ref().map(|warm| WarmSource::new(warm, &registry, &**reporter));
    let ports = Ports {
        images: warm.as_ref().map_or(&registry, |warm| warm),
        sources: &sources,
        ahead: &registry.ahead(&[]),
        cache: None,
        observer: &**reporter,
        clock: &environment::coarse_clock,
        interrupt: &interrupt,
    };
    let inputs = directory.path().join("inputs");
    let (text, status) = questions::answer(question, &request, &ports, &inputs)?;
    // Whoever closed our standard output does not want to see more of it.
    drop(io::stdout().lock().write_all(text.as_bytes()));
    Ok(status)
}

/// Says once that commands will not have the rights of root, and that they will not notice.
fn tell_emulation(place: &Place, reporter: &Reporter) {
    let missing = missing_capabilities();
    let why = match place {
        Place::InPlace if !missing.is_empty() => {
            format!("this process lacks {}", missing.join(", "))
        }
        Place::Private(Private { ids: IdMapping::RootOnly(_), .. }) => {
            "there is one user id here".to_owned()
        }
        _ => return,
    };
    let note = format!(
        "commands take themselves for root although {why}: owners, modes and the like are kept beside the files"
    );
    reporter.say(Verbosity::Info, note);
}

/// Where the build takes place; the ending of another process where that has built.
fn settle_place(
    cli: &Cli,
    environment: &Environment,
    home: &Home,
    reporter: &Reporter,
) -> Result<Result<Place, Ended>, Failure> {
    let surroundings = survey(environment.all());
    let choice = surroundings
        .decide(&home.executable_dir, home.expected(), cli.force)
        .map_err(|refused| Failure::with_hint(&refused, refused.hint()))?;
    let is_foreign = choice == Choice::InPlace && Home::root().is_none();
    match choice {
        Choice::InPlace if !is_foreign => Ok(Ok(Place::InPlace)),
        Choice::InPlace | Choice::Private => match enter_private(environment.search_path()) {
            Ok(Entered::Inside(place)) => Ok(Ok(place)),
            Ok(Entered::Ended(ending)) => {
                let status = u8::try_from(ending.exit_status()).unwrap_or(1);
                Ok(Err(Ended { status, is_elsewhere: true }))
            }
            Err(refused) if is_foreign => Ok(Ok(without_commands(&refused, reporter))),
            Err(refused) => {
                let force = surroundings.decide(&home.executable_dir, home.expected(), true);
                if surroundings.container.is_none() && force.is_ok() {
                    let hint = refused.hint();
                    return Err(Failure::no_container(refused.into(), hint));
                }
                Err(Failure::with_hint(&refused, refused.hint()))
            }
        },
    }
}

/// In a pod where the process has no root of its own, images can be made of files only.
fn without_commands(refused: &PrivateError, reporter: &Reporter) -> Place {
    let user = rustix::process::geteuid().as_raw();
    let reason = format!(
        "this process is user {user}, the container's `/` belongs to somebody else, and a root of its own is refused: \
         {refused}"
    );
    let note = "no RUN is possible in this pod; the build goes on until there is one".to_owned();
    reporter.say(Verbosity::Warn, note);
    let hint = "one of these lines in the pod's securityContext helps: `runAsUser: 1000` with the image `nonroot`, which is made \
                for that user; `runAsUser: 0`; or `seccompProfile: {type: Unconfined}` on nodes with user namespaces";
    Place::Nowhere(Nowhere { reason, hint })
}
