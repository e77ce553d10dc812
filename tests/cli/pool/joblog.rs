//! `--joblog` and `--resume`.

use std::io::Write;

use super::*;
use crate::common::Process;

const HEADER: &str = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand";

/// The columns of each line but the header.
fn lines(log: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(log).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(HEADER));
    lines.map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// Runs `sh -c script sh JOB` for these jobs, with `log` as the job log in `dir`; gives what was run.
fn run_logged(dir: &Path, jobs: &str, arguments: &[&str], code: i32) -> String {
    let script = "echo ran $1 >> ran; exit ${2-0}";
    let arguments = [&["-j1", "--joblog", "log"], arguments, &["--", "sh", "-c", script, "sh"]].concat();
    let _ = fs::remove_file(dir.join("ran"));
    pool_in(dir, jobs, &arguments).expect(code);
    fs::read_to_string(dir.join("ran")).unwrap_or_default().replace("ran ", "").replace('\n', " ").trim_end().to_owned()
}

#[test]
fn the_log_has_the_columns_of_gnu_parallel() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = "echo 'a b'\nexit 3\nkill -9 $$\nsleep 1000\nprintf 'x\ty'\n";
    let arguments = ["-j1", "--timeout", "2s", "--joblog", "log", "--shell"];
    pool_in(dir.path(), jobs, &arguments).expect(1);
    let lines = lines(&dir.path().join("log"));
    let column = |number: usize| lines.iter().map(|line| line[number].as_str()).collect::<Vec<_>>();
    assert!(lines.iter().all(|line| line.len() == 9), "{lines:?}");
    assert_eq!(column(0), ["1", "2", "3", "4", "5"]);
    assert_eq!(column(1), [":"; 5]);
    assert_eq!(column(5), ["4", "0", "0", "0", "3"]);
    assert_eq!(column(6), ["0", "3", "0", "-1", "0"]);
    assert_eq!(column(7), ["0", "0", "9", "15", "0"]);
    assert_eq!(column(8)[4], r"sh -c $'printf \'x\ty\''");
    let seconds: Vec<f64> = column(2).iter().chain(&column(3)).map(|text| text.trim().parse().unwrap()).collect();
    assert!(seconds[0] > 1.6e9 && seconds[8] >= 2.0, "{seconds:?}");
}

#[test]
fn resume_runs_what_is_not_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run_logged(dir.path(), "a\nb\n", &[], 0), "a b");
    assert_eq!(run_logged(dir.path(), "a\nb\n", &["--resume"], 0), "");
    assert_eq!(lines(&dir.path().join("log")).len(), 2);
    assert_eq!(run_logged(dir.path(), "a\nb\nc\n", &["--resume", "--json"], 0), "c");
    assert_eq!(lines(&dir.path().join("log")).len(), 3);
}

#[test]
fn changed_input_never_skips_or_runs_the_wrong_command() {
    let dir = tempfile::tempdir().unwrap();
    run_logged(dir.path(), "a\nb\n", &[], 0);
    assert_eq!(run_logged(dir.path(), "new\nb\na\na\n", &["--resume"], 0), "new a", "the second a has no line yet");
    assert_eq!(run_logged(dir.path(), "a\na\na\nnew\n", &["--resume"], 0), "a");
    // Another command with the same jobs is another thing.
    let ended = pool_in(dir.path(), "a\n", &["--joblog", "log", "--resume", "--", "echo", "other"]).expect(0);
    assert_eq!(ended.stdout, "other a\n");
}

#[test]
fn resume_skips_what_failed_and_resume_failed_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--joblog", "log", "--", "sh", "-c", "[ -e fixed ] || exit $1", "sh"];
    let go = |option: &str, code| {
        let (first, rest) = arguments.split_at(2);
        let ended = pool_in(dir.path(), "0\n7\n", &[first, &[option, "--json"], rest].concat()).expect(code);
        let (jobs, summary) = jobs_and_summary(&ended);
        (jobs.iter().map(|job| job["job"].as_u64().unwrap()).collect::<Vec<_>>(), summary["skipped"].as_u64().unwrap())
    };
    assert_eq!(go("--resume", 1), (vec![1, 2], 0));
    assert_eq!(go("--resume", 0), (vec![], 2));
    assert_eq!(go("--resume-failed", 1), (vec![2], 1));
    fs::write(dir.path().join("fixed"), "").unwrap();
    assert_eq!(go("--resume-failed", 0), (vec![2], 1));
    assert_eq!(go("--resume-failed", 0), (vec![], 2));
}

#[test]
fn people_are_told_what_resume_skips() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--joblog", "log", "--resume", "--", "sh", "-c", "exit $1", "sh"];
    pool_in(dir.path(), "0\n7\n", &arguments).expect(1);
    let ended = pool_in(dir.path(), "0\n7\n", &arguments).expect(0);
    ended.says(&["2 skipped", "1 of them had failed", "--resume-failed"]);
    let ended = pool_in(dir.path(), "0\n", &arguments).expect(0).says(&["1 skipped"]);
    assert!(!ended.stderr.contains("failed"), "{}", ended.stderr);
    assert_eq!(pool_in(dir.path(), "0\n7\n", &[&["-q"], &arguments[..]].concat()).expect(0).stderr, "");
}

#[test]
fn the_worker_does_not_matter_to_resume() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["-j4", "--joblog", "log", "--resume", "--", "echo", "{%}", "{}"];
    assert_eq!(pool_in(dir.path(), seq(20), &arguments).expect(0).stdout.lines().count(), 20);
    assert_eq!(pool_in(dir.path(), seq(20), &arguments).expect(0).stdout, "");
    assert!(lines(&dir.path().join("log")).iter().any(|line| line[8] == "echo '{%}' 1"));
}

