//! Repositories, fetched and checked out without a git program.
//!
//! [`checkout`] is what other builders do with `git`: it finds the version that is asked for,
//! fetches its commit alone where the server can, and writes the commit's files.
//!
//! # Guarantees
//!
//! - Every object is hashed before it is used, with collisions detected.
//! - Nothing is written outside of the directory, and no name of the tree's stands for `.git` on
//!   any file system. Links are made and never followed.
//! - Packs lie on disk. Only differences, trees, commits and tags are ever whole in memory.
//! - Nothing of the repository is run: no filters (so no LFS), no hooks, no conversion of line
//!   ends.
//!
//! # Reading order
//!
//! [`GitRequest`], [`checkout`], then `refs`, `smart` and `dumb`, `pack`, `worktree`.

mod address;
mod authorization;
mod delta;
mod dumb;
mod git_dir;
mod modules;
mod names;
mod object;
mod object_id;
mod pack;
mod packet;
mod refs;
mod server;
mod smart;
mod ssh_address;
mod store;
mod worktree;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io;
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ebiko_rootfs::{OpenRootError, Root, RootError, RootOptions, RootPath, Time};
use ebiko_transport::{ShownUrl, TransportError, Trust, Url, Verification};

pub use self::authorization::Authorization;
pub use self::object_id::ObjectId;
pub use self::pack::Damage;

use self::address::Location;
use self::git_dir::Description;
use self::modules::Submodule;
use self::object::{Commit, EntryKind, tree_entries};
use self::object_id::{Kind, is_whole_hash};
use self::refs::{Refs, Wanted};
use self::server::Server;
use self::smart::Dialect;
use self::store::Store;
use self::worktree::{Gitlink, Writer};
use crate::{Network, SshError, host};

/// How deep submodules may have submodules.
const MAX_NESTING: usize = 16;

/// A repository and what is wanted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question that a source answers")]
pub struct GitRequest {
    /// Where it is: an `http` or `https` URL, perhaps with a user name and a password, or `ssh://[USER@]HOST/PATH` or
    /// `[USER@]HOST:PATH`.
    pub remote: String,
    /// A branch, a tag, a full name (`refs/…`), or a whole commit hash; the remote's default if `None`.
    pub reference: Option<String>,
    /// The beginning of the hash that the commit, or the tag that points to it, must have.
    pub checksum: Option<String>,
    /// The directory that is wanted; empty for all.
    pub subdir: String,
    /// Whether `.git` is kept. Of a directory of a repository it never is.
    pub keep_git_dir: bool,
    /// Whether submodules are checked out, recursively.
    pub submodules: bool,
    /// Whether files are as old as the commit, rather than as old as the checkout.
    pub commit_time: bool,
    /// Whether the commit of `checksum` is fetched by its hash and not by `reference`.
    pub fetch_by_commit: bool,
    /// How much of what came before the commit is fetched, where the server can leave something out.
    pub history: History,
    /// Whether the certificate of the host of `remote` is verified.
    pub verification: Verification,
    /// Who we are to the host of `remote`, where the URL does not say it. Submodules on the same
    /// scheme, host and port get it, too; nobody else does.
    pub authorization: Option<Authorization>,
    /// What a repository may cost.
    pub limits: Limits,
}

/// How many commits are fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum History {
    /// The one that is wanted.
    #[default]
    None,
    /// So many in a row, with that one.
    Commits(NonZero<u32>),
    /// All that came before it.
    Whole,
}

impl History {
    fn depth(self) -> Option<NonZero<u32>> {
        match self {
            Self::None => Some(NonZero::<u32>::MIN),
            Self::Commits(count) => Some(count),
            Self::Whole => None,
        }
    }
}

/// What a repository may cost. The defaults only stop what nobody means to build from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one download.
    pub pack: u64,
    /// Objects of one pack.
    pub objects: u64,
    /// Bytes of one file.
    pub object: u64,
    /// Bytes of one object that has to be in memory: a tree, a difference or what it makes.
    pub delta: u64,
    /// Bytes of all objects of a pack, and of all that its differences make.
    pub total: u64,
    /// Files and directories of the checkout, with submodules.
    pub files: u64,
    /// Bytes of the checkout, with submodules.
    pub checkout: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pack: 64 << 30,
            objects: 30_000_000,
            object: 32 << 30,
            // Above this size git writes no differences.
            delta: 512 << 20,
            total: 1 << 40,
            files: 4_000_000,
            checkout: 128 << 30,
        }
    }
}

