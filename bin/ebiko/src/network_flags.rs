//! The flags that are about registries and the way there: kaniko's, and one more.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};

/// A part of the command line.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct NetworkFlags {
    /// Push and pull without verifying the certificates of registries: whoever is on the way can read credentials and
    /// change images
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) skip_tls_verify: bool,

    /// Pull without verifying the certificates of registries
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) skip_tls_verify_pull: bool,

    /// Do not verify the certificate of this registry; those of hosts that it sends us to are verified
    /// (repeatable)
    #[arg(long = "skip-tls-verify-registry", value_name = "HOST[:PORT]")]
    pub(crate) skip_tls_verify_registries: Vec<String>,

    /// Trust the certificates in this file, too, when talking to this registry (repeatable)
    #[arg(long = "registry-certificate", value_name = "HOST[:PORT]=FILE", value_parser = certificate)]
    pub(crate) registry_certificates: Vec<(String, PathBuf)>,

    /// Show this registry, and nobody else, a certificate (repeatable)
    #[arg(long = "registry-client-cert", value_name = "HOST[:PORT]=CERTIFICATE,KEY",
          value_parser = client_certificate)]
    pub(crate) registry_client_certs: Vec<(String, PathBuf, PathBuf)>,

    /// Let registries send us to this host although its address is private, such as a storage of your own; also
    /// a range of addresses (repeatable)
    #[arg(long = "registry-redirect", value_name = "HOST[:PORT]|ADDRESSES",
          value_parser = clap::value_parser!(ebiko_transport::AllowedHost))]
    pub(crate) registry_redirects: Vec<ebiko_transport::AllowedHost>,

    /// Fail where no place of --registry-map or --registry-mirror has an image, instead of asking the registry
    /// itself
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value = "false", default_missing_value = "true",
          hide_default_value = true, value_name = "BOOL", value_parser = BoolishValueParser::new())]
    pub(crate) skip_default_registry_fallback: bool,

    /// Repeat a failed request for a manifest this many times more than the usual four
    #[arg(long, value_name = "NUMBER", default_value = "0", value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(crate) image_download_retry: u32,

    /// Ask for a layer that breaks off this many times more than the usual four
    #[arg(long, value_name = "NUMBER", default_value = "0", value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(crate) image_fs_extract_retry: u32,
}

/// `HOST=FILE`.
fn certificate(text: &str) -> Result<(String, PathBuf), String> {
    let (host, file) = host_and_value(text)?;
    Ok((host.to_owned(), file.into()))
}

/// `HOST=CERTIFICATE,KEY`.
fn client_certificate(text: &str) -> Result<(String, PathBuf, PathBuf), String> {
    let (host, files) = host_and_value(text)?;
    match files.split_once(',') {
        Some((certificate, key)) if !certificate.is_empty() && !key.is_empty() => {
            Ok((host.to_owned(), certificate.into(), key.into()))
        }
        _ => Err("two files are wanted, with a comma between them".into()),
    }
}

fn host_and_value(text: &str) -> Result<(&str, &str), String> {
    match text.split_once('=') {
        Some((host, value)) if !host.is_empty() && !value.is_empty() => Ok((host, value)),
        _ => Err("it must have the form HOST[:PORT]=FILE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_files_are_told_apart() {
        assert_eq!(certificate("r.io:5000=/a=b").unwrap(), ("r.io:5000".into(), "/a=b".into()));
        assert_eq!(
            client_certificate("r.io=/c,/k").unwrap(),
            ("r.io".into(), "/c".into(), "/k".into())
        );
        for text in ["", "r.io", "=x", "r.io="] {
            assert!(certificate(text).is_err(), "{text}");
        }
        for text in ["r.io=/c", "r.io=/c,", "r.io=,/k"] {
            assert!(client_certificate(text).is_err(), "{text}");
        }
    }
}
