//! Checks flags against those that an instruction has.

use crate::ast::Flag;
use crate::diagnostic::Diagnostic;
use crate::source::{Spanned, Word};
use crate::suggest::did_you_mean;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// A value, which may be empty.
    Text,
    /// Values, one each time the flag is given.
    Texts,
    /// Nothing, `true` or `false`.
    Bool,
}

/// The name of a flag, without dashes, and what it takes.
pub(crate) type Known = (&'static str, Takes);

/// Flags of which all are known and have the values they need.
#[derive(Debug)]
pub(crate) struct Checked<'a> {
    flags: &'a [Flag],
}

/// Checks all of them, and adds what is wrong to `problems`; `None` if something is.
pub(crate) fn check<'a>(
    flags: &'a [Flag],
    known: &[Known],
    problems: &mut Vec<Diagnostic>,
) -> Option<Checked<'a>> {
    let mut seen = Vec::new();
    let count = problems.len();
    for flag in flags {
        if let Err(message) = check_one(flag, &mut seen, known) {
            problems.push(Diagnostic::error(flag.span, message));
        }
    }
    (problems.len() == count).then_some(Checked { flags })
}

fn check_one(flag: &Flag, seen: &mut Vec<&'static str>, known: &[Known]) -> Result<(), String> {
    let name = &flag.name;
    let Some(&(known, takes)) = known.iter().find(|(known, _)| known == name) else {
        let names: Vec<&str> = known.iter().map(|&(name, _)| name).collect();
        return Err(format!("unknown flag: --{name}{}", did_you_mean(name, &names)));
    };
    if takes != Takes::Texts {
        if seen.contains(&known) {
            return Err(format!("duplicate flag specified: --{name}"));
        }
        seen.push(known);
    }
    match (takes, flag.value.as_deref()) {
        (Takes::Text | Takes::Texts, None) | (Takes::Bool, Some("")) => {
            Err(format!("missing a value on flag: --{name}"))
        }
        (Takes::Bool, Some(value)) if boolean(value).is_none() => {
            Err(format!("expecting boolean value for flag --{name}, not: {value}"))
        }
        _ => Ok(()),
    }
}

fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

impl Checked<'_> {
    /// The value of a flag that takes one.
    pub(crate) fn text(&self, name: &str) -> Option<Word> {
        self.texts(name).pop()
    }

    /// The values of a flag that may be given several times.
    pub(crate) fn texts(&self, name: &str) -> Vec<Word> {
        let named = self.flags.iter().filter(|flag| flag.name == name);
        named.map(|flag| Word::new(flag.value.clone().unwrap_or_default(), flag.span)).collect()
    }

    /// The value of a flag that is on or off.
    pub(crate) fn boolean(&self, name: &str) -> Option<Spanned<bool>> {
        let flag = self.flags.iter().find(|flag| flag.name == name)?;
        Some(Spanned::new(
            flag.value.as_deref().is_none_or(|value| boolean(value) == Some(true)),
            flag.span,
        ))
    }
}

/// Warns of flags on an instruction that has none and does not look at them.
pub(crate) fn ignored(flags: &[Flag], problems: &mut Vec<Diagnostic>) {
    problems.extend(flags.iter().map(|flag| {
        Diagnostic::warning(flag.span, format!("flag --{} is ignored", flag.name))
            .with_hint("this instruction has no flags")
    }));
}
