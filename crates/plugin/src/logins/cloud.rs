//! What the clouds' own steps know of logins.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Cloud, Entries, Logins, Text};
use crate::settings::{PluginError, Settings};

/// The key of Google's service account, where the original puts it.
const GOOGLE_KEY: &str = "/kaniko/config.json";
const AWS_CONFIG: &str = "/kaniko/.aws/config";
const AWS_TOKEN: &str = "/kaniko/.aws/token";
/// The certificate of an application of Azure's, where the original puts it.
const AZURE_CERTIFICATE: &str = "/kaniko/acr-cert.pem";

impl Settings {
    /// Whether there is a key.
    pub(super) fn google(&self, cloud: &mut Cloud) -> bool {
        let key = self.text("json-key");
        if key.is_empty() {
            return false;
        }
        cloud.files.insert(GOOGLE_KEY, Text::new(key));
        cloud.variables.insert("GOOGLE_APPLICATION_CREDENTIALS", Text::new(GOOGLE_KEY));
        true
    }

    pub(super) fn amazon(
        &self,
        entries: &mut Entries,
        cloud: &mut Cloud,
    ) -> Result<(), PluginError> {
        let registry = self.text("registry");
        let (id, secret) = (self.text("access-key"), self.text("secret-key"));
        let (role, token) = (self.text("assume-role"), self.text("oidc-token-id"));
        let mut set = |name, value: &str| drop(cloud.variables.insert(name, Text::new(value)));
        set("AWS_REGION", self.text("region"));
        let mut uses_helpers = true;
        if !role.is_empty() && !token.is_empty() {
            set("AWS_ROLE_ARN", role);
            set("AWS_ROLE_SESSION_NAME", "kaniko-ecr-oidc");
            set("AWS_WEB_IDENTITY_TOKEN_FILE", AWS_TOKEN);
            cloud.files.insert(AWS_TOKEN, Text::new(token));
        } else if !role.is_empty() {
            // Line ends would begin another setting.
            let external = self.text("external-id");
            if [role, external].iter().any(|text| text.contains(['\n', '\r'])) {
                return Err(PluginError::new("the role and the external id must each be one line"));
            }
            let source = if id.is_empty() && self.variable("AWS_ACCESS_KEY_ID").is_none() {
                if self.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI").is_some()
                    || self.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").is_some()
                {
                    "EcsContainer"
                } else {
                    "Ec2InstanceMetadata"
                }
            } else {
                "Environment"
            };
            let mut profile =
                format!("[profile ebiko-role]\nrole_arn = {role}\ncredential_source = {source}\n");
            if !external.is_empty() {
                let _written = writeln!(profile, "external_id = {external}");
            }
            set("AWS_CONFIG_FILE", AWS_CONFIG);
            set("AWS_PROFILE", "ebiko-role");
            cloud.files.insert(AWS_CONFIG, Text::new(profile));
            uses_helpers = false;
        } else if !self.has_no_push() || !id.is_empty() {
            if registry.is_empty() {
                return Err(PluginError::new("registry must be specified"));
            }
            if !id.is_empty() && !secret.is_empty() {
                set("AWS_ACCESS_KEY_ID", id);
                set("AWS_SECRET_ACCESS_KEY", secret);
            }
        } else {
            uses_helpers = false;
        }
        if uses_helpers && self.is_before_helpers() {
            for registry in ["public.ecr.aws", registry] {
                entries.helpers.insert(registry.to_owned(), "ecr-login".to_owned());
            }
        }
        Ok(())
    }

    /// Whether the kaniko that `KANIKO_VERSION` names has no helper for ECR of its own; nobody knows if it names none.
    fn is_before_helpers(&self) -> bool {
        let version = self.variable("KANIKO_VERSION").unwrap_or_default();
        let mut parts = version.strip_prefix('v').unwrap_or(version).split(['.', '-', '+']);
        let mut next = || parts.next().unwrap_or("0").parse::<u32>().ok();
        match (next(), next()) {
            (Some(major), Some(minor)) => (major, minor) < (1, 8),
            _ => true,
        }
    }

