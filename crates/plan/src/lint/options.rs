//! `# check=skip=A,B;error=true;experimental=all`, and who collects what the rules say.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use dockerfile_parser::{Diagnostic, Dockerfile, Instruction, Span};

use super::rule::{Rule, Warning};
use super::stage::Seen;
use crate::actions::StageId;
use crate::go;
use crate::scope::BuildArgs;

/// The build argument that replaces the directive of the file.
const BUILD_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// Which rules are checked, and whether a broken one ends the build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CheckOptions {
    skip: Names,
    experimental: Names,
    pub(crate) is_error: bool,
}

/// Names of rules. Those of no rule are not an error, because there may be one tomorrow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    all: bool,
    some: BTreeSet<String>,
}

impl Names {
    fn parse(text: &str) -> Self {
        match text.trim() {
            "all" => Self { all: true, some: BTreeSet::new() },
            list => {
                Self { all: false, some: list.split(',').map(|name| name.trim().into()).collect() }
            }
        }
    }

    fn contain(&self, rule: Rule) -> bool {
        self.all || self.some.contains(rule.name())
    }

    fn add(&mut self, other: Self) {
        self.all |= other.all;
        self.some.extend(other.some);
    }
}

impl CheckOptions {
    /// Those of a build: what the build argument says, or else the directive of the file.
    pub(crate) fn of(file: &Dockerfile, build_args: &BuildArgs) -> Result<Self, Diagnostic> {
        let directive = file.directives.check.as_ref();
        let result = match (build_args.get(BUILD_ARG), directive) {
            (Some(given), _) => Self::parse(given).map_err(|message| {
                (format!("failed to parse build-arg:{BUILD_ARG}: {message}"), Span::default())
            }),
            (None, Some(directive)) => Self::parse(directive.first_word()).map_err(|message| {
                (format!("failed to parse check options: {message}"), directive.value.span)
            }),
            (None, None) => Ok(Self::default()),
        };
        result.map_err(|(message, span)| {
            Diagnostic::error(span, message).with_hint(
                "write `skip=Rule,Rule`, `experimental=Rule` and `error=true` without spaces, with `;` between them",
            )
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(options);
        }
        for part in text.splitn(3, ';') {
            let unknown = |text: &str| format!("invalid check option {}", go::quote(text));
            let (key, value) = part.split_once('=').ok_or_else(|| unknown(part))?;
            match key.trim() {
                "skip" => options.skip = Names::parse(value),
                "experimental" => options.experimental = Names::parse(value),
                "error" => {
                    options.is_error = boolean(value.trim()).ok_or_else(|| {
                        format!(
                            "failed to parse check option {}: strconv.ParseBool: parsing {}: invalid syntax",
                            go::quote(part),
                            go::quote(value.trim())
                        )
                    })?;
                }
                key => return Err(unknown(key)),
            }
        }
        Ok(options)
    }

    /// The same for one instruction: the first `check=` in the comments above it adds to them.
    pub(super) fn at<K>(&self, instruction: &Instruction<K>) -> std::borrow::Cow<'_, Self> {
        let written = instruction.comments.iter().find_map(|comment| in_comment(comment));
        match written.map(Self::parse) {
            Some(Ok(added)) => {
                let mut merged = self.clone();
                merged.skip.add(added.skip);
                merged.experimental.add(added.experimental);
                std::borrow::Cow::Owned(merged)
            }
            Some(Err(_)) | None => std::borrow::Cow::Borrowed(self),
        }
    }

    fn wants(&self, rule: Rule) -> bool {
        if rule.is_experimental() {
            self.experimental.contain(rule)
        } else {
            !self.skip.contain(rule)
        }
    }
}

/// The options in a comment of the form `check=… anything`.
fn in_comment(comment: &str) -> Option<&str> {
    let (key, rest) = comment.split_at_checked("check".len())?;
    let rest = rest.trim_start().strip_prefix('=')?.trim();
    (key.eq_ignore_ascii_case("check") && !rest.is_empty())
        .then(|| rest.split(' ').next().unwrap_or_default())
}

/// As Go reads them.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Gathers warnings in the order in which they are found, and what else is seen on the way.
#[derive(Debug, Default)]
pub(super) struct Collector {
    pub(super) warnings: Vec<Warning>,
    pub(super) seen: BTreeMap<StageId, Seen>,
}

impl Collector {
    pub(super) fn add(
        &mut self,
        options: &CheckOptions,
        rule: Rule,
        lines: &RangeInclusive<u32>,
        message: impl Into<String>,
    ) {
        if options.wants(rule) {
            self.warnings.push(Warning { rule, message: message.into(), lines: lines.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let actual = match CheckOptions::parse(text) {
            Ok(CheckOptions { skip, experimental, is_error }) => {
                let names = |names: Names| {
                    if names.all { "all".into() } else { Vec::from_iter(names.some).join("+") }
                };
                format!("{} {} {is_error}", names(skip), names(experimental))
            }
            Err(message) => message,
        };
        assert_eq!(actual, expected, "reading {text:?}");
    }

    #[test]
    fn options_are_read_as_buildkit_reads_them() {
        check("", "  false");
        check("skip=A, B;error=1", "A+B  true");
        check("experimental=all;skip=all;error=F", "all all false");
        check("skip=A;skip=B", "B  false");
        check("skip", r#"invalid check option "skip""#);
        check("a=b", r#"invalid check option "a""#);
        check(
            "error=maybe",
            r#"failed to parse check option "error=maybe": strconv.ParseBool: parsing "maybe": invalid syntax"#,
        );
        check("skip=A;skip=B;skip=C;x", "C;x  false");
    }

    #[test]
    fn a_comment_may_hold_options_and_a_reason() {
        assert_eq!(in_comment("check=skip=A // because"), Some("skip=A"));
        assert_eq!(in_comment("Check = skip=all"), Some("skip=all"));
        for comment in ["check", "check=", "checks=skip=A", "no check=skip=A", "é"] {
            assert_eq!(in_comment(comment), None, "{comment:?}");
        }
    }
}
