//! The instructions that change nothing but the config, and the choice among all of them.

use dockerfile_parser::{
    Arg, Command, Diagnostic, Expose, Healthcheck, Instruction, InstructionKind, KeyValue, Volume,
    Word,
};
use ebiko_oci::ConfigEdit;

use super::StageContext;
use super::stage::{Origin, StageState};
use crate::actions::{Action, MountKind, RunAction};
use crate::expand::{Expander, Quotes, Variables};
use crate::plan::{MAX_PLAN, Step};
use crate::scope::Scope;
use crate::{epoch, go, ports, signal};

/// What an instruction amounts to.
pub(super) struct Lowered {
    pub(super) created_by: Option<String>,
    pub(super) empty_layer: bool,
    pub(super) edit: Option<ConfigEdit>,
    pub(super) action: Option<Action>,
}

impl Lowered {
    fn edit(created_by: String, edit: ConfigEdit) -> Self {
        Self { created_by: Some(created_by), empty_layer: true, edit: Some(edit), action: None }
    }

    /// `EXPOSE $unset` is in the history and nowhere else.
    fn edit_unless_empty(
        created_by: String,
        list: Vec<String>,
        edit: impl FnOnce(Vec<String>) -> ConfigEdit,
    ) -> Self {
        let edit = (!list.is_empty()).then(|| edit(list));
        Self { created_by: Some(created_by), empty_layer: true, edit, action: None }
    }

    pub(super) fn layer(created_by: String, action: Action) -> Self {
        Self { created_by: Some(created_by), empty_layer: false, edit: None, action: Some(action) }
    }
}

/// The error of an EXPOSE whose ports alone would fill a plan.
const TOO_MANY_PORTS: &str = "the ports of this instruction take more than 16 MiB";

