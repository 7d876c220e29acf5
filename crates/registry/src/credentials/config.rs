//! The content of a Docker `config.json`, or of podman's `auth.json`, which has the same form.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ebiko_oci::DOCKER_HUB;
use serde::Deserialize;

use super::{Credential, CredentialsError};
use ebiko_cloud::Secret;

/// The name that Docker Hub has in a config and for a credential program.
pub(super) const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// One config, and where it came from.
#[derive(Clone)]
pub(super) struct Config {
    /// For errors: a file or a variable.
    pub(super) origin: String,
    pub(super) is_for_pulls_only: bool,
    pub(super) entries: Vec<Entry>,
    pub(super) programs: Vec<Program>,
    /// The value of `credsStore`.
    pub(super) store: Option<String>,
}

/// One entry of `auths`.
#[derive(Clone)]
pub(super) struct Entry {
    /// As it is written in the file.
    pub(super) key: String,
    pub(super) scope: Scope,
    pub(super) content: Content,
}

/// One entry of `credHelpers`.
#[derive(Clone)]
pub(super) struct Program {
    /// As it is written in the file.
    pub(super) key: String,
    pub(super) scope: Scope,
    /// What follows `docker-credential-`.
    pub(super) name: String,
}

/// What an entry is for: a registry, or the repositories below a path in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) registry: String,
    pub(super) path: Vec<String>,
}

#[derive(Clone)]
pub(super) enum Content {
    /// The secret is in a credential store, or nowhere.
    Nothing,
    /// Kept until the entry is needed: a broken entry for one registry must not stop a build that
    /// uses another.
    Broken(&'static str),
    Credential(Credential),
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: Option<BTreeMap<String, Option<FileEntry>>>,
    #[serde(default, rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize)]
struct FileEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Config {
    /// Reads `json`. Keys that have nothing to do with credentials are not looked at.
    pub(super) fn parse(origin: String, json: &[u8]) -> Result<Self, CredentialsError> {
        let file: File = serde_json::from_slice(json).map_err(|error| {
            CredentialsError::Syntax { line: error.line(), column: error.column() }
        })?;
        let entries = file.auths.unwrap_or_default().into_iter().map(|(key, entry)| Entry {
            scope: Scope::parse(&key),
            key,
            content: entry.map_or(Content::Nothing, FileEntry::content),
        });
        let programs = file.helpers.unwrap_or_default().into_iter().map(|(key, name)| Program {
            scope: Scope::parse(&key),
            key,
            name,
        });
        Ok(Self {
            origin,
            is_for_pulls_only: false,
            entries: entries.collect(),
            programs: programs.filter(|program| !program.name.is_empty()).collect(),
            store: file.store.filter(|store| !store.is_empty()),
        })
    }
}

impl FileEntry {
    fn content(self) -> Content {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = given(self.registrytoken) {
            return Content::Credential(Credential::Bearer { token: Secret::new(token) });
        }
        if let Some(token) = given(self.identitytoken) {
            return Content::Credential(Credential::Identity { token: Secret::new(token) });
        }
        let pair = match given(self.auth) {
            Some(auth) => match decode_auth(&auth) {
                Ok(pair) => Some(pair),
                Err(reason) => return Content::Broken(reason),
            },
            None => given(self.username).map(|user| (user, self.password.unwrap_or_default())),
        };
        match pair {
            None => Content::Nothing,
            // Cloud registries hand out refresh tokens under this user name.
            Some((user, token)) if user == "<token>" => {
                Content::Credential(Credential::Identity { token: Secret::new(token) })
            }
            Some((user, password)) => {
                Content::Credential(Credential::Basic { user, password: Secret::new(password) })
            }
        }
    }
}

/// `auth` is base64 of `user:password`, in practice with or without padding.
fn decode_auth(auth: &str) -> Result<(String, String), &'static str> {
    // `base64` breaks long lines, and Go does not mind.
    let auth: String = auth.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(&auth).or_else(|_| STANDARD_NO_PAD.decode(&auth));
    let text = bytes
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or("has an `auth` that is not base64 of a text")?;
    let (user, password) =
        text.split_once(':').ok_or("has an `auth` that is not `user:password`")?;
    // Old docker versions padded the password.
    Ok((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

impl Scope {
    /// Reads a key: `registry[/path]`, perhaps with a scheme in front. `/v1/` and `/v2/` are the
    /// protocol's version and no path.
    pub(super) fn parse(key: &str) -> Self {
        let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
        let mut parts = rest.unwrap_or(key).split('/').filter(|part| !part.is_empty());
        let registry = registry_of_logins(parts.next().unwrap_or_default());
        let mut path: Vec<String> = parts.map(str::to_owned).collect();
        if matches!(path.as_slice(), [version] if version == "v1" || version == "v2") {
            path.clear();
        }
        Self { registry, path }
    }

    pub(super) fn covers(&self, registry: &str, repository: &str) -> bool {
        let mut parts = repository.split('/');
        self.registry == registry_of_logins(registry)
            && self.path.iter().all(|part| parts.next() == Some(part))
    }

    /// The name under which a credential program knows it.
    pub(super) fn server(&self) -> String {
        if self.registry == DOCKER_HUB {
            return DOCKER_HUB_KEY.to_owned();
        }
        [std::slice::from_ref(&self.registry), &self.path].concat().join("/")
    }
}

/// The same for logins, which Docker Hub has under one name more, where it also serves images.
fn registry_of_logins(registry: &str) -> String {
    match canonical_registry(registry) {
        site if site == "registry.hub.docker.com" => DOCKER_HUB.to_owned(),
        registry => registry,
    }
}

/// Docker Hub has many names and one set of credentials.
pub(crate) fn canonical_registry(registry: &str) -> String {
    let registry = registry.to_ascii_lowercase();
    match registry.as_str() {
        "docker.io" | "registry-1.docker.io" | "index.docker.io" => DOCKER_HUB.to_owned(),
        _ => registry,
    }
}
