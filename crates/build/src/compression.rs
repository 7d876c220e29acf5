//! Which compression fits into which image.

use ebiko_layer::{Compression, DEFAULT_GZIP_LEVEL};
use ebiko_oci::ImageFormat;

/// Layers of an image cannot be stored as was asked for.
#[derive(Debug, thiserror::Error)]
#[error(
    "the image has Docker's media types, because its base has them, and estargz needs those of OCI"
)]
pub struct CompressionError;

impl CompressionError {
    /// What the user can do about it.
    pub(crate) fn hint() -> &'static str {
        "leave `--compression=estargz` out, or start from a base with OCI media types"
    }
}

/// How the layers of an image are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) compression: Compression,
    /// Why it is not what was asked for.
    pub(crate) warning: Option<&'static str>,
}

/// How layers are stored in an image of `format` if `wanted` was asked for. Docker's images have no Zstandard; kaniko stores
/// them with gzip then, and so does this.
pub(crate) fn stored(wanted: Compression, format: ImageFormat) -> Result<Stored, CompressionError> {
    let as_wanted = Stored { compression: wanted, warning: None };
    match (format, wanted) {
        (ImageFormat::Oci, _) | (_, Compression::None | Compression::Gzip { .. }) => Ok(as_wanted),
        (ImageFormat::Docker, Compression::Zstd { .. } | Compression::ZstdChunked { .. }) => {
            Ok(Stored {
                compression: Compression::Gzip { level: DEFAULT_GZIP_LEVEL },
                warning: Some(
                    "the base image has Docker's media types, which know no Zstandard: layers are stored with gzip at its default \
                     level",
                ),
            })
        }
        (ImageFormat::Docker, Compression::Estargz { .. }) => Err(CompressionError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_images_have_no_zstandard_and_no_estargz() {
        let gzip = Compression::Gzip { level: DEFAULT_GZIP_LEVEL };
        for (wanted, docker) in [
            (Compression::None, Some(Compression::None)),
            (Compression::Gzip { level: 9 }, Some(Compression::Gzip { level: 9 })),
            (Compression::Zstd { level: 19 }, Some(gzip)),
            (Compression::ZstdChunked { level: 3 }, Some(gzip)),
            (Compression::Estargz { level: 3 }, None),
        ] {
            let stored = |format| stored(wanted, format).ok();
            let found = stored(ImageFormat::Docker);
            assert_eq!(found.map(|stored| stored.compression), docker, "{wanted:?}");
            let warns = found.is_some_and(|stored| stored.warning.is_some());
            assert_eq!(warns, docker.is_some_and(|docker| docker != wanted), "{wanted:?}");
            assert_eq!(
                stored(ImageFormat::Oci),
                Some(Stored { compression: wanted, warning: None })
            );
        }
    }
}
