//! From events to lines that a person or a log collector reads.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ebiko_oci::{Digest, Event, Observer, StepOutcome, Timestamp};
use serde_json::{Map, Value, json};

use crate::cli::{LogFormat, Verbosity};
use crate::environment::Environment;
use crate::flags::MessageFlags;

/// Prints events: messages to standard error, what a RUN prints to standard output.
#[derive(Debug)]
pub(crate) struct Reporter {
    format: Format,
    verbosity: Verbosity,
    /// Whether lines begin with the time.
    has_time: bool,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Color,
    Json,
}

#[derive(Debug)]
struct State {
    /// When the process began; the time in JSON messages is counted from it.
    began: Instant,
    began_at: (i64, u32),
    /// The step that is running: its label, and when it began.
    step: Option<(String, Instant)>,
    stage: Option<String>,
}

/// One message before it has a form.
struct Message {
    level: Verbosity,
    text: String,
    /// What a program wants to know of it.
    fields: Map<String, Value>,
    /// How many characters at the start are the label, which is shown in colour.
    label: usize,
}

impl Reporter {
    /// Chooses the form: colours only where somebody sees them.
    pub(crate) fn new(flags: &MessageFlags, environment: &Environment) -> Self {
        let no_color = environment.get_filled("NO_COLOR").is_some();
        let format = match flags.log_format {
            Some(LogFormat::Json) => Format::Json,
            // kaniko forces colours into pipes; nobody greps for escape sequences, many trip on them.
            Some(LogFormat::Color) | None if !no_color && io::stderr().is_terminal() => {
                Format::Color
            }
            _ => Format::Text,
        };
        let state =
            State { began: Instant::now(), began_at: environment.now, step: None, stage: None };
        Self {
            format,
            verbosity: flags.verbosity,
            has_time: flags.log_timestamp,
            state: Mutex::new(state),
        }
    }

    /// Prints one line at this level.
    pub(crate) fn say(&self, level: Verbosity, text: impl Into<String>) {
        self.print(&Message { level, text: text.into(), fields: Map::new(), label: 0 });
    }

    /// Prints why the build ended. `text` may have many lines; `lines` are those of the Dockerfile that it is about.
    pub(crate) fn failure(&self, text: &str, lines: Vec<u32>) {
        match self.format {
            Format::Json => {
                let mut fields = Map::new();
                if !lines.is_empty() {
                    fields.insert("lines".into(), lines.into());
                }
                self.print(&Message {
                    level: Verbosity::Fatal,
                    text: text.into(),
                    fields,
                    label: 0,
                });
            }
            // A terminal that has gone away is no second failure.
            _ => drop(writeln!(io::stderr().lock(), "{}{text}", self.time_in_front())),
        }
    }

    fn print(&self, message: &Message) {
        if message.level > self.verbosity {
            return;
        }
        let line = match self.format {
            Format::Json => self.json(message),
            Format::Text => plain(message),
            Format::Color => colored(message),
        };
        let time = match self.format {
            Format::Json => String::new(),
            Format::Text | Format::Color => self.time_in_front(),
        };
        drop(writeln!(io::stderr().lock(), "{time}{line}"));
    }

    /// The time of a message; `None` if the clock of this machine is beyond all calendars.
    fn time(&self) -> Option<Timestamp> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Timestamp::new(state.began_at.0, state.began_at.1).ok()?;
        Some(began.plus(state.began.elapsed()))
    }

    /// `--log-timestamp`: in whole seconds, as kaniko has it.
    fn time_in_front(&self) -> String {
        let now = self.time().filter(|_| self.has_time);
        let seconds = now.and_then(|now| Timestamp::from_seconds(now.seconds()).ok());
        seconds.map(|time| format!("{time} ")).unwrap_or_default()
    }

    fn json(&self, message: &Message) -> String {
        let mut object = message.fields.clone();
        if let Some(time) = self.time() {
            object.insert("time".into(), time.to_string().into());
        }
        object.insert("level".into(), level_name(message.level).into());
        object.insert("msg".into(), message.text.clone().into());
        Value::Object(object).to_string()
    }
}

/// logrus' names, which log pipelines of kaniko users match.
fn level_name(level: Verbosity) -> &'static str {
    match level {
        Verbosity::Panic => "panic",
        Verbosity::Fatal => "fatal",
        Verbosity::Error => "error",
        Verbosity::Warn => "warning",
        Verbosity::Info => "info",
        Verbosity::Debug => "debug",
        Verbosity::Trace => "trace",
    }
}