#[test]
fn a_pool_that_was_killed_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    fifo(&dir.path().join("gate"));
    let script = "case $1 in 3) [ -e resumed ] || read _ < gate;; esac; echo $1 >> ran";
    let arguments = ["-j1", "--joblog", "log", "--resume", "--", "sh", "-c", script, "sh"];
    let mut command = pool(&arguments);
    command.current_dir(dir.path());
    let (mut process, mut stdin) = Process::start_fed(command);
    stdin.write_all(seq(5).as_bytes()).unwrap();
    eventually("two lines in the log", || match fs::read_to_string(dir.path().join("log")).unwrap_or_default() {
        text if text.lines().count() == 3 => Ok(()),
        text => Err(text),
    });
    process.kill();
    // Opening the gate lets the orphan of the killed pool end.
    fs::write(dir.path().join("gate"), "\n").unwrap();
    eventually("the orphan's end", || match fs::read_to_string(dir.path().join("ran")).unwrap_or_default() {
        text if text.ends_with("3\n") => Ok(()),
        text => Err(text),
    });
    // As if the kill had come in the middle of a line.
    let log = dir.path().join("log");
    let mut torn = fs::OpenOptions::new().append(true).open(&log).unwrap();
    torn.write_all(b"3\t:\t17000000").unwrap();
    fs::write(dir.path().join("resumed"), "").unwrap();
    pool_in(dir.path(), seq(5), &arguments).expect(0);
    assert_eq!(fs::read_to_string(dir.path().join("ran")).unwrap(), "1\n2\n3\n3\n4\n5\n");
    assert_eq!(lines(&log).iter().map(|line| line[0].as_str()).collect::<Vec<_>>(), ["1", "2", "3", "4", "5"]);
}

#[test]
fn a_job_that_was_cancelled_is_not_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let script = "case $1 in 1) until [ -e two ]; do :; done; exit 1;; *) : > two; sleep 1000;; esac";
    let arguments = ["-j2", "--halt", "now", "--joblog", "log", "--", "sh", "-c", script, "sh"];
    pool_in(dir.path(), seq(2), &arguments).expect(1);
    assert_eq!(lines(&dir.path().join("log")).len(), 1);
}

#[test]
fn a_log_is_never_lost() {
    let dir = tempfile::tempdir().unwrap();
    run_logged(dir.path(), "a\n", &[], 0);
    let before = fs::read(dir.path().join("log")).unwrap();
    pool_in(dir.path(), "b\n", &["--joblog", "log", "--", "echo"]).expect(2).says(&["log", "--resume"]);
    assert_eq!(fs::read(dir.path().join("log")).unwrap(), before);

    let diary = dir.path().join("diary");
    for (text, line) in [("dear diary\n", "line 1"), (&format!("{HEADER}\n1\t:\tnoon\t0\t0\t0\t0\t0\tx\n"), "line 2")] {
        fs::write(&diary, text).unwrap();
        let ended = pool_in(dir.path(), "b\n", &["--joblog", "diary", "--resume", "--", "echo"]).expect(6);
        assert_eq!(ended.says(&["diary", line, "left as it is"]).stdout, "");
        assert_eq!(fs::read_to_string(&diary).unwrap(), text);
    }
}

#[test]
fn a_log_that_cannot_be_written_is_named_before_any_job_is_run() {
    let dir = tempfile::tempdir().unwrap();
    for log in [".", "no/such/dir/log"] {
        let ended = pool_in(dir.path(), "a\n", &["--joblog", log, "--", "touch"]).expect(6);
        ended.says(&["--joblog", log]);
    }
    assert!(!dir.path().join("a").exists());
    let full = pool_in(dir.path(), "a\n", &["--joblog", "/dev/full", "--", "true"]).expect(6);
    full.says(&["/dev/full", "No space left"]);
}

#[test]
fn two_pools_do_not_share_a_log() {
    let dir = tempfile::tempdir().unwrap();
    fifo(&dir.path().join("gate"));
    let mut command = pool(&["--joblog", "log", "--", "sh", "-c", "read _ < gate"]);
    command.current_dir(dir.path());
    let (mut process, mut stdin) = Process::start_fed(command);
    stdin.write_all(b"a\n").unwrap();
    drop(stdin);
    eventually("the log", || fs::metadata(dir.path().join("log")));
    let second = pool_in(dir.path(), "a\n", &["--joblog", "log", "--resume", "--", "true"]).expect(6);
    second.says(&["in use by another worker-pool"]);
    fs::write(dir.path().join("gate"), "\n").unwrap();
    assert_eq!(process.ended().code(), Some(0));
}

#[test]
fn a_dry_run_shows_what_resume_would_run_and_touches_no_log() {
    let dir = tempfile::tempdir().unwrap();
    run_logged(dir.path(), "a\n", &[], 0);
    let before = fs::read(dir.path().join("log")).unwrap();
    let mut command =
        pool(&["--dry-run", "--joblog", "log", "--resume", "--", "sh", "-c", "echo ran $1 >> ran; exit ${2-0}", "sh"]);
    command.current_dir(dir.path());
    let ended = run_with(command, "a\nb\n").expect(0);
    assert!(ended.stdout.ends_with(" sh b\n") && ended.stdout.lines().count() == 1, "{}", ended.stdout);
    assert_eq!(fs::read(dir.path().join("log")).unwrap(), before);
    pool_in(dir.path(), "a\n", &["--dry-run", "--joblog", "none", "--", "echo"]).expect(0);
    assert!(!dir.path().join("none").exists());
}
