//! From flags and environment to a [`BuildRequest`].

#![expect(clippy::disallowed_methods, reason = "finds the Dockerfile and the context on the host")]

use std::num::NonZero;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ebiko_build::{
    Afterwards, BaseLayers, BuildOptions, BuildRequest, Compression, Ground, Layering, Mode,
    PlatformChoice, Timestamp,
};
use ebiko_oci::Platform;
use ebiko_remote::Surroundings;
use ebiko_rootless::Place;
use ebiko_transport::Transport;

use crate::cli::{Cli, SnapshotMode};
use crate::environment::Environment;
use crate::outputs::Outputs;

/// Where an executor image has its executable, and a build in place its files.
const HOME: &str = "/kaniko";

/// More is no Dockerfile but a mistake in a path.
const DOCKERFILE_LIMIT: u64 = 4 << 20;

/// Reads the request, with the text of the Dockerfile and of its ignore file. Changes nothing.
pub(crate) fn read(
    cli: &Cli,
    environment: &Environment,
    outputs: &Outputs,
    workplace: &Workplace,
    transport: &Transport,
) -> anyhow::Result<BuildRequest> {
    let surroundings = Surroundings {
        current_dir: &environment.directory,
        work_dir: &workplace.builder_dir.join("buildcontext"),
        transport,
    };
    let context = ebiko_remote::fetch(&cli.context, "", &surroundings)?.dir;
    let dockerfile = find_dockerfile(cli, environment, &context)?;
    let ignore_file = ebiko_build::find_ignore_file(&context, &dockerfile)?;
    Ok(BuildRequest {
        dockerfile_name: cli.dockerfile.display().to_string(),
        dockerfile: std::fs::read(&dockerfile)
            .with_context(|| format!("cannot read the Dockerfile `{}`", dockerfile.display()))?,
        context,
        ignore_file: ignore_file.map(|found| found.text),
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
        ignore_paths: cli.ignore_paths.clone(),
        compression: Compression::default(),
        created: created(cli, environment)?,
        // The standard library counts what the control group allows, not the machine's processors.
        threads: std::thread::available_parallelism().map_or(1, NonZero::get),
        base_layers: if outputs.reads() > 1 { BaseLayers::Keep } else { BaseLayers::Stream },
    })
}

/// As given, below the context, and in lower case if the default name was meant.
fn find_dockerfile(
    cli: &Cli,
    environment: &Environment,
    context: &Path,
) -> anyhow::Result<PathBuf> {
    let given = &cli.dockerfile;
    if let Some(url) = given.to_str().filter(|text| text.contains("://")) {
        bail!("`--dockerfile={url}`: fetching a Dockerfile is not supported yet; give a path");
    }
    let mut candidates = vec![environment.absolute(given), context.join(given)];
    if given.as_os_str() == "Dockerfile" {
        candidates.push(context.join("dockerfile"));
    }
    let Some(found) = candidates.iter().find(|path| path.is_file()) else {
        let tried: Vec<String> =
            candidates.iter().map(|path| format!("`{}`", path.display())).collect();
        bail!("there is no Dockerfile; looked for {}", tried.join(" and "));
    };
    let size = std::fs::metadata(found).map_or(0, |metadata| metadata.len());
    if size > DOCKERFILE_LIMIT {
        bail!("`{}` is too large to be a Dockerfile ({size} bytes)", found.display());
    }
    Ok(found.clone())
}

fn options(cli: &Cli, environment: &Environment) -> anyhow::Result<BuildOptions> {
    let build_platform = Platform::linux(std::env::consts::ARCH);
    let platform = match &cli.custom_platform {
        Some(text) => text.parse().context("`--custom-platform` is wrong")?,
        None => build_platform.clone(),
    };
    let target = match &cli.targets[..] {
        [] => None,
        [target] => Some(target.clone()),
        more => bail!("`--target` names {} stages; more than one is not supported yet", more.len()),
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
        target,
        labels,
        platform,
        build_platform,
    })
}

/// A name without a value takes the environment's, and is not given at all if there is none, as in Docker.
fn build_args(cli: &Cli, environment: &Environment) -> Vec<(String, Option<String>)> {
    let argument = |argument: &String| match argument.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (argument.clone(), environment.get(argument).map(str::to_owned)),
    };
    cli.build_args.iter().map(argument).collect()
}

/// Now, or what `SOURCE_DATE_EPOCH` says as a build argument or in the environment.
fn created(cli: &Cli, environment: &Environment) -> anyhow::Result<Timestamp> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let arguments = build_args(cli, environment);
    let argument = arguments.iter().rev().find(|(name, _)| name == NAME);
    let epoch = argument.and_then(|(_, value)| value.as_deref()).or_else(|| environment.get(NAME));
    match epoch {
        Some(epoch) if !epoch.is_empty() => epoch
            .parse()
            .ok()
            .and_then(|seconds| Timestamp::from_seconds(seconds).ok())
            .with_context(|| {
                format!("invalid {NAME}: `{epoch}` is not a number of seconds since 1970")
            }),
        _ => Ok(Timestamp::new(environment.now.0, environment.now.1)?),
    }
}

/// The builder's own directory for a build in place, and the directory of its executable.
#[derive(Debug)]
pub(crate) struct Home {
    /// `KANIKO_DIR`, else `/kaniko`.
    pub(crate) directory: PathBuf,
    /// Where the executable is.
    pub(crate) executable_dir: PathBuf,
}

impl Home {
    /// Reads the environment.
    pub(crate) fn find(environment: &Environment) -> Self {
        let directory = environment.get_filled("KANIKO_DIR").unwrap_or(HOME);
        let executable_dir = environment.executable.parent().unwrap_or(Path::new("/")).to_owned();
        Self { directory: environment.absolute(Path::new(directory)), executable_dir }
    }

    /// The directory that the executable must be in for this to be an executor image: `KANIKO_DIR` may name a
    /// volume, and then the executable is still where the image has it.
    pub(crate) fn expected(&self) -> &Path {
        if self.executable_dir == Path::new(HOME) { Path::new(HOME) } else { &self.directory }
    }
}

/// Where the build takes place, and the directory for what it needs on the way.
#[derive(Debug)]
pub(crate) struct Workplace {
    place: Place,
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
        let executable_dir = home.executable_dir;
        if let Place::InPlace = place {
            return Ok(Self {
                place,
                builder_dir: home.directory,
                executable_dir,
                temporary: None,
            });
        }
        let parent = environment.get_filled("TMPDIR").unwrap_or("/var/tmp");
        let temporary = tempfile::Builder::new()
            .prefix("ebiko-")
            .tempdir_in(parent)
            .with_context(|| format!("cannot make a directory for the build in `{parent}`"))?;
        let builder_dir = temporary.path().to_owned();
        Ok(Self { place, builder_dir, executable_dir, temporary: Some(temporary) })
    }
}

impl Workplace {
    /// The directory that goes with this value, if there is one.
    pub(crate) fn temporary_dir(&self) -> Option<PathBuf> {
        self.temporary.as_ref().map(|temporary| temporary.path().to_owned())
    }
}

/// What the build needs to know of the workplace, and what it must stay away from there.
pub(crate) fn ground<'w>(
    cli: &Cli,
    environment: &Environment,
    request: &BuildRequest,
    outputs: &Outputs,
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
        .chain(ignored.filter(|path| path.is_absolute()))
        .collect();
    Ok(Ground {
        place: &workplace.place,
        builder_dir: workplace.builder_dir.clone(),
        protected,
        after: if cleanup { Afterwards::Restore } else { Afterwards::Leave },
    })
}
