//! Paths beneath a root.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};

/// A path beneath a root, such as `etc/passwd`. The empty path is the root itself.
///
/// Invariant: relative, bytes without NUL, no empty, `.` or `..` component. Joining it to a root cannot climb
/// out of that root by spelling alone; symbolic links are the business of [`Root`](crate::Root).
///
/// The order is by component, so a directory sorts directly before what is in it: `a`, `a/b`, `a-b`.
///
/// # Examples
///
/// ```
/// # use ebiko_rootfs::RootPath;
/// let work_dir = RootPath::parse(b"/srv/app")?;
/// assert_eq!(RootPath::resolve(&work_dir, b"../data")?.to_string(), "srv/data");
/// assert_eq!(RootPath::resolve(&work_dir, b"/../etc")?.to_string(), "etc");
/// # Ok::<(), ebiko_rootfs::RootPathError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RootPath(Box<[u8]>);

/// Why some bytes do not name a file beneath a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum RootPathError {
    #[error("`{}` leaves the root through `..`", shown(raw))]
    Climbs { raw: Box<[u8]> },
    #[error("`{}` holds a NUL byte", shown(raw))]
    Nul { raw: Box<[u8]> },
    #[error("`{}` is not the name of one file", shown(name))]
    Name { name: Box<[u8]> },
}

