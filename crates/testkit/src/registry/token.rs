//! The realm of a token registry: gives out signed bearer tokens.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::command::capture;

const ISSUER: &str = "testkit";
const SERVICE: &str = "testkit registry";
const LIFETIME: u64 = 300;
/// No client of these tests sends longer lines.
const LINE_LIMIT: usize = 64 * 1024;

/// A thread that answers `GET /token?service=…&scope=…`, one connection after the other.
#[derive(Debug)]
pub(super) struct TokenServer {
    address: SocketAddr,
    certificate: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Realm {
    dir: PathBuf,
    header: String,
    credentials: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl TokenServer {
    pub(super) fn start(dir: &Path, user: &str, password: &str) -> anyhow::Result<Self> {
        let certificate = dir.join("token.crt");
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=testkit realm",
        ]);
        capture(openssl.arg("-keyout").arg(dir.join("token.key")).arg("-out").arg(&certificate))?;
        let der = capture(
            Command::new("openssl").args(["x509", "-outform", "DER", "-in"]).arg(&certificate),
        )?;
        let header =
            json!({"typ": "JWT", "alg": "RS256", "x5c": [STANDARD.encode(der)]}).to_string();

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .context("cannot listen for the token realm")?;
        let address = listener.local_addr()?;
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let stopping = Arc::new(AtomicBool::new(false));
        let realm = Realm {
            dir: dir.to_owned(),
            header: URL_SAFE_NO_PAD.encode(header),
            credentials: format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))),
            requests: Arc::clone(&requests),
        };
        let until = Arc::clone(&stopping);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if until.load(Ordering::SeqCst) {
                    break;
                }
                // A client that goes away in the middle is its own problem; its test will say so.
                let _result =
                    stream.map_err(anyhow::Error::from).and_then(|stream| realm.answer(&stream));
            }
        });
        Ok(Self { address, certificate, requests, stopping, thread: Some(thread) })
    }

    /// The section `auth.token` of the registry's configuration.
    pub(super) fn registry_options(&self) -> Value {
        let realm = format!("http://localhost:{}/token", self.address.port());
        json!({"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": self.certificate})
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().map(|list| list.clone()).unwrap_or_default()
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread from `accept`. If that fails the thread ends with the process.
        if TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok() {
            let _panicked = self.thread.take().map(JoinHandle::join);
        }
    }
}

impl Realm {
    fn answer(&self, stream: &TcpStream) -> anyhow::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut lines = std::io::Read::take(BufReader::new(stream), LINE_LIMIT as u64).lines();
        let request = lines.next().context("an empty request")??;
        let mut authorization = None;
        for line in lines {
            let line = line?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("authorization")
            {
                authorization = Some(value.trim().to_owned());
            }
        }
        let (status, body) = self.decide(&request, authorization.as_deref())?;
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        Ok(())
    }

    fn decide(
        &self,
        request: &str,
        authorization: Option<&str>,
    ) -> anyhow::Result<(&'static str, String)> {
        let mut words = request.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let Some(query) = target.strip_prefix("/token?") else {
            return Ok(("404 Not Found", "{}".to_owned()));
        };
        if method != "GET" {
            // What a realm answers that does not know OAuth2; clients then use GET.
            return Ok(("405 Method Not Allowed", "{}".to_owned()));
        }
        let is_user = authorization == Some(self.credentials.as_str());
        let mark = if is_user { "user " } else { "" };
        if let Ok(mut requests) = self.requests.lock() {
            requests.push(format!("{mark}{}", decoded(query)));
        }
        if authorization.is_some() && !is_user {
            return Ok((
                "401 Unauthorized",
                r#"{"details":"incorrect username or password"}"#.to_owned(),
            ));
        }
        let token = self.token(query, is_user)?;
        Ok(("200 OK", json!({"token": token, "expires_in": LIFETIME}).to_string()))
    }

    fn token(&self, query: &str, is_user: bool) -> anyhow::Result<String> {
        let access: Vec<Value> = query
            .split('&')
            .filter_map(|pair| pair.strip_prefix("scope="))
            .map(decoded)
            .flat_map(|scopes| scopes.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .filter_map(|scope| granted(&scope, is_user))
            .collect();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let claims = json!({
            "iss": ISSUER, "sub": if is_user { "user" } else { "" }, "aud": SERVICE, "jti": "1",
            "iat": now, "nbf": now.saturating_sub(10), "exp": now + LIFETIME, "access": access,
        });
        let signed = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims.to_string()));
        let input = self.dir.join("token.input");
        std::fs::write(&input, &signed)?;
        let mut openssl = Command::new("openssl");
        let key = self.dir.join("token.key");
        let signature = capture(openssl.args(["dgst", "-sha256", "-sign"]).arg(key).arg(&input))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// `repository:a/b:pull,push` as an access entry; strangers may only pull.
fn granted(scope: &str, is_user: bool) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let actions: Vec<&str> =
        actions.split(',').filter(|action| is_user || *action == "pull").collect();
    Some(json!({"type": kind, "name": name, "actions": actions}))
}

/// Undoes percent encoding; `+` is a space, as in every query.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (*first, hex.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded() {
        assert_eq!(decoded("repository%3Aa%2Fb%3Apull,push+x%"), "repository:a/b:pull,push x%");
    }

    #[test]
    fn strangers_get_pull_and_users_get_what_they_ask_for() {
        let actions =
            |is_user| granted("repository:a:b:pull,push", is_user).unwrap()["actions"].to_string();
        assert_eq!(actions(true), r#"["pull","push"]"#);
        assert_eq!(actions(false), r#"["pull"]"#);
    }
}
