//! How a tool ends when it does not end well.

/// Why a tool failed; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It ran, and the answer is no.
    No,
    /// The command line is wrong.
    Usage,
    /// Nobody answers there: no route, say.
    Unreachable,
    /// The port there is closed.
    Refused,
    /// The name has no address.
    NameNotFound,
    /// No leader was there in time.
    NoLeader,
    /// The peer broke the protocol, or refused.
    Peer,
    /// The peer hung up before it had answered.
    Closed,
    /// The disk, the port or a permission of this machine.
    Local,
    /// Time is up.
    Deadline,
    /// A signal ended a one-shot command.
    Interrupted {
        /// The signal's number.
        signal: u8,
    },
    /// Stdout was closed: whoever read it has enough.
    ClosedPipe,
}

impl Kind {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::Unreachable | Self::Refused | Self::NameNotFound | Self::NoLeader => 3,
            Self::Peer | Self::Closed => 5,
            Self::Local => 6,
            Self::Deadline => 124,
            Self::Interrupted { signal } => 128 + signal,
        }
    }

    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::NameNotFound => "name_not_found",
            Self::NoLeader => "no_leader",
            Self::Peer => "peer",
            Self::Closed => "closed",
            Self::Local => "local",
            Self::Deadline => "deadline",
            Self::Interrupted { .. } => "interrupted",
            Self::ClosedPipe => "closed_pipe",
        }
    }
}

/// A failure: its kind, and what happened, to what, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The kind.
    pub kind: Kind,
    /// The message; empty when all has been said.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Trouble on this machine.
    pub fn local(message: impl Into<String>) -> Self {
        Self::new(Kind::Local, message)
    }
}