/// A repository on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The files: the whole tree, or the directory that was wanted.
    pub directory: PathBuf,
    /// The commit.
    pub commit: ObjectId,
    /// When it was committed, in seconds since 1970.
    pub commit_time: i64,
    /// The whole name of the branch or tag; `None` if a commit was asked for.
    pub reference: Option<String>,
}

/// A repository could not be checked out.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message names every field")]
#[error("cannot fetch the git repository `{repository}`")]
pub struct GitError {
    pub repository: String,
    pub source: GitErrorKind,
}

/// Why a [`GitError`] happened. Where other builders have words for it, they are the same.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum GitErrorKind {
    #[error("a repository must be on a server, not on this machine")]
    Local,
    #[error("`{scheme}` is not a protocol that is spoken here")]
    Protocol { scheme: String },
    #[error("the URL is not one: {reason}")]
    Url { reason: String },
    #[error("a secret cannot be sent in a header")]
    Authorization,
    #[error("repository does not contain ref {reference}, output: \"{output}\"")]
    NoReference { reference: String, output: String },
    #[error("could not find default branch for repository")]
    NoDefault,
    #[error("repository does not contain commit {commit}")]
    NoCommit { commit: ObjectId },
    #[error("expected checksum to match {expected}, got {actual}")]
    Checksum { expected: String, actual: String },
    #[error("invalid checksum {checksum} for Git URL, expected hex commit hash")]
    BadChecksum { checksum: String },
    #[error("fetch-by-commit requires a checksum or a commit SHA ref")]
    NoChecksum,
    #[error("fetch-by-commit requires a full commit SHA checksum, got \"{checksum}\"")]
    ShortChecksum { checksum: String },
    #[error("the repository names objects by SHA-256, which is not understood yet")]
    Format,
    #[error("the server answers with status {status}")]
    Status { status: u16 },
    #[error("the server does not speak git: {reason}")]
    NotGit { reason: String },
    #[error("the server says: {message}")]
    Said { message: String },
    #[error("cannot reach it over SSH")]
    Ssh(#[source] SshError),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("cannot receive the objects")]
    Receive { source: io::Error },
    #[error(transparent)]
    Damage(#[from] Damage),
    #[error("the name `{name}` may not be in a working tree")]
    Name { name: String },
    #[error("the link `{name}` has a target that no link can have")]
    Target { name: String },
    #[error("more than {limit} files")]
    TooManyFiles { limit: u64 },
    #[error("more than {limit} bytes")]
    TooManyBytes { limit: u64 },
    #[error("no submodule mapping found in .gitmodules for path '{path}'")]
    NoSubmodule { path: String },
    #[error("the submodule `{name}` may not have this name")]
    SubmoduleName { name: String },
    #[error("cannot check out the submodule `{path}` from `{repository}`")]
    Submodule { path: String, repository: String, source: Box<GitErrorKind> },
    #[error("submodules are nested more than {MAX_NESTING} deep")]
    TooDeep,
    #[error("invalid subdir {subdir}: it is not a directory of the repository")]
    Subdir { subdir: String },
    #[error("the directory of the checkout is not empty")]
    NotEmpty,
    #[error("cannot open the directory of the checkout")]
    Open { source: OpenRootError },
    #[error(transparent)]
    Root(#[from] RootError),
    #[error("cannot write the objects")]
    Write { source: io::Error },
    #[error("interrupted")]
    Interrupted,
}

impl GitError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        self.source.hint()
    }
}

impl GitErrorKind {
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Protocol { .. } => {
                Some("use an `https://` URL; a token can be given as the secret `GIT_AUTH_TOKEN`")
            }
            Self::Status { status: 401 | 403 | 404 } => {
                Some("if the repository is private, give a token as the secret `GIT_AUTH_TOKEN`")
            }
            Self::Ssh(source) => source.fault.hint(),
            Self::Transport(source) => source.hint(),
            Self::Submodule { source, .. } => source.hint(),
            Self::NoReference { reference, .. }
                if reference.len() >= 7
                    && reference.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
            {
                Some("a commit is named by its whole hash")
            }
            _ => None,
        }
    }
}

