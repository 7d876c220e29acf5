//! Whose credentials are for which repository.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ebiko_oci::DOCKER_HUB;
use serde::Deserialize;

use crate::secret::Secret;

/// What is known about registries' credentials: the content of a Docker `config.json`.
#[derive(Clone, Default)]
pub struct Credentials {
    entries: Vec<Entry>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
}

/// One entry of `auths`.
#[derive(Clone)]
struct Entry {
    /// As it is written in the file.
    key: String,
    scope: Scope,
    content: Content,
}

/// What an entry is for: a registry, or the repositories below a path in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope {
    registry: String,
    path: Vec<String>,
}

#[derive(Clone)]
enum Content {
    /// The secret is in a credential store, or nowhere.
    Nothing,
    /// Kept until the entry is needed: a broken entry for one registry must not stop a build that
    /// uses another.
    Broken(&'static str),
    Credential(Credential),
}

/// How to prove who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// User name and password.
    Basic { user: String, password: Secret },
    /// A refresh token for the token service (`identitytoken`).
    Identity { token: Secret },
    /// A bearer token for the registry itself (`registrytoken`).
    Bearer { token: Secret },
}

/// What [`Credentials`] has for a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A credential and the key of its entry.
    Entry { credential: Credential, key: String },
    /// Nothing. `unasked` is a credential store that might have something.
    Nothing { unasked: Option<String> },
}

/// The credentials that were given cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum CredentialsError {
    #[error("the docker config is not valid JSON of its kind (line {line}, column {column})")]
    Syntax { line: usize, column: usize },
    #[error("the entry `{key}` of the docker config {reason}")]
    Entry { key: String, reason: &'static str },
    #[error(
        "credential helpers are not supported yet: `{entry}` of the docker config names \
         `docker-credential-{helper}` for `{registry}`"
    )]
    Helper { entry: String, helper: String, registry: String },
}

impl CredentialsError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Helper { registry, .. } => {
                Some(format!("put the credentials themselves under `auths` › `{registry}`"))
            }
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: Option<BTreeMap<String, FileEntry>>,
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

impl Credentials {
    /// Reads the content of a Docker `config.json`. Keys that have nothing to do with credentials
    /// are not looked at.
    ///
    /// # Errors
    ///
    /// Fails if it is not JSON of this kind. The error says where, and never what it found there.
    pub fn from_docker_config(json: &[u8]) -> Result<Self, CredentialsError> {
        let file: File = serde_json::from_slice(json).map_err(|error| {
            CredentialsError::Syntax { line: error.line(), column: error.column() }
        })?;
        let entries = file.auths.unwrap_or_default().into_iter().map(|(key, entry)| Entry {
            scope: Scope::parse(&key),
            key,
            content: entry.content(),
        });
        Ok(Self {
            entries: entries.collect(),
            helpers: file.helpers.unwrap_or_default(),
            store: file.store.filter(|store| !store.is_empty()),
        })
    }

