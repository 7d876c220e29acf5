//! A file that is read while it is still being written.
//!
//! The tar stream of a step goes into such a file, so that compression can follow behind and the next step need not wait
//! for it.

#![expect(
    clippy::disallowed_methods,
    reason = "a spooled stream is a file of the builder, not of the image"
)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::FallocateFlags;

/// What has been read is given back to the file system in pieces of this size.
const PUNCHED: u64 = 8 << 20;

/// Makes a file at `path` that has no name any more when this returns: its space is free as soon as both ends are gone.
///
/// What was read is given back while the stream goes by, where the file system can do that; so a stream that is read as
/// fast as it is written hardly touches the disk.
///
/// # Errors
///
/// Fails if the file cannot be created; nothing is left behind then.
pub fn growing_file(path: &Path) -> io::Result<(GrowingFile, FollowingReader)> {
    let file = nameless_file(path)?;
    let shared = Arc::new(Shared {
        file,
        state: Mutex::new(State { written: 0, end: None, reader_is_gone: false }),
        changed: Condvar::new(),
    });
    let writer = GrowingFile { shared: Arc::clone(&shared) };
    Ok((writer, FollowingReader { shared, position: 0, punched: 0 }))
}

/// Makes a file at `path`, for reading and writing, that has no name any more when this returns.
///
/// # Errors
///
/// Fails if the file cannot be created; nothing is left behind then.
pub fn nameless_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

#[derive(Debug)]
struct Shared {
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    written: u64,
    end: Option<End>,
    reader_is_gone: bool,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Complete,
    Abandoned,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, end: End) {
        self.state().end.get_or_insert(end);
        self.changed.notify_all();
    }
}

/// The end of a growing file that is written. If it is dropped before [`GrowingFile::finish`], the reader fails.
#[derive(Debug)]
pub struct GrowingFile {
    shared: Arc<Shared>,
}

impl GrowingFile {
    /// Says that the stream is complete.
    pub fn finish(self) {
        self.shared.end(End::Complete);
    }
}

impl Write for GrowingFile {
    /// # Errors
    ///
    /// Besides those of the file, `BrokenPipe` where nobody reads any more.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let position = {
            let state = self.shared.state();
            if state.reader_is_gone {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            state.written
        };
        let count = self.shared.file.write_at(bytes, position)?;
        self.shared.state().written = position + count as u64;
        self.shared.changed.notify_all();
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for GrowingFile {
    fn drop(&mut self) {
        self.shared.end(End::Abandoned);
    }
}

/// The end of a growing file that is read: it waits for what has not been written yet.
#[derive(Debug)]
pub struct FollowingReader {
    shared: Arc<Shared>,
    position: u64,
    punched: u64,
}

impl FollowingReader {
    /// How many bytes can be read now; 0 only at the end of the stream.
    fn wait(&self) -> io::Result<u64> {
        let mut state = self.shared.state();
        loop {
            if state.written > self.position {
                return Ok(state.written - self.position);
            }
            match state.end {
                Some(End::Complete) => return Ok(0),
                Some(End::Abandoned) => {
                    return Err(io::Error::other("the stream was not written to its end"));
                }
                None => {
                    state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn give_back(&mut self) {
        let length = self.position - self.punched;
        if length >= PUNCHED {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Where the file system has no holes, the space is free at the end.
            let _no_holes = rustix::fs::fallocate(&self.shared.file, flags, self.punched, length);
            self.punched = self.position;
        }
    }
}

impl Read for FollowingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.wait()?;
        let length =
            usize::try_from(available).map_or(buffer.len(), |count| count.min(buffer.len()));
        let count = self.shared.file.read_at(&mut buffer[..length], self.position)?;
        if count == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        self.give_back();
        Ok(count)
    }
}

impl Drop for FollowingReader {
    fn drop(&mut self) {
        self.shared.state().reader_is_gone = true;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn pair() -> (GrowingFile, FollowingReader) {
        let directory = tempfile::tempdir().unwrap();
        let ends = growing_file(&directory.path().join("spool")).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "it has no name");
        ends
    }

    #[test]
    fn a_reader_that_is_faster_than_the_writer_waits_for_it() {
        let (mut writer, mut reader) = pair();
        let written: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let read = std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let mut read = Vec::new();
                reader.read_to_end(&mut read).unwrap();
                read
            });
            written.chunks(99_991).for_each(|piece| writer.write_all(piece).unwrap());
            writer.finish();
            thread.join().unwrap()
        });
        assert!(read == written);
    }

    #[test]
    fn what_was_read_takes_no_space() {
        let (mut writer, mut reader) = pair();
        writer.write_all(&vec![7; 20 << 20]).unwrap();
        writer.shared.file.sync_all().unwrap();
        let before = writer.shared.file.metadata().unwrap().blocks();
        let mut buffer = vec![0; 18 << 20];
        reader.read_exact(&mut buffer).unwrap();
        assert!(buffer.iter().all(|byte| *byte == 7));
        let after = writer.shared.file.metadata().unwrap().blocks();
        assert!(after < before / 2, "{before} blocks before, {after} after");
        writer.finish();
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(rest == vec![7; 2 << 20]);
    }

    #[test]
    fn a_stream_that_was_given_up_is_no_complete_stream() {
        let (mut writer, mut reader) = pair();
        writer.write_all(b"abc").unwrap();
        drop(writer);
        let mut read = Vec::new();
        let error = reader.read_to_end(&mut read).unwrap_err();
        assert_eq!(error.to_string(), "the stream was not written to its end");
        assert_eq!(read, b"abc");
    }

    #[test]
    fn a_writer_without_a_reader_is_told() {
        let (mut writer, reader) = pair();
        drop(reader);
        let error = writer.write_all(b"abc").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
