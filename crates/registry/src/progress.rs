//! How far long transfers have got.

use std::fmt;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ebiko_oci::Digest;

use crate::registry::lock;

/// How far a blob has got on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Which way that is.
    pub direction: Direction,
    /// The blob; one that is sent while it is made has no digest yet.
    pub digest: Option<Digest>,
    /// So many bytes are behind it.
    pub done: u64,
    /// So many there are, if that is known.
    pub total: Option<u64>,
}

/// From whom to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Direction {
    ToRegistry,
    FromRegistry,
}

pub(crate) type OnProgress = Arc<dyn Fn(&Progress) + Send + Sync>;

/// Whom to tell about transfers, and how often.
#[derive(Clone, Default)]
pub(crate) struct ProgressTeller {
    pub(crate) tell: Option<OnProgress>,
    pub(crate) every: Duration,
}

/// Watches one blob.
pub(crate) struct Meter {
    teller: ProgressTeller,
    last: Mutex<Instant>,
    direction: Direction,
    digest: Option<Digest>,
    total: Option<u64>,
    /// How far the reading that is under way has got.
    position: AtomicU64,
}

impl Meter {
    pub(crate) fn new(
        teller: &ProgressTeller,
        direction: Direction,
        digest: Option<Digest>,
        total: Option<u64>,
    ) -> Self {
        Self {
            teller: teller.clone(),
            last: Mutex::new(Instant::now()),
            direction,
            digest,
            total,
            position: AtomicU64::new(0),
        }
    }

    /// The transfer has got as far as `done`. A transfer that is over soon is never told of.
    pub(crate) fn at(&self, done: u64) {
        self.position.store(done, Ordering::Relaxed);
        let Some(tell) = &self.teller.tell else { return };
        {
            let mut last = lock(&self.last);
            if last.elapsed() < self.teller.every {
                return;
            }
            *last = Instant::now();
        }
        let Self { direction, digest, total, .. } = *self;
        tell(&Progress { direction, digest, done, total });
    }

    /// How far the reading that is under way, or was the last, has got.
    pub(crate) fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("position", &self.position()).finish_non_exhaustive()
    }
}

/// A reader that tells a meter how far it is.
pub(crate) struct Metered {
    input: Box<dyn Read + Send>,
    position: u64,
    meter: Arc<Meter>,
}

impl Metered {
    /// `input` starts at `position` of the blob.
    pub(crate) fn new(input: Box<dyn Read + Send>, position: u64, meter: &Arc<Meter>) -> Self {
        meter.position.store(position, Ordering::Relaxed);
        Self { input, position, meter: Arc::clone(meter) }
    }
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.position += count as u64;
        self.meter.at(self.position);
        Ok(count)
    }
}
