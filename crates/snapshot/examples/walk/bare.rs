//! The least that a parallel walk can do: `getdents` and `statx` on directory descriptors.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags, openat, statx};
use rustix::io::Errno;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Directories to look at, each with the one that it is in, and how many threads are looking.
#[derive(Default)]
struct Queue {
    jobs: Vec<(Arc<OwnedFd>, CString)>,
    busy: usize,
    error: Option<Errno>,
}

/// Takes the metadata of everything beneath `top` with that many threads; returns how many there are.
///
/// # Errors
///
/// Fails where a system call does.
pub(crate) fn walk(top: &Path, threads: usize) -> Result<usize, Errno> {
    let top = Arc::new(openat(CWD, top, DIRECTORY, Mode::empty())?);
    let queue = Queue { jobs: vec![(top, c".".to_owned())], ..Queue::default() };
    let (queue, wake) = (Mutex::new(queue), Condvar::new());
    let count = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..threads.max(1)).map(|_| scope.spawn(|| work(&queue, &wake))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).sum()
    });
    let queue = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    queue.error.map_or(Ok(count), Err)
}

fn work(queue: &Mutex<Queue>, wake: &Condvar) -> usize {
    let lock = || queue.lock().unwrap_or_else(PoisonError::into_inner);
    let mut count = 0;
    let mut buffer = Vec::with_capacity(32 << 10);
    loop {
        let mut state = lock();
        let (parent, name) = loop {
            if let Some(job) = state.jobs.pop() {
                break job;
            }
            if state.busy == 0 {
                return count;
            }
            state = wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.busy += 1;
        drop(state);
        let looked = look(&parent, &name, &mut buffer);
        let mut state = lock();
        state.busy -= 1;
        match looked {
            Ok((found, directories)) => {
                count += found;
                state.jobs.extend(directories);
            }
            Err(error) => {
                state.error = Some(error);
                state.jobs.clear();
            }
        }
        drop(state);
        wake.notify_all();
    }
}

type Found = (usize, Vec<(Arc<OwnedFd>, CString)>);

fn look(parent: &OwnedFd, name: &CString, buffer: &mut Vec<u8>) -> Result<Found, Errno> {
    let directory = Arc::new(openat(parent, name.as_c_str(), DIRECTORY, Mode::empty())?);
    let mut directories = Vec::new();
    let mut count = 0;
    let mut listing = RawDir::new(&directory, buffer.spare_capacity_mut());
    while let Some(entry) = listing.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let found = statx(&directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
        count += 1;
        if FileType::from_raw_mode(found.stx_mode.into()) == FileType::Directory {
            directories.push((directory.clone(), name.to_owned()));
        }
    }
    Ok((count, directories))
}
