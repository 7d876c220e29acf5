//! Nodes become instructions: flags and arguments are checked, one module for each instruction that has rules of its own.

mod copy;
mod from;
mod healthcheck;
mod onbuild;
mod run;

use crate::ast::{
    Add, Arg, ArgItem, Cmd, Command, Copy, Entrypoint, Env, Expose, From, Healthcheck, Instruction,
    InstructionKind, KeyValue, Label, Maintainer, OnBuild, Run, Shell, StopSignal, User, Volume,
    Workdir,
};
use crate::diagnostic::Diagnostic;
use crate::flags::{self, Known};
use crate::node::{Args, CommandArgs, KEYWORDS, Node, Pair};
use crate::source::{Span, Word};
use crate::suggest::nearest;

pub(crate) use onbuild::trigger;

/// An instruction, or the beginning of a stage.
#[derive(Debug)]
pub(crate) enum Typed {
    From(Instruction<From>),
    Other(Instruction),
}

/// Gives a node its type. `None` if something is wrong with it, which is then the last of `problems`.
pub(crate) fn typed(node: Node, problems: &mut Vec<Diagnostic>) -> Option<Typed> {
    let kind = match node.keyword.to_lowercase().as_str() {
        "from" => {
            let from = From::parse(&node, problems)?;
            return Some(Typed::From(finish(node, from)));
        }
        "add" => InstructionKind::Add(Add::parse(&node, problems)?),
        "arg" => InstructionKind::Arg(Arg::parse(&node, problems)?),
        "cmd" => InstructionKind::Cmd(Cmd { command: plain_command(&node, problems)? }),
        "copy" => InstructionKind::Copy(Copy::parse(&node, problems)?),
        "entrypoint" => {
            InstructionKind::Entrypoint(Entrypoint { command: plain_command(&node, problems)? })
        }
        "env" => InstructionKind::Env(Env { pairs: pairs(&node, "ENV", problems)? }),
        "expose" => InstructionKind::Expose(Expose::parse(&node, problems)?),
        "healthcheck" => InstructionKind::Healthcheck(Healthcheck::parse(&node, problems)?),
        "label" => InstructionKind::Label(Label { pairs: pairs(&node, "LABEL", problems)? }),
        "maintainer" => {
            InstructionKind::Maintainer(Maintainer { name: text(&node, "MAINTAINER", problems)? })
        }
        "onbuild" => InstructionKind::OnBuild(OnBuild::parse(&node, problems)?),
        "run" => InstructionKind::Run(Run::parse(&node, problems)?),
        "shell" => InstructionKind::Shell(Shell::parse(&node, problems)?),
        "stopsignal" => InstructionKind::StopSignal(StopSignal::parse(&node, problems)?),
        "user" => InstructionKind::User(User { user: text(&node, "USER", problems)? }),
        "volume" => InstructionKind::Volume(Volume::parse(&node, problems)?),
        "workdir" => InstructionKind::Workdir(Workdir { path: text(&node, "WORKDIR", problems)? }),
        _ => {
            problems.push(unknown(&node.keyword));
            return None;
        }
    };
    Some(Typed::Other(finish(node, kind)))
}

/// Adds what all instructions have.
fn finish<K>(node: Node, kind: K) -> Instruction<K> {
    Instruction {
        kind,
        keyword: node.keyword,
        flags: node.flags,
        span: node.span,
        lines: node.lines,
        original: node.line.into_string(),
        comments: node.comments,
    }
}

fn unknown(keyword: &Word) -> Diagnostic {
    let guess = nearest(&keyword.to_lowercase(), KEYWORDS).map(|guess| {
        // The guess is written as the word is, unless that is neither one case nor the other.
        if keyword.value == keyword.to_uppercase() {
            guess.to_uppercase()
        } else {
            guess.to_owned()
        }
    });
    let tail = guess.map_or_else(String::new, |guess| format!(" (did you mean {guess}?)"));
    let error =
        Diagnostic::error(keyword.span, format!("unknown instruction: {}{tail}", keyword.value));
    match keyword.chars().next() {
        Some('\u{feff}') => {
            error.with_hint("a byte order mark belongs at the beginning of the file only")
        }
        _ if keyword.contains(|c: char| c.is_whitespace()) => error.with_hint(
            "the name holds a space that is not ASCII, such as a no-break space; type it again",
        ),
        _ if tail.is_empty() => error
            .with_hint("a line that continues the one before needs an escape character at its end"),
        _ => error,
    }
}

/// From the end of the instruction's name to the end of its text; the name where nothing follows.
fn arguments_span(node: &Node) -> Span {
    let line = node.line.as_str();
    let trimmed = node.line.trimmed();
    let end = trimmed.start + node.keyword.len();
    let first = trimmed.end - line[end..trimmed.end].trim_start().len();
    if first < trimmed.end { node.line.span(first..trimmed.end) } else { node.keyword.span }
}

fn at_least_one(node: &Node, name: &str) -> Diagnostic {
    Diagnostic::error(node.keyword.span, format!("{name} requires at least one argument"))
}

fn blank_name(span: Span, name: &str) -> Diagnostic {
    Diagnostic::error(span, format!("{name} names can not be blank"))
        .with_hint("write the name before the `=`")
}

