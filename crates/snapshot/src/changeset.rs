//! What changed between two looks.

use std::fmt;

use ebiko_rootfs::RootPath;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Something is at `path` that was not there before, or was different.
    Put {
        /// Where.
        path: RootPath,
        /// Whether the look saw a regular file.
        is_file: bool,
        /// An earlier path of this changeset that is the same file under another name.
        hard_link: Option<RootPath>,
    },
    /// Nothing is at `path` any more; what was beneath it went with it.
    Remove {
        /// Where.
        path: RootPath,
    },
}

impl Change {
    /// Where it is.
    pub fn path(&self) -> &RootPath {
        match self {
            Self::Put { path, .. } | Self::Remove { path } => path,
        }
    }
}

/// `put etc/passwd`, `put b = a` for a further name of `a`, `remove etc/motd`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { path, hard_link: None, .. } => write!(f, "put {path}"),
            Self::Put { path, hard_link: Some(first), .. } => write!(f, "put {path} = {first}"),
            Self::Remove { path } => write!(f, "remove {path}"),
        }
    }
}

/// What changed between two looks, in path order: parents before children, every path once.
///
/// It says *that* something changed and not what it is now; who wants to know looks at the root. That keeps it small:
/// a path shares its start with the one before, so a change takes about as many bytes as its last component.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Changeset {
    bytes: Vec<u8>,
    last: Vec<u8>,
    /// First paths of hard link groups.
    firsts: Vec<RootPath>,
    len: usize,
}

/// How a change is stored, after the path. Larger values are `LINK` plus an index into `firsts`.
const PUT: usize = 0;
const REMOVE: usize = 1;
const PUT_FILE: usize = 2;
const LINK: usize = 3;

impl Changeset {
    /// No change.
    pub fn empty() -> Self {
        Self::default()
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The changes in path order.
    pub fn iter(&self) -> Changes<'_> {
        Changes { rest: &self.bytes, path: Vec::new(), firsts: &self.firsts }
    }

    /// Bytes on the heap.
    pub fn heap_size(&self) -> usize {
        self.bytes.capacity()
            + self.last.capacity()
            + self.firsts.iter().map(|path| path.as_bytes().len() + 16).sum::<usize>()
    }

    pub(crate) fn put(&mut self, path: &[u8], is_file: bool) {
        self.push(path, if is_file { PUT_FILE } else { PUT });
    }

    pub(crate) fn remove(&mut self, path: &[u8]) {
        self.push(path, REMOVE);
    }

    /// Keeps `path` as the first name of a group, to be named by [`Changeset::put_link`].
    pub(crate) fn add_first(&mut self, path: &[u8]) -> usize {
        self.firsts.push(path_of(path));
        self.firsts.len() - 1
    }

    pub(crate) fn put_link(&mut self, path: &[u8], first: usize) {
        self.push(path, LINK + first);
    }

    fn push(&mut self, path: &[u8], what: usize) {
        let shared = self.last.iter().zip(path).take_while(|(left, right)| left == right).count();
        let rest = &path[shared..];
        for number in [shared, rest.len(), what] {
            push_number(&mut self.bytes, number);
        }
        self.bytes.extend_from_slice(rest);
        self.last.truncate(shared);
        self.last.extend_from_slice(rest);
        self.len += 1;
    }
}

impl<'a> IntoIterator for &'a Changeset {
    type Item = Change;
    type IntoIter = Changes<'a>;

    fn into_iter(self) -> Changes<'a> {
        self.iter()
    }
}

/// One change in a line.
impl fmt::Display for Changeset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|change| writeln!(f, "{change}"))
    }
}

impl fmt::Debug for Changeset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|change| change.to_string())).finish()
    }
}

/// Iterates over a [`Changeset`].
#[derive(Debug, Clone)]
pub struct Changes<'a> {
    rest: &'a [u8],
    path: Vec<u8>,
    firsts: &'a [RootPath],
}

impl Iterator for Changes<'_> {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        let shared = take_number(&mut self.rest)?;
        let length = take_number(&mut self.rest)?;
        let what = take_number(&mut self.rest)?;
        let (suffix, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        self.path.truncate(shared);
        self.path.extend_from_slice(suffix);
        let path = path_of(&self.path);
        Some(match what {
            PUT => Change::Put { path, is_file: false, hard_link: None },
            PUT_FILE => Change::Put { path, is_file: true, hard_link: None },
            REMOVE => Change::Remove { path },
            link => {
                let hard_link = self.firsts.get(link - LINK).cloned();
                Change::Put { path, is_file: false, hard_link }
            }
        })
    }
}

/// The path that was pushed: names come from the file system, which has none that are not components.
fn path_of(bytes: &[u8]) -> RootPath {
    RootPath::parse(bytes).unwrap_or_default()
}

/// Seven bits to a byte, the lowest first.
fn push_number(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push(low_bits(number) | 0x80);
        number >>= 7;
    }
    bytes.push(low_bits(number));
}

#[expect(clippy::cast_possible_truncation, reason = "masked to 7 bits")]
fn low_bits(number: usize) -> u8 {
    (number & 0x7f) as u8
}

fn take_number(bytes: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for shift in (0..usize::BITS).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= usize::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_out_as_they_went_in() {
        let mut changes = Changeset::empty();
        let long = "x".repeat(300);
        changes.put(b"a", false);
        changes.put(b"a/b", true);
        let first = changes.add_first(b"a/b");
        changes.put_link(format!("a/{long}").as_bytes(), first);
        changes.remove(b"a-b");
        changes.put(b"z\xff", true);
        assert_eq!(
            changes.to_string(),
            format!("put a\nput a/b\nput a/{long} = a/b\nremove a-b\nput z\u{fffd}\n")
        );
        assert_eq!(changes.len(), 5);
        let is_file = |change| matches!(change, Change::Put { is_file: true, .. });
        let files: Vec<bool> = changes.iter().map(is_file).collect();
        assert_eq!(files, [false, true, false, false, true]);
    }

    #[test]
    fn a_million_changes_take_less_than_their_last_components_twice() {
        let mut changes = Changeset::empty();
        for file in 0..1_000_000 {
            changes.put(
                format!(
                    "usr/share/some/package/directory-{:04}/file-{:03}",
                    file / 100,
                    file % 100
                )
                .as_bytes(),
                true,
            );
        }
        assert_eq!(changes.len(), 1_000_000);
        assert!(changes.bytes.len() < 8_000_000, "{} bytes", changes.bytes.len());
    }
}
