//! `ONBUILD`

use super::{Typed, at_least_one, no_flags, typed};
use crate::ast::{Instruction, OnBuild};
use crate::diagnostic::{Diagnostic, Severity};
use crate::node::{self, Args, File, Node};
use crate::source::Span;
use crate::text::Line;

impl OnBuild {
    pub(super) fn parse(node: &Node, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let Args::Nested { keyword, .. } = &node.args else {
            problems.push(at_least_one(node, "ONBUILD"));
            return None;
        };
        no_flags(node, problems)?;
        if let Some(message) = refused(keyword) {
            problems.push(Diagnostic::error(keyword.span, message));
            return None;
        }

        let blanks = |c: char| matches!(c, '\t' | '\n' | '\x0c' | '\r' | ' ');
        let line = node.line.as_str();
        let name_end = node.line.trimmed().start + node.keyword.len();
        let start = line.len() - line[name_end..].trim_start_matches(blanks).len();
        let mut text = line[start..].to_owned();
        for heredoc in &node.heredocs {
            text.extend(["\n", &heredoc.content, &heredoc.name]);
        }
        // The text is a file of its own once it is read, and may so begin with a byte order mark.
        let start = start + if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        // Bytes that are not UTF-8 do not survive in an image config: what fires is what replaced them.
        let first = node.line.slice(start..line.len()).without_invalid();
        let first = Line { text: first, number: *node.lines.start() };
        let trigger =
            trigger(std::iter::once(first).chain(node.body.iter().cloned()).collect(), node.span);
        let trigger = match trigger {
            Ok((instruction, _)) => {
                // It was read as the one line that its text has; in the file it may be on several.
                let span = Span::new(instruction.span.start, node.span.end);
                Ok(Box::new(Instruction { span, lines: node.lines.clone(), ..instruction }))
            }
            Err(errors) => {
                let reason = errors.first().map_or("", |error| error.message.as_str());
                let message = format!("builds from this image will fail: {reason}");
                let span = errors.first().map_or(node.span, |error| error.span);
                problems.push(
                    Diagnostic::warning(span, message)
                        .with_hint("a trigger is checked when it fires"),
                );
                Err(errors)
            }
        };
        Some(Self { text, trigger })
    }
}

/// Why an instruction cannot be a trigger, if it cannot.
fn refused(keyword: &str) -> Option<String> {
    match keyword.to_uppercase().as_str() {
        "ONBUILD" => Some("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".to_owned()),
        name @ ("MAINTAINER" | "FROM") => {
            Some(format!("{name} isn't allowed as an ONBUILD trigger"))
        }
        _ => None,
    }
}

/// Reads the text of a trigger: a file of its own, which holds one instruction, and in which `\` is the escape
/// character whatever it was where the trigger was written.
///
/// Gives the instruction and warnings, or errors, of which there is at least one.
pub(crate) fn trigger(
    lines: Vec<Line>,
    whole: Span,
) -> Result<(Instruction, Vec<Diagnostic>), Vec<Diagnostic>> {
    let File { nodes, mut problems, .. } = node::read(lines);
    let mut instruction = None;
    match <[Node; 1]>::try_from(nodes) {
        Ok([node]) => {
            if let Some(message) = refused(&node.keyword) {
                problems.push(Diagnostic::error(node.keyword.span, message));
            } else if let Some(Typed::Other(typed)) = typed(node, &mut problems) {
                instruction = Some(typed);
            }
        }
        Err(_) if problems.iter().any(Diagnostic::is_error) => {}
        Err(_) => {
            problems
                .push(Diagnostic::error(whole, "onbuild trigger should be a single expression"));
        }
    }
    let has_errors = problems.iter().any(Diagnostic::is_error);
    match instruction {
        Some(instruction) if !has_errors => Ok((instruction, problems)),
        _ => {
            problems.sort_by_key(|problem| problem.severity != Severity::Error);
            Err(problems)
        }
    }
}
