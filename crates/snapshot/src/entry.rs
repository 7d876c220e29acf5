//! What is known of one file.

use std::fmt;
use std::io::{self, Read, Write};

use ebiko_rootfs::{DeviceNumber, Kind, Time, Xattrs};

/// What the index knows of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of `Metadata`")]
pub struct Entry {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of content; 0 for everything but regular files and links.
    pub size: u64,
    pub mtime: Time,
    pub ctime: Time,
    pub ino: u64,
    pub rdev: DeviceNumber,
    /// The content of a regular file or the target of a link, where somebody has read it.
    pub content: Option<ContentHash>,
    /// Whether the inode had more than one name.
    pub is_linked: bool,
}

/// 128 bits that stand for a file's content, a link's target or a set of extended attributes.
///
/// They are compared with nothing but earlier content of the same path in the same build, so half a BLAKE3 sum is
/// plenty: who could find a collision could only hide a change from their own image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub(crate) [u8; 16]);

impl ContentHash {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::short(&blake3::hash(bytes))
    }

    /// The hash of everything that `source` yields.
    pub fn of_reader(source: &mut dyn Read) -> io::Result<Self> {
        let mut hasher = ContentHasher::new();
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The hash of the extended attributes that layers record; `None` if there are none.
    pub(crate) fn of_xattrs(xattrs: &Xattrs) -> Option<Self> {
        let mut hasher = blake3::Hasher::new();
        let mut is_empty = true;
        for (name, value) in xattrs.iter().filter(|(name, _)| is_recorded_xattr(name)) {
            is_empty = false;
            // Framed by length, or `a`+`bc` and `ab`+`c` would be one.
            for part in [name, value] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        (!is_empty).then(|| Self::short(&hasher.finalize()))
    }

    fn short(sum: &blake3::Hash) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&sum.as_bytes()[..16]);
        Self(half)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Makes a [`ContentHash`] of bytes that pass by; writing to it never fails.
#[derive(Debug, Clone, Default)]
pub struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of everything seen.
    pub fn finish(&self) -> ContentHash {
        ContentHash::short(&self.0.finalize())
    }
}

impl Write for ContentHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether an extended attribute belongs to the image.
///
/// Labels and signatures that the machine's own security modules put on files do not: they would make every layer
/// differ from machine to machine, and other machines may not set them. Neither do overlayfs's own notes.
pub fn is_recorded_xattr(name: &[u8]) -> bool {
    if name.starts_with(b"security.") {
        return name == b"security.capability";
    }
    let is_overlay =
        [&b"trusted.overlay."[..], b"user.overlay."].iter().any(|prefix| name.starts_with(prefix));
    !is_overlay
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_the_machine_do_not_belong_to_the_image() {
        for (name, expected) in [
            ("security.capability", true),
            ("user.comment", true),
            ("system.posix_acl_access", true),
            ("trusted.note", true),
            ("security.selinux", false),
            ("security.ima", false),
            ("trusted.overlay.opaque", false),
            ("user.overlay.redirect", false),
        ] {
            assert_eq!(is_recorded_xattr(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn attribute_sets_that_concatenate_alike_differ() {
        let set = |name: &str, value: &str| {
            Xattrs::from([(format!("user.{name}").into_bytes(), value.as_bytes().to_vec())])
        };
        assert_ne!(
            ContentHash::of_xattrs(&set("a", "bc")),
            ContentHash::of_xattrs(&set("ab", "c"))
        );
        assert_eq!(ContentHash::of_xattrs(&Xattrs::new()), None);
        let label = Xattrs::from([(b"security.selinux".to_vec(), b"x".to_vec())]);
        assert_eq!(ContentHash::of_xattrs(&label), None);
    }

    #[test]
    fn a_reader_and_its_bytes_have_one_hash() {
        let bytes = vec![7; 300_000];
        assert_eq!(ContentHash::of_reader(&mut &bytes[..]).unwrap(), ContentHash::of(&bytes));
        let mut hasher = ContentHasher::new();
        bytes.chunks(999).for_each(|chunk| hasher.update(chunk));
        assert_eq!(hasher.finish(), ContentHash::of(&bytes));
    }
}
