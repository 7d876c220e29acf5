//! What is wrong with a text, where, and what to do about it.

use std::fmt;

use crate::source::{Source, Span};

/// How bad a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing can be built from the text.
    Error,
    /// The text means something, but perhaps not what its author thinks.
    Warning,
}

/// One thing that is wrong with a text.
///
/// It does not know the text: [`Diagnostics`] puts the two together, and prints them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, on one line; BuildKit's words where it has some.
    pub message: String,
    /// The bytes that carets are put under.
    pub span: Span,
    /// What the user can do about it, if there is something.
    pub hint: Option<String>,
    /// Other places that it is about.
    pub related: Vec<Span>,
}

impl Diagnostic {
    /// An error at `span`, without a hint.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            span,
            hint: None,
            related: Vec::new(),
        }
    }

    /// A warning at `span`, without a hint.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same with more places that it is about.
    #[must_use]
    pub fn with_related(self, related: Vec<Span>) -> Self {
        Self { related, ..self }
    }

    /// Whether this is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// The most diagnostics that are printed in full.
///
/// Nobody reads more, and each may show a line as long as its file.
const MOST_PRINTED: usize = 100;

/// Everything that is wrong with one text, in the order of the text.
///
/// The `Display` form is for people: each diagnostic with its line and carets, a blank line between two, no colour,
/// and no final line end; of more than a hundred the rest is counted. It is an [`Error`](std::error::Error), so that functions can return it as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    source: Source,
    items: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Collects what is wrong with `source`; sorts by place and keeps the order of those at the same place.
    pub fn new(source: Source, mut items: Vec<Diagnostic>) -> Self {
        items.sort_by_key(|item| item.span.start);
        Self { source, items }
    }

    /// The text that the spans are about.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The diagnostics, in the order of the text.
    pub fn items(&self) -> &[Diagnostic] {
        &self.items
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether at least one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(Diagnostic::is_error)
    }

    /// The line on which `diagnostic` starts.
    pub fn line(&self, diagnostic: &Diagnostic) -> u32 {
        self.source.line(diagnostic.span.start)
    }

    /// Gives the text another name, such as `ONBUILD trigger of alpine:3.22`.
    #[must_use]
    pub fn with_source_name(self, name: &str) -> Self {
        Self { source: self.source.renamed(name), ..self }
    }

    /// Takes them apart.
    pub fn into_items(self) -> Vec<Diagnostic> {
        self.items
    }
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.items.iter().take(MOST_PRINTED).enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            f.write_str(&crate::render::render(&self.source, item))?;
        }
        match self.items.len().saturating_sub(MOST_PRINTED) {
            0 => Ok(()),
            more => write!(f, "\n\n... and {more} more"),
        }
    }
}
