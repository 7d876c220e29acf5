//! Whose credentials are for which repository.
//!
//! What is written down comes first: the configs ([`Config`]), by the longest path, and the programs that they name, whose
//! answers were got before the build where it changes the machine's own files ([`Credentials::ask_programs`]). Then the built-in helpers are asked for the
//! registries of their own clouds.

mod config;
mod helper;
mod login;
mod program;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ebiko_transport::Transport;

use self::config::{Config, Content, Scope};
use self::helper::{Answer, Helpers};
use self::program::{Programs, Said, Silence};
use crate::routes::Access;
use ebiko_cloud::Secret;

pub(crate) use self::config::canonical_registry;
pub use self::helper::{Clock, EcrError, EcrRepository, Helper, azure_portal, prepare_ecr};
pub use self::login::{LoginError, log_in};
pub use self::program::{CredentialPrograms, ProgramOutcome};
pub use ebiko_cloud::Surroundings;

/// All that is known about registries' credentials.
#[derive(Clone, Default)]
pub struct Credentials {
    /// In the order in which they are asked where their paths are equally long.
    configs: Vec<Config>,
    programs: Arc<Programs>,
    helpers: Option<Arc<Helpers>>,
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

impl Credential {
    /// Cloud registries hand out refresh tokens under the user name `<token>`.
    fn of_pair(user: String, secret: impl Into<String>) -> Self {
        match Secret::new(secret) {
            token if user == "<token>" => Self::Identity { token },
            password => Self::Basic { user, password },
        }
    }
}

/// What [`Credentials`] has for a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) credential: Option<Credential>,
    pub(crate) who: Identity,
    /// Helpers that should have had an answer and failed, one line each, told once.
    pub(crate) warnings: Vec<String>,
}

/// With which credentials something was tried. Never prints a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Identity {
    /// Without any.
    Anonymous {
        /// Who was asked, and why there was nothing: one line each.
        asked: Vec<String>,
    },
    /// With those of an entry of `auths`.
    Entry {
        /// The key of the entry.
        key: String,
        /// The file or variable that it is in.
        origin: String,
    },
    /// With those that a program gave.
    Program {
        /// What follows `docker-credential-`.
        name: String,
        /// The entry that names it.
        entry: String,
        /// The file or variable that the entry is in.
        origin: String,
    },
    /// With those of a built-in helper.
    Helper {
        /// Which.
        helper: Helper,
    },
}

impl Identity {
    pub(crate) fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous { .. })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry { key, origin } => {
                write!(f, "with the credentials of the entry `{key}` of {origin}")
            }
            Self::Program { name, entry, origin } => write!(
                f,
                "with the credentials of `docker-credential-{name}`, which `{entry}` of {origin} names"
            ),
            Self::Helper { helper } => {
                write!(f, "with the credentials of the credential helper `{helper}`")
            }
            Self::Anonymous { asked } if asked.is_empty() => f.write_str("without credentials"),
            Self::Anonymous { asked } => {
                write!(f, "without credentials ({})", asked.join("; "))
            }
        }
    }
}

/// The credentials that were given cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum CredentialsError {
    #[error("the docker config is not valid JSON of its kind (line {line}, column {column})")]
    Syntax { line: usize, column: usize },
    #[error("the entry `{key}` of {origin} {reason}")]
    Entry { key: String, origin: String, reason: &'static str },
}

impl Credentials {
    /// Reads the content of a Docker `config.json`. Keys that have nothing to do with credentials
    /// are not looked at.
    ///
    /// # Errors
    ///
    /// Fails if it is not JSON of this kind. The error says where, and never what it found there.
    pub fn from_docker_config(json: &[u8]) -> Result<Self, CredentialsError> {
        Self::default().with_config("the docker config", json)
    }

    /// Adds a config, to be asked after those that are there; `origin` is for errors.
    ///
    /// The longest path wins over the order, so that a config shadows those behind it key by key.
    ///
    /// # Errors
    ///
    /// Fails as [`from_docker_config`](Self::from_docker_config) does.
    pub fn with_config(
        mut self,
        origin: impl Into<String>,
        json: &[u8],
    ) -> Result<Self, CredentialsError> {
        self.configs.push(Config::parse(origin.into(), json)?);
        Ok(self)
    }

