//! What two records do not agree on.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Entry, Record};

impl Record {
    /// One line for each thing that `other` has otherwise than this record, which is what is expected.
    ///
    /// A failure has to be blamed on the same lines, where this record names any, and its message must have this record's words in
    /// it; what else it says is its own. A field that this record leaves out (`architecture`, times) is not compared.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        if self.status != other.status {
            let because =
                first_line(if other.error.is_empty() { &self.error } else { &other.error });
            return vec![format!(
                "status: expected {}, is {} ({because})",
                self.status, other.status
            )];
        }
        let mut all = Vec::new();
        if self.status == "error" {
            if !self.error_lines.is_empty() && self.error_lines != other.error_lines {
                all.push(expected("error_lines", &self.error_lines, &other.error_lines));
            }
            if !joined(&other.error).contains(&joined(essence(&self.error))) {
                all.push(expected("error", &essence(&self.error), &other.error));
            }
            return all;
        }
        compare(&mut all, "config", &self.config, &other.config);
        for (name, mine, its) in [
            ("os", &self.os, &other.os),
            ("architecture", &self.architecture, &other.architecture),
            ("variant", &self.variant, &other.variant),
            ("created", &self.created, &other.created),
        ] {
            if mine.is_some() && mine != its {
                all.push(expected(name, mine, its));
            }
        }
        if self.author != other.author {
            all.push(expected("author", &self.author, &other.author));
        }
        for index in 0..self.history.len().max(other.history.len()) {
            let (mine, its) = (self.history.get(index), other.history.get(index));
            let without_time = |line: Option<&super::History>| {
                line.map(|line| (line.created_by.clone(), line.empty_layer))
            };
            if without_time(mine) != without_time(its) {
                all.push(expected(&format!("history/{index}"), &mine, &its));
            } else if let (Some(mine), Some(its)) = (mine, its)
                && mine.created.is_some()
                && mine.created != its.created
            {
                all.push(expected(
                    &format!("history/{index}/created"),
                    &mine.created,
                    &its.created,
                ));
            }
        }
        if self.layers_added != other.layers_added {
            all.push(expected("layers_added", &self.layers_added, &other.layers_added));
        }
        if self.deleted != other.deleted {
            all.push(expected("deleted", &self.deleted, &other.deleted));
        }
        trees(&mut all, &self.files, &other.files);
        all
    }
}

fn trees(
    all: &mut Vec<String>,
    expected_files: &BTreeMap<String, Entry>,
    files: &BTreeMap<String, Entry>,
) {
    let paths: std::collections::BTreeSet<&String> =
        expected_files.keys().chain(files.keys()).collect();
    for path in paths {
        match (expected_files.get(path), files.get(path)) {
            (Some(mine), Some(its)) => {
                let (mine, its) = (serde_json::to_value(mine), serde_json::to_value(its));
                if let (Ok(mine), Ok(its)) = (mine, its) {
                    compare(all, &format!("files/{path}"), &mine, &its);
                }
            }
            (Some(_), None) => all.push(format!("files/{path}: missing")),
            (None, Some(its)) => all.push(format!("files/{path}: extra {}", shown(its))),
            (None, None) => {}
        }
    }
}

/// Compares two values member by member. What is absent, null or empty is the same: builders differ in what they write for
/// nothing.
fn compare(all: &mut Vec<String>, place: &str, mine: &Value, its: &Value) {
    let members = |value: &Value| match value {
        Value::Object(members) => Some(members.keys().cloned().collect::<Vec<_>>()),
        Value::Null => Some(Vec::new()),
        _ => None,
    };
    if let (Some(left), Some(right)) = (members(mine), members(its)) {
        let keys: std::collections::BTreeSet<String> = left.into_iter().chain(right).collect();
        for key in keys {
            let place = format!("{place}/{key}");
            compare(all, &place, &mine[key.as_str()], &its[key.as_str()]);
        }
    } else if mine != its && !(is_nothing(mine) && is_nothing(its)) {
        all.push(expected(place, mine, its));
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(_) => false,
    }
}

fn expected(place: &str, mine: &impl serde::Serialize, its: &impl serde::Serialize) -> String {
    format!("{place}: expected {}, is {}", shown(mine), shown(its))
}

fn shown(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A message without what only BuildKit says: how it came to look, which line it read (that is compared), and guesses, of which it
/// picks any of equally good ones.
fn essence(message: &str) -> &str {
    let mut rest = message;
    for prefix in [
        "failed to compute cache key: ",
        "failed to load cache key: ",
        "failed to load LLB: ",
        "failed to calculate checksum of ref …: ",
    ] {
        rest = rest.strip_prefix(prefix).unwrap_or(rest);
    }
    if let Some((_, after)) =
        rest.strip_prefix("dockerfile parse error on line ").and_then(|rest| rest.split_once(": "))
    {
        rest = after;
    }
    if let Some((_, after)) = rest.split_once(" did not complete successfully: ") {
        rest = after;
    }
    rest.split_once(" (did you mean ").map_or(rest, |(before, _)| before)
}

/// Breaking a line is no difference.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::History;

    fn record(text: &str) -> Record {
        let entry = Entry { kind: "file".into(), text: Some(text.into()), ..Entry::default() };
        Record {
            status: "ok".into(),
            files: BTreeMap::from([("a".into(), entry)]),
            history: vec![History {
                created_by: "COPY a / # buildkit".into(),
                ..History::default()
            }],
            ..Record::default()
        }
    }

    #[test]
    fn each_difference_is_one_line() {
        let expected = record("1");
        assert_eq!(expected.differences(&record("1")), [] as [&str; 0]);
        let mut other = record("2");
        other.files.insert("b".into(), Entry::default());
        other.history.clear();
        other.config = serde_json::json!({"User": "joe", "Env": []});
        assert_eq!(
            expected.differences(&other),
            [
                r#"config/User: expected null, is "joe""#,
                r#"history/0: expected {"created_by":"COPY a / # buildkit","empty_layer":false}, is null"#,
                r#"files/a/text: expected "1", is "2""#,
                r#"files/b: extra {"type":"","mode":"","uid":0,"gid":0}"#,
            ]
        );
    }

    #[test]
    fn a_failure_is_blamed_on_the_same_lines() {
        let failed = |lines: &[u32]| Record::of_error("no", lines.to_vec());
        assert_eq!(failed(&[2]).differences(&failed(&[3])), ["error_lines: expected [2], is [3]"]);
        assert_eq!(
            failed(&[]).differences(&failed(&[3])),
            [] as [&str; 0],
            "where lines are known"
        );
        assert_eq!(record("1").differences(&failed(&[3])), ["status: expected ok, is error (no)"]);
    }

    #[test]
    fn a_failure_says_what_buildkit_says_and_may_say_more() {
        let says = |words: &str| Record::of_error(words, vec![2]);
        let expected =
            says("dockerfile parse error on line 2: unknown flag: --x (did you mean y?)");
        let others = "error: unknown flag:\n  --x\nhint: none";
        assert_eq!(expected.differences(&says(others)), [] as [&str; 0]);
        assert_eq!(
            expected.differences(&says("no")),
            [r#"error: expected "unknown flag: --x", is "no""#]
        );
    }
}
