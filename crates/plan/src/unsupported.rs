//! What the language has and ebiko does not do yet.
//!
//! Nothing that is parsed may be ignored: an instruction or flag that no lowering exists for is an
//! error at its place. This page shrinks with every feature and has no other job.

use dockerfile_parser::{Add, Copy, Diagnostic, Instruction, InstructionKind, Run, Span};

use crate::graph::Node;

/// Everything in a stage that is refused.
pub(crate) fn in_stage(node: &Node) -> Vec<Diagnostic> {
    let mut found = in_from(node);
    found.extend(node.instructions.iter().flat_map(in_instruction));
    found
}

/// What is refused in the FROM of a stage.
pub(crate) fn in_from(node: &Node) -> Vec<Diagnostic> {
    let platform = node.from.kind.platform.as_ref();
    platform
        .map(|_| not_yet(node.from.flag_span("platform"), "`FROM --platform`"))
        .into_iter()
        .collect()
}

/// Everything in an instruction that is refused.
pub(crate) fn in_instruction(instruction: &Instruction) -> Vec<Diagnostic> {
    let name = instruction.kind.name();
    let (flags, heredoc): (Vec<&str>, bool) = match &instruction.kind {
        InstructionKind::Run(run) => (run_flags(run), !run.heredocs.is_empty()),
        InstructionKind::Copy(copy) => (copy_flags(copy), !copy.files.is_empty()),
        InstructionKind::Add(add) => (add_flags(add), !add.files.is_empty()),
        InstructionKind::Maintainer(_) => {
            let diagnostic = not_yet(instruction.keyword.span, "`MAINTAINER`");
            return vec![diagnostic.with_hint("use `LABEL org.opencontainers.image.authors=…`")];
        }
        _ => return Vec::new(),
    };
    let mut found: Vec<_> = flags
        .into_iter()
        .map(|flag| not_yet(instruction.flag_span(flag), &format!("`{name} --{flag}`")))
        .collect();
    if heredoc {
        let span = match &instruction.kind {
            InstructionKind::Copy(Copy { files, .. }) | InstructionKind::Add(Add { files, .. }) => {
                files[0].span
            }
            _ => instruction.keyword.span,
        };
        found.push(not_yet(span, &format!("a here-document in `{name}`")));
    }
    found
}

/// The refusal of `what` at `span`.
pub(crate) fn not_yet(span: Span, what: &str) -> Diagnostic {
    Diagnostic::error(span, format!("{what} is not supported yet"))
}

fn run_flags(run: &Run) -> Vec<&'static str> {
    present([
        (!run.mounts.is_empty(), "mount"),
        (run.network.is_some(), "network"),
        (run.security.is_some(), "security"),
        (!run.devices.is_empty(), "device"),
    ])
}

fn copy_flags(copy: &Copy) -> Vec<&'static str> {
    present([
        (copy.chmod.is_some(), "chmod"),
        (copy.link.is_some(), "link"),
        (copy.parents.is_some(), "parents"),
        (!copy.exclude.is_empty(), "exclude"),
    ])
}

fn add_flags(add: &Add) -> Vec<&'static str> {
    present([
        (add.chmod.is_some(), "chmod"),
        (add.link.is_some(), "link"),
        (add.keep_git_dir.is_some(), "keep-git-dir"),
        (add.checksum.is_some(), "checksum"),
        (add.unpack.is_some(), "unpack"),
        (!add.exclude.is_empty(), "exclude"),
    ])
}

fn present<const N: usize>(flags: [(bool, &'static str); N]) -> Vec<&'static str> {
    flags.into_iter().filter_map(|(is_present, name)| is_present.then_some(name)).collect()
}
