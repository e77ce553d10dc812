//! What is printed, logged and counted, and the exit code.

use std::fmt;
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressDrawTarget};
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::{Instant, interval_at};

use crate::cli::measure::rounded_seconds;
use crate::cli::{Failure, Kind, Output};
use crate::pool::capture::{Capture, Spilled};
use crate::pool::joblog::{Entry, Joblog};
use crate::pool::{Done, Results, quote};

use super::event::JobEvent;
use super::intake::Intake;
use super::job::{Finished, Status, Trouble, Work};

/// A run that is over sooner needs no progress bar.
const BAR_AFTER: Duration = Duration::from_millis(500);
/// How often it is drawn anew.
const BAR_TICK: Duration = Duration::from_millis(100);

/// Prints results as they come.
pub(super) struct Printer {
    pub(super) output: Output,
    pub(super) quiet: bool,
    pub(super) work: Arc<Work>,
    pub(super) intake: Arc<Intake>,
    pub(super) joblog: Option<Joblog>,
    pub(super) bar: ProgressBar,
    /// Whether the bar is to be shown.
    pub(super) live: bool,
    /// Asks how far it is.
    pub(super) interval: Arc<Notify>,
    pub(super) started: Instant,
    pub(super) tally: Tally,
}

/// How many jobs came out how.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Tally {
    /// All that are over.
    jobs: u64,
    ok: u64,
    failed: u64,
    timeout: u64,
    cancelled: u64,
}

impl Printer {
    /// Prints until all is done. What cannot be printed or logged ends the jobs.
    pub(super) async fn run(mut self, mut results: Results<Option<Finished>>) -> (Self, Result<(), Failure>) {
        let mut outcome = Ok(());
        let interval = Arc::clone(&self.interval);
        let mut tick = interval_at(Instant::now() + BAR_AFTER, BAR_TICK);
        loop {
            let printed = tokio::select! {
                done = results.next() => match done {
                    Some(Done { result: Some(job), .. })
                        if outcome.is_ok() && !self.work.unread.load(Ordering::Relaxed) =>
                    {
                        self.print(job)
                    }
                    Some(_) => Ok(()),
                    None => break,
                },
                () = interval.notified() => self.print_interval(),
                _ = tick.tick(), if self.live => {
                    if !self.work.bar_shown.swap(true, Ordering::Relaxed) {
                        self.bar.set_draw_target(ProgressDrawTarget::stderr());
                    }
                    self.bar.tick();
                    Ok(())
                }
            };
            if let (Err(failure), true) = (printed, outcome.is_ok()) {
                self.work.end();
                outcome = Err(failure);
            }
        }
        self.bar.finish_and_clear();
        self.work.bar_shown.store(false, Ordering::Relaxed);
        (self, outcome)
    }

    /// Prints first and logs then: whoever is killed in between does the job again, and no output is lost.
    fn print(&mut self, mut job: Finished) -> Result<(), Failure> {
        self.tally.add(job.status);
        let printed = job.printed.take();
        let entry = self.joblog.is_some().then(|| self.entry(&job, printed.as_ref())).flatten();
        // The bar would take the rest of an unfinished line for its own. (Asked within `suspend`, it would not answer.)
        let finish_lines = !self.bar.is_hidden() && io::stdout().is_terminal();
        let bar = self.bar.clone();
        bar.suspend(|| {
            if self.output.is_json() {
                self.print_json(&job, printed)
            } else {
                self.print_text(&job, printed, finish_lines)
            }
        })?;
        self.update_bar();
        if let (Some(log), Some(entry)) = (&mut self.joblog, entry) {
            log.append(&entry).map_err(|error| Failure::local(error.to_string()))?;
        }
        match job.trouble {
            Some(trouble @ Trouble::Lost(_)) => Err(Failure::local(format!("job {}: {trouble}", job.number))),
            _ => Ok(()),
        }
    }

