//! A real registry on loopback: Debian's `docker-registry`.

mod storage;
mod tls;
mod token;

use std::fmt::Write as _;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

pub use self::tls::{Certificate, certificate, issue_for, rsa_key, self_signed};
use self::token::TokenServer;
use crate::ImageFacts;
use crate::base::BaseImage;
use crate::command::{Server, capture, capture_text};

/// Who may use a registry. Every scheme but the first knows one user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Everybody may read and write.
    #[default]
    Anonymous,
    /// HTTP basic for everything.
    Basic {
        /// The user's name.
        user: &'static str,
        /// The user's password.
        password: &'static str,
    },
    /// Bearer tokens from a realm server of their own; without credentials a token allows to pull.
    Token {
        /// The user's name.
        user: &'static str,
        /// The user's password.
        password: &'static str,
    },
}

/// A registry to be started.
#[derive(Debug, Default)]
#[must_use = "nothing is started until `start` is called"]
pub struct RegistryBuilder {
    auth: Auth,
    tls: bool,
    images: Vec<BaseImage>,
}

impl RegistryBuilder {
    /// Chooses who may use it.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Serves HTTPS with a certificate for `localhost` and `127.0.0.1`; see [`Registry::certificate_authority`].
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Puts a base image into it, under [`BaseImage::repository`], before it starts, at the cost of some hard links.
    pub fn image(mut self, image: BaseImage) -> Self {
        self.images.push(image);
        self
    }

    /// Starts it and returns when it answers.
    ///
    /// # Errors
    ///
    /// Fails if `docker-registry` (or `openssl`, `htpasswd`, where needed) is missing or does not come up.
    pub fn start(self) -> anyhow::Result<Registry> {
        let dir = crate::scratch_dir("registry-")?;
        for image in &self.images {
            storage::seed(image, &dir.path().join("storage"))?;
        }
        Registry::start(dir, self.auth, self.tls)
    }
}

/// A running registry; its storage goes with it.
#[derive(Debug)]
pub struct Registry {
    // The server first: its storage must not vanish beneath it.
    _server: Server,
    token: Option<TokenServer>,
    auth: Auth,
    port: u16,
    tls: bool,
    dir: tempfile::TempDir,
}