fn plain(message: &Message) -> String {
    match message.level {
        Verbosity::Warn => format!("warning: {}", message.text),
        Verbosity::Debug | Verbosity::Trace => format!("debug: {}", message.text),
        _ => message.text.clone(),
    }
}

fn colored(message: &Message) -> String {
    const BLUE: &str = "\x1b[34m";
    const YELLOW: &str = "\x1b[33m";
    const DIM: &str = "\x1b[2m";
    const PLAIN: &str = "\x1b[0m";
    match message.level {
        Verbosity::Warn => format!("{YELLOW}warning:{PLAIN} {}", message.text),
        Verbosity::Debug | Verbosity::Trace => format!("{DIM}debug: {}{PLAIN}", message.text),
        _ => match message.text.split_at_checked(message.label) {
            Some((label, rest)) if !label.is_empty() => format!("{BLUE}{label}{PLAIN}{rest}"),
            _ => message.text.clone(),
        },
    }
}

impl Observer for Reporter {
    fn event(&self, event: Event<'_>) {
        if let Event::Output { bytes } = event {
            let mut out = io::stdout().lock();
            // Whoever closed our standard output does not want to see more of it.
            drop(out.write_all(bytes).and_then(|()| out.flush()));
            return;
        }
        let message = self.message(event);
        self.print(&message);
    }
}

impl State {
    /// What was done with a layer of a base.
    fn base_layer(
        &self,
        verb: &str,
        rest: &str,
        digest: Digest,
        entries: u64,
        size: u64,
    ) -> Message {
        let label = self.stage.clone().unwrap_or_default();
        let digest = digest.to_string();
        let text = format!("{verb} {} ({entries} entries, {}){rest}", short(&digest), bytes(size));
        let fields = json!({ "digest": digest, "entries": entries, "size": size });
        labelled(&label, &text, fields)
    }
}

impl Reporter {
    fn message(&self, event: Event<'_>) -> Message {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::StageStarted { stage, name, base } => {
                let label = format!("[stage {stage}]");
                let name = name.map(|name| format!(" AS {name}")).unwrap_or_default();
                state.stage = Some(label.clone());
                labelled(
                    &label,
                    &format!("FROM {base}{name}"),
                    json!({ "stage": stage.to_string() }),
                )
            }
            Event::Unpacked { digest, entries, size } => {
                state.base_layer("unpacked", "", digest, entries, size)
            }
            Event::Compressed { stage, step, digest, size } => {
                let digest = digest.to_string();
                let text = format!("compressed {} ({})", short(&digest), bytes(size));
                let fields = json!({ "digest": digest, "size": size });
                labelled(&format!("[stage {stage} step {step}]"), &text, fields)
            }
            Event::Read { digest, entries, size } => {
                let rest = ", not unpacked: no step needs the files";
                state.base_layer("read", rest, digest, entries, size)
            }
            Event::NotRead => {
                let label = state.stage.clone().unwrap_or_default();
                labelled(&label, "base not read: no step changes files", json!({}))
            }
            Event::StepStarted { stage, step, line, text } => {
                let label = format!("[stage {stage} step {step}]");
                state.step = Some((label.clone(), Instant::now()));
                let fields =
                    json!({ "stage": stage.to_string(), "step": step.to_string(), "line": line });
                labelled(&label, text, fields)
            }
            Event::StepFinished { outcome } => {
                let (label, began) =
                    state.step.take().unwrap_or_else(|| (String::new(), Instant::now()));
                let took = began.elapsed();
                let text = format!("done in {}: {}", seconds(took), describe(outcome));
                let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                labelled(&label, &text, json!({ "duration_ms": milliseconds }))
            }
            Event::StepReused { stage, step, line, text, layer } => {
                reused(&format!("[stage {stage} step {step}]"), line, text, layer)
            }
            // The wording is kaniko's: scripts look for it.
            Event::CacheMissed { line, text, reason } => info(
                format!("No cached layer found for cmd {text}: {reason}"),
                json!({ "line": line, "reason": reason }),
            ),
            Event::Resolved { reference, digest } => {
                info(format!("{reference} is {digest}"), json!({ "digest": digest.to_string() }))
            }
            // The wording is kaniko's.
            Event::FoundOnDisk { reference, digest, path } => info(
                format!("Found {digest} in local cache `{path}` for {}", reference.familiar()),
                json!({ "digest": digest.to_string(), "path": path }),
            ),
            Event::Exported { path } => info(format!("wrote {path}"), json!({ "path": path })),
            // The wording of these two is kaniko's: scripts look for it.
            Event::PushStarted { reference } => info(
                format!("Pushing image to {reference}"),
                json!({ "destination": reference.to_string() }),
            ),
            Event::Pushed { reference, digest } => info(
                format!("Pushed {}@{digest}", reference.name()),
                json!({ "destination": reference.to_string(), "digest": digest.to_string() }),
            ),
            Event::BlobSent { digest, size } => info(
                format!("sent {} ({})", short(&digest.to_string()), bytes(size)),
                json!({ "digest": digest.to_string(), "size": size }),
            ),
            Event::BlobExists { digest } => info(
                format!("{} is there already", short(&digest.to_string())),
                json!({ "digest": digest.to_string() }),
            ),
            Event::RuleBroken { rule, line, message } => {
                // A program has rule and line beside the text.
                let text = match self.format {
                    Format::Json => message.to_owned(),
                    Format::Text | Format::Color => format!("{rule}: {message} (line {line})"),
                };
                let mut fields = Map::new();
                fields.insert("rule".into(), rule.into());
                fields.insert("line".into(), line.into());
                Message { level: Verbosity::Warn, text, fields, label: 0 }
            }
            Event::Warning { text } => {
                Message { level: Verbosity::Warn, text: text.into(), fields: Map::new(), label: 0 }
            }
            Event::Debug { text } => {
                Message { level: Verbosity::Debug, text: text.into(), fields: Map::new(), label: 0 }
            }
            other => Message {
                level: Verbosity::Debug,
                text: format!("{other:?}"),
                fields: Map::new(),
                label: 0,
            },
        }
    }
}

