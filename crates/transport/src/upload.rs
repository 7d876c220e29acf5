//! A request body that is read while it is sent.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;

use futures_core::Stream;
use tokio::sync::mpsc;

use crate::request::OpenBody;

/// Few large pieces: a piece is one wake-up of two threads.
const PIECE: usize = 128 * 1024;
const PIECES_IN_FLIGHT: usize = 2;

/// What the sender may know about a body on its way.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pieces: AtomicU64,
    is_hungry: AtomicBool,
    failure: Mutex<Option<io::Error>>,
}

impl Progress {
    /// Changes whenever the network took another piece.
    pub(crate) fn pieces(&self) -> u64 {
        self.pieces.load(Ordering::Relaxed)
    }

    /// Whether the network waits for the source, not the other way round.
    pub(crate) fn is_hungry(&self) -> bool {
        self.is_hungry.load(Ordering::Relaxed)
    }

    /// Why the source ended early, if it did.
    pub(crate) fn take_failure(&self) -> Option<io::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The receiving end of a thread that reads the source.
pub(crate) struct Upload {
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    progress: Arc<Progress>,
}

impl Upload {
    /// Starts to read `length` bytes of what `open` opens, or all of it.
    ///
    /// The thread ends with the source, or when this value is dropped and one more read is over.
    pub(crate) fn start(length: Option<u64>, open: OpenBody) -> io::Result<(Self, Arc<Progress>)> {
        let (sender, pieces) = mpsc::channel(PIECES_IN_FLIGHT);
        let progress = Arc::new(Progress::default());
        let shared = Arc::clone(&progress);
        // Not a task of the runtime: reading may block, and may itself wait for the runtime when
        // the source is another response.
        thread::Builder::new().name("upload".into()).spawn(move || {
            if let Err(error) = pump(length, &open, &sender) {
                let told = io::Error::from(error.kind());
                *shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                // Nobody listening means that the request is over.
                drop(sender.blocking_send(Err(told)));
            }
        })?;
        Ok((Self { pieces, progress: Arc::clone(&progress) }, progress))
    }
}

fn pump(
    length: Option<u64>,
    open: &OpenBody,
    sender: &mpsc::Sender<io::Result<Vec<u8>>>,
) -> io::Result<()> {
    let mut source = open()?;
    let mut left = length.unwrap_or(u64::MAX);
    while left > 0 {
        let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let mut piece = Vec::with_capacity(size);
        source.by_ref().take(size as u64).read_to_end(&mut piece)?;
        if piece.is_empty() {
            if length.is_none() {
                return Ok(());
            }
            let message = format!("the contents end {left} bytes early");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        left -= piece.len() as u64;
        if sender.blocking_send(Ok(piece)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

impl Stream for Upload {
    type Item = io::Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.pieces.poll_recv(context);
        self.progress.is_hungry.store(polled.is_pending(), Ordering::Relaxed);
        if polled.is_ready() {
            self.progress.pieces.fetch_add(1, Ordering::Relaxed);
        }
        polled
    }
}
