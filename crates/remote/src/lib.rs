//! Brings build contexts and sources of ADD to local bytes.
//!
//! [`fetch`] turns the value of `--context` into a [`LocalContext`], also out of the clouds' storages ([`Clouds`]),
//! [`fn@download`] a URL into a file, and [`checkout`] a version of a git repository into a directory. This crate knows nothing of
//! Dockerfiles and archives: what a fetched file is, is for others to find.
//!
//! # Guarantees
//!
//! - Everything is written below the directory that is named, and nothing that is fetched is run.
//! - Over SSH nobody is spoken with but by [`SshConnector`], which has to know the host's key.
//! - A URL that the user wrote may name any address. One that a server or a repository names may
//!   not: see [`Trust`](ebiko_transport::Trust).
//! - A login goes to the host that it is meant for, a signature to its cloud or the endpoint that the user named, and
//!   neither is ever printed.
//! - Memory is bounded; what is fetched is streamed to disk, and has limits.
//!
//! # Reading order
//!
//! [`fetch`], [`fn@download`], then [`GitRequest`] and [`checkout`].

mod bucket;
mod checksum;
mod context;
mod download;
mod git;
mod spec;
mod ssh;

mod host;
mod http_date;
mod network;
mod percent;

#[cfg(test)]
#[path = "../../transport/tests/server/mod.rs"]
mod server;

pub use bucket::{Clock, Clouds, Refusal, StoredFile};
pub use context::{GitSettings, LocalContext, Material, RemoteError, Surroundings, fetch};
pub use download::{
    DownloadError, DownloadErrorKind, DownloadOptions, Downloaded, download, is_current,
};
pub use git::{
    Authorization, Checkout, Damage, GitError, GitErrorKind, GitRequest, History, Limits, ObjectId,
    checkout, find_commit, is_over_ssh,
};
pub use network::Network;
pub use spec::{ContextSpec, RepositorySpec, SpecError, WebUrl};
pub use ssh::{SshConnector, SshDestination, SshError, SshFault, SshStream};
