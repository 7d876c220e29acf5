//! Which requests go through a proxy.

use std::net::IpAddr;

use reqwest::Url;

use crate::hop::literal_address;

/// The proxy settings, as values. The names and the meaning are those of the usual environment
/// variables, read as Go programs read them.
#[derive(Clone, Default)]
pub struct Proxies {
    /// `HTTP_PROXY`: for `http` URLs. Empty or absent: none.
    pub http: Option<String>,
    /// `HTTPS_PROXY`: for `https` URLs.
    pub https: Option<String>,
    /// `NO_PROXY`: hosts that are reached directly, separated by commas: a name with all names
    /// below it (`corp.example`), only the names below it (`.corp.example`), an address, a range
    /// (`10.0.0.0/8`), each also with `:port`, or `*` for everything.
    pub no_proxy: String,
}

impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A proxy URL may hold a password.
        f.debug_struct("Proxies")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

/// [`Proxies`], parsed.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProxyRules {
    http: Option<Url>,
    https: Option<Url>,
    direct: Vec<Direct>,
}

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug)]
enum Direct {
    Everything,
    Name { suffix: String, is_exact_too: bool, port: Option<u16> },
    Range { address: IpAddr, bits: u32, port: Option<u16> },
}

/// The setting whose value is not the URL of a proxy. The value may be a secret and is not shown.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{setting} is not the URL of an HTTP proxy")]
pub(crate) struct ProxyError {
    setting: &'static str,
}

impl ProxyRules {
    pub(crate) fn parse(proxies: &Proxies) -> Result<Self, ProxyError> {
        Ok(Self {
            http: parse_proxy(proxies.http.as_deref(), "HTTP_PROXY")?,
            https: parse_proxy(proxies.https.as_deref(), "HTTPS_PROXY")?,
            direct: proxies.no_proxy.split(',').filter_map(parse_direct).collect(),
        })
    }

    /// The proxy to use for `url`, if any. Loopback is never proxied, and neither are the links of this machine, where clouds
    /// have their metadata services: a proxy would ask those of its own machine.
    pub(crate) fn proxy_for(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "http" => self.http.as_ref(),
            "https" => self.https.as_ref(),
            _ => None,
        }?;
        let host = url.host_str()?.trim_end_matches('.');
        let port = url.port_or_known_default();
        let address = literal_address(host);
        let is_here = host == "localhost" || address.is_some_and(is_here);
        let is_direct = is_here || self.direct.iter().any(|d| d.covers(host, address, port));
        (!is_direct).then_some(proxy)
    }

    /// The hosts of the proxies themselves.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let proxies = self.http.iter().chain(&self.https);
        proxies.filter_map(|url| url.host_str().map(str::to_owned)).collect()
    }
}

fn parse_proxy(value: Option<&str>, setting: &'static str) -> Result<Option<Url>, ProxyError> {
    let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    // `proxy.corp:3128` without a scheme is common.
    let text = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(Some(url)),
        _ => Err(ProxyError { setting }),
    }
}

fn parse_direct(entry: &str) -> Option<Direct> {
    let entry = entry.trim().trim_end_matches('.').to_ascii_lowercase();
    if entry == "*" {
        return Some(Direct::Everything);
    }
    if let Some((address, bits)) = entry.split_once('/') {
        let address: IpAddr = address.parse().ok()?;
        let bits = bits.parse().ok().filter(|bits| *bits <= width(address))?;
        return Some(Direct::Range { address, bits, port: None });
    }
    let (host, port) = match entry.rsplit_once(':') {
        // A bare IPv6 address has colons too.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host.to_owned(), Some(port.parse().ok()?))
        }
        _ => (entry.clone(), None),
    };
    if let Some(address) = literal_address(&host) {
        return Some(Direct::Range { address, bits: width(address), port });
    }
    let is_exact_too = !host.starts_with('.') && !host.starts_with("*.");
    let name = host.trim_start_matches('*').trim_start_matches('.');
    let suffix = format!(".{name}");
    (!name.is_empty()).then_some(Direct::Name { suffix, is_exact_too, port })
}

