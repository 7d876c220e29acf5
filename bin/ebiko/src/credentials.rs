//! Where the credentials are on this machine.

#![expect(
    clippy::disallowed_methods,
    reason = "reads the machine's settings, before a root is touched"
)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ebiko_registry::{
    CredentialPrograms, Credentials, EcrRepository, Helper, ProgramOutcome, Surroundings,
    azure_portal, prepare_ecr,
};
use ebiko_remote::Clouds;
use ebiko_rootless::Program;
use ebiko_transport::Transport;

use crate::cli::Verbosity;
use crate::environment::Environment;
use crate::flags::{CredentialFlags, RegistryFlags};
use crate::network;
use crate::report::Reporter;

/// Names the config for pulling, unless the flag does.
const PULL_CONFIG: &str = "EBIKO_PULL_DOCKER_CONFIG";

/// Holds a config itself, as in GitLab's jobs.
const AUTH_CONFIG: &str = "DOCKER_AUTH_CONFIG";

/// A mistake in a mount must not make the program read a disk image into memory.
const FILE_LIMIT: u64 = 4 << 20;

/// How long a credential program may take. Some ask a cloud; a person is not there to be asked.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(30);

/// How much a credential program may write.
const PROGRAM_LIMIT: usize = 1 << 20;

/// What a credential program gets of the environment: where things are, whom it is for, and what the clouds' programs
/// read. Nothing of the build, and no secret of anybody else's.
const PROGRAM_VARIABLES: [&str; 20] = [
    "HOME",
    "USER",
    "PATH",
    "TMPDIR",
    "LANG",
    "DOCKER_CONFIG",
    "DBUS_SESSION_BUS_ADDRESS",
    "GNUPGHOME",
    "PASSWORD_STORE_DIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "DISPLAY",
];

/// The same, by the beginning of the name.
const PROGRAM_PREFIXES: [&str; 7] =
    ["AWS_", "AZURE_", "GOOGLE_", "GCE_", "CLOUDSDK_", "DOCKER_CREDENTIAL_", "XDG_"];

/// When the programs that know credentials are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// Before anything else, and never again: the build replaces the machine's files.
    Now,
    /// When they are needed: the machine's files stay as they are.
    Later,
}

/// Reads the configs, asks the programs that they name if that must be now, and sets up the built-in helpers.
/// `registries` are those that will be needed for certain.
pub(crate) fn read(
    flags: &CredentialFlags,
    environment: &Environment,
    asking: Asking,
    registries: &[String],
    reporter: &Reporter,
) -> anyhow::Result<Credentials> {
    let mut credentials = configs(flags, environment)?;
    let programs = Programs::of(environment);
    match asking {
        Asking::Now => {
            for failure in credentials.ask_programs(&programs, registries) {
                reporter.say(Verbosity::Warn, failure);
            }
        }
        Asking::Later => credentials = credentials.with_programs(Arc::new(programs)),
    }
    let (helpers, unknown) = helpers(&flags.credential_helpers);
    for name in unknown {
        let known = Helper::ALL.map(Helper::name).join(", ");
        reporter.say(
            Verbosity::Warn,
            format!("`--credential-helpers={name}` is unknown and left out; there are {known}"),
        );
    }
    Ok(of_the_machine(environment, |surroundings| {
        credentials.with_helpers(&helpers, surroundings, Arc::new(now))
    }))
}

/// What the clouds' storages are to be told about us.
pub(crate) fn clouds(environment: &Environment) -> Clouds {
    of_the_machine(environment, |surroundings| Clouds::read(surroundings, Arc::new(now)))
}

/// Makes the repository that a step of a CI system wants, if it wants one.
pub(crate) fn prepare_repository(
    environment: &Environment,
    transport: &Transport,
) -> anyhow::Result<()> {
    let Some(repository) = &environment.repository else { return Ok(()) };
    let repository = EcrRepository {
        registry: &repository.registry,
        name: &repository.name,
        is_made: repository.is_made,
        lifecycle_policy: repository.lifecycle_policy.as_deref(),
        policy: repository.policy.as_deref(),
    };
    of_the_machine(environment, |surroundings| {
        Ok(prepare_ecr(transport, surroundings, &repository, now())?)
    })
}

/// The page of Azure's portal about a registry.
pub(crate) fn portal(
    flags: &RegistryFlags,
    registry: &str,
    subscription: &str,
    environment: &Environment,
    reporter: &Arc<Reporter>,
) -> anyhow::Result<String> {
    let transport = network::transport(flags, environment, reporter)?;
    of_the_machine(environment, |surroundings| {
        azure_portal(&transport, surroundings, registry, subscription, now())
            .map_err(anyhow::Error::msg)
    })
}

