//! By what the layers of a build are found again.
//!
//! The key of a step says everything that its layer is made from: the key of what it stands on, what is done, and what
//! is read. Equal keys mean equal work, so that a layer that was made under a key can take the place of the step.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ebiko_oci::{Digest, Sha256Hasher};

use crate::actions::{
    Action, CopyAction, CopyFrom, CopySource, InlineFile, MountKind, RunAction, StageId,
};
use crate::plan::{BuildPlan, StageBase, StagePlan};
use crate::reach::Bases;

/// To be changed when equal keys of two versions of this program would not mean equal layers.
const VERSION: &str = "ebiko cache 1";

/// What layers are made from besides what the plan says.
#[derive(Debug, Clone, Default)]
pub struct KeyInputs {
    /// For each step that reads files of contexts, or what is fetched: the content of each of its sources. A step with a
    /// source that is not there has no key, and nothing that stands on it has one.
    pub files: BTreeMap<(StageId, usize), SourceDigests>,
    /// How all layers are made: name and value, such as compression.
    pub layers: Vec<(String, String)>,
    /// How commands are run: name and value, such as the hosts that they know.
    pub commands: Vec<(String, String)>,
}

/// The content of the sources of one step, each by a name that no other source of the step has: see [`path_source`] and
/// [`copy_source`].
pub type SourceDigests = BTreeMap<String, Digest>;

/// The name of what is at `path` in a context: one step may read the same path of several.
pub fn path_source(from: &CopyFrom, path: &str) -> String {
    match from {
        CopyFrom::Named(context) => format!("{context}\0{path}"),
        _ => path.to_owned(),
    }
}

/// The name of one source of a copy from `from`.
pub fn copy_source(from: &CopyFrom, source: &CopySource) -> String {
    match source {
        CopySource::Path(path) => path_source(from, path),
        CopySource::Download(download) => download.url.clone(),
        CopySource::Git(git) => {
            // Two versions of one repository are two sources.
            format!("{}\0{:?}\0{:?}", git.remote, git.reference, git.checksum)
        }
    }
}

/// The keys of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheKeys {
    stages: BTreeMap<StageId, StageKeys>,
}

/// The keys of one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageKeys {
    /// What it starts from.
    pub base: StepKey,
    /// One for each step that changes files, unless a source of it or of a step before it is not known.
    pub steps: Vec<Option<StepKey>>,
    /// The key of the files that it ends with, if it has one.
    pub end: Option<Digest>,
}

/// A key, and what it is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepKey {
    /// The key.
    pub key: Digest,
    /// What it is made from, each with a digest, by a name that a person understands. What the step stands on is not
    /// among them.
    pub ingredients: BTreeMap<String, Digest>,
}

impl CacheKeys {
    /// The keys of `stage`; `None` if the plan has no such stage.
    pub fn stage(&self, stage: StageId) -> Option<&StageKeys> {
        self.stages.get(&stage)
    }

    /// The key of a step, if it has one.
    pub fn step(&self, stage: StageId, step: usize) -> Option<&StepKey> {
        self.stages.get(&stage)?.steps.get(step)?.as_ref()
    }
}

impl BuildPlan {
    /// The keys of all steps that change files.
    ///
    /// Not in them: labels, histories, times, the values of secrets, and proxies that no `ARG` declares.
    pub fn keys(&self, bases: &Bases, inputs: &KeyInputs) -> CacheKeys {
        let mut keys = CacheKeys { stages: BTreeMap::new() };
        for stage in &self.stages {
            let found = Keying { bases, inputs, known: &keys }.stage(stage);
            keys.stages.insert(stage.id, found);
        }
        keys
    }
}

/// What keys are made from, with those of the stages before.
struct Keying<'a> {
    bases: &'a Bases,
    inputs: &'a KeyInputs,
    known: &'a CacheKeys,
}

