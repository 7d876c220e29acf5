//! Small trees on disk for this crate's tests.
#![expect(
    clippy::disallowed_methods,
    reason = "tests make the tree that is then read through a root"
)]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ebiko_rootfs::{Kind, RootPath};

use crate::{Context, SelectError};

/// A context made from a list: `dir/`, `link -> target`, everything else is a file.
pub(crate) struct Tree {
    directory: tempfile::TempDir,
}

impl Tree {
    pub(crate) fn new(files: &[&str]) -> Self {
        let tree = Self { directory: tempfile::tempdir().unwrap() };
        for file in files {
            tree.add(file.as_bytes());
        }
        tree
    }

    pub(crate) fn add(&self, file: &[u8]) {
        let at = |name: &[u8]| {
            let path = self.path().join(Path::new(std::ffi::OsStr::from_bytes(name)));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        };
        let arrow = file.windows(4).position(|bytes| bytes == b" -> ");
        if let Some(arrow) = arrow {
            let target = Path::new(std::ffi::OsStr::from_bytes(&file[arrow + 4..]));
            std::os::unix::fs::symlink(target, at(&file[..arrow])).unwrap();
        } else if let Some(directory) = file.strip_suffix(b"/") {
            fs::create_dir(at(directory)).unwrap();
        } else {
            fs::write(at(file), "").unwrap();
        }
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn context(&self, ignore: &str) -> Context {
        let ignore = (!ignore.is_empty()).then_some(ignore.as_bytes());
        Context::open(self.path(), ignore).unwrap()
    }
}

/// What `source` selects, as `name`, or `name from path` where they differ, or the error.
pub(crate) fn selection(context: &Context, source: &str) -> String {
    match context.select(source) {
        Err(error) => format!("error: {}", chain(&error)),
        Ok(selected) => {
            let shown = selected.iter().map(|selected| {
                let name = String::from_utf8_lossy(&selected.name).into_owned();
                let slash = if selected.metadata.kind == Kind::Directory { "/" } else { "" };
                if selected.path.as_bytes() == &*selected.name {
                    format!("{name}{slash}")
                } else {
                    format!("{name}{slash} from {}", selected.path)
                }
            });
            shown.collect::<Vec<_>>().join(", ")
        }
    }
}

fn chain(error: &SelectError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        write!(text, ": {error}").unwrap();
        cause = error.source();
    }
    text
}

/// The members beneath `directory`, in order.
pub(crate) fn members(context: &Context, directory: &str) -> String {
    let directory = RootPath::parse(directory.as_bytes()).unwrap();
    let members = context.walk(&directory).map(|member| {
        let member = member.unwrap();
        let slash = if member.metadata.is_dir() { "/" } else { "" };
        format!("{}{slash}", member.path)
    });
    members.collect::<Vec<_>>().join(" ")
}
