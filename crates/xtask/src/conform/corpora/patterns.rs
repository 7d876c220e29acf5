//! Corpora about `.dockerignore`.

use ebiko_context::{IgnoreFile, PatternList};
use serde_json::Value;

use super::{strings, text};
use crate::conform::report::Outcome;

pub(super) fn matcher(case: &Value) -> Outcome {
    let patterns = strings(&case["patterns"]);
    match (PatternList::compile(&patterns), case["error"].is_string()) {
        (Ok(list), false) => judged(case, &list),
        (Err(_), true) => Outcome::Pass,
        (Ok(_), true) => Outcome::fail(format!("{patterns:?} must fail: {}", case["error"])),
        (Err((_, error)), false) => Outcome::fail(format!("{patterns:?} fails: {error}")),
    }
}

pub(super) fn file(case: &Value) -> Outcome {
    match (IgnoreFile::parse(text(case, "file").as_bytes()), case["error"].is_string()) {
        (Ok(file), false) => judged(case, file.patterns()),
        (Err(_), true) => Outcome::Pass,
        (Ok(_), true) => Outcome::fail(format!("it must fail: {}", case["error"])),
        (Err(error), false) => Outcome::fail(format!("it fails: {error}")),
    }
}

fn judged(case: &Value, list: &PatternList) -> Outcome {
    if let Some(expected) = case["has_exclusions"].as_bool()
        && expected != list.has_exceptions()
    {
        return Outcome::fail(format!("exceptions: expected {expected}"));
    }
    for (path, expected) in case["matches"].as_object().into_iter().flatten() {
        let actual: Value = match list.excludes(path.as_bytes()) {
            Ok(excluded) => excluded.into(),
            // Which of the patterns it is is said by us alone.
            Err(_) => "error: syntax error in pattern".into(),
        };
        if *expected != actual {
            return Outcome::fail(format!(
                "{path:?} with {}: expected {expected}, got {actual}",
                case["patterns"]
            ));
        }
    }
    Outcome::Pass
}
