//! Azure's blob storage.
//!
//! <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ebiko_cloud::{Azure, Directory, Http, Secret, Surroundings};
use ebiko_transport::header::{HeaderName, HeaderValue, IF_MATCH, RANGE};
use ebiko_transport::{Request, Response, ShownUrl, Url};
use ring::hmac;

use super::{Proof, Refusal, bearing, current, get, no_header};
use crate::Network;
use crate::download::{DownloadErrorKind, Origin, Rest};
use crate::http_date;

const STORE: &str = "Azure's blob storage";

/// The version of the protocol. Tokens need 2017-11-09 or later.
const VERSION: &str = "2021-12-02";

/// What a token for storages is asked for, in all of the clouds.
const RESOURCE: &str = "https://storage.azure.com/";

/// The clouds, by the domain of their blob storage.
const CLOUDS: [(&str, Directory); 4] = [
    (".blob.core.windows.net", Directory::Global),
    (".blob.core.chinacloudapi.cn", Directory::China),
    (".blob.core.cloudapi.de", Directory::Germany),
    (".blob.core.usgovcloudapi.net", Directory::UsGovernment),
];

/// A blob that is asked for with a signature of ours.
#[derive(Clone, PartialEq, Eq)]
pub struct AzureBlob {
    url: Url,
    account: String,
    directory: Directory,
}

impl fmt::Debug for AzureBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AzureBlob({self})")
    }
}

impl fmt::Display for AzureBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ShownUrl::of(&self.url).fmt(f)
    }
}

impl AzureBlob {
    /// `None` if it is any other URL, or one that is signed already (SAS). A user name in it is somebody else's business.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut url = Url::parse(text).ok().filter(|url| url.scheme() == "https")?;
        let host = url.host_str()?;
        let (account, directory) = CLOUDS
            .iter()
            .find_map(|(domain, directory)| Some((host.strip_suffix(domain)?, *directory)))?;
        let is_account = !account.is_empty()
            && account.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let is_plain = url.username().is_empty() && url.password().is_none();
        let is_signed = url.query_pairs().any(|(name, _)| name == "sig");
        if !is_account || !is_plain || is_signed {
            return None;
        }
        let account = account.to_owned();
        url.set_fragment(None);
        Some(Self { url, account, directory })
    }
}

/// Who we are to it.
pub(super) struct Settings {
    /// kaniko's variable.
    key: Option<Result<hmac::Key, String>>,
    azure: Azure,
}

impl Settings {
    pub(super) fn read(surroundings: &Surroundings<'_>) -> Self {
        const KEY: &str = "AZURE_STORAGE_ACCESS_KEY";
        let key = surroundings.get(KEY).map(|text| {
            let bytes = STANDARD.decode(text.trim());
            bytes
                .map(|bytes| hmac::Key::new(hmac::HMAC_SHA256, &bytes))
                .map_err(|_| format!("{KEY} is not in base64"))
        });
        Self { key, azure: Azure::read(surroundings) }
    }

    pub(super) fn open<'a>(
        &'a self,
        blob: &'a AzureBlob,
        network: &'a Network<'a>,
        now: &'a dyn Fn() -> u64,
    ) -> Opened<'a> {
        Opened { settings: self, blob, network, now, proof: None }
    }
}

/// A blob that is being fetched.
pub(super) struct Opened<'a> {
    settings: &'a Settings,
    blob: &'a AzureBlob,
    network: &'a Network<'a>,
    now: &'a dyn Fn() -> u64,
    proof: Option<Proof<Secret>>,
}

