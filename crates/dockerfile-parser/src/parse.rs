//! From text to [`Dockerfile`].

use crate::ast::{Arg, Directives, Dockerfile, Instruction, InstructionKind, Stage};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::instruction::{self, Typed, typed};
use crate::node::{self, File};
use crate::source::{Source, Span};
use crate::text;

impl Dockerfile {
    /// Reads a whole Dockerfile. `name` is what diagnostics put before line numbers.
    ///
    /// # Errors
    ///
    /// Fails with everything that is wrong with the file, warnings included; at least one is an error.
    pub fn parse(name: &str, text: &[u8]) -> Result<Self, Diagnostics> {
        let source = Source::new(name, text);
        let (lines, too_long) = text::lines(&source);
        let File { nodes, escape, mut problems } = node::read(lines);
        problems.extend(too_long.into_iter().map(|span| {
            Diagnostic::error(span, "dockerfile line greater than max allowed size of 65535")
                .with_hint("split the line, or move the text into a file")
        }));

        let mut file = Body::default();
        for node in nodes {
            let is_from = node.keyword.eq_ignore_ascii_case("from");
            match typed(node, &mut problems) {
                Some(Typed::From(from)) => {
                    file.stages.push(Stage { from, instructions: Vec::new() });
                }
                Some(Typed::Other(instruction)) => problems.extend(file.add(instruction)),
                None => {}
            }
            file.has_begun |= is_from;
        }

        if problems.iter().any(Diagnostic::is_error) {
            return Err(Diagnostics::new(source, problems));
        }
        Ok(Self {
            directives: Directives::find(text),
            escape,
            meta_args: file.meta_args,
            stages: file.stages,
            warnings: Diagnostics::new(source.clone(), problems).into_items(),
            source,
        })
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
