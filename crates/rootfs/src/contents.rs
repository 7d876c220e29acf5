//! Copying what is in a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, copy_file_range, fstat, ftruncate, ioctl_ficlone, seek};
use rustix::io::Errno;

/// How much is copied at once where the kernel does not copy by itself.
const BUFFER: usize = 128 * 1024;

/// The most that the kernel is asked to copy at once, so that a signal does not wait for a whole file.
const KERNEL_CHUNK: u64 = 64 * 1024 * 1024;

/// Makes the contents of `to` those of `from`, both from their start, and returns their size.
///
/// Shares blocks where the file system can (`FICLONE`), else lets the kernel copy, else reads and writes; holes
/// stay holes. The position of `from` is changed.
///
/// # Errors
///
/// Fails where reading or writing fails; `to` then holds a part.
pub fn copy_file_contents(from: &File, to: &File) -> io::Result<u64> {
    // Ext4 takes the truncation even of an empty file for the beginning of a replacement, and then writes the file to
    // the disk when it is closed: for many small files most of the time went into that.
    if size_of(to)? > 0 {
        ftruncate(to, 0)?;
    }
    if ioctl_ficlone(to, from).is_ok() {
        return size_of(to);
    }
    let mut copier = Copier { from, to, kernel_copies: true, buffer: Vec::new() };
    let end = size_of(from)?;
    let mut position = 0;
    let mut written = 0;
    while position < end {
        let (data, hole) = next_data(from, position, end);
        let count = copier.copy(data, hole)?;
        written = if count > 0 { data + count } else { written };
        position = hole;
    }
    // Some files (in /proc, or growing ones) have more to read than their size says.
    let more = copier.copy(end, u64::MAX)?;
    let size = end + more;
    // A hole at the end; or a file that became shorter.
    if more == 0 && written != size {
        ftruncate(to, size)?;
    }
    Ok(size)
}

fn size_of(file: &File) -> io::Result<u64> {
    Ok(u64::try_from(fstat(file)?.st_size).unwrap_or(0))
}

/// Where the next data begin and end; everything where the file system does not tell.
fn next_data(file: &File, position: u64, end: u64) -> (u64, u64) {
    match seek(file, SeekFrom::Data(position)) {
        Err(Errno::NXIO) => (end, end),
        Err(_) => (position, end),
        Ok(data) if data >= end => (end, end),
        Ok(data) => match seek(file, SeekFrom::Hole(data)) {
            Ok(hole) if hole > data => (data, hole.min(end)),
            _ => (data, end),
        },
    }
}

struct Copier<'f> {
    from: &'f File,
    to: &'f File,
    kernel_copies: bool,
    buffer: Vec<u8>,
}

impl Copier<'_> {
    /// Copies the bytes between two offsets and says how many there were before the file ended.
    fn copy(&mut self, start: u64, end: u64) -> io::Result<u64> {
        let mut position = start;
        while position < end {
            let count = match self.step(position, end - position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            };
            if count == 0 {
                break;
            }
            position += count;
        }
        Ok(position - start)
    }

    fn step(&mut self, position: u64, length: u64) -> io::Result<u64> {
        if self.kernel_copies {
            let (mut offset_in, mut offset_out) = (position, position);
            let length = usize::try_from(length.min(KERNEL_CHUNK)).unwrap_or(BUFFER);
            match copy_file_range(
                self.from,
                Some(&mut offset_in),
                self.to,
                Some(&mut offset_out),
                length,
            ) {
                // Nothing copied may mean the end, or a file whose size says nothing: reading tells.
                Ok(0) => {}
                Ok(count) => return Ok(count as u64),
                Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::INTR)) => {
                    return Err(error.into());
                }
                Err(_) => self.kernel_copies = false,
            }
        }
        self.buffer.resize(BUFFER, 0);
        let wanted = usize::try_from(length).unwrap_or(BUFFER).min(BUFFER);
        let count = self.from.read_at(&mut self.buffer[..wanted], position)?;
        self.to.write_all_at(&self.buffer[..count], position)?;
        Ok(count as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn contents_are_copied_whole_and_replace_what_was_there() {
        for size in [0, 1, BUFFER - 1, BUFFER, 3 * BUFFER + 7] {
            let content: Vec<u8> =
                (0..size).map(|index| u8::try_from(index % 251).unwrap()).collect();
            let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
            from.write_all_at(&content, 0).unwrap();
            to.write_all_at(&vec![b'x'; size + 100], 0).unwrap();

            assert_eq!(copy_file_contents(&from, &to).unwrap(), size as u64);

            let mut copied = vec![0; size + 1];
            assert_eq!(to.metadata().unwrap().len(), size as u64);
            assert_eq!(
                to.read_at(&mut copied, 0).unwrap_or(0).min(size),
                size.min(copied.len() - 1)
            );
            let mut copied = vec![0; size];
            to.read_exact_at(&mut copied, 0).unwrap();
            assert!(copied == content, "{size} bytes differ");
        }
    }

    #[test]
    fn holes_stay_holes() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.write_all_at(b"begin", 0).unwrap();
        from.write_all_at(b"end", 8 * 1024 * 1024).unwrap();
        ftruncate(&from, 16 * 1024 * 1024).unwrap();

        assert_eq!(copy_file_contents(&from, &to).unwrap(), 16 * 1024 * 1024);

        let mut end = [0; 3];
        to.read_exact_at(&mut end, 8 * 1024 * 1024).unwrap();
        assert_eq!(&end, b"end");
        let (before, after) = (from.metadata().unwrap().blocks(), to.metadata().unwrap().blocks());
        assert!(after <= before, "{after} blocks hold what {before} held");
    }
}
