//! Where the paths of an instruction lead, by spelling alone.

use crate::go;

/// `WORKDIR path` where `current` is the working directory so far.
///
/// A relative path is joined and cleaned; an absolute one is kept as it is written.
pub fn work_dir(current: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    let current = match current {
        "" => "/".to_owned(),
        current if current.starts_with('/') => current.to_owned(),
        current => go::join_path("/", current),
    };
    if path.is_empty() { current } else { go::join_path(&current, path) }
}

/// A source of `COPY`, seen from the root that it is copied from.
pub(crate) fn source(path: &str) -> String {
    work_dir("/", path)
}

/// A source of `COPY --parents`. The first `/./`, which says where the copied part of the path begins, stays.
pub(crate) fn source_with_parents(path: &str) -> String {
    match path.split_once("/./") {
        None => source(path),
        Some((root, copied)) => {
            let (root, copied) = (source(root), source(copied));
            format!("{}/.{copied}", root.strip_suffix('/').unwrap_or(&root))
        }
    }
}

/// The destination of `COPY`. What says "directory" (`/` and `/.` at the end) is kept.
pub fn destination(work_dir: &str, path: &str) -> String {
    let path = if matches!(path, "" | ".") { "./" } else { path };
    let mut destination = self::work_dir(work_dir, path);
    if path.ends_with('/') {
        if !destination.ends_with('/') {
            destination.push('/');
        }
    } else if path.ends_with("/.") {
        if destination != "/" {
            destination.push('/');
        }
        destination.push('.');
    }
    destination
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_relative_working_directory_is_joined_and_an_absolute_one_kept() {
        for (current, path, expected) in [
            ("", "test", "/test"),
            ("", ".", "/"),
            ("testing", "", "/testing"),
            ("a", "b", "/a/b"),
            ("/a", "../../b", "/b"),
            ("/a", "b/", "/a/b"),
            ("/a", "/b/", "/b/"),
            ("/a", "//b//c", "//b//c"),
            ("/a", "/..", "/.."),
            ("/a", " b ", "/a/ b "),
        ] {
            assert_eq!(super::work_dir(current, path), expected, "{path:?} in {current:?}");
        }
    }

    #[test]
    fn a_destination_keeps_what_marks_it_as_a_directory() {
        for (work_dir, path, expected) in [
            ("/", "", "/"),
            ("/", "..", "/"),
            ("/", "../", "/"),
            ("/", "/.", "/./."),
            ("/w", ".", "/w/"),
            ("/w", "", "/w/"),
            ("/w", "a/.", "/w/a/."),
            ("/w", "/a/.", "/a/./."),
            ("/w", "./.", "/w/."),
            ("/w", "../a/", "/a/"),
            ("/w", "/a/../b", "/a/../b"),
            ("", "a", "/a"),
        ] {
            assert_eq!(super::destination(work_dir, path), expected, "{path:?} in {work_dir:?}");
        }
    }

    #[test]
    fn a_source_is_seen_from_the_root() {
        for (path, expected) in
            [("a", "/a"), ("../a/", "/a"), (".", "/"), ("", "/"), ("/a/", "/a/"), ("a*", "/a*")]
        {
            assert_eq!(super::source(path), expected, "{path:?}");
        }
    }

    #[test]
    fn a_source_with_parents_keeps_the_mark_in_its_middle() {
        for (path, expected) in [
            ("a/../b", "/b"),
            ("a/./b/c", "/a/./b/c"),
            ("a/x/.././b/./c", "/a/./b/c"),
            ("/a//b/./c/", "/a//b/./c"),
            ("/./b", "/./b"),
            ("a/./", "/a/./"),
            ("./a", "/a"),
        ] {
            assert_eq!(super::source_with_parents(path), expected, "{path:?}");
        }
    }
}
