//! Time-outs, retries, and jobs that end others: nothing is left behind.

use std::io::Write;

use super::*;
use crate::common::{Process, Reader, signal};

/// Notes its own process id and that of a child, which outlives it unless the group is ended.
const FAMILY: &str = "sleep 1000 & echo $$ $! >> pids; wait";

#[test]
fn a_job_out_of_time_is_ended_with_all_it_has_started() {
    let dir = tempfile::tempdir().unwrap();
    let ended = pool_in(dir.path(), "a\nb\n", &["--timeout", "3s", "--json", "--", "sh", "-c", FAMILY]).expect(1);
    let (jobs, summary) = jobs_and_summary(&ended);
    assert!(jobs.iter().all(|job| job["status"] == "timeout" && job["signal"] == 15), "{jobs:?}");
    assert_eq!(summary["timeout"], 2);
    let pids = pids(&dir.path().join("pids"), 4);
    assert!(pids.iter().all(|pid| !is_alive(pid)), "all are gone when worker-pool is: {pids:?}");
}

#[test]
fn a_job_out_of_time_is_ended_with_what_has_left_its_group_too() {
    let dir = tempfile::tempdir().unwrap();
    // In a session of its own; a daemon whose parent has gone; and one that is deaf besides. None holds the output.
    let apart = "setsid sleep 1000 >/dev/null 2>&1 & echo $! >> pids";
    let daemon = "(setsid sh -c 'echo $$ >> pids; exec sleep 1000' >/dev/null 2>&1 &)";
    let deaf = "(setsid sh -c 'trap : TERM; echo $$ >> pids; while :; do sleep 1000; done' >/dev/null 2>&1 &)";
    let script = format!("{apart}; {daemon}; {deaf}; echo $$ >> pids; wait; sleep 1000");
    let arguments = ["--timeout", "3s", "--grace", "300ms", "--json", "--", "sh", "-c", &script];
    let (jobs, _) = jobs_and_summary(&pool_in(dir.path(), "a\n", &arguments).expect(1));
    assert_eq!(jobs[0]["status"], "timeout", "{}", jobs[0]);
    let pids = pids(&dir.path().join("pids"), 4);
    assert!(pids.iter().all(|pid| !is_alive(pid)), "all are gone when worker-pool is: {pids:?}");
}

#[test]
fn the_jobs_of_a_pool_that_is_a_job_are_ended_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let inner = format!(
        "exec {} -- sh -c 'trap : TERM; echo $$ >> pids; while :; do sleep 1; done'",
        env!("CARGO_BIN_EXE_worker-pool")
    );
    let script = format!("echo x | {{ {inner}; }}");
    let arguments = ["--timeout", "3s", "--grace", "300ms", "--", "sh", "-c", &script];
    pool_in(dir.path(), "a\n", &arguments).expect(1).says(&["timed out after 3s"]);
    let pids = pids(&dir.path().join("pids"), 1);
    assert!(!is_alive(&pids[0]), "{pids:?}");
}

#[test]
fn what_other_jobs_have_started_is_let_alone() {
    let dir = tempfile::tempdir().unwrap();
    // The second ends well and leaves a process behind, as it may; the first is out of time.
    let script = "case $1 in 1) exec sleep 1000;; 2) setsid sleep 1000 >/dev/null 2>&1 & echo $! >> pids;; esac";
    let arguments = ["-j2", "--timeout", "2s", "--", "sh", "-c", script, "sh"];
    pool_in(dir.path(), seq(2), &arguments).expect(1).says(&["job 1 (1): timed out", "1 of 2 jobs ended well"]);
    let pids = pids(&dir.path().join("pids"), 1);
    assert!(is_alive(&pids[0]));
    signal(pids[0].parse().unwrap(), "KILL");
}

#[test]
fn who_ignores_sigterm_is_killed_after_the_grace() {
    let dir = tempfile::tempdir().unwrap();
    let deaf = "trap '' TERM; sleep 1000 & echo $$ $! >> pids; wait";
    let arguments = ["--timeout", "3s", "--grace", "100ms", "--json", "--", "sh", "-c", deaf];
    let (jobs, _) = jobs_and_summary(&pool_in(dir.path(), "a\n", &arguments).expect(1));
    assert_eq!((&jobs[0]["status"], &jobs[0]["signal"]), (&"timeout".into(), &9.into()), "{}", jobs[0]);
    assert!(pids(&dir.path().join("pids"), 2).iter().all(|pid| !is_alive(pid)));
}

#[test]
fn a_child_that_ignores_sigterm_is_killed_although_its_parent_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    // The child has closed its output: nothing but the process table tells of it.
    let script = "(trap '' TERM; echo ready > up; exec sleep 1000 >/dev/null 2>&1) & echo $$ $! >> pids; wait";
    let arguments = ["--timeout", "3s", "--grace", "100ms", "--", "sh", "-c", script];
    pool_in(dir.path(), "a\n", &arguments).expect(1).says(&["timed out after 3s"]);
    assert!(pids(&dir.path().join("pids"), 2).iter().all(|pid| !is_alive(pid)));
}

