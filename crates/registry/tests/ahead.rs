//! What is sent ahead: to Debian's `docker-registry`, and to a scripted one for what that will not do.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "what a registry has stored is on the host")]

#[path = "../../transport/tests/server/mod.rs"]
mod server;
mod support;

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use ebiko_oci::{
    BlobSink as _, BlobSource, Digest, GrowingBlob, Image, ImageBuilder, ImageFormat, Layer,
    PortError,
};
use ebiko_registry::{Ahead, Routes};
use server::{Answer, Received, Server as Scripted, answer};
use support::{Events, client, image, layer, noise, platform, reference, timestamp};
use testkit::{Auth, CutProxy, Registry as Server};

/// More than what is sent only when it is complete.
const HUGE: usize = (16 << 20) + 12_345;

/// A blob that grows as the test wants.
#[derive(Default)]
struct Growing {
    state: Mutex<(Vec<u8>, Option<bool>)>,
    changed: Condvar,
}

impl Growing {
    fn grow(&self, bytes: &[u8]) {
        self.state.lock().unwrap().0.extend_from_slice(bytes);
        self.changed.notify_all();
    }

    fn end(&self, is_complete: bool) {
        self.state.lock().unwrap().1 = Some(is_complete);
        self.changed.notify_all();
    }
}

/// `growing` as it is handed to who sends it.
struct Shared(Arc<Growing>);

impl GrowingBlob for Shared {
    fn outgrows(&self, size: u64) -> bool {
        let state = self.0.state.lock().unwrap();
        let is_undecided =
            |state: &mut (Vec<u8>, Option<bool>)| state.0.len() as u64 <= size && state.1.is_none();
        let state = self.0.changed.wait_while(state, is_undecided).unwrap();
        state.0.len() as u64 > size
    }

    fn follow(&self) -> Box<dyn Read + Send> {
        Box::new(Follower(Arc::clone(&self.0), 0))
    }
}

struct Follower(Arc<Growing>, usize);

impl Read for Follower {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.0.state.lock().unwrap();
        let state = self
            .0
            .changed
            .wait_while(state, |state| state.0.len() == self.1 && state.1.is_none())
            .unwrap();
        if state.1 == Some(false) {
            return Err(io::Error::other("given up"));
        }
        let count = buffer.len().min(state.0.len() - self.1);
        buffer[..count].copy_from_slice(&state.0[self.1..self.1 + count]);
        self.1 += count;
        Ok(count)
    }
}

/// Counts how often a blob is read when it is complete.
struct Counted {
    blob: Arc<dyn BlobSource>,
    reads: Arc<AtomicUsize>,
}

impl BlobSource for Counted {
    fn open(&self) -> Result<Box<dyn Read + Send>, PortError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.blob.open()
    }
}

/// An image whose second layer is small, and the bytes of its first one.
fn huge(reads: &Arc<AtomicUsize>) -> (Image, Vec<u8>) {
    let bytes = noise(3, HUGE);
    let image = ImageBuilder::from_scratch(platform("linux/amd64"), ImageFormat::Oci)
        .layer(layer(ImageFormat::Oci, &bytes), "huge")
        .layer(layer(ImageFormat::Oci, &noise(4, 1000)), "small")
        .finish(timestamp());
    let image = image.with_blobs(|layer| {
        Arc::new(Counted { blob: Arc::clone(&layer.blob), reads: Arc::clone(reads) })
    });
    (image, bytes)
}

/// Makes a layer in pieces, as far as 100 bytes before its end, and tells when that is done; then the rest.
fn make(ahead: &Ahead, layer: &Layer, bytes: &[u8], before_the_end: impl FnOnce()) {
    let growing = Arc::new(Growing::default());
    ahead.begin(Arc::new(Shared(Arc::clone(&growing))));
    let (start, end) = bytes.split_at(bytes.len() - 100);
    start.chunks(1 << 20).for_each(|piece| growing.grow(piece));
    before_the_end();
    growing.grow(end);
    growing.end(true);
    ahead.offer(&layer.descriptor, &layer.blob);
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < end, "waited for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_was_sent_ahead_is_not_sent_again() {
    let server = start(Auth::Token { user: "joe", password: "pass:word" });
    let destinations = ["app:1", "other/app:1"].map(|name| reference(&server.reference(name)));
    let registry = client(&server.docker_config(), Routes::default());
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = image(ImageFormat::Oci, "linux/amd64").with_blobs(|layer| {
        Arc::new(Counted { blob: Arc::clone(&layer.blob), reads: Arc::clone(&reads) })
    });
    let ahead = registry.ahead(&destinations);
    for layer in counted.layers() {
        ahead.offer(&layer.descriptor, &layer.blob);
    }
    registry.push(&counted, &destinations, &Events::default()).unwrap();
    let reads = reads.load(Ordering::Relaxed);
    assert_eq!(reads, 2, "two layers to one repository, from which the other takes them");
    let dir = testkit::scratch_dir("pulled-").unwrap();
    server.pull("other/app:1", dir.path(), "x").expect("skopeo finds all blobs");
}

