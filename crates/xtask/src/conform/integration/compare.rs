//! Holds a record against the golden one, field by field.

use serde_json::Value;

/// The fields of a record that are compared as they are. Names of progress lines (`steps`) are not: asserts look at them.
const FIELDS: [&str; 10] = [
    "config",
    "architecture",
    "os",
    "variant",
    "author",
    "history",
    "layers_added",
    "platforms",
    "deleted",
    "warnings",
];

/// What must be there of a file; all else is compared only where our record has it.
const FACTS: [&str; 5] = ["type", "mode", "uid", "gid", "target"];

/// One line for each difference. A field that our record does not have at all is no difference.
///
/// The text of an error is not compared: BuildKit puts paths and references of its own into it. Asserts look at its words.
pub(super) fn differences(golden: &Value, ours: &Value) -> Vec<String> {
    if golden["status"] != ours["status"] {
        let error = ours["error"].as_str().unwrap_or_default();
        return vec![format!(
            "status: expected {}, got {} {error}",
            golden["status"], ours["status"]
        )];
    }
    let mut differences = Vec::new();
    if golden["status"] == "error" {
        let [expected, actual] = [golden, ours].map(|record| &record["error_lines"]);
        if !expected.is_null() && !actual.is_null() && expected != actual {
            differences.push(format!("error_lines: expected {expected}, got {actual}"));
        }
        return differences;
    }
    for field in FIELDS {
        let Some(actual) = ours.get(field) else { continue };
        let expected = golden.get(field).unwrap_or(&Value::Null);
        if field == "warnings" {
            deep(field, &sorted(expected), &sorted(actual), &mut differences);
        } else {
            deep(field, expected, actual, &mut differences);
        }
    }
    if let Some(actual) = ours.get("files") {
        files(&golden["files"], actual, &mut differences);
    }
    differences
}

fn sorted(list: &Value) -> Value {
    let mut items = list.as_array().cloned().unwrap_or_default();
    items.sort_by_key(Value::to_string);
    items.dedup();
    Value::Array(items)
}

/// What is empty is as good as what is not there: encoders differ in what they leave out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_f64() == Some(0.0),
        Value::String(value) => value.is_empty(),
        Value::Array(value) => value.is_empty(),
        Value::Object(value) => value.is_empty(),
    }
}

fn deep(path: &str, expected: &Value, actual: &Value, differences: &mut Vec<String>) {
    if let (Some(one), Some(other)) = (expected.as_object(), actual.as_object()) {
        let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            deep(&format!("{path}/{key}"), &expected[key], &actual[key], differences);
        }
    } else if expected != actual && !(is_empty(expected) && is_empty(actual)) {
        differences.push(format!("{path}: expected {expected}, got {actual}"));
    }
}

/// Whether `path` is in a `.git`. What is there besides the names that asserts ask for is the choice of the git program
/// that the record was made with: its sample hooks, its logs, how it packs objects.
fn is_inside_git_dir(path: &str) -> bool {
    path.starts_with(".git/") || path.contains("/.git/")
}

fn files(golden: &Value, ours: &Value, differences: &mut Vec<String>) {
    let [golden, ours] = [golden, ours].map(|files| {
        let mut files = files.as_object().cloned().unwrap_or_default();
        files.retain(|path, _| !is_inside_git_dir(path));
        files
    });
    let mut paths: Vec<&String> = golden.keys().chain(ours.keys()).collect();
    paths.sort();
    paths.dedup();
    for path in paths {
        match (golden.get(path), ours.get(path)) {
            (Some(expected), Some(actual)) => {
                file(path, expected, actual, differences);
                let first = expected["hardlink"].as_str().and_then(|first| ours.get(first));
                if let Some(first) = first
                    && first["first_name"] != actual["first_name"]
                {
                    let other = &expected["hardlink"];
                    differences.push(format!("files/{path}: must be the same file as {other}"));
                }
            }
            (Some(_), None) => differences.push(format!("files/{path}: missing")),
            (None, actual) => {
                let actual = actual.unwrap_or(&Value::Null);
                differences.push(format!("files/{path}: must not be there: {actual}"));
            }
        }
    }
}

