//! Repositories that are reached over SSH.

use std::fmt;

use ebiko_transport::Url;

use super::GitErrorKind;
use crate::percent;
use crate::ssh::SshDestination;

/// A repository on a host that is logged in to.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SshAddress {
    pub(crate) destination: SshDestination,
    /// As the host's git takes it: from the top, or from the home of whoever logs in.
    path: String,
    /// Whether it was written as a URL, which is how it is shown then.
    is_url: bool,
}

impl SshAddress {
    /// Reads `[user@]host:path`; whether it is that, and no path of this machine, is for the caller to know.
    pub(crate) fn parse_short(text: &str) -> Result<Self, GitErrorKind> {
        // A host in brackets may have colons, and a port behind one.
        let (host, path) = match text.rfind("]:").filter(|_| text.contains('[')) {
            Some(end) => (&text[..=end], &text[end + 2..]),
            None => text.split_once(':').unwrap_or((text, "")),
        };
        let (user, host) = match host.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, host),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let (host, port) = match host.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => (host, None),
        };
        let port = port.map(str::parse).transpose().map_err(|_| bad("its port is no number"))?;
        Self::checked(user.map(str::to_owned), host.to_owned(), port, path, false)
    }

    /// Reads `ssh://[user@]host[:port]/path`.
    pub(crate) fn parse_url(text: &str) -> Result<Self, GitErrorKind> {
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let url = Url::parse(&format!("ssh://{rest}"))
            .map_err(|error| GitErrorKind::Url { reason: error.to_string() })?;
        if url.password().is_some() {
            return Err(bad("a password is of no use over SSH"));
        }
        let user = Some(decoded(url.username())).filter(|user| !user.is_empty());
        let host = decoded(url.host_str().unwrap_or_default());
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        let path = decoded(url.path());
        // As in git: `/~user/x` begins in somebody's home.
        let path = path.strip_prefix('/').filter(|rest| rest.starts_with('~')).unwrap_or(&path);
        Self::checked(user, host.to_owned(), url.port(), path, true)
    }

    fn checked(
        user: Option<String>,
        host: String,
        port: Option<u16>,
        path: &str,
        is_url: bool,
    ) -> Result<Self, GitErrorKind> {
        // What begins with a dash would be an option to the program that connects (CVE-2017-1000117).
        let is_odd = |word: &str| {
            let is_bad = |char: char| char.is_control() || char.is_whitespace();
            word.is_empty() || word.starts_with('-') || word.contains(is_bad)
        };
        if is_odd(&host) || host.contains(['/', '\\', '@', '%', '"', '\'']) {
            return Err(bad("its host has no name that one can have"));
        }
        if user.as_deref().is_some_and(|user| is_odd(user) || user.contains(['@', '%', '"', '\'']))
        {
            return Err(bad("its user has no name that one can have"));
        }
        let path = match path.trim_end_matches('/') {
            "" => return Err(bad("it has no path")),
            path if path.contains(['\0', '\n']) || path.starts_with('-') => {
                return Err(bad("its path is none that a repository can have"));
            }
            path => path.to_owned(),
        };
        Ok(Self { destination: SshDestination { user, host, port }, path, is_url })
    }

    /// The host as a URL spells it.
    pub(crate) fn host_in_url(&self) -> String {
        let host = &self.destination.host;
        if host.contains(':') { format!("[{host}]") } else { host.clone() }
    }

    /// What the host is to run, as its shell reads it.
    pub(crate) fn command(&self) -> String {
        // git's own way to quote; csh takes `!` for something else.
        let quoted = self.path.replace('\'', "'\\''").replace('!', "'\\!'");
        format!("git-upload-pack '{quoted}'")
    }

    /// The repository at `text`, which is relative.
    pub(crate) fn relative(&self, text: &str) -> Result<Self, GitErrorKind> {
        let mut base = self.path.clone();
        let mut rest = text;
        loop {
            if let Some(next) = rest.strip_prefix("./") {
                rest = next;
            } else if let Some(next) = rest.strip_prefix("../") {
                base = match base.rsplit_once('/') {
                    Some((parent, _)) => parent.to_owned(),
                    // Beside a repository in the home there are others, and nothing is above it.
                    None if !base.is_empty() && !self.is_url => String::new(),
                    None => return Err(bad("it climbs out of its host")),
                };
                rest = next;
            } else {
                break;
            }
        }
        let path = if base.is_empty() && !self.path.starts_with('/') {
            rest.to_owned()
        } else {
            format!("{base}/{rest}")
        };
        let SshDestination { user, host, port } = self.destination.clone();
        Self::checked(user, host, port, &path, self.is_url)
    }
}

