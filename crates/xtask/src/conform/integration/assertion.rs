//! The asserts of a case.

use base64::Engine as _;
use regex::Regex;
use serde_json::{Value, json};

use super::build::{Built, without_label};
use super::case::Substitutions;
use super::layout::{Entry, Image};
use super::record;

/// Says what is wrong if the assert does not hold. Its placeholders have been replaced.
pub(super) fn check(assert: &Value, built: &Built) -> Result<(), String> {
    let kind = assert["type"].as_str().unwrap_or_default();
    let holds = match of_messages(kind, assert, built)? {
        Some(holds) => holds,
        None => match &built.image {
            Some(image) => of_image(kind, assert, image)?,
            None => false,
        },
    };
    if holds { Ok(()) } else { Err(failure(kind, assert, built)) }
}

fn failure(kind: &str, assert: &Value, built: &Built) -> String {
    let got = match kind {
        "error_contains" | "error_regex" => format!(", got {}", built.error),
        "error_lines" => format!(", got {:?}", built.error_lines),
        "step_name" | "step_contains" => format!(", got {:?}", built.steps),
        "warning_contains" => format!(", got {:?}", built.warnings),
        "config" => {
            let config = built.image.as_ref().map(|image| &image.config);
            let value = config.and_then(|config| config.pointer(text(assert, "pointer")));
            format!(", got {}", value.unwrap_or(&Value::Null))
        }
        "content" | "exists" | "mode" | "owner" | "mtime" | "symlink" => {
            let entry = built.image.as_ref().and_then(|image| find(image, text(assert, "path")));
            format!(", got {}", entry.map_or_else(|| "nothing".to_owned(), shown))
        }
        "layers" => {
            format!(", got {:?}", built.image.as_ref().map(|image| image.layers_added))
        }
        _ => String::new(),
    };
    format!("does not hold: {assert}{got}")
}

fn shown(entry: &Entry) -> String {
    let Entry { kind, mode, uid, gid, mtime, target, data, .. } = entry;
    let target = target.as_ref().map(|target| format!(" -> {target}")).unwrap_or_default();
    let data = data.as_deref().map(|data| String::from_utf8_lossy(data).into_owned());
    let data: String = data.unwrap_or_default().chars().take(200).collect();
    format!("{kind} {mode:04o} {uid}:{gid} at {mtime}{target} {data:?}")
}

/// Asserts about what the build said; `None` if it is none of them.
fn of_messages(kind: &str, assert: &Value, built: &Built) -> Result<Option<bool>, String> {
    let wanted = text(assert, "text");
    Ok(Some(match kind {
        "golden" => true,
        "error_contains" => built.error.contains(without_line(wanted)),
        "error_regex" => {
            let regex = loosened(text(assert, "regex"));
            Regex::new(&format!("(?s){regex}"))
                .map_err(|error| format!("`{regex}` is no regular expression: {error}"))?
                .is_match(&built.error)
        }
        "error_lines" => {
            built.error_lines.as_ref().is_some_and(|lines| json!(lines) == assert["lines"])
        }
        "log_contains" => built.log.contains(wanted),
        "step_name" => built.steps.iter().any(|step| step == without_label(wanted)),
        "step_contains" => built.steps.iter().any(|step| step.contains(wanted)),
        "warning_contains" => built.warnings.iter().any(|warning| warning.contains(wanted)),
        _ => return Ok(None),
    }))
}

/// The message without the line in front of it, which `error_lines` is about.
fn without_line(message: &str) -> &str {
    let rest = message.strip_prefix("dockerfile parse error on line ");
    rest.and_then(|rest| rest.split_once(": ")).map_or(message, |(_, rest)| rest)
}

/// The expression without what BuildKit says about its own cache before it comes to the point.
fn loosened(regex: &str) -> &str {
    match regex.split_once("checksum of ref") {
        Some((_, rest)) => rest.find('"').and_then(|at| rest.get(at..)).unwrap_or(regex),
        None => regex,
    }
}

