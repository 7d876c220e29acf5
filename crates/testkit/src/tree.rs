//! Directory trees as literals, and as text.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The modification time of everything a [`Tree`] writes: 2020-09-13 12:26:40 UTC, in seconds.
pub const FIXED_TIME: u64 = 1_600_000_000;

/// A directory tree as a literal.
///
/// Parents are made as needed (mode 0755). Modes are exact whatever the umask, and every modification time is
/// [`FIXED_TIME`] unless [`Tree::time`] says otherwise, so that two writes of one tree give the same layer.
///
/// ```
/// use testkit::Tree;
/// let dir = testkit::scratch_dir("tree-")?;
/// Tree::new().file("a/b.txt", "x").symlink("l", "a/b.txt").write_to(dir.path())?;
/// assert_eq!(testkit::listing(dir.path())?, "drwxr-xr-x a\n-rw-r--r-- a/b.txt 1\nlrwxrwxrwx l -> a/b.txt\n");
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is written until `write_to` is called"]
pub struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
    times: BTreeMap<PathBuf, u64>,
    xattrs: BTreeMap<(PathBuf, String), String>,
}

#[derive(Clone, Debug)]
enum Node {
    File { content: Vec<u8>, mode: u32 },
    Directory { mode: u32 },
    Symlink { target: PathBuf },
    HardLink { first: PathBuf },
    Special { file_type: rustix::fs::FileType, mode: u32 },
}

impl Tree {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a regular file of mode 0644.
    pub fn file(self, path: impl Into<PathBuf>, content: impl AsRef<[u8]>) -> Self {
        self.node(path, Node::File { content: content.as_ref().to_owned(), mode: 0o644 })
    }

    /// Adds a regular file of mode 0755.
    pub fn exe(self, path: impl Into<PathBuf>, content: impl AsRef<[u8]>) -> Self {
        self.node(path, Node::File { content: content.as_ref().to_owned(), mode: 0o755 })
    }

    /// Adds a directory of mode 0755.
    pub fn dir(self, path: impl Into<PathBuf>) -> Self {
        self.node(path, Node::Directory { mode: 0o755 })
    }

    /// Adds a symbolic link; `target` is stored as it is.
    pub fn symlink(self, path: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.node(path, Node::Symlink { target: target.into() })
    }

    /// Adds another name for the file `first` of this tree.
    pub fn hard_link(self, path: impl Into<PathBuf>, first: impl Into<PathBuf>) -> Self {
        self.node(path, Node::HardLink { first: first.into() })
    }

    /// Adds a named pipe of mode 0644.
    pub fn fifo(self, path: impl Into<PathBuf>) -> Self {
        self.node(path, Node::Special { file_type: rustix::fs::FileType::Fifo, mode: 0o644 })
    }

    /// Adds a socket of mode 0755 that nobody listens on.
    pub fn socket(self, path: impl Into<PathBuf>) -> Self {
        self.node(path, Node::Special { file_type: rustix::fs::FileType::Socket, mode: 0o755 })
    }

    /// Gives a path of the tree a modification time of its own, in seconds.
    pub fn time(mut self, path: impl Into<PathBuf>, seconds: u64) -> Self {
        self.times.insert(path.into(), seconds);
        self
    }

