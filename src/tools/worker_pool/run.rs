//! The options, and how reader, pool, printer and signals are put together.
//!
//! The reader is a thread that waits for stdin and for a place in the queue; the workers are the pool's; the printer is a
//! thread that waits for results and for whoever reads stdout. So none of them holds up the main thread, which hears
//! signals whatever else stands still.

use std::ffi::OsString;
use std::fs::{self, File};
use std::future;
use std::io::{self, BufReader, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cli::signals::{Signal, Signals};
use crate::cli::{Common, Failure, Kind, Output};
use crate::defaults::{MAX_QUEUE, MAX_WORKERS};
use crate::pool::capture::Spill;
use crate::pool::joblog::{Joblog, Seen, Skip};
use crate::pool::lines::{Line, Lines, Separator};
use crate::pool::process::{Cancel, Limits};
use crate::pool::template::{Error, Template};
use crate::pool::{Jobs, Pool, quote};

use super::job::{Halt, Job, Work};
use super::report::{Printer, Tally, hidden_bar, set_total, show};

/// What to run, and how.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(super) struct Options {
    /// Jobs that run at the same time [default: one a processor]
    #[arg(long, short = 'j', value_name = "N", allow_negative_numbers = true, value_parser = workers)]
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
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    grace: Duration,
    /// Try a job that failed or timed out so many times more; the last attempt's output is printed
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// The pause before the first retry, doubled for each further one, up to 30s
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = humantime::parse_duration)]
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
    /// Let sh run CMD: its words joined with spaces, {} safely quoted. Without CMD each line is a command
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

/// How far reading has come.
#[derive(Debug, Default)]
pub(super) struct Intake {
    pub(super) submitted: AtomicU64,
    pub(super) skipped: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl Intake {
    /// Why reading ended early.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone().map(Failure::local)
    }
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
    allow_files(workers);

    let work = Arc::new(Work {
        template,
        limits: Limits {
            timeout: options.timeout,
            grace: options.grace,
            spill: if output.is_json() { Spill::Named } else { Spill::Unnamed },
        },
        retries: options.retries,
        backoff: options.backoff,
        halt: options.halt,
        first: options.first,
        stop: CancellationToken::new(),
        cancel: Cancel::default(),
        running: AtomicU64::new(0),
        halted: AtomicBool::new(false),
        won: AtomicBool::new(false),
        unread: AtomicBool::new(false),
    });
    // From here on signals are heard; before, they would have ended us.
    let signals = Signals::new()?;
    let hangup = if ignores_hangup() { None } else { signal(SignalKind::hangup()).ok() };

    let mut pool = Pool::new(workers).stop_with(work.stop.clone());
    if let Some(queue) = options.queue {
        pool = pool.queue(queue);
    }
    if options.keep_order {
        pool =
            options.window.map_or_else(|| pool.clone().keep_order(), |window| pool.clone().keep_order_within(window));
    }
    let on_worker = Arc::clone(&work);
    let (jobs, results) = pool
        .start(move |worker, job| {
            let work = Arc::clone(&on_worker);
            async move { work.run(worker, job).await }
        })
        .map_err(|error| Failure::local(format!("cannot start {workers} workers: {error} (try fewer: --workers)")))?;

    let bar = hidden_bar();
    let live = io::stderr().is_terminal() && !output.is_json() && !common.quiet;
    let intake = Arc::new(Intake::default());
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
        count_ahead(&bar, options.separator());
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
        bar: bar.clone(),
        interval: Arc::clone(&interval),
        started: Instant::now(),
        tally: Tally::default(),
    };
    let runtime = Handle::current();
    // Neither is waited for: one may stand in a read, the other in a write, for as long as others please.
    thread::spawn(move || reader.run());
    thread::spawn(move || drop(say.send(runtime.block_on(printer.run(results)))));

    let mut control =
        Control { work, signals, hangup, interval, bar, live, quiet: common.quiet || output.is_json(), signal: None };
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

/// The standard library opens `/dev/null` in place of a stdin that was closed.
fn stdin_is_nothing() -> bool {
    let stdin = rustix::fs::fstat(io::stdin());
    stdin.is_ok_and(|stdin| fs::metadata("/dev/null").is_ok_and(|null| stdin.st_rdev == null.rdev()))
}

