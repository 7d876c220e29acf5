//! The HTTP clients, one for each way of being careful.
//!
//! Connections are kept for the next request by the client that made them. So whatever a connection was allowed when it was
//! made is a client of its own: one to an address that only the user may name, one whose certificate was not verified, one
//! that has shown a certificate of ours.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, Proxy, Url, redirect};

use crate::allowed::Addresses;
use crate::dns::{Dialer, Names};
use crate::hop::Dial;
use crate::proxy::ProxyRules;
use crate::send::TransportErrorKind;
use crate::tls::Tls;

/// So many idle connections are kept for one host. No part of the program has more at work there.
const IDLE_CONNECTIONS: usize = 16;

/// Makes clients when they are wanted first.
pub(crate) struct Clients {
    pub(crate) user_agent: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) is_http1_only: bool,
    pub(crate) tls: Tls,
    pub(crate) rules: ProxyRules,
    pub(crate) names: Arc<Names>,
    pub(crate) allowed: Vec<Addresses>,
    pub(crate) made: Mutex<BTreeMap<Kind, Client>>,
}

/// What a client may do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    /// A host for which TLS is special.
    host: Option<String>,
    is_verified: bool,
    dial: Dial,
    /// Whether every request has a connection of its own. There is no such thing in HTTP/2.
    is_alone: bool,
}

impl Clients {
    /// The client for a request to `url`.
    pub(crate) fn get(
        &self,
        url: &Url,
        dial: Dial,
        is_verified: bool,
        is_alone: bool,
    ) -> Result<Client, TransportErrorKind> {
        let host = self.tls.special(url);
        // A proxy that speaks TLS itself would be shown the certificate, too.
        let is_secure_proxy =
            self.rules.proxy_for(url).is_some_and(|proxy| proxy.scheme() == "https");
        if let Some(host) = host.filter(|host| is_secure_proxy && self.tls.has_identity(host)) {
            return Err(TransportErrorKind::Refused {
                reason: format!(
                    "a client certificate for `{host}` cannot be used through a proxy with `https`"
                ),
            });
        }
        // There is nothing to verify.
        let is_verified = is_verified || url.scheme() != "https";
        let kind = Kind { host: host.map(str::to_owned), is_verified, dial, is_alone };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(&kind) {
            return Ok(client.clone());
        }
        let client = self.make(&kind).map_err(|reason| TransportErrorKind::Refused { reason })?;
        made.insert(kind, client.clone());
        Ok(client)
    }

    pub(crate) fn make(&self, kind: &Kind) -> Result<Client, String> {
        let is_http1_only = self.is_http1_only || kind.is_alone;
        let tls = self.tls.config(kind.host.as_deref(), kind.is_verified, is_http1_only);
        let dialer = Dialer {
            names: Arc::clone(&self.names),
            dial: kind.dial,
            proxy_hosts: self.rules.hosts(),
            allowed: self.allowed.clone(),
        };
        let rules = self.rules.clone();
        let builder = Client::builder()
            .user_agent(&self.user_agent)
            .tls_backend_preconfigured(tls.map_err(|error| error.to_string())?)
            .dns_resolver(dialer)
            // Redirects, retries and time-outs are ours: reqwest's do not check addresses, cannot
            // repeat streamed bodies and count an upload as silence.
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            // Without this, the proxies of the environment would be read.
            .no_proxy()
            .proxy(Proxy::custom(move |url| rules.proxy_for(url).cloned()))
            .connect_timeout(self.connect_timeout)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_max_idle_per_host(if kind.is_alone { 0 } else { IDLE_CONNECTIONS })
            // Windows for a fast link; they also bound what a connection may hold in memory.
            .http2_initial_stream_window_size(1024 * 1024)
            .http2_initial_connection_window_size(4 * 1024 * 1024)
            .http2_max_header_list_size(64 * 1024);
        let builder = if is_http1_only { builder.http1_only() } else { builder };
        builder.build().map_err(|error| error.to_string())
    }

    /// The client for most requests, to find out whether one can be made at all.
    pub(crate) fn usual() -> Kind {
        Kind { host: None, is_verified: true, dial: Dial::Any, is_alone: false }
    }
}
