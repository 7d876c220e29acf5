//! Files in the clouds' storages: S3, Google's Cloud Storage, Azure's blobs.
//!
//! # Guarantees
//!
//! - A signature or a token goes to the hosts of its own cloud, or to the endpoint that the user named, and no redirect is
//!   followed with it.
//! - Where this machine has no identity, nobody signs: the file may be public.
//! - An error says who asked, and holds no secret, also if the server repeats one.
//!
//! # Reading order
//!
//! [`Clouds`], then the three storages, each an [`Origin`] of a download.

mod azure;
mod gcs;
mod refusal;
mod s3;

use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use ebiko_cloud::{Obstacle, Outcome, Secret, Surroundings};
use ebiko_transport::header::{ACCEPT_ENCODING, HeaderValue};
use ebiko_transport::{Request, Url};

pub(crate) use self::azure::AzureBlob;
pub(crate) use self::gcs::GcsObject;
pub use self::refusal::Refusal;
pub(crate) use self::s3::S3Object;

use crate::Network;
use crate::download::{
    DownloadError, DownloadErrorKind, DownloadOptions, Downloaded, Origin, transfer,
};

/// How long before its end a token is no longer used, in seconds: one request should begin and end with one.
const MARGIN: u64 = 60;

/// Seconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Who this machine is to the clouds, and where their storages are.
pub struct Clouds {
    s3: s3::Settings,
    gcs: gcs::Settings,
    azure: azure::Settings,
    clock: Clock,
}

impl fmt::Debug for Clouds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clouds").finish_non_exhaustive()
    }
}

impl Clouds {
    /// Looks where the clouds' own programs look; uses no network.
    pub fn read(surroundings: &Surroundings<'_>, clock: Clock) -> Self {
        Self {
            s3: s3::Settings::read(surroundings),
            gcs: gcs::Settings::read(surroundings),
            azure: azure::Settings::read(surroundings),
            clock,
        }
    }
}

/// A file in a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredFile {
    /// `s3://BUCKET/KEY`.
    S3(S3Object),
    /// `gs://BUCKET/OBJECT`.
    Gcs(GcsObject),
    /// `https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB`.
    Azure(AzureBlob),
}

impl fmt::Display for StoredFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(object) => object.fmt(f),
            Self::Gcs(object) => object.fmt(f),
            Self::Azure(blob) => blob.fmt(f),
        }
    }
}

/// Brings a file of a storage to the new file `path`. A connection that breaks is taken up again where it broke.
///
/// # Errors
///
/// No file is left.
pub(crate) fn fetch(
    network: &Network<'_>,
    clouds: &Clouds,
    file: &StoredFile,
    options: DownloadOptions,
    path: &Path,
) -> Result<Downloaded, DownloadError> {
    let run = |origin: &mut dyn Origin| transfer(network, origin, None, options, path);
    let now = &*clouds.clock;
    let outcome = match file {
        StoredFile::S3(object) => {
            clouds.s3.open(object, network, now).and_then(|mut it| run(&mut it))
        }
        StoredFile::Gcs(object) => {
            clouds.gcs.open(object, network, now).and_then(|mut it| run(&mut it))
        }
        StoredFile::Azure(blob) => run(&mut clouds.azure.open(blob, network, now)),
    };
    outcome.map_err(|source| DownloadError { url: file.to_string(), source })
}

/// With what is asked.
#[derive(Debug, Clone)]
enum Proof<T> {
    /// With nothing, because of this.
    None { why: String },
    /// With a key or token that holds until then.
    Some { value: T, until: u64 },
}

impl<T> Proof<T> {
    /// Whether it can be used at `now`.
    fn holds(&self, now: u64) -> bool {
        match self {
            Self::None { .. } => true,
            Self::Some { until, .. } => now < until.saturating_sub(MARGIN),
        }
    }
}

/// The proof in `slot` if it holds, else a new one.
fn current<'s, T>(
    slot: &'s mut Option<Proof<T>>,
    now: u64,
    store: &str,
    fetch: impl FnOnce() -> Outcome<(T, u64)>,
) -> Result<&'s Proof<T>, DownloadErrorKind> {
    let proof = match slot.take() {
        Some(proof) if proof.holds(now) => proof,
        _ => or_nobody(fetch(), store)?,
    };
    Ok(slot.insert(proof))
}

/// `request` with a token, if there is one.
fn bearing(request: Request, proof: &Proof<Secret>) -> Result<Request, DownloadErrorKind> {
    match proof {
        Proof::None { .. } => Ok(request),
        Proof::Some { value, .. } => request
            .with_authorization(&format!("Bearer {}", value.reveal()))
            .map_err(|_| no_header()),
    }
}

/// What somebody gave us cannot be sent.
fn no_header() -> DownloadErrorKind {
    let why = "a token or a key holds a byte that no header may hold".to_owned();
    DownloadErrorKind::Identity { why }
}

/// Nobody signs where this machine is nobody. That somebody is set up who cannot be, is an error.
fn or_nobody<T>(outcome: Outcome<(T, u64)>, store: &str) -> Result<Proof<T>, DownloadErrorKind> {
    match outcome {
        Ok((value, until)) => Ok(Proof::Some { value, until }),
        Err(Obstacle::Nothing(why)) => Ok(Proof::None { why }),
        Err(Obstacle::Failed(why)) => Err(DownloadErrorKind::Identity {
            why: format!("there is no identity for {store}: {why}"),
        }),
    }
}

/// A `GET` that no redirect takes anywhere else, for bytes as they are.
fn get(url: Url) -> Request {
    let mut request =
        Request::get(url).with_header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    request.follows_redirects = false;
    request
}

/// Whether `name` can be a bucket's: no character of it means anything in a URL.
fn is_bucket(name: &str) -> bool {
    (1..=222).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && !name.starts_with('.')
        && !name.ends_with('.')
}

/// Every byte that is no letter, digit or one of `-_.~`, and not in `kept`, as `%XX`. All three storages want it so.
fn encoded(text: &str, kept: &[u8]) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || kept.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _infallible = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// Whether a path has a component that URLs take for a step upwards or none at all.
fn has_steps(path: &str) -> bool {
    path.split('/').any(|part| matches!(part, "." | ".."))
}

#[cfg(test)]
mod tests;
