//! What goes from thread to thread.

use std::ops::Range;

use ebiko_oci::Digest;

use crate::tar::Member;

/// A piece of the tar stream on its way through the threads. The buffers go round, so their number bounds the memory.
#[derive(Debug, Default)]
pub(super) struct Unit {
    /// By which the order is restored.
    pub(super) number: u64,
    /// As it was read.
    pub(super) input: Vec<u8>,
    /// What is in it, in order. The lengths of the frames add up to that of `input`.
    pub(super) items: Vec<Item>,
    /// The frames, compressed, one after the other.
    pub(super) output: Vec<u8>,
    /// Which of the items is the frame that is being filled.
    open: Option<usize>,
    /// How much of `input` is in frames that have ended.
    framed: usize,
}

/// What is in a piece of the tar stream.
#[derive(Debug)]
pub(super) enum Item {
    /// A gzip member or zstd frame.
    Frame(Frame),
    /// A member of the archive whose header has come. Its content, if it has any, follows in frames.
    Member {
        /// What the header says.
        member: Box<Member>,
        /// The header, and before it what fills the last block of the member before.
        header: Range<usize>,
    },
    /// The content of the last member is complete.
    End {
        /// By which tar-split knows it.
        crc: [u8; 8],
        /// Of the whole content, where it is in more than one chunk.
        digest: Option<Digest>,
    },
    /// Bytes after the last member.
    Rest(Range<usize>),
}

/// A gzip member or zstd frame.
#[derive(Debug)]
pub(super) struct Frame {
    /// How many bytes of a file it begins with.
    pub(super) content: usize,
    /// How many bytes it has, with those between files.
    pub(super) length: usize,
    /// Of its content, if it has any. Known once it is compressed.
    pub(super) digest: Option<Digest>,
    /// How many bytes it has become. Known once it is compressed.
    pub(super) compressed: usize,
}

impl Unit {
    /// Makes it as good as new, with its buffers.
    pub(super) fn clear(&mut self) {
        self.input.clear();
        self.items.clear();
        self.output.clear();
        self.open = None;
        self.framed = 0;
    }

    /// Ends the frame that is being filled and begins one that has `content` bytes of a file to come.
    pub(super) fn begin_frame(&mut self, content: usize) {
        self.end_frame();
        self.open = Some(self.items.len());
        self.items.push(Item::Frame(Frame { content, length: 0, digest: None, compressed: 0 }));
    }

    /// Ends the frame that is being filled. One without a byte is none.
    pub(super) fn end_frame(&mut self) {
        let Some(index) = self.open.take() else { return };
        let length = self.input.len() - self.framed;
        self.framed = self.input.len();
        if length == 0 {
            self.items.remove(index);
        } else if let Item::Frame(frame) = &mut self.items[index] {
            frame.length = length;
        }
    }

    /// How many bytes between files the frame that is being filled has.
    pub(super) fn gap(&self) -> usize {
        match self.open.map(|index| &self.items[index]) {
            Some(Item::Frame(frame)) => self.input.len() - self.framed - frame.content,
            _ => 0,
        }
    }
}
