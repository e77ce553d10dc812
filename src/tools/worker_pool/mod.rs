//! `worker-pool`: runs a command for each line of stdin, N at a time.
//!
//! - `run`: the options, and how the parts are put together: `reader` (`intake`), pool, printer (`report`, `event`,
//!   `bar`), `control`;
//! - `job`: one job on its worker: attempts, and what its outcome means for the others;
//! - `demo`: the same pool, with numbers to double in place of commands.

use clap::Parser;

use crate::cli::{Common, Failure, Output, Tool};

mod bar;
mod control;
mod demo;
mod event;
mod intake;
mod job;
mod reader;
mod report;
mod run;

/// Run a command for each line of stdin, N at a time
///
/// {} in CMD is the line, {#} its number, {%} the worker that runs it; the line is appended when CMD has none of them.
/// Nothing is given to a shell unless you say --shell. Each job's output is printed in one piece when it ends.
#[derive(Debug, Parser)]
#[command(
    name = "worker-pool",
    version,
    override_usage = "worker-pool [OPTIONS] [--] CMD [ARG]... < JOBS\n       worker-pool demo [OPTIONS]",
    after_help = "Examples:\n  \
        find . -name '*.log' -print0 | worker-pool -0 -- gzip -9\n  \
        worker-pool -j 8 -k --timeout 10s --retries 2 -- curl -sf {} < urls.txt\n  \
        ls *.png | worker-pool --shell -- 'convert {} {}.webp && rm {}'\n  \
        worker-pool --joblog run.log --resume -- ./step {} < steps.txt   # goes on where it was stopped\n  \
        worker-pool --first -- ping -c 1 < mirrors.txt   # the first success ends the others\n  \
        worker-pool demo --workers 3 --jobs 5\n\n\
        Ctrl-C starts no more jobs and waits for those that run; again: ends them (SIGTERM, then SIGKILL).\n\
        Ctrl-Z stops the jobs, too; fg continues them. A job that wants the terminal is ended.\n\n\
        Exit codes: 0 all jobs ended well, 1 a job failed, 2 usage, 6 trouble on this machine, 130/143 interrupted"
)]
pub struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    options: run::Options,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Subcommand)]
enum Other {
    /// Show the bounded pool at work: N workers double the numbers of M jobs
    Demo(demo::Options),
}

impl Tool for Args {
    const NAME: &'static str = "worker-pool";
    const TAKES_ALL_FILES: bool = false;

    fn tip(option: &str) -> Option<&'static str> {
        // What people bring with them from xargs and GNU parallel.
        Some(match option {
            "-n" | "-L" | "-l" | "-N" | "--max-args" | "--max-lines" | "--max-replace-args" => {
                "each line is a job and a command of its own, so leave -n 1 out (several lines a command: xargs -n)"
            }
            "-I" | "-i" | "--replace" => {
                "{} in CMD is always the job, so leave the option out (a command that has {} for itself is run by a script)"
            }
            "-a" | "--arg-file" => "jobs come from stdin: worker-pool CMD < FILE",
            "-d" | "--delimiter" => "jobs end with a newline, or with -0 by NUL: tr ';' '\n' < FILE | worker-pool CMD",
            "-r" | "--no-run-if-empty" => "without jobs nothing is run: leave the option out",
            "-t" => "--dry-run prints the commands, --joblog keeps those that were run",
            "-o" | "--open-tty" | "--tty" => "a job has no terminal: xargs -o runs one that must ask you",
            "--bar" | "--eta" | "--progress" => "on a terminal there is a bar with the time left: leave the option out",
            "--colsep" | "-C" | "-X" | "-m" | "--xargs" => {
                "a job is one line and one argument; sh -c 'set -- $1; ..' sh, as CMD, takes a line apart"
            }
            _ => "options of the command stand behind its name: worker-pool [OPTIONS] CMD [ARG]...",
        })
    }

    fn common(&self) -> &Common {
        &self.common
    }

    async fn run(self, output: &Output) -> Result<(), Failure> {
        match &self.other {
            Some(Other::Demo(_)) if self.options != Self::parse_from([Self::NAME]).options => Err(Failure::usage(
                "the demo takes its own options, after its name: see worker-pool demo --help (a command of that name is \
                 run by worker-pool -- demo)",
            )),
            Some(Other::Demo(options)) => demo::run(options, output).await,
            None => run::run(&self.options, &self.common, output).await,
        }
    }
}