    pub(super) fn azure(&self, logins: &mut Logins) -> Result<(), PluginError> {
        if self.text("registry").is_empty() {
            return Err(PluginError::new("registry must be specified"));
        }
        let (tenant, client) = (self.text("tenant-id"), self.text("client-id"));
        let (secret, token) = (self.text("client-secret"), self.text("oidc-token-id"));
        let certificate = self.text("client-cert");
        let mut fail = |message: &str| {
            if self.has_no_push() {
                logins.warnings.push(format!("NO_PUSH mode: {message}"));
                return Ok(());
            }
            Err(PluginError::new(message))
        };
        if !token.is_empty() && (tenant.is_empty() || client.is_empty()) {
            return fail("tenantId and clientId must be provided for OIDC authentication");
        }
        if token.is_empty() && !tenant.is_empty() && [client, secret, certificate] == ["", "", ""] {
            return fail("tenantId and clientId must be provided");
        }
        let has_proof = !secret.is_empty() || (token.is_empty() && !certificate.is_empty());
        if has_proof && tenant.is_empty() {
            return fail("tenantId can't be empty for AAD authentication");
        }
        if has_proof && client.is_empty() {
            return fail("clientId can't be empty for AAD authentication");
        }
        // A secret goes before a certificate, as in Azure's SDK.
        let certificate = if token.is_empty() && secret.is_empty() && !certificate.is_empty() {
            match pem(certificate) {
                Ok(text) => Some(text),
                Err(why) => return fail(why),
            }
        } else {
            None
        };
        if let Some(text) = certificate {
            logins.cloud.files.insert(AZURE_CERTIFICATE, text);
            let path = Text::new(AZURE_CERTIFICATE);
            logins.cloud.variables.insert("AZURE_CLIENT_CERTIFICATE_PATH", path);
        }
        for (name, value) in [
            ("AZURE_TENANT_ID", tenant),
            ("AZURE_CLIENT_ID", client),
            ("AZURE_CLIENT_SECRET", if token.is_empty() { secret } else { "" }),
            ("AZURE_FEDERATED_TOKEN", token),
            ("AZURE_AUTHORITY_HOST", self.text("azure-authority-host")),
        ] {
            if !value.is_empty() {
                logins.cloud.variables.insert(name, Text::new(value));
            }
        }
        Ok(())
    }
}

/// The certificate in base64, which must be in PEM format beneath that.
fn pem(certificate: &str) -> Result<Text, &'static str> {
    let line: String = certificate.split_whitespace().collect();
    let decoded = STANDARD.decode(line);
    let decoded = decoded.map_err(|_| "failed to base64 decode ACR certificate")?;
    String::from_utf8(decoded).map(Text::new).map_err(|_| {
        "the client certificate is not in PEM format; of PKCS #12 (`.pfx`, `.p12`) `openssl pkcs12 -nodes` makes it"
    })
}

#[cfg(test)]
mod tests {
    use crate::name::Name;
    use crate::plan::tests::{Place, settings};

