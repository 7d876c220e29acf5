//! A context, a stage to copy from and a root, written and printed as text.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;

use ebiko_context::Context;
use ebiko_exec::{ACCOUNT_FILES, Archives, Download, Inputs, Site, Supplies, Touched, perform};
use ebiko_oci::{Digest, Event, Observer, PortError};
use ebiko_plan::{
    Action, CopyAction, CopyFrom, CopySource, DownloadSource, GitSource, InlineFile, StageId,
    Unpack,
};
use ebiko_rootfs::{Attributes, DeviceNumber, Kind, Root, RootOptions, RootPath, Time};
use ebiko_rootless::{Interrupt, Place};
use tempfile::TempDir;

pub(crate) const SOME_TIME: Time = Time { secs: 1_600_000_000, nanos: 123_456_789 };

pub(crate) fn path(text: &str) -> RootPath {
    RootPath::resolve(&RootPath::root(), text.as_bytes()).unwrap()
}

/// Writes files into a root, one for each word: `dir/`, `file`, `file=content`, `link->target`,
/// `pipe|`, `null%` (a device), each with an optional `@mode:uid:gid` at the end.
pub(crate) fn fill(root: &Root, tree: &str) {
    for word in tree.split_ascii_whitespace() {
        let (what, attributes) = word.split_once('@').unwrap_or((word, ""));
        let mut numbers = attributes.split(':');
        let mode = numbers
            .next()
            .filter(|text| !text.is_empty())
            .map(|text| u32::from_str_radix(text, 8).unwrap());
        let mut id = || numbers.next().map(|text| text.parse::<u32>().unwrap());
        let mut attributes = Attributes {
            mode,
            uid: id(),
            gid: id(),
            mtime: Some(SOME_TIME),
            ..Attributes::default()
        };
        let (name, content) = what.split_once('=').unwrap_or((what, ""));
        let (link, target) = what.split_once("->").unwrap_or((name, ""));
        let at = path(link.trim_end_matches(['/', '|', '%']));
        root.create_parents(&at, &Attributes::default()).unwrap();
        match what.as_bytes().last() {
            _ if !target.is_empty() => root.symlink(target.as_bytes(), &at).unwrap(),
            Some(b'/') => root.create_dir(&at).unwrap(),
            Some(b'|') => root.make_node(&at, Kind::Fifo, DeviceNumber::default()).unwrap(),
            Some(b'%') => {
                root.make_node(&at, Kind::CharDevice, DeviceNumber { major: 1, minor: 3 }).unwrap();
            }
            _ => {
                let mut file = root.create_file(&at).unwrap();
                std::io::Write::write_all(&mut file, content.as_bytes()).unwrap();
                attributes.mode = Some(mode.unwrap_or(0o644));
            }
        }
        root.set_attributes(&at, &attributes).unwrap();
    }
}

/// The opposite of [`fill`], one line for each file; directories whose mode is 0755 and owner 0:0
/// show neither.
fn print(root: &Root, directory: &RootPath, out: &mut String) {
    for entry in root.list(directory).unwrap() {
        let at = directory.child(&entry.name).unwrap();
        let metadata = root.metadata(&at).unwrap();
        let mut line = at.to_string();
        let usual = if metadata.is_dir() { 0o755 } else { 0o644 };
        match metadata.kind {
            Kind::Directory => line.push('/'),
            Kind::Symlink => {
                line += "->";
                line += str::from_utf8(&root.read_link(&at).unwrap()).unwrap();
            }
            Kind::Regular => {
                let mut content = String::new();
                root.open_file(&at).unwrap().read_to_string(&mut content).unwrap();
                if !content.is_empty() {
                    write!(line, "={content}").unwrap();
                }
            }
            kind => {
                write!(line, "|{kind:?}{}:{}", metadata.rdev.major, metadata.rdev.minor).unwrap();
            }
        }
        let mode = if metadata.is_symlink() { usual } else { metadata.mode };
        if (mode, metadata.uid, metadata.gid) != (usual, 0, 0) {
            write!(line, "@{mode:o}:{}:{}", metadata.uid, metadata.gid).unwrap();
        }
        if metadata.kind == Kind::Regular && metadata.nlink > 1 {
            line += " (linked)";
        }
        *out += &line;
        out.push('\n');
        if metadata.is_dir() {
            print(root, &at, out);
        }
    }
}

