//! Pods, registries, tree literals and goldens for the tests.
//!
//! Nothing here is shipped, and nothing here uses a crate of this workspace: what judges a build must not share its
//! code. The oracles are Debian's `runc`, `docker-registry`, `skopeo`, `umoci` and GNU tar, started as processes.
//!
//! # Guarantees
//!
//! - Every server listens on loopback, on a port of its own, and ends with the value that stands for it.
//! - Every pod is unmounted and deleted when its value is dropped, also when the test panics.
//! - A test that needs root starts with `privileged_`; everything else works for any user.
//!
//! # Reading order
//!
//! [`Tree`] and [`cases`] for tests of a library, [`Sandbox`] for the program on this machine, [`Pod`] for the program
//! in a container, then [`Registry`], [`base`] and [`oracle`] for what surrounds it.

#![expect(
    clippy::disallowed_methods,
    reason = "tests arrange the world around the program: files, processes, environment and clock"
)]

pub mod base;
pub mod build_case;
pub mod command;
pub mod oracle;
pub mod record;

mod archive;
mod cut_proxy;
mod executor;
mod git_server;
mod golden;
mod http_server;
mod image;
mod kubectl;
mod name_server;
mod nginx;
mod own_image;
mod place;
mod pod;
mod python;
mod registry;
mod sandbox;
mod schemas;
mod ssh_server;
mod storage;
mod tree;

pub use archive::{ArchiveEntry, ArchiveKind, Packing, archive, packed};
pub use cut_proxy::CutProxy;
pub use executor::{Executor, executor_binary};
pub use git_server::{GitRepository, GitServer, GitService, git};
pub use golden::{Case, cases};
pub use http_server::{HttpServer, Page};
pub use image::{ImageFacts, assert_same_image};
pub use kubectl::{kubectl, kustomize};
pub use name_server::NameServer;
pub use nginx::Nginx;
pub use own_image::{OWN_IMAGES, own_image_context};
pub use place::{cache_dir, is_root, scratch_dir, workspace_dir};
pub use pod::manifest::{Cluster, ImageStandIn, yaml};
pub use pod::{Pod, PodOutput, Profile, RunningPod, Usage};
pub use registry::{
    Auth, Certificate, Registry, RegistryBuilder, certificate, issue_for, rsa_key, self_signed,
};
pub use sandbox::{Output, Sandbox};
pub use schemas::{Pipeline, kubernetes_errors, pipeline_errors, schema_python};
pub use ssh_server::{SshKey, SshServer};
pub use storage::{Storage, azurite, storage_python};
pub use tree::{FIXED_TIME, Tree, listing};
