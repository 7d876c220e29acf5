//! Azure's registries: a token of the directory, which the registry exchanges for a refresh token of its own.
//!
//! <https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md>

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ebiko_cloud::{
    Azure, Directory, Http, Obstacle, Outcome, Secret, Surroundings, end, failed, form,
};
use ebiko_transport::{Request, Transport, Url};
use serde::Deserialize;

use super::super::Credential;
use super::Lent;

/// The resource that every registry accepts a token for. The usual one, of the resource manager, can be turned off.
const REGISTRIES: &str = "https://containerregistry.azure.net";

/// One of Azure's clouds.
struct Cloud {
    domain: &'static str,
    directory: Directory,
    /// The resource manager.
    resource: &'static str,
    /// What people look at.
    portal: &'static str,
}

const CLOUDS: [Cloud; 4] = [
    Cloud {
        domain: ".azurecr.io",
        directory: Directory::Global,
        resource: "https://management.azure.com/",
        portal: "https://portal.azure.com/",
    },
    Cloud {
        domain: ".azurecr.cn",
        directory: Directory::China,
        resource: "https://management.chinacloudapi.cn/",
        portal: "https://portal.azure.cn/",
    },
    Cloud {
        domain: ".azurecr.de",
        directory: Directory::Germany,
        resource: "https://management.microsoftazure.de/",
        portal: "https://portal.microsoftazure.de/",
    },
    Cloud {
        domain: ".azurecr.us",
        directory: Directory::UsGovernment,
        resource: "https://management.usgovcloudapi.net/",
        portal: "https://portal.azure.us/",
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
    azure: Azure,
    /// Where tokens are exchanged, if not at the registry itself: for tests.
    pub(super) exchange: Option<Url>,
    /// The resource manager, if not the cloud's: for tests.
    pub(super) manager: Option<Url>,
}

#[derive(Deserialize)]
struct Exchanged {
    refresh_token: String,
}

impl Acr {
    pub(super) fn read(surroundings: &Surroundings<'_>) -> Self {
        Self { azure: Azure::read(surroundings), exchange: None, manager: None }
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
        let token = self.azure.token(http, cloud.directory, resource, now)?.secret;
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
        fields.extend(self.azure.tenant().map(|tenant| ("tenant", tenant)));
        let answer: Exchanged = http.json(form(exchange, &fields), EXCHANGE)?;
        let until = expiry(&answer.refresh_token).unwrap_or_else(|| end(now, None));
        let token = Secret::new(answer.refresh_token);
        Ok(Lent { credential: Credential::Identity { token }, until })
    }
}

/// How many pages of resources are read. They are filtered, so that one is usual.
const PAGES: usize = 100;

impl Acr {
    /// The page of Azure's portal about `registry`, which is in `subscription`.
    pub(super) fn portal(
        &self,
        http: &Http<'_>,
        registry: &str,
        subscription: &str,
        now: u64,
    ) -> Outcome<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            #[serde(default)]
            value: Vec<Resource>,
            next_link: Option<String>,
        }
        #[derive(Deserialize)]
        struct Resource {
            id: String,
        }
        let Some(cloud) = cloud(registry) else {
            return failed("it is no registry of Azure's");
        };
        let name = registry.split('.').next().unwrap_or_default();
        let no_url = || Obstacle::Failed("the resource manager has no URL".into());
        let manager = match &self.manager {
            Some(url) => url.clone(),
            None => Url::parse(cloud.resource).map_err(|_| no_url())?,
        };
        let mut url = manager.clone();
        url.path_segments_mut().map_err(|()| no_url())?.clear().extend([
            "subscriptions",
            subscription,
            "resources",
        ]);
        let filter = format!(
            "resourceType eq 'Microsoft.ContainerRegistry/registries' and name eq '{name}'"
        );
        url.query_pairs_mut()
            .append_pair("$filter", &filter)
            .append_pair("api-version", "2021-04-01")
            .append_pair("$select", "id");
        let token = self.azure.token(http, cloud.directory, cloud.resource, now)?.secret;
        for _ in 0..PAGES {
            let request = Request::get(url)
                .with_authorization(&format!("Bearer {}", token.reveal()))
                .map_err(|_| Obstacle::Failed("the token fits no header".into()))?;
            let page: Page = http.json(request, "Azure's resource manager")?;
            if let Some(Resource { id }) = page.value.first() {
                return Ok(page_about(cloud, id));
            }
            let Some(next) = page.next_link.filter(|next| !next.is_empty()) else { break };
            // The token is for nobody else.
            url = match Url::parse(&next) {
                Ok(next) if next.origin() == manager.origin() => next,
                _ => return failed("Azure's resource manager goes on somewhere else"),
            };
        }
        failed(format!("the subscription `{subscription}` has no registry `{name}`"))
    }
}

/// The portal takes the identifier of a resource as one part of its path.
fn page_about(cloud: &Cloud, id: &str) -> String {
    let encoded = Url::parse("x:/").ok().map(|mut url| {
        url.query_pairs_mut().append_key_only(id);
        url.query().unwrap_or_default().to_owned()
    });
    format!(
        "{}#view/Microsoft_Azure_ContainerRegistries/TagMetadataBlade/registryId/{}",
        cloud.portal,
        encoded.unwrap_or_default()
    )
}

/// The page of Azure's portal about `registry`, a registry of `subscription`, with this machine's identity at `now`, in
/// seconds since 1970.
///
/// # Errors
///
/// Says why in one line: it is no registry of Azure's, nobody may ask, or there is no such registry.
pub fn azure_portal(
    transport: &Transport,
    surroundings: &Surroundings<'_>,
    registry: &str,
    subscription: &str,
    now: u64,
) -> Result<String, String> {
    let acr = Acr::read(surroundings);
    acr.portal(&Http::new(transport), registry, subscription, now).map_err(|obstacle| {
        let (Obstacle::Nothing(why) | Obstacle::Failed(why)) = obstacle;
        why
    })
}

/// The beginning of an error of the exchange.
const EXCHANGE: &str = "the registry's token exchange";

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
