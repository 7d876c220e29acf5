//! Downloads and contexts from servers that do what real ones do on a bad day.

#![expect(clippy::disallowed_methods, reason = "tests arrange the world around the crate")]

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ebiko_remote::{
    Authorization, Clouds, DownloadOptions, Downloaded, GitRequest, GitSettings, LocalContext,
    Material, Network, Surroundings, download, fetch,
};
use ebiko_transport::{Options, Retries, Transport};
use testkit::{GitRepository, GitServer, GitService, scratch_dir};

/// Answers every request with the next of a list of texts, whatever is asked; the last one stays.
struct Script {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn start(answers: &[String]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let (answers, seen) = (answers.to_vec(), Arc::clone(&requests));
        // The thread ends with the test's process; it holds nothing.
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { return };
                let answer = answers.get(number).or(answers.last()).expect("there is an answer");
                seen.lock().expect("nobody panicked").push(head(&stream));
                let mut out = &stream;
                let _gone = out.write_all(answer.as_bytes());
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("nobody panicked").clone()
    }
}

fn head(stream: &TcpStream) -> String {
    let mut text = String::new();
    for line in BufReader::new(stream).lines() {
        match line {
            Ok(line) if !line.is_empty() => text = format!("{text}{}\n", line.to_lowercase()),
            _ => break,
        }
    }
    text
}

fn answer(status: &str, headers: &[&str], length: usize, body: &str) -> String {
    let mut text =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n");
    for header in headers {
        text = format!("{text}{header}\r\n");
    }
    format!("{text}\r\n{body}")
}

fn transport() -> Transport {
    let first_wait = Duration::from_millis(1);
    let retries = Retries { attempts: 3, first_wait, longest_wait: first_wait };
    Transport::new(&Options { retries, ..Options::default() }).expect("the defaults are right")
}

