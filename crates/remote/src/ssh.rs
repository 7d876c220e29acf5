//! The way to repositories over SSH: a port, because this crate starts no program and opens no socket.

use std::fmt;
use std::io::{Read, Write};

/// Connects with hosts over SSH.
pub trait SshConnector: Sync {
    /// Logs in at `destination` and starts `command` there, which the host's shell reads, with the variable `GIT_PROTOCOL`
    /// set to `protocol` where the host allows that.
    ///
    /// Who implements this verifies the host's key and never takes an unknown one. A refusal may come at once, or end what
    /// is read from the stream before the first byte.
    fn connect(
        &self,
        destination: &SshDestination,
        command: &str,
        protocol: &str,
    ) -> Result<Box<dyn SshStream>, SshError>;
}

/// A command on another host: what is written goes to its standard input, what is read comes from its standard output.
pub trait SshStream: Read + Write {
    /// Ends the connection, and says why it ended if it did so by itself: a text of others, for people.
    fn end(&mut self) -> SshError;
}

/// Whom to log in as, and where.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SshDestination {
    /// `None` leaves it to the one who connects.
    pub(crate) user: Option<String>,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
}

impl SshDestination {
    /// The user, without whom it is left to the one who connects. Never begins with `-`.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// A name, an address without brackets, or whatever else the one who connects knows. Never begins with `-`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if it was named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

/// As in messages: without the user, who may be a token's name.
impl fmt::Display for SshDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "[{}]:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl fmt::Debug for SshDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SshDestination({self})")
    }
}

/// There is no connection, or no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SshError {
    /// What kind of failure it is.
    pub fault: SshFault,
    /// For people: one line, without control characters.
    pub text: String,
}

/// Kinds of [`SshError`], as far as there is advice for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshFault {
    /// There is no program that speaks SSH.
    NoProgram,
    /// There was one, and a build has replaced the files of its container since.
    Replaced,
    /// The host's key is not known.
    UnknownHost,
    /// The host has another key than the one that is known, or a revoked one.
    OtherKey,
    /// The host knows none of our keys.
    Login,
    /// A key of the user's cannot be read.
    Keys,
    /// Something else.
    Other,
}

impl SshFault {
    /// What the user can do about it, if there is something they can do.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Self::NoProgram => Some(
                "use an image of the builder that has OpenSSH's `ssh` in its PATH (docs/guide/contexts.md has one), or an \
                 `https://` address with a token as the secret `GIT_AUTH_TOKEN`",
            ),
            Self::Replaced => Some(
                "give the build before this one `--cleanup`, which brings back the container's files, or use a new container",
            ),
            Self::UnknownHost => Some(
                "put the host's key into the file that SSH_KNOWN_HOSTS names, `~/.ssh/known_hosts` or \
                 `/etc/ssh/ssh_known_hosts`; `ssh-keyscan HOST` prints it, the host's owner says whether it is the right one",
            ),
            Self::OtherKey => Some(
                "somebody may be in between; if the host's owner says that its key has changed, replace the line in the \
                 file of known hosts",
            ),
            Self::Login => Some(
                "give a key that the host knows with `--ssh default=KEY_FILE`, or an agent with `--ssh default=SOCKET`",
            ),
            Self::Keys | Self::Other => None,
        }
    }
}
