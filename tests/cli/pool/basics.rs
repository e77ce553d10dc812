//! What is run, with what, and how it is counted.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::common::{Process, run, signal};

#[test]
fn each_line_is_a_job_and_is_appended_to_the_command() {
    let ended = pool_of("a b\nc\n\nlast", &["--", "printf", "<%s>\n"]).expect(0);
    assert_eq!(sorted(&ended.stdout), ["<>", "<a b>", "<c>", "<last>"]);
    assert_eq!(ended.stderr, "");
}

#[test]
fn the_command_may_stand_without_two_dashes_and_keeps_its_own_options() {
    assert_eq!(pool_of("x", &["-j2", "printf", "-v%s", "--json"]).expect(0).stdout, "-v--json-vx");
}

#[test]
fn places_are_filled_wherever_they_stand() {
    let ended = pool_of("a\nb\n", &["-j1", "--", "echo", "{#}:{}:{%}", "{}{}"]).expect(0);
    assert_eq!(ended.stdout, "1:a:1 aa\n2:b:1 bb\n");
    assert_eq!(pool_of("echo\n", &["--", "{}", "hi"]).expect(0).stdout, "hi\n");
}

#[test]
fn nothing_in_a_job_means_anything_to_a_shell() {
    let nasty = "$(touch x) `touch x`; touch x & | > x * ~ \\ \"'";
    assert_eq!(pool_of(nasty, &["--", "printf", "%s"]).expect(0).stdout, nasty);
}

#[test]
fn jobs_may_end_with_nul_and_hold_newlines() {
    let ended = pool_of("a\nb\0c\0", &["-0", "-k", "--", "printf", "<%s>"]).expect(0);
    assert_eq!(ended.stdout, "<a\nb><c>");
}

#[test]
fn jobs_need_not_be_text() {
    let ended = pool_of(b"\xff\xfe\n".to_vec(), &["--json", "--", "printf", "%s"]).expect(0);
    let (jobs, _) = jobs_and_summary(&ended);
    assert_eq!((&jobs[0]["input_base64"], &jobs[0]["stdout_base64"]), (&"//4=".into(), &"//4=".into()), "{}", jobs[0]);
    assert!(jobs[0].get("input").is_none() && jobs[0].get("stdout").is_none());
}

#[test]
fn a_job_says_who_did_it_and_how_it_came_out() {
    let ended = pool_of("a\n", &["--json", "--", "sh", "-c", "echo out $1; echo err >&2; exit 3", "sh"]).expect(1);
    let (jobs, summary) = jobs_and_summary(&ended);
    let job = &jobs[0];
    let numbers = |key: &str| job[key].as_u64();
    assert_eq!((numbers("job"), numbers("exit"), numbers("attempts")), (Some(1), Some(3), Some(1)), "{job}");
    assert!(numbers("worker") >= Some(1) && numbers("ms").is_some(), "{job}");
    for (key, value) in [("input", "a"), ("status", "failed"), ("stdout", "out a\n"), ("stderr", "err\n")] {
        assert_eq!(job[key], value, "{key}: {job}");
    }
    for (key, value) in [("jobs", 1), ("ok", 0), ("failed", 1), ("timeout", 0), ("cancelled", 0)] {
        assert_eq!(summary[key], value, "{key}: {summary}");
    }
    assert_eq!(summary["interrupted"], false);
    assert_eq!(ended.stderr, "", "programs have been told on stdout");
}

#[test]
fn a_job_that_a_signal_ends_has_no_exit_code() {
    let ended = pool_of("KILL\n", &["--json", "--", "sh", "-c", "kill -$1 $$", "sh"]).expect(1);
    let (jobs, _) = jobs_and_summary(&ended);
    assert_eq!((&jobs[0]["exit"], &jobs[0]["signal"]), (&Value::Null, &9.into()), "{}", jobs[0]);
}

#[test]
fn a_failed_job_is_named_and_the_others_are_run() {
    let ended = pool_of("0\n7\n0\n", &["--", "sh", "-c", "exit $1", "sh"]).expect(1);
    ended.says(&["job 2 (7): exit code 7", "2 of 3 jobs ended well, 1 failed"]);
    assert_eq!(pool_of("0\n7\n", &["-q", "--", "sh", "-c", "exit $1", "sh"]).expect(1).stderr.lines().count(), 1);
}

