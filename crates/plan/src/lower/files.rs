//! The instructions that change files: RUN, COPY, ADD and WORKDIR.

use dockerfile_parser::{Add, Command, Copy, Diagnostic, Instruction, Run, Word, Workdir};
use ebiko_oci::ConfigEdit;

use super::StageContext;
use super::config::Lowered;
use super::stage::StageState;
use crate::actions::{Action, CopyAction, CopyFrom, RunAction, WorkDirAction};
use crate::graph::CopySource;
use crate::remote::{self, Remote};
use crate::{go, paths, unsupported};

impl StageContext<'_> {
    pub(super) fn run(&self, state: &StageState, run: &Run) -> Lowered {
        let argv = match &run.command {
            Command::Shell(text) => state.with_shell(text),
            Command::Exec(argv) => argv.clone(),
        };
        let created_by = format!("RUN {}{} # buildkit", state.args_in_history(), argv.join(" "));
        let config = &state.config.config;
        let mut scope = state.scope.clone();
        for (name, value) in self.graph.build_args.proxies() {
            scope.set(&name, value);
        }
        let work_dir = match config.working_dir.as_str() {
            "" => "/".to_owned(),
            path => path.to_owned(),
        };
        let run = RunAction { argv, env: scope.to_env(), user: config.user.clone(), work_dir };
        Lowered::layer(created_by, Action::Run(run))
    }

    pub(super) fn work_dir(
        &self,
        state: &StageState,
        workdir: &Workdir,
    ) -> Result<Lowered, Diagnostic> {
        let path = state.expand(self.expander(), &workdir.path)?;
        let config = &state.config.config;
        let path = paths::work_dir(&config.working_dir, &path);
        let is_root = path == "/";
        let action = WorkDirAction { path: path.clone(), user: config.user.clone() };
        Ok(Lowered {
            created_by: Some(format!("WORKDIR {path}")),
            empty_layer: is_root,
            edit: Some(ConfigEdit::WorkingDir(path)),
            action: (!is_root).then_some(Action::WorkDir(action)),
        })
    }

    pub(super) fn copy(
        &self,
        state: &StageState,
        instruction: &Instruction,
        copy: &Copy,
    ) -> Result<Lowered, Diagnostic> {
        let from = match self.graph.copy_source(instruction)? {
            None => CopyFrom::Context,
            Some(CopySource::Scratch) => CopyFrom::Scratch,
            Some(CopySource::Image(reference)) => CopyFrom::Image(self.graph.image(&reference)),
            Some(CopySource::Stage(id)) if id < self.id => CopyFrom::Stage(id),
            Some(CopySource::Stage(_)) => {
                let written = copy.from.as_ref().map_or("", |from| from.as_str());
                let message = format!(
                    "cannot copy from stage {}, it needs to be defined before current stage {}",
                    go::quote(written),
                    go::quote(&self.graph.shown_name(self.id)),
                );
                return Err(Diagnostic::error(instruction.flag_span("from"), message));
            }
        };
        let words = Words {
            name: "COPY",
            chown: copy.chown.as_ref(),
            sources: &copy.sources,
            destination: &copy.destination,
        };
        self.copied(state, &words, from, |remote| match remote {
            Remote::Git => "source can't be a git ref for COPY".into(),
            Remote::Http => "source can't be a URL for COPY".into(),
        })
    }

    pub(super) fn add(&self, state: &StageState, add: &Add) -> Result<Lowered, Diagnostic> {
        let words = Words {
            name: "ADD",
            chown: add.chown.as_ref(),
            sources: &add.sources,
            destination: &add.destination,
        };
        self.copied(state, &words, CopyFrom::Context, |remote| {
            let what = match remote {
                Remote::Git => "`ADD` of a git repository",
                Remote::Http => "`ADD` of a URL",
            };
            unsupported::not_yet(add.destination.span, what).message
        })
    }

    fn copied(
        &self,
        state: &StageState,
        words: &Words<'_>,
        from: CopyFrom,
        refusal: impl Fn(Remote) -> String,
    ) -> Result<Lowered, Diagnostic> {
        let expand = |word| state.expand(self.expander(), word);
        let chown = words.chown.map(expand).transpose()?.filter(|owner| !owner.is_empty());
        let mut history = vec![words.name.to_owned()];
        history.extend(chown.as_ref().map(|owner| format!("--chown={owner}")));
        let mut sources = Vec::new();
        for word in words.sources {
            let source = expand(word)?;
            if let Some(remote) = remote::classify(&source) {
                return Err(Diagnostic::error(word.span, refusal(remote)));
            }
            sources.push(paths::source(&source));
            history.push(source);
        }
        let written = expand(words.destination)?;
        let destination = paths::destination(&state.config.config.working_dir, &written);
        history.extend([written, "# buildkit".to_owned()]);
        let extract_archives = words.name == "ADD";
        let copy = CopyAction { from, sources, destination, chown, extract_archives };
        Ok(Lowered::layer(history.join(" "), Action::Copy(copy)))
    }
}

/// What COPY and ADD have in common.
struct Words<'a> {
    name: &'a str,
    chown: Option<&'a Word>,
    sources: &'a [Word],
    destination: &'a Word,
}
