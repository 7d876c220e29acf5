//! Repositories over SSH: with the machine's own `ssh`, as git reaches them.
//!
//! There is no client in this program (`docs/adr/0018-ssh-by-the-machines-program.md`). What the program is told here is that nobody
//! can be asked, that an unknown host is refused, and where keys and known hosts are.

#![expect(clippy::disallowed_methods, reason = "looks for the machine's program and its settings")]

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ebiko_build::{Agent, AgentSocket, Secret, is_usable_key};
use ebiko_remote::{SshConnector, SshDestination, SshError, SshFault, SshStream};
use ebiko_rootless::Conversation;

use crate::environment::Environment;

/// How long nothing may come. A server that counts objects says so every few seconds.
const PATIENCE: Duration = Duration::from_mins(5);

/// What the program gets of the environment.
const VARIABLES: [&str; 6] = ["HOME", "USER", "LOGNAME", "PATH", "LANG", "TMPDIR"];

/// What is always said, behind what the user says in `GIT_SSH_COMMAND`: there the first word counts.
const OPTIONS: [&str; 13] = [
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "ConnectTimeout=30",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "ControlMaster=no",
    "ControlPath=none",
    "SendEnv=GIT_PROTOCOL",
];

/// How the program is found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum How {
    Program(PathBuf),
    /// `GIT_SSH_COMMAND`, which a shell reads.
    Command(String),
    /// A build has put something else in its place.
    Replaced,
    Missing,
}

/// The machine's `ssh`, and whom it logs in as.
pub(crate) struct Ssh {
    how: How,
    options: Vec<OsString>,
    /// The user's settings. The program asks the list of users for the home, which need not be the one that `HOME` names.
    config: Option<PathBuf>,
    variables: Vec<(OsString, OsString)>,
    /// What `--ssh default` says.
    given: Option<Agent>,
    /// What else the user has on this machine, for a context that the user names.
    own: Option<Agent>,
    /// For the sockets of agents.
    directory: PathBuf,
    /// The agents that serve the two, when they were needed.
    sockets: [Mutex<Option<AgentSocket>>; 2],
    is_closed: AtomicBool,
    is_interrupted: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl std::fmt::Debug for Ssh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ssh").field("how", &self.how).finish_non_exhaustive()
    }
}

/// For whom a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// For what a Dockerfile names: with what `--ssh default` says.
    Dockerfile,
    /// For the context, which the user names: if there is no `--ssh default`, with the user's own keys.
    Context,
}

/// [`Ssh`] for one purpose.
#[derive(Debug)]
pub(crate) struct SshFor<'s> {
    pub(crate) ssh: &'s Ssh,
    pub(crate) purpose: Purpose,
}

