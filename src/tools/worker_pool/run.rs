//! The options, and how reader, pool, printer and signals are put together.
//!
//! The reader is a thread that waits for stdin and for a place in the queue; the workers are the pool's; the printer is a
//! thread that waits for results and for whoever reads stdout. So none of them holds up the main thread, which hears
//! signals whatever else stands still.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cli::signals::Signals;
use crate::cli::{Common, Failure, Kind, Output};
use crate::defaults::{MAX_QUEUE, MAX_WORKERS, WINDOW_PER_WORKER};
use crate::pool::capture::Spill;
use crate::pool::joblog::{Joblog, Seen, Skip};
use crate::pool::lines::{Line, Lines, Separator};
use crate::pool::process::{self, Cancel, Limits};
use crate::pool::template::{Error, Template};
use crate::pool::{Pool, files, quote};
use crate::threads;

use super::bar::hidden_bar;
use super::control::{Control, Pause, Urgent};
use super::intake::Intake;
use super::job::{Halt, Places, Work};
use super::reader::{Reader, count_ahead, stdin, stdin_is_nothing};
use super::report::{Printer, Tally};

/// What to run, and how.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(super) struct Options {
    /// Jobs that run at the same time [default: one a processor]
    #[arg(long, short = 'j', visible_short_alias = 'P', value_name = "N", allow_negative_numbers = true, value_parser = workers)]
    workers: Option<NonZeroUsize>,
    /// Jobs that are read ahead and wait for a worker; then reading waits [default: two a worker]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = places)]
    queue: Option<NonZeroUsize>,
    /// Print results in the order of the input
    #[arg(long, short = 'k')]
    keep_order: bool,
    /// Jobs that may be ahead of the one to be printed next [default: sixteen a worker]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = places, requires = "keep_order")]
    window: Option<NonZeroUsize>,
    /// End a job, and all it has started, after this time: SIGTERM, then SIGKILL
    #[arg(long, value_name = "DURATION", value_parser = crate::cli::args::duration)]
    timeout: Option<Duration>,
    /// The time between SIGTERM and SIGKILL; also how long processes that a job leaves behind may hold its output
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = crate::cli::args::duration_or_zero)]
    grace: Duration,
    /// Try a job that failed or timed out so many times more; the last attempt's output is printed
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// The pause before the first retry, doubled for each further one, up to 30s
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = crate::cli::args::duration_or_zero)]
    backoff: Duration,
    /// What a failed job means for the others
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Halt::Never)]
    halt: Halt,
    /// The first job that ends well ends the others; stdout has its output alone
    #[arg(long, conflicts_with = "halt")]
    first: bool,
    /// Log each finished job in the columns of GNU parallel; an existing log is only continued (--resume)
    #[arg(long, value_name = "FILE")]
    joblog: Option<PathBuf>,
    /// Skip commands that are in the job log; each line of the log skips one
    #[arg(long, requires = "joblog")]
    resume: bool,
    /// Skip only those that ended well
    #[arg(long, requires = "joblog", conflicts_with = "resume")]
    resume_failed: bool,
    /// Let sh run CMD: its words joined with spaces, {} safely quoted (a here-document keeps the quotes). Without CMD each line is a command
    #[arg(long)]
    shell: bool,
    /// Jobs end with a NUL byte in place of a newline (find -print0)
    #[arg(long, short = '0')]
    null: bool,
    /// Print the commands and run nothing
    #[arg(long)]
    dry_run: bool,
    /// The command and its arguments
    #[arg(value_name = "CMD", trailing_var_arg = true)]
    command: Vec<OsString>,
}

/// What GNU parallel has between its command and its jobs.
fn is_parallels(word: &OsStr) -> bool {
    [":::", "::::", ":::+", "::::+"].iter().any(|separator| word == *separator)
}

/// A number of workers.
pub(super) fn workers(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse().ok().filter(|number: &NonZeroUsize| number.get() <= MAX_WORKERS);
    number.ok_or_else(|| format!("a number from 1 to {MAX_WORKERS}"))
}

/// A number of jobs that wait.
fn places(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse().ok().filter(|number: &NonZeroUsize| number.get() <= MAX_QUEUE);
    number.ok_or_else(|| format!("a number from 1 to {MAX_QUEUE}"))
}

