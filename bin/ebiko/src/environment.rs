//! What the process was started with, read once.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::Context;
use ebiko_build::Time;

/// Environment variables, working directory and executable of this process.
///
/// The only place that reads them; everything else gets values.
#[derive(Default)]
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    /// Files that are nowhere but here: a step of a CI system gives secrets as variables, and nothing else needs them.
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// Where the process was started; relative paths of the command line are meant from here.
    pub(crate) directory: PathBuf,
    /// The executable file.
    pub(crate) executable: PathBuf,
    /// When the process was started, in seconds and nanoseconds since 1970.
    pub(crate) now: (i64, u32),
    /// What a step of a CI system wants of a repository before anything is pushed to it.
    pub(crate) repository: Option<ebiko_plugin::Repository>,
}

/// Without values: some are secrets.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.keys())
            .field("files", &self.files.keys())
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

impl Environment {
    /// Reads the environment of this process.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads them")]
    pub(crate) fn read() -> anyhow::Result<Self> {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .context("the clock of this machine stands before 1970")?;
        Ok(Self {
            variables: std::env::vars_os().collect(),
            files: BTreeMap::new(),
            directory: std::env::current_dir().context("cannot find the working directory")?,
            executable: std::env::current_exe().context("cannot find the executable file")?,
            now: (i64::try_from(now.as_secs())?, now.subsec_nanos()),
            repository: None,
        })
    }

    /// Sets a variable for this program.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.into(), value.into());
    }

    /// Takes a file that this program finds at `path` from now on, whatever is there.
    pub(crate) fn keep_file(&mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) {
        self.files.insert(path.into(), content.into());
    }

    /// The content of a file that is nowhere but here.
    pub(crate) fn kept_file(&self, path: &Path) -> Option<&[u8]> {
        self.files.get(path).map(Vec::as_slice)
    }

    /// Every variable that is text.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)))
    }

    /// Where programs are looked for.
    pub(crate) fn search_path(&self) -> &OsStr {
        self.variables
            .get(OsStr::new("PATH"))
            .map_or(OsStr::new("/usr/bin:/bin"), OsString::as_os_str)
    }

    /// A variable that is set, to text; one that is no UTF-8 counts as not set.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(OsStr::new(name))?.to_str()
    }

    /// A variable that is set, as it is.
    pub(crate) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        self.variables.get(OsStr::new(name)).map(|value| value.as_encoded_bytes().to_vec())
    }

    /// These variables and nothing else.
    #[cfg(test)]
    pub(crate) fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self { variables: variables.collect(), ..Self::default() }
    }

    /// These variables and nothing else.
    #[cfg(test)]
    pub(crate) fn of_list<'n>(variables: impl IntoIterator<Item = (&'n str, String)>) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self { variables: variables.collect(), ..Self::default() }
    }

    /// A variable that is set to something else than nothing.
    pub(crate) fn get_filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// A boolean as Go's `strconv.ParseBool` reads it.
    pub(crate) fn get_bool(&self, name: &str) -> anyhow::Result<Option<bool>> {
        let Some(value) = self.get_filled(name) else { return Ok(None) };
        match Self::boolean(value) {
            Some(value) => Ok(Some(value)),
            None => anyhow::bail!(
                "the environment variable {name} is `{value}`; it must be true or false"
            ),
        }
    }

    /// A boolean as Go's `strconv.ParseBool` reads it.
    pub(crate) fn boolean(value: &str) -> Option<bool> {
        match value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        }
    }

    /// `path` as it was meant where the process was started.
    pub(crate) fn absolute(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }
}

/// The clock by which the kernel stamps `ctime`: it stands still between two ticks, and so is never ahead of a stamp.
pub(crate) fn coarse_clock() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    Time { secs: now.tv_sec, nanos: u32::try_from(now.tv_nsec).unwrap_or(0) }
}