    /// Adds a config that is for pulling only, and is asked before all others then.
    ///
    /// One registry can so be pulled from as somebody else than it is pushed to, although both have the same key.
    ///
    /// # Errors
    ///
    /// Fails as [`from_docker_config`](Self::from_docker_config) does.
    pub fn with_pull_config(
        mut self,
        origin: impl Into<String>,
        json: &[u8],
    ) -> Result<Self, CredentialsError> {
        let config = Config { is_for_pulls_only: true, ..Config::parse(origin.into(), json)? };
        let place = self.configs.iter().take_while(|config| config.is_for_pulls_only).count();
        self.configs.insert(place, config);
        Ok(self)
    }

    /// Lets the built-in helpers `asked` be asked, in this order, for the registries that no config has something for.
    ///
    /// All that they need of the machine is read now; the network is used when a registry is met that is theirs. The
    /// others serve configs that name a program which is not there, and which they can stand in for.
    #[must_use]
    pub fn with_helpers(
        mut self,
        asked: &[Helper],
        surroundings: &Surroundings<'_>,
        clock: Clock,
    ) -> Self {
        self.helpers = Some(Arc::new(Helpers::read(asked, surroundings, clock)));
        self
    }

    /// Lets the programs that the configs name be asked when they are needed.
    ///
    /// That may be at any time: it is for builds that leave the machine's own files alone. Others ask before:
    /// [`ask_programs`](Self::ask_programs).
    #[must_use]
    pub fn with_programs(mut self, programs: Arc<dyn CredentialPrograms>) -> Self {
        self.programs = Arc::new(Programs::later(programs));
        self
    }

    /// Asks the programs that the configs name: those of `credHelpers` for their registries, those of `credsStore` for the
    /// registries that have an empty entry in `auths`, which is what `docker login` leaves there, and for `registries`.
    ///
    /// They are asked now and never again, because a program that a layer or a RUN has put in place of the machine's must
    /// not be run. What is returned is a line for each program that failed.
    pub fn ask_programs(
        &mut self,
        programs: &dyn CredentialPrograms,
        registries: &[String],
    ) -> Vec<String> {
        let (programs, failures) = Programs::now(programs, &self.configs, registries);
        self.programs = Arc::new(programs);
        failures
    }

    /// The credential for `repository` in `registry`.
    ///
    /// An entry applies to its registry and, if its key has a path, to the repositories at and
    /// below this path; the longest path wins. `a/b` is not below `a/bb`. Where an entry of `credHelpers` and one of
    /// `auths` have the same path, the former is asked first, as in Docker; unlike there, a `credsStore` does not hide the
    /// entries that hold a secret.
    pub(crate) fn find(
        &self,
        transport: &Transport,
        access: Access,
        registry: &str,
        repository: &str,
    ) -> Result<Found, CredentialsError> {
        let registry = canonical_registry(registry);
        let mut notes = Notes::default();
        for Candidate { config, kind, .. } in self.candidates(access, &registry, repository) {
            let found = match kind {
                Kind::Entry { key, content: Content::Credential(credential) } => {
                    let origin = config.origin.clone();
                    Some((credential.clone(), Identity::Entry { key: key.into(), origin }))
                }
                Kind::Entry { key, content: Content::Broken(reason) } => {
                    return Err(CredentialsError::Entry {
                        key: key.into(),
                        origin: config.origin.clone(),
                        reason,
                    });
                }
                Kind::Entry { content: Content::Nothing, .. } => None,
                Kind::Program { name, server, entry } => self
                    .program(name, &server, transport, &registry, &mut notes)
                    .map(|credential| {
                        let origin = config.origin.clone();
                        (credential, Identity::Program { name: name.into(), entry, origin })
                    }),
            };
            if let Some((credential, who)) = found {
                return Ok(Found { credential: Some(credential), who, warnings: notes.warnings });
            }
        }
        let helpers = self
            .helpers
            .iter()
            .flat_map(|helpers| helpers.asked().iter().map(move |&helper| (helpers, helper)));
        for (helpers, helper) in helpers {
            let answer = helpers.ask(helper, transport, &registry);
            if let Some(credential) = notes.take(answer, &helper) {
                let who = Identity::Helper { helper };
                return Ok(Found { credential: Some(credential), who, warnings: notes.warnings });
            }
        }
        let who = Identity::Anonymous { asked: notes.asked };
        Ok(Found { credential: None, who, warnings: notes.warnings })
    }

