//! Google's registries: an access token for whoever this machine is.

use ebiko_cloud::{Http, Outcome};

use super::super::Credential;
use super::Lent;

/// The user name that goes with an access token.
const USER: &str = "oauth2accesstoken";

/// Whether `registry` is Google's: `gcr.io`, and names below it, below `pkg.dev` and below `google.com`.
pub(super) fn is_own(registry: &str) -> bool {
    let is_below = |domain: &str| {
        registry.strip_suffix(domain).is_some_and(|name| name.len() > 1 && name.ends_with('.'))
    };
    registry == "gcr.io" || ["gcr.io", "pkg.dev", "google.com"].into_iter().any(is_below)
}

/// Gives credentials for Google's registries.
pub(super) fn lend(google: &ebiko_cloud::Google, http: &Http<'_>, now: u64) -> Outcome<Lent> {
    let token = google.token(http, now)?;
    let credential = Credential::Basic { user: USER.into(), password: token.secret };
    Ok(Lent { credential, until: token.until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_googles_own_hosts_are_its_own() {
        for host in
            ["gcr.io", "eu.gcr.io", "europe-west1-docker.pkg.dev", "container.cloud.google.com"]
        {
            assert!(is_own(host), "{host}");
        }
        for host in [
            "gcr.io.evil.example",
            "evilgcr.io",
            "pkg.dev",
            "evil-pkg.dev",
            "google.com",
            ".gcr.io",
            "gcr.io:5000",
            "",
        ] {
            assert!(!is_own(host), "{host}");
        }
    }
}
