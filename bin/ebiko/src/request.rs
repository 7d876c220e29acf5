//! From flags and environment to a [`BuildRequest`].

use std::collections::BTreeMap;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ebiko_build::{
    Afterwards, BaseFiles, BaseLayers, BuildOptions, BuildRequest, Entitlement, FileTimes,
    GitSource, Ground, Layering, Mode, OwnShell, PlatformChoice, Timestamp, parse_platform,
};
use ebiko_oci::Platform;
use ebiko_rootless::Place;

use crate::cli::{Cli, SnapshotMode};
use crate::compression;
use crate::context;
use crate::environment::Environment;
use crate::formats;
use crate::outputs::Outputs;
use crate::resources;
use crate::sources::Fetcher;
use crate::supplies;
use crate::variables;

/// Where an executor image has its executable, and a build in place its files.
const HOME: &str = "/kaniko";

/// Reads the request, with the text of the Dockerfile and of its ignore file. A context that is not on this machine is
/// fetched into the directory `fetched`; nothing else changes. The blobs of the image will be read `reads` times.
pub(crate) fn read(
    cli: &Cli,
    environment: &Environment,
    reads: usize,
    fetched: &Path,
    sources: &Fetcher,
) -> anyhow::Result<BuildRequest> {
    let files = context::open(cli, environment, fetched, sources)?;
    Ok(BuildRequest {
        dockerfile_name: files.dockerfile_name,
        dockerfile: files.dockerfile,
        context: files.context,
        context_age: files.context_age,
        ignore_file: files.ignore_file,
        options: options(cli, environment)?,
        platform: match cli.custom_platform {
            Some(_) => PlatformChoice::Explicit,
            None => PlatformChoice::Machine,
        },
        snapshot_mode: match cli.snapshot_mode {
            SnapshotMode::Full => Mode::Full,
            SnapshotMode::Redo => Mode::Redo,
            SnapshotMode::Time => Mode::Time,
        },
        layering: if cli.single_snapshot { Layering::PerStage } else { Layering::PerStep },
        ignore_paths: ignore_paths(cli),
        compression: compression::compression(cli)?,
        format: formats::format(cli),
        scratch_format: variables::scratch_format(environment)?,
        annotations: formats::annotations(&cli.annotations)?,
        limits: resources::limits(cli)?,
        created: if cli.reproducible {
            Timestamp::from_seconds(0)?
        } else {
            Timestamp::new(environment.now.0, environment.now.1)?
        },
        file_times: match (cli.reproducible, cli.rewrite_timestamp) {
            (true, _) => FileTimes::Fixed,
            (false, true) => FileTimes::Clamped,
            (false, false) => FileTimes::Kept,
        },
        secrets: sources.secrets.clone(),
        agents: supplies::agents(cli, environment)?,
        resources: resources::resources(cli)?,
        caches: cli.cache_run_dir.as_ref().map(|path| environment.absolute(path)),
        // The standard library counts what the control group allows, not the machine's processors.
        threads: std::thread::available_parallelism().map_or(1, NonZero::get),
        base_files: if cli.materialize { BaseFiles::Always } else { BaseFiles::AsNeeded },
        cache: None,
        base_layers: if reads > 1 { BaseLayers::Keep } else { BaseLayers::Stream },
    })
}

/// What `--ignore-path` and `--ignore-var-run` say. kaniko leaves `/var/run` out unless it is told not to, because it would
/// find the pod's mounts there; here those are known as what they are.
fn ignore_paths(cli: &Cli) -> Vec<String> {
    let var_run = (cli.ignore_var_run == Some(true)).then(|| "/var/run".to_owned());
    cli.ignore_paths.iter().cloned().chain(var_run).collect()
}

