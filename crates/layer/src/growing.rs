//! Files that are read while they are still being written.
//!
//! The tar stream of a step goes into such a file, so that compression can follow behind and the next step need not wait
//! for it; and the blob that it becomes, so that it can be on its way before it is complete.

#![expect(
    clippy::disallowed_methods,
    reason = "a spooled stream is a file of the builder, not of the image"
)]

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ebiko_oci::GrowingBlob;
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
    let writer = GrowingFile { shared: Arc::new(Shared::new(file)) };
    let shared = Arc::clone(&writer.shared);
    Ok((writer, FollowingReader { shared, position: 0, punched: 0 }))
}

/// Makes a file at `path`, which keeps its name, and what anybody can follow it with. Nobody has to: it is written all the
/// same.
///
/// # Errors
///
/// Fails if the file cannot be created; nothing is left behind then.
pub fn growing_blob(path: &Path) -> io::Result<(GrowingFile, Arc<dyn GrowingBlob>)> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    let writer = GrowingFile { shared: Arc::new(Shared::new(file)) };
    let blob = Arc::new(Followed(Arc::clone(&writer.shared)));
    Ok((writer, blob))
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
    fn new(file: File) -> Self {
        let state = Mutex::new(State { written: 0, end: None, reader_is_gone: false });
        Self { file, state, changed: Condvar::new() }
    }

    /// Waits until more than `position` bytes were written, and returns how many more; 0 only at the end of the stream.
    fn wait(&self, position: u64) -> io::Result<u64> {
        let mut state = self.state();
        loop {
            if state.written > position {
                return Ok(state.written - position);
            }
            match state.end {
                Some(End::Complete) => return Ok(0),
                Some(End::Abandoned) => {
                    return Err(io::Error::other("the stream was not written to its end"));
                }
                None => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Reads what there is at `position`, or waits for it.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let available = self.wait(position)?;
        let length =
            usize::try_from(available).map_or(buffer.len(), |count| count.min(buffer.len()));
        let count = self.file.read_at(&mut buffer[..length], position)?;
        if count == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }

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
        let count = self.shared.read_at(buffer, self.position)?;
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

/// A growing file from the side of those who follow it.
struct Followed(Arc<Shared>);

impl GrowingBlob for Followed {
    fn outgrows(&self, size: u64) -> bool {
        self.0.wait(size).is_ok_and(|more| more > 0)
    }

    fn follow(&self) -> Box<dyn Read + Send> {
        Box::new(Follower { shared: Arc::clone(&self.0), position: 0 })
    }
}

struct Follower {
    shared: Arc<Shared>,
    position: u64,
}

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.shared.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
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
    fn a_blob_that_grows_can_be_followed_by_anybody_from_its_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blob");
        let (mut writer, blob) = growing_blob(&path).unwrap();
        writer.write_all(b"abc").unwrap();
        assert!(blob.outgrows(2));
        let mut early = blob.follow();
        early.read_exact(&mut [0; 3]).unwrap();
        drop(early);
        let read = std::thread::scope(|scope| {
            let late = scope.spawn(|| {
                assert!(!blob.outgrows(6));
                let mut read = Vec::new();
                blob.follow().read_to_end(&mut read).map(|_| read)
            });
            writer.write_all(b"def").unwrap();
            writer.finish();
            late.join().unwrap()
        });
        assert_eq!(read.unwrap(), b"abcdef");
        assert_eq!(std::fs::read(&path).unwrap(), b"abcdef", "it has kept its name");
    }

    #[test]
    fn a_blob_that_is_given_up_is_not_followed_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let (mut writer, blob) = growing_blob(&directory.path().join("blob")).unwrap();
        writer.write_all(b"abc").unwrap();
        drop(writer);
        assert!(blob.outgrows(2) && !blob.outgrows(3));
        assert!(blob.follow().read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn a_writer_without_a_reader_is_told() {
        let (mut writer, reader) = pair();
        drop(reader);
        let error = writer.write_all(b"abc").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
