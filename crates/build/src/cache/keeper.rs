//! New layers go to the cache behind the build.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;

use ebiko_context::Context;
use ebiko_layer::CompressError;
use ebiko_oci::{Digest, Event, Image, LayerCache, Platform, Timestamp};
use ebiko_plan::StagePlan;

use super::{Keeping, entry, in_one_line};
use crate::blobs::interruptible;
use crate::draft::Draft;
use crate::failure::BuildError;
use crate::inputs::InputStore;
use crate::request::Ports;

/// Keeps the layers of a build in the order in which they are made, on a thread that ends when this is dropped and
/// everything is kept.
///
/// Nothing that goes wrong there ends the build: it is told once, and nothing more is kept.
pub(crate) struct Keeper<'a> {
    keeping: Keeping<'a>,
    jobs: Sender<Job>,
}

#[expect(clippy::large_enum_variant, reason = "there are few of them")]
enum Job {
    /// The layers that a stage had when a step ended.
    Layers { key: Digest, platform: Platform, draft: Draft, text: String },
    /// Something that is complete.
    Whole { key: Digest, image: Image },
}

impl<'a> Keeper<'a> {
    pub(super) fn start<'scope>(
        keeping: Keeping<'a>,
        scope: &'scope Scope<'scope, '_>,
        ports: &'scope Ports<'scope>,
    ) -> Result<Self, BuildError>
    where
        'a: 'scope,
    {
        let (jobs, waiting) = channel();
        let (store, now) = (keeping.store, keeping.policy.now);
        std::thread::Builder::new()
            .name("keeper".into())
            .spawn_scoped(scope, move || keep_all(&waiting, store, ports, now))
            .map_err(|source| CompressError::Thread { source })?;
        Ok(Self { keeping, jobs })
    }

    /// Keeps the layers of `draft`, which step `index` of `stage` has left, as soon as they are complete, if that is wanted
    /// and what the step has read is what its key says.
    pub(crate) fn step_done(
        &mut self,
        (stage, index): (&StagePlan, usize),
        draft: &Draft,
        context: &Context,
        inputs: &InputStore<'_>,
        ports: &Ports<'_>,
    ) {
        self.keeping.check(stage, index, context, inputs, ports);
        let (Some(key), Some(step)) = (self.keeping.key(stage, index), stage.steps.get(index))
        else {
            return;
        };
        let platform = stage.platform.clone();
        self.tell(Job::Layers { key, platform, draft: draft.clone(), text: step.text.clone() });
    }

    /// Says that all steps were performed, so that the next build can tell what has changed.
    pub(crate) fn build_done(&mut self) {
        if let Some((key, image)) = self.keeping.trail.take() {
            self.tell(Job::Whole { key, image });
        }
    }

    fn tell(&self, job: Job) {
        // Only a thread that panicked does not receive, and a cache is no reason to fail.
        let _sent = self.jobs.send(job);
    }
}

fn keep_all(jobs: &Receiver<Job>, store: &dyn LayerCache, ports: &Ports<'_>, now: Timestamp) {
    let mut has_failed = false;
    for job in jobs {
        if has_failed || ports.interrupt.signal().is_some() {
            continue;
        }
        let (key, image, text) = match job {
            Job::Layers { key, platform, draft, text } => {
                // What could not be compressed fails the build, and says why there.
                let Ok(layers) = draft.layers_above_image() else { continue };
                let image = entry::entry(&key, &platform, &layers, now);
                (key, image, text)
            }
            Job::Whole { key, image } => (key, image, "what the keys are made from".to_owned()),
        };
        let image = image.with_blobs(|layer| interruptible(&layer.blob, ports.interrupt));
        match store.keep(&key, &image) {
            Ok(()) => {
                let text = format!("kept in the cache as {}: {text}", key.hex());
                ports.observer.event(Event::Debug { text: &text });
            }
            Err(error) => {
                has_failed = true;
                let text = format!(
                    "nothing more is kept in the cache, and the build goes on: {}",
                    in_one_line(&*error)
                );
                ports.observer.event(Event::Warning { text: &text });
            }
        }
    }
}