/// Everything in a root with extended attributes, and with its time if that is not the time of the test.
fn with_times(root: &Root) -> String {
    let mut text = String::new();
    print(root, &RootPath::root(), &mut text);
    let marked = text.lines().map(|line| {
        let name = line.split(['=', '@', '|', ' ']).next().unwrap_or_default();
        let name = name.split_once("->").map_or(name, |(link, _)| link);
        let at = RootPath::parse(name.trim_end_matches('/').as_bytes()).unwrap();
        let mtime = root.metadata(&at).unwrap().mtime;
        // Everything that a test arranges is older than this.
        let time = (mtime.secs < 1_700_000_000).then_some(mtime);
        format!("{line} {time:?} {:?}", root.xattrs(&at).unwrap())
    });
    marked.collect::<Vec<_>>().join("\n")
}

fn files_below(root: &Root, directory: &RootPath) -> BTreeSet<RootPath> {
    let mut files = BTreeSet::new();
    for entry in root.list(directory).unwrap() {
        let at = directory.child(&entry.name).unwrap();
        match entry.metadata.kind {
            Kind::Directory => files.extend(files_below(root, &at)),
            Kind::Regular => drop(files.insert(at)),
            _ => {}
        }
    }
    files
}

struct Nobody;

impl Observer for Nobody {
    fn event(&self, _event: Event<'_>) {}
}

/// Takes every file that starts with `tar` for an archive with one member.
struct OneMember;

impl Archives for OneMember {
    fn unpack(
        &self,
        file: &mut File,
        root: &Root,
        destination: &RootPath,
        owner: Option<(u32, u32)>,
    ) -> Result<Option<BTreeSet<RootPath>>, PortError> {
        let mut content = String::new();
        file.read_to_string(&mut content)?;
        if !content.starts_with("tar") {
            return Ok(None);
        }
        let member = destination.child(b"member")?;
        root.create_file(&member)?;
        let owner = owner.unwrap_or((5, 5));
        root.set_attributes(
            &member,
            &Attributes {
                uid: Some(owner.0),
                gid: Some(owner.1),
                mode: Some(0o644),
                ..Attributes::default()
            },
        )?;
        Ok(Some(BTreeSet::from([member])))
    }
}

/// A context, a stage to copy from, and a root.
pub(crate) struct Bench {
    pub(crate) directory: TempDir,
    pub(crate) inputs: Inputs,
    pub(crate) root: Root,
    /// The same root with these regular files missing, and which they are.
    thin: Root,
    unwritten: BTreeSet<RootPath>,
    /// The same root for copies that take away what they read from the stage.
    taking: Root,
    left: RefCell<String>,
    /// Copies that read the stage later.
    pub(crate) later: Vec<CopyAction>,
    pub(crate) interrupt: Interrupt,
}

impl Bench {
    pub(crate) fn new(sources: &str, root: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let at = directory.path().join(name);
            fs::create_dir(&at).unwrap();
            Root::open(&at, RootOptions::default()).unwrap()
        };
        fill(&open("context"), sources);
        let stage = open("stage");
        fill(&stage, sources);
        let target = open("root");
        fill(&target, root);
        let thin = open("thin");
        fill(&thin, root);
        let mut unwritten = files_below(&thin, &RootPath::root());
        unwritten.retain(|file| !ACCOUNT_FILES.contains(&file.to_string().as_str()));
        for file in &unwritten {
            thin.remove(file).unwrap();
        }
        let taking = open("taking");
        fill(&taking, root);
        Self {
            taking,
            left: RefCell::default(),
            later: Vec::new(),
            thin,
            unwritten,
            inputs: Inputs { stages: BTreeMap::from([(StageId(0), stage)]), ..Inputs::default() },
            root: target,
            interrupt: Interrupt::new().unwrap(),
            directory,
        }
    }

