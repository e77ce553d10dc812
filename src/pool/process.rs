//! One command as a process group of its own, from its start until nothing of it is left.
//!
//! A job is over when its command has ended and its output is closed. Whatever the command has started belongs to its
//! group, or has left it (`setsid`) and is known by its mark ([`super::family`]). Who ends a job, on a time-out or otherwise,
//! ends all of these: SIGTERM, and SIGKILL to those that are still there after a grace, whether or not the command itself is.
//!
//! A command that ends by itself may leave processes behind, as `xargs` and `parallel` allow. If they hold on to its
//! output, they get the same grace to finish it, or what is left of the job's time if that is less; then the job is over
//! without them, which [`Outcome::left_behind`] tells. They live on, but nobody reads what they print. The job has ended as
//! its command has: its time was not over.
//!
//! A group that is not the terminal's own is stopped by the system when it wants to read from the terminal, for ever. A job
//! that is stopped so is ended.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::future;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::capture::{self, Capture, Spill};
use super::groups::{Groups, Pause};
use super::{family, files};
use crate::defaults::{GROUP_PAUSE, MAX_GROUP_PAUSE, TERMINAL_PAUSE};

/// What a command may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long the command may run, and those that it left behind may print.
    pub timeout: Option<Duration>,
    /// From SIGTERM to SIGKILL; and how long processes that it left behind may hold on to its output, within its time.
    pub grace: Duration,
    /// Where output goes that is too long for memory.
    pub spill: Spill,
}

/// Ends commands from outside.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    /// Asks them to end: SIGTERM, and SIGKILL after the grace.
    pub end: CancellationToken,
    /// Grants no grace.
    pub kill: CancellationToken,
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    /// By itself, or by whom.
    pub end: End,
    /// Its exit code or signal; `None` if not even SIGKILL has ended it.
    pub status: Option<ExitStatus>,
    /// What it printed.
    pub stdout: Capture,
    /// What it printed to stderr.
    pub stderr: Capture,
    /// Whether processes that hold on to its output live on.
    pub left_behind: bool,
}

/// Who ended a command.
#[derive(Debug)]
pub enum End {
    /// It ended itself.
    Itself,
    /// Its time was over.
    TimedOut,
    /// [`Cancel`].
    Cancelled,
    /// It wanted to read from the terminal, or to change it, and was stopped by the system.
    Stopped,
    /// Its output could be kept no longer.
    Lost(capture::Error),
}

/// Why a command did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system does not start it.
    #[error("cannot run {}: {}", program.display(), reason(error))]
    Start {
        /// Which program.
        program: OsString,
        /// Why.
        error: io::Error,
    },
    /// It was started, could not be watched, and has been killed.
    #[error("cannot watch {}: {error}", program.display())]
    Watch {
        /// Which program.
        program: OsString,
        /// Why.
        error: io::Error,
    },
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "command not found".to_owned(),
        io::ErrorKind::ArgumentListTooLong => "the job is too long for an argument of a command".to_owned(),
        io::ErrorKind::PermissionDenied => "it is not executable, or its directory is closed to you".to_owned(),
        _ => error.to_string(),
    }
}

impl Error {
    /// The exit code that a shell gives then: 127 when there is no such command, else 126.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Start { error, .. } if error.kind() == io::ErrorKind::NotFound => 127,
            Self::Start { .. } | Self::Watch { .. } => 126,
        }
    }

    /// Whether the machine has no place for one more process now: nothing is wrong with the command, and it has not run.
    pub fn is_shortage(&self) -> bool {
        let Self::Start { error, .. } = self else { return false };
        let shortage = [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
        error.raw_os_error().is_some_and(|number| shortage.contains(&number))
    }
}

/// Files that a command holds at most: two pipes, what tells of its end, and two files of long output.
pub const FILES: u64 = 5;
/// Files that it takes to start one: its ends of the pipes, and its stdin.
pub const FILES_TO_START: u64 = 3;