#[test]
fn who_ends_well_on_sigterm_has_the_grace_to_do_so() {
    let script = "trap 'echo cleaned up; exit 0' TERM; sleep 1000 & wait";
    let arguments = ["--timeout", "3s", "--grace", "20s", "--json", "--", "sh", "-c", script];
    let (jobs, _) = jobs_and_summary(&pool_of("a\n", &arguments).expect(1));
    assert_eq!((&jobs[0]["status"], &jobs[0]["stdout"]), (&"timeout".into(), &"cleaned up\n".into()), "{}", jobs[0]);
}

#[test]
fn a_job_that_leaves_a_process_behind_ends_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let script = "sleep 1000 & echo $! > pids; echo done";
    let arguments = ["--grace", "200ms", "--", "sh", "-c", script];
    let ended = pool_in(dir.path(), "a\n", &arguments).expect(0).says(&["left processes behind"]);
    assert_eq!(ended.stdout, "done\n");
    let pids = pids(&dir.path().join("pids"), 1);
    assert!(is_alive(&pids[0]), "as with xargs, it lives on");
    signal(pids[0].parse().unwrap(), "KILL");

    // One that does not hold the output is not waited for at all.
    let script = "sleep 1000 >/dev/null 2>&1 & echo $! > pids; echo done";
    let ended = pool_in(dir.path(), "a\n", &["--grace", "1000s", "--", "sh", "-c", script]).expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("done\n", ""));
    signal(super::pids(&dir.path().join("pids"), 1)[0].parse().unwrap(), "KILL");
}

#[test]
fn a_job_that_ended_by_itself_is_not_out_of_time_although_its_output_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let script = "sleep 1000 & echo $! >> pids; echo done; exit $1";
    let arguments = ["--timeout", "2s", "--grace", "1000s", "--retries", "1", "--backoff", "1ms", "--joblog", "log"];
    let arguments = [&arguments[..], &["--json", "-j2", "--", "sh", "-c", script, "sh"]].concat();
    let (jobs, _) = jobs_and_summary(&pool_in(dir.path(), "0\n3\n", &arguments).expect(1));
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    for (job, (status, exit, attempts)) in jobs.iter().zip([("ok", 0, 1), ("failed", 3, 2)]) {
        assert_eq!((&job["status"], &job["exit"]), (&status.into(), &exit.into()), "{job}");
        assert_eq!((&job["attempts"], &job["left_behind"]), (&attempts.into(), &true.into()), "{job}");
        assert_eq!(job["stdout"], "done\n", "{job}");
        assert!(log.contains(&format!("\t{exit}\t0\tsh -c")), "{log}");
    }
    for pid in pids(&dir.path().join("pids"), 3) {
        assert!(is_alive(&pid), "what was left behind lives on");
        signal(pid.parse().unwrap(), "KILL");
    }
}

#[test]
fn what_is_still_being_printed_when_the_command_ends_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    fifo(&dir.path().join("gate"));
    let script = "(read _ < gate; echo late) & echo early; echo $$ > pids";
    let mut command = pool(&["--grace", "1000s", "--", "sh", "-c", script]);
    command.current_dir(dir.path());
    let (mut process, mut stdin) = Process::start_fed(command);
    stdin.write_all(b"a\n").unwrap();
    drop(stdin);
    all_are_gone(&pids(&dir.path().join("pids"), 1));
    fs::write(dir.path().join("gate"), "\n").unwrap();
    assert_eq!(process.ended().code(), Some(0));
    assert_eq!(process.out.text(), "early\nlate\n");
}

#[test]
fn a_job_is_tried_again_until_it_ends_well() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo x >> tries; [ $(wc -l < tries) -ge 3 ] && echo at last";
    let arguments = ["--retries", "5", "--backoff", "1ms", "--json", "--", "sh", "-c", script];
    let (jobs, _) = jobs_and_summary(&pool_in(dir.path(), "a\n", &arguments).expect(0));
    assert_eq!((&jobs[0]["attempts"], &jobs[0]["stdout"]), (&3.into(), &"at last\n".into()), "{}", jobs[0]);
    assert_eq!(fs::read_to_string(dir.path().join("tries")).unwrap().lines().count(), 3);
}

#[test]
fn the_pause_between_attempts_doubles() {
    let arguments = ["--retries", "3", "--backoff", "40ms", "--json", "--", "false"];
    let (jobs, _) = jobs_and_summary(&pool_of("a\n", &arguments).expect(1));
    assert_eq!(jobs[0]["attempts"], 4);
    assert!(jobs[0]["ms"].as_u64() >= Some(40 + 80 + 160), "{}", jobs[0]);
    pool_of("a\n", &["--retries", "1", "--backoff", "1ms", "--", "false"])
        .expect(1)
        .says(&["exit code 1 (2 attempts)"]);
}

#[test]
fn each_attempt_has_its_own_time() {
    let arguments = ["--retries", "2", "--backoff", "1ms", "--timeout", "100ms", "--json", "--", "sleep"];
    let (jobs, _) = jobs_and_summary(&pool_of("1000\n", &arguments).expect(1));
    assert_eq!((&jobs[0]["attempts"], &jobs[0]["status"]), (&3.into(), &"timeout".into()), "{}", jobs[0]);
}

