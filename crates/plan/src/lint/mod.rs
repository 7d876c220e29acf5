//! BuildKit's checks of a Dockerfile: what is allowed and still a mistake, most of the time.
//!
//! A build has the warnings about the stages that its target needs in
//! [`BuildPlan::warnings`](crate::BuildPlan::warnings). [`check`] looks at all stages without building anything, and
//! has a [report](CheckReport) even of a file that cannot be built.
//!
//! The rules are checked in the order in which BuildKit checks them, and, as there, only up to the first error: what
//! comes after it was not understood. They have their own view of variables, apart from lowering, because they ask
//! other questions: whether a name is defined, not what it is.

mod from;
mod options;
mod report;
mod rule;
mod secret_names;
mod stage;
mod syntax;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use dockerfile_parser::{Diagnostic, Diagnostics, Dockerfile, Reading, Span};
use ebiko_oci::Digest;

use crate::actions::StageId;
use crate::graph::StageGraph;
use crate::reach::{BaseImage, Bases, Reach};
use crate::scope::BuildArgs;
use crate::{BuildOptions, BuildPlan};
use options::Collector;

pub(crate) use from::Globals;
pub(crate) use options::CheckOptions;
pub(crate) use report::location;
pub use report::{BuildError, CheckReport};
pub use rule::{Rule, Warning};
pub(crate) use stage::Seen;

/// How many warnings the error shows that they are.
const MOST_SHOWN: usize = 20;

/// What an ignore file keeps out of the build context.
pub trait ExcludedPaths: fmt::Debug + Send + Sync {
    /// Whether a pattern begins with `!`. Then nothing can be said of a directory without looking into it.
    fn has_exceptions(&self) -> bool;
    /// Whether a pattern is `*`, `**` or `**/*`.
    fn excludes_everything(&self) -> bool;
    /// Whether `path`, clean and relative to the context, or a directory above it matches.
    fn excludes(&self, path: &str) -> bool;
}

/// What the rules need besides the stages.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    file: Arc<Dockerfile>,
    pub(crate) options: CheckOptions,
    pub(crate) excluded: Option<Arc<dyn ExcludedPaths>>,
}

impl Facts {
    pub(crate) fn new(file: &Dockerfile, build_args: &BuildArgs) -> Result<Self, Diagnostic> {
        let options = CheckOptions::of(file, build_args)?;
        Ok(Self { file: Arc::new(file.clone()), options, excluded: None })
    }
}

impl StageGraph {
    /// The same, where it is known what the ignore file keeps out: warnings tell of sources that cannot be there.
    #[must_use]
    pub fn with_excluded_paths(mut self, excluded: Option<Arc<dyn ExcludedPaths>>) -> Self {
        self.lint.excluded = excluded;
        self
    }

    /// What the stages ask of the one who builds them.
    pub(crate) fn seen(&self, bases: &Bases, reach: &Reach) -> BTreeMap<StageId, Seen> {
        let mut collector = Collector::default();
        stage::instructions(self, bases, reach, None, &mut collector);
        collector.seen
    }

    /// The file that the stages are from.
    pub(crate) fn file(&self) -> &Dockerfile {
        &self.lint.file
    }

    /// What the checks say of a build of the target that has no errors.
    ///
    /// # Errors
    ///
    /// Fails where `check=error=true` makes a warning an error.
    pub(crate) fn warnings(
        &self,
        bases: &Bases,
        reach: &Reach,
    ) -> Result<Vec<Warning>, Diagnostic> {
        let file = &self.lint.file;
        let options = &self.lint.options;
        let mut collector = Collector::default();
        before_bases(file, &self.options, options, usize::MAX, &mut collector);
        if let Some(globals) = Globals::of_build(file, &self.options) {
            from::bases(&file.stages, &globals, options, &mut collector);
        }
        stage::platforms(self, bases, reach, &mut collector);
        stage::instructions(self, bases, reach, None, &mut collector);
        let warnings = collector.warnings;
        match violation(options, &warnings) {
            None => Ok(warnings),
            Some(message) => {
                let first = warnings
                    .first()
                    .and_then(|warning| file.source.line_span(*warning.lines.start()));
                let shown: Vec<_> =
                    warnings.iter().take(MOST_SHOWN).map(ToString::to_string).collect();
                let more = match warnings.len() - shown.len() {
                    0 => String::new(),
                    more => format!("\n... and {more} more"),
                };
                let hint =
                    format!("`error=true` makes errors of warnings:\n{}{more}", shown.join("\n"));
                Err(Diagnostic::error(first.unwrap_or_default(), message).with_hint(hint))
            }
        }
    }
}

/// Checks a Dockerfile without building it: all of its stages, or those that `options.target` needs if there is one.
///
/// `bases` are the images that are known; of others nothing is said that depends on their configs. To learn which
/// could be known ask [`StageGraph::select_every_stage`].
pub fn check(
    name: &str,
    text: &[u8],
    options: &BuildOptions,
    bases: &Bases,
    excluded: Option<Arc<dyn ExcludedPaths>>,
) -> CheckReport {
    let reading = Dockerfile::read(name, text);
    let mut collector = Collector::default();
    let error = run(&reading, options, bases, excluded, &mut collector).err();
    CheckReport { source: reading.file.source, warnings: collector.warnings, build_error: error }
}