    /// The credential for `repository` in `registry`.
    ///
    /// An entry applies to its registry and, if its key has a path, to the repositories at and
    /// below this path; the longest path wins. `a/b` is not below `a/bb`.
    pub(crate) fn find(&self, registry: &str, repository: &str) -> Result<Found, CredentialsError> {
        let registry = canonical_registry(registry);
        let best = self
            .entries
            .iter()
            .filter(|entry| entry.scope.covers(&registry, repository))
            // Of two spellings of one scope, one with a secret in it; then the first key.
            .min_by_key(|entry| {
                let is_empty = matches!(entry.content, Content::Nothing);
                (std::cmp::Reverse(entry.scope.path.len()), is_empty)
            });
        if let Some(Entry { key, content, .. }) = best {
            match content {
                Content::Nothing => {}
                Content::Broken(reason) => {
                    return Err(CredentialsError::Entry { key: key.clone(), reason });
                }
                Content::Credential(credential) => {
                    return Ok(Found::Entry { credential: credential.clone(), key: key.clone() });
                }
            }
        }
        let helper = |entry: String, helper: &str| CredentialsError::Helper {
            entry,
            helper: helper.to_owned(),
            registry: registry.clone(),
        };
        let own =
            self.helpers.iter().find(|(key, _)| Scope::parse(key).covers(&registry, repository));
        match (own, &self.store) {
            (Some((key, name)), _) => Err(helper(format!("credHelpers › {key}"), name)),
            // `docker login` leaves an empty entry when it gave the secret to the store.
            (None, Some(store)) if best.is_some() => Err(helper("credsStore".into(), store)),
            (None, store) => Ok(Found::Nothing { unasked: store.clone() }),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.entries.iter().map(|entry| &entry.key).collect();
        f.debug_struct("Credentials")
            .field("entries", &keys)
            .field("helpers", &self.helpers)
            .field("store", &self.store)
            .finish()
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
    let auth = auth.trim();
    let bytes = STANDARD.decode(auth).or_else(|_| STANDARD_NO_PAD.decode(auth));
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
    fn parse(key: &str) -> Self {
        let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
        let mut parts = rest.unwrap_or(key).split('/').filter(|part| !part.is_empty());
        let registry = canonical_registry(parts.next().unwrap_or_default());
        let mut path: Vec<String> = parts.map(str::to_owned).collect();
        if matches!(path.as_slice(), [version] if version == "v1" || version == "v2") {
            path.clear();
        }
        Self { registry, path }
    }

    fn covers(&self, registry: &str, repository: &str) -> bool {
        let mut parts = repository.split('/');
        self.registry == registry && self.path.iter().all(|part| parts.next() == Some(part))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What `config` has for `name` (`registry/repository`), as text.
    #[track_caller]
    fn check(config: &str, name: &str, expected: &str) {
        let credentials = Credentials::from_docker_config(config.as_bytes());
        let (registry, repository) = name.split_once('/').expect("the table holds names");
        let found = credentials.and_then(|credentials| credentials.find(registry, repository));
        let actual = match found {
            Err(error) => format!("error: {error}"),
            Ok(Found::Nothing { unasked: None }) => "nothing".into(),
            Ok(Found::Nothing { unasked: Some(store) }) => format!("nothing, {store} not asked"),
            Ok(Found::Entry { credential, key }) => match credential {
                Credential::Basic { user, password } => {
                    format!("{key}: {user} {}", password.reveal())
                }
                Credential::Identity { token } => format!("{key}: identity {}", token.reveal()),
                Credential::Bearer { token } => format!("{key}: bearer {}", token.reveal()),
            },
        };
        assert_eq!(actual, expected, "{name}");
    }

    #[test]
    fn every_shape_of_entry_is_read() {
        let config = r#"{"auths":{
            "a.io":{"auth":"dXNlcjpwYTpzcw=="},
            "b.io":{"username":"user","password":"pw"},
            "c.io":{"auth":"dXNlcjpwdw==","identitytoken":"refresh"},
            "d.io":{"registrytoken":"token"},
            "e.io":{"auth":"PHRva2VuPjpyZWZyZXNo"},
            "f.io":{"auth":"dXNlcjpwdw"},
            "g.io":{"auth":"dXNlcjpwdwAA","email":"x@y"},
            "h.io":{}
        },"HttpHeaders":{"X":"y"},"psFormat":"x"}"#;
        check(config, "a.io/x", "a.io: user pa:ss");
        check(config, "b.io/x", "b.io: user pw");
        check(config, "c.io/x", "c.io: identity refresh");
        check(config, "d.io/x", "d.io: bearer token");
        check(config, "e.io/x", "e.io: identity refresh");
        check(config, "f.io/x", "f.io: user pw");
        check(config, "g.io/x", "g.io: user pw");
        check(config, "h.io/x", "nothing");
        check(config, "i.io/x", "nothing");
        check("{}", "a.io/x", "nothing");
        check(r#"{"auths":null,"credHelpers":null,"credsStore":""}"#, "a.io/x", "nothing");
    }

    const SCOPED: &str = r#"{"auths":{
        "r.io":{"username":"all","password":""},
        "r.io/team":{"username":"team","password":""},
        "https://r.io/team/app/":{"username":"app","password":""},
        "r.io:5000":{"username":"port","password":""}
    }}"#;

