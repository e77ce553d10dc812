//! Signals, and a reader of stdout that goes away.

use std::fs::{self, File};
use std::future;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};

use crate::cli::signals::{Signal as Asked, Signals};
use crate::cli::{Failure, Kind};
use crate::pool::family::Process;
use crate::pool::files;
use crate::pool::groups::Groups;
use crate::tools::at;

use super::job::Work;
use super::report::Printer;

/// Hears signals while the jobs run.
pub(super) struct Control {
    pub(super) work: Arc<Work>,
    pub(super) signals: Signals,
    pub(super) urgent: Urgent,
    pub(super) pause: Pause,
    pub(super) interval: Arc<Notify>,
    /// Programs are told at the end, on stdout.
    pub(super) json: bool,
    /// The one that asked to stop.
    pub(super) signal: Option<u8>,
}

pub(super) type Printed = (Printer, Result<(), Failure>);

impl Control {
    /// Waits until all is printed; gives up when that takes too long after all jobs were told to end.
    pub(super) async fn until(&mut self, mut finished: oneshot::Receiver<Printed>) -> Result<Option<Printed>, Failure> {
        let reader = watch_stdout();
        let mut closed = false;
        let mut insisted = 0;
        let mut patience = None;
        loop {
            tokio::select! {
                done = &mut finished => {
                    let (printer, outcome) = done.map_err(|_| Failure::local("a worker has panicked: see above"))?;
                    let outcome = if closed { Err(Failure::new(Kind::ClosedPipe, "")) } else { outcome };
                    return Ok(Some((printer, outcome)));
                }
                asked = self.signals.next() => match asked {
                    Asked::Interval => self.interval.notify_one(),
                    Asked::Stop(number) if self.signal.is_none() => {
                        self.signal = Some(number);
                        self.work.stop.cancel();
                        self.say("no more jobs are started; a second signal ends those that run");
                    }
                    Asked::Stop(_) => {
                        insisted += 1;
                        self.work.end();
                        if insisted > 1 {
                            self.work.cancel.kill.cancel();
                        }
                        patience = patience.or_else(|| self.patience());
                    }
                },
                number = self.urgent.next() => {
                    self.signal = Some(number);
                    self.work.end();
                    patience = self.patience();
                }
                () = self.pause.asked() => self.pause.take(&self.work.groups).await,
                () = closes(reader.as_ref()), if !closed => {
                    closed = true;
                    self.work.unread.store(true, Ordering::Relaxed);
                    self.work.end();
                }
                () = at(patience) => return Ok(None),
            }
        }
    }

    /// How long it may take until all jobs have been ended and whoever reads stdout has taken what they printed.
    fn patience(&self) -> Option<Instant> {
        let grace = self.work.limits.grace;
        Instant::now().checked_add(grace.saturating_mul(2).saturating_add(Duration::from_secs(1)))
    }

    fn say(&self, what: &str) {
        if self.json {
            tracing::debug!("{what}");
        } else {
            self.work.say(what);
        }
    }
}

/// Signals that want an end at once: a lost terminal and Ctrl-\. The jobs do not get them, being in groups of their own.
pub(super) struct Urgent {
    hangup: Option<tokio::signal::unix::Signal>,
    quit: tokio::signal::unix::Signal,
}

impl Urgent {
    /// Hears them from now on; SIGHUP not when `nohup` or the like has asked that we outlive the terminal.
    pub(super) fn new() -> Result<Self, Failure> {
        let handler = |kind| signal(kind).map_err(|error| Failure::local(format!("cannot handle signals: {error}")));
        let hangup = if ignores(Signal::HUP) { None } else { Some(handler(SignalKind::hangup())?) };
        Ok(Self { hangup, quit: handler(SignalKind::quit())? })
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => future::pending().await,
            }
        };
        tokio::select! {
            () = hangup => 1,
            _ = self.quit.recv() => 3,
        }
    }
}

/// Whether a signal was ignored before there was anybody in here to handle it.
fn ignores(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (signal.as_raw() - 1)) != 0)
}

/// Ctrl-Z, and the shell's `fg` and `bg`. The jobs do not get them either, and stop and go on with us.
pub(super) struct Pause {
    /// Nothing, where it was ignored when we were started.
    signals: Option<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>,
}

impl Pause {
    /// Hears them from now on.
    pub(super) fn new() -> Result<Self, Failure> {
        let handler = |kind: Signal| {
            let handled = signal(SignalKind::from_raw(kind.as_raw()));
            handled.map_err(|error| Failure::local(format!("cannot handle signals: {error}")))
        };
        let heard = !ignores(Signal::TSTP);
        Ok(Self { signals: if heard { Some((handler(Signal::TSTP)?, handler(Signal::CONT)?)) } else { None } })
    }

    async fn asked(&mut self) {
        match &mut self.signals {
            Some((stop, _)) => drop(stop.recv().await),
            None => future::pending().await,
        }
    }

    /// Stops the jobs, then this process, until it is continued, and lets them go on.
    async fn take(&mut self, jobs: &Groups) {
        let Some((stop, go_on)) = &mut self.signals else { return };
        // Read from /proc: the system calls answer 0 for what is outside the container, which rustix takes for impossible.
        if files::opening(|| Process::read(getpid())).is_none_or(|us| us.is_orphaned()) {
            return; // nobody is there who could continue us: the system itself would not stop us either
        }
        let since = Instant::now();
        // One that is being started is stopped, too, unless its program's disk stands still.
        while !jobs.pause() && since.elapsed() < Duration::from_secs(1) {
            sleep(Duration::from_millis(2)).await;
        }
        forget(go_on).await;
        if kill_process(getpid(), Signal::STOP).is_ok() {
            go_on.recv().await;
        }
        forget(stop).await; // pressed twice
        jobs.go_on(since.elapsed());
    }
}

/// Drops what has been heard.
async fn forget(signal: &mut tokio::signal::unix::Signal) {
    tokio::select! {
        biased;
        _ = signal.recv() => {}
        () = future::ready(()) => {}
    }
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
