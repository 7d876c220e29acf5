//! Everything in a tar stream that is not the content of its files, as the tool `tar-split` writes it.
//!
//! With it, who has only the files can make the tar stream again, to the byte. Readers of zstd:chunked do so to be sure
//! that a layer of which they fetched a part is the one that its diff id names.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::spool::{Spool, Spooled};
use crate::CompressError;
use crate::tar::Member;

/// Writes the entries, one in a line.
pub(super) struct TarSplit {
    spool: Spool,
    position: u64,
    buffer: Vec<u8>,
}

#[derive(Serialize)]
struct Entry<'a> {
    r#type: u8,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    payload: Option<String>,
    position: u64,
}

/// Content of a file, which is found by its name.
const FILE: u8 = 1;

/// Bytes as they are.
const SEGMENT: u8 = 2;

impl TarSplit {
    pub(super) fn new(scratch: Option<&Path>) -> Result<Self, CompressError> {
        Ok(Self { spool: Spool::zstd(scratch)?, position: 0, buffer: Vec::new() })
    }

    /// A header with its extensions, after what fills the last block before it; or the end of the stream.
    pub(super) fn segment(&mut self, bytes: &[u8]) -> Result<(), CompressError> {
        let payload = Some(STANDARD.encode(bytes));
        self.entry(SEGMENT, "", None, payload)
    }

    /// A member, after its header; with the sum of its content, if it has any.
    pub(super) fn file(
        &mut self,
        member: &Member,
        crc: Option<[u8; 8]>,
    ) -> Result<(), CompressError> {
        let name = std::str::from_utf8(&member.path).unwrap_or_default();
        let size = (member.size > 0).then_some(member.size);
        self.entry(FILE, name, size, crc.map(|crc| STANDARD.encode(crc)))
    }

    fn entry(
        &mut self,
        r#type: u8,
        name: &str,
        size: Option<u64>,
        payload: Option<String>,
    ) -> Result<(), CompressError> {
        let entry = Entry { r#type, name, size, payload, position: self.position };
        self.position += 1;
        self.buffer.clear();
        serde_json::to_writer(&mut self.buffer, &entry)
            .map_err(|error| CompressError::Scratch { source: error.into() })?;
        self.buffer.push(b'\n');
        self.spool.write(&self.buffer)
    }

    pub(super) fn finish(self) -> Result<Spooled, CompressError> {
        self.spool.finish()
    }
}
