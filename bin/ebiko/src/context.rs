//! The build context and the Dockerfile: found on this machine, or fetched.

#![expect(clippy::disallowed_methods, reason = "finds the Dockerfile and the context on the host")]

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ebiko_build::{GitSource, Time, find_ignore_file, read_inside, unpack_context};
use ebiko_remote::{
    Authorization, DownloadOptions, GitSettings, LocalContext, Material, Network, Surroundings,
};
use ebiko_transport::{ShownUrl, Url, Verification};

use crate::cli::Cli;
use crate::credentials;
use crate::environment::Environment;
use crate::request::build_args;
use crate::resources::limits;
use crate::sources::Fetcher;
use crate::ssh::Purpose;

/// More is no Dockerfile but a mistake in a path.
const DOCKERFILE_LIMIT: u64 = 4 << 20;

/// What a build reads from the host.
#[derive(Debug)]
pub(crate) struct BuildFiles {
    /// The directory of the context.
    pub(crate) context: PathBuf,
    pub(crate) context_age: Option<Time>,
    /// The Dockerfile's name, for messages.
    pub(crate) dockerfile_name: String,
    pub(crate) dockerfile: Vec<u8>,
    pub(crate) ignore_file: Option<Vec<u8>>,
}

/// Finds the context and what is in it that steers the build. A context that is not here is fetched into `directory`, where
/// nothing is then but what this function has put there.
pub(crate) fn open(
    cli: &Cli,
    environment: &Environment,
    directory: &Path,
    sources: &Fetcher,
) -> anyhow::Result<BuildFiles> {
    let found = fetch(cli, environment, directory, sources)?;
    let time = |seconds: Option<i64>| seconds.map(|secs| Time { secs, nanos: 0 });
    let (context, context_age) = match found.material {
        Material::Directory { path, sub_path } => {
            let context = if sub_path == Path::new("") { path } else { inside(&path, &sub_path)? };
            (context, time(found.last_modified))
        }
        Material::File { path, sub_path } => {
            let context = directory.join("files");
            std::fs::create_dir_all(&context)
                .with_context(|| format!("cannot make the directory `{}`", context.display()))?;
            let shown = path.display();
            let mut file = File::open(&path).with_context(|| format!("cannot open `{shown}`"))?;
            let Some(newest) = unpack_context(&mut file, &context, &limits(cli)?)? else {
                if !found.is_fetched {
                    bail!("the build context `{shown}` is neither a directory nor an archive");
                }
                // The context is the Dockerfile itself.
                return Ok(BuildFiles {
                    context,
                    context_age: time(found.last_modified),
                    dockerfile_name: "Dockerfile".to_owned(),
                    dockerfile: read_dockerfile(&path)?,
                    ignore_file: None,
                });
            };
            let newest = found.is_fetched.then_some(newest);
            (inside(&context, &sub_path)?, time(found.last_modified).or(newest))
        }
    };
    let (path, dockerfile) = match cli.dockerfile.to_str().filter(|text| is_url(text)) {
        Some(url) => {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make the directory `{}`", directory.display()))?;
            let path = directory.join("Dockerfile");
            let text = fetch_dockerfile(&sources.network(), url, &path)?;
            (path, text)
        }
        None => find_dockerfile(cli, environment, &context, found.is_fetched)?,
    };
    let ignore_file =
        if found.heeds_ignore_file { find_ignore_file(&context, &path)? } else { None };
    Ok(BuildFiles {
        context,
        context_age,
        dockerfile_name: shown(&cli.dockerfile),
        dockerfile,
        ignore_file: ignore_file.map(|found| found.text),
    })
}

/// Removes what was fetched.
pub(crate) fn remove(directory: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error)
            .with_context(|| format!("cannot remove the directory `{}`", directory.display())),
        _ => Ok(()),
    }
}

fn fetch(
    cli: &Cli,
    environment: &Environment,
    directory: &Path,
    sources: &Fetcher,
) -> anyhow::Result<LocalContext> {
    // A build in this container that was killed may have left its own.
    remove(directory)?;
    let (context, _warning) = cli.place.place()?;
    // Two more names that git has for `ssh://`.
    let context = match context.split_once("://") {
        Some(("git+ssh" | "ssh+git", rest)) => format!("ssh://{rest}"),
        _ => context,
    };
    let context = context.as_str();
    // `git://` is kaniko's way to say https, and a directory of that name is a directory.
    let is_here =
        context.starts_with("git://") || environment.absolute(Path::new(context)).exists();
    let repository = match GitSource::parse(context) {
        Ok(source) if !is_here => source,
        Ok(_) => None,
        Err(error) if is_here => {
            drop(error);
            None
        }
        Err(error) => return Err(error).context("`--context` cannot be used"),
    };
    let arguments = build_args(cli, environment);
    let given = |name: &str| {
        let last = arguments.iter().rfind(|(given, _)| given == name);
        last.and_then(|(_, value)| value.as_deref()).filter(|value| !value.is_empty())
    };
    let keeps_git_dir =
        given("BUILDKIT_CONTEXT_KEEP_GIT_DIR").and_then(Environment::boolean).unwrap_or(false);
    let repository = repository.map(|source| GitSource {
        // As in BuildKit: a build whose time is given has files that are as old as the commit.
        commit_time: source.commit_time || given("SOURCE_DATE_EPOCH").is_some(),
        keep_git_dir: source.keep_git_dir || keeps_git_dir,
        ..source
    });
    let request = repository.map(|source| sources.request(&source)).transpose()?;
    let ssh = sources.ssh_for(Purpose::Context);
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().ok().map(File::from);
    let surroundings = Surroundings {
        current_dir: &environment.directory,
        work_dir: directory,
        network: sources.network_for(&ssh),
        stdin: stdin.as_ref(),
        repository: request.as_ref(),
        git: &git_settings(cli, environment, keeps_git_dir)?,
        clouds: &credentials::clouds(environment),
    };
    Ok(ebiko_remote::fetch(context, &cli.place.context_sub_path, &surroundings)?)
}

