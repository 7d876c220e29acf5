//! The distribution protocol: credentials, pull and push.
//!
//! A [`Registry`] finds images by name ([`ImageSource`](ebiko_oci::ImageSource)) and sends images
//! to names ([`Registry::push`]), also whole indexes ([`Registry::push_tree`]). It knows the routes ([`Routes`]: mirrors, maps, insecure hosts)
//! and the [`Credentials`]; sockets are `ebiko_transport`'s.
//!
//! # Guarantees
//!
//! - Nothing that is returned as content is unverified: a manifest matches the digest it was asked
//!   by, a config and every layer match digest and size in their descriptors.
//! - A secret goes to the registry whose config entry holds it and to the token service which that
//!   registry names, over `https` unless the user allowed otherwise. It is in no error and no
//!   debug print; errors name the entry instead.
//! - A built-in helper gives credentials for the registries of its own cloud, recognized by whole
//!   names, and for no others. It is asked once for each, until what it gave ends.
//! - A manifest is asked for once for each reference, however often it is resolved.
//! - A blob that breaks off on its way goes on where it was, in both directions, as long as it gets
//!   any farther.
//! - Nothing is buffered but manifests and configs, which are limited to 4 MiB.
//!
//! # Reading order
//!
//! [`Registry`], [`Routes`] and [`Credentials`], with [`Helper`] and [`CredentialPrograms`]; then
//! the modules `pull` and `push`; `sending` is how a blob survives a broken connection, and
//! `session` how one authorized request is made.

mod registry;
mod routes;

mod credentials;

mod ahead;
mod blob;
mod cache;
mod check;
mod progress;
mod pull;
mod push;
mod referrers;
mod sending;
mod tree;
mod upload;

mod advice;
mod challenge;
mod session;
mod token;

#[cfg(test)]
#[path = "../../transport/tests/server/mod.rs"]
mod server;

pub use advice::advice_on;
pub use ahead::Ahead;
pub use cache::{CacheError, CacheRepository};
pub use credentials::{
    Clock, CredentialPrograms, Credentials, CredentialsError, EcrError, EcrRepository, Helper,
    Identity, LoginError, ProgramOutcome, Surroundings, azure_portal, log_in, prepare_ecr,
};
pub use progress::{Direction, Progress};
pub use pull::{PullError, PullErrorKind};
pub use push::{PushError, PushErrorKind};
pub use registry::{Registry, Settings};
pub use routes::{RouteError, Routes, api_host};
pub use session::ExchangeError;
