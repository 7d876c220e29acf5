//! `COPY` and `ADD`

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{known_flags, words};
use crate::ast::{Add, Copy, Heredoc, InlineFile, without_tabs};
use crate::diagnostic::Diagnostic;
use crate::flags::{Known, Takes};
use crate::heredoc::{self, Operator};
use crate::node::Node;
use crate::source::Word;

const COPY_FLAGS: &[Known] = &[
    ("from", Takes::Text),
    ("chown", Takes::Text),
    ("chmod", Takes::Text),
    ("link", Takes::Bool),
    ("parents", Takes::Bool),
    ("exclude", Takes::Texts),
];

const ADD_FLAGS: &[Known] = &[
    ("chown", Takes::Text),
    ("chmod", Takes::Text),
    ("link", Takes::Bool),
    ("keep-git-dir", Takes::Bool),
    ("checksum", Takes::Text),
    ("unpack", Takes::Bool),
    ("exclude", Takes::Texts),
];

impl Copy {
    pub(super) fn parse(node: &Node, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let (sources, destination) = sources_and_destination(node, "COPY", problems)?;
        let flags = known_flags(node, COPY_FLAGS, problems)?;
        let (sources, files) = paths_and_files(node, sources);
        Some(Self {
            sources,
            files,
            destination: checked_destination(destination, "COPY", problems)?,
            from: flags.text("from"),
            chown: flags.text("chown"),
            chmod: flags.text("chmod"),
            link: flags.boolean("link"),
            parents: flags.boolean("parents"),
            exclude: flags.texts("exclude"),
        })
    }
}

impl Add {
    pub(super) fn parse(node: &Node, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let (sources, destination) = sources_and_destination(node, "ADD", problems)?;
        let flags = known_flags(node, ADD_FLAGS, problems)?;
        let (sources, files) = paths_and_files(node, sources);
        Some(Self {
            sources,
            files,
            destination: checked_destination(destination, "ADD", problems)?,
            chown: flags.text("chown"),
            chmod: flags.text("chmod"),
            link: flags.boolean("link"),
            keep_git_dir: flags.boolean("keep-git-dir"),
            checksum: flags.text("checksum"),
            unpack: flags.boolean("unpack"),
            exclude: flags.texts("exclude"),
        })
    }
}

fn sources_and_destination<'a>(
    node: &'a Node,
    name: &str,
    problems: &mut Vec<Diagnostic>,
) -> Option<(&'a [Word], &'a Word)> {
    match words(&node.args) {
        [sources @ .., destination] if !sources.is_empty() => Some((sources, destination)),
        words => {
            let message = format!(
                "{name} requires at least two arguments, but only one was provided. Destination could not be determined"
            );
            let span = words.first().map_or(node.keyword.span, |word| word.span);
            problems.push(
                Diagnostic::error(span, message)
                    .with_hint(format!("write `{name} source destination`")),
            );
            None
        }
    }
}

fn checked_destination(word: &Word, name: &str, problems: &mut Vec<Diagnostic>) -> Option<Word> {
    if heredoc::operator(word).is_some() {
        let message = format!("{name} cannot accept a heredoc as a destination");
        problems.push(Diagnostic::error(word.span, message));
        return None;
    }
    Some(word.clone())
}

/// Here-documents are looked up by name, as in BuildKit: of two with one name the last is the content of both, and a
/// word that looks like an operator where none is allowed, such as in a JSON array, is an empty file.
fn paths_and_files(node: &Node, sources: &[Word]) -> (Vec<Word>, Vec<InlineFile>) {
    let bodies: BTreeMap<&str, &Heredoc> =
        node.heredocs.iter().map(|heredoc| (heredoc.name.as_str(), heredoc)).collect();
    let mut contents: BTreeMap<(String, bool), Arc<str>> = BTreeMap::new();
    let mut paths = Vec::new();
    let mut files = Vec::new();
    for source in sources {
        let Some(Operator { name, expand, chomp, .. }) = heredoc::operator(source) else {
            paths.push(source.clone());
            continue;
        };
        let content = contents.entry((name.clone(), chomp)).or_insert_with(|| {
            let body = bodies.get(name.as_str()).map_or("", |heredoc| heredoc.content.as_str());
            if chomp { without_tabs(body).into() } else { body.into() }
        });
        files.push(InlineFile { content: Arc::clone(content), name, expand, span: source.span });
    }
    (paths, files)
}
