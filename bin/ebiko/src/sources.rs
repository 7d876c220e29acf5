//! Where files and images come from besides registries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use ebiko_build::{CheckedOut, DownloadSource, DownloadedFile, GitSource, Secret, Sources, Time};
use ebiko_oci::{Platform, PortError, Reference, ResolvedImage};
use ebiko_remote::{Authorization, DownloadOptions, GitRequest, Network};
use ebiko_rootless::Interrupt;
use ebiko_transport::Transport;

/// Fetches with the network of this process.
pub(crate) struct Fetcher {
    transport: Transport,
    is_interrupted: Box<dyn Fn() -> bool + Send + Sync>,
    /// The secrets of the request. Some are for git repositories.
    pub(crate) secrets: BTreeMap<String, Secret>,
}

impl Fetcher {
    pub(crate) fn new(
        transport: Transport,
        interrupt: &Arc<Interrupt>,
        secrets: BTreeMap<String, Secret>,
    ) -> Self {
        let interrupt = Arc::clone(interrupt);
        Self { transport, is_interrupted: Box::new(move || interrupt.signal().is_some()), secrets }
    }

    /// The network, for everything that is fetched.
    pub(crate) fn network(&self) -> Network<'_> {
        Network { transport: &self.transport, is_interrupted: &*self.is_interrupted }
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
        Ok(ebiko_remote::find_commit(&self.network(), &self.request(source)?)?.to_string())
    }

    fn checkout(&self, source: &GitSource, directory: &Path) -> Result<CheckedOut, PortError> {
        let done = ebiko_remote::checkout(&self.network(), &self.request(source)?, directory)?;
        Ok(CheckedOut {
            directory: done.directory,
            commit: done.commit.to_string(),
            committed: Time { secs: done.commit_time, nanos: 0 },
        })
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
