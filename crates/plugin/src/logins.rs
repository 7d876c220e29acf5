//! Who the step is to registries.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::name::Name;
use crate::outputs::go_json;
use crate::repository::{HUB, host, login_key, without_scheme};
use crate::settings::{PluginError, Settings};

/// A text that may hold a secret and cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// Takes a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Text(…)")
    }
}

/// What the step knows of logins. Nothing of it is written to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logins {
    /// The text of `config.json`, as the original writes it; `None` if it would write none.
    pub config: Option<Text>,
    /// The same with what the original leaves out although it helps: a login of a path below a registry is also for the rest
    /// of the registry.
    pub effective: Option<Text>,
    /// A config for pulling only, which comes first there: the login for base images.
    pub pull: Option<Text>,
    /// Whether the user wants the config to be a file.
    pub wants_file: bool,
    /// What the clouds' own helpers are to find.
    pub cloud: Cloud,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Variables and files for the helpers of a cloud. The files are nowhere but here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cloud {
    /// Variables by name.
    pub variables: BTreeMap<&'static str, Text>,
    /// Contents by path.
    pub files: BTreeMap<&'static str, Text>,
}

/// The key of Google's service account, where the original puts it.
const GOOGLE_KEY: &str = "/kaniko/config.json";
const AWS_CONFIG: &str = "/kaniko/.aws/config";
const AWS_TOKEN: &str = "/kaniko/.aws/token";

#[derive(Serialize)]
struct Config<'c> {
    auths: &'c BTreeMap<String, Auth>,
    #[serde(rename = "credHelpers", skip_serializing_if = "BTreeMap::is_empty")]
    helpers: &'c BTreeMap<String, String>,
}

#[derive(Serialize, Clone)]
struct Auth {
    auth: String,
}

/// The logins of a config.
#[derive(Default)]
struct Entries {
    auths: BTreeMap<String, Auth>,
    helpers: BTreeMap<String, String>,
}

impl Entries {
    /// Adds a login, unless it is for no registry.
    fn add(&mut self, login: &Login<'_>) -> Result<(), PluginError> {
        if login.registry.is_empty() {
            return Ok(());
        }
        let registry = login_key(login.registry);
        let missing = |what: &str| {
            PluginError::new(format!(
                "failed to create docker config: {what} must be specified for registry: {registry}"
            ))
        };
        if login.user.is_empty() {
            return Err(missing("Username"));
        }
        if login.password.is_empty() {
            return Err(missing("Password"));
        }
        let auth = STANDARD.encode(format!("{}:{}", login.user, login.password));
        self.auths.entry(registry.to_owned()).or_insert(Auth { auth });
        Ok(())
    }

    fn text(&self) -> Result<Text, PluginError> {
        let config = Config { auths: &self.auths, helpers: &self.helpers };
        let text = serde_json::to_string(&config).map_err(|error| {
            PluginError::new(format!("failed to serialize docker config json: {error}"))
        })?;
        Ok(Text(go_json(&text)))
    }

    /// With an entry for the whole registry where there is none but for a path of it: the original's users write an
    /// organisation behind the registry and push beside it.
    fn whole_registries(mut self) -> Self {
        let beneath = |key: &String| {
            let bare = without_scheme(key);
            bare.contains('/') && key != HUB && !bare.starts_with("index.docker.io/")
        };
        let entries: Vec<(String, Auth)> = self
            .auths
            .iter()
            .filter(|(key, _)| beneath(key))
            .map(|(key, auth)| (host(key).to_owned(), auth.clone()))
            .collect();
        for (host, auth) in entries {
            let is_there =
                self.auths.keys().any(|key| without_scheme(key).trim_end_matches('/') == host);
            if !is_there {
                self.auths.insert(host, auth);
            }
        }
        self
    }
}

/// A user and a password for a registry.
struct Login<'l> {
    registry: &'l str,
    user: &'l str,
    password: &'l str,
}

impl Login<'_> {
    /// A connector that names a registry and nobody: nothing is known of it that could be used.
    fn is_anonymous(&self) -> bool {
        self.user.is_empty() && self.password.is_empty()
    }
}