fn of_image(kind: &str, assert: &Value, image: &Image) -> Result<bool, String> {
    let wanted = text(assert, "text");
    let created_by = |line: &Value| line["created_by"].as_str().unwrap_or_default().to_owned();
    let mut history = image.history.iter();
    Ok(match kind {
        "config" => config(assert, &image.config),
        "history" => {
            let none = Substitutions::default();
            history.map(|line| record::history(line, &none)).collect::<Value>() == assert["equals"]
        }
        "history_contains" => history.any(|line| created_by(line).contains(wanted)),
        "history_not_contains" => !history.any(|line| created_by(line).contains(wanted)),
        "history_created" => history.all(|line| is_time(&line["created"], &assert["unix"])),
        "created" => is_time(&image.config["created"], &assert["unix"]),
        "layers" => json!(image.layers_added) == assert["added"],
        "layer_annotation" => {
            let layers = image.manifest["layers"].as_array().map_or(&[][..], Vec::as_slice);
            let key = text(assert, "key");
            let annotation =
                |layer: &Value| layer["annotations"][key].as_str().unwrap_or_default().to_owned();
            let mut new = layers.iter().skip(image.base_layers);
            new.all(|layer| annotation(layer) == text(assert, "equals"))
        }
        "max_mtime" => {
            let latest = assert["unix"].as_i64().unwrap_or_default();
            image.new_files().all(|(_, entry)| entry.mtime <= latest)
        }
        _ => return of_path(kind, assert, image),
    })
}

fn of_path(kind: &str, assert: &Value, image: &Image) -> Result<bool, String> {
    let path = text(assert, "path").trim_matches('/');
    let entry = find(image, path);
    let has = |holds: &dyn Fn(&Entry) -> bool| entry.is_some_and(holds);
    Ok(match kind {
        "absent" => {
            !image.files.contains_key(path)
                && !image.files.contains_key(&image.resolve_parent(path))
        }
        "entries" => names(image, path) == sorted_names(&assert["names"]),
        "symlink" => {
            let link =
                image.files.get(path).or_else(|| image.files.get(&image.resolve_parent(path)));
            link.is_some_and(|link| {
                link.kind == "symlink" && link.target.as_deref() == assert["target"].as_str()
            })
        }
        "hardlink" => {
            let paths = assert["paths"].as_array().map_or(&[][..], Vec::as_slice);
            let paths: Vec<String> =
                paths.iter().map(|path| image.resolve(path.as_str().unwrap_or_default())).collect();
            let mut first: Vec<&str> = paths.iter().map(|path| image.first_name(path)).collect();
            first.dedup();
            paths.iter().all(|path| image.files.contains_key(path)) && first.len() == 1
        }
        "exists" => has(&|entry| assert["kind"].as_str().is_none_or(|kind| kind == entry.kind)),
        "mode" => has(&|entry| json!(format!("{:04o}", entry.mode)) == assert["mode"]),
        "owner" => {
            has(&|entry| json!([entry.uid, entry.gid]) == json!([assert["uid"], assert["gid"]]))
        }
        "mtime" => has(&|entry| json!(entry.mtime) == assert["unix"]),
        "content" => has(&|entry| entry.data.as_deref().is_some_and(|data| content(assert, data))),
        other => return Err(format!("there is no assert `{other}`")),
    })
}

/// The entry that a path leads to.
fn find<'a>(image: &'a Image, path: &str) -> Option<&'a Entry> {
    image.entry(path.trim_matches('/'))
}

fn names(image: &Image, dir: &str) -> Vec<String> {
    let dir = image.resolve(dir);
    let prefix = if dir.is_empty() { dir } else { format!("{dir}/") };
    let below = image.files.keys().filter_map(|path| path.strip_prefix(&prefix));
    let mut names: Vec<String> =
        below.filter_map(|rest| rest.split('/').next()).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

fn sorted_names(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    let mut names: Vec<String> = list.filter_map(|name| name.as_str().map(str::to_owned)).collect();
    names.sort();
    names
}

fn config(assert: &Value, config: &Value) -> bool {
    let value = config.pointer(text(assert, "pointer"));
    let is_empty = |value: &Value| {
        matches!(value, Value::Null)
            || value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty)
            || value.as_str().is_some_and(str::is_empty)
    };
    let contains = |value: &Value, part: &Value| match value {
        Value::Array(items) => items.contains(part),
        Value::String(text) => part.as_str().is_some_and(|part| text.contains(part)),
        Value::Object(fields) => part.as_str().is_some_and(|part| fields.contains_key(part)),
        _ => false,
    };
    if assert["absent"] == true {
        return value.is_none_or(is_empty);
    }
    if let Some(expected) = assert.get("equals") {
        return value == Some(expected);
    }
    if let Some(part) = assert.get("contains") {
        return value.is_some_and(|value| contains(value, part));
    }
    if let Some(part) = assert.get("not_contains") {
        return value.is_none_or(|value| !contains(value, part));
    }
    assert["not_empty"] == true && value.is_some_and(|value| !is_empty(value))
}