#[test]
fn a_command_that_is_not_there_or_not_executable_fails_its_job_alone() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "text").unwrap();
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    let plain = plain.to_str().unwrap();
    let ended = pool_of(format!("no-such-command\n{plain}\ntrue\n"), &["--json", "--", "{}"]).expect(1);
    let (jobs, _) = jobs_and_summary(&ended);
    let exits: Vec<_> = jobs.iter().map(|job| job["exit"].as_i64()).collect();
    assert_eq!(exits, [Some(127), Some(126), Some(0)]);
    let error = jobs[0]["error"].as_str().unwrap();
    assert!(error.contains("no-such-command") && error.contains("not found"), "{error}");
    assert!(jobs[1]["error"].as_str().unwrap().contains("not executable"), "{}", jobs[1]);
    pool_of("x", &["--", "no-such-command"]).expect(1).says(&["job 1 (x)", "no-such-command", "not found"]);
}

#[test]
fn what_no_command_line_can_hold_fails_its_job_alone() {
    // Linux takes 128 KiB as one argument; worker-pool takes 1 MiB as a job.
    let input = [b"a\0b\n".to_vec(), vec![b'x'; 200 << 10], b"\n".to_vec(), vec![b'y'; 2 << 20], b"\nlast\n".to_vec()];
    let ended = pool_of(input.concat(), &["--json", "--", "echo"]).expect(1);
    let (jobs, summary) = jobs_and_summary(&ended);
    let errors: Vec<_> = jobs.iter().map(|job| job["error"].as_str().unwrap_or_default()).collect();
    assert!(errors[0].contains("NUL") && errors[0].contains("-0"), "{}", errors[0]);
    assert!(errors[1].contains("too long for an argument"), "{}", errors[1]);
    assert!(errors[2].contains("line 3") && errors[2].contains("1048576"), "{}", errors[2]);
    assert_eq!((&jobs[3]["stdout"], &summary["ok"]), (&"last\n".into(), &1.into()));
}

#[test]
fn jobs_have_nothing_on_stdin() {
    assert_eq!(pool_of("a\nb\n", &["-j1", "--", "sh", "-c", "cat; echo $1", "sh"]).expect(0).stdout, "a\nb\n");
}

#[test]
fn ten_thousand_jobs_are_each_run_once() {
    let ended = pool_of(seq(10_000), &["-j8", "--json", "--", "true"]).expect(0);
    let (jobs, summary) = jobs_and_summary(&ended);
    let numbers: Vec<_> = jobs.iter().map(|job| job["job"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=10_000).collect::<Vec<_>>());
    assert_eq!((&summary["jobs"], &summary["ok"]), (&10_000.into(), &10_000.into()));
    assert!(jobs.iter().all(|job| (1..=8).contains(&job["worker"].as_u64().unwrap())));
}

#[test]
fn n_run_at_once_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fifo(&dir.path().join(name));
    }
    // The first three wait for each other, and so run at once; each job counts those that run with it.
    let script = "mkdir run.$1; case $1 in 1) echo > b; echo > a;; 2) read _ < a; echo > c;; \
                  3) read _ < b; read _ < c;; esac; ls -d run.* | wc -l; rmdir run.$1";
    let arguments = ["-j3", "--timeout", "20s", "--", "sh", "-c", script, "sh"];
    let ended = pool_in(dir.path(), seq(60), &arguments).expect(0);
    let most = ended.stdout.lines().map(|count| count.trim().parse::<u32>().unwrap()).max();
    assert!(most <= Some(3), "{most:?} at once");
}

