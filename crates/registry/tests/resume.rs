//! Blobs that break off on their way: to Debian's `docker-registry` through a proxy that cuts its connections, and to a
//! scripted registry for what that will not do.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../transport/tests/server/mod.rs"]
mod server;
mod support;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ebiko_oci::{
    BlobSource, Descriptor, DiffId, Digest, Image, ImageBuilder, ImageFormat, Layer,
    LayerCompression, PortError, Sha256Hasher,
};
use ebiko_registry::{Credentials, Direction, Progress, Registry, Routes};
use ebiko_transport::Transport;
use server::{Answer, Received, Server as Scripted, answer};
use support::{
    Events, chain, client, contents, layer, noise, options, platform, reference, timestamp,
};
use testkit::{Auth, CutProxy, Registry as Server};

const MIB: usize = 1 << 20;

fn of_layers(layers: impl IntoIterator<Item = Layer>) -> Image {
    let builder = ImageBuilder::from_scratch(platform("linux/amd64"), ImageFormat::Oci);
    layers.into_iter().fold(builder, |builder, layer| builder.layer(layer, "x")).finish(timestamp())
}

fn of_size(size: usize) -> (Image, Vec<u8>) {
    let bytes = noise(5, size);
    (of_layers([layer(ImageFormat::Oci, &bytes)]), bytes)
}