impl Ssh {
    /// Looks for the program and the user's settings; nothing is started.
    ///
    /// `directory` is the builder's, and need not be there. Where a build has replaced the machine's files
    /// (`is_replaced`), no program is one of the machine's.
    pub(crate) fn find(
        environment: &Environment,
        given: Option<Agent>,
        directory: &Path,
        is_replaced: bool,
        is_interrupted: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Self {
        let program = || {
            std::env::split_paths(environment.search_path())
                .filter(|directory| directory.is_absolute())
                .map(|directory| directory.join("ssh"))
                .find(|path| path.is_file())
        };
        let how = match environment.get_filled("GIT_SSH_COMMAND") {
            _ if is_replaced => How::Replaced,
            Some(command) => How::Command(command.to_owned()),
            None => program().map_or(How::Missing, How::Program),
        };
        let variables = environment.all().filter(|(name, _)| VARIABLES.contains(name));
        Self {
            how,
            options: options(environment),
            config: environment
                .get_filled("HOME")
                .map(|home| environment.absolute(Path::new(home)).join(".ssh/config"))
                .filter(|path| path.is_file()),
            variables: variables.map(|(name, value)| (name.into(), value.into())).collect(),
            given,
            own: own_agent(environment),
            directory: directory.join("ssh"),
            sockets: Default::default(),
            is_closed: AtomicBool::new(false),
            is_interrupted,
        }
    }

    /// Whether there is a program to try.
    pub(crate) fn is_there(&self) -> bool {
        matches!(self.how, How::Program(_) | How::Command(_))
    }

    /// From now on nothing is started any more, and no key is in a socket.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        for socket in &self.sockets {
            drop(socket.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        // It goes with the builder's directory at the latest.
        std::fs::remove_dir_all(&self.directory).ok();
    }

    /// The socket of the agent to use, if there is one.
    fn agent(&self, purpose: Purpose) -> Result<Option<PathBuf>, SshError> {
        let (agent, name, socket) = match (&self.given, &self.own, purpose) {
            (Some(agent), _, _) => (agent, "given", &self.sockets[0]),
            (None, Some(agent), Purpose::Context) => (agent, "own", &self.sockets[1]),
            _ => return Ok(None),
        };
        if let Agent::Forwarded(path) = agent {
            return Ok(Some(path.clone()));
        }
        let path = self.directory.join(name);
        let mut socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
        if socket.is_none() {
            self.make_directory().map_err(|error| {
                let text = format!("cannot make `{}`: {error}", self.directory.display());
                SshError { fault: SshFault::Other, text }
            })?;
            let served = AgentSocket::serve(agent, &path);
            *socket = Some(served.map_err(|error| {
                let text = format!("{:#}", anyhow::Error::from(error));
                SshError { fault: SshFault::Keys, text }
            })?);
        }
        Ok(Some(path))
    }

    /// A new directory for sockets, the first time; a build that was killed may have left one.
    fn make_directory(&self) -> io::Result<()> {
        let is_used = self
            .sockets
            .iter()
            .any(|socket| socket.try_lock().is_ok_and(|socket| socket.is_some()));
        if is_used {
            return Ok(());
        }
        match std::fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory),
        }
    }
}

impl SshConnector for SshFor<'_> {
    fn connect(
        &self,
        destination: &SshDestination,
        command: &str,
        protocol: &str,
    ) -> Result<Box<dyn SshStream>, SshError> {
        let ssh = self.ssh;
        let fail = |fault, text: &str| Err(SshError { fault, text: text.to_owned() });
        let (path, mut arguments) = match &ssh.how {
            How::Program(_) | How::Command(_) if ssh.is_closed.load(Ordering::SeqCst) => {
                return fail(SshFault::Other, "it was not known before the build began");
            }
            How::Program(path) => (path.clone(), Vec::new()),
            How::Command(command) => {
                let script = format!("{command} \"$@\"");
                (PathBuf::from("/bin/sh"), vec!["-c".into(), script.into(), "ssh".into()])
            }
            How::Replaced => {
                let text =
                    "an earlier build has replaced the files of this container, and its `ssh`";
                return fail(SshFault::Replaced, text);
            }
            How::Missing => return fail(SshFault::NoProgram, "there is no program `ssh` here"),
        };
        arguments.extend(ssh.options.iter().cloned());
        match (self.purpose, &ssh.config) {
            // Without the user's settings, which name keys, and without the keys that the program looks for by itself.
            (Purpose::Dockerfile, _) => {
                arguments
                    .extend(["-F", "/dev/null", "-o", "IdentityFile=none"].map(OsString::from));
            }
            (Purpose::Context, Some(config)) => arguments.extend(["-F".into(), config.into()]),
            (Purpose::Context, None) => {}
        }
        if let Some(port) = destination.port() {
            arguments.extend(["-p".into(), port.to_string().into()]);
        }
        if let Some(user) = destination.user() {
            arguments.extend(["-l".into(), user.into()]);
        }
        arguments.extend(["--".into(), destination.host().into(), command.into()]);
        let mut variables = ssh.variables.clone();
        variables.push(("GIT_PROTOCOL".into(), protocol.into()));
        if let Some(agent) = ssh.agent(self.purpose)? {
            variables.push(("SSH_AUTH_SOCK".into(), agent.into()));
        }
        let is_interrupted = Arc::clone(&ssh.is_interrupted);
        let started = Conversation::start(&path, &arguments, &variables, PATIENCE, is_interrupted);
        match started {
            Ok(conversation) => Ok(Box::new(Connection(conversation))),
            Err(error) => {
                let text = format!("`{}` {:#}", path.display(), anyhow::Error::from(error));
                fail(SshFault::Other, &text)
            }
        }
    }
}

