//! One stage: its root, its steps, its image.

mod accounts;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::sync::Arc;

use ebiko_context::Context;
use ebiko_exec::{Archives, Site, Supplies, Touched};
use ebiko_layer::{Files, Limits, PackError, Spooled, UnpackOptions, Unpacked};
use ebiko_oci::{Digest, Event, Image, Layer, PortError, Position, StepOutcome, Timestamp};
use ebiko_plan::{Action, BuildPlan, CopyFrom, Reuse, StageBase, StageId, StagePlan};
use ebiko_rootfs::{Root, RootPath, Time};
use ebiko_snapshot::{AdvanceOptions, Changeset, IgnoreSet, Snapshot};

use crate::bases::ResolvedBases;
use crate::blobs::interruptible;
use crate::cache::Keeper;
use crate::compression;
use crate::draft::{Draft, DraftLayer};
use crate::failure::{BuildError, StepFailure};
use crate::inputs::InputStore;
use crate::press::{Order, Press};
use crate::request::{BuildRequest, Layering, PlatformChoice, Ports};
use crate::roots::Roots;
use crate::streams::Streams;
use crate::thin::{Need, continuation, later_reads, need};

/// The layers that a build does not make itself.
#[derive(Clone, Copy)]
pub(crate) struct Foundations<'a> {
    /// The images that stages start from or copy from.
    pub(crate) bases: &'a ResolvedBases,
    /// Layers of earlier builds that take the place of steps, by the digests of their blobs.
    pub(crate) reused: &'a HashMap<Digest, Layer>,
}

/// What works behind the build.
pub(crate) struct Behind<'a> {
    /// Compresses layers.
    pub(crate) press: Press,
    /// Keeps layers for later builds.
    pub(crate) keeper: Option<Keeper<'a>>,
}

/// What stages have in common: the context, the roots of earlier stages, their images.
pub(crate) struct Workshop<'a> {
    request: &'a BuildRequest,
    ports: &'a Ports<'a>,
    roots: &'a Roots<'a>,
    bases: &'a ResolvedBases,
    reused: &'a HashMap<Digest, Layer>,
    plan: &'a BuildPlan,
    /// The stages whose layers the image will have.
    in_image: BTreeSet<StageId>,
    context: Context,
    ignore: IgnoreSet,
    /// Files that steps read besides the context.
    inputs: InputStore<'a>,
    /// The time that is written into config and history.
    created: Timestamp,
    /// What commands may be given.
    supplies: Supplies,
    /// Images of stages that others start from, and at last the target's.
    built: BTreeMap<StageId, Arc<Draft>>,
    /// The root of the stage before, where the next one goes on in it.
    carried: Option<Carried>,
    /// Unpacks layers.
    streams: Streams,
    /// Compresses layers.
    press: Press,
    /// Keeps layers for later builds.
    keeper: Option<Keeper<'a>>,
    /// The layers whose files are not all in the root that is worked on, and where they all are, if they had to be unpacked.
    thin: Option<(Vec<Layer>, Option<Root>)>,
    /// How many roots there are beside those of the stages; they are numbered.
    beside: usize,
}

/// A root in which the next stage goes on.
struct Carried {
    from: StageId,
    root: Root,
    seen: Snapshot,
    /// How much of what is beneath is there.
    need: Need,
}

/// A stage that is being built.
struct Begun {
    image: Draft,
    root: Root,
    seen: Snapshot,
    need: Need,
    /// The first step that is performed.
    next: usize,
}