impl fmt::Display for SshAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SshDestination { user, port, .. } = &self.destination;
        let user = user.as_deref().map(|user| format!("{user}@")).unwrap_or_default();
        let host = self.host_in_url();
        if !self.is_url && port.is_none() {
            return write!(f, "{user}{host}:{}", self.path);
        }
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        // What is written short with a port begins in the home.
        let slash = match (self.path.starts_with('/'), self.path.starts_with('~')) {
            (true, _) => "",
            (false, true) => "/",
            (false, false) => "/~/",
        };
        write!(f, "ssh://{user}{host}{port}{slash}{}", self.path)
    }
}

fn bad(reason: &str) -> GitErrorKind {
    GitErrorKind::Url { reason: reason.into() }
}

fn decoded(text: &str) -> String {
    String::from_utf8_lossy(&percent::decode(text)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<SshAddress, GitErrorKind> {
        if text.contains("://") {
            SshAddress::parse_url(text)
        } else {
            SshAddress::parse_short(text)
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let actual = match parse(text) {
            Ok(address) => {
                let user = address.destination.user().unwrap_or("-");
                format!("{user} {} {} as {address}", address.destination, address.command())
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected, "{text}");
    }

    #[test]
    fn both_ways_to_write_an_address_are_read() {
        check(
            "git@h.example:a/b.git",
            "git h.example git-upload-pack 'a/b.git' as git@h.example:a/b.git",
        );
        check("h:/a", "- h git-upload-pack '/a' as h:/a");
        check("git@[h:2222]:a", "git [h]:2222 git-upload-pack 'a' as ssh://git@h:2222/~/a");
        check("git@[::1]:a", "git ::1 git-upload-pack 'a' as git@[::1]:a");
        check("ssh://git@h/a/b.git/", "git h git-upload-pack '/a/b.git' as ssh://git@h/a/b.git");
        check("git+ssh://h:22/a%20b", "- [h]:22 git-upload-pack '/a b' as ssh://h:22/a b");
        check("ssh://u@[::1]:2/~v/a", "u [::1]:2 git-upload-pack '~v/a' as ssh://u@[::1]:2/~v/a");
    }

    #[test]
    fn the_path_is_one_word_for_the_shell_of_the_host() {
        let command = |text: &str| parse(text).expect("an address").command();
        assert_eq!(command("h:a'; touch /x; '"), "git-upload-pack 'a'\\''; touch /x; '\\'''");
        assert_eq!(command("h:a!b"), "git-upload-pack 'a'\\!'b'");
    }

    #[test]
    fn nothing_becomes_an_option_or_two_words() {
        let host = "the URL is not one: its host has no name that one can have";
        let user = "the URL is not one: its user has no name that one can have";
        let path = "the URL is not one: its path is none that a repository can have";
        check("ssh://-oProxyCommand=x/a", host);
        check("-oProxyCommand=x:a", host);
        check("ssh://h%20x/a", host);
        check("ssh://h%0ax/a", host);
        check("u@:a", host);
        check("ssh://-x@h/a", user);
        check("ssh://a%40b@h/a", user);
        check("@h:a", user);
        check("h:-x", path);
        check("ssh://h/a%0ab", path);
        check("h:", "the URL is not one: it has no path");
        check("ssh://h/", "the URL is not one: it has no path");
        check("ssh://u:p@h/a", "the URL is not one: a password is of no use over SSH");
        check("[h:x]:a", "the URL is not one: its port is no number");
    }

    #[track_caller]
    fn check_relative(from: &str, text: &str, expected: &str) {
        let actual = match parse(from).expect("an address").relative(text) {
            Ok(address) => address.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected, "{text} from {from}");
    }

    #[test]
    fn a_relative_address_stays_on_its_host() {
        let climbs = "the URL is not one: it climbs out of its host";
        check_relative("git@h:org/parent.git", "../child.git", "git@h:org/child.git");
        check_relative("git@h:org/parent.git", "../../other/child.git", "git@h:other/child.git");
        check_relative("git@h:parent.git", "../child.git", "git@h:child.git");
        check_relative("git@h:parent.git", "../../child.git", climbs);
        check_relative("git@h:/srv/parent", "./child/", "git@h:/srv/parent/child");
        check_relative("ssh://git@h:2/srv/parent", "../child", "ssh://git@h:2/srv/child");
        check_relative("ssh://git@h/parent", "../child", "ssh://git@h/child");
        check_relative("ssh://git@h/parent", "../../child", climbs);
    }
}
