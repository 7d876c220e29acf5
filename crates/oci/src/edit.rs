//! Changes of a config that need no files.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Healthcheck, ImageConfig};

/// What one instruction changes in an [`ImageConfig`], with every variable expanded.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigEdit {
    /// Sets variables, in this order.
    Env(Vec<(String, String)>),
    /// Sets labels; of two with one key the later wins.
    Labels(Vec<(String, String)>),
    /// Replaces the command. `ArgsEscaped` is set, as BuildKit does for every CMD.
    Cmd(Vec<String>),
    /// Replaces the entry point.
    Entrypoint {
        /// The new entry point.
        argv: Vec<String>,
        /// Whether a command that was inherited goes away (it does unless this stage has a CMD).
        clear_cmd: bool,
    },
    /// Replaces the user.
    User(String),
    /// Replaces the working directory with this absolute path.
    WorkingDir(String),
    /// Adds ports such as `80/tcp`.
    Expose(Vec<String>),
    /// Adds volumes.
    Volumes(Vec<String>),
    /// Replaces the shell that the shell form of later instructions uses.
    Shell(Vec<String>),
    /// Replaces the signal that stops the container.
    StopSignal(String),
    /// Replaces the health check.
    Healthcheck(Healthcheck),
    /// Adds a trigger for images built on this one.
    OnBuild(String),
    /// Replaces the author of the image.
    Author(String),
}

impl ConfigEdit {
    /// Makes the change.
    pub fn apply(&self, image: &mut ImageConfig) {
        let config = &mut image.config;
        match self {
            Self::Env(variables) => {
                for (name, value) in variables {
                    config.set_env(name, value);
                }
            }
            Self::Labels(labels) => {
                config.labels.get_or_insert_default().extend(labels.iter().cloned());
            }
            Self::Cmd(argv) => {
                config.cmd = not_empty(argv);
                config.args_escaped = true;
            }
            Self::Entrypoint { argv, clear_cmd } => {
                config.entrypoint = not_empty(argv);
                if *clear_cmd {
                    config.cmd = None;
                }
            }
            Self::User(user) => config.user.clone_from(user),
            Self::WorkingDir(path) => config.working_dir.clone_from(path),
            Self::Expose(ports) => add_keys(&mut config.exposed_ports, ports),
            Self::Volumes(paths) => add_keys(&mut config.volumes, paths),
            Self::Shell(argv) => config.shell = Some(argv.clone()),
            Self::StopSignal(signal) => config.stop_signal = Some(signal.clone()),
            Self::Healthcheck(healthcheck) => config.healthcheck = Some(healthcheck.clone()),
            Self::OnBuild(trigger) => config.on_build.push(trigger.clone()),
            Self::Author(author) => image.author = Some(author.clone()),
        }
    }
}

/// `CMD []` and `ENTRYPOINT []` are stored as no value at all.
fn not_empty(argv: &[String]) -> Option<Vec<String>> {
    (!argv.is_empty()).then(|| argv.to_vec())
}

/// Docker stores sets as objects whose values are empty objects.
fn add_keys(set: &mut Option<BTreeMap<String, Value>>, keys: &[String]) {
    let set = set.get_or_insert_default();
    for key in keys {
        set.entry(key.clone()).or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Platform;

    #[track_caller]
    fn check(edits: &[ConfigEdit], expected: &str) {
        let mut image = ImageConfig::scratch(Platform::linux("amd64"));
        image.config.env.clear();
        image.config.working_dir.clear();
        for edit in edits {
            edit.apply(&mut image);
        }
        let bytes = crate::image::canonical_json(&image.config);
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn an_entry_point_can_clear_the_command() {
        let cmd = ConfigEdit::Cmd(words(&["a"]));
        let entrypoint = |clear_cmd| ConfigEdit::Entrypoint { argv: words(&["b"]), clear_cmd };
        check(&[cmd.clone(), entrypoint(true)], r#"{"ArgsEscaped":true,"Entrypoint":["b"]}"#);
        check(&[cmd, entrypoint(false)], r#"{"ArgsEscaped":true,"Cmd":["a"],"Entrypoint":["b"]}"#);
        check(&[ConfigEdit::Cmd(vec![])], r#"{"ArgsEscaped":true}"#);
    }

    #[test]
    fn sets_are_objects_and_grow() {
        check(
            &[
                ConfigEdit::Expose(words(&["80/tcp", "53/udp"])),
                ConfigEdit::Expose(words(&["80/tcp"])),
            ],
            r#"{"ExposedPorts":{"53/udp":{},"80/tcp":{}}}"#,
        );
        check(&[ConfigEdit::Volumes(words(&["/v"]))], r#"{"Volumes":{"/v":{}}}"#);
    }

    #[test]
    fn the_later_label_wins() {
        let label = |value: &str| ConfigEdit::Labels(vec![("k".into(), value.into())]);
        check(&[label("1"), label("2")], r#"{"Labels":{"k":"2"}}"#);
    }
}
