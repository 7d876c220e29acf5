//! What an instruction starts from: the state of its stage.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use dockerfile_parser::{Diagnostic, Instruction, Span, Word};
use ebiko_oci::{ConfigEdit, ImageConfig, Platform};

use crate::expand::{Expander, Expansion, Variables as _};
use crate::reach::in_trigger;
use crate::scope::Scope;
use crate::system::System;

/// Everything that instructions hand on to the next one.
#[derive(Debug, Clone)]
pub(super) struct StageState {
    /// The config as the image builder will have it at this point.
    pub(super) config: ImageConfig,
    /// What `$name` finds, and what processes get: variables of the image and arguments alike.
    pub(super) scope: Scope,
    /// The arguments in the order of their first declaration, with the values they were given last.
    pub(super) args: Vec<(String, Option<String>)>,
    /// For each of them its place in `args`.
    arg_index: BTreeMap<String, usize>,
    /// Whether this stage, and not only its base, has set a command.
    pub(super) has_cmd: bool,
}

impl StageState {
    pub(super) fn scratch(platform: Platform) -> Self {
        Self::new(ImageConfig::scratch(platform))
    }

    /// What the image `base` hands on.
    pub(super) fn inherited(base: &ImageConfig) -> Self {
        Self::new(base.inherited())
    }

    fn new(mut config: ImageConfig) -> Self {
        // What was done before changes nothing here, and every stage has a copy.
        config.history.clear();
        config.rootfs.diff_ids.clear();
        let mut scope = Scope::default();
        scope.set_all(&config.config.env);
        Self { config, scope, args: Vec::new(), arg_index: BTreeMap::new(), has_cmd: false }
    }

    /// What the stage `base` hands on: its arguments too, but variables of its image win over them.
    pub(super) fn child_of(base: &Self) -> Self {
        let mut child = base.clone();
        child.config = base.config.inherited();
        child.scope.set_all(&child.config.config.env);
        child.has_cmd = false;
        child
    }

    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        let config = &self.config.config;
        let labels = config.labels.iter().flatten();
        let sets = config.exposed_ports.iter().chain(&config.volumes).flatten();
        self.scope.size()
            + config.env.iter().map(String::len).sum::<usize>()
            + labels.map(|(key, value)| key.len() + value.len()).sum::<usize>()
            + sets.map(|(key, _)| key.len() + 64).sum::<usize>()
    }

    /// A relative working directory of a base image becomes absolute, and that of Windows gets its `\`.
    pub(super) fn base_edits(&mut self) -> Result<Vec<ConfigEdit>, String> {
        let system = self.system();
        let current = &self.config.config.working_dir;
        if current.is_empty() {
            return Ok(Vec::new());
        }
        let path = system.in_config(&system.work_dir(current, current)?);
        if path == *current {
            return Ok(Vec::new());
        }
        let edit = ConfigEdit::WorkingDir(path);
        edit.apply(&mut self.config);
        Ok(vec![edit])
    }

    /// Whose paths the image has.
    pub(super) fn system(&self) -> System {
        System::of(&self.config.platform)
    }

    /// The working directory, absolute and with `/`.
    pub(super) fn work_dir(&self) -> String {
        // The config has only what came through `base_edits` and WORKDIR, so that there is nothing to refuse.
        self.system().work_dir(&self.config.config.working_dir, "").unwrap_or_else(|_| "/".into())
    }

    pub(super) fn declare(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = &value {
            // These two steer BuildKit's scanner and never reach a process.
            if !matches!(name, "BUILDKIT_SBOM_SCAN_CONTEXT" | "BUILDKIT_SBOM_SCAN_STAGE") {
                self.scope.set(name, value.as_str());
            }
        }
        if let Some(&index) = self.arg_index.get(name) {
            self.args[index].1 = value;
        } else {
            self.arg_index.insert(name.to_owned(), self.args.len());
            self.args.push((name.to_owned(), value));
        }
    }

    /// The arguments as the history of a RUN shows them: `|2 A=1 B=2 `, or nothing.
    pub(super) fn args_in_history(&self) -> String {
        if self.args.is_empty() {
            return String::new();
        }
        let shown = self.args.iter().map(|(name, value)| {
            let value = self.scope.get(name).or(value.as_deref()).unwrap_or_default();
            format!("{name}={value} ")
        });
        format!("|{} {}", self.args.len(), shown.collect::<String>())
    }

    /// A command line with the shell in front.
    pub(super) fn with_shell(&self, text: &str) -> Vec<String> {
        let mut argv = match &self.config.config.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ if self.config.platform.os == "windows" => {
                ["cmd", "/S", "/C"].map(str::to_owned).into()
            }
            _ => vec!["/bin/sh".to_owned(), "-c".to_owned()],
        };
        argv.push(text.to_owned());
        argv
    }

    /// The word with the variables as they are now.
    pub(super) fn expand(&self, expander: Expander, word: &Word) -> Result<String, Diagnostic> {
        self.expand_at(expander, word, word.span).map(|expansion| expansion.text)
    }

    /// The text at `span` with the variables as they are now. Every expansion in a stage passes here.
    pub(super) fn expand_at(
        &self,
        expander: Expander,
        text: &str,
        span: Span,
    ) -> Result<Expansion, Diagnostic> {
        expander
            .expand(text, &self.scope)
            .map_err(|error| Diagnostic::error(span, error.to_string()))
    }
}

/// Where an instruction was written.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// In the stage.
    Stage,
    /// In the base, whose text is not at hand: the FROM stands for it.
    Base { at: Span, lines: RangeInclusive<u32> },
}

impl Origin {
    pub(super) fn span(&self, instruction: &Instruction) -> Span {
        match self {
            Self::Stage => instruction.span,
            Self::Base { at, .. } => *at,
        }
    }

    pub(super) fn lines(&self, instruction: &Instruction) -> RangeInclusive<u32> {
        match self {
            Self::Stage => instruction.lines.clone(),
            Self::Base { lines, .. } => lines.clone(),
        }
    }

    pub(super) fn place(&self, diagnostic: Diagnostic, instruction: &Instruction) -> Diagnostic {
        match self {
            Self::Stage => diagnostic,
            Self::Base { at, .. } => in_trigger(&diagnostic, &instruction.original, *at),
        }
    }
}