/// Runs the jobs on stdin.
pub(super) async fn run(options: &Options, common: &Common, output: &Output) -> Result<(), Failure> {
    let template = options.template()?;
    if options.dry_run {
        let seen = match &options.joblog {
            Some(path) => options.skip().map(|skip| Seen::read(path, skip)).transpose(),
            None => Ok(None),
        };
        return dry_run(&template, options.separator(), seen.map_err(|e| Failure::local(e.to_string()))?, output);
    }
    let (joblog, seen) = options.open_joblog()?;
    let workers = options.workers.unwrap_or_else(|| thread::available_parallelism().unwrap_or(NonZeroUsize::MIN));
    // From here on signals are heard; before, they would have ended us.
    let signals = Signals::patient()?;
    let urgent = Urgent::new()?;
    let pause = Pause::new()?;

    let work = Arc::new(options.work(template, common, output)?);
    let pool = within_files(options.pool(workers, &work), workers, options, &work)?;
    let on_worker = Arc::clone(&work);
    let (jobs, results) = pool
        .start(move |worker, job| {
            let work = Arc::clone(&on_worker);
            async move { work.run(worker, job).await }
        })
        .map_err(|error| Failure::local(format!("cannot start the workers: {error}")))?;

    let live = io::stderr().is_terminal() && !output.is_json() && !common.quiet;
    let intake = Arc::new(Intake::default());
    let bar = hidden_bar(&intake);
    let mut reader = Reader {
        jobs,
        seen,
        separator: options.separator(),
        work: Arc::clone(&work),
        intake: Arc::clone(&intake),
        bar: bar.clone(),
        runtime: Handle::current(),
    };
    if live {
        count_ahead(&bar, options.separator(), &intake, &work);
    }
    if io::stdin().is_terminal() && !common.quiet {
        let _ = writeln!(io::stderr(), "worker-pool: reading jobs from the terminal, one a line; Ctrl-D ends them");
    }
    let (say, finished) = oneshot::channel();
    let interval = Arc::new(Notify::new());
    let printer = Printer {
        output: output.clone(),
        quiet: common.quiet,
        work: Arc::clone(&work),
        intake,
        joblog,
        bar,
        live,
        interval: Arc::clone(&interval),
        started: Instant::now(),
        tally: Tally::default(),
    };
    let runtime = Handle::current();
    // Neither is waited for: one may stand in a read, the other in a write, for as long as others please.
    let no_thread = |what| move |error| Failure::local(format!("cannot start the thread that {what}: {error}"));
    threads::spawn("printer", move || drop(say.send(runtime.block_on(printer.run(results)))))
        .map_err(no_thread("prints results"))?;
    // Last: once there are jobs, they take what places there are.
    threads::spawn("reader", move || reader.run()).map_err(no_thread("reads jobs"))?;

    let mut control = Control { work, signals, urgent, pause, interval, json: output.is_json(), signal: None };
    let Some((printer, outcome)) = control.until(finished).await? else {
        let signal = control.signal.unwrap_or_default();
        return Err(Failure::new(
            Kind::Interrupted { signal },
            "interrupted; whoever reads stdout did not take all of it",
        ));
    };
    if printer.saw_no_jobs() && stdin_is_nothing() && !common.quiet {
        let _ = writeln!(io::stderr(), "worker-pool: no jobs: stdin is closed, or /dev/null");
    }
    printer.conclude(outcome, control.signal)
}

impl Options {
    fn template(&self) -> Result<Template, Failure> {
        if let Some(word) = self.command.iter().find(|word| is_parallels(word))
            && !std::env::args_os().any(|argument| argument == "--")
        {
            let word = word.display();
            return Err(Failure::usage(format!(
                "{word} is GNU parallel's: here jobs come from stdin, such as: printf '%s\\n' a b c | worker-pool echo   (a \
                 command that takes {word} itself is run by worker-pool -- CMD)"
            )));
        }
        let template = if self.shell { Template::script(&self.command) } else { Template::words(&self.command) };
        template.map_err(|error| match error {
            Error::NoCommand => Failure::usage(
                "what shall be run? Name a command, such as: ls | worker-pool -- wc -l   (see --help; with --shell, each \
                 line is a command)",
            ),
            error => Failure::usage(error.to_string()),
        })
    }

    /// What the jobs have in common.
    fn work(&self, template: Template, common: &Common, output: &Output) -> Result<Work, Failure> {
        let mark = getrandom::u64().map_err(|error| Failure::local(format!("cannot get random bytes: {error}")))?;
        Ok(Work {
            template,
            limits: Limits {
                timeout: self.timeout,
                grace: self.grace,
                spill: if output.is_json() { Spill::Named } else { Spill::Unnamed },
            },
            retries: self.retries,
            backoff: self.backoff,
            halt: self.halt,
            first: self.first,
            stop: CancellationToken::new(),
            cancel: Cancel::default(),
            running: AtomicU64::new(0),
            groups: Arc::default(),
            mark: format!("{mark:016x}"),
            places: Places::default(),
            quiet: common.quiet,
            halted: AtomicBool::new(false),
            won: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            bar_shown: AtomicBool::new(false),
        })
    }

