//! What commits, tags and trees say.

use super::object_id::{Kind, ObjectId};
use super::pack::Damage;

/// The part of a commit that a checkout needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) tree: ObjectId,
    pub(crate) parents: Vec<ObjectId>,
    /// The committer's, in seconds since 1970.
    pub(crate) time: i64,
}

impl Commit {
    pub(crate) fn parse(id: ObjectId, data: &[u8]) -> Result<Self, Damage> {
        let bad = |reason| Damage::Object { kind: "commit", id, reason };
        let tree = field(data, b"tree ").next().and_then(ObjectId::parse);
        let committer = field(data, b"committer ").next().ok_or_else(|| bad("no committer"))?;
        Ok(Self {
            tree: tree.ok_or_else(|| bad("no tree"))?,
            parents: field(data, b"parent ").filter_map(ObjectId::parse).collect(),
            time: time(committer).ok_or_else(|| bad("no time"))?,
        })
    }
}

/// What a tag points to.
pub(crate) fn tag_target(id: ObjectId, data: &[u8]) -> Result<(Kind, ObjectId), Damage> {
    let target = field(data, b"object ").next().and_then(ObjectId::parse);
    let kind = field(data, b"type ").next().and_then(Kind::parse);
    kind.zip(target).ok_or(Damage::Object { kind: "tag", id, reason: "no object" })
}

/// Values of the header lines that begin with `name`. The message is not looked at.
fn field<'d>(data: &'d [u8], name: &'static [u8]) -> impl Iterator<Item = &'d [u8]> {
    data.split(|byte| *byte == b'\n')
        .take_while(|line| !line.is_empty())
        .filter_map(move |line| line.strip_prefix(name))
}

/// The seconds of `Name <mail> 1700000000 +0100`.
fn time(line: &[u8]) -> Option<i64> {
    let after = line.iter().rposition(|byte| *byte == b'>')?;
    let rest = line.get(after + 1..)?;
    let mut words = rest.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    std::str::from_utf8(words.next()?).ok()?.parse().ok()
}

/// What a name in a tree stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Executable,
    Link,
    Tree,
    Submodule,
}

/// One name in a tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TreeEntry<'d> {
    pub(crate) kind: EntryKind,
    pub(crate) name: &'d [u8],
    pub(crate) id: ObjectId,
}

/// All names of a tree.
pub(crate) fn tree_entries(id: ObjectId, data: &[u8]) -> Result<Vec<TreeEntry<'_>>, Damage> {
    let bad = |reason| Damage::Object { kind: "tree", id, reason };
    let mut entries = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let (entry, next) = tree_entry(rest).ok_or_else(|| bad("an entry is malformed"))?;
        entries.push(entry);
        rest = next;
    }
    // A name twice, once as a link and once as a directory, is how files were once written
    // outside of a checkout.
    let mut names: Vec<&[u8]> = entries.iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| matches!(pair, [first, second] if first == second)) {
        return Err(bad("a name is there twice"));
    }
    Ok(entries)
}

fn tree_entry(data: &[u8]) -> Option<(TreeEntry<'_>, &[u8])> {
    let space = data.iter().position(|byte| *byte == b' ')?;
    let (mode, rest) = (data.get(..space)?, data.get(space + 1..)?);
    let end = rest.iter().position(|byte| *byte == 0)?;
    let (name, rest) = (rest.get(..end)?, rest.get(end + 1..)?);
    let (id, rest) = rest.split_at_checked(ObjectId::LENGTH)?;
    let mode = std::str::from_utf8(mode).ok().and_then(|mode| u32::from_str_radix(mode, 8).ok())?;
    let kind = match mode & 0o170_000 {
        0o040_000 => EntryKind::Tree,
        0o100_000 if mode & 0o100 != 0 => EntryKind::Executable,
        0o100_000 => EntryKind::File,
        0o120_000 => EntryKind::Link,
        0o160_000 => EntryKind::Submodule,
        _ => return None,
    };
    Some((TreeEntry { kind, name, id: ObjectId::from_bytes(id)? }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ObjectId {
        ObjectId::parse(b"4b825dc642cb6eb9a060e54bf8d69288fbee4904").expect("a name")
    }

    #[test]
    fn a_commit_gives_its_tree_and_the_committers_time() {
        let tree = id();
        let text = format!(
            "tree {tree}\nparent {tree}\nauthor A <a@b> 5 +0000\ncommitter C > D <c> 1700000000 \
             +0100\n\ntree lies\ncommitter X <x> 7 +0000\n"
        );
        let expected = Commit { tree, parents: vec![tree], time: 1_700_000_000 };
        assert_eq!(Commit::parse(tree, text.as_bytes()).expect("a commit"), expected);
        for wrong in ["", "tree 12\n", &format!("tree {tree}\ncommitter C <c> x\n")] {
            Commit::parse(tree, wrong.as_bytes()).expect_err(wrong);
        }
    }

    #[track_caller]
    fn check(tree: &[(&str, &str)], expected: &str) {
        let mut data = Vec::new();
        for (mode, name) in tree {
            data.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            data.extend_from_slice(id().as_bytes());
        }
        let actual = match tree_entries(id(), &data) {
            Ok(entries) => {
                let shown = |entry: &TreeEntry<'_>| {
                    format!("{:?} {}", entry.kind, String::from_utf8_lossy(entry.name))
                };
                entries.iter().map(shown).collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected, "{tree:?}");
    }

    #[test]
    fn modes_are_those_that_git_knows() {
        check(
            &[("100644", "a"), ("100664", "b"), ("100755", "c"), ("120000", "d"), ("40000", "e")],
            "File a, File b, Executable c, Link d, Tree e",
        );
        check(&[("160000", "s")], "Submodule s");
        let malformed = "the tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904 cannot be understood: an entry is \
             malformed";
        check(&[("60644", "device")], malformed);
        check(&[("x", "a")], malformed);
    }

    #[test]
    fn a_name_that_is_there_twice_is_refused() {
        check(
            &[("120000", "a"), ("100644", "b"), ("40000", "a")],
            "the tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904 cannot be understood: a name is \
             there twice",
        );
    }
}
