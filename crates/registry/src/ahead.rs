//! Layers that are sent before the image is complete, the large ones before they are complete themselves.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use ebiko_oci::{BlobSink, BlobSource, Descriptor, Digest, GrowingBlob, Reference};
use ebiko_transport::Body;

use crate::progress::{Direction, Metered};
use crate::push::{self, Blob, deliver};
use crate::registry::{Client, Delivery, Registry, lock};
use crate::routes::Endpoint;
use crate::sending::Sending;
use crate::session::{ExchangeError, Session};
use crate::upload::Upload;

/// Blobs that are larger than this are sent while they are made. Smaller ones are made faster than an upload begins, and
/// the registry can be asked first whether it has them.
const STREAMED: u64 = 16 << 20;

/// Sends blobs to the destinations of an image while the image is still being built.
///
/// [`Registry::push`] waits for a blob that is on its way and does not send it again. What cannot be sent is left to it,
/// and so is the error. Nothing of a blob is visible in a registry until a manifest names it; registries remove what no
/// manifest names.
pub struct Ahead {
    news: Option<Sender<News>>,
    client: Arc<Client>,
    /// Where a blob goes while it is made; when it is complete it goes everywhere.
    first: Option<Endpoint>,
    /// The blob that is being made.
    current: Mutex<Option<Arc<Begun>>>,
}

enum News {
    /// A blob is being made.
    Begun(Arc<Begun>),
    /// It is complete. Whoever else wants to send it waits for the promise, if there is one.
    Made(Blob, Option<Promise>),
}

/// A blob that is being made.
struct Begun {
    growing: Arc<dyn GrowingBlob>,
    state: Mutex<Stage>,
}

/// How far a blob that is being made has got on its way.
#[derive(Clone, Copy)]
enum Stage {
    /// Nobody has begun to send it.
    Not,
    UnderWay,
    /// It is complete, and has this digest.
    Complete(Digest),
}

/// That the thread will tell whether the blob has arrived.
struct Promise {
    client: Arc<Client>,
    key: (Endpoint, Digest),
    delivery: Option<Delivery>,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.client.delivered().settle(&self.key, self.delivery);
    }
}

impl Registry {
    /// Makes ready to send ahead to the repositories of `destinations`; nothing is asked yet. Without any, or if no thread
    /// can be started, every offer is let go.
    pub fn ahead(&self, destinations: &[Reference]) -> Ahead {
        let endpoints: BTreeSet<Endpoint> =
            destinations.iter().map(|to| self.client.routes.for_push(to)).collect();
        let client = Arc::clone(&self.client);
        let first = endpoints.first().cloned();
        let mut ahead =
            Ahead { news: None, client: Arc::clone(&client), first, current: Mutex::new(None) };
        if endpoints.is_empty() {
            return ahead;
        }
        let (sender, news) = channel();
        // It ends with the last offer, and is never waited for: an upload must not hold up a build that has failed.
        let thread = std::thread::Builder::new().name("ahead".into());
        if thread.spawn(move || send(&client, &endpoints, &news)).is_ok() {
            ahead.news = Some(sender);
        }
        ahead
    }
}

impl BlobSink for Ahead {
    fn begin(&self, growing: Arc<dyn GrowingBlob>) {
        let begun = Arc::new(Begun { growing, state: Mutex::new(Stage::Not) });
        *lock(&self.current) = Some(Arc::clone(&begun));
        self.tell(News::Begun(begun));
    }

    fn offer(&self, descriptor: &Descriptor, blob: &Arc<dyn BlobSource>) {
        let Descriptor { digest, size, .. } = *descriptor;
        if let Some(begun) = lock(&self.current).take() {
            begun.complete(digest);
        }
        // From now on, whoever could take the blob from there knows that it will be there.
        let promise = self.first.as_ref().filter(|_| self.news.is_some()).and_then(|first| {
            let key = (first.clone(), digest);
            let is_ours = self.client.delivered().claim(&key);
            is_ours.then(|| Promise { client: Arc::clone(&self.client), key, delivery: None })
        });
        self.tell(News::Made(Blob { digest, size, source: Arc::clone(blob) }, promise));
    }
}

impl Ahead {
    fn tell(&self, news: News) {
        if let Some(sender) = &self.news {
            let _nobody_takes_it = sender.send(news);
        }
    }
}

impl std::fmt::Debug for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ahead").field("first", &self.first).finish_non_exhaustive()
    }
}

impl Begun {
    /// Says that it is complete.
    fn complete(&self, digest: Digest) {
        *lock(&self.state) = Stage::Complete(digest);
    }