impl Options {
    fn template(&self) -> Result<Template, Failure> {
        let template = if self.shell { Template::script(&self.command) } else { Template::words(&self.command) };
        template.map_err(|error| match error {
            Error::NoCommand => Failure::usage(
                "what shall be run? Name a command, such as: ls | worker-pool -- wc -l   (see --help; with --shell, each \
                 line is a command)",
            ),
            error => Failure::usage(error.to_string()),
        })
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

/// Large reads: a job is a few bytes.
fn stdin() -> BufReader<io::Stdin> {
    BufReader::with_capacity(64 << 10, io::stdin())
}

/// Reads jobs and submits them.
struct Reader {
    jobs: Jobs<Job>,
    seen: Option<Seen>,
    separator: Separator,
    work: Arc<Work>,
    intake: Arc<Intake>,
    bar: ProgressBar,
    runtime: Handle,
}

impl Reader {
    fn run(&mut self) {
        let mut read = 0;
        for (number, line) in (1..).zip(Lines::new(stdin(), self.separator)) {
            match line {
                Ok(line) if self.is_known(&line, number) => {
                    self.intake.skipped.fetch_add(1, Ordering::Relaxed);
                    self.bar.inc(1);
                }
                Ok(line) => {
                    if self.runtime.block_on(self.jobs.submit(Job { number, line })).is_err() {
                        return; // the pool has stopped
                    }
                    self.intake.submitted.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    let failure = format!("cannot read jobs from stdin: {error}");
                    *self.intake.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                    break;
                }
            }
            read = number;
        }
        set_total(&self.bar, read);
    }

    fn is_known(&mut self, line: &Line, number: u64) -> bool {
        let (Some(seen), Line::Whole(line)) = (&mut self.seen, line) else { return false };
        self.work.template.identity(line, number).is_ok_and(|command| seen.take(&quote::line(&command)))
    }
}

/// Hears signals while the jobs run.
struct Control {
    work: Arc<Work>,
    signals: Signals,
    hangup: Option<tokio::signal::unix::Signal>,
    interval: Arc<Notify>,
    bar: ProgressBar,
    live: bool,
    quiet: bool,
    /// The one that asked to stop.
    signal: Option<u8>,
}

/// A run that is over sooner needs no progress bar.
const BAR_AFTER: Duration = Duration::from_millis(500);

type Printed = (Printer, Result<(), Failure>);

impl Control {
    /// Waits until all is printed; gives up when that takes too long after all jobs were told to end.
    async fn until(&mut self, mut finished: oneshot::Receiver<Printed>) -> Result<Option<Printed>, Failure> {
        let reader = watch_stdout();
        let mut closed = false;
        let mut insisted = 0;
        let mut patience = None;
        let show_bar = Instant::now() + BAR_AFTER;
        loop {
            tokio::select! {
                done = &mut finished => {
                    let (printer, outcome) = done.map_err(|_| Failure::local("a worker has panicked: see above"))?;
                    let outcome = if closed { Err(Failure::new(Kind::ClosedPipe, "")) } else { outcome };
                    return Ok(Some((printer, outcome)));
                }
                asked = self.signals.next() => match asked {
                    Signal::Interval => self.interval.notify_one(),
                    Signal::Stop(number) if self.signal.is_none() => {
                        self.signal = Some(number);
                        self.work.stop.cancel();
                        self.say("no more jobs are started; a second signal ends those that run");
                    }
                    Signal::Stop(_) => {
                        insisted += 1;
                        self.work.end();
                        if insisted > 1 {
                            self.work.cancel.kill.cancel();
                        }
                        patience = patience.or(Some(Instant::now() + 2 * self.work.limits.grace + Duration::from_secs(1)));
                    }
                },
                () = hung_up(&mut self.hangup) => {
                    self.signal = Some(1);
                    self.work.end();
                    patience = Some(Instant::now() + 2 * self.work.limits.grace + Duration::from_secs(1));
                }
                () = closes(reader.as_ref()), if !closed => {
                    closed = true;
                    self.work.unread.store(true, Ordering::Relaxed);
                    self.work.end();
                }
                () = sleep_until(show_bar), if self.live => {
                    self.live = false;
                    show(&self.bar);
                }
                () = sleep_until(patience.unwrap_or(show_bar)), if patience.is_some() => return Ok(None),
            }
        }
    }

    fn say(&self, what: &str) {
        if !self.quiet {
            self.bar.suspend(|| drop(writeln!(io::stderr(), "worker-pool: {what}")));
        }
    }
}

async fn hung_up(hangup: &mut Option<tokio::signal::unix::Signal>) {
    match hangup {
        Some(signal) => drop(signal.recv().await),
        None => future::pending().await,
    }
}

/// Whether `nohup` or the like has asked that we outlive the terminal.
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

/// Stdout, if it is a pipe: jobs that run for long shall not do so for a reader that is gone. It is only watched, so it may
/// block as it did.
fn watch_stdout() -> Option<pipe::Sender> {
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned().ok()?);
    let is_pipe = stdout.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo());
    if is_pipe { pipe::Sender::from_owned_fd_unchecked(stdout.into()).ok() } else { None }
}

async fn closes(reader: Option<&pipe::Sender>) {
    if let Some(reader) = reader
        && reader.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    future::pending::<()>().await;
}

/// When stdin is a file, the bar knows at once how many jobs there are.
fn count_ahead(bar: &ProgressBar, separator: Separator) {
    let Ok(stdin) = io::stdin().as_fd().try_clone_to_owned() else { return };
    let mut stdin = File::from(stdin);
    if !stdin.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return;
    }
    let Ok(mut at) = io::Seek::stream_position(&mut stdin) else { return };
    let bar = bar.clone();
    thread::spawn(move || {
        let mut chunk = vec![0; 256 << 10];
        let (mut jobs, mut last) = (0, separator.byte());
        while let Ok(length @ 1..) = stdin.read_at(&mut chunk, at) {
            at += length as u64;
            jobs += memchr::memchr_iter(separator.byte(), &chunk[..length]).count() as u64;
            last = chunk[length - 1];
        }
        set_total(&bar, jobs + u64::from(last != separator.byte()));
    });
}

/// File descriptors of a worker: its runtime, and its job's pipes and files.
const FILES_PER_WORKER: u64 = 16;

/// Raises the limit of open files if so many workers need it. Not for nothing: commands inherit it, and old ones use
/// `select` or close all descriptors one by one.
fn allow_files(workers: NonZeroUsize) {
    let needed = workers.get() as u64 * FILES_PER_WORKER + 64;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = Some(limit.maximum.map_or(needed, |maximum| maximum.min(needed)));
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!("cannot raise the limit of open files: {error}");
        }
    }
}
