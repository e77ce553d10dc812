//! `--shell`: pipelines, and jobs that would like to be code.

use super::*;
use crate::common::run;

#[test]
fn a_shell_runs_pipelines_with_the_job_as_one_word() {
    let ended = pool_of("a  b\n", &["--shell", "--", "printf '%s' {} | tr a-z A-Z"]).expect(0);
    assert_eq!(ended.stdout, "A  B");
    assert_eq!(
        pool_of("a  b\n", &["-j", "1", "--shell", "echo", "{}.gz", "{#}{%}", "|", "rev"]).expect(0).stdout,
        "11 zg.b  a\n"
    );
    assert_eq!(pool_of("a  b\n", &["--shell", "printf %s,"]).expect(0).stdout, "a  b,");
}

#[test]
fn without_a_command_each_line_is_one() {
    let ended = pool_of("echo a | tr a b\nexit 3\n\n", &["--shell", "--json"]).expect(1);
    let (jobs, _) = jobs_and_summary(&ended);
    let exits: Vec<_> = jobs.iter().map(|job| job["exit"].as_i64()).collect();
    assert_eq!((exits, &jobs[0]["stdout"]), (vec![Some(0), Some(3), Some(0)], &"b\n".into()));
}

#[test]
fn no_job_is_code() {
    let dir = tempfile::tempdir().unwrap();
    let attempts = [
        "; touch pwned",
        "$(touch pwned)",
        "`touch pwned`",
        "' ; touch pwned ; '",
        "\" ; touch pwned ; \"",
        "\\'; touch pwned #",
        "| touch pwned",
        "&& touch pwned",
        "> pwned",
        "\r; touch pwned",
        "${IFS}$(touch${IFS}pwned)",
        "*",
        "-n",
        "{}",
        "{#} \"${1}\"",
    ];
    let jobs: String = attempts.iter().map(|attempt| format!("{attempt}\n")).collect();
    for template in ["printf '<%s>\\n' {}", "printf '<%s>\\n' \"{}\"", "printf \"<%s>\\n\" \"$(printf %s \"{}\")\""] {
        let ended = pool_in(dir.path(), jobs.as_str(), &["-k", "--shell", "--", template]).expect(0);
        let wanted: String = attempts.iter().map(|attempt| format!("<{attempt}>\n")).collect();
        assert_eq!(ended.stdout, wanted, "{template}");
        assert!(!dir.path().join("pwned").exists(), "{template}");
    }
}

#[test]
fn a_dry_run_shows_what_can_be_pasted_into_a_shell() {
    let ended = pool_of("it's\n", &["--shell", "--dry-run", "--", "echo {} | rev"]).expect(0);
    let mut pasted = Command::new("sh");
    pasted.args(["-c", &ended.stdout]);
    assert_eq!(run(pasted).expect(0).stdout, "s'ti\n", "{}", ended.stdout);
}
