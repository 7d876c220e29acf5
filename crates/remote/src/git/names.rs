//! Which names a repository may put into a working tree.

/// Whether `name` may be made: one component that is nowhere taken for `.git`.
///
/// As strict as git itself: file systems that fold case, ignore certain characters (HFS+) or have
/// short names (NTFS) may be below an image one day, and the image may be unpacked there.
pub(crate) fn is_safe(name: &[u8]) -> bool {
    !name.is_empty()
        && name != b"."
        && name != b".."
        && name.len() <= 255
        && !name.contains(&b'/')
        && !name.contains(&0)
        && !name.split(|byte| *byte == b'\\').any(|part| is_like(part, ".git", "git~1"))
}

/// Whether `name` may be a symbolic link: what git reads for its own purposes may not.
pub(crate) fn is_safe_link(name: &[u8]) -> bool {
    is_safe(name) && !is_like(name, ".gitmodules", "gitmod~1")
}

/// Whether some file system takes `name` for `wanted` or its `short` name.
fn is_like(name: &[u8], wanted: &str, short: &str) -> bool {
    let visible = without_ignored(&String::from_utf8_lossy(name));
    // On NTFS a name ends before a stream's, and final dots and spaces do not count.
    let stem = visible.split(':').next().unwrap_or_default();
    let stem = stem.trim_end_matches(['.', ' ']);
    let exact = visible.to_ascii_lowercase();
    let stem = stem.to_ascii_lowercase();
    exact == wanted || stem == wanted || stem == short
}

/// HFS+ looks at a name without these.
fn without_ignored(name: &str) -> String {
    let is_ignored = |char: char| {
        matches!(char, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}'
            | '\u{feff}')
    };
    name.chars().filter(|char| !is_ignored(*char)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_may_be_made() {
        for name in
            ["a", ".gitignore", ".github", "git", "..a", "a.git", "git~10", "ü", "a b", "a\\b"]
        {
            assert!(is_safe(name.as_bytes()), "{name}");
        }
        assert!(is_safe(b"\xff\xfe"));
        assert!(is_safe(b".gitmodules"));
    }

    #[test]
    fn nothing_is_made_that_some_file_system_takes_for_the_git_directory() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "/",
            ".git",
            ".GIT",
            ".Git",
            ".git ",
            ".git.",
            ".git...",
            ".git . ",
            "git~1",
            "GIT~1",
            "git~1 ",
            ".git:x",
            ".git::$INDEX_ALLOCATION",
            ".g\u{200c}it",
            "\u{feff}.git",
            "a\\.git",
            ".git\\config",
            "a\\..\\git~1",
            "nul\0",
        ] {
            assert!(!is_safe(name.as_bytes()), "{name:?}");
        }
        assert!(!is_safe("x".repeat(256).as_bytes()));
    }

    #[test]
    fn the_list_of_submodules_is_no_link() {
        for name in
            [".gitmodules", ".GITMODULES", ".gitmodules ", "gitmod~1", ".gitmod\u{200d}ules"]
        {
            assert!(!is_safe_link(name.as_bytes()), "{name:?}");
        }
        assert!(is_safe_link(b".gitattributes"));
    }
}