/// A registry that keeps what came of a request that broke off. `script` may answer instead; it is told how many bytes of
/// the blob are there.
struct Keeping {
    server: Scripted,
    stored: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl Keeping {
    fn start(script: impl Fn(&Received, usize) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let stored: Arc<Mutex<BTreeMap<String, Vec<u8>>>> = Arc::default();
        let blobs = Arc::clone(&stored);
        let parts: Mutex<BTreeMap<String, Vec<u8>>> = Mutex::default();
        let server = Scripted::start_taking_parts(move |request| {
            if request.target == "/v2/" {
                return answer(200);
            }
            if request.method == "GET" {
                // What broke off a moment ago is still being read, on another thread.
                std::thread::sleep(Duration::from_millis(200));
            }
            let mut parts = parts.lock().unwrap();
            let path = match request.method.as_str() {
                "POST" => format!("/v2/app/blobs/uploads/{}", parts.len()),
                _ => request.target.split('?').next().unwrap().to_owned(),
            };
            let part = parts.entry(path.clone()).or_default();
            if let Some(answer) = script(request, part.len()) {
                return answer;
            }
            let here = |status: u16, size: usize| {
                answer(status)
                    .header("Location", format!("{path}?at={size}"))
                    .header("Range", format!("0-{}", size.saturating_sub(1)))
            };
            match request.method.as_str() {
                "HEAD" => {
                    let is_there = |digest: &String| request.target.ends_with(digest.as_str());
                    answer(if blobs.lock().unwrap().keys().any(is_there) { 200 } else { 404 })
                }
                "POST" => here(202, 0),
                "GET" => here(204, part.len()),
                "PATCH" => {
                    let start = request.header("content-range").split('-').next().unwrap();
                    if start.parse().is_ok_and(|start: usize| start != part.len()) {
                        return here(416, part.len());
                    }
                    part.extend_from_slice(&request.body);
                    here(202, part.len())
                }
                "PUT" if request.target.contains("/manifests/") => answer(201),
                "PUT" if request.is_whole => {
                    let mut bytes = if request.body.is_empty() { part.clone() } else { vec![] };
                    bytes.extend_from_slice(&request.body);
                    let digest = Digest::of(&bytes).to_string();
                    if !request.target.ends_with(&digest.replace(':', "%3A")) {
                        return answer(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
                    }
                    blobs.lock().unwrap().insert(digest, bytes);
                    answer(201)
                }
                _ => answer(404),
            }
        });
        Self { server, stored }
    }

    #[track_caller]
    fn assert_has(&self, bytes: &[u8]) {
        let digest = Digest::of(bytes).to_string();
        assert!(self.stored.lock().unwrap().get(&digest).is_some_and(|stored| stored == bytes));
    }

    fn patches(&self) -> Vec<Received> {
        let received = self.server.received();
        received.into_iter().filter(|request| request.method == "PATCH").collect()
    }

    fn count(&self, method: &str) -> usize {
        self.server.received().iter().filter(|request| request.method == method).count()
    }
}

fn push(host: &str, image: &Image) -> Result<Events, String> {
    push_by(&client("{}", Routes::default()), host, image)
}

/// Pushes through `host`, and returns what happened.
fn push_by(client: &Registry, host: &str, image: &Image) -> Result<Events, String> {
    let events = Events::default();
    let destination = reference(&format!("{host}/app:1"));
    client.push(image, &[destination], &events).map(|()| events).map_err(|error| chain(&error))
}

#[test]
fn an_upload_goes_on_where_the_registry_is() {
    let registry = Keeping::start(|_, _| None);
    let proxy = CutProxy::start(registry.server.port(), 2 * MIB as u64, u64::MAX).unwrap();
    let (image, bytes) = of_size(9 * MIB + 17);
    let events = push(&proxy.host(), &image).expect("it arrives");
    assert_eq!(events.count("sent"), 2);
    registry.assert_has(&bytes);
    assert!(proxy.cuts() >= 1);

    let patches = registry.patches();
    assert!(!patches[0].headers.contains_key("content-range"), "the first try is one request");
    let received: usize = patches.iter().map(|patch| patch.body.len()).sum();
    assert_eq!(received, bytes.len(), "what was there was not sent again");
    // Each chunk says where it belongs, and goes where the answer before said.
    let mut at = patches[0].body.len();
    for patch in &patches[1..] {
        let length: usize = patch.header("content-length").parse().unwrap();
        assert_eq!(patch.header("content-range"), format!("{at}-{}", at + length - 1));
        assert!(patch.target.ends_with(&format!("?at={at}")), "{}", patch.target);
        at += patch.body.len();
    }
}

#[test]
fn a_registry_that_forgets_what_broke_off_gets_chunks_that_pass() {
    let layers = [noise(1, 40 * MIB), noise(2, 3 * MIB)];
    let image = of_layers(layers.iter().map(|bytes| layer(ImageFormat::Oci, bytes)));
    for auth in [Auth::Anonymous, Auth::Token { user: "joe", password: "pass:word" }] {
        let server = Server::builder().auth(auth).start().expect("docker-registry starts");
        let proxy = CutProxy::start(server.port(), 8 * MIB as u64, u64::MAX).unwrap();
        let config = server.docker_config().replace(&server.host(), &proxy.host());
        let destination = reference(&format!("{}/app:1", proxy.host()));
        client(&config, Routes::default())
            .push(&image, &[destination], &Events::default())
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
        assert!(proxy.cuts() >= 1);
        let dir = testkit::scratch_dir("pulled-").unwrap();
        server.pull("app:1", dir.path(), "x").expect("skopeo finds all blobs, and verifies them");
    }
}

/// As many bytes as there should be, of which nobody holds more than a piece.
struct Generated(u64);

impl BlobSource for Generated {
    fn open(&self) -> Result<Box<dyn Read + Send>, PortError> {
        self.open_at(0)
    }

    fn open_at(&self, offset: u64) -> Result<Box<dyn Read + Send>, PortError> {
        Ok(Box::new(Counter { at: offset, end: self.0 }))
    }
}

struct Counter {
    at: u64,
    end: u64,
}

impl Read for Counter {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = usize::try_from(self.end - self.at).unwrap().min(buffer.len());
        for byte in &mut buffer[..count] {
            *byte = (self.at >> 12).to_le_bytes()[0] ^ self.at.to_le_bytes()[0];
            self.at += 1;
        }
        Ok(count)
    }
}

fn generated(size: u64) -> Layer {
    let mut hasher = Sha256Hasher::new();
    let mut buffer = vec![0; MIB];
    let mut reader = Counter { at: 0, end: size };
    while let Some(count) = Some(reader.read(&mut buffer).unwrap()).filter(|count| *count > 0) {
        hasher.update(&buffer[..count]);
    }
    let digest = hasher.finish();
    let media_type = ImageFormat::Oci.layer(LayerCompression::None);
    Layer {
        descriptor: Descriptor::new(media_type, Digest::new(digest), size),
        diff_id: DiffId::new(digest),
        blob: Arc::new(Generated(size)),
    }
}

#[test]
fn a_large_layer_arrives_through_a_proxy_that_cuts_again_and_again() {
    const SIZE: u64 = 96 << 20;
    const CUT: u64 = 8 << 20;
    let server = Server::builder().start().expect("docker-registry starts");
    let proxy = CutProxy::start(server.port(), CUT, u64::MAX).unwrap();
    let layer = generated(SIZE);
    let digest = layer.descriptor.digest;
    let destination = reference(&format!("{}/app:1", proxy.host()));
    client("{}", Routes::default())
        .push(&of_layers([layer]), &[destination], &Events::default())
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    // The registry sums a blob before it takes it under this name.
    #[expect(clippy::disallowed_methods, reason = "what a registry has stored is on the host")]
    let stored = std::fs::metadata(server.blob(&digest.to_string())).unwrap();
    assert_eq!(stored.len(), SIZE);
}

#[test]
fn each_chunk_has_a_connection_of_its_own_also_where_http_2_is_spoken() {
    let server = Server::builder().tls().start().expect("docker-registry starts");
    let proxy = CutProxy::start(server.port(), 4 * MIB as u64, u64::MAX).unwrap();
    let transport = Transport::new(&options()).expect("the options are right");
    let routes = Routes { unverified: true, ..Routes::default() };
    let (image, _) = of_size(20 * MIB);
    Registry::new(transport, Credentials::default(), routes)
        .push(&image, &[reference(&format!("{}/app:1", proxy.host()))], &Events::default())
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert!(server.log().contains("HTTP/2.0"));
    let dir = testkit::scratch_dir("pulled-").unwrap();
    server.pull("app:1", dir.path(), "x").expect("skopeo finds all blobs, and verifies them");
}

#[test]
fn what_is_too_large_at_once_goes_in_smaller_chunks() {
    let limit = MIB;
    let registry = Keeping::start(move |request, _| {
        (request.body.len() > limit).then(|| answer(413).body("<html>too large</html>"))
    });
    let (image, bytes) = of_size(5 * MIB);
    push(&registry.server.host(), &image).expect("it arrives");
    registry.assert_has(&bytes);
    let sizes: Vec<usize> = registry.patches().iter().map(|patch| patch.body.len()).collect();
    assert_eq!(sizes, [5 * MIB, 2 * MIB, MIB, MIB, MIB, MIB, MIB]);

    let registry = Keeping::start(|request, _| (request.body.len() > MIB / 4).then(|| answer(413)));
    let error = push(&registry.server.host(), &image).expect_err("it never passes");
    assert!(error.contains("answers 413 Payload Too Large to the upload of a blob"), "{error}");
}

#[test]
fn a_registry_says_how_small_a_chunk_may_be() {
    let count = AtomicUsize::new(0);
    let registry = Keeping::start(move |request, size| {
        let is_first = request.method == "PATCH" && count.fetch_add(1, Ordering::Relaxed) == 0;
        let least = (3 * MIB).to_string();
        match request.method.as_str() {
            "PATCH" if is_first => Some(Answer::hang_up()),
            "GET" => Some(
                answer(204)
                    .header("Location", "u?at=0")
                    .header("OCI-Chunk-Min-Length", least)
                    .header("Range", format!("0-{}", size.saturating_sub(1))),
            ),
            _ => None,
        }
    });
    let (image, bytes) = of_size(4 * MIB);
    push(&registry.server.host(), &image).expect("it arrives");
    registry.assert_has(&bytes);
    let patches = registry.patches();
    let sizes: Vec<usize> = patches[1..].iter().map(|patch| patch.body.len()).collect();
    assert_eq!(sizes, [3 * MIB, MIB], "4 MiB were on their way, so 2 MiB would have been next");
    assert_eq!(patches[1].line(), "PATCH /v2/app/blobs/uploads/u", "relative to who answered");
}

#[test]
fn who_has_lost_step_is_asked_and_who_has_lost_all_starts_anew() {
    // 416, and less than was acknowledged.
    let count = AtomicUsize::new(0);
    let registry = Keeping::start(move |request, _| {
        let is_first = request.method == "PATCH" && count.fetch_add(1, Ordering::Relaxed) == 0;
        is_first.then(|| answer(416).header("Range", "0-99"))
    });
    let (image, bytes) = of_size(2 * MIB);
    push(&registry.server.host(), &image).expect("it arrives");
    registry.assert_has(&bytes);
    assert_eq!((registry.count("POST"), registry.count("PATCH")), (2, 2), "one for the config");

    // More than was ever sent.
    let count = AtomicUsize::new(0);
    let registry = Keeping::start(move |request, _| {
        let is_first = request.method == "PATCH" && count.fetch_add(1, Ordering::Relaxed) == 0;
        match request.method.as_str() {
            "PATCH" if is_first => Some(Answer::hang_up()),
            "GET" => Some(answer(204).header("Range", "0-99999999").header("Location", "u")),
            _ => None,
        }
    });
    push(&registry.server.host(), &image).expect("it arrives");
    registry.assert_has(&bytes);
    assert_eq!(registry.count("POST"), 3, "a new upload, and one for the config");
}

#[test]
fn a_registry_that_takes_less_than_it_was_sent_gets_the_rest() {
    // It keeps the first MiB of each request, and says so.
    let part: Mutex<Vec<u8>> = Mutex::default();
    let shared = Arc::new(part);
    let kept = Arc::clone(&shared);
    let registry = Keeping::start(move |request, _| {
        let mut part = shared.lock().unwrap();
        let here = |status: u16, size: usize| {
            answer(status)
                .header("Location", format!("/v2/app/blobs/uploads/u?at={size}"))
                .header("Range", format!("0-{}", size - 1))
        };
        match request.method.as_str() {
            "PATCH" => {
                part.extend_from_slice(&request.body[..request.body.len().min(MIB)]);
                Some(here(202, part.len()))
            }
            "GET" => Some(here(204, part.len())),
            "PUT" if request.body.is_empty() => Some(answer(201)),
            _ => None,
        }
    });
    let (image, bytes) = of_size(3 * MIB + 1);
    push(&registry.server.host(), &image).expect("it arrives");
    assert!(*kept.lock().unwrap() == bytes);
}

#[test]
fn a_location_on_a_private_host_is_not_followed_in_the_middle_either() {
    let inner = Scripted::start(|_| answer(202));
    let port = inner.port();
    let registry = Keeping::start(move |request, _| {
        let location = format!("http://evil.example:{port}/u");
        (request.method == "GET")
            .then(|| answer(204).header("Location", location.clone()).header("Range", "0-1048575"))
            .or_else(|| (request.method == "PATCH").then(Answer::hang_up))
    });
    let (image, _) = of_size(2 * MIB);
    let error = push(&registry.server.host(), &image).expect_err("it must not go there");
    assert!(error.contains("whose address 127.0.0.1 is not public"), "{error}");
    assert_eq!(inner.lines(), Vec::<String>::new());
}

#[test]
fn a_token_that_expires_in_the_middle_is_renewed() {
    let tokens = Arc::new(AtomicUsize::new(0));
    let issued = Arc::clone(&tokens);
    let realm = Scripted::start(move |_| {
        let number = issued.fetch_add(1, Ordering::Relaxed);
        answer(200).body(format!(r#"{{"token":"t{number}"}}"#))
    });
    let challenge =
        format!(r#"Bearer realm="http://127.0.0.1:{}/token",service="s""#, realm.port());
    let count = AtomicUsize::new(0);
    let registry = Keeping::start(move |request, _| {
        if request.target == "/v2/" {
            return Some(answer(200));
        }
        let patches = match request.method.as_str() {
            "PATCH" => count.fetch_add(1, Ordering::Relaxed) + 1,
            _ => count.load(Ordering::Relaxed),
        };
        // The first token lasts until the second chunk comes.
        let wanted = if patches < 3 { "Bearer t0" } else { "Bearer t1" };
        if request.header("authorization") != wanted {
            return Some(answer(401).header("WWW-Authenticate", challenge.clone()));
        }
        (request.method == "PATCH" && request.body.len() > MIB).then(|| answer(413))
    });
    let (image, bytes) = of_size(3 * MIB);
    push(&registry.server.host(), &image).expect("it arrives");
    registry.assert_has(&bytes);
    assert_eq!(tokens.load(Ordering::Relaxed), 2);
}

#[test]
fn an_answer_that_got_lost_at_the_end_is_no_second_upload() {
    let lost = AtomicUsize::new(0);
    let stored: Arc<Mutex<Option<String>>> = Arc::default();
    let registry = {
        let stored = Arc::clone(&stored);
        Keeping::start(move |request, _| {
            let digest = || request.target.split("digest=").nth(1).unwrap().replace("%3A", ":");
            let is_end = request.method == "PUT" && request.body.is_empty();
            if is_end && lost.fetch_add(1, Ordering::Relaxed) == 0 {
                *stored.lock().unwrap() = Some(digest());
                return Some(Answer::hang_up());
            }
            let is_stored = stored.lock().unwrap().as_ref().is_some_and(|digest| {
                request.method == "HEAD" && request.target.ends_with(digest.as_str())
            });
            match request.method.as_str() {
                "GET" => Some(answer(404)),
                "HEAD" if is_stored => Some(answer(200)),
                _ => None,
            }
        })
    };
    let (image, _) = of_size(2 * MIB);
    let events = push(&registry.server.host(), &image).expect("it is there");
    assert_eq!(events.count("sent"), 2, "{:?}", events.lines());
    assert_eq!(registry.count("PATCH"), 1);
}

#[test]
fn a_registry_that_gets_no_farther_is_given_up() {
    // Ten bytes of each request are kept: there is always something new, and it would take years.
    let registry = Keeping::start(move |request, size| match request.method.as_str() {
        "PATCH" => Some(answer(503).header("Retry-After", "0")),
        "GET" => Some(
            answer(204)
                .header("Location", "/v2/app/blobs/uploads/u")
                .header("Range", format!("0-{}", size + 10)),
        ),
        _ => None,
    });
    let (image, _) = of_size(2 * MIB);
    let error = push(&registry.server.host(), &image).expect_err("it is given up");
    assert!(error.contains("answers 503 Service Unavailable to the upload of a blob"), "{error}");
    assert_eq!(registry.count("PATCH"), 3);
}

#[test]
fn a_layer_that_is_handed_on_is_verified_over_all_its_pieces() {
    let (image, bytes) = of_size(5 * MIB);
    let digest = Digest::of(&bytes).to_string();
    for is_honest in [true, false] {
        let mut served = bytes.clone();
        if !is_honest {
            // In what is read before the break.
            served[1000] ^= 1;
        }
        let (source, layer_digest) = (image.clone(), digest.clone());
        let reads = Arc::new(AtomicUsize::new(0));
        let read = Arc::clone(&reads);
        let from = Scripted::start(move |request| {
            if request.target.contains("/manifests/") {
                let manifest = source.manifest();
                return answer(200)
                    .header("Content-Type", manifest.media_type.to_string())
                    .body(manifest.bytes.clone());
            }
            if !request.target.ends_with(&layer_digest) {
                return answer(200).body(source.config_bytes());
            }
            let start = request.header("range").trim_start_matches("bytes=").trim_end_matches('-');
            let start: usize = start.parse().unwrap_or(0);
            read.fetch_add(served.len() - start, Ordering::Relaxed);
            let range = format!("bytes {start}-{}/{}", served.len() - 1, served.len());
            let status = if start > 0 { 206 } else { 200 };
            answer(status).header("Content-Range", range).body(&served[start..])
        });
        let registry = client("{}", Routes::default());
        let name = format!("{}/app:1", from.host());
        let pulled = support::resolved(&registry, &name, "linux/amd64");
        let to = Keeping::start(|request, _| (request.body.len() > MIB).then(|| answer(413)));
        let pushed = push_by(&registry, &to.server.host(), &pulled.image);
        if is_honest {
            pushed.expect("it arrives");
            to.assert_has(&bytes);
            // Three readings began at the start, and each of the others where it was wanted.
            assert!(reads.load(Ordering::Relaxed) <= (3 * 5 + 4 + 3 + 2 + 1) * MIB);
        } else {
            let error = pushed.expect_err("it is another layer");
            assert!(error.contains("is not what it is called"), "{error}");
        }
    }
}

#[test]
fn long_transfers_say_how_far_they_are() {
    let registry = Keeping::start(|_, _| None);
    let (image, bytes) = of_size(2 * MIB);
    let told: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let heard = Arc::clone(&told);
    let all = client("{}", Routes::default())
        .with_progress(Duration::ZERO, move |progress| heard.lock().unwrap().push(*progress));
    push_by(&all, &registry.server.host(), &image).expect("it arrives");
    let told = told.lock().unwrap();
    let layer: Vec<_> =
        told.iter().filter(|progress| progress.digest == Some(Digest::of(&bytes))).collect();
    assert!(layer.len() > 2, "{told:?}");
    assert!(layer.windows(2).all(|pair| pair[0].done <= pair[1].done));
    let last = layer.last().unwrap();
    assert_eq!((last.done, last.total), (2 << 20, Some(2 << 20)));
    assert_eq!(last.direction, Direction::ToRegistry);

    let silent = client("{}", Routes::default())
        .with_progress(Duration::from_mins(1), |progress| panic!("{progress:?} is too early"));
    let again = Keeping::start(|_, _| None);
    push_by(&silent, &again.server.host(), &image).expect("it arrives");
    assert_eq!(contents(&image).unwrap(), [bytes]);
}