#[test]
fn a_full_queue_stops_the_reader() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    fifo(&gate);
    // Lines of a kilobyte, for ever; each counts itself once it is taken from the pipe.
    let feed = "i=0; while :; do i=$((i+1)); printf '%01024d\\n' $i; echo $i > made; done";
    let script = format!("{{ {feed}; }} | \"$0\" -j2 --queue 4 -- sh -c 'read _ < gate' sh");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_worker-pool")]).current_dir(dir.path());
    let mut process = Process::start(command);
    let made = || fs::read_to_string(dir.path().join("made")).ok().and_then(|made| made.trim().parse::<u32>().ok());
    let mut last = None;
    let mut same = 0;
    let made = eventually("a reader that waits", || {
        same = if made() == last { same + 1 } else { 0 };
        last = made().or(last);
        // The pipe and one read hold 64 lines each, and a few are in the queue.
        last.filter(|_| same > 30).ok_or(format!("{last:?}"))
    });
    assert!((4..=200).contains(&made), "{made} lines were taken");
    let children = format!("/proc/{}/task/{}/children", process.pid(), process.pid());
    for child in fs::read_to_string(children).unwrap().split_whitespace() {
        signal(child.parse().unwrap(), "HUP"); // ends both: the one that feeds, and worker-pool with its jobs
    }
    process.ended();
}

#[test]
fn dry_run_prints_the_commands_and_runs_none() {
    let dir = tempfile::tempdir().unwrap();
    let ended = pool_in(dir.path(), "a b\nit's\nt\tb\n", &["--dry-run", "--", "touch", "{}"]).expect(0);
    assert_eq!(ended.stdout, "touch 'a b'\ntouch 'it'\\''s'\ntouch $'t\\tb'\n");
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    let ended = pool_of("a\n", &["--dry-run", "--json", "--", "echo"]).expect(0);
    let plan = events(&ended);
    assert_eq!((&plan[0]["event"], &plan[0]["command"]), (&"plan".into(), &"echo a".into()));
    assert_eq!((&plan[1]["event"], &plan[1]["jobs"], plan.len()), (&"summary".into(), &1.into(), 2));
}

#[test]
fn without_jobs_there_is_nothing_to_do() {
    assert_eq!(pool_of("", &["--", "false"]).expect(0).stdout, "");
    let mut closed = Command::new("sh");
    closed.args(["-c", "exec \"$0\" -- false <&-", env!("CARGO_BIN_EXE_worker-pool")]);
    run(closed).expect(0).says(&["stdin is closed"]);
    let mut directory = Command::new("sh");
    directory.args(["-c", "exec \"$0\" -- false < /", env!("CARGO_BIN_EXE_worker-pool")]);
    run(directory).expect(6).says(&["cannot read jobs from stdin", "directory"]);
}

#[test]
fn the_demo_doubles_each_number_once_and_says_who_did_it() {
    let ended = run(pool(&["demo"])).expect(0);
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 6, "{}", ended.stdout);
    let mut doubled: Vec<_> = lines[..5].iter().map(|line| line.split_once(": ").unwrap().1).collect();
    doubled.sort_unstable();
    assert_eq!(doubled, ["job 1 -> 2", "job 2 -> 4", "job 3 -> 6", "job 4 -> 8", "job 5 -> 10"]);
    assert!(lines[..5].iter().all(|line| ["worker 1", "worker 2", "worker 3"].contains(&&line[..8])));
    assert!(lines[5].starts_with("5 jobs by 3 workers"), "{}", lines[5]);

    let ended = run(pool(&["--json", "demo", "-j2", "--jobs", "100", "--job-time", "1ms"])).expect(0);
    let (jobs, summary) = jobs_and_summary(&ended);
    assert!(jobs.iter().all(|job| job["result"].as_u64() == job["job"].as_u64().map(|job| 2 * job)));
    assert_eq!((jobs.len(), &summary["jobs"], &summary["workers"]), (100, &100.into(), &2.into()));
    assert!([1, 2].iter().all(|worker| jobs.iter().any(|job| job["worker"] == *worker)), "both work");
}

#[test]
fn a_command_named_demo_can_be_run() {
    let dir = tempfile::tempdir().unwrap();
    let demo = dir.path().join("demo");
    fs::write(&demo, "#!/bin/sh\necho mine $1\n").unwrap();
    fs::set_permissions(&demo, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = pool(&["--", "demo"]);
    command.env("PATH", format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap()));
    assert_eq!(run_with(command, "x\n").expect(0).stdout, "mine x\n");
}
