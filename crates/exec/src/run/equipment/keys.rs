//! Private keys, as `ssh-keygen` and OpenSSL write them, and what an agent does with them.
//!
//! Only the formats are read here; the mathematics are `ring`'s. Keys with a passphrase are refused, because there is
//! nobody to ask.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use num_bigint::BigUint;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaKeyPair,
};

/// A private key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum KeyError {
    #[error("this is no private key in PEM or OpenSSH format")]
    Format,
    #[error("the key is encrypted")]
    Encrypted,
    #[error("keys of the type {0} are not supported")]
    Type(String),
    #[error("the key is damaged, or too weak: {0}")]
    Rejected(String),
}

impl KeyError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Format => Some("give the private key itself, not the `.pub` file"),
            Self::Encrypted => Some(
                "load the key into an agent (`ssh-add`) and give the agent's socket, or take the passphrase away (`ssh-keygen -p`)",
            ),
            Self::Type(_) => {
                Some("RSA from 2048 to 4096 bits, Ed25519, ECDSA P-256 and P-384 are supported")
            }
            Self::Rejected(_) => None,
        }
    }
}

/// The keys of one agent.
pub(super) struct Keys(Vec<Key>);

struct Key {
    /// The public key as SSH writes it.
    public: Vec<u8>,
    comment: Vec<u8>,
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair, &'static Curve),
}

/// What the names of one elliptic curve are.
struct Curve {
    algorithm: &'static EcdsaSigningAlgorithm,
    ssh: &'static str,
    name: &'static str,
    /// The object identifier as DER writes it, without tag and length.
    oid: &'static [u8],
}

static CURVES: [Curve; 2] = [
    Curve {
        algorithm: &ECDSA_P256_SHA256_FIXED_SIGNING,
        ssh: "ecdsa-sha2-nistp256",
        name: "nistp256",
        oid: &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
    },
    Curve {
        algorithm: &ECDSA_P384_SHA384_FIXED_SIGNING,
        ssh: "ecdsa-sha2-nistp384",
        name: "nistp384",
        oid: &[0x2b, 0x81, 0x04, 0x00, 0x22],
    },
];

const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// Reads one key from each file.
    pub(super) fn parse<'a>(files: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, KeyError> {
        files.into_iter().map(parse_file).collect::<Result<_, _>>().map(Self)
    }

    /// The body of an answer to a request for identities.
    pub(super) fn identities(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(length(self.0.len()));
        for key in &self.0 {
            put(&mut body, &key.public);
            put(&mut body, &key.comment);
        }
        body
    }

    /// The body of an answer to a request for a signature; `None` where there is no such key or it does not sign so.
    pub(super) fn sign(&self, request: &[u8]) -> Option<Vec<u8>> {
        let mut request = Reader(request);
        let (public, data, flags) = (request.string()?, request.string()?, request.number()?);
        let key = self.0.iter().find(|key| key.public == public)?;
        let (name, signature) = key.pair.sign(data, flags)?;
        let mut signed = Vec::new();
        put(&mut signed, name.as_bytes());
        put(&mut signed, &signature);
        let mut body = Vec::new();
        put(&mut body, &signed);
        Some(body)
    }
}

impl Pair {
    fn sign(&self, data: &[u8], flags: u32) -> Option<(&'static str, Vec<u8>)> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let (name, padding) = if flags & RSA_SHA2_512 != 0 {
                    ("rsa-sha2-512", &RSA_PKCS1_SHA512)
                } else if flags & RSA_SHA2_256 != 0 {
                    ("rsa-sha2-256", &RSA_PKCS1_SHA256)
                } else {
                    // SHA-1, which servers of today refuse.
                    return None;
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, data, &mut signature).ok()?;
                Some((name, signature))
            }
            Self::Ed25519(pair) => Some(("ssh-ed25519", pair.sign(data).as_ref().to_vec())),
            Self::Ecdsa(pair, curve) => {
                let signature = pair.sign(&random, data).ok()?;
                let (r, s) = signature.as_ref().split_at(signature.as_ref().len() / 2);
                let mut both = Vec::new();
                put_integer(&mut both, r);
                put_integer(&mut both, s);
                Some((curve.ssh, both))
            }
        }
    }

    fn public(&self) -> Vec<u8> {
        let mut public = Vec::new();
        match self {
            Self::Rsa(pair) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                put(&mut public, b"ssh-rsa");
                put_integer(&mut public, &e);
                put_integer(&mut public, &n);
            }
            Self::Ed25519(pair) => {
                put(&mut public, b"ssh-ed25519");
                put(&mut public, pair.public_key().as_ref());
            }
            Self::Ecdsa(pair, curve) => {
                put(&mut public, curve.ssh.as_bytes());
                put(&mut public, curve.name.as_bytes());
                put(&mut public, pair.public_key().as_ref());
            }
        }
        public
    }
}

