//! Amazon's registries: a password for twelve hours, from the service that owns the registry.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ebiko_cloud::{Aws, Http, Obstacle, Outcome, Surroundings, end, endpoint, failed, signed};
use ebiko_transport::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use ebiko_transport::{Body, Method, Request, Transport, Url};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::super::Credential;
use super::Lent;

/// The one public registry.
const PUBLIC: &str = "public.ecr.aws";

/// The only region that gives tokens for the public registry.
const PUBLIC_REGION: &str = "us-east-1";

/// The domains of private registries, and the domain of the service there.
const DOMAINS: [(&str, &str); 9] = [
    ("amazonaws.com", "amazonaws.com"),
    ("amazonaws.com.cn", "amazonaws.com.cn"),
    ("amazonaws.eu", "amazonaws.eu"),
    ("on.aws", "amazonaws.com"),
    ("on.amazonwebservices.com.cn", "amazonaws.com.cn"),
    ("c2s.ic.gov", "c2s.ic.gov"),
    ("sc2s.sgov.gov", "sc2s.sgov.gov"),
    ("cloud.adc-e.uk", "cloud.adc-e.uk"),
    ("csp.hci.ic.gov", "csp.hci.ic.gov"),
];

/// Gives credentials for ECR.
pub(super) struct Ecr {
    aws: Aws,
    /// What replaces the services' own URLs.
    private: Result<Option<Url>, String>,
    public: Result<Option<Url>, String>,
}

/// A registry of Amazon's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Host {
    Public,
    Private { region: String, is_fips: bool, domain: &'static str },
}

impl Host {
    /// `<account>.dkr.ecr[-fips].<region>.<domain>` or, where it has IPv6, `<account>.dkr-ecr…`. Whole labels are compared,
    /// so that nobody can dress up a host of theirs as one.
    pub(super) fn parse(registry: &str) -> Option<Self> {
        if registry == PUBLIC {
            return Some(Self::Public);
        }
        let (account, rest) = registry.split_once('.')?;
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let rest = rest.strip_prefix("dkr.").or_else(|| rest.strip_prefix("dkr-"))?;
        let (service, rest) = rest.split_once('.')?;
        let is_fips = match service {
            "ecr" => false,
            "ecr-fips" => true,
            _ => return None,
        };
        let (region, domain) = rest.split_once('.')?;
        let is_region = region.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
            && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let (_, domain) = DOMAINS.into_iter().find(|(own, _)| *own == domain)?;
        (is_account && is_region).then(|| Self::Private { region: region.into(), is_fips, domain })
    }

    fn region(&self) -> &str {
        match self {
            Self::Public => PUBLIC_REGION,
            Self::Private { region, .. } => region,
        }
    }

    fn service(&self) -> String {
        match self {
            Self::Public => format!("https://api.ecr-public.{PUBLIC_REGION}.amazonaws.com/"),
            Self::Private { region, is_fips: false, domain } => {
                format!("https://api.ecr.{region}.{domain}/")
            }
            Self::Private { region, is_fips: true, domain } => {
                format!("https://ecr-fips.{region}.{domain}/")
            }
        }
    }
}

impl Ecr {
    pub(super) fn read(surroundings: &Surroundings<'_>) -> Self {
        Self {
            aws: Aws::read(surroundings),
            private: endpoint(surroundings, "ECR"),
            public: endpoint(surroundings, "ECR_PUBLIC"),
        }
    }

    pub(super) fn lend(&self, http: &Http<'_>, registry: &str, now: u64) -> Outcome<Lent> {
        let operation = "GetAuthorizationToken";
        let (answer, until): (Answer, u64) =
            self.call(http, registry, operation, b"{}".to_vec(), now)?;
        let what = format!("{operation} of ECR");
        let Some(authorization) = answer.authorization_data.into_first() else {
            return failed(format!("{what} answers without a token"));
        };
        let pair = STANDARD
            .decode(&authorization.authorization_token)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((user, password)) = pair.as_deref().and_then(|pair| pair.split_once(':')) else {
            return failed(format!("{what} answers with a token that is no user and password"));
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a cast of a float ends at the limits, and any number is a time"
        )]
        let expiry = authorization.expires_at.map(|seconds| seconds as u64);
        Ok(Lent {
            credential: Credential::of_pair(user.to_owned(), password),
            // The password is good for as long as the keys that it was asked for with.
            until: expiry.unwrap_or_else(|| end(now, None)).min(until),
        })
    }

    /// Calls an operation of the service of `registry`. The answer, and when the keys end that it was called with.
    fn call<T: DeserializeOwned>(
        &self,
        http: &Http<'_>,
        registry: &str,
        operation: &str,
        body: Vec<u8>,
        now: u64,
    ) -> Outcome<(T, u64)> {
        let Some(host) = Host::parse(registry) else {
            return failed("it is no registry of Amazon's");
        };
        let region = host.region();
        let (set, service, interface) = match host {
            Host::Public => (&self.public, "ecr-public", "SpencerFrontendService"),
            Host::Private { .. } => (&self.private, "ecr", "AmazonEC2ContainerRegistry_V20150921"),
        };
        let url = match set {
            Err(why) => return failed(why.clone()),
            Ok(Some(url)) => url.clone(),
            Ok(None) => Url::parse(&host.service())
                .map_err(|_| Obstacle::Failed(format!("`{region}` is not a region")))?,
        };
        let target = HeaderValue::try_from(format!("{interface}.{operation}"))
            .map_err(|_| Obstacle::Failed(format!("`{operation}` is no operation")))?;
        let keys = self.aws.keys(http, region, now)?;
        let request = Request::new(Method::POST, url)
            .with_header(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"))
            .with_header(HeaderName::from_static("x-amz-target"), target)
            .with_body(Body::Bytes(body));
        let request = signed(request, &keys, service, region, now)?;
        Ok((http.json(request, &format!("{operation} of ECR"))?, keys.until))
    }
}

