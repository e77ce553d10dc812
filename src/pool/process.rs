//! One command as a process group of its own, from its start until nothing of it is left.
//!
//! A job is over when its command has ended and its output is closed. Whatever the command has started belongs to its
//! group, unless it leaves it on purpose (`setsid`). Who ends a job, on a time-out or otherwise, ends the group: SIGTERM
//! to all of it, and SIGKILL to those that are still there after a grace, whether or not the command itself is.
//!
//! A command that ends by itself may leave processes behind, as `xargs` and `parallel` allow. If they hold on to its
//! output, they get the same grace to finish it, or what is left of the job's time if that is less; then the job is over
//! without them, which [`Outcome::left_behind`] tells. They live on, but nobody reads what they print. The job has ended as
//! its command has: its time was not over.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::future;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::capture::{self, Capture, Spill};
use crate::defaults::GROUP_PAUSE;

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
    #[error("cannot watch {}: {error} (are there too many workers for the limit of open files?)", program.display())]
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
}

/// Runs a program with its arguments, in a group of its own, with nothing on stdin, until it is over.
///
/// # Errors
/// When it cannot be started.
///
/// # Panics
/// Without a program.
pub async fn run(words: &[OsString], limits: &Limits, cancel: &Cancel) -> Result<Outcome, Error> {
    let (program, arguments) = words.split_first().expect("a command has a program");
    let mut command = Command::new(program);
    command.args(arguments).process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| Error::Start { program: program.clone(), error })?;
    Ok(Running::new(child, program, limits)?.until_over(limits, cancel).await)
}

/// A command that runs.
struct Running {
    child: Child,
    /// The command leads its group: both have the same number, which stays theirs until the command is waited for.
    group: Pid,
    leader: AsyncFd<OwnedFd>,
    leader_ended: bool,
    stdout: Stream,
    stderr: Stream,
    stage: Stage,
    deadline: Option<Instant>,
}

/// One stream of its output.
struct Stream {
    pipe: pipe::Receiver,
    open: bool,
    capture: Capture,
}

/// How far its end has come, and so what is to be done when the deadline passes.
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
    fn new(mut child: Child, program: &OsStr, limits: &Limits) -> Result<Self, Error> {
        let group = Pid::from_child(&child);
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let watch = || {
            let pidfd = pidfd_open(group, PidfdFlags::empty())?;
            #[expect(deprecated, reason = "sound for a descriptor that is owned; its successor is unsafe for all")]
            let leader = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
            let stdout = Stream::new(stdout.into(), limits.spill)?;
            let stderr = Stream::new(stderr.into(), limits.spill)?;
            Ok((leader, stdout, stderr))
        };
        match watch() {
            Ok((leader, stdout, stderr)) => {
                let deadline = limits.timeout.and_then(after);
                let stage = Stage::Running;
                Ok(Self { child, group, leader, leader_ended: false, stdout, stderr, stage, deadline })
            }
            Err(error) => {
                let _ = kill_process_group(group, Signal::KILL); // it has just been started
                let _ = child.wait();
                Err(Error::Watch { program: program.to_owned(), error })
            }
        }
    }

    async fn until_over(mut self, limits: &Limits, cancel: &Cancel) -> Outcome {
        let mut pause = GROUP_PAUSE;
        let mut left_behind = false;
        loop {
            let over = self.leader_ended && !self.stdout.open && !self.stderr.open;
            let told = matches!(self.stage, Stage::Terminated(_) | Stage::Killed(_));
            if over && (!told || !has_members(self.group)) {
                break;
            }
            let deadline = self.deadline;
            // The end of others in the group is no event: look again.
            let look_again = over.then(|| Instant::now() + pause);
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
                _ = self.leader.readable(), if !self.leader_ended => {
                    self.leader_ended = true;
                    if !told {
                        self.stage = Stage::Leaving;
                        self.deadline = after(limits.grace).into_iter().chain(deadline).min();
                    }
                }
                () = at(deadline) => match self.stage {
                    Stage::Running => self.terminate(End::TimedOut, limits),
                    Stage::Terminated(_) => self.kill(limits),
                    Stage::Leaving | Stage::Killed(_) => {
                        left_behind = true;
                        break;
                    }
                },
                () = at(look_again) => pause *= 2,
            }
        }
        // The command is a zombie until here, so that its number, and its group's, are nobody else's.
        let status = if self.leader_ended { self.child.wait().ok() } else { None };
        let end = match self.stage {
            Stage::Running | Stage::Leaving => End::Itself,
            Stage::Terminated(end) | Stage::Killed(end) => end,
        };
        Outcome { end, status, stdout: self.stdout.capture, stderr: self.stderr.capture, left_behind }
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
        self.deadline = after(limits.grace);
    }

    fn kill(&mut self, limits: &Limits) {
        self.signal(Signal::KILL);
        if let Stage::Terminated(end) = mem::replace(&mut self.stage, Stage::Running) {
            self.stage = Stage::Killed(end);
        }
        self.deadline = after(limits.grace);
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process_group(self.group, signal) {
            tracing::debug!("cannot send {signal:?} to group {}: {error}", self.group.as_raw_pid());
        }
    }
}

impl Stream {
    fn new(pipe: OwnedFd, spill: Spill) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe: pipe::Receiver::from_owned_fd_unchecked(pipe)?, open: true, capture: Capture::new(spill) })
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

/// Whether a process of the group is alive; zombies are not. Without `/proc`, nobody knows.
fn has_members(group: Pid) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return true };
    processes.flatten().any(|process| {
        let number = process.file_name();
        let is_process = number.as_encoded_bytes().first().is_some_and(u8::is_ascii_digit);
        is_process && fs::read(process.path().join("stat")).is_ok_and(|stat| is_member(&stat, group))
    })
}

/// Reads `/proc/PID/stat`: number, name in parentheses (which may hold anything), state, parent, group (proc(5)).
fn is_member(stat: &[u8], group: Pid) -> bool {
    let after_name = stat.iter().rposition(|byte| *byte == b')').map_or(&[][..], |end| &stat[end + 1..]);
    let after_name = String::from_utf8_lossy(after_name);
    let mut fields = after_name.split_ascii_whitespace();
    let (state, _parent, number) = (fields.next(), fields.next(), fields.next());
    number.and_then(|number| number.parse().ok()) == Some(group.as_raw_pid()) && !matches!(state, Some("Z" | "X"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_of_a_group_is_found_whatever_its_name_is_and_a_zombie_is_none() {
        let group = Pid::from_raw(77).unwrap();
        assert!(is_member(b"80 (a) b) R 1 77 77 0 -1", group));
        assert!(!is_member(b"80 (sh) Z 1 77 77 0 -1", group));
        assert!(!is_member(b"77 (sh) S 1 78 78 0 -1", group));
        assert!(!is_member(b"", group) && !is_member(b"80 (77 77 77", group));
    }
}
