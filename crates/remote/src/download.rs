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
        let request = request(url)?;
        let mut file =
            host::create_file(path).map_err(|source| DownloadErrorKind::Write { source })?;
        let outcome = Transfer { network, request, checksum, limit: options.limit }.run(&mut file);
        if outcome.is_err() {
            // The error that there is says more than one from here.
            let _left = host::remove_file(path);
        }
        outcome
    };
    run().map_err(fail)
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

struct Transfer<'a> {
    network: &'a Network<'a>,
    request: Request,
    checksum: Option<Checksum>,
    limit: u64,
}

impl Transfer<'_> {
    fn run(self, file: &mut File) -> Result<Downloaded, DownloadErrorKind> {
        let mut head = None;
        let mut size = 0;
        let mut attempt = 1;
        loop {
            let transport = self.network.transport;
            let outcome = self.attempt(file, &mut size, &mut head);
            match outcome {
                Ok(()) => break,
                Err(DownloadErrorKind::Receive { source }) if attempt < transport.attempts() => {
                    transport.pause(&self.request.url, attempt, &source.to_string(), None);
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
        let Head { last_modified, etag } = head.unwrap_or_default();
        let last_modified = last_modified.as_deref().and_then(http_date::parse);
        Ok(Downloaded { size, last_modified, etag, digest })
    }

    /// One request, for what is not there yet.
    fn attempt(
        &self,
        file: &mut File,
        size: &mut u64,
        head: &mut Option<Head>,
    ) -> Result<(), DownloadErrorKind> {
        self.check_interrupt()?;
        let local = |source| DownloadErrorKind::Write { source };
        let mut request = self.request.clone();
        // A weak name says that two versions are as good as equal, which is not equal.
        let strong = head.as_ref().and_then(Head::version);
        if let Some(version) = strong.filter(|_| *size > 0) {
            let range = HeaderValue::from_str(&format!("bytes={size}-"));
            if let (Ok(range), Ok(version)) = (range, HeaderValue::from_str(version)) {
                request = request.with_header(RANGE, range).with_header(IF_RANGE, version);
            }
        }
        let mut response = self.network.transport.send(&request)?;
        match response.status().as_u16() {
            206 if continues(&response, *size) => {}
            206 => return Err(DownloadErrorKind::Changed),
            status if !(200..300).contains(&status) => {
                return Err(DownloadErrorKind::Status { status });
            }
            _ => {
                *size = 0;
                *head = Some(Head::of(&response));
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
        Ok(())
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
}

impl Head {
    fn of(response: &Response) -> Self {
        let text = |name| response.header(name).map(str::to_owned);
        Self { last_modified: text(LAST_MODIFIED), etag: text(ETAG) }
    }

    /// What tells this version of the file from any other.
    fn version(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| etag.starts_with('"'))
    }
}
