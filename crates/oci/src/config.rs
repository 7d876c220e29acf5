//! The image config: what a runtime reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::manifest::null_is_empty;
use crate::{DiffId, Platform};

/// The `PATH` of an image that sets none, as BuildKit has it.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The config blob of an image.
///
/// Keys that the model does not know are kept in `extra`, here and in [`ContainerConfig`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the OCI image specification's (config.md)")]
pub struct ImageConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(flatten)]
    pub platform: Platform,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub config: ContainerConfig,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub rootfs: RootFs,
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// What a container started from the image inherits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(
    missing_docs,
    reason = "the names are the OCI image specification's (config.md) and Docker's"
)]
pub struct ContainerConfig {
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Value>>,
    /// `NAME=value`, in the order of first definition.
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Value>>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

/// How a runtime finds out whether a container works. Durations are nanoseconds; 0 is "default".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(missing_docs, reason = "the names are Docker's")]
pub struct Healthcheck {
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// The layers of the image, before compression and from the bottom up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the OCI image specification's (config.md)")]
pub struct RootFs {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

/// How one line of the Dockerfile went into the image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are the OCI image specification's (config.md)")]
pub struct History {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

impl ImageConfig {
    /// What `FROM scratch` starts with.
    pub fn scratch(platform: Platform) -> Self {
        let mut config = ContainerConfig { working_dir: "/".into(), ..ContainerConfig::default() };
        config.add_default_path(&platform);
        Self {
            created: None,
            author: None,
            platform,
            config,
            rootfs: RootFs::default(),
            history: Vec::new(),
            extra: BTreeMap::new(),
        }
    }

    /// What a stage inherits from this image: everything except the time it was made and the
    /// ONBUILD triggers, which fire in that stage and nowhere else.
    #[must_use]
    pub fn inherited(&self) -> Self {
        let mut child = self.clone();
        child.created = None;
        child.config.on_build.clear();
        child.config.add_default_path(&self.platform);
        child
    }

    /// Reads a config blob.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The config blob: JSON with sorted keys and no white space.
    pub fn to_bytes(&self) -> Vec<u8> {
        crate::image::canonical_json(self)
    }
}

impl ContainerConfig {
    /// The value of an environment variable. Of two definitions the last counts, as for `execve`.
    pub fn env_value(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    }

    /// Sets a variable; one that exists keeps its place in the list.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let is_it = |old: &String| {
            old.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        match self.env.iter().position(is_it) {
            Some(index) => self.env[index] = entry,
            None => self.env.push(entry),
        }
    }

    /// Windows has a `PATH` of its own.
    fn add_default_path(&mut self, platform: &Platform) {
        if self.env_value("PATH").is_none() && platform.os != "windows" {
            self.set_env("PATH", DEFAULT_PATH);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_survive_and_keys_are_sorted() {
        let json = r#"{"zeta":1,"os":"linux","architecture":"arm64","variant":"v8","config":{"Moby":{"b":1,"a":2},"Cmd":["x"]},"rootfs":{"type":"layers","diff_ids":[]},"history":[{"created_by":"x","later":true}]}"#;
        let expected = r#"{"architecture":"arm64","config":{"Cmd":["x"],"Moby":{"a":2,"b":1}},"history":[{"created_by":"x","later":true}],"os":"linux","rootfs":{"diff_ids":[],"type":"layers"},"variant":"v8","zeta":1}"#;
        let config = ImageConfig::parse(json.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(config.to_bytes()).unwrap(), expected);
    }

    #[test]
    fn what_go_writes_for_nothing_is_read() {
        let json = r#"{"architecture":"amd64","os":"linux","config":{"User":"","Env":null,"Cmd":null,"Labels":null,"OnBuild":null,"Volumes":null,"ArgsEscaped":null},"rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let config = ImageConfig::parse(json.as_bytes()).unwrap();
        assert_eq!(config.config, ContainerConfig::default());
        let without_config = r#"{"architecture":"amd64","os":"linux","config":null,"rootfs":{"type":"layers","diff_ids":null}}"#;
        assert!(ImageConfig::parse(without_config.as_bytes()).is_ok());
    }

    #[test]
    fn a_deep_document_is_refused_and_does_not_overflow_the_stack() {
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(ImageConfig::parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn docker_only_fields_are_kept() {
        let json = r#"{"architecture":"amd64","os":"linux","config":{"ArgsEscaped":true,"Healthcheck":{"Interval":5,"StartInterval":7,"Test":["CMD","x"]},"Hostname":"h","OnBuild":["RUN x"],"Shell":["/bin/bash"],"StopTimeout":3},"rootfs":{"diff_ids":[],"type":"layers"}}"#;
        let config = ImageConfig::parse(json.as_bytes()).unwrap();
        let written = String::from_utf8(config.to_bytes()).unwrap();
        for part in [
            "\"ArgsEscaped\":true",
            "\"StartInterval\":7",
            "\"Hostname\":\"h\"",
            "\"StopTimeout\":3",
            "\"OnBuild\":[\"RUN x\"]",
        ] {
            assert!(written.contains(part), "{part} is missing in {written}");
        }
    }

    #[test]
    fn a_variable_keeps_its_place() {
        let mut config = ContainerConfig::default();
        for (name, value) in [("A", "1"), ("AB", "2"), ("A", "3")] {
            config.set_env(name, value);
        }
        assert_eq!(config.env, ["A=3", "AB=2"]);
        assert_eq!(config.env_value("A"), Some("3"));
        assert_eq!(config.env_value("B"), None);
    }

    #[test]
    fn an_inherited_config_has_no_triggers_and_a_path() {
        let mut base = ImageConfig::scratch(Platform::linux("amd64"));
        base.config.env.clear();
        base.config.on_build.push("RUN x".into());
        base.created = Some("2020-01-01T00:00:00Z".into());
        let child = base.inherited();
        assert!(child.config.on_build.is_empty() && child.created.is_none());
        assert_eq!(child.config.env, [format!("PATH={DEFAULT_PATH}")]);
    }
}
