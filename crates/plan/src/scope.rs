//! The variables that an instruction sees.

use std::collections::{BTreeMap, BTreeSet};

use ebiko_oci::Platform;

use crate::expand::Variables;
use crate::{BuildOptions, platform};

/// Variables in the order in which they were last set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scope {
    values: BTreeMap<String, (usize, String)>,
    changes: usize,
    size: usize,
}

impl Scope {
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        self.changes += 1;
        self.size += name.len() + value.len();
        if let Some((_, old)) = self.values.insert(name.to_owned(), (self.changes, value)) {
            self.size -= name.len() + old.len();
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Some((_, old)) = self.values.remove(name) {
            self.size -= name.len() + old.len();
        }
    }

    /// Sets every `NAME=value` of an image config.
    pub(crate) fn set_all(&mut self, entries: &[String]) {
        for entry in entries {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.set(name, value);
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// How many bytes the names and values have.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// What a process is given.
    pub(crate) fn to_env(&self) -> Vec<(String, String)> {
        let mut entries: Vec<_> = self.values.iter().collect();
        entries.sort_by_key(|(_, (change, _))| *change);
        entries.into_iter().map(|(name, (_, value))| (name.clone(), value.clone())).collect()
    }
}

impl Variables for Scope {
    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(_, value)| value.as_str())
    }
}

/// The values given with `--build-arg`; of two for one name the later counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct BuildArgs(BTreeMap<String, String>);

impl BuildArgs {
    pub(crate) fn new(options: &BuildOptions) -> Self {
        let given = options.build_args.iter();
        Self(given.filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The proxy variables that processes get, and nothing else does: not `$name`, not the history.
    ///
    /// Each is set in both cases. Of two that differ in case only, the lower one counts.
    pub(crate) fn proxies(&self) -> Vec<(String, String)> {
        let value_of = |wanted: &str| {
            let mut matching = self.0.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            matching.next_back().map(|(_, value)| value).filter(|value| !value.is_empty())
        };
        PROXIES
            .iter()
            .filter_map(|name| Some((name, value_of(name)?)))
            .flat_map(|(name, value)| {
                [(name.to_ascii_uppercase(), value.clone()), ((*name).to_owned(), value.clone())]
            })
            .collect()
    }

    /// Names that nothing asked for.
    pub(crate) fn unused(&self, declared: &BTreeSet<String>) -> Vec<&str> {
        let is_predefined = |name: &str| {
            name.starts_with("BUILDKIT_")
                || name == "SOURCE_DATE_EPOCH"
                || PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
                || platform_args(None, None).any(|(known, _)| known == name)
        };
        let names = self.0.keys().map(String::as_str);
        names.filter(|name| !declared.contains(*name) && !is_predefined(name)).collect()
    }
}

const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// What is defined before the first line: platforms and the name of the target.
pub(crate) fn predefined(options: &BuildOptions, args: &BuildArgs, target_name: &str) -> Scope {
    let mut scope = Scope::default();
    let target = ("TARGETSTAGE", target_name.to_owned());
    let all = platform_args(Some(&options.build_platform), Some(&options.platform));
    for (name, value) in all.chain([target]) {
        scope.set(name, args.get(name).map_or(value, ToOwned::to_owned));
    }
    scope
}

fn platform_args(
    build: Option<&Platform>,
    target: Option<&Platform>,
) -> impl Iterator<Item = (&'static str, String)> {
    const BUILD: [&str; 5] =
        ["BUILDPLATFORM", "BUILDOS", "BUILDOSVERSION", "BUILDARCH", "BUILDVARIANT"];
    const TARGET: [&str; 5] =
        ["TARGETPLATFORM", "TARGETOS", "TARGETOSVERSION", "TARGETARCH", "TARGETVARIANT"];
    std::iter::zip(BUILD, platform_values(build))
        .chain(std::iter::zip(TARGET, platform_values(target)))
}

fn platform_values(platform: Option<&Platform>) -> [String; 5] {
    let Some(platform) = platform else { return Default::default() };
    [
        platform::in_full(platform),
        platform.os.clone(),
        platform.os_version.clone().unwrap_or_default(),
        platform.architecture.clone(),
        platform.variant.clone().unwrap_or_default(),
    ]
}
