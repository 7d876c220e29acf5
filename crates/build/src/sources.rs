//! Where files and images come from besides registries: a port, because this crate has neither network nor layouts.

use std::path::{Path, PathBuf};

use ebiko_oci::{Digest, Platform, PortError, Reference, ResolvedImage};
use ebiko_plan::{DownloadSource, GitSource};
use ebiko_rootfs::Time;

/// Brings files from elsewhere into a directory of the builder's.
pub trait Sources: Sync {
    /// Fetches one file into `directory`, which exists and is empty.
    fn download(
        &self,
        source: &DownloadSource,
        directory: &Path,
    ) -> Result<DownloadedFile, PortError>;

    /// Whether what is at `source` is still what the server called `etag`; nothing is fetched.
    fn is_current(&self, source: &DownloadSource, etag: &str) -> Result<bool, PortError>;

    /// The hash of the commit that `source` means now; nothing is fetched.
    fn commit(&self, source: &GitSource) -> Result<String, PortError>;

    /// Fetches a git repository into `directory`, which exists and is empty.
    fn checkout(&self, source: &GitSource, directory: &Path) -> Result<CheckedOut, PortError>;

    /// Finds an image in the OCI image layout `directory`.
    fn in_layout(
        &self,
        directory: &Path,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ResolvedImage, PortError>;
}

/// A file that was fetched, whole and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadedFile {
    /// Its name in the directory.
    pub name: PathBuf,
    /// Its content.
    pub digest: Digest,
    /// What the server calls this version of it (`ETag`).
    pub etag: Option<String>,
    /// The server's `Last-Modified`.
    pub last_modified: Option<Time>,
}

/// A git repository that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedOut {
    /// The directory that is to be copied, in the one that was given; `.git` is in it only if the source asks for it.
    pub directory: PathBuf,
    /// The hash of the commit.
    pub commit: String,
    /// The committer's time.
    pub committed: Time,
}
