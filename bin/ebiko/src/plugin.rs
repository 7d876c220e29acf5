//! The step of Harness and Drone: runs an executor on what `ebiko-plugin` makes of the environment, in this process.

#![expect(clippy::disallowed_methods, reason = "the step reads and writes files of the machine")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use ebiko_oci::Timestamp;
use ebiko_plugin::{Files, Logins, Name, Outputs, Plan, PluginError, Question, Settings};

use crate::cli::Verbosity;
use crate::commands::Program;
use crate::credentials::{portal, read_file};
use crate::digest_files::{Place, create_parent};
use crate::environment::Environment;
use crate::report::Reporter;
use crate::{end, perform};

/// Where the original writes its config.
const DIRECTORY: &str = "/kaniko/.docker";

/// A config for pulling only, which is nowhere but in memory.
const PULL_CONFIG: &str = "/kaniko/.docker/pull.json";

/// The step that the file of this program is, if it is one.
pub(crate) fn name(arguments: &[OsString]) -> Option<Name> {
    Name::of_file(Path::new(arguments.first()?).file_name()?.to_str()?)
}

/// Whether the step knows these flags.
#[cfg(test)]
pub(crate) fn understood(name: Name, arguments: &[OsString]) -> Result<(), String> {
    let arguments = words(arguments);
    let machine = Machine { directory: PathBuf::from("/") };
    let read = Settings::read(name, &BTreeMap::new(), &arguments, &machine);
    read.map(drop).map_err(|error| error.to_string())
}

/// What follows the program's name.
fn words(arguments: &[OsString]) -> Vec<String> {
    arguments.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Does the step. The answer is the exit status: that of a failed RUN, otherwise 1.
pub(crate) fn run(
    name: Name,
    arguments: &[OsString],
    environment: anyhow::Result<Environment>,
) -> u8 {
    let environment = match environment {
        Ok(environment) => environment,
        Err(error) => {
            complain(&format!("level=fatal msg=\"{error:#}\""));
            return 1;
        }
    };
    let now = environment.now;
    step(name, arguments, environment).unwrap_or_else(|error| {
        fatal(&error.to_string(), now);
        if let Some(hint) = error.hint() {
            complain(&format!("hint: {hint}"));
        }
        1
    })
}

fn step(name: Name, arguments: &[OsString], environment: Environment) -> Result<u8, PluginError> {
    let variables = environment.all().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let machine = Machine { directory: environment.directory.clone() };
    let settings = Settings::read(name, &variables.collect(), &words(arguments), &machine)?;
    match settings.question() {
        Some(Question::Help) => {
            say(&Settings::help(name));
            return Ok(0);
        }
        Some(Question::Version) => {
            say(&format!("{} {}\n", name.file(), env!("CARGO_PKG_VERSION")));
            return Ok(0);
        }
        _ => {}
    }
    // The original has written its config before it finds a mistake in what is to be built.
    let logins = settings.logins()?;
    if settings.question() == Some(Question::Config) {
        say(logins.config.as_ref().map_or("", |config| config.expose()));
    }
    let plan = settings.plan(&machine)?;
    match settings.question() {
        Some(Question::Argv) => say(&format!("{}\n", serde_json::Value::from(plan.argv))),
        Some(_) => {}
        None => return Ok(perform_step(&settings, &logins, &plan, environment)),
    }
    Ok(0)
}

/// Builds or pushes, and writes what the next step is told.
fn perform_step(
    settings: &Settings,
    logins: &Logins,
    plan: &Plan,
    mut environment: Environment,
) -> u8 {
    let words = ["/kaniko/executor"].into_iter().chain(plan.argv.iter().map(String::as_str));
    say(&format!("+ {}\n", words.clone().collect::<Vec<_>>().join(" ")));
    let program = match Program::read(words.map(OsString::from)) {
        Ok(program) => program,
        Err(error) => {
            error.print().ok();
            return failed(1);
        }
    };
    prepare(&mut environment, settings.variables(), logins, plan);
    let reporter = Arc::new(Reporter::new(program.messages(), &environment));
    for warning in logins.warnings.iter().chain(&plan.warnings) {
        reporter.say(Verbosity::Warn, warning);
    }
    if let Some(advice) = logins.advice {
        reporter.say(Verbosity::Info, advice);
    }
    let outputs = described(&program, plan, &environment, &reporter);
    // Found before a step of the build can put links there.
    let place = |path: &PathBuf| Place::find(environment.absolute(path));
    let places = Places {
        artifact: outputs.artifact_file.as_ref().map(place),
        variables: outputs.output_file.as_ref().map(place),
    };
    if let Some(tar) = &plan.tar
        && let Err(error) = create_parent(&environment.absolute(Path::new(tar)))
    {
        fatal(
            &format!("failed to create directory for tar path {tar}: {error:#}"),
            environment.now,
        );
        return 1;
    }
    let ended = end(perform(&program, &environment, &reporter), &reporter);
    if ended.is_elsewhere {
        return ended.status;
    }
    if logins.wants_file
        && let Some(config) = &logins.config
        && let Err(error) = write_config(config.expose())
    {
        reporter.say(
            Verbosity::Warn,
            format!("the config of PLUGIN_CONFIG is used, and is no file: {error:#}"),
        );
    }
    if ended.status != 0 {
        return failed(ended.status);
    }
    places.write(&outputs, Path::new(plan.digest_file), &reporter);
    0
}

/// The outputs, with the portal's address where that is wanted. The build replaces what certificates are read from, so this
/// is before it. That nobody can tell the address is a warning, as in the original: the image is made without it.
fn described(
    program: &Program,
    plan: &Plan,
    environment: &Environment,
    reporter: &Arc<Reporter>,
) -> Outputs {
    let outputs = plan.outputs.clone();
    let (Some((registry, subscription)), Some(flags)) = (&plan.portal, program.registry()) else {
        return outputs;
    };
    match portal(flags, registry, subscription, environment, reporter) {
        Ok(address) => outputs.at(&address),
        Err(why) => {
            let warning =
                format!("the artifact has no address of Azure's portal for `{registry}`: {why:#}");
            reporter.say(Verbosity::Warn, warning);
            outputs
        }
    }
}

/// Writes to standard output. Whoever has closed it does not want to see more of it.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Writes a line to standard error, or nowhere if that is closed.
fn complain(line: &str) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}

