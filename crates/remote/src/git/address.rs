//! Where a repository is, and whether we can go there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ebiko_transport::Url;

use super::GitErrorKind;
use super::authorization::Authorization;
use crate::percent;

/// A repository on a server that speaks HTTP.
#[derive(Clone)]
pub(crate) struct Address {
    /// Without user name and password, and without a slash at the end of the path.
    pub(crate) url: Url,
    /// What the user name and the password say.
    pub(crate) authorization: Option<Authorization>,
}

impl Address {
    /// Reads the address of a repository.
    pub(crate) fn parse(text: &str) -> Result<Self, GitErrorKind> {
        let Some((scheme, _)) = text.split_once("://") else {
            return Err(match text.split_once(':') {
                // `ext::command` would start a program.
                Some((_, rest)) if rest.starts_with(':') => GitErrorKind::Local,
                Some((host, _)) if !host.contains('/') && !host.is_empty() => {
                    GitErrorKind::Protocol { scheme: "ssh".into() }
                }
                _ => GitErrorKind::Local,
            });
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => {}
            "file" => return Err(GitErrorKind::Local),
            scheme => {
                let scheme = scheme.chars().take(40).collect();
                return Err(GitErrorKind::Protocol { scheme });
            }
        }
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

    /// The address of a submodule that this repository's list calls `text`.
    pub(crate) fn submodule(&self, text: &str) -> Result<Self, GitErrorKind> {
        if !text.starts_with("./") && !text.starts_with("../") {
            return Self::parse(text);
        }
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
        let actual = match Address::parse(text) {
            Ok(address) => {
                let with = if address.authorization.is_some() { " with authorization" } else { "" };
                format!("{}{with}", address.url)
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
        for text in ["ssh://git@h/a", "git@github.com:a/b.git", "h:a"] {
            check(text, "`ssh` is not a protocol that is spoken here");
        }
        check("git://h/a", "`git` is not a protocol that is spoken here");
        check("rsync://h/a", "`rsync` is not a protocol that is spoken here");
    }

    #[test]
    fn nothing_on_this_machine_is_a_repository() {
        for text in ["file:///etc", "FILE:///etc", "/etc", "../x", "ext::sh -c true", "", "./a:b"] {
            check(text, "a repository must be on a server, not on this machine");
        }
    }

    #[track_caller]
    fn check_submodule(text: &str, expected: &str) {
        let parent = Address::parse("https://u:p@h.example/group/parent.git").expect("an address");
        let actual = match parent.submodule(text) {
            Ok(address) => address.url.to_string(),
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
        check_submodule("/etc", "a repository must be on a server, not on this machine");
    }
}
