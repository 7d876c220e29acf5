//! The seccomp filter of `RuntimeDefault`.

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Value, json};

/// The profile that Debian ships for podman; docker's has the same origin and form.
const PROFILE: &str = "/usr/share/containers/seccomp.json";

/// System calls that containerd does not allow without `CAP_SYS_ADMIN` and podman's profile allows to everyone, because podman
/// itself nests user namespaces.
const NEEDS_SYS_ADMIN: [&str; 27] = [
    "bpf",
    "clone",
    "clone3",
    "fanotify_init",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "perf_event_open",
    "pivot_root",
    "quotactl",
    "quotactl_fd",
    "setdomainname",
    "sethostname",
    "setns",
    "syslog",
    "umount",
    "umount2",
    "unshare",
    "keyctl",
    "add_key",
    "request_key",
];

/// Every `CLONE_NEW*` flag: `clone` is allowed when none is set.
const NAMESPACE_FLAGS: u64 = 0x7E02_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Packaged {
    default_action: String,
    arch_map: Vec<Architecture>,
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: String,
    #[serde(default)]
    args: Option<Value>,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Default, Deserialize)]
struct Condition {
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    caps: Option<Vec<String>>,
}

/// The filter for a container that holds `capabilities`, for the runtime configuration.
///
/// # Errors
///
/// Fails if the packaged profile is missing (Debian: `golang-github-containers-common`) or has changed its form.
pub(super) fn runtime_default(capabilities: &[&str]) -> anyhow::Result<Value> {
    let text = std::fs::read(PROFILE).with_context(|| {
        format!("cannot read `{PROFILE}`; install golang-github-containers-common")
    })?;
    let packaged: Packaged =
        serde_json::from_slice(&text).with_context(|| format!("cannot understand `{PROFILE}`"))?;
    let (own, go_names) = architecture_names()?;
    let family = packaged.arch_map.iter().find(|known| known.architecture == own);
    let mut architectures = vec![own.to_owned()];
    architectures
        .extend(family.and_then(|known| known.sub_architectures.clone()).unwrap_or_default());

    let is_admin = capabilities.contains(&"CAP_SYS_ADMIN");
    let may_chroot = capabilities.contains(&"CAP_SYS_CHROOT");
    let mut rules = Vec::new();
    for rule in packaged.syscalls {
        if !applies(&rule, capabilities, go_names) {
            continue;
        }
        let mut names = rule.names;
        names.retain(|name| is_admin || !NEEDS_SYS_ADMIN.contains(&name.as_str()));
        names.retain(|name| may_chroot || name != "chroot");
        if names.is_empty() {
            continue;
        }
        let mut shown = json!({"names": names, "action": rule.action});
        if let Some(args) = rule.args {
            shown["args"] = args;
        }
        if let Some(errno) = rule.errno_ret {
            shown["errnoRet"] = errno.into();
        }
        rules.push(shown);
    }
    if !is_admin {
        let no_namespace = json!([{"index": 0, "value": NAMESPACE_FLAGS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]);
        rules.push(json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": no_namespace}));
        // Not EPERM: a C library takes ENOSYS as the request to use `clone`, whose flags a filter can see.
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
    }
    Ok(json!({
        "defaultAction": packaged.default_action,
        "defaultErrnoRet": EPERM,
        "architectures": architectures,
        "syscalls": rules,
    }))
}

/// This machine's architecture as libseccomp and as Go name it, with the ones that run beside it.
fn architecture_names() -> anyhow::Result<(&'static str, &'static [&'static str])> {
    Ok(match std::env::consts::ARCH {
        "x86_64" => ("SCMP_ARCH_X86_64", &["amd64", "x86", "x32"]),
        "aarch64" => ("SCMP_ARCH_AARCH64", &["arm64", "arm"]),
        other => bail!("there is no seccomp profile for `{other}` here"),
    })
}

fn applies(rule: &Rule, capabilities: &[&str], architectures: &[&str]) -> bool {
    let names_one =
        |list: &[String], of: &[&str]| list.iter().any(|name| of.contains(&name.as_str()));
    let empty = Condition::default();
    let includes = rule.includes.as_ref().unwrap_or(&empty);
    let excludes = rule.excludes.as_ref().unwrap_or(&empty);
    let wanted_caps = includes.caps.as_deref().unwrap_or_default();
    let wanted_arches = includes.arches.as_deref().unwrap_or_default();
    wanted_caps.iter().all(|name| capabilities.contains(&name.as_str()))
        && (wanted_arches.is_empty() || names_one(wanted_arches, architectures))
        && !names_one(excludes.caps.as_deref().unwrap_or_default(), capabilities)
        && !names_one(excludes.arches.as_deref().unwrap_or_default(), &architectures[..1])
}
