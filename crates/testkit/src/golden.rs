//! Golden folders: a case is a directory, the expected text is a file beside its input.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// One directory of a golden folder.
#[derive(Clone, Debug)]
pub struct Case {
    dir: PathBuf,
}

/// The cases of a golden folder of the workspace, such as `testdata/plan`, in name order.
///
/// # Panics
///
/// Panics if the folder is missing or holds no case: a test over nothing cannot fail.
#[track_caller]
pub fn cases(folder: &str) -> Vec<Case> {
    let root = crate::workspace_dir().join(folder);
    let listed = std::fs::read_dir(&root)
        .unwrap_or_else(|error| panic!("cannot list `{}`: {error}", root.display()));
    let mut dirs: Vec<PathBuf> =
        listed.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    dirs.retain(|path| path.is_dir());
    dirs.sort();
    assert!(!dirs.is_empty(), "`{}` holds no case", root.display());
    dirs.into_iter().map(|dir| Case { dir }).collect()
}

impl Case {
    /// A case that lies outside a golden folder, for the few tests that have only one.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The directory's own name.
    pub fn name(&self) -> String {
        self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The directory on the host.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of a file of the case.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// The bytes of a file of the case, if it is there.
    pub fn bytes_if_present(&self, file: &str) -> Option<Vec<u8>> {
        std::fs::read(self.dir.join(file)).ok()
    }

    /// The bytes of a file of the case.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be read.
    #[track_caller]
    pub fn bytes(&self, file: &str) -> Vec<u8> {
        let path = self.dir.join(file);
        std::fs::read(&path)
            .unwrap_or_else(|error| panic!("cannot read `{}`: {error}", path.display()))
    }

    /// The text of a file of the case, if it is there.
    pub fn text_if_present(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.dir.join(file)).ok()
    }

    /// The text of a file of the case.
    ///
    /// # Panics
    ///
    /// Panics if it cannot be read or is not UTF-8.
    #[track_caller]
    pub fn text(&self, file: &str) -> String {
        let path = self.dir.join(file);
        std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read `{}`: {error}", path.display()))
    }

    /// Compares `actual` with the recorded file, or records it when `EBIKO_BLESS=1` is set (`cargo xtask bless`).
    ///
    /// # Panics
    ///
    /// Panics when they differ, showing the first difference and how to accept it.
    #[track_caller]
    pub fn assert_golden(&self, file: &str, actual: &str) {
        self.compare(
            file,
            actual,
            std::env::var_os("EBIKO_BLESS").is_some_and(|value| value == "1"),
        );
    }

    #[track_caller]
    fn compare(&self, file: &str, actual: &str, bless: bool) {
        let path = self.dir.join(file);
        let recorded = std::fs::read_to_string(&path).ok();
        if recorded.as_deref() == Some(actual) {
            return;
        }
        if bless {
            std::fs::write(&path, actual)
                .unwrap_or_else(|error| panic!("cannot write `{}`: {error}", path.display()));
            return;
        }
        let shown =
            path.strip_prefix(crate::workspace_dir()).unwrap_or(&path).display().to_string();
        match recorded {
            None => panic!("`{shown}` is not recorded; `cargo xtask bless` writes it as\n{actual}"),
            Some(expected) => {
                panic!(
                    "`{shown}` differs; `cargo xtask bless` accepts this\n{}",
                    difference(&expected, actual)
                )
            }
        }
    }
}

/// The lines around the first difference, expected with `-`, actual with `+`.
fn difference(expected: &str, actual: &str) -> String {
    let old: Vec<&str> = expected.split_inclusive('\n').collect();
    let new: Vec<&str> = actual.split_inclusive('\n').collect();
    let same_start = old.iter().zip(&new).take_while(|(left, right)| left == right).count();
    let rest = (&old[same_start..], &new[same_start..]);
    let same_end = rest
        .0
        .iter()
        .rev()
        .zip(rest.1.iter().rev())
        .take_while(|(left, right)| left == right)
        .count();
    let mut text = String::new();
    for (mark, lines) in [
        (' ', &old[same_start.saturating_sub(3)..same_start]),
        ('-', &rest.0[..rest.0.len() - same_end]),
        ('+', &rest.1[..rest.1.len() - same_end]),
        (' ', &rest.1[rest.1.len() - same_end..][..same_end.min(3)]),
    ] {
        for line in lines {
            let _infallible = writeln!(text, "{mark} {}", line.trim_end_matches('\n'));
        }
    }
    format!("at line {}\n{text}", same_start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_shows_what_changed_and_its_surroundings() {
        assert_eq!(
            difference("a\nb\nc\nd\ne\nf\ng\n", "a\nb\nc\nd\nE\nF\ng\n"),
            "at line 5\n  b\n  c\n  d\n- e\n- f\n+ E\n+ F\n  g\n"
        );
        assert_eq!(difference("", "new\n"), "at line 1\n+ new\n");
        assert_eq!(difference("a\na\n", "a\n"), "at line 2\n  a\n- a\n");
    }

    #[test]
    fn blessing_records_and_the_record_then_holds() {
        let dir = crate::scratch_dir("golden-").unwrap();
        let case = Case::new(dir.path());
        case.compare("out.txt", "one\n", true);
        case.compare("out.txt", "one\n", false);
        let changed =
            std::panic::catch_unwind(|| case.compare("out.txt", "two\n", false)).unwrap_err();
        let message = changed.downcast_ref::<String>().unwrap();
        assert!(message.contains("- one\n+ two\n"), "{message}");
        assert_eq!(
            case.text("out.txt"),
            "one\n",
            "a failed comparison must not rewrite the record"
        );
    }
}
