//! Where a registry is really reached.

use std::collections::BTreeMap;

use ebiko_oci::{DOCKER_HUB, Reference};
use ebiko_transport::Verification;

use crate::credentials::canonical_registry;

/// Where to go instead of, or before, the registry that a reference names, and where plain `http`
/// is allowed. Every host in here is the user's choice.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag that kaniko has")]
pub struct Routes {
    /// Plain `http` is allowed for every registry that is pushed to (`--insecure`).
    pub insecure_push: bool,
    /// Plain `http` is allowed for every registry that is pulled from (`--insecure-pull`).
    pub insecure_pull: bool,
    /// Plain `http` is allowed for these hosts, written `host[:port]` (`--insecure-registry`).
    pub insecure_registries: Vec<String>,
    /// The certificates of no host are verified when something is pushed or pulled (`--skip-tls-verify`).
    pub unverified: bool,
    /// The certificates of no host are verified when something is pulled (`--skip-tls-verify-pull`).
    pub unverified_pull: bool,
    /// The certificates of these hosts, written `host[:port]`, are not verified; those of hosts that they send us to are
    /// (`--skip-tls-verify-registry`).
    pub unverified_registries: Vec<String>,
    /// A registry that has maps or mirrors is never asked itself (`--skip-default-registry-fallback`).
    pub skips_fallback: bool,
    /// For a registry, the places to try before it, in this order (`--registry-map`). See
    /// [`add_map`](Self::add_map).
    pub maps: BTreeMap<String, Vec<String>>,
    /// The places to try before Docker Hub, after those of `maps` (`--registry-mirror`).
    pub mirrors: Vec<String>,
}

/// A value of `--registry-map` or `--registry-mirror` is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
#[expect(missing_docs, reason = "the message names every field")]
pub struct RouteError {
    pub text: String,
    pub expected: &'static str,
}

/// What is done with a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    Pull,
    Push,
}

impl Access {
    /// The actions in a token's scope.
    pub(crate) fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        }
    }
}

/// One place that serves a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    /// `host[:port]`, as credentials and errors name it.
    pub(crate) registry: String,
    /// The repository there.
    pub(crate) repository: String,
    /// Whether the user allowed plain `http`.
    pub(crate) is_insecure: bool,
    pub(crate) verification: Verification,
    pub(crate) access: Access,
}

impl Endpoint {
    /// `host[:port]` that speaks the protocol.
    pub(crate) fn api_host(&self) -> &str {
        speaking(&self.registry)
    }
}

fn speaking(registry: &str) -> &str {
    if registry == DOCKER_HUB { "registry-1.docker.io" } else { registry }
}

/// The `host[:port]` that is connected to for what the user calls `registry`: Docker Hub has several names.
pub fn api_host(registry: &str) -> String {
    speaking(&canonical_registry(registry)).to_owned()
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)
    }
}

impl Routes {
    /// Adds a value of `--registry-map`: `registry=place;registry=place…`, where a place is
    /// `host[:port][/prefix]`, perhaps with `https://` or `http://` in front. Commas separate, too.
    /// An empty value adds nothing.
    ///
    /// # Errors
    ///
    /// Fails if a part is not of this form. The parts before it have been added.
    pub fn add_map(&mut self, value: &str) -> Result<(), RouteError> {
        for part in value.split([';', ',']).map(str::trim).filter(|part| !part.is_empty()) {
            let error = || RouteError {
                text: part.to_owned(),
                expected: "a registry map of the form `registry=host[:port][/prefix]`",
            };
            let (registry, place) = part.split_once('=').ok_or_else(error)?;
            let (registry, place) = (registry.trim(), place.trim());
            if registry.is_empty() || registry.contains('/') || Place::parse(place).is_none() {
                return Err(error());
            }
            self.maps.entry(canonical_registry(registry)).or_default().push(place.to_owned());
        }
        Ok(())
    }

    /// Adds a value of `--registry-mirror`: places, as in [`add_map`](Self::add_map), with semicolons or commas between
    /// them.
    ///
    /// # Errors
    ///
    /// Fails if one is not of this form.
    pub fn add_mirror(&mut self, value: &str) -> Result<(), RouteError> {
        for part in value.split([';', ',']).map(str::trim).filter(|part| !part.is_empty()) {
            let error = || RouteError {
                text: part.to_owned(),
                expected: "a registry mirror of the form `host[:port][/prefix]`",
            };
            Place::parse(part).ok_or_else(error)?;
            self.mirrors.push(part.to_owned());
        }
        Ok(())
    }

    /// Every host that maps and mirrors name.
    pub fn hosts(&self) -> impl Iterator<Item = String> {
        let places = self.maps.values().flatten().chain(&self.mirrors);
        let hosts = places.filter_map(|place| Some(Place::parse(place)?.host));
        hosts.chain(self.maps.keys().cloned())
    }

