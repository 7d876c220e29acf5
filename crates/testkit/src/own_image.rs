//! What `bin/ebiko/Dockerfile` is built with.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::Tree;
use crate::command::capture_text;

/// The images that are built from it, by target.
pub const OWN_IMAGES: [&str; 10] = [
    "executor",
    "slim",
    "debug",
    "nonroot",
    "warmer",
    "kaniko-docker",
    "kaniko-gcr",
    "kaniko-gar",
    "kaniko-ecr",
    "kaniko-acr",
];

/// The names of the binary besides `executor`.
const NAMES: [&str; 6] =
    ["warmer", "kaniko-docker", "kaniko-gcr", "kaniko-gar", "kaniko-ecr", "kaniko-acr"];

/// The names at `/` that lead into the directory of the image for users other than root: those of the Filesystem Hierarchy
/// Standard and of distributions, and what Dockerfiles often work in or execute. A command cannot execute what lies beneath
/// another name, nor go there; names that are not used are not seen.
fn linked_names() -> impl Iterator<Item = &'static str> {
    include_str!("linked_names.txt").lines()
}

/// What container runtimes mount into: where a directory is missing they make it, and then it is root's.
const MOUNTED_INTO: [&str; 2] = ["etc", "var/run/secrets/kubernetes.io/serviceaccount"];

/// The files of the image for users other than root, beneath `above`.
pub(crate) fn linked_root(tree: Tree, above: &str) -> Tree {
    let root = format!("{above}kaniko-root");
    let tree = linked_names().fold(tree.dir(&root), |tree, name| {
        tree.symlink(format!("{above}{name}"), format!("kaniko-root/{name}"))
    });
    MOUNTED_INTO.iter().fold(tree, |tree, path| tree.dir(format!("{root}/{path}")))
}

/// The build context: the static binary, the bundle of certificate authorities, and a static busybox, without which the target
/// `debug` cannot be built. The names of its applets are those of this machine's, because a foreign one cannot be asked.
///
/// # Errors
///
/// Fails if one of the files cannot be read, or this machine's busybox cannot be asked.
pub fn own_image_context(
    binary: &Path,
    authorities: &[u8],
    busybox: Option<&Path>,
) -> anyhow::Result<Tree> {
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
    };
    let mut tree = Tree::new()
        .exe("slim/kaniko/executor", read(binary)?)
        .file("slim/kaniko/ssl/certs/ca-certificates.crt", authorities);
    for name in NAMES {
        tree = tree.symlink(format!("names/kaniko/{name}"), "executor");
    }
    // As in kaniko's images, so that scripts write a login there without making it. kaniko's slim image has none.
    tree = tree.dir("names/kaniko/.docker").mode("names/kaniko/.docker", 0o777);
    tree = linked_root(tree, "linked/");
    let mut images = vec!["slim", "names", "linked"];
    if let Some(busybox) = busybox {
        tree = tree
            .exe("shell/busybox/busybox", read(busybox)?)
            .symlink("shell/bin/sh", "/busybox/sh")
            .symlink("shell/kaniko/shell", "/busybox/sh");
        let applets = capture_text(Command::new("/bin/busybox").arg("--list"))?;
        for applet in applets.lines().filter(|applet| *applet != "busybox") {
            tree = tree.symlink(format!("shell/busybox/{applet}"), "busybox");
        }
        images.push("shell");
    }
    Ok(images.iter().fold(tree, |tree, image| {
        let directory = format!("{image}/kaniko");
        tree.dir(&directory).mode(&directory, 0o777)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_the_top_are_in_order_and_as_many_as_the_documents_say() {
        let names: Vec<&str> = linked_names().collect();
        assert!(names.windows(2).all(|two| two[0] < two[1]), "{names:?}");
        assert!(names.iter().all(|name| !name.is_empty() && !name.contains(['/', ' '])));
        for document in [
            include_str!("../../../docs/guide/images.md"),
            include_str!("../../../docs/guide/non-root.md"),
            include_str!("../../../docs/adr/0020-root-behind-links.md"),
        ] {
            assert!(document.contains(&format!(" {}", names.len())), "{document}");
        }
    }
}
