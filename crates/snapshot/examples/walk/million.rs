//! A tree of a million files and directories.

use std::path::{Path, PathBuf};

use crate::{AnyError, bare};

/// Of packages as in a `node_modules`: each directory holds 19 files, each package is 100 directories.
const PACKAGES: usize = 500;
const DIRECTORIES: usize = 100;
const FILES: usize = 19;

/// All files and directories beneath the tree.
const ALL: usize = PACKAGES * DIRECTORIES * (1 + FILES);

/// The directory of the tree, made if it is not there as it should be.
pub(crate) fn prepare(place: &Path, threads: usize) -> Result<PathBuf, AnyError> {
    let tree = place.join("tree");
    if tree.exists() {
        if bare::walk(&tree, threads)? == ALL {
            return Ok(tree);
        }
        std::fs::remove_dir_all(&tree)?;
    }
    println!("walk: makes {ALL} files in {}", tree.display());
    std::fs::create_dir_all(&tree)?;
    for package in 0..PACKAGES {
        let package = tree.join(format!("package-{package:03}"));
        directory(&package)?;
        for number in 1..DIRECTORIES {
            directory(&package.join(format!("dir-{number:06}")))?;
        }
    }
    // What is as old as the clock's tick counts as one that may yet change.
    std::thread::sleep(std::time::Duration::from_millis(50));
    Ok(tree)
}

/// Files without content: nobody reads them.
fn directory(path: &Path) -> Result<(), AnyError> {
    std::fs::create_dir(path)?;
    for file in 0..FILES {
        std::fs::File::create(path.join(format!("module-{file:08}.js")))?;
    }
    Ok(())
}

/// Changes the mode of a file in every package, to one or the other of two.
pub(crate) fn touch(tree: &Path) -> Result<(), AnyError> {
    use std::os::unix::fs::PermissionsExt as _;
    for package in 0..PACKAGES {
        let path = tree.join(format!("package-{package:03}/dir-000007/module-00000003.js"));
        let mode = path.metadata()?.permissions().mode();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode ^ 0o100))?;
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    Ok(())
}
