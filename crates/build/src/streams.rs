//! Layers that more than one root begins with are decompressed once.

use std::collections::HashMap;
use std::path::PathBuf;

use ebiko_layer::{
    UnpackError, UnpackOptions, Unpacked, VerifiedStream, nameless_file, unpack, unpack_keeping,
};
use ebiko_oci::{Digest, Layer};
use ebiko_rootfs::Root;
use ebiko_snapshot::Snapshot;

/// The tar streams of layers that will be unpacked again, as long as that is so.
#[derive(Debug)]
pub(crate) struct Streams {
    /// How often each layer will be unpacked.
    left: HashMap<Digest, usize>,
    kept: HashMap<Digest, VerifiedStream>,
    directory: PathBuf,
}

impl Streams {
    /// Streams are files in `directory`, which have no names there.
    pub(crate) fn new(left: HashMap<Digest, usize>, directory: PathBuf) -> Self {
        Self { left, kept: HashMap::new(), directory }
    }

    /// As [`ebiko_layer::unpack`].
    pub(crate) fn unpack(
        &mut self,
        layer: &Layer,
        root: &Root,
        seen: &mut Snapshot,
        options: &UnpackOptions,
    ) -> Result<Unpacked, UnpackError> {
        let digest = layer.descriptor.digest;
        let left = self.left.get_mut(&digest).map_or(0, |left| {
            *left = left.saturating_sub(1);
            *left
        });
        if let Some(stream) = self.kept.get(&digest) {
            let unpacked = stream.unpack(root, seen, options);
            if left == 0 {
                self.kept.remove(&digest);
            }
            return unpacked;
        }
        // Where the disk cannot hold the stream, the blob is read again.
        match (left > 0).then(|| nameless_file(&self.directory.join(digest.hex())).ok()).flatten() {
            Some(file) => {
                let (unpacked, kept) = unpack_keeping(layer, root, seen, options, file)?;
                self.kept.extend(kept.map(|stream| (digest, stream)));
                Ok(unpacked)
            }
            None => unpack(layer, root, seen, options),
        }
    }
}