/// What is always said, and what the user's environment adds to it.
fn options(environment: &Environment) -> Vec<OsString> {
    let mut options: Vec<OsString> = vec!["-T".into()];
    let mut say = |option: String| options.extend(["-o".into(), OsString::from(option)]);
    OPTIONS.into_iter().map(str::to_owned).for_each(&mut say);
    say("LogLevel=ERROR".to_owned());
    // As above, the home that the variable names.
    let home = environment.get_filled("HOME").map(|home| Path::new(home).join(".ssh"));
    let given = environment.get_filled("SSH_KNOWN_HOSTS");
    let files: Vec<PathBuf> = match (given, &home) {
        (Some(list), _) => std::env::split_paths(list).collect(),
        (None, Some(home)) => ["known_hosts", "known_hosts2"].map(|name| home.join(name)).to_vec(),
        (None, None) => Vec::new(),
    };
    let files: Vec<String> =
        files.iter().filter_map(|file| word(&environment.absolute(file))).collect();
    if !files.is_empty() {
        say(format!("UserKnownHostsFile={}", files.join(" ")));
    }
    if given.is_some() {
        // As in kaniko: these files and no other.
        say("GlobalKnownHostsFile=/dev/null".to_owned());
    }
    options
}

/// A path as one word of an option: `%` and `~` would be replaced in it. One with a quotation mark cannot be written.
fn word(path: &Path) -> Option<String> {
    let text = path.to_str().filter(|text| !text.contains(['"', '\n', '\\']))?;
    Some(format!("\"{}\"", text.replace('%', "%%")))
}

/// The agent in `SSH_AUTH_SOCK`, else the keys in the home that can be used.
fn own_agent(environment: &Environment) -> Option<Agent> {
    if let Some(socket) = environment.get_filled("SSH_AUTH_SOCK") {
        return Some(Agent::Forwarded(environment.absolute(Path::new(socket))));
    }
    let home = environment.absolute(Path::new(environment.get_filled("HOME")?)).join(".ssh");
    let keys: Vec<Secret> = ["id_ed25519", "id_ecdsa", "id_rsa"]
        .iter()
        .filter_map(|name| crate::credentials::read_file(&home.join(name)).ok())
        .map(Secret::new)
        .filter(is_usable_key)
        .collect();
    (!keys.is_empty()).then_some(Agent::Keys(keys))
}