impl Keying<'_> {
    fn stage(&self, stage: &StagePlan) -> StageKeys {
        let mut base = Ingredients::default();
        let mut chain = match &stage.base {
            StageBase::Scratch => Some(Digest::of(VERSION.as_bytes())),
            StageBase::Image(image) => self.bases.get(image).map(|known| {
                base.add("the base image", &known.digest.to_string());
                Digest::of(VERSION.as_bytes())
            }),
            StageBase::Stage(earlier) => self.end(*earlier),
        };
        base.add("the platform", &stage.platform.to_string());
        for (name, value) in &self.inputs.layers {
            base.add(name, value);
        }
        let base = base.on(chain.unwrap_or_else(|| Digest::of(b"")));
        chain = chain.map(|_| base.key);
        let mut steps = Vec::new();
        for (index, step) in stage.steps.iter().enumerate() {
            let Some(action) = &step.action else {
                steps.push(None);
                continue;
            };
            let key = chain
                .zip(self.action((stage.id, index), action))
                .map(|(chain, ingredients)| ingredients.on(chain));
            chain = key.as_ref().map(|key| key.key);
            steps.push(key);
        }
        StageKeys { base, steps, end: chain }
    }

    fn end(&self, stage: StageId) -> Option<Digest> {
        self.known.stages.get(&stage)?.end
    }

    /// `None` if the content of a source is not known.
    fn action(&self, at: (StageId, usize), action: &Action) -> Option<Ingredients> {
        let mut ingredients = Ingredients::default();
        match action {
            Action::Run(run) => {
                self.run(at, run, &mut ingredients)?;
            }
            Action::Copy(copy) => {
                self.copy(at, copy, &mut ingredients)?;
            }
            Action::WorkDir(work_dir) => {
                ingredients.add("the instruction", "WORKDIR");
                ingredients.add("the working directory", &work_dir.path);
                ingredients.add("the user", &work_dir.user);
                if work_dir.root_parents {
                    ingredients.add("the owner of its parents", "0:0");
                }
            }
        }
        Some(ingredients)
    }

    fn run(
        &self,
        at: (StageId, usize),
        run: &RunAction,
        ingredients: &mut Ingredients,
    ) -> Option<()> {
        ingredients.add("the instruction", "RUN");
        ingredients.add_list("the command", run.argv.iter().map(String::as_str));
        let ambient: BTreeSet<&str> = run.ambient.iter().map(String::as_str).collect();
        for (name, value) in run.env.iter().filter(|(name, _)| !ambient.contains(name.as_str())) {
            ingredients.add(&format!("the variable {name}"), value);
        }
        ingredients.add("the user", &run.user);
        ingredients.add("the working directory", &run.work_dir);
        ingredients.add_files(&run.scripts);
        ingredients.add("`--network`", &format!("{:?}", run.network));
        ingredients.add("`--security`", &format!("{:?}", run.security));
        ingredients.add("the host name", run.host_name.as_deref().unwrap_or_default());
        for (name, value) in &self.inputs.commands {
            ingredients.add(name, value);
        }
        for (number, mount) in run.mounts.iter().enumerate() {
            let mut words = vec![
                mount.target.clone().unwrap_or_default(),
                if mount.read_only { "ro" } else { "rw" }.to_owned(),
            ];
            let name = match &mount.target {
                Some(target) => format!("the mount at `{target}`"),
                None => format!("mount {}", number + 1),
            };
            match &mount.kind {
                MountKind::Bind { from, source } => {
                    words.extend(["bind".into(), source.clone()]);
                    self.from(at, from, &[source], ingredients)?;
                }
                MountKind::Cache { id, sharing, seed, source, mode, uid, gid } => {
                    words.extend(["cache".into(), id.clone(), format!("{sharing:?}")]);
                    words.extend([source.clone(), format!("{mode:o} {uid}:{gid}")]);
                    if *seed != CopyFrom::Scratch {
                        self.from(at, seed, &[source], ingredients)?;
                    }
                }
                MountKind::Tmpfs { size } => words.push(format!("tmpfs {size:?}")),
                MountKind::Secret { id, env, required, mode, uid, gid } => {
                    words.extend(["secret".into(), id.clone(), format!("{env:?}")]);
                    words.push(format!("{required} {mode:o} {uid}:{gid}"));
                }
                MountKind::Ssh { id, required, mode, uid, gid } => {
                    words.extend(["ssh".into(), id.clone()]);
                    words.push(format!("{required} {mode:o} {uid}:{gid}"));
                }
            }
            ingredients.add_list(&name, words.iter().map(String::as_str));
        }
        Some(())
    }

    fn copy(
        &self,
        at: (StageId, usize),
        copy: &CopyAction,
        ingredients: &mut Ingredients,
    ) -> Option<()> {
        ingredients.add("the instruction", "COPY");
        ingredients.add("the destination", &copy.destination);
        ingredients.add("`--chown`", copy.chown.as_deref().unwrap_or_default());
        let chmod = copy.chmod.as_ref().map(ToString::to_string);
        ingredients.add("`--chmod`", &chmod.unwrap_or_default());
        // What is not there in most builds is in no key of theirs, which stay the same.
        if !copy.user.is_empty() {
            ingredients.add("the user", &copy.user);
        }
        if copy.plain_parents {
            ingredients.add("the mode of its parents", "0755");
        }
        let flags = format!("{:?} link={} parents={}", copy.unpack, copy.link, copy.parents);
        ingredients.add("the flags", &flags);
        ingredients.add_list("`--exclude`", copy.exclude.iter().map(String::as_str));
        ingredients.add_files(&copy.files);
        let mut paths = Vec::new();
        for source in &copy.sources {
            match source {
                CopySource::Path(path) => paths.push(path),
                CopySource::Download(download) => {
                    let content = self.source(at, &copy_source(&copy.from, source))?;
                    let what = format!("what is at `{}`", shown(&download.url));
                    ingredients.add_list(&what, [&*download.name, &content.to_string()]);
                }
                CopySource::Git(git) => {
                    let content = self.source(at, &copy_source(&copy.from, source))?.to_string();
                    let how = format!(
                        "{:?} {} {} {}",
                        git.checksum, git.keep_git_dir, git.submodules, git.commit_time
                    );
                    let what = format!("the repository `{}`", shown(&git.remote));
                    // The name of a branch is in `.git`.
                    let reference = git.reference.as_deref().filter(|_| git.keep_git_dir);
                    let words = [&*content, &git.subdir, &how, reference.unwrap_or_default()];
                    ingredients.add_list(&what, words);
                }
            }
        }
        ingredients.add_list("the sources", copy.sources.iter().map(name_of));
        if !paths.is_empty() {
            self.from(at, &copy.from, &paths, ingredients)?;
        }
        Some(())
    }

    /// What is read at `paths` of `from`.
    fn from(
        &self,
        at: (StageId, usize),
        from: &CopyFrom,
        paths: &[&String],
        ingredients: &mut Ingredients,
    ) -> Option<()> {
        match from {
            CopyFrom::Context | CopyFrom::Named(_) => {
                for path in paths {
                    let content = self.source(at, &path_source(from, path))?;
                    let of = match from {
                        CopyFrom::Named(name) => format!(" in the context {name}"),
                        _ => String::new(),
                    };
                    ingredients.add(&format!("the files of `{path}`{of}"), &content.to_string());
                }
            }
            CopyFrom::Stage(stage) => {
                ingredients.add(&format!("what {stage} makes"), &self.end(*stage)?.to_string());
            }
            CopyFrom::Image(image) => {
                let digest = self.bases.get(image)?.digest;
                ingredients.add(&format!("the image {}", image.reference), &digest.to_string());
            }
            CopyFrom::Scratch => {}
        }
        Some(())
    }

    fn source(&self, at: (StageId, usize), name: &str) -> Option<Digest> {
        self.inputs.files.get(&at)?.get(name).copied()
    }
}

