//! What serving, sending and measuring have in common.

use clap::ValueEnum;

use crate::cli::{Failure, Kind, args};
use crate::defaults::MAX_HELD;
use crate::net::tcp::ConnectError;
use crate::tools::resolve_kind;
use crate::wire::frame::Framing;

/// Where one message ends and the next begins.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Frame {
    /// Nowhere: bytes as they come
    Raw,
    /// At the end of each line
    Lines,
    /// After as many bytes as the four before them say (big-endian)
    Length,
}

impl Frame {
    pub(super) const fn framing(self) -> Framing {
        match self {
            Self::Raw => Framing::Raw,
            Self::Lines => Framing::Lines,
            Self::Length => Framing::Length,
        }
    }
}

/// The longest frame that a tool may be told to take: one that a server can hold beside another.
pub(super) fn max_frame(text: &str) -> Result<usize, String> {
    let size = args::size(text)?;
    if (1..=MAX_HELD / 2).contains(&size) { Ok(size) } else { Err("a size from 1 to 128MiB".to_owned()) }
}

/// For the command line: the kind, and what to do.
pub(super) fn unreachable(error: &ConnectError) -> Failure {
    let (kind, hint) = match error {
        ConnectError::Resolve(error) => (resolve_kind(error), ""),
        ConnectError::Refused { .. } => (Kind::Refused, " (is the server running? see tcp-echo serve --help)"),
        ConnectError::TimedOut { .. } => (Kind::Deadline, " (is it the right address? --connect-timeout waits longer)"),
        ConnectError::Local { .. } => (Kind::Local, ""),
        ConnectError::Unreachable { .. } => (Kind::Unreachable, ""),
    };
    Failure::new(kind, format!("{error}{hint}"))
}

/// Threads unless told otherwise.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

pub(super) fn too_many_threads(threads: usize, error: &std::io::Error) -> Failure {
    Failure::local(format!("cannot start {threads} threads: {error} (or choose fewer with --workers)"))
}
