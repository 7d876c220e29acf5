//! What a target asks of the one who builds it: arguments, secrets, agents.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dockerfile_parser::{Diagnostic, Diagnostics, Mount, MountKind, Source, Span};
use serde_json::{Value, json};

use crate::actions::StageId;
use crate::graph::{NamedSource, StageGraph};
use crate::lint::{self, Globals, Seen};
use crate::reach::{Bases, Reach};
use crate::{BuildPlan, targets};

/// The parameters of a target.
///
/// Its [`Display`](fmt::Display) form is like that of `docker build --call=outline`, [`json`](Self::json) like that of
/// BuildKit's `frontend.outline`.
#[derive(Debug, Clone)]
pub struct Outline {
    /// The file.
    pub source: Source,
    /// The name of the stage, if it has one.
    pub name: Option<String>,
    /// What the comment above the stage says of it.
    pub description: Option<String>,
    /// The arguments that make a difference to it.
    pub args: Vec<OutlineArg>,
    /// The secrets that it reads.
    pub secrets: Vec<OutlineMount>,
    /// The SSH agents that it talks to.
    pub ssh: Vec<OutlineMount>,
}

/// A build argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineArg {
    /// Its name.
    pub name: String,
    /// Its value in this build; `None` where it has none.
    pub value: Option<String>,
    /// What the comment above it says of it.
    pub description: Option<String>,
    /// The lines of its `ARG`.
    pub lines: RangeInclusive<u32>,
}

/// A secret or an SSH agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlineMount {
    /// Its id.
    pub id: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// The lines of the `RUN` that uses it.
    pub lines: RangeInclusive<u32>,
}

impl StageGraph {
    /// The parameters of the target. `bases` are the images that are known; others count as empty.
    ///
    /// # Errors
    ///
    /// Fails where the target cannot be built.
    pub fn outline(&self, bases: &Bases) -> Result<Outline, Diagnostics> {
        let error = |items| Diagnostics::new(self.source.clone(), items);
        let filled = lint::fill(self, bases)?;
        BuildPlan::lower_unchecked(self, &filled, None)?;
        let reach = self.reach(&filled).map_err(error)?;
        let Some(globals) = Globals::of_build(self.file(), &self.options) else {
            let message = "the arguments above the first `FROM` cannot be expanded";
            return Err(error(vec![Diagnostic::error(Span::default(), message)]));
        };
        let from = &self.stage(self.target).from;
        let name = from.kind.name.as_ref().map(|name| name.value.clone());
        let mut walk = Walk {
            graph: self,
            globals: &globals,
            reach: &reach,
            seen: self.seen(bases, &reach),
            args: BTreeMap::new(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
        };
        walk.all();
        Ok(Outline {
            source: self.source.clone(),
            description: name
                .as_ref()
                .and_then(|name| from.description_of(name))
                .map(ToOwned::to_owned),
            name,
            args: sorted(walk.args.into_values(), |arg| *arg.lines.start()),
            secrets: sorted(walk.secrets.into_values(), |secret| *secret.lines.start()),
            ssh: sorted(walk.ssh.into_values(), |agent| *agent.lines.start()),
        })
    }
}

fn sorted<T>(items: impl Iterator<Item = T>, line: impl Fn(&T) -> u32) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort_by_key(line);
    items
}

/// Goes from the target to what it needs; of two definitions of a name the nearer one counts.
struct Walk<'a> {
    graph: &'a StageGraph,
    globals: &'a Globals,
    reach: &'a Reach,
    seen: BTreeMap<StageId, Seen>,
    args: BTreeMap<String, OutlineArg>,
    secrets: BTreeMap<String, OutlineMount>,
    ssh: BTreeMap<String, OutlineMount>,
}

