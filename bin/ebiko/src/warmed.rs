//! Base images that the warmer has left.

use std::path::Path;

use anyhow::Context as _;
use ebiko_build::duration;
use ebiko_layout::{Freshness, WarmDirectory};
use ebiko_oci::Timestamp;

use crate::cli::Cli;
use crate::environment::Environment;

/// Where kaniko's warmer leaves them, and its executor looks for them.
pub(crate) const CACHE_DIR: &str = "/cache";

/// The directory of `--cache-dir`; `None` without `--cache`.
pub(crate) fn directory(
    cli: &Cli,
    environment: &Environment,
) -> anyhow::Result<Option<WarmDirectory>> {
    if !cli.cache {
        return Ok(None);
    }
    let path = cli.cache_dir.as_deref().unwrap_or(Path::new(CACHE_DIR));
    open(path, &cli.cache_ttl, environment).map(Some)
}

/// The directory at `path`, whose entries may be as old as `ttl` says.
pub(crate) fn open(
    path: &Path,
    ttl: &str,
    environment: &Environment,
) -> anyhow::Result<WarmDirectory> {
    let ttl = duration(ttl)
        .with_context(|| format!("`--cache-ttl={ttl}` is no duration such as `336h` or `90m`"))?;
    let (seconds, nanoseconds) = environment.now;
    let now = Timestamp::new(seconds, nanoseconds)?;
    Ok(WarmDirectory::new(environment.absolute(path), Freshness { ttl, now }))
}
