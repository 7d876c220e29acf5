//! The bytes of a layer that is in a registry.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use ebiko_cloud::one_line;
use ebiko_oci::{BlobOrigin, BlobSource, Descriptor, Digest, MediaType, PortError, Sha256Hasher};
use ebiko_transport::header::{CONTENT_RANGE, HeaderValue, RANGE};
use ebiko_transport::{Method, Response, StatusCode};

use crate::progress::{Direction, Meter};
use crate::registry::{Client, lock};
use crate::routes::Endpoint;
use crate::session::{ExchangeError, Session};
use crate::upload::PROGRESS;

/// So much progress makes a broken connection a new failure and not one more of the same.
const FARTHER: u64 = 1024 * 1024;

/// A layer of a pulled image.
pub(crate) struct RemoteBlob {
    client: Arc<Client>,
    /// The places to try, in this order.
    endpoints: Vec<Endpoint>,
    descriptor: Descriptor,
}

/// A layer cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlobError {
    #[error("cannot fetch layer {digest} from `{repository}`")]
    Exchange { digest: Digest, repository: String, source: ExchangeError },
    #[error("cannot fetch layer {digest}: {}", failures.join("; "))]
    Nowhere { digest: Digest, failures: Vec<String> },
    #[error(
        "cannot fetch layer {digest}: foreign layers, which no registry holds, are not supported yet"
    )]
    Foreign { digest: Digest },
    #[error("layer {digest} from `{repository}` {problem}")]
    Content { digest: Digest, repository: String, problem: String },
    #[error("layer {digest} is not what it is called: its content is {actual}")]
    Digest { digest: Digest, actual: Digest },
}

/// A blob that is handed on as it comes, perhaps in several readings that each go on where the one before was of no use.
///
/// Its sum is taken over all of it without reading any part again that was read before, but for a stretch of less than
/// one mark.
pub(crate) struct Verification {
    digest: Digest,
    size: u64,
    /// The state of the sum at some places.
    marks: Mutex<BTreeMap<u64, Sha256Hasher>>,
}

/// So many states of the sum are kept for one blob, whatever its size.
const MARKS: u64 = 256;

impl Verification {
    pub(crate) fn new(digest: Digest, size: u64) -> Self {
        Self { digest, size, marks: Mutex::default() }
    }

    /// Reads the blob from `offset` on. The last bytes are an error if it is not the one that was promised.
    pub(crate) fn open_at(
        self: &Arc<Self>,
        source: &dyn BlobSource,
        offset: u64,
    ) -> Result<Box<dyn Read + Send>, PortError> {
        let (start, hasher) = {
            let marks = lock(&self.marks);
            let mark = marks.range(..=offset).next_back();
            mark.map_or_else(
                || (0, Sha256Hasher::new()),
                |(position, hasher)| (*position, hasher.clone()),
            )
        };
        let input = source.open_at(start)?;
        let (all, position) = (Arc::clone(self), start);
        let mut reader = Verified { input, hasher, position, marked: position, all };
        let skip = offset - start;
        let skipped = io::copy(&mut reader.by_ref().take(skip), &mut io::sink())?;
        if skipped < skip {
            return Err(format!("the blob ends before byte {offset}").into());
        }
        Ok(Box::new(reader))
    }
}

/// One reading of a blob that is handed on.
struct Verified {
    input: Box<dyn Read + Send>,
    hasher: Sha256Hasher,
    position: u64,
    /// Where the last mark is.
    marked: u64,
    all: Arc<Verification>,
}

impl Read for Verified {
    /// The last bytes are not given away before they are verified: who knows the size does not ask for more.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.position += count as u64;
        let Verification { digest, size, .. } = *self.all;
        if self.position - self.marked >= (size / MARKS).max(PROGRESS) {
            self.marked = self.position;
            lock(&self.all.marks).insert(self.position, self.hasher.clone());
        }
        if self.position >= size {
            let actual = Digest::new(self.hasher.clone().finish());
            if actual != digest {
                let error = BlobError::Digest { digest, actual };
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        Ok(count)
    }
}

impl RemoteBlob {
    pub(crate) fn new(
        client: &Arc<Client>,
        endpoints: &[Endpoint],
        descriptor: &Descriptor,
    ) -> Self {
        Self {
            client: Arc::clone(client),
            endpoints: endpoints.to_vec(),
            descriptor: descriptor.clone(),
        }
    }
}

impl BlobSource for RemoteBlob {
    fn open(&self) -> Result<Box<dyn Read + Send>, PortError> {
        self.open_at(0)
    }

    fn open_at(&self, offset: u64) -> Result<Box<dyn Read + Send>, PortError> {
        let Descriptor { digest, size, .. } = self.descriptor;
        if matches!(self.descriptor.media_type, MediaType::ForeignLayer(_)) {
            return Err(BlobError::Foreign { digest }.into());
        }
        let mut failures = Vec::new();
        for endpoint in &self.endpoints {
            match open_at(&self.client, endpoint, digest, offset) {
                Ok((response, surplus)) => {
                    let meter =
                        self.client.meter(Direction::FromRegistry, Some(digest), Some(size));
                    return Ok(Box::new(BlobReader {
                        client: Arc::clone(&self.client),
                        endpoint: endpoint.clone(),
                        digest,
                        size,
                        response: Some(response),
                        surplus,
                        position: offset,
                        failed_at: offset,
                        failures: 0,
                        meter,
                    }));
                }
                Err(source) if self.endpoints.len() == 1 => {
                    let repository = endpoint.to_string();
                    return Err(BlobError::Exchange { digest, repository, source }.into());
                }
                Err(error) => {
                    failures.push(format!("{}: {}", endpoint.registry, one_line(&error)));
                }
            }
        }
        Err(BlobError::Nowhere { digest, failures }.into())
    }