fn info(text: String, fields: Value) -> Message {
    let fields = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    Message { level: Verbosity::Info, text, fields, label: 0 }
}

/// A step whose layer was made before. The wording is kaniko's: scripts look for it.
fn reused(label: &str, line: u32, text: &str, layer: Option<Digest>) -> Message {
    let fields = json!({ "line": line, "digest": layer.map(|layer| layer.to_string()) });
    labelled(label, &format!("Using caching version of cmd: {text}"), fields)
}

fn labelled(label: &str, text: &str, fields: Value) -> Message {
    let separator = if label.is_empty() { "" } else { " " };
    Message { label: label.len(), ..info(format!("{label}{separator}{text}"), fields) }
}

fn describe(outcome: StepOutcome) -> String {
    match outcome {
        StepOutcome::ConfigOnly => "config only".into(),
        StepOutcome::NotRecorded => "files kept for later stages, no layer".into(),
        StepOutcome::Layer { entries: 0, .. } => "empty layer".into(),
        StepOutcome::Layer { entries, size } => {
            let noun = if entries == 1 { "entry" } else { "entries" };
            format!("layer of {entries} {noun}, {}", bytes(size))
        }
        other => format!("{other:?}"),
    }
}

/// The first twelve digits of a digest, as `docker images` shows them.
pub(crate) fn short(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}

fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

/// A size in the largest unit that leaves a number before the point.
pub(crate) fn bytes(size: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if size < 1024 {
        return format!("{size} B");
    }
    let mut unit = 0;
    let mut divisor: u64 = 1024;
    while unit + 1 < UNITS.len() && size / divisor >= 1024 {
        divisor *= 1024;
        unit += 1;
    }
    // In tenths, without floating point: sizes go beyond what an `f64` holds exactly.
    let tenths = u128::from(size) * 10 / u128::from(divisor);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_cut_to_tenths() {
        for (size, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1023.9 KiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(bytes(size), expected);
        }
    }

    #[test]
    fn an_empty_layer_is_called_so() {
        let outcome = StepOutcome::Layer { entries: 0, size: 1024 };
        assert_eq!(describe(outcome), "empty layer");
        let outcome = StepOutcome::Layer { entries: 1, size: 2048 };
        assert_eq!(describe(outcome), "layer of 1 entry, 2.0 KiB");
    }
}