/// A program that is spoken with.
struct Connection(Conversation);

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Connection {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl SshStream for Connection {
    fn end(&mut self) -> SshError {
        reason(&String::from_utf8_lossy(&self.0.end()))
    }
}

/// Why the program ended, from what it wrote to standard error.
fn reason(words: &str) -> SshError {
    let has = |text: &str| words.contains(text);
    let fault = if has("REMOTE HOST IDENTIFICATION HAS CHANGED") || has("REVOKED HOST KEY") {
        SshFault::OtherKey
    } else if has("Host key verification failed") || has("host key is known for") {
        SshFault::UnknownHost
    } else if has("Permission denied (") || has("Too many authentication failures") {
        SshFault::Login
    } else {
        SshFault::Other
    };
    let lines: Vec<&str> = words
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('@'))
        .collect();
    let last = lines.len().saturating_sub(3);
    let text: String = lines
        .get(last..)
        .unwrap_or_default()
        .join("; ")
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .take(600)
        .collect();
    let text = if text.is_empty() { "`ssh` ended without a word".to_owned() } else { text };
    SshError { fault, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(variables: &[(&'static str, String)], is_replaced: bool) -> Ssh {
        let environment = Environment::of_list(variables.iter().cloned());
        Ssh::find(&environment, None, Path::new("/nowhere"), is_replaced, Arc::new(|| false))
    }

    #[test]
    fn the_program_is_one_of_the_machines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display().to_string();
        assert_eq!(find(&[("PATH", format!("{path}:relative"))], false).how, How::Missing);
        std::fs::write(directory.path().join("ssh"), "").unwrap();
        let variables = [("PATH", format!("/none:{path}"))];
        let found = find(&variables, false);
        assert_eq!(found.how, How::Program(directory.path().join("ssh")));
        assert_eq!(find(&variables, true).how, How::Replaced);
        let command = [variables[0].clone(), ("GIT_SSH_COMMAND", "ssh -v".to_owned())];
        assert_eq!(find(&command, false).how, How::Command("ssh -v".to_owned()));
        assert_eq!(find(&command, true).how, How::Replaced);
    }

    fn known_hosts(variables: &[(&'static str, String)]) -> Vec<String> {
        let options = find(variables, false).options;
        let texts = options.iter().filter_map(|option| option.to_str());
        texts.filter(|text| text.contains("KnownHostsFile")).map(str::to_owned).collect()
    }

    #[test]
    fn the_files_of_known_hosts_are_those_of_the_variable_or_of_the_home() {
        let home = ("HOME", "/home/my self".to_owned());
        assert_eq!(
            known_hosts(std::slice::from_ref(&home)),
            [
                r#"UserKnownHostsFile="/home/my self/.ssh/known_hosts" "/home/my self/.ssh/known_hosts2""#
            ]
        );
        assert_eq!(
            known_hosts(&[home, ("SSH_KNOWN_HOSTS", "/a:/b%d".to_owned())]),
            [r#"UserKnownHostsFile="/a" "/b%%d""#, "GlobalKnownHostsFile=/dev/null"]
        );
        assert_eq!(known_hosts(&[]), Vec::<String>::new());
    }

    #[test]
    fn what_the_program_says_has_a_kind() {
        let check = |words: &str, fault: SshFault, text: &str| {
            assert_eq!(reason(words), SshError { fault, text: text.to_owned() });
        };
        check("", SshFault::Other, "`ssh` ended without a word");
        check(
            "No ED25519 host key is known for h and you have requested strict checking.\r\nHost key verification failed.\r\n",
            SshFault::UnknownHost,
            "No ED25519 host key is known for h and you have requested strict checking.; Host key verification failed.",
        );
        check(
            "@@@@@\r\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\nHost key verification failed.\r\n",
            SshFault::OtherKey,
            "Host key verification failed.",
        );
        check(
            "git@h: Permission denied (publickey).\n",
            SshFault::Login,
            "git@h: Permission denied (publickey).",
        );
        check("a\nb\n\nc\x1b[31m\nd\n", SshFault::Other, "b; c [31m; d");
    }

    #[test]
    fn keys_of_the_home_serve_for_a_context_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let ssh = home.path().join(".ssh");
        std::fs::create_dir(&ssh).unwrap();
        std::fs::write(ssh.join("id_rsa"), "damaged").unwrap();
        let variables = [("HOME", home.path().display().to_string())];
        assert_eq!(find(&variables, false).own, None);
        let key = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(ssh.join("id_ed25519"))
            .output()
            .unwrap();
        assert!(key.status.success(), "{key:?}");
        let environment = Environment::of_list(variables.iter().cloned());
        let sockets = tempfile::tempdir().unwrap();
        let found = Ssh::find(&environment, None, sockets.path(), false, Arc::new(|| false));
        assert_eq!(found.agent(Purpose::Dockerfile), Ok(None));
        let socket = found.agent(Purpose::Context).unwrap().unwrap();
        let listed =
            std::process::Command::new("ssh-add").arg("-l").env("SSH_AUTH_SOCK", &socket).output();
        let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
        assert!(listed.contains("(ED25519)"), "{listed}");
        found.close();
        assert!(!socket.exists() && !sockets.path().join("ssh").exists());
    }
}