/// Fetches a repository and writes its files below `directory`, which must be missing or empty.
///
/// Only the commit that is wanted is fetched, or as many before it as `history` says, where the server can do that;
/// otherwise everything that came before it, too. What the files are is in [`Checkout::directory`].
///
/// # Errors
///
/// What was written until then is left in `directory`.
pub fn checkout(
    network: &Network<'_>,
    request: &GitRequest,
    directory: &Path,
) -> Result<Checkout, GitError> {
    let fail = |source| GitError { repository: shown(&request.remote), source };
    check_request(request).map_err(fail)?;
    let location = Location::parse(&request.remote).map_err(fail)?;
    run(network, request, &location, directory).map_err(fail)
}

/// Asks which commit `request` means now, and fetches nothing. What a tag points to counts, not the tag.
///
/// # Errors
///
/// As [`checkout`] where the server has no such name; whether it has a commit that is named by its hash is not asked.
pub fn find_commit(network: &Network<'_>, request: &GitRequest) -> Result<ObjectId, GitError> {
    let find = || {
        check_request(request)?;
        if let Some(hash) = hash_of(request) {
            return ObjectId::parse(hash.as_bytes()).ok_or(GitErrorKind::Format);
        }
        let location = Location::parse(&request.remote)?;
        let authorization = request.authorization.as_ref();
        let server = Server::new(network, &request.limits, location, authorization, Trust::User)
            .with_verification(request.verification);
        let dialect = smart::greet(&server)?;
        let refs = refs_of(&server, &dialect, request)?;
        let wanted = refs::resolve(request, &refs)?;
        let known = refs.refs.iter().find(|known| Some(&known.name) == wanted.name.as_ref());
        Ok(known.and_then(|known| known.peeled).unwrap_or(wanted.id))
    };
    find().map_err(|source| GitError { repository: shown(&request.remote), source })
}

/// Whether the repository at `remote` is reached over SSH.
pub fn is_over_ssh(remote: &str) -> bool {
    matches!(Location::parse(remote), Ok(Location::Ssh(_)))
}

/// The hash by which `request` names its commit, if it does.
fn hash_of(request: &GitRequest) -> Option<&String> {
    match (&request.reference, &request.checksum) {
        (Some(reference), _) if is_whole_hash(reference) => Some(reference),
        (_, Some(checksum)) if request.fetch_by_commit => Some(checksum),
        _ => None,
    }
}

/// The names among which the one of `request` is.
fn refs_of<'d>(
    server: &Server<'_>,
    dialect: &'d Dialect,
    request: &GitRequest,
) -> Result<Cow<'d, Refs>, GitErrorKind> {
    match dialect {
        Dialect::First { refs, .. } | Dialect::Files { refs } => Ok(Cow::Borrowed(refs)),
        Dialect::Second { .. } => names(server, request).map(Cow::Owned),
    }
}

/// A repository's address as it may be shown.
fn shown(remote: &str) -> String {
    match Url::parse(remote) {
        Ok(url) if url.has_host() => ShownUrl::of(&url).to_string(),
        // Such as `user@host:path`. Whatever is before the `@` is not repeated.
        _ => remote.rsplit('@').next().unwrap_or_default().chars().take(200).collect(),
    }
}

fn check_request(request: &GitRequest) -> Result<(), GitErrorKind> {
    let checksum = request.checksum.as_deref().unwrap_or_default();
    if !checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(GitErrorKind::BadChecksum { checksum: checksum.to_owned() });
    }
    let commit = request.reference.as_deref().filter(|reference| is_whole_hash(reference));
    if let Some(commit) = commit {
        if !commit.starts_with(checksum) {
            let (expected, actual) = (checksum.to_owned(), commit.to_owned());
            return Err(GitErrorKind::Checksum { expected, actual });
        }
    } else if request.fetch_by_commit && checksum.is_empty() {
        return Err(GitErrorKind::NoChecksum);
    } else if request.fetch_by_commit && !is_whole_hash(checksum) {
        return Err(GitErrorKind::ShortChecksum { checksum: checksum.to_owned() });
    }
    Ok(())
}

