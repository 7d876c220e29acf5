//! One file from a web server.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ebiko_transport::header::{
    ACCEPT_ENCODING, ETAG, HeaderValue, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
};
use ebiko_transport::{Request, Response, ShownUrl, TransportError, Url};

use crate::bucket::Refusal;
use crate::checksum::{Checksum, Hasher};
use crate::{Network, host, http_date};

/// What a download may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownloadOptions {
    /// How many bytes are taken.
    pub limit: u64,
}

impl Default for DownloadOptions {
    /// More is no file that anybody means to put into an image.
    fn default() -> Self {
        Self { limit: 256 << 30 }
    }
}

/// What a server said of a file, besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// How many bytes there are.
    pub size: u64,
    /// When the file last changed, in seconds since 1970.
    pub last_modified: Option<i64>,
    /// The server's name for this version of the file.
    pub etag: Option<String>,
    /// The SHA-256 of the bytes, as `sha256:…`.
    pub digest: String,
}

/// A file could not be downloaded.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message names every field")]
#[error("cannot download `{url}`")]
pub struct DownloadError {
    pub url: String,
    pub source: DownloadErrorKind,
}

/// Why a [`DownloadError`] happened. Where other builders have words for it, they are the same.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum DownloadErrorKind {
    #[error("it is not a URL: {reason}")]
    Url { reason: String },
    #[error("`{scheme}` is not a protocol that is spoken here")]
    Protocol { scheme: String },
    #[error("invalid response status {status}")]
    Status { status: u16 },
    #[error(transparent)]
    Refused(Box<Refusal>),
    #[error("{why}")]
    Identity { why: String },
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("cannot receive the file")]
    Receive { source: io::Error },
    #[error("digest mismatch {actual}: {expected}")]
    Digest { actual: String, expected: String },
    #[error("unsupported digest algorithm in `{checksum}`")]
    Algorithm { checksum: String },
    #[error("invalid checksum digest format: `{checksum}`")]
    Checksum { checksum: String },
    #[error("more than {limit} bytes")]
    TooLong { limit: u64 },
    #[error("the file changed while it was downloaded")]
    Changed,
    #[error("a user name in the URL cannot be sent in a header")]
    Login,
    #[error("cannot write the file")]
    Write { source: io::Error },
    #[error("interrupted")]
    Interrupted,
}

impl DownloadError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match &self.source {
            DownloadErrorKind::Transport(source) => source.hint(),
            DownloadErrorKind::Refused(refusal) => refusal.hint(),
            DownloadErrorKind::Identity { .. } => Some(
                "an identity that is set up is used or is an error; take its variables and files away to be \
                 somebody else, or nobody",
            ),
            DownloadErrorKind::Status { status: 401 | 403 } => Some(
                "the server wants a login, which a URL in a Dockerfile should not hold; \
                      download the file in a RUN with a secret",
            ),
            DownloadErrorKind::Algorithm { .. } => Some("use `sha256:`, `sha384:` or `sha512:`"),
            _ => None,
        }
    }
}

/// Downloads `url` to the new file `path`.
///
/// The user wrote the URL, so it may name any address; where a server redirects to must be public.
/// A user name and a password in it go to its host and nowhere else. The bytes are taken as they
/// are: a server is not asked to compress them. A connection that breaks is taken up again where
/// it broke, if the server can do that, and from the start otherwise.
///
/// # Errors
///
/// No file is left.
pub fn download(
    network: &Network<'_>,
    url: &str,
    checksum: Option<&str>,
    options: &DownloadOptions,
    path: &Path,
) -> Result<Downloaded, DownloadError> {
    let parsed = Url::parse(url);
    let shown = parsed.as_ref().map(|url| ShownUrl::of(url).to_string()).unwrap_or_default();
    let fail = |source| DownloadError { url: shown, source };
    let run = || {
        let url = parsed.map_err(|error| DownloadErrorKind::Url { reason: error.to_string() })?;
        let checksum = checksum.map(Checksum::parse).transpose()?;
        let mut origin = WebServer { request: request(url)? };
        transfer(network, &mut origin, checksum, *options, path)
    };
    run().map_err(fail)
}

/// Brings what `origin` has to the new file `path`. If that fails, no file is left.
pub(crate) fn transfer(
    network: &Network<'_>,
    origin: &mut dyn Origin,
    checksum: Option<Checksum>,
    options: DownloadOptions,
    path: &Path,
) -> Result<Downloaded, DownloadErrorKind> {
    let mut file = host::create_file(path).map_err(|source| DownloadErrorKind::Write { source })?;
    let outcome = Transfer { network, origin, checksum, limit: options.limit }.run(&mut file);
    if outcome.is_err() {
        // The error that there is says more than one from here.
        let _left = host::remove_file(path);
    }
    outcome
}

