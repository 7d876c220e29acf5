//! The rules that need nothing but the text.

use std::collections::BTreeSet;

use dockerfile_parser::{Dockerfile, From, Instruction, InstructionKind, Stage};

use super::options::{CheckOptions, Collector};
use super::rule::Rule;
use crate::go;

/// Checks each instruction by itself, in the order of the file, up to the byte `end`.
pub(super) fn instructions(
    file: &Dockerfile,
    options: &CheckOptions,
    end: usize,
    collector: &mut Collector,
) {
    for &line in &file.empty_continuations {
        let message = "Empty continuation line";
        collector.add(options, Rule::NoEmptyContinuation, &(line..=line), message);
    }
    for arg in &file.meta_args {
        let names: Vec<_> = arg.kind.args.iter().map(|item| item.key.as_str()).collect();
        description(arg, "ARG", &names, &options.at(arg), end, collector);
    }
    for stage in &file.stages {
        from(&stage.from, options, end, collector);
        for instruction in &stage.instructions {
            if instruction.span.start >= end {
                return;
            }
            let options = options.at(instruction);
            match &instruction.kind {
                InstructionKind::Maintainer(_) => collector.add(
                    &options,
                    Rule::MaintainerDeprecated,
                    &instruction.lines,
                    "Maintainer instruction is deprecated in favor of using label",
                ),
                InstructionKind::Arg(arg) => {
                    let names: Vec<_> = arg.args.iter().map(|item| item.key.as_str()).collect();
                    description(instruction, "ARG", &names, &options, end, collector);
                }
                _ => {}
            }
        }
    }
}

fn from(from: &Instruction<From>, options: &CheckOptions, end: usize, collector: &mut Collector) {
    let (Some(name), Some(written), Some(keyword)) =
        (&from.kind.name, &from.kind.name_as_written, &from.kind.as_keyword)
    else {
        return;
    };
    if from.span.start >= end {
        return;
    }
    let options = options.at(from);
    if written != &written.to_lowercase() {
        let message = format!("Stage name '{written}' should be lowercase");
        collector.add(&options, Rule::StageNameCasing, &from.lines, message);
    }
    let matches = match Case::of(&from.keyword) {
        Case::Lower => keyword.value == keyword.to_lowercase(),
        Case::Upper => keyword.value == keyword.to_uppercase(),
        // Another rule speaks of that.
        Case::Mixed => true,
    };
    if !matches {
        let message = format!(
            "'{}' and '{}' keywords' casing do not match",
            keyword.value, from.keyword.value
        );
        collector.add(&options, Rule::FromAsCasing, &from.lines, message);
    }
    description(from, "FROM", &[name.as_str()], &options, end, collector);
}

/// The last comment above a definition begins with a name that is defined.
fn description<K>(
    instruction: &Instruction<K>,
    kind: &str,
    names: &[&str],
    options: &CheckOptions,
    end: usize,
    collector: &mut Collector,
) {
    let Some(comment) = instruction.comments.last() else { return };
    let first = comment.split(' ').next().unwrap_or_default();
    if instruction.span.start >= end || names.contains(&first) {
        return;
    }
    let example = match names {
        [name] => name,
        _ => "<arg_key>",
    };
    let message =
        format!("Comment for {kind} should follow the format: `# {example} <description>`");
    collector.add(options, Rule::InvalidDefinitionDescription, &instruction.lines, message);
}

/// Checks the names of the stages against one another.
pub(super) fn stage_names(stages: &[Stage], options: &CheckOptions, collector: &mut Collector) {
    let mut seen = BTreeSet::new();
    for from in stages.iter().map(|stage| &stage.from) {
        let Some(name) = &from.kind.name else { continue };
        let quoted = go::quote(name);
        if matches!(name.as_str(), "context" | "scratch") {
            let message =
                format!("Stage name should not use the same name as reserved stage {quoted}");
            collector.add(options, Rule::ReservedStageName, &from.lines, message);
        }
        if !seen.insert(name.as_str()) {
            let message = format!("Duplicate stage name {quoted}, stage names should be unique");
            collector.add(options, Rule::DuplicateStageName, &from.lines, message);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Lower,
    Upper,
    Mixed,
}

impl Case {
    fn of(word: &str) -> Self {
        if word == word.to_lowercase() {
            Self::Lower
        } else if word == word.to_uppercase() {
            Self::Upper
        } else {
            Self::Mixed
        }
    }
}

/// Checks that the names of instructions are in the case that most of them are in. `ARG`s before the first `FROM` are
/// neither counted nor checked.
pub(super) fn casing(stages: &[Stage], options: &CheckOptions, collector: &mut Collector) {
    let keywords = || {
        stages.iter().flat_map(|stage| {
            let own = stage.instructions.iter().map(|own| (own.keyword.as_str(), &own.lines));
            std::iter::once((stage.from.keyword.as_str(), &stage.from.lines)).chain(own)
        })
    };
    let count = |case| keywords().filter(|(word, _)| Case::of(word) == case).count();
    let (majority, name) = if count(Case::Lower) > count(Case::Upper) {
        (Case::Lower, "lowercase")
    } else {
        (Case::Upper, "uppercase")
    };
    for (word, lines) in keywords().filter(|(word, _)| Case::of(word) != majority) {
        let message =
            format!("Command '{word}' should match the case of the command majority ({name})");
        collector.add(options, Rule::ConsistentInstructionCasing, lines, message);
    }
}
