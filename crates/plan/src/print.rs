//! The plan as text.
//!
//! Every word is quoted as Go quotes it, because that is how it also stands in the history lines.

use std::fmt;

use dockerfile_parser::{Network, Security, Sharing};
use ebiko_oci::ConfigEdit;

use crate::actions::{
    Action, BaseReference, CopyAction, CopyFrom, CopySource, ImageStore, InlineFile, MountKind,
    RunAction, Unpack,
};
use crate::git::GitSource;
use crate::go;
use crate::plan::{BuildPlan, DropReason, Reuse, StageBase, StagePlan, Step};

impl fmt::Display for BuildPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stage in &self.stages {
            writeln!(f, "{stage}")?;
        }
        let layers = self.target_stage().map_or(0, StagePlan::layers);
        let plural = if layers == 1 { "" } else { "s" };
        writeln!(f, "target  {}, {layers} new layer{plural}", self.target)?;
        if let Some(epoch) = self.epoch {
            writeln!(f, "epoch   {epoch}")?;
        }
        for stage in &self.dropped {
            write!(f, "dropped {}", stage.id)?;
            if let Some(name) = &stage.name {
                write!(f, " {}", go::quote(name))?;
            }
            let reason = match stage.reason {
                DropReason::NotReached => "not reached from the target",
                DropReason::Reused => "what would need it is in the cache",
            };
            writeln!(f, ": {reason}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning {warning}")?;
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
            StageBase::Image(image) => write!(f, " from {}", shown_image(image))?,
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
    writeln!(f, "  line {:<4} {mark}{}", step.lines.start(), go::quote(&step.text))?;
    if let Some(action) = &step.action {
        print_action(f, action)?;
    }
    match &step.reuse {
        Some(Reuse::Layer(layer)) => writeln!(f, "    reuse    {}", layer.descriptor.digest)?,
        Some(Reuse::Nothing) => writeln!(f, "    reuse    a layer of a later step")?,
        None => {}
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
        Action::Run(run) => print_run(f, run),
        Action::Copy(copy) => print_copy(f, copy),
        Action::WorkDir(work_dir) => {
            write!(f, "    mkdir    {}", go::quote(&work_dir.path))?;
            print_unless_empty(f, "owned by", &work_dir.user)?;
            writeln!(f, "{}", if work_dir.root_parents { ", its parents by \"0:0\"" } else { "" })
        }
    }
}

fn print_run(f: &mut fmt::Formatter<'_>, run: &RunAction) -> fmt::Result {
    writeln!(f, "    run      {}", go::quoted_list(&run.argv))?;
    write!(f, "             in {}", go::quote(&run.work_dir))?;
    print_unless_empty(f, "as", &run.user)?;
    print_unless_empty(f, "on host", run.host_name.as_deref().unwrap_or_default())?;
    match run.network {
        Network::Default => {}
        Network::None => write!(f, ", no network")?,
        Network::Host => write!(f, ", network of the host")?,
    }
    match run.security {
        Security::Sandbox => {}
        Security::Insecure => write!(f, ", insecure")?,
    }
    write!(f, "\n             with")?;
    for (name, value) in &run.env {
        write!(f, " {}={}", shown_key(name), go::quote(value))?;
    }
    writeln!(f)?;
    for mount in &run.mounts {
        write!(f, "             mount")?;
        if let Some(target) = &mount.target {
            write!(f, " {}", go::quote(target))?;
        }
        print_mount_kind(f, &mount.kind)?;
        writeln!(f, "{}", if mount.read_only { ", read-only" } else { "" })?;
    }
    print_files(f, "script", &run.scripts)
}

fn print_mount_kind(f: &mut fmt::Formatter<'_>, kind: &MountKind) -> fmt::Result {
    match kind {
        MountKind::Bind { from, source } => {
            write!(f, " from {} {}", shown_from(from), go::quote(source))
        }
        MountKind::Cache { id, sharing, seed, source, mode, uid, gid } => {
            let sharing = match sharing {
                Sharing::Shared => "shared",
                Sharing::Private => "private",
                Sharing::Locked => "locked",
            };
            write!(f, " cache {} {sharing}, {mode:04o} {uid}:{gid}", go::quote(id))?;
            if source != "/" {
                write!(f, ", at {}", go::quote(source))?;
            }
            match seed {
                CopyFrom::Scratch => Ok(()),
                seed => write!(f, ", at first from {}", shown_from(seed)),
            }
        }
        MountKind::Tmpfs { size: None } => write!(f, " tmpfs"),
        MountKind::Tmpfs { size: Some(size) } => write!(f, " tmpfs of {size} bytes"),
        MountKind::Secret { id, env, required, mode, uid, gid } => {
            write!(f, " secret {}", go::quote(id))?;
            if let Some(env) = env {
                write!(f, " as ${env}")?;
            }
            write!(f, ", {mode:04o} {uid}:{gid}{}", shown_required(*required))
        }
        MountKind::Ssh { id, required, mode, uid, gid } => {
            let id = go::quote(id);
            write!(f, " agent {id}, {mode:04o} {uid}:{gid}{}", shown_required(*required))
        }
    }
}