impl Origin for Opened<'_> {
    fn request(&mut self, rest: Option<&Rest>) -> Result<Request, DownloadErrorKind> {
        let now = (self.now)();
        let date = http_date::format(now);
        let date = HeaderValue::from_str(&date).map_err(|_| no_header())?;
        let mut request = get(self.blob.url.clone())
            .with_header(HeaderName::from_static("x-ms-date"), date)
            .with_header(
                HeaderName::from_static("x-ms-version"),
                HeaderValue::from_static(VERSION),
            );
        if let Some((range, version)) =
            rest.and_then(|rest| Some((rest.range()?, HeaderValue::from_str(&rest.version).ok()?)))
        {
            request = request.with_header(RANGE, range).with_header(IF_MATCH, version);
        }
        match &self.settings.key {
            None => {
                let (azure, directory) = (&self.settings.azure, self.blob.directory);
                let http = Http::new(self.network.transport);
                let proof = current(&mut self.proof, now, STORE, || {
                    let token = azure.token(&http, directory, RESOURCE, now)?;
                    Ok((token.secret, token.until))
                })?;
                bearing(request, proof)
            }
            Some(Err(why)) => Err(DownloadErrorKind::Identity { why: why.clone() }),
            Some(Ok(key)) => {
                let text = to_sign(&request, &self.blob.account);
                let signature = STANDARD.encode(hmac::sign(key, text.as_bytes()));
                request
                    .with_authorization(&format!("SharedKey {}:{signature}", self.blob.account))
                    .map_err(|_| no_header())
            }
        }
    }

    fn refused(
        &mut self,
        request: &Request,
        _rest: Option<&Rest>,
        response: Response,
    ) -> Result<(), DownloadErrorKind> {
        let who = match self.settings.key {
            Some(_) => {
                format!("the owner of `{}` (AZURE_STORAGE_ACCESS_KEY)", self.blob.account)
            }
            None => self.settings.azure.who(),
        };
        let asker = match &self.proof {
            Some(Proof::None { why }) => Err(why.as_str()),
            _ => Ok(who.as_str()),
        };
        Err(DownloadErrorKind::Refused(Box::new(Refusal::read(STORE, request, response, asker))))
    }
}

/// What is signed of a request without a body.
fn to_sign(request: &Request, account: &str) -> String {
    let header = |name: &str| {
        request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    let mut text = format!("{}\n", request.method);
    // Content-Encoding to Date: there is no body, and the date has a header of its own.
    text.push_str("\n\n\n\n\n\n");
    for name in ["if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"] {
        text.push_str(header(name));
        text.push('\n');
    }
    let mut own: Vec<_> = request
        .headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-ms-"))
        .map(|(name, value)| format!("{name}:{}\n", value.to_str().unwrap_or_default().trim()))
        .collect();
    own.sort_unstable();
    text.extend(own);
    let _infallible = write!(text, "/{account}{}", request.url.path());
    let mut pairs: Vec<_> = request
        .url
        .query_pairs()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.into_owned()))
        .collect();
    pairs.sort();
    for (name, value) in pairs {
        let _infallible = write!(text, "\n{name}:{value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blobs_that_nobody_has_signed_for_are_signed_for() {
        for text in [
            "https://me.blob.core.windows.net/c/x.tar.gz",
            "https://ME.blob.core.windows.net/c/x",
            "https://me.blob.core.chinacloudapi.cn/c/x",
            "https://me.blob.core.cloudapi.de/c/x",
            "https://me.blob.core.usgovcloudapi.net/c/x",
            "https://me.blob.core.windows.net/c/x?versionid=2&x=sig=1",
        ] {
            assert!(AzureBlob::parse(text).is_some(), "{text}");
        }
        for text in [
            "http://me.blob.core.windows.net/c/x",
            "https://me.blob.core.windows.net.evil.example/c/x",
            "https://evil.example/me.blob.core.windows.net/c/x",
            "https://evil-blob.core.windows.net/c/x",
            "https://.blob.core.windows.net/c/x",
            "https://u:p@me.blob.core.windows.net/c/x",
            "https://me.blob.core.windows.net/c/x?sv=2021&sig=s3cret",
            "s3://me.blob.core.windows.net/c/x",
        ] {
            assert!(AzureBlob::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn the_path_the_query_and_the_conditions_are_signed() {
        let blob = AzureBlob::parse("https://me.blob.core.windows.net/c/a%20b?Snapshot=1&a=x%2By")
            .expect("a blob");
        let request = get(blob.url)
            .with_header(HeaderName::from_static("x-ms-version"), HeaderValue::from_static("v"))
            .with_header(HeaderName::from_static("x-ms-date"), HeaderValue::from_static("d"))
            .with_header(RANGE, HeaderValue::from_static("bytes=7-"))
            .with_header(IF_MATCH, HeaderValue::from_static("\"e\""));
        assert_eq!(
            to_sign(&request, &blob.account),
            "GET\n\n\n\n\n\n\n\n\"e\"\n\n\nbytes=7-\nx-ms-date:d\nx-ms-version:v\n/me/c/a%20b\na:x+y\nsnapshot:1"
        );
    }
}