#[test]
fn halt_soon_starts_no_more_and_finishes_what_runs() {
    let dir = tempfile::tempdir().unwrap();
    fifo(&dir.path().join("gate"));
    // The first fails once the second runs; the second ends once the first one's end has been seen.
    let script = "case $1 in 1) read _ < gate; exit 1;; 2) echo > gate; echo second;; *) echo more;; esac";
    let arguments = ["-j2", "--halt", "soon", "--json", "--", "sh", "-c", script, "sh"];
    let ended = pool_in(dir.path(), seq(1000), &arguments).expect(1);
    let (jobs, summary) = jobs_and_summary(&ended);
    assert_eq!((&jobs[0]["status"], &jobs[1]["status"]), (&"failed".into(), &"ok".into()));
    assert_eq!((&summary["halted"], &summary["cancelled"]), (&true.into(), &0.into()), "{summary}");
    assert!(summary["jobs"].as_u64() < Some(1000), "{summary}");
}

#[test]
fn halt_now_ends_what_runs() {
    let dir = tempfile::tempdir().unwrap();
    fifo(&dir.path().join("gate"));
    let script = "case $1 in 1) read _ < gate; exit 1;; *) sleep 1000 & echo $$ $! >> pids; echo > gate; wait;; esac";
    let arguments = ["-j2", "--halt", "now", "--json", "--", "sh", "-c", script, "sh"];
    let (jobs, summary) = jobs_and_summary(&pool_in(dir.path(), seq(9), &arguments).expect(1));
    assert_eq!((&jobs[0]["status"], &jobs[1]["status"]), (&"failed".into(), &"cancelled".into()), "{jobs:?}");
    assert_eq!((&summary["jobs"], &summary["halted"]), (&2.into(), &true.into()), "{summary}");
    assert!(pids(&dir.path().join("pids"), 2).iter().all(|pid| !is_alive(pid)));
}

#[test]
fn halt_never_runs_them_all() {
    let (jobs, summary) = jobs_and_summary(&pool_of(seq(50), &["--json", "--", "false"]).expect(1));
    assert_eq!((jobs.len(), &summary["failed"], &summary["halted"]), (50, &50.into(), &false.into()));
}

#[test]
fn the_first_success_ends_the_others_and_is_all_that_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    fifo(&dir.path().join("gate"));
    let script = "case $1 in 1) echo slow; sleep 1000 & echo $$ $! >> pids; echo > gate; wait;; 2) echo bad; exit 1;; \
                  3) read _ < gate; echo quick;; esac";
    let arguments = ["-j3", "--first", "--", "sh", "-c", script, "sh"];
    let ended = pool_in(dir.path(), seq(3), &arguments).expect(0);
    assert_eq!(ended.stdout, "quick\n");
    assert!(!ended.stderr.contains("cancelled"), "nothing is wrong: {}", ended.stderr);
    assert!(pids(&dir.path().join("pids"), 2).iter().all(|pid| !is_alive(pid)));
}

#[test]
fn first_fails_when_none_succeeds() {
    pool_of(seq(3), &["--first", "--", "false"]).expect(1).says(&["no job succeeded"]);
    let (jobs, summary) = jobs_and_summary(&pool_of("", &["--first", "--json", "--", "true"]).expect(1));
    assert_eq!((jobs.len(), &summary["ok"]), (0, &0.into()));
    let (jobs, _) = jobs_and_summary(&pool_of(seq(100), &["--first", "--json", "--", "true"]).expect(0));
    assert_eq!(jobs.iter().filter(|job| job["status"] == "ok").count(), 1, "one wins, however quick the others are");
}

#[test]
fn a_reader_that_has_enough_ends_all_jobs_quietly() {
    let dir = tempfile::tempdir().unwrap();
    // The others print nothing, so only the pipe itself tells that nobody reads it any more.
    let script =
        "case $1 in 1) until [ -s pids ]; do :; done; echo enough;; *) sleep 1000 & echo $$ $! >> pids; wait;; esac";
    for arguments in [&[][..], &["--json"]] {
        let file = dir.path().join("jobs");
        fs::write(&file, seq(2)).unwrap();
        let mut command = Command::new("sh");
        let arguments = [arguments, &["-j2", "--", "sh", "-c", script, "sh"]].concat();
        command.args(["-c", "exec \"$0\" \"$@\" < jobs", env!("CARGO_BIN_EXE_worker-pool")]).args(arguments);
        command.current_dir(dir.path());
        let mut process = Process::start_read_by(command, Reader::OneLine);
        let status = process.ended();
        assert_eq!((status.code(), process.err.text().as_str()), (Some(0), ""));
        let pids = pids(&dir.path().join("pids"), 2);
        assert!(pids.iter().all(|pid| !is_alive(pid)), "{pids:?}");
        fs::remove_file(dir.path().join("pids")).unwrap();
    }
}
