//! What jobs print: whole, in one piece, however much it is.

use super::*;

/// More than a job's output may take of memory.
const PRINT: &str = "yes 0123456789 | head -c 2097153";

fn two_mebibytes() -> String {
    let mut all = "0123456789\n".repeat(200_000);
    all.truncate((2 << 20) + 1);
    all
}

#[test]
fn the_output_of_a_job_is_one_block() {
    let script = "for i in 1 2 3 4 5 6 7 8 9; do echo $1; done";
    let ended = pool_of(seq(100), &["-j8", "--", "sh", "-c", script, "sh"]).expect(0);
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines.len(), 900);
    assert!(lines.chunks(9).all(|block| block.iter().all(|line| *line == block[0])));
}

#[test]
fn stderr_goes_to_stderr() {
    let ended = pool_of("a\n", &["--", "sh", "-c", "echo out; echo err >&2"]).expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn long_output_is_printed_whole() {
    let ended = pool_of("1\n", &["--", "sh", "-c", &format!("{PRINT}; {PRINT} >&2")]).expect(0);
    assert!(ended.stdout == two_mebibytes() && ended.stderr == two_mebibytes(), "{} bytes", ended.stdout.len());
}

#[test]
fn output_at_the_bound_stays_in_memory() {
    let at_bound = |bytes: usize| {
        let script = format!("head -c {bytes} /dev/zero | tr '\\0' x");
        let (jobs, _) = jobs_and_summary(&pool_of("1\n", &["--json", "--", "sh", "-c", &script]).expect(0));
        jobs.into_iter().next().unwrap()
    };
    let whole = at_bound(1 << 20);
    assert_eq!(whole["stdout"].as_str().map(str::len), Some(1 << 20));
    assert!(whole.get("stdout_file").is_none() && whole.get("stdout_truncated").is_none());
    let beyond = at_bound((1 << 20) + 1);
    assert_eq!((&beyond["stdout_truncated"], &beyond["stdout_bytes"]), (&true.into(), &((1 << 20) + 1).into()));
    fs::remove_file(beyond["stdout_file"].as_str().unwrap()).unwrap();
}

#[test]
fn for_programs_long_output_is_in_a_file_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = pool(&["--json", "--", "sh", "-c", PRINT]);
    command.env("TMPDIR", dir.path());
    let (jobs, _) = jobs_and_summary(&run_with(command, "1\n").expect(0));
    let job = &jobs[0];
    assert_eq!((&job["stdout_truncated"], &job["stdout_bytes"]), (&true.into(), &2_097_153.into()));
    let whole = two_mebibytes();
    assert_eq!(job["stdout"].as_str(), Some(&whole[..1 << 20]));
    let file = Path::new(job["stdout_file"].as_str().unwrap());
    assert_eq!(file.parent(), Some(dir.path()));
    assert!(fs::read(file).unwrap() == whole.as_bytes());
    assert!(job.get("stderr_file").is_none());
}

#[test]
fn no_file_stays_that_no_line_names() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    // Nothing can be written there, and that is no closed pipe, which would end the job before.
    command.args(["-c", "exec \"$0\" --json -- sh -c \"$1\" > /dev/full", env!("CARGO_BIN_EXE_worker-pool"), PRINT]);
    command.env("TMPDIR", dir.path());
    run_with(command, "1\n").expect(6).says(&["cannot write to stdout"]);
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_character_that_is_cut_in_half_is_left_to_the_file() {
    let dir = tempfile::tempdir().unwrap();
    // An odd byte first, so that a two-byte character lies across the bound.
    let script = "printf x; yes é | tr -d '\\n' | head -c 1048576";
    let mut command = pool(&["--json", "--", "sh", "-c", script]);
    command.env("TMPDIR", dir.path());
    let (jobs, _) = jobs_and_summary(&run_with(command, "1\n").expect(0));
    assert_eq!(jobs[0]["stdout"].as_str().map(str::len), Some((1 << 20) - 1));
    assert!(jobs[0].get("stdout_base64").is_none());
}

#[test]
fn output_that_cannot_be_kept_is_trouble_of_this_machine() {
    for arguments in [&["--json"][..], &[]] {
        let arguments = [arguments, &["-j1", "--", "sh", "-c", "yes 0123456789"]].concat();
        let mut command = pool(&arguments);
        command.env("TMPDIR", "/no/such/directory");
        let ended = run_with(command, seq(100)).expect(6);
        ended.says(&["job 1", "/no/such/directory", "TMPDIR"]);
    }
}

#[test]
fn spilled_output_leaves_no_file_behind_in_text() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = pool(&["--", "sh", "-c", PRINT]);
    command.env("TMPDIR", dir.path());
    run_with(command, "1\n2\n").expect(0);
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}
