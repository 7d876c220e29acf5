//! The tables of `docs/COMPATIBILITY.md` that say which test holds a row.

use std::path::Path;

use super::layers::{cells, in_backticks};
use super::{Problem, read};

const COMPATIBILITY: &str = "docs/COMPATIBILITY.md";

/// The head of the column that names tests.
const TEST: &str = "test";

/// A row of a table with a column of tests.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    line: usize,
    tests: Vec<String>,
}

/// Every row names a test, and every test that is named exists.
pub(super) fn check(root: &Path, problems: &mut Vec<Problem>) -> anyhow::Result<()> {
    let text = read(root, COMPATIBILITY)?;
    for Row { line, tests } in rows(&text) {
        let place = format!("{COMPATIBILITY}:{line}");
        if tests.is_empty() {
            problems.push(Problem::new(&place, "names no test"));
        }
        for test in tests.iter().filter(|test| !exists(root, test)) {
            problems.push(Problem::new(&place, format!("names `{test}`, which is not there")));
        }
    }
    Ok(())
}

fn rows(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut is_table = false;
    let mut column = None;
    for (index, line) in text.lines().enumerate() {
        let was_table = is_table;
        is_table = line.starts_with('|');
        if !is_table {
            continue;
        }
        let cells = cells(line);
        if !was_table {
            column = cells.iter().position(|head| *head == TEST);
        } else if let Some(column) = column
            && !line.starts_with("|--")
        {
            let tests = cells.get(column).map_or_else(Vec::new, |cell| in_backticks(cell));
            rows.push(Row { line: index + 1, tests });
        }
    }
    rows
}

/// A test is a path, such as a case of `testdata`, or a function in a file: `path: name`.
fn exists(root: &Path, test: &str) -> bool {
    match test.split_once(": ") {
        None => root.join(test).exists(),
        Some((file, name)) => read(root, file).is_ok_and(|source| has_test(&source, name)),
    }
}

/// Whether `source` has the function `name`, and the attribute of a test directly above it.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let start = format!("fn {name}(");
    let is_attributed = |index: usize| {
        let above = lines[..index].iter().rev();
        above.take_while(|line| !line.is_empty() && **line != "}").any(|line| *line == "#[test]")
    };
    lines.iter().enumerate().any(|(index, line)| line.starts_with(&start) && is_attributed(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tables_with_a_column_of_tests_are_read() {
        let text = "| flag | notes |\n|---|---|\n| `-x` | none |\n\n\
                    | construct | test |\n|---|---|\n| a `x` | `testdata/a`, `f.rs: b` |\n| c | later |\n| d |\n\nEnd.\n";
        let row = |line, tests: &[&str]| Row {
            line,
            tests: tests.iter().map(|test| (*test).to_owned()).collect(),
        };
        assert_eq!(rows(text), [row(7, &["testdata/a", "f.rs: b"]), row(8, &[]), row(9, &[])]);
    }

    #[test]
    fn a_test_is_a_function_with_the_attribute() {
        let source = "fn a() {\n}\n\n/// Says.\n#[test]\n#[cfg(x)]\nfn b() {\n}\nfn c() {}\n    #[test]\n    fn de(x: u8) {}\n";
        for (name, expected) in
            [("a", false), ("b", true), ("c", false), ("d", false), ("de", true)]
        {
            assert_eq!(has_test(source, name), expected, "{name}");
        }
    }

    #[test]
    fn a_test_that_is_named_must_be_there() {
        let root = testkit::workspace_dir();
        assert!(exists(&root, "testdata/plan"));
        assert!(!exists(&root, "testdata/no-such-folder"));
        let own = "crates/xtask/src/tidy/compatibility.rs";
        assert!(exists(&root, &format!("{own}: a_test_that_is_named_must_be_there")));
        assert!(!exists(&root, &format!("{own}: a_test_that_is_not")));
        assert!(!exists(&root, "crates/none.rs: a"));
    }
}