    fn print_text(
        &self,
        job: &Finished,
        printed: Option<(Capture, Capture)>,
        finish_lines: bool,
    ) -> Result<(), Failure> {
        if let Some((stdout, stderr)) = printed {
            // Whoever asked for the first success wants its output alone.
            if stdout.bytes() > 0 && (!self.work.first || job.status == Status::Ok) {
                self.output.raw(|to| copy(&stdout, to, finish_lines))?;
            }
            let _ = copy(&stderr, &mut io::stderr().lock(), finish_lines); // with stderr closed there is nobody to tell
        }
        if !self.quiet {
            let mut stderr = io::stderr().lock();
            let say =
                |what: String| writeln!(stderr, "worker-pool: job {} ({}): {what}", job.number, shorten(&job.input));
            let _ = describe(job, self.work.limits.timeout, self.work.won.load(Ordering::Relaxed))
                .into_iter()
                .try_for_each(say);
        }
        Ok(())
    }

    fn print_json(&self, job: &Finished, printed: Option<(Capture, Capture)>) -> Result<(), Failure> {
        self.output.result(&JobEvent::new(job, printed.as_ref()), String::new)?;
        // Only now is there a line that names the files.
        for capture in printed.into_iter().flat_map(|(stdout, stderr)| [stdout, stderr]) {
            if let Some(Spilled::Named(file)) = capture.into_file() {
                file.keep().map_err(|error| Failure::local(format!("cannot keep a job's output: {error}")))?;
            }
        }
        Ok(())
    }

    /// The line in the job log: none for a job that was cancelled, so that it is run by the next run.
    fn entry(&self, job: &Finished, printed: Option<&(Capture, Capture)>) -> Option<Entry> {
        let command = self.work.template.identity(&job.input, job.number).ok()?;
        let (exit, signal) = match job.status {
            Status::Cancelled => return None,
            Status::Timeout => (-1, 15), // as GNU parallel has it
            Status::Ok | Status::Failed => (job.exit.unwrap_or(0), job.signal.unwrap_or(0)),
        };
        if matches!(job.trouble, Some(Trouble::TooLong(_) | Trouble::Lost(_))) {
            return None;
        }
        Some(Entry {
            number: job.number,
            started: job.started.duration_since(UNIX_EPOCH).unwrap_or_default(),
            took: job.took,
            received: printed.map_or(0, |(stdout, _)| stdout.bytes()),
            exit: exit.into(),
            signal: signal.into(),
            command: quote::line(&command),
        })
    }

    fn print_interval(&self) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Interval {
            event: &'static str,
            #[serde(flatten)]
            tally: Tally,
            running: u64,
            seconds: f64,
        }
        let running = self.work.running.load(Ordering::Relaxed);
        let interval = Interval { event: "interval", tally: self.tally, running, seconds: self.seconds() };
        if self.output.is_json() {
            return self.output.result(&interval, String::new);
        }
        // Stdout belongs to the jobs.
        let text = format!("worker-pool: {} in {:.1} s, {running} running", self.tally, interval.seconds);
        self.bar.suspend(|| drop(writeln!(io::stderr(), "{text}")));
        Ok(())
    }

    fn seconds(&self) -> f64 {
        rounded_seconds(self.started.elapsed().as_secs_f64())
    }

    fn update_bar(&self) {
        self.bar.inc(1);
        let bad = self.tally.failed + self.tally.timeout;
        if bad > 0 {
            self.bar.set_message(format!(", {bad} failed"));
        }
    }

    /// Whether stdin was empty.
    pub(super) fn saw_no_jobs(&self) -> bool {
        self.tally.jobs == 0 && self.intake.skipped.load(Ordering::Relaxed) == 0
    }

    /// Ends the output, and tells the exit code: what went wrong on this machine comes first, then the signal.
    pub(super) fn conclude(&self, outcome: Result<(), Failure>, signal: Option<u8>) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Summary {
            event: &'static str,
            #[serde(flatten)]
            tally: Tally,
            skipped: u64,
            not_started: u64,
            seconds: f64,
            halted: bool,
            interrupted: bool,
        }
        let skipped = self.intake.skipped.load(Ordering::Relaxed);
        let summary = Summary {
            event: "summary",
            tally: self.tally,
            skipped,
            not_started: self.intake.submitted.load(Ordering::Relaxed).saturating_sub(self.tally.jobs),
            seconds: self.seconds(),
            halted: self.work.halted.load(Ordering::Relaxed),
            interrupted: signal.is_some(),
        };
        let closed = matches!(&outcome, Err(failure) if failure.kind == Kind::ClosedPipe);
        if self.output.is_json() && !closed {
            self.output.result(&summary, String::new)?;
        }
        outcome?;
        if let Some(failure) = self.intake.failure() {
            return Err(failure);
        }
        if let Some(why) = self.work.places.exhausted.get() {
            let left = summary.not_started;
            return Err(Failure::local(format!("{why}; {}, {left} not started", self.tally)));
        }
        if skipped > 0 && !self.quiet && !self.output.is_json() {
            let failed = match self.intake.skipped_failed.load(Ordering::Relaxed) {
                0 => String::new(),
                failed => format!("; {failed} of them had failed (--resume-failed runs those again)"),
            };
            let _ = writeln!(io::stderr(), "worker-pool: {skipped} skipped, being in the job log{failed}");
        }
        // For programs the summary has said it.
        let say =
            |kind, text: String| Err(Failure::new(kind, if self.output.is_json() { String::new() } else { text }));
        let left = match summary.not_started {
            0 => String::new(),
            left => format!(", {left} not started"),
        };
        if let Some(signal) = signal {
            return say(Kind::Interrupted { signal }, format!("interrupted: {}{left}", self.tally));
        }
        if self.work.first {
            return match self.work.won.load(Ordering::Relaxed) {
                true => Ok(()),
                false => say(Kind::No, format!("no job succeeded: {}", self.tally)),
            };
        }
        match self.tally.ok == self.tally.jobs {
            true => Ok(()),
            false => say(Kind::No, format!("{}{left}", self.tally)),
        }
    }
}

