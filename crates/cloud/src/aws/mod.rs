//! AWS credentials, from the places where its SDKs look for them, in their order.
//!
//! Keys in variables; a web identity (IRSA), exchanged at STS; a profile of the shared config; the credentials endpoint of a
//! container (ECS, EKS pod identity); the instance's metadata service, version 2. The first that is set up is the one that
//! is used: a role that may not be assumed is an error and not a reason to be somebody else.

mod shared_config;
mod sigv4;

use ebiko_transport::header::{HOST, HeaderName, HeaderValue};
use ebiko_transport::{Method, Request, Url};
use serde::Deserialize;

use self::shared_config::Profiles;
use self::sigv4::Signer;
use crate::http::{Http, end, form, get, metadata_url, service_url, with_secret_header};
use crate::obstacle::{Obstacle, Outcome, failed, nothing};
use crate::secret::Secret;
use crate::surroundings::Surroundings;

/// Where ECS serves the credentials of a task.
const ECS: &str = "http://169.254.170.2";

/// Addresses at which the SDKs take credentials of a container without TLS, besides this machine's own: ECS, EKS.
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];

const INSTANCE: &str = "http://169.254.169.254";
const INSTANCE_IPV6: &str = "http://[fd00:ec2::254]";

/// The regions of other partitions than the usual one, and the domains of their services.
const PARTITIONS: [(&str, &str); 6] = [
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("us-isof-", "csp.hci.ic.gov"),
];

/// The name of our sessions where nobody has chosen one.
const SESSION: &str = "ebiko";

/// Profiles may name each other in a circle.
const PROFILE_DEPTH: usize = 5;

/// What requests are signed with.
#[derive(Debug)]
pub struct Keys {
    pub(crate) id: String,
    pub(crate) secret: Secret,
    pub(crate) session: Option<Secret>,
    /// When they end, in seconds since 1970.
    pub until: u64,
}

/// Who this machine is to AWS.
pub struct Aws {
    source: Source,
    /// The region that is set.
    region: Option<String>,
    /// What replaces STS' own URL. A wrong one is no matter until STS is asked.
    sts: Result<Option<Url>, String>,
}

enum Source {
    Keys {
        id: String,
        secret: Secret,
        session: Option<Secret>,
    },
    WebIdentity {
        role: String,
        session: String,
        token: Secret,
    },
    /// A role, assumed with what another source gives.
    Role {
        role: String,
        session: String,
        external_id: Option<String>,
        base: Box<Self>,
    },
    Container {
        url: Url,
        token: Option<Secret>,
    },
    Instance {
        url: Url,
    },
    None,
    /// It is set up, and cannot be used.
    Broken {
        why: String,
    },
}

impl Aws {
    /// Looks where the SDKs look; uses no network.
    pub fn read(surroundings: &Surroundings<'_>) -> Self {
        let profiles = profiles(surroundings);
        let profile = surroundings
            .get("AWS_PROFILE")
            .or_else(|| surroundings.get("AWS_DEFAULT_PROFILE"))
            .unwrap_or("default");
        let region = surroundings
            .get("AWS_REGION")
            .or_else(|| surroundings.get("AWS_DEFAULT_REGION"))
            .or_else(|| profiles.get(profile, "region"))
            .map(str::to_owned);
        let sts = endpoint(surroundings, "STS");
        let source = variables(surroundings).unwrap_or_else(|| {
            match profile_source(surroundings, &profiles, profile, PROFILE_DEPTH) {
                Some(source) => source,
                None if !profiles.has(profile) && profile != "default" => {
                    Source::Broken { why: format!("there is no profile `{profile}`") }
                }
                None => container(surroundings).unwrap_or_else(|| instance(surroundings)),
            }
        });
        Self { source, region, sts }
    }

    /// The region that is set.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// Who that is, in words that hold no secret.
    pub fn who(&self) -> String {
        self.source.who()
    }

