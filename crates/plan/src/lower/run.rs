//! `RUN`.

use dockerfile_parser::{Command, Diagnostic, Instruction, Network, Run, Security};

use super::StageContext;
use super::config::Lowered;
use super::copy;
use super::stage::StageState;
use crate::actions::{Action, InlineFile, RunAction};
use crate::expand::Variables as _;
use crate::{Entitlement, Habit, go};

/// Where here-documents that are programs are while they run.
const SCRIPTS: &str = "/dev/pipes/";

/// The argument that names the host which processes see.
const HOST_NAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";

impl StageContext<'_> {
    pub(super) fn run(
        &self,
        state: &StageState,
        instruction: &Instruction,
        run: &Run,
    ) -> Result<Lowered, Diagnostic> {
        let (argv, scripts) = command(state, run)?;
        let mounts = self.mounts(state, run)?;
        if let Some(device) = run.devices.iter().find(|device| device.required) {
            let message = format!("device {} is not available", go::quote(&device.name));
            return Err(Diagnostic::error(device.span, message).with_hint(
                "ebiko passes no devices on; without `required` the command runs without this one",
            ));
        }
        let network = run.network.map(|network| network.value).unwrap_or_default();
        let security = run.security.map(|security| security.value).unwrap_or_default();
        if network == Network::Host {
            self.check_allowed(instruction, "network", Entitlement::NetworkHost)?;
        }
        if security == Security::Insecure {
            self.check_allowed(instruction, "security", Entitlement::SecurityInsecure)?;
        }
        let created_by = format!("RUN {}{} # buildkit", state.args_in_history(), argv.join(" "));
        let config = &state.config.config;
        let mut scope = state.scope.clone();
        let mut ambient = Vec::new();
        for (name, value) in self.graph.build_args.proxies() {
            if state.scope.get(&name).is_none() {
                ambient.push(name.clone());
            }
            scope.set(&name, value);
        }
        let host_name = self.graph.build_args.get(HOST_NAME).filter(|name| !name.is_empty());
        let run = RunAction {
            argv,
            env: scope.to_env(),
            ambient,
            user: match config.user.split_once(':') {
                Some((user, _)) if self.has(Habit::RunWithoutGroup) => user.to_owned(),
                _ => config.user.clone(),
            },
            work_dir: state.work_dir(),
            scripts,
            mounts,
            network,
            security,
            host_name: host_name.map(ToOwned::to_owned),
        };
        Ok(Lowered::layer(created_by, Action::Run(run)))
    }

    fn check_allowed(
        &self,
        instruction: &Instruction,
        flag: &str,
        wanted: Entitlement,
    ) -> Result<(), Diagnostic> {
        if self.graph.options.allow.contains(&wanted) {
            return Ok(());
        }
        let message = format!("{wanted} is not allowed");
        let error = Diagnostic::error(instruction.flag_span(flag), message);
        Err(error.with_hint(format!("`--allow={wanted}` allows it for the whole build")))
    }
}

/// What is run, and the here-documents that it is made of.
fn command(state: &StageState, run: &Run) -> Result<(Vec<String>, Vec<InlineFile>), Diagnostic> {
    let text = match &run.command {
        Command::Exec(argv) => return Ok((argv.clone(), Vec::new())),
        Command::Shell(text) => text,
    };
    let Some(script) = run.script() else {
        // Whatever else the shell makes of the line, it finds the bodies behind it.
        let mut whole = text.clone();
        for heredoc in &run.heredocs {
            whole.extend(["\n", &heredoc.content, &heredoc.name]);
        }
        return Ok((state.with_shell(&whole), Vec::new()));
    };
    let content = script.chomped();
    if content.starts_with("#!") && state.config.platform.os != "windows" {
        let name = copy::file_name(&script.name)
            .map_err(|message| Diagnostic::error(script.span, message))?;
        let path = go::join_path(SCRIPTS, &name);
        return Ok((state.with_shell(&path), vec![InlineFile { name, content }]));
    }
    Ok((state.with_shell(&content), Vec::new()))
}

/// What the user should know of a RUN.
pub(super) fn notes(run: &Run) -> impl Iterator<Item = String> {
    let optional = run.devices.iter().filter(|device| !device.required);
    optional.map(|device| format!("the device {} is not available", go::quote(&device.name)))
}