    fn origins(&self) -> Vec<BlobOrigin> {
        let origin = |endpoint: &Endpoint| BlobOrigin {
            registry: endpoint.registry.clone(),
            repository: endpoint.repository.clone(),
        };
        self.endpoints.iter().map(origin).collect()
    }
}

/// Starts to read a blob at `position`. The response may start so many bytes earlier.
fn open_at(
    client: &Client,
    endpoint: &Endpoint,
    digest: Digest,
    position: u64,
) -> Result<(Response, u64), ExchangeError> {
    let session = Session::new(client, endpoint)?;
    let mut request = session.request(Method::GET, &format!("blobs/{digest}"))?;
    request.extra_attempts = client.settings.layer_retries;
    if position > 0 {
        let range = HeaderValue::from_str(&format!("bytes={position}-"));
        request =
            request.with_header(RANGE, range.map_err(|_| session.protocol("a range is odd"))?);
    }
    let what = "the request for a layer";
    let response = session.send(&request, what)?;
    match starts_at(&response) {
        Some(start) if start == 0 || start == position => Ok((response, position - start)),
        Some(_) => Err(session.protocol("it sent another part of the layer than was asked for")),
        None => Err(session.status(response, what)),
    }
}

/// Where in the blob a response starts, or `None` if it is no part of a blob.
fn starts_at(response: &Response) -> Option<u64> {
    match response.status() {
        StatusCode::OK => Some(0),
        StatusCode::PARTIAL_CONTENT => {
            let range = response.header(CONTENT_RANGE)?.strip_prefix("bytes ")?;
            range.split_once('-')?.0.parse().ok()
        }
        _ => None,
    }
}

/// Reads a blob to its end, over as many connections as it takes. It has the promised size; whether it has the promised
/// content is for the consumer to find out.
struct BlobReader {
    client: Arc<Client>,
    endpoint: Endpoint,
    digest: Digest,
    size: u64,
    /// `None` after the end or a final error.
    response: Option<Response>,
    /// So many bytes come before the position.
    surplus: u64,
    position: u64,
    /// Where the connection broke last, and how often it did without much progress.
    failed_at: u64,
    failures: u32,
    meter: Meter,
}

impl BlobReader {
    fn wrong(&mut self, problem: String) -> io::Error {
        self.response = None;
        let repository = self.endpoint.to_string();
        let error = BlobError::Content { digest: self.digest, repository, problem };
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    fn attempts(&self) -> u32 {
        let settings = &self.client.settings;
        let extra = settings.layer_retries.max(settings.download_retries);
        self.client.transport.attempts().saturating_add(extra)
    }

    /// The next bytes of the blob have come.
    fn take(&mut self, count: usize) -> io::Result<usize> {
        self.position += count as u64;
        if self.position > self.size {
            let size = self.size;
            return Err(self.wrong(format!("is longer than its {size} bytes")));
        }
        self.meter.at(self.position);
        Ok(count)
    }

    /// Goes on where the connection broke, unless it breaks too often.
    fn resume(&mut self, reason: io::Error) -> io::Result<()> {
        if self.position - self.failed_at >= FARTHER {
            self.failures = 0;
        }
        self.failed_at = self.position;
        let mut reason = reason;
        loop {
            self.response = None;
            self.failures += 1;
            if self.failures >= self.attempts() {
                return Err(reason);
            }
            let session = Session::new(&self.client, &self.endpoint).map_err(io::Error::other)?;
            let url = session.base().clone();
            self.client.transport.pause(&url, self.failures, &reason.to_string(), None);
            match open_at(&self.client, &self.endpoint, self.digest, self.position) {
                Ok((response, surplus)) => {
                    self.response = Some(response);
                    self.surplus = surplus;
                    return Ok(());
                }
                Err(error) if error.is_transient() => reason = io::Error::other(error),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(response) = &mut self.response else {
                if self.position == self.size {
                    return Ok(0);
                }
                return Err(self.wrong("could not be read to its end".into()));
            };
            match response.read(buffer) {
                Ok(0) if self.position == self.size => {
                    self.response = None;
                    return Ok(0);
                }
                // The transport has seen the announced end: nothing is missing, it was never there.
                Ok(0) => {
                    let (position, size) = (self.position, self.size);
                    return Err(self.wrong(format!("ends after {position} of its {size} bytes")));
                }
                Ok(count) if self.surplus > 0 => {
                    let surplus = usize::try_from(self.surplus).unwrap_or(count).min(count);
                    self.surplus -= surplus as u64;
                    if surplus == count {
                        continue;
                    }
                    buffer.copy_within(surplus..count, 0);
                    return self.take(count - surplus);
                }
                Ok(count) => return self.take(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.resume(error)?,
            }
        }
    }
}
