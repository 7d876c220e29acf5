//! Tar streams of layers that are unpacked more than once.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;

use ebiko_oci::{Digest, Layer};
use ebiko_rootfs::Root;
use ebiko_snapshot::Snapshot;

use crate::unpack::{apply_stream, unpack_from};
use crate::{UnpackError, UnpackOptions, Unpacked};

/// The tar stream of a layer, decompressed and verified, in a file.
///
/// Where the file has no name nobody can have changed it since, so it is not verified again.
#[derive(Debug)]
pub struct VerifiedStream {
    file: File,
    size: u64,
    layer: Digest,
}

/// As [`unpack`](crate::unpack()), and keeps the stream in `file`, which is empty and has no name: see
/// [`nameless_file`](crate::nameless_file).
///
/// `None` instead of the stream means that it could not be written, for example because the disk is full; the layer is
/// unpacked all the same.
///
/// # Errors
///
/// As [`unpack`](crate::unpack()).
pub fn unpack_keeping(
    layer: &Layer,
    root: &Root,
    snapshot: &mut Snapshot,
    options: &UnpackOptions,
    file: File,
) -> Result<(Unpacked, Option<VerifiedStream>), UnpackError> {
    let (unpacked, kept) = unpack_from(layer, root, snapshot, options, Some(file))?;
    let layer = layer.descriptor.digest;
    let stream = kept.map(|file| VerifiedStream { file, size: unpacked.bytes, layer });
    Ok((unpacked, stream))
}

impl VerifiedStream {
    /// As [`unpack`](crate::unpack()) of the layer that this is the stream of, with the same result.
    ///
    /// # Errors
    ///
    /// As [`unpack`](crate::unpack()).
    pub fn unpack(
        &self,
        root: &Root,
        snapshot: &mut Snapshot,
        options: &UnpackOptions,
    ) -> Result<Unpacked, UnpackError> {
        let from_start = FromStart { file: &self.file, position: 0 };
        let stream = BufReader::with_capacity(256 * 1024, from_start);
        let (applied, _stream) = apply_stream(stream, root, snapshot, options);
        let entries = applied.map_err(|failure| failure.in_layer(self.layer))?;
        Ok(Unpacked { entries, bytes: self.size })
    }
}

/// Reads a file from its start, whatever its position is.
struct FromStart<'a> {
    file: &'a File,
    position: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}
