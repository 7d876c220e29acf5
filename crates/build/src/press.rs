//! Layers are compressed behind the build.
//!
//! A step leaves its tar stream in a growing file and goes on. One thread takes the streams in order and makes blobs of
//! them, so that the memory for compression is there once, however many layers wait.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use ebiko_layer::{
    CompressError, CompressedBlob, Compression, FileBlob, FollowingReader, GrowingFile, Spooled,
    compress, growing_blob, growing_file,
};
use ebiko_oci::{BlobSink, BlobSource, Descriptor, Event, ImageFormat, Layer, Position};

use crate::failure::BuildError;
use crate::request::Ports;

/// The thread that compresses, from the side of the build. When it is dropped, what is still to be done is not done.
pub(crate) struct Press {
    jobs: Sender<Job>,
    stop: Arc<AtomicBool>,
    directory: PathBuf,
    /// How many layers were begun; their files are numbered.
    begun: usize,
}

/// What the press has to know of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) compression: Compression,
    pub(crate) format: ImageFormat,
    /// Whose layer it is, for a person.
    pub(crate) stage: Position,
    pub(crate) step: Position,
    /// Whether the image will have it, so that it can be on its way.
    pub(crate) is_in_image: bool,
}

struct Job {
    stream: FollowingReader,
    order: Order,
    pending: Arc<Pending>,
}

/// A blob that is being made.
#[derive(Debug)]
pub(crate) struct Pending {
    path: PathBuf,
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Debug)]
enum State {
    Waiting,
    Done(CompressedBlob),
    Failed(CompressError),
    /// The failure was told.
    Told,
}

impl Press {
    /// Starts the thread, which ends when the press is dropped. Streams and blobs are files in `directory`.
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        ports: &'scope Ports<'scope>,
        threads: usize,
        directory: PathBuf,
    ) -> Result<Self, BuildError> {
        let (jobs, orders) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("press".into())
            .spawn_scoped(scope, move || work(&orders, ports, threads, &stopped))
            .map_err(|source| CompressError::Thread { source })?;
        Ok(Self { jobs, stop, directory, begun: 0 })
    }

    /// Begins a layer: what is written to the first value becomes the blob that the second one stands for.
    pub(crate) fn begin(
        &mut self,
        order: Order,
    ) -> Result<(GrowingFile, Arc<Pending>), BuildError> {
        self.begun += 1;
        let path = self.directory.join(self.begun.to_string());
        let spool = path.with_extension("tar");
        let (writer, stream) =
            growing_file(&spool).map_err(|source| BuildError::LayerFile { path: spool, source })?;
        let pending =
            Arc::new(Pending { path, state: Mutex::new(State::Waiting), settled: Condvar::new() });
        let job = Job { stream, order, pending: Arc::clone(&pending) };
        if self.jobs.send(job).is_err() {
            // Only a thread that panicked does not receive.
            pending.settle(State::Failed(CompressError::Panicked));
        }
        Ok((writer, pending))
    }
}

impl Drop for Press {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Pending {
    fn settle(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.settled.notify_all();
    }

    /// Fails if making the blob has failed; does not wait.
    pub(crate) fn check(&self) -> Result<(), CompressError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Told) {
            State::Failed(error) => Err(error),
            other => {
                *state = other;
                Ok(())
            }
        }
    }

    fn wait(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while matches!(*state, State::Waiting) {
            state = self.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Why the blob could not be made; to be asked only where it is known that it was not.
    pub(crate) fn failure(&self) -> CompressError {
        match std::mem::replace(&mut *self.wait(), State::Told) {
            State::Failed(error) => error,
            _ => CompressError::Panicked,
        }
    }

    /// The layer, as soon as its blob is complete. `tar` is the stream that was written.
    pub(crate) fn layer(&self, tar: &Spooled, format: ImageFormat) -> Result<Layer, CompressError> {
        let mut state = self.wait();
        match std::mem::replace(&mut *state, State::Told) {
            State::Done(blob) => {
                *state = State::Done(blob);
                Ok(tar.layer(&blob, format, self.blob()))
            }
            State::Failed(error) => Err(error),
            State::Waiting | State::Told => Err(CompressError::Panicked),
        }
    }

    fn blob(&self) -> Arc<dyn BlobSource> {
        Arc::new(FileBlob::new(self.path.clone()))
    }
}

/// Makes one blob after the other.
fn work(orders: &Receiver<Job>, ports: &Ports<'_>, threads: usize, stop: &AtomicBool) {
    /// A panic must not leave the build waiting.
    struct Settle<'a>(&'a Pending);
    impl Drop for Settle<'_> {
        fn drop(&mut self) {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(*state, State::Waiting) {
                *state = State::Failed(CompressError::Panicked);
                self.0.settled.notify_all();
            }
        }
    }
    for Job { stream, order, pending } in orders {
        let _settle = Settle(&pending);
        let mut stream = Stoppable { stream, stop, ports };
        match make(&mut stream, &order, &pending, ports.ahead, threads) {
            Ok(blob) => {
                let media_type = order.format.layer(blob.compression);
                let descriptor = Descriptor::new(media_type, blob.digest, blob.size);
                let Order { stage, step, .. } = order;
                let Descriptor { digest, size, .. } = descriptor;
                ports.observer.event(Event::Compressed { stage, step, digest, size });
                if order.is_in_image {
                    ports.ahead.offer(&descriptor, &pending.blob());
                }
                pending.settle(State::Done(blob));
            }
            Err(error) => pending.settle(State::Failed(error)),
        }
    }
}

fn make(
    stream: &mut dyn Read,
    order: &Order,
    pending: &Pending,
    ahead: &dyn BlobSink,
    threads: usize,
) -> Result<CompressedBlob, CompressError> {
    let write = |source| CompressError::Write { source };
    let (mut file, growing) = growing_blob(&pending.path).map_err(write)?;
    if order.is_in_image {
        ahead.begin(growing);
    }
    let blob = compress(stream, &mut file, order.compression, threads, pending.path.parent())?;
    file.finish();
    Ok(blob)
}

/// A stream that ends with an error when its blob is not wanted any more.
struct Stoppable<'a> {
    stream: FollowingReader,
    stop: &'a AtomicBool,
    ports: &'a Ports<'a>,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) || self.ports.interrupt.signal().is_some() {
            return Err(io::Error::other("the build has ended"));
        }
        self.stream.read(buffer)
    }
}
