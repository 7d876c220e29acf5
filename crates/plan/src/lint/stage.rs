//! The rules that need to know what an instruction finds: the variables, and what its stage has done before.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use dockerfile_parser::{
    Arg, Command, InlineFile, Instruction, InstructionKind, Mount, Span, Word,
};
use ebiko_oci::ImageConfig;

use super::options::{CheckOptions, Collector};
use super::rule::{Rule, messages};
use super::secret_names::is_secret;
use crate::actions::StageId;
use crate::expand::{Expander, Quotes, Variables as _};
use crate::git::GitAddress;
use crate::graph::{NamedSource, StageGraph};
use crate::reach::{Bases, Reach};
use crate::scope::Scope;
use crate::{go, suggest};

/// Arguments for BuildKit's scanner, which no instruction sees.
const HIDDEN: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// An instruction cannot be expanded, or is wrong in another way: what follows it is not looked at.
struct Stop;

/// Checks that the images that are known are for the platforms that they are used for.
pub(super) fn platforms(
    graph: &StageGraph,
    bases: &Bases,
    reach: &Reach,
    collector: &mut Collector,
) {
    for &id in reach.stages.keys() {
        let node = graph.stage(id);
        let NamedSource::Image(image) = &node.base else { continue };
        let Some(known) = bases.get(image) else { continue };
        let (actual, expected) = (known.config.platform.normalized(), image.platform.normalized());
        // An image without layers has nothing that could be for the wrong platform.
        let is_empty = known.config.rootfs.diff_ids.is_empty()
            && known.config.history.iter().all(|entry| entry.empty_layer);
        if is_empty || (actual.os == expected.os && actual.architecture == expected.architecture) {
            continue;
        }
        let message = format!(
            "Base image {} was pulled with platform {}, expected {} for current build",
            node.base_text,
            go::quote(&actual.to_string()),
            go::quote(&expected.to_string()),
        );
        collector.add(
            &graph.lint.options,
            Rule::InvalidBaseImagePlatform,
            &node.from.lines,
            message,
        );
    }
}

/// Checks the instructions of the stages that are reached, and ends behind the one that `error`, a byte of the file,
/// is in.
///
/// Bases that are not in `bases` may define any variable.
pub(super) fn instructions(
    graph: &StageGraph,
    bases: &Bases,
    reach: &Reach,
    error: Option<usize>,
    collector: &mut Collector,
) {
    let holds_error = |span: Span| error.is_some_and(|at| (span.start..=span.end).contains(&at));
    let mut done: BTreeMap<StageId, State> = BTreeMap::new();
    for (&id, triggers) in &reach.stages {
        let node = graph.stage(id);
        let state = match &node.base {
            NamedSource::Stage(base) => done.get(base).map_or_else(State::default, State::child),
            NamedSource::Scratch | NamedSource::Files(_) => {
                State::of_image(&ImageConfig::scratch(node.platform.clone()))
            }
            NamedSource::Image(image) => {
                bases.get(image).map_or_else(State::default, |base| State::of_image(&base.config))
            }
        };
        let mut checks = StageChecks {
            graph,
            id,
            state,
            options: Cow::Borrowed(&graph.lint.options),
            lines: node.from.lines.clone(),
            collector,
        };
        // What is wrong with a trigger is said of the FROM that sets it off.
        for trigger in triggers {
            if checks.instruction(trigger).is_err() {
                return;
            }
        }
        if holds_error(node.from.span) {
            return;
        }
        for instruction in &node.instructions {
            checks.options = graph.lint.options.at(instruction);
            checks.lines = instruction.lines.clone();
            if checks.instruction(instruction).is_err() || holds_error(instruction.span) {
                return;
            }
        }
        done.insert(id, checks.state);
    }
}

/// What a stage asks of the one who builds it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) args: Vec<SeenArg>,
    /// The mounts of each RUN, with its lines.
    pub(crate) mounts: Vec<(Mount, RangeInclusive<u32>)>,
}

