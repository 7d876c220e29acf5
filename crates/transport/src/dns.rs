//! From names to addresses, without the system's resolver library.
//!
//! A statically linked glibc would load the *image's* name service modules into this process as
//! soon as `getaddrinfo` is called, and by then `/etc` belongs to the image too. So both files
//! are texts that were read before anything was unpacked.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{TokioResolver, system_conf};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::is_public;
use crate::allowed::Addresses;
use crate::hop::Dial;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a name has no address for us.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("cannot look up `{host}`: /etc/resolv.conf is missing or names no name server")]
    NoNameServer { host: String },
    #[error("there is no host `{host}`")]
    NoSuchHost { host: String },
    #[error("cannot look up `{host}`: {source}")]
    Lookup { host: String, source: BoxError },
    #[error("the server names `{host}`, whose address {address} is not public")]
    NotPublic { host: String, address: IpAddr },
}

/// Answers from a `hosts` text first and then asks the name servers of a `resolv.conf` text.
pub(crate) struct Names {
    hosts: BTreeMap<String, Vec<IpAddr>>,
    servers: Option<TokioResolver>,
}

impl Names {
    /// Reads both texts. Must run inside the runtime that will resolve.
    ///
    /// A `resolv.conf` that names no server is no error yet: addresses, `localhost` and the names
    /// of `hosts` work without.
    pub(crate) fn new(resolv_conf: &[u8], hosts: &[u8]) -> Self {
        Self { hosts: parse_hosts(hosts), servers: name_servers(resolv_conf) }
    }

    async fn look_up(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        if let Some(addresses) = self.hosts.get(&name) {
            return Ok(addresses.clone());
        }
        let Some(servers) = &self.servers else {
            return Err(ResolveError::NoNameServer { host: host.to_owned() });
        };
        match servers.lookup_ip(host).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) if error.is_no_records_found() => {
                Err(ResolveError::NoSuchHost { host: host.to_owned() })
            }
            Err(error) => {
                Err(ResolveError::Lookup { host: host.to_owned(), source: Box::new(error) })
            }
        }
    }
}

fn name_servers(resolv_conf: &[u8]) -> Option<TokioResolver> {
    // The one parse error there is says that no server is named.
    let (config, mut options) = system_conf::parse_resolv_conf(resolv_conf).ok()?;
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .ok()
}

/// Reads `ADDRESS NAME...` lines; what is not understood is skipped, as everywhere.
fn parse_hosts(text: &[u8]) -> BTreeMap<String, Vec<IpAddr>> {
    let mut hosts: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for line in String::from_utf8_lossy(text).lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        for name in words {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let addresses = hosts.entry(name).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    hosts
}

/// The resolver of one client: the shared names, and which addresses may be dialled.
pub(crate) struct Dialer {
    pub(crate) names: Arc<Names>,
    pub(crate) dial: Dial,
    /// Proxies are the user's choice whoever chose the URL behind them.
    pub(crate) proxy_hosts: Vec<String>,
    /// Private addresses that may be behind any name.
    pub(crate) allowed: Vec<Addresses>,
}

impl Resolve for Dialer {
    fn resolve(&self, name: Name) -> Resolving {
        let names = Arc::clone(&self.names);
        let is_free =
            self.dial == Dial::Any || self.proxy_hosts.iter().any(|host| host == name.as_str());
        let allowed = self.allowed.clone();
        Box::pin(async move {
            let addresses = names.look_up(name.as_str()).await?;
            let addresses =
                if is_free { addresses } else { only_public(name.as_str(), addresses, &allowed)? };
            // The port is the caller's; reqwest fills it in.
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

/// One private address among public ones is left out, not believed.
fn only_public(
    host: &str,
    addresses: Vec<IpAddr>,
    allowed: &[Addresses],
) -> Result<Vec<IpAddr>, ResolveError> {
    let may_be = |address: IpAddr| is_public(address) || allowed.iter().any(|a| a.has(address));
    let (public, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| may_be(*address));
    match (public.is_empty(), other.first()) {
        (true, Some(address)) => {
            Err(ResolveError::NotPublic { host: host.to_owned(), address: *address })
        }
        _ => Ok(public),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowed::AllowedHost;

    /// Resolves `host` with these `hosts` and no name server, for a URL the server named.
    #[track_caller]
    fn check(hosts: &str, host: &str, dial: Dial, expected: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts");
        let names = {
            let _guard = runtime.enter();
            Arc::new(Names::new(b"search cluster.local\noptions ndots:5\n", hosts.as_bytes()))
        };
        let proxy_hosts = vec!["proxy.corp".into()];
        let allowed = "10.77.0.0/16".parse::<AllowedHost>().ok().and_then(|host| host.addresses());
        let dialer = Dialer { names, dial, proxy_hosts, allowed: allowed.into_iter().collect() };
        let name = host.parse().expect("the table holds names");
        let actual = match runtime.block_on(dialer.resolve(name)) {
            Ok(addresses) => {
                addresses.map(|address| address.ip().to_string()).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected, "{host}");
    }

    #[test]
    fn localhost_is_loopback_whatever_the_hosts_file_says() {
        for name in ["localhost", "LOCALHOST", "localhost.", "registry.localhost"] {
            check("10.9.9.9 localhost", name, Dial::Any, "127.0.0.1 ::1");
        }
    }

    #[test]
    fn the_hosts_file_answers_before_any_server() {
        let hosts = "# comment\n10.1.2.3\tReg.Example alias # note\n::2 reg.example\nbad line\n";
        check(hosts, "reg.example", Dial::Any, "10.1.2.3 ::2");
        check(hosts, "ALIAS.", Dial::Any, "10.1.2.3");
    }

    #[test]
    fn without_a_name_server_a_real_name_is_a_clear_error() {
        check(
            "",
            "registry.example",
            Dial::Any,
            "cannot look up `registry.example`: /etc/resolv.conf is missing or names no name \
             server",
        );
    }

    #[test]
    fn a_server_chosen_name_must_have_a_public_address() {
        let hosts = "169.254.169.254 meta.example\n10.0.0.1 mixed.example\n1.1.1.1 mixed.example\n\
                     10.0.0.2 proxy.corp\n";
        check(
            hosts,
            "meta.example",
            Dial::PublicOnly,
            "the server names `meta.example`, whose address 169.254.169.254 is not public",
        );
        check(
            hosts,
            "localhost",
            Dial::PublicOnly,
            "the server names `localhost`, whose address 127.0.0.1 is not public",
        );
        check(hosts, "mixed.example", Dial::PublicOnly, "1.1.1.1");
        check(hosts, "meta.example", Dial::Any, "169.254.169.254");
        check(hosts, "proxy.corp", Dial::PublicOnly, "10.0.0.2");
        check("10.77.1.2 store.corp", "store.corp", Dial::PublicOnly, "10.77.1.2");
    }
}