impl StageContext<'_> {
    pub(super) fn expander(&self) -> Expander {
        Expander::new(self.graph.escape)
    }

    /// Lowers one instruction and moves `state` behind it.
    pub(super) fn step(
        &self,
        state: &mut StageState,
        instruction: &Instruction,
        origin: &Origin,
    ) -> Result<Step, Diagnostic> {
        let lowered = self.lower(state, instruction)?;
        // What is shown expanded does not change variables, so that it does not matter that this comes second.
        let text = self.progress_text(state, instruction, lowered.action.as_ref());
        if let Some(edit) = &lowered.edit {
            edit.apply(&mut state.config);
        }
        Ok(Step {
            lines: origin.lines(instruction),
            span: origin.span(instruction),
            is_trigger: matches!(origin, Origin::Base { .. }),
            text,
            created_by: lowered.created_by,
            empty_layer: lowered.empty_layer,
            edit: lowered.edit,
            action: lowered.action,
            reuse: None,
        })
    }

    fn lower(
        &self,
        state: &mut StageState,
        instruction: &Instruction,
    ) -> Result<Lowered, Diagnostic> {
        let expander = self.expander();
        let expand = |word| state.expand(expander, word);
        Ok(match &instruction.kind {
            InstructionKind::Arg(arg) => self.arg(state, arg)?,
            InstructionKind::Env(env) => {
                let pairs = self.pairs(state, &env.pairs)?;
                for (name, value) in &pairs {
                    state.scope.set(name, value.as_str());
                }
                Lowered::edit(format!("ENV{}", shown_pairs(&pairs)), ConfigEdit::Env(pairs))
            }
            InstructionKind::Label(label) => {
                let pairs = self.pairs(state, &label.pairs)?;
                Lowered::edit(format!("LABEL{}", shown_pairs(&pairs)), ConfigEdit::Labels(pairs))
            }
            InstructionKind::User(user) => {
                let user = expand(&user.user)?;
                Lowered::edit(format!("USER {user}"), ConfigEdit::User(user))
            }
            InstructionKind::Cmd(cmd) => {
                state.has_cmd = true;
                let argv = argv(state, &cmd.command);
                Lowered::edit(format!("CMD {}", go::quoted_list(&argv)), ConfigEdit::Cmd(argv))
            }
            InstructionKind::Entrypoint(entrypoint) => {
                let argv = argv(state, &entrypoint.command);
                Lowered::edit(
                    format!("ENTRYPOINT {}", go::quoted_list(&argv)),
                    ConfigEdit::Entrypoint { argv, clear_cmd: !state.has_cmd },
                )
            }
            InstructionKind::Shell(shell) => Lowered::edit(
                format!("SHELL {}", go::plain_list(&shell.argv)),
                ConfigEdit::Shell(shell.argv.clone()),
            ),
            InstructionKind::StopSignal(stop) => {
                let text = expand(&stop.signal)?;
                if !signal::is_signal(&text) {
                    let message = format!("invalid signal: {text}");
                    return Err(Diagnostic::error(stop.signal.span, message));
                }
                Lowered::edit(format!("STOPSIGNAL {text}"), ConfigEdit::StopSignal(text))
            }
            InstructionKind::Expose(expose) => self.expose(state, expose)?,
            InstructionKind::Volume(volume) => self.volume(state, volume)?,
            InstructionKind::Healthcheck(check) => healthcheck(check),
            InstructionKind::OnBuild(on_build) => Lowered {
                created_by: None,
                empty_layer: true,
                edit: Some(ConfigEdit::OnBuild(on_build.text.clone())),
                action: None,
            },
            InstructionKind::Workdir(workdir) => self.work_dir(state, workdir)?,
            InstructionKind::Run(run) => self.run(state, instruction, run)?,
            InstructionKind::Copy(copy) => self.copy(state, copy)?,
            InstructionKind::Add(add) => self.add(state, add)?,
            InstructionKind::Maintainer(maintainer) => {
                let name = maintainer.name.value.clone();
                Lowered::edit(format!("MAINTAINER {name}"), ConfigEdit::Author(name))
            }
        })
    }

    /// Each argument sees those before it, unlike the variables of an ENV.
    fn arg(&self, state: &mut StageState, arg: &Arg) -> Result<Lowered, Diagnostic> {
        let mut created_by = "ARG".to_owned();
        for item in &arg.args {
            let name = item.key.as_str();
            let value = match (self.given(name), &item.default) {
                // The default of an argument that is given is not even looked at.
                (Some(given), _) => Some(given),
                (None, Some(default)) => Some(state.expand(self.expander(), default)?),
                (None, None) => self.global(name),
            };
            created_by.push(' ');
            created_by.push_str(name);
            if let Some(value) = &value {
                created_by.push('=');
                created_by.push_str(value);
            }
            state.declare(name, value);
        }
        Ok(Lowered { created_by: Some(created_by), empty_layer: true, edit: None, action: None })
    }

    /// The value of `--build-arg`. That of the epoch is what has become of it.
    fn given(&self, name: &str) -> Option<String> {
        let given = self.graph.build_args.get(name)?;
        if name == epoch::NAME { self.epoch_text() } else { Some(given.to_owned()) }
    }

    /// The value of an argument before the first `FROM`.
    fn global(&self, name: &str) -> Option<String> {
        let value = self.graph.globals.get(name)?;
        if name == epoch::NAME { self.epoch_text() } else { Some(value.to_owned()) }
    }

    fn epoch_text(&self) -> Option<String> {
        self.epoch.map(|seconds| seconds.to_string())
    }

    fn pairs(
        &self,
        state: &StageState,
        pairs: &[KeyValue],
    ) -> Result<Vec<(String, String)>, Diagnostic> {
        let expand = |word| state.expand(self.expander(), word);
        pairs.iter().map(|pair| Ok((expand(&pair.key)?, expand(&pair.value)?))).collect()
    }

    fn expose(&self, state: &StageState, expose: &Expose) -> Result<Lowered, Diagnostic> {
        let expand = |word: &Word| {
            let expansion = state.expand_at(self.expander(), word, word.span)?;
            Ok((word.span, expansion.words))
        };
        // BuildKit expands all of them before it looks at what any of them means.
        let expanded = expose.ports.iter().map(expand).collect::<Result<Vec<_>, Diagnostic>>()?;
        let mut list: Vec<String> = Vec::new();
        let mut size = 0;
        for (span, words) in &expanded {
            for spec in words {
                let ports = ports::parse(spec);
                let ports = ports.map_err(|message| Diagnostic::error(*span, message))?;
                // A range of five letters is 65,535 ports.
                size += ports.iter().map(|port| port.len() + 24).sum::<usize>();
                if size > MAX_PLAN {
                    return Err(Diagnostic::error(*span, TOO_MANY_PORTS));
                }
                list.extend(ports);
            }
        }
        let created_by = format!("EXPOSE {}", go::plain_list(&list));
        Ok(Lowered::edit_unless_empty(created_by, list, ConfigEdit::Expose))
    }

    fn volume(&self, state: &StageState, volume: &Volume) -> Result<Lowered, Diagnostic> {
        let mut paths = Vec::new();
        for word in &volume.paths {
            let path = state.expand(self.expander(), word)?;
            if path.is_empty() {
                let message = "VOLUME specified can not be an empty string";
                return Err(Diagnostic::error(word.span, message));
            }
            paths.push(path);
        }
        let created_by = format!("VOLUME {}", go::plain_list(&paths));
        Ok(Lowered::edit_unless_empty(created_by, paths, ConfigEdit::Volumes))
    }

    /// The instruction for people: what changes files is shown with variables expanded, as BuildKit does.
    fn progress_text(
        &self,
        state: &StageState,
        instruction: &Instruction,
        action: Option<&Action>,
    ) -> String {
        let written = instruction.original.trim();
        match (&instruction.kind, action) {
            (InstructionKind::Run(run), Some(Action::Run(action))) => {
                let expander =
                    Expander { quotes: Quotes::Kept, keeps_unset: true, ..self.expander() };
                let variables = WithoutSecrets { scope: &state.scope, action };
                let mut written = written.to_owned();
                if let Some(script) = run.script() {
                    written.extend([" (", &summary(&script.content), ")"]);
                }
                let result = expander.expand(&written, &variables);
                upper_case_keyword(&result.map_or(written, |expansion| expansion.text))
            }
            (
                InstructionKind::Copy(_) | InstructionKind::Add(_) | InstructionKind::Workdir(_),
                _,
            ) => {
                let result = self.expander().expand(written, &state.scope);
                upper_case_keyword(result.as_ref().map_or(written, |expansion| &expansion.text))
            }
            _ => upper_case_keyword(written),
        }
    }
}