    /// The keys; `region` is for STS where none is set.
    pub fn keys(&self, http: &Http<'_>, region: &str, now: u64) -> Outcome<Keys> {
        let region = self.region.as_deref().unwrap_or(region);
        self.keys_of(&self.source, http, region, now)
    }

    fn keys_of(&self, source: &Source, http: &Http<'_>, region: &str, now: u64) -> Outcome<Keys> {
        match source {
            Source::Keys { id, secret, session } => Ok(Keys {
                id: id.clone(),
                secret: secret.clone(),
                session: session.clone(),
                until: u64::MAX,
            }),
            Source::WebIdentity { role, session, token } => {
                let fields = [
                    ("Action", "AssumeRoleWithWebIdentity"),
                    ("Version", "2011-06-15"),
                    ("RoleArn", role),
                    ("RoleSessionName", session),
                    ("WebIdentityToken", token.reveal()),
                ];
                assumed(http, form(self.sts(region)?, &fields), now)
            }
            Source::Role { role, session, external_id, base } => {
                let keys = self.keys_of(base, http, region, now)?;
                let mut fields = vec![
                    ("Action", "AssumeRole"),
                    ("Version", "2011-06-15"),
                    ("RoleArn", role),
                    ("RoleSessionName", session),
                ];
                fields.extend(external_id.as_deref().map(|id| ("ExternalId", id)));
                let request = signed(form(self.sts(region)?, &fields), &keys, "sts", region, now)?;
                assumed(http, request, now)
            }
            Source::Container { url, token } => {
                let mut request = get(url.clone());
                if let Some(token) = token {
                    request = with_secret_header(request, "authorization", token.reveal())?;
                }
                let what = "the credentials endpoint of this container";
                let keys: JsonKeys =
                    http.bytes(request, what).and_then(|body| parsed(&body, what))?;
                keys.into_keys(what, now)
            }
            Source::Instance { url } => instance_keys(http, url, now),
            Source::None => nothing(
                "there are no AWS credentials in variables, in a profile or of this container, and the instance metadata \
                 service is turned off (AWS_EC2_METADATA_DISABLED)",
            ),
            Source::Broken { why } => failed(why.clone()),
        }
    }

    fn sts(&self, region: &str) -> Outcome<Url> {
        match &self.sts {
            Ok(Some(url)) => return Ok(url.clone()),
            Ok(None) => {}
            Err(why) => return failed(why.clone()),
        }
        match domain_of(region) {
            Some(domain) => Url::parse(&format!("https://sts.{region}.{domain}/"))
                .map_err(|_| Obstacle::Failed(format!("`{region}` is not a region"))),
            None => failed(format!("`{region}` is not a region")),
        }
    }
}

impl std::fmt::Debug for Aws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Aws");
        shown.field("who", &self.who()).field("region", &self.region).finish_non_exhaustive()
    }
}

impl Source {
    fn who(&self) -> String {
        match self {
            Self::Keys { id, .. } => format!("the owner of the access key `{id}`"),
            Self::WebIdentity { role, .. } => format!("the role `{role}` (a web identity)"),
            Self::Role { role, base, .. } => {
                format!("the role `{role}`, assumed by {}", base.who())
            }
            Self::Container { .. } => "the role of this pod or task".to_owned(),
            Self::Instance { .. } => "the role of this instance".to_owned(),
            Self::None | Self::Broken { .. } => "nobody".to_owned(),
        }
    }
}

/// The domain of the services in a region, which must be one: what a server says must not become a host of somebody
/// else's.
pub fn domain_of(region: &str) -> Option<&'static str> {
    let is_region = region.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && region.len() <= 40
        && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let partition = PARTITIONS.iter().find(|(prefix, _)| region.starts_with(prefix));
    is_region.then(|| partition.map_or("amazonaws.com", |(_, domain)| domain))
}