/// An `ARG` of a stage.
#[derive(Debug)]
pub(crate) struct SeenArg {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    /// Whether it only lets in a variable from above the first `FROM`.
    pub(crate) is_inherited: bool,
    pub(crate) description: Option<String>,
    pub(crate) lines: RangeInclusive<u32>,
}

/// What instructions of a stage have done so far.
#[derive(Debug, Clone, Default)]
struct State {
    /// Variables of the image, without arguments.
    env: BTreeMap<String, String>,
    /// Those and the arguments.
    scope: Scope,
    /// Names of arguments, with a value or without.
    declared: BTreeSet<String>,
    /// Whether the base is known, and with it what is not defined.
    is_known: bool,
    has_shell: bool,
    has_work_dir: bool,
    /// The last ones of this stage.
    cmd: Option<RangeInclusive<u32>>,
    entrypoint: Option<RangeInclusive<u32>>,
    healthcheck: Option<RangeInclusive<u32>>,
}

impl State {
    fn of_image(config: &ImageConfig) -> Self {
        let mut state = Self {
            is_known: true,
            has_shell: config.config.shell.as_ref().is_some_and(|shell| !shell.is_empty()),
            ..Self::default()
        };
        for entry in &config.config.env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            state.set_env(name, value);
        }
        if state.scope.get("PATH").is_none() && config.platform.os != "windows" {
            // The value does not matter to any rule.
            state.set_env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        }
        state
    }

    /// What a stage begins with that is based on one that ended like this.
    fn child(&self) -> Self {
        let mut child = Self { cmd: None, entrypoint: None, healthcheck: None, ..self.clone() };
        for (name, value) in &self.env {
            child.scope.set(name, value.as_str());
        }
        child
    }

    fn set_env(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
        self.scope.set(name, value);
    }
}

/// Whether a source is an address.
fn is_fetched(source: &str) -> bool {
    let is_http = source.starts_with("http://") || source.starts_with("https://");
    is_http || !matches!(GitAddress::parse(source), Ok(None))
}

/// Checks one instruction of a stage after the other.
struct StageChecks<'a> {
    graph: &'a StageGraph,
    id: StageId,
    state: State,
    /// Those of the instruction.
    options: Cow<'a, CheckOptions>,
    /// Where a warning about it is.
    lines: RangeInclusive<u32>,
    collector: &'a mut Collector,
}