    /// The places to pull `reference` from, in the order in which they are to be tried.
    pub(crate) fn for_pull(&self, reference: &Reference) -> Vec<Endpoint> {
        let registry = canonical_registry(reference.registry());
        let mapped = self
            .maps
            .iter()
            .filter(|(key, _)| canonical_registry(key) == registry)
            .flat_map(|(_, places)| places);
        let mirrors = self.mirrors.iter().filter(|_| registry == DOCKER_HUB);
        let origin = Place { host: registry.clone(), prefix: String::new(), is_plain: false };
        let mut places: Vec<Place> =
            mapped.chain(mirrors).filter_map(|text| Place::parse(text)).collect();
        if places.is_empty() || !self.skips_fallback {
            places.push(origin);
        }
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for place in places {
            let endpoint = Endpoint {
                repository: format!("{}{}", place.prefix, reference.repository()),
                is_insecure: place.is_plain || self.is_insecure(&place.host, self.insecure_pull),
                verification: self.verification(&place.host, Access::Pull),
                registry: place.host,
                access: Access::Pull,
            };
            if !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        }
        endpoints
    }

    /// The place to push `reference` to: maps and mirrors are for pulling.
    pub(crate) fn for_push(&self, reference: &Reference) -> Endpoint {
        let registry = canonical_registry(reference.registry());
        Endpoint {
            repository: reference.repository().to_owned(),
            is_insecure: self.is_insecure(&registry, self.insecure_push),
            verification: self.verification(&registry, Access::Push),
            registry,
            access: Access::Push,
        }
    }

    /// The place of `reference` itself, to read what was pushed there and no mirror may have yet. Where one may push or pull
    /// with plain `http`, one may read this so.
    pub(crate) fn for_origin(&self, reference: &Reference) -> Endpoint {
        let push = self.for_push(reference);
        let is_insecure = push.is_insecure || self.insecure_pull;
        let verification = self.verification(&push.registry, Access::Pull);
        Endpoint { access: Access::Pull, is_insecure, verification, ..push }
    }

    fn is_insecure(&self, host: &str, is_insecure_for_all: bool) -> bool {
        is_insecure_for_all || names(&self.insecure_registries, host)
    }

    fn verification(&self, host: &str, access: Access) -> Verification {
        if self.unverified || (self.unverified_pull && access == Access::Pull) {
            Verification::Never
        } else if names(&self.unverified_registries, host) {
            Verification::NotOfTheChosen
        } else {
            Verification::Always
        }
    }
}

/// Whether one of `list` is `host`, however it is written there.
fn names(list: &[String], host: &str) -> bool {
    list.iter().any(|name| {
        let name = name.trim_start_matches("https://").trim_start_matches("http://");
        canonical_registry(name.trim_end_matches('/')).eq_ignore_ascii_case(host)
    })
}

/// `host[:port][/prefix]`; the prefix ends in a slash where there is one.
struct Place {
    host: String,
    prefix: String,
    is_plain: bool,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (rest, is_plain) = match text.split_once("://") {
            Some(("http", rest)) => (rest, true),
            Some(("https", rest)) => (rest, false),
            Some(_) => return None,
            None => (text, false),
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        // A reference has the exact rules for both halves.
        let name = if path.is_empty() { "x" } else { path };
        let is_name = format!("{host}/{name}").parse::<Reference>().is_ok();
        let is_right = !host.is_empty() && (is_name || is_bare_name(host, name));
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        is_right.then(|| Self { host: canonical_registry(host), prefix, is_plain })
    }
}