/// The variables of a RUN, with stars in place of secrets: nobody knows them yet, and this says so.
struct WithoutSecrets<'a> {
    scope: &'a Scope,
    action: &'a RunAction,
}

impl Variables for WithoutSecrets<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let is_secret = self.action.mounts.iter().any(|mount| match &mount.kind {
            MountKind::Secret { env: Some(env), .. } => env == name,
            _ => false,
        });
        if is_secret { Some("****") } else { self.scope.get(name) }
    }
}

/// The first line of a here-document.
fn summary(content: &str) -> String {
    let content = content.trim();
    match content.split_once('\n') {
        Some((first, _)) => format!("{}...", first.strip_suffix('\r').unwrap_or(first)),
        None => content.to_owned(),
    }
}

fn upper_case_keyword(text: &str) -> String {
    let (keyword, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
    keyword.to_uppercase() + rest
}

fn argv(state: &StageState, command: &Command) -> Vec<String> {
    match command {
        Command::Shell(text) => state.with_shell(text),
        Command::Exec(argv) => argv.clone(),
    }
}

fn shown_pairs(pairs: &[(String, String)]) -> String {
    pairs.iter().flat_map(|(key, value)| [" ", key, "=", value]).collect()
}

/// The shell form does not use SHELL; the runtime has its own way to run it.
fn healthcheck(check: &Healthcheck) -> Lowered {
    let nanoseconds =
        |duration: &std::time::Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    let edit = match check {
        Healthcheck::Disabled => {
            ebiko_oci::Healthcheck { test: vec!["NONE".into()], ..Default::default() }
        }
        Healthcheck::Check {
            command,
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
        } => {
            let (kind, words) = match command {
                Command::Shell(text) => ("CMD-SHELL", std::slice::from_ref(text)),
                Command::Exec(argv) => ("CMD", argv.as_slice()),
            };
            ebiko_oci::Healthcheck {
                test: std::iter::once(kind.to_owned()).chain(words.iter().cloned()).collect(),
                interval: nanoseconds(interval),
                timeout: nanoseconds(timeout),
                start_period: nanoseconds(start_period),
                start_interval: nanoseconds(start_interval),
                retries: i64::from(*retries),
                ..Default::default()
            }
        }
    };
    let created_by = format!(
        "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        go::plain_list(&edit.test),
        go::duration(edit.interval),
        go::duration(edit.timeout),
        go::duration(edit.start_period),
        go::duration(edit.start_interval),
        edit.retries,
    );
    Lowered::edit(created_by, ConfigEdit::Healthcheck(edit))
}
