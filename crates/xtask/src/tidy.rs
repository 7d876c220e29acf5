//! Compares what the documents say with what the sources are.

mod compatibility;
mod documents;
mod layers;
mod sources;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// One thing that is not as it should be: where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    place: String,
    message: String,
}

impl Problem {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

/// `cargo xtask tidy`.
pub(crate) fn run() -> anyhow::Result<()> {
    let problems = problems(&testkit::workspace_dir())?;
    for Problem { place, message } in &problems {
        println!("{place}: {message}");
    }
    match problems.len() {
        0 => Ok(()),
        1 => bail!("1 thing is not tidy"),
        count => bail!("{count} things are not tidy"),
    }
}

fn problems(root: &Path) -> anyhow::Result<Vec<Problem>> {
    let mut problems = Vec::new();
    layers::check(root, &mut problems)?;
    documents::check(root, &mut problems)?;
    compatibility::check(root, &mut problems)?;
    sources::check(root, &mut problems)?;
    problems.sort();
    Ok(problems)
}

/// The workspace's own files with one of these extensions, relative to `root`, in order.
fn files(root: &Path, extensions: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let is_ours = |name: &str| name != "target" && name != ".git";
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(root)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| entry.file_name().to_str().is_some_and(is_ours))
    {
        let entry = entry?;
        let extension =
            entry.path().extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if entry.file_type().is_file() && extensions.contains(&extension) {
            files.push(entry.path().strip_prefix(root)?.to_owned());
        }
    }
    Ok(files)
}

fn read(root: &Path, path: impl AsRef<Path>) -> anyhow::Result<String> {
    let path = root.join(path);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let problems = problems(&testkit::workspace_dir()).unwrap();
        let lines: Vec<String> = problems
            .iter()
            .map(|Problem { place, message }| format!("{place}: {message}"))
            .collect();
        assert!(lines.is_empty(), "{}", lines.join("\n"));
    }
}
