//! Content addresses.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// 32 bytes of SHA-256, without a meaning of their own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Wraps bytes that are already a SHA-256 sum.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The sum of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The raw sum.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        let mut hex = String::with_capacity(64);
        for byte in self.0 {
            for nibble in [byte >> 4, byte & 15] {
                hex.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        hex
    }

    fn parse(text: &str) -> Result<Self, DigestError> {
        let error = |reason| DigestError { text: text.chars().take(100).collect(), reason };
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(error("it has no `algorithm:` in front"));
        };
        if algorithm != "sha256" {
            return Err(error("only sha256 is supported"));
        }
        let hex = hex.as_bytes();
        if hex.len() != 64 {
            return Err(error("a sha256 digest has 64 hexadecimal digits"));
        }
        let mut sum = [0; 32];
        for (byte, pair) in sum.iter_mut().zip(hex.chunks_exact(2)) {
            let (Some(high), Some(low)) = (nibble(pair[0]), nibble(pair[1])) else {
                return Err(error("it has something else than the digits 0-9 and a-f"));
            };
            *byte = high << 4 | low;
        }
        Ok(Self(sum))
    }
}

/// Upper case is refused: the digest is also a file name and a URL path, and must have one form.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// A text is not a digest that this program can verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message names every field")]
#[error("`{text}` is not a digest: {reason}")]
pub struct DigestError {
    pub text: String,
    pub reason: &'static str,
}

macro_rules! sha256_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Sha256);

        impl $name {
            /// Gives a sum its meaning.
            pub const fn new(sum: Sha256) -> Self {
                Self(sum)
            }

            /// The name of `bytes`.
            pub fn of(bytes: &[u8]) -> Self {
                Self(Sha256::of(bytes))
            }

            /// The sum without its meaning.
            pub const fn sha256(&self) -> Sha256 {
                self.0
            }

            /// 64 lower-case hexadecimal digits, safe as a file name.
            pub fn hex(&self) -> String {
                self.0.hex()
            }
        }

        impl From<Sha256> for $name {
            fn from(sum: Sha256) -> Self {
                Self(sum)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "sha256:{}", self.0.hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                Sha256::parse(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

sha256_name! {
    /// The digest of a blob exactly as it is stored and sent, usually compressed.
    Digest
}

sha256_name! {
    /// The digest of a layer's tar stream before compression.
    ///
    /// An image config lists its layers by `DiffId`; the manifest lists the same layers by
    /// [`Digest`]. They are two types so that the compiler, not a registry, reports a mix-up.
    DiffId
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

/// Sums bytes as they pass by.
///
/// As a [`Write`] it accepts everything and never fails.
#[derive(Clone, Default)]
pub struct Sha256Hasher(sha2::Sha256);

impl Sha256Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The sum of everything seen.
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

impl Write for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Sha256Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256Hasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(text: &str, reason: &str) {
        let error = text.parse::<Digest>().unwrap_err();
        assert_eq!(error.reason, reason, "parsing {text:?}");
    }

    #[test]
    fn the_digest_of_nothing_is_the_published_one() {
        // FIPS 180-4 example; also `sha256sum < /dev/null`.
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(b""));
        assert_eq!(Sha256Hasher::new().finish(), Sha256::of(b""));
    }

    #[test]
    fn a_digest_that_could_be_a_path_is_refused() {
        check_refused("sha256:../../../etc/passwd", "a sha256 digest has 64 hexadecimal digits");
        check_refused(
            &format!("sha256:{}", "../".repeat(21) + "x"),
            "it has something else than the digits 0-9 and a-f",
        );
    }

    #[test]
    fn other_forms_are_refused() {
        check_refused("", "it has no `algorithm:` in front");
        check_refused(&"a".repeat(64), "it has no `algorithm:` in front");
        check_refused(&format!("sha512:{}", "a".repeat(128)), "only sha256 is supported");
        check_refused(
            &format!("sha256:{}", "A".repeat(64)),
            "it has something else than the digits 0-9 and a-f",
        );
    }
}