    /// Performs `action` on the root, and on the one with missing files, where the same must come of it.
    #[track_caller]
    pub(crate) fn perform(&self, action: &Action) -> Result<Touched, String> {
        let result = self.perform_on(&self.root, &self.inputs, &|_| false, action);
        // Archives need all files; and a root that is its own context has one state only.
        let context = fs::canonicalize(self.directory.path().join("context")).unwrap();
        let is_archive = matches!(action, Action::Copy(copy) if copy.unpack != Unpack::Nothing);
        if context == self.root.host_path() {
            return result;
        }
        self.take(action, &result);
        if is_archive {
            return result;
        }
        let is_unwritten = |path: &RootPath| self.unwritten.contains(path);
        let thin = self.perform_on(&self.thin, &self.inputs, &is_unwritten, action);
        assert_eq!(thin, result, "not the same without files");
        let [full, thin] = [&self.root, &self.thin].map(|root| {
            let mut text = String::new();
            print(root, &RootPath::root(), &mut text);
            text
        });
        let is_written = |line: &&str| {
            let name = line.split(['=', '@', '|', ' ']).next().unwrap_or_default();
            let file = RootPath::parse(name.trim_end_matches('/').as_bytes()).unwrap_or_default();
            !self.unwritten.contains(&file) || self.thin.find(&file).unwrap().is_some()
        };
        let full: Vec<&str> = full.lines().filter(is_written).collect();
        assert_eq!(thin.lines().collect::<Vec<_>>(), full, "not the same files");
        result
    }

    /// Performs the action once more, with a stage whose files nobody wants afterwards.
    #[track_caller]
    fn take(&self, action: &Action, copied: &Result<Touched, String>) {
        // What is virtual is not copied here.
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let at = |name: &str| self.directory.path().join(name);
        let mut copy = std::process::Command::new("cp");
        assert!(copy.arg("-a").arg(at("stage")).arg(at("taken")).status().unwrap().success());
        let stage = Root::open(&at("taken"), RootOptions::default()).unwrap();
        let inputs = Inputs { stages: BTreeMap::from([(StageId(0), stage)]), ..Inputs::default() };
        let is_taken =
            matches!(action, Action::Copy(copy) if copy.from == CopyFrom::Stage(StageId(0)));
        let inputs = if is_taken { &inputs } else { &self.inputs };
        let taken = self.perform_on(&self.taking, inputs, &|_| false, action);
        assert_eq!(taken.as_ref().err(), copied.as_ref().err(), "fails otherwise");
        let [taken, copied] = [&self.taking, &self.root].map(with_times);
        assert_eq!(taken, copied, "not the same when files are taken");
        if is_taken {
            *self.left.borrow_mut() = one_line(&inputs.stages[&StageId(0)]);
        }
        fs::remove_dir_all(at("taken")).unwrap();
    }

    /// What was left of the stage by the last copy that was free to take its files.
    pub(crate) fn left(&self) -> String {
        self.left.borrow().clone()
    }

