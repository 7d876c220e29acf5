//! HTTP for every crate that needs the network.
//!
//! A [`Transport`] sends a [`Request`] and gives back a [`Response`] whose body is read like a
//! file. Callers stay synchronous; the one async runtime of the program lives in here and shows
//! nowhere in the interface. This crate knows nothing about registries, contexts or credentials:
//! it is told headers and URLs and keeps them from travelling where they should not.
//!
//! # Guarantees
//!
//! - A host that the *user* named may have any address. A host that a *server* named (a redirect,
//!   a token realm, an upload location; see [`Trust`]) must have a public address, checked on the
//!   address that is dialled, so that DNS cannot change its mind between check and use. The
//!   exceptions are those that the user names ([`AllowedHost`]).
//! - Certificates are verified, unless a request says otherwise ([`Verification`]). A certificate
//!   of ours is shown to the one host it is for ([`HostTls`]).
//! - `Authorization` and cookies reach the origin of the request they were set on and no other.
//! - A redirect or a server's choice never leads from `https` to `http`.
//! - Nothing waits for ever: connecting, response headers, every piece of a body and every retry
//!   have a limit. Nothing is buffered whole, unless it is small and asked for with a limit.
//! - Names are resolved from the `resolv.conf` and `hosts` texts that were passed in. The system's
//!   resolver library is never called, the file system and the environment are never read.
//! - URLs in errors carry neither their query nor a user name: both may be secrets.
//!
//! # Reading order
//!
//! [`Request`] and [`Trust`], [`Transport::send`], [`Response`]; then [`Options`].

// Named only to choose its version.
use idna_adapter as _;

mod request;
mod send;
mod transport;

mod response;
mod retry;
mod upload;

mod address;
mod allowed;
mod clients;
mod dns;
mod hop;
mod proxy;
mod tls;

pub use address::is_public;
pub use allowed::{AllowedHost, AllowedHostError};
pub use request::{Body, OpenBody, Request, ShownUrl, Trust, Verification};
pub use response::Response;
pub use retry::{OnRetry, Retries, Retrying, is_transient_status, retry_after};
pub use send::{TransportError, TransportErrorKind};
pub use transport::{Options, OptionsError, Timeouts, Transport};

pub use proxy::Proxies;
pub use reqwest::{Method, StatusCode, Url, header};
pub use tls::{ClientIdentity, HostTls};