/// Starts a program with its arguments, in a group of its own, with nothing on stdin. What it starts has `mark`.
///
/// # Errors
/// When it cannot be started.
///
/// # Panics
/// Without a program.
pub fn start(words: &[OsString], mark: String, limits: &Limits, groups: &Arc<Groups>) -> Result<Running, Error> {
    let (program, arguments) = words.split_first().expect("a command has a program");
    let failed = |error| Error::Start { program: program.clone(), error };
    // All files first: what is missing afterwards would be missed by a command that runs already.
    let open = || {
        let (stdout, out) = Stream::open(limits.spill)?;
        let (stderr, err) = Stream::open(limits.spill)?;
        let streams = (stdout, stderr);
        io::Result::Ok((streams, File::open("/dev/null")?, out, err))
    };
    let ((stdout, stderr), stdin, out, err) = files::opening(open).map_err(failed)?;
    let mut command = Command::new(program);
    command.args(arguments).env(family::MARKS, family::marks_with(&mark)).process_group(0);
    command.stdin(stdin).stdout(out).stderr(err);
    let child = groups.start(|| files::starting(|| command.spawn())).map_err(failed)?;
    drop(command); // and with it the ends of the pipes that are the child's
    let mut running = Running {
        group: Pid::from_child(&child),
        child: Some(child),
        mark,
        groups: Arc::clone(groups),
        pauses: groups.pauses(),
        paused: groups.paused(),
        leader: None,
        stdout,
        stderr,
        stage: Stage::Running,
        deadline: limits.timeout.and_then(after),
        told_at: Instant::now(),
        told: HashSet::new(),
    };
    match running.watch() {
        Ok(leader) => running.leader = Some(leader),
        Err(error) => {
            running.signal(Signal::KILL); // it has just been started
            running.reap();
            return Err(Error::Watch { program: program.clone(), error });
        }
    }
    Ok(running)
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    /// `None` once it was waited for.
    child: Option<Child>,
    /// The command leads its group: both have the same number, which stays theirs until the command is waited for.
    group: Pid,
    /// What is known of all that it has started.
    mark: String,
    groups: Arc<Groups>,
    pauses: watch::Receiver<Pause>,
    /// All pauses before the deadline was set.
    paused: Duration,
    /// Tells when the command has ended; `None` from then on.
    leader: Option<AsyncFd<OwnedFd>>,
    stdout: Stream,
    stderr: Stream,
    stage: Stage,
    deadline: Option<Instant>,
    /// When it was told to end.
    told_at: Instant,
    /// Those outside the group that were told, too.
    told: HashSet<Pid>,
}

/// One stream of its output.
#[derive(Debug)]
struct Stream {
    pipe: pipe::Receiver,
    open: bool,
    capture: Capture,
}

/// How far its end has come, and so what is to be done when the deadline passes.
#[derive(Debug)]
enum Stage {
    /// It runs: its time is over.
    Running,
    /// The command has ended, and others hold on to its output: they are left behind.
    Leaving,
    /// It was told to end: it is killed.
    Terminated(End),
    /// It was killed: not even that helps.
    Killed(End),
}

impl Running {
    fn watch(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let pidfd = files::opening(|| pidfd_open(self.group, PidfdFlags::empty()).map(files::keep))?;
        #[expect(deprecated, reason = "sound for a descriptor that is owned; its successor is unsafe for all")]
        AsyncFd::with_interest(pidfd, Interest::READABLE)
    }

    /// Waits until it is over; ends it when its time is, or when it is cancelled.
    pub async fn until_over(mut self, limits: &Limits, cancel: &Cancel) -> Outcome {
        let mut left_behind = false;
        let mut pause = TERMINAL_PAUSE;
        let mut look = Instant::now() + pause;
        loop {
            let told = matches!(self.stage, Stage::Terminated(_) | Stage::Killed(_));
            let over = self.leader.is_none() && !self.stdout.open && !self.stderr.open;
            if over && !told {
                break;
            }
            let deadline = self.deadline;
            tokio::select! {
                biased;
                () = cancel.end.cancelled(), if !told => self.terminate(End::Cancelled, limits),
                () = cancel.kill.cancelled(), if matches!(self.stage, Stage::Terminated(_)) => self.kill(limits),
                result = self.stdout.capture.fill(&mut self.stdout.pipe), if self.stdout.open => {
                    self.stdout.open = false;
                    self.check(result, limits);
                }
                result = self.stderr.capture.fill(&mut self.stderr.pipe), if self.stderr.open => {
                    self.stderr.open = false;
                    self.check(result, limits);
                }
                () = ended(self.leader.as_ref()), if self.leader.is_some() => {
                    self.leader = None;
                    if !told {
                        self.put_off();
                        self.stage = Stage::Leaving;
                        self.deadline = after(limits.grace).into_iter().chain(self.deadline).min();
                    }
                }
                () = at(deadline) => {
                    // A pause that is just over may not have been told yet.
                    let _ = self.pauses.wait_for(|pause| !pause.now).await;
                    if self.put_off() {
                        continue;
                    }
                    match self.stage {
                        Stage::Running => self.terminate(End::TimedOut, limits),
                        Stage::Terminated(_) => self.kill(limits),
                        Stage::Leaving | Stage::Killed(_) => {
                            left_behind = true;
                            break;
                        }
                    }
                }
                // Neither that others have ended nor that the command was stopped is an event: look now and then.
                () = sleep_until(look) => {
                    if told {
                        let alone = !self.has_family();
                        if alone && over {
                            break;
                        }
                    } else if matches!(self.stage, Stage::Running) && self.wants_terminal() {
                        self.terminate(End::Stopped, limits);
                    }
                    pause = if told { (pause * 2).min(MAX_GROUP_PAUSE) } else { TERMINAL_PAUSE };
                    look = Instant::now() + pause;
                }
            }
            if !told && matches!(self.stage, Stage::Terminated(_)) {
                pause = GROUP_PAUSE;
                look = Instant::now() + pause;
            }
        }
        let status = self.reap();
        let end = match mem::replace(&mut self.stage, Stage::Leaving) {
            Stage::Running | Stage::Leaving => End::Itself,
            Stage::Terminated(end) | Stage::Killed(end) => end,
        };
        let none = || Capture::new(limits.spill);
        let (stdout, stderr) = (&mut self.stdout.capture, &mut self.stderr.capture);
        let (stdout, stderr) = (mem::replace(stdout, none()), mem::replace(stderr, none()));
        Outcome { end, status, stdout, stderr, left_behind }
    }

