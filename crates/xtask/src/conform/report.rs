//! What came of each case, as lines for people and as JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use serde_json::{Value, json};

/// What came of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pass,
    /// Why, on one line, and everything that is known.
    Fail {
        reason: String,
        details: String,
    },
    /// Why this place cannot do it.
    Unsupported(String),
}

impl Outcome {
    /// A failure of which the first line says enough.
    pub(crate) fn fail(details: impl Into<String>) -> Self {
        let details = details.into();
        let reason = details.lines().next().unwrap_or_default().to_owned();
        Self::Fail { reason, details }
    }

    /// Fails where the two differ.
    pub(crate) fn compare(expected: &Value, actual: &Value) -> Self {
        if expected == actual {
            return Self::Pass;
        }
        Self::fail(format!("expected {expected}, got {actual}"))
    }
}

/// Collects outcomes and prints failures as they come.
#[derive(Debug, Default)]
pub(crate) struct Report {
    items: Mutex<Vec<Item>>,
}

#[derive(Debug)]
struct Item {
    corpus: &'static str,
    id: String,
    outcome: Outcome,
}

impl Report {
    /// Notes an outcome, and prints it unless it is a pass.
    pub(crate) fn add(&self, corpus: &'static str, id: &str, outcome: Outcome) {
        match &outcome {
            Outcome::Pass => {}
            Outcome::Fail { reason, .. } => println!("{corpus}/{id}: {}", shortened(reason)),
            Outcome::Unsupported(reason) => {
                println!("{corpus}/{id}: unsupported here: {}", shortened(reason));
            }
        }
        let item = Item { corpus, id: id.to_owned(), outcome };
        self.items.lock().unwrap_or_else(PoisonError::into_inner).push(item);
    }

    /// How many outcomes there are: passes, failures, unsupported ones.
    pub(crate) fn counts(&self) -> [usize; 3] {
        let items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = [0; 3];
        for item in items.iter() {
            counts[match item.outcome {
                Outcome::Pass => 0,
                Outcome::Fail { .. } => 1,
                Outcome::Unsupported(_) => 2,
            }] += 1;
        }
        counts
    }

    /// Numbers for each corpus and, of the integration cases, for each group; the whole last.
    pub(crate) fn print_summary(&self) {
        let items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows: BTreeMap<String, [usize; 3]> = BTreeMap::new();
        for item in items.iter() {
            let group = item.id.split('/').next().unwrap_or_default();
            let row = if item.corpus == "integration" {
                format!("integration/{group}")
            } else {
                item.corpus.to_owned()
            };
            let column = match item.outcome {
                Outcome::Pass => 0,
                Outcome::Fail { .. } => 1,
                Outcome::Unsupported(_) => 2,
            };
            rows.entry(row).or_default()[column] += 1;
        }
        if let [only] = &items[..]
            && let Outcome::Fail { details, .. } = &only.outcome
        {
            println!("\n{details}\n");
        }
        drop(items);
        for (row, [passed, failed, unsupported]) in rows {
            println!(
                "{row:<32} {passed:>4} passed {failed:>4} failed {unsupported:>3} unsupported here"
            );
        }
        let [passed, failed, unsupported] = self.counts();
        println!("{passed} passed, {failed} failed, {unsupported} unsupported here");
    }

    /// Writes the list of outcomes, in the order of corpora and ids.
    pub(crate) fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        items.sort_by(|one, other| (one.corpus, &one.id).cmp(&(other.corpus, &other.id)));
        let list: Vec<Value> = items.iter().map(json_of).collect();
        let text = serde_json::to_string_pretty(&list)?;
        std::fs::write(path, text + "\n")
            .with_context(|| format!("cannot write `{}`", path.display()))
    }
}

fn json_of(item: &Item) -> Value {
    let mut value = json!({ "id": item.id, "corpus": item.corpus });
    let (status, reason) = match &item.outcome {
        Outcome::Pass => ("pass", ""),
        Outcome::Fail { reason, details } => {
            value["details"] = details.as_str().into();
            ("fail", reason.as_str())
        }
        Outcome::Unsupported(reason) => ("unsupported", reason.as_str()),
    };
    value["status"] = status.into();
    value["reason"] = reason.into();
    value
}

/// A line that fits on a screen.
fn shortened(reason: &str) -> String {
    const LONGEST: usize = 240;
    let line = reason.replace('\n', " ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_and_written_in_order() {
        let report = Report::default();
        report.add("shell", "b", Outcome::Pass);
        report.add("shell", "a", Outcome::compare(&json!(1), &json!(2)));
        report.add("integration", "network/x", Outcome::Unsupported("no".into()));
        assert_eq!(report.counts(), [1, 1, 1]);
        let dir = testkit::scratch_dir("report-").unwrap();
        let path = dir.path().join("r.json");
        report.write_json(&path).unwrap();
        let written: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(
            written,
            json!([
                {"id": "network/x", "corpus": "integration", "status": "unsupported", "reason": "no"},
                {"id": "a", "corpus": "shell", "status": "fail", "reason": "expected 1, got 2",
                 "details": "expected 1, got 2"},
                {"id": "b", "corpus": "shell", "status": "pass", "reason": ""},
            ])
        );
    }
}
