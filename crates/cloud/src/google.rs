//! Google: an access token of the application default credentials.
//!
//! These are a file that `GOOGLE_APPLICATION_CREDENTIALS` names, the file that `gcloud` leaves, or the metadata service of
//! the machine or pod. A file may be the key of a service account, the login of a user, or say how a token of somebody
//! else's is exchanged (workload identity federation).

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ebiko_transport::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use ebiko_transport::{Body, Method, Request, Url};
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{Http, end, form, get, metadata_url, service_url};
use crate::jwt;
use crate::obstacle::{Obstacle, Outcome, failed};
use crate::secret::Secret;
use crate::surroundings::Surroundings;
use crate::token::Token;

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
const EXCHANGE_URL: &str = "https://sts.googleapis.com/v1/token";

/// The address and not the name, which a resolver of a company may not know.
const METADATA: &str = "169.254.169.254";

/// Who this machine is to Google.
pub struct Google {
    source: Result<Source, String>,
    /// The file that it comes from.
    file: Option<String>,
}

impl std::fmt::Debug for Google {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Google").field("who", &self.who()).finish_non_exhaustive()
    }
}

enum Source {
    ServiceAccount { email: String, key: Secret, key_id: Option<String>, token_url: Url },
    User { client: String, client_secret: Secret, refresh_token: Secret, token_url: Url },
    Federated(Box<Federated>),
    Metadata { url: Url },
}

/// Somebody else's token, to be exchanged for one of Google's.
struct Federated {
    audience: String,
    kind: String,
    subject: Subject,
    token_url: Url,
    /// Where the token is exchanged for one of a service account.
    impersonation: Option<Url>,
}

/// Where the token comes from.
enum Subject {
    Text(Secret),
    Url { url: Url, headers: Vec<(HeaderName, HeaderValue)>, field: Option<String> },
}

impl Google {
    /// Looks where the SDKs look; uses no network.
    pub fn read(surroundings: &Surroundings<'_>) -> Self {
        let (source, file) = match source(surroundings) {
            Ok((source, file)) => (Ok(source), file),
            Err(why) => (Err(why), None),
        };
        Self { source, file }
    }

    /// Who that is, in words that hold no secret.
    pub fn who(&self) -> String {
        let file = self.file.as_deref().unwrap_or_default();
        match &self.source {
            Ok(Source::ServiceAccount { email, .. }) => format!("the service account `{email}`"),
            Ok(Source::User { .. }) => format!("the user of `{file}`"),
            Ok(Source::Federated(_)) => format!("the external account of `{file}`"),
            Ok(Source::Metadata { .. }) => "the service account of this machine".to_owned(),
            Err(_) => "nobody".to_owned(),
        }
    }

    /// An access token.
    pub fn token(&self, http: &Http<'_>, now: u64) -> Outcome<Token> {
        let source = self.source.as_ref().map_err(|why| Obstacle::Failed(why.clone()))?;
        let service = "Google's token service";
        let answer: Answer = match source {
            Source::ServiceAccount { email, key, key_id, token_url } => {
                let assertion = assertion(email, key, key_id.as_deref(), token_url, now)?;
                let kind = "urn:ietf:params:oauth:grant-type:jwt-bearer";
                let fields = [("grant_type", kind), ("assertion", assertion.reveal())];
                http.json(form(token_url.clone(), &fields), service)?
            }
            Source::User { client, client_secret, refresh_token, token_url } => {
                let fields = [
                    ("grant_type", "refresh_token"),
                    ("client_id", client),
                    ("client_secret", client_secret.reveal()),
                    ("refresh_token", refresh_token.reveal()),
                ];
                http.json(form(token_url.clone(), &fields), service)?
            }
            Source::Federated(federated) => return federated.token(http, now),
            Source::Metadata { url } => {
                let path = "/computeMetadata/v1/instance/service-accounts/default/token";
                let url = url.join(path).map_err(|_| Obstacle::Failed("it has no URL".into()))?;
                let request = get(url).with_header(
                    HeaderName::from_static("metadata-flavor"),
                    HeaderValue::from_static("Google"),
                );
                http.metadata(
                    request,
                    "GOOGLE_APPLICATION_CREDENTIALS is not set, and Google's metadata service",
                )?
            }
        };
        Ok(Token::new(answer.access_token, end(now, answer.expires_in)))
    }
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<u64>,
}