fn file(path: &str, expected: &Value, actual: &Value, differences: &mut Vec<String>) {
    for (fact, expected_value) in expected.as_object().into_iter().flatten() {
        let has_digests = [expected, actual].iter().all(|file| file.get("sha256").is_some());
        if matches!(fact.as_str(), "text" | "b64") && has_digests {
            // The digests are compared, but the text says more when they differ.
            if expected["sha256"] != actual["sha256"] {
                differences.push(format!(
                    "files/{path}: expected {expected_value}, got {}",
                    actual["text"]
                ));
            }
            continue;
        }
        let is_ours = actual.get(fact).is_some();
        if (is_ours || FACTS.contains(&fact.as_str())) && actual[fact] != *expected_value {
            differences.push(format!(
                "files/{path}/{fact}: expected {expected_value}, got {}",
                actual[fact]
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn golden() -> Value {
        json!({
            "status": "ok",
            "config": {"Env": ["A=1"], "WorkingDir": "/", "Labels": null},
            "os": "linux",
            "history": [{"created_by": "ENV A=1", "empty_layer": true}],
            "layers_added": 1,
            "steps": ["[1/1] never compared"],
            "warnings": ["b", "a"],
            "files": {
                "d": {"type": "dir", "mode": "0755", "uid": 0, "gid": 0},
                "d/f": {"type": "file", "mode": "0644", "uid": 0, "gid": 0, "mtime": 5, "size": 1,
                        "sha256": "x", "text": "x"},
                "d/g": {"type": "file", "mode": "0644", "uid": 0, "gid": 0, "hardlink": "d/f"},
            },
        })
    }

    fn ours() -> Value {
        let mut ours = golden();
        let object = ours.as_object_mut().unwrap();
        object.remove("steps");
        ours["config"] = json!({"Env": ["A=1"], "WorkingDir": "/", "Cmd": []});
        ours["warnings"] = json!(["a", "b"]);
        ours["deleted"] = json!([]);
        for path in ["d/f", "d/g"] {
            ours["files"][path]["first_name"] = "d/g".into();
        }
        ours["files"]["d"]["mtime"] = 99.into();
        ours
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Value), expected: &[&str]) {
        let mut ours = ours();
        change(&mut ours);
        assert_eq!(differences(&golden(), &ours), expected);
    }

    #[test]
    fn what_is_the_same_has_no_difference() {
        check(|_| {}, &[]);
        check(|ours| drop(ours.as_object_mut().unwrap().remove("warnings")), &[]);
        check(|ours| drop(ours["files"]["d/f"].as_object_mut().unwrap().remove("mtime")), &[]);
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        check(|ours| ours["status"] = "error".into(), &["status: expected \"ok\", got \"error\" "]);
        check(
            |ours| ours["config"]["Env"] = json!(["A=2"]),
            &[r#"config/Env: expected ["A=1"], got ["A=2"]"#],
        );
        check(
            |ours| ours["config"]["User"] = "u".into(),
            &["config/User: expected null, got \"u\""],
        );
        check(|ours| ours["layers_added"] = 2.into(), &["layers_added: expected 1, got 2"]);
        check(|ours| ours["deleted"] = json!(["etc"]), &["deleted: expected null, got [\"etc\"]"]);
        check(
            |ours| ours["warnings"] = json!(["a"]),
            &[r#"warnings: expected ["a","b"], got ["a"]"#],
        );
        check(
            |ours| ours["history"][0]["empty_layer"] = false.into(),
            &[
                r#"history: expected [{"created_by":"ENV A=1","empty_layer":true}], got [{"created_by":"ENV A=1","empty_layer":false}]"#,
            ],
        );
    }

    #[test]
    fn every_fact_of_a_file_counts() {
        check(
            |ours| drop(ours["files"].as_object_mut().unwrap().remove("d")),
            &["files/d: missing"],
        );
        check(|ours| ours["files"]["z"] = json!(1), &["files/z: must not be there: 1"]);
        check(
            |ours| ours["files"]["d"]["mode"] = "0700".into(),
            &["files/d/mode: expected \"0755\", got \"0700\""],
        );
        check(
            |ours| ours["files"]["d/f"]["mtime"] = 6.into(),
            &["files/d/f/mtime: expected 5, got 6"],
        );
        check(
            |ours| {
                ours["files"]["d/f"]["sha256"] = "y".into();
                ours["files"]["d/f"]["text"] = "y".into();
            },
            &[
                "files/d/f/sha256: expected \"x\", got \"y\"",
                "files/d/f: expected \"x\", got \"y\"",
            ],
        );
        check(
            |ours| ours["files"]["d/g"]["first_name"] = "other".into(),
            &["files/d/g: must be the same file as \"d/f\""],
        );
    }

    #[test]
    fn of_a_failure_only_known_lines_are_compared() {
        let golden = json!({"status": "error", "error": "x", "error_lines": [2]});
        let check = |ours: Value| differences(&golden, &ours);
        assert!(check(json!({"status": "error", "error": "y"})).is_empty());
        assert_eq!(
            check(json!({"status": "error", "error_lines": [3]})),
            ["error_lines: expected [2], got [3]"]
        );
    }
}