impl RootPath {
    /// The root itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Reads a path as a tar header spells it: a leading `/` and `.` components are dropped.
    ///
    /// A `..` that stays inside (`a/../b`) is also refused: what it means depends on whether `a` is a link,
    /// and nobody who spells a name in an archive that way means well. Paths in a Dockerfile are joined to
    /// a directory first; see [`RootPath::resolve`].
    pub fn parse(raw: &[u8]) -> Result<Self, RootPathError> {
        let mut path = Vec::with_capacity(raw.len());
        for component in raw.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(RootPathError::Climbs { raw: raw.into() }),
                name if name.contains(&0) => return Err(RootPathError::Nul { raw: raw.into() }),
                name => push(&mut path, name),
            }
        }
        Ok(Self(path.into_boxed_slice()))
    }

    /// Joins `raw` to `directory` by spelling alone; `..` at the root stays at the root, as in a chroot.
    ///
    /// An absolute `raw` ignores `directory`.
    pub fn resolve(directory: &Self, raw: &[u8]) -> Result<Self, RootPathError> {
        if raw.contains(&0) {
            return Err(RootPathError::Nul { raw: raw.into() });
        }
        let mut path = if raw.first() == Some(&b'/') { Vec::new() } else { directory.0.to_vec() };
        for component in raw.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => pop(&mut path),
                name => push(&mut path, name),
            }
        }
        Ok(Self(path.into_boxed_slice()))
    }

    /// The path of `name` in this directory.
    ///
    /// # Errors
    ///
    /// Fails where `name` is not one component: empty, `.`, `..`, or with a `/` or NUL in it.
    pub fn child(&self, name: &[u8]) -> Result<Self, RootPathError> {
        if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(RootPathError::Name { name: name.into() });
        }
        Ok(self.join_name(name))
    }

    /// The path `rest` beneath this directory.
    #[must_use]
    pub fn join(&self, rest: &Self) -> Self {
        if rest.is_root() { self.clone() } else { self.join_name(&rest.0) }
    }

    /// The directory that holds this path; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        self.split().map(|(parent, _)| Self(parent.into()))
    }

    /// The last component; `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.split().map(|(_, name)| name)
    }

    /// The components from the top to the last.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&byte| byte == b'/').filter(|component| !component.is_empty())
    }

    /// This path's ancestors from the root to its parent, without itself.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        let root = (!self.is_root()).then(Self::root);
        let slashes = self.0.iter().enumerate().filter(|&(_, &byte)| byte == b'/');
        root.into_iter().chain(slashes.map(|(end, _)| Self(self.0[..end].into())))
    }

    /// Whether this path is `ancestor` or lies beneath it.
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        ancestor.is_root()
            || self
                .0
                .strip_prefix(&*ancestor.0)
                .is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
    }

    /// What remains of this path beneath `ancestor`.
    pub fn strip_prefix(&self, ancestor: &Self) -> Option<Self> {
        if ancestor.is_root() {
            return Some(self.clone());
        }
        match self.0.strip_prefix(&*ancestor.0)? {
            [] => Some(Self::root()),
            [b'/', rest @ ..] => Some(Self(rest.into())),
            _ => None,
        }
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, without a leading or trailing `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For a `name` that the kernel or an invariant vouches for.
    pub(crate) fn join_name(&self, name: &[u8]) -> Self {
        let mut path = Vec::with_capacity(self.0.len() + 1 + name.len());
        path.extend_from_slice(&self.0);
        push(&mut path, name);
        Self(path.into_boxed_slice())
    }

    fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.is_root() {
            return None;
        }
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => Some((&self.0[..slash], &self.0[slash + 1..])),
            None => Some((&[], &self.0)),
        }
    }
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

fn pop(path: &mut Vec<u8>) {
    path.truncate(path.iter().rposition(|&byte| byte == b'/').unwrap_or(0));
}

fn shown(raw: &[u8]) -> impl fmt::Display {
    raw.escape_ascii()
}

impl Ord for RootPath {
    /// Compares as if `/` were the smallest byte, which is the order by component without splitting.
    fn cmp(&self, other: &Self) -> Ordering {
        let differs = self.0.iter().zip(&other.0).find(|(left, right)| left != right);
        match differs {
            Some((b'/', _)) => Ordering::Less,
            Some((_, b'/')) => Ordering::Greater,
            Some((left, right)) => left.cmp(right),
            None => self.0.len().cmp(&other.0.len()),
        }
    }
}

impl PartialOrd for RootPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// For people: `etc/passwd`, and `/` for the root itself. Bytes that are not UTF-8 are replaced, and control
/// characters are escaped, because an image chooses its names and a terminal obeys them.
impl fmt::Display for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str("/");
        }
        for character in String::from_utf8_lossy(&self.0).chars() {
            if character.is_control() {
                write!(f, "{}", character.escape_default())?;
            } else {
                f.write_char(character)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootPath({:?})", String::from_utf8_lossy(&self.0))
    }
}

impl AsRef<[u8]> for RootPath {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RootPath {
        RootPath::parse(text.as_bytes()).unwrap()
    }

    #[track_caller]
    fn check_parse(raw: &[u8], expected: &str) {
        let parsed = RootPath::parse(raw);
        let text = parsed.map_or_else(|error| format!("error: {error}"), |path| path.to_string());
        assert_eq!(text, expected, "parsing {raw:?}");
    }

    #[test]
    fn names_in_archives_are_read_as_tar_spells_them() {
        check_parse(b"", "/");
        check_parse(b".", "/");
        check_parse(b"./", "/");
        check_parse(b"//", "/");
        check_parse(b"/etc/passwd", "etc/passwd");
        check_parse(b"./a/./b//c/", "a/b/c");
        check_parse(b"a\\..\\b", "a\\..\\b");
        check_parse(b"...", "...");
        check_parse(b"../x", "error: `../x` leaves the root through `..`");
        check_parse(b"a/../b", "error: `a/../b` leaves the root through `..`");
        check_parse(b"a\0b", "error: `a\\x00b` holds a NUL byte");
        check_parse(b"\xffx", "\u{fffd}x");
        check_parse(b"a\x1b[2J\n\xc3\xa9", "a\\u{1b}[2J\\n\u{e9}");
    }

    #[test]
    fn paths_are_resolved_by_spelling_and_stop_at_the_root() {
        for (directory, raw, expected) in [
            ("srv/app", "x", "srv/app/x"),
            ("srv/app", "/x", "x"),
            ("srv/app", "../x", "srv/x"),
            ("srv/app", "../../../../x", "x"),
            ("srv/app", "", "srv/app"),
            ("srv/app", "./../.", "srv"),
            ("", "..", "/"),
        ] {
            let resolved = RootPath::resolve(&path(directory), raw.as_bytes()).unwrap();
            assert_eq!(resolved.to_string(), expected, "{raw:?} in {directory:?}");
        }
        assert!(RootPath::resolve(&path("a"), b"\0").is_err());
    }

    #[test]
    fn directories_sort_directly_before_what_is_in_them() {
        let sorted = ["", "a", "a/b", "a/b/c", "a/c", "a-b", "a-b/c", "a.b", "aa", "b"];
        for (left_index, left) in sorted.iter().enumerate() {
            for (right_index, right) in sorted.iter().enumerate() {
                let expected = left_index.cmp(&right_index);
                assert_eq!(path(left).cmp(&path(right)), expected, "{left:?} and {right:?}");
            }
        }
    }

    #[test]
    fn a_path_knows_its_relatives() {
        let at = path("a/b/c");
        assert_eq!(at.parent(), Some(path("a/b")));
        assert_eq!(at.file_name(), Some(&b"c"[..]));
        assert_eq!(at.ancestors().collect::<Vec<_>>(), [path(""), path("a"), path("a/b")]);
        assert_eq!(at.components().collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert_eq!(RootPath::root().parent(), None);
        assert_eq!(RootPath::root().ancestors().count(), 0);
        assert_eq!(path("a").parent(), Some(RootPath::root()));
        assert!(at.starts_with(&path("a/b")) && at.starts_with(&at) && at.starts_with(&path("")));
        assert!(!path("a/bc").starts_with(&path("a/b")));
        assert_eq!(at.strip_prefix(&path("a")), Some(path("b/c")));
        assert_eq!(at.strip_prefix(&at), Some(RootPath::root()));
        assert_eq!(path("ab").strip_prefix(&path("a")), None);
        assert_eq!(path("a").join(&path("b/c")), at);
        assert_eq!(path("a").join(&RootPath::root()), path("a"));
        assert_eq!(path("a/b").child(b"c").unwrap(), at);
        assert!(path("a").child(b"b/c").is_err());
    }
}
