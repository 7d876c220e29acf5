//! Where the paths of an instruction lead, by spelling alone.

use crate::go;

/// `WORKDIR path` where `current` is the working directory so far.
///
/// A relative path is joined and cleaned; an absolute one is kept as it is written.
pub(crate) fn work_dir(current: &str, path: &str) -> String {
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

/// The destination of `COPY`. What says "directory" (`/` and `/.` at the end) is kept.
pub(crate) fn destination(work_dir: &str, path: &str) -> String {
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
}
