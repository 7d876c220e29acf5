//! The clouds' storages on loopback: moto for S3 and for Amazon's registry service, an emulator for Google's Cloud Storage, Azurite for Azure's blobs.
//!
//! moto and Azurite verify signatures with code of their own, and moto what a user may do.

use std::fs::File;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::base::once;
use crate::cache_dir;
use crate::command::{Server, capture, capture_text};
use crate::nginx::free_ports;
use crate::python::environment;

/// What pip installs, with its versions.
const REQUIREMENTS: &str = include_str!("storage/requirements.txt");

const ECR: &str = include_str!("storage/ecr.py");

/// What npm installs.
const AZURITE: &str = "azurite@3.35.0";

/// The account that Azurite has, and its key, which everybody knows.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// The Python of a virtual environment with moto and the emulator of Google's storage, which is made where it is missing.
///
/// # Errors
///
/// Fails without `python3 -m venv`, or where a package cannot be fetched.
pub fn storage_python() -> anyhow::Result<PathBuf> {
    environment("storage", REQUIREMENTS)
}

/// Azurite's program, which npm installs where it is missing.
///
/// # Errors
///
/// Fails without npm, or where a package cannot be fetched.
pub fn azurite() -> anyhow::Result<PathBuf> {
    let directory = once(&cache_dir()?.join(AZURITE), |directory| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--silent", AZURITE]);
        capture(npm.current_dir(directory)).map(drop)
    })?;
    Ok(directory.join("node_modules/azurite/dist/src/blob/main.js"))
}

/// A storage that holds one file, or, of [`Storage::ecr`], none. It ends with the value.
#[derive(Debug)]
pub struct Storage {
    // The server first: its directory must not vanish beneath it.
    _server: Server,
    port: u16,
    dir: tempfile::TempDir,
    /// The name and the secret of who may read.
    keys: (String, String),
}

impl Storage {
    /// S3, as moto has it, with the file `path` as `key` in the buckets `contexts` and `closed`. Its keys are those of a
    /// user who may read the first.
    ///
    /// # Errors
    ///
    /// Fails if moto does not come up.
    pub fn s3(path: &Path, key: &str) -> anyhow::Result<Self> {
        Self::moto(include_str!("storage/s3.py"), &[&path.to_string_lossy(), key])
    }

    /// Amazon's registry service, as moto has it, for the account `123456789012`: it makes repositories and gives passwords,
    /// and holds no image. Its keys are those of a user who may do everything there.
    ///
    /// # Errors
    ///
    /// Fails if moto does not come up.
    pub fn ecr() -> anyhow::Result<Self> {
        Self::moto(ECR, &["fill"])
    }

    /// What the registry service has: `repositories`, and `lifecycle` and `policy` of the repository `name`.
    ///
    /// # Errors
    ///
    /// Fails if the repository is not there or has not both policies.
    pub fn ecr_repository(&self, name: &str) -> anyhow::Result<serde_json::Value> {
        let (id, secret) = self.keys();
        Ok(serde_json::from_str(&self.fill(ECR, &["look", id, secret, name])?)?)
    }

    fn moto(script: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut storage = Self::aws()?;
        let said = storage.fill(script, arguments)?;
        let (id, secret) = said.trim().split_once(' ').context("moto gave no keys")?;
        storage.keys = (id.to_owned(), secret.to_owned());
        Ok(storage)
    }

    /// Amazon's services, as moto has them, with nothing in them. Which one is asked, it tells by the name of the host or by the
    /// signature.
    ///
    /// # Errors
    ///
    /// Fails if moto does not come up.
    pub fn aws() -> anyhow::Result<Self> {
        Self::start(|port, _| {
            let python = storage_python()?.display().to_string();
            let port = port.to_string();
            let words = [&python, "-m", "moto.server", "-H", "127.0.0.1", "-p", &port];
            Ok(words.map(str::to_owned).to_vec())
        })
    }

