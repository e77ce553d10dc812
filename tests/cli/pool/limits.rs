//! Machines that have no place: for files, for processes, for threads.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use super::*;
use crate::common::{Process, run};

/// Runs so many jobs of some seconds under these limits: each is run and logged once.
fn all_run(limits: &str, jobs: u32, workers: &str, seconds: f32) -> Ended {
    let dir = tempfile::tempdir().unwrap();
    let script =
        format!("{limits}; exec \"$0\" -j {workers} --joblog log --json -- sh -c 'echo $1; exec sleep {seconds}' sh");
    let mut command = Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_worker-pool")]).current_dir(dir.path());
    let ended = run_with(command, seq(jobs)).expect(0);
    let (done, summary) = jobs_and_summary(&ended);
    assert_eq!((&summary["ok"], &summary["failed"]), (&jobs.into(), &0.into()), "{summary}");
    assert!(done.iter().all(|job| job["stdout"] == format!("{}\n", job["job"])), "each was run");
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(log.lines().count(), 1 + jobs as usize);
    ended
}

#[test]
fn more_jobs_than_there_are_files_for_wait_for_a_place_and_all_are_run() {
    assert_eq!(
        all_run("ulimit -n 256", 150, "150", 0.3).says(&["at most", "of 150 jobs", "ulimit -n"]).stderr.lines().count(),
        1
    );
    all_run("ulimit -n 64", 60, "50", 0.1);
}

#[test]
fn few_files_are_enough_for_a_pool_of_many_workers() {
    assert_eq!(all_run("ulimit -n 1024", 150, "150", 2.0).stderr, "", "150 run at a time");
}

#[test]
fn with_any_number_of_files_all_jobs_are_run_or_it_says_that_it_cannot_start() {
    let mut well = 0;
    for files in (5..64).step_by(3).chain([16]) {
        let mut command = Command::new("bash");
        let script = format!("ulimit -n {files}; exec \"$0\" -j4 -- echo");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_worker-pool")]);
        let ended = run_with(command, seq(9));
        if ended.code == Some(0) {
            assert_eq!(sorted(&ended.stdout), sorted(&seq(9)), "{files} files");
            well += 1;
        } else {
            let ended = ended.expect(6).says(&["worker-pool: cannot start", "ulimit -n"]);
            assert_eq!(ended.stdout, "", "{files} files");
        }
    }
    assert!(well >= 8, "most of these are enough: {well}");
}

#[test]
fn long_output_finds_its_files_at_a_limit_too() {
    let mut command = Command::new("bash");
    let script = "ulimit -n 64; exec \"$0\" -j 20 -k -- sh -c 'head -c 1200000 /dev/zero; echo' sh";
    command.args(["-c", script, env!("CARGO_BIN_EXE_worker-pool")]);
    assert_eq!(run_with(command, seq(30)).expect(0).stdout.len(), 30 * 1_200_001);
}

#[test]
fn jobs_do_not_inherit_a_raised_limit_of_files() {
    for soft in [1024, 40] {
        let mut command = Command::new("bash");
        let script = format!("ulimit -S -n {soft}; ulimit -H -n; exec \"$0\" -j 300 -- sh -c 'ulimit -n' sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_worker-pool")]);
        let ended = run_with(command, seq(400)).expect(0);
        let mut lines = ended.stdout.lines();
        let hard = lines.next().unwrap();
        if hard.parse::<u64>().is_ok_and(|hard| hard < 5000) {
            eprintln!("skipped: the hard limit of {hard} files leaves nothing to raise");
            return;
        }
        assert_eq!(ended.stderr, "", "there is a place for all");
        assert!(lines.all(|limit| limit == soft.to_string()), "{}", ended.stdout);
    }
}

/// `tool` as a user who has no other process and may have so many; nothing when we may not become that user.
fn limited_to(processes: u32, user: u32, dir: &Path, tool: &str) -> Option<Command> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become a user who has no other process");
        return None;
    }
    // Not below a directory that is closed to others.
    let copy = dir.join(tool);
    if !copy.exists() {
        let binary = Path::new(env!("CARGO_BIN_EXE_worker-pool")).with_file_name(tool);
        fs::copy(binary, &copy).unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let mut command = Command::new("prlimit");
    command.arg(format!("--nproc={processes}")).arg("--").arg(copy).current_dir(dir).uid(user).gid(user);
    Some(command)
}