/// STS answers in XML; all that is wanted are a few texts without markup.
fn assumed(http: &Http<'_>, request: Request, now: u64) -> Outcome<Keys> {
    let what = "the AWS security token service";
    let mut request = request;
    request.headers.insert("accept", HeaderValue::from_static("application/xml"));
    let body = http.bytes(request, what)?;
    let text = String::from_utf8_lossy(&body);
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.trim())
    };
    let (Some(id), Some(secret), Some(session)) =
        (element("AccessKeyId"), element("SecretAccessKey"), element("SessionToken"))
    else {
        return failed(format!("{what} answers without credentials"));
    };
    Ok(Keys {
        id: id.to_owned(),
        secret: Secret::new(secret),
        session: Some(Secret::new(session)),
        until: element("Expiration").and_then(seconds).unwrap_or_else(|| end(now, None)),
    })
}

/// A request with `Authorization`, for the service at its URL.
pub fn signed(
    mut request: Request,
    keys: &Keys,
    service: &str,
    region: &str,
    now: u64,
) -> Outcome<Request> {
    let time = i64::try_from(now)
        .ok()
        .and_then(|now| jiff::Timestamp::from_second(now).ok())
        .map(|now| now.strftime("%Y%m%dT%H%M%SZ").to_string());
    let Some(time) = time else { return failed("the clock of this machine is wrong") };
    let host = request.url.host_str().unwrap_or_default();
    let host = match request.url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let no_header =
        || Obstacle::Failed("the AWS credentials hold a byte that no header may hold".into());
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| no_header());
    request.headers.insert(HOST, value(&host)?);
    request.headers.insert(HeaderName::from_static("x-amz-date"), value(&time)?);
    if let Some(session) = &keys.session {
        request = with_secret_header(request, "x-amz-security-token", session.reveal())?;
    }
    let mut headers: Vec<(&str, &str)> = request
        .headers
        .iter()
        // What somebody in between may change.
        .filter(|(name, _)| !matches!(name.as_str(), "accept" | "accept-encoding"))
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect();
    headers.sort_unstable();
    let body = match &request.body {
        ebiko_transport::Body::Bytes(bytes) => bytes.as_slice(),
        _ => &[],
    };
    let signer = Signer { keys, region, service, time: &time };
    let authorization = signer.authorization(request.method.as_str(), &request.url, &headers, body);
    request.with_authorization(&authorization).map_err(|_| no_header())
}

/// The URL that replaces a service's own, if one is set.
pub fn endpoint(surroundings: &Surroundings<'_>, service: &str) -> Result<Option<Url>, String> {
    let own = format!("AWS_ENDPOINT_URL_{service}");
    let set = surroundings.get(&own).map(|text| (text, own.as_str()));
    set.or_else(|| Some((surroundings.get("AWS_ENDPOINT_URL")?, "AWS_ENDPOINT_URL")))
        .map(|(text, name)| service_url(text, name))
        .transpose()
}

/// RFC 3339 to seconds since 1970.
fn seconds(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_second()).ok()
}

fn profiles(surroundings: &Surroundings<'_>) -> Profiles {
    let mut profiles = Profiles::default();
    let file = |variable: &str, name: &str| {
        let path = match surroundings.get(variable) {
            Some(path) => path.to_owned(),
            None => format!("{}/.aws/{name}", surroundings.get("HOME")?),
        };
        surroundings.token(&path).ok()
    };
    if let Some(text) = file("AWS_CONFIG_FILE", "config") {
        profiles.add_config(&text);
    }
    if let Some(text) = file("AWS_SHARED_CREDENTIALS_FILE", "credentials") {
        profiles.add_credentials(&text);
    }
    profiles
}

/// Keys or a web identity in variables.
fn variables(surroundings: &Surroundings<'_>) -> Option<Source> {
    let id = surroundings.get("AWS_ACCESS_KEY_ID").or_else(|| surroundings.get("AWS_ACCESS_KEY"));
    let secret =
        surroundings.get("AWS_SECRET_ACCESS_KEY").or_else(|| surroundings.get("AWS_SECRET_KEY"));
    if let (Some(id), Some(secret)) = (id, secret) {
        let session = surroundings.get("AWS_SESSION_TOKEN").map(Secret::new);
        return Some(Source::Keys { id: id.into(), secret: Secret::new(secret), session });
    }
    let file = surroundings.get("AWS_WEB_IDENTITY_TOKEN_FILE")?;
    let role = surroundings.get("AWS_ROLE_ARN");
    let session = surroundings.get("AWS_ROLE_SESSION_NAME");
    Some(web_identity(surroundings, file, role, session))
}