impl Registry {
    /// An open registry without TLS and without images, unless told otherwise.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    fn start(dir: tempfile::TempDir, auth: Auth, tls: bool) -> anyhow::Result<Self> {
        if tls {
            tls::issue(dir.path())?;
        }
        let token = match auth {
            Auth::Token { user, password } => Some(TokenServer::start(dir.path(), user, password)?),
            Auth::Basic { user, password } => {
                let line = capture(Command::new("htpasswd").args(["-Bbn", user, password]))?;
                std::fs::write(dir.path().join("htpasswd"), line)?;
                None
            }
            Auth::Anonymous => None,
        };
        // Between choosing a port and the server's bind somebody else may take it; then another one is as good.
        let mut last = String::new();
        for _ in 0..5 {
            let port = free_port()?;
            let config = config(dir.path(), port, tls, auth, token.as_ref());
            let path = dir.path().join("config.yml");
            std::fs::write(&path, config).context("cannot write the registry's configuration")?;
            let log = File::create(dir.path().join("log"))?;
            let mut server =
                Server::start("docker-registry", &["serve", &path.to_string_lossy()], &log)?;
            if answers(&mut server, port) {
                return Ok(Self { _server: server, token, auth, port, tls, dir });
            }
            drop(server);
            last = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        }
        bail!("`docker-registry` does not come up\n{last}")
    }

    /// `localhost:PORT`, the registry part of an image reference.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A reference into this registry: `app:1` becomes `localhost:PORT/app:1`.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host())
    }

    /// The certificate of the authority that signed the server's, when it serves HTTPS.
    pub fn certificate_authority(&self) -> Option<PathBuf> {
        self.tls.then(|| self.dir.path().join(tls::AUTHORITY))
    }

    /// Where blobs and links are kept.
    pub fn storage(&self) -> PathBuf {
        self.dir.path().join("storage")
    }

    /// The file that holds a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let directory = format!("docker/registry/v2/blobs/sha256/{}/{hex}", &hex[..2]);
        self.storage().join(directory).join("data")
    }

    /// Everything that the server wrote.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The requests so far, as `METHOD PATH STATUS`.
    pub fn requests(&self) -> Vec<String> {
        self.log().lines().filter_map(access_line).collect()
    }

    /// The queries of the token requests so far, with `user ` in front of those that carried credentials.
    pub fn token_requests(&self) -> Vec<String> {
        self.token.as_ref().map(TokenServer::requests).unwrap_or_default()
    }

    /// The `config.json` of a docker client that knows this registry's user.
    pub fn docker_config(&self) -> String {
        use base64::Engine as _;
        let Some((user, password)) = self.user() else { return "{}".to_owned() };
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        serde_json::json!({"auths": {self.host(): {"auth": auth}}}).to_string()
    }

    fn user(&self) -> Option<(&'static str, &'static str)> {
        match self.auth {
            Auth::Anonymous => None,
            Auth::Basic { user, password } | Auth::Token { user, password } => {
                Some((user, password))
            }
        }
    }

    /// Reads an image back with skopeo.
    ///
    /// # Errors
    ///
    /// Fails if there is no such image, or what there is is not one image.
    pub fn image(&self, name: &str) -> anyhow::Result<ImageFacts> {
        let source = format!("docker://{}", self.reference(name));
        let inspect = |extra: &[&str]| {
            let mut command = Command::new("skopeo");
            command.args(["--insecure-policy", "inspect", "--raw"]).args(extra);
            capture(command.args(self.skopeo_options("")).arg(&source))
        };
        ImageFacts::from_manifest_and_config(inspect(&[])?, inspect(&["--config"])?)
    }

    /// The tags of a repository, in order.
    pub fn tags(&self, repository: &str) -> anyhow::Result<Vec<String>> {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "list-tags"]).args(self.skopeo_options(""));
        let text = capture_text(command.arg(format!("docker://{}", self.reference(repository))))?;
        let value: serde_json::Value = serde_json::from_str(&text)?;
        let tags = value["Tags"].as_array().context("skopeo lists no tags")?;
        let mut tags: Vec<String> =
            tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect();
        tags.sort();
        Ok(tags)
    }

    /// Pushes what skopeo calls `source` (such as `oci:/dir:tag`), in the given manifest format: `v2s2` or `oci`.
    pub fn push(&self, source: &str, name: &str, format: &str) -> anyhow::Result<()> {
        let mut command = Command::new("skopeo");
        command
            .args(["--insecure-policy", "copy", "--all", "--format", format])
            .args(self.skopeo_options("dest-"));
        capture(command.arg(source).arg(format!("docker://{}", self.reference(name)))).map(drop)
    }

    /// Pulls an image into an OCI layout, made when it is missing, under `tag`.
    pub fn pull(&self, name: &str, layout: &Path, tag: &str) -> anyhow::Result<()> {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy"]).args(self.skopeo_options("src-"));
        command.arg(format!("docker://{}", self.reference(name)));
        capture(command.arg(format!("oci:{}:{tag}", layout.display()))).map(drop)
    }

    /// The layers of an image as [`crate::oracle::docker_archive_layers`] shows them.
    pub fn layers(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let dir = crate::scratch_dir("pulled-")?;
        let archive = dir.path().join("image.tar");
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy"]).args(self.skopeo_options("src-"));
        command.arg(format!("docker://{}", self.reference(name)));
        capture(command.arg(format!("docker-archive:{}", archive.display())))?;
        crate::oracle::docker_archive_layers(&archive)
    }

    fn skopeo_options(&self, side: &str) -> Vec<String> {
        let mut options = Vec::new();
        if self.tls {
            options.push(format!(
                "--{side}cert-dir={}",
                self.dir.path().join(tls::DIRECTORY).display()
            ));
        } else {
            options.push(format!("--{side}tls-verify=false"));
        }
        if let Some((user, password)) = self.user() {
            options.push(format!("--{side}creds={user}:{password}"));
        }
        options
    }
}

fn free_port() -> anyhow::Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?.port())
}

