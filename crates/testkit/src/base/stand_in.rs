//! Stand-ins for images of Docker Hub that Dockerfiles of others name.

use std::path::Path;

use super::{BaseImage, capture, capture_text, image_of, once};
use crate::{Tree, cache_dir};
use anyhow::Context as _;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use std::process::Command;

/// The modification time of all their files: 2023-11-14 22:13:20 UTC.
const TIME: i64 = 1_700_000_000;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
    bin:x:2:2:bin:/bin:/bin/false\nsys:x:3:3:sys:/dev:/bin/false\nsync:x:4:100:sync:/bin:/bin/sync\n\
    mail:x:8:8:mail:/var/spool/mail:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\n\
    operator:x:37:37:Operator:/var:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n";

const GROUP: &str = "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\nmail:x:8:\nwheel:x:10:root\n\
    www-data:x:33:\noperator:x:37:\nusers:x:100:\nnobody:x:65534:\n";

/// Debian's busybox has no `adduser`. This one knows `-D`, `-H`, `-u UID` and `-G GROUP`.
const ADDUSER: &str = r#"#!/bin/sh
uid= group=
while [ $# -gt 1 ]; do
  case $1 in
    -u) uid=$2; shift ;;
    -G) group=$2; shift ;;
  esac
  shift
done
[ -n "$uid" ] || uid=$(awk -F: '$3 >= 1000 && $3 < 60000 && $3 > last { last = $3 } END { print last ? last + 1 : 1000 }' /etc/passwd)
if [ -n "$group" ]; then
  gid=$(awk -F: -v name="$group" '$1 == name { print $3 }' /etc/group)
else
  gid=$uid
  echo "$1:x:$gid:" >> /etc/group
fi
echo "$1:x:$uid:$gid:Linux User,,,:/home/$1:/bin/sh" >> /etc/passwd
mkdir -p "/home/$1" && chown "$uid:$gid" "/home/$1"
"#;

/// What `busybox:latest`, `busybox:stable-musl` and `alpine:latest` have in common with their namesakes: applets, `PATH`, a
/// command, users and groups, `/tmp` and `/root`; and `/etc/alpine-release` for the last.
///
/// # Errors
///
/// Fails without root, because files must have their owners, or if busybox or umoci is missing.
pub fn stand_ins() -> anyhow::Result<[BaseImage; 3]> {
    anyhow::ensure!(crate::is_root(), "making base images with owners needs root");
    let busybox = made("stand-in-busybox-1", "sh", None)?;
    let alpine = made("stand-in-alpine-1", "/bin/sh", Some("3.99.0\n"))?;
    Ok([
        BaseImage { name: "busybox:latest", dir: busybox.clone() },
        // Another directory, because what is kept beside an image is kept under the image's name.
        BaseImage {
            name: "busybox:stable-musl",
            dir: made("stand-in-busybox-musl-1", "sh", None)?,
        },
        BaseImage { name: "alpine:latest", dir: alpine },
    ])
}

fn made(
    name: &str,
    command: &str,
    alpine_release: Option<&str>,
) -> anyhow::Result<std::path::PathBuf> {
    once(&cache_dir()?.join(name), |dir| {
        let root = dir.join("root");
        std::fs::create_dir(&root)?;
        let mut tree = tree()?;
        if let Some(release) = alpine_release {
            tree = tree.file("etc/alpine-release", release);
        }
        tree.write_to(&root)?;
        set_times(&root)?;
        let layout = dir.join("layout");
        image_of(&root, &layout, &[command])?;
        if alpine_release.is_some() {
            let image = format!("{}:image", layout.display());
            let options = ["config", "--image", &image, "--config.workingdir", "/"];
            capture(Command::new("umoci").args(options))?;
        }
        Ok(())
    })
}

fn tree() -> anyhow::Result<Tree> {
    let binary = std::fs::read("/bin/busybox")
        .context("cannot read `/bin/busybox`; install busybox-static")?;
    let applets = capture_text(Command::new("/bin/busybox").arg("--list"))?;
    let mut tree = Tree::new().exe("bin/busybox", binary);
    for applet in applets.lines().filter(|applet| !matches!(*applet, "busybox" | "adduser")) {
        tree = tree.symlink(format!("bin/{applet}"), "busybox");
    }
    for dir in ["dev", "home", "usr/sbin", "var/spool/mail", "lib", "proc", "sys", "run", "sbin"] {
        tree = tree.dir(dir);
    }
    Ok(tree
        .dir("root")
        .mode("root", 0o700)
        .dir("tmp")
        .mode("tmp", 0o1777)
        .exe("bin/adduser", ADDUSER)
        .symlink("usr/bin/env", "../../bin/env")
        .file("etc/passwd", PASSWD)
        .file("etc/group", GROUP)
        .file("etc/shadow", ""))
}

fn set_times(root: &Path) -> anyhow::Result<()> {
    let time = Timespec { tv_sec: TIME, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    for entry in walkdir::WalkDir::new(root).contents_first(true) {
        let entry = entry?;
        utimensat(CWD, entry.path(), &times, AtFlags::SYMLINK_NOFOLLOW)
            .with_context(|| format!("cannot set the time of `{}`", entry.path().display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileged_a_stand_in_has_users_and_adds_more() {
        let [busybox, _, alpine] = stand_ins().unwrap();
        let script = "adduser -D ann; adduser -D -u 7 -G wheel bob; id -u ann; id -u bob; stat -c %g /home/bob; \
                      stat -c %a:%Y /tmp /root; cat /etc/alpine-release 2>/dev/null";
        let run =
            |image: &BaseImage| crate::Pod::new(image.root()).run(["sh", "-c", script]).unwrap();
        let common = "1000\n7\n10\n1777:1700000000\n700:1700000000\n";
        assert_eq!(run(&busybox).stdout, common);
        assert_eq!(run(&alpine).stdout, format!("{common}3.99.0\n"));
    }
}