fn shown(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

fn get(url: &str, checksum: Option<&str>, limit: u64) -> Result<(Downloaded, String), String> {
    let dir = scratch_dir("download-").expect("a directory");
    let transport = transport();
    let network = Network { transport: &transport, is_interrupted: &|| false, ssh: None };
    let path = dir.path().join("file");
    let done = download(&network, url, checksum, &DownloadOptions { limit }, &path);
    match done {
        Ok(done) => Ok((done, fs::read_to_string(&path).expect("the file is there"))),
        Err(error) => {
            assert!(!path.exists(), "a failed download leaves no file");
            Err(shown(&error))
        }
    }
}

const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[test]
fn a_file_comes_with_its_time_and_its_name() {
    let headers = ["Last-Modified: Tue, 14 Nov 2023 22:16:42 GMT", "ETag: \"v1\""];
    let server = Script::start(&[answer("200 OK", &headers, 3, "abc")]);
    let (done, text) = get(&format!("{}/x?y#z", server.url), Some(ABC), 100).expect("a file");
    assert_eq!(text, "abc");
    let expected = Downloaded {
        size: 3,
        last_modified: Some(1_700_000_202),
        etag: Some("\"v1\"".into()),
        digest: ABC.into(),
    };
    assert_eq!(done, expected);
    let request = &server.requests()[0];
    assert!(request.starts_with("get /x?y http/1.1\n"), "{request}");
    assert!(request.contains("accept-encoding: identity\n"), "{request}");
}

#[test]
fn what_is_not_the_file_is_an_error() {
    let missing = Script::start(&[answer("404 Not Found", &[], 2, "no")]);
    let url = format!("{}/x", missing.url);
    let error = get(&url, None, 100).expect_err("it is missing");
    assert_eq!(error, format!("cannot download `{url}`: invalid response status 404"));
    let wrong = Script::start(&[answer("200 OK", &[], 3, "abd")]);
    let error = get(&format!("{}/x", wrong.url), Some(ABC), 100).expect_err("it is another one");
    assert!(error.contains(": digest mismatch sha256:a52d159f") && error.ends_with(ABC), "{error}");
    let error = get(&format!("{}/x", wrong.url), None, 2).expect_err("it is too long");
    assert!(error.ends_with("more than 2 bytes"), "{error}");
    let error = get(&format!("{}/x", wrong.url), Some("md5:12"), 2).expect_err("an old algorithm");
    assert!(error.ends_with("unsupported digest algorithm in `md5:12`"), "{error}");
    let error = get("ftp://s3cret@h/x", None, 2).expect_err("another protocol");
    assert_eq!(error, "cannot download `ftp://h/x`: `ftp` is not a protocol that is spoken here");
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let version = "ETag: \"v1\"";
    let server = Script::start(&[
        answer("200 OK", &[version], 3, "a"),
        answer("206 Partial Content", &[version, "Content-Range: bytes 1-2/3"], 2, "bc"),
    ]);
    let (done, text) = get(&server.url, Some(ABC), 100).expect("a file");
    assert_eq!((text.as_str(), done.size), ("abc", 3));
    let requests = server.requests();
    assert!(requests[1].contains("range: bytes=1-\n"), "{requests:?}");
    assert!(requests[1].contains("if-range: \"v1\"\n"), "{requests:?}");
}

#[test]
fn a_download_begins_again_where_the_server_cannot_go_on_or_has_another_file() {
    let server = Script::start(&[answer("200 OK", &[], 3, "x"), answer("200 OK", &[], 3, "abc")]);
    assert_eq!(get(&server.url, Some(ABC), 100).expect("a file").1, "abc");
    assert!(!server.requests()[1].contains("range:"), "there is no version to compare with");
    let server = Script::start(&[
        answer("200 OK", &["ETag: \"old\""], 3, "x"),
        answer("200 OK", &["ETag: \"new\""], 3, "abc"),
    ]);
    assert_eq!(get(&server.url, Some(ABC), 100).expect("a file").1, "abc");
    let server = Script::start(&[answer("200 OK", &[], 9, "abc")]);
    let error = get(&server.url, None, 100).expect_err("it never ends");
    assert!(error.contains("cannot receive the file"), "{error}");
    assert_eq!(server.requests().len(), 3, "as often as it is tried");
}

#[test]
fn a_login_stays_with_its_host_and_redirects_go_to_public_places() {
    let target = Script::start(&[answer("200 OK", &[], 3, "abc")]);
    let location = format!("Location: {}/y", target.url);
    let server = Script::start(&[answer("302 Found", &[&location], 0, "")]);
    let url = format!("{}/x", server.url.replace("//", "//me:s%33cret@"));
    assert_eq!(get(&url, None, 100).expect("another port of the same host").1, "abc");
    assert!(server.requests()[0].contains("authorization: basic bwu6cznjcmv0\n"));
    assert!(!target.requests()[0].contains("authorization"), "{:?}", target.requests());
    for place in ["http://169.254.169.254/latest", "http://10.0.0.1/x", "file:///etc/passwd"] {
        let location = format!("Location: {place}");
        let server = Script::start(&[answer("302 Found", &[&location], 0, "")]);
        let error = get(&format!("{}/x", server.url), None, 100).expect_err("not there");
        assert!(
            error.contains("not a public address") || error.contains("`file` is not"),
            "{error}"
        );
    }
}

/// Those of a machine that is nobody.
fn clouds() -> Clouds {
    let read = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let variables = std::collections::BTreeMap::new();
    let surroundings = ebiko_cloud::Surroundings { variables: &variables, read: &read };
    Clouds::read(&surroundings, std::sync::Arc::new(|| 0))
}

fn context(
    spec: &str,
    sub_path: &str,
    work_dir: &Path,
    stdin: Option<&File>,
    repository: Option<&GitRequest>,
) -> Result<LocalContext, String> {
    let settings = GitSettings { is_plain_http: true, ..GitSettings::default() };
    context_with(spec, sub_path, work_dir, stdin, repository, &settings)
}

fn context_with(
    spec: &str,
    sub_path: &str,
    work_dir: &Path,
    stdin: Option<&File>,
    repository: Option<&GitRequest>,
    git: &GitSettings,
) -> Result<LocalContext, String> {
    let transport = transport();
    let surroundings = Surroundings {
        current_dir: Path::new("/"),
        work_dir,
        network: Network { transport: &transport, is_interrupted: &|| false, ssh: None },
        stdin,
        repository,
        git,
        clouds: &clouds(),
    };
    fetch(spec, sub_path, &surroundings).map_err(|error| shown(&error))
}

#[test]
fn a_context_may_be_a_file_here_on_a_server_or_in_the_standard_input() {
    let dir = scratch_dir("context-").expect("a directory");
    let tar = dir.path().join("c.tar");
    fs::write(&tar, "abc").expect("a file");
    let spec = format!("tar://{}", tar.display());
    let found = context(&spec, "a/./b", &dir.path().join("1"), None, None).expect("a context");
    let expected = Material::File { path: tar.clone(), sub_path: "a/b".into() };
    assert_eq!(found.material, expected);
    assert!(!found.is_fetched && found.heeds_ignore_file);

    let headers = ["Last-Modified: Tue, 14 Nov 2023 22:16:42 GMT"];
    let server = Script::start(&[answer("200 OK", &headers, 3, "abc")]);
    let work = dir.path().join("2");
    let found = context(&format!("{}/Dockerfile", server.url), "", &work, None, None);
    let found = found.expect("a context");
    assert_eq!(found.last_modified, Some(1_700_000_202));
    assert!(found.is_fetched && !found.heeds_ignore_file);
    assert_eq!(fs::read_to_string(work.join("context")).expect("a file"), "abc");

    let work = dir.path().join("3");
    let stdin = File::open(&tar).expect("it opens");
    for spec in ["tar://stdin", "-"] {
        let work = work.join(spec.len().to_string());
        let found = context(spec, "", &work, Some(&stdin), None).expect("a context");
        let path = work.join("context");
        assert_eq!(found.material, Material::File { path, sub_path: "".into() });
        assert!(found.is_fetched && found.heeds_ignore_file);
    }
}

#[test]
fn a_repository_has_names_that_are_no_branches_and_commits_behind_them() {
    let dir = scratch_dir("context-").expect("a directory");
    let repository = GitRepository::init(&dir.path().join("r")).expect("a repository");
    let commit = |text: &str| {
        repository.write("file", text).expect("a file");
        repository.commit(text).expect("a commit").trim().to_owned()
    };
    let first = commit("first");
    let second = commit("second");
    let third = commit("third");
    for (name, id) in [
        ("refs/pull/7/head", &first),
        ("refs/merge-requests/3/head", &second),
        ("refs/heads/next", &third),
        ("refs/tags/next", &first),
    ] {
        repository.git(&["update-ref", name, id]).expect("a name");
    }
    let server = GitServer::smart(dir.path()).expect("a server");
    for (number, (fragment, expected)) in [
        ("refs/pull/7/head".to_owned(), "first"),
        ("refs/merge-requests/3/head".to_owned(), "second"),
        ("refs/tags/next".to_owned(), "first"),
        ("next".to_owned(), "third"),
        (second.clone(), "second"),
        (format!("master#{first}"), "first"),
    ]
    .into_iter()
    .enumerate()
    {
        let spec = format!("{}#{fragment}", server.url("r").replace("http://", "git://"));
        let work = dir.path().join(format!("work-{number}"));
        let found = context(&spec, "", &work, None, None).unwrap_or_else(|error| panic!("{error}"));
        let Material::Directory { path, .. } = found.material else { panic!("a directory") };
        assert_eq!(fs::read_to_string(path.join("file")).expect("a file"), expected, "{fragment}");
        assert!(!path.join(".git").exists(), "nobody asked for it");
    }
}

#[test]
fn a_login_of_the_settings_or_of_the_url_is_for_a_context() {
    let dir = scratch_dir("context-").expect("a directory");
    let repository = GitRepository::init(&dir.path().join("r")).expect("a repository");
    repository.write("file", "x").expect("a file");
    repository.commit("one").expect("a commit");
    let login = Some("t0ken:".to_owned());
    let service = GitService { is_smart: true, login, ..GitService::default() };
    let server = GitServer::start(dir.path(), service).expect("a server");
    let address = server.url("r").replace("http://", "");
    let spec = format!("git://{address}");
    let token = Authorization::basic("t0ken", "").expect("a login");
    let settings =
        GitSettings { is_plain_http: true, authorization: Some(token), ..GitSettings::default() };
    let with = |spec: &str, settings: &GitSettings, place: &str, repository| {
        context_with(spec, "", &dir.path().join(place), None, repository, settings)
    };
    assert!(with(&spec, &settings, "1", None).is_ok(), "GIT_TOKEN");
    let bare = GitSettings { is_plain_http: true, ..GitSettings::default() };
    let error = with(&spec, &bare, "2", None).expect_err("a login is needed");
    assert!(error.ends_with("the server answers with status 401"), "{error}");
    assert!(with(&format!("git://t0ken@{address}"), &bare, "3", None).is_ok(), "in the URL");
    // Who writes `http://` without GIT_PULL_METHOD has not said that a login may be sent so.
    let request = GitRequest { remote: server.url("r"), ..GitRequest::default() };
    assert!(with("ignored", &settings, "4", Some(&request)).is_err());
}

#[test]
fn a_context_may_be_a_repository() {
    let dir = scratch_dir("context-").expect("a directory");
    let repository = GitRepository::init(&dir.path().join("r")).expect("a repository");
    repository.write("sub/Dockerfile", "FROM scratch\n").expect("a file");
    repository.commit("one").expect("a commit");
    let server = GitServer::smart(dir.path()).expect("a server");
    let spec = server.url("r#master").replace("http://", "git://");
    let found = context(&spec, "sub", &dir.path().join("1"), None, None).expect("a context");
    let Material::Directory { path, sub_path } = found.material else { panic!("a directory") };
    let tree = path.join(sub_path);
    assert_eq!(fs::read_to_string(tree.join("Dockerfile")).expect("a file"), "FROM scratch\n");
    assert_eq!(found.last_modified, Some(1_700_000_101));
    assert!(found.is_fetched && found.heeds_ignore_file, "as in kaniko");

    let request =
        GitRequest { remote: server.url("r"), subdir: "sub".into(), ..GitRequest::default() };
    let found = context("ignored", "", &dir.path().join("2"), None, Some(&request));
    let found = found.expect("a context");
    assert!(!found.heeds_ignore_file, "as in BuildKit");
    let Material::Directory { path: tree, .. } = found.material else { panic!("a directory") };
    assert!(tree.join("Dockerfile").is_file());
    let error = context("git://127.0.0.1:1/r", "", &dir.path().join("3"), None, None);
    let error = error.expect_err("nobody is there");
    assert!(
        error.starts_with("cannot fetch the build context: cannot fetch the git repository"),
        "{error}"
    );
}