fn answers(server: &mut Server, port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline && !server.has_ended() {
        if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// The configuration in JSON, which is YAML.
fn config(dir: &Path, port: u16, tls: bool, auth: Auth, token: Option<&TokenServer>) -> String {
    let mut config = serde_json::json!({
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": dir.join("storage")}, "delete": {"enabled": true}},
        "http": {"addr": format!("127.0.0.1:{port}"), "secret": "not a secret"},
    });
    if tls {
        let key = dir.join(tls::SERVER_KEY);
        config["http"]["tls"] =
            serde_json::json!({"certificate": dir.join(tls::SERVER), "key": key});
    }
    if let Auth::Basic { .. } = auth {
        config["auth"] =
            serde_json::json!({"htpasswd": {"realm": "test", "path": dir.join("htpasswd")}});
    }
    if let Some(token) = token {
        config["auth"] = serde_json::json!({"token": token.registry_options()});
    }
    let mut text = String::new();
    let _infallible = writeln!(text, "{config}");
    text
}

/// `127.0.0.1 - joe [date] "GET /v2/ HTTP/1.1" 200 2 "" "agent"` → `GET /v2/ 200`.
fn access_line(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let (method_and_path, protocol) = request.rsplit_once(' ')?;
    protocol.starts_with("HTTP/").then_some(())?;
    Some(format!("{method_and_path} {}", rest.split(' ').next()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::busybox;

    /// Pushes, reads back, and returns what the registry saw.
    fn round_trip(builder: RegistryBuilder) -> Registry {
        let registry = builder.start().unwrap();
        let base = busybox().unwrap();
        registry.push(&base.source(), "team/app:1", "v2s2").unwrap();
        let image = registry.image("team/app:1").unwrap();
        assert_eq!(image.layers.len(), 1);
        assert_eq!(registry.tags("team/app").unwrap(), ["1"]);
        registry
    }

    #[test]
    fn an_open_registry_stores_and_returns_an_image() {
        let registry = round_trip(Registry::builder());
        let requests = registry.requests();
        assert!(
            requests.iter().any(|line| line == "PUT /v2/team/app/manifests/1 201"),
            "{requests:#?}"
        );
        assert_eq!(registry.docker_config(), "{}");
    }

    #[test]
    fn basic_and_token_registries_refuse_a_push_without_credentials() {
        let (user, password) = ("joe", "pass:word");
        for auth in [Auth::Basic { user, password }, Auth::Token { user, password }] {
            let registry = round_trip(Registry::builder().auth(auth));
            let mut command = Command::new("skopeo");
            command.args([
                "--insecure-policy",
                "copy",
                "--dest-tls-verify=false",
                "--dest-no-creds",
            ]);
            command
                .arg(busybox().unwrap().source())
                .arg(format!("docker://{}", registry.reference("other:1")));
            let error = capture(&mut command).unwrap_err().to_string();
            assert!(
                error.contains("unauthorized") || error.contains("authentication required"),
                "{auth:?}: {error}"
            );
        }
    }

    #[test]
    fn the_token_realm_gives_strangers_only_pull() {
        let registry =
            round_trip(Registry::builder().auth(Auth::Token { user: "joe", password: "secret" }));
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "inspect", "--raw", "--no-creds", "--tls-verify=false"]);
        capture(command.arg(format!("docker://{}", registry.reference("team/app:1")))).unwrap();
        let requests = registry.token_requests();
        assert!(requests.iter().any(|line| line.starts_with("user ")), "{requests:#?}");
        assert!(requests.iter().any(|line| !line.starts_with("user ")), "{requests:#?}");
    }

    #[test]
    fn a_tls_registry_is_trusted_through_its_authority() {
        let registry = round_trip(Registry::builder().tls());
        let authority = registry.certificate_authority().unwrap();
        assert!(
            std::fs::read_to_string(authority).unwrap().starts_with("-----BEGIN CERTIFICATE-----")
        );
    }

    #[test]
    fn a_seeded_image_is_there_at_once_and_pushing_over_it_leaves_the_seed_alone() {
        let base = busybox().unwrap();
        let first = Registry::builder().image(base.clone()).start().unwrap();
        let before = first.image(&base.repository()).unwrap();
        first.push(&base.source(), &base.repository(), "oci").unwrap();
        assert_ne!(
            first.image(&base.repository()).unwrap().manifest_digest,
            before.manifest_digest
        );
        let second = Registry::builder().image(base.clone()).start().unwrap();
        assert_eq!(
            second.image(&base.repository()).unwrap().manifest_digest,
            before.manifest_digest
        );
    }

    #[test]
    fn access_lines_are_told_from_other_lines() {
        let line = r#"127.0.0.1 - joe [23/Nov/2026:14:00:00 +0000] "GET /v2/a/tags/list?n=1 HTTP/1.1" 200 2 "" "x""#;
        assert_eq!(access_line(line).as_deref(), Some("GET /v2/a/tags/list?n=1 200"));
        assert_eq!(
            access_line(r#"time="2026" level=info msg="listening on 127.0.0.1:5000" go.version=x"#),
            None
        );
    }
}