/// A mirror may be a single word, such as the name of a service in a cluster, which a reference
/// would read as a user of Docker Hub.
fn is_bare_name(host: &str, name: &str) -> bool {
    format!("{host}.local/{name}").parse::<Reference>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(routes: &Routes, reference: &str, expected: &[&str]) {
        let reference = reference.parse().expect("the table holds references");
        let plain = |endpoint: &Endpoint| if endpoint.is_insecure { " plain" } else { "" };
        let actual: Vec<String> = routes
            .for_pull(&reference)
            .iter()
            .map(|endpoint| format!("{endpoint}{}", plain(endpoint)))
            .collect();
        assert_eq!(actual, expected, "{reference}");
    }

    #[test]
    fn without_settings_a_registry_is_itself() {
        check(&Routes::default(), "r.io/a/b", &["r.io/a/b"]);
        check(&Routes::default(), "debian", &["index.docker.io/library/debian"]);
    }

    #[test]
    fn mirrors_of_docker_hub_come_after_its_maps_and_before_itself() {
        for name in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
            let mut routes = Routes::default();
            routes.add_mirror("mirror:5000/hub").expect("it is right");
            routes
                .add_map(&format!("{name}=m.io/proxy; r.io=a.io;r.io=b.io"))
                .expect("it is right");
            check(
                &routes,
                "debian",
                &[
                    "m.io/proxy/library/debian",
                    "mirror:5000/hub/library/debian",
                    "index.docker.io/library/debian",
                ],
            );
            check(&routes, "r.io/x", &["a.io/x", "b.io/x", "r.io/x"]);
            check(&routes, "other.io/x", &["other.io/x"]);
        }
    }

    #[test]
    fn a_scheme_in_front_of_a_place_is_understood() {
        let mut routes = Routes::default();
        routes.add_map("r.io=http://a.io;r.io=https://b.io/p/").expect("it is right");
        check(&routes, "r.io/x", &["a.io/x plain", "b.io/p/x", "r.io/x"]);
    }

    #[test]
    fn plain_http_is_allowed_where_it_was_asked_for() {
        let routes = Routes { insecure_registries: vec!["R.io:80".into()], ..Routes::default() };
        check(&routes, "r.io:80/x", &["r.io:80/x plain"]);
        check(&routes, "r.io/x", &["r.io/x"]);
        let routes = Routes { insecure_pull: true, ..Routes::default() };
        check(&routes, "r.io/x", &["r.io/x plain"]);
        let reference = "r.io/x".parse().expect("a reference");
        assert!(!routes.for_push(&reference).is_insecure);
        let routes = Routes { insecure_push: true, ..Routes::default() };
        assert!(routes.for_push(&reference).is_insecure);
        check(&routes, "r.io/x", &["r.io/x"]);
    }

    #[test]
    fn several_places_may_be_in_one_value() {
        let mut routes = Routes::default();
        routes.add_mirror(" a.io, b.io:5000/p ;;c.io").expect("it is right");
        routes.add_map("r.io=m.io,r.io=n.io;").expect("it is right");
        let hub = |place: &str| format!("{place}/library/debian");
        let expected = ["a.io", "b.io:5000/p", "c.io", "index.docker.io"].map(hub);
        check(&routes, "debian", &expected.each_ref().map(String::as_str));
        check(&routes, "r.io/x", &["m.io/x", "n.io/x", "r.io/x"]);
    }

    #[test]
    fn a_registry_that_has_other_places_may_be_left_out() {
        let mut routes = Routes { skips_fallback: true, ..Routes::default() };
        routes.add_map("r.io=m.io").expect("it is right");
        check(&routes, "r.io/x", &["m.io/x"]);
        check(&routes, "s.io/x", &["s.io/x"]);
        check(&routes, "debian", &["index.docker.io/library/debian"]);
        routes.add_mirror("hub.io").expect("it is right");
        check(&routes, "debian", &["hub.io/library/debian"]);
        let reference = "r.io/x:1".parse().expect("a reference");
        assert_eq!(routes.for_push(&reference).registry, "r.io");
    }

    #[test]
    fn certificates_are_not_verified_only_where_that_was_asked_for() {
        use Verification::{Always, Never, NotOfTheChosen};
        let of = |routes: &Routes, reference: &str| {
            let reference = reference.parse().expect("a reference");
            (routes.for_push(&reference).verification, routes.for_pull(&reference)[0].verification)
        };
        assert_eq!(of(&Routes::default(), "r.io/x"), (Always, Always));
        let all = Routes { unverified: true, ..Routes::default() };
        assert_eq!(of(&all, "r.io/x"), (Never, Never));
        let pull = Routes { unverified_pull: true, ..Routes::default() };
        assert_eq!(of(&pull, "r.io/x"), (Always, Never));
        let unverified_registries = vec!["R.io:443".into(), "docker.io".into()];
        let one = Routes { unverified_registries, ..Routes::default() };
        assert_eq!(of(&one, "r.io:443/x"), (NotOfTheChosen, NotOfTheChosen));
        assert_eq!(of(&one, "debian"), (NotOfTheChosen, NotOfTheChosen));
        assert_eq!(of(&one, "r.io/x"), (Always, Always));
        assert_eq!(api_host("docker.io"), "registry-1.docker.io");
        assert_eq!(api_host("R.io:443"), "r.io:443");
    }

    #[test]
    fn malformed_maps_are_refused() {
        for value in
            ["r.io", "=a.io", "r.io=", "r.io/x=a.io", "r.io=ftp://a.io", "r.io=a b", "r.io=/x"]
        {
            assert!(Routes::default().add_map(value).is_err(), "{value}");
        }
        Routes::default().add_map("").expect("an empty value adds nothing");
        assert!(Routes::default().add_mirror("a.io/UPPER").is_err());
        Routes::default().add_mirror("mirror").expect("a single word is a host here");
    }
}
