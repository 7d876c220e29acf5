//! Where files and images come from besides registries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use ebiko_build::{
    BuildRequest, CheckedOut, DownloadSource, DownloadedFile, GitSource, Ports, Secret, Sources,
    Time,
};
use ebiko_oci::{Event, Observer, Platform, PortError, Reference, ResolvedImage};
use ebiko_remote::{Authorization, DownloadOptions, GitRequest, Network};
use ebiko_rootless::Interrupt;
use ebiko_transport::Transport;

use crate::cli::Cli;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::request::Home;
use crate::ssh::{Purpose, Ssh, SshFor};
use crate::supplies;

/// Fetches with the network of this process.
pub(crate) struct Fetcher {
    transport: Transport,
    is_interrupted: Box<dyn Fn() -> bool + Send + Sync>,
    /// The secrets of the request. Some are for git repositories.
    pub(crate) secrets: BTreeMap<String, Secret>,
    ssh: Ssh,
    kept: Mutex<Kept>,
}

/// Tells nobody.
struct Silent;

impl Observer for Silent {
    fn event(&self, _event: Event<'_>) {}
}

/// Repositories that were fetched before the build, because they cannot be during it.
#[derive(Default)]
struct Kept {
    /// Where they are; `None` as long as they are fetched when they are needed.
    directory: Option<PathBuf>,
    repositories: BTreeMap<GitSource, CheckedOut>,
}

impl Fetcher {
    pub(crate) fn new(
        transport: Transport,
        interrupt: &Arc<Interrupt>,
        secrets: BTreeMap<String, Secret>,
        ssh: Ssh,
    ) -> Self {
        let interrupt = Arc::clone(interrupt);
        let is_interrupted = Box::new(move || interrupt.signal().is_some());
        Self { transport, is_interrupted, secrets, ssh, kept: Mutex::default() }
    }

    /// The machine's way to repositories over SSH.
    pub(crate) fn ssh(
        cli: &Cli,
        environment: &Environment,
        directory: &Path,
        interrupt: &Arc<Interrupt>,
    ) -> anyhow::Result<Ssh> {
        let given = supplies::agents(cli, environment)?.remove("default");
        let is_replaced = ebiko_build::is_replaced(&Home::find(cli, environment).directory);
        let interrupt = Arc::clone(interrupt);
        let is_interrupted = Arc::new(move || interrupt.signal().is_some());
        Ok(Ssh::find(environment, given, directory, is_replaced, is_interrupted))
    }

    /// The network, for everything that is fetched without SSH.
    pub(crate) fn network(&self) -> Network<'_> {
        Network { transport: &self.transport, is_interrupted: &*self.is_interrupted, ssh: None }
    }

