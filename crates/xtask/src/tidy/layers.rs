//! The dependency table and the code map of `docs/ARCHITECTURE.md` against `cargo metadata` and the folders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use super::{Problem, read};
use crate::progress::cargo;

const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";

/// For development only: not in the table, and every crate's tests may use the first.
const DEVELOPMENT: [&str; 2] = [TESTKIT, "xtask"];
const TESTKIT: &str = "testkit";

/// What each crate uses of this workspace, by package name.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// What cargo says about the workspace.
#[derive(Debug, Default)]
struct Workspace {
    /// Without what is only for development.
    uses: Graph,
    tests_use: Graph,
    /// Every package's folder, such as `crates/oci`.
    folders: BTreeSet<String>,
}

pub(super) fn check(root: &Path, problems: &mut Vec<Problem>) -> anyhow::Result<()> {
    let mut metadata = cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"]);
    let metadata: Value =
        serde_json::from_slice(&testkit::command::capture(metadata.current_dir(root))?)?;
    let workspace = Workspace::parse(&metadata).context("`cargo metadata` has changed its form")?;
    let Ok(text) = read(root, ARCHITECTURE) else {
        problems.push(Problem::new(ARCHITECTURE, "is missing"));
        return Ok(());
    };
    match table(&text) {
        Some(allowed) => compare(&allowed, &workspace.uses, &workspace.tests_use, problems),
        None => problems.push(Problem::new(
            ARCHITECTURE,
            "has no table that starts with `| crate | may use |`",
        )),
    }
    compare_map(&text, &workspace.folders, problems);
    Ok(())
}

impl Workspace {
    fn parse(metadata: &Value) -> Option<Self> {
        let root = metadata["workspace_root"].as_str()?;
        let mut workspace = Self::default();
        for package in metadata["packages"].as_array()? {
            let name = package["name"].as_str()?.to_owned();
            let folder = package["manifest_path"]
                .as_str()?
                .strip_prefix(root)?
                .strip_suffix("/Cargo.toml")?;
            workspace.folders.insert(folder.trim_matches('/').to_owned());
            if DEVELOPMENT.contains(&name.as_str()) {
                continue;
            }
            let (mut own, mut in_tests) = (BTreeSet::new(), BTreeSet::new());
            for dependency in package["dependencies"].as_array()? {
                // Only a dependency inside the workspace has a path.
                if dependency["path"].is_string() {
                    let is_for_tests = dependency["kind"] == "dev";
                    let list = if is_for_tests { &mut in_tests } else { &mut own };
                    list.insert(dependency["name"].as_str()?.to_owned());
                }
            }
            workspace.tests_use.insert(name.clone(), in_tests);
            workspace.uses.insert(name, own);
        }
        Some(workspace)
    }
}

/// Reads the table: one row per crate, both cells with names in backticks, `–` for nothing. Further columns are for people.
fn table(text: &str) -> Option<Graph> {
    let mut lines = text.lines().skip_while(|line| {
        let cells = cells(line);
        !(cells.first() == Some(&"crate") && cells.get(1) == Some(&"may use"))
    });
    lines.next()?;
    let rows = lines.skip(1).take_while(|line| line.trim_start().starts_with('|'));
    let row = |line| {
        let cells = cells(line);
        Some((
            in_backticks(cells.first()?).pop()?,
            in_backticks(cells.get(1)?).into_iter().collect(),
        ))
    };
    Some(rows.filter_map(row).collect())
}

/// The cells of a row, none of which may hold a `|`.
pub(super) fn cells(line: &str) -> Vec<&str> {
    let inner = line.trim().strip_prefix('|').unwrap_or_default();
    inner.split('|').map(str::trim).collect()
}