    /// Google's Cloud Storage, with the file `path` as `name` in the bucket `contexts`.
    ///
    /// # Errors
    ///
    /// Fails if the emulator does not come up.
    pub fn gcs(path: &Path, name: &str) -> anyhow::Result<Self> {
        let storage = Self::start(|port, _| {
            let python = storage_python()?.display().to_string();
            let port = port.to_string();
            let call =
                "import sys; from gcp_storage_emulator.__main__ import main; sys.exit(main())";
            let words = [&python, "-c", call, "start", "--host", "127.0.0.1", "--port", &port];
            let more = ["--in-memory", "--default-bucket", "contexts"];
            Ok(words.into_iter().chain(more).map(str::to_owned).collect())
        })?;
        storage.fill(include_str!("storage/gcs.py"), &[&path.to_string_lossy(), name])?;
        Ok(storage)
    }

    /// Azure's blob storage, with TLS, with the file `path` as `blob` in the containers `contexts` and, for everybody,
    /// `public`. Its keys are the account's.
    ///
    /// # Errors
    ///
    /// Fails if Azurite does not come up.
    pub fn azure(path: &Path, blob: &str) -> anyhow::Result<Self> {
        let mut storage = Self::start(|port, directory| {
            crate::registry::issue_for(directory, &[&Self::azure_host()])?;
            let program = azurite()?.display().to_string();
            let in_dir = |name: &str| directory.join(name).display().to_string();
            let (cert, key, data) = (in_dir("server.crt"), in_dir("server.key"), in_dir("data"));
            let port = port.to_string();
            let words = ["node", &program, "--blobHost", "127.0.0.1", "--blobPort", &port];
            let more = ["--cert", &cert, "--key", &key, "--location", &data, "--silent"];
            let more = more.into_iter().chain(["--disableTelemetry"]);
            Ok(words.into_iter().chain(more).map(str::to_owned).collect())
        })?;
        storage.keys = (ACCOUNT.to_owned(), ACCOUNT_KEY.to_owned());
        let host = format!("{}:{}", Self::azure_host(), storage.port);
        let arguments = [&*host, ACCOUNT_KEY, &path.to_string_lossy(), blob];
        storage.fill_at("https", include_str!("storage/azure.py"), &arguments)?;
        Ok(storage)
    }

    /// The name that Azure's host has; it must be made to lead to this machine.
    pub fn azure_host() -> String {
        format!("{ACCOUNT}.blob.core.windows.net")
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name of a key, and the key.
    pub fn keys(&self) -> (&str, &str) {
        (&self.keys.0, &self.keys.1)
    }

    /// The certificate of the authority that has signed the server's, in PEM.
    ///
    /// # Errors
    ///
    /// Fails where the server has none.
    pub fn authority(&self) -> anyhow::Result<PathBuf> {
        let path = self.dir.path().join("authority/ca.crt");
        if path.exists() { Ok(path) } else { bail!("this storage has no certificate") }
    }

    fn start(words: impl Fn(u16, &Path) -> anyhow::Result<Vec<String>>) -> anyhow::Result<Self> {
        let dir = crate::scratch_dir("storage-")?;
        let mut last = String::new();
        // Between choosing a port and the server's bind somebody else may take it; then another one is as good.
        for _ in 0..5 {
            let port = free_ports(1)?.first().copied().unwrap_or_default();
            let log = File::create(dir.path().join("output"))?;
            let words = words(port, dir.path())?;
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let (program, arguments) = words.split_first().context("there is no program")?;
            let mut server = Server::start(program, arguments, &log)?;
            let deadline = Instant::now() + Duration::from_secs(40);
            while Instant::now() < deadline && !server.has_ended() {
                if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                    let keys = (String::new(), String::new());
                    return Ok(Self { _server: server, port, dir, keys });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            drop(server);
            last = std::fs::read_to_string(dir.path().join("output")).unwrap_or_default();
        }
        bail!("the storage does not come up\n{last}")
    }

    fn fill(&self, script: &str, arguments: &[&str]) -> anyhow::Result<String> {
        self.fill_at("http", script, arguments)
    }

    fn fill_at(&self, scheme: &str, script: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let base = format!("{scheme}://127.0.0.1:{}", self.port);
        let mut python = Command::new(storage_python()?);
        capture_text(python.args(["-c", script, &base]).args(arguments))
    }
}
