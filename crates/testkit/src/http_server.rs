//! A web server on loopback that serves what a test gives it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;

/// What one path answers, to GET and to HEAD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The body. Its digest makes the `ETag`.
    pub body: Vec<u8>,
    /// Seconds since 1970 for `Last-Modified`.
    pub last_modified: Option<u64>,
    /// The text of `Content-Disposition`.
    pub content_disposition: Option<String>,
}

/// A running server. It ends with the value.
///
/// Every connection carries one request. What there is no page for is answered with 404.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Content {
    Pages(BTreeMap<String, Page>),
    Directory(PathBuf),
}

impl HttpServer {
    /// Serves these pages. A path is compared as it is written in the request, up to its `?`.
    ///
    /// # Errors
    ///
    /// Fails if no port can be had.
    pub fn pages(pages: BTreeMap<String, Page>) -> anyhow::Result<Self> {
        Self::start(Content::Pages(pages))
    }

    /// Serves the files of a directory, such as a repository for Git's dumb protocol. It must not hold links out of itself.
    ///
    /// # Errors
    ///
    /// Fails if no port can be had.
    pub fn directory(dir: impl Into<PathBuf>) -> anyhow::Result<Self> {
        Self::start(Content::Directory(dir.into()))
    }

    fn start(content: Content) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on loopback")?;
        let address = listener.local_addr()?;
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = {
            let (requests, stopping) = (Arc::clone(&requests), Arc::clone(&stopping));
            let content = Arc::new(content);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    let (content, requests) = (Arc::clone(&content), Arc::clone(&requests));
                    // A client that goes away in the middle is its own problem.
                    std::thread::spawn(move || drop(answer(&stream, &content, &requests)));
                }
            })
        };
        Ok(Self { address, requests, stopping, thread: Some(thread) })
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, as `METHOD PATH`; one more line, `304 PATH`, where the client turned out to have the page.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread; if that fails, it has ended already.
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1)));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// No request of a test is longer.
const REQUEST_LIMIT: u64 = 64 << 10;

fn answer(
    stream: &TcpStream,
    content: &Content,
    requests: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(stream.take(REQUEST_LIMIT)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut known = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        if name.eq_ignore_ascii_case("if-none-match") {
            known = Some(value.trim().to_owned());
        }
    }
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    requests.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{method} {target}"));
    let path = target.split('?').next().unwrap_or_default();
    let page = match content {
        Content::Pages(pages) => pages.get(path).cloned(),
        Content::Directory(dir) => file(dir, path),
    };
    let mut stream = stream;
    let is_known = page.as_ref().is_some_and(|page| known.as_deref() == Some(&*etag(page)));
    if is_known {
        // What is not asked for with a name that it has been given is never answered like this.
        requests.lock().unwrap_or_else(PoisonError::into_inner).push(format!("304 {target}"));
        return stream.write_all(b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n");
    }
    match page {
        Some(page) if matches!(method, "GET" | "HEAD") => {
            stream.write_all(head(&page).as_bytes())?;
            if method == "GET" {
                stream.write_all(&page.body)?;
            }
            Ok(())
        }
        _ => stream
            .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    }
}

/// The name of this version of a page, in quotes.
fn etag(page: &Page) -> String {
    let digest = crate::image::digest(&page.body);
    let tag: String = digest.chars().skip("sha256:".len()).take(16).collect();
    format!("\"{tag}\"")
}

fn head(page: &Page) -> String {
    let mut head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\nETag: {}\r\n",
        page.body.len(),
        etag(page)
    );
    if let Some(seconds) = page.last_modified {
        let _infallible = write!(head, "Last-Modified: {}\r\n", http_date(seconds));
    }
    if let Some(text) = &page.content_disposition {
        let _infallible = write!(head, "Content-Disposition: {text}\r\n");
    }
    head + "\r\n"
}

/// The file that a path of a URL names, if it lies in `dir`.
fn file(dir: &Path, path: &str) -> Option<Page> {
    let path = PathBuf::from(decoded(path.trim_start_matches('/'))?);
    path.components().all(|component| matches!(component, Component::Normal(_))).then_some(())?;
    let body = std::fs::read(dir.join(path)).ok()?;
    Some(Page { body, ..Page::default() })
}

/// `%41` → `A`
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

/// `Tue, 14 Nov 2023 22:13:20 GMT`
fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [(&str, u64); 12] = [
        ("Jan", 31),
        ("Feb", 28),
        ("Mar", 31),
        ("Apr", 30),
        ("May", 31),
        ("Jun", 30),
        ("Jul", 31),
        ("Aug", 31),
        ("Sep", 30),
        ("Oct", 31),
        ("Nov", 30),
        ("Dec", 31),
    ];
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let days = seconds / 86_400;
    let weekday = DAYS[usize::try_from(days % 7).unwrap_or(0)];
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut name = "Dec";
    for (month, length) in MONTHS {
        let length = length + u64::from(month == "Feb" && is_leap(year));
        if day < length {
            name = month;
            break;
        }
        day -= length;
    }
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{weekday}, {:02} {name} {year} {hour:02}:{minute:02}:{second:02} GMT", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(server: &HttpServer, request: &str) -> String {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_page_has_its_headers_and_head_has_no_body() {
        let page = Page {
            body: b"hi".to_vec(),
            last_modified: Some(1_700_000_000),
            content_disposition: Some("attachment; filename=\"x\"".into()),
        };
        let server = HttpServer::pages(BTreeMap::from([("/f".to_owned(), page)])).unwrap();
        let headers = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nETag: \"8f434346648f6b96\"\r\n\
                       Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\nContent-Disposition: attachment; filename=\"x\"\r\n\r\n";
        assert_eq!(exchange(&server, "GET /f?x=1"), format!("{headers}hi"));
        assert_eq!(exchange(&server, "HEAD /f"), headers);
        assert!(exchange(&server, "GET /g").starts_with("HTTP/1.1 404 "));
        assert!(exchange(&server, "POST /f").starts_with("HTTP/1.1 404 "));
        assert_eq!(server.requests(), ["GET /f?x=1", "HEAD /f", "GET /g", "POST /f"]);
    }

    #[test]
    fn a_directory_is_served_and_not_what_is_beside_it() {
        let dir = crate::scratch_dir("http-").unwrap();
        crate::Tree::new().file("d/a b", "in").file("out", "no").write_to(dir.path()).unwrap();
        let server = HttpServer::directory(dir.path().join("d")).unwrap();
        assert!(exchange(&server, "GET /a%20b").ends_with("\r\n\r\nin"));
        for path in ["/../out", "/%2e%2e/out", "/", "/%zz"] {
            assert!(
                exchange(&server, &format!("GET {path}")).starts_with("HTTP/1.1 404"),
                "{path}"
            );
        }
    }

    #[test]
    fn dates_are_those_of_rfc_9110() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (1_735_689_600, "Wed, 01 Jan 2025 00:00:00 GMT"),
        ] {
            assert_eq!(http_date(seconds), expected);
        }
    }
}
