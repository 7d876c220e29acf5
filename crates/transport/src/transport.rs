//! The transport and its settings.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Url;
use tokio::runtime::{Builder, Runtime};

use crate::allowed::AllowedHost;
use crate::clients::Clients;
use crate::dns::Names;
use crate::proxy::{Proxies, ProxyRules};
use crate::retry::{OnRetry, Retries};
use crate::tls::{HostTls, Tls};

/// Everything a [`Transport`] needs to know about its surroundings, read by somebody else.
#[derive(Clone, Default)]
pub struct Options {
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Trusted certificates, as texts in PEM format. Mozilla's list is used where they hold none.
    pub roots: Vec<Vec<u8>>,
    /// What is special about TLS with single hosts.
    pub hosts_with_special_tls: Vec<HostTls>,
    /// Hosts that a server may name although their addresses are private.
    pub allowed_hosts: Vec<AllowedHost>,
    /// Whether HTTP/2 is never spoken. Some registries are much slower with it.
    pub is_http1_only: bool,
    /// The proxies.
    pub proxies: Proxies,
    /// The text of `/etc/resolv.conf`; empty where there is none.
    pub resolv_conf: Vec<u8>,
    /// The text of `/etc/hosts`; empty where there is none.
    pub hosts: Vec<u8>,
    /// The limits on waiting.
    pub timeouts: Timeouts,
    /// How failed requests are repeated.
    pub retries: Retries,
    /// Told before every wait for another attempt.
    pub on_retry: Option<OnRetry>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("user_agent", &self.user_agent)
            .field("roots", &self.roots.len())
            .field("hosts_with_special_tls", &self.hosts_with_special_tls)
            .field("allowed_hosts", &self.allowed_hosts)
            .field("is_http1_only", &self.is_http1_only)
            .field("proxies", &self.proxies)
            .field("timeouts", &self.timeouts)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

/// How long is waited for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, from the name's resolution to the end of the TLS handshake.
    pub connect: Duration,
    /// For the next sign of life: a response's head, or the next piece of a body in either
    /// direction.
    pub idle: Duration,
    /// For the whole of a body that is read into memory.
    pub small_body: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            idle: Duration::from_mins(1),
            small_body: Duration::from_mins(2),
        }
    }
}

/// No transport can be made from these [`Options`].
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the network: {reason}")]
#[expect(missing_docs, reason = "the message names every field")]
pub struct OptionsError {
    pub reason: String,
}

/// A handle to the network. Clones share connections, names and settings.
#[derive(Clone)]
pub struct Transport {
    pub(crate) shared: Arc<Shared>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("timeouts", &self.shared.timeouts)
            .field("retries", &self.shared.retries)
            .finish_non_exhaustive()
    }
}

impl Transport {
    /// Sets up the network. Nothing is sent and no file is read.
    ///
    /// # Errors
    ///
    /// Fails if a proxy, the user agent, or a certificate or key of a single host is malformed, or if no thread can be
    /// started.
    pub fn new(options: &Options) -> Result<Self, OptionsError> {
        let fail = |reason: &dyn fmt::Display| OptionsError { reason: reason.to_string() };
        let rules = ProxyRules::parse(&options.proxies).map_err(|error| fail(&error))?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("network")
            .enable_all()
            .build()
            .map_err(|error| fail(&error))?;
        let names = {
            let _inside = runtime.enter();
            Arc::new(Names::new(&options.resolv_conf, &options.hosts))
        };
        let special = &options.hosts_with_special_tls;
        let tls = Tls::new(&options.roots, special, rules.hosts()).map_err(|error| fail(&error))?;
        let clients = Clients {
            user_agent: options.user_agent.clone(),
            connect_timeout: options.timeouts.connect,
            is_http1_only: options.is_http1_only,
            tls,
            rules: rules.clone(),
            names,
            allowed: options.allowed_hosts.iter().filter_map(AllowedHost::addresses).collect(),
            made: Mutex::default(),
        };
        clients.make(&Clients::usual()).map_err(|reason| fail(&reason))?;
        let shared = Shared {
            clients,
            rules,
            allowed_hosts: options.allowed_hosts.clone(),
            timeouts: options.timeouts,
            retries: options.retries,
            on_retry: options.on_retry.clone(),
            runtime,
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

/// What clones of a [`Transport`] and its responses share.
pub(crate) struct Shared {
    pub(crate) clients: Clients,
    rules: ProxyRules,
    pub(crate) allowed_hosts: Vec<AllowedHost>,
    pub(crate) timeouts: Timeouts,
    pub(crate) retries: Retries,
    pub(crate) on_retry: Option<OnRetry>,
    runtime: Runtime,
}

impl Shared {
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Whether `url` is on the host of a proxy and would be reached without that proxy.
    pub(crate) fn is_unproxied_proxy(&self, url: &Url) -> bool {
        let is_proxy =
            url.host_str().is_some_and(|host| self.rules.hosts().iter().any(|p| p == host));
        is_proxy && self.rules.proxy_for(url).is_none()
    }
}