fn start(auth: Auth) -> Server {
    Server::builder().auth(auth).start().expect("docker-registry starts")
}

#[test]
fn a_large_blob_is_sent_while_it_is_made() {
    for auth in [Auth::Anonymous, Auth::Token { user: "joe", password: "pass:word" }] {
        let server = start(auth);
        let destinations = ["app:1", "app:2"].map(|name| reference(&server.reference(name)));
        let registry = client(&server.docker_config(), Routes::default());
        let reads = Arc::new(AtomicUsize::new(0));
        let (image, bytes) = huge(&reads);
        let ahead = registry.ahead(&destinations);
        // Nothing but the blob that is not complete can be what the registry has received of it.
        make(&ahead, &image.layers()[0], &bytes, || {
            wait_for("it is on its way", || size_of(&server.storage()) > 1 << 20);
        });
        let events = Events::default();
        registry.push(&image, &destinations, &events).unwrap();
        assert_eq!(
            reads.load(Ordering::Relaxed),
            1,
            "only the small layer was read when it was complete"
        );
        assert_eq!(events.count("sent"), 3, "{:?}", events.lines());
        let dir = testkit::scratch_dir("pulled-").unwrap();
        server.pull("app:2", dir.path(), "x").expect("skopeo finds all blobs, and verifies them");
    }
}

/// How many bytes are in the files beneath `dir`.
fn size_of(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// A registry that takes uploads. `script` may answer instead.
fn taking(script: impl Fn(&Received) -> Option<Answer> + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |request: &Received| {
        script(request).unwrap_or_else(|| match request.method.as_str() {
            "HEAD" => answer(404),
            "POST" => answer(202).header("Location", "/v2/app/blobs/uploads/u?_state=a"),
            "PATCH" => answer(202).header("Location", "/v2/app/blobs/uploads/u?_state=b"),
            "PUT" => answer(201),
            _ => answer(200),
        })
    })
}

/// Makes and pushes the image; returns how often a complete blob was read.
fn push_to(server: &Scripted, events: &Events) -> (usize, Image) {
    let reads = Arc::new(AtomicUsize::new(0));
    let (image, bytes) = huge(&reads);
    let destinations = [reference(&format!("{}/app:1", server.host()))];
    let registry = client("{}", Routes::default());
    let ahead = registry.ahead(&destinations);
    make(&ahead, &image.layers()[0], &bytes, || {
        wait_for("an upload", || server.lines().iter().any(|line| line.starts_with("POST")));
    });
    registry.push(&image, &destinations, events).unwrap();
    (reads.load(Ordering::Relaxed), image)
}

#[test]
fn a_blob_without_a_length_goes_in_chunks_and_gets_its_name_at_the_end() {
    let server = taking(|_| None);
    let (reads, image) = push_to(&server, &Events::default());
    assert_eq!(reads, 1);
    let received = server.received();
    let patches: Vec<_> = received.iter().filter(|request| request.method == "PATCH").collect();
    assert_eq!(patches.len(), 1);
    assert_eq!(patches[0].header("transfer-encoding"), "chunked");
    let digest = image.layers()[0].descriptor.digest;
    assert_eq!(Digest::of(&patches[0].body), digest);
    let named =
        format!("/v2/app/blobs/uploads/u?_state=b&digest={digest}").replace("sha256:", "sha256%3A");
    assert_eq!(received.iter().filter(|request| request.target == named).count(), 1);
}

