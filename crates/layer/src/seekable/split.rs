//! Cuts a layer's tar stream into frames.

use std::io::{self, BufReader, Read};
use std::sync::mpsc::{Receiver, Sender};

use ebiko_oci::{Digest, Sha256Hasher};

use super::CHUNK;
use super::crc64::Crc64;
use super::estargz::{self, Sum};
use super::unit::{Item, Unit};
use crate::CompressError;
use crate::tar::{Member, MemberKind, TarReader};

/// So much goes to a thread at once, unless one chunk alone is more.
const UNIT: usize = 1 << 20;

/// So much without any content between is in one frame at most.
const GAP: usize = 1 << 20;

/// How large an extended header may be; what unpacks layers takes less.
const HEADER: u64 = 64 << 20;

/// Where frames begin and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Only before content: what follows it is in the same frame, and the members of the format's own are left out.
    Before,
    /// Before and after content.
    Around,
}

/// Where pieces come from and go to.
pub(super) struct Link {
    pub(super) empty: Receiver<Unit>,
    pub(super) full: Sender<Unit>,
}

/// Reads the stream and keeps what it read.
struct Feed<'a> {
    tar: BufReader<&'a mut dyn Read>,
    unit: Unit,
    /// Whether what is read belongs to the layer.
    keeps: bool,
    /// Of everything that was kept, where the format wants it.
    sum: Option<&'a mut Sum>,
}

impl Read for Feed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.tar.read(buffer)?;
        if self.keeps {
            self.unit.input.extend_from_slice(&buffer[..count]);
        }
        Ok(count)
    }
}

/// Cuts all of `tar`.
///
/// # Errors
///
/// If nobody takes the pieces any more, this ends without an error: who stopped taking them knows why.
pub(super) fn split<'a>(
    tar: &'a mut dyn Read,
    framing: Framing,
    sum: Option<&'a mut Sum>,
    link: Link,
) -> Result<(), CompressError> {
    let Ok(unit) = link.empty.recv() else { return Ok(()) };
    let tar = BufReader::with_capacity(256 * 1024, tar);
    let feed = Feed { tar, unit, keeps: true, sum };
    let mut splitter = Splitter {
        tar: TarReader::new(feed, HEADER),
        framing,
        link,
        next: 0,
        buffer: vec![0; 64 * 1024],
    };
    match splitter.run() {
        Ok(()) | Err(Stop::Taker) => Ok(()),
        Err(Stop::Error(error)) => Err(error),
    }
}

struct Splitter<'a> {
    tar: TarReader<Feed<'a>>,
    framing: Framing,
    link: Link,
    next: u64,
    buffer: Vec<u8>,
}

/// Why cutting ends early.
enum Stop {
    Error(CompressError),
    /// Nobody takes the pieces.
    Taker,
}

impl From<crate::TarError> for Stop {
    fn from(error: crate::TarError) -> Self {
        Self::Error(match error {
            crate::TarError::Read { source } => CompressError::Read { source },
            source => CompressError::NotLayer { source },
        })
    }
}

