//! Hosts that a server may name although their addresses are private.

use std::net::IpAddr;
use std::str::FromStr;

use reqwest::Url;

use crate::hop::literal_address;
use crate::proxy::{in_range, width};

/// A host that the user lets servers send us to: `host[:port]`, an address, or a range of addresses (`10.0.0.0/8`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Name { name: String, port: Option<u16> },
    Range(Addresses),
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    network: IpAddr,
    bits: u32,
    port: Option<u16>,
}

/// What was given is not a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is neither a host with or without a port nor a range of addresses")]
#[expect(missing_docs, reason = "the message names every field")]
pub struct AllowedHostError {
    pub text: String,
}

impl FromStr for AllowedHost {
    type Err = AllowedHostError;

    fn from_str(text: &str) -> Result<Self, AllowedHostError> {
        parse(text.trim()).map(Self).ok_or_else(|| AllowedHostError { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Kind> {
    if let Some((network, bits)) = text.split_once('/') {
        let network: IpAddr = network.parse().ok()?;
        let bits = bits.parse().ok().filter(|bits| *bits <= width(network))?;
        return Some(Kind::Range(Addresses { network, bits, port: None }));
    }
    if let Some(network) = literal_address(text) {
        return Some(Kind::Range(Addresses { network, bits: width(network), port: None }));
    }
    // The rules for hosts and ports are those of URLs, and the spelling is theirs, too.
    let url = Url::parse(&format!("ftp://{text}/")).ok()?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let host = url.host_str().filter(|host| !host.is_empty() && is_bare && !text.contains('@'))?;
    let port = match url.port() {
        // That of the scheme is left out by the parser.
        None if text.ends_with(":21") => Some(21),
        port => port,
    };
    if let Some(network) = literal_address(host) {
        return Some(Kind::Range(Addresses { network, bits: width(network), port }));
    }
    Some(Kind::Name { name: host.trim_end_matches('.').to_ascii_lowercase(), port })
}

impl AllowedHost {
    /// Whether a server may name `url`, whatever address is behind it.
    pub(crate) fn covers(&self, url: &Url) -> bool {
        let same_port = |port: Option<u16>| port.is_none() || port == url.port_or_known_default();
        let host = url.host_str().unwrap_or_default();
        match &self.0 {
            Kind::Name { name, port } => host.trim_end_matches('.') == name && same_port(*port),
            Kind::Range(addresses) => {
                same_port(addresses.port)
                    && literal_address(host).is_some_and(|address| addresses.has(address))
            }
        }
    }

    /// The addresses that a name which a server gives may have. Names are looked up without a port.
    pub(crate) fn addresses(&self) -> Option<Addresses> {
        match &self.0 {
            Kind::Range(addresses) if addresses.port.is_none() => Some(*addresses),
            Kind::Range(_) | Kind::Name { .. } => None,
        }
    }
}

impl Addresses {
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        in_range(address, self.network, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(allowed: &str, yes: &[&str], no: &[&str]) {
        let host: AllowedHost = allowed.parse().expect("the table holds hosts");
        for (urls, expected) in [(yes, true), (no, false)] {
            for url in urls {
                let parsed = Url::parse(url).expect("the table holds URLs");
                assert_eq!(host.covers(&parsed), expected, "{allowed}: {url}");
            }
        }
    }

    #[test]
    fn a_name_is_that_name_and_no_other() {
        check(
            "Minio.Corp",
            &["http://minio.corp/", "https://minio.corp.:9000/x"],
            &["http://x.minio.corp/", "http://minio.corp.evil/", "http://10.0.0.1/"],
        );
        check("minio.corp:9000", &["http://minio.corp:9000/"], &["http://minio.corp/"]);
        check("minio.corp:443", &["https://minio.corp/"], &["http://minio.corp/"]);
    }

    #[test]
    fn addresses_may_be_one_or_many() {
        check("10.1.0.0/16", &["http://10.1.2.3:9/"], &["http://10.2.0.1/", "http://x.corp/"]);
        check("10.1.2.3:9000", &["http://10.1.2.3:9000/"], &["http://10.1.2.3/"]);
        check("[fd00::1]", &["http://[fd00::1]:5/"], &["http://[fd00::2]/"]);
        check("fd00::/8", &["http://[fd12::1]/"], &["http://[fe80::1]/"]);
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", "/", "a/b", "10.0.0.0/33", "http://a", "a:b", "a?b", "u@a", "a b"] {
            assert!(text.parse::<AllowedHost>().is_err(), "{text}");
        }
    }
}