/// Checks that there are no flags.
fn no_flags(node: &Node, problems: &mut Vec<Diagnostic>) -> Option<()> {
    flags::check(&node.flags, &[], problems).map(drop)
}

fn known_flags<'a>(
    node: &'a Node,
    known: &[Known],
    problems: &mut Vec<Diagnostic>,
) -> Option<flags::Checked<'a>> {
    flags::check(&node.flags, known, problems)
}

/// The whole rest of the line.
fn text(node: &Node, name: &str, problems: &mut Vec<Diagnostic>) -> Option<Word> {
    let Args::Text(Some(word)) = &node.args else {
        problems.push(Diagnostic::error(
            node.keyword.span,
            format!("{name} requires exactly one argument"),
        ));
        return None;
    };
    no_flags(node, problems)?;
    Some(word.clone())
}

fn words(args: &Args) -> &[Word] {
    match args {
        Args::List { words, .. } => words,
        _ => &[],
    }
}

fn command(args: &CommandArgs) -> Command {
    match args {
        CommandArgs::Text(text) => {
            Command::Shell(text.as_ref().map_or_else(String::new, |word| word.value.clone()))
        }
        CommandArgs::Json(words) => {
            Command::Exec(words.iter().map(|word| word.value.clone()).collect())
        }
    }
}

/// A command without flags.
fn plain_command(node: &Node, problems: &mut Vec<Diagnostic>) -> Option<Command> {
    no_flags(node, problems)?;
    let Args::Command(args) = &node.args else { return None };
    Some(command(args))
}

fn pairs(node: &Node, name: &str, problems: &mut Vec<Diagnostic>) -> Option<Vec<KeyValue>> {
    no_flags(node, problems)?;
    let pairs: &[Pair] = match &node.args {
        Args::Pairs(pairs) => pairs,
        _ => &[],
    };
    if pairs.is_empty() {
        problems.push(at_least_one(node, name));
        return None;
    }
    if let Some(pair) = pairs.iter().find(|pair| pair.key.is_empty()) {
        problems.push(blank_name(pair.key.span.to(pair.value.span), name));
        return None;
    }
    let pair = |pair: &Pair| KeyValue {
        key: pair.key.clone(),
        value: pair.value.clone(),
        legacy: pair.legacy,
    };
    Some(pairs.iter().map(pair).collect())
}

impl Arg {
    fn parse(node: &Node, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let items: &[(Word, Option<Word>)] = match &node.args {
            Args::Assignments(items) => items,
            _ => &[],
        };
        if items.is_empty() {
            problems.push(at_least_one(node, "ARG"));
            return None;
        }
        flags::ignored(&node.flags, problems);
        if let Some((key, default)) = items.iter().find(|(key, _)| key.is_empty()) {
            let span = default.as_ref().map_or(key.span, |default| key.span.to(default.span));
            problems.push(blank_name(span, "ARG"));
            return None;
        }
        let item = |(key, default): &(Word, Option<Word>)| ArgItem {
            key: key.clone(),
            default: default.clone(),
        };
        Some(Self { args: items.iter().map(item).collect() })
    }
}

impl Expose {
    fn parse(node: &Node, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut ports = words(&node.args).to_vec();
        if ports.is_empty() {
            problems.push(at_least_one(node, "EXPOSE"));
            return None;
        }
        no_flags(node, problems)?;
        ports.sort_by(|a, b| a.value.cmp(&b.value));
        Some(Self { ports })
    }
}

impl Volume {
    fn parse(node: &Node, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let words = words(&node.args);
        if words.is_empty() {
            problems.push(at_least_one(node, "VOLUME"));
            return None;
        }
        no_flags(node, problems)?;
        if let Some(word) = words.iter().find(|word| word.trim().is_empty()) {
            problems
                .push(Diagnostic::error(word.span, "VOLUME specified can not be an empty string"));
            return None;
        }
        Some(Self {
            paths: words.iter().map(|word| Word::new(word.trim().to_owned(), word.span)).collect(),
        })
    }
}

impl Shell {
    fn parse(node: &Node, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        no_flags(node, problems)?;
        match &node.args {
            Args::Command(CommandArgs::Json(words)) if !words.is_empty() => {
                Some(Self { argv: words.iter().map(|word| word.value.clone()).collect() })
            }
            Args::Command(CommandArgs::Text(Some(text))) => {
                let message = "SHELL requires the arguments to be in JSON form";
                let hint = r#"write `SHELL ["/bin/bash", "-c"]`, with double quotes"#;
                problems.push(Diagnostic::error(text.span, message).with_hint(hint));
                None
            }
            _ => {
                problems.push(at_least_one(node, "SHELL"));
                None
            }
        }
    }
}

impl StopSignal {
    fn parse(node: &Node, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let Args::Text(Some(signal)) = &node.args else {
            problems.push(Diagnostic::error(
                node.keyword.span,
                "STOPSIGNAL requires exactly one argument",
            ));
            return None;
        };
        flags::ignored(&node.flags, problems);
        Some(Self { signal: signal.clone() })
    }
}
