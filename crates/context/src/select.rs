//! Which files a `COPY` or `ADD` source names.

use ebiko_rootfs::{Metadata, Root, RootError, RootPath, RootPathError};

use crate::glob::{Glob, GlobError, has_wildcard};
use crate::walk::{Walk, judge};
use crate::{IgnoreFile, IgnoreLine};

/// One file or directory that a source names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Where it is beneath the root, after all links on the way and at the end were followed.
    pub path: RootPath,
    /// What it is called in a destination directory: the last component before links were
    /// followed. Empty for the root itself, which as a directory needs no name.
    pub name: Box<[u8]>,
    /// Its metadata; never those of a link.
    pub metadata: Metadata,
}

/// A source does not name files that can be copied.
///
/// The words of the most frequent ones are BuildKit's, because people search for them.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum SelectError {
    #[error("\"/{path}\": not found")]
    NotFound { path: String },
    #[error("\"/{path}\": not found: line {} of the ignore file excludes it: `{}`", line.number, line.text)]
    Excluded { path: String, line: IgnoreLine },
    #[error("\"/{link}\": not found: it is a symbolic link to `{target}`")]
    Dangling { link: String, target: String, source: Box<SelectError> },
    #[error("too many links: /{path}")]
    TooManyLinks { path: String },
    #[error(transparent)]
    Pattern(#[from] GlobError),
    #[error(transparent)]
    Path(#[from] RootPathError),
    #[error(transparent)]
    Root(#[from] RootError),
}

impl SelectError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotFound { .. } => Some(
                "sources are looked up from the top of the context or stage, whatever the working \
                 directory is, and `..` does not lead out of it",
            ),
            Self::Excluded { .. } => {
                Some("remove the line, or add a line after it with `!` and the path to keep")
            }
            Self::Dangling { source, .. } => source.hint(),
            Self::Pattern(_) => Some("write `[[]` for a literal `[`"),
            Self::Root(error) => error.hint(),
            Self::TooManyLinks { .. } | Self::Path(_) => None,
        }
    }
}

/// How many links are followed for one source; BuildKit's limit.
const MAX_LINKS: usize = 255;

/// Finds what `source` names beneath `root`, as far as `ignore` leaves it there.
///
/// The source is a path from the root, whatever it looks like: `..` stops at the root, a slash at
/// the end means nothing. Links are followed inside the root, the last one included. If it has a
/// wildcard, it is a [`Glob`] from the first component that has one; then the result is sorted,
/// may be empty, and does not reach into directories that match.
///
/// # Errors
///
/// Fails if a path without wildcard, the part before the first wildcard, or the target of a link
/// does not exist. What an ignore file excludes does not exist.
pub fn select(
    root: &Root,
    ignore: Option<&IgnoreFile>,
    source: &str,
) -> Result<Vec<Selected>, SelectError> {
    let tree = Tree { root, ignore };
    let path = RootPath::resolve(&RootPath::root(), source.as_bytes())?;
    let literal = path.components().take_while(|component| !has_wildcard(component)).count();
    let (base, pattern) = split(&path, literal);
    let (base, metadata) = tree.follow(&base)?;
    if pattern.is_root() {
        let name = path.file_name().unwrap_or_default().into();
        return Ok(vec![Selected { path: base, name, metadata }]);
    }
    let glob = Glob::parse(pattern.as_bytes())?;
    if !metadata.is_dir() {
        return Ok(Vec::new());
    }
    let levels = glob.levels(pattern.as_bytes());
    let mut selected = Vec::new();
    let mut walk = Walk::new(root, ignore, &base);
    while let Some(member) = walk.next().transpose()? {
        let Some(relative) = member.path.strip_prefix(&base) else { continue };
        let matches = glob.matches(relative.as_bytes());
        if member.metadata.is_dir()
            && (matches || !may_match_below(&glob, levels.as_deref(), &relative))
        {
            walk.skip_below(&member.path);
        }
        if matches {
            let name = member.path.file_name().unwrap_or_default().into();
            // The walk began at a path without links, so only the member itself can be one.
            let (path, metadata) = if member.metadata.is_symlink() {
                tree.follow(&member.path)?
            } else {
                (member.path, member.metadata)
            };
            selected.push(Selected { path, name, metadata });
        }
    }
    Ok(selected)
}