/// What `--git` and kaniko's variables say of repositories.
fn git_settings(
    cli: &Cli,
    environment: &Environment,
    keep_git_dir: bool,
) -> anyhow::Result<GitSettings> {
    let flags = cli.place.git()?;
    let is_plain_http = match environment.get_filled("GIT_PULL_METHOD") {
        None | Some("https") => false,
        Some("http") => true,
        Some(other) => bail!(
            "the environment variable GIT_PULL_METHOD is `{other}`; it must be `https` or `http`"
        ),
    };
    let variable = |name| environment.get_filled(name);
    let login = match (variable("GIT_TOKEN"), variable("GIT_USERNAME"), variable("GIT_PASSWORD")) {
        (Some(token), _, _) => Some((token, "")),
        (None, None, None) => None,
        (None, user, password) => Some((user.unwrap_or_default(), password.unwrap_or_default())),
    };
    let authorization = login.map(|(user, password)| Authorization::basic(user, password));
    Ok(GitSettings {
        is_plain_http,
        branch: flags.branch,
        submodules: flags.submodules,
        history: flags.history,
        keep_git_dir,
        verification: if flags.skips_tls {
            Verification::NotOfTheChosen
        } else {
            Verification::Always
        },
        authorization: authorization.transpose()?,
    })
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// The Dockerfile's name for messages. A URL may hold a token.
fn shown(dockerfile: &Path) -> String {
    let text = dockerfile.display().to_string();
    match Url::parse(&text) {
        Ok(url) if is_url(&text) => ShownUrl::of(&url).to_string(),
        _ => text,
    }
}

/// The text of the Dockerfile at `url`, which becomes the file `path`.
pub(crate) fn fetch_dockerfile(
    network: &Network<'_>,
    url: &str,
    path: &Path,
) -> anyhow::Result<Vec<u8>> {
    let options = DownloadOptions { limit: DOCKERFILE_LIMIT };
    ebiko_remote::download(network, url, None, &options, path)
        .context("cannot fetch the Dockerfile")?;
    read_dockerfile(path)
}

/// The directory `sub_path` of a context, which may hold links to anywhere.
fn inside(context: &Path, sub_path: &Path) -> anyhow::Result<PathBuf> {
    let wanted = context.join(sub_path);
    let find = || format!("there is no directory `{}` in the build context", sub_path.display());
    let found = wanted.canonicalize().with_context(find)?;
    let top = context.canonicalize().with_context(find)?;
    if !found.is_dir() {
        bail!("`{}` is not a directory of the build context", sub_path.display());
    }
    if !found.starts_with(&top) {
        bail!("the directory `{}` leads out of the build context", sub_path.display());
    }
    Ok(found)
}

/// As given, below the context, and in lower case if the default name was meant. A fetched context has its own: what lies
/// where the program was started is somebody else's.
///
/// Below the context links stay inside: the text of a Dockerfile that cannot be read shows up in messages.
fn find_dockerfile(
    cli: &Cli,
    environment: &Environment,
    context: &Path,
    is_fetched: bool,
) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    let given = &cli.dockerfile;
    if let Some((scheme, _)) = given.to_str().and_then(|text| text.split_once("://")) {
        bail!("`--dockerfile={scheme}://…`: a Dockerfile is a path or at an `https://` address");
    }
    let path = environment.absolute(given);
    let mut tried = Vec::new();
    if !is_fetched || given.is_absolute() {
        if path.is_file() && !path.starts_with(context) {
            return Ok((path.clone(), read_dockerfile(&path)?));
        }
        tried.push(path.clone());
    }
    let below = match path.strip_prefix(context) {
        Ok(below) if !is_fetched => below.to_owned(),
        _ => given.clone(),
    };
    let mut names = vec![below];
    if given.as_os_str() == "Dockerfile" {
        names.push("dockerfile".into());
    }
    for name in names {
        let path = context.join(&name);
        let text = read_inside(context, &name, DOCKERFILE_LIMIT)
            .with_context(|| format!("cannot read the Dockerfile `{}`", path.display()))?;
        if let Some(text) = text {
            return Ok((path, text));
        }
        tried.push(path);
    }
    tried.dedup();
    let tried: Vec<String> = tried.iter().map(|path| format!("`{}`", path.display())).collect();
    bail!("there is no Dockerfile; looked for {}", tried.join(" and "));
}

pub(crate) fn read_dockerfile(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(DOCKERFILE_LIMIT + 1).read_to_end(&mut text))
        .with_context(|| format!("cannot read the Dockerfile `{}`", path.display()))?;
    if text.len() as u64 > DOCKERFILE_LIMIT {
        bail!("`{}` is too large to be a Dockerfile", path.display());
    }
    Ok(text)
}
