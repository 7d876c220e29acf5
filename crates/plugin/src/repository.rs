//! Names of repositories from a registry and a path.

/// Docker Hub, as a login is written for it. A repository of it is written without a registry.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";

/// Addresses of an interface of Docker Hub that has no logins.
const HUB_V2: [&str; 2] = ["https://index.docker.io/v2/", "https://registry.hub.docker.com/v2/"];

/// The key of a login: an address of Docker Hub that has no logins becomes the one that has.
pub(crate) fn login_key(registry: &str) -> &str {
    if HUB_V2.contains(&registry) { HUB } else { registry }
}

/// A registry without its scheme, as names of images have it. The original keeps the scheme, and no such name works.
pub(crate) fn without_scheme(name: &str) -> &str {
    name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name)
}

/// The host of a registry.
pub(crate) fn host(registry: &str) -> &str {
    without_scheme(registry).split('/').next().unwrap_or_default()
}

/// `repository` with the registry before it, if that is wanted and it is not there yet.
pub(crate) fn expanded<'r>(
    registry: &str,
    repository: &'r str,
    is_wanted: bool,
) -> std::borrow::Cow<'r, str> {
    if !is_wanted || registry.is_empty() || login_key(registry) == HUB {
        return repository.into();
    }
    let registry = without_scheme(registry).trim_end_matches('/');
    let repository_of = without_scheme(repository);
    if repository_of.strip_prefix(registry).is_some_and(|rest| rest.starts_with('/')) {
        return repository_of.into();
    }
    format!("{registry}/{repository}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_put_before_a_repository_once() {
        for (registry, repository, expected) in [
            ("", "golang", "golang"),
            ("artifactory.example.com", "service", "artifactory.example.com/service"),
            (
                "artifactory.example.com",
                "artifactory.example.com/service",
                "artifactory.example.com/service",
            ),
            ("ghcr.io/ns/", "img", "ghcr.io/ns/img"),
            ("https://ghcr.io/ns", "img", "ghcr.io/ns/img"),
            ("https://ghcr.io/ns", "ghcr.io/ns/img", "ghcr.io/ns/img"),
            ("ghcr.io/n", "ghcr.io/ns/img", "ghcr.io/n/ghcr.io/ns/img"),
            (HUB, "me/img", "me/img"),
            ("https://index.docker.io/v2/", "me/img", "me/img"),
        ] {
            assert_eq!(expanded(registry, repository, true), expected, "{registry} {repository}");
            assert_eq!(expanded(registry, repository, false), repository);
        }
    }

    #[test]
    fn a_registry_has_a_host() {
        assert_eq!(host("https://ghcr.io/ns"), "ghcr.io");
        assert_eq!(host("r.io:5000"), "r.io:5000");
        assert_eq!(host(""), "");
    }
}