/// Finds what `path` leads to beneath `root` when every link on it and at its end is followed, as far as `ignore` leaves
/// it there.
///
/// # Errors
///
/// Fails if it, or the target of a link, does not exist.
pub fn follow(
    root: &Root,
    ignore: Option<&IgnoreFile>,
    path: &RootPath,
) -> Result<Selected, SelectError> {
    let name = path.file_name().unwrap_or_default().into();
    let (path, metadata) = Tree { root, ignore }.follow(path)?;
    Ok(Selected { path, name, metadata })
}

/// The first `count` components of `path`, and the others.
fn split(path: &RootPath, count: usize) -> (RootPath, RootPath) {
    let ancestor = path.ancestors().nth(count).unwrap_or_else(|| path.clone());
    let rest = path.strip_prefix(&ancestor).unwrap_or_default();
    (ancestor, rest)
}

/// Whether something in `directory`, itself reached by this rule, can match.
fn may_match_below(glob: &Glob, levels: Option<&[Glob]>, directory: &RootPath) -> bool {
    let depth = directory.components().count();
    depth < glob.max_levels()
        && levels.is_none_or(|levels| {
            let name = directory.file_name().unwrap_or_default();
            depth < levels.len() && levels.get(depth - 1).is_some_and(|level| level.matches(name))
        })
}

/// A root as an ignore file leaves it.
#[derive(Clone, Copy)]
struct Tree<'a> {
    root: &'a Root,
    ignore: Option<&'a IgnoreFile>,
}

