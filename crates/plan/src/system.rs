//! Paths of an image's operating system.
//!
//! Everything else in this crate has paths with `/`. Windows has drive letters and `\`, which are gone behind this
//! module; only the working directory of a config gets its `\` back.

use std::borrow::Cow;

use ebiko_oci::Platform;

use crate::{go, paths};

/// How an operating system writes paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Unix,
    Windows,
}

impl System {
    pub(crate) fn of(platform: &Platform) -> Self {
        if platform.os == "windows" { Self::Windows } else { Self::Unix }
    }

    /// The path with `/`, without the letter of a drive. Errors have BuildKit's texts.
    fn path(self, path: &str, keeps_slash: bool) -> Result<Cow<'_, str>, String> {
        if self == Self::Unix || path.is_empty() {
            return Ok(Cow::Borrowed(path));
        }
        let failed = |reason: String| Err(format!("removing drive letter: {reason}"));
        let slashed = path.replace('\\', "/");
        if slashed.len() == 2 && slashed.ends_with(':') {
            return failed(format!("No relative path specified in {}", go::quote(path)));
        }
        if slashed.starts_with("//") {
            return failed("UNC paths are not supported".into());
        }
        let path = match slashed.split_once(':') {
            None => &slashed,
            Some((drive, path)) if drive.eq_ignore_ascii_case("c") => path,
            Some(_) => {
                return failed("The specified path is not on the system drive (C:)".into());
            }
        };
        let mut clean = go::clean_path(path);
        if keeps_slash && path.ends_with('/') && clean.len() > 1 {
            clean.push('/');
        }
        Ok(Cow::Owned(clean))
    }

    /// `WORKDIR path` where `current` is the working directory so far, as a config has it.
    pub(crate) fn work_dir(self, current: &str, path: &str) -> Result<String, String> {
        let failed =
            |reason| format!("normalizing workdir: normalizing working directory: {reason}");
        let current = self.path(current, false).map_err(failed)?;
        let path = self.path(path, false).map_err(failed)?;
        Ok(paths::work_dir(&current, &path))
    }

    /// A path as the working directory of a config.
    pub(crate) fn in_config(self, path: &str) -> String {
        match self {
            Self::Unix => path.to_owned(),
            Self::Windows => path.replace('/', "\\"),
        }
    }

    /// A source of `COPY`; with `--parents`, the first `/./` stays.
    pub(crate) fn source(self, path: &str, with_parents: bool) -> Result<String, String> {
        match path.split_once("/./") {
            Some((root, copied)) if with_parents => {
                let (root, copied) = (self.path(root, false)?, self.path(copied, false)?);
                Ok(paths::source_with_parents(&format!("{root}/./{copied}")))
            }
            _ => Ok(paths::source(&self.path(path, false)?)),
        }
    }

    /// The destination of `COPY`.
    pub(crate) fn destination(self, work_dir: &str, path: &str) -> Result<String, String> {
        let work_dir = self.path(work_dir, false)?;
        // This is the working directory itself, which a cleaned path would not say.
        let path = if matches!(path, "" | ".") { "./" } else { path };
        Ok(match self {
            Self::Windows if matches!(path, "./" | ".\\") => paths::destination(&work_dir, "./"),
            _ => paths::destination(&work_dir, &self.path(path, true)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: Result<String, String>) -> String {
        path.unwrap_or_else(|message| format!("error: {message}"))
    }

    #[test]
    fn a_windows_path_loses_its_drive() {
        let work_dir = |current, path| shown(System::Windows.work_dir(current, path));
        assert_eq!(work_dir("\\a", "b\\..\\c"), "/a/c");
        assert_eq!(work_dir("\\a", "C:\\b\\"), "/b");
        assert_eq!(work_dir("c:\\a", "c:b"), "/a/b");
        assert_eq!(work_dir("/", ""), "/");
        assert_eq!(System::Windows.in_config("/a/b"), "\\a\\b");
        let failed =
            "error: normalizing workdir: normalizing working directory: removing drive letter: ";
        for (path, reason) in [
            ("d:\\x", "The specified path is not on the system drive (C:)"),
            ("c:", r#"No relative path specified in "c:""#),
            ("\\\\server\\x", "UNC paths are not supported"),
        ] {
            assert_eq!(work_dir("", path), format!("{failed}{reason}"));
        }
    }

    #[test]
    fn a_windows_destination_keeps_its_slash() {
        let destination = |path| shown(System::Windows.destination("\\w", path));
        assert_eq!(destination("C:\\x\\"), "/x/");
        assert_eq!(destination("x"), "/w/x");
        assert_eq!(destination(""), "/w/");
        assert_eq!(destination(".\\"), "/w/");
        let source = |path, parents| shown(System::Windows.source(path, parents));
        assert_eq!(source("a\\b", false), "/a/b");
        assert_eq!(source("c:\\a\\b/./c\\d", true), "/a/b/./c/d");
    }

    #[test]
    fn unix_has_no_drives() {
        assert_eq!(shown(System::Unix.work_dir("/a", "c:\\b")), "/a/c:\\b");
        assert_eq!(shown(System::Unix.source("a/./b", true)), "/a/./b");
        assert_eq!(shown(System::Unix.destination("/w", "/a/.")), "/a/./.");
        assert_eq!(System::Unix.in_config("/a"), "/a");
    }
}