impl Settings {
    /// Who the step is.
    ///
    /// # Errors
    ///
    /// Fails as the original does before it builds: a login without a user or without a password, a cloud's registry that is
    /// not named, or a directory of Azure without an application.
    pub fn logins(&self) -> Result<Logins, PluginError> {
        let mut logins = Logins {
            config: None,
            effective: None,
            pull: None,
            wants_file: false,
            cloud: Cloud::default(),
            warnings: Vec::new(),
        };
        let base = self.base_login();
        let mut entries = Entries::default();
        let writes = match self.name {
            Name::Docker => {
                let config = self.text("dockerconfig");
                if !config.is_empty() {
                    let config = Some(Text::new(config));
                    return Ok(Logins {
                        effective: config.clone(),
                        config,
                        wants_file: true,
                        ..logins
                    });
                }
                self.docker(&mut entries, &mut logins)?
            }
            Name::Gcr | Name::Gar => self.google(&mut logins.cloud) && !base.registry.is_empty(),
            Name::Ecr => {
                self.amazon(&mut entries, &mut logins.cloud)?;
                true
            }
            Name::Acr => {
                self.azure(&mut logins)?;
                !base.registry.is_empty()
            }
        };
        let has_base = !base.registry.is_empty() && !base.is_anonymous();
        if writes && !base.is_anonymous() {
            // Where both are for the same registry, what is pushed decides; pulls have a config of their own.
            entries.add(&base)?;
        }
        if has_base {
            let mut pull = Entries::default();
            pull.add(&base)?;
            logins.pull = Some(pull.whole_registries().text()?);
        }
        if writes {
            logins.config = Some(entries.text()?);
            logins.effective = Some(entries.whole_registries().text()?);
        }
        Ok(logins)
    }