impl Tally {
    fn add(&mut self, status: Status) {
        self.jobs += 1;
        *match status {
            Status::Ok => &mut self.ok,
            Status::Failed => &mut self.failed,
            Status::Timeout => &mut self.timeout,
            Status::Cancelled => &mut self.cancelled,
        } += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} jobs ended well", self.ok, self.jobs)?;
        for (count, name) in [(self.failed, "failed"), (self.timeout, "timed out"), (self.cancelled, "cancelled")] {
            if count > 0 {
                write!(f, ", {count} {name}")?;
            }
        }
        Ok(())
    }
}

/// Writes all of a stream; its last line gets an end if it has none and `finish_line` is set.
fn copy(capture: &Capture, to: &mut impl Write, finish_line: bool) -> io::Result<()> {
    let unfinished = capture.file().is_none() && capture.head().last().is_some_and(|last| *last != b'\n');
    match capture.file().map(Spilled::as_file) {
        None => to.write_all(capture.head())?,
        Some(mut file) => {
            file.rewind()?;
            let mut chunk = vec![0; 64 << 10];
            while let length @ 1.. = file.read(&mut chunk)? {
                to.write_all(&chunk[..length])?;
            }
        }
    }
    if unfinished && finish_line { to.write_all(b"\n") } else { Ok(()) }
}

/// What people are told about a job that did not simply end well.
fn describe(job: &Finished, timeout: Option<Duration>, won: bool) -> Vec<String> {
    let mut all = Vec::new();
    let attempts = match job.attempts {
        0 | 1 => String::new(),
        many => format!(" ({many} attempts)"),
    };
    let what = match (job.status, &job.trouble, job.signal) {
        (Status::Ok, ..) => None,
        (Status::Cancelled, None, _) if won => None, // as it should be
        (_, Some(trouble), _) => Some(trouble.to_string()),
        (Status::Timeout, ..) => {
            Some(format!("timed out after {}", humantime::format_duration(timeout.unwrap_or_default())))
        }
        (Status::Cancelled, ..) => Some("cancelled".to_owned()),
        (Status::Failed, _, Some(signal)) => Some(format!("ended by signal {signal}")),
        (Status::Failed, ..) => Some(format!("exit code {}", job.exit.unwrap_or_default())),
    };
    all.extend(what.map(|what| what + &attempts));
    if job.left_behind {
        all.push("it left processes behind that hold its output; what they print now is lost (redirect it)".to_owned());
    }
    all
}

/// A job for people: quoted, and not longer than a part of a line.
fn shorten(input: &[u8]) -> String {
    let quoted = quote::quote(&input[..input.len().min(100)]);
    match quoted.char_indices().nth(60) {
        Some((end, _)) => format!("{}..", &quoted[..end]),
        None => quoted.into_owned(),
    }
}
