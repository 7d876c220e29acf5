//! The program from outside: real pods, real registries, other people's tools as judges.
//!
//! Few tests for many lines of code: they prove the wiring. What a single instruction or layer does in detail is
//! tested in its crate.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests arrange files and processes around the program, and what fails there fails the test"
)]

mod bench;

mod acceptance;
mod behind;
mod buckets;
mod build_cases;
mod cache;
mod capabilities;
mod command_line;
mod compression;
mod credentials;
mod deployment;
mod failure;
mod front_ends;
mod habits;
mod harness;
mod hostile;
mod identities;
mod images;
mod language;
mod layers;
mod many;
mod mounts;
mod own_image;
mod pods;
mod publish;
mod questions;
mod registries;
mod remote;
mod repeated;
mod restricted;
mod schemas;
mod ssh;
mod stages;
mod taking;

mod thin;
mod tight;
mod warmer;
mod workstation;
