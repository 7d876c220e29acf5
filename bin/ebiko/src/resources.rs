//! What the command line says about the machine that commands get, limits, shared memory, hosts, and about how much of it
//! archives may take.

use std::net::IpAddr;

use anyhow::{Context as _, bail, ensure};
use ebiko_build::{Limits, Resource, ResourceLimit, Resources, byte_size};

use crate::cli::Cli;

/// What `--shm-size`, `--ulimit` and `--add-host` say, in Docker's syntax.
pub(crate) fn resources(cli: &Cli) -> anyhow::Result<Resources> {
    let size = |text: &String| {
        shm_size(text).with_context(|| format!("`--shm-size={text}` cannot be used"))
    };
    let limit =
        |text: &String| limit(text).with_context(|| format!("`--ulimit={text}` cannot be used"));
    let host =
        |text: &String| host(text).with_context(|| format!("`--add-host={text}` cannot be used"));
    Ok(Resources {
        shm_size: cli.shm_size.as_ref().map(size).transpose()?.flatten(),
        limits: cli.ulimits.iter().map(limit).collect::<anyhow::Result<_>>()?,
        hosts: cli.hosts.iter().map(host).collect::<anyhow::Result<_>>()?,
    })
}

/// What `--layer-max-entries`, `--layer-max-size` and `--layer-max-ratio` say.
pub(crate) fn limits(cli: &Cli) -> anyhow::Result<Limits> {
    let text = &cli.layer_max_size;
    let size = byte_size(text).and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0);
    let bytes = size.with_context(|| {
        format!("`--layer-max-size={text}` is no number of bytes, such as `274877906944` or `256g`")
    })?;
    let (entries, ratio) = (cli.layer_max_entries, cli.layer_max_ratio);
    Ok(Limits { entries, bytes, ratio, ..Limits::default() })
}

/// Nothing is the same as the default, as in Docker.
fn shm_size(text: &str) -> anyhow::Result<Option<u64>> {
    let size = byte_size(text).and_then(|size| u64::try_from(size).ok());
    let size = size.context("it is no number of bytes, such as `134217728` or `128m`")?;
    Ok(Some(size).filter(|&size| size > 0))
}

fn limit(text: &str) -> anyhow::Result<ResourceLimit> {
    let (name, values) = text.split_once('=').context("it has no `=`")?;
    let resource = Resource::named(name).with_context(|| format!("invalid ulimit type: {name}"))?;
    let number = |text: &str| {
        let number: i64 = text.parse().with_context(|| format!("`{text}` is no number"))?;
        match number {
            -1 => Ok(u64::MAX),
            number => u64::try_from(number).with_context(|| format!("`{text}` is below -1")),
        }
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = (number(soft)?, number(hard)?);
    ensure!(soft <= hard, "ulimit soft limit must be less than or equal to hard limit: {values}");
    Ok(ResourceLimit { resource, soft, hard })
}

/// `NAME=IP`, or as it was once written, `NAME:IP`; an IPv6 address may be in brackets.
fn host(text: &str) -> anyhow::Result<(String, IpAddr)> {
    let Some((name, address)) = text.split_once('=').or_else(|| text.split_once(':')) else {
        bail!("it has the form `NAME=IP`");
    };
    let is_name = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '#');
    ensure!(is_name, "`{name}` is no name of a host");
    ensure!(address != "host-gateway", "`host-gateway` is an address that only a daemon knows");
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(address);
    let parsed = address.parse().with_context(|| format!("`{address}` is no IP address"))?;
    Ok((name.to_owned(), parsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show<T: std::fmt::Debug>(result: anyhow::Result<T>) -> String {
        result.map_or_else(|error| format!("error: {error:#}"), |value| format!("{value:?}"))
    }

    #[test]
    fn sizes_are_dockers() {
        for (text, expected) in [
            ("134217728", "Some(134217728)"),
            ("128m", "Some(134217728)"),
            ("1GiB", "Some(1073741824)"),
            ("0", "None"),
            ("-1", "error: it is no number of bytes, such as `134217728` or `128m`"),
            ("much", "error: it is no number of bytes, such as `134217728` or `128m`"),
        ] {
            assert_eq!(show(shm_size(text)), expected, "{text}");
        }
    }

    #[test]
    fn limits_of_archives_are_the_defaults_of_the_library_unless_given() {
        let limits = |arguments: &[&str]| {
            let arguments = ["executor"].iter().chain(arguments).map(Into::into);
            Cli::read(arguments).map_err(anyhow::Error::from).and_then(|cli| super::limits(&cli))
        };
        assert_eq!(limits(&[]).unwrap(), Limits::default());
        let given =
            limits(&["--layer-max-entries=3", "--layer-max-size=1.5k", "--layer-max-ratio=7"]);
        let expected = Limits { entries: 3, bytes: 1536, ratio: 7, ..Limits::default() };
        assert_eq!(given.unwrap(), expected);
        for wrong in [
            "--layer-max-entries=0",
            "--layer-max-size=0",
            "--layer-max-size=x",
            "--layer-max-ratio=-1",
        ] {
            assert!(limits(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn limits_are_dockers() {
        let limit = |text: &str| match super::limit(text) {
            Ok(limit) => format!("{} {} {}", limit.resource.name(), limit.soft, limit.hard),
            Err(error) => format!("error: {error:#}"),
        };
        for (text, expected) in [
            ("nofile=1062:1062", "nofile 1062 1062"),
            ("nproc=5", "nproc 5 5"),
            ("core=0:-1", "core 0 18446744073709551615"),
            (
                "nofile=2:1",
                "error: ulimit soft limit must be less than or equal to hard limit: 2:1",
            ),
            (
                "nofile=-1:1",
                "error: ulimit soft limit must be less than or equal to hard limit: -1:1",
            ),
            (
                "nofile=-2",
                "error: `-2` is below -1: out of range integral type conversion attempted",
            ),
            ("as=1", "error: invalid ulimit type: as"),
            ("nofile", "error: it has no `=`"),
            ("nofile=1:2:3", "error: `2:3` is no number: invalid digit found in string"),
        ] {
            assert_eq!(limit(text), expected, "{text}");
        }
    }

    #[test]
    fn hosts_are_dockers() {
        for (text, expected) in [
            ("a=10.0.0.1", "(\"a\", 10.0.0.1)"),
            ("a:10.0.0.1", "(\"a\", 10.0.0.1)"),
            ("a=::1", "(\"a\", ::1)"),
            ("a:[::1]", "(\"a\", ::1)"),
            ("a:::1", "(\"a\", ::1)"),
            ("a=x", "error: `x` is no IP address: invalid IP address syntax"),
            ("a=host-gateway", "error: `host-gateway` is an address that only a daemon knows"),
            ("=10.0.0.1", "error: `` is no name of a host"),
            ("a b=10.0.0.1", "error: `a b` is no name of a host"),
            ("a", "error: it has the form `NAME=IP`"),
        ] {
            assert_eq!(show(host(text)), expected, "{text}");
        }
    }
}
