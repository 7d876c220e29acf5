//! From text to [`Dockerfile`].

use std::ops::RangeInclusive;

use crate::ast::{Arg, Directives, Dockerfile, Instruction, InstructionKind, Stage};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::instruction::{self, Typed, typed};
use crate::node::{self, File};
use crate::source::{Source, Span};
use crate::text;

/// What could be read of a file that may be wrong.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The file without the instructions that are wrong.
    pub file: Dockerfile,
    /// What is wrong, in the order of the text; what is doubtful is in [`Dockerfile::warnings`].
    pub errors: Vec<Diagnostic>,
    /// Whether the file could be divided into instructions. Otherwise [`file`](Self::file) holds none.
    pub is_divided: bool,
    /// Where each instruction is, those that are wrong included.
    places: Vec<(Span, RangeInclusive<u32>)>,
}

impl Reading {
    /// The lines of the instructions that `diagnostic` is about, in its order; none if it is about the whole file.
    pub fn lines(&self, diagnostic: &Diagnostic) -> Vec<u32> {
        let spans = std::iter::once(&diagnostic.span).chain(&diagnostic.related);
        let lines = spans.filter(|span| **span != Span::default()).flat_map(|span| {
            let holds = |place: &Span| (place.start..=place.end).contains(&span.start);
            let place = self.places.iter().find(|(place, _)| holds(place));
            let line = || self.file.source.line(span.start);
            place.map_or_else(|| line()..=line(), |(_, lines)| lines.clone())
        });
        lines.collect()
    }
}

impl Dockerfile {
    /// Reads a whole Dockerfile. `name` is what diagnostics put before line numbers.
    ///
    /// # Errors
    ///
    /// Fails with everything that is wrong with the file, warnings included; at least one is an error.
    pub fn parse(name: &str, text: &[u8]) -> Result<Self, Diagnostics> {
        let Reading { file, mut errors, .. } = Self::read(name, text);
        if errors.is_empty() {
            return Ok(file);
        }
        errors.extend(file.warnings);
        Err(Diagnostics::new(file.source, errors))
    }

    /// Reads what can be read, for those who have something to say about a file that cannot be built.
    pub fn read(name: &str, text: &[u8]) -> Reading {
        let source = Source::new(name, text);
        let (lines, too_long) = text::lines(&source);
        let File { nodes, places, escape, mut problems, empty_continuations } = node::read(lines);
        problems.extend(too_long.into_iter().map(|span| {
            Diagnostic::error(span, "dockerfile line greater than max allowed size of 65535")
                .with_hint("split the line, or move the text into a file")
        }));
        let is_divided = !problems.iter().any(Diagnostic::is_error);

        let mut body = Body::default();
        for node in nodes {
            let is_from = node.keyword.eq_ignore_ascii_case("from");
            match typed(node, &mut problems) {
                Some(Typed::From(from)) => {
                    body.stages.push(Stage { from, instructions: Vec::new() });
                }
                Some(Typed::Other(instruction)) => problems.extend(body.add(instruction)),
                None => {}
            }
            body.has_begun |= is_from;
        }
        if !is_divided {
            body = Body::default();
        }

        let problems = Diagnostics::new(source.clone(), problems).into_items();
        let (errors, warnings) = problems.into_iter().partition(Diagnostic::is_error);
        let file = Self {
            directives: Directives::find(text),
            escape,
            meta_args: body.meta_args,
            stages: body.stages,
            warnings,
            empty_continuations,
            source,
        };
        Reading { file, errors, is_divided, places }
    }
}

#[derive(Default)]
struct Body {
    meta_args: Vec<Instruction<Arg>>,
    stages: Vec<Stage>,
    /// Whether there was a `FROM`, be it a wrong one: what follows it is in its place.
    has_begun: bool,
}

impl Body {
    /// Puts an instruction where it belongs.
    fn add(&mut self, instruction: Instruction) -> Option<Diagnostic> {
        if let Some(stage) = self.stages.last_mut() {
            stage.instructions.push(instruction);
            return None;
        }
        if self.has_begun {
            return None;
        }
        let Instruction { kind, keyword, flags, span, lines, original, comments } = instruction;
        if let InstructionKind::Arg(kind) = kind {
            self.meta_args.push(Instruction {
                kind,
                keyword,
                flags,
                span,
                lines,
                original,
                comments,
            });
            return None;
        }
        // One is enough: the others are wrong for the same reason.
        self.has_begun = true;
        let error = Diagnostic::error(keyword.span, "no build stage in current context");
        Some(error.with_hint("only `ARG` may come before the first `FROM`"))
    }
}

/// Reads one trigger of `ONBUILD`, as image configs hold them. Spans are about `text`.
///
/// # Errors
///
/// Fails with everything that is wrong with the trigger. `FROM`, `MAINTAINER` and `ONBUILD` are, as they are in a
/// Dockerfile behind `ONBUILD`. Give the diagnostics a name with [`Diagnostics::with_source_name`].
pub fn parse_trigger(text: &str) -> Result<Instruction, Diagnostics> {
    let source = Source::new("ONBUILD trigger", text.as_bytes());
    let (lines, too_long) = text::lines(&source);
    let too_long = too_long.first().map(|&span| {
        vec![Diagnostic::error(span, "dockerfile line greater than max allowed size of 65535")]
    });
    let result = match too_long {
        Some(errors) => Err(errors),
        None => instruction::trigger(lines, Span::new(0, text.len())),
    };
    result.map(|(instruction, _)| instruction).map_err(|errors| Diagnostics::new(source, errors))
}
