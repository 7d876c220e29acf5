//! Prints a diagnostic with its line.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Severity};
use crate::source::Source;

/// The diagnostic as rustc would print it, without colour and without a final line end.
///
/// Only the first line of a span is shown: the end of a long instruction says nothing that its beginning does not.
pub(crate) fn render(source: &Source, item: &Diagnostic) -> String {
    let number = source.line(item.span.start);
    let line = source.line_span(number).unwrap_or_default();
    let bytes = &source.text()[line.start..line.end];
    let text = String::from_utf8_lossy(bytes);
    // A replacement character is longer than what it replaces, so places are counted again.
    let place = |at: usize| {
        String::from_utf8_lossy(&bytes[..at.clamp(line.start, line.end) - line.start]).len()
    };
    let start = place(item.span.start);
    let end = place(item.span.end).clamp(start, text.len());
    let level = match item.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let snippet = Snippet::source(text.as_ref())
        .path(source.name())
        .line_start(usize::try_from(number).unwrap_or(usize::MAX))
        .annotation(AnnotationKind::Primary.span(start..end));
    let mut group = level.primary_title(item.message.as_str()).element(snippet);
    if let Some(hint) = &item.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    Renderer::plain().render(&[group])
}