impl Tree<'_> {
    /// Follows every link on `path` and at its end.
    ///
    /// [`Root::resolve`] would do, were it not for links that are excluded: they are not there to
    /// be followed.
    fn follow(self, path: &RootPath) -> Result<(RootPath, Metadata), SelectError> {
        let mut at = RootPath::root();
        let mut found = self.root.metadata(&at)?;
        let mut ahead: Vec<Box<[u8]>> = path.components().rev().map(Into::into).collect();
        let mut link: Option<(RootPath, Vec<u8>)> = None;
        let mut links = 0;
        // Nested errors would say for each link of a chain where it leads; the first is enough.
        let missing = |error: SelectError, link: Option<(RootPath, Vec<u8>)>| match link {
            Some((link, target)) => SelectError::Dangling {
                link: text(link.as_bytes()),
                target: text(&target),
                source: Box::new(error),
            },
            None => error,
        };
        while let Some(component) = ahead.pop() {
            match &*component {
                b"" | b"." => continue,
                b".." => {
                    at = at.parent().unwrap_or_default();
                    continue;
                }
                _ => {}
            }
            let next = at.child(&component)?;
            let Some(metadata) = self.root.find(&next)? else {
                let wanted = ahead.iter().rev().try_fold(next, |path, name| path.child(name));
                let path =
                    wanted.map_or_else(|_| text(path.as_bytes()), |path| text(path.as_bytes()));
                return Err(missing(SelectError::NotFound { path }, link));
            };
            if !metadata.is_symlink() {
                (at, found) = (next, metadata);
                continue;
            }
            self.check_visible(&next, &metadata).map_err(|error| missing(error, link.clone()))?;
            links += 1;
            if links > MAX_LINKS {
                return Err(SelectError::TooManyLinks { path: text(path.as_bytes()) });
            }
            let target = self.root.read_link(&next)?;
            if target.first() == Some(&b'/') {
                at = RootPath::root();
            }
            ahead.extend(target.split(|&byte| byte == b'/').rev().map(Into::into));
            link.get_or_insert((next, target));
        }
        if links > 0 {
            // After `..` the metadata are not those of the path.
            found = self.root.metadata(&at)?;
        }
        self.check_visible(&at, &found).map_err(|error| missing(error, link))?;
        Ok((at, found))
    }

    /// Fails if `path`, which exists and is free of links, is excluded.
    fn check_visible(self, path: &RootPath, metadata: &Metadata) -> Result<(), SelectError> {
        let Some(ignore) = self.ignore else { return Ok(()) };
        let verdict = judge(self.ignore, path);
        if !verdict.excluded {
            return Ok(());
        }
        // An excluded directory is there after all if something in it is.
        if metadata.is_dir()
            && ignore.patterns().may_reinclude_below(path.as_bytes())
            && Walk::new(self.root, self.ignore, path).next().transpose()?.is_some()
        {
            return Ok(());
        }
        let path = text(path.as_bytes());
        Err(match ignore.line(&verdict) {
            Some(line) => SelectError::Excluded { path, line: line.clone() },
            None => SelectError::NotFound { path },
        })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use crate::tree::{Tree, selection};

    const FILES: &[&str] =
        &["a.txt", "b.txt", "dir/x", "dir/sub/y", "dir/lnk -> x", "ldir -> dir", "lfile -> a.txt"];

    #[track_caller]
    fn check(source: &str, expected: &str) {
        let tree = Tree::new(FILES);
        assert_eq!(selection(&tree.context(""), source), expected, "selecting `{source}`");
    }

    #[test]
    fn a_plain_path_names_one_file_wherever_it_seems_to_start() {
        check("a.txt", "a.txt");
        check("/a.txt", "a.txt");
        check("./a.txt", "a.txt");
        check("../../a.txt", "a.txt");
        check("dir/../a.txt", "a.txt");
        check("a.txt/", "a.txt");
        check("dir", "dir/");
        check("dir/", "dir/");
        check("dir/x", "x from dir/x");
    }

    #[test]
    fn the_whole_context_has_many_names() {
        for source in ["/", ".", "./", "..", "dir/.."] {
            check(source, "/");
        }
    }

    #[test]
    fn links_are_followed_and_keep_their_name() {
        check("lfile", "lfile from a.txt");
        check("ldir", "ldir/ from dir");
        check("ldir/x", "x from dir/x");
        check("ldir/lnk", "lnk from dir/x");
    }

    #[test]
    fn wildcards_select_what_matches_in_order() {
        check("*.txt", "a.txt, b.txt");
        check("?.txt", "a.txt, b.txt");
        check("[a-b].txt", "a.txt, b.txt");
        check("d*/x", "x from dir/x");
        check("dir/*", "lnk from dir/x, sub/ from dir/sub, x from dir/x");
        check("dir/**/y", "y from dir/sub/y");
        check("ldir/*b", "sub/ from dir/sub");
        check("l*", "ldir/ from dir, lfile from a.txt");
        check("*", "a.txt, b.txt, dir/, ldir/ from dir, lfile from a.txt");
        check("q*", "");
        check("a.txt/*", "");
        check("l*/x", "");
    }

    #[test]
    fn a_class_may_match_a_slash() {
        check("dir[^x]x", "x from dir/x");
    }

    #[test]
    fn a_backslash_escapes_in_a_pattern_and_is_a_character_elsewhere() {
        let tree = Tree::new(&["st*r", "star", "q?x", "qqx", "arr[0].txt", "arr0.txt", "b\\s"]);
        let context = tree.context("");
        for (source, expected) in [
            ("st*r", "st*r, star"),
            ("q\\?*", "q?x"),
            ("arr[[]0].txt", "arr[0].txt"),
            ("arr[0].txt", "arr0.txt"),
            ("b\\s", "b\\s"),
            ("st\\*r", "error: \"/st\\*r\": not found"),
        ] {
            assert_eq!(selection(&context, source), expected, "selecting `{source}`");
        }
    }

    #[test]
    fn what_is_not_there_is_an_error_unless_a_wildcard_asked() {
        check("nope", "error: \"/nope\": not found");
        check("nope/x", "error: \"/nope/x\": not found");
        check("../nope", "error: \"/nope\": not found");
        check("a.txt/x", "error: \"/a.txt/x\": not found");
        check("nope/*", "error: \"/nope\": not found");
        check("a.txt b.txt", "error: \"/a.txt b.txt\": not found");
        check("[a", "error: syntax error in pattern `[a`: `[` is never closed by `]`");
    }

    #[test]
    fn a_link_that_leads_nowhere_is_an_error_even_for_a_wildcard() {
        let tree = Tree::new(&["good", "bad -> nope/x", "loop -> loop", "two -> bad"]);
        let context = tree.context("");
        let message =
            "\"/bad\": not found: it is a symbolic link to `nope/x`: \"/nope/x\": not found";
        assert_eq!(selection(&context, "bad"), format!("error: {message}"));
        assert_eq!(selection(&context, "b*"), format!("error: {message}"));
        assert_eq!(
            selection(&context, "two"),
            "error: \"/two\": not found: it is a symbolic link to `bad`: \"/nope/x\": not found"
        );
        assert_eq!(selection(&context, "loop"), "error: too many links: /loop");
    }

    #[test]
    fn links_never_lead_out_of_the_root() {
        let tree = Tree::new(&[
            "etc/passwd",
            "abs -> /etc/passwd",
            "up -> ../../../../etc/passwd",
            "sub/lnk -> ../../etc",
            "self -> /proc/self/root/etc/shadow",
        ]);
        let context = tree.context("");
        assert_eq!(selection(&context, "abs"), "abs from etc/passwd");
        assert_eq!(selection(&context, "up"), "up from etc/passwd");
        assert_eq!(selection(&context, "sub/lnk/passwd"), "passwd from etc/passwd");
        assert_eq!(
            selection(&context, "self"),
            "error: \"/self\": not found: it is a symbolic link to `/proc/self/root/etc/shadow`: \
             \"/proc/self/root/etc/shadow\": not found"
        );
    }

    #[test]
    fn what_is_excluded_is_not_found_and_the_line_is_named() {
        let tree = Tree::new(&[
            "secret.key",
            "link -> secret.key",
            "hidden -> a",
            "a",
            "d/x",
            "d/y",
            "e/x",
            "f/",
        ]);
        let context = tree.context("# keys\n\n*.key\nhidden\nd\n!d/y\ne\nf\n!f/x\n");
        for (source, expected) in [
            (
                "secret.key",
                "error: \"/secret.key\": not found: line 3 of the ignore file excludes it: `*.key`",
            ),
            (
                "link",
                "error: \"/link\": not found: it is a symbolic link to `secret.key`: \
                 \"/secret.key\": not found: line 3 of the ignore file excludes it: `*.key`",
            ),
            (
                "hidden",
                "error: \"/hidden\": not found: line 4 of the ignore file excludes it: `hidden`",
            ),
            ("d", "d/"),
            ("d/x", "error: \"/d/x\": not found: line 5 of the ignore file excludes it: `d`"),
            ("d/y", "y from d/y"),
            ("e", "error: \"/e\": not found: line 7 of the ignore file excludes it: `e`"),
            ("f", "error: \"/f\": not found: line 8 of the ignore file excludes it: `f`"),
            ("nope.key", "error: \"/nope.key\": not found"),
            ("*.key", ""),
            ("d/*", "y from d/y"),
            ("e/*", "error: \"/e\": not found: line 7 of the ignore file excludes it: `e`"),
            ("[a-f]", "a, d/"),
        ] {
            assert_eq!(selection(&context, source), expected, "selecting `{source}`");
        }
    }

    #[test]
    fn a_source_with_a_nul_byte_is_refused() {
        check("a\0b", "error: `a\\x00b` holds a NUL byte");
    }
}