fn rejected(error: &ring::error::KeyRejected) -> KeyError {
    KeyError::Rejected(error.to_string())
}

fn parse_file(file: &[u8]) -> Result<Key, KeyError> {
    let text = str::from_utf8(file).map_err(|_| KeyError::Format)?;
    let (label, body) = pem_block(text).ok_or(KeyError::Format)?;
    if label == "ENCRYPTED PRIVATE KEY" || body.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(KeyError::Encrypted);
    }
    let packed: String = body.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(packed).map_err(|_| KeyError::Format)?;
    let (pair, comment) = match label {
        "OPENSSH PRIVATE KEY" => parse_openssh(&bytes)?,
        "RSA PRIVATE KEY" => {
            let pair = RsaKeyPair::from_der(&bytes).map_err(|error| rejected(&error))?;
            (Pair::Rsa(Box::new(pair)), Vec::new())
        }
        "EC PRIVATE KEY" => (parse_sec1(&bytes)?, Vec::new()),
        "PRIVATE KEY" => (parse_pkcs8(&bytes)?, Vec::new()),
        other => return Err(KeyError::Type(other.to_owned())),
    };
    Ok(Key { public: pair.public(), comment, pair })
}

/// The label and the body of the first private key.
fn pem_block(text: &str) -> Option<(&str, &str)> {
    let mut rest = text;
    loop {
        let (_, after) = rest.split_once("-----BEGIN ")?;
        let (label, after) = after.split_once("-----")?;
        if label.ends_with("PRIVATE KEY") {
            let (body, _) = after.split_once("-----END ")?;
            return Some((label, body));
        }
        rest = after;
    }
}

fn parse_pkcs8(bytes: &[u8]) -> Result<Pair, KeyError> {
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes) {
        return Ok(Pair::Ed25519(pair));
    }
    for curve in &CURVES {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(curve.algorithm, bytes, &SystemRandom::new()) {
            return Ok(Pair::Ecdsa(pair, curve));
        }
    }
    let pair = RsaKeyPair::from_pkcs8(bytes).map_err(|error| rejected(&error))?;
    Ok(Pair::Rsa(Box::new(pair)))
}

/// `ECPrivateKey` of RFC 5915, as OpenSSL writes it: with the curve and the public key.
fn parse_sec1(bytes: &[u8]) -> Result<Pair, KeyError> {
    let parse = || {
        let (0x30, body, _) = der_value(bytes)? else { return None };
        let (0x02, _version, rest) = der_value(body)? else { return None };
        let (0x04, private, rest) = der_value(rest)? else { return None };
        let (0xa0, parameters, rest) = der_value(rest)? else { return None };
        let (0x06, oid, _) = der_value(parameters)? else { return None };
        let (0xa1, public, _) = der_value(rest)? else { return None };
        let (0x03, public, _) = der_value(public)? else { return None };
        // The first byte of a bit string says how many bits are missing.
        Some((private, oid, public.strip_prefix(&[0])?))
    };
    let (private, oid, public) = parse().ok_or(KeyError::Format)?;
    let curve = CURVES.iter().find(|curve| curve.oid == oid);
    let curve = curve.ok_or_else(|| KeyError::Type("EC of this curve".to_owned()))?;
    ecdsa(curve, private, public)
}

fn ecdsa(curve: &'static Curve, private: &[u8], public: &[u8]) -> Result<Pair, KeyError> {
    EcdsaKeyPair::from_private_key_and_public_key(
        curve.algorithm,
        private,
        public,
        &SystemRandom::new(),
    )
    .map(|pair| Pair::Ecdsa(pair, curve))
    .map_err(|error| rejected(&error))
}

/// Tag, content and what comes after it, of one value in DER.
fn der_value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        let length = digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit));
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `openssh-key-v1`, of which the first key is taken.
fn parse_openssh(bytes: &[u8]) -> Result<(Pair, Vec<u8>), KeyError> {
    let body = bytes.strip_prefix(b"openssh-key-v1\0").ok_or(KeyError::Format)?;
    let (cipher, private) = openssh_parts(Reader(body)).ok_or(KeyError::Format)?;
    if cipher != b"none" {
        return Err(KeyError::Encrypted);
    }
    let mut private = Reader(private);
    // Two equal numbers, by which a wrong passphrase would be noticed.
    let checks = (private.number(), private.number());
    if checks.0.is_none() || checks.0 != checks.1 {
        return Err(KeyError::Format);
    }
    let kind = private.string().ok_or(KeyError::Format)?;
    let pair = match kind {
        b"ssh-rsa" => openssh_rsa(&mut private)?,
        b"ssh-ed25519" => openssh_ed25519(&mut private)?,
        _ => openssh_ecdsa(kind, &mut private)?,
    };
    Ok((pair, private.string().unwrap_or_default().to_vec()))
}

