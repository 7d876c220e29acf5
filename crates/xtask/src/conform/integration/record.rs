//! Makes the shape that a golden record has of what a build left.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::build::Built;
use super::case::Substitutions;
use super::layout::{Entry, Image};

/// Texts up to this length are in a record as they are.
const LONGEST_TEXT: usize = 300;

/// What is compared with the golden record. What this program does not produce in BuildKit's form is left out: names of
/// progress lines, platforms of an index, which of two names is the link.
pub(super) fn of(built: &Built, substitutions: &Substitutions) -> Value {
    let Some(image) = &built.image else {
        let mut record =
            json!({ "status": "error", "error": substitutions.restore_text(&built.error) });
        if let Some(lines) = &built.error_lines {
            record["error_lines"] = json!(lines);
        }
        return record;
    };
    let mut record = json!({
        "status": "ok",
        "config": substitutions.restore(image.config["config"].clone()),
        "history": image.history.iter().map(|line| history(line, substitutions)).collect::<Value>(),
        "layers_added": image.layers_added,
        "warnings": built.warnings,
        "deleted": image.deleted(),
        "files": files(image, substitutions),
    });
    for key in ["architecture", "os", "variant", "author"] {
        record[key] = image.config[key].clone();
    }
    record
}

/// An entry of the history, as golden records and asserts have it.
pub(super) fn history(line: &Value, substitutions: &Substitutions) -> Value {
    let text = line["created_by"].as_str().unwrap_or_default();
    json!({
        "created_by": substitutions.restore_text(text),
        "empty_layer": line["empty_layer"] == true,
    })
}

fn files(image: &Image, substitutions: &Substitutions) -> Value {
    let files = image.new_files();
    let mut object = Map::new();
    for (path, entry) in files {
        let mut value = file(entry, substitutions);
        // Which of two names is the link is free; that they are one file is not.
        value["first_name"] = image.first_name(path).into();
        object.insert(path.clone(), value);
    }
    object.into()
}

fn file(entry: &Entry, substitutions: &Substitutions) -> Value {
    let mut value = json!({
        "type": entry.kind,
        "mode": format!("{:04o}", entry.mode),
        "uid": entry.uid,
        "gid": entry.gid,
        "mtime": entry.mtime,
    });
    if let Some(target) = &entry.target {
        value["target"] = target.as_str().into();
    }
    if !entry.xattrs.is_empty() {
        value["xattrs"] = json!(entry.xattrs);
    }
    if let Some(data) = &entry.data {
        value["size"] = data.len().into();
        value["sha256"] = hex(&Sha256::digest(data)).into();
        if data.len() <= LONGEST_TEXT
            && let Ok(text) = std::str::from_utf8(data)
        {
            value["text"] = substitutions.restore_text(text).into();
        }
    }
    value
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in bytes {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}
