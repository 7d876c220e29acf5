//! Azure: a token of its directory, for an application, a pod that the directory trusts, or a managed identity.

use std::path::Path;

use ebiko_transport::Url;
use ebiko_transport::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use crate::certificate::Certificate;
use crate::http::{Http, end, form, get, metadata_url, service_url, with_secret_header};
use crate::obstacle::{Obstacle, Outcome, failed};
use crate::secret::Secret;
use crate::surroundings::Surroundings;
use crate::token::Token;

/// Where a virtual machine and a pod ask for the token of their managed identity.
const INSTANCE: &str = "http://169.254.169.254/metadata/identity/oauth2/token";

/// Says where the metadata service is, if not in its usual place. The SDKs read it.
const POD_IDENTITY: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";

/// One of the directories, which each of Azure's clouds has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory {
    /// That of most.
    Global,
    /// That of 21Vianet in China.
    China,
    /// That of the former cloud in Germany.
    Germany,
    /// That of the government of the USA.
    UsGovernment,
}

impl Directory {
    fn authority(self) -> &'static str {
        match self {
            Self::Global => "https://login.microsoftonline.com/",
            Self::China => "https://login.chinacloudapi.cn/",
            Self::Germany => "https://login.microsoftonline.de/",
            Self::UsGovernment => "https://login.microsoftonline.us/",
        }
    }
}

/// Who this machine is to Azure.
pub struct Azure {
    source: Result<Source, String>,
    authority: Result<Option<Url>, String>,
    tenant: Option<String>,
}

impl std::fmt::Debug for Azure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Azure").field("who", &self.who()).finish_non_exhaustive()
    }
}

enum Source {
    /// An application with a secret, a certificate or a token of a cluster that the directory trusts.
    Application { tenant: String, client: String, proof: Proof },
    /// The identity of the machine, as App Service and its relatives serve it.
    Service { url: Url, header: Secret, client: Option<String> },
    /// The identity of the machine, as virtual machines and clusters serve it.
    Instance { url: Url, client: Option<String> },
}

enum Proof {
    Secret(Secret),
    Assertion(Secret),
    Certificate(Box<Certificate>),
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    /// A number, or, from the metadata services, a number in quotes.
    expires_in: Option<serde_json::Value>,
}

impl Azure {
    /// Looks where the SDKs look; uses no network.
    pub fn read(surroundings: &Surroundings<'_>) -> Self {
        const AUTHORITY: &str = "AZURE_AUTHORITY_HOST";
        let authority = surroundings.get(AUTHORITY).map(|text| {
            let text = format!("{}/", text.trim_end_matches('/'));
            let text = if text.contains("://") { text } else { format!("https://{text}") };
            service_url(&text, AUTHORITY)
        });
        Self {
            source: source(surroundings),
            authority: authority.transpose(),
            tenant: surroundings.get("AZURE_TENANT_ID").map(str::to_owned),
        }
    }

    /// The directory's tenant, where one is set.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// Who that is, in words that hold no secret.
    pub fn who(&self) -> String {
        match &self.source {
            Ok(Source::Application { client, proof: Proof::Secret(_), .. }) => {
                format!("the application `{client}` (AZURE_CLIENT_SECRET)")
            }
            Ok(Source::Application { client, proof: Proof::Assertion(_), .. }) => {
                format!("the application `{client}` (AZURE_FEDERATED_TOKEN_FILE)")
            }
            Ok(Source::Application { client, proof: Proof::Certificate(_), .. }) => {
                format!("the application `{client}` (AZURE_CLIENT_CERTIFICATE_PATH)")
            }
            Ok(Source::Service { client, .. } | Source::Instance { client, .. }) => match client {
                Some(client) => format!("the managed identity `{client}`"),
                None => "the managed identity of this machine".to_owned(),
            },
            Err(_) => "nobody".to_owned(),
        }
    }