fn content(assert: &Value, data: &[u8]) -> bool {
    let has = |part: &str| {
        part.is_empty() || data.windows(part.len()).any(|window| window == part.as_bytes())
    };
    if let Some(expected) = assert["equals"].as_str() {
        return data == expected.as_bytes();
    }
    if let Some(expected) = assert["equals_b64"].as_str() {
        let expected = base64::engine::general_purpose::STANDARD.decode(expected);
        return expected.is_ok_and(|expected| data == expected);
    }
    if let Some(part) = assert["contains"].as_str() {
        return has(part);
    }
    if let Some(part) = assert["not_contains"].as_str() {
        return !has(part);
    }
    assert["min_len"].as_u64().is_some_and(|length| data.len() as u64 >= length)
}

/// Whether an RFC 3339 time in UTC begins with this second.
fn is_time(text: &Value, unix: &Value) -> bool {
    let (Some(text), Some(unix)) = (text.as_str(), unix.as_i64()) else { return false };
    seconds(text) == Some(unix)
}

/// `2023-11-14T22:13:20.5Z` → 1700000000
fn seconds(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date.split('-'))?;
    let [hour, minute, second] = numbers(time.split('.').next()?.split(':'))?;
    // Days since 1970 of the proleptic Gregorian calendar; a year begins in March, so that leap days come last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 719_469;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn numbers<'a>(parts: impl Iterator<Item = &'a str>) -> Option<[i64; 3]> {
    parts.map(|part| part.parse().ok()).collect::<Option<Vec<i64>>>()?.try_into().ok()
}

