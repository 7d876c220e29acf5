//! Walking a tree as `.dockerignore` leaves it.

use std::collections::VecDeque;
use std::vec;

use ebiko_rootfs::{DirectoryEntry, Metadata, Root, RootError, RootPath};

use crate::{IgnoreFile, Verdict};

/// Everything beneath one directory that is not excluded, parents before children, each
/// directory's members sorted by name.
///
/// An excluded directory appears if something in it does not, because a file needs a directory to
/// be in. Links are yielded and not followed.
#[derive(Debug)]
pub struct Walk<'a> {
    root: &'a Root,
    ignore: Option<&'a IgnoreFile>,
    /// The directories from the top of the walk down to where it is.
    levels: Vec<Level>,
    /// Members that are known to be part of the walk, in order.
    ready: VecDeque<Member>,
}

/// One file of a [`Walk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where it is beneath the root.
    pub path: RootPath,
    /// Its metadata; a link is not followed.
    pub metadata: Metadata,
}

#[derive(Debug)]
struct Level {
    directory: RootPath,
    /// `None` until the directory is read, so that a skipped one never is.
    entries: Option<vec::IntoIter<DirectoryEntry>>,
    verdict: Verdict,
    /// The directory itself, if it is excluded and nothing in it has been found that is not.
    withheld: Option<Member>,
}

impl<'a> Walk<'a> {
    /// Walks what is beneath `directory`, which is free of links; it is not itself a member.
    pub fn new(root: &'a Root, ignore: Option<&'a IgnoreFile>, directory: &RootPath) -> Self {
        let level = Level {
            directory: directory.clone(),
            entries: None,
            verdict: judge(ignore, directory),
            withheld: None,
        };
        Self { root, ignore, levels: vec![level], ready: VecDeque::new() }
    }

    /// Leaves out what is beneath `directory`, a member that has been yielded.
    pub fn skip_below(&mut self, directory: &RootPath) {
        self.ready.retain(|member| !member.path.starts_with(directory));
        while self.levels.last().is_some_and(|level| level.directory.starts_with(directory)) {
            self.levels.pop();
        }
    }

    /// Goes on until something is ready, or to the end.
    fn advance(&mut self) -> Result<(), RootError> {
        while self.ready.is_empty()
            && let Some(level) = self.levels.last_mut()
        {
            let entries = match &mut level.entries {
                Some(entries) => entries,
                unread => unread.insert(self.root.list(&level.directory)?.into_iter()),
            };
            let Some(entry) = entries.next() else {
                self.levels.pop();
                continue;
            };
            // The name comes from the kernel; one that is not a name has no place in an image.
            let Ok(path) = level.directory.child(&entry.name) else { continue };
            let verdict = match self.ignore {
                Some(ignore) => ignore.patterns().judge(&level.verdict, path.as_bytes()),
                None => Verdict::default(),
            };
            self.consider(Member { path, metadata: entry.metadata }, verdict);
        }
        Ok(())
    }

