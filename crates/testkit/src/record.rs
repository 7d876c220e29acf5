//! What a build gave, in a form in which two builders can be compared.
//!
//! A [`Record`] says what is in an image and not how it is packed: the tree is flattened and what the base has is left out,
//! so order, compression and boundaries of layers, and the machine's busybox, do not show. It also leaves out what no two builds
//! share: a time counts only when it is older than [`YOUNGEST_FIXED_TIME`], because everything that a case gives a time to is older,
//! and what takes its time from the clock is younger.
//!
//! # Reading order
//!
//! [`Record`] and [`Entry`], [`Record::of_layout`], then [`Record::differences`].

mod difference;
mod flatten;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// 2023-01-01 00:00:00 UTC, in seconds: a time from then on comes from the clock.
pub const YOUNGEST_FIXED_TIME: u64 = 1_672_531_200;

/// How a build ended and what it made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// `ok` or `error`.
    pub status: String,
    /// The message of a build that failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// The lines of the Dockerfile that the failure was blamed on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub error_lines: Vec<u32>,
    /// The image config's `config`.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub config: Value,
    /// The image config's `os`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// The image config's `architecture`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// The image config's `variant`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The image config's `author`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The image's time, if it is a fixed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The history after the base's, and what of the base's has a fixed time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// How many layers the build added to the base's.
    pub layers_added: usize,
    /// Every path whose entry is not the base's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, Entry>,
    /// Every path of the base that is gone; of a tree that is gone, the top.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<String>,
}

/// One line of history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// The instruction.
    pub created_by: String,
    /// Whether it made no layer.
    pub empty_layer: bool,
    /// Its time, if it is a fixed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
}

/// One path of a flattened tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// `file`, `dir`, `symlink`, `fifo`, `char` or `block`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Four octal digits.
    pub mode: String,
    /// The owner.
    pub uid: u64,
    /// The owner's group.
    pub gid: u64,
    /// What a symbolic link says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The first of the names that a file has, if this is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardlink: Option<String>,
    /// Extended attributes, each as `name=value` with what is not printable escaped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub xattrs: Vec<String>,
    /// The modification time in seconds, if it is a fixed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtime: Option<u64>,
    /// The content of a short file that is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The length of any other file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The hash of any other file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl Record {
    /// A build that failed.
    pub fn of_error(message: impl Into<String>, lines: Vec<u32>) -> Self {
        Self {
            status: "error".to_owned(),
            error: message.into(),
            error_lines: lines,
            ..Self::default()
        }
    }

    /// What it is, in one line for people.
    pub fn summary(&self) -> String {
        match self.error.lines().next() {
            None => format!("{} layers, {} paths", self.layers_added, self.files.len()),
            Some(error) => format!("error in lines {:?}: {error}", self.error_lines),
        }
    }

    /// Reads a recorded one.
    ///
    /// # Errors
    ///
    /// Fails on what is not the JSON that [`Record::to_text`] writes.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        Ok(serde_json::from_str(text)?)
    }

    /// JSON with a line for each entry and each instruction, so that a change of one shows as one line.
    pub fn to_text(&self) -> String {
        let Ok(Value::Object(fields)) = serde_json::to_value(self) else { return String::new() };
        let lines: Vec<String> = fields
            .iter()
            .map(|(key, value)| match (key.as_str(), value) {
                ("history", Value::Array(items)) => {
                    let items = items.iter().map(|item| format!("    {item}"));
                    format!("  \"{key}\": [\n{}\n  ]", items.collect::<Vec<_>>().join(",\n"))
                }
                ("config" | "files", Value::Object(items)) => {
                    let items = items.iter().map(|(name, item)| {
                        let mut line = String::from("    ");
                        let _infallible = write!(line, "{}: {item}", Value::from(name.as_str()));
                        line
                    });
                    format!("  \"{key}\": {{\n{}\n  }}", items.collect::<Vec<_>>().join(",\n"))
                }
                _ => format!("  \"{key}\": {value}"),
            })
            .collect();
        format!("{{\n{}\n}}\n", lines.join(",\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let mut record = Record {
            status: "ok".to_owned(),
            config: serde_json::json!({"Env": ["A=\"1\""], "WorkingDir": "/"}),
            history: vec![History { created_by: "ENV A=1".to_owned(), ..History::default() }],
            ..Record::default()
        };
        let entry = Entry { kind: "dir".to_owned(), mode: "0755".to_owned(), ..Entry::default() };
        record.files.insert("a \"b\"".to_owned(), entry);
        let text = record.to_text();
        assert_eq!(Record::parse(&text).unwrap(), record, "{text}");
        assert!(text.contains("\n    \"a \\\"b\\\"\": {"), "{text}");
        let failed = Record::of_error("no", vec![2]);
        assert_eq!(Record::parse(&failed.to_text()).unwrap(), failed);
    }
}