fn text<'a>(assert: &'a Value, name: &str) -> &'a str {
    assert[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, data: Option<&str>) -> Entry {
        Entry {
            kind: kind.into(),
            mode: 0o4755,
            uid: 1,
            gid: 2,
            mtime: 5,
            data: data.map(|data| data.as_bytes().to_vec()),
            ..Entry::default()
        }
    }

    fn built() -> Built {
        let mut image = Image {
            config: json!({"config": {"Env": ["A=1"], "User": ""}, "created": "2023-11-14T22:13:20.25Z"}),
            history: vec![json!({"created_by": "ENV A=1", "empty_layer": true, "comment": "x",
                                 "created": "2023-11-14T22:13:20Z"})],
            manifest: json!({"layers": [{}, {"annotations": {"k": "v"}}]}),
            base_layers: 1,
            layers_added: 1,
            ..Image::default()
        };
        image.files.insert("d".into(), entry("dir", None));
        image.files.insert("d/f".into(), entry("file", Some("hello")));
        image.files.insert(
            "h".into(),
            Entry { hardlink: Some("d/f".into()), ..entry("file", Some("hello")) },
        );
        image
            .files
            .insert("l".into(), Entry { target: Some("d".into()), ..entry("symlink", None) });
        Built {
            image: Some(image),
            steps: vec!["RUN x".into()],
            log: "says".into(),
            warnings: vec!["R: m (line 1)".into()],
            ..Built::default()
        }
    }

    /// Each holds as it is, and no longer with another value in the last field.
    #[test]
    fn asserts_about_an_image_hold_and_fail() {
        let built = built();
        for (assert, other) in [
            (json!({"type": "content", "path": "/l/f", "equals": "hello"}), json!("hallo")),
            (
                json!({"type": "content", "path": "d/f", "equals_b64": "aGVsbG8="}),
                json!("aGVsbG9v"),
            ),
            (json!({"type": "content", "path": "d/f", "contains": "ell"}), json!("x")),
            (json!({"type": "content", "path": "d/f", "not_contains": "x"}), json!("ell")),
            (json!({"type": "content", "path": "d/f", "min_len": 5}), json!(6)),
            (json!({"type": "exists", "path": "d", "kind": "dir"}), json!("file")),
            (json!({"type": "absent", "path": "l/x"}), json!("l/f")),
            (json!({"type": "mode", "path": "d/f", "mode": "4755"}), json!("0755")),
            (json!({"type": "owner", "path": "d/f", "uid": 1, "gid": 2}), json!(3)),
            (json!({"type": "mtime", "path": "d/f", "unix": 5}), json!(6)),
            (json!({"type": "symlink", "path": "l", "target": "d"}), json!("e")),
            (json!({"type": "hardlink", "paths": ["h", "l/f"]}), json!(["h", "l"])),
            (json!({"type": "entries", "path": "l", "names": ["f"]}), json!(["f", "g"])),
            (json!({"type": "entries", "path": "/", "names": ["l", "h", "d"]}), json!(["d"])),
            (
                json!({"type": "config", "pointer": "/config/Env", "equals": ["A=1"]}),
                json!(["A=2"]),
            ),
            (json!({"type": "config", "pointer": "/config/Env", "contains": "A=1"}), json!("A")),
            (
                json!({"type": "config", "pointer": "/config/Env", "not_contains": "A"}),
                json!("A=1"),
            ),
            (json!({"type": "config", "pointer": "/config/Env", "not_empty": true}), json!(false)),
            (json!({"type": "config", "pointer": "/config/User", "absent": true}), json!(false)),
            (
                json!({"type": "history", "equals": [{"created_by": "ENV A=1", "empty_layer": true}]}),
                json!([]),
            ),
            (json!({"type": "history_contains", "text": "A="}), json!("B=")),
            (json!({"type": "history_not_contains", "text": "B="}), json!("A=")),
            (json!({"type": "history_created", "unix": 1_700_000_000}), json!(1)),
            (json!({"type": "created", "unix": 1_700_000_000}), json!(1_700_000_001)),
            (json!({"type": "layers", "added": 1}), json!(2)),
            (json!({"type": "layer_annotation", "key": "k", "equals": "v"}), json!("w")),
            (json!({"type": "max_mtime", "unix": 5}), json!(4)),
            (json!({"type": "log_contains", "text": "ay"}), json!("nay")),
            (json!({"type": "step_name", "text": "[base 1/2] RUN x"}), json!("[base 1/2] RUN y")),
            (json!({"type": "step_contains", "text": "UN x"}), json!("UN y")),
            (json!({"type": "warning_contains", "text": "m (l"}), json!("q")),
        ] {
            assert_eq!(check(&assert, &built), Ok(()));
            let mut wrong = assert.clone();
            let last = [
                "target",
                "paths",
                "names",
                "kind",
                "mode",
                "gid",
                "equals",
                "equals_b64",
                "contains",
                "not_contains",
                "min_len",
                "not_empty",
                "absent",
                "text",
                "added",
                "unix",
                "path",
            ]
            .into_iter()
            .find(|name| assert.get(name).is_some())
            .unwrap();
            wrong[last] = other;
            assert!(check(&wrong, &built).is_err(), "{wrong} must not hold");
        }
    }

    #[test]
    fn asserts_about_a_failure_hold_and_fail() {
        let built = Built {
            error: "cannot copy: \"/x\": not found\n  caused by: it".into(),
            error_lines: Some(vec![2, 3]),
            ..Built::default()
        };
        let regex = "failed to calculate checksum of ref.*: \"/x\": not found";
        for (assert, holds) in [
            (json!({"type": "error_contains", "text": "not found"}), true),
            (
                json!({"type": "error_contains", "text": "dockerfile parse error on line 2: cannot copy"}),
                true,
            ),
            (json!({"type": "error_contains", "text": "found not"}), false),
            (json!({"type": "error_regex", "regex": regex}), true),
            (json!({"type": "error_regex", "regex": "cannot.*it$"}), true),
            (json!({"type": "error_regex", "regex": "^copy"}), false),
            (json!({"type": "error_lines", "lines": [2, 3]}), true),
            (json!({"type": "error_lines", "lines": [2]}), false),
            (json!({"type": "golden"}), true),
            (json!({"type": "exists", "path": "x"}), false),
            (json!({"type": "absent", "path": "x"}), false),
        ] {
            assert_eq!(check(&assert, &built).is_ok(), holds, "{assert}");
        }
    }

    #[test]
    fn an_assert_of_an_unknown_kind_never_holds() {
        assert_eq!(
            check(&json!({"type": "nosuch", "path": "d"}), &built()),
            Err("there is no assert `nosuch`".to_owned())
        );
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2024-02-29T23:59:59.123456789Z", Some(1_709_251_199)),
            ("2025-03-01T00:00:00Z", Some(1_740_787_200)),
            ("1969-12-31T23:59:59Z", Some(-1)),
            ("2025-03-01", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
