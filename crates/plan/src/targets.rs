//! The stages of a file, as things that can be built.

use std::fmt;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dockerfile_parser::{Dockerfile, Source};
use serde_json::{Value, json};

use crate::lint;

/// What `--target` can name, and what is built without it.
///
/// Its [`Display`](fmt::Display) form is like that of `docker build --call=targets`, [`json`](Self::json) like that of
/// BuildKit's `frontend.targets`.
#[derive(Debug, Clone)]
pub struct TargetList {
    /// The file.
    pub source: Source,
    /// Its stages, in order; the last one is the default.
    pub targets: Vec<Target>,
}

/// A stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, in lower case, if it has one.
    pub name: Option<String>,
    /// What the comment above it says of it.
    pub description: Option<String>,
    /// What it is based on, as it is written.
    pub base: String,
    /// `--platform`, as it is written.
    pub platform: Option<String>,
    /// Whether it is built where no target is given.
    pub is_default: bool,
    /// The lines of its `FROM`.
    pub lines: RangeInclusive<u32>,
}

impl TargetList {
    /// The stages of `file`; nothing is expanded.
    pub fn of(file: &Dockerfile) -> Self {
        let last = file.stages.len().saturating_sub(1);
        let targets = file.stages.iter().enumerate().map(|(index, stage)| {
            let from = &stage.from;
            let name = from.kind.name.as_ref().map(|name| name.value.clone());
            Target {
                description: name
                    .as_ref()
                    .and_then(|name| from.description_of(name))
                    .map(ToOwned::to_owned),
                name,
                base: from.kind.image.value.clone(),
                platform: from.kind.platform.as_ref().map(|platform| platform.value.clone()),
                is_default: index == last,
                lines: from.lines.clone(),
            }
        });
        Self { source: file.source.clone(), targets: targets.collect() }
    }

    /// The result of BuildKit's `frontend.targets`.
    pub fn json(&self) -> Value {
        let targets = self.targets.iter().map(|target| {
            let mut shown =
                json!({ "base": target.base, "location": lint::location(&target.lines) });
            let texts = [
                ("name", &target.name),
                ("description", &target.description),
                ("platform", &target.platform),
            ];
            for (key, text) in texts {
                if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
                    shown[key] = text.as_str().into();
                }
            }
            if target.is_default {
                shown["default"] = true.into();
            }
            shown
        });
        let targets: Vec<Value> = targets.collect();
        json!({ "targets": targets, "sources": [STANDARD.encode(self.source.text())] })
    }
}

impl fmt::Display for TargetList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["TARGET", "DESCRIPTION"].map(ToOwned::to_owned)];
        rows.extend(self.targets.iter().map(|target| {
            let name = match (&target.name, target.is_default) {
                (None, true) => "(default)".to_owned(),
                (Some(name), true) => format!("{name} (default)"),
                (name, false) => name.clone().unwrap_or_default(),
            };
            [name, target.description.clone().unwrap_or_default()]
        }));
        table(f, &rows, 1)
    }
}

/// Prints rows with columns as wide as their widest cell and `gap`; the last column is as wide as it likes.
pub(crate) fn table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    rows: &[[String; N]],
    gap: usize,
) -> fmt::Result {
    let width = |text: &String| text.chars().count();
    let mut widths = [0; N];
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell) + gap);
        }
    }
    for row in rows {
        let mut line = String::new();
        for (cell, wanted) in row.iter().zip(widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', wanted - width(cell)));
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}
