//! `tcp-echo`: an echo server, a client for it, and a load generator.

use clap::{Parser, Subcommand};

use crate::cli::{Common, Failure, Output, Tool};

mod bench;
mod common;
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
