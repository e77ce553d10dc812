//! One job on its worker: attempts, and what its outcome means for the others.

use std::ffi::OsString;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::defaults::{MAX_BACKOFF, MAX_JOB_BYTES, START_PATIENCE, START_PAUSE};
use crate::pool::capture::Capture;
use crate::pool::groups::Groups;
use crate::pool::lines::Line;
use crate::pool::process::{self, Cancel, End, Limits, Running};
use crate::pool::template::Template;

/// A job as it was read.
#[derive(Debug)]
pub(super) struct Job {
    /// Its number in the input, from 1.
    pub(super) number: u64,
    pub(super) line: Line,
}

/// When a failed job ends the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Halt {
    /// The others are run
    Never,
    /// No more jobs are started, and those that run are finished
    Soon,
    /// Those that run are ended, too
    Now,
}

/// How jobs are done, the same for all.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) template: Template,
    pub(super) limits: Limits,
    pub(super) retries: u32,
    pub(super) backoff: Duration,
    pub(super) halt: Halt,
    /// Whether the first success ends the others.
    pub(super) first: bool,
    /// Starts no more jobs.
    pub(super) stop: CancellationToken,
    /// Ends those that run.
    pub(super) cancel: Cancel,
    pub(super) running: AtomicU64,
    /// The processes that they are.
    pub(super) groups: Arc<Groups>,
    /// In what the jobs' processes are marked with, this is the pool's part.
    pub(super) mark: String,
    pub(super) places: Places,
    /// Say nothing on stderr but errors.
    pub(super) quiet: bool,
    pub(super) halted: AtomicBool,
    pub(super) won: AtomicBool,
    /// Whether nobody reads stdout any more.
    pub(super) unread: AtomicBool,
    /// Whether the progress bar is on the terminal.
    pub(super) bar_shown: AtomicBool,
}

/// Places for processes on this machine, which may have none left.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// How many commands were started, which numbers them.
    commands: AtomicU64,
    /// Cancelled once one was.
    pub(super) one_started: CancellationToken,
    /// Who waits for a place: one at a time tries again.
    turn: Mutex<()>,
    /// The end of a command, which leaves a place.
    left: Notify,
    /// It has been said that jobs wait.
    said: AtomicBool,
    /// Why no job could be started any more.
    pub(super) exhausted: OnceLock<String>,
}

/// A job that is over.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) number: u64,
    pub(super) worker: usize,
    pub(super) input: Vec<u8>,
    pub(super) status: Status,
    pub(super) exit: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) attempts: u32,
    pub(super) started: SystemTime,
    pub(super) took: Duration,
    /// Stdout and stderr of the last attempt, if there was one.
    pub(super) printed: Option<(Capture, Capture)>,
    pub(super) left_behind: bool,
    pub(super) trouble: Option<Trouble>,
}

/// How a job came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    Failed,
    Timeout,
    Cancelled,
}

/// Why a job failed that has no exit code of its own.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("line {0} is longer than {MAX_JOB_BYTES} bytes, the most a job may have")]
    TooLong(u64),
    #[error(transparent)]
    Template(#[from] crate::pool::template::Error),
    #[error(transparent)]
    Process(#[from] process::Error),
    #[error(transparent)]
    Lost(#[from] crate::pool::capture::Error),
    #[error(
        "it wants the terminal, which jobs do not have: give it what it asks for in a file or an option (xargs runs one that \
         must ask you)"
    )]
    Terminal,
    #[error("not even SIGKILL has ended it")]
    Immortal,
}

impl Status {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
        }
    }
}

/// When an attempt began, for people and for measuring, and what came of it.
type Attempt = (Start, Result<Running, process::Error>);
type Start = (SystemTime, Instant);

#[expect(clippy::disallowed_methods, reason = "the job log tells when a job was started")]
fn now() -> SystemTime {
    SystemTime::now()
}

impl Work {
    /// Does a job, with all its attempts; `None` if it was never started.
    pub(super) async fn run(&self, worker: usize, job: Job) -> Option<Finished> {
        self.running.fetch_add(1, Ordering::Relaxed);
        let mut begun = Instant::now();
        let mut finished = Finished {
            number: job.number,
            worker,
            input: Vec::new(),
            status: Status::Failed,
            exit: None,
            signal: None,
            attempts: 0,
            started: now(),
            took: Duration::ZERO,
            printed: None,
            left_behind: false,
            trouble: None,
        };
        match self.command(&mut finished, job) {
            Ok(command) => begun = self.attempts(&command, &mut finished).await,
            Err(trouble) => finished.trouble = Some(trouble),
        }
        finished.took = begun.elapsed();
        self.running.fetch_sub(1, Ordering::Relaxed);
        if finished.attempts == 0 && finished.trouble.is_none() {
            return None;
        }
        self.draw_consequences(&mut finished);
        Some(finished)
    }

    fn command(&self, finished: &mut Finished, job: Job) -> Result<Vec<OsString>, Trouble> {
        match job.line {
            Line::Whole(line) => {
                finished.input = line;
                Ok(self.template.command(&finished.input, finished.number, finished.worker)?)
            }
            Line::TooLong(beginning) => {
                finished.input = beginning;
                Err(Trouble::TooLong(finished.number))
            }
        }
    }

