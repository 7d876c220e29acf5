//! Base images: a Debian and a busybox, made on this machine.

mod stand_in;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::Tree;
use crate::cache_dir;
use crate::command::{capture, capture_text};

pub use self::stand_in::stand_ins;

/// An image that a Dockerfile of a test names in `FROM`, kept in [`cache_dir`] as a root directory and an OCI layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseImage {
    name: &'static str,
    dir: PathBuf,
}

impl BaseImage {
    /// What a Dockerfile calls it, such as `debian:bookworm`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Repository and tag in a registry, such as `library/debian:bookworm`: where a mirror of Docker Hub has it.
    pub fn repository(&self) -> String {
        format!("library/{}", self.name)
    }

    /// The root directory. Do not write into it; [`crate::Pod`] does not.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// The OCI layout.
    pub fn layout(&self) -> PathBuf {
        self.dir.join("layout")
    }

    /// The image as skopeo names it.
    pub fn source(&self) -> String {
        format!("oci:{}:image", self.layout().display())
    }

    /// Writes an OCI layout to `layout` that has this image with some members of its config replaced, under the tag `image`.
    ///
    /// A member with a capital letter, such as `Env`, is one of the config's `config`; any other, such as `history`, is one of
    /// the config itself. An image whose `rootfs` is replaced has no layers, because it can only list none.
    ///
    /// # Errors
    ///
    /// Fails if the layout cannot be written.
    pub fn with_config(
        &self,
        members: &BTreeMap<String, Value>,
        layout: &Path,
    ) -> anyhow::Result<()> {
        crate::oracle::edited(&self.layout(), layout, |config, layers| {
            for (name, value) in members {
                if name.starts_with(|first: char| first.is_ascii_uppercase()) {
                    config["config"][name] = value.clone();
                } else {
                    config[name] = value.clone();
                }
            }
            if members.contains_key("rootfs") {
                *layers = Value::Array(Vec::new());
            }
        })
    }

