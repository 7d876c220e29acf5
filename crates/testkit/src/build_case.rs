//! The cases of `testdata/build`: what to build, and what BuildKit made of it.
//!
//! A case is a directory with a `Dockerfile`, a `case.json` (left out where it would be empty) and the record `image.json`.
//! `case.json` describes the context as a literal, because git keeps neither modes nor times nor sockets:
//!
//! ```json
//! {
//!   "context": {
//!     "a": "text of a file, mode 0644",
//!     "run.sh": {"text": "#!/bin/sh\n", "mode": "4755", "time": 1000000000, "xattrs": {"user.note": "x"}},
//!     "empty": {"is": "dir", "mode": "0700"},
//!     "queue": {"is": "fifo"}, "listener": {"is": "socket"},
//!     "link": {"symlink": "a"}, "other": {"hard_link": "a"},
//!     "b.tar.gz": {"tar": {"member": {"text": "x", "owner": [7, 8]}}, "packing": "gzip"}
//!   },
//!   "contexts": {"name": {"f": "a directory like the above"}, "other": "docker-image://busybox"},
//!   "bases": {"parent": {"User": "joe"}, "bare": {"rootfs": {"type": "layers", "diff_ids": []}, "history": []}},
//!   "served": {"/f": {"text": "at {{HTTP}}/f", "time": 1000000000}},
//!   "repository": [{"tag": "v1", "files": {"a": "files of the first commit"}}, {"files": {"a": "of the second"}}],
//!   "build_args": {"A": "1"}, "labels": {"l": "1"}, "secrets": {"id": "value"}, "allow": ["network.host"],
//!   "target": "stage", "platform": "linux/arm64", "dockerfile": "sub/Dockerfile.x", "rewrite_timestamp": true,
//!   "differs": {"files/a/xattrs": "why ebiko differs from BuildKit on purpose in what starts with this"}
//! }
//! ```
//!
//! `FROM busybox` is [`base()`]; a base is that with members of its config replaced ([`BaseImage::with_config`]), and its name is
//! no other case's, because cases share a registry. In the Dockerfile `{{HTTP}}` stands for the server that has what is `served`,
//! `{{GIT}}` for the repository, whose commits have the same names everywhere.

mod arrange;
mod context;
mod ebiko;
mod repository;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;

use self::context::Node;
use crate::base::BaseImage;
use crate::record::Record;
use crate::{Case, cases};

pub use self::arrange::Arranged;
pub use self::ebiko::{BothWays, build_both_ways, build_in_pod, build_in_private_root};

/// One case.
#[derive(Clone, Debug)]
pub struct BuildCase {
    case: Case,
    options: Options,
}

/// What `case.json` says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    context: BTreeMap<String, Node>,
    contexts: BTreeMap<String, NamedContext>,
    bases: BTreeMap<String, BTreeMap<String, Value>>,
    served: BTreeMap<String, Node>,
    repository: Vec<Commit>,
    build_args: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
    allow: Vec<String>,
    target: Option<String>,
    platform: Option<String>,
    dockerfile: Option<String>,
    rewrite_timestamp: bool,
    differs: BTreeMap<String, String>,
}

/// A commit, and the tag on it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Commit {
    tag: Option<String>,
    files: BTreeMap<String, Node>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum NamedContext {
    Reference(String),
    Directory(BTreeMap<String, Node>),
}

/// What cases call `busybox`: a stand-in that has `/dev`, `/proc` and `/sys`, which a runtime would make otherwise.
///
/// # Errors
///
/// As [`crate::base::stand_ins`].
pub fn base() -> anyhow::Result<BaseImage> {
    crate::base::stand_ins().map(|[busybox, ..]| busybox)
}

impl BuildCase {
    /// Every case of `testdata/build`, in name order.
    ///
    /// # Errors
    ///
    /// Fails on a `case.json` that is not as this module says.
    pub fn all() -> anyhow::Result<Vec<Self>> {
        cases("testdata/build").into_iter().map(Self::read).collect()
    }

    fn read(case: Case) -> anyhow::Result<Self> {
        let options = match case.text_if_present("case.json") {
            Some(text) => serde_json::from_str(&text)
                .with_context(|| format!("cannot read `case.json` of `{}`", case.name()))?,
            None => Options::default(),
        };
        Ok(Self { case, options })
    }

    /// The directory's name.
    pub fn name(&self) -> String {
        self.case.name()
    }

    /// What BuildKit made of it.
    ///
    /// # Errors
    ///
    /// Fails where nothing is recorded: `cargo xtask oracle --record` does that.
    pub fn recorded(&self) -> anyhow::Result<Record> {
        let path = self.case.path("image.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("nothing is recorded in `{}`", path.display()))?;
        Record::parse(&text).with_context(|| format!("cannot read `{}`", path.display()))
    }

    /// What is left of differences between BuildKit and ebiko without those that the case says are on purpose. One that it says and
    /// that is not there is a difference too.
    pub fn unexpected(&self, differences: Vec<String>) -> Vec<String> {
        let (known, mut rest): (Vec<String>, Vec<String>) = differences
            .into_iter()
            .partition(|line| self.options.differs.keys().any(|place| line.starts_with(place)));
        let is_gone = |place: &&String| !known.iter().any(|line| line.starts_with(place.as_str()));
        let gone = self.options.differs.keys().filter(is_gone);
        rest.extend(gone.map(|place| format!("{place}: differs no more, as `case.json` says")));
        rest
    }

    /// Records what BuildKit made of it. Where the case asks for no platform, the machine's does not matter and is left out.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub fn record(&self, mut made: Record) -> anyhow::Result<()> {
        if self.options.platform.is_none() {
            (made.architecture, made.variant) = (None, None);
        }
        let path = self.case.path("image.json");
        std::fs::write(&path, made.to_text())
            .with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// The Dockerfile's path in the context.
    pub fn dockerfile(&self) -> &str {
        self.options.dockerfile.as_deref().unwrap_or("Dockerfile")
    }

    /// Writes everything that the build reads below `dir`, which must exist, and starts what it asks.
    ///
    /// # Errors
    ///
    /// Fails if something cannot be written or started.
    pub fn arrange(&self, dir: &Path) -> anyhow::Result<Arranged> {
        arrange::arrange(self, dir)
            .with_context(|| format!("cannot arrange the case `{}`", self.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_readable_recorded_and_says_what_it_is_about() {
        for case in BuildCase::all().unwrap() {
            let recorded = case.recorded().unwrap();
            let name = case.name();
            assert!(matches!(recorded.status.as_str(), "ok" | "error"), "{name}");
            assert_eq!(recorded.status == "error", !recorded.error.is_empty(), "{name}");
            let text = case.case.text("Dockerfile");
            let has_comment =
                text.lines().any(|line| line.trim_start_matches('\u{feff}').starts_with("# "));
            assert!(has_comment, "no comment says what `{name}` is about");
        }
    }
}
