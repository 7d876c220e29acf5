//! A scriptable HTTP server on loopback, for what real servers will not do on request.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// One request as it arrived. Header names are in lower case.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// Whether the body came to its end. Only [`Server::start_taking_parts`] tells of others.
    pub is_whole: bool,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// `METHOD /path`, without the query.
    pub fn line(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }
}

/// What happens after the head of a response.
#[derive(Clone, Debug)]
pub enum End {
    /// The body, as announced.
    Whole,
    /// This many bytes of the body, then the connection is reset.
    Cut(usize),
    /// This many bytes of the body, then silence.
    Stall(usize),
    /// The body, one byte at a time, with waits of this length between them.
    Drip(Duration),
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub end: End,
    /// No head at all: the connection is closed after the request was read.
    pub is_hang_up: bool,
}

pub fn answer(status: u16) -> Answer {
    Answer { status, headers: Vec::new(), body: Vec::new(), end: End::Whole, is_hang_up: false }
}

impl Answer {
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    pub fn hang_up() -> Self {
        Self { is_hang_up: true, ..answer(0) }
    }
}

type Handler = dyn Fn(&Received) -> Answer + Send + Sync;

struct State {
    handler: Box<Handler>,
    received: Mutex<Vec<Received>>,
    connections: Mutex<Vec<TcpStream>>,
    is_over: Mutex<bool>,
    over: Condvar,
    tls: Option<Arc<rustls::ServerConfig>>,
    takes_parts: bool,
}

/// Answers until it is dropped.
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(handler: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(None, handler)
    }

    /// Also hands what came of a body that broke off to `handler`, whose answer nobody gets then.
    pub fn start_taking_parts(
        handler: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_as(None, true, handler)
    }

    pub fn start_with(
        tls: Option<Arc<rustls::ServerConfig>>,
        handler: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_as(tls, false, handler)
    }

    fn start_as(
        tls: Option<Arc<rustls::ServerConfig>>,
        takes_parts: bool,
        handler: impl Fn(&Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("the listener is bound");
        let state = Arc::new(State {
            handler: Box::new(handler),
            received: Mutex::default(),
            connections: Mutex::default(),
            is_over: Mutex::default(),
            over: Condvar::new(),
            tls,
            takes_parts,
        });
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if *lock(&shared.is_over) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                // A head and its body are two writes; the second would wait for the other side's leisure.
                drop(stream.set_nodelay(true));
                if let Ok(copy) = stream.try_clone() {
                    lock(&shared.connections).push(copy);
                }
                let state = Arc::clone(&shared);
                thread::spawn(move || {
                    // The list above holds a copy, so dropping the stream would not close it.
                    let copy = stream.try_clone();
                    serve(&state, stream);
                    drop(copy.map(|copy| copy.shutdown(Shutdown::Both)));
                });
            }
        });
        Self { address, state, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Everything that arrived so far.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.state.received).clone()
    }

    /// The lines of everything that arrived so far.
    pub fn lines(&self) -> Vec<String> {
        self.received().iter().map(Received::line).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *lock(&self.state.is_over) = true;
        self.state.over.notify_all();
        for connection in lock(&self.state.connections).drain(..) {
            drop(connection.shutdown(Shutdown::Both));
        }
        // Wakes the listener.
        #[allow(clippy::disallowed_methods, reason = "a test server is no door")]
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(state: &State, stream: TcpStream) {
    let Some(tls) = &state.tls else {
        let writer = stream.try_clone().expect("a socket can be duplicated");
        return exchange(state, BufReader::new(stream), writer);
    };
    let Ok(connection) = rustls::ServerConnection::new(Arc::clone(tls)) else { return };
    let stream = Arc::new(Mutex::new(rustls::StreamOwned::new(connection, stream)));
    exchange(state, BufReader::new(Both(Arc::clone(&stream))), Both(stream));
}

/// The two directions of a TLS stream, used one after the other.
struct Both(Arc<Mutex<rustls::StreamOwned<rustls::ServerConnection, TcpStream>>>);

impl Read for Both {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        lock(&self.0).read(buffer)
    }
}

impl Write for Both {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        lock(&self.0).flush()
    }
}

fn exchange(state: &State, mut reader: impl BufRead, mut writer: impl Write) {
    // The first byte of a TLS handshake. Every real server answers it like this.
    if reader.fill_buf().is_ok_and(|bytes| bytes.first() == Some(&0x16)) {
        drop(writer.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"));
        return;
    }
    while let Some(request) = read_request(&mut reader) {
        if !request.is_whole && !state.takes_parts {
            return;
        }
        lock(&state.received).push(request.clone());
        let answer = (state.handler)(&request);
        if answer.is_hang_up || !write_answer(state, &mut writer, &request, &answer) {
            return;
        }
    }
}

fn write_answer(
    state: &State,
    writer: &mut impl Write,
    request: &Received,
    answer: &Answer,
) -> bool {
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
    let has_length = answer.headers.iter().any(|(name, _)| name == "Content-Length");
    for (name, value) in &answer.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    if !has_length {
        head.extend(["Content-Length: ", &answer.body.len().to_string(), "\r\n"]);
    }
    head.push_str("\r\n");
    let (count, goes_on) = match answer.end {
        End::Whole => (answer.body.len(), true),
        End::Drip(_) => (0, false),
        End::Cut(count) | End::Stall(count) => (count.min(answer.body.len()), false),
    };
    let body = if request.method == "HEAD" { &[][..] } else { &answer.body[..count] };
    let is_sent = writer.write_all(head.as_bytes()).is_ok()
        && writer.write_all(body).is_ok()
        && writer.flush().is_ok();
    if let End::Drip(wait) = answer.end {
        for byte in &answer.body {
            std::thread::sleep(wait);
            if writer.write_all(&[*byte]).and_then(|()| writer.flush()).is_err() {
                break;
            }
        }
    }
    if matches!(answer.end, End::Stall(_)) {
        let over = lock(&state.is_over);
        drop(state.over.wait_while(over, |over| !*over));
    }
    is_sent && goes_on
}

fn read_request(reader: &mut impl BufRead) -> Option<Received> {
    let line = read_line(reader)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    if let Some(length) = headers.get("content-length") {
        let length = length.parse().ok()?;
        // What came before an error is a part, too.
        drop(reader.take(length).read_to_end(&mut body));
        let is_whole = body.len() as u64 == length;
        return Some(Received { method, target, headers, body, is_whole });
    } else if headers.get("transfer-encoding").is_some_and(|value| value == "chunked") {
        let is_whole = read_chunks(reader, &mut body).is_some();
        return Some(Received { method, target, headers, body, is_whole });
    }
    Some(Received { method, target, headers, body, is_whole: true })
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let size = u64::from_str_radix(&read_line(reader)?, 16).ok()?;
        let count = reader.take(size).read_to_end(body).ok()?;
        read_line(reader)?;
        match (size, count as u64 == size) {
            (0, _) => return Some(()),
            (_, true) => {}
            (_, false) => return None,
        }
    }
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let count = reader.take(64 * 1024).read_line(&mut line).ok()?;
    (count > 0).then(|| line.trim_end().to_owned())
}