    /// A directory made of this image by `make` once, kept beside it.
    pub(crate) fn cached(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<PathBuf> {
        once(&self.dir.join(name), make)
    }
}

/// Debian bookworm, variant minbase, made with mmdebstrap from `deb.debian.org` or the mirror in `EBIKO_DEBIAN_MIRROR`.
///
/// # Errors
///
/// Fails without root, because its files have many owners, and when a package cannot be fetched.
pub fn debian() -> anyhow::Result<BaseImage> {
    let dir = once(&cache_dir()?.join("debian-bookworm-1"), |dir| {
        let root = dir.join("root");
        mmdebstrap(&root, &[])?;
        image_of(&root, &dir.join("layout"), &["bash"])
    })?;
    Ok(BaseImage { name: "debian:bookworm", dir })
}

/// The root of a machine, for [`crate::Profile::Workstation`]: the same Debian with `newuidmap` and a user `dev`, 1000:1000,
/// who owns subordinate ids.
///
/// # Errors
///
/// As [`debian`].
pub fn workstation() -> anyhow::Result<PathBuf> {
    let dir = once(&cache_dir()?.join("workstation-1"), |dir| {
        let add_user = "chroot \"$1\" useradd --create-home --uid 1000 --user-group dev";
        mmdebstrap(&dir.join("root"), &["--include=uidmap", "--customize-hook", add_user])
    })?;
    Ok(dir.join("root"))
}

fn mmdebstrap(root: &Path, options: &[&str]) -> anyhow::Result<()> {
    ensure!(crate::is_root(), "making a Debian root needs root");
    let mirror = std::env::var("EBIKO_DEBIAN_MIRROR")
        .unwrap_or_else(|_| "http://deb.debian.org/debian".to_owned());
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--quiet", "--mode=root", "--variant=minbase"])
        .args(options)
        .arg("bookworm")
        .arg(root)
        .arg(mirror);
    // Files of the distribution then have the same times whenever they are made.
    command.env("SOURCE_DATE_EPOCH", crate::FIXED_TIME.to_string());
    capture(&mut command).map(drop).context("cannot make a Debian root")
}

/// The applets of `/bin/busybox`, a few users, and nothing else. Works for any user; without root, owners are the caller's.
///
/// # Errors
///
/// Fails if busybox (Debian: `busybox-static`) or umoci is missing.
pub fn busybox() -> anyhow::Result<BaseImage> {
    let owner = if crate::is_root() { "root" } else { "user" };
    let dir = once(&cache_dir()?.join(format!("busybox-1-{owner}")), |dir| {
        let root = dir.join("root");
        std::fs::create_dir(&root)?;
        let binary = std::fs::read("/bin/busybox")
            .context("cannot read `/bin/busybox`; install busybox-static")?;
        let applets = capture_text(Command::new("/bin/busybox").arg("--list"))?;
        let mut tree = Tree::new()
            .exe("bin/busybox", binary)
            .dir("root")
            .mode("root", 0o700)
            .dir("tmp")
            .mode("tmp", 0o1777)
            .dir("home")
            .dir("var")
            .file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\njoe:x:1000:1000::/home/joe:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n")
            .file("etc/group", "root:x:0:\nadm:x:4:joe\nwww-data:x:33:joe\njoe:x:1000:\nnogroup:x:65534:\n");
        for applet in applets.lines().filter(|applet| *applet != "busybox") {
            tree = tree.symlink(format!("bin/{applet}"), "busybox");
        }
        tree.write_to(&root)?;
        image_of(&root, &dir.join("layout"), &["sh"])
    })?;
    Ok(BaseImage { name: "busybox:latest", dir })
}

/// Makes an OCI layout with one image, tagged `image`, whose only layer is `root`.
fn image_of(root: &Path, layout: &Path, command: &[&str]) -> anyhow::Result<()> {
    let tagged = format!("{}:image", layout.display());
    let umoci = |args: &[&str]| capture(Command::new("umoci").args(args)).map(drop);
    umoci(&["init", "--layout", &layout.to_string_lossy()])?;
    umoci(&["new", "--image", &tagged])?;
    let rootless: &[&str] = if crate::is_root() { &[] } else { &["--rootless"] };
    umoci(&[&["insert", "--image", &tagged], rootless, &[&*root.to_string_lossy(), "/"]].concat())?;
    let mut config = vec!["config", "--image", &tagged, "--config.env"];
    config.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    config.extend(command.iter().flat_map(|word| ["--config.cmd", word]));
    umoci(&config)?;
    umoci(&["gc", "--layout", &layout.to_string_lossy()])
}

/// Makes the directory `path` with `make` unless it is there. Only one process makes it, the others wait; a maker that
/// fails or is killed leaves nothing under the final name.
pub(crate) fn once(
    path: &Path,
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    if path.exists() {
        return Ok(path.to_owned());
    }
    let lock = path.with_extension("lock");
    let lock =
        File::create(&lock).with_context(|| format!("cannot create `{}`", lock.display()))?;
    lock.lock().context("cannot lock the cache")?;
    if !path.exists() {
        let partial = path.with_extension("partial");
        if partial.exists() {
            std::fs::remove_dir_all(&partial)
                .with_context(|| format!("cannot remove `{}`", partial.display()))?;
        }
        std::fs::create_dir(&partial)
            .with_context(|| format!("cannot create `{}`", partial.display()))?;
        make(&partial)?;
        std::fs::rename(&partial, path)
            .with_context(|| format!("cannot rename `{}`", partial.display()))?;
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maker_that_fails_leaves_nothing_and_the_next_one_succeeds() {
        let dir = crate::scratch_dir("once-").unwrap();
        let path = dir.path().join("thing");
        let error = once(&path, |dir| {
            std::fs::write(dir.join("half"), "")?;
            anyhow::bail!("no")
        });
        assert_eq!(error.unwrap_err().to_string(), "no");
        assert!(!path.exists());
        once(&path, |dir| Ok(std::fs::write(dir.join("whole"), "")?)).unwrap();
        assert_eq!(crate::listing(&path).unwrap(), "-rw-r--r-- whole 0\n");
        once(&path, |_| anyhow::bail!("it is there already")).unwrap();
    }

    #[test]
    fn privileged_a_user_of_the_workstation_can_map_ids_of_his_own() {
        let pod = crate::Pod::new(workstation().unwrap())
            .profile(crate::Profile::Workstation)
            .user(1000, 1000);
        let script = "unshare --user --map-root-user --map-auto sh -c 'id -u; touch /tmp/f; chown 33:33 /tmp/f; stat -c %u /tmp/f'";
        assert_eq!(pod.run(["sh", "-c", script]).unwrap().assert_success().stdout, "0\n33\n");
    }

    #[test]
    fn privileged_debian_can_add_users() {
        let base = debian().unwrap();
        let output =
            crate::Pod::new(base.root()).run(["sh", "-c", "useradd -m joe && id -u joe"]).unwrap();
        assert_eq!(output.assert_success().stdout, "1000\n");
    }
}