    /// What a program said, or what the built-in helper says that stands in for it.
    fn program(
        &self,
        name: &str,
        server: &str,
        transport: &Transport,
        registry: &str,
        notes: &mut Notes,
    ) -> Option<Credential> {
        let program = format!("docker-credential-{name}");
        let stand_in = || Some((self.helpers.as_ref()?, Helper::of_program(name)?));
        let silence = match self.programs.get(name, server) {
            Some(Said { answer: Ok(credential), .. }) => return Some(credential),
            Some(Said { answer: Err(silence), is_news }) => {
                if let (true, Silence::Failed(reason)) = (is_news, &silence) {
                    notes.warnings.push(program::failure(name, server, reason));
                }
                Some(silence)
            }
            None => None,
        };
        match (silence, stand_in()) {
            (None | Some(Silence::Missing), Some((helpers, helper))) => {
                return notes.take(helpers.ask(helper, transport, registry), &program);
            }
            (Some(silence), _) => notes.asked.push(format!("`{program}` {silence}")),
            (None, None) => notes.asked.push(format!(
                "`{program}` was not asked, because programs are asked before the build and nothing told that `{registry}` \
                 would be needed"
            )),
        }
        None
    }

    /// Everything that may have something, best first.
    fn candidates<'c>(
        &'c self,
        access: Access,
        registry: &str,
        repository: &str,
    ) -> Vec<Candidate<'c>> {
        let configs = self.configs.iter();
        let configs = configs.filter(|config| !config.is_for_pulls_only || access == Access::Pull);
        let mut candidates: Vec<Candidate<'c>> = Vec::new();
        for (order, config) in configs.enumerate() {
            let at = |depth, rank| (Reverse(depth), order, rank);
            for program in &config.programs {
                if program.scope.covers(registry, repository) {
                    let entry = format!("credHelpers › {}", program.key);
                    let kind = Kind::program(&program.name, program.scope.server(), entry);
                    let place = at(program.scope.path.len(), 0);
                    candidates.push(Candidate { place, config, kind });
                }
            }
            let mut is_store_asked = false;
            for entry in &config.entries {
                if !entry.scope.covers(registry, repository) {
                    continue;
                }
                let (rank, kind) = match (&entry.content, &config.store) {
                    (Content::Nothing, Some(name)) => {
                        is_store_asked = true;
                        (2, Kind::program(name, entry.key.clone(), "credsStore".into()))
                    }
                    (content, _) => (1, Kind::Entry { key: &entry.key, content }),
                };
                candidates.push(Candidate {
                    place: at(entry.scope.path.len(), rank),
                    config,
                    kind,
                });
            }
            if let Some(name) = config.store.as_ref().filter(|_| !is_store_asked) {
                let server = Scope::parse(registry).server();
                let kind = Kind::program(name, server, "credsStore".into());
                // Behind all that is written down, in any config.
                let place = (Reverse(0), usize::MAX, 0);
                candidates.push(Candidate { place, config, kind });
            }
        }
        candidates.sort_by_key(|candidate| candidate.place);
        candidates
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut keys: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for config in &self.configs {
            let own = config.entries.iter().map(|entry| entry.key.as_str());
            let programs = config.programs.iter().map(|program| program.key.as_str());
            keys.entry(&config.origin).or_default().extend(own.chain(programs));
        }
        f.debug_struct("Credentials").field("configs", &keys).finish_non_exhaustive()
    }
}

/// Something that may have a credential.
struct Candidate<'c> {
    /// Longer paths first, then earlier configs, then the kind.
    place: (Reverse<usize>, usize, u8),
    config: &'c Config,
    kind: Kind<'c>,
}

enum Kind<'c> {
    Entry {
        key: &'c str,
        content: &'c Content,
    },
    Program {
        name: &'c str,
        server: String,
        /// What names it.
        entry: String,
    },
}

impl<'c> Kind<'c> {
    fn program(name: &'c str, server: String, entry: String) -> Self {
        Self::Program { name, server, entry }
    }
}

/// What is to be told about those that had nothing.
#[derive(Default)]
struct Notes {
    asked: Vec<String>,
    warnings: Vec<String>,
}

impl Notes {
    fn take(&mut self, answer: Answer, who: &dyn fmt::Display) -> Option<Credential> {
        match answer {
            Answer::NotMine => None,
            Answer::Credential(credential) => Some(credential),
            Answer::Nothing { why } => {
                self.asked.push(format!("`{who}` has none: {why}"));
                None
            }
            Answer::Failed { why, is_news } => {
                let line = format!("the credential helper `{who}` failed: {why}");
                if is_news {
                    self.warnings.push(line);
                }
                self.asked.push(format!("`{who}` failed: {why}"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