fn shown_required(is_required: bool) -> &'static str {
    if is_required { ", required" } else { "" }
}

fn print_files(f: &mut fmt::Formatter<'_>, label: &str, files: &[InlineFile]) -> fmt::Result {
    files.iter().try_for_each(|file| {
        writeln!(f, "             {label} {} {}", go::quote(&file.name), go::quote(&file.content))
    })
}

fn print_copy(f: &mut fmt::Formatter<'_>, copy: &CopyAction) -> fmt::Result {
    let verb = if copy.unpack == Unpack::Nothing { "copy" } else { "add " };
    let sources: Vec<String> = copy.sources.iter().map(shown_source).collect();
    write!(f, "    {verb}     {} {}", shown_from(&copy.from), go::quoted_list(&sources))?;
    write!(f, " -> {}", go::quote(&copy.destination))?;
    print_unless_empty(f, "owned by", copy.chown.as_deref().unwrap_or(&copy.user))?;
    if let Some(mode) = &copy.chmod {
        write!(f, " mode {mode}")?;
    }
    let flags = [
        (copy.plain_parents, ", not of its parents"),
        (copy.unpack == Unpack::Everything, ", unpacking all"),
        (copy.link, ", linked"),
        (copy.parents, ", with parents"),
    ];
    for (_, text) in flags.iter().filter(|(is_set, _)| *is_set) {
        f.write_str(text)?;
    }
    if !copy.exclude.is_empty() {
        write!(f, ", but not {}", go::quoted_list(&copy.exclude))?;
    }
    writeln!(f)?;
    for source in &copy.sources {
        match source {
            CopySource::Path(_) => {}
            CopySource::Download(download) => {
                write!(f, "             download named {}", go::quote(&download.name))?;
                print_unless_empty(f, "is", download.checksum.as_deref().unwrap_or_default())?;
                writeln!(f)?;
            }
            CopySource::Git(git) => print_git(f, git)?,
        }
    }
    print_files(f, "file", &copy.files)
}

fn print_git(f: &mut fmt::Formatter<'_>, git: &GitSource) -> fmt::Result {
    write!(f, "             repository")?;
    print_unless_empty(f, "at", git.reference.as_deref().unwrap_or_default())?;
    print_unless_empty(f, "is", git.checksum.as_deref().unwrap_or_default())?;
    print_unless_empty(f, "in", &git.subdir)?;
    let flags = [
        (git.keep_git_dir, ", with .git"),
        (!git.submodules, ", without submodules"),
        (git.commit_time, ", as old as the commit"),
        (git.fetch_by_commit, ", fetched by commit"),
    ];
    for (_, text) in flags.iter().filter(|(is_set, _)| *is_set) {
        f.write_str(text)?;
    }
    writeln!(f)
}

fn shown_from(from: &CopyFrom) -> String {
    match from {
        CopyFrom::Context => "context".to_owned(),
        CopyFrom::Stage(id) => id.to_string(),
        CopyFrom::Image(image) => shown_image(image),
        CopyFrom::Named(name) => format!("context {}", go::quote(name)),
        CopyFrom::Scratch => "scratch".to_owned(),
    }
}

/// An image, with the layout that it is in.
fn shown_image(image: &BaseReference) -> String {
    match &image.store {
        ImageStore::Registry => image.to_string(),
        ImageStore::Layout(directory) => format!("{image} in layout {}", go::quote(directory)),
    }
}

fn shown_source(source: &CopySource) -> String {
    match source {
        CopySource::Path(path) => path.clone(),
        CopySource::Download(download) => download.url.clone(),
        CopySource::Git(git) => git.remote.clone(),
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