impl<'a> Workshop<'a> {
    /// Opens the context. The builder's directory is ready: [`Roots::prepare`] was called.
    pub(crate) fn open(
        request: &'a BuildRequest,
        ports: &'a Ports<'a>,
        roots: &'a Roots<'a>,
        Foundations { bases, reused }: Foundations<'a>,
        plan: &'a BuildPlan,
        inputs: InputStore<'a>,
        Behind { press, keeper }: Behind<'a>,
    ) -> Result<Self, BuildError> {
        for warning in &plan.warnings {
            ports.observer.event(Event::RuleBroken {
                rule: warning.rule.name(),
                line: *warning.lines.start(),
                message: &warning.message,
            });
        }
        for note in &plan.notes {
            ports.observer.event(Event::Warning { text: note });
        }
        Ok(Self {
            request,
            ports,
            roots,
            bases,
            reused,
            plan,
            in_image: plan.target_and_beneath().collect(),
            context: Context::open(&request.context, request.ignore_file.as_deref())?,
            ignore: IgnoreSet::new(request.ignore_paths.iter().map(String::as_str))?,
            inputs,
            created: match plan.epoch {
                Some(seconds) => {
                    Timestamp::from_seconds(seconds).map_err(|_| BuildError::Epoch { seconds })?
                }
                None => request.created,
            },
            supplies: Supplies {
                secrets: request.secrets.clone(),
                agents: request.agents.clone(),
                caches: request.caches.clone().unwrap_or_else(|| roots.directory("caches")),
                scratch: roots.directory("commands"),
                resources: request.resources.clone(),
            },
            built: BTreeMap::new(),
            carried: None,
            streams: Streams::new(bases.readers(plan, request), roots.directory("blobs")),
            press,
            keeper,
            thin: None,
            beside: 0,
        })
    }

    /// Builds one stage; those that it uses have been built.
    pub(crate) fn build_stage(&mut self, stage: &StagePlan) -> Result<(), BuildError> {
        let position = self.position(stage);
        self.ports.observer.event(Event::StageStarted {
            stage: position,
            name: stage.name.as_deref(),
            base: &stage.base_text,
        });
        let Begun { mut image, root, mut seen, need, next } = self.begin(stage)?;
        if self.makes_layers(stage) {
            let stored = compression::stored(self.request.compression, image.format())?;
            if let Some(text) = stored.warning {
                self.ports.observer.event(Event::Warning { text });
            }
        }
        for (index, step) in stage.steps.iter().enumerate().skip(next) {
            self.check_interrupt()?;
            image.check()?;
            let number = Position { number: index + 1, total: stage.steps.len() };
            self.ports.observer.event(Event::StepStarted {
                stage: position,
                step: number,
                line: *step.lines.start(),
                text: &step.text,
            });
            let request = self.request;
            let failed = |source: StepFailure, location| BuildError::Step {
                step: number,
                text: step.text.clone(),
                lines: step.lines.clone(),
                location,
                source: Box::new(source),
            };
            let touched = self
                .perform((stage, index), &root, &seen)
                .map_err(|source| failed(source, request.location(*step.lines.start())))?;
            if let Some(edit) = &step.edit {
                image.edit(edit);
            }
            let recorded = self.record(stage, index, touched, &root, &mut seen, &mut image);
            let outcome = recorded.map_err(|error| {
                failed(StepFailure::recording(error), request.location(*step.lines.start()))
            })?;
            self.ports.observer.event(Event::StepFinished { outcome });
            if let Some(keeper) = &mut self.keeper {
                let at = (stage, index);
                keeper.step_done(at, &image, &self.context, &self.inputs, self.ports);
            }
        }
        for edit in &stage.final_edits {
            image.edit(edit);
        }
        if stage.recorded {
            self.built.insert(stage.id, Arc::new(image));
        }
        self.leave(stage, Carried { from: stage.id, root, seen, need })
    }

    /// Whether the layers of a stage are made: somebody wants its image, or they are kept for later builds.
    fn makes_layers(&self, stage: &StagePlan) -> bool {
        stage.recorded || self.keeper.is_some()
    }

    /// The image of the target.
    pub(crate) fn close(mut self) -> Result<Image, BuildError> {
        if let Some(keeper) = &mut self.keeper {
            keeper.build_done();
        }
        let target = self.plan.target;
        let draft = self.built.remove(&target).ok_or(BuildError::NotBuilt { stage: target })?;
        let image = draft.finish(self.created)?.annotated(self.request.annotations.clone());
        Ok(image.with_blobs(|layer| interruptible(&layer.blob, self.ports.interrupt)))
    }

    fn position(&self, stage: &StagePlan) -> Position {
        let index = self.plan.stages.iter().position(|other| other.id == stage.id);
        Position { number: index.map_or(0, |index| index + 1), total: self.plan.stages.len() }
    }