    fn pool(&self, workers: NonZeroUsize, work: &Work) -> Pool {
        let mut pool = Pool::new(workers).stop_with(work.stop.clone()).alone_until(work.places.one_started.clone());
        if let Some(queue) = self.queue {
            pool = pool.queue(queue);
        }
        match self.window {
            _ if !self.keep_order => pool,
            None => pool.keep_order(),
            Some(window) => pool.keep_order_within(window),
        }
    }

    const fn separator(&self) -> Separator {
        if self.null { Separator::Nul } else { Separator::Newline }
    }

    const fn skip(&self) -> Option<Skip> {
        match (self.resume, self.resume_failed) {
            (true, _) => Some(Skip::Finished),
            (_, true) => Some(Skip::Succeeded),
            (false, false) => None,
        }
    }

    fn open_joblog(&self) -> Result<(Option<Joblog>, Option<Seen>), Failure> {
        use crate::pool::joblog::Error;
        let Some(path) = &self.joblog else { return Ok((None, None)) };
        let opened = match self.skip() {
            None => Joblog::create(path).map(|log| (Some(log), None)),
            Some(skip) => Joblog::resume(path, skip).map(|(log, seen)| (Some(log), Some(seen))),
        };
        opened.map_err(|error| match error {
            Error::Exists { .. } | Error::NoFile { .. } => Failure::usage(error.to_string()),
            Error::Io { .. } | Error::InUse { .. } | Error::Format { .. } => Failure::local(error.to_string()),
        })
    }
}

/// Prints what would be run.
fn dry_run(template: &Template, separator: Separator, mut seen: Option<Seen>, output: &Output) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Plan {
        event: &'static str,
        job: u64,
        command: String,
    }
    #[derive(Serialize)]
    struct Summary {
        event: &'static str,
        jobs: u64,
        skipped: u64,
        dry_run: bool,
    }
    let mut summary = Summary { event: "summary", jobs: 0, skipped: 0, dry_run: true };
    for (job, line) in (1..).zip(Lines::new(stdin(), separator)) {
        let line = line.map_err(|error| Failure::local(format!("cannot read jobs from stdin: {error}")))?;
        let bad = |what: String| Failure::new(Kind::No, format!("job {job}: {what}"));
        let Line::Whole(line) = line else { return Err(bad("the line is too long".to_owned())) };
        let command = template.identity(&line, job).map_err(|error| bad(error.to_string()))?;
        let command = quote::line(&command);
        if seen.as_mut().is_some_and(|seen| seen.take(&command)) {
            summary.skipped += 1;
            continue;
        }
        summary.jobs += 1;
        output.result(&Plan { event: "plan", job, command: command.clone() }, || command)?;
    }
    if output.is_json() { output.result(&summary, String::new) } else { Ok(()) }
}

/// Files of a worker's thread: those of its runtime, and of the command that it starts.
const FILES_PER_THREAD: u64 = 3 + process::FILES_TO_START;
/// Files that are open now and then: stdout to watch its reader, stdin to count jobs, `/proc`.
const OTHER_FILES: u64 = 4;

/// Fits the pool to how many files may be open. A job may have long output, which takes files until it is printed.
fn within_files(pool: Pool, workers: NonZeroUsize, options: &Options, work: &Work) -> Result<Pool, Failure> {
    // The threads leave most of the files to the jobs.
    let most = usize::try_from(files::left() / (4 * FILES_PER_THREAD)).unwrap_or(usize::MAX);
    let threads = Pool::threads_for(workers).min(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN));
    // Without an order, a worker has one result in its hands, one on its way, and a job.
    let window = if options.keep_order { options.window } else { Some(workers.saturating_mul(THREE)) };
    let open = window.map_or(workers.get() * WINDOW_PER_WORKER, NonZeroUsize::get) as u64;
    let files = |jobs: u64, threads: NonZeroUsize| {
        OTHER_FILES + threads.get() as u64 * FILES_PER_THREAD + jobs.saturating_mul(process::FILES)
    };
    // What is no job's has to be below the limit that commands get.
    if files::left() >= files(0, threads) {
        files::raise(files(open, threads));
    }
    let room = files::left();
    let jobs = room.saturating_sub(files(0, threads)) / process::FILES;
    let Some(jobs) = NonZeroUsize::new(usize::try_from(jobs).unwrap_or(usize::MAX)) else {
        return Err(Failure::local(format!(
            "cannot start a job: the limit of open files leaves {room}, and {} are needed (raise it: see ulimit -n)",
            files(1, threads)
        )));
    };
    if jobs < workers {
        work.say(&format!("at most {jobs} of {workers} jobs run at a time: the limit of open files has no place for more (see ulimit -n)"));
    }
    let pool = pool.threads(threads);
    Ok(if jobs.get() as u64 >= open { pool } else { pool.open_at_most(jobs) })
}

const THREE: NonZeroUsize = NonZeroUsize::new(3).unwrap();
