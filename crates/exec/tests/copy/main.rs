//! What `COPY`, `ADD` and `WORKDIR` leave behind. The cases are BuildKit's.

#![expect(clippy::disallowed_methods, reason = "tests make the files of a context")]
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its surroundings are not as it needs them"
)]

mod bench;

mod archives;
mod attributes;
mod chmod;
mod contexts;
mod exclude;
mod fetched;
mod hostile;
mod inline;
mod link;
mod parents;
mod paths;
mod taking;
mod work_dir;