    fn check_interrupt(&self) -> Result<(), BuildError> {
        match self.ports.interrupt.signal() {
            Some(signal) => Err(BuildError::Interrupted { signal }),
            None => Ok(()),
        }
    }

    /// What a stage starts with: config, files, and the index of those files. Steps whose layers were made before are done
    /// then.
    fn begin(&mut self, stage: &StagePlan) -> Result<Begun, BuildError> {
        let mut image = match &stage.base {
            StageBase::Scratch => {
                let format = self.request.format.unwrap_or(self.request.scratch_format);
                Draft::from_scratch(stage.platform.clone(), format)
            }
            StageBase::Image(base) => {
                let image = self.bases.image(base)?;
                match self.request.format.filter(|_| self.in_image.contains(&stage.id)) {
                    Some(format) => Draft::from_image(&image.in_format(format)?),
                    None => Draft::from_image(image),
                }
            }
            StageBase::Stage(earlier) => Draft::from_draft(
                self.built.get(earlier).ok_or(BuildError::NotBuilt { stage: *earlier })?,
            ),
        };
        if self.request.platform == PlatformChoice::Explicit {
            image.platform(self.request.options.platform.clone());
        }
        for edit in &stage.base_edits {
            image.edit(edit);
        }
        let (next, reused) = self.reuse(stage, &mut image)?;
        let is_carried = |carried: &mut Carried| stage.base == StageBase::Stage(carried.from);
        if let Some(Carried { root, mut seen, need, .. }) = self.carried.take_if(is_carried) {
            if !reused.is_empty() {
                if need == Need::Index {
                    self.thin = Some((image.layers()?, None));
                }
                self.bring_layers(need, &reused, &root, &mut seen)?;
            }
            return Ok(Begun { image, root, seen, need, next });
        }
        let root = self.roots.begin(stage.id)?;
        let mut seen = Snapshot::empty();
        self.thin = None;
        let is_empty = stage.base == StageBase::Scratch && reused.is_empty();
        let need = need(self.plan, stage, self.request.base_files, self.request.layering);
        if !is_empty {
            let layers = if need == Need::Nothing { Vec::new() } else { image.layers()? };
            if need == Need::Index {
                self.thin = Some((layers.clone(), None));
            }
            self.bring_layers(need, &layers, &root, &mut seen)?;
        }
        Ok(Begun { image, root, seen, need, next })
    }

    /// Puts the layers of the first steps into the image that are in the place of these steps. The answer is the first step
    /// that has to be performed, and the layers.
    fn reuse(
        &self,
        stage: &StagePlan,
        image: &mut Draft,
    ) -> Result<(usize, Vec<Layer>), BuildError> {
        let Some(last) = stage.steps.iter().rposition(|step| step.reuse.is_some()) else {
            return Ok((0, Vec::new()));
        };
        let mut layers = Vec::new();
        for (index, step) in stage.steps.iter().enumerate().take(last + 1) {
            let mut digest = None;
            let created_by = step.created_by.as_deref();
            match &step.reuse {
                Some(Reuse::Layer(layer)) => {
                    digest = Some(layer.descriptor.digest);
                    let layer = self
                        .reused
                        .get(&layer.descriptor.digest)
                        .ok_or(BuildError::NotBuilt { stage: stage.id })?;
                    image.reused(layer.clone(), created_by.unwrap_or_default());
                    layers.push(layer.clone());
                }
                Some(Reuse::Nothing) | None => {
                    if let Some(created_by) = created_by {
                        image.empty_layer(created_by);
                    }
                }
            }
            if let Some(edit) = &step.edit {
                image.edit(edit);
            }
            if step.reuse.is_some() {
                self.ports.observer.event(Event::StepReused {
                    stage: self.position(stage),
                    step: Position { number: index + 1, total: stage.steps.len() },
                    line: *step.lines.start(),
                    text: &step.text,
                    layer: digest,
                });
            }
        }
        Ok((last + 1, layers))
    }

    /// Puts as much of `layers` into a root as is needed.
    fn bring_layers(
        &mut self,
        need: Need,
        layers: &[Layer],
        root: &Root,
        seen: &mut Snapshot,
    ) -> Result<(), BuildError> {
        match need {
            Need::Nothing => self.ports.observer.event(Event::NotRead),
            Need::Index => self.unpack(layers, root, seen, accounts::files())?,
            Need::Files => self.unpack(layers, root, seen, Files::All)?,
        }
        seen.settle((self.ports.clock)());
        Ok(())
    }

