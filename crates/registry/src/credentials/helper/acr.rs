//! Azure's registries: a token of the directory, which the registry exchanges for a refresh token of its own.
//!
//! <https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md>

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ebiko_cloud::{
    Azure, Directory, Http, Obstacle, Outcome, Secret, Surroundings, end, failed, form,
};
use ebiko_transport::Url;
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
}

const CLOUDS: [Cloud; 4] = [
    Cloud {
        domain: ".azurecr.io",
        directory: Directory::Global,
        resource: "https://management.azure.com/",
    },
    Cloud {
        domain: ".azurecr.cn",
        directory: Directory::China,
        resource: "https://management.chinacloudapi.cn/",
    },
    Cloud {
        domain: ".azurecr.de",
        directory: Directory::Germany,
        resource: "https://management.microsoftazure.de/",
    },
    Cloud {
        domain: ".azurecr.us",
        directory: Directory::UsGovernment,
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
    azure: Azure,
    /// Where tokens are exchanged, if not at the registry itself: for tests.
    pub(super) exchange: Option<Url>,
}

#[derive(Deserialize)]
struct Exchanged {
    refresh_token: String,
}

impl Acr {
    pub(super) fn read(surroundings: &Surroundings<'_>) -> Self {
        Self { azure: Azure::read(surroundings), exchange: None }
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