/// The name of the cipher and the private part.
fn openssh_parts(mut reader: Reader<'_>) -> Option<(&[u8], &[u8])> {
    let (cipher, _kdf, _options) = (reader.string()?, reader.string()?, reader.string()?);
    let (_count, _public) = (reader.number()?, reader.string()?);
    Some((cipher, reader.string()?))
}

fn openssh_rsa(private: &mut Reader<'_>) -> Result<Pair, KeyError> {
    let mut next = || private.string().map(BigUint::from_bytes_be).ok_or(KeyError::Format);
    let (modulus, exponent, secret) = (next()?, next()?, next()?);
    let (inverse, first, second) = (next()?, next()?, next()?);
    let one = BigUint::from(1_u8);
    if first <= one || second <= one {
        return Err(KeyError::Format);
    }
    let components = KeyPairComponents {
        dP: (&secret % (&first - &one)).to_bytes_be(),
        dQ: (&secret % (&second - &one)).to_bytes_be(),
        public_key: PublicKeyComponents { n: modulus.to_bytes_be(), e: exponent.to_bytes_be() },
        d: secret.to_bytes_be(),
        p: first.to_bytes_be(),
        q: second.to_bytes_be(),
        qInv: inverse.to_bytes_be(),
    };
    let pair = RsaKeyPair::from_components(&components).map_err(|error| rejected(&error))?;
    Ok(Pair::Rsa(Box::new(pair)))
}

fn openssh_ed25519(private: &mut Reader<'_>) -> Result<Pair, KeyError> {
    let public = private.string().ok_or(KeyError::Format)?;
    // The seed, and the public key once more.
    let both = private.string().ok_or(KeyError::Format)?;
    let (seed, _) = both.split_at_checked(32).ok_or(KeyError::Format)?;
    let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public);
    pair.map(Pair::Ed25519).map_err(|error| rejected(&error))
}

fn openssh_ecdsa(kind: &[u8], private: &mut Reader<'_>) -> Result<Pair, KeyError> {
    let curve = CURVES.iter().find(|curve| curve.ssh.as_bytes() == kind);
    let curve = curve.ok_or_else(|| KeyError::Type(String::from_utf8_lossy(kind).into_owned()))?;
    let _name = private.string().ok_or(KeyError::Format)?;
    let public = private.string().ok_or(KeyError::Format)?;
    let number = private.string().ok_or(KeyError::Format)?;
    // A point is one byte and two numbers, and the private number is as long as one of these.
    let size = public.len().saturating_sub(1) / 2;
    let number = number.strip_prefix(&[0]).filter(|_| number.len() > size).unwrap_or(number);
    let mut padded = vec![0; size.saturating_sub(number.len())];
    padded.extend_from_slice(number);
    ecdsa(curve, &padded, public)
}

/// Reads what SSH writes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

fn put(to: &mut Vec<u8>, string: &[u8]) {
    to.extend(length(string.len()));
    to.extend_from_slice(string);
}

/// A positive number: without leading zeros, but with one where the first bit would be a sign.
fn put_integer(to: &mut Vec<u8>, number: &[u8]) {
    let start = number.iter().position(|&byte| byte != 0).unwrap_or(number.len());
    let digits = &number[start..];
    if digits.first().is_some_and(|&first| first >= 0x80) {
        put(to, &[&[0], digits].concat());
    } else {
        put(to, digits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_ssh_reads_them() {
        let written = |number: &[u8]| {
            let mut bytes = Vec::new();
            put_integer(&mut bytes, number);
            bytes
        };
        assert_eq!(written(&[0, 0, 0x7f]), [0, 0, 0, 1, 0x7f]);
        assert_eq!(written(&[0x80]), [0, 0, 0, 2, 0, 0x80]);
        assert_eq!(written(&[0, 0]), [0, 0, 0, 0]);
    }

    #[test]
    fn what_is_no_key_is_refused_without_a_word_about_its_content() {
        for (text, expected) in [
            ("ssh-ed25519 AAAA comment", KeyError::Format),
            ("-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----", KeyError::Format),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----",
                KeyError::Format,
            ),
            (
                "-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----",
                KeyError::Format,
            ),
            (
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----",
                KeyError::Encrypted,
            ),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----",
                KeyError::Encrypted,
            ),
            (
                "-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----",
                KeyError::Type("DSA PRIVATE KEY".to_owned()),
            ),
        ] {
            assert_eq!(Keys::parse([text.as_bytes()]).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn a_request_that_is_cut_is_not_answered() {
        let keys = Keys::parse([]).unwrap();
        for request in [&[][..], &[0, 0, 0, 9, 1], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(keys.sign(request), None);
        }
    }
}