    fn config(name: Name, variables: &[(&str, &str)]) -> String {
        match settings(name, variables, &Place::default()).logins() {
            Ok(logins) => logins.config.map_or("none".into(), |text| text.expose().to_owned()),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn clouds_have_their_own_settings() {
        let cloud = |name, variables: &[(&str, &str)]| {
            let cloud = settings(name, variables, &Place::default()).logins().unwrap().cloud;
            let variables =
                cloud.variables.iter().map(|(name, text)| format!("{name}={}", text.expose()));
            let files = cloud.files.iter().map(|(name, text)| format!("{name}: {}", text.expose()));
            variables.chain(files).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(
            cloud(Name::Gar, &[("PLUGIN_JSON_KEY", "{}")]),
            "GOOGLE_APPLICATION_CREDENTIALS=/kaniko/config.json\n/kaniko/config.json: {}"
        );
        assert_eq!(cloud(Name::Gar, &[]), "");
        let registry = ("PLUGIN_REGISTRY", "1.dkr.ecr.eu-west-1.amazonaws.com");
        assert_eq!(
            cloud(Name::Ecr, &[registry, ("PLUGIN_ACCESS_KEY", "a"), ("PLUGIN_SECRET_KEY", "s")]),
            "AWS_ACCESS_KEY_ID=a\nAWS_REGION=us-east-1\nAWS_SECRET_ACCESS_KEY=s"
        );
        assert_eq!(
            cloud(
                Name::Ecr,
                &[registry, ("PLUGIN_ASSUME_ROLE", "arn:x"), ("PLUGIN_EXTERNAL_ID", "e")]
            ),
            "AWS_CONFIG_FILE=/kaniko/.aws/config\nAWS_PROFILE=ebiko-role\nAWS_REGION=us-east-1\n/kaniko/.aws/config: \
             [profile ebiko-role]\nrole_arn = arn:x\ncredential_source = Ec2InstanceMetadata\nexternal_id = e\n"
        );
        assert_eq!(
            cloud(
                Name::Acr,
                &[
                    ("PLUGIN_REGISTRY", "x.azurecr.io"),
                    ("TENANT_ID", "t"),
                    ("CLIENT_ID", "c"),
                    ("PLUGIN_OIDC_TOKEN_ID", "o")
                ]
            ),
            "AZURE_CLIENT_ID=c\nAZURE_FEDERATED_TOKEN=o\nAZURE_TENANT_ID=t"
        );
        let application =
            [("PLUGIN_REGISTRY", "x.azurecr.io"), ("TENANT_ID", "t"), ("CLIENT_ID", "c")];
        // `pem`, with a line end as `base64` writes them.
        let certificate = [("PLUGIN_CLIENT_CERTIFICATE", "cG\nVt\n")];
        assert_eq!(
            cloud(Name::Acr, &[&application[..], &certificate].concat()),
            "AZURE_CLIENT_CERTIFICATE_PATH=/kaniko/acr-cert.pem\nAZURE_CLIENT_ID=c\nAZURE_TENANT_ID=t\n/kaniko/acr-cert.pem: pem"
        );
        assert_eq!(
            cloud(Name::Acr, &[&application[..], &certificate, &[("CLIENT_SECRET", "s")]].concat()),
            "AZURE_CLIENT_ID=c\nAZURE_CLIENT_SECRET=s\nAZURE_TENANT_ID=t"
        );
    }

    #[test]
    fn helpers_are_written_for_a_kaniko_that_has_none() {
        let registry = ("PLUGIN_REGISTRY", "r");
        let helpers =
            "{\"auths\":{},\"credHelpers\":{\"public.ecr.aws\":\"ecr-login\",\"r\":\"ecr-login\"}}";
        for (version, expected) in [
            ("", helpers),
            ("1.7.9", helpers),
            ("1.8.0", "{\"auths\":{}}"),
            ("v1.25.15", "{\"auths\":{}}"),
        ] {
            assert_eq!(
                config(Name::Ecr, &[registry, ("KANIKO_VERSION", version)]),
                expected,
                "{version}"
            );
        }
        assert_eq!(config(Name::Ecr, &[]), "error: registry must be specified");
    }

    #[test]
    fn an_application_of_azure_must_be_whole() {
        let registry = ("PLUGIN_REGISTRY", "x.azurecr.io");
        for (variables, expected) in [
            (&[][..], "error: registry must be specified"),
            (&[registry, ("TENANT_ID", "t")], "error: tenantId and clientId must be provided"),
            (
                &[registry, ("CLIENT_SECRET", "s")],
                "error: tenantId can't be empty for AAD authentication",
            ),
            (
                &[registry, ("PLUGIN_OIDC_TOKEN_ID", "o")],
                "error: tenantId and clientId must be provided for OIDC authentication",
            ),
            (&[registry, ("TENANT_ID", "t"), ("PLUGIN_NO_PUSH", "true")], "none"),
            (
                &[registry, ("CLIENT_CERTIFICATE", "AAAA"), ("CLIENT_ID", "c")],
                "error: tenantId can't be empty for AAD authentication",
            ),
            (
                &[registry, ("CLIENT_CERTIFICATE", "!"), ("CLIENT_ID", "c"), ("TENANT_ID", "t")],
                "error: failed to base64 decode ACR certificate",
            ),
            (
                &[registry, ("CLIENT_CERTIFICATE", "MIL/"), ("CLIENT_ID", "c"), ("TENANT_ID", "t")],
                "error: the client certificate is not in PEM format; of PKCS #12 (`.pfx`, `.p12`) `openssl pkcs12 -nodes` makes it",
            ),
        ] {
            assert_eq!(config(Name::Acr, variables), expected);
        }
    }
}