/// Lets somebody look at this machine's variables and files.
fn of_the_machine<T>(environment: &Environment, look: impl FnOnce(&Surroundings<'_>) -> T) -> T {
    let variables: BTreeMap<String, String> =
        environment.all().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let read = |path: &Path| find_file(environment, &environment.absolute(path));
    look(&Surroundings { variables: &variables, read: &read })
}

/// Seconds since 1970. Tokens end by the clock, and a build may take longer than they hold.
fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// The config for pulling, `DOCKER_AUTH_CONFIG`, and the first file that is there.
fn configs(flags: &CredentialFlags, environment: &Environment) -> anyhow::Result<Credentials> {
    let mut credentials = Credentials::default();
    if let Some(json) = environment.get_filled(AUTH_CONFIG) {
        credentials = credentials
            .with_config(AUTH_CONFIG, json.as_bytes())
            .with_context(|| format!("cannot use the credentials in {AUTH_CONFIG}"))?;
    }
    for file in files(environment) {
        match find_file(environment, &file) {
            Ok(json) => {
                credentials = add(credentials, &file, &json, Credentials::with_config)?;
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A mount over the directory above may hide it, and `HOME` may be anything.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read `{}`", file.display()));
            }
        }
    }
    let flag = flags.pull_docker_config.as_deref();
    let pull = flag.or_else(|| environment.get_filled(PULL_CONFIG).map(Path::new));
    if let Some(file) = pull {
        let file = environment.absolute(file);
        let json = find_file(environment, &file).with_context(|| {
            format!("cannot read the credentials for pulling in `{}`", file.display())
        })?;
        credentials = add(credentials, &file, &json, Credentials::with_pull_config)?;
    }
    Ok(credentials)
}

fn add(
    credentials: Credentials,
    file: &Path,
    json: &[u8],
    with: impl FnOnce(
        Credentials,
        String,
        &[u8],
    ) -> Result<Credentials, ebiko_registry::CredentialsError>,
) -> anyhow::Result<Credentials> {
    // Docker takes an empty file for an empty config.
    let json = if json.trim_ascii().is_empty() { b"{}" } else { json };
    with(credentials, format!("`{}`", file.display()), json)
        .with_context(|| format!("cannot use the credentials in `{}`", file.display()))
}

/// Where a config may be, in kaniko's order: Docker's place, then podman's.
fn files(environment: &Environment) -> Vec<PathBuf> {
    let below =
        |variable: &str, path: &str| Some(Path::new(environment.get_filled(variable)?).join(path));
    let places = [
        docker_config(environment),
        environment.get_filled("REGISTRY_AUTH_FILE").map(PathBuf::from),
        below("XDG_RUNTIME_DIR", "containers/auth.json"),
        below("XDG_CONFIG_HOME", "containers/auth.json")
            .or_else(|| below("HOME", ".config/containers/auth.json")),
    ];
    places.into_iter().flatten().map(|path| environment.absolute(&path)).collect()
}

/// Docker's own config, whether it is there or not: in the directory `DOCKER_CONFIG`, else below HOME.
pub(crate) fn docker_config(environment: &Environment) -> Option<PathBuf> {
    let directory = match environment.get_filled("DOCKER_CONFIG") {
        Some(directory) => PathBuf::from(directory),
        None => Path::new(environment.get_filled("HOME")?).join(".docker"),
    };
    Some(environment.absolute(&directory).join("config.json"))
}

/// Reads a small file, or takes the one that is kept for this path.
fn find_file(environment: &Environment, path: &Path) -> io::Result<Vec<u8>> {
    environment.kept_file(path).map_or_else(|| read_file(path), |content| Ok(content.to_vec()))
}

/// Reads a small file.
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if metadata.len() > FILE_LIMIT {
        return Err(io::Error::other(format!("it is larger than {FILE_LIMIT} bytes")));
    }
    std::fs::read(path)
}

/// The helpers to ask, and the names that are none. A name that is empty, alone, turns all of them off.
fn helpers(names: &[String]) -> (Vec<Helper>, Vec<&String>) {
    if names.is_empty() {
        return (Helper::ALL.to_vec(), Vec::new());
    }
    let mut helpers = Vec::new();
    let mut unknown = Vec::new();
    for name in names.iter().filter(|name| !name.is_empty()) {
        match Helper::parse(name) {
            Some(helper) if helpers.contains(&helper) => {}
            Some(helper) => helpers.push(helper),
            None => unknown.push(name),
        }
    }
    (helpers, unknown)
}

/// The credential programs of this machine.
struct Programs {
    /// Where they are.
    directories: Vec<PathBuf>,
    /// What they get.
    variables: Vec<(OsString, OsString)>,
}

impl Programs {
    /// In `PATH`, or beside this executable, where kaniko's image has them. Relative directories do not count: what runs
    /// must not depend on what lies in a context.
    fn of(environment: &Environment) -> Self {
        let own = environment.executable.parent().map(Path::to_owned);
        let directories = std::env::split_paths(environment.search_path()).chain(own);
        let is_passed_on = |name: &str| {
            PROGRAM_VARIABLES.contains(&name)
                || PROGRAM_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        };
        let variables = environment.all().filter(|(name, _)| is_passed_on(name));
        Self {
            directories: directories.filter(|directory| directory.is_absolute()).collect(),
            variables: variables.map(|(name, value)| (name.into(), value.into())).collect(),
        }
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        let file = format!("docker-credential-{name}");
        self.directories.iter().map(|directory| directory.join(&file)).find(|path| path.is_file())
    }
}

impl CredentialPrograms for Programs {
    fn run(&self, name: &str, server: &str) -> ProgramOutcome {
        let Some(path) = self.find(name) else { return ProgramOutcome::Missing };
        let program = Program {
            path: &path,
            arguments: &["get"],
            environment: &self.variables,
            input: server.as_bytes(),
            timeout: PROGRAM_TIMEOUT,
            limit: PROGRAM_LIMIT,
        };
        match program.run() {
            Ok(end) => ProgramOutcome::Ended { is_success: end.is_success, stdout: end.stdout },
            Err(error) => {
                ProgramOutcome::Failed { reason: format!("{:#}", anyhow::Error::from(error)) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
