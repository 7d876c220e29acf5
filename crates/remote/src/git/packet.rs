//! Packets: how git's protocol cuts a stream into pieces.

use std::io::{self, Read};

/// One packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    Data(Vec<u8>),
    /// The end of a message.
    Flush,
    /// The end of a section.
    Delimiter,
    /// The end of a response.
    End,
}

/// Reads one packet; `None` at the end of the stream.
pub(crate) fn read(input: &mut impl Read) -> io::Result<Option<Packet>> {
    let mut length = [0; 4];
    // The stream may end before a packet, not within.
    let first = loop {
        match input.read(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    input.read_exact(length.get_mut(first..).unwrap_or_default())?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "this is no packet");
    if !length.iter().all(u8::is_ascii_hexdigit) {
        return Err(bad());
    }
    let length = std::str::from_utf8(&length).ok();
    let length =
        length.and_then(|length| usize::from_str_radix(length, 16).ok()).ok_or_else(bad)?;
    Ok(Some(match length {
        0 => Packet::Flush,
        1 => Packet::Delimiter,
        2 => Packet::End,
        length => {
            let mut data = vec![0; length.checked_sub(4).ok_or_else(bad)?];
            input.read_exact(&mut data)?;
            Packet::Data(data)
        }
    }))
}

/// Writes one packet of text, which must be short.
pub(crate) fn write(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(format!("{:04x}{text}", text.len() + 4).as_bytes());
}

pub(crate) const FLUSH: &[u8] = b"0000";
pub(crate) const DELIMITER: &[u8] = b"0001";

/// A line without its end.
pub(crate) fn line(data: &[u8]) -> &[u8] {
    data.strip_suffix(b"\n").unwrap_or(data)
}

/// The bytes of one channel of a stream that carries three.
///
/// Errors that the other side reports on the third are `io` errors with [`Said`] inside.
pub(crate) struct SideBand<R> {
    input: R,
    piece: io::Cursor<Vec<u8>>,
    is_over: bool,
}

/// What the other side said went wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Said(pub(crate) String);

impl<R: Read> SideBand<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, piece: io::Cursor::default(), is_over: false }
    }
}

impl<R: Read> Read for SideBand<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(buffer)?;
            if count > 0 || self.is_over || buffer.is_empty() {
                return Ok(count);
            }
            match read(&mut self.input)? {
                Some(Packet::Data(data)) => match data.split_first() {
                    Some((1, _)) => {
                        self.piece = io::Cursor::new(data);
                        self.piece.set_position(1);
                    }
                    // Progress.
                    Some((2, _)) | None => {}
                    Some((3, text)) => return Err(io::Error::other(Said(said(text)))),
                    Some(_) => {
                        let text = "an unknown channel";
                        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                    }
                },
                Some(Packet::Delimiter) => {}
                Some(Packet::Flush | Packet::End) => self.is_over = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

/// A text of the other side's as it may be shown: on one line, without control characters.
pub(crate) fn said(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(line(text));
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_back_as_they_were_written() {
        let mut bytes = Vec::new();
        write(&mut bytes, "version 2\n");
        bytes.extend_from_slice(DELIMITER);
        bytes.extend_from_slice(FLUSH);
        assert!(bytes.starts_with(b"000eversion 2\n"), "{bytes:?}");
        let mut input = bytes.as_slice();
        let data = Packet::Data(b"version 2\n".to_vec());
        for expected in [Some(data), Some(Packet::Delimiter), Some(Packet::Flush), None] {
            assert_eq!(read(&mut input).expect("a packet"), expected);
        }
    }

    #[test]
    fn what_is_no_packet_is_an_error() {
        for wrong in ["<htm", "0003", "00", "0008abc", "+00a1234"] {
            read(&mut wrong.as_bytes()).expect_err(wrong);
        }
    }

    #[test]
    fn a_channel_is_read_without_the_others_and_its_end_is_told() {
        let mut bytes = Vec::new();
        for text in ["\x01pa", "\x02Counting", "\x01ck"] {
            write(&mut bytes, text);
        }
        let mut cut = SideBand::new(bytes.as_slice());
        cut.read_to_end(&mut Vec::new()).expect_err("there is no end");
        bytes.extend_from_slice(FLUSH);
        let mut data = Vec::new();
        SideBand::new(bytes.as_slice()).read_to_end(&mut data).expect("whole");
        assert_eq!(data, b"pack");
        let mut bytes = Vec::new();
        write(&mut bytes, "\x03no\x1b[31m such thing\n");
        let error = SideBand::new(bytes.as_slice()).read_to_end(&mut data).expect_err("an error");
        assert_eq!(error.to_string(), "no [31m such thing");
    }
}
