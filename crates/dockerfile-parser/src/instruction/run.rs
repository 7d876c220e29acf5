//! `RUN`

use super::{command, known_flags};
use crate::ast::{Device, Network, Run, Security};
use crate::csv;
use crate::diagnostic::Diagnostic;
use crate::flags::Takes;
use crate::mount;
use crate::node::{Args, Node};
use crate::source::{Spanned, Word};
use crate::suggest::did_you_mean;

impl Run {
    pub(super) fn parse(node: &Node, problems: &mut Vec<Diagnostic>) -> Option<Self> {
        let known = [
            ("mount", Takes::Texts),
            ("network", Takes::Text),
            ("security", Takes::Text),
            ("device", Takes::Texts),
        ];
        let flags = known_flags(node, &known, problems)?;
        let Args::Command(args) = &node.args else { return None };

        let count = problems.len();
        let mut typed =
            |word: Word, error: String| problems.push(Diagnostic::error(word.span, error));
        let mounts = flags.texts("mount");
        for mount in &mounts {
            if let Err(error) = mount::check_unexpanded(mount) {
                typed(mount.clone(), error);
            }
        }
        let network = flags.text("network").and_then(|word| match network(&word) {
            Ok(network) => Some(Spanned::new(network, word.span)),
            Err(error) => {
                typed(word, error);
                None
            }
        });
        let security = flags.text("security").and_then(|word| match security(&word) {
            Ok(security) => Some(Spanned::new(security, word.span)),
            Err(error) => {
                typed(word, error);
                None
            }
        });
        let mut devices = Vec::new();
        for word in flags.texts("device") {
            match device(&word) {
                Ok(device) => devices.push(Spanned::new(device, word.span)),
                Err(error) => typed(word, error),
            }
        }
        if problems.len() > count {
            return None;
        }
        Some(Self {
            command: command(args),
            heredocs: node.heredocs.clone(),
            mounts,
            network,
            security,
            devices,
        })
    }
}

fn network(value: &str) -> Result<Network, String> {
    match value {
        "default" => Ok(Network::Default),
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        _ => Err(format!(
            "invalid network mode {value:?}{}",
            did_you_mean(value, &["default", "host", "none"])
        )),
    }
}

fn security(value: &str) -> Result<Security, String> {
    match value {
        "sandbox" => Ok(Security::Sandbox),
        "insecure" => Ok(Security::Insecure),
        _ => Err(format!(
            "security {value:?} is not valid{}",
            did_you_mean(value, &["insecure", "sandbox"])
        )),
    }
}

fn device(value: &str) -> Result<Device, String> {
    let mut device = Device::default();
    for field in
        csv::fields(value).map_err(|error| format!("failed to parse csv devices: {error}"))?
    {
        let pair = field.split_once('=').map(|(key, value)| (key.to_lowercase(), value));
        match pair.as_ref().map(|(key, value)| (key.as_str(), *value)) {
            None if field.to_lowercase() == "required" => device.required = true,
            None if !device.name.is_empty() => {
                return Err(format!("invalid field '{field}' must be a key=value pair"));
            }
            Some(("name", _)) if !device.name.is_empty() => {
                return Err(format!("device name already set to {}", device.name));
            }
            Some(("name", name)) => name.clone_into(&mut device.name),
            Some(("required", value)) => {
                let required = csv::boolean(value);
                device.required =
                    required.ok_or_else(|| format!("invalid value for required: {value}"))?;
            }
            // The name itself may hold a `=`.
            Some((key, _)) if !device.name.is_empty() => {
                let guess = did_you_mean(key, &["name", "required"]);
                return Err(format!("unexpected key '{key}' in '{field}'{guess}"));
            }
            None | Some(_) => device.name = field,
        }
    }
    Ok(device)
}
