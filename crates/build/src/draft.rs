//! An image whose layers may still be on their way.

use std::collections::BTreeMap;
use std::sync::Arc;

use ebiko_layer::{CompressError, Spooled};
use ebiko_oci::{ConfigEdit, Image, ImageBuilder, ImageFormat, Layer, Platform, Timestamp};

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
    /// A layer of an earlier build, with its line of history.
    Reused(Layer, String),
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

    /// Adds a layer of an earlier build, and its line of history.
    pub(crate) fn reused(&mut self, layer: Layer, created_by: &str) {
        self.lines.push(Line::Reused(layer, created_by.to_owned()));
    }

    /// Fails if one of the layers cannot be completed; does not wait.
    pub(crate) fn check(&self) -> Result<(), CompressError> {
        self.lines.iter().try_for_each(|line| match line {
            Line::Layer(layer) => layer.blob.check(),
            Line::Platform(_) | Line::Edit(_) | Line::Empty(_) | Line::Reused(..) => Ok(()),
        })
    }

    /// Whatever it starts from, the layers above the image beneath, each with its line of history, when all of them are
    /// complete.
    pub(crate) fn layers_above_image(&self) -> Result<Vec<(Layer, String)>, CompressError> {
        let mut layers = match &self.base {
            Base::Scratch(_) | Base::Image(_) => Vec::new(),
            Base::Draft(draft) => draft.layers_above_image()?,
        };
        for line in &self.lines {
            match line {
                Line::Layer(layer) => {
                    layers.push((self.complete(layer)?, layer.created_by.clone()));
                }
                Line::Reused(layer, created_by) => {
                    layers.push((self.in_format(layer), created_by.clone()));
                }
                Line::Platform(_) | Line::Edit(_) | Line::Empty(_) => {}
            }
        }
        Ok(layers)
    }

    /// All layers that it has, from the bottom up, when they are complete.
    pub(crate) fn layers(&self) -> Result<Vec<Layer>, CompressError> {
        let mut layers = match self.image_beneath() {
            Some(image) => image.layers().to_vec(),
            None => Vec::new(),
        };
        layers.extend(self.layers_above_image()?.into_iter().map(|(layer, _)| layer));
        Ok(layers)
    }

    fn image_beneath(&self) -> Option<&Image> {
        match &self.base {
            Base::Scratch(_) => None,
            Base::Image(image) => Some(image),
            Base::Draft(draft) => draft.image_beneath(),
        }
    }

    fn complete(&self, layer: &DraftLayer) -> Result<Layer, CompressError> {
        let DraftLayer { tar, blob, annotations, .. } = layer;
        let mut layer = blob.layer(tar, self.format)?;
        if !annotations.is_empty() {
            let noted = layer.descriptor.annotations.get_or_insert_default();
            noted.extend(annotations.clone());
        }
        Ok(layer)
    }

    /// The same layer with the media type that fits in.
    fn in_format(&self, layer: &Layer) -> Layer {
        let mut layer = layer.clone();
        layer.descriptor.media_type = layer.descriptor.media_type.in_format(self.format);
        layer
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
                Line::Layer(layer) => image.layer(self.complete(layer)?, &layer.created_by),
                Line::Reused(layer, created_by) => image.layer(self.in_format(layer), created_by),
            })
        })?;
        Ok(image.finish(created))
    }
}