impl Walk<'_> {
    fn all(&mut self) {
        let mut visited = BTreeSet::new();
        let mut waiting = vec![self.graph.target];
        while let Some(id) = waiting.pop() {
            if !visited.insert(id) {
                continue;
            }
            self.args_of(id);
            self.mounts_of(id);
            waiting.extend(self.sources(id).into_iter().rev());
            if let NamedSource::Stage(base) = self.graph.stage(id).base {
                waiting.push(base);
            }
        }
    }

    /// The stages that this one copies from.
    fn sources(&self, id: StageId) -> BTreeSet<StageId> {
        let triggers = self.reach.stages.get(&id).into_iter().flatten();
        let instructions = triggers.chain(&self.graph.stage(id).instructions);
        instructions
            .filter_map(|instruction| self.graph.sources(instruction).ok())
            .flatten()
            .filter_map(|(source, _)| match source {
                NamedSource::Stage(from) => Some(from),
                _ => None,
            })
            .collect()
    }

    fn args_of(&mut self, id: StageId) {
        let mut used = BTreeSet::new();
        let mut waiting: Vec<String> = Vec::new();
        // A stage that is based on another has the name and platform of its base from that one.
        let mut first = id;
        while let NamedSource::Stage(base) = self.graph.stage(first).base {
            waiting.extend(self.globals.used_by(&self.graph.stage(first).from.kind));
            first = base;
        }
        waiting.extend(self.globals.used_by(&self.graph.stage(first).from.kind));
        let mut own: BTreeMap<&str, OutlineArg> = BTreeMap::new();
        for arg in self.seen.get(&id).into_iter().flat_map(|seen| &seen.args) {
            waiting.push(arg.name.clone());
            if !arg.is_inherited {
                let shown = OutlineArg {
                    name: arg.name.clone(),
                    value: arg.value.clone(),
                    description: arg.description.clone(),
                    lines: arg.lines.clone(),
                };
                own.insert(&arg.name, shown);
            }
        }
        while let Some(name) = waiting.pop() {
            if !used.insert(name.clone()) {
                continue;
            }
            let global = self.globals.args.get(&name);
            let shown = match own.remove(name.as_str()) {
                Some(own) => own,
                None => match global {
                    Some(arg) => {
                        waiting.extend(arg.uses.iter().cloned());
                        OutlineArg {
                            name: name.clone(),
                            value: arg.value.clone(),
                            description: arg.description.clone(),
                            lines: arg.lines.clone(),
                        }
                    }
                    None => continue,
                },
            };
            self.args.entry(name).or_insert(shown);
        }
    }

    fn mounts_of(&mut self, id: StageId) {
        for (mount, lines) in self.seen.get(&id).into_iter().flat_map(|seen| &seen.mounts) {
            let (id, list) = match mount.kind {
                MountKind::Secret => (secret_id(mount), &mut self.secrets),
                MountKind::Ssh if mount.id.is_empty() => ("default", &mut self.ssh),
                MountKind::Ssh => (mount.id.as_str(), &mut self.ssh),
                MountKind::Bind | MountKind::Cache | MountKind::Tmpfs => continue,
            };
            let shown =
                OutlineMount { id: id.to_owned(), required: mount.required, lines: lines.clone() };
            list.entry(id.to_owned()).or_insert(shown);
        }
    }
}

fn secret_id(mount: &Mount) -> &str {
    let last = || mount.target.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    [&mount.source, &mount.id]
        .into_iter()
        .find(|id| !id.is_empty())
        .map_or_else(last, String::as_str)
}

impl Outline {
    /// The result of BuildKit's `frontend.outline`.
    pub fn json(&self) -> Value {
        let mut object = serde_json::Map::new();
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(name) = &self.name {
            object.insert("name".into(), name.as_str().into());
        }
        if let Some(description) = text(&self.description) {
            object.insert("description".into(), description.into());
        }
        let args = self.args.iter().map(|arg| {
            let mut shown = json!({ "name": arg.name, "location": lint::location(&arg.lines) });
            for (key, value) in [("description", &arg.description), ("value", &arg.value)] {
                if let Some(value) = text(value) {
                    shown[key] = value.into();
                }
            }
            shown
        });
        let mount = |mount: &OutlineMount| {
            let mut shown = json!({ "name": mount.id, "location": lint::location(&mount.lines) });
            if mount.required {
                shown["required"] = true.into();
            }
            shown
        };
        let lists = [
            ("args", args.collect::<Vec<_>>()),
            ("secrets", self.secrets.iter().map(mount).collect()),
            ("ssh", self.ssh.iter().map(mount).collect()),
            ("sources", vec![STANDARD.encode(self.source.text()).into()]),
        ];
        for (key, list) in lists {
            if !list.is_empty() {
                object.insert(key.into(), list.into());
            }
        }
        object.into()
    }
}

impl fmt::Display for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        if self.name.is_some() {
            let mut rows = vec![["TARGET:".to_owned(), text(&self.name)]];
            if self.description.is_some() {
                rows.push(["DESCRIPTION:".to_owned(), text(&self.description)]);
            }
            targets::table(f, &rows, 1)?;
            writeln!(f)?;
        }
        if !self.args.is_empty() {
            let mut rows = vec![["BUILD ARG", "VALUE", "DESCRIPTION"].map(ToOwned::to_owned)];
            rows.extend(
                self.args
                    .iter()
                    .map(|arg| [arg.name.clone(), text(&arg.value), text(&arg.description)]),
            );
            targets::table(f, &rows, 3)?;
            writeln!(f)?;
        }
        for (title, mounts) in [("SECRET", &self.secrets), ("SSH", &self.ssh)] {
            if mounts.is_empty() {
                continue;
            }
            let mut rows = vec![[title, "REQUIRED"].map(ToOwned::to_owned)];
            rows.extend(mounts.iter().map(|mount| {
                let required = if mount.required { "true" } else { "" };
                [mount.id.clone(), required.to_owned()]
            }));
            targets::table(f, &rows, 3)?;
            writeln!(f)?;
        }
        Ok(())
    }
}