    /// A token for `resource`, such as `https://storage.azure.com/`.
    pub fn token(
        &self,
        http: &Http<'_>,
        directory: Directory,
        resource: &str,
        now: u64,
    ) -> Outcome<Token> {
        let source = self.source.as_ref().map_err(|why| Obstacle::Failed(why.clone()))?;
        let answer: Answer = match source {
            Source::Application { tenant, client, proof } => {
                let scope = format!("{}/.default", resource.trim_end_matches('/'));
                let mut fields = vec![
                    ("grant_type", "client_credentials"),
                    ("client_id", client.as_str()),
                    ("scope", &scope),
                ];
                let url = self.authority(directory)?.join(&format!("{tenant}/oauth2/v2.0/token"));
                let url =
                    url.map_err(|_| Obstacle::Failed("AZURE_TENANT_ID makes no URL".to_owned()))?;
                let assertion;
                match proof {
                    Proof::Secret(secret) => fields.push(("client_secret", secret.reveal())),
                    Proof::Assertion(token) => fields.extend(asserted(token)),
                    Proof::Certificate(certificate) => {
                        assertion =
                            certificate.assertion(client, url.as_str(), now).ok_or_else(|| {
                                Obstacle::Failed("the key of the certificate cannot sign".into())
                            })?;
                        fields.extend(asserted(&assertion));
                    }
                }
                http.json(form(url, &fields), "Azure's directory")?
            }
            Source::Service { url, header, client } => {
                let url = identity_url(url, "2019-08-01", resource, client.as_deref());
                let request = with_secret_header(get(url), "x-identity-header", header.reveal())?;
                http.json(request, "the managed identity endpoint")?
            }
            Source::Instance { url, client } => {
                let url = identity_url(url, "2018-02-01", resource, client.as_deref());
                let request = get(url).with_header(
                    HeaderName::from_static("metadata"),
                    HeaderValue::from_static("true"),
                );
                http.metadata(
                    request,
                    "none of AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH and AZURE_FEDERATED_TOKEN_FILE is set with its \
                     client and tenant, and Azure's instance metadata service",
                )?
            }
        };
        let seconds = answer.expires_in.as_ref().and_then(|value| match value {
            serde_json::Value::String(text) => text.parse().ok(),
            value => value.as_u64(),
        });
        Ok(Token::new(answer.access_token, end(now, seconds)))
    }

    fn authority(&self, directory: Directory) -> Outcome<Url> {
        match &self.authority {
            Ok(Some(url)) => Ok(url.clone()),
            Ok(None) => Url::parse(directory.authority())
                .map_err(|_| Obstacle::Failed("the directory has no URL".into())),
            Err(why) => failed(why.clone()),
        }
    }
}

/// The fields of a token in the place of a secret, RFC 7523.
fn asserted(token: &Secret) -> [(&'static str, &str); 2] {
    [
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", token.reveal()),
    ]
}

fn identity_url(url: &Url, version: &str, resource: &str, client: Option<&str>) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut()
        .append_pair("api-version", version)
        .append_pair("resource", resource)
        .extend_pairs(client.map(|client| ("client_id", client)));
    url
}

fn source(surroundings: &Surroundings<'_>) -> Result<Source, String> {
    let client = surroundings.get("AZURE_CLIENT_ID").map(str::to_owned);
    let tenant = surroundings.get("AZURE_TENANT_ID").map(str::to_owned);
    if let (Some(client), Some(tenant)) = (&client, tenant) {
        let proof = if let Some(secret) = surroundings.get("AZURE_CLIENT_SECRET") {
            Some(Proof::Secret(Secret::new(secret)))
        } else if let Some(token) = surroundings.get("AZURE_FEDERATED_TOKEN") {
            Some(Proof::Assertion(Secret::new(token)))
        } else if let Some(file) = surroundings.get("AZURE_CLIENT_CERTIFICATE_PATH") {
            let text = (surroundings.read)(Path::new(file))
                .map_err(|error| format!("`{file}` cannot be read: {error}"))?;
            let shows_chain = surroundings.is_on("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN");
            let certificate = Certificate::read(&text, shows_chain)
                .map_err(|why| format!("the certificate in `{file}` {why}"))?;
            Some(Proof::Certificate(Box::new(certificate)))
        } else if let Some(file) = surroundings.get("AZURE_FEDERATED_TOKEN_FILE") {
            Some(Proof::Assertion(Secret::new(surroundings.token(file)?)))
        } else {
            None
        };
        if let Some(proof) = proof {
            return Ok(Source::Application { tenant, client: client.clone(), proof });
        }
    }
    let service = surroundings.get("IDENTITY_ENDPOINT").zip(surroundings.get("IDENTITY_HEADER"));
    if let Some((endpoint, header)) = service {
        let url = metadata_url(endpoint, "IDENTITY_ENDPOINT")?;
        return Ok(Source::Service { url, header: Secret::new(header), client });
    }
    let url = match surroundings.get(POD_IDENTITY) {
        Some(host) => metadata_url(host, POD_IDENTITY)?
            .join("/metadata/identity/oauth2/token")
            .map_err(|_| format!("{POD_IDENTITY} is not a URL"))?,
        None => metadata_url(INSTANCE, "the metadata service")?,
    };
    Ok(Source::Instance { url, client })
}
