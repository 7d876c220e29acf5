//! A socket at which a command finds an SSH agent.
//!
//! Whatever is behind it, a command may ask for the public keys and for signatures. It may not add, remove or lock
//! keys: the agent is the user's, and outlives the command.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ebiko_plan::{Mount, MountKind};
use ebiko_rootless::Content;

use super::keys::{KeyError, Keys};
use super::{FileAttributes, MountError, Outfitter, Stop, attributes, host_path, target};
use crate::Agent;

/// An agent for a program of the builder's: lists keys and signs until it is dropped, and nothing else.
pub struct AgentSocket {
    path: PathBuf,
    _thread: AgentThread,
}

impl std::fmt::Debug for AgentSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentSocket").field("path", &self.path).finish_non_exhaustive()
    }
}

/// An agent cannot be served.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum AgentSocketError {
    #[error("cannot read the SSH keys")]
    Keys(#[source] KeyError),
    #[error("cannot serve an SSH agent at `{}`", path.display())]
    Serve { path: PathBuf, source: io::Error },
}

impl AgentSocketError {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Keys(source) => source.hint(),
            Self::Serve { .. } => None,
        }
    }
}

impl AgentSocket {
    /// Serves the keys of `agent` at the socket `path`, which is not there yet. Only this process' user can connect to it
    /// if only they can enter its directory, or once this function has returned.
    pub fn serve(agent: &Agent, path: &std::path::Path) -> Result<Self, AgentSocketError> {
        let failed = |source| AgentSocketError::Serve { path: path.to_owned(), source };
        let backend = Backend::of(agent).map_err(AgentSocketError::Keys)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let thread = AgentThread::start(listener, backend).map_err(failed)?;
        Ok(Self { path: path.to_owned(), _thread: thread })
    }
}

#[expect(clippy::disallowed_methods, reason = "the builder's own directory is on the host")]
impl Drop for AgentSocket {
    fn drop(&mut self) {
        // Its directory goes with the build, and this with it.
        std::fs::remove_file(&self.path).ok();
    }
}

/// Whether `key` is a private key that an agent can serve.
pub fn is_usable_key(key: &crate::Secret) -> bool {
    Keys::parse([key.expose()]).is_ok()
}

/// Serves one socket until it is dropped.
pub(super) struct AgentThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Who answers.
#[derive(Clone)]
enum Backend {
    Forwarded(PathBuf),
    Keys(Arc<Keys>),
}

impl Backend {
    fn of(agent: &Agent) -> Result<Self, KeyError> {
        Ok(match agent {
            Agent::Forwarded(socket) => Self::Forwarded(socket.clone()),
            Agent::Keys(files) => {
                Self::Keys(Arc::new(Keys::parse(files.iter().map(crate::Secret::expose))?))
            }
        })
    }
}

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// As long as OpenSSH lets a message be.
const LONGEST_MESSAGE: usize = 256 * 1024;

/// So many connections at a time are served.
const MOST_CONNECTIONS: usize = 64;

/// How often is looked for new connections.
const PAUSE: Duration = Duration::from_millis(10);

impl Outfitter<'_> {
    pub(super) fn agent(&mut self, mount: &Mount) -> Result<(), Stop> {
        let MountKind::Ssh { id, required, mode, uid, gid } = &mount.kind else { return Ok(()) };
        // The command is told where the first agent would be, whether or not there is one.
        let target = target(mount)?;
        let variable = "SSH_AUTH_SOCK";
        if !self.equipment.env.iter().any(|(name, _)| name == variable) {
            self.equipment.env.push((variable.to_owned(), format!("/{target}")));
        }
        let backend = match self.site.supplies.agents.get(id) {
            Some(agent) => {
                Backend::of(agent).map_err(|source| MountError::Keys { id: id.clone(), source })?
            }
            None if !*required => return Ok(()),
            None if self.site.supplies.agents.is_empty() => {
                return Err(MountError::NoAgents { id: id.clone() }.into());
            }
            None => return Err(MountError::NoAgent { id: id.clone() }.into()),
        };
        let (root, path) = self.next()?;
        let socket = host_path(&root, &path);
        let failed = |source| MountError::Agent { id: id.clone(), source };
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        let file = FileAttributes { mode: *mode, uid: *uid, gid: *gid };
        root.set_attributes(&path, &attributes(file))?;
        self.equipment.agents.push(AgentThread::start(listener, backend).map_err(failed)?);
        self.attach(target, Content::Disposable(socket), mount.read_only);
        Ok(())
    }
}

