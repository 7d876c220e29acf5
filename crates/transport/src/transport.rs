//! The transport and its settings.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Proxy, Url, redirect};
use tokio::runtime::{Builder, Runtime};

use crate::dns::{Dialer, Names};
use crate::hop::Dial;
use crate::proxy::{Proxies, ProxyRules};
use crate::retry::{OnRetry, Retries};
use crate::tls;

/// Everything a [`Transport`] needs to know about its surroundings, read by somebody else.
#[derive(Clone, Default)]
pub struct Options {
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Trusted certificates, as texts in PEM format. Mozilla's list is used where they hold none.
    pub roots: Vec<Vec<u8>>,
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
    /// Fails if a proxy or the user agent is malformed, or if no thread can be started.
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
        let tls = tls::client_config(&options.roots).map_err(|error| fail(&error))?;
        let client = |dial| {
            let dialer = Dialer { names: Arc::clone(&names), dial, proxy_hosts: rules.hosts() };
            client(options, tls.clone(), rules.clone(), dialer).map_err(|error| fail(&error))
        };
        let shared = Shared {
            // Two clients, so that a connection to a private address which the user asked for is
            // never in the pool from which a server-chosen request takes its connection.
            any: client(Dial::Any)?,
            public_only: client(Dial::PublicOnly)?,
            rules,
            timeouts: options.timeouts,
            retries: options.retries,
            on_retry: options.on_retry.clone(),
            runtime,
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

fn client(
    options: &Options,
    tls: rustls::ClientConfig,
    rules: ProxyRules,
    dialer: Dialer,
) -> reqwest::Result<Client> {
    Client::builder()
        .user_agent(&options.user_agent)
        .tls_backend_preconfigured(tls)
        .dns_resolver(dialer)
        // Redirects, retries and time-outs are ours: reqwest's do not check addresses, cannot
        // repeat streamed bodies and count an upload as silence.
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        // Without this, the proxies of the environment would be read.
        .no_proxy()
        .proxy(Proxy::custom(move |url| rules.proxy_for(url).cloned()))
        .connect_timeout(options.timeouts.connect)
        .tcp_keepalive(Duration::from_secs(30))
        // Windows for a fast link; they also bound what a connection may hold in memory.
        .http2_initial_stream_window_size(1024 * 1024)
        .http2_initial_connection_window_size(4 * 1024 * 1024)
        .http2_max_header_list_size(64 * 1024)
        .build()
}

/// What clones of a [`Transport`] and its responses share.
pub(crate) struct Shared {
    pub(crate) any: Client,
    pub(crate) public_only: Client,
    rules: ProxyRules,
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
