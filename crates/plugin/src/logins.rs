//! Who the step is to registries.

mod cloud;

use std::collections::BTreeMap;
use std::fmt;

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
    /// What the user may want to know.
    pub advice: Option<&'static str>,
}

/// Variables and files for the helpers of a cloud. The files are nowhere but here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cloud {
    /// Variables by name.
    pub variables: BTreeMap<&'static str, Text>,
    /// Contents by path.
    pub files: BTreeMap<&'static str, Text>,
}

/// For a step that has no login for base images.
const ADVICE: &str = "base images are pulled without a login, and Docker Hub limits how many of them an address may have; \
                      a connector for base images (PLUGIN_BASE_IMAGE_REGISTRY and its user and password) lifts that";

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
            advice: None,
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
            Name::Gcr | Name::Gar => self.google(&mut logins.cloud),
            Name::Ecr => {
                self.amazon(&mut entries, &mut logins.cloud)?;
                true
            }
            Name::Acr => {
                self.azure(&mut logins)?;
                true
            }
        };
        // Where the original gives it, too; but whoever pushes to Docker Hub is known there.
        let pulls = login_key(self.text("registry")) != HUB && !self.is("push-only");
        logins.advice = (writes && pulls && base.registry.is_empty()).then_some(ADVICE);
        let writes =
            writes && (matches!(self.name, Name::Docker | Name::Ecr) || !base.registry.is_empty());
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
        let amazon = [
            ("PLUGIN_REGISTRY", "r"),
            ("PLUGIN_BASE_IMAGE_REGISTRY", "b.io"),
            ("KANIKO_VERSION", "1.25.15"),
        ];
        assert_eq!(config(Name::Ecr, &amazon), "{\"auths\":{}}");
        let half = [&push[..], &[("PLUGIN_BASE_IMAGE_PASSWORD", "x")]].concat();
        assert_eq!(
            config(Name::Docker, &half),
            "error: failed to create docker config: Username must be specified for registry: b.io"
        );
    }

    #[test]
    fn a_step_without_a_login_for_base_images_is_advised_to_have_one() {
        let login = [("PLUGIN_USERNAME", "u"), ("PLUGIN_PASSWORD", "p")];
        let registry = ("PLUGIN_REGISTRY", "r.io");
        let base = ("PLUGIN_BASE_IMAGE_REGISTRY", "b.io");
        let key = ("PLUGIN_JSON_KEY", "{}");
        for (name, variables, expected) in [
            (Name::Docker, &[&login[..], &[registry]].concat()[..], true),
            // Docker Hub knows who that is.
            (Name::Docker, &login, false),
            (Name::Docker, &[&login[..], &[registry, base]].concat(), false),
            (Name::Docker, &[("PLUGIN_NO_PUSH", "true")], false),
            (Name::Docker, &[("PLUGIN_CONFIG", "{}")], false),
            (Name::Gar, &[registry, key], true),
            (Name::Gar, &[registry], false),
            (Name::Gar, &[registry, key, base], false),
            (Name::Gar, &[registry, key, ("PLUGIN_PUSH_ONLY", "true")], false),
            (Name::Ecr, &[registry], true),
            (Name::Acr, &[registry], true),
        ] {
            let logins = settings(name, variables, &Place::default()).logins().unwrap();
            assert_eq!(logins.advice.is_some(), expected, "{name:?} {variables:?}");
        }
    }

    #[test]
    fn a_connector_for_another_registry_than_the_images_is_told() {
        let login = [("PLUGIN_USERNAME", "u"), ("PLUGIN_PASSWORD", "p")];
        for (registry, repository, expected) in [
            (
                "https://ghcr.io/team",
                "team/app",
                "the login is for ghcr.io, and the image goes to Docker Hub: ",
            ),
            (
                "https://ghcr.io/team",
                "r.io/team/app",
                "the login is for ghcr.io, and the image goes to r.io: ",
            ),
            ("https://ghcr.io/team", "ghcr.io/team/app", ""),
            ("r.io:5000", "r.io:5000/app", ""),
            ("https://index.docker.io/v1/", "team/app", ""),
            ("https://index.docker.io/v2/", "team/app", ""),
        ] {
            let variables =
                [&login[..], &[("PLUGIN_REGISTRY", registry), ("PLUGIN_REPO", repository)]]
                    .concat();
            let logins = settings(Name::Docker, &variables, &Place::default()).logins().unwrap();
            let warning = logins.warnings.first().map_or("", String::as_str);
            assert!(warning.starts_with(expected), "{registry} {repository}: {warning}");
            assert_eq!(
                warning.is_empty(),
                expected.is_empty(),
                "{registry} {repository}: {warning}"
            );
        }
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
}
