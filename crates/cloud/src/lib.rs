//! Who this machine is to AWS, Google and Azure.
//!
//! [`Aws`], [`Google`] and [`Azure`] each look once for an identity where their cloud's own programs look
//! ([`Surroundings`]), and use the network ([`Http`]) only when somebody asks for keys or a token. What these are for (a
//! registry, a bucket), and which hosts may see them, is for the caller to know.
//!
//! # Guarantees
//!
//! - The first identity that is set up is the one that is used. One that cannot be used is a failure and not a reason to
//!   be somebody else; that there is none is no failure: [`Obstacle`].
//! - A [`Secret`] is in no error and no debug print, and token services are asked over TLS, on this machine or on its
//!   link. Their redirects are not followed.
//! - The environment, files and the clock are parameters.
//!
//! # Reading order
//!
//! [`Surroundings`], [`Outcome`], then [`Aws`] with [`signed`], [`Google`] and [`Azure`].

mod obstacle;
mod secret;
mod surroundings;
mod token;

mod aws;
mod azure;
mod certificate;
mod google;

mod http;
mod jwt;
mod words;

pub use aws::{Aws, Keys, domain_of, endpoint, signed};
pub use azure::{Azure, Directory};
pub use google::Google;
pub use http::{Http, end, form, is_loopback, service_url, with_secret_header};
pub use obstacle::{Obstacle, Outcome, failed, nothing};
pub use secret::Secret;
pub use surroundings::Surroundings;
pub use token::Token;
pub use words::{error_text, one_line};
