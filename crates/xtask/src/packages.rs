//! What the tests need from the distribution.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::progress::run;

/// A Debian package and a file by which it is known to be there.
struct Package {
    name: &'static str,
    proof: &'static str,
    use_for: &'static str,
}

const PACKAGES: [Package; 23] = [
    Package { name: "acl", proof: "/usr/bin/setfacl", use_for: "extended attributes in layers" },
    Package {
        name: "apache2-utils",
        proof: "/usr/bin/htpasswd",
        use_for: "a registry with passwords",
    },
    Package { name: "attr", proof: "/usr/bin/setfattr", use_for: "extended attributes in layers" },
    Package { name: "busybox-static", proof: "/bin/busybox", use_for: "a small base image" },
    Package { name: "bzip2", proof: "/bin/bzip2", use_for: "archives for ADD" },
    Package { name: "docker-registry", proof: "/usr/bin/docker-registry", use_for: "registries" },
    Package { name: "git", proof: "/usr/bin/git", use_for: "repositories as contexts" },
    Package {
        name: "golang-github-containers-common",
        proof: "/usr/share/containers/seccomp.json",
        use_for: "the seccomp filter of pods",
    },
    Package { name: "libcap2-bin", proof: "/usr/sbin/setcap", use_for: "file capabilities" },
    Package { name: "mmdebstrap", proof: "/usr/bin/mmdebstrap", use_for: "a Debian base image" },
    Package {
        name: "nginx-light",
        proof: "/usr/sbin/nginx",
        use_for: "what stands before registries",
    },
    Package { name: "npm", proof: "/usr/bin/npm", use_for: "Azurite, a storage for blobs" },
    Package { name: "openssh-client", proof: "/usr/bin/ssh-add", use_for: "agents and their keys" },
    Package { name: "openssh-server", proof: "/usr/sbin/sshd", use_for: "repositories over SSH" },
    Package { name: "openssl", proof: "/usr/bin/openssl", use_for: "certificates and tokens" },
    Package {
        name: "python3-venv",
        proof: "/usr/share/doc/python3-venv",
        use_for: "moto and its like, storages for contexts",
    },
    Package { name: "runc", proof: "/usr/sbin/runc", use_for: "pods" },
    Package { name: "skopeo", proof: "/usr/bin/skopeo", use_for: "reading images back" },
    Package { name: "strace", proof: "/usr/bin/strace", use_for: "seeing what a build opens" },
    Package { name: "uidmap", proof: "/usr/bin/newuidmap", use_for: "builds of a normal user" },
    Package { name: "umoci", proof: "/usr/bin/umoci", use_for: "unpacking images" },
    Package { name: "xz-utils", proof: "/usr/bin/xz", use_for: "archives for ADD" },
    Package { name: "zstd", proof: "/usr/bin/zstd", use_for: "archives for ADD" },
];

impl Package {
    fn is_there(&self) -> bool {
        let proof = Path::new(self.proof);
        // Debian's dynamic `busybox` has the same path, and would not start in an empty root.
        proof.exists()
            && (self.name != "busybox-static" || crate::binary::check_static(proof).is_ok())
    }
}

/// Installs what is missing, as root or with sudo.
pub(crate) fn install() -> anyhow::Result<()> {
    let missing: Vec<&Package> = PACKAGES.iter().filter(|package| !package.is_there()).collect();
    if missing.is_empty() {
        println!("      all {} packages are there", PACKAGES.len());
        return Ok(());
    }
    println!("      missing from this machine:");
    for Package { name, use_for, .. } in &missing {
        println!("        {name:<32} for {use_for}");
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "this is no Debian: install the programs above yourself, or use `cargo xtask test --unprivileged`"
        );
    }
    let Some(prefix) = root_prefix() else {
        bail!(
            "installing takes root; run `sudo apt-get install --no-install-recommends {}`",
            names.join(" ")
        );
    };
    apt_get(prefix, &["update", "-q"])?;
    apt_get(
        prefix,
        &[&["install", "-q", "-y", "--no-install-recommends"], names.as_slice()].concat(),
    )
}

/// What to write before a command so that it runs as root; `None` when nothing helps.
pub(crate) fn root_prefix() -> Option<&'static [&'static str]> {
    if testkit::is_root() {
        return Some(&[]);
    }
    // With somebody at the terminal sudo may ask for the password.
    let sudo: &[&str] = if std::io::stdin().is_terminal() { &["sudo"] } else { &["sudo", "-n"] };
    let (program, options) = sudo.split_first()?;
    let may = Command::new(program).args(options).arg("true").status();
    may.is_ok_and(|status| status.success()).then_some(sudo)
}

fn apt_get(prefix: &[&str], args: &[&str]) -> anyhow::Result<()> {
    // Packages such as docker-registry start a service for the whole machine; the tests start their own instead.
    let env = ["env", "DEBIAN_FRONTEND=noninteractive", "SYSTEMD_OFFLINE=1", "apt-get"];
    let words = [prefix, &env, args].concat();
    match words.split_first() {
        Some((program, rest)) => run(Command::new(program).args(rest)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_sorted_and_their_proofs_differ() {
        let names: Vec<&str> = PACKAGES.iter().map(|package| package.name).collect();
        assert!(names.is_sorted(), "{names:?}");
        let mut proofs: Vec<&str> = PACKAGES.iter().map(|package| package.proof).collect();
        proofs.sort_unstable();
        proofs.dedup();
        assert_eq!(proofs.len(), PACKAGES.len());
    }
}