/// What the original says when its executor has failed.
fn failed(status: u8) -> u8 {
    complain(&format!("exit status {status}"));
    status
}

/// As the original's log has it.
fn fatal(message: &str, now: (i64, u32)) {
    let time = Timestamp::new(now.0, 0).map(|time| time.to_string()).unwrap_or_default();
    let quoted = serde_json::Value::from(message);
    complain(&format!("time=\"{time}\" level=fatal msg={quoted}"));
}

/// Puts the logins where the rest of the program looks for them, and nowhere else.
fn prepare(
    environment: &mut Environment,
    variables: &BTreeMap<String, String>,
    logins: &Logins,
    plan: &Plan,
) {
    for (name, value) in variables {
        environment.set(name, value);
    }
    if let Some(config) = &logins.effective {
        environment.set("DOCKER_CONFIG", DIRECTORY);
        environment.keep_file(format!("{DIRECTORY}/config.json"), config.expose());
    }
    if let Some(config) = &logins.pull {
        environment.set("EBIKO_PULL_DOCKER_CONFIG", PULL_CONFIG);
        environment.keep_file(PULL_CONFIG, config.expose());
    }
    for (name, value) in &logins.cloud.variables {
        environment.set(name, value.expose());
    }
    for (path, content) in &logins.cloud.files {
        environment.keep_file(*path, content.expose());
    }
    environment.repository.clone_from(&plan.repository);
    if let Some((path, key)) = &plan.agent_key {
        environment.keep_file(*path, key.expose());
    }
}

/// After the build, so that no RUN finds it.
fn write_config(text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let directory = Path::new(DIRECTORY);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("cannot create the directory `{DIRECTORY}`"))?;
    let file = directory.join("config.json");
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&file)
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write `{}`", file.display()))
}

/// Where the next step is told.
struct Places {
    artifact: Option<Place>,
    variables: Option<Place>,
}

impl Places {
    /// Writes both files. That one cannot be written is a warning: the image is made.
    fn write(&self, outputs: &Outputs, digest_file: &Path, reporter: &Reporter) {
        let digest = match read_file(digest_file) {
            Ok(digest) => String::from_utf8_lossy(&digest).into_owned(),
            Err(error) => {
                reporter.say(
                    Verbosity::Warn,
                    format!(
                        "failed to read digest file contents at path: {}: {error}",
                        digest_file.display()
                    ),
                );
                String::new()
            }
        };
        for (what, place, text) in [
            ("artifact", &self.artifact, outputs.artifact(&digest)),
            ("output", &self.variables, outputs.variables(&digest)),
        ] {
            let Some(place) = place else { continue };
            let written = place.check().and_then(|()| create_parent(&place.path)).and_then(|()| {
                std::fs::write(&place.path, &text)
                    .with_context(|| format!("cannot write `{}`", place.path.display()))
            });
            if let Err(error) = written {
                let path = place.path.display();
                reporter.say(
                    Verbosity::Warn,
                    format!(
                        "failed to write plugin {what} file at path: {path} with error: {error:#}"
                    ),
                );
            }
        }
    }
}

/// The files of this machine.
struct Machine {
    directory: PathBuf,
}

impl Files for Machine {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        read_file(&self.directory.join(path))
    }

    fn exists(&self, path: &Path) -> bool {
        self.directory.join(path).exists()
    }

    fn directory(&self) -> &Path {
        &self.directory
    }
}