impl Federated {
    fn token(&self, http: &Http<'_>, now: u64) -> Outcome<Token> {
        let subject = match &self.subject {
            Subject::Text(text) => text.clone(),
            Subject::Url { url, headers, field } => {
                let mut request = Request::get(url.clone());
                request.headers.extend(headers.iter().cloned());
                let body = http.bytes(request, "the credential source of the external account")?;
                Secret::new(subject_text(&body, field.as_deref()).map_err(Obstacle::Failed)?)
            }
        };
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("audience", &self.audience),
            ("scope", SCOPE),
            ("subject_token_type", &self.kind),
            ("subject_token", subject.reveal()),
        ];
        let service = "Google's security token service";
        let answer: Answer = http.json(form(self.token_url.clone(), &fields), service)?;
        let Some(url) = &self.impersonation else {
            return Ok(Token::new(answer.access_token, end(now, answer.expires_in)));
        };
        let body = json!({ "scope": [SCOPE], "lifetime": "3600s" }).to_string();
        let request = Request::new(Method::POST, url.clone())
            .with_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .with_header(ACCEPT, HeaderValue::from_static("application/json"))
            .with_body(Body::Bytes(body.into_bytes()))
            .with_authorization(&format!("Bearer {}", answer.access_token))
            .map_err(|_| {
                Obstacle::Failed(format!("{service} answers a token that fits no header"))
            })?;
        let answer: Impersonated = http.json(request, "Google's IAM credentials service")?;
        Ok(Token::new(answer.access_token, end(now, None)))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonated {
    access_token: String,
}

/// The file of application default credentials.
#[derive(Deserialize)]
struct File {
    #[serde(rename = "type")]
    kind: String,
    client_email: Option<String>,
    private_key: Option<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    refresh_token: Option<String>,
    audience: Option<String>,
    subject_token_type: Option<String>,
    token_url: Option<String>,
    service_account_impersonation_url: Option<String>,
    credential_source: Option<FileSource>,
}

#[derive(Deserialize)]
struct FileSource {
    file: Option<String>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    format: Option<FileFormat>,
}

#[derive(Deserialize)]
struct FileFormat {
    #[serde(rename = "type")]
    kind: String,
    subject_token_field_name: Option<String>,
}

fn source(surroundings: &Surroundings<'_>) -> Result<(Source, Option<String>), String> {
    let named = surroundings.get("GOOGLE_APPLICATION_CREDENTIALS");
    let usual = || {
        let directory = match surroundings.get("CLOUDSDK_CONFIG") {
            Some(directory) => directory.to_owned(),
            None => format!("{}/.config/gcloud", surroundings.get("HOME")?),
        };
        let path = format!("{directory}/application_default_credentials.json");
        surroundings.token(&path).ok().map(|text| (path, text))
    };
    let file = match named {
        Some(path) => Some((path.to_owned(), surroundings.token(path)?)),
        None => usual(),
    };
    let Some((path, text)) = file else {
        let host = surroundings.get("GCE_METADATA_HOST").unwrap_or(METADATA);
        return Ok((Source::Metadata { url: metadata_url(host, "GCE_METADATA_HOST")? }, None));
    };
    // The JSON error could quote a key.
    let file: File = serde_json::from_str(&text)
        .map_err(|_| format!("`{path}` is not a file of Google's credentials"))?;
    match from_file(surroundings, file) {
        Ok(source) => Ok((source, Some(path))),
        Err(why) => Err(format!("`{path}` {why}")),
    }
}

fn from_file(surroundings: &Surroundings<'_>, file: File) -> Result<Source, String> {
    fn need<T>(value: Option<T>, name: &str) -> Result<T, String> {
        value.ok_or_else(|| format!("has no `{name}`"))
    }
    let token_url = |text: Option<&str>, usual: &str, name: &str| {
        service_url(text.unwrap_or(usual), &format!("has a `{name}` that"))
    };
    match file.kind.as_str() {
        "service_account" => Ok(Source::ServiceAccount {
            email: need(file.client_email, "client_email")?,
            key: Secret::new(need(file.private_key, "private_key")?),
            key_id: file.private_key_id,
            token_url: token_url(file.token_uri.as_deref(), TOKEN_URL, "token_uri")?,
        }),
        "authorized_user" => Ok(Source::User {
            client: need(file.client_id, "client_id")?,
            client_secret: Secret::new(need(file.client_secret, "client_secret")?),
            refresh_token: Secret::new(need(file.refresh_token, "refresh_token")?),
            token_url: token_url(file.token_uri.as_deref(), TOKEN_URL, "token_uri")?,
        }),
        "external_account" => {
            let url = file.service_account_impersonation_url.as_deref();
            let name = "has a `service_account_impersonation_url` that";
            Ok(Source::Federated(Box::new(Federated {
                audience: need(file.audience, "audience")?,
                kind: need(file.subject_token_type, "subject_token_type")?,
                subject: subject(surroundings, need(file.credential_source, "credential_source")?)?,
                token_url: token_url(file.token_url.as_deref(), EXCHANGE_URL, "token_url")?,
                impersonation: url.map(|url| service_url(url, name)).transpose()?,
            })))
        }
        kind => Err(format!("holds credentials of the kind `{kind}`, which is not supported")),
    }
}

fn subject(surroundings: &Surroundings<'_>, source: FileSource) -> Result<Subject, String> {
    let field = match source.format {
        Some(FileFormat { kind, subject_token_field_name }) if kind == "json" => {
            Some(subject_token_field_name.ok_or("has no `subject_token_field_name`")?)
        }
        _ => None,
    };
    match (source.file, source.url) {
        (Some(file), _) => {
            let text = surroundings.token(&file).map_err(|why| format!("needs a token: {why}"))?;
            let text = subject_text(text.as_bytes(), field.as_deref())?;
            Ok(Subject::Text(Secret::new(text)))
        }
        (None, Some(url)) => {
            let header = |(name, value): (String, String)| {
                let (name, mut value) =
                    (name.parse::<HeaderName>().ok()?, HeaderValue::from_str(&value).ok()?);
                value.set_sensitive(true);
                Some((name, value))
            };
            let headers = source.headers.into_iter().map(header).collect::<Option<_>>();
            Ok(Subject::Url {
                url: metadata_url(&url, "has a credential source that")?,
                headers: headers.ok_or("has a credential source with a wrong header")?,
                field,
            })
        }
        (None, None) => {
            Err("has a credential source that is neither a file nor a URL, which is not supported"
                .into())
        }
    }
}

/// The token in a text: the whole, or a field of JSON.
fn subject_text(body: &[u8], field: Option<&str>) -> Result<String, String> {
    let text = std::str::from_utf8(body).map_err(|_| "needs a token that is no text")?;
    let Some(field) = field else { return Ok(text.trim().to_owned()) };
    let json: Option<Value> = serde_json::from_str(text).ok();
    let token = json.as_ref().and_then(|json| json.get(field)?.as_str());
    token.map(str::to_owned).ok_or_else(|| format!("needs a token, and `{field}` is not one"))
}

/// A token that the service account signs for itself, RFC 7523.
fn assertion(
    email: &str,
    key: &Secret,
    key_id: Option<&str>,
    audience: &Url,
    now: u64,
) -> Outcome<Secret> {
    let Some(pair) = key_pair(key.reveal()) else {
        return failed("the `private_key` of the service account is not an RSA key");
    };
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": key_id });
    let claims = json!({
        "iss": email, "scope": SCOPE, "aud": audience.as_str(), "iat": now, "exp": end(now, None),
    });
    jwt::signed(&pair, &RSA_PKCS1_SHA256, &header, &claims).ok_or_else(|| {
        Obstacle::Failed("the `private_key` of the service account cannot sign".into())
    })
}

/// A key in PEM, PKCS #8 or, as very old ones are, PKCS #1.
fn key_pair(pem: &str) -> Option<RsaKeyPair> {
    let lines = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
    jwt::key_pair(&STANDARD.decode(lines.collect::<String>()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_none_is_refused() {
        for pem in ["", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert!(key_pair(pem).is_none());
        }
    }
}