    fn unpack(
        &mut self,
        layers: &[Layer],
        root: &Root,
        seen: &mut Snapshot,
        files: Files,
    ) -> Result<(), BuildError> {
        let options = UnpackOptions { files, limits: self.request.limits };
        for layer in layers {
            self.check_interrupt()?;
            let Unpacked { entries, bytes: size } =
                self.streams.unpack(layer, root, seen, &options)?;
            let digest = layer.descriptor.digest;
            self.ports.observer.event(match options.files {
                Files::All => Event::Unpacked { digest, entries, size },
                Files::Only(_) => Event::Read { digest, entries, size },
            });
        }
        Ok(())
    }

    /// Changes the files. `None` if the step changes none.
    fn perform(
        &mut self,
        (stage, index): (&StagePlan, usize),
        root: &Root,
        seen: &Snapshot,
    ) -> Result<Option<Touched>, StepFailure> {
        let Some(action) = &stage.steps[index].action else { return Ok(None) };
        self.make_ready(action)?;
        self.bring_accounts(action, root, seen)?;
        let later = later_reads(self.plan, stage, index);
        let site = Site {
            root,
            context: &self.context,
            inputs: self.inputs.files(),
            supplies: &self.supplies,
            created: Time { secs: self.created.seconds(), nanos: 0 },
            place: self.roots.place(),
            observer: self.ports.observer,
            archives: &LayerArchives(self.request.limits),
            is_unwritten: &|path| seen.unwritten(path).is_some(),
            later_reads: later.as_deref(),
            interrupt: self.ports.interrupt,
        };
        if !matches!(action, Action::Run(_)) {
            return Ok(Some(ebiko_exec::perform(action, &site)?));
        }
        // A command sees what is on disk, so what the image has in the place of a mount point's parents must be there
        // before it, and what it wrote there must find its way to the image after it.
        root.settle().map_err(|source| StepFailure::Settle { source })?;
        let touched = ebiko_exec::perform(action, &site)?;
        root.check_mounts().map_err(|source| StepFailure::Mounts { source })?;
        self.roots.check_shell()?;
        root.settle().map_err(|source| StepFailure::Settle { source })?;
        Ok(Some(touched))
    }

    /// Fetches and unpacks whatever the action reads and no step before it has read.
    fn make_ready(&mut self, action: &Action) -> Result<(), StepFailure> {
        if let Action::Copy(copy) = action {
            for source in &copy.sources {
                self.inputs.fetch(source)?;
            }
        }
        for from in action.reads() {
            match from {
                CopyFrom::Named(name) => self.inputs.context(name)?,
                CopyFrom::Image(base) if !self.inputs.files().images.contains_key(base) => {
                    let image = self.bases.image(base).map_err(StepFailure::nested)?;
                    let files = self.unpack_beside(image.layers())?;
                    self.inputs.files_mut().images.insert(base.clone(), files);
                }
                CopyFrom::Context | CopyFrom::Stage(_) | CopyFrom::Image(_) | CopyFrom::Scratch => {
                }
            }
        }
        Ok(())
    }

    /// All files of an image, in a root of its own.
    fn unpack_beside(&mut self, layers: &[Layer]) -> Result<Root, StepFailure> {
        let files = self.roots.beside(self.beside)?;
        self.beside += 1;
        self.unpack(layers, &files, &mut Snapshot::empty(), Files::All)
            .map_err(StepFailure::nested)?;
        Ok(files)
    }

