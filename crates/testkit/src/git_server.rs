//! Repositories, made by git itself, and servers for them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A repository with a working tree, in a directory.
///
/// Names, times and defaults are fixed, so the same steps give the same commits on any machine.
#[derive(Debug, Clone)]
pub struct GitRepository {
    dir: PathBuf,
}

impl GitRepository {
    /// Makes an empty one whose branch is `master`.
    pub fn init(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).context("cannot make the repository's directory")?;
        let repository = Self { dir: dir.to_owned() };
        repository.git(&["init", "-q", "-b", "master", "."])?;
        Ok(repository)
    }

    /// The working tree.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs git in it, and gives what it prints, without the last line's end.
    pub fn git(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = git(&self.dir).args(arguments).output().context("cannot start git")?;
        if !output.status.success() {
            bail!("git {arguments:?} failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Writes a file.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
        let path = self.dir.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Commits everything that is in the working tree; gives the commit.
    pub fn commit(&self, message: &str) -> anyhow::Result<String> {
        self.git(&["add", "-A"])?;
        self.git(&["commit", "-q", "--allow-empty", "-m", message])?;
        self.git(&["rev-parse", "HEAD"])
    }

    /// Writes what a server needs that only has files.
    pub fn update_server_info(&self) -> anyhow::Result<()> {
        self.git(&["update-server-info"]).map(drop)
    }
}

/// A git that reads no settings but ours.
pub fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "A U Thor")
        .env("GIT_AUTHOR_EMAIL", "author@example.com")
        .env("GIT_COMMITTER_NAME", "C O Mitter")
        .env("GIT_COMMITTER_EMAIL", "committer@example.com")
        .env("GIT_AUTHOR_DATE", "2023-11-14T22:15:01Z")
        .env("GIT_COMMITTER_DATE", "2023-11-14T22:15:01Z")
        // Submodules of tests are on this machine.
        .args(["-c", "protocol.file.allow=always"]);
    command
}

/// How repositories are served.
#[derive(Debug, Clone, Default)]
pub struct GitService {
    /// Whether git answers, or files are all there is.
    pub is_smart: bool,
    /// Whether git answers only in the first version of its protocol.
    pub is_first_version: bool,
    /// Settings of the server's git, such as `uploadpack.allowAnySHA1InWant`.
    pub settings: Vec<(String, String)>,
    /// `user:password` that every request must have.
    pub login: Option<String>,
    /// Where every request for `/moved/…` is sent: this, and the rest of the path.
    pub moved_to: Option<String>,
}

/// Serves what is below a directory on loopback until it is dropped.
#[derive(Debug)]
pub struct GitServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl GitServer {
    /// Serves files, as any web server would.
    pub fn files(root: &Path) -> anyhow::Result<Self> {
        Self::start(root, GitService::default())
    }

    /// Serves with git's own `http-backend`.
    pub fn smart(root: &Path) -> anyhow::Result<Self> {
        Self::start(root, GitService { is_smart: true, ..GitService::default() })
    }

    /// Serves in some other way.
    pub fn start(root: &Path, service: GitService) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("loopback has no free port")?;
        let address = listener.local_addr()?;
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let stopping = Arc::new(AtomicBool::new(false));
        let root = root.canonicalize().context("cannot find what is to be served")?;
        let service = Arc::new(Site { root, service, requests: Arc::clone(&requests) });
        let thread = {
            let stopping = Arc::clone(&stopping);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    let service = Arc::clone(&service);
                    // A failure is the client's to notice.
                    std::thread::spawn(move || drop(service.serve(&stream)));
                }
            })
        };
        Ok(Self { address, requests, stopping, thread: Some(thread) })
    }

    /// The URL of what is at `path` below the directory.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// `METHOD /path?query` of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().map(|list| list.clone()).unwrap_or_default()
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // The listener only looks up when somebody knocks.
        drop(TcpStream::connect(self.address));
        let _panicked = self.thread.take().map(JoinHandle::join);
    }
}

struct Site {
    root: PathBuf,
    service: GitService,
    requests: Arc<Mutex<Vec<String>>>,
}

struct Received {
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Site {
    fn serve(&self, stream: &TcpStream) -> anyhow::Result<()> {
        let received = receive(stream)?;
        if let Ok(mut list) = self.requests.lock() {
            let query = if received.query.is_empty() { "" } else { "?" };
            list.push(format!("{} {}{query}{}", received.method, received.path, received.query));
        }
        let login = self.service.login.as_ref();
        let expected = login.map(|login| format!("Basic {}", STANDARD.encode(login)));
        if expected.is_some() && expected.as_ref() != received.headers.get("authorization") {
            let header = "WWW-Authenticate: Basic realm=\"git\"\r\n";
            return respond(stream, "401 Unauthorized", header, b"");
        }
        if let (Some(target), Some(rest)) =
            (&self.service.moved_to, received.path.strip_prefix("/moved/"))
        {
            let header = format!("Location: {target}{rest}?{}\r\n", received.query);
            return respond(stream, "302 Found", &header, b"");
        }
        if self.service.is_smart {
            return self.answer_with_git(stream, &received);
        }
        let path = Path::new(received.path.trim_start_matches('/'));
        let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        match std::fs::read(self.root.join(path)) {
            Ok(content) if is_plain => respond(stream, "200 OK", "", &content),
            _ => respond(stream, "404 Not Found", "", b"no such file"),
        }
    }

    fn answer_with_git(&self, stream: &TcpStream, received: &Received) -> anyhow::Result<()> {
        let mut command = git(&self.root);
        for (key, value) in &self.service.settings {
            command.args(["-c", &format!("{key}={value}")]);
        }
        // A parent of ours may belong to somebody else.
        command.args(["-c", "safe.directory=*", "http-backend"]);
        command
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("REQUEST_METHOD", &received.method)
            .env("PATH_INFO", &received.path)
            .env("QUERY_STRING", &received.query)
            .env("CONTENT_LENGTH", received.body.len().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(kind) = received.headers.get("content-type") {
            command.env("CONTENT_TYPE", kind);
        }
        let protocol = received.headers.get("git-protocol");
        if let Some(protocol) = protocol.filter(|_| !self.service.is_first_version) {
            command.env("GIT_PROTOCOL", protocol);
        }
        let mut child = command.spawn().context("cannot start git http-backend")?;
        if let Some(mut input) = child.stdin.take() {
            // It may have ended without reading.
            let _broken = input.write_all(&received.body);
        }
        let output = child.wait_with_output()?.stdout;
        let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|place| place + 4);
        let end = end.context("git http-backend gave no answer")?;
        let (head, body) = output.split_at(end);
        let mut status = "200 OK".to_owned();
        let mut headers = String::new();
        for line in String::from_utf8_lossy(head).lines().filter(|line| !line.is_empty()) {
            match line.strip_prefix("Status: ") {
                Some(other) => other.clone_into(&mut status),
                None => write!(headers, "{line}\r\n")?,
            }
        }
        respond(stream, &status, &headers, body)
    }
}

fn receive(stream: &TcpStream) -> anyhow::Result<Received> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let (path, query) = match words.next().unwrap_or_default().split_once('?') {
        Some((path, query)) => (path.to_owned(), query.to_owned()),
        None => (line.split_whitespace().nth(1).unwrap_or_default().to_owned(), String::new()),
    };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(Ok(0), |length| length.parse())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Received { method, path, query, headers, body })
}

fn respond(mut stream: &TcpStream, status: &str, headers: &str, body: &[u8]) -> anyhow::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    Ok(stream.write_all(body)?)
}
