//! Results in the order of the input.

use std::io::Write;

use super::*;
use crate::common::Process;

#[test]
fn results_come_as_jobs_end() {
    let dir = tempfile::tempdir().unwrap();
    fifo(&dir.path().join("gate"));
    let script = "[ $1 = 2 ] || read _ < gate; echo job $1";
    let mut command = pool(&["-j2", "--", "sh", "-c", script, "sh"]);
    command.current_dir(dir.path());
    let (mut process, mut stdin) = Process::start_fed(command);
    stdin.write_all(b"1\n2\n").unwrap();
    drop(stdin);
    process.out.line_with("job 2");
    fs::write(dir.path().join("gate"), "\n").unwrap();
    assert_eq!(process.ended().code(), Some(0));
    assert_eq!(process.out.text(), "job 2\njob 1\n");
}

#[test]
fn or_in_the_order_of_the_input_although_each_job_waits_for_the_next_one() {
    let script = "[ $1 = 3 ] || read _ < after$(($1 + 1)); echo $1; [ $1 = 1 ] || echo > after$1";
    for arguments in [&["-k"][..], &["--keep-order", "--json"]] {
        let dir = tempfile::tempdir().unwrap();
        for number in 2..=3 {
            fifo(&dir.path().join(format!("after{number}")));
        }
        let json = arguments.contains(&"--json");
        let arguments = [arguments, &["-j3", "--", "sh", "-c", script, "sh"]].concat();
        let ended = pool_in(dir.path(), seq(3), &arguments).expect(0);
        if json {
            let order: Vec<_> = events(&ended).iter().filter_map(|event| event["job"].as_u64()).collect();
            assert_eq!(order, [1, 2, 3]);
        } else {
            assert_eq!(ended.stdout, "1\n2\n3\n");
        }
    }
}

#[test]
fn a_thousand_jobs_keep_their_order() {
    let ended = pool_of(seq(1000), &["-k", "-j8", "--", "echo"]).expect(0);
    assert_eq!(ended.stdout, seq(1000));
}

#[test]
fn no_job_is_begun_that_would_wait_behind_a_full_window() {
    let dir = tempfile::tempdir().unwrap();
    fifo(&dir.path().join("gate2"));
    fifo(&dir.path().join("gate3"));
    // The first job goes on when the second and the third have begun; the fourth is beyond the window.
    let script = "echo $1 >> begun; \
                  case $1 in 1) read _ < gate2; read _ < gate3; cat begun | wc -l;; 2|3) echo > gate$1;; esac";
    let arguments = ["-k", "--window", "3", "-j4", "--", "sh", "-c", script, "sh"];
    let ended = pool_in(dir.path(), seq(9), &arguments).expect(0);
    assert_eq!(ended.stdout.trim(), "3");
}
