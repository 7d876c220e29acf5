//! A git repository that is the same wherever it is made.

use std::path::Path;
use std::process::Command;

use super::{Commit, context};
use crate::command::capture;

/// Makes the repository in `dir`, ready for git's dumb protocol. Names, times and branch are fixed, so commits have the same
/// digest everywhere.
pub(super) fn write(commits: &[Commit], dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(dir)?;
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args(args).current_dir(dir).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        for (name, value) in [
            ("HOME", "/nonexistent"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_AUTHOR_NAME", "Ann"),
            ("GIT_AUTHOR_EMAIL", "ann@example.com"),
            ("GIT_AUTHOR_DATE", "1500000000 +0000"),
            ("GIT_COMMITTER_NAME", "Ann"),
            ("GIT_COMMITTER_EMAIL", "ann@example.com"),
            ("GIT_COMMITTER_DATE", "1500000000 +0000"),
        ] {
            command.env(name, value);
        }
        capture(&mut command).map(drop)
    };
    git(&["init", "--quiet", "--initial-branch=main", "."])?;
    for (number, commit) in commits.iter().enumerate() {
        context::tree(&commit.files)?.write_to(dir)?;
        git(&["add", "--all"])?;
        git(&["commit", "--quiet", "--message", &format!("commit {number}")])?;
        if let Some(tag) = &commit.tag {
            git(&["tag", tag])?;
        }
    }
    git(&["update-server-info"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_has_the_same_name_each_time() {
        let dir = crate::scratch_dir("repository-").unwrap();
        let commits = r#"[{"tag": "v1", "files": {"a": "1"}}, {"tag": null, "files": {"a": "2", "l": {"symlink": "a"}}}]"#;
        let commits: Vec<Commit> = serde_json::from_str(commits).unwrap();
        let name_of = |name: &str| {
            let dir = dir.path().join(name);
            write(&commits, &dir).unwrap();
            let mut git = Command::new("git");
            git.args(["rev-parse", "v1", "main"]).current_dir(dir);
            crate::command::capture_text(&mut git).unwrap()
        };
        let first = name_of("first");
        assert_eq!(first, name_of("second"));
        assert_eq!(first.lines().count(), 2);
    }
}