fn web_identity(
    surroundings: &Surroundings<'_>,
    file: &str,
    role: Option<&str>,
    session: Option<&str>,
) -> Source {
    let Some(role) = role else {
        return Source::Broken { why: "a web identity token is set, AWS_ROLE_ARN is not".into() };
    };
    match surroundings.token(file) {
        Ok(token) => Source::WebIdentity {
            role: role.into(),
            session: session.unwrap_or(SESSION).into(),
            token: Secret::new(token),
        },
        Err(why) => Source::Broken { why },
    }
}

/// What `profile` says, `None` if it says nothing about credentials.
fn profile_source(
    surroundings: &Surroundings<'_>,
    profiles: &Profiles,
    profile: &str,
    depth: usize,
) -> Option<Source> {
    let get = |key| profiles.get(profile, key);
    let keys = get("aws_access_key_id").zip(get("aws_secret_access_key")).map(|(id, secret)| {
        let session = get("aws_session_token").map(Secret::new);
        Source::Keys { id: id.into(), secret: Secret::new(secret), session }
    });
    let Some(role) = get("role_arn") else {
        let unknown = ["credential_process", "sso_session", "sso_start_url"]
            .into_iter()
            .find(|key| get(key).is_some());
        return keys.or_else(|| {
            let key = unknown?;
            Some(Source::Broken {
                why: format!("the profile `{profile}` has a `{key}`, which is not supported"),
            })
        });
    };
    let session = get("role_session_name");
    if let Some(file) = get("web_identity_token_file") {
        return Some(web_identity(surroundings, file, Some(role), session));
    }
    let broken = |why: &str| Some(Source::Broken { why: format!("the profile `{profile}` {why}") });
    let base = match (get("source_profile"), get("credential_source")) {
        (Some(source), _) if source == profile => keys,
        (Some(_), _) if depth == 0 => return broken("leads to too many others"),
        (Some(source), _) => profile_source(surroundings, profiles, source, depth - 1),
        (None, Some("Environment")) => variables(surroundings),
        (None, Some("EcsContainer")) => container(surroundings),
        (None, Some("Ec2InstanceMetadata")) => Some(instance(surroundings)),
        (None, _) => return broken("has a `role_arn` and nothing to assume the role with"),
    };
    let Some(base) = base else {
        return broken("has a `role_arn`, and its source has no credentials");
    };
    Some(Source::Role {
        role: role.into(),
        session: session.unwrap_or(SESSION).into(),
        external_id: get("external_id").map(str::to_owned),
        base: Box::new(base),
    })
}

/// The endpoint that ECS and EKS name in variables.
fn container(surroundings: &Surroundings<'_>) -> Option<Source> {
    const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
    const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    let url = match (surroundings.get(RELATIVE), surroundings.get(FULL)) {
        (Some(path), _) if path.starts_with('/') => {
            container_url(&format!("{ECS}{path}"), RELATIVE)
        }
        (Some(_), _) => Err(format!("{RELATIVE} does not begin with a slash")),
        (None, Some(text)) => container_url(text, FULL),
        (None, None) => return None,
    };
    let token = match surroundings.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => surroundings.token(file).map(Some),
        None => Ok(surroundings.get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(str::to_owned)),
    };
    Some(match url.and_then(|url| Ok((url, token?))) {
        Ok((url, token)) => Source::Container { url, token: token.map(Secret::new) },
        Err(why) => Source::Broken { why },
    })
}

fn container_url(text: &str, name: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| format!("{name} is not a URL"))?;
    let is_known = url.host_str().is_some_and(|host| CONTAINER_HOSTS.contains(&host));
    if url.scheme() == "http" && is_known {
        return Ok(url);
    }
    service_url(text, name)
}