/// What a repository of Amazon's is to be before something is pushed to it.
#[derive(Debug, Clone, Copy)]
pub struct EcrRepository<'r> {
    /// The host of the registry.
    pub registry: &'r str,
    /// The repository, without the registry and without the alias of a public one.
    pub name: &'r str,
    /// Whether it is made if it is not there.
    pub is_made: bool,
    /// The text of its lifecycle policy, which replaces the one that it has.
    pub lifecycle_policy: Option<&'r str>,
    /// The text of its policy, which replaces the one that it has.
    pub policy: Option<&'r str>,
}

/// A repository of Amazon's cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message names every field")]
#[error("cannot prepare the repository `{name}` in `{registry}`: {why}")]
pub struct EcrError {
    pub registry: String,
    pub name: String,
    pub why: String,
}

/// Makes the repository and sets its policies, as far as that is wanted, with the machine's AWS identity at `now`, in seconds
/// since 1970.
///
/// # Errors
///
/// Fails if it is in no registry of Amazon's, if there is no identity, and if the service refuses. What was done until
/// then stays.
pub fn prepare_ecr(
    transport: &Transport,
    surroundings: &Surroundings<'_>,
    repository: &EcrRepository<'_>,
    now: u64,
) -> Result<(), EcrError> {
    let EcrRepository { registry, name, is_made, lifecycle_policy, policy } = *repository;
    let ecr = Ecr::read(surroundings);
    let http = Http::new(transport);
    // Behind the host of a public registry is the alias of its owner.
    let host = registry.split('/').next().unwrap_or_default();
    let call = |operation: &str, field: Option<(&str, &str)>| {
        let mut body = serde_json::json!({ "repositoryName": name });
        if let Some((field, text)) = field {
            body[field] = text.into();
        }
        let body = body.to_string().into_bytes();
        ecr.call::<IgnoredAny>(&http, host, operation, body, now).map(drop).map_err(|obstacle| {
            let (Obstacle::Nothing(why) | Obstacle::Failed(why)) = obstacle;
            EcrError { registry: registry.to_owned(), name: name.to_owned(), why }
        })
    };
    if is_made {
        match call("CreateRepository", None) {
            Err(error) if error.why.contains("RepositoryAlreadyExistsException") => {}
            done => done?,
        }
    }
    if let Some(text) = lifecycle_policy {
        call("PutLifecyclePolicy", Some(("lifecyclePolicyText", text)))?;
    }
    if let Some(text) = policy {
        call("SetRepositoryPolicy", Some(("policyText", text)))?;
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    authorization_data: Data,
}

/// The private service answers a list, the public one an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Data {
    Several(Vec<Authorization>),
    One(Authorization),
}

impl Data {
    fn into_first(self) -> Option<Authorization> {
        match self {
            Self::Several(list) => list.into_iter().next(),
            Self::One(authorization) => Some(authorization),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    authorization_token: String,
    expires_at: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(registry: &str, expected: &str) {
        let actual = Host::parse(registry).map(|host| host.service());
        assert_eq!(actual.as_deref().unwrap_or("-"), expected, "{registry}");
    }

    #[test]
    fn registries_of_all_partitions_are_known_with_their_service() {
        let eu = "https://api.ecr.eu-west-1.amazonaws.com/";
        check("123456789012.dkr.ecr.eu-west-1.amazonaws.com", eu);
        check("123456789012.dkr-ecr.eu-west-1.on.aws", eu);
        check(
            "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com",
            "https://ecr-fips.us-gov-west-1.amazonaws.com/",
        );
        check(
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
            "https://api.ecr.cn-north-1.amazonaws.com.cn/",
        );
        check("public.ecr.aws", "https://api.ecr-public.us-east-1.amazonaws.com/");
    }

    #[test]
    fn hosts_that_look_like_one_are_none() {
        for registry in [
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example",
            "123456789012.dkr.ecr.eu-west-1.evil-amazonaws.com",
            "evil.123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
            "123456789012.dkr.ecr.a/b.amazonaws.com",
            "123456789012.dkr.ecr..amazonaws.com",
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com:443",
            "123456789012.dkr.ecr.amazonaws.com",
            "public.ecr.aws.evil.example",
            "evilpublic.ecr.aws",
            "",
        ] {
            check(registry, "-");
        }
    }
}
