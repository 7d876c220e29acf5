//! Azure's registries: a token of the directory, which the registry exchanges for a refresh token of its own.
//!
//! <https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md>

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ebiko_transport::Url;
use ebiko_transport::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::super::Credential;
use super::http::{Http, end, form, get, metadata_url, service_url, with_secret_header};
use super::{Lent, Obstacle, Outcome, Surroundings, failed};
use crate::secret::Secret;

/// Where a virtual machine and a pod ask for the token of their managed identity.
const INSTANCE: &str = "http://169.254.169.254/metadata/identity/oauth2/token";

/// The resource that every registry accepts a token for. The usual one, of the resource manager, can be turned off.
const REGISTRIES: &str = "https://containerregistry.azure.net";

/// One of Azure's clouds.
struct Cloud {
    domain: &'static str,
    authority: &'static str,
    /// The resource manager.
    resource: &'static str,
}

const CLOUDS: [Cloud; 4] = [
    Cloud {
        domain: ".azurecr.io",
        authority: "https://login.microsoftonline.com/",
        resource: "https://management.azure.com/",
    },
    Cloud {
        domain: ".azurecr.cn",
        authority: "https://login.chinacloudapi.cn/",
        resource: "https://management.chinacloudapi.cn/",
    },
    Cloud {
        domain: ".azurecr.de",
        authority: "https://login.microsoftonline.de/",
        resource: "https://management.microsoftazure.de/",
    },
    Cloud {
        domain: ".azurecr.us",
        authority: "https://login.microsoftonline.us/",
        resource: "https://management.usgovcloudapi.net/",
    },
];

fn cloud(registry: &str) -> Option<&'static Cloud> {
    let is_name = |name: &str| {
        // `name.region.data` is where blobs are; credentials are not for it.
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    CLOUDS.iter().find(|cloud| registry.strip_suffix(cloud.domain).is_some_and(is_name))
}

/// Whether `registry` is Azure's: a name directly below one of its four domains.
///
/// `mcr.microsoft.com` is not: it serves everybody and knows no users.
pub(super) fn is_own(registry: &str) -> bool {
    cloud(registry).is_some()
}

/// Gives credentials for Azure's registries.
pub(super) struct Acr {
    source: Result<Source, String>,
    authority: Result<Option<Url>, String>,
    tenant: Option<String>,
    /// Where tokens are exchanged, if not at the registry itself: for tests.
    pub(super) exchange: Option<Url>,
}

enum Source {
    /// An application with a secret or with a token of a cluster that the directory trusts.
    Application { tenant: String, client: String, proof: Proof },
    /// The identity of the machine, as App Service and its relatives serve it.
    Service { url: Url, header: Secret, client: Option<String> },
    /// The identity of the machine, as virtual machines and clusters serve it.
    Instance { url: Url, client: Option<String> },
}

enum Proof {
    Secret(Secret),
    Assertion(Secret),
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

#[derive(Deserialize)]
struct Exchanged {
    refresh_token: String,
}

impl Acr {
    pub(super) fn read(surroundings: &Surroundings<'_>) -> Self {
        const AUTHORITY: &str = "AZURE_AUTHORITY_HOST";
        let authority = surroundings.get(AUTHORITY).map(|text| {
            let text = format!("{}/", text.trim_end_matches('/'));
            let text = if text.contains("://") { text } else { format!("https://{text}") };
            service_url(&text, AUTHORITY)
        });
        Self {
            source: source(surroundings, INSTANCE),
            authority: authority.transpose(),
            tenant: surroundings.get("AZURE_TENANT_ID").map(str::to_owned),
            exchange: None,
        }
    }

    /// The same with another place for the metadata service.
    #[cfg(test)]
    pub(super) fn read_at(surroundings: &Surroundings<'_>, instance: &str) -> Self {
        Self { source: source(surroundings, instance), ..Self::read(surroundings) }
    }

    pub(super) fn lend(&self, http: &Http<'_>, registry: &str, now: u64) -> Outcome<Lent> {
        let Some(cloud) = cloud(registry) else {
            return failed("it is no registry of Azure's");
        };
        let first = self.lend_for(http, registry, cloud, cloud.resource, now);
        match first {
            // The registry may take no tokens for the resource manager, which cannot be seen from outside.
            Err(Obstacle::Failed(why)) if why.starts_with(EXCHANGE) => self
                .lend_for(http, registry, cloud, REGISTRIES, now)
                .map_err(|_| Obstacle::Failed(why)),
            outcome => outcome,
        }
    }

    fn lend_for(
        &self,
        http: &Http<'_>,
        registry: &str,
        cloud: &Cloud,
        resource: &str,
        now: u64,
    ) -> Outcome<Lent> {
        let token = self.token(http, cloud, resource)?;
        let exchange = match &self.exchange {
            Some(url) => url.clone(),
            None => Url::parse(&format!("https://{registry}/oauth2/exchange"))
                .map_err(|_| Obstacle::Failed("its name makes no URL".into()))?,
        };
        let mut fields = vec![
            ("grant_type", "access_token"),
            ("service", registry),
            ("access_token", token.reveal()),
        ];
        fields.extend(self.tenant.as_deref().map(|tenant| ("tenant", tenant)));
        let answer: Exchanged = http.json(form(exchange, &fields), EXCHANGE)?;
        let until = expiry(&answer.refresh_token).unwrap_or_else(|| end(now, None));
        let token = Secret::new(answer.refresh_token);
        Ok(Lent { credential: Credential::Identity { token }, until })
    }

