//! From a base and steps to an image.

use crate::{ConfigEdit, History, Image, ImageConfig, ImageFormat, Layer, Platform, Timestamp};

/// The comment of every history line, by which tools recognise BuildKit's wording.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// Assembles an [`Image`]: a base, then one history line per step, then `finish`.
///
/// Config, history and layers never disagree: each method changes all that it concerns.
#[derive(Debug, Clone)]
#[must_use = "nothing is built until `finish` is called"]
pub struct ImageBuilder {
    config: ImageConfig,
    layers: Vec<Layer>,
    format: ImageFormat,
    /// How many history lines came with the base and keep their own time.
    inherited_history: usize,
}

impl ImageBuilder {
    /// Starts with no layers, as `FROM scratch` does.
    pub fn from_scratch(platform: Platform, format: ImageFormat) -> Self {
        let config = ImageConfig::scratch(platform);
        Self { config, layers: Vec::new(), format, inherited_history: 0 }
    }

    /// Starts with the layers, config and history of `base`. ONBUILD triggers stay behind.
    pub fn from_base(base: &Image) -> Self {
        Self {
            config: base.config().inherited(),
            layers: base.layers().to_vec(),
            format: base.format(),
            inherited_history: base.config().history.len(),
        }
    }

    /// Says that the image is for `platform`, whatever its base says.
    pub fn platform(mut self, platform: Platform) -> Self {
        self.config.platform = platform;
        self
    }

    /// The media types that a new layer must have to fit in.
    pub fn format(&self) -> ImageFormat {
        self.format
    }

    /// The config so far.
    pub fn current(&self) -> &ImageConfig {
        &self.config
    }

    /// Adds a layer on top and the history line that explains it.
    pub fn layer(mut self, layer: Layer, created_by: &str) -> Self {
        self.config.rootfs.diff_ids.push(layer.diff_id);
        self.layers.push(layer);
        self.history(created_by, false)
    }

    /// Adds the history line of a step that made no layer.
    pub fn empty_layer(self, created_by: &str) -> Self {
        self.history(created_by, true)
    }

    /// Changes the config and leaves the history as it is.
    pub fn edit(mut self, edit: &ConfigEdit) -> Self {
        edit.apply(&mut self.config);
        self
    }

    fn history(mut self, created_by: &str, empty_layer: bool) -> Self {
        self.config.history.push(History {
            created_by: Some(created_by.into()),
            comment: Some(COMMENT.into()),
            empty_layer,
            ..History::default()
        });
        self
    }

    /// `created` is a parameter, not the clock, so that two builds can give one digest. The base's
    /// history keeps its own times.
    pub fn finish(mut self, created: Timestamp) -> Image {
        let created = created.to_string();
        for line in self.config.history.iter_mut().skip(self.inherited_history) {
            line.created = Some(created.clone());
        }
        self.config.created = Some(created);
        Image::made(self.config, self.layers, self.format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds).unwrap()
    }

    #[test]
    fn the_history_of_the_base_keeps_its_times() {
        let base = ImageBuilder::from_scratch(Platform::linux("amd64"), ImageFormat::Docker)
            .empty_layer("ENV A=b")
            .edit(&ConfigEdit::OnBuild("RUN x".into()))
            .finish(at(0));
        let image = ImageBuilder::from_base(&base).empty_layer("CMD [\"x\"]").finish(at(1));
        let times: Vec<_> =
            image.config().history.iter().map(|line| line.created.as_deref().unwrap()).collect();
        assert_eq!(times, ["1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z"]);
        assert_eq!(image.format(), ImageFormat::Docker);
        assert!(image.config().config.on_build.is_empty());
        assert_eq!(base.config().config.on_build, ["RUN x"]);
    }

    #[test]
    fn the_same_steps_at_the_same_time_give_the_same_digest() {
        let build = |seconds| {
            ImageBuilder::from_scratch(Platform::linux("amd64"), ImageFormat::Oci)
                .edit(&ConfigEdit::Labels(vec![("b".into(), "1".into()), ("a".into(), "2".into())]))
                .empty_layer("LABEL b=1 a=2")
                .finish(at(seconds))
                .digest()
        };
        assert_eq!(build(5), build(5));
        assert_ne!(build(5), build(6));
    }
}
