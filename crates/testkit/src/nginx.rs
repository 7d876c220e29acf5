//! Debian's nginx on loopback, with a configuration that a test writes.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::command::Server;

/// A request that nobody is told of.
const MARK: &str = "/is-everything-written";

/// A running nginx. It ends with the value.
#[derive(Debug)]
pub struct Nginx {
    // The server first: its directory must not vanish beneath it.
    _server: Server,
    ports: Vec<u16>,
    dir: tempfile::TempDir,
}

impl Nginx {
    /// Starts it with what `servers` makes of `count` free ports: `server` blocks, and whatever else stands in `http`.
    /// Returns when all ports answer.
    ///
    /// # Errors
    ///
    /// Fails if nginx is missing, or does not come up with this configuration.
    pub fn start(count: usize, servers: impl Fn(&[u16]) -> String) -> anyhow::Result<Self> {
        let dir = crate::scratch_dir("nginx-")?;
        let mut last = String::new();
        // Between choosing a port and nginx' bind somebody else may take it; then another one is as good.
        for _ in 0..5 {
            let ports = free_ports(count)?;
            let path = dir.path().join("nginx.conf");
            std::fs::write(&path, config(dir.path(), &servers(&ports)))?;
            let log = File::create(dir.path().join("output"))?;
            let mut server =
                Server::start("/usr/sbin/nginx", &["-c", &path.to_string_lossy()], &log)?;
            if answers(&mut server, &ports) {
                return Ok(Self { _server: server, ports, dir });
            }
            drop(server);
            last = std::fs::read_to_string(dir.path().join("output")).unwrap_or_default();
        }
        bail!("nginx does not come up\n{last}")
    }

    /// `localhost:PORT` of the port of this number.
    pub fn host(&self, number: usize) -> String {
        format!("localhost:{}", self.ports.get(number).copied().unwrap_or_default())
    }

    /// The requests so far, as `PORT METHOD URI STATUS AUTHORIZATION`, where the last one is `-` if there was none.
    pub fn requests(&self) -> Vec<String> {
        self.settle();
        let log = std::fs::read_to_string(self.dir.path().join("access")).unwrap_or_default();
        log.lines().filter(|line| !line.contains(MARK)).map(str::to_owned).collect()
    }

    /// A line is written after the answer has gone, so that who has read the answer may be faster. There is one process, which
    /// writes the line before it turns to another request.
    fn settle(&self) {
        let Some(port) = self.ports.first() else { return };
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)) else { return };
        let request = format!("GET {MARK} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        drop(stream.write_all(request.as_bytes()));
        drop(stream.read_to_end(&mut Vec::new()));
    }
}

fn config(dir: &Path, servers: &str) -> String {
    let dir = dir.display();
    // One process, so that ending it ends all of it.
    format!(
        "daemon off;\nmaster_process off;\npid {dir}/pid;\nerror_log stderr warn;\nworker_rlimit_nofile 1024;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n\
         log_format plain '$server_port $request_method $request_uri $status $http_authorization';\n\
         access_log {dir}/access plain;\n\
         client_body_temp_path {dir}/body;\nproxy_temp_path {dir}/proxy;\nfastcgi_temp_path {dir}/fastcgi;\n\
         uwsgi_temp_path {dir}/uwsgi;\nscgi_temp_path {dir}/scgi;\n\
         {servers}\n}}\n"
    )
}

pub(crate) fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port"))
        .collect::<anyhow::Result<_>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

fn answers(server: &mut Server, ports: &[u16]) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline && !server.has_ended() {
        if ports.iter().all(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok()) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}