fn run(
    network: &Network<'_>,
    request: &GitRequest,
    location: &Location,
    directory: &Path,
) -> Result<Checkout, GitErrorKind> {
    let local = |source: io::Error| match source.kind() {
        io::ErrorKind::DirectoryNotEmpty => GitErrorKind::NotEmpty,
        _ => GitErrorKind::Write { source },
    };
    host::create_empty_dir(directory).map_err(local)?;
    let (tree, git) = (directory.join("tree"), directory.join("git"));
    host::create_dirs(&tree).map_err(local)?;
    let options = RootOptions { read_elsewhere: true, ..RootOptions::default() };
    let root = Root::open(&tree, options).map_err(|source| GitErrorKind::Open { source })?;

    let subdir = parse_subdir(&request.subdir)?;
    let keeps_git = request.keep_git_dir && subdir.is_root();
    let limits = &request.limits;
    let server =
        Server::new(network, limits, location.clone(), request.authorization.as_ref(), Trust::User)
            .with_verification(request.verification);
    let mut store = Store::new(&git.join("objects"), limits).map_err(local)?;
    let fetched = fetch(&server, request, &mut store)?;
    let (wanted, commit) = (fetched.wanted, fetched.commit);
    refs::check(request.checksum.as_deref(), &wanted.id, &fetched.id)?;

    let time = request.commit_time.then_some(Time { secs: commit.time, nanos: 0 });
    let writer = Writer {
        root: &root,
        limits,
        is_interrupted: network.is_interrupted,
        time,
        files: 0,
        bytes: 0,
    };
    let mut trees = Trees { network, request, location, writer, top: &git, keeps_git };
    let repository =
        Repository { location, store: &store, git: &git, directory: RootPath::root(), nesting: 0 };
    let state = State {
        id: fetched.id,
        commit: &commit,
        reference: wanted.name.as_deref().map(|name| (name, wanted.id)),
        shallow: &fetched.shallow,
    };
    trees.write(&repository, &state)?;
    if keeps_git {
        host::rename(&git, &tree.join(".git")).map_err(local)?;
    } else {
        drop(store);
        host::remove_dir(&git).map_err(local)?;
    }
    trees.writer.set_times()?;

    let mut way = RootPath::root();
    for part in subdir.components() {
        way = way.child(part).map_err(|_| no_subdir(request))?;
        if !root.find(&way)?.is_some_and(|found| found.is_dir()) {
            return Err(no_subdir(request));
        }
    }
    Ok(Checkout {
        directory: tree.join(OsStr::from_bytes(way.as_bytes())),
        commit: fetched.id,
        commit_time: commit.time,
        reference: wanted.name,
    })
}

fn no_subdir(request: &GitRequest) -> GitErrorKind {
    GitErrorKind::Subdir { subdir: request.subdir.clone() }
}

/// As a path from the top of the tree: a `..` ends there.
fn parse_subdir(subdir: &str) -> Result<RootPath, GitErrorKind> {
    RootPath::resolve(&RootPath::root(), subdir.as_bytes())
        .map_err(|_| GitErrorKind::Subdir { subdir: subdir.to_owned() })
}

/// What came from the server.
struct Fetched {
    wanted: Wanted,
    id: ObjectId,
    commit: Commit,
    shallow: Vec<ObjectId>,
}

/// Finds and fetches what `request` wants.
fn fetch(
    server: &Server<'_>,
    request: &GitRequest,
    store: &mut Store,
) -> Result<Fetched, GitErrorKind> {
    let dialect = smart::greet(server)?;
    let depth = request.history.depth().filter(|_| smart::is_shallow(&dialect));
    if let Some(hash) = hash_of(request) {
        let id = ObjectId::parse(hash.as_bytes()).ok_or(GitErrorKind::Format)?;
        let shallow = fetch_commit(server, &dialect, id, depth, store)?;
        let (commit_id, commit) = store.peel(&id)?;
        let wanted = Wanted { name: None, id };
        return Ok(Fetched { wanted, id: commit_id, commit, shallow });
    }
    let refs = refs_of(server, &dialect, request)?;
    let wanted = refs::resolve(request, &refs)?;
    // Before anything large is fetched: a tag's own name or that of its commit will have to fit.
    if let Some(known) = refs.refs.iter().find(|known| Some(&known.name) == wanted.name.as_ref()) {
        let commit = known.peeled.unwrap_or(known.id);
        if known.peeled.is_some() || known.name.starts_with("refs/heads/") {
            refs::check(request.checksum.as_deref(), &known.id, &commit)?;
        }
    }
    let shallow = match &dialect {
        Dialect::Files { .. } => dumb::fetch(server, &wanted.id, depth, store)?,
        _ => smart::fetch(server, &dialect, &[wanted.id], depth, store)?,
    };
    let (id, commit) = store.peel(&wanted.id)?;
    Ok(Fetched { wanted, id, commit, shallow })
}

