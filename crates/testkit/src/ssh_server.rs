//! Debian's OpenSSH server on loopback, and a pod that has its client.

use std::fs::File;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::Executor;
use crate::command::{Server, capture, capture_text};
use crate::nginx::free_ports;

/// A server that this machine's root can log in to with a key, and read every file of the machine. It ends with the value.
#[derive(Debug)]
pub struct SshServer {
    // The server first: its directory must not vanish beneath it.
    _server: Server,
    port: u16,
    dir: tempfile::TempDir,
}

/// A key pair in a file of its own.
#[derive(Debug, Clone)]
pub struct SshKey {
    path: PathBuf,
}

impl SshKey {
    /// Makes one of this kind (`ed25519`, `rsa`, `ecdsa`), without a passphrase.
    ///
    /// # Errors
    ///
    /// Fails if `ssh-keygen` is missing or `path` is there.
    pub fn generate(kind: &str, path: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new("ssh-keygen");
        capture(command.args(["-q", "-t", kind, "-N", "", "-C", "", "-f"]).arg(path))?;
        Ok(Self { path: path.to_owned() })
    }

    /// The file of the private key.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The public key as one line.
    pub fn public(&self) -> anyhow::Result<String> {
        let path = self.path.with_added_extension("pub");
        Ok(std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read `{}`", path.display()))?
            .trim()
            .to_owned())
    }
}

impl SshServer {
    /// Starts one with a host key of this kind, at which these keys may log in. With `speaks_second` it lets clients ask for
    /// the second version of git's protocol.
    ///
    /// # Errors
    ///
    /// Fails without root, and if OpenSSH's server (Debian: `openssh-server`) is missing or does not come up.
    pub fn start(kind: &str, keys: &[&SshKey], speaks_second: bool) -> anyhow::Result<Self> {
        let dir = crate::scratch_dir("sshd-")?;
        let host = SshKey::generate(kind, &dir.path().join("host"))?;
        let keys: Vec<String> = keys.iter().map(|key| key.public()).collect::<Result<_, _>>()?;
        std::fs::write(dir.path().join("keys"), keys.join("\n") + "\n")?;
        // Debian's directory for what has no privileges, which its service makes.
        std::fs::create_dir_all("/run/sshd").context("starting sshd needs root")?;
        let accepted = if speaks_second { "AcceptEnv GIT_PROTOCOL\n" } else { "" };
        for _ in 0..5 {
            let port = *free_ports(1)?.first().context("there is a port")?;
            let text = format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
                 StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 PermitRootLogin prohibit-password\nLogLevel VERBOSE\n{accepted}",
                host.path().display(),
                dir.path().join("keys").display(),
            );
            let config = dir.path().join("config");
            std::fs::write(&config, text)?;
            let log = File::create(dir.path().join("log"))?;
            let arguments = ["-D", "-e", "-f", &config.to_string_lossy()];
            let mut server = Server::start("/usr/sbin/sshd", &arguments, &log)?;
            let deadline = Instant::now() + Duration::from_secs(20);
            while Instant::now() < deadline && !server.has_ended() {
                if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                    return Ok(Self { _server: server, port, dir });
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        bail!("sshd does not come up\n{}", log_of(dir.path()))
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a directory of this machine.
    pub fn url(&self, path: &Path) -> String {
        format!("ssh://root@127.0.0.1:{}{}", self.port, path.display())
    }

    /// The line of a file of known hosts.
    pub fn known_host(&self) -> anyhow::Result<String> {
        let key = SshKey { path: self.dir.path().join("host") };
        Ok(format!("[127.0.0.1]:{} {}\n", self.port, key.public()?))
    }

    /// What the server has written.
    pub fn log(&self) -> String {
        log_of(self.dir.path())
    }
}

fn log_of(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("log")).unwrap_or_default()
}

impl Executor {
    /// Adds this machine's `ssh` with its libraries, and a list of users that has root.
    ///
    /// # Errors
    ///
    /// Fails if it is missing (Debian: `openssh-client`).
    pub fn add_ssh(&self) -> anyhow::Result<()> {
        let program = "/usr/bin/ssh";
        let list = capture_text(Command::new("ldd").arg(program))?;
        let libraries = list.split_whitespace().filter(|word| word.starts_with('/'));
        for file in libraries.chain([program]) {
            let to = self.root().join(file.trim_start_matches('/'));
            std::fs::create_dir_all(to.parent().context("a file has a parent")?)?;
            // Of what is linked, the file.
            std::fs::copy(file, &to).with_context(|| format!("cannot copy `{file}`"))?;
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755))?;
        }
        for directory in ["etc", "root", "tmp"] {
            std::fs::create_dir_all(self.root().join(directory))?;
        }
        std::fs::write(self.root().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
        Ok(())
    }
}
