//! What is asked about a Dockerfile without building it: `--dryrun`, `--check` and `--call`.

use std::path::Path;

use anyhow::bail;
use ebiko_build::{BuildError, BuildRequest, Ports};
use serde_json::Value;

use crate::cli::Cli;

/// A question, and the form of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) about: Subject,
    pub(crate) is_json: bool,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// What would be done.
    Plan,
    /// Which checks fail.
    Check,
    /// Which arguments, secrets and agents the target uses.
    Outline,
    /// Which stages there are.
    Targets,
}

impl Question {
    /// What the flags ask, `None` for a build.
    pub(crate) fn of(cli: &Cli) -> anyhow::Result<Option<Self>> {
        let plain = |about| Ok(Some(Self { about, is_json: false }));
        let Some(call) = &cli.call else {
            return match (cli.check, cli.dryrun) {
                (true, true) => bail!("give either `--check` or `--dryrun`"),
                (true, false) => plain(Subject::Check),
                (false, true) => plain(Subject::Plan),
                (false, false) => Ok(None),
            };
        };
        if cli.dryrun {
            bail!("give either `--call` or `--dryrun`");
        }
        let (name, format) = call.split_once(',').unwrap_or((call, ""));
        let is_json = match format {
            "" | "format=text" => false,
            "format=json" => true,
            _ => bail!("`--call={call}`: behind the comma there may be `format=json`"),
        };
        let about = match name {
            "check" | "lint" => Subject::Check,
            "outline" => Subject::Outline,
            "targets" => Subject::Targets,
            "build" => return Ok(None),
            _ => bail!("`--call={call}`: `{name}` is none of check, outline, targets and build"),
        };
        Ok(Some(Self { about, is_json }))
    }
}

/// The answer: a text for standard output, and the exit status.
///
/// `directory` is for what must be fetched to give it; it may not exist, and is the caller's to remove.
pub(crate) fn answer(
    question: Question,
    request: &BuildRequest,
    ports: &Ports<'_>,
    directory: &Path,
) -> Result<(String, u8), BuildError> {
    let shown = |text: String, json: Value| {
        if question.is_json { format!("{json:#}\n") } else { text }
    };
    Ok(match question.about {
        Subject::Plan => (ebiko_build::plan(request, ports, directory.to_owned())?.to_string(), 0),
        Subject::Check => {
            let report = ebiko_build::check(request, ports)?;
            (shown(report.to_string(), report.json()), u8::from(!report.is_clean()))
        }
        Subject::Outline => {
            let outline = ebiko_build::outline(request, ports)?;
            (shown(outline.to_string(), outline.json()), 0)
        }
        Subject::Targets => {
            let targets = ebiko_build::targets(request)?;
            (shown(targets.to_string(), targets.json()), 0)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Option<(Subject, bool)>, String> {
        let arguments = std::iter::once("executor").chain(arguments.iter().copied());
        let cli = Cli::read(arguments.map(Into::into)).map_err(|error| error.to_string())?;
        let question = Question::of(&cli).map_err(|error| error.to_string())?;
        Ok(question.map(|question| (question.about, question.is_json)))
    }

    #[test]
    fn flags_ask_or_build() {
        for (arguments, expected) in [
            (&[][..], None),
            (&["--call=build"], None),
            (&["--check=false"], None),
            (&["--dryrun"], Some((Subject::Plan, false))),
            (&["--check"], Some((Subject::Check, false))),
            (&["--call=check"], Some((Subject::Check, false))),
            (&["--call", "outline,format=json"], Some((Subject::Outline, true))),
            (&["--call=targets"], Some((Subject::Targets, false))),
        ] {
            assert_eq!(read(arguments), Ok(expected), "{arguments:?}");
        }
    }

    #[test]
    fn two_questions_at_once_are_refused() {
        assert!(read(&["--check", "--dryrun"]).is_err());
        assert!(read(&["--call=check", "--dryrun"]).is_err());
        assert!(read(&["--call=check", "--check"]).is_err());
        assert!(read(&["--call=what"]).unwrap_err().contains("none of check, outline"));
        assert!(read(&["--call=check,json"]).unwrap_err().contains("format=json"));
    }
}