/// The names that the reference may stand for; all of them if none of those is there, because
/// the error shows what is similar.
fn names(server: &Server<'_>, request: &GitRequest) -> Result<Refs, GitErrorKind> {
    let few = smart::ls_refs(server, Some(request.reference.as_deref().unwrap_or("HEAD")))?;
    if request.reference.is_none() && few.default.is_some() {
        return smart::ls_refs(server, few.default.as_deref());
    }
    match refs::resolve(request, &few) {
        Err(GitErrorKind::NoReference { .. }) => smart::ls_refs(server, None),
        _ => Ok(few),
    }
}

/// Fetches one commit by its hash, and everything that the server has if it does not do that.
fn fetch_commit(
    server: &Server<'_>,
    dialect: &Dialect,
    id: ObjectId,
    depth: Option<NonZero<u32>>,
    store: &mut Store,
) -> Result<Vec<ObjectId>, GitErrorKind> {
    let all = match dialect {
        Dialect::Files { .. } => return dumb::fetch(server, &id, depth, store),
        Dialect::First { capabilities, refs } => {
            let allows = |word: &String| {
                matches!(word.as_str(), "allow-reachable-sha1-in-want" | "allow-any-sha1-in-want")
            };
            let is_allowed = capabilities.iter().any(allows);
            if is_allowed || refs.refs.iter().any(|known| known.id == id) {
                return smart::fetch(server, dialect, &[id], depth, store);
            }
            &refs.refs
        }
        Dialect::Second { .. } => {
            let one = smart::fetch(server, dialect, &[id], depth, store);
            match one {
                Err(GitErrorKind::Said { .. }) => {
                    server.start_anew();
                    &smart::ls_refs(server, None)?.refs
                }
                other => return other,
            }
        }
    };
    let mut wants: Vec<ObjectId> = all.iter().map(|known| known.id).collect();
    wants.sort_unstable();
    wants.dedup();
    if wants.is_empty() {
        return Err(GitErrorKind::NoCommit { commit: id });
    }
    smart::fetch(server, dialect, &wants, None, store)?;
    match store.kind(&id)? {
        Some(_) => Ok(Vec::new()),
        None => Err(GitErrorKind::NoCommit { commit: id }),
    }
}

/// Writes the tree of a repository and those of its submodules.
struct Trees<'a> {
    network: &'a Network<'a>,
    request: &'a GitRequest,
    /// Of the outermost repository: the one that the user named.
    location: &'a Location,
    writer: Writer<'a>,
    /// What may become `.git`.
    top: &'a Path,
    keeps_git: bool,
}

/// One repository of a checkout.
struct Repository<'a> {
    location: &'a Location,
    store: &'a Store,
    /// What may become its `.git`.
    git: &'a Path,
    /// Where its files are.
    directory: RootPath,
    nesting: usize,
}

/// Which version of it.
struct State<'a> {
    id: ObjectId,
    commit: &'a Commit,
    reference: Option<(&'a str, ObjectId)>,
    shallow: &'a [ObjectId],
}

