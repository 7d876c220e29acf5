//! An image whose layers may still be on their way.

use std::collections::BTreeMap;
use std::sync::Arc;

use ebiko_layer::{CompressError, Spooled};
use ebiko_oci::{ConfigEdit, Image, ImageBuilder, ImageFormat, Platform, Timestamp};

use crate::press::Pending;

/// What a stage has made so far: everything that an image needs but the blobs that are not complete yet.
///
/// A stage can begin on the draft of another one; only who wants the image waits for its blobs.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    base: Base,
    format: ImageFormat,
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
enum Base {
    Scratch(Platform),
    Image(Box<Image>),
    Draft(Arc<Draft>),
}

#[derive(Debug, Clone)]
enum Line {
    Platform(Platform),
    Edit(ConfigEdit),
    Empty(String),
    Layer(Arc<DraftLayer>),
}

/// One layer that a step has left.
#[derive(Debug)]
pub(crate) struct DraftLayer {
    pub(crate) tar: Spooled,
    pub(crate) blob: Arc<Pending>,
    pub(crate) created_by: String,
    /// What is noted at the layer in the manifest.
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Draft {
    /// Begins as `FROM scratch` does.
    pub(crate) fn from_scratch(platform: Platform, format: ImageFormat) -> Self {
        Self { base: Base::Scratch(platform), format, lines: Vec::new() }
    }

    /// Begins with everything that `image` has.
    pub(crate) fn from_image(image: &Image) -> Self {
        Self {
            base: Base::Image(Box::new(image.clone())),
            format: image.format(),
            lines: Vec::new(),
        }
    }

    /// Begins with everything that another stage has made.
    pub(crate) fn from_draft(draft: &Arc<Self>) -> Self {
        Self { base: Base::Draft(Arc::clone(draft)), format: draft.format, lines: Vec::new() }
    }

    /// The media types that a new layer must have to fit in.
    pub(crate) fn format(&self) -> ImageFormat {
        self.format
    }

    /// As [`ImageBuilder::platform`].
    pub(crate) fn platform(&mut self, platform: Platform) {
        self.lines.push(Line::Platform(platform));
    }

    /// As [`ImageBuilder::edit`].
    pub(crate) fn edit(&mut self, edit: &ConfigEdit) {
        self.lines.push(Line::Edit(edit.clone()));
    }

    /// As [`ImageBuilder::empty_layer`].
    pub(crate) fn empty_layer(&mut self, created_by: &str) {
        self.lines.push(Line::Empty(created_by.to_owned()));
    }

    /// As [`ImageBuilder::layer`].
    pub(crate) fn layer(&mut self, layer: DraftLayer) {
        self.lines.push(Line::Layer(Arc::new(layer)));
    }

    /// Fails if one of the layers cannot be completed; does not wait.
    pub(crate) fn check(&self) -> Result<(), CompressError> {
        self.lines.iter().try_for_each(|line| match line {
            Line::Layer(layer) => layer.blob.check(),
            Line::Platform(_) | Line::Edit(_) | Line::Empty(_) => Ok(()),
        })
    }

    /// The image, when all its blobs are complete.
    pub(crate) fn finish(&self, created: Timestamp) -> Result<Image, CompressError> {
        let base = match &self.base {
            Base::Scratch(platform) => ImageBuilder::from_scratch(platform.clone(), self.format),
            Base::Image(image) => ImageBuilder::from_base(image),
            Base::Draft(draft) => ImageBuilder::from_base(&draft.finish(created)?),
        };
        let image = self.lines.iter().try_fold(base, |image, line| {
            Ok(match line {
                Line::Platform(platform) => image.platform(platform.clone()),
                Line::Edit(edit) => image.edit(edit),
                Line::Empty(created_by) => image.empty_layer(created_by),
                Line::Layer(layer) => {
                    let DraftLayer { tar, blob, created_by, annotations } = &**layer;
                    let mut layer = blob.layer(tar, self.format)?;
                    if !annotations.is_empty() {
                        let noted = layer.descriptor.annotations.get_or_insert_default();
                        noted.extend(annotations.clone());
                    }
                    image.layer(layer, created_by)
                }
            })
        })?;
        Ok(image.finish(created))
    }
}
