//! The plan as text.
//!
//! Every word is quoted as Go quotes it, because that is how it also stands in the history lines.

use std::fmt;

use ebiko_oci::ConfigEdit;

use crate::actions::{Action, CopyFrom};
use crate::go;
use crate::plan::{BuildPlan, DropReason, StageBase, StagePlan, Step};

impl fmt::Display for BuildPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stage in &self.stages {
            writeln!(f, "{stage}")?;
        }
        let layers = self.target_stage().map_or(0, StagePlan::layers);
        let plural = if layers == 1 { "" } else { "s" };
        writeln!(f, "target  {}, {layers} new layer{plural}", self.target)?;
        for stage in &self.dropped {
            write!(f, "dropped {}", stage.id)?;
            if let Some(name) = &stage.name {
                write!(f, " {}", go::quote(name))?;
            }
            let reason = match stage.reason {
                DropReason::NotReached => "not reached from the target",
            };
            writeln!(f, ": {reason}")?;
        }
        for note in &self.notes {
            writeln!(f, "note    {note}")?;
        }
        Ok(())
    }
}

impl StagePlan {
    /// How many layers its steps make.
    fn layers(&self) -> usize {
        self.steps.iter().filter(|step| !step.empty_layer).count()
    }
}

impl fmt::Display for StagePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        if let Some(name) = &self.name {
            write!(f, " {}", go::quote(name))?;
        }
        match &self.base {
            StageBase::Scratch => write!(f, " from scratch for {}", self.platform)?,
            StageBase::Image(image) => write!(f, " from {image}")?,
            StageBase::Stage(id) => write!(f, " from {id}")?,
        }
        if !self.recorded {
            write!(f, ", not recorded")?;
        }
        if self.files_read_later {
            write!(f, ", files read later")?;
        }
        writeln!(f)?;
        print_edits(f, "at first", &self.base_edits)?;
        for step in &self.steps {
            print_step(f, step, self.recorded)?;
        }
        print_edits(f, "at last", &self.final_edits)
    }
}

fn print_edits(f: &mut fmt::Formatter<'_>, when: &str, edits: &[ConfigEdit]) -> fmt::Result {
    edits.iter().try_for_each(|edit| writeln!(f, "  {when:8}  {}", shown_edit(edit)))
}

/// One step; what it would leave in an image only where there is one.
fn print_step(f: &mut fmt::Formatter<'_>, step: &Step, is_recorded: bool) -> fmt::Result {
    let mark = if step.is_trigger { "on build " } else { "" };
    writeln!(f, "  line {:<4} {mark}{}", step.line, go::quote(&step.text))?;
    if let Some(action) = &step.action {
        print_action(f, action)?;
    }
    if let Some(edit) = &step.edit {
        writeln!(f, "    config   {}", shown_edit(edit))?;
    }
    match &step.created_by {
        Some(line) if is_recorded => {
            let label = if step.empty_layer { "history" } else { "layer" };
            writeln!(f, "    {label:8} {}", go::quote(line))
        }
        _ => Ok(()),
    }
}

fn print_action(f: &mut fmt::Formatter<'_>, action: &Action) -> fmt::Result {
    match action {
        Action::Run(run) => {
            writeln!(f, "    run      {}", go::quoted_list(&run.argv))?;
            write!(f, "             in {}", go::quote(&run.work_dir))?;
            print_unless_empty(f, "as", &run.user)?;
            write!(f, "\n             with")?;
            for (name, value) in &run.env {
                write!(f, " {}={}", shown_key(name), go::quote(value))?;
            }
            writeln!(f)
        }
        Action::Copy(copy) => {
            let verb = if copy.extract_archives { "add " } else { "copy" };
            write!(f, "    {verb}     ")?;
            match &copy.from {
                CopyFrom::Context => write!(f, "context")?,
                CopyFrom::Stage(id) => write!(f, "{id}")?,
                CopyFrom::Image(image) => write!(f, "{image}")?,
                CopyFrom::Scratch => write!(f, "scratch")?,
            }
            write!(f, " {} -> ", go::quoted_list(&copy.sources))?;
            write!(f, "{}", go::quote(&copy.destination))?;
            print_unless_empty(f, "owned by", copy.chown.as_deref().unwrap_or_default())?;
            writeln!(f)
        }
        Action::WorkDir(work_dir) => {
            write!(f, "    mkdir    {}", go::quote(&work_dir.path))?;
            print_unless_empty(f, "owned by", &work_dir.user)?;
            writeln!(f)
        }
    }
}

fn print_unless_empty(f: &mut fmt::Formatter<'_>, label: &str, value: &str) -> fmt::Result {
    if value.is_empty() { Ok(()) } else { write!(f, " {label} {}", go::quote(value)) }
}

/// Most keys are plain words, and read better without quotes.
fn shown_key(key: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    if !key.is_empty() && key.chars().all(is_plain) { key.to_owned() } else { go::quote(key) }
}

fn shown_edit(edit: &ConfigEdit) -> String {
    let pairs = |pairs: &[(String, String)]| {
        let pairs =
            pairs.iter().map(|(key, value)| format!("{}={}", shown_key(key), go::quote(value)));
        pairs.collect::<Vec<_>>().join(" ")
    };
    match edit {
        ConfigEdit::Env(variables) => format!("env {}", pairs(variables)),
        ConfigEdit::Labels(labels) => format!("labels {}", pairs(labels)),
        ConfigEdit::Cmd(argv) => format!("cmd {}", go::quoted_list(argv)),
        ConfigEdit::Entrypoint { argv, clear_cmd } => {
            let cleared = if *clear_cmd { ", no cmd" } else { "" };
            format!("entrypoint {}{cleared}", go::quoted_list(argv))
        }
        ConfigEdit::User(user) => format!("user {}", go::quote(user)),
        ConfigEdit::WorkingDir(path) => format!("working dir {}", go::quote(path)),
        ConfigEdit::Expose(ports) => format!("ports {}", go::plain_list(ports)),
        ConfigEdit::Volumes(paths) => format!("volumes {}", go::quoted_list(paths)),
        ConfigEdit::Shell(argv) => format!("shell {}", go::quoted_list(argv)),
        ConfigEdit::StopSignal(signal) => format!("stop signal {}", go::quote(signal)),
        ConfigEdit::Healthcheck(check) => format!(
            "health check {} interval {} timeout {} start period {} start interval {} retries {}",
            go::quoted_list(&check.test),
            go::duration(check.interval),
            go::duration(check.timeout),
            go::duration(check.start_period),
            go::duration(check.start_interval),
            check.retries,
        ),
        ConfigEdit::OnBuild(trigger) => format!("on build {}", go::quote(trigger)),
        ConfigEdit::Author(author) => format!("author {}", go::quote(author)),
    }
}