impl Direct {
    fn covers(&self, host: &str, address: Option<IpAddr>, port: Option<u16>) -> bool {
        let same_port = |wanted: &Option<u16>| wanted.is_none() || *wanted == port;
        match self {
            Self::Everything => true,
            Self::Name { suffix, is_exact_too, port: wanted } => {
                same_port(wanted)
                    && (host.ends_with(suffix.as_str())
                        || (*is_exact_too && suffix.get(1..) == Some(host)))
            }
            Self::Range { address: network, bits, port: wanted } => {
                same_port(wanted)
                    && address.is_some_and(|address| in_range(address, *network, *bits))
            }
        }
    }
}

/// Loopback, link-local, and the block that AWS uses like link-local addresses.
fn is_here(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => {
            let [first, second, ..] = address.segments();
            address.is_loopback() || first & 0xffc0 == 0xfe80 || (first, second) == (0xfd00, 0xec2)
        }
    }
}

pub(crate) fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

pub(crate) fn in_range(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let (a, b) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(a.to_bits()), u128::from(b.to_bits())),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits()),
        _ => return false,
    };
    // `bits` is at most the width; a shift by the whole width would overflow and means "all".
    let shift = width(network) - bits;
    shift == 128 || (a ^ b) >> shift == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(no_proxy: &str, proxied: &[&str], direct: &[&str]) {
        let rules = ProxyRules::parse(&Proxies {
            http: Some("proxy.corp:3128".into()),
            https: Some("http://proxy.corp:3128".into()),
            no_proxy: no_proxy.into(),
        })
        .expect("the settings are right");
        for (urls, expected) in [(proxied, true), (direct, false)] {
            for url in urls {
                let parsed = Url::parse(url).expect("the table holds URLs");
                assert_eq!(rules.proxy_for(&parsed).is_some(), expected, "{no_proxy:?}: {url}");
            }
        }
    }

    #[test]
    fn loopback_is_never_proxied() {
        check(
            "",
            &["http://r.example/", "https://10.0.0.1/"],
            &["http://localhost:5000/", "http://127.0.0.1/", "http://127.9.9.9/", "http://[::1]/"],
        );
    }

    #[test]
    fn metadata_services_are_never_proxied() {
        check(
            "",
            &["http://170.254.169.254/", "http://[fd00:ec3::254]/"],
            &[
                "http://169.254.169.254/",
                "http://169.254.170.23/",
                "http://[fd00:ec2::254]/",
                "http://[fe80::1]/",
            ],
        );
    }

    #[test]
    fn names_cover_the_names_below_them() {
        check(
            "corp.example, .sub.example,*.star.example",
            &["https://notcorp.example/", "https://sub.example/", "https://star.example/"],
            &["https://corp.example/", "https://a.b.corp.example/", "https://A.sub.example/"],
        );
    }

    #[test]
    fn addresses_and_ranges_cover_literal_addresses() {
        check(
            "10.0.0.0/8,192.168.1.7,fd00::/8,0.0.0.0/33",
            &["https://11.0.0.1/", "https://192.168.1.8/", "https://[fc00::1]/"],
            &["https://10.255.0.1/", "https://192.168.1.7/", "https://[fd00::1]/"],
        );
        check("0.0.0.0/0", &["https://[fd00::1]/"], &["https://9.9.9.9/"]);
        check("::/0", &["https://9.9.9.9/"], &["https://[fd00::1]/"]);
    }

    #[test]
    fn a_port_narrows_an_entry() {
        check(
            "r.example:5000,10.0.0.1:80,[fd00::1]:8443",
            &["https://r.example/", "https://10.0.0.1/", "https://[fd00::1]/"],
            &["https://r.example:5000/", "http://10.0.0.1/", "https://[fd00::1]:8443/"],
        );
    }

    #[test]
    fn a_star_means_no_proxy_at_all() {
        check("*", &[], &["https://r.example/", "http://9.9.9.9/"]);
    }

    #[test]
    fn a_bad_proxy_is_named_without_its_value() {
        for value in ["socks5://s3cret@p/", "http://", "ht tp://s3cret"] {
            let error =
                ProxyRules::parse(&Proxies { https: Some(value.into()), ..Proxies::default() })
                    .expect_err("it is no HTTP proxy");
            assert_eq!(error.to_string(), "HTTPS_PROXY is not the URL of an HTTP proxy");
        }
        let empty = Proxies { http: Some(" ".into()), ..Proxies::default() };
        assert!(ProxyRules::parse(&empty).expect("empty means none").hosts().is_empty());
    }
}
