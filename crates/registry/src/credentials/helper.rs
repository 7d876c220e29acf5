//! The built-in credential helpers: who gives credentials for the registries of which cloud.
//!
//! Each reads what it needs of the machine once ([`Helpers::read`]) and uses the network only when a registry is met that
//! is its own. What it then says is remembered, for as long as it holds.

mod acr;
mod ecr;
mod google;
mod variables;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use ebiko_cloud::{Google, Http, Obstacle, Outcome, Surroundings};
use ebiko_transport::Transport;

use self::acr::Acr;
pub use self::acr::azure_portal;
use self::ecr::Ecr;
pub use self::ecr::{EcrError, EcrRepository, prepare_ecr};
use self::variables::{GitLab, Variables};
use super::Credential;
use crate::registry::lock;

/// How long a helper that has nothing, or has failed, is left alone, in seconds.
///
/// Long enough that a build does not wait for it twice, short enough that a push an hour later does not fail for what was
/// a passing trouble.
const SILENCE: u64 = 600;

/// How long before its end a credential is no longer used, in seconds: an upload should begin and end with one.
const MARGIN: u64 = 300;

/// Seconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A built-in credential helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Helper {
    /// `KANIKO_<HOST>_USER` and `KANIKO_<HOST>_PASSWORD`.
    Environment,
    /// Google's container registries.
    Google,
    /// Amazon's.
    Ecr,
    /// Azure's.
    Acr,
    /// The registry of the GitLab job that this is.
    GitLab,
}

impl Helper {
    /// All, in the order in which they are asked unless something else is said.
    pub const ALL: [Self; 5] =
        [Self::Environment, Self::Google, Self::Ecr, Self::Acr, Self::GitLab];

    /// Its name in `--credential-helpers`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Environment => "env",
            Self::Google => "google",
            Self::Ecr => "ecr",
            Self::Acr => "acr",
            Self::GitLab => "gitlab",
        }
    }

    /// The helper with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|helper| helper.name() == name)
    }

    /// The helper that does what `docker-credential-NAME` does. kaniko's image brought some of these programs along, so
    /// configs name them.
    pub(super) fn of_program(name: &str) -> Option<Self> {
        match name {
            "ecr-login" => Some(Self::Ecr),
            "gcr" | "gcloud" => Some(Self::Google),
            "acr-env" | "acr" | "acr-linux" => Some(Self::Acr),
            _ => None,
        }
    }
}

impl fmt::Display for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a helper says about a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The registry is not one of its own.
    NotMine,
    Credential(Credential),
    /// This machine has nothing for it, which is no fault.
    Nothing {
        why: String,
    },
    /// There should have been something. `is_news` the first time that it is told.
    Failed {
        why: String,
        is_news: bool,
    },
}

/// A credential and when it ends, in seconds since 1970.
struct Lent {
    credential: Credential,
    until: u64,
}

/// All helpers, and what they have said.
pub(super) struct Helpers {
    /// Those that are asked for every registry of theirs.
    asked: Vec<Helper>,
    variables: Variables,
    google: Google,
    ecr: Ecr,
    acr: Acr,
    gitlab: GitLab,
    clock: Clock,
    remembered: Mutex<BTreeMap<(Helper, String), Slot>>,
}

/// Held while the helper is asked, so that it is asked once.
type Slot = Arc<Mutex<Option<Remembered>>>;

struct Remembered {
    outcome: Outcome<Credential>,
    until: u64,
}

impl Helpers {
    pub(super) fn read(asked: &[Helper], surroundings: &Surroundings<'_>, clock: Clock) -> Self {
        Self {
            asked: asked.to_vec(),
            variables: Variables::read(surroundings),
            google: Google::read(surroundings),
            ecr: Ecr::read(surroundings),
            acr: Acr::read(surroundings),
            gitlab: GitLab::read(surroundings),
            clock,
            remembered: Mutex::default(),
        }
    }

    pub(super) fn asked(&self) -> &[Helper] {
        &self.asked
    }

    /// What `helper` has for `registry`.
    pub(super) fn ask(&self, helper: Helper, transport: &Transport, registry: &str) -> Answer {
        let is_own = match helper {
            Helper::Environment => self.variables.knows(registry),
            Helper::Google => google::is_own(registry),
            Helper::Ecr => ecr::Host::parse(registry).is_some(),
            Helper::Acr => acr::is_own(registry),
            Helper::GitLab => self.gitlab.knows(registry),
        };
        if !is_own {
            return Answer::NotMine;
        }
        let key = (helper, registry.to_owned());
        let slot = Arc::clone(lock(&self.remembered).entry(key).or_default());
        let mut remembered = lock(&slot);
        let now = (self.clock)();
        let mut is_news = false;
        let remembered = match remembered.take() {
            Some(known) if now < known.until => remembered.insert(known),
            _ => {
                is_news = true;
                remembered.insert(self.fetch(helper, transport, registry, now))
            }
        };
        match &remembered.outcome {
            Ok(credential) => Answer::Credential(credential.clone()),
            Err(Obstacle::Nothing(why)) => Answer::Nothing { why: why.clone() },
            Err(Obstacle::Failed(why)) => Answer::Failed { why: why.clone(), is_news },
        }
    }

    fn fetch(&self, helper: Helper, transport: &Transport, registry: &str, now: u64) -> Remembered {
        let http = Http::new(transport);
        let lent = match helper {
            Helper::Environment => self.variables.lend(registry),
            Helper::Google => google::lend(&self.google, &http, now),
            Helper::Ecr => self.ecr.lend(&http, registry, now),
            Helper::Acr => self.acr.lend(&http, registry, now),
            Helper::GitLab => self.gitlab.lend(),
        };
        match lent {
            Ok(Lent { credential, until }) => Remembered {
                outcome: Ok(credential),
                // What ends sooner than the margin is used nevertheless, for a moment.
                until: until.saturating_sub(MARGIN).max(now.saturating_add(1)),
            },
            Err(obstacle) => {
                Remembered { outcome: Err(obstacle), until: now.saturating_add(SILENCE) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
