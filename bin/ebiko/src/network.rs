//! The registry client, set up from what the machine and the user say.

#![expect(
    clippy::disallowed_methods,
    reason = "reads the machine's settings, before a root is touched"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use ebiko_oci::{DOCKER_HUB, Reference};
use ebiko_registry::{Registry, Routes};
use ebiko_transport::{Options, Proxies, Retrying, Transport};

use crate::cli::{Cli, Verbosity};
use crate::credentials::{self, Asking};
use crate::environment::Environment;
use crate::report::Reporter;

/// Where distributions keep their roots of trust in one file.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A mistake in a mount must not make the program read a disk image into memory.
const CERTIFICATE_LIMIT: u64 = 4 << 20;

/// Sets up the network: reads roots of trust, `resolv.conf` and `hosts`; sends nothing.
pub(crate) fn transport(
    environment: &Environment,
    reporter: &Arc<Reporter>,
) -> anyhow::Result<Transport> {
    let retry_reporter = Arc::clone(reporter);
    let options = Options {
        user_agent: user_agent(environment),
        roots: roots_of_trust(environment)?,
        proxies: proxies(environment),
        resolv_conf: std::fs::read("/etc/resolv.conf").unwrap_or_default(),
        hosts: std::fs::read("/etc/hosts").unwrap_or_default(),
        on_retry: Some(Arc::new(move |retrying| {
            retry_reporter.say(Verbosity::Warn, describe(retrying));
        })),
        ..Options::default()
    };
    Ok(Transport::new(&options)?)
}

/// Builds the client. Reads credentials, and runs the programs that know some if that must be now; sends nothing. Images
/// will be pushed to `pushes`.
pub(crate) fn registry(
    cli: &Cli,
    environment: &Environment,
    transport: Transport,
    asking: Asking,
    pushes: &[Reference],
    reporter: &Arc<Reporter>,
) -> anyhow::Result<Registry> {
    let reporter = Arc::clone(reporter);
    let routes = routes(cli, environment)?;
    let pushes = pushes.iter().map(|reference| reference.registry().to_owned());
    let registries: Vec<String> =
        pushes.chain(routes.hosts()).chain([DOCKER_HUB.to_owned()]).collect();
    let credentials = credentials::read(cli, environment, asking, &registries, &reporter)?;
    let registry = Registry::new(transport, credentials, routes);
    Ok(registry.with_warnings(move |text| reporter.say(Verbosity::Warn, text)))
}

fn describe(retrying: &Retrying) -> String {
    let Retrying { attempt, wait, url, reason, .. } = retrying;
    format!(
        "attempt {attempt} failed for {url}: {reason}; trying again in {:.1}s",
        wait.as_secs_f64()
    )
}

fn user_agent(environment: &Environment) -> String {
    let name = concat!("ebiko/", env!("CARGO_PKG_VERSION"));
    match environment.get_filled("UPSTREAM_CLIENT_TYPE") {
        Some(client) => format!("{name},{client}"),
        None => name.into(),
    }
}

/// `SSL_CERT_FILE` and every file in `SSL_CERT_DIR`, or the system's bundle. An executor image names its own
/// directory in `SSL_CERT_DIR`, and users mount further authorities into it.
fn roots_of_trust(environment: &Environment) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut files = Vec::new();
    if let Some(file) = environment.get_filled("SSL_CERT_FILE") {
        files.push(PathBuf::from(file));
    }
    for directory in environment.get_filled("SSL_CERT_DIR").unwrap_or_default().split(':') {
        if directory.is_empty() {
            continue;
        }
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        files.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    if files.is_empty() {
        files.extend(SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file()));
    }
    files.sort();
    files.iter().map(|file| read_certificates(file)).collect()
}

fn read_certificates(file: &Path) -> anyhow::Result<Vec<u8>> {
    let size = std::fs::metadata(file)
        .with_context(|| format!("cannot read the certificates in `{}`", file.display()))?
        .len();
    if size > CERTIFICATE_LIMIT {
        anyhow::bail!(
            "`{}` is too large to be a file of certificates ({size} bytes)",
            file.display()
        );
    }
    std::fs::read(file)
        .with_context(|| format!("cannot read the certificates in `{}`", file.display()))
}

/// The usual variables; of two spellings the lower-case one wins, as in curl.
fn proxies(environment: &Environment) -> Proxies {
    let value = |upper: &str| {
        environment
            .get_filled(&upper.to_ascii_lowercase())
            .or_else(|| environment.get_filled(upper))
            .map(str::to_owned)
    };
    Proxies {
        http: value("HTTP_PROXY"),
        https: value("HTTPS_PROXY"),
        no_proxy: value("NO_PROXY").unwrap_or_default(),
    }
}

fn routes(cli: &Cli, environment: &Environment) -> anyhow::Result<Routes> {
    let mut routes = Routes {
        insecure_push: cli.insecure,
        insecure_pull: cli.insecure_pull,
        insecure_registries: cli.insecure_registries.clone(),
        ..Routes::default()
    };
    let variable = |name| environment.get_filled(name).into_iter();
    for map in cli.registry_maps.iter().map(String::as_str).chain(variable("KANIKO_REGISTRY_MAP")) {
        routes.add_map(map)?;
    }
    let mirrors = cli.registry_mirrors.iter().map(String::as_str);
    for mirror in mirrors.chain(variable("KANIKO_REGISTRY_MIRROR")) {
        routes.add_mirror(mirror)?;
    }
    Ok(routes)
}
