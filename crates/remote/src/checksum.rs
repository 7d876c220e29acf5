//! `--checksum` of a file.

use std::fmt::{self, Write as _};

use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::DownloadErrorKind;

/// What a file's bytes must hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checksum {
    algorithm: Algorithm,
    hex: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha256,
    Sha384,
    Sha512,
}

impl Checksum {
    pub(crate) fn parse(text: &str) -> Result<Self, DownloadErrorKind> {
        let bad = || DownloadErrorKind::Checksum { checksum: text.to_owned() };
        let (name, hex) = text.split_once(':').ok_or_else(bad)?;
        let (algorithm, length) = match name {
            "sha256" => (Algorithm::Sha256, 64),
            "sha384" => (Algorithm::Sha384, 96),
            "sha512" => (Algorithm::Sha512, 128),
            _ => return Err(DownloadErrorKind::Algorithm { checksum: text.to_owned() }),
        };
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if hex.len() != length || !hex.bytes().all(is_digit) {
            return Err(bad());
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }

    pub(crate) fn hasher(&self) -> Hasher {
        match self.algorithm {
            Algorithm::Sha256 => Hasher::sha256(),
            Algorithm::Sha384 => Hasher::Sha384(Sha384::new()),
            Algorithm::Sha512 => Hasher::Sha512(Sha512::new()),
        }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.algorithm {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha384 => "sha384",
            Algorithm::Sha512 => "sha512",
        };
        write!(f, "{name}:{}", self.hex)
    }
}

/// Hashes bytes while they pass by.
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    pub(crate) fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha384(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest with its algorithm in front.
    pub(crate) fn finish(self) -> String {
        let (name, bytes) = match self {
            Self::Sha256(hasher) => ("sha256", hasher.finalize().to_vec()),
            Self::Sha384(hasher) => ("sha384", hasher.finalize().to_vec()),
            Self::Sha512(hasher) => ("sha512", hasher.finalize().to_vec()),
        };
        bytes.iter().fold(format!("{name}:"), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let actual = match Checksum::parse(text) {
            Ok(checksum) => checksum.hasher().finish(),
            Err(error) => error.to_string(),
        };
        assert!(actual.starts_with(expected), "{text}: {actual}");
    }

    #[test]
    fn three_algorithms_are_known() {
        check(&format!("sha256:{}", "0".repeat(64)), "sha256:e3b0c44298fc1c14");
        check(&format!("sha384:{}", "0".repeat(96)), "sha384:38b060a751ac9638");
        check(&format!("sha512:{}", "0".repeat(128)), "sha512:cf83e1357eefb8bd");
    }

    #[test]
    fn anything_else_is_refused() {
        check("md5:00", "unsupported digest algorithm");
        for text in ["", "sha256", "sha256:", "sha256:00", &format!("sha256:{}", "F".repeat(64))] {
            check(text, "invalid checksum digest format");
        }
    }
}
