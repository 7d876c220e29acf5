//! Where a repository is, and whether we can go there.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ebiko_transport::Url;

use super::GitErrorKind;
use super::authorization::Authorization;
use super::ssh_address::SshAddress;
use crate::percent;

/// Where a repository is.
#[derive(Clone)]
pub(crate) enum Location {
    Web(Address),
    Ssh(SshAddress),
}

impl Location {
    /// Reads the address of a repository.
    pub(crate) fn parse(text: &str) -> Result<Self, GitErrorKind> {
        let Some((scheme, _)) = text.split_once("://") else {
            // `ext::command` would start a program, and a host in brackets has colons.
            let host = match text.split_once("]:") {
                Some((host, _)) if host.contains('[') => host,
                _ => match text.split_once(':') {
                    Some((host, rest)) if !rest.starts_with(':') => host,
                    _ => return Err(GitErrorKind::Local),
                },
            };
            if host.is_empty() || host.contains('/') {
                return Err(GitErrorKind::Local);
            }
            return SshAddress::parse_short(text).map(Self::Ssh);
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => Address::parse(text).map(Self::Web),
            "ssh" | "git+ssh" | "ssh+git" => SshAddress::parse_url(text).map(Self::Ssh),
            "file" => Err(GitErrorKind::Local),
            scheme => {
                let scheme = scheme.chars().take(40).collect();
                Err(GitErrorKind::Protocol { scheme })
            }
        }
    }

    /// The address of a submodule that this repository's list calls `text`.
    pub(crate) fn submodule(&self, text: &str) -> Result<Self, GitErrorKind> {
        if !text.starts_with("./") && !text.starts_with("../") {
            return Self::parse(text);
        }
        match self {
            Self::Web(address) => address.relative(text).map(Self::Web),
            Self::Ssh(address) => address.relative(text).map(Self::Ssh),
        }
    }

    /// As a URL whose host is this one's, by which what a server names is judged.
    pub(crate) fn as_chosen(&self) -> Option<Url> {
        match self {
            Self::Web(address) => Some(address.url.clone()),
            Self::Ssh(address) => Url::parse(&format!("https://{}", address.host_in_url())).ok(),
        }
    }
}

/// As git writes it into its settings.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(address) => f.write_str(address.url.as_str()),
            Self::Ssh(address) => address.fmt(f),
        }
    }
}

/// A repository on a server that speaks HTTP.
#[derive(Clone)]
pub(crate) struct Address {
    /// Without user name and password, and without a slash at the end of the path.
    pub(crate) url: Url,
    /// What the user name and the password say.
    pub(crate) authorization: Option<Authorization>,
}

impl Address {
    /// Reads an `http` or `https` URL.
    fn parse(text: &str) -> Result<Self, GitErrorKind> {
        let mut url =
            Url::parse(text).map_err(|error| GitErrorKind::Url { reason: error.to_string() })?;
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => {
                Some(Authorization::basic(&decoded(user), &decoded(password.unwrap_or_default()))?)
            }
        };
        let bad = |()| GitErrorKind::Url { reason: "it cannot have a user".into() };
        url.set_username("").map_err(bad)?;
        url.set_password(None).map_err(bad)?;
        url.set_fragment(None);
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self { url, authorization })
    }

    /// The address of something below the repository.
    pub(crate) fn below(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{path}", self.url.path().trim_end_matches('/')));
        url
    }

    /// The repository at `text`, which is relative.
    fn relative(&self, text: &str) -> Result<Self, GitErrorKind> {
        let mut base = self.url.path().to_owned();
        let mut rest = text;
        loop {
            if let Some(next) = rest.strip_prefix("./") {
                rest = next;
            } else if let Some(next) = rest.strip_prefix("../") {
                let Some((parent, _)) = base.rsplit_once('/') else {
                    return Err(GitErrorKind::Url { reason: "it climbs out of its host".into() });
                };
                base = parent.to_owned();
                rest = next;
            } else {
                break;
            }
        }
        let mut url = self.url.clone();
        url.set_path(&format!("{base}/{}", rest.trim_end_matches('/')));
        Ok(Self { url, authorization: None })
    }
}

fn decoded(text: &str) -> String {
    String::from_utf8_lossy(&percent::decode(text)).into_owned()
}

/// `Basic` with its two words in the encoding that HTTP wants.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let actual = match Location::parse(text) {
            Ok(location) => {
                let is_authorized =
                    matches!(&location, Location::Web(Address { authorization: Some(_), .. }));
                let with = if is_authorized { " with authorization" } else { "" };
                format!("{location}{with}")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected, "{text}");
    }

    #[test]
    fn user_and_password_leave_the_url() {
        check("https://h.example/a/b.git", "https://h.example/a/b.git");
        check("https://u:p%40@h.example/a.git/", "https://h.example/a.git with authorization");
        check("http://token@127.0.0.1:80/r", "http://127.0.0.1/r with authorization");
    }

    #[test]
    fn protocols_that_are_not_spoken_are_named() {
        check("git://h/a", "`git` is not a protocol that is spoken here");
        check("rsync://h/a", "`rsync` is not a protocol that is spoken here");
    }

    #[test]
    fn a_host_that_is_logged_in_to_is_named_in_two_ways() {
        check("git@github.com:a/b.git", "git@github.com:a/b.git");
        check("h:a", "h:a");
        check("[::1]:a", "[::1]:a");
        check("ssh://git@h/a", "ssh://git@h/a");
        check("SSH://git@h:22/a", "ssh://git@h:22/a");
        check("git+ssh://h/a", "ssh://h/a");
    }

    #[test]
    fn nothing_on_this_machine_is_a_repository() {
        for text in ["file:///etc", "FILE:///etc", "/etc", "../x", "ext::sh -c true", "", "./a:b"] {
            check(text, "a repository must be on a server, not on this machine");
        }
    }

    #[track_caller]
    fn check_submodule(text: &str, expected: &str) {
        let parent = Location::parse("https://u:p@h.example/group/parent.git").expect("an address");
        let actual = match parent.submodule(text) {
            Ok(location) => location.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected, "{text}");
    }

    #[test]
    fn addresses_of_submodules_may_be_relative_to_the_parents() {
        check_submodule("../child.git", "https://h.example/group/child.git");
        check_submodule("../../other/child.git", "https://h.example/other/child.git");
        check_submodule("./child", "https://h.example/group/parent.git/child");
        check_submodule("../../../../../x", "the URL is not one: it climbs out of its host");
        check_submodule("https://o.example/x", "https://o.example/x");
        check_submodule("git@o.example:x", "git@o.example:x");
        check_submodule("/etc", "a repository must be on a server, not on this machine");
    }
}
