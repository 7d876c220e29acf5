//! Amazon's S3, and what speaks as it does.

use std::fmt;

use ebiko_cloud::{Aws, Http, Keys, Obstacle, Surroundings, domain_of, signed};
use ebiko_transport::header::{HeaderName, HeaderValue, IF_MATCH, RANGE};
use ebiko_transport::{Request, Response, Url};

use super::{Proof, Refusal, current, encoded, get, has_steps, is_bucket};
use crate::Network;
use crate::download::{DownloadErrorKind, Origin, Rest};

const STORE: &str = "S3";

/// Where a bucket is asked for whose region nobody has named. The answer says where it is.
const FIRST_REGION: &str = "us-east-1";

/// The SHA-256 of nothing, which is what a `GET` has for a body.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// An object of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Object {
    bucket: String,
    key: String,
}

impl fmt::Display for S3Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

impl S3Object {
    /// `None` if no bucket is called so, or a URL cannot name the key.
    pub(crate) fn new(bucket: &str, key: &str) -> Option<Self> {
        let is_right = is_bucket(bucket) && !has_steps(key);
        is_right.then(|| Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }

    /// Whether the bucket's name can be a label of the host: a dot would not fit the certificate.
    fn is_label(&self) -> bool {
        let bytes = self.bucket.as_bytes();
        (3..=63).contains(&bytes.len())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
            && !self.bucket.starts_with('-')
            && !self.bucket.ends_with('-')
    }
}

/// Where S3 is, and who we are to it.
pub(super) struct Settings {
    aws: Aws,
    endpoint: Result<Option<Url>, String>,
    is_path_style: bool,
    /// `-fips` and `.dualstack`, as they stand in a host.
    variant: String,
}

impl Settings {
    pub(super) fn read(surroundings: &Surroundings<'_>) -> Self {
        let mut variant = String::new();
        if surroundings.is_on("AWS_USE_FIPS_ENDPOINT") {
            variant.push_str("-fips");
        }
        if surroundings.is_on("AWS_USE_DUALSTACK_ENDPOINT") {
            variant.push_str(".dualstack");
        }
        Self {
            aws: Aws::read(surroundings),
            endpoint: endpoint(surroundings),
            is_path_style: surroundings.is_on("S3_FORCE_PATH_STYLE"),
            variant,
        }
    }

    pub(super) fn open<'a>(
        &'a self,
        object: &'a S3Object,
        network: &'a Network<'a>,
        now: &'a dyn Fn() -> u64,
    ) -> Result<Opened<'a>, DownloadErrorKind> {
        let region = self.aws.region().unwrap_or(FIRST_REGION).to_owned();
        let endpoint = self.endpoint.as_ref();
        endpoint.map_err(|why| DownloadErrorKind::Url { reason: why.clone() })?;
        Ok(Opened { settings: self, object, network, now, region, proof: None, has_moved: false })
    }

    pub(super) fn url(&self, object: &S3Object, region: &str) -> Result<Url, String> {
        let key = encoded(&object.key, b"/");
        let bad = |_| "the endpoint and the bucket make no URL".to_owned();
        let (scheme, host, path) = match &self.endpoint {
            Err(why) => return Err(why.clone()),
            Ok(Some(endpoint)) => {
                let host = endpoint.host_str().unwrap_or_default();
                let port = endpoint.port().map(|port| format!(":{port}")).unwrap_or_default();
                (endpoint.scheme(), format!("{host}{port}"), endpoint.path().trim_end_matches('/'))
            }
            Ok(None) => {
                let domain =
                    domain_of(region).ok_or_else(|| format!("`{region}` is not a region"))?;
                ("https", format!("s3{}.{region}.{domain}", self.variant), "")
            }
        };
        // Nobody has a name below an address.
        let is_address = matches!(&self.endpoint, Ok(Some(url)) if url.domain().is_none_or(|name| name == "localhost"));
        let text = if self.is_path_style || is_address || !object.is_label() {
            format!("{scheme}://{host}{path}/{}/{key}", object.bucket)
        } else {
            format!("{scheme}://{}.{host}{path}/{key}", object.bucket)
        };
        Url::parse(&text).map_err(bad)
    }
}

/// kaniko's name for it, then those of the SDKs. Without TLS, if the user says so: such a storage is often in the same
/// cluster, and a signature holds for one file and some minutes.
fn endpoint(surroundings: &Surroundings<'_>) -> Result<Option<Url>, String> {
    let names = ["S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
    let set = names.into_iter().find_map(|name| Some((name, surroundings.get(name)?)));
    let Some((name, text)) = set else { return Ok(None) };
    let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    match Url::parse(&text) {
        Ok(url)
            if matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none() =>
        {
            Ok(Some(url))
        }
        _ => Err(format!("{name} is not the URL of a server")),
    }
}

/// An object that is being fetched.
pub(super) struct Opened<'a> {
    settings: &'a Settings,
    object: &'a S3Object,
    network: &'a Network<'a>,
    now: &'a dyn Fn() -> u64,
    region: String,
    proof: Option<Proof<Keys>>,
    /// Whether an answer has named another region before.
    has_moved: bool,
}

impl Opened<'_> {
    fn signed(&mut self) -> Result<Request, DownloadErrorKind> {
        let url = self.settings.url(self.object, &self.region);
        let request = get(url.map_err(|reason| DownloadErrorKind::Url { reason })?);
        let now = (self.now)();
        let (aws, http) = (&self.settings.aws, Http::new(self.network.transport));
        let region = &self.region;
        let proof = current(&mut self.proof, now, STORE, || {
            let keys = aws.keys(&http, region, now)?;
            let until = keys.until;
            Ok((keys, until))
        })?;
        match proof {
            Proof::None { .. } => Ok(request),
            Proof::Some { value: keys, .. } => {
                let digest = HeaderName::from_static("x-amz-content-sha256");
                let request = request.with_header(digest, HeaderValue::from_static(EMPTY));
                signed(request, keys, "s3", region, now).map_err(|obstacle| match obstacle {
                    Obstacle::Nothing(why) | Obstacle::Failed(why) => {
                        DownloadErrorKind::Identity { why }
                    }
                })
            }
        }
    }
}

impl Origin for Opened<'_> {
    fn request(&mut self, rest: Option<&Rest>) -> Result<Request, DownloadErrorKind> {
        let request = self.signed()?;
        let Some(rest) = rest else { return Ok(request) };
        // These are not signed, and need not be.
        Ok(match (rest.range(), HeaderValue::from_str(&rest.version)) {
            (Some(range), Ok(version)) => {
                request.with_header(RANGE, range).with_header(IF_MATCH, version)
            }
            _ => request,
        })
    }

    /// A bucket that is elsewhere is asked for there, once.
    fn refused(
        &mut self,
        request: &Request,
        _rest: Option<&Rest>,
        response: Response,
    ) -> Result<(), DownloadErrorKind> {
        let region = response.header("x-amz-bucket-region");
        let elsewhere =
            region.filter(|region| *region != self.region && domain_of(region).is_some());
        if let Some(region) = elsewhere.filter(|_| !self.has_moved) {
            region.clone_into(&mut self.region);
            self.has_moved = true;
            return Ok(());
        }
        let who = self.settings.aws.who();
        let asker = match &self.proof {
            Some(Proof::Some { .. }) => Ok(who.as_str()),
            Some(Proof::None { why }) => Err(why.as_str()),
            None => Err("nothing was sent"),
        };
        Err(DownloadErrorKind::Refused(Box::new(Refusal::read(STORE, request, response, asker))))
    }
}
