//! Google's Cloud Storage, by its JSON API.

use std::fmt;

use ebiko_cloud::{Google, Http, Secret, Surroundings};
use ebiko_transport::header::{ACCEPT_ENCODING, HeaderValue, RANGE};
use ebiko_transport::{Request, Response, Url};

use super::{Proof, Refusal, bearing, current, encoded, get, is_bucket};
use crate::Network;
use crate::download::{DownloadErrorKind, Origin, Rest};

const STORE: &str = "Cloud Storage";
const SERVICE: &str = "https://storage.googleapis.com";

/// An object of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcsObject {
    bucket: String,
    object: String,
}

impl fmt::Display for GcsObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gs://{}/{}", self.bucket, self.object)
    }
}

impl GcsObject {
    /// `None` if no bucket is called so.
    pub(crate) fn new(bucket: &str, object: &str) -> Option<Self> {
        // Google has no objects of these two names.
        let is_right = is_bucket(bucket) && !matches!(object, "." | "..");
        is_right.then(|| Self { bucket: bucket.to_owned(), object: object.to_owned() })
    }
}

/// Where it is, and who we are to it.
pub(super) struct Settings {
    google: Google,
    /// What stands in for it. Nobody shows it a token.
    emulator: Option<String>,
}

impl Settings {
    pub(super) fn read(surroundings: &Surroundings<'_>) -> Self {
        Self {
            google: Google::read(surroundings),
            emulator: surroundings.get("STORAGE_EMULATOR_HOST").map(str::to_owned),
        }
    }

    pub(super) fn open<'a>(
        &'a self,
        object: &GcsObject,
        network: &'a Network<'a>,
        now: &'a dyn Fn() -> u64,
    ) -> Result<Opened<'a>, DownloadErrorKind> {
        let (base, proof) = match &self.emulator {
            None => (SERVICE.to_owned(), None),
            Some(host) => {
                let base =
                    if host.contains("://") { host.clone() } else { format!("http://{host}") };
                let why = "STORAGE_EMULATOR_HOST is set".to_owned();
                (base, Some(Proof::None { why }))
            }
        };
        let base = base.trim_end_matches('/');
        let (bucket, name) = (&object.bucket, encoded(&object.object, b""));
        let text = format!("{base}/storage/v1/b/{bucket}/o/{name}?alt=media");
        let url = Url::parse(&text).ok().filter(Url::has_host);
        let url = url.ok_or_else(|| DownloadErrorKind::Url {
            reason: "STORAGE_EMULATOR_HOST is not the URL of a server".to_owned(),
        })?;
        Ok(Opened { settings: self, url, network, now, proof })
    }
}

/// An object that is being fetched.
pub(super) struct Opened<'a> {
    settings: &'a Settings,
    url: Url,
    network: &'a Network<'a>,
    now: &'a dyn Fn() -> u64,
    proof: Option<Proof<Secret>>,
}

impl Origin for Opened<'_> {
    fn request(&mut self, rest: Option<&Rest>) -> Result<Request, DownloadErrorKind> {
        let now = (self.now)();
        let mut url = self.url.clone();
        if let Some(rest) = rest {
            // Of what has been overwritten meanwhile there is nothing left.
            url.query_pairs_mut().append_pair("generation", &rest.version);
        }
        // What is stored compressed is not to be decompressed on its way: a range of that cannot be had.
        let mut request = get(url).with_header(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        if let Some(range) = rest.and_then(Rest::range) {
            request = request.with_header(RANGE, range);
        }
        let (google, http) = (&self.settings.google, Http::new(self.network.transport));
        let proof = current(&mut self.proof, now, STORE, || {
            let token = google.token(&http, now)?;
            Ok((token.secret, token.until))
        })?;
        bearing(request, proof)
    }

    fn refused(
        &mut self,
        request: &Request,
        rest: Option<&Rest>,
        response: Response,
    ) -> Result<(), DownloadErrorKind> {
        if rest.is_some() && response.status().as_u16() == 404 {
            return Err(DownloadErrorKind::Changed);
        }
        let who = self.settings.google.who();
        let asker = match &self.proof {
            Some(Proof::None { why }) => Err(why.as_str()),
            _ => Ok(who.as_str()),
        };
        Err(DownloadErrorKind::Refused(Box::new(Refusal::read(STORE, request, response, asker))))
    }

    fn version(&self, response: &Response) -> Option<String> {
        let generation = response.header("x-goog-generation")?;
        generation.bytes().all(|byte| byte.is_ascii_digit()).then(|| generation.to_owned())
    }
}