fn run(
    reading: &Reading,
    build: &BuildOptions,
    bases: &Bases,
    excluded: Option<Arc<dyn ExcludedPaths>>,
    collector: &mut Collector,
) -> Result<(), BuildError> {
    let file = &reading.file;
    let failed = |error: &Diagnostic| located(file, error);
    let options =
        &CheckOptions::of(file, &BuildArgs::new(build)).map_err(|error| failed(&error))?;
    if let Some(error) = reading.errors.first() {
        if !reading.is_divided {
            return Err(failed(error));
        }
        syntax::instructions(file, options, error.span.start, collector);
        return Err(in_instruction(file, error));
    }
    if file.stages.is_empty() {
        syntax::instructions(file, options, usize::MAX, collector);
    } else {
        before_bases(file, build, options, usize::MAX, collector);
    }

    let every_stage = build.target.as_ref().is_none_or(String::is_empty);
    let selected = if every_stage {
        StageGraph::select_every_stage(file, build)
    } else {
        StageGraph::select(file, build)
    };
    if let Some(globals) = Globals::of_build(file, build) {
        from::bases(&file.stages, &globals, options, collector);
    }
    let mut graph = selected.map_err(|errors| {
        let is_late = |error: &&Diagnostic| error.message.starts_with("failed to parse stage name");
        let items = errors.items();
        first(file, items.iter().find(|error| !is_late(error)).or(items.first()))
    })?;
    graph.lint.excluded = excluded;

    let filled = fill(&graph, bases).map_err(|errors| first(file, errors.items().first()))?;
    let reach = graph.reach(&filled).map_err(|errors| first(file, errors.first()))?;
    stage::platforms(&graph, bases, &reach, collector);
    let lowered = BuildPlan::lower_unchecked(&graph, &filled, None);
    let error = lowered.err().and_then(|errors| errors.items().first().cloned());
    let at = error.as_ref().map(|error| error.span.start);
    stage::instructions(&graph, bases, &reach, at, collector);
    if let Some(error) = &error {
        return Err(failed(error));
    }
    match violation(options, &collector.warnings) {
        Some(message) => Err(BuildError { message, lines: None }),
        None => Ok(()),
    }
}

/// The rules that come before any base is looked at.
fn before_bases(
    file: &Dockerfile,
    build: &BuildOptions,
    options: &CheckOptions,
    end: usize,
    collector: &mut Collector,
) {
    syntax::instructions(file, options, end, collector);
    syntax::stage_names(&file.stages, options, collector);
    syntax::casing(&file.stages, options, collector);
    from::default_arguments(file, build, options, collector);
}

/// `bases`, and empty images in place of those that are not known, so that stages can be lowered.
pub(crate) fn fill(graph: &StageGraph, bases: &Bases) -> Result<Bases, Diagnostics> {
    let mut filled = bases.clone();
    loop {
        let missing = graph.missing_references(&filled)?;
        if missing.is_empty() {
            return Ok(filled);
        }
        for reference in missing {
            let config = ebiko_oci::ImageConfig::scratch(reference.platform.clone());
            filled.insert(reference, BaseImage { config, digest: Digest::of(b"") });
        }
    }
}

/// The error that warnings are where the options say so.
fn violation(options: &CheckOptions, warnings: &[Warning]) -> Option<String> {
    let mut names: Vec<_> = warnings.iter().map(|warning| warning.rule.name()).collect();
    names.sort_unstable();
    names.dedup();
    (options.is_error && !names.is_empty())
        .then(|| format!("lint violation found for rules: {}", names.join(", ")))
}

/// An error about one instruction, with the line in its text, as BuildKit has it.
fn in_instruction(file: &Dockerfile, error: &Diagnostic) -> BuildError {
    let plain = located(file, error);
    if error.message == "no build stage in current context" {
        return plain;
    }
    let line = file.source.line(error.span.start);
    BuildError {
        message: format!("dockerfile parse error on line {line}: {}", error.message),
        ..plain
    }
}

/// The first of several errors. There is one.
fn first(file: &Dockerfile, error: Option<&Diagnostic>) -> BuildError {
    error.map_or_else(BuildError::unknown, |error| located(file, error))
}

/// An error with the lines of the instruction that it is about.
fn located(file: &Dockerfile, error: &Diagnostic) -> BuildError {
    BuildError { message: error.message.clone(), lines: lines(file, error) }
}

/// The lines of the instruction that `diagnostic` is about, `None` if it is about the whole file.
fn lines(file: &Dockerfile, diagnostic: &Diagnostic) -> Option<RangeInclusive<u32>> {
    let span = diagnostic.span;
    if span == Span::default() {
        return None;
    }
    let source = &file.source;
    let of_span =
        || source.line(span.start)..=source.line(span.end.saturating_sub(1).max(span.start));
    Some(instruction_lines(file, span.start).unwrap_or_else(of_span))
}

fn instruction_lines(file: &Dockerfile, at: usize) -> Option<RangeInclusive<u32>> {
    let args = file.meta_args.iter().map(|arg| (arg.span, &arg.lines));
    let stages = file.stages.iter().flat_map(|stage| {
        let own = stage.instructions.iter().map(|own| (own.span, &own.lines));
        std::iter::once((stage.from.span, &stage.from.lines)).chain(own)
    });
    args.chain(stages)
        .find(|(span, _)| (span.start..=span.end).contains(&at))
        .map(|(_, lines)| lines.clone())
}
