//! What `COPY` and `ADD` leave at their destination. The cases are BuildKit's.

#![expect(clippy::disallowed_methods, reason = "tests make the files of a context")]
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its surroundings are not as it needs them"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;

use ebiko_context::Context;
use ebiko_exec::{Archives, Site, Touched, perform};
use ebiko_oci::{Event, Observer, PortError};
use ebiko_plan::{Action, CopyAction, CopyFrom, StageId, WorkDirAction};
use ebiko_rootfs::{Attributes, DeviceNumber, Kind, Root, RootOptions, RootPath, Time};
use ebiko_rootless::{Interrupt, Place};
use tempfile::TempDir;

const SOME_TIME: Time = Time { secs: 1_600_000_000, nanos: 123_456_789 };

fn path(text: &str) -> RootPath {
    RootPath::resolve(&RootPath::root(), text.as_bytes()).unwrap()
}

/// Writes files into a root, one for each word: `dir/`, `file`, `file=content`, `link->target`,
/// `pipe|`, `null%` (a device), each with an optional `@mode:uid:gid` at the end.
fn fill(root: &Root, tree: &str) {
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
struct Bench {
    directory: TempDir,
    stages: BTreeMap<StageId, Root>,
    root: Root,
    interrupt: Interrupt,
}

impl Bench {
    fn new(sources: &str, root: &str) -> Self {
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
        Self {
            stages: BTreeMap::from([(StageId(0), stage)]),
            root: target,
            interrupt: Interrupt::new().unwrap(),
            directory,
        }
    }

    fn perform(&self, action: &Action) -> Result<Touched, String> {
        let context = Context::open(&self.directory.path().join("context"), None).unwrap();
        let site = Site {
            root: &self.root,
            context: &context,
            stages: &self.stages,
            images: &BTreeMap::new(),
            created: SOME_TIME,
            place: &Place::InPlace,
            interrupt: &self.interrupt,
            observer: &Nobody,
            archives: &OneMember,
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

    fn copy(&self, from: CopyFrom, instruction: &str) -> Result<Touched, String> {
        let mut words: Vec<&str> = instruction.split_ascii_whitespace().collect();
        let extract_archives = words.remove(0) == "ADD";
        let chown = words.iter().find_map(|word| word.strip_prefix("--chown=")).map(str::to_owned);
        words.retain(|word| !word.starts_with("--"));
        let destination = words.pop().unwrap().to_owned();
        let sources = words.into_iter().map(|source| format!("/{source}")).collect();
        self.perform(&Action::Copy(CopyAction {
            from,
            sources,
            destination,
            chown,
            extract_archives,
        }))
    }

    fn print(&self) -> String {
        let mut out = String::new();
        print(&self.root, &RootPath::root(), &mut out);
        out.replace('\n', " ").trim_end().to_owned()
    }
}

/// Copies from a context with `sources` to a root with `root`, and compares the root or the error.
#[track_caller]
fn check(sources: &str, root: &str, instruction: &str, expected: &str) {
    let bench = Bench::new(sources, root);
    let actual =
        bench.copy(CopyFrom::Context, instruction).map_or_else(|error| error, |_| bench.print());
    assert_eq!(actual, expected, "{instruction}");
}

/// The same from a stage.
#[track_caller]
fn check_stage(sources: &str, root: &str, instruction: &str, expected: &str) {
    let bench = Bench::new(sources, root);
    let actual = bench
        .copy(CopyFrom::Stage(StageId(0)), instruction)
        .map_or_else(|error| error, |_| bench.print());
    assert_eq!(actual, expected, "{instruction}");
}

#[test]
fn a_file_goes_into_a_directory_or_takes_a_name() {
    check("a=1", "", "COPY a /d/", "d/ d/a=1");
    check("a=1", "", "COPY a /d/.", "d/ d/a=1");
    check("a=1", "", "COPY a /x/y/d", "x/ x/y/ x/y/d=1");
    check("a=1", "d/", "COPY a /d", "d/ d/a=1");
    check("a=1", "b=old", "COPY a /b", "b=1");
    check("s/a=1", "", "COPY s/a /", "a=1");
    check("a=1 b=2", "", "COPY a b /c", "c=2");
}

#[test]
fn a_directory_gives_what_is_in_it() {
    check("d/@700 d/a=1@600 d/s/@711", "", "COPY d /t", "t/ t/a=1@600:0:0 t/s/@711:0:0");
    check(
        "d/a=1 d/s/b=2",
        "t/@700:3:3 t/s/@700:3:3 t/s/c",
        "COPY d /t/",
        "t/@700:3:3 t/a=1 t/s/ t/s/b=2 t/s/c",
    );
    check("d/a=1 e/b=2", "", "COPY d e /t/", "t/ t/a=1 t/b=2");
    check("a=1 d/b=2", "", "COPY . /", "a=1 d/ d/b=2");
}

#[test]
fn links_at_the_destination_are_followed_once() {
    check("a=1", "real/ to->real", "COPY a /to/", "real/ real/a=1 to->real");
    check("a=1", "real/ to->real", "COPY a /to", "real/ real/a=1 to->real");
    check("a=1", "f=old to->f", "COPY a /to", "f=1 to->f");
    check("a=1", "to->/missing/f", "COPY a /to", "missing/ missing/f=1 to->/missing/f");
    check("a=1", "d/ d/a->../f f=old", "COPY a /d/", "d/ d/a=1 f=old");
    check("a=1", "to->../../../up", "COPY a /to/", "to->../../../up up/ up/a=1");
    check("d/a=1", "real/ to->real", "COPY d /to", "real/ real/a=1 to->real");
}

#[test]
fn links_at_the_source_are_followed_and_links_below_are_kept() {
    check("f=1 l->f", "", "COPY l /x", "x=1");
    check("f=1 l->f", "", "COPY l /x/", "x/ x/l=1");
    check("d/f=1 d/l->f d/out->/etc/passwd", "", "COPY d /x", "x/ x/f=1 x/l->f x/out->/etc/passwd");
}

#[test]
fn what_cannot_be_replaced_is_named_in_buildkits_words() {
    check("d/a=1", "t=file", "COPY d /t", "error: cannot copy to non-directory: /t");
    check("d/s/a=1", "t/s->/x", "COPY d /t", "error: cannot copy to non-directory: /t/s");
    check("a=1", "d/a/", "COPY a /d/", "error: cannot replace to directory /d/a with file");
    check("a=1", "t=file", "COPY a /t/", "error: mkdir /t: not a directory");
    check("a=1", "t=file", "COPY a /t/x/y", "error: mkdir /t: not a directory");
    check("a=1", "", "COPY b /t", "error: cannot copy `/b`: \"/b\": not found");
}

#[test]
fn a_wildcard_that_matches_nothing_copies_nothing() {
    check("a=1", "", "COPY b* /t/", "");
    check("a1=1 a2=2 b=3", "", "COPY a* /t/", "t/ t/a1=1 t/a2=2");
}

#[test]
fn context_files_belong_to_root_and_keep_their_mode() {
    check(
        "a=1@4755:7:8 d/@2770:7:8 d/b=2@600:7:8",
        "",
        "COPY . /",
        "a=1@4755:0:0 d/@2770:0:0 d/b=2@600:0:0",
    );
    check("pipe|@600:7:8", "", "COPY . /", "pipe|Fifo0:0@600:0:0");
}

#[test]
fn files_of_a_stage_keep_their_owner() {
    check_stage(
        "d/a=1@4755:7:8 d/s/@2770:7:8 d/l->a@777:7:8",
        "",
        "COPY d /t",
        "t/ t/a=1@4755:7:8 t/l->a@644:7:8 t/s/@2770:7:8",
    );
    check_stage(
        "d/null%@666:0:0 d/pipe|@600:7:8",
        "",
        "COPY d /t",
        "t/ t/null|CharDevice1:3@666:0:0 t/pipe|Fifo0:0@600:7:8",
    );
    check_stage("null%@666:0:0", "", "COPY null /n", "n|CharDevice1:3@666:0:0");
}

#[test]
fn chown_owns_everything_that_is_made() {
    let made = "x/@755:5:6 x/t/@755:5:6 x/t/a=1@4711:5:6 x/t/l->a@644:5:6 x/t/s/@700:5:6";
    check("d/a=1@4711 d/l->a d/s/@700", "", "COPY --chown=5:6 d /x/t", made);
    check_stage("d/a=1@4711:1:1 d/l->a@777:1:1 d/s/@700:1:1", "", "COPY --chown=5:6 d /x/t", made);
    check("a=1", "x/", "COPY --chown=5 a /x/", "x/ x/a=1@644:5:5");
    check(
        "a=1",
        "",
        "COPY --chown=ann a /",
        "error: invalid user index: -1: the root is empty, so `ann` is nobody",
    );
    check("a=1", "x/", "COPY --chown=ann a /", "a=1 x/");
}

#[test]
fn hard_links_in_one_tree_stay_hard_links() {
    let bench = Bench::new("d/a=1@4755:3:3", "");
    let stage = &bench.stages[&StageId(0)];
    stage.hard_link(&path("d/a"), &path("d/b")).unwrap();
    stage.hard_link(&path("d/a"), &path("c")).unwrap();
    bench.copy(CopyFrom::Stage(StageId(0)), "COPY d /t").unwrap();
    assert_eq!(bench.print(), "t/ t/a=1@4755:3:3 (linked) t/b=1@4755:3:3 (linked)");
    bench.copy(CopyFrom::Stage(StageId(0)), "COPY c d/a /u/").unwrap();
    assert_eq!(
        bench.print(),
        "t/ t/a=1@4755:3:3 (linked) t/b=1@4755:3:3 (linked) u/ u/a=1@4755:3:3 u/c=1@4755:3:3"
    );
}

#[test]
fn times_and_extended_attributes_are_kept() {
    let bench = Bench::new("d/a=1 d/s/ d/l->a", "");
    let xattrs = BTreeMap::from([(b"user.note".to_vec(), b"kept".to_vec())]);
    let noted = Attributes { xattrs: Some(xattrs.clone()), ..Attributes::default() };
    bench.stages[&StageId(0)].set_attributes(&path("d/a"), &noted).unwrap();
    bench.stages[&StageId(0)]
        .set_attributes(
            &path("d/a"),
            &Attributes { mtime: Some(SOME_TIME), ..Attributes::default() },
        )
        .unwrap();
    bench.copy(CopyFrom::Stage(StageId(0)), "COPY d /t").unwrap();
    for copied in ["t/a", "t/s", "t/l"] {
        assert_eq!(bench.root.metadata(&path(copied)).unwrap().mtime, SOME_TIME, "{copied}");
    }
    assert_eq!(bench.root.xattrs(&path("t/a")).unwrap(), xattrs);
}

#[test]
fn an_archive_is_unpacked_into_a_directory_and_other_files_are_copied() {
    check("a.tar=tar", "", "ADD a.tar /x/t", "x/ x/t/ x/t/member@644:5:5");
    check("a.tar=tar", "", "ADD --chown=7:7 a.tar /t/", "t/@755:7:7 t/member@644:7:7");
    check("a.tar=tar", "", "COPY a.tar /t/", "t/ t/a.tar=tar");
    check("a=plain", "", "ADD a /x/t", "x/ x/t=plain");
    check("d/a.tar=tar", "", "ADD d /t", "t/ t/a.tar=tar");
    check("a.tar=tar", "real/ t->real", "ADD a.tar /t", "real/ real/member@644:5:5 t->real");
}

#[test]
fn looking_for_an_archive_leaves_no_trace() {
    let bench = Bench::new("a=plain", "d/");
    fill(&bench.root, "d/old");
    bench
        .root
        .set_attributes(&path("d"), &Attributes { mtime: Some(SOME_TIME), ..Attributes::default() })
        .unwrap();
    let touched = bench.copy(CopyFrom::Context, "ADD a /d/old").unwrap();
    assert_eq!(touched, Touched::Paths(BTreeSet::from([path("d/old")])));
    assert_eq!(bench.print(), "d/ d/old=plain");
}

#[test]
fn what_was_made_or_changed_is_touched() {
    let bench = Bench::new("d/a=1 d/s/b=2", "t/s/");
    let touched = |instruction: &str| match bench.copy(CopyFrom::Context, instruction).unwrap() {
        Touched::Paths(paths) => {
            paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        }
        Touched::Everything => "everything".to_owned(),
    };
    assert_eq!(touched("COPY d /t"), "t/a t/s t/s/b");
    assert_eq!(touched("COPY d /x/y"), "x x/y x/y/a x/y/s x/y/s/b");
    assert_eq!(touched("COPY d/a /t/"), "t/a");
    assert_eq!(touched("COPY z* /t/"), "");
}

#[test]
fn an_empty_root_has_nothing_but_itself() {
    let bench = Bench::new("", "");
    assert_eq!(
        bench.copy(CopyFrom::Scratch, "COPY x /").unwrap_err(),
        "error: cannot copy `/x`: \"/x\": not found"
    );
    bench.copy(CopyFrom::Scratch, "COPY x* /t/").unwrap();
    assert_eq!(bench.print(), "");
    bench.copy(CopyFrom::Scratch, "COPY . /t/").unwrap();
    assert_eq!(bench.print(), "t/");
}

#[test]
fn a_copy_of_a_tree_into_itself_ends() {
    let bench = Bench::new("", "d/a=1");
    let inside = fs::canonicalize(bench.directory.path().join("root")).unwrap();
    fs::remove_dir(bench.directory.path().join("context")).unwrap();
    std::os::unix::fs::symlink(inside, bench.directory.path().join("context")).unwrap();
    bench.copy(CopyFrom::Context, "COPY . /d/self").unwrap();
    assert_eq!(bench.print(), "d/ d/a=1 d/self/ d/self/d/ d/self/d/a=1");
}

#[test]
fn an_interrupt_stops_a_copy() {
    let bench = Bench::new("d/a=1", "");
    bench.interrupt.raise(15);
    assert_eq!(
        bench.copy(CopyFrom::Context, "COPY d /t").unwrap_err(),
        "error: interrupted by signal 15"
    );
}

#[test]
fn a_working_directory_is_made_for_its_user_and_left_alone_if_it_exists() {
    let bench = Bench::new("", "a/@700:3:3 link->/real f=file");
    let make = |path: &str, user: &str| {
        bench.perform(&Action::WorkDir(WorkDirAction {
            path: path.to_owned(),
            user: user.to_owned(),
        }))
    };
    make("/a/b/./c//../d", "5:6").unwrap();
    make("/a", "5:6").unwrap();
    make("/link/x", "").unwrap();
    assert_eq!(
        bench.print(),
        "a/@700:3:3 a/b/@755:5:6 a/b/d/@755:5:6 f=file link->/real real/ real/x/"
    );
    for (path, is_made) in [("a", false), ("a/b", true), ("a/b/d", true), ("real/x", true)] {
        let path = RootPath::parse(path.as_bytes()).unwrap();
        let mtime = bench.root.metadata(&path).unwrap().mtime;
        assert_eq!(mtime == SOME_TIME, is_made, "/{path} has the time {mtime:?}");
    }
    assert_eq!(
        make("/f/x", "").unwrap_err(),
        "error: cannot make the working directory `/f/x`: mkdir /f: not a directory"
    );
}
