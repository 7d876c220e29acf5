//! Names of git objects.

use std::fmt;

use sha1_checked::{Digest as _, Sha1};

/// The SHA-1 of an object with its header.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId([u8; 20]);

impl ObjectId {
    /// How many bytes there are.
    pub(crate) const LENGTH: usize = 20;

    /// Reads 40 hexadecimal digits in lower case, as git writes them.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; Self::LENGTH];
        if text.len() != 2 * Self::LENGTH {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(bytes))
    }

    /// Takes 20 bytes as they are.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Commit,
    Tree,
    Blob,
    Tag,
}

impl Kind {
    pub(crate) fn parse(name: &[u8]) -> Option<Self> {
        [Self::Commit, Self::Tree, Self::Blob, Self::Tag]
            .into_iter()
            .find(|kind| kind.name().as_bytes() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }
}

/// Names bytes while they pass by.
///
/// The hash is the one with collision detection: two files of one SHA-1 can be made since 2017, and git refuses them,
/// too. A collision hashes to something else and so fails like any damage.
pub(crate) struct ObjectHasher(Sha1);

impl ObjectHasher {
    /// Starts with an object's header.
    pub(crate) fn object(kind: Kind, size: u64) -> Self {
        let mut hasher = Self::plain();
        hasher.update(format!("{} {size}\0", kind.name()).as_bytes());
        hasher
    }

    /// Starts with nothing, for the checksum at the end of a pack.
    pub(crate) fn plain() -> Self {
        Self(Sha1::builder().detect_collision(true).safe_hash(true).build())
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> ObjectId {
        let mut bytes = [0; ObjectId::LENGTH];
        bytes.copy_from_slice(&self.0.finalize());
        ObjectId(bytes)
    }
}

/// The name of an object that is in memory.
pub(crate) fn hash_object(kind: Kind, data: &[u8]) -> ObjectId {
    let mut hasher = ObjectHasher::object(kind, data.len() as u64);
    hasher.update(data);
    hasher.finish()
}

/// Whether `text` is the whole name of an object, in SHA-1 or SHA-256.
pub(crate) fn is_whole_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_blob_and_the_empty_tree_have_gits_names() {
        let blob = hash_object(Kind::Blob, b"").to_string();
        assert_eq!(blob, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        let tree = hash_object(Kind::Tree, b"").to_string();
        assert_eq!(tree, "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
    }

    #[test]
    fn only_forty_lower_case_digits_are_a_name() {
        let text = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
        assert_eq!(ObjectId::parse(text.as_bytes()).map(|id| id.to_string()), Some(text.into()));
        for wrong in ["", "4b", &text.to_uppercase(), &format!("{text}0"), &text.replace('4', "g")]
        {
            assert_eq!(ObjectId::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
