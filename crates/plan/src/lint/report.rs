//! What a check found, for people and for programs.

use std::fmt;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dockerfile_parser::Source;
use serde_json::{Value, json};

use super::rule::Warning;

/// What [`check`](super::check) found.
///
/// Its [`Display`](fmt::Display) form is like that of `docker build --check`, [`json`](Self::json) like that of
/// BuildKit's `frontend.lint`.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// The text that was checked.
    pub source: Source,
    /// The rules that it breaks, in the order in which they were checked.
    pub warnings: Vec<Warning>,
    /// Why it cannot be built, if that can be known without building it.
    pub build_error: Option<BuildError>,
}

/// Why a build would fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    /// What is wrong.
    pub message: String,
    /// The lines of the instruction that it is about, if it is about one.
    pub lines: Option<RangeInclusive<u32>>,
}

impl BuildError {
    pub(super) fn unknown() -> Self {
        Self { message: "the Dockerfile cannot be built".to_owned(), lines: None }
    }
}

impl CheckReport {
    /// Whether there is nothing to say. Otherwise a program that checks ends with status 1.
    pub fn is_clean(&self) -> bool {
        self.warnings.is_empty() && self.build_error.is_none()
    }

    /// The result of BuildKit's `frontend.lint`: `warnings`, `sources`, and `buildError` where there is one.
    pub fn json(&self) -> Value {
        let warnings: Vec<Value> = self.warnings.iter().map(warning).collect();
        let source = json!({
            "filename": self.source.name(),
            "language": "Dockerfile",
            "data": STANDARD.encode(self.source.text()),
        });
        let mut report = json!({ "warnings": warnings, "sources": [source] });
        if let Some(error) = &self.build_error {
            report["buildError"] = json!({
                "message": error.message,
                "location": error.lines.as_ref().map_or_else(|| json!({}), location),
            });
        }
        report
    }
}

fn warning(warning: &Warning) -> Value {
    let mut object = json!({
        "ruleName": warning.rule.name(),
        "description": warning.rule.description(),
        "detail": warning.message,
        "location": location(&warning.lines),
    });
    if let Some(url) = warning.rule.url() {
        object["url"] = url.into();
    }
    object
}

/// Lines as BuildKit's answers have them.
pub(crate) fn location(lines: &RangeInclusive<u32>) -> Value {
    json!({ "ranges": [{ "start": { "line": lines.start() }, "end": { "line": lines.end() } }] })
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.warnings.len();
        let plural = if count == 1 { "" } else { "s" };
        match (count, &self.build_error) {
            (0, None) => return writeln!(f, "Check complete, no warnings found."),
            (0, Some(_)) => {}
            (1, _) => writeln!(f, "Check complete, 1 warning has been found!")?,
            _ => writeln!(f, "Check complete, {count} warning{plural} have been found!")?,
        }
        let mut sorted: Vec<&Warning> = self.warnings.iter().collect();
        sorted.sort_by_key(|warning| *warning.lines.start());
        for warning in sorted {
            write!(f, "\nWARNING: {}", warning.rule.name())?;
            if let Some(url) = warning.rule.url() {
                write!(f, " - {url}")?;
            }
            writeln!(f, "\n{}", warning.message)?;
            excerpt(f, &self.source, &warning.lines)?;
        }
        if let Some(error) = &self.build_error {
            let gap = if count == 0 { "" } else { "\n" };
            writeln!(f, "{gap}ERROR: {}", error.message)?;
            if let Some(lines) = &error.lines {
                excerpt(f, &self.source, lines)?;
            }
        }
        Ok(())
    }
}

/// The lines with some around them.
fn excerpt(
    f: &mut fmt::Formatter<'_>,
    source: &Source,
    lines: &RangeInclusive<u32>,
) -> fmt::Result {
    const RULE: &str = "--------------------";
    /// Enough to see where an instruction stands; one of a single line says less about that.
    const AROUND: u32 = 1;
    let around = if lines.start() == lines.end() { AROUND + 1 } else { AROUND };
    let first = lines.start().saturating_sub(around).max(1);
    writeln!(f, "{}:{}\n{RULE}", source.name(), lines.start())?;
    for number in first..=lines.end().saturating_add(around) {
        let Some(span) = source.line_span(number) else { break };
        let text = source.text().get(span.start..span.end).unwrap_or_default();
        let mark = if lines.contains(&number) { ">>>" } else { "   " };
        let line = format!(" {number:3} | {mark} {}", String::from_utf8_lossy(text));
        writeln!(f, "{}", line.trim_end())?;
    }
    writeln!(f, "{RULE}")
}
