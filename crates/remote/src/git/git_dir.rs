//! A `.git` that git itself accepts.

use std::io::{self, Write as _};
use std::path::Path;

use super::object_id::{ObjectHasher, ObjectId};
use super::worktree::IndexEntry;
use crate::host;

/// What is written into a `.git`.
pub(crate) struct Description<'a> {
    /// The repository, without user name and password.
    pub(crate) url: &'a str,
    /// The commit that is checked out.
    pub(crate) commit: ObjectId,
    /// A branch or tag, and what it points to.
    pub(crate) reference: Option<(&'a str, ObjectId)>,
    /// Commits whose parents are not there.
    pub(crate) shallow: &'a [ObjectId],
    /// The files, sorted by path.
    pub(crate) index: &'a [IndexEntry],
    /// Where the files are, seen from the directory, if it is not the one above.
    pub(crate) worktree: Option<&'a str>,
    /// Names and addresses of the submodules that were fetched.
    pub(crate) submodules: &'a [(String, String)],
}

/// Writes everything besides `objects`, which is there.
///
/// `HEAD` is detached, as other builders leave it.
pub(crate) fn write(dir: &Path, description: &Description<'_>) -> io::Result<()> {
    for name in ["branches", "hooks", "info", "refs/heads", "refs/tags"] {
        host::create_dirs(&dir.join(name))?;
    }
    put(dir.join("HEAD"), format!("{}\n", description.commit).as_bytes())?;
    put(dir.join("description"), b"Unnamed repository; edit this file to name it.\n")?;
    put(dir.join("info/exclude"), b"")?;
    put(dir.join("config"), config(description).as_bytes())?;
    if let Some((name, id)) = description.reference.filter(|(name, _)| is_safe(name)) {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            host::create_dirs(parent)?;
        }
        put(path, format!("{id}\n").as_bytes())?;
    }
    if !description.shallow.is_empty() {
        let mut ids = description.shallow.to_vec();
        ids.sort_unstable();
        let lines: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let text = lines.join("\n") + "\n";
        put(dir.join("shallow"), text.as_bytes())?;
    }
    put(dir.join("index"), &index(description.index)?)
}

fn put(path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
    host::create_file(path.as_ref())?.write_all(bytes)
}

/// Whether a name of the server's may become a path here.
fn is_safe(name: &str) -> bool {
    let is_plain = |part: &str| {
        let is_lock = part.as_bytes().ends_with(b".lock");
        !part.is_empty() && !part.starts_with('.') && part.len() <= 255 && !is_lock
    };
    name.starts_with("refs/")
        && name.len() <= 1024
        && !name.contains(['\0', '\\', '\n'])
        && name.split('/').all(is_plain)
}

fn config(description: &Description<'_>) -> String {
    let mut text = String::from(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\
         \tlogallrefupdates = true\n",
    );
    if let Some(worktree) = description.worktree {
        text.push_str(&pair("worktree", worktree));
    }
    text.push_str("[remote \"origin\"]\n");
    text.push_str(&pair("url", description.url));
    text.push_str(&pair("fetch", "+refs/heads/*:refs/remotes/origin/*"));
    for (name, url) in description.submodules {
        text.extend(["[submodule \"", &escaped(name), "\"]\n"]);
        text.push_str(&pair("active", "true"));
        text.push_str(&pair("url", url));
    }
    text
}

fn pair(key: &str, value: &str) -> String {
    format!("\t{key} = \"{}\"\n", escaped(value))
}

/// In quotes, so that no `;` begins a comment.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The second version of git's index. Times and sizes are zero, so that git looks at every file
/// once; what it then writes is its own.
fn index(entries: &[IndexEntry]) -> io::Result<Vec<u8>> {
    let mut bytes = b"DIRC\0\0\0\x02".to_vec();
    let count = u32::try_from(entries.len()).map_err(io::Error::other)?;
    bytes.extend_from_slice(&count.to_be_bytes());
    for entry in entries {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 24]);
        bytes.extend_from_slice(&entry.mode.to_be_bytes());
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(entry.id.as_bytes());
        let length = u16::try_from(entry.path.len()).unwrap_or(u16::MAX).min(0xfff);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&entry.path);
        let end = start + (bytes.len() - start) / 8 * 8 + 8;
        bytes.resize(end, 0);
    }
    let mut hasher = ObjectHasher::plain();
    hasher.update(&bytes);
    bytes.extend_from_slice(hasher.finish().as_bytes());
    Ok(bytes)
}
