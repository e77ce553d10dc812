//! Command lines that are wrong.

use super::*;
use crate::common::run;

#[test]
fn what_makes_no_sense_is_refused_with_what_would() {
    pool_of("a", &[]).expect(2).says(&["what shall be run?", "worker-pool -- wc -l"]);
    for bad in ["0", "-1", "many", "5000"] {
        pool_of("a", &["--workers", bad, "--", "echo"]).expect(2).says(&["--workers"]);
    }
    pool_of("a", &["-j0", "--", "echo"]).expect(2).says(&["--workers", "from 1 to 4096"]);
    pool_of("a", &["--queue", "0", "--", "echo"]).expect(2).says(&["--queue"]);
    pool_of("a", &["--timeout", "0s", "--", "echo"]).expect(2).says(&["--timeout", "above zero"]);
    pool_of("a", &["--timeout", "5", "--", "echo"]).expect(2).says(&["--timeout", "5s"]);
    for wrong in [["--grace", "nope"], ["--backoff", "nope"], ["--timeout", "nope"]] {
        pool_of("a", &[&wrong[..], &["--", "echo"]].concat())
            .expect(2)
            .says(&[wrong[0], "'nope' is no duration such as"]);
    }
    run(pool(&["demo", "--job-time", "5"])).expect(2).says(&["--job-time", "'5' is no duration such as"]);
    pool_of("a", &["--halt", "maybe", "--", "echo"]).expect(2).says(&["--halt", "soon"]);
    pool_of("a", &["--halt", "now", "--first", "--", "echo"]).expect(2).says(&["--first", "--halt"]);
    pool_of("a", &["--window", "4", "--", "echo"]).expect(2).says(&["--keep-order"]);
    pool_of("a", &["--resume", "--", "echo"]).expect(2).says(&["--joblog"]);
    pool_of("a", &["--resume-failed", "--", "echo"]).expect(2).says(&["--joblog"]);
    pool_of("a", &["--shell", "--", "echo '{}'"]).expect(2).says(&["single quotes"]);
    pool_of("a", &["--frob", "--", "echo"]).expect(2).says(&["--frob", "--help"]);
    run(pool(&["--keep-order", "demo"])).expect(2).says(&["demo --help"]);
    run(pool(&["demo", "--workers", "0"])).expect(2).says(&["--workers"]);
}

#[test]
fn what_people_bring_from_xargs_and_parallel_has_an_answer_that_helps() {
    for (options, answer) in [
        (&["-n", "1"][..], "each line is a job"),
        (&["-n1"], "each line is a job"),
        (&["-L1"], "each line is a job"),
        (&["-I", "{}"], "{} in CMD is always the job"),
        (&["-I{}"], "{} in CMD is always the job"),
        (&["-a", "file"], "worker-pool CMD < FILE"),
        (&["--arg-file=x"], "worker-pool CMD < FILE"),
        (&["-d,"], "or with -0 by NUL"),
        (&["-r"], "without jobs nothing is run"),
        (&["--bar"], "there is a bar"),
        (&["-x"], "options of the command stand behind its name"),
    ] {
        let ended = pool_of("a", &[options, &["echo", "{}"]].concat()).expect(2).says(&[answer]);
        assert!(!ended.stderr.contains("as a value"), "{}", ended.stderr);
    }
    pool_of("", &["echo", ":::", "a", "b"]).expect(2).says(&["::: is GNU parallel's", "printf '%s\\n' a b c |"]);
    assert_eq!(pool_of("a", &["--", "echo", ":::"]).expect(0).stdout, "::: a\n");
}

#[test]
fn a_usage_error_is_an_event_for_programs() {
    let event = pool_of("a", &["--json"]).expect(2).json();
    assert_eq!((&event["event"], &event["kind"]), (&"error".into(), &"usage".into()), "{event}");
}

#[test]
fn help_has_examples_and_exit_codes_and_fits_the_line() {
    for arguments in [&["--help"][..], &["demo", "--help"]] {
        let help = run(pool(arguments)).expect(0);
        assert!(help.stdout.contains("Examples:") && help.stdout.contains("Usage:"), "{}", help.stdout);
    }
    let help = run(pool(&["--help"])).stdout;
    for promised in ["Exit codes:", "--keep-order", "--resume", "{%}", "{#}", "--first", "demo"] {
        assert!(help.contains(promised), "no {promised} in:\n{help}");
    }
}

#[test]
fn durations_that_no_clock_can_hold_are_as_good_as_none() {
    let age = "500000000000years";
    let arguments = ["--timeout", age, "--grace", age, "--backoff", age, "--retries", "1", "--", "echo"];
    assert_eq!(pool_of("a", &arguments).expect(0).stdout, "a\n");
    assert_eq!(
        pool_of("a", &["--grace", age, "--timeout", "200ms", "--", "sh", "-c", "sleep 1000"]).expect(1).stdout,
        ""
    );
}
