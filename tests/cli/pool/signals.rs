//! Signals: the first one starts no more jobs, the second one ends those that run.

use std::io::Write;

use super::*;
use crate::common::Process;

/// A pool with one job that runs until a line comes through `gate`, and more jobs that wait behind it.
fn one_that_runs(dir: &Path, arguments: &[&str]) -> (Process, std::process::ChildStdin) {
    fifo(&dir.join("gate"));
    let script = "sleep 1000 & echo $$ $! >> pids; read _ < gate; kill $!; echo finished $1";
    let arguments = [arguments, &["-j1", "--", "sh", "-c", script, "sh"]].concat();
    let mut command = pool(&arguments);
    command.current_dir(dir);
    let (process, mut stdin) = Process::start_fed(command);
    stdin.write_all(b"1\n2\n3\n").unwrap();
    pids(&dir.join("pids"), 2);
    (process, stdin)
}

#[test]
fn after_the_first_signal_the_running_job_is_finished_and_no_other_is_begun() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let dir = tempfile::tempdir().unwrap();
        let (mut process, _stdin) = one_that_runs(dir.path(), &[]);
        process.signal(name);
        process.err.line_with("no more jobs are started");
        fs::write(dir.path().join("gate"), "\n").unwrap();
        assert_eq!(process.ended().code(), Some(code));
        assert_eq!(process.out.text(), "finished 1\n");
        process.err.line_with("interrupted: 1 of 1 jobs ended well, 2 not started");
        all_are_gone(&pids(&dir.path().join("pids"), 2));
    }
}

#[test]
fn the_summary_says_that_it_was_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut process, _stdin) = one_that_runs(dir.path(), &["--json", "-vv"]);
    process.signal("INT");
    process.err.line_with("no more jobs are started");
    fs::write(dir.path().join("gate"), "\n").unwrap();
    assert_eq!(process.ended().code(), Some(130));
    let events = process.out.events();
    let summary = events.last().unwrap();
    assert_eq!((&summary["event"], &summary["interrupted"]), (&"summary".into(), &true.into()), "{summary}");
    assert_eq!(events.iter().filter(|event| event["event"] == "summary").count(), 1);
}

#[test]
fn a_second_signal_ends_the_running_job_and_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let (mut process, _stdin) = one_that_runs(dir.path(), &["--json", "-vv"]);
    process.signal("INT");
    process.err.line_with("no more jobs are started"); // two signals at once may arrive as one
    process.signal("INT");
    assert_eq!(process.ended().code(), Some(130));
    let events = process.out.events();
    let statuses: Vec<_> = events.iter().filter(|event| event["event"] == "job").map(|job| &job["status"]).collect();
    assert_eq!(statuses, ["cancelled"]);
    let pids = pids(&dir.path().join("pids"), 2);
    assert!(pids.iter().all(|pid| !is_alive(pid)), "{pids:?}");
}

#[test]
fn signals_are_heard_although_nobody_takes_what_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stalled");
    fifo(&path);
    // Open for reading, and never read.
    let stalled = fs::File::options().read(true).write(true).open(&path).unwrap();
    let script = "exec \"$0\" -j1 --grace 1ms -- head -c 1000000 > stalled";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_worker-pool")]).current_dir(dir.path());
    let (mut process, mut stdin) = Process::start_fed(command);
    stdin.write_all(b"/dev/zero\n").unwrap();
    let mut before = 0;
    eventually("a pipe that is full", || {
        let filled = rustix::io::ioctl_fionread(&stalled).unwrap();
        let as_before = filled == std::mem::replace(&mut before, filled);
        if as_before && filled > 4096 { Ok(()) } else { Err(filled) }
    });
    process.signal("INT");
    process.err.line_with("no more jobs are started");
    process.signal("INT");
    assert_eq!(process.ended().code(), Some(130));
    process.err.line_with("did not take all of it");
}

#[test]
fn a_lost_terminal_and_quit_end_the_jobs_at_once() {
    for (name, code) in [("HUP", 129), ("QUIT", 131)] {
        let dir = tempfile::tempdir().unwrap();
        let (mut process, _stdin) = one_that_runs(dir.path(), &[]);
        process.signal(name);
        assert_eq!(process.ended().code(), Some(code));
        assert!(pids(&dir.path().join("pids"), 2).iter().all(|pid| !is_alive(pid)));
    }
}

#[test]
fn nohup_is_honoured() {
    let dir = tempfile::tempdir().unwrap();
    fifo(&dir.path().join("gate"));
    let script = "trap '' HUP; exec \"$0\" --json -- sh -c 'echo $$ >> pids; read _ < gate'";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_worker-pool")]).current_dir(dir.path());
    let (mut process, mut stdin) = Process::start_fed(command);
    stdin.write_all(b"1\n").unwrap();
    drop(stdin);
    pids(&dir.path().join("pids"), 1);
    process.signal("HUP");
    process.signal("USR1");
    process.out.event("interval");
    fs::write(dir.path().join("gate"), "\n").unwrap();
    assert_eq!(process.ended().code(), Some(0));
}

#[test]
fn usr1_tells_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (mut process, _stdin) = one_that_runs(dir.path(), &["--json"]);
    process.signal("USR1");
    let interval = process.out.event("interval");
    assert_eq!((&interval["jobs"], &interval["running"]), (&0.into(), &1.into()), "{interval}");
    process.signal("HUP");
    process.ended();

    let dir = tempfile::tempdir().unwrap();
    let (mut process, _stdin) = one_that_runs(dir.path(), &[]);
    process.signal("USR1");
    process.err.line_with("0 of 0 jobs ended well in");
    assert_eq!(process.out.text(), "", "stdout belongs to the jobs");
    process.signal("HUP");
    process.ended();
}

#[test]
fn a_retry_that_waits_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo $$ >> pids; exit 1";
    let mut command = pool(&["--retries", "9", "--backoff", "1000s", "--json", "-vv", "--", "sh", "-c", script, "sh"]);
    command.current_dir(dir.path());
    let (mut process, mut stdin) = Process::start_fed(command);
    stdin.write_all(b"1\n").unwrap();
    pids(&dir.path().join("pids"), 1);
    process.signal("INT");
    assert_eq!(process.ended().code(), Some(130));
    assert_eq!(process.out.event("job")["attempts"], 1);
}
