//! `HEALTHCHECK`

use std::num::{IntErrorKind, ParseIntError};
use std::time::Duration;

use super::{at_least_one, command, known_flags};
use crate::ast::{Command, Healthcheck};
use crate::diagnostic::Diagnostic;
use crate::duration;
use crate::flags::{self, Takes};
use crate::node::{Args, Node};

/// The shortest interval that Docker accepts, besides none.
const SHORTEST: Duration = Duration::from_millis(1);

impl Healthcheck {
    pub(super) fn parse(node: &Node, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let Args::Typed { kind, command: written } = &node.args else {
            problems.push(at_least_one(node, "HEALTHCHECK"));
            return None;
        };
        let command = command(written);
        let is_empty = match &command {
            Command::Shell(text) => text.is_empty(),
            Command::Exec(argv) => argv.is_empty(),
        };
        if kind.to_uppercase() == "NONE" {
            if !is_empty {
                problems.push(Diagnostic::error(kind.span, "HEALTHCHECK NONE takes no arguments"));
                return None;
            }
            flags::ignored(&node.flags, problems);
            return Some(Self::Disabled);
        }
        let known = ["interval", "timeout", "start-period", "start-interval", "retries"];
        let flags = known_flags(node, &known.map(|name| (name, Takes::Text)), problems)?;
        if kind.to_uppercase() != "CMD" {
            let message =
                format!("Unknown type {:?} in HEALTHCHECK (try CMD)", kind.to_uppercase());
            problems.push(Diagnostic::error(kind.span, message));
            return None;
        }
        if is_empty {
            problems.push(Diagnostic::error(kind.span, "Missing command after HEALTHCHECK CMD"));
            return None;
        }
        let count = problems.len();
        let mut time = |name| match flags.text(name).map(|word| (interval(name, &word), word.span))
        {
            None => Duration::ZERO,
            Some((Ok(duration), _)) => duration,
            Some((Err(message), span)) => {
                problems.push(
                    Diagnostic::error(span, message)
                        .with_hint("write a duration such as `30s` or `1m30s`"),
                );
                Duration::ZERO
            }
        };
        let [interval, timeout, start_period, start_interval] =
            ["interval", "timeout", "start-period", "start-interval"].map(&mut time);
        let retries = match flags.text("retries").map(|word| (retries(&word), word.span)) {
            None => 0,
            Some((Ok(retries), _)) => retries,
            Some((Err(message), span)) => {
                problems.push(Diagnostic::error(span, message));
                0
            }
        };
        (problems.len() == count).then_some(Self::Check {
            command,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        })
    }
}

fn interval(name: &str, value: &str) -> Result<Duration, String> {
    if value.is_empty() {
        return Ok(Duration::ZERO);
    }
    let (duration, negative) = duration::parse(value)?;
    if !duration.is_zero() && (negative || duration < SHORTEST) {
        return Err(format!("Interval {name:?} cannot be less than 1ms"));
    }
    Ok(duration)
}

fn retries(value: &str) -> Result<u32, String> {
    if value.is_empty() {
        return Ok(0);
    }
    let number: i32 = value.parse().map_err(|error: ParseIntError| {
        let reason = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {value:?}: {reason}")
    })?;
    u32::try_from(number).map_err(|_| format!("--retries cannot be negative ({number})"))
}