impl AgentThread {
    fn start(listener: UnixListener, backend: Backend) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("ssh-agent".to_owned())
            .spawn(move || serve(&listener, &backend, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for AgentThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn serve(listener: &UnixListener, backend: &Backend, stop: &AtomicBool) {
    let open = Arc::new(AtomicUsize::new(0));
    while !stop.load(Ordering::SeqCst) {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(PAUSE);
            continue;
        };
        if open.fetch_add(1, Ordering::SeqCst) >= MOST_CONNECTIONS {
            open.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (backend, counted) = (backend.clone(), Arc::clone(&open));
        // It ends when the command's side does, and every process of the command is ended with its step.
        let started = std::thread::Builder::new().name("ssh-agent".to_owned()).spawn(move || {
            // A connection that fails is for the command to complain about.
            converse(stream, &backend).ok();
            counted.fetch_sub(1, Ordering::SeqCst);
        });
        if started.is_err() {
            open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn converse(mut stream: UnixStream, backend: &Backend) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut upstream = None;
    while let Some(request) = receive(&mut stream)? {
        let answer = answer(&request, backend, &mut upstream).unwrap_or_else(|| vec![FAILURE]);
        send(&mut stream, &answer)?;
    }
    Ok(())
}

/// The answer to a message; `None` where it is refused or fails.
fn answer(request: &[u8], backend: &Backend, upstream: &mut Option<UnixStream>) -> Option<Vec<u8>> {
    let (&kind, body) = request.split_first()?;
    if !matches!(kind, REQUEST_IDENTITIES | SIGN_REQUEST) {
        return None;
    }
    match backend {
        Backend::Forwarded(socket) => {
            if upstream.is_none() {
                *upstream = UnixStream::connect(socket).ok();
            }
            let agent = upstream.as_mut()?;
            send(agent, request).ok()?;
            receive(agent).ok()?
        }
        Backend::Keys(keys) => {
            let (kind, body) = match kind {
                REQUEST_IDENTITIES => (IDENTITIES_ANSWER, keys.identities()),
                _ => (SIGN_RESPONSE, keys.sign(body)?),
            };
            Some([&[kind], body.as_slice()].concat())
        }
    }
}

/// The next message; `None` at the end.
fn receive(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length == 0 || length > LONGEST_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message)?;
    Ok(Some(message))
}

fn send(stream: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes(), message].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_looking_and_signing_reach_a_forwarded_agent() {
        let directory = tempfile::tempdir().unwrap();
        let upstream = UnixListener::bind(directory.path().join("upstream")).unwrap();
        let seen = std::thread::spawn(move || {
            let (mut stream, _) = upstream.accept().unwrap();
            let mut seen = Vec::new();
            while let Some(message) = receive(&mut stream).unwrap() {
                seen.push(message[0]);
                send(&mut stream, &[IDENTITIES_ANSWER, 0, 0, 0, 0]).unwrap();
            }
            seen
        });
        let listener = UnixListener::bind(directory.path().join("own")).unwrap();
        let backend = Backend::Forwarded(directory.path().join("upstream"));
        let agent = AgentThread::start(listener, backend).unwrap();
        let mut client = UnixStream::connect(directory.path().join("own")).unwrap();
        // Add, remove, remove all, add from a card, lock, unlock, add with constraints, extension.
        for kind in [17, 18, 19, 20, 22, 23, 25, 26, 27, 0] {
            send(&mut client, &[kind, 1, 2, 3]).unwrap();
            assert_eq!(receive(&mut client).unwrap(), Some(vec![FAILURE]), "{kind}");
        }
        send(&mut client, &[REQUEST_IDENTITIES]).unwrap();
        assert_eq!(receive(&mut client).unwrap(), Some(vec![IDENTITIES_ANSWER, 0, 0, 0, 0]));
        drop((client, agent));
        assert_eq!(seen.join().unwrap(), [REQUEST_IDENTITIES]);
    }

    #[test]
    fn a_message_without_end_is_not_read() {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(&u32::MAX.to_be_bytes()).unwrap();
        let backend = Backend::Keys(Arc::new(Keys::parse([]).unwrap()));
        assert_eq!(converse(server, &backend).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