fn options(cli: &Cli, environment: &Environment) -> anyhow::Result<BuildOptions> {
    let build_platform = Platform::linux(std::env::consts::ARCH);
    let platform = match &cli.custom_platform {
        Some(text) => parse_platform(text, &build_platform)
            .map_err(anyhow::Error::msg)
            .context("`--custom-platform` is wrong")?,
        None => build_platform.clone(),
    };
    let labels = cli
        .labels
        .iter()
        .map(|label| {
            let (key, value) = label
                .split_once('=')
                .with_context(|| format!("`--label={label}` must have the form `KEY=VALUE`"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(BuildOptions {
        build_args: build_args(cli, environment),
        target: cli.targets.first().cloned(),
        also: cli.targets.iter().skip(1).filter(|name| !name.is_empty()).cloned().collect(),
        labels,
        build_platform,
        contexts: contexts(cli, environment)?,
        habits: variables::habits(environment)?,
        allow: cli.allow.iter().map(|name| entitlement(name)).collect::<anyhow::Result<_>>()?,
        ..BuildOptions::new(platform)
    })
}

fn entitlement(name: &str) -> anyhow::Result<Entitlement> {
    match name {
        "network.host" => Ok(Entitlement::NetworkHost),
        "security.insecure" => Ok(Entitlement::SecurityInsecure),
        _ => bail!("`--allow={name}`: only `network.host` and `security.insecure` can be allowed"),
    }
}

/// What `--build-context` says; directories become absolute.
fn contexts(cli: &Cli, environment: &Environment) -> anyhow::Result<BTreeMap<String, String>> {
    let context = |text: &String| {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .with_context(|| format!("`--build-context={text}` must have the form `NAME=VALUE`"))?;
        let is_elsewhere = GitSource::parse(value)
            .with_context(|| format!("`--build-context={text}` cannot be used"))?
            .is_some()
            || value.contains("://");
        let layout = value.strip_prefix("oci-layout://");
        let value = match layout {
            Some(layout) => {
                let path = environment.absolute(Path::new(layout));
                format!("oci-layout://{}", path.display())
            }
            None if is_elsewhere => value.to_owned(),
            None => environment.absolute(Path::new(value)).display().to_string(),
        };
        Ok((name.to_owned(), value))
    };
    cli.build_contexts.iter().map(context).collect()
}

/// A name without a value takes the environment's, and is not given at all if there is none, as in Docker.
pub(crate) fn build_args(cli: &Cli, environment: &Environment) -> Vec<(String, Option<String>)> {
    let mut arguments = given_args(&cli.build_args, environment);
    // Docker takes this one from the environment without being asked.
    if !arguments.iter().any(|(name, value)| name == EPOCH && value.is_some()) {
        let given = cli.source_date_epoch.as_deref().or_else(|| environment.get_filled(EPOCH));
        arguments.extend(given.map(|value| (EPOCH.to_owned(), Some(value.to_owned()))));
    }
    arguments
}

/// What each `--build-arg` says.
pub(crate) fn given_args(
    texts: &[String],
    environment: &Environment,
) -> Vec<(String, Option<String>)> {
    let argument = |argument: &String| match argument.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (argument.clone(), environment.get(argument).map(str::to_owned)),
    };
    // The step of a CI system gives one without a name where none is wanted.
    texts.iter().filter(|text| !text.is_empty()).map(argument).collect()
}

/// The build argument that says how old an image is to be.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The builder's own directory for a build in place, and the directory of its executable.
#[derive(Debug)]
pub(crate) struct Home {
    /// `--kaniko-dir`, else `KANIKO_DIR`, else `/kaniko`.
    pub(crate) directory: PathBuf,
    /// Where the executable is.
    pub(crate) executable_dir: PathBuf,
}

impl Home {
    /// Reads the flag and the environment.
    pub(crate) fn find(cli: &Cli, environment: &Environment) -> Self {
        let variable = || environment.get_filled("KANIKO_DIR").map(Path::new);
        let given = cli.kaniko_dir.as_deref().or_else(variable);
        let directory = given.unwrap_or(Path::new(HOME));
        let executable_dir = environment.executable.parent().unwrap_or(Path::new("/")).to_owned();
        Self { directory: environment.absolute(directory), executable_dir }
    }

    /// The directory that the executable must be in for this to be an executor image: `KANIKO_DIR` may name a
    /// volume, and then the executable is still where the image has it.
    pub(crate) fn expected(&self) -> &Path {
        if self.executable_dir == Path::new(HOME) { Path::new(HOME) } else { &self.directory }
    }

    /// Where this process can build on the container's own files: at `/`, if that is its own or it is user 0, or in the
    /// directory of an image for other users, into which the names at `/` lead (`docs/adr/0020-root-behind-links.md`).
    pub(crate) fn root() -> Option<PathBuf> {
        let user = rustix::process::geteuid();
        let is_own = |path: &Path| {
            user.is_root() || rustix::fs::stat(path).is_ok_and(|root| root.st_uid == user.as_raw())
        };
        ["/", LINKED_ROOT].map(PathBuf::from).into_iter().find(|path| is_own(path))
    }
}

/// The directory in an image for other users than root. What is above it is `/`, and so `..` leads there from both.
const LINKED_ROOT: &str = "/kaniko-root";

/// Where the build takes place, and the directory for what it needs on the way.
#[derive(Debug)]
pub(crate) struct Workplace {
    place: Place,
    root: PathBuf,
    builder_dir: PathBuf,
    executable_dir: PathBuf,
    /// In a private place the builder's directory is a new temporary one, which goes with this value.
    temporary: Option<tempfile::TempDir>,
}

impl Workplace {
    /// Makes a temporary directory for a build in a private place; in place it is the home.
    pub(crate) fn prepare(
        place: Place,
        home: Home,
        environment: &Environment,
    ) -> anyhow::Result<Self> {
        let root = Home::root().unwrap_or(PathBuf::from("/"));
        let executable_dir = home.executable_dir;
        if let Place::InPlace = place {
            return Ok(Self {
                place,
                root,
                builder_dir: home.directory,
                executable_dir,
                temporary: None,
            });
        }
        let temporary = temporary_dir(environment)?;
        let builder_dir = temporary.path().to_owned();
        Ok(Self { place, root, builder_dir, executable_dir, temporary: Some(temporary) })
    }
}

/// A new directory, which goes with the value. An executor image has no directory for such things but the builder's own.
pub(crate) fn temporary_dir(environment: &Environment) -> anyhow::Result<tempfile::TempDir> {
    let make = |parent: &str| tempfile::Builder::new().prefix("ebiko-").tempdir_in(parent);
    let given = environment.get_filled("TMPDIR");
    let parent = given.unwrap_or("/var/tmp");
    make(parent)
        .or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound if given.is_none() => {
                make(HOME).map_err(|_none_either| error)
            }
            _ => Err(error),
        })
        .with_context(|| format!("cannot make a directory for the build in `{parent}`"))
}

impl Workplace {
    /// The builder's own directory.
    pub(crate) fn builder_dir(&self) -> &Path {
        &self.builder_dir
    }

    /// Whether the build takes place on the container's own root.
    pub(crate) fn is_in_place(&self) -> bool {
        matches!(self.place, Place::InPlace)
    }

    /// The directory that goes with this value, if there is one.
    pub(crate) fn temporary_dir(&self) -> Option<PathBuf> {
        self.temporary.as_ref().map(|temporary| temporary.path().to_owned())
    }
}

/// What the build needs to know of the workplace, and what it must stay away from there.
pub(crate) fn ground<'w, 'p>(
    cli: &Cli,
    environment: &Environment,
    request: &BuildRequest,
    outputs: &Outputs,
    kept: impl Iterator<Item = &'p Path>,
    workplace: &'w Workplace,
) -> anyhow::Result<Ground<'w>> {
    let cleanup = match cli.cleanup {
        Some(cleanup) => cleanup,
        None => environment.get_bool("KANIKO_CLEANUP")?.unwrap_or(false),
    };
    // A pattern names nothing that could be kept where it is; it only keeps files out of layers.
    let is_pattern = |path: &String| path.contains(['*', '?', '[', '{']);
    let ignored = request.ignore_paths.iter().filter(|path| !is_pattern(path)).map(PathBuf::from);
    let protected = [request.context.clone(), workplace.executable_dir.clone()]
        .into_iter()
        .chain(outputs.paths().cloned())
        .chain(kept.map(Path::to_owned))
        .chain(request.caches.clone())
        .chain(ignored.filter(|path| path.is_absolute()))
        .collect();
    Ok(Ground {
        place: &workplace.place,
        root: workplace.root.clone(),
        builder_dir: workplace.builder_dir.clone(),
        protected,
        shell: match workplace.place {
            Place::InPlace => own_shell(&workplace.executable_dir)?,
            Place::Private(_) | Place::Nowhere(_) => None,
        },
        after: if cleanup { Afterwards::Restore } else { Afterwards::Leave },
    })
}