pub(super) fn in_backticks(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn compare(allowed: &Graph, uses: &Graph, tests_use: &Graph, problems: &mut Vec<Problem>) {
    let nothing = BTreeSet::new();
    let mut say = |message: String| problems.push(Problem::new(ARCHITECTURE, message));
    for name in allowed.keys().filter(|name| !uses.contains_key(*name)) {
        say(format!("the dependency table lists `{name}`, which is not in the workspace"));
    }
    for (name, used) in uses {
        let Some(may) = allowed.get(name) else {
            say(format!("the dependency table has no row for `{name}`"));
            continue;
        };
        for other in used.difference(may) {
            say(format!("`{name}` uses `{other}`, and the dependency table does not allow it"));
        }
        for other in may.difference(used) {
            say(format!("`{name}` may use `{other}` by the dependency table, and does not"));
        }
        // A test may use what lies beneath its crate, however far.
        let beneath = reachable(name, allowed);
        for other in tests_use.get(name).unwrap_or(&nothing) {
            if other != TESTKIT && !beneath.contains(other) {
                say(format!("the tests of `{name}` use `{other}`, which does not lie beneath it"));
            }
        }
    }
}

fn reachable(from: &str, graph: &Graph) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(name) = open.pop() {
        for next in graph.get(name).into_iter().flatten() {
            if found.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    found
}

/// The code map has one heading `### ... ` with `` `crates/NAME` `` or `` `bin/NAME` `` in it for every crate.
fn compare_map(text: &str, folders: &BTreeSet<String>, problems: &mut Vec<Problem>) {
    let headings = text.lines().filter(|line| line.starts_with("### ")).flat_map(in_backticks);
    let is_folder = |name: &String| name.starts_with("crates/") || name.starts_with("bin/");
    let mapped: BTreeSet<String> = headings.filter(is_folder).collect();
    for name in folders.difference(&mapped) {
        problems
            .push(Problem::new(ARCHITECTURE, format!("the code map has no heading for `{name}`")));
    }
    for name in mapped.difference(folders) {
        problems.push(Problem::new(
            ARCHITECTURE,
            format!("the code map has a heading for `{name}`, which is not there"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Architecture\n\n| crate | may use | why |\n|---|---|---|\n| `oci` | – | x |\n\
                        | `plan` | `oci` | x |\n| `ebiko` | `plan` | x |\n\nMore.\n";

    fn graph(rows: &[(&str, &[&str])]) -> Graph {
        let row = |(name, used): &(&str, &[&str])| {
            ((*name).to_owned(), used.iter().map(|name| (*name).to_owned()).collect())
        };
        rows.iter().map(row).collect()
    }

    #[track_caller]
    fn check_against(uses: &[(&str, &[&str])], tests_use: &[(&str, &[&str])], expected: &[&str]) {
        let mut problems = Vec::new();
        compare(&table(TEXT).unwrap(), &graph(uses), &graph(tests_use), &mut problems);
        let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages, expected);
    }

    #[test]
    fn the_table_is_read_without_its_further_columns() {
        let expected = graph(&[("oci", &[]), ("plan", &["oci"]), ("ebiko", &["plan"])]);
        assert_eq!(table(TEXT).unwrap(), expected);
        assert_eq!(table("| crate | job |\n|---|---|\n"), None);
    }

    #[test]
    fn table_and_workspace_are_compared_both_ways() {
        let same: &[(&str, &[&str])] = &[("oci", &[]), ("plan", &["oci"]), ("ebiko", &["plan"])];
        check_against(same, &[("ebiko", &["testkit", "oci"])], &[]);
        check_against(
            &[("oci", &["plan"]), ("plan", &[]), ("layer", &[])],
            &[("oci", &["plan"])],
            &[
                "the dependency table lists `ebiko`, which is not in the workspace",
                "the dependency table has no row for `layer`",
                "`oci` uses `plan`, and the dependency table does not allow it",
                "the tests of `oci` use `plan`, which does not lie beneath it",
                "`plan` may use `oci` by the dependency table, and does not",
            ],
        );
    }

    #[test]
    fn the_code_map_names_every_folder_and_no_other() {
        let mut problems = Vec::new();
        let folders = ["crates/oci", "crates/new", "bin/ebiko"].map(str::to_owned).into();
        compare_map(
            "### `crates/oci`\n### `crates/gone` and `bin/ebiko`\n",
            &folders,
            &mut problems,
        );
        let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        let expected = [
            "the code map has no heading for `crates/new`",
            "the code map has a heading for `crates/gone`, which is not there",
        ];
        assert_eq!(messages, expected);
    }
}