impl Trees<'_> {
    fn write(
        &mut self,
        repository: &Repository<'_>,
        state: &State<'_>,
    ) -> Result<(), GitErrorKind> {
        let tree = &state.commit.tree;
        let written = self.writer.write(repository.store, tree, &repository.directory)?;
        let mut fetched = Vec::new();
        if self.request.submodules && !written.links.is_empty() {
            let known = submodules(repository.store, tree)?;
            for link in &written.links {
                fetched.extend(self.submodule(repository, link, &known)?);
            }
        }
        if !self.keeps_git {
            return Ok(());
        }
        let local = |source| GitErrorKind::Write { source };
        let prefix = repository.directory.as_bytes().len();
        let prefix = if prefix == 0 { 0 } else { prefix + 1 };
        let mut index = written.index;
        for entry in &mut index {
            entry.path.drain(..prefix.min(entry.path.len()));
        }
        // From `.git/modules/NAME`, which may have any number of slashes, up to the top.
        let worktree = (repository.nesting > 0).then(|| {
            let depth = repository.git.components().count();
            let above = depth.saturating_sub(self.top.components().count());
            format!("{}{}", "../".repeat(above + 1), spelled(&repository.directory))
        });
        let url = repository.location.to_string();
        let description = Description {
            url: &url,
            commit: state.id,
            reference: state.reference,
            shallow: state.shallow,
            index: &index,
            worktree: worktree.as_deref(),
            submodules: &fetched,
        };
        repository.store.write_indexes().map_err(local)?;
        git_dir::write(repository.git, &description).map_err(local)
    }

    /// Checks out one submodule; gives its name and address.
    fn submodule(
        &mut self,
        parent: &Repository<'_>,
        link: &Gitlink,
        known: &[Submodule],
    ) -> Result<Option<(String, String)>, GitErrorKind> {
        let path = match link.path.strip_prefix(&parent.directory) {
            Some(path) => spelled(&path),
            None => spelled(&link.path),
        };
        let Some(module) = known.iter().find(|module| module.path == path) else {
            return Err(GitErrorKind::NoSubmodule { path });
        };
        if module.is_skipped {
            return Ok(None);
        }
        if !modules::is_safe_name(&module.name) {
            return Err(GitErrorKind::SubmoduleName { name: module.name.clone() });
        }
        if parent.nesting >= MAX_NESTING {
            return Err(GitErrorKind::TooDeep);
        }
        let repository = shown(&module.url);
        let checked_out = self.submodule_at(parent, link, module);
        let location = checked_out.map_err(|source| match source {
            GitErrorKind::Interrupted => source,
            source => GitErrorKind::Submodule { path, repository, source: Box::new(source) },
        })?;
        Ok(Some((module.name.clone(), location.to_string())))
    }

    fn submodule_at(
        &mut self,
        parent: &Repository<'_>,
        link: &Gitlink,
        module: &Submodule,
    ) -> Result<Location, GitErrorKind> {
        let local = |source| GitErrorKind::Write { source };
        let limits = &self.request.limits;
        let location = parent.location.submodule(&module.url)?;
        let ours = match (&location, self.location) {
            (Location::Web(here), Location::Web(first))
                if here.url.origin() == first.url.origin() =>
            {
                first.authorization.as_ref().or(self.request.authorization.as_ref())
            }
            _ => None,
        };
        // The repository names this host and not the user, so it is judged as a redirect is. Over SSH it has to be one
        // whose key the user knows.
        let chosen = self.location.as_chosen().ok_or(GitErrorKind::Local)?;
        let trust = Trust::Server { chosen };
        let server = Server::new(self.network, limits, location.clone(), ours, trust)
            .with_verification(self.request.verification);
        let git = parent.git.join("modules").join(&module.name);
        let mut store = Store::new(&git.join("objects"), limits).map_err(local)?;
        let dialect = smart::greet(&server)?;
        let depth = History::None.depth().filter(|_| smart::is_shallow(&dialect));
        let shallow = fetch_commit(&server, &dialect, link.commit, depth, &mut store)?;
        let (id, commit) = store.peel(&link.commit)?;
        let repository = Repository {
            location: &location,
            store: &store,
            git: &git,
            directory: link.path.clone(),
            nesting: parent.nesting + 1,
        };
        let state = State { id, commit: &commit, reference: None, shallow: &shallow };
        self.write(&repository, &state)?;

        // Where git keeps the rest of the submodule, whether it is kept or not.
        let depth = link.path.components().count();
        let below = git.strip_prefix(self.top).unwrap_or(&git).display().to_string();
        let text = format!("gitdir: {}.git/{below}\n", "../".repeat(depth));
        let path = link
            .path
            .child(b".git")
            .map_err(|_| GitErrorKind::Name { name: link.path.to_string() })?;
        let mut file = self.writer.root.create_file(&path)?;
        io::Write::write_all(&mut file, text.as_bytes()).map_err(local)?;
        let attributes = ebiko_rootfs::Attributes { mode: Some(0o644), ..Default::default() };
        self.writer.root.set_file_attributes(&file, &path, &attributes)?;
        Ok(location)
    }
}

/// A path as `.gitmodules` and a configuration spell it. What is no text is in no such list.
fn spelled(path: &RootPath) -> String {
    String::from_utf8_lossy(path.as_bytes()).into_owned()
}

/// The list of submodules that a tree has.
fn submodules(store: &Store, tree: &ObjectId) -> Result<Vec<Submodule>, GitErrorKind> {
    let data = store.read(tree, Kind::Tree)?;
    let entries = tree_entries(*tree, &data)?;
    let list = entries.iter().find(|entry| {
        entry.name == b".gitmodules"
            && matches!(entry.kind, EntryKind::File | EntryKind::Executable)
    });
    match list {
        Some(list) => {
            let text = store.read(&list.id, Kind::Blob)?;
            Ok(modules::parse(&String::from_utf8_lossy(&text)))
        }
        None => Ok(Vec::new()),
    }
}
