//! Credentials that are in environment variables: kaniko's own, and those of a GitLab job.

use std::collections::BTreeMap;

use ebiko_cloud::{Outcome, Secret, Surroundings, nothing};

use super::super::Credential;
use super::Lent;

/// `KANIKO_<HOST>_USER` and `KANIKO_<HOST>_PASSWORD`.
///
/// `<HOST>` is the registry in capitals with `_` for `.`, `-` and `:`. Labels may be left out from the left:
/// `KANIKO_EXAMPLE_COM_USER` is for `registry.example.com` too.
pub(super) struct Variables {
    values: BTreeMap<String, Secret>,
}

impl Variables {
    pub(super) fn read(surroundings: &Surroundings<'_>) -> Self {
        let is_own = |name: &str| {
            name.starts_with("KANIKO_") && (name.ends_with("_USER") || name.ends_with("_PASSWORD"))
        };
        let own = surroundings.variables.iter().filter(|(name, _)| is_own(name));
        Self { values: own.map(|(name, value)| (name.clone(), Secret::new(value))).collect() }
    }

    pub(super) fn knows(&self, registry: &str) -> bool {
        self.pair(registry).is_some()
    }

    pub(super) fn lend(&self, registry: &str) -> Outcome<Lent> {
        let Some((user, password)) = self.pair(registry) else {
            return nothing("no variables are set for it");
        };
        let credential = Credential::of_pair(user.reveal().to_owned(), password.reveal());
        Ok(Lent { credential, until: u64::MAX })
    }

    fn pair(&self, registry: &str) -> Option<(&Secret, &Secret)> {
        let (mut host, port) = registry.split_once(':').unwrap_or((registry, ""));
        let name = |host: &str, suffix: &str| {
            let host = if port.is_empty() { host.to_owned() } else { format!("{host}_{port}") };
            let host = host.to_ascii_uppercase().replace(['.', '-'], "_");
            self.values.get(&format!("KANIKO_{host}_{suffix}"))
        };
        loop {
            if let (Some(user), Some(password)) = (name(host, "USER"), name(host, "PASSWORD")) {
                return Some((user, password));
            }
            host = host.split_once('.')?.1;
        }
    }
}

/// `CI_REGISTRY`, `CI_REGISTRY_USER` and `CI_REGISTRY_PASSWORD`, which GitLab sets for its jobs.
pub(super) struct GitLab {
    registry: Option<String>,
    login: Option<(String, Secret)>,
}

impl GitLab {
    pub(super) fn read(surroundings: &Surroundings<'_>) -> Self {
        let registry = surroundings.get("CI_REGISTRY").map(|text| {
            let host = text.strip_prefix("https://").unwrap_or(text);
            host.trim_end_matches('/').to_ascii_lowercase()
        });
        let user = surroundings.get("CI_REGISTRY_USER");
        let password = surroundings.get("CI_REGISTRY_PASSWORD");
        let login = user.zip(password);
        Self {
            registry,
            login: login.map(|(user, password)| (user.to_owned(), Secret::new(password))),
        }
    }

    pub(super) fn knows(&self, registry: &str) -> bool {
        self.registry.as_deref() == Some(registry)
    }

    pub(super) fn lend(&self) -> Outcome<Lent> {
        let Some((user, password)) = self.login.clone() else {
            return nothing("CI_REGISTRY is set, CI_REGISTRY_USER or CI_REGISTRY_PASSWORD is not");
        };
        Ok(Lent { credential: Credential::Basic { user, password }, until: u64::MAX })
    }
}