    /// A token of the directory for `resource`.
    fn token(&self, http: &Http<'_>, cloud: &Cloud, resource: &str) -> Outcome<Secret> {
        let source = self.source.as_ref().map_err(|why| Obstacle::Failed(why.clone()))?;
        let token: Token = match source {
            Source::Application { tenant, client, proof } => {
                let scope = format!("{}/.default", resource.trim_end_matches('/'));
                let mut fields = vec![
                    ("grant_type", "client_credentials"),
                    ("client_id", client.as_str()),
                    ("scope", &scope),
                ];
                match proof {
                    Proof::Secret(secret) => fields.push(("client_secret", secret.reveal())),
                    Proof::Assertion(token) => fields.extend([
                        (
                            "client_assertion_type",
                            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                        ),
                        ("client_assertion", token.reveal()),
                    ]),
                }
                let url = self.authority(cloud)?.join(&format!("{tenant}/oauth2/v2.0/token"));
                let url =
                    url.map_err(|_| Obstacle::Failed("AZURE_TENANT_ID makes no URL".to_owned()))?;
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
                    "neither AZURE_CLIENT_SECRET nor AZURE_FEDERATED_TOKEN_FILE is set with its client and tenant, and \
                     Azure's instance metadata service",
                )?
            }
        };
        Ok(Secret::new(token.access_token))
    }

    fn authority(&self, cloud: &Cloud) -> Outcome<Url> {
        match &self.authority {
            Ok(Some(url)) => Ok(url.clone()),
            Ok(None) => Url::parse(cloud.authority)
                .map_err(|_| Obstacle::Failed("the directory has no URL".into())),
            Err(why) => failed(why.clone()),
        }
    }
}

/// The beginning of an error of the exchange.
const EXCHANGE: &str = "the registry's token exchange";

fn identity_url(url: &Url, version: &str, resource: &str, client: Option<&str>) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut()
        .append_pair("api-version", version)
        .append_pair("resource", resource)
        .extend_pairs(client.map(|client| ("client_id", client)));
    url
}

fn source(surroundings: &Surroundings<'_>, instance: &str) -> Result<Source, String> {
    let client = surroundings.get("AZURE_CLIENT_ID").map(str::to_owned);
    let tenant = surroundings.get("AZURE_TENANT_ID").map(str::to_owned);
    if let (Some(client), Some(tenant)) = (&client, tenant) {
        let proof = if let Some(secret) = surroundings.get("AZURE_CLIENT_SECRET") {
            Some(Proof::Secret(Secret::new(secret)))
        } else if let Some(token) = surroundings.get("AZURE_FEDERATED_TOKEN") {
            Some(Proof::Assertion(Secret::new(token)))
        } else if let Some(file) = surroundings.get("AZURE_FEDERATED_TOKEN_FILE") {
            Some(Proof::Assertion(Secret::new(surroundings.token(file)?)))
        } else {
            None
        };
        if let Some(proof) = proof {
            return Ok(Source::Application { tenant, client: client.clone(), proof });
        }
    }
    match (surroundings.get("IDENTITY_ENDPOINT"), surroundings.get("IDENTITY_HEADER")) {
        (Some(endpoint), Some(header)) => Ok(Source::Service {
            url: metadata_url(endpoint, "IDENTITY_ENDPOINT")?,
            header: Secret::new(header),
            client,
        }),
        _ => Ok(Source::Instance { url: metadata_url(instance, "the metadata service")?, client }),
    }
}

/// When a token ends, as it says itself. It is not verified: whom it is for will do that.
fn expiry(token: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Claims {
        exp: u64,
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    Some(serde_json::from_slice::<Claims>(&claims).ok()?.exp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_directly_below_azures_domains_are_its_own() {
        for host in ["r.azurecr.io", "my-registry.azurecr.cn", "r.azurecr.de", "R1.azurecr.us"] {
            assert!(is_own(host), "{host}");
        }
        for host in [
            "evil-azurecr.io",
            "evil-azurecr.io.attacker.example",
            "r.azurecr.io.attacker.example",
            "azurecr.io",
            ".azurecr.io",
            "r.eastus.data.azurecr.io",
            "r.azurecr.io:443",
            "r.azurecr.com",
            "mcr.microsoft.com",
        ] {
            assert!(!is_own(host), "{host}");
        }
    }

    #[test]
    fn a_token_says_when_it_ends() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"exp":1700000000}"#);
        assert_eq!(expiry(&format!("x.{claims}.y")), Some(1_700_000_000));
        for token in ["", "x", "x.y.z", "x.e30.z"] {
            assert_eq!(expiry(token), None);
        }
    }
}