/// Who has a file, and how it is asked for.
pub(crate) trait Origin {
    /// A request for the file, or for what is not there yet of it. It is made for every attempt, because a signature
    /// ends.
    fn request(&mut self, rest: Option<&Rest>) -> Result<Request, DownloadErrorKind>;

    /// What follows from an answer that is no success: that it is worth asking again at once, or an error.
    fn refused(
        &mut self,
        _request: &Request,
        _rest: Option<&Rest>,
        response: Response,
    ) -> Result<(), DownloadErrorKind> {
        Err(DownloadErrorKind::Status { status: response.status().as_u16() })
    }

    /// What tells this version of the file from any other.
    ///
    /// A weak name says that two versions are as good as equal, which is not equal.
    fn version(&self, response: &Response) -> Option<String> {
        response.header(ETAG).filter(|etag| etag.starts_with('"')).map(str::to_owned)
    }
}

/// What is missing of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rest {
    /// How many bytes are there.
    pub(crate) start: u64,
    /// The version that they are of.
    pub(crate) version: String,
}

impl Rest {
    /// The value of `Range`.
    pub(crate) fn range(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&format!("bytes={}-", self.start)).ok()
    }
}

/// Any server that has a file at a URL.
struct WebServer {
    request: Request,
}

impl Origin for WebServer {
    fn request(&mut self, rest: Option<&Rest>) -> Result<Request, DownloadErrorKind> {
        let request = self.request.clone();
        let Some(rest) = rest else { return Ok(request) };
        Ok(match (rest.range(), HeaderValue::from_str(&rest.version)) {
            (Some(range), Ok(version)) => {
                request.with_header(RANGE, range).with_header(IF_RANGE, version)
            }
            _ => request,
        })
    }
}

/// Whether what is at `url` is still what a server once gave this name (`ETag`) to. Nothing is downloaded.
///
/// `false` also where the server does not compare, and for a weak name, which two versions may have that are not equal.
///
/// # Errors
///
/// Fails where a download would fail before its first byte.
pub fn is_current(network: &Network<'_>, url: &str, etag: &str) -> Result<bool, DownloadError> {
    let parsed = Url::parse(url);
    let shown = parsed.as_ref().map(|url| ShownUrl::of(url).to_string()).unwrap_or_default();
    let ask = || {
        let url = parsed.map_err(|error| DownloadErrorKind::Url { reason: error.to_string() })?;
        let Some(name) = HeaderValue::from_str(etag).ok().filter(|_| etag.starts_with('"')) else {
            return Ok(false);
        };
        let request = request(url)?.with_header(IF_NONE_MATCH, name);
        Ok(network.transport.send(&request)?.status().as_u16() == 304)
    };
    ask().map_err(|source| DownloadError { url: shown, source })
}

/// A request for what the user's URL names. A login in it becomes a header.
fn request(mut url: Url) -> Result<Request, DownloadErrorKind> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(DownloadErrorKind::Protocol { scheme: url.scheme().to_owned() });
    }
    let login = (!url.username().is_empty() || url.password().is_some()).then(|| {
        let password = url.password().unwrap_or_default();
        STANDARD.encode(
            [
                crate::percent::decode(url.username()),
                b":".to_vec(),
                crate::percent::decode(password),
            ]
            .concat(),
        )
    });
    let no_login = |()| DownloadErrorKind::Login;
    url.set_username("").map_err(no_login)?;
    url.set_password(None).map_err(no_login)?;
    url.set_fragment(None);
    let request =
        Request::get(url).with_header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    match login {
        Some(login) => request
            .with_authorization(&format!("Basic {login}"))
            .map_err(|_| DownloadErrorKind::Login),
        None => Ok(request),
    }
}

/// So many bytes more than ever before, and the attempts begin anew: a large file may break off often.
const PROGRESS: u64 = 64 << 10;

struct Transfer<'a> {
    network: &'a Network<'a>,
    origin: &'a mut dyn Origin,
    checksum: Option<Checksum>,
    limit: u64,
}