impl StageChecks<'_> {
    fn warn(&mut self, rule: Rule, message: impl Into<String>) {
        self.collector.add(&self.options, rule, &self.lines, message);
    }

    fn seen(&mut self) -> &mut Seen {
        self.collector.seen.entry(self.id).or_default()
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), Stop> {
        let keyword = instruction.keyword.as_str();
        match &instruction.kind {
            InstructionKind::Env(env) => {
                let mut pairs = Vec::new();
                for pair in &env.pairs {
                    let (name, value) = (self.expand(&pair.key)?, self.expand(&pair.value)?);
                    pairs.push((name, value, pair.legacy));
                }
                for (name, value, legacy) in pairs {
                    self.legacy(keyword, legacy);
                    self.secret("ENV", &name);
                    self.state.set_env(&name, &value);
                }
            }
            InstructionKind::Label(label) => {
                for pair in &label.pairs {
                    self.expand(&pair.key)?;
                    self.expand(&pair.value)?;
                }
                for pair in &label.pairs {
                    self.legacy(keyword, pair.legacy);
                }
            }
            InstructionKind::Arg(arg) => self.arg(instruction, arg)?,
            InstructionKind::Copy(copy) => {
                let sources = self.expand_copy(
                    [copy.chown.as_ref(), copy.chmod.as_ref()],
                    &copy.sources,
                    &copy.destination,
                    &copy.files,
                )?;
                if copy.from.as_ref().is_none_or(|from| from.is_empty()) {
                    self.excluded_sources("Copy", &sources);
                }
            }
            InstructionKind::Add(add) => {
                let sources = self.expand_copy(
                    [add.chown.as_ref(), add.chmod.as_ref(), add.checksum.as_ref()],
                    &add.sources,
                    &add.destination,
                    &add.files,
                )?;
                self.excluded_sources("Add", &sources);
            }
            InstructionKind::Run(run) => {
                for mount in &run.mounts {
                    let mount =
                        Mount::parse(mount, |value| self.expand(value)).map_err(|_| Stop)?;
                    let lines = self.lines.clone();
                    self.seen().mounts.push((mount, lines));
                }
            }
            InstructionKind::Workdir(workdir) => {
                let path = self.expand(&workdir.path)?;
                if !self.state.has_work_dir && !path.starts_with('/') {
                    let path = go::quote(&path);
                    let message = format!(
                        "Relative workdir {path} can have unexpected results if the base image changes"
                    );
                    self.warn(Rule::WorkdirRelativePath, message);
                }
                self.state.has_work_dir = true;
            }
            InstructionKind::User(user) => drop(self.expand(&user.user)?),
            InstructionKind::StopSignal(stop) => drop(self.expand(&stop.signal)?),
            InstructionKind::Volume(volume) => {
                for path in &volume.paths {
                    self.expand(path)?;
                }
            }
            InstructionKind::Expose(expose) => self.expose(&expose.ports)?,
            InstructionKind::Shell(_) => self.state.has_shell = true,
            InstructionKind::Cmd(cmd) => {
                let before = self.state.cmd.replace(self.lines.clone());
                self.used_once(keyword, before);
                self.shell_form(keyword, &cmd.command);
            }
            InstructionKind::Entrypoint(entrypoint) => {
                let before = self.state.entrypoint.replace(self.lines.clone());
                self.used_once(keyword, before);
                self.shell_form(keyword, &entrypoint.command);
            }
            InstructionKind::Healthcheck(_) => {
                let before = self.state.healthcheck.replace(self.lines.clone());
                self.used_once(keyword, before);
            }
            InstructionKind::Maintainer(_) | InstructionKind::OnBuild(_) => {}
        }
        Ok(())
    }

    fn expand(&mut self, word: &str) -> Result<String, Stop> {
        self.expand_with(Expander::new(self.graph.escape), word)
    }

    /// Expands a word and warns of variables in it that nothing defines.
    fn expand_with(&mut self, expander: Expander, word: &str) -> Result<String, Stop> {
        let expansion = expander.expand(word, &self.state.scope).map_err(|_| Stop)?;
        if self.state.is_known {
            for name in &expansion.unmatched {
                if self.state.declared.contains(name) || HIDDEN.contains(&name.as_str()) {
                    continue;
                }
                let near = suggest::nearest(name, self.state.scope.names());
                let message = messages::undefined_variable(name, near);
                self.warn(Rule::UndefinedVar, message);
            }
        }
        Ok(expansion.text)
    }

    /// Gives the sources that are not here-documents.
    fn expand_copy<const N: usize>(
        &mut self,
        flags: [Option<&Word>; N],
        sources: &[Word],
        destination: &Word,
        files: &[InlineFile],
    ) -> Result<Vec<String>, Stop> {
        for flag in flags.into_iter().flatten() {
            self.expand(flag)?;
        }
        let mut paths = Vec::new();
        for source in sources {
            paths.push(self.expand(source)?);
        }
        self.expand(destination)?;
        let raw = Expander { quotes: Quotes::Ignored, ..Expander::new('\\') };
        for file in files.iter().filter(|file| file.expand) {
            self.expand_with(raw, &file.content)?;
        }
        Ok(paths)
    }

    /// Where the ignore file has exceptions, what is excluded may hold something that is not.
    fn excluded_sources(&mut self, verb: &str, sources: &[String]) {
        let Some(excluded) = self.graph.lint.excluded.clone() else { return };
        if excluded.has_exceptions() {
            return;
        }
        for source in sources.iter().filter(|source| !is_fetched(source)) {
            let path = go::clean_path(source);
            let is_everything = path == "." || path == "/";
            let is_excluded = if is_everything {
                // No pattern matches the context itself.
                excluded.excludes_everything()
            } else {
                excluded.excludes(&path)
            };
            if is_excluded {
                let quoted = go::quote(&path);
                let message =
                    format!("Attempting to {verb} file {quoted} that is excluded by .dockerignore");
                self.warn(Rule::CopyIgnoredFile, message);
            }
        }
    }

    fn arg(&mut self, instruction: &Instruction, arg: &Arg) -> Result<(), Stop> {
        for item in &arg.args {
            let name = item.key.as_str();
            self.secret("ARG", name);
            let value = match (self.graph.build_args.get(name), &item.default) {
                (Some(given), _) => Some(given.to_owned()),
                (None, Some(default)) => Some(self.expand(default)?),
                (None, None) => self.graph.globals.get(name).map(ToOwned::to_owned),
            };
            let is_inherited = item.default.is_none()
                && self.graph.build_args.get(name).is_none()
                && value.is_some();
            let lines = self.lines.clone();
            self.seen().args.push(SeenArg {
                name: name.to_owned(),
                value: value.clone(),
                is_inherited,
                description: instruction.description_of(name).map(ToOwned::to_owned),
                lines,
            });
            if let Some(value) = value.filter(|_| !HIDDEN.contains(&name)) {
                self.state.scope.set(name, value);
            }
            self.state.declared.insert(name.to_owned());
        }
        Ok(())
    }

    fn expose(&mut self, ports: &[Word]) -> Result<(), Stop> {
        let expander = Expander::new(self.graph.escape);
        let mut specs = Vec::new();
        for port in ports {
            let expansion = expander.expand(port, &self.state.scope).map_err(|_| Stop)?;
            specs.extend(expansion.words);
        }
        for spec in &specs {
            let (host, container) = spec.rsplit_once(':').unwrap_or(("", spec));
            let (port, protocol) = container.split_once('/').unwrap_or((container, ""));
            let lower = protocol.to_lowercase();
            if port.is_empty() || !matches!(lower.as_str(), "" | "tcp" | "udp" | "sctp") {
                return Err(Stop);
            }
            if lower != protocol {
                let message =
                    format!("Defined protocol '{spec}' in EXPOSE instruction should be lowercase");
                self.warn(Rule::ExposeProtoCasing, message);
            }
            if !matches!(host, "" | ":") {
                let message = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{spec}'"
                );
                self.warn(Rule::ExposeInvalidFormat, message);
            }
        }
        Ok(())
    }

    fn legacy(&mut self, keyword: &str, is_legacy: bool) {
        if is_legacy {
            self.warn(Rule::LegacyKeyValueFormat, messages::legacy(keyword));
        }
    }

    fn secret(&mut self, instruction: &str, name: &str) {
        if is_secret(name) {
            self.warn(Rule::SecretsUsedInArgOrEnv, messages::secret(instruction, name));
        }
    }

    /// The one that has no effect is the earlier one.
    fn used_once(&mut self, keyword: &str, before: Option<RangeInclusive<u32>>) {
        if let Some(lines) = before {
            let rule = Rule::MultipleInstructionsDisallowed;
            self.collector.add(&self.options, rule, &lines, messages::multiple(keyword));
        }
    }

    /// Who chose a shell wants it.
    fn shell_form(&mut self, keyword: &str, command: &Command) {
        if matches!(command, Command::Shell(_)) && !self.state.has_shell {
            self.warn(Rule::JsonArgsRecommended, messages::json_recommended(keyword));
        }
    }
}
