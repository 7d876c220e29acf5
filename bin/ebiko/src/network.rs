//! The registry client, set up from what the machine and the user say.

#![expect(
    clippy::disallowed_methods,
    reason = "reads the machine's settings, before a root is touched"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ebiko_oci::{DOCKER_HUB, Reference};
use ebiko_registry::{Direction, Progress, Registry, Routes, Settings};
use ebiko_transport::{ClientIdentity, HostTls, Options, Proxies, Retrying, Transport};

use crate::cli::Verbosity;
use crate::credentials::{self, Asking};
use crate::environment::Environment;
use crate::flags::RegistryFlags;
use crate::network_flags::NetworkFlags;
use crate::report::{Reporter, bytes, short};

/// Where distributions keep their roots of trust in one file.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where an executor image has them, and where its users mount theirs.
const IMAGE_CERTIFICATES: &str = "/kaniko/ssl/certs";

/// A blob that takes longer is told of, again and again.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// A mistake in a mount must not make the program read a disk image into memory.
const CERTIFICATE_LIMIT: u64 = 4 << 20;

/// Sets up the network: reads roots of trust, `resolv.conf` and `hosts`; sends nothing.
pub(crate) fn transport(
    flags: &RegistryFlags,
    environment: &Environment,
    reporter: &Arc<Reporter>,
) -> anyhow::Result<Transport> {
    let retry_reporter = Arc::clone(reporter);
    let options = Options {
        user_agent: user_agent(environment),
        roots: roots_of_trust(environment)?,
        hosts_with_special_tls: hosts_with_special_tls(&flags.pull.network, environment)?,
        allowed_hosts: flags.pull.network.registry_redirects.clone(),
        // kaniko's name for it.
        is_http1_only: environment.get_bool("FF_KANIKO_DISABLE_HTTP2")?.unwrap_or(false),
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
    flags: &RegistryFlags,
    environment: &Environment,
    transport: Transport,
    asking: Asking,
    known: &[Reference],
    reporter: &Arc<Reporter>,
) -> anyhow::Result<Registry> {
    for warning in unverified(&flags.pull.network) {
        reporter.say(Verbosity::Warn, warning);
    }
    let (warnings, progress) = (Arc::clone(reporter), Arc::clone(reporter));
    let routes = routes(flags, environment)?;
    let known = known.iter().map(|reference| reference.registry().to_owned());
    let registries: Vec<String> =
        known.chain(routes.hosts()).chain([DOCKER_HUB.to_owned()]).collect();
    let credentials =
        credentials::read(&flags.pull.credentials, environment, asking, &registries, reporter)?;
    let registry = Registry::new(transport, credentials, routes);
    Ok(registry
        .with_settings(Settings {
            push_retries: flags.push_retry,
            download_retries: flags.pull.network.image_download_retry,
            layer_retries: flags.pull.network.image_fs_extract_retry,
            ignores_immutable_tags: flags.push_ignore_immutable_tag_errors,
        })
        .with_warnings(move |text| warnings.say(Verbosity::Warn, text))
        .with_progress(PROGRESS_EVERY, move |at| progress.say(Verbosity::Info, on_its_way(at))))
}

/// What the user should see who has turned the verification of certificates off.
fn unverified(flags: &NetworkFlags) -> Vec<String> {
    let what = match (flags.skip_tls_verify, flags.skip_tls_verify_pull) {
        (true, _) => Some("the certificates of registries are not verified (--skip-tls-verify)"),
        (false, true) => Some(
            "the certificates of registries are not verified for pulls (--skip-tls-verify-pull)",
        ),
        (false, false) => None,
    };
    let one = |host: &String| {
        format!("the certificate of `{host}` is not verified (--skip-tls-verify-registry)")
    };
    what.map(str::to_owned)
        .into_iter()
        .chain(flags.skip_tls_verify_registries.iter().map(one))
        .collect()
}

/// How far a blob is, for somebody who wonders whether anything happens.
fn on_its_way(at: &Progress) -> String {
    let verb = match at.direction {
        Direction::ToRegistry => "sending",
        Direction::FromRegistry => "fetching",
    };
    let what = at.digest.map_or_else(
        || "a layer that is still being made".to_owned(),
        |digest| short(&digest.to_string()),
    );
    match at.total {
        Some(total) => format!("{verb} {what}: {} of {}", bytes(at.done), bytes(total)),
        None => format!("{verb} {what}: {}", bytes(at.done)),
    }
}

/// What the flags say of single hosts. The files are read now, because the first layer may replace them.
fn hosts_with_special_tls(
    flags: &NetworkFlags,
    environment: &Environment,
) -> anyhow::Result<Vec<HostTls>> {
    let read = |file: &Path| read_certificates(&environment.absolute(file));
    let mut hosts = Vec::new();
    for (host, file) in &flags.registry_certificates {
        let host = ebiko_registry::api_host(host);
        hosts.push(HostTls { host, roots: vec![read(file)?], identity: None });
    }
    for (host, certificate, key) in &flags.registry_client_certs {
        let identity = ClientIdentity { certificates: read(certificate)?, key: read(key)? };
        let host = ebiko_registry::api_host(host);
        hosts.push(HostTls { host, roots: Vec::new(), identity: Some(identity) });
    }
    Ok(hosts)
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

/// `SSL_CERT_FILE`, or the system's bundle; and every file in `SSL_CERT_DIR`, or in the directory of an executor image, into
/// which users mount further authorities. Go programs read them so.
fn roots_of_trust(environment: &Environment) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut files = Vec::new();
    match environment.get_filled("SSL_CERT_FILE") {
        Some(file) => files.push(PathBuf::from(file)),
        None => files.extend(SYSTEM_BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file())),
    }
    for directory in environment.get_filled("SSL_CERT_DIR").unwrap_or(IMAGE_CERTIFICATES).split(':')
    {
        if directory.is_empty() {
            continue;
        }
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        files.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    files.sort();
    files.dedup();
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

fn routes(flags: &RegistryFlags, environment: &Environment) -> anyhow::Result<Routes> {
    let mut routes = Routes {
        insecure_push: flags.insecure,
        insecure_pull: flags.pull.insecure_pull,
        insecure_registries: flags.pull.insecure_registries.clone(),
        unverified: flags.pull.network.skip_tls_verify,
        unverified_pull: flags.pull.network.skip_tls_verify_pull,
        unverified_registries: flags.pull.network.skip_tls_verify_registries.clone(),
        skips_fallback: flags.pull.network.skip_default_registry_fallback,
        ..Routes::default()
    };
    let variable = |name| environment.get_filled(name).into_iter();
    for map in
        flags.pull.registry_maps.iter().map(String::as_str).chain(variable("KANIKO_REGISTRY_MAP"))
    {
        routes.add_map(map)?;
    }
    let mirrors = flags.pull.registry_mirrors.iter().map(String::as_str);
    for mirror in mirrors.chain(variable("KANIKO_REGISTRY_MIRROR")) {
        routes.add_mirror(mirror)?;
    }
    Ok(routes)
}

#[cfg(test)]
mod tests {
    use ebiko_oci::Digest;

    use super::*;

    #[test]
    fn authorities_come_from_a_file_and_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let mounted = directory.path().join("certs");
        std::fs::create_dir_all(mounted.join("not-a-file")).unwrap();
        let write = |path: &Path| {
            std::fs::write(path, path.file_name().unwrap().as_encoded_bytes()).unwrap();
            path.display().to_string()
        };
        let file = write(&directory.path().join("bundle"));
        write(&mounted.join("own.pem"));
        let place = mounted.display().to_string();
        let roots = |variables: [(&str, &str); 2]| {
            let roots = roots_of_trust(&Environment::of(variables)).unwrap();
            let is_ours = |text: &&Vec<u8>| text.len() < 100;
            let names = roots.iter().filter(is_ours).map(|text| String::from_utf8_lossy(text));
            (roots.len(), names.collect::<Vec<_>>().join(" "))
        };
        let both = roots([("SSL_CERT_FILE", &file), ("SSL_CERT_DIR", &place)]);
        assert_eq!(both, (2, "bundle own.pem".into()));
        // The directory does not make the public authorities unknown.
        let has_bundle = SYSTEM_BUNDLES.iter().any(|path| Path::new(path).is_file());
        let mounted = roots([("SSL_CERT_DIR", &place), ("HOME", "/")]);
        assert_eq!(mounted, (1 + usize::from(has_bundle), "own.pem".into()));
    }

    #[test]
    fn a_long_transfer_is_told_in_sizes() {
        let digest = Digest::of(b"");
        let mut at = Progress {
            direction: Direction::ToRegistry,
            digest: Some(digest),
            done: 3 << 29,
            total: Some(2 << 30),
        };
        assert_eq!(on_its_way(&at), "sending sha256:e3b0c44298fc: 1.5 GiB of 2.0 GiB");
        at = Progress { direction: Direction::FromRegistry, total: None, ..at };
        assert_eq!(on_its_way(&at), "fetching sha256:e3b0c44298fc: 1.5 GiB");
        at = Progress { digest: None, direction: Direction::ToRegistry, ..at };
        assert_eq!(on_its_way(&at), "sending a layer that is still being made: 1.5 GiB");
    }

    #[test]
    fn who_verifies_nobody_is_told_so() {
        let flags = NetworkFlags {
            skip_tls_verify: true,
            skip_tls_verify_registries: vec!["r.io".into()],
            ..NetworkFlags::default()
        };
        assert_eq!(
            unverified(&flags),
            [
                "the certificates of registries are not verified (--skip-tls-verify)",
                "the certificate of `r.io` is not verified (--skip-tls-verify-registry)"
            ]
        );
        let flags = NetworkFlags { skip_tls_verify_pull: true, ..NetworkFlags::default() };
        assert_eq!(unverified(&flags).len(), 1);
        assert!(unverified(&NetworkFlags::default()).is_empty());
    }
}