/// The shell of an executor image that has one, and the link beside the executable that says so. What lies at this path without
/// the link was left there by an earlier build.
const SHELL: &str = "/busybox/sh";
const SHELL_MARK: &str = "shell";

fn own_shell(executable_dir: &Path) -> anyhow::Result<Option<OwnShell>> {
    let mark = executable_dir.join(SHELL_MARK);
    let Ok(program) = std::fs::read_link(&mark) else { return Ok(None) };
    if program != Path::new(SHELL) {
        bail!(
            "`{}` is a link to `{}`, but the only shell that outlives a build is `{SHELL}`",
            mark.display(),
            program.display()
        );
    }
    Ok(Some(OwnShell::new(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_beside_the_executable_names_the_shell_of_the_container() {
        use std::os::unix::fs::symlink;
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(own_shell(directory.path()).unwrap(), None);

        symlink(SHELL, directory.path().join(SHELL_MARK)).unwrap();
        assert_eq!(own_shell(directory.path()).unwrap(), Some(OwnShell::new(SHELL.into())));

        let directory = tempfile::tempdir().unwrap();
        symlink("/bin/sh", directory.path().join(SHELL_MARK)).unwrap();
        let error = own_shell(directory.path()).unwrap_err().to_string();
        assert!(error.contains("shell` is a link to `/bin/sh`"), "{error}");
    }

    #[test]
    fn the_flag_for_the_builders_directory_comes_before_the_variable() {
        let home = |arguments: &[&str], variable: &'static str| {
            let arguments = ["executor"].iter().chain(arguments).map(Into::into);
            let mut environment = Environment::of([("KANIKO_DIR", variable)]);
            environment.directory = "/w".into();
            environment.executable = "/kaniko/executor".into();
            let home = Home::find(&Cli::read(arguments).unwrap(), &environment);
            (home.directory.display().to_string(), home.expected() == Path::new("/kaniko"))
        };
        assert_eq!(home(&[], ""), ("/kaniko".into(), true));
        assert_eq!(home(&[], "/v"), ("/v".into(), true));
        assert_eq!(home(&["--kaniko-dir=/f"], "/v"), ("/f".into(), true));
        assert_eq!(home(&["--kaniko-dir=f"], ""), ("/w/f".into(), true));
    }

    #[test]
    fn a_platform_may_be_an_architecture_alone() {
        for (text, expected) in [
            ("arm64", Some("linux/arm64")),
            ("linux/arm/v7", Some("linux/arm/v7")),
            ("windows/amd64", Some("windows/amd64")),
            ("pdp11", None),
        ] {
            let arguments = ["executor", "--custom-platform", text];
            let cli = Cli::read(arguments.map(Into::into).into_iter()).unwrap();
            let options = options(&cli, &Environment::default());
            let platform = options.ok().map(|options| options.platform.to_string());
            assert_eq!(platform.as_deref(), expected, "{text}");
        }
    }
}