    fn consider(&mut self, member: Member, verdict: Verdict) {
        let excluded = verdict.excluded;
        let directory = member.metadata.is_dir().then(|| member.path.clone());
        let withheld = if excluded {
            Some(member)
        } else {
            let parents = self.levels.iter_mut().filter_map(|level| level.withheld.take());
            self.ready.extend(parents);
            self.ready.push_back(member);
            None
        };
        let Some(directory) = directory else { return };
        let may_reinclude = || {
            self.ignore
                .is_some_and(|file| file.patterns().may_reinclude_below(directory.as_bytes()))
        };
        if !excluded || may_reinclude() {
            self.levels.push(Level { directory, entries: None, verdict, withheld });
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Member, RootError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.advance() {
            Ok(()) => self.ready.pop_front().map(Ok),
            Err(error) => {
                // A walk with a hole in it is not a walk.
                self.levels.clear();
                Some(Err(error))
            }
        }
    }
}

/// The verdict on `path` as a walk from the root comes to it.
pub(crate) fn judge(ignore: Option<&IgnoreFile>, path: &RootPath) -> Verdict {
    let Some(ignore) = ignore else { return Verdict::default() };
    // The root is the first ancestor and is nobody's to exclude.
    let prefixes = path.ancestors().skip(1).chain((!path.is_root()).then(|| path.clone()));
    prefixes
        .fold(Verdict::default(), |parent, path| ignore.patterns().judge(&parent, path.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Tree, members};

    const FILES: &[&str] = &[
        "foo",
        "bar",
        "d/foo",
        "d/bar",
        "d/e/foo",
        ".hid",
        "empty/",
        "README.md",
        "READ-secret.md",
    ];

    /// Walks the whole context; the ignore file's lines are separated by blanks.
    #[track_caller]
    fn check(ignore: &str, expected: &str) {
        let tree = Tree::new(FILES);
        let context = tree.context(&ignore.replace(' ', "\n"));
        assert_eq!(members(&context, ""), expected, "with `{ignore}`");
    }

    #[test]
    fn without_an_ignore_file_everything_is_there_in_order() {
        check("", ".hid READ-secret.md README.md bar d/ d/bar d/e/ d/e/foo d/foo empty/ foo");
    }

    #[test]
    fn what_buildkit_leaves_out_is_left_out() {
        // Expectations were recorded from BuildKit.
        for (ignore, expected) in [
            ("foo", ".hid READ-secret.md README.md bar d/ d/bar d/e/ d/e/foo d/foo empty/"),
            ("**/foo", ".hid READ-secret.md README.md bar d/ d/bar d/e/ empty/"),
            ("*/foo", ".hid READ-secret.md README.md bar d/ d/bar d/e/ d/e/foo empty/ foo"),
            ("d/", ".hid READ-secret.md README.md bar empty/ foo"),
            ("d/*", ".hid READ-secret.md README.md bar d/ empty/ foo"),
            ("d !d", ".hid READ-secret.md README.md bar d/ d/bar d/e/ d/e/foo d/foo empty/ foo"),
            (".", ".hid READ-secret.md README.md bar d/ d/bar d/e/ d/e/foo d/foo empty/ foo"),
            (".*", "READ-secret.md README.md bar d/ d/bar d/e/ d/e/foo d/foo empty/ foo"),
            ("[fb]*", ".hid READ-secret.md README.md d/ d/bar d/e/ d/e/foo d/foo empty/"),
            ("!foo foo", ".hid READ-secret.md README.md bar d/ d/bar d/e/ d/e/foo d/foo empty/"),
            ("* !foo", "foo"),
            ("* !.hid", ".hid"),
            ("* !d/foo", "d/ d/foo"),
            (
                "*.md READ-secret.md !READ*.md",
                ".hid READ-secret.md README.md bar d/ d/bar d/e/ d/e/foo d/foo empty/ foo",
            ),
        ] {
            check(ignore, expected);
        }
    }

    #[test]
    fn an_excluded_directory_is_there_for_the_sake_of_what_is_in_it() {
        check("d !d/e/foo", ".hid READ-secret.md README.md bar d/ d/e/ d/e/foo empty/ foo");
        check("* !**/e", "d/ d/e/ d/e/foo");
        check("d !d/nothing", ".hid READ-secret.md README.md bar empty/ foo");
    }

    #[test]
    fn a_directory_can_be_walked_alone() {
        let tree = Tree::new(FILES);
        assert_eq!(members(&tree.context(""), "d"), "d/bar d/e/ d/e/foo d/foo");
        assert_eq!(members(&tree.context("d\n!d/e"), "d"), "d/e/ d/e/foo");
        assert_eq!(members(&tree.context("d\n!d/e"), "d/e"), "d/e/foo");
        assert_eq!(members(&tree.context("d\n"), "d/e"), "");
    }

    #[test]
    fn what_is_below_a_skipped_directory_is_left_out() {
        let tree = Tree::new(FILES);
        let context = tree.context("d\n!**/foo\n");
        let mut walk = context.walk(&RootPath::root());
        let mut seen = Vec::new();
        while let Some(member) = walk.next() {
            let member = member.unwrap();
            walk.skip_below(&member.path);
            seen.push(member.path.to_string());
        }
        assert_eq!(seen, [".hid", "READ-secret.md", "README.md", "bar", "d", "empty", "foo"]);
    }

    #[test]
    fn links_are_members_and_are_not_followed() {
        let tree = Tree::new(&["dir/x", "ldir -> dir", "dangling -> nope", "up -> .."]);
        assert_eq!(members(&tree.context(""), ""), "dangling dir/ dir/x ldir up");
    }

    #[test]
    fn a_directory_that_is_not_there_ends_the_walk_with_an_error() {
        let tree = Tree::new(&["a"]);
        let context = tree.context("");
        let mut walk = context.walk(&RootPath::parse(b"nope").unwrap());
        assert!(walk.next().unwrap().unwrap_err().is_missing());
        assert!(walk.next().is_none());
    }

    #[test]
    fn names_that_are_not_utf8_are_walked_and_matched() {
        let tree = Tree::new(&["a"]);
        tree.add(b"\xff\xfe");
        assert_eq!(tree.context("").walk(&RootPath::root()).count(), 2);
        assert_eq!(members(&tree.context("??"), ""), "a");
    }
}
