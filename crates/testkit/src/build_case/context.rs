//! A tree as JSON.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::archive::{ArchiveEntry, ArchiveKind, Packing, archive, packed};
use crate::tree::{FIXED_TIME, Tree};

/// One path.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Node {
    Text(String),
    Detailed(Box<Detailed>),
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Detailed {
    text: Option<String>,
    base64: Option<String>,
    tar: Option<BTreeMap<String, Node>>,
    packing: Option<Packing>,
    is: Option<Special>,
    symlink: Option<String>,
    hard_link: Option<String>,
    mode: Option<String>,
    owner: [u32; 2],
    time: Option<u64>,
    xattrs: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Special {
    Dir,
    Fifo,
    Socket,
}

impl Node {
    /// The bytes of a file; `None` for what is no file.
    pub(super) fn content(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let detailed = match self {
            Self::Text(text) => return Ok(Some(text.clone().into_bytes())),
            Self::Detailed(detailed) => detailed,
        };
        if let Some(text) = &detailed.text {
            return Ok(Some(text.clone().into_bytes()));
        }
        if let Some(text) = &detailed.base64 {
            use base64::Engine as _;
            return Ok(Some(base64::engine::general_purpose::STANDARD.decode(text)?));
        }
        if let Some(members) = &detailed.tar {
            let members = members.iter().map(|(name, node)| node.member(name));
            let bytes = archive(&members.collect::<anyhow::Result<Vec<_>>>()?)?;
            return packed(bytes, detailed.packing.unwrap_or(Packing::Plain)).map(Some);
        }
        Ok(None)
    }

    fn detailed(&self) -> Detailed {
        match self {
            Self::Text(_) => Detailed::default(),
            Self::Detailed(detailed) => (**detailed).clone(),
        }
    }

    fn mode(&self) -> anyhow::Result<Option<u32>> {
        let mode = self.detailed().mode;
        let parse = |mode: String| {
            u32::from_str_radix(&mode, 8).with_context(|| format!("`{mode}` is no octal mode"))
        };
        mode.map(parse).transpose()
    }

    /// The modification time, if one is given.
    pub(super) fn time(&self) -> Option<u64> {
        self.detailed().time
    }

    /// As a member of an archive.
    fn member(&self, name: &str) -> anyhow::Result<ArchiveEntry> {
        let detailed = self.detailed();
        let kind = match (self.content()?, detailed.symlink, detailed.hard_link, detailed.is) {
            (Some(content), None, None, None) => ArchiveKind::File(content),
            (None, Some(target), None, None) => ArchiveKind::Symlink(target),
            (None, None, Some(first), None) => ArchiveKind::HardLink(first),
            (None, None, None, Some(Special::Dir)) => ArchiveKind::Directory,
            _ => bail!("the member `{name}` is not one thing that an archive can hold"),
        };
        let usual = if kind == ArchiveKind::Directory { 0o755 } else { 0o644 };
        Ok(ArchiveEntry {
            path: name.to_owned(),
            mode: self.mode()?.unwrap_or(usual),
            uid: detailed.owner[0],
            gid: detailed.owner[1],
            mtime: detailed.time.unwrap_or(FIXED_TIME),
            kind,
        })
    }
}

/// The nodes as a tree.
///
/// A file without a time gets one that depends on its content: BuildKit takes two files of one size and time for the same, also
/// when it saw the first one in an earlier build.
pub(super) fn tree(nodes: &BTreeMap<String, Node>) -> anyhow::Result<Tree> {
    let mut tree = Tree::new();
    for (path, node) in nodes {
        let detailed = node.detailed();
        let content = node.content()?;
        let time = match &content {
            Some(content) => FIXED_TIME + u64::from(sum(content)) % 10_000_000,
            None => FIXED_TIME,
        };
        tree = match (content, detailed.symlink, detailed.hard_link, detailed.is) {
            (Some(content), None, None, None) => tree.file(path, content),
            (None, Some(target), None, None) => tree.symlink(path, target),
            (None, None, Some(first), None) => tree.hard_link(path, first),
            (None, None, None, Some(Special::Dir)) => tree.dir(path),
            (None, None, None, Some(Special::Fifo)) => tree.fifo(path),
            (None, None, None, Some(Special::Socket)) => tree.socket(path),
            _ => bail!("`{path}` is not one thing"),
        };
        if let Some(mode) = node.mode()? {
            tree = tree.mode(path, mode);
        }
        tree = tree.time(path, detailed.time.unwrap_or(time));
        for (name, value) in detailed.xattrs {
            tree = tree.xattr(path, name, value);
        }
    }
    Ok(tree)
}

/// FNV-1a: any sum will do that is the same everywhere.
fn sum(content: &[u8]) -> u32 {
    content.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(text: &str) -> BTreeMap<String, Node> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn json_becomes_the_tree_that_it_describes() {
        let dir = crate::scratch_dir("case-").unwrap();
        let nodes = nodes(
            r#"{"a/b": "1", "s": {"text": "22", "mode": "4755"}, "l": {"symlink": "a"}, "h": {"hard_link": "s"},
                "d": {"is": "dir", "mode": "0700"}, "q": {"is": "fifo"}, "u": {"is": "socket"},
                "t": {"tar": {"x": {"text": "", "owner": [1, 2]}}}, "z": {"base64": "/w=="}}"#,
        );
        tree(&nodes).unwrap().write_to(dir.path()).unwrap();
        assert_eq!(
            crate::listing(dir.path()).unwrap(),
            "drwxr-xr-x a\n-rw-r--r-- a/b 1\ndrwx------ d\n-rwsr-xr-x h 2\nlrwxrwxrwx l -> a\nprw-r--r-- q\n\
             -rwsr-xr-x s 2\n-rw-r--r-- t 10240\nsrwxr-xr-x u\n-rw-r--r-- z 1\n"
        );
    }

    #[test]
    fn files_of_one_size_have_different_times() {
        assert_ne!(sum(b"1") % 10_000_000, sum(b"2") % 10_000_000);
    }

    #[test]
    fn what_is_two_things_or_none_is_refused() {
        for text in [
            r#"{"a": {}}"#,
            r#"{"a": {"text": "", "symlink": "b"}}"#,
            r#"{"a": {"text": "", "mode": "9"}}"#,
        ] {
            assert!(tree(&nodes(text)).is_err(), "{text}");
        }
    }
}
