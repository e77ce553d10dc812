//! What a command has started, wherever that has gone.
//!
//! Most of it is in the command's process group, and a signal to the group reaches it. Who has left the group (`setsid`, a
//! daemon) is known by a mark in its environment, which every process inherits, and keeps unless it clears it on purpose.

use std::ffi::OsString;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::Instant;

use super::files;

/// The variable that holds the marks: one, or several with commas where a pool is run by another one's job.
pub const MARKS: &str = "WORKER_POOL_JOB";

/// A look at all processes may be as old as this: many jobs that are ended at once share one.
const FRESH: Duration = Duration::from_millis(20);

/// A process that is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pid: Pid,
    parent: i32,
    /// 0 for a group that was made outside the container.
    group: i32,
    /// 0 for a session that was made outside the container.
    session: i32,
    /// When it was started, in ticks of the kernel: with the number, this is nobody else's.
    started: u64,
    /// The value of [`MARKS`].
    marks: Vec<u8>,
}

/// The value of [`MARKS`] for a command with this mark of its own.
pub fn marks_with(mark: &str) -> OsString {
    let mut marks = std::env::var_os(MARKS).unwrap_or_default();
    if !marks.is_empty() {
        marks.push(",");
    }
    marks.push(mark);
    marks
}

/// All processes, as they were at some time since `since`; `None` without `/proc`.
pub fn processes(since: Instant) -> Option<Arc<Vec<Process>>> {
    static LAST: Mutex<Option<(Instant, Arc<Vec<Process>>)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let since = Instant::now().checked_sub(FRESH).map_or(since, |fresh| since.max(fresh));
    match &*last {
        Some((seen, processes)) if *seen >= since => Some(Arc::clone(processes)),
        Some(_) | None => {
            let now = Instant::now();
            let processes = Arc::new(files::opening(read_all)?);
            *last = Some((now, Arc::clone(&processes)));
            Some(processes)
        }
    }
}

fn read_all() -> Option<Vec<Process>> {
    let all = fs::read_dir("/proc").ok()?.flatten();
    Some(
        all.filter_map(|entry| Process::read(entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)?))
            .collect(),
    )
}

impl Process {
    /// `None` if there is none with this number; zombies are none.
    pub fn read(pid: Pid) -> Option<Self> {
        let of = |what| fs::read(format!("/proc/{}/{what}", pid.as_raw_pid()));
        let mut process = Self::parse(pid, &of("stat").ok()?)?;
        // Another user's environment is not for us to read, and neither are its processes for us to end.
        let environment = of("environ").unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        let marks = variables.find_map(|one| one.strip_prefix(MARKS.as_bytes())?.strip_prefix(b"="));
        process.marks = marks.unwrap_or_default().to_vec();
        Some(process)
    }

    /// Its parent, unless that is outside the container.
    pub fn parent(&self) -> Option<Self> {
        Self::read(Pid::from_raw(self.parent)?)
    }

    /// Whether nobody outside its group, in its session, is there to continue it when it is stopped: whoever started it, or
    /// started them.
    pub fn is_orphaned(&self) -> bool {
        let mut ancestor = self.parent();
        while let Some(process) = ancestor {
            if process.session != self.session {
                return true;
            }
            if process.group != self.group {
                return false;
            }
            ancestor = process.parent();
        }
        true
    }

    /// Reads `/proc/PID/stat` (proc(5)): number, name in parentheses (which may hold anything), state, parent, group, session,
    /// and so on; the time of its start is the 20th after the name.
    fn parse(pid: Pid, stat: &[u8]) -> Option<Self> {
        let end = stat.iter().rposition(|byte| *byte == b')')?;
        let fields = String::from_utf8_lossy(&stat[end + 1..]);
        let fields: Vec<_> = fields.split_ascii_whitespace().collect();
        let alive = !matches!(*fields.first()?, "Z" | "X");
        let number = |at: usize| fields.get(at)?.parse().ok();
        let (parent, group, session) = (number(1)?, number(2)?, number(3)?);
        let started = fields.get(19)?.parse().ok()?;
        alive.then_some(Self { pid, parent, group, session, started, marks: Vec::new() })
    }

    /// Whether it is in this group.
    pub fn is_in(&self, group: Pid) -> bool {
        self.group == group.as_raw_pid()
    }

    /// Whether it has this mark.
    pub fn has(&self, mark: &str) -> bool {
        self.marks.split(|byte| *byte == b',').any(|one| one == mark.as_bytes())
    }

    /// Sends it a signal, unless it is gone: its number may be another's by now.
    pub fn signal(&self, signal: Signal) {
        let sent = files::opening(|| pidfd_open(self.pid, PidfdFlags::empty())).and_then(|pidfd| {
            let same = files::opening(|| Self::read(self.pid)).is_some_and(|now| now.started == self.started);
            if same { pidfd_send_signal(pidfd, signal) } else { Ok(()) }
        });
        if let Err(error) = sent {
            tracing::debug!("cannot send {signal:?} to process {}: {error}", self.pid.as_raw_pid());
        }
    }

    /// Its number, which is its own as long as it lives.
    pub const fn pid(&self) -> Pid {
        self.pid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(stat: &str) -> Option<Process> {
        Process::parse(Pid::from_raw(80).unwrap(), stat.as_bytes())
    }

    #[test]
    fn a_member_of_a_group_is_found_whatever_its_name_is_and_a_zombie_is_none() {
        let group = Pid::from_raw(77).unwrap();
        let rest = "77 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0";
        let member = parsed(&format!("80 (a) b) R 1 77 {rest}")).unwrap();
        assert!(member.is_in(group) && member.parent == 1 && member.started == 4242, "{member:?}");
        assert!(parsed(&format!("80 (sh) Z 1 77 {rest}")).is_none());
        assert!(!parsed(&format!("77 (sh) S 1 78 {rest}")).unwrap().is_in(group));
        assert!(parsed("").is_none() && parsed("80 (77 77 77").is_none());
    }

    #[test]
    fn a_mark_is_found_among_those_of_pools_around() {
        let marked =
            Process { marks: b"a-1,b-12".to_vec(), ..parsed(&format!("80 (x) S 1 2{}", " 0".repeat(17))).unwrap() };
        assert!(marked.has("a-1") && marked.has("b-12"));
        assert!(!marked.has("b-1") && !marked.has("b") && !marked.has(""));
    }
}