    #[test]
    fn the_longest_path_of_whole_parts_wins() {
        check(SCOPED, "r.io/other", "r.io: all ");
        check(SCOPED, "r.io/team/x", "r.io/team: team ");
        check(SCOPED, "r.io/team", "r.io/team: team ");
        check(SCOPED, "r.io/team/app/x", "https://r.io/team/app/: app ");
        check(SCOPED, "r.io/team/application", "r.io/team: team ");
        check(SCOPED, "r.io/teams/app", "r.io: all ");
        check(SCOPED, "r.io:5000/team/app", "r.io:5000: port ");
        check(SCOPED, "sub.r.io/team", "nothing");
        check(SCOPED, "r.io.evil.example/team", "nothing");
    }

    #[test]
    fn docker_hub_answers_to_all_its_names() {
        for key in [
            "https://index.docker.io/v1/",
            "index.docker.io",
            "docker.io",
            "https://registry-1.docker.io/v2/",
        ] {
            let config = format!(r#"{{"auths":{{"{key}":{{"username":"u","password":"p"}}}}}}"#);
            check(&config, "index.docker.io/library/debian", &format!("{key}: u p"));
        }
    }

    #[test]
    fn an_entry_with_a_secret_is_preferred_to_an_empty_one() {
        let config = r#"{"auths":{"docker.io":{},"https://index.docker.io/v1/":{"username":"u","password":"p"}}}"#;
        check(config, "index.docker.io/a/b", "https://index.docker.io/v1/: u p");
    }

    #[test]
    fn a_credential_helper_is_named_and_never_taken_for_nothing() {
        let config = r#"{"auths":{"https://a.io/v1/":{},"p.io":{"username":"u","password":"p"}},
            "credHelpers":{"gcr.io":"gcloud"},"credsStore":"desktop"}"#;
        check(
            config,
            "gcr.io/x",
            "error: credential helpers are not supported yet: `credHelpers › gcr.io` of the docker \
             config names `docker-credential-gcloud` for `gcr.io`",
        );
        check(
            config,
            "a.io/x",
            "error: credential helpers are not supported yet: `credsStore` of the docker config \
             names `docker-credential-desktop` for `a.io`",
        );
        check(config, "p.io/x", "p.io: u p");
        check(config, "public.io/x", "nothing, desktop not asked");
    }

    #[test]
    fn a_broken_entry_is_named_when_it_is_needed_and_not_before() {
        let config =
            r#"{"auths":{"a.io":{"auth":"s3cret!"},"b.io":{"auth":"czNjcmV0"},"c.io":{}}}"#;
        check(
            config,
            "a.io/x",
            "error: the entry `a.io` of the docker config has an `auth` that is not base64 of a text",
        );
        check(
            config,
            "b.io/x",
            "error: the entry `b.io` of the docker config has an `auth` that is not `user:password`",
        );
        check(config, "c.io/x", "nothing");
    }

    #[test]
    fn a_config_that_is_no_config_is_refused_without_quoting_it() {
        for config in [
            r#"{"auths":{"a.io":"s3cret"}}"#,
            r#"{"auths":{"a.io":{"auth":["s3cret"]}}}"#,
            r#"{"auths":{"s3cret":s3cret}}"#,
            "s3cret",
            "",
        ] {
            let error = Credentials::from_docker_config(config.as_bytes());
            let error = error.expect_err("it is no docker config");
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn no_print_shows_a_secret() {
        let config = r#"{"auths":{"a.io":{"username":"u","password":"s3cret"}}}"#;
        let credentials = Credentials::from_docker_config(config.as_bytes()).expect("it is right");
        let found = credentials.find("a.io", "x").expect("there is an entry");
        let print = format!("{credentials:?} {found:?}");
        assert!(print.contains("a.io") && !print.contains("s3cret"), "{print}");
    }
}