/// What a source is called where it goes to. An address may be another one each time, for the same content.
fn name_of(source: &CopySource) -> &str {
    match source {
        CopySource::Path(path) => path,
        CopySource::Download(download) => &download.name,
        CopySource::Git(git) => &git.subdir,
    }
}

/// An address without what may be a secret in it: the login and the query.
fn shown(address: &str) -> String {
    let address = address.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    format!("{scheme}://{}{path}", authority.rsplit('@').next().unwrap_or_default())
}

/// What a key is made from.
#[derive(Default)]
struct Ingredients(BTreeMap<String, Digest>);

impl Ingredients {
    fn add(&mut self, name: &str, value: &str) {
        self.insert(name, Digest::of(value.as_bytes()));
    }

    fn add_list<'w>(&mut self, name: &str, words: impl IntoIterator<Item = &'w str>) {
        let mut hasher = Sha256Hasher::new();
        for word in words {
            hasher.update(&(word.len() as u64).to_le_bytes());
            hasher.update(word.as_bytes());
        }
        self.insert(name, Digest::new(hasher.finish()));
    }

    fn add_files(&mut self, files: &[InlineFile]) {
        for file in files {
            self.add_list(
                &format!("the here-document {}", file.name),
                [&*file.name, &*file.content],
            );
        }
    }

    /// Two things may have one name, such as two mounts: neither takes the place of the other.
    fn insert(&mut self, name: &str, digest: Digest) {
        let mut unique = name.to_owned();
        let mut number = 1;
        while self.0.contains_key(&unique) {
            number += 1;
            unique.truncate(name.len());
            let _always_works = write!(unique, " ({number})");
        }
        self.0.insert(unique, digest);
    }

    /// The key of what is made from these on top of `chain`.
    fn on(self, chain: Digest) -> StepKey {
        let mut hasher = Sha256Hasher::new();
        hasher.update(chain.sha256().as_bytes());
        for (name, digest) in &self.0 {
            hasher.update(&(name.len() as u64).to_le_bytes());
            hasher.update(name.as_bytes());
            hasher.update(digest.sha256().as_bytes());
        }
        StepKey { key: Digest::new(hasher.finish()), ingredients: self.0 }
    }
}
