//! The OCI runtime configuration, as containerd's CRI plugin would generate it.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::bundle::Bundle;
use super::{Bind, Pod, Profile, seccomp};

/// What docker and containerd give to a container that asks for nothing.
pub(super) const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// What a machine's own root has beyond that, as far as programs here could want it.
const MACHINE_CAPABILITIES: [&str; 11] = [
    "CAP_DAC_READ_SEARCH",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_ADMIN",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_ADMIN",
    "CAP_SYS_NICE",
    "CAP_SYS_PTRACE",
    "CAP_SYS_TTY_CONFIG",
    "CAP_LEASE",
    "CAP_SYSLOG",
];

const MASKED_PATHS: [&str; 9] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

const READ_ONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The period against which the kernel measures a processor limit, in microseconds.
const CPU_PERIOD: u32 = 100_000;

pub(super) fn write(pod: &Pod, bundle: &Bundle, args: &[OsString]) -> anyhow::Result<()> {
    let spec = spec(pod, bundle, args)?;
    let path = bundle.file("config.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&spec)?)
        .with_context(|| format!("cannot write `{}`", path.display()))
}

fn spec(pod: &Pod, bundle: &Bundle, args: &[OsString]) -> anyhow::Result<Value> {
    let machine = pod.profile == Profile::Workstation;
    let (uid, gid) = pod.user_and_group();
    let bounding: Vec<&str> = match &pod.capabilities {
        Some(names) => names.iter().map(String::as_str).collect(),
        None => bounding_set(pod.profile),
    };
    // A process that is not root gets nothing of its bounding set by itself.
    let held: &[&str] = if uid == 0 { &bounding } else { &[] };
    let args: Vec<_> = args.iter().map(|word| word.to_string_lossy()).collect();
    let masked: &[&str] = if machine { &[] } else { &MASKED_PATHS };
    let read_only: &[&str] = if machine { &[] } else { &READ_ONLY_PATHS };
    let mut namespaces: Vec<&str> = vec!["ipc", "uts", "mount"];
    if !pod.host_processes {
        namespaces.push("pid");
    }
    let mut linux = json!({
        "cgroupsPath": format!("/{}", bundle.id()),
        "maskedPaths": masked,
        "readonlyPaths": read_only,
        "resources": resources(pod),
    });
    if pod.profile == Profile::UserNamespace {
        let mapping = json!([{"containerID": 0, "hostID": pod.first_id(), "size": 65536}]);
        linux["uidMappings"] = mapping.clone();
        linux["gidMappings"] = mapping;
        namespaces.push("user");
    }
    linux["namespaces"] = namespaces.iter().map(|name| json!({"type": name})).collect();
    if !pod.unconfined && !matches!(pod.profile, Profile::Workstation | Profile::UnconfinedNonRoot)
    {
        linux["seccomp"] = seccomp::runtime_default(held)?;
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "hostname": "pod",
        "root": {"path": bundle.root(), "readonly": pod.read_only_root},
        "mounts": mounts(pod, bundle)?,
        "process": {
            "terminal": false,
            "user": {"uid": uid, "gid": gid},
            "args": args,
            "env": env(pod),
            "cwd": pod.work_dir,
            "noNewPrivileges": pod.no_new_privileges || pod.profile == Profile::Restricted,
            "capabilities": {"bounding": bounding, "effective": held, "permitted": held},
        },
        "linux": linux,
    }))
}

fn bounding_set(profile: Profile) -> Vec<&'static str> {
    match profile {
        Profile::Root | Profile::UserNamespace => DEFAULT_CAPABILITIES.to_vec(),
        Profile::Restricted | Profile::UnconfinedNonRoot => Vec::new(),
        Profile::Workstation => {
            DEFAULT_CAPABILITIES.iter().chain(&MACHINE_CAPABILITIES).copied().collect()
        }
    }
}

fn env(pod: &Pod) -> Vec<String> {
    let mut env = vec![("PATH", PATH)];
    if pod.profile != Profile::Workstation {
        env.extend([
            ("HOSTNAME", "pod"),
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
        ]);
    }
    env.retain(|(key, _)| !pod.env.iter().any(|(own, _)| own == key));
    env.extend(pod.env.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    env.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}

fn resources(pod: &Pod) -> Value {
    let mut resources = json!({"devices": [{"allow": true, "access": "rwm"}]});
    if let Some(limit) = pod.memory {
        resources["memory"] = json!({"limit": limit, "swap": limit});
    }
    if let Some(cpus) = pod.cpus {
        #[expect(clippy::cast_possible_truncation, reason = "a few processors at most")]
        let quota = (cpus * f64::from(CPU_PERIOD)) as i64;
        resources["cpu"] = json!({"period": CPU_PERIOD, "quota": quota});
    }
    resources
}

fn mounts(pod: &Pod, bundle: &Bundle) -> anyhow::Result<Vec<Value>> {
    let file_system = |destination: &str, kind: &str, source: &str, options: &str| {
        let options: Vec<&str> = options.split(',').collect();
        json!({"destination": destination, "type": kind, "source": source, "options": options})
    };
    let user_namespace = pod.profile == Profile::UserNamespace;
    let terminals = "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620";
    let mut mounts = vec![
        file_system("/proc", "proc", "proc", "nosuid,noexec,nodev"),
        file_system("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
        // The group `tty` is not mapped into a user namespace that runc makes.
        file_system(
            "/dev/pts",
            "devpts",
            "devpts",
            &format!("{terminals}{}", if user_namespace { "" } else { ",gid=5" }),
        ),
        file_system("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
        file_system("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k"),
        // A new sysfs belongs to the owner of the network namespace, which stays the machine's.
        if user_namespace {
            file_system("/sys", "none", "/sys", "rbind,nosuid,noexec,nodev,ro")
        } else {
            file_system("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro")
        },
    ];
    if pod.profile != Profile::Workstation {
        // Where a program finds the limits that it has to live with.
        let options = "nosuid,noexec,nodev,relatime,ro";
        mounts.push(file_system("/sys/fs/cgroup", "cgroup", "cgroup", options));
    }
    for name in ["hosts", "hostname", "resolv.conf"] {
        mounts.push(bind(&bundle.file(name), &format!("/etc/{name}"), false));
    }
    if pod.profile != Profile::Workstation {
        mounts.push(bind(&bundle.file("termination-log"), "/dev/termination-log", false));
        let account = "/var/run/secrets/kubernetes.io/serviceaccount";
        mounts.push(bind(&bundle.file("serviceaccount"), account, true));
    }
    for Bind { source, destination, read_only } in &pod.binds {
        let source = source
            .canonicalize()
            .with_context(|| format!("cannot mount `{}`", source.display()))?;
        mounts.push(bind(&source, destination, *read_only));
    }
    Ok(mounts)
}

fn bind(source: &Path, destination: &str, read_only: bool) -> Value {
    let access = if read_only { "ro" } else { "rw" };
    json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind", "rprivate", access]})
}