fn instance(surroundings: &Surroundings<'_>) -> Source {
    const NAME: &str = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
    let is_off = surroundings.get("AWS_EC2_METADATA_DISABLED");
    if is_off.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Source::None;
    }
    let is_ipv6 = surroundings
        .get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")
        .is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6"));
    let usual = if is_ipv6 { INSTANCE_IPV6 } else { INSTANCE };
    match metadata_url(surroundings.get(NAME).unwrap_or(usual), NAME) {
        Ok(url) => Source::Instance { url },
        Err(why) => Source::Broken { why },
    }
}

/// Version 2 of the metadata service: a token first, so that a request which somebody tricks a server into gets nothing.
fn instance_keys(http: &Http<'_>, url: &Url, now: u64) -> Outcome<Keys> {
    let what = "the EC2 instance metadata service";
    let at = |path: &str| {
        url.join(path).map_err(|_| Obstacle::Failed("its roles have no names".to_owned()))
    };
    let text = |body: Vec<u8>| {
        String::from_utf8(body)
            .map(|text| text.trim().to_owned())
            .map_err(|_| Obstacle::Failed(format!("{what} answers something that is no text")))
    };
    let request = Request::new(Method::PUT, at("/latest/api/token")?).with_header(
        HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds"),
        HeaderValue::from_static("300"),
    );
    let token = text(http.metadata_bytes(request, what)?)?;
    let ask = |path: &str| {
        with_secret_header(Request::get(at(path)?), "x-aws-ec2-metadata-token", &token)
    };
    let roles = "/latest/meta-data/iam/security-credentials/";
    let names = text(http.metadata_bytes(ask(roles)?, what)?)?;
    let Some(role) = names.lines().next().filter(|role| !role.is_empty()) else {
        return nothing("this EC2 instance has no role");
    };
    let keys: JsonKeys = http
        .metadata_bytes(ask(&format!("{roles}{role}"))?, what)
        .and_then(|body| parsed(&body, what))?;
    keys.into_keys(what, now)
}

fn parsed(body: &[u8], what: &str) -> Outcome<JsonKeys> {
    serde_json::from_slice(body)
        .map_err(|_| Obstacle::Failed(format!("{what} answers something that is not its JSON")))
}

/// Keys as both metadata services write them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct JsonKeys {
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    token: Option<String>,
    expiration: Option<String>,
}

impl JsonKeys {
    fn into_keys(self, what: &str, now: u64) -> Outcome<Keys> {
        let (Some(id), Some(secret)) = (self.access_key_id, self.secret_access_key) else {
            return failed(format!("{what} answers without credentials"));
        };
        let until = self.expiration.as_deref().and_then(seconds);
        Ok(Keys {
            id,
            secret: Secret::new(secret),
            session: self.token.map(Secret::new),
            until: until.unwrap_or_else(|| end(now, None)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_has_the_domain_of_its_partition_and_is_never_a_piece_of_a_host() {
        for (region, expected) in [
            ("eu-central-1", Some("amazonaws.com")),
            ("cn-north-1", Some("amazonaws.com.cn")),
            ("us-gov-west-1", Some("amazonaws.com")),
            ("", None),
            ("a.evil.example/", None),
            ("evil.example#", None),
            ("-a", None),
        ] {
            assert_eq!(domain_of(region), expected, "{region}");
        }
    }

    #[test]
    fn who_it_is_holds_no_secret() {
        let base =
            Source::Keys { id: "AKIA1".into(), secret: Secret::new("s3cret"), session: None };
        let role = Source::Role {
            role: "arn:aws:iam::1:role/x".into(),
            session: "s".into(),
            external_id: Some("s3cret".into()),
            base: Box::new(base),
        };
        let aws = Aws { source: role, region: None, sts: Ok(None) };
        let expected =
            "the role `arn:aws:iam::1:role/x`, assumed by the owner of the access key `AKIA1`";
        assert_eq!(aws.who(), expected);
        assert!(!format!("{aws:?}").contains("s3cret"));
    }
}