    /// Puts the step into the image: a layer if it changed files and somebody wants the image.
    fn record(
        &mut self,
        stage: &StagePlan,
        index: usize,
        touched: Option<Touched>,
        root: &Root,
        seen: &mut Snapshot,
        image: &mut Draft,
    ) -> Result<StepOutcome, BuildError> {
        let step = &stage.steps[index];
        let created_by = step.created_by.as_deref();
        if step.empty_layer {
            if let Some(created_by) = created_by {
                image.empty_layer(created_by);
            }
            return Ok(StepOutcome::ConfigOnly);
        }
        let touched = match self.request.layering {
            Layering::PerStep => touched.unwrap_or_else(|| Touched::Paths(BTreeSet::new())),
            Layering::PerStage => Touched::Everything,
        };
        let makes_layer = match self.request.layering {
            Layering::PerStep => true,
            Layering::PerStage => stage.steps[index + 1..].iter().all(|later| later.empty_layer),
        };
        if !self.makes_layers(stage) || !makes_layer {
            if let Some(created_by) = created_by {
                image.empty_layer(created_by);
            }
            return Ok(StepOutcome::NotRecorded);
        }
        let changes = self.look(&touched, root, seen)?;
        let order = Order {
            compression: compression::stored(self.request.compression, image.format())?.compression,
            format: image.format(),
            stage: self.position(stage),
            step: Position { number: index + 1, total: stage.steps.len() },
            is_in_image: self.in_image.contains(&stage.id),
        };
        let layer = self.pack(&changes, root, seen, order, created_by.unwrap_or_default())?;
        let Spooled { entries, size, .. } = layer.tar;
        image.layer(layer);
        Ok(StepOutcome::Layer { entries, size })
    }

    fn look(
        &self,
        touched: &Touched,
        root: &Root,
        seen: &mut Snapshot,
    ) -> Result<Changeset, BuildError> {
        let options = AdvanceOptions {
            mode: self.request.snapshot_mode,
            ignore: &self.ignore,
            threads: self.request.threads,
            now: (self.ports.clock)(),
        };
        let changes = match touched {
            Touched::Everything => seen.advance(root, &options),
            Touched::Paths(paths) => seen.advance_paths(root, paths, &options),
        };
        Ok(changes?)
    }

    /// Writes a layer's tar stream, which becomes a blob behind the build.
    fn pack(
        &mut self,
        changes: &Changeset,
        root: &Root,
        seen: &mut Snapshot,
        order: Order,
        created_by: &str,
    ) -> Result<DraftLayer, BuildError> {
        let clamp = self.request.file_times.newest(self.plan.epoch);
        let newest = clamp.map(|secs| Time { secs, nanos: 0 });
        let (mut stream, blob) = self.press.begin(order)?;
        let tar = match ebiko_layer::spool(changes, root, seen, newest, &mut stream) {
            Ok(tar) => tar,
            Err(PackError::Write { source }) if source.kind() == io::ErrorKind::BrokenPipe => {
                // Nobody reads the stream any more, and the reason is there.
                return Err(blob.failure().into());
            }
            Err(error) => return Err(error.into()),
        };
        stream.finish();
        for warning in &tar.warnings {
            self.ports.observer.event(Event::Warning { text: &warning.to_string() });
        }
        let note = clamp.map(|seconds| (REWRITTEN.to_owned(), seconds.to_string()));
        let annotations = note.into_iter().collect();
        Ok(DraftLayer { tar, blob, created_by: created_by.to_owned(), annotations })
    }

    /// Leaves the stage: its root goes on, is kept, stays where it is, or is given up.
    fn leave(&mut self, stage: &StagePlan, left: Carried) -> Result<(), BuildError> {
        let is_last = self.plan.stages.last().is_some_and(|last| last.id == stage.id);
        if continuation(self.plan, stage).is_some() {
            self.carried = Some(left);
        } else if stage.files_read_later {
            self.inputs.files_mut().stages.insert(stage.id, self.roots.keep(stage.id, left.root)?);
        } else if !is_last {
            Roots::discard(stage.id, &left.root)?;
        }
        Ok(())
    }
}

/// BuildKit's annotation of a layer whose files are no younger than its value, in seconds since 1970.
const REWRITTEN: &str = "buildkit/rewritten-timestamp";

/// What `ADD` knows of archives.
struct LayerArchives(Limits);

impl Archives for LayerArchives {
    fn unpack(
        &self,
        file: &mut File,
        root: &Root,
        destination: &RootPath,
        owner: Option<(u32, u32)>,
    ) -> Result<Option<BTreeSet<RootPath>>, PortError> {
        Ok(ebiko_layer::unpack_archive(file, root, destination, owner, &self.0)?)
    }
}
