//! The process groups of the commands that run: all of them are paused, and go on, together.
//!
//! A terminal's Ctrl-Z reaches the group in the foreground, and each command has a group of its own. So who hears it hands it
//! on. The time of a pause is nobody's: the time-outs of the commands are put off by it.

use std::collections::HashSet;
use std::io;
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, TryLockError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::watch;

/// The groups of the commands that run.
#[derive(Debug, Default)]
pub struct Groups {
    /// Held while a command is started, and alone by whoever pauses them: none is overlooked.
    starting: RwLock<()>,
    running: Mutex<HashSet<Pid>>,
    pause: watch::Sender<Pause>,
}

/// Whether there is a pause, and how long all earlier ones were.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pause {
    /// Whether there is one now.
    pub now: bool,
    /// The time that all others took.
    pub total: Duration,
}

impl Groups {
    /// Starts a command that leads a group.
    ///
    /// # Errors
    /// Those of `start`.
    pub fn start(&self, start: impl FnOnce() -> io::Result<Child>) -> io::Result<Child> {
        let _together = self.starting.read().unwrap_or_else(PoisonError::into_inner);
        let child = start()?;
        self.running().insert(Pid::from_child(&child));
        Ok(child)
    }

    /// Forgets a group whose leader is about to be waited for: from then on its number may be another's.
    pub fn forget(&self, group: Pid) {
        self.running().remove(&group);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.running().len()
    }

    /// The pauses, as they begin and end.
    pub fn pauses(&self) -> watch::Receiver<Pause> {
        self.pause.subscribe()
    }

    /// How long all pauses were.
    pub fn paused(&self) -> Duration {
        self.pause.borrow().total
    }

    /// Pauses all commands, as Ctrl-Z does. False while one is being started; ask again.
    pub fn pause(&self) -> bool {
        let _alone = match self.starting.try_write() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        self.pause.send_modify(|pause| pause.now = true);
        self.signal(Signal::TSTP);
        true
    }

    /// Lets all go on after a pause of that length.
    pub fn go_on(&self, after: Duration) {
        self.signal(Signal::CONT);
        self.pause.send_modify(|pause| *pause = Pause { now: false, total: pause.total + after });
    }

    fn signal(&self, signal: Signal) {
        for group in &*self.running() {
            if let Err(error) = kill_process_group(*group, signal) {
                tracing::debug!("cannot send {signal:?} to group {}: {error}", group.as_raw_pid());
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, HashSet<Pid>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
