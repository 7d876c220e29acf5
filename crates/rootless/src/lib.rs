//! Runs a process that believes it is root.
//!
//! Three questions are answered here, in the order a program asks them. Where may this build run:
//! on the container's own `/`, or in a private root ([`survey()`])? How does the program get
//! namespaces of its own where the root must be private ([`enter_private`])? And how is one process
//! started in a root, watched, and ended together with everything that it left behind ([`run`])?
//! This crate knows nothing about Dockerfiles or images, and it is the only one that uses
//! privileges.
//!
//! # Guarantees
//!
//! - `/` is built on only in a container: never in the machine's own process or mount namespace,
//!   whatever files lie around and whatever was forced.
//! - A process that [`run`] starts gets the arguments, environment, directory and user that it was
//!   given, three descriptors, and nothing else of the program's.
//! - When [`run`] returns without a [`RunError::Leftovers`], no process that the guest started is
//!   alive.
//! - In a private root the guest has at most Docker's default capabilities and cannot get others by
//!   making a user namespace, cannot see other processes, and sees no file of the host but a few
//!   devices, `/sys` (read-only), `resolv.conf` and `hosts`.
//! - A guest of a private root uses the machine's network. On Linux 6.12 and later with Landlock it
//!   cannot connect to abstract unix sockets of others; on other kernels it can.
//!
//! # Reading order
//!
//! [`Surroundings`] and [`Choice`]; [`enter_private`] and [`Place`]; [`Guest`] and [`run`].
//! `child.rs` is what happens between fork and exec, and is the only place where most of Rust is
//! out of bounds.

mod survey;

mod idmap;
mod outer;
mod private;
mod refusal;

mod interrupt;

mod conversation;
mod program;

mod attach;
mod caller;
mod capabilities;
mod child;
mod emulation;
mod filter;
mod guest;
mod in_place;
mod kernel;
mod landlock;
mod memory;
mod message;
mod mounts;
mod network;
mod overlay;
mod protect;
mod pump;
mod resources;
mod scrub;
mod signals;
mod stubs;
mod supervisor;
mod tree;

pub use attach::{Attachment, Content, can_mount};
pub use capabilities::missing_capabilities;
pub use conversation::Conversation;
pub use guest::{Credentials, Guest, GuestStage, NetworkAccess, RunError, run};
pub use interrupt::{HeldSignals, Interrupt};
pub use memory::{MemoryDirectory, MemoryError};
pub use outer::Ending;
pub use overlay::Overlay;
pub use private::{Entered, IdMapping, Missing, Nowhere, Place, Private, enter_private};
pub use program::{Program, ProgramEnd, ProgramError};
pub use protect::protect_self;
pub use pump::{Outcome, Stream};
pub use refusal::{Obstacle, PrivateError};
pub use resources::{Resource, ResourceLimit, Resources};
pub use scrub::scrub_environment;
pub use survey::{Choice, Evidence, ForceRefused, Standing, Surroundings, survey};
