//! In a real pseudo-terminal, below a real shell: Ctrl-Z, `fg`, jobs that want the terminal, the bar.

use std::io::{Read, Write};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};

use pty_process::Size;
use pty_process::blocking::Pty;

use super::*;

/// An interactive shell in a terminal of its own. Killed when dropped, and with it whatever it runs.
struct Terminal {
    pty: Arc<Pty>,
    shell: Child,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    fn open(dir: &Path) -> Self {
        let (pty, inside) = pty_process::blocking::open().expect("there are pseudo-terminals");
        pty.resize(Size::new(24, 100)).unwrap();
        let shell = pty_process::blocking::Command::new("bash").args(["--norc", "--noprofile", "-i"]).current_dir(dir);
        let path = Path::new(env!("CARGO_BIN_EXE_worker-pool")).parent().unwrap().display().to_string();
        let shell = shell.env("PATH", format!("{path}:{}", std::env::var("PATH").unwrap())).env("PS1", "ready> ");
        let shell = shell.env("TERM", "xterm").env_remove("NO_COLOR").spawn(inside).expect("there is bash");
        let (pty, shown) = (Arc::new(pty), Arc::new(Mutex::new(String::new())));
        let (from, to) = (Arc::clone(&pty), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = (&*from).read(&mut chunk) {
                let text = String::from_utf8_lossy(&chunk[..length]);
                to.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        let terminal = Self { pty, shell, shown };
        terminal.shows("ready> ");
        terminal
    }

    fn types(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until this is on the terminal; forgets all before and gives it.
    #[track_caller]
    fn shows(&self, what: &str) -> String {
        eventually(&format!("{what:?} on the terminal"), || {
            let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(at) = shown.find(what) else { return Err(shown.clone()) };
            let rest = shown.split_off(at + what.len());
            Ok(std::mem::replace(&mut *shown, rest))
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Whoever is left in the session is told that the terminal is gone; who is stopped goes on to hear it.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
        if std::thread::panicking() {
            eprintln!("--- on the terminal:\n{}---", self.text());
        }
    }
}

/// The state of a process: `S` sleeps, `T` is stopped.
fn state(pid: &str) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").map(|(_, rest)| rest[..1].to_owned()).unwrap_or_default()
}

#[track_caller]
fn all_in_state(pids: &[String], wanted: impl Fn(&str) -> bool) {
    eventually("the state of the jobs", || {
        let states: Vec<_> = pids.iter().map(|pid| state(pid)).collect();
        if states.iter().all(|state| wanted(state)) { Ok(()) } else { Err(states.join(" ")) }
    });
}

#[test]
fn ctrl_z_stops_the_pool_and_its_jobs_and_fg_continues_both() {
    let dir = tempfile::tempdir().unwrap();
    for job in 1..=2 {
        fifo(&dir.path().join(format!("gate{job}")));
    }
    fs::write(dir.path().join("job"), "sleep 1000 & echo $$ $! >> pids; read _ < gate$1; kill $!; echo job $1 done\n")
        .unwrap();
    let terminal = Terminal::open(dir.path());
    terminal.types("seq 2 | worker-pool -j2 -- sh job; echo code $?\n");
    let jobs = pids(&dir.path().join("pids"), 4);
    all_in_state(&jobs, |state| state == "S");
    for round in 1..=2 {
        terminal.types("\x1a");
        terminal.shows("Stopped");
        all_in_state(&jobs, |state| state == "T");
        terminal.types(&format!("echo prompt {round}$((round))\n"));
        terminal.shows(&format!("prompt {round}0"));
        terminal.types("fg\n");
        all_in_state(&jobs, |state| state == "S");
    }
    for job in 1..=2 {
        fs::write(dir.path().join(format!("gate{job}")), "\n").unwrap();
        terminal.shows(&format!("job {job} done"));
    }
    terminal.shows("ready> ");
    all_are_gone(&jobs);
}

#[test]
fn a_pause_does_not_count_as_time() {
    let dir = tempfile::tempdir().unwrap();
    fifo(&dir.path().join("gate"));
    fs::write(dir.path().join("job"), "echo $$ >> pids; read _ < gate; echo job done in time\n").unwrap();
    let terminal = Terminal::open(dir.path());
    let begun = fs::metadata(dir.path().join("job")).unwrap().modified().unwrap();
    terminal.types("echo 1 | worker-pool --timeout 4s -- sh job; echo code $?\n");
    let jobs = pids(&dir.path().join("pids"), 1);
    terminal.types("\x1a");
    terminal.shows("Stopped");
    all_in_state(&jobs, |state| state == "T");
    // The pause alone is longer than the job may take.
    eventually("six seconds", || match begun.elapsed() {
        Ok(age) if age.as_secs() >= 6 => Ok(()),
        age => Err(format!("{age:?}")),
    });
    terminal.types("fg\n");
    all_in_state(&jobs, |state| state == "S");
    fs::write(dir.path().join("gate"), "\n").unwrap();
    terminal.shows("job done in time");
    terminal.shows("ready> ");
}

#[test]
fn ctrl_z_where_nobody_could_continue_it_stops_nothing() {
    // A session without a shell that controls jobs, as below `ssh host worker-pool` or in a container.
    let dir = tempfile::tempdir().unwrap();
    fifo(&dir.path().join("gate"));
    let mut command = Command::new("setsid");
    command.args(["-w", env!("CARGO_BIN_EXE_worker-pool"), "--json", "--", "sh", "-c"]).current_dir(dir.path());
    command.arg("echo $PPID $$ >> pids; read _ < gate; echo done");
    let (mut process, mut stdin) = crate::common::Process::start_fed(command);
    stdin.write_all(b"1\n").unwrap();
    drop(stdin);
    let pids = pids(&dir.path().join("pids"), 2);
    crate::common::signal(pids[0].parse().unwrap(), "TSTP");
    crate::common::signal(pids[0].parse().unwrap(), "USR1");
    process.out.event("interval"); // it is at work
    fs::write(dir.path().join("gate"), "\n").unwrap();
    assert_eq!(process.ended().code(), Some(0));
}

/// Who is brought into a container from outside has session and group 0 there, and the pool panicked.
#[test]
fn ctrl_z_in_a_container_whose_session_is_outside_stops_nothing() {
    let container = ["--pid", "--fork", "--mount-proc"];
    if !Command::new("unshare").args(container).arg("true").status().is_ok_and(|status| status.success()) {
        return eprintln!("SKIPPED: no process namespace can be made here");
    }
    let dir = tempfile::tempdir().unwrap();
    fifo(&dir.path().join("gate"));
    let mut command = Command::new("unshare");
    command.args(container).args(["sh", "-c", "\"$0\" --json -- \"$@\"; exit $?", env!("CARGO_BIN_EXE_worker-pool")]);
    command.args(["sh", "-c", "kill -TSTP $PPID; kill -USR1 $PPID; read _ < gate; echo done"]).current_dir(dir.path());
    let (mut process, mut stdin) = crate::common::Process::start_fed(command);
    stdin.write_all(b"1\n").unwrap();
    drop(stdin);
    process.out.event("interval"); // it is at work
    fs::write(dir.path().join("gate"), "\n").unwrap();
    assert_eq!(process.ended().code(), Some(0));
}

#[test]
fn a_job_that_wants_to_read_from_the_terminal_is_ended_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let terminal = Terminal::open(dir.path());
    let wants = ["read x < /dev/tty", "sh -c 'read x < /dev/tty; :'; :", "stty -echo < /dev/tty"];
    for (number, wants) in (1..).zip(wants) {
        fs::write(dir.path().join("job"), format!("echo $$ >> pids{number}; {wants}\n")).unwrap();
        terminal.types("echo asks | worker-pool -- sh job; echo code $?\n");
        terminal.shows("job 1 (asks): it wants the terminal");
        terminal.shows("code 1");
        all_are_gone(&pids(&dir.path().join(format!("pids{number}")), 1));
    }
}

#[test]
fn a_job_that_was_stopped_by_hand_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("job"), "echo $$ >> pids; kill -STOP $$; echo went on\n").unwrap();
    let mut command = pool(&["--", "sh", "job"]);
    command.current_dir(dir.path());
    let (mut process, mut stdin) = crate::common::Process::start_fed(command);
    stdin.write_all(b"1\n").unwrap();
    drop(stdin);
    let jobs = pids(&dir.path().join("pids"), 1);
    all_in_state(&jobs, |state| state == "T");
    let seen = fs::metadata(dir.path().join("pids")).unwrap().modified().unwrap();
    eventually("two looks at it", || match seen.elapsed() {
        Ok(age) if age.as_millis() >= 2500 => Ok(()),
        age => Err(format!("{age:?}")),
    });
    assert_eq!(state(&jobs[0]), "T");
    crate::common::signal(jobs[0].parse().unwrap(), "CONT");
    assert_eq!(process.ended().code(), Some(0));
    assert_eq!(process.out.text(), "went on\n");
}

#[test]
fn the_bar_tells_what_was_read_so_far_and_the_time_left_once_a_job_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["gate1", "gate2", "gate3", "more"] {
        fifo(&dir.path().join(name));
    }
    fs::write(dir.path().join("job"), "read _ < gate$1\n").unwrap();
    let terminal = Terminal::open(dir.path());
    terminal.types("{ seq 3; read _ < more; } | worker-pool -j1 -- sh job; echo code $?\n");
    terminal.shows("0 of 3 so far");
    fs::write(dir.path().join("more"), "\n").unwrap();
    let before = terminal.shows("] 0/3, ");
    assert!(!before.contains("left"), "nothing is known yet: {before:?}");
    let before = terminal.shows("] 0/3, "); // drawn again
    assert!(!before.contains("left"), "nothing is known yet: {before:?}");
    fs::write(dir.path().join("gate1"), "\n").unwrap();
    terminal.shows("] 1/3, ");
    terminal.shows("s left");
    for gate in ["gate2", "gate3"] {
        fs::write(dir.path().join(gate), "\n").unwrap();
    }
    terminal.shows("code 0");
}
