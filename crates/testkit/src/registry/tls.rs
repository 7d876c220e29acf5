//! A certificate for a server on loopback, signed by an authority of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::capture;

/// The directory that is handed to clients: the authority's certificate and nothing else.
pub(super) const DIRECTORY: &str = "authority";
pub(super) const AUTHORITY: &str = "authority/ca.crt";
pub(super) const SERVER: &str = "server.crt";
pub(super) const SERVER_KEY: &str = "server.key";

/// A new RSA key, PKCS #8 in PEM.
///
/// # Errors
///
/// Fails if `openssl` is missing.
pub fn rsa_key() -> anyhow::Result<String> {
    let mut command = Command::new("openssl");
    let key = capture(command.args(["genpkey", "-quiet", "-algorithm", "RSA"]))?;
    Ok(String::from_utf8(key)?)
}

/// A new RSA key and a certificate of it that it has signed itself, both in PEM.
///
/// # Errors
///
/// Fails if `openssl` is missing.
pub fn self_signed() -> anyhow::Result<String> {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
    let text = capture(command.args(["-subj", "/CN=an application", "-keyout", "-", "-out", "-"]))?;
    Ok(String::from_utf8(text)?)
}

/// A server's certificate and who has signed it, as files in PEM.
#[derive(Debug)]
pub struct Certificate {
    /// The authority's certificate, for clients.
    pub authority: PathBuf,
    /// The server's certificate.
    pub chain: PathBuf,
    /// The server's key.
    pub key: PathBuf,
}

/// Makes a certificate in `dir` for a server on loopback that has these names.
///
/// # Errors
///
/// Fails if `openssl` is missing.
pub fn certificate(dir: &Path, names: &[&str]) -> anyhow::Result<Certificate> {
    issue_for(dir, names)?;
    let [authority, chain, key] = [AUTHORITY, SERVER, SERVER_KEY].map(|name| dir.join(name));
    Ok(Certificate { authority, chain, key })
}

/// Issues both into `dir`. Two certificates, because rustls does not accept an authority as a server.
pub(super) fn issue(dir: &Path) -> anyhow::Result<()> {
    issue_for(dir, &["localhost", "registry.test"])
}

/// A certificate for a server of these names, and `127.0.0.1`: `server.crt` and `server.key` in `dir`, and the authority's
/// in `authority/ca.crt`.
///
/// # Errors
///
/// Fails if `openssl` is missing.
pub fn issue_for(dir: &Path, names: &[&str]) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir.join(DIRECTORY))?;
    let names = names.join(",DNS:");
    let extension = format!("subjectAltName=IP:127.0.0.1,DNS:{names}\n");
    std::fs::write(dir.join("server.ext"), extension)?;
    let new_key = ["-newkey", "rsa:2048", "-nodes", "-keyout"];
    let openssl = |args: &[&[&str]]| {
        let mut command = Command::new("openssl");
        capture(command.args(args.concat()).current_dir(dir)).map(drop)
    };
    let authority = ["-out", AUTHORITY, "-days", "2", "-subj", "/CN=testkit authority"];
    openssl(&[&["req", "-x509"], &new_key, &["ca.key"], &authority])?;
    openssl(&[
        &["req", "-new"],
        &new_key,
        &[SERVER_KEY, "-out", "server.csr", "-subj", "/CN=localhost"],
    ])?;
    let signed_by = ["-CA", AUTHORITY, "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"];
    openssl(&[
        &["x509", "-req", "-in", "server.csr", "-out", SERVER, "-extfile", "server.ext"],
        &signed_by,
    ])
}