impl Splitter<'_> {
    fn run(&mut self) -> Result<(), Stop> {
        self.unit().begin_frame(0);
        let mut header = 0;
        // The first one is there because the format wants it.
        let mut may_be_left_out = false;
        loop {
            self.tar.skip()?;
            let mark = self.unit().input.len();
            let Some(member) = self.tar.next()? else {
                return self.end(header, mark);
            };
            check(&member)?;
            if self.framing == Framing::Before
                && std::mem::replace(&mut may_be_left_out, true)
                && estargz::is_own(&member)?
            {
                self.unit().input.truncate(mark);
                self.tar.get_mut().keeps = false;
                self.tar.skip()?;
                self.tar.get_mut().keeps = true;
                continue;
            }
            let size = member.size;
            let end = self.unit().input.len();
            self.unit().items.push(Item::Member { member: Box::new(member), header: header..end });
            if size > 0 {
                self.content(size)?;
            } else if self.unit().gap() > GAP {
                self.cut(0)?;
            }
            header = self.unit().input.len();
        }
    }

    /// Reads a member's content; each chunk begins a frame.
    fn content(&mut self, size: u64) -> Result<(), Stop> {
        let mut crc = Crc64::new();
        let mut whole = (size > CHUNK as u64).then(Sha256Hasher::new);
        let mut left = size;
        while left > 0 {
            let chunk = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            self.cut(chunk)?;
            self.unit().input.reserve_exact(chunk);
            let mut missing = chunk;
            while missing > 0 {
                let length = missing.min(self.buffer.len());
                let piece = &mut self.buffer[..length];
                let error = |source| Stop::Error(CompressError::Read { source });
                self.tar.read_exact(piece).map_err(error)?;
                crc.update(piece);
                if let Some(whole) = &mut whole {
                    whole.update(piece);
                }
                missing -= length;
            }
            left -= chunk as u64;
        }
        let digest = whole.map(|whole| Digest::new(whole.finish()));
        let end = Item::End { crc: crc.finish(), digest };
        self.unit().items.push(end);
        if self.framing == Framing::Around {
            self.cut(0)?;
        }
        Ok(())
    }

    /// The mark at the end, and whatever is behind it. The format whose table is a member has that in front of its own mark.
    fn end(&mut self, header: usize, mark: usize) -> Result<(), Stop> {
        match self.framing {
            Framing::Before => {
                self.unit().input.truncate(mark);
                self.tar.get_mut().keeps = false;
                self.read_on()?;
            }
            Framing::Around => {
                let mut start = header;
                loop {
                    let more = self.read_on()?;
                    let end = self.unit().input.len();
                    self.unit().items.push(Item::Rest(start..end));
                    if !more {
                        break;
                    }
                    self.cut(0)?;
                    start = self.unit().input.len();
                }
            }
        }
        self.unit().end_frame();
        self.send()
    }

    /// Reads to the end, or until the frame is full if what is read is kept; says whether there is more.
    fn read_on(&mut self) -> Result<bool, Stop> {
        loop {
            let Splitter { tar, buffer, .. } = self;
            match tar.get_mut().read(buffer) {
                Ok(0) => return Ok(false),
                Ok(_) if self.unit().gap() > GAP => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Stop::Error(CompressError::Read { source })),
            }
        }
    }

    fn unit(&mut self) -> &mut Unit {
        &mut self.tar.get_mut().unit
    }

    /// Ends the frame and begins one with `content` bytes of a file, in a piece of its own if this one is full.
    fn cut(&mut self, content: usize) -> Result<(), Stop> {
        let filled = self.unit().input.len();
        if filled > 0 && filled + content >= UNIT {
            self.unit().end_frame();
            self.send()?;
            let unit = self.link.empty.recv().map_err(|_| Stop::Taker)?;
            *self.unit() = unit;
        }
        self.unit().begin_frame(content);
        Ok(())
    }

    fn send(&mut self) -> Result<(), Stop> {
        let number = self.next;
        self.next += 1;
        let feed = self.tar.get_mut();
        let mut unit = std::mem::take(&mut feed.unit);
        if let Some(sum) = &mut feed.sum {
            sum.update(&unit.input);
        }
        unit.number = number;
        self.link.full.send(unit).map_err(|_| Stop::Taker)
    }
}

/// Refuses what a table cannot say.
fn check(member: &Member) -> Result<(), Stop> {
    let unsayable = |what, why| {
        let path = String::from_utf8_lossy(&member.path).into_owned();
        Err(Stop::Error(CompressError::Unsayable { path, what, why }))
    };
    let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
    if !is_text(&member.path) {
        return unsayable("name", "it is not UTF-8");
    }
    if matches!(member.kind, MemberKind::HardLink | MemberKind::Symlink) && !is_text(&member.link) {
        return unsayable("target", "it is not UTF-8");
    }
    if !member.xattrs.keys().all(|name| is_text(name)) {
        return unsayable("extended attributes", "the name of one is not UTF-8");
    }
    // RFC 3339 has four digits for the year.
    if !(-62_167_219_200..=253_402_300_799).contains(&member.mtime.secs) {
        return unsayable("modification time", "its year has not four digits");
    }
    if member.sparse.is_some() {
        return unsayable("content", "it has holes");
    }
    Ok(())
}

impl From<CompressError> for Stop {
    fn from(error: CompressError) -> Self {
        Self::Error(error)
    }
}
