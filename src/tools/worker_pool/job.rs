//! One job on its worker: attempts, and what its outcome means for the others.

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::defaults::{MAX_BACKOFF, MAX_JOB_BYTES};
use crate::pool::capture::Capture;
use crate::pool::lines::Line;
use crate::pool::process::{self, Cancel, End, Limits};
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
    pub(super) halted: AtomicBool,
    pub(super) won: AtomicBool,
    /// Whether nobody reads stdout any more.
    pub(super) unread: AtomicBool,
    /// Whether the progress bar is on the terminal.
    pub(super) bar_shown: AtomicBool,
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

impl Work {
    /// Does a job, with all its attempts.
    pub(super) async fn run(&self, worker: usize, job: Job) -> Finished {
        self.running.fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::disallowed_methods, reason = "the job log tells when a job was started")]
        let started = SystemTime::now();
        let begun = Instant::now();
        let mut finished = Finished {
            number: job.number,
            worker,
            input: Vec::new(),
            status: Status::Failed,
            exit: None,
            signal: None,
            attempts: 0,
            started,
            took: Duration::ZERO,
            printed: None,
            left_behind: false,
            trouble: None,
        };
        match self.command(&mut finished, job) {
            Ok(command) => self.attempts(&command, &mut finished).await,
            Err(trouble) => finished.trouble = Some(trouble),
        }
        finished.took = begun.elapsed();
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.draw_consequences(&mut finished);
        finished
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
    /// fail, because something is down, then the whole pool slows down, and no number of them piles up.
    async fn attempts(&self, command: &[OsString], finished: &mut Finished) {
        let mut pause = self.backoff;
        loop {
            finished.attempts += 1;
            self.attempt(command, finished).await;
            let again =
                matches!(finished.status, Status::Failed | Status::Timeout) && finished.attempts <= self.retries;
            if !again || self.stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
            tracing::debug!("job {} failed, attempt {} follows", finished.number, finished.attempts + 1);
            pause = pause.saturating_mul(2).min(MAX_BACKOFF.max(self.backoff));
        }
    }

    async fn attempt(&self, command: &[OsString], finished: &mut Finished) {
        use std::os::unix::process::ExitStatusExt;
        let outcome = match process::run(command, &self.limits, &self.cancel).await {
            Ok(outcome) => outcome,
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

    /// Starts no more jobs and ends those that run.
    pub(super) fn end(&self) {
        self.stop.cancel();
        self.cancel.end.cancel();
    }
}
