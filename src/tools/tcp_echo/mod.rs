//! `tcp-echo`: an echo server, a client for it, and a load generator.

use bytes::Bytes;
use clap::{Parser, Subcommand, ValueEnum};

use crate::cli::{Common, Failure, Kind, Output, Tool, args};
use crate::defaults::MAX_HELD;
use crate::net::tcp::ConnectError;
use crate::tools::resolve_kind;
use crate::wire::frame::Framing;

mod bench;
mod send;
mod serve;

/// Serve, ask and load TCP echo
#[derive(Debug, Parser)]
#[command(
    name = "tcp-echo",
    version,
    propagate_version = true,
    after_help = "Examples:\n  \
        tcp-echo serve --listen 127.0.0.1:7000\n  \
        tcp-echo send 127.0.0.1:7000 hello\n  \
        tcp-echo bench 127.0.0.1:7000 --conns 50 --size 64 --duration 10s\n  \
        tcp-echo serve --greet 'Hello from server' --hangup\n\n\
        Exit codes: 0 done, 1 not what was sent came back (send --check) or a bench with errors, 2 usage,\n\
        3 cannot reach it (refused, no route, name not found), 5 closed too early or turned away,\n\
        6 trouble on this machine, 124 no answer in time, 130 and 143 interrupted"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Echo whatever clients send
    Serve(serve::Options),
    /// Send a message, or stdin, and print what comes back
    Send(send::Options),
    /// Measure messages a second and their latency
    Bench(bench::Options),
}

impl Tool for Args {
    const NAME: &'static str = "tcp-echo";

    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, output: &Output) -> Result<(), Failure> {
        match self.command {
            Command::Serve(options) => serve::run(options, output).await,
            Command::Send(options) => send::run(options, output).await,
            Command::Bench(options) => bench::run(options, output).await,
        }
    }
}

/// Where one message ends and the next begins.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Frame {
    /// Nowhere: bytes as they come
    Raw,
    /// At the end of each line
    Lines,
    /// After as many bytes as the four before them say (big-endian)
    Length,
}

impl Frame {
    const fn framing(self) -> Framing {
        match self {
            Self::Raw => Framing::Raw,
            Self::Lines => Framing::Lines,
            Self::Length => Framing::Length,
        }
    }
}

/// The longest frame that a tool may be told to take: one that a server can hold beside another.
fn max_frame(text: &str) -> Result<usize, String> {
    let size = args::size(text)?;
    if (1..=MAX_HELD / 2).contains(&size) { Ok(size) } else { Err("a size from 1 to 128MiB".to_owned()) }
}

/// For the command line: the kind, and what to do.
fn unreachable(error: &ConnectError) -> Failure {
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
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Files that the runtime of a thread takes: epoll, its waker, its share of the signals.
const FILES_A_WORKER: usize = 4;

fn too_many_threads(threads: usize, error: &std::io::Error) -> Failure {
    Failure::local(format!("cannot start {threads} threads: {error} (or choose fewer with --workers)"))
}

/// For JSON: text as text, anything else in hexadecimal.
fn text_or_hex(payload: &Bytes) -> (&'static str, String) {
    match std::str::from_utf8(payload) {
        Ok(text) => ("text", text.to_owned()),
        Err(_) => ("hex", payload.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}
