//! `FROM`

use super::{arguments_span, known_flags, words};
use crate::ast::From;
use crate::diagnostic::Diagnostic;
use crate::flags::Takes;
use crate::node::Node;
use crate::source::Word;

impl From {
    pub(super) fn parse(node: &Node, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let (image, name) = match words(&node.args) {
            [image] => (image, None),
            [image, keyword, name] if keyword.to_lowercase() == "as" => {
                (image, Some((keyword, name)))
            }
            _ => {
                let message = "FROM requires either one or three arguments";
                let error = Diagnostic::error(arguments_span(node), message);
                problems.push(error.with_hint("write `FROM image` or `FROM image AS name`"));
                return None;
            }
        };
        if let Some((_, name)) = name
            && !is_stage_name(&name.to_lowercase())
        {
            let message = format!(
                "invalid name for build stage: {:?}, name can't start with a number or contain symbols",
                name.value
            );
            problems.push(Diagnostic::error(name.span, message));
            return None;
        }
        let flags = known_flags(node, &[("platform", Takes::Text)], problems)?;
        Some(Self {
            image: image.clone(),
            platform: flags.text("platform"),
            as_keyword: name.map(|(keyword, _)| keyword.clone()),
            name: name.map(|(_, name)| Word::new(name.to_lowercase(), name.span)),
            name_as_written: name.map(|(_, name)| name.value.clone()),
        })
    }
}

/// A letter, then letters, digits, `-`, `_` and `.`; all in lower case.
fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.'))
}
