//! How an error looks when it has reached the top.

use std::error::Error;

use ebiko_build::BuildError;
use ebiko_registry::{PushError, PushErrorKind};

/// Why the program ends, and with which status.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What is printed: the error, its causes, its hints.
    pub(crate) text: String,
    /// The exit status: that of a failed RUN, otherwise 1.
    pub(crate) status: u8,
    /// The lines of the Dockerfile that it is about.
    pub(crate) lines: Vec<u32>,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let hints: Vec<String> = error.chain().filter_map(hint).collect();
        let text = render(phase(&error), error.as_ref(), None, &hints);
        Self { text, status: 1, lines: Vec::new() }
    }
}

/// The advice of an error from one of the adapters.
fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<ebiko_registry::PushError>() {
        return error.hint();
    }
    if let Some(error) = error.downcast_ref::<ebiko_build::ContextArchiveError>() {
        return error.hint().map(str::to_owned);
    }
    if let Some(error) = error.downcast_ref::<ebiko_remote::RemoteError>() {
        return error.hint().map(str::to_owned);
    }
    if let Some(hint) = git_hint(error) {
        return Some(hint);
    }
    error.downcast_ref::<ebiko_layout::WriteError>()?.hint().map(str::to_owned)
}

fn git_hint(error: &(dyn Error + 'static)) -> Option<String> {
    error.downcast_ref::<ebiko_remote::GitError>()?.hint().map(str::to_owned)
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let status = error.exit_status();
        let text = match &error {
            // Diagnostics are rendered where the source text is; they have their own carets and hints.
            BuildError::Dockerfile(diagnostics) => {
                format!("{BUILDING}: {error}\n{}", diagnostics.to_string().trim_end())
            }
            other => {
                let mut hints: Vec<String> = other.hint().into_iter().collect();
                hints.extend(ebiko_registry::advice_on(other));
                let mut level: Option<&(dyn Error + 'static)> = Some(other);
                while let Some(error) = level {
                    hints.extend(git_hint(error));
                    level = error.source();
                }
                render(BUILDING, other, other.location(), &hints)
            }
        };
        Self { text, status, lines: error.lines() }
    }
}

impl Failure {
    /// One failure of several, after which it goes on: the causes and the advice, a line for each.
    pub(crate) fn from_port(error: &(dyn Error + 'static)) -> String {
        let mut hints = Vec::new();
        let mut cause = Some(error);
        while let Some(error) = cause {
            hints.extend(hint(error));
            cause = error.source();
        }
        render(ERROR, error, None, &hints)
    }

    /// A failure outside a build, with advice.
    pub(crate) fn with_hint(error: &dyn Error, hint: &str) -> Self {
        let text = render(ERROR, error, None, &[hint.to_owned()]);
        Self { text, status: 1, lines: Vec::new() }
    }

    /// Namespaces are refused, nothing says that this is a container, and `--force` would make its root the build's.
    pub(crate) fn no_container(refused: anyhow::Error, hint: &str) -> Self {
        Self::with_hint(refused.context(NO_CONTAINER).as_ref(), hint)
    }
}

// What failures begin with. The wording is kaniko's: scripts look for it.
const ERROR: &str = "error";
const BUILDING: &str = "error building image";
const PUSHING: &str = "error pushing image";
const CHECKING: &str = "error checking push permissions -- make sure you entered the correct tag name, and that you are \
                        authenticated correctly, and try again";
const NO_CONTAINER: &str = "kaniko should only be run inside of a container, run with the --force flag if you are sure you want to continue";

/// What was being done when it happened.
fn phase(error: &anyhow::Error) -> &'static str {
    match error.downcast_ref::<PushError>() {
        Some(PushError { source: PushErrorKind::Check(_), .. }) => CHECKING,
        Some(_) => PUSHING,
        None => ERROR,
    }
}

/// Each level of the error once, where it happened, hints last.
fn render(phase: &str, error: &dyn Error, location: Option<&str>, hints: &[String]) -> String {
    let mut text = format!("{phase}: {error}");
    if let Some(location) = location {
        for line in location.lines() {
            write_line(&mut text, "  ", line);
        }
    }
    let mut last = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // A transparent level repeats the one above it.
        if message != last {
            write_line(&mut text, "  caused by: ", &message);
            last = message;
        }
        cause = error.source();
    }
    for hint in hints {
        write_line(&mut text, "hint: ", hint);
    }
    text
}

fn write_line(text: &mut String, prefix: &str, line: &str) {
    text.push('\n');
    text.push_str(prefix);
    text.push_str(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_is_printed_once() {
        let error =
            anyhow::anyhow!("no space left").context("cannot write `x`").context("cannot build");
        assert_eq!(
            Failure::from(error).text,
            "error: cannot build\n  caused by: cannot write `x`\n  caused by: no space left"
        );
    }

    #[test]
    fn failures_begin_with_the_words_that_scripts_look_for() {
        let denied = || PushError { destination: "r/a:1".into(), source: PushErrorKind::NoTag };
        let text = Failure::from(anyhow::Error::from(denied())).text;
        assert!(text.starts_with("error pushing image: cannot push to `r/a:1`\n"), "{text}");
        let text = Failure::from(BuildError::Interrupted { signal: 15 }).text;
        assert_eq!(text, "error building image: stopped by signal 15");
        let text = Failure::no_container(anyhow::anyhow!("no"), "try").text;
        let expected = "error: kaniko should only be run inside of a container, run with the --force flag if you are sure you \
                        want to continue\n  caused by: no\nhint: try";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_hint_comes_last() {
        let error = std::io::Error::other("no");
        assert_eq!(Failure::with_hint(&error, "try again").text, "error: no\nhint: try again");
    }
}