    /// Gives a path of the tree an extended attribute.
    pub fn xattr(
        mut self,
        path: impl Into<PathBuf>,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Self {
        self.xattrs.insert((path.into(), name.into()), value.into());
        self
    }

    /// Changes the mode of a path that is in the tree already and is no link.
    pub fn mode(mut self, path: impl AsRef<Path>, new: u32) -> Self {
        if let Some(
            Node::File { mode, .. } | Node::Directory { mode } | Node::Special { mode, .. },
        ) = self.nodes.get_mut(path.as_ref())
        {
            *mode = new;
        }
        self
    }

    fn node(mut self, path: impl Into<PathBuf>, node: Node) -> Self {
        self.nodes.insert(path.into(), node);
        self
    }

    /// Writes the tree below `dir`, which must exist.
    pub fn write_to(&self, dir: &Path) -> anyhow::Result<()> {
        for (path, node) in &self.nodes {
            self.write_node(dir, path, node)
                .with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        // Links second, because a link may sort before what it links to; times last, children before parents, because
        // every new name changes the time of its directory.
        for (path, node) in &self.nodes {
            if let Node::HardLink { first } = node {
                std::fs::hard_link(dir.join(first), dir.join(path))
                    .with_context(|| format!("cannot link `{}`", path.display()))?;
            }
        }
        for ((path, name), value) in &self.xattrs {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::lsetxattr(dir.join(path), name.as_str(), value.as_bytes(), flags)
                .with_context(|| format!("cannot set `{name}` of `{}`", path.display()))?;
        }
        let mut written: Vec<&Path> = self.nodes.keys().flat_map(|path| path.ancestors()).collect();
        written.retain(|path| *path != Path::new(""));
        written.sort();
        written.dedup();
        for path in written.into_iter().rev() {
            set_time(&dir.join(path), self.times.get(path).copied().unwrap_or(FIXED_TIME))
                .with_context(|| format!("cannot set the time of `{}`", path.display()))?;
        }
        Ok(())
    }

    fn write_node(&self, dir: &Path, path: &Path, node: &Node) -> anyhow::Result<()> {
        let host = dir.join(path);
        for parent in path.ancestors().skip(1).filter(|parent| !self.nodes.contains_key(*parent)) {
            let new = dir.join(parent);
            std::fs::create_dir_all(&new)?;
            if parent != Path::new("") {
                crate::place::set_mode(&new, 0o755)?;
            }
        }
        match node {
            Node::File { content, mode } => {
                std::fs::write(&host, content)?;
                crate::place::set_mode(&host, *mode)
            }
            Node::Directory { mode } => {
                std::fs::create_dir_all(&host)?;
                crate::place::set_mode(&host, *mode)
            }
            Node::Symlink { target } => Ok(std::os::unix::fs::symlink(target, &host)?),
            Node::HardLink { .. } => Ok(()),
            Node::Special { file_type, mode } => {
                let mode_bits = rustix::fs::Mode::from_raw_mode(*mode);
                rustix::fs::mknodat(rustix::fs::CWD, &host, *file_type, mode_bits, 0)?;
                crate::place::set_mode(&host, *mode)
            }
        }
    }
}

fn set_time(path: &Path, seconds: u64) -> anyhow::Result<()> {
    let time = rustix::fs::Timespec { tv_sec: seconds.cast_signed(), tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The tree below `dir` as text, one line per entry in path order: what `ls -l` would say, without what varies.
///
/// A file line carries the size, a link its target; an owner is shown when it differs from the user who asks, and a
/// modification time never, because tests that care about one ask for it.
pub fn listing(dir: &Path) -> anyhow::Result<String> {
    let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut text = String::new();
    for entry in walkdir::WalkDir::new(dir).min_depth(1).sort_by_file_name() {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let path = entry.path().strip_prefix(dir)?;
        write!(text, "{} {}", mode_text(metadata.mode()), path.display())?;
        if metadata.is_file() {
            write!(text, " {}", metadata.len())?;
        }
        if metadata.is_symlink() {
            write!(text, " -> {}", std::fs::read_link(entry.path())?.display())?;
        }
        if (metadata.uid(), metadata.gid()) != me {
            write!(text, " owner {}:{}", metadata.uid(), metadata.gid())?;
        }
        text.push('\n');
    }
    Ok(text)
}

/// `-rwxr-xr-x` and its relatives.
fn mode_text(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o020_000 => 'c',
        0o060_000 => 'b',
        0o010_000 => 'p',
        0o140_000 => 's',
        _ => '-',
    };
    let special = [(0o4000, 's', 'S'), (0o2000, 's', 'S'), (0o1000, 't', 'T')];
    let mut text = String::from(kind);
    for (class, (bit, with, without)) in special.into_iter().enumerate() {
        let bits = mode >> (6 - 3 * class);
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (bits & 1 != 0, mode & bit != 0) {
            (true, true) => with,
            (false, true) => without,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_lists_as_it_was_written() {
        let dir = crate::scratch_dir("tree-").unwrap();
        let tree = Tree::new()
            .exe("bin/tool", "#!/bin/sh\n")
            .mode("bin/tool", 0o4755)
            .dir("empty")
            .mode("empty", 0o1777)
            .hard_link("a", "z")
            .file("z", "12345")
            .symlink("gone", "/nowhere");
        tree.write_to(dir.path()).unwrap();
        assert_eq!(
            listing(dir.path()).unwrap(),
            "-rw-r--r-- a 5\n\
             drwxr-xr-x bin\n\
             -rwsr-xr-x bin/tool 10\n\
             drwxrwxrwt empty\n\
             lrwxrwxrwx gone -> /nowhere\n\
             -rw-r--r-- z 5\n"
        );
    }

    #[test]
    fn every_time_is_the_fixed_one_also_of_parents_and_links() {
        let dir = crate::scratch_dir("tree-").unwrap();
        Tree::new().file("a/b/c", "x").symlink("a/l", "b").write_to(dir.path()).unwrap();
        for path in ["a", "a/b", "a/b/c", "a/l"] {
            let metadata = std::fs::symlink_metadata(dir.path().join(path)).unwrap();
            let since = metadata.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
            assert_eq!(since, std::time::Duration::from_secs(FIXED_TIME), "time of {path}");
        }
    }
}