    /// The network, for repositories.
    pub(crate) fn network_for<'s>(&'s self, ssh: &'s SshFor<'s>) -> Network<'s> {
        Network { ssh: Some(ssh), ..self.network() }
    }

    /// Whoever logs in over SSH for this purpose.
    pub(crate) fn ssh_for(&self, purpose: Purpose) -> SshFor<'_> {
        SshFor { ssh: &self.ssh, purpose }
    }

    /// Fetches every repository over SSH that the build will read, and none after that: for a build that replaces the
    /// machine's files, and with them the program that speaks SSH.
    pub(crate) fn fetch_ahead(
        &self,
        request: &BuildRequest,
        ports: &Ports<'_>,
        builder_dir: &Path,
    ) -> Result<(), Failure> {
        if self.ssh.is_there() {
            // A build that was killed may have left its own.
            let directory = builder_dir.join("fetched-repositories");
            crate::context::remove(&directory)?;
            self.kept().directory = Some(directory.clone());
            // Whatever is found out now is told when the build finds it out.
            let ports = Ports { observer: &Silent, ..*ports };
            let found = ebiko_build::repositories(request, &ports, directory.join("inputs"))?;
            for source in found.iter().filter(|source| ebiko_remote::is_over_ssh(&source.remote)) {
                self.keep(source).map_err(|error| Failure {
                    text: Failure::from_port(&*error),
                    status: 1,
                    lines: Vec::new(),
                })?;
            }
        }
        self.ssh.close();
        Ok(())
    }

    /// Removes what was fetched ahead.
    pub(crate) fn remove_kept(&self) -> anyhow::Result<()> {
        self.ssh.close();
        self.kept().directory.take().map_or(Ok(()), |path| crate::context::remove(&path))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, source: &GitSource) -> Result<CheckedOut, PortError> {
        let mut kept = self.kept();
        if let Some(done) = kept.repositories.get(source) {
            return Ok(done.clone());
        }
        let Some(directory) = &kept.directory else { return Err("nothing is kept".into()) };
        let directory = directory.join(kept.repositories.len().to_string());
        let done = self.fetch(source, &directory)?;
        kept.repositories.insert(source.clone(), done.clone());
        Ok(done)
    }

    fn fetch(&self, source: &GitSource, directory: &Path) -> Result<CheckedOut, PortError> {
        let ssh = self.ssh_for(Purpose::Dockerfile);
        let network = self.network_for(&ssh);
        let done = ebiko_remote::checkout(&network, &self.request(source)?, directory)?;
        Ok(CheckedOut {
            directory: done.directory,
            commit: done.commit.to_string(),
            committed: Time { secs: done.commit_time, nanos: 0 },
        })
    }

    /// What is asked of a repository's server.
    pub(crate) fn request(&self, source: &GitSource) -> anyhow::Result<GitRequest> {
        Ok(GitRequest {
            remote: source.remote.clone(),
            reference: source.reference.clone(),
            checksum: source.checksum.clone(),
            subdir: source.subdir.clone(),
            keep_git_dir: source.keep_git_dir,
            submodules: source.submodules,
            commit_time: source.commit_time,
            fetch_by_commit: source.fetch_by_commit,
            authorization: self.authorization(&source.remote)?,
            ..GitRequest::default()
        })
    }

    /// BuildKit's names: a secret for one host before the one for all of them, a whole header before a token.
    ///
    /// Neither is ever sent without encryption.
    fn authorization(&self, remote: &str) -> anyhow::Result<Option<Authorization>> {
        let Some(host) = remote.strip_prefix("https://") else { return Ok(None) };
        let host = host.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        for name in [format!("GIT_AUTH_HEADER.{host}"), "GIT_AUTH_HEADER".to_owned()] {
            if let Some(header) = self.text_secret(&name)? {
                return Ok(Some(Authorization::header(header)?));
            }
            let name = name.replace("HEADER", "TOKEN");
            if let Some(token) = self.text_secret(&name)? {
                return Ok(Some(Authorization::token(token)?));
            }
        }
        Ok(None)
    }

    fn text_secret(&self, name: &str) -> anyhow::Result<Option<&str>> {
        let secret = self.secrets.get(name);
        secret
            .map(|secret| {
                str::from_utf8(secret.expose())
                    .ok()
                    .with_context(|| format!("the secret `{name}` is no text"))
            })
            .transpose()
    }
}

impl Sources for Fetcher {
    fn download(
        &self,
        source: &DownloadSource,
        directory: &Path,
    ) -> Result<DownloadedFile, PortError> {
        // Not the name that the server or the URL gives it: that one may be anything.
        let name = PathBuf::from("file");
        let downloaded = ebiko_remote::download(
            &self.network(),
            &source.url,
            source.checksum.as_deref(),
            &DownloadOptions::default(),
            &directory.join(&name),
        )?;
        let last_modified = downloaded.last_modified.map(|secs| Time { secs, nanos: 0 });
        let digest = downloaded.digest.parse()?;
        Ok(DownloadedFile { name, digest, etag: downloaded.etag, last_modified })
    }

    fn is_current(&self, source: &DownloadSource, etag: &str) -> Result<bool, PortError> {
        Ok(ebiko_remote::is_current(&self.network(), &source.url, etag)?)
    }

    fn commit(&self, source: &GitSource) -> Result<String, PortError> {
        if let Some(done) = self.kept().repositories.get(source) {
            return Ok(done.commit.clone());
        }
        let ssh = self.ssh_for(Purpose::Dockerfile);
        let network = self.network_for(&ssh);
        Ok(ebiko_remote::find_commit(&network, &self.request(source)?)?.to_string())
    }

    fn checkout(&self, source: &GitSource, directory: &Path) -> Result<CheckedOut, PortError> {
        if self.kept().directory.is_some() && ebiko_remote::is_over_ssh(&source.remote) {
            return self.keep(source);
        }
        self.fetch(source, directory)
    }

    fn in_layout(
        &self,
        directory: &Path,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ResolvedImage, PortError> {
        Ok(ebiko_layout::find_in_layout(directory, reference, platform)?)
    }
}
