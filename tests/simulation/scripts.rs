//! The scenarios of the literature as scripts, each with its facts.

use std::path::Path;

use netbelt::sim::raft::script::{Answer, Command, Refusal, Script};
use netbelt::sim::trace::Keep;

#[test]
fn every_scenario_has_the_facts_it_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in &paths {
        let text = std::fs::read_to_string(path).unwrap();
        let facts = play(&text).unwrap_or_else(|what| panic!("{}: {what}", path.display()));
        assert!(facts >= 3, "{} says little: {facts} facts", path.display());
    }
    assert!(paths.len() >= 8, "the scenarios are there: {paths:?}");
}

/// Runs a script and counts its facts: what it expects, and `# refused` at the end of a command.
pub(crate) fn play(text: &str) -> Result<usize, String> {
    let mut script = Script::new(Keep::Moments);
    let mut facts = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let wrong = |what: String| format!("line {number}, {line:?}: {what}");
        let Some(command) = Command::parse(line).map_err(wrong)? else { continue };
        let answer = script.run(number, line, &command).map_err(|violation| wrong(violation.to_string()))?;
        let refused = matches!(answer, Answer::Refused(Refusal::NotNow(_) | Refusal::NotLeader { .. }));
        if refused != line.contains("# refused") {
            return Err(wrong(format!("it came to {answer:?}")));
        }
        match (&command, answer) {
            (_, Answer::Refused(Refusal::Mistake(what))) => return Err(wrong(what)),
            (_, Answer::Refused(_)) => facts += 1,
            (_, Answer::Moved(0)) => return Err(wrong("no message was there".to_owned())),
            (_, Answer::Unmet(unmet)) => return Err(wrong(format!("{unmet:?}"))),
            (Command::Expect(_, fields), _) => facts += fields.len(),
            _ => {}
        }
    }
    Ok(facts)
}
