//! What is done with the words of a command line before flags are read from them.

use std::ffi::OsString;

use clap::{Arg, Command};

/// Old spellings of flags, with those that take their place.
const DEPRECATED: [(&str, &str); 4] = [
    ("--customPlatform", "--custom-platform"),
    ("--snapshotMode", "--snapshot-mode"),
    ("--tarPath", "--tar-path"),
    ("--whitelist-var-run", "--ignore-var-run"),
];

/// The old spellings among `arguments`.
pub(crate) fn deprecated(arguments: &[OsString]) -> Vec<(&'static str, &'static str)> {
    let is_used = |old: &str| {
        arguments.iter().filter_map(|argument| argument.to_str()).any(|argument| {
            argument.strip_prefix(old).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })
    };
    DEPRECATED.into_iter().filter(|(old, _)| is_used(old)).collect()
}

/// The words without those that are empty and stand for themselves, which a shell makes of a quoted variable that is not set.
/// An empty word that is the value of a flag stays.
pub(crate) fn without_empty(
    command: &Command,
    arguments: impl Iterator<Item = OsString>,
) -> Vec<OsString> {
    let mut command = command;
    let mut is_value = true; // The first word is the program's name.
    let mut kept = Vec::new();
    for argument in arguments {
        if !is_value && argument.is_empty() {
            continue;
        }
        let was_value = std::mem::take(&mut is_value);
        if let Some(text) = argument.to_str().filter(|_| !was_value) {
            match command.find_subcommand(text) {
                Some(next) => command = next,
                None => is_value = wants_value(command, text),
            }
        }
        kept.push(argument);
    }
    kept
}

/// Whether the word after this one is its value.
fn wants_value(command: &Command, word: &str) -> bool {
    let is_it = |argument: &&Arg| {
        if let Some(long) = word.strip_prefix("--") {
            let aliases = argument.get_all_aliases().unwrap_or_default();
            return argument.get_long() == Some(long) || aliases.contains(&long);
        }
        let mut letters = word.strip_prefix('-').unwrap_or_default().chars();
        let letter = letters.next().filter(|_| letters.next().is_none());
        letter.is_some() && argument.get_short() == letter
    };
    let found = command.get_arguments().find(is_it);
    found.is_some_and(|argument| {
        argument.get_action().takes_values() && !argument.is_require_equals_set()
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn empty_words_go_unless_they_are_values() {
        for (arguments, expected) in [
            (&["", "-d", "a", ""][..], &["-d", "a"][..]),
            (&["--credential-helpers", "", "-d=a"], &["--credential-helpers", "", "-d=a"]),
            (&["-c", "", "--no-push", ""], &["-c", "", "--no-push"]),
            (&["--tarPath", "", "--cache-repo=", ""], &["--tarPath", "", "--cache-repo="]),
            (&["", "push", "", "x", "-d", "a"], &["push", "x", "-d", "a"]),
        ] {
            let words = |words: &[&str]| -> Vec<OsString> {
                ["executor"].iter().chain(words).map(Into::into).collect()
            };
            let kept = without_empty(&Cli::command(), words(arguments).into_iter());
            assert_eq!(kept, words(expected), "{arguments:?}");
        }
    }

    #[test]
    fn old_spellings_are_noticed() {
        let read = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(Into::into).collect();
            deprecated(&words).into_iter().map(|(old, _)| old).collect::<Vec<_>>()
        };
        assert_eq!(
            read(&["--tarPath=x", "--snapshotMode", "redo"]),
            ["--snapshotMode", "--tarPath"]
        );
        assert!(read(&["--tar-path=x", "--tarPaths", "--build-arg=--tarPath"]).is_empty());
    }
}