#[test]
fn with_any_number_of_processes_all_jobs_are_run_or_it_says_that_it_cannot_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut well = 0;
    for processes in 1..=14 {
        // Each has a user of its own: what an earlier one has left would count.
        let Some(mut command) = limited_to(processes, 61_000 + processes, dir.path(), "worker-pool") else { return };
        command.args(["-j6", "--", "sh", "-c", "echo $1; exec sleep 0.1", "sh"]);
        let ended = run_with(command, seq(9));
        if ended.code == Some(0) {
            assert_eq!(sorted(&ended.stdout), sorted(&seq(9)), "{processes} processes");
            well += 1;
        } else {
            let ended = ended.expect(6).says(&["worker-pool: cannot", "ulimit -u"]);
            assert_eq!(ended.stdout, "", "{processes} processes");
        }
    }
    assert!(well >= 6, "most of these are enough: {well}");
}

#[test]
fn a_job_that_was_never_started_is_not_in_the_log_and_is_run_by_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let logged = ["--joblog", "log", "--resume", "-j2", "--", "echo"];
    let user = 61_100;
    let Some(mut command) = limited_to(5, user, dir.path(), "worker-pool") else { return };
    // Its own threads are all that it may have, as long as there is something to read: no job can be started.
    command.args(logged);
    let (mut process, mut stdin) = Process::start_fed(command);
    std::io::Write::write_all(&mut stdin, seq(3).as_bytes()).unwrap();
    assert_eq!(process.ended().code(), Some(6));
    let said = process.err.text();
    assert!(["cannot run echo", "no job runs", "3 not started"].iter().all(|what| said.contains(what)), "{said}");
    assert_eq!(process.out.text(), "");
    assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap().lines().count(), 1, "the header alone");
    let mut command = limited_to(50, user, dir.path(), "worker-pool").unwrap();
    command.args(logged);
    assert_eq!(sorted(&run_with(command, seq(3)).expect(0).stdout), ["1", "2", "3"]);
}

#[test]
fn a_signal_ends_the_wait_for_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut command) = limited_to(6, 61_101, dir.path(), "worker-pool") else { return };
    command.args(["-j4", "--", "sh", "-c", "echo $$ >> pids; exec sleep 1000", "sh"]);
    let (mut process, mut stdin) = Process::start_fed(command);
    std::io::Write::write_all(&mut stdin, seq(4).as_bytes()).unwrap();
    process.err.line_with("jobs wait until others have ended");
    pids(&dir.path().join("pids"), 1);
    process.signal("HUP");
    assert_eq!(process.ended().code(), Some(129));
    process.err.line_with("0 of 1 jobs ended well, 1 cancelled, 3 not started");
}

#[test]
fn no_tool_panics_where_there_are_no_threads() {
    let dir = tempfile::tempdir().unwrap();
    let tools: [&[&str]; 7] = [
        &["tcp-echo", "serve", "--listen", "127.0.0.1:0"],
        &["tcp-echo", "send", "localhost:1", "hi"],
        &["tcp-echo", "bench", "localhost:1", "--duration", "1ms", "--warm-up", "0s"],
        &["udp-listen", "--listen", "127.0.0.1:0"],
        &["udp-send", "localhost:1", "hi"],
        &["netsim", "raft", "--seeds", "0..3", "--until", "1s"],
        &["worker-pool", "demo"],
    ];
    for (number, arguments) in (0..).zip(tools) {
        let mut refused = 0;
        for processes in 1..=6 {
            let user = 61_200 + 10 * number + processes;
            let Some(mut command) = limited_to(processes, user, dir.path(), arguments[0]) else { return };
            command.args(&arguments[1..]);
            let ended = if arguments[0] == "udp-listen" || arguments.contains(&"serve") {
                serves_or_ends(command)
            } else {
                run(command)
            };
            assert!(!ended.stderr.contains("panicked"), "{arguments:?}, {processes}: {}", ended.stderr);
            if ended.code == Some(6) {
                refused += 1;
                assert!(ended.stderr.contains("ulimit -u"), "{arguments:?}, {processes}: {}", ended.stderr);
            }
            assert!(matches!(ended.code, Some(0 | 3 | 6 | 143)), "{arguments:?}, {processes}: {ended:?}");
        }
        assert!(refused > 0, "{arguments:?}: one process is too few for any");
    }
}

/// Ends a server once it serves, unless it ends before.
fn serves_or_ends(command: Command) -> Ended {
    let mut process = Process::start(command);
    let serves = eventually("a server that serves or ends", || {
        let serves = process.out.text().contains("ready on");
        if serves || process.has_ended() { Ok(serves) } else { Err(process.err.text()) }
    });
    if serves {
        process.signal("TERM");
    }
    let code = process.ended().code();
    Ended { code, stdout: process.out.text(), stderr: process.err.text() }
}