    fn perform_on(
        &self,
        root: &Root,
        inputs: &Inputs,
        is_unwritten: &dyn Fn(&RootPath) -> bool,
        action: &Action,
    ) -> Result<Touched, String> {
        let context = Context::open(&self.directory.path().join("context"), None).unwrap();
        let scratch = self.directory.path().join("scratch");
        fs::create_dir_all(&scratch).unwrap();
        let may_take = !std::ptr::eq(inputs, &raw const self.inputs);
        let later: Vec<&CopyAction> = self.later.iter().collect();
        let site = Site {
            root,
            context: &context,
            inputs,
            supplies: &Supplies { scratch, ..Supplies::default() },
            created: SOME_TIME,
            place: &Place::InPlace,
            interrupt: &self.interrupt,
            observer: &Nobody,
            archives: &OneMember,
            is_unwritten,
            later_reads: may_take.then_some(&later),
        };
        perform(action, &site).map_err(|error| {
            let mut text = format!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                write!(text, ": {error}").unwrap();
                cause = error.source();
            }
            text
        })
    }

    /// Performs an instruction whose words are separated by blanks.
    ///
    /// `--link`, `--parents`, `--chown=`, `--chmod=`, `--exclude=` and `--unpack` are its flags; `--user=` is who owns by
    /// default, and `--plain-parents` keeps `--chmod` from directories on the way.
    /// `<<name=content` is a here-document, `http:name` a download and `git:` the checkout.
    pub(crate) fn copy(&self, from: CopyFrom, instruction: &str) -> Result<Touched, String> {
        self.perform(&Action::Copy(Self::action(from, instruction)))
    }

    /// The action of such an instruction.
    pub(crate) fn action(from: CopyFrom, instruction: &str) -> CopyAction {
        let mut words = instruction.split_ascii_whitespace();
        let unpack = if words.next() == Some("ADD") { Unpack::Local } else { Unpack::Nothing };
        let mut action = CopyAction {
            from,
            sources: Vec::new(),
            files: Vec::new(),
            destination: String::new(),
            chown: None,
            user: String::new(),
            chmod: None,
            plain_parents: false,
            unpack,
            link: false,
            parents: false,
            exclude: Vec::new(),
        };
        let mut paths = Vec::new();
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("--link", _) => action.link = true,
                ("--parents", _) => action.parents = true,
                ("--plain-parents", _) => action.plain_parents = true,
                ("--user", user) => user.clone_into(&mut action.user),
                ("--unpack", _) => action.unpack = Unpack::Everything,
                ("--chown", owner) => action.chown = Some(owner.to_owned()),
                ("--chmod", mode) => action.chmod = Some(mode.parse().unwrap()),
                ("--exclude", pattern) => action.exclude.push(pattern.to_owned()),
                (name, content) => match name.strip_prefix("<<") {
                    Some(name) => action
                        .files
                        .push(InlineFile { name: name.to_owned(), content: content.to_owned() }),
                    None => paths.push(word),
                },
            }
        }
        paths.pop().unwrap().clone_into(&mut action.destination);
        action.sources = paths.into_iter().map(source).collect();
        action
    }

    /// Adds a context of the name `other`.
    pub(crate) fn add_context(&mut self, files: &str, ignore: &str) {
        let at = self.directory.path().join("other");
        fs::create_dir(&at).unwrap();
        fill(&Root::open(&at, RootOptions::default()).unwrap(), files);
        let context = Context::open(&at, Some(ignore.as_bytes())).unwrap();
        self.inputs.contexts.insert("other".to_owned(), context);
    }

    /// Adds a download of the name, with the content.
    pub(crate) fn download(&mut self, name: &str, content: &str, last_modified: Option<Time>) {
        let at = self.directory.path().join("downloads");
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join(name), content).unwrap();
        let root = Root::open_read_only(&at).unwrap();
        self.inputs.downloads.insert(
            download(name),
            Download {
                root,
                path: path(name),
                digest: Digest::of(content.as_bytes()),
                etag: None,
                last_modified,
            },
        );
    }

    /// Makes the root of the stage the checkout too.
    pub(crate) fn check_out(&mut self) {
        let stage = self.directory.path().join("stage");
        let root = Root::open_read_only(&stage).unwrap();
        self.inputs.checkouts.insert(GitSource::default(), root);
    }

    pub(crate) fn print(&self) -> String {
        one_line(&self.root)
    }
}

fn one_line(root: &Root) -> String {
    let mut out = String::new();
    print(root, &RootPath::root(), &mut out);
    out.replace('\n', " ").trim_end().to_owned()
}

fn source(word: &str) -> CopySource {
    match word.split_once(':') {
        Some(("http", name)) => CopySource::Download(download(name)),
        Some(("git", _)) => CopySource::Git(GitSource::default()),
        _ => CopySource::Path(format!("/{word}")),
    }
}

fn download(name: &str) -> DownloadSource {
    DownloadSource { url: format!("http://host/{name}"), name: name.to_owned(), checksum: None }
}

/// Copies from a context with `sources` to a root with `root`, and compares the root or the error.
#[track_caller]
pub(crate) fn check(sources: &str, root: &str, instruction: &str, expected: &str) {
    let bench = Bench::new(sources, root);
    let actual =
        bench.copy(CopyFrom::Context, instruction).map_or_else(|error| error, |_| bench.print());
    assert_eq!(actual, expected, "{instruction}");
}

/// The same from a stage.
#[track_caller]
pub(crate) fn check_stage(sources: &str, root: &str, instruction: &str, expected: &str) {
    let bench = Bench::new(sources, root);
    let actual = bench
        .copy(CopyFrom::Stage(StageId(0)), instruction)
        .map_or_else(|error| error, |_| bench.print());
    assert_eq!(actual, expected, "{instruction}");
}