    /// Whether this thread is to send it: it is large, and not complete yet.
    fn is_to_be_sent(&self) -> bool {
        if !self.growing.outgrows(STREAMED) {
            return false;
        }
        let mut state = lock(&self.state);
        let is_free = matches!(*state, Stage::Not);
        if is_free {
            *state = Stage::UnderWay;
        }
        is_free
    }

    fn digest(&self) -> Option<Digest> {
        match *lock(&self.state) {
            Stage::Complete(digest) => Some(digest),
            Stage::Not | Stage::UnderWay => None,
        }
    }
}

/// What came of sending a blob while it was made.
enum Streamed {
    /// Some or all of it was sent; the registry waits for the rest and for its name.
    Sent(Upload),
    /// As soon as it had a name, the registry knew it.
    Found,
}

fn send(client: &Arc<Client>, endpoints: &BTreeSet<Endpoint>, news: &Receiver<News>) {
    let mut streamed = None;
    for news in news {
        match news {
            News::Begun(begun) => {
                // What was begun before and never became complete the registry forgets.
                streamed = endpoints
                    .first()
                    .filter(|_| begun.is_to_be_sent())
                    .and_then(|endpoint| stream(client, endpoint, &begun).ok());
            }
            News::Made(blob, promise) => {
                let streamed = streamed.take();
                if let (Some(mut promise), Some(endpoint)) = (promise, endpoints.first()) {
                    promise.delivery = deliver_first(client, endpoint, &blob, streamed).ok();
                }
                for endpoint in endpoints {
                    // Whoever pushes the image tries again, and tells why it fails.
                    let _delivery =
                        Session::new(client, endpoint).and_then(|session| deliver(&session, &blob));
                }
            }
        }
    }
}

/// Sees to it that a blob arrives of which a part may have been sent while it was made.
fn deliver_first(
    client: &Client,
    endpoint: &Endpoint,
    blob: &Blob,
    streamed: Option<Streamed>,
) -> Result<Delivery, ExchangeError> {
    let session = Session::new(client, endpoint)?;
    match streamed {
        Some(Streamed::Found) => Ok(Delivery::Found),
        Some(Streamed::Sent(upload)) => Sending::new(&session, blob).go_on(upload),
        None => Sending::new(&session, blob).run(),
    }
}

/// Sends a blob while it is made, until it is complete or the registry turns out to have it.
fn stream(
    client: &Arc<Client>,
    endpoint: &Endpoint,
    begun: &Arc<Begun>,
) -> Result<Streamed, ExchangeError> {
    let session = Session::new(client, endpoint)?;
    let was_found = Arc::new(AtomicBool::new(false));
    let meter = Arc::new(client.meter(Direction::ToRegistry, None, None));
    let body_at = |offset: u64| {
        let (client, endpoint) = (Arc::clone(client), endpoint.clone());
        let (begun, was_found) = (Arc::clone(begun), Arc::clone(&was_found));
        let meter = Arc::clone(&meter);
        Body::stream_to_its_end(move || {
            let mut bytes = Box::new(Asking {
                bytes: begun.growing.follow(),
                client: Arc::clone(&client),
                endpoint: endpoint.clone(),
                begun: Arc::clone(&begun),
                was_asked: false,
                was_found: Arc::clone(&was_found),
            });
            // It is a file on this machine, and this far it has been written.
            io::copy(&mut bytes.by_ref().take(offset), &mut io::sink())?;
            Ok(Box::new(Metered::new(bytes, offset, &meter)))
        })
    };
    let mut upload = Upload::begin(&session)?;
    let sent = upload.follow(&session, &meter, body_at);
    if was_found.load(Ordering::Relaxed) {
        return Ok(Streamed::Found);
    }
    match sent {
        Ok(()) => Ok(Streamed::Sent(upload)),
        // Perhaps the registry has a part of it all the same.
        Err(error) if error.is_transient() => Ok(Streamed::Sent(upload)),
        Err(error) => Err(error),
    }
}

/// Reads a blob that is being made. As soon as it is complete and so has a name, the registry is asked once whether it
/// knows it, so that no more than necessary is sent twice.
struct Asking {
    bytes: Box<dyn Read + Send>,
    client: Arc<Client>,
    endpoint: Endpoint,
    begun: Arc<Begun>,
    was_asked: bool,
    was_found: Arc<AtomicBool>,
}

impl Read for Asking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.was_asked
            && let Some(digest) = self.begun.digest()
        {
            self.was_asked = true;
            let session = Session::new(&self.client, &self.endpoint);
            if session.and_then(|session| push::is_there(&session, digest)).unwrap_or(false) {
                self.was_found.store(true, Ordering::Relaxed);
                return Err(io::Error::other("the registry has the blob"));
            }
        }
        self.bytes.read(buffer)
    }
}
