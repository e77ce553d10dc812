//! The scenarios of the literature as scripts, each with its facts.

use std::path::Path;

use netbelt::sim::script::{Answer, Command, ReadAnswer, Refusal, Script, State};
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

/// Runs a script and counts its facts: `#? N field=value ...` about node N, `#! N VALUES` about its latest read, `# refused` at
/// the end of a command.
pub(crate) fn play(text: &str) -> Result<usize, String> {
    let mut script = Script::new(Keep::Moments);
    let mut reads: Vec<ReadAnswer> = Vec::new();
    let mut facts = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let wrong = |what: String| format!("line {number}, {line:?}: {what}");
        if let Some(fact) = line.strip_prefix("#? ") {
            facts += check_state(&mut script, fact).map_err(wrong)?;
        } else if let Some(fact) = line.strip_prefix("#! ") {
            facts += check_read(&reads, fact).map_err(wrong)?;
        } else if let Some(command) = Command::parse(line).map_err(wrong)? {
            let answer = script.run(number, line, &command).map_err(|violation| wrong(violation.to_string()))?;
            let refused = matches!(answer, Answer::Refused(Refusal::NotNow(_) | Refusal::NotLeader { .. }));
            if refused != line.contains("# refused") {
                return Err(wrong(format!("it came to {answer:?}")));
            }
            match answer {
                Answer::Refused(Refusal::Mistake(what)) => return Err(wrong(what)),
                Answer::Refused(_) => facts += 1,
                Answer::Asked => reads.clear(),
                Answer::Moved(0) => return Err(wrong("no message was there".to_owned())),
                Answer::Done | Answer::Moved(_) | Answer::Proposed { .. } | Answer::States(_) | Answer::Pending(_) => {}
            }
            reads.extend(script.take_reads());
        }
    }
    Ok(facts)
}

fn check_state(script: &mut Script, fact: &str) -> Result<usize, String> {
    let mut words = fact.split_whitespace();
    let node = words.next().and_then(|node| node.parse().ok()).ok_or("which node?")?;
    let answer = script.run(0, fact, &Command::State(Some(node))).map_err(|violation| violation.to_string())?;
    let Answer::States(states) = answer else { return Err("there is no such node".to_owned()) };
    let mut facts = 0;
    for word in words {
        let (field, expected) = word.split_once('=').ok_or("field=value")?;
        let found = show(&states[0], field)?;
        if found != expected {
            return Err(format!("{field} is {found}: {:#?}", states[0]));
        }
        facts += 1;
    }
    Ok(facts)
}

fn show(state: &State, field: &str) -> Result<String, String> {
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(",");
    let node = |node: Option<usize>| node.map_or("none".to_owned(), |node| node.to_string());
    Ok(match field {
        "state" => state.role.to_owned(),
        "term" => state.term.to_string(),
        "leader" => node(state.leader),
        "voted" => node(state.voted_for),
        "commit" => state.commit.to_string(),
        "applied" => state.applied.to_string(),
        "first" => state.first.to_string(),
        "last" => state.last.to_string(),
        "durable" => state.durable.map_or("all".to_owned(), |last| last.to_string()),
        "terms" => list(&mut state.log.iter().map(|entry| entry.term.to_string())),
        "learners" => list(&mut state.learners.iter().map(ToString::to_string)),
        "members" => list(&mut state.members.iter().map(ToString::to_string)),
        "data" => state.data.join(","),
        _ => return Err(format!("there is no field {field}")),
    })
}

fn check_read(reads: &[ReadAnswer], fact: &str) -> Result<usize, String> {
    let (node, expected) = fact.split_once(' ').ok_or("#! NODE VALUES")?;
    let latest = reads.iter().rev().find(|read| read.node.to_string() == node);
    let found = match latest.map(|read| &read.found) {
        None => "waits".to_owned(),
        Some(None) => "none".to_owned(),
        Some(Some((_, data))) => data.join(","),
    };
    if found == expected { Ok(1) } else { Err(format!("the read came to {found}")) }
}
