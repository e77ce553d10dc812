//! What all tools share at the command line: exit codes, output, logs, the ready line, signals.
//!
//! - [`failure`]: how a tool ends;
//! - [`output`]: results on stdout, as text or JSON lines;
//! - [`closed`]: whether anybody still reads them;
//! - [`events`]: the same from a server, which must not wait for who reads them;
//! - [`ready`]: the ready line of a server;
//! - [`signals`]: the first signal asks, the second one insists;
//! - [`escape`]: text from elsewhere, made harmless;
//! - [`measure`]: a measurement with a live line, and its latencies;
//! - [`args`]: argument types;
//! - [`address`]: addresses among them;
//! - [`origin`]: whether a value came from an option or a variable.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use clap::{ColorChoice, Parser};

pub mod address;
pub mod args;
pub mod closed;
pub mod escape;
pub mod events;
pub mod failure;
mod generate;
pub mod measure;
pub mod origin;
pub mod output;
pub mod ready;
pub mod signals;

pub use failure::{Failure, Kind};
pub use output::Output;

use crate::threads;

/// Options that every tool has.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// Print JSON lines in place of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more on stderr (-vv: everything); RUST_LOG says it in detail
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing on stderr but errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Use colours: on a terminal unless NO_COLOR is set, always, or never
    #[arg(long, global = true, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
    /// Write completions and man pages below this directory, such as /usr/local/share, and do nothing else
    #[arg(long, value_name = "DIR", hide_short_help = true, value_parser = alone)]
    pub generate: Option<String>,
}

/// The option that stands alone was handled before; here it stands beside others.
fn alone(_: &str) -> Result<String, String> {
    Err("it takes no other arguments".to_owned())
}

impl Common {
    /// Whether to use colours on `stream`.
    pub fn colours(&self, stream: &impl IsTerminal) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()),
        }
    }
}

/// A tool: its arguments know how to run.
pub trait Tool: Parser {
    /// The name in messages.
    const NAME: &'static str;

    /// Whether it takes as many file descriptors as the system allows. Its children would inherit that.
    const TAKES_ALL_FILES: bool = true;

    /// What to do in place of an option that there is not, where that is known better than by spelling.
    fn tip(_option: &str) -> Option<&'static str> {
        None
    }

    /// The options that every tool has.
    fn common(&self) -> &Common;

    /// Does what the tool does.
    fn run(self, output: &Output) -> impl Future<Output = Result<(), Failure>>;
}

/// Parses the arguments, runs the tool on a single-threaded runtime, reports how it ended.
pub fn main<T: Tool>() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "--generate")
        && let (Some(share), None) = (arguments.next(), arguments.next())
    {
        // Before anything is parsed: what a tool needs for its work is not needed for this.
        return match generate::run(T::command(), Path::new(&share)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => Output::new(false).failure(T::NAME, &failure),
        };
    }
    let tool = match parse::<T>() {
        Ok(tool) => tool,
        Err(error) => {
            let mut error = with_tip::<T>(error);
            origin::amend(&mut error, T::command());
            address::amend(&mut error);
            return usage(&error);
        }
    };
    let common = tool.common().clone();
    start_logging(&common);
    if T::TAKES_ALL_FILES {
        raise_file_limit();
    }
    let output = Output::new(common.json);
    let result =
        threads::runtime().map_err(|error| Failure::local(format!("cannot start: {error}"))).and_then(|runtime| {
            let result = runtime.block_on(tool.run(&output));
            runtime.shutdown_background(); // a name server that does not answer is not waited for
            result
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.failure(T::NAME, &failure),
    }
}

/// The arguments. A variable that is set and empty, as compose files leave them, counts as none.
fn parse<T: Tool>() -> Result<T, clap::Error> {
    let is_empty =
        |argument: &clap::Arg| argument.get_env().and_then(std::env::var_os).is_some_and(|set| set.is_empty());
    let mut command = T::command().mut_args(|argument| if is_empty(&argument) { argument.env(None) } else { argument });
    let mut matches = command.try_get_matches_from_mut(std::env::args_os())?;
    T::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// Takes as many file descriptors as the system allows: the usual soft limit of 1024 is there for programs that use
/// `select`, and would let a thousand idle clients keep a server's peers out.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!("cannot raise the limit of open files: {error}");
    }
}

/// Puts the tool's own tip in the place of clap's, which is to pass the option as a value.
fn with_tip<T: Tool>(mut error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(option))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
        && let Some(tip) = T::tip(option)
    {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// Help and version go to stdout and are no failure; a mistake goes to stderr, and for programs to stdout.
fn usage(error: &clap::Error) -> ExitCode {
    drop(error.print()); // a closed pipe ends quietly
    if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let message = error.render().to_string();
        // What comes before the usage, in one line: a missing argument is named in the second.
        let what = message.split("\n\nUsage:").next().unwrap_or_default().trim_start_matches("error: ");
        let words: Vec<_> = what.split_whitespace().collect();
        Output::new(true).error(Kind::Usage, &words.join(" "));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Logs go to stderr. RUST_LOG rules over -v and -q.
fn start_logging(common: &Common) {
    let level = match (common.quiet, common.verbose) {
        (true, _) => "error",
        (false, 0) => "netbelt=info,warn",
        (false, 1) => "netbelt=debug,warn",
        (false, _) => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| level.into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(common.colours(&std::io::stderr()))
        .with_target(false)
        .log_internal_errors(false) // it would panic on a stderr that takes nothing
        .init();
}