#[test]
fn a_registry_that_cannot_take_it_gets_it_when_it_is_complete() {
    for status in [400, 404, 405, 411, 413, 500, 501] {
        let server = taking(move |request| {
            let is_chunked = request.header("transfer-encoding") == "chunked";
            is_chunked.then(|| answer(status))
        });
        let events = Events::default();
        let (reads, image) = push_to(&server, &events);
        assert_eq!(reads, 2, "{status}");
        assert_eq!(events.count("sent"), 3, "{status}: {:?}", events.lines());
        let digest = image.layers()[0].descriptor.digest;
        let whole = |request: &&Received| Digest::of(&request.body) == digest;
        assert!(server.received().iter().filter(whole).count() >= 1, "{status}");
    }
}

#[test]
fn a_blob_that_the_registry_has_is_not_given_a_name_again() {
    let digest = Digest::of(&noise(3, HUGE)).to_string();
    let server = taking(move |request| {
        (request.method == "HEAD" && request.target.ends_with(&digest)).then(|| answer(200))
    });
    let events = Events::default();
    let (reads, image) = push_to(&server, &events);
    assert_eq!(reads, 1);
    let digest = image.layers()[0].descriptor.digest;
    assert!(events.lines().contains(&format!("exists {digest}")), "{:?}", events.lines());
    let names_it = |request: &Received| {
        request.method == "PUT" && request.target.contains(&digest.to_string().replace(':', "%3A"))
    };
    assert!(!server.received().iter().any(names_it));
}

#[test]
fn a_blob_that_is_given_up_leaves_nothing_and_nobody_waiting() {
    let server = start(Auth::Anonymous);
    let destinations = [reference(&server.reference("app:1"))];
    let registry = client("{}", Routes::default());
    let ahead = registry.ahead(&destinations);
    let growing = Arc::new(Growing::default());
    ahead.begin(Arc::new(Shared(Arc::clone(&growing))));
    growing.grow(&noise(9, HUGE));
    growing.end(false);
    // Another image of the same build, say of another stage, arrives all the same.
    let image = image(ImageFormat::Oci, "linux/amd64");
    let events = Events::default();
    registry.push(&image, &destinations, &events).unwrap();
    assert_eq!(events.count("sent"), 3);
}

/// Makes and pushes the image through a proxy that cuts its connections.
fn push_through(proxy: &CutProxy) -> Image {
    let (image, bytes) = huge(&Arc::default());
    let destinations = [reference(&format!("{}/app:1", proxy.host()))];
    let registry = client("{}", Routes::default());
    let ahead = registry.ahead(&destinations);
    make(&ahead, &image.layers()[0], &bytes, || {
        wait_for("a connection that breaks", || proxy.cuts() > 0);
    });
    registry.push(&image, &destinations, &Events::default()).unwrap();
    image
}

#[test]
fn a_blob_that_breaks_off_while_it_is_made_goes_on_where_the_registry_is() {
    let part: Arc<Mutex<Vec<u8>>> = Arc::default();
    let kept = Arc::clone(&part);
    let server = Scripted::start_taking_parts(move |request| {
        let here = |status: u16, size: usize| {
            answer(status)
                .header("Location", "/v2/app/blobs/uploads/u")
                .header("Range", format!("0-{}", size.saturating_sub(1)))
        };
        match request.method.as_str() {
            "HEAD" => answer(404),
            "POST" => here(202, 0),
            "PATCH" => {
                let mut part = part.lock().unwrap();
                part.extend_from_slice(&request.body);
                here(202, part.len())
            }
            "GET" if request.target != "/v2/" => {
                // What broke off a moment ago is still being read, on another thread.
                std::thread::sleep(Duration::from_millis(200));
                here(204, part.lock().unwrap().len())
            }
            "GET" => answer(200),
            _ => answer(201),
        }
    });
    let proxy = CutProxy::start(server.port(), 8 << 20, u64::MAX).unwrap();
    let image = push_through(&proxy);
    assert_eq!(Digest::of(&kept.lock().unwrap()), image.layers()[0].descriptor.digest);
}

#[test]
fn a_blob_that_breaks_off_while_it_is_made_arrives_where_its_upload_is_lost() {
    let server = start(Auth::Anonymous);
    let proxy = CutProxy::start(server.port(), 8 << 20, u64::MAX).unwrap();
    push_through(&proxy);
    let dir = testkit::scratch_dir("pulled-").unwrap();
    server.pull("app:1", dir.path(), "x").expect("skopeo finds all blobs, and verifies them");
}