    /// Tries until it ends well, or often enough. A job that waits for its next attempt keeps its worker: when all jobs
    /// fail, because something is down, then the whole pool slows down, and no number of them piles up. Gives the time of
    /// its start.
    async fn attempts(&self, command: &[OsString], finished: &mut Finished) -> Instant {
        let (mut pause, mut begun) = (self.backoff, Instant::now());
        loop {
            let Some((at, started)) = self.start(command).await else { return begun };
            if finished.attempts == 0 {
                (finished.started, begun) = at;
            }
            finished.attempts += 1;
            self.attempt(started, finished).await;
            let again =
                matches!(finished.status, Status::Failed | Status::Timeout) && finished.attempts <= self.retries;
            if !again || self.stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return begun;
            }
            tracing::debug!("job {} failed, attempt {} follows", finished.number, finished.attempts + 1);
            pause = pause.saturating_mul(2).min(MAX_BACKOFF.max(self.backoff));
        }
    }

    /// Starts a command, and says when; waits for a place while the machine has none. `None` when it shall not be started
    /// any more, or never can be.
    async fn start(&self, command: &[OsString]) -> Option<Attempt> {
        let shortage = |tried: &Attempt| tried.1.as_ref().is_err_and(process::Error::is_shortage);
        let tried = self.try_start(command);
        if !shortage(&tried) {
            return Some(tried);
        }
        let _turn = self.stop.run_until_cancelled(self.places.turn.lock()).await?;
        let (mut pause, mut alone_since) = (*START_PAUSE.start(), None);
        loop {
            let tried = self.try_start(command);
            let Err(error) = &tried.1 else { return Some(tried) };
            if !error.is_shortage() {
                return Some(tried);
            }
            if self.groups.count() > 0 {
                alone_since = None;
                if !self.places.said.swap(true, Ordering::Relaxed) {
                    self.say(&format!("{error}; jobs wait until others have ended (see ulimit -u and -n)"));
                }
            } else if alone_since.get_or_insert_with(Instant::now).elapsed() > START_PATIENCE {
                let waited = humantime::format_duration(START_PATIENCE);
                let why =
                    format!("{error}, for {waited}, although no job runs (raise the limit: see ulimit -u and -n)");
                let _ = self.places.exhausted.set(why); // one reason is enough
                self.stop.cancel();
            }
            let again = async {
                tokio::select! {
                    () = self.places.left.notified() => {}
                    () = sleep(pause) => {}
                }
            };
            self.stop.run_until_cancelled(again).await?;
            pause = (pause * 2).min(*START_PAUSE.end());
        }
    }

    fn try_start(&self, command: &[OsString]) -> Attempt {
        let at = (now(), Instant::now());
        let mark = format!("{}-{}", self.mark, self.places.commands.fetch_add(1, Ordering::Relaxed));
        let started = process::start(command, mark, &self.limits, &self.groups);
        if started.is_ok() {
            self.places.one_started.cancel();
        }
        (at, started)
    }

    async fn attempt(&self, started: Result<Running, process::Error>, finished: &mut Finished) {
        use std::os::unix::process::ExitStatusExt;
        let outcome = match started {
            Ok(running) => {
                let outcome = running.until_over(&self.limits, &self.cancel).await;
                self.places.left.notify_one();
                outcome
            }
            Err(error) => {
                (finished.status, finished.exit, finished.signal) = (Status::Failed, Some(error.exit_code()), None);
                (finished.printed, finished.trouble) = (None, Some(error.into()));
                return;
            }
        };
        finished.exit = outcome.status.and_then(|status| status.code());
        finished.signal = outcome.status.and_then(|status| status.signal());
        finished.printed = Some((outcome.stdout, outcome.stderr));
        finished.left_behind = outcome.left_behind;
        finished.trouble = outcome.status.is_none().then_some(Trouble::Immortal);
        finished.status = match outcome.end {
            End::Itself if finished.exit == Some(0) => Status::Ok,
            End::Itself => Status::Failed,
            End::TimedOut => Status::Timeout,
            End::Cancelled => Status::Cancelled,
            End::Stopped => {
                finished.trouble = Some(Trouble::Terminal);
                Status::Failed
            }
            End::Lost(error) => {
                finished.trouble = Some(error.into());
                Status::Failed
            }
        };
    }

    fn draw_consequences(&self, finished: &mut Finished) {
        match finished.status {
            Status::Ok if self.first => {
                if self.won.swap(true, Ordering::Relaxed) {
                    finished.status = Status::Cancelled; // another one was quicker
                }
                self.end();
            }
            Status::Failed | Status::Timeout if self.halt != Halt::Never => {
                self.halted.store(true, Ordering::Relaxed);
                self.stop.cancel();
                if self.halt == Halt::Now {
                    self.end();
                }
            }
            // The next one would not find more space.
            _ if matches!(finished.trouble, Some(Trouble::Lost(_))) => self.stop.cancel(),
            Status::Ok | Status::Failed | Status::Timeout | Status::Cancelled => {}
        }
    }

    /// Says what happens, past the bar, whose lock the printer holds for as long as whoever reads stdout stands still. The bar
    /// is one line, with the cursor on it: what is said takes its place, and it is drawn anew below.
    pub(super) fn say(&self, what: &str) {
        if self.quiet {
            tracing::debug!("{what}");
        } else {
            let over_bar = if self.bar_shown.load(Ordering::Relaxed) { "\r\x1b[2K" } else { "" };
            let _ = io::stderr().write_all(format!("{over_bar}worker-pool: {what}\n").as_bytes());
        }
    }

    /// Starts no more jobs and ends those that run.
    pub(super) fn end(&self) {
        self.stop.cancel();
        self.cancel.end.cancel();
    }
}
