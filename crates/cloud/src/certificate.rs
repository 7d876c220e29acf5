//! The certificate by which Azure's directory knows an application.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{KeyPair as _, RSA_PSS_SHA256, RsaKeyPair};
use serde_json::json;

use crate::jwt;
use crate::secret::Secret;

/// How long the directory may wait before it looks at an assertion, in seconds.
const LIFETIME: u64 = 600;

/// A certificate and its key.
pub(crate) struct Certificate {
    key: RsaKeyPair,
    /// The certificate first, then those of its authorities; DER.
    chain: Vec<Vec<u8>>,
    /// Whether the directory is shown the chain, for which an application may be set up to trust names and not keys.
    shows_chain: bool,
}

impl Certificate {
    /// Reads the certificate and its key from a file in PEM. What is wrong with it, otherwise, follows the file's name.
    pub(crate) fn read(text: &[u8], shows_chain: bool) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(text).map_err(|_| {
            "is not in PEM format; of PKCS #12 (`.pfx`, `.p12`) `openssl pkcs12 -nodes` makes it"
        })?;
        let (mut chain, mut key) = (Vec::new(), None);
        for (label, der) in blocks(text) {
            match label {
                "CERTIFICATE" => chain.push(der),
                "PRIVATE KEY" | "RSA PRIVATE KEY" => key = Some(der),
                "ENCRYPTED PRIVATE KEY" => {
                    return Err("has a key with a password, which is not supported");
                }
                _ => {}
            }
        }
        let key = key.ok_or("has no private key in PEM format")?;
        let key = jwt::key_pair(&key).ok_or("has a private key that is no RSA key")?;
        // A certificate has the public half of its key in the same form as this.
        let public = key.public_key().as_ref();
        let is_own = |der: &Vec<u8>| der.windows(public.len()).any(|part| part == public);
        let own = chain.iter().position(is_own).ok_or("has no certificate for its private key")?;
        chain.swap(0, own);
        Ok(Self { key, chain, shows_chain })
    }

    /// What the application `client` shows the directory at `audience` in the place of a secret.
    ///
    /// <https://learn.microsoft.com/entra/identity-platform/certificate-credentials>
    pub(crate) fn assertion(&self, client: &str, audience: &str, now: u64) -> Option<Secret> {
        let mut id = [0; 16];
        SystemRandom::new().fill(&mut id).ok()?;
        let thumbprint = digest(&SHA256, self.chain.first()?);
        let mut header = json!({
            "alg": "PS256", "typ": "JWT", "x5t#S256": URL_SAFE_NO_PAD.encode(thumbprint),
        });
        if self.shows_chain {
            header["x5c"] = self.chain.iter().map(|der| STANDARD.encode(der)).collect();
        }
        let claims = json!({
            "aud": audience, "iss": client, "sub": client, "jti": guid(id),
            "nbf": now, "exp": now.saturating_add(LIFETIME),
        });
        jwt::signed(&self.key, &RSA_PSS_SHA256, &header, &claims)
    }
}

/// So many random bytes as Microsoft writes what names one thing of all.
fn guid(bytes: [u8; 16]) -> String {
    let mut text = format!("{:032x}", u128::from_be_bytes(bytes));
    for place in [20, 16, 12, 8] {
        text.insert(place, '-');
    }
    text
}

/// The blocks of a text in PEM format: their labels and what is in them, in order. What is none is passed over.
fn blocks(text: &str) -> Vec<(&str, Vec<u8>)> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once("-----BEGIN ") {
        rest = begun;
        let Some((label, body)) = begun.split_once("-----") else { break };
        let Some((body, after)) = body.split_once(&format!("-----END {label}-----")) else {
            continue;
        };
        rest = after;
        let body: String = body.split_whitespace().collect();
        blocks.extend(STANDARD.decode(body).ok().map(|der| (label, der)));
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &[u8], expected: &str) {
        assert_eq!(Certificate::read(text, false).err(), Some(expected));
    }

    #[test]
    fn a_file_that_holds_no_certificate_with_its_key_says_why() {
        check(
            b"\x30\x82\xff\x00",
            "is not in PEM format; of PKCS #12 (`.pfx`, `.p12`) `openssl pkcs12 -nodes` makes it",
        );
        check(b"", "has no private key in PEM format");
        check(b"-----BEGIN PRIVATE KEY-----\nAAAA\n", "has no private key in PEM format");
        check(
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "has a private key that is no RSA key",
        );
        check(
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "has a key with a password, which is not supported",
        );
    }

    #[test]
    fn a_guid_has_five_parts() {
        assert_eq!(guid([1; 16]), "01010101-0101-0101-0101-010101010101");
    }

    #[test]
    fn blocks_are_found_between_other_lines() {
        let text = "Bag Attributes\n-----BEGIN A-----\nAAAA\nBBBB\n-----END A-----\nx\n\
                    -----BEGIN B-----\nAAAA\n-----END C-----\n-----BEGIN D-----\r\nAAAA\r\n-----END D-----";
        let labels: Vec<(&str, usize)> =
            blocks(text).into_iter().map(|(label, der)| (label, der.len())).collect();
        assert_eq!(labels, [("A", 6), ("D", 3)]);
    }
}