impl Transfer<'_> {
    fn run(mut self, file: &mut File) -> Result<Downloaded, DownloadErrorKind> {
        let mut head = None;
        let (mut size, mut most) = (0, 0);
        let mut attempt = 1;
        loop {
            let transport = self.network.transport;
            let rest = head
                .as_ref()
                .filter(|_| size > 0)
                .and_then(|head: &Head| Some(Rest { start: size, version: head.version.clone()? }));
            let request = self.origin.request(rest.as_ref())?;
            match self.attempt(&request, rest.as_ref(), file, &mut size, &mut head) {
                Ok(true) => break,
                Ok(false) => {}
                Err(DownloadErrorKind::Receive { source }) => {
                    if size > most + PROGRESS {
                        attempt = 1;
                    }
                    most = most.max(size);
                    if attempt >= transport.attempts() {
                        return Err(DownloadErrorKind::Receive { source });
                    }
                    transport.pause(&request.url, attempt, &source.to_string(), None);
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
        let (digest, actual) = self.digests(file)?;
        if let (Some(expected), Some(actual)) = (&self.checksum, actual)
            && expected.to_string() != actual
        {
            return Err(DownloadErrorKind::Digest { actual, expected: expected.to_string() });
        }
        let Head { last_modified, etag, .. } = head.unwrap_or_default();
        let last_modified = last_modified.as_deref().and_then(http_date::parse);
        Ok(Downloaded { size, last_modified, etag, digest })
    }

    /// One request, for what is not there yet. `false` if the origin wants to be asked again.
    fn attempt(
        &mut self,
        request: &Request,
        rest: Option<&Rest>,
        file: &mut File,
        size: &mut u64,
        head: &mut Option<Head>,
    ) -> Result<bool, DownloadErrorKind> {
        self.check_interrupt()?;
        let local = |source| DownloadErrorKind::Write { source };
        let mut response = self.network.transport.send(request)?;
        match response.status().as_u16() {
            206 => {
                let version = self.origin.version(&response);
                let is_same =
                    rest.is_some_and(|rest| version.is_none_or(|version| version == rest.version));
                if !is_same || !continues(&response, *size) {
                    return Err(DownloadErrorKind::Changed);
                }
            }
            // The version is not there any more.
            412 if rest.is_some() => return Err(DownloadErrorKind::Changed),
            status if !(200..300).contains(&status) => {
                return self.origin.refused(request, rest, response).map(|()| false);
            }
            _ => {
                *size = 0;
                *head = Some(Head::of(&response, self.origin.version(&response)));
                file.set_len(0).map_err(local)?;
                file.seek(SeekFrom::Start(0)).map_err(local)?;
            }
        }
        let mut buffer = vec![0; 128 << 10];
        loop {
            self.check_interrupt()?;
            let count = match response.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(|source| DownloadErrorKind::Receive { source })?,
            };
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
            *size += count as u64;
            if *size > self.limit {
                return Err(DownloadErrorKind::TooLong { limit: self.limit });
            }
            file.write_all(piece).map_err(local)?;
        }
        Ok(true)
    }

    /// The SHA-256 of the file, and the digest that was asked for.
    ///
    /// Read back from the disk, because a download may come in pieces and begin again.
    fn digests(&self, file: &mut File) -> Result<(String, Option<String>), DownloadErrorKind> {
        let local = |source| DownloadErrorKind::Write { source };
        file.seek(SeekFrom::Start(0)).map_err(local)?;
        let mut ours = Hasher::sha256();
        let mut theirs = self.checksum.as_ref().map(Checksum::hasher);
        let mut buffer = vec![0; 128 << 10];
        loop {
            self.check_interrupt()?;
            let count = file.read(&mut buffer).map_err(local)?;
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
            ours.update(piece);
            if let Some(hasher) = &mut theirs {
                hasher.update(piece);
            }
        }
        Ok((ours.finish(), theirs.map(Hasher::finish)))
    }

    fn check_interrupt(&self) -> Result<(), DownloadErrorKind> {
        if (self.network.is_interrupted)() { Err(DownloadErrorKind::Interrupted) } else { Ok(()) }
    }
}

/// Whether a partial answer begins where the file ends.
fn continues(response: &Response, size: u64) -> bool {
    response
        .header("content-range")
        .and_then(|range| range.strip_prefix("bytes "))
        .and_then(|range| range.split('-').next())
        .is_some_and(|start| start.parse() == Ok(size))
}

/// What the first answer said.
#[derive(Debug, Default)]
struct Head {
    last_modified: Option<String>,
    etag: Option<String>,
    version: Option<String>,
}

impl Head {
    fn of(response: &Response, version: Option<String>) -> Self {
        let text = |name| response.header(name).map(str::to_owned);
        Self { last_modified: text(LAST_MODIFIED), etag: text(ETAG), version }
    }
}
