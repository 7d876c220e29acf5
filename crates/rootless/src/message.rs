//! What the processes of a guest tell the builder, through a pipe.

/// What can fail before the command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    FindRoot,
    /// The step of this number.
    Mount(u32),
    EnterRoot,
    Landlock,
    Network,
    HostName,
    Filter,
    /// The limit of this number.
    Limit(u32),
    Capabilities,
    UserNamespaces,
    Fork,
    Streams,
    WorkDir,
    Groups,
    Group,
    User,
    Execute,
}

/// What the two processes tell the builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// The command does not run, because of this.
    Failed(Failed, i32),
    Exited(i32),
    Signalled(i32),
}

/// Bytes of an encoded [`Message`]: less than a pipe takes at once.
pub(crate) const MESSAGE_LENGTH: usize = 12;

impl Message {
    /// Async-signal-safe.
    pub(crate) fn encode(self) -> [u8; MESSAGE_LENGTH] {
        let (tag, detail, value): (u32, u32, i32) = match self {
            Self::Exited(status) => (1, 0, status),
            Self::Signalled(signal) => (2, 0, signal),
            Self::Failed(Failed::Mount(step), error) => (3, step, error),
            Self::Failed(Failed::Limit(number), error) => (5, number, error),
            Self::Failed(Failed::FindRoot, error) => (4, 0, error),
            Self::Failed(Failed::EnterRoot, error) => (4, 1, error),
            Self::Failed(Failed::Capabilities, error) => (4, 2, error),
            Self::Failed(Failed::Fork, error) => (4, 3, error),
            Self::Failed(Failed::Streams, error) => (4, 4, error),
            Self::Failed(Failed::WorkDir, error) => (4, 5, error),
            Self::Failed(Failed::Groups, error) => (4, 6, error),
            Self::Failed(Failed::Group, error) => (4, 7, error),
            Self::Failed(Failed::User, error) => (4, 8, error),
            Self::Failed(Failed::Execute, error) => (4, 9, error),
            Self::Failed(Failed::Landlock, error) => (4, 10, error),
            Self::Failed(Failed::UserNamespaces, error) => (4, 11, error),
            Self::Failed(Failed::Network, error) => (4, 12, error),
            Self::Failed(Failed::HostName, error) => (4, 13, error),
            Self::Failed(Failed::Filter, error) => (4, 14, error),
        };
        let mut bytes = [0; MESSAGE_LENGTH];
        bytes[..4].copy_from_slice(&tag.to_ne_bytes());
        bytes[4..8].copy_from_slice(&detail.to_ne_bytes());
        bytes[8..].copy_from_slice(&value.to_ne_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: [u8; MESSAGE_LENGTH]) -> Option<Self> {
        let word = |index: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[index * 4..][..4]);
            u32::from_ne_bytes(word)
        };
        let value = word(2).cast_signed();
        let failed = |what| Some(Self::Failed(what, value));
        match (word(0), word(1)) {
            (1, _) => Some(Self::Exited(value)),
            (2, _) => Some(Self::Signalled(value)),
            (3, step) => failed(Failed::Mount(step)),
            (5, number) => failed(Failed::Limit(number)),
            (4, 0) => failed(Failed::FindRoot),
            (4, 1) => failed(Failed::EnterRoot),
            (4, 2) => failed(Failed::Capabilities),
            (4, 3) => failed(Failed::Fork),
            (4, 4) => failed(Failed::Streams),
            (4, 5) => failed(Failed::WorkDir),
            (4, 6) => failed(Failed::Groups),
            (4, 7) => failed(Failed::Group),
            (4, 8) => failed(Failed::User),
            (4, 9) => failed(Failed::Execute),
            (4, 10) => failed(Failed::Landlock),
            (4, 11) => failed(Failed::UserNamespaces),
            (4, 12) => failed(Failed::Network),
            (4, 13) => failed(Failed::HostName),
            (4, 14) => failed(Failed::Filter),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_pipe() {
        let failures = [
            Failed::FindRoot,
            Failed::Mount(0),
            Failed::Mount(u32::MAX),
            Failed::EnterRoot,
            Failed::Landlock,
            Failed::Network,
            Failed::HostName,
            Failed::Filter,
            Failed::Limit(1),
            Failed::Capabilities,
            Failed::UserNamespaces,
            Failed::Fork,
            Failed::Streams,
            Failed::WorkDir,
            Failed::Groups,
            Failed::Group,
            Failed::User,
            Failed::Execute,
        ];
        for message in [Message::Exited(255), Message::Signalled(9)]
            .into_iter()
            .chain(failures.map(|what| Message::Failed(what, libc::ENOENT)))
        {
            assert_eq!(Message::decode(message.encode()), Some(message));
        }
        assert_eq!(Message::decode([7; MESSAGE_LENGTH]), None);
    }
}
