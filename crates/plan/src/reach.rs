//! Which stages and images the target needs, as far as it is known.

use std::collections::{BTreeMap, BTreeSet};

use dockerfile_parser::{
    Diagnostic, Diagnostics, Instruction, InstructionKind, Span, parse_trigger,
};
use ebiko_oci::{Digest, ImageConfig};

use crate::actions::{BaseReference, StageId};
use crate::graph::{NamedSource, StageGraph};

/// The images that a plan is based on.
pub type Bases = BTreeMap<BaseReference, BaseImage>;

/// What a plan needs to know of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct BaseImage {
    /// Its config; files are not looked at.
    pub config: ImageConfig,
    /// The digest of its manifest, by which it is fetched whatever happens to the name meanwhile.
    pub digest: Digest,
}

/// What is needed, given some images.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// The stages, each with the triggers of its base. They come first in the stage.
    pub(crate) stages: BTreeMap<StageId, Vec<Instruction>>,
    /// The images, known or not.
    pub(crate) images: BTreeSet<BaseReference>,
    /// The named contexts that are files.
    pub(crate) contexts: BTreeSet<String>,
    /// Those among the stages that are read by `COPY --from` or a mount.
    pub(crate) read: BTreeSet<StageId>,
}

impl StageGraph {
    /// The images that must be added to `bases` before a plan can be made, in a fixed order.
    ///
    /// The answer grows with what is known: a base may have ONBUILD triggers that copy from
    /// further images. Call it until nothing is missing.
    ///
    /// # Errors
    ///
    /// Fails where a trigger of a known base cannot be read or names something that does not exist.
    pub fn missing_references(&self, bases: &Bases) -> Result<Vec<BaseReference>, Diagnostics> {
        let reach = self.known_reach(bases)?;
        Ok(reach.images.into_iter().filter(|image| !bases.contains_key(image)).collect())
    }

    /// The named contexts whose files the build reads, as the request calls them; no other needs to be fetched.
    /// [`epoch`](Self::epoch) may name one more.
    ///
    /// # Errors
    ///
    /// Fails as [`missing_references`](Self::missing_references) does.
    pub fn named_contexts(&self, bases: &Bases) -> Result<BTreeSet<String>, Diagnostics> {
        Ok(self.known_reach(bases)?.contexts)
    }

    fn known_reach(&self, bases: &Bases) -> Result<Reach, Diagnostics> {
        self.reach(bases).map_err(|items| Diagnostics::new(self.source.clone(), items))
    }

    pub(crate) fn reach(&self, bases: &Bases) -> Result<Reach, Vec<Diagnostic>> {
        let mut reach = Reach::default();
        let mut waiting = vec![self.target];
        waiting.extend(&self.also);
        waiting.extend((0..self.nodes.len()).filter(|_| self.every_stage).map(StageId));
        let mut errors = Vec::new();
        while let Some(id) = waiting.pop() {
            if reach.stages.contains_key(&id) {
                continue;
            }
            let node = self.stage(id);
            let at = node.from.span;
            let triggers = match &node.base {
                NamedSource::Scratch => Vec::new(),
                NamedSource::Files(name) => {
                    reach.contexts.insert(name.clone());
                    Vec::new()
                }
                NamedSource::Stage(base) => {
                    waiting.push(*base);
                    written_triggers(&self.stage(*base).instructions)
                }
                NamedSource::Image(image) => {
                    let known = bases.get(image).filter(|_| !node.is_replaced);
                    reach.images.insert(image.clone());
                    known.map_or_else(Vec::new, |base| base.config.config.on_build.clone())
                }
            };
            let mut parsed = Vec::new();
            for trigger in &triggers {
                match parse_trigger(trigger) {
                    Ok(instruction) => parsed.push(instruction),
                    Err(diagnostics) => errors.extend(
                        diagnostics.items().iter().map(|item| in_trigger(item, trigger, at)),
                    ),
                }
            }
            let sources = parsed
                .iter()
                .map(|trigger| {
                    let sources = self.sources(trigger);
                    sources.map_err(|error| in_trigger(&error, &trigger.original, at))
                })
                .chain(node.instructions.iter().map(|own| self.sources(own)));
            for found in sources {
                match found {
                    Ok(found) => {
                        for (source, _) in found {
                            match source {
                                NamedSource::Stage(from) => {
                                    reach.read.insert(from);
                                    waiting.push(from);
                                }
                                NamedSource::Image(image) => {
                                    reach.images.insert(image);
                                }
                                NamedSource::Files(name) => {
                                    reach.contexts.insert(name);
                                }
                                NamedSource::Scratch => {}
                            }
                        }
                    }
                    Err(error) => errors.push(error),
                }
            }
            reach.stages.insert(id, parsed);
        }
        if errors.is_empty() { Ok(reach) } else { Err(errors) }
    }
}

/// Moves an error about the text of a trigger into the Dockerfile: to `at`, the FROM that set it off.
pub(crate) fn in_trigger(diagnostic: &Diagnostic, trigger: &str, at: Span) -> Diagnostic {
    let trigger = trigger.lines().next().unwrap_or_default();
    let message = format!("in the ONBUILD trigger `{trigger}` of the base: {}", diagnostic.message);
    // A hint would be about the text, which is not the user's to change.
    Diagnostic { severity: diagnostic.severity, message, span: at, hint: None, related: Vec::new() }
}

fn written_triggers(instructions: &[Instruction]) -> Vec<String> {
    let triggers = instructions.iter().filter_map(|instruction| match &instruction.kind {
        InstructionKind::OnBuild(on_build) => Some(on_build.text.clone()),
        _ => None,
    });
    triggers.collect()
}