    /// Waits for the command, which is a zombie until here, so that its number, and its group's, are nobody else's.
    fn reap(&mut self) -> Option<ExitStatus> {
        self.groups.forget(self.group);
        // Who lives on, whatever was sent, is not waited for.
        let mut child = self.child.take()?;
        if self.leader.is_none() { child.wait().ok() } else { None }
    }

    /// Puts the deadline off by the pauses since it was set.
    fn put_off(&mut self) -> bool {
        let paused = self.pauses.borrow().total;
        let more = paused - mem::replace(&mut self.paused, paused);
        self.deadline = self.deadline.and_then(|deadline| deadline.checked_add(more));
        !more.is_zero()
    }

    /// Whether the system has stopped the command because of what it did to the terminal. Who stopped it by hand, or
    /// stopped itself, is left alone.
    fn wants_terminal(&self) -> bool {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let stopped =
            waitid(WaitId::Pid(self.group), options).ok().flatten().and_then(|status| status.stopping_signal());
        [Signal::TTIN, Signal::TTOU].map(Signal::as_raw).map(Some).contains(&stopped)
    }

    /// Whether anybody of the family is alive. Those who have left the group are told to end here.
    fn has_family(&mut self) -> bool {
        let Some(processes) = family::processes(self.told_at) else { return true };
        let mut alive = false;
        for process in processes.iter().filter(|process| process.is_in(self.group) || process.has(&self.mark)) {
            alive = true;
            if process.is_in(self.group) {
                continue; // it hears what the group hears
            }
            let new = self.told.insert(process.pid());
            match self.stage {
                Stage::Killed(_) => process.signal(Signal::KILL),
                Stage::Terminated(_) if new => {
                    process.signal(Signal::TERM);
                    process.signal(Signal::CONT);
                }
                Stage::Running | Stage::Leaving | Stage::Terminated(_) => {}
            }
        }
        alive
    }

    /// Output that cannot be kept ends the job.
    fn check(&mut self, result: Result<(), capture::Error>, limits: &Limits) {
        if let (Err(error), Stage::Running | Stage::Leaving) = (result, &self.stage) {
            self.terminate(End::Lost(error), limits);
        }
    }

    fn terminate(&mut self, end: End, limits: &Limits) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT); // who has been stopped could not hear it
        self.stage = Stage::Terminated(end);
        self.set_deadline(limits.grace);
    }

    fn kill(&mut self, limits: &Limits) {
        self.signal(Signal::KILL);
        if let Stage::Terminated(end) = mem::replace(&mut self.stage, Stage::Running) {
            self.stage = Stage::Killed(end);
        }
        self.set_deadline(limits.grace);
        self.has_family();
    }

    fn set_deadline(&mut self, time: Duration) {
        self.told_at = Instant::now();
        self.deadline = after(time);
        self.paused = self.pauses.borrow().total;
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process_group(self.group, signal) {
            tracing::debug!("cannot send {signal:?} to group {}: {error}", self.group.as_raw_pid());
        }
    }
}

impl Stream {
    /// A stream, and the end of it that is the command's.
    fn open(spill: Spill) -> io::Result<(Self, Stdio)> {
        let (read, write) = io::pipe()?;
        let read = files::keep(read.into());
        rustix::io::ioctl_fionbio(&read, true)?;
        let stream =
            Self { pipe: pipe::Receiver::from_owned_fd_unchecked(read)?, open: true, capture: Capture::new(spill) };
        Ok((stream, write.into()))
    }
}

/// Waits until a command has ended.
async fn ended(leader: Option<&AsyncFd<OwnedFd>>) {
    match leader {
        Some(leader) => drop(leader.readable().await),
        None => future::pending().await,
    }
}

/// So long from now, unless no clock goes so far.
fn after(duration: Duration) -> Option<Instant> {
    Instant::now().checked_add(duration)
}

/// Waits until then; for ever, without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => future::pending().await,
    }
}