    fn base_login(&self) -> Login<'_> {
        let input = |base, ecr| self.text(if self.name == Name::Ecr { ecr } else { base });
        Login {
            registry: input("base-image-registry", "docker-registry"),
            user: input("base-image-username", "docker-username"),
            password: input("base-image-password", "docker-password"),
        }
    }

    /// Whether there is a config.
    fn docker(&self, entries: &mut Entries, logins: &mut Logins) -> Result<bool, PluginError> {
        let push = Login {
            registry: self.text("registry"),
            user: self.text("username"),
            password: self.text("password"),
        };
        if self.has_no_push() && push.user.is_empty() {
            return Ok(false);
        }
        entries.add(&push)?;
        let repository = host(self.text("repo"));
        let registry = host(push.registry);
        let names_registry = |text: &str| text.contains(['.', ':']) || text == "localhost";
        if !self.is("expand-repo")
            && login_key(push.registry) != HUB
            && !self.text("repo").is_empty()
            && !self.has_no_push()
        {
            let target = if names_registry(repository) { repository } else { "Docker Hub" };
            if target != registry {
                logins.warnings.push(format!(
                    "the login is for {registry}, and the image goes to {target}: the repository must be written with its registry"
                ));
            }
        }
        Ok(true)
    }

    /// Whether there is a key.
    fn google(&self, cloud: &mut Cloud) -> bool {
        let key = self.text("json-key");
        if key.is_empty() {
            return false;
        }
        cloud.files.insert(GOOGLE_KEY, Text::new(key));
        cloud.variables.insert("GOOGLE_APPLICATION_CREDENTIALS", Text::new(GOOGLE_KEY));
        true
    }

    fn amazon(&self, entries: &mut Entries, cloud: &mut Cloud) -> Result<(), PluginError> {
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

    fn azure(&self, logins: &mut Logins) -> Result<(), PluginError> {
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
        if token.is_empty() && secret.is_empty() && !certificate.is_empty() {
            return fail(
                "a client certificate cannot be used yet; use a client secret, an OIDC token or the pod's workload identity",
            );
        }
        if !secret.is_empty() && tenant.is_empty() {
            return fail("tenantId can't be empty for AAD authentication");
        }
        if !secret.is_empty() && client.is_empty() {
            return fail("clientId can't be empty for AAD authentication");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{Place, settings};

    fn config(name: Name, variables: &[(&str, &str)]) -> String {
        match settings(name, variables, &Place::default()).logins() {
            Ok(logins) => logins.config.map_or("none".into(), |text| text.expose().to_owned()),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn a_login_is_written_as_go_writes_it() {
        let of = |user: &str| STANDARD.encode(user);
        for (variables, expected) in [
            (
                &[("PLUGIN_USERNAME", "test"), ("PLUGIN_PASSWORD", "password")][..],
                "{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dGVzdDpwYXNzd29yZA==\"}}}".to_owned(),
            ),
            (
                &[("PLUGIN_USERNAME", "u"), ("PLUGIN_PASSWORD", "p"), ("PLUGIN_REGISTRY", "https://registry.hub.docker.com/v2/")],
                format!("{{\"auths\":{{\"https://index.docker.io/v1/\":{{\"auth\":\"{}\"}}}}}}", of("u:p")),
            ),
            (
                &[("PLUGIN_USERNAME", "u"), ("PLUGIN_PASSWORD", "p"), ("PLUGIN_REGISTRY", "a<b")],
                "{\"auths\":{\"a\\u003cb\":{\"auth\":\"dTpw\"}}}".to_owned(),
            ),
            (&[("PLUGIN_NO_PUSH", "true")], "none".to_owned()),
            (&[("PLUGIN_CONFIG", "{ }"), ("PLUGIN_USERNAME", "u")], "{ }".to_owned()),
            (&[], "error: failed to create docker config: Username must be specified for registry: https://index.docker.io/v1/".to_owned()),
        ] {
            assert_eq!(config(Name::Docker, variables), expected);
        }
    }

    #[test]
    fn an_anonymous_connector_is_no_login_and_half_a_login_is_an_error() {
        let push = [
            ("PLUGIN_USERNAME", "u"),
            ("PLUGIN_PASSWORD", "p"),
            ("PLUGIN_REGISTRY", "r.io"),
            ("PLUGIN_BASE_IMAGE_REGISTRY", "b.io"),
        ];
        assert_eq!(config(Name::Docker, &push), "{\"auths\":{\"r.io\":{\"auth\":\"dTpw\"}}}");
        let half = [&push[..], &[("PLUGIN_BASE_IMAGE_PASSWORD", "x")]].concat();
        assert_eq!(
            config(Name::Docker, &half),
            "error: failed to create docker config: Username must be specified for registry: b.io"
        );
    }

    #[test]
    fn the_login_for_base_images_is_for_pulls_and_never_replaces_that_for_pushes() {
        let variables = [
            ("PLUGIN_USERNAME", "u"),
            ("PLUGIN_PASSWORD", "p"),
            ("PLUGIN_REGISTRY", "https://r.io/ns"),
            ("PLUGIN_BASE_IMAGE_REGISTRY", "https://r.io/ns"),
            ("PLUGIN_BASE_IMAGE_USERNAME", "b"),
            ("PLUGIN_BASE_IMAGE_PASSWORD", "q"),
        ];
        let logins = settings(Name::Docker, &variables, &Place::default()).logins().unwrap();
        let text = |text: &Option<Text>| text.as_ref().unwrap().expose().to_owned();
        assert_eq!(text(&logins.config), "{\"auths\":{\"https://r.io/ns\":{\"auth\":\"dTpw\"}}}");
        assert_eq!(
            text(&logins.effective),
            "{\"auths\":{\"https://r.io/ns\":{\"auth\":\"dTpw\"},\"r.io\":{\"auth\":\"dTpw\"}}}"
        );
        assert_eq!(
            text(&logins.pull),
            "{\"auths\":{\"https://r.io/ns\":{\"auth\":\"Yjpx\"},\"r.io\":{\"auth\":\"Yjpx\"}}}"
        );
        assert!(!format!("{logins:?}").contains("dTpw"));
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
        ] {
            assert_eq!(config(Name::Acr, variables), expected);
        }
    }
}
