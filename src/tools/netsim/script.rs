//! `netsim raft --script`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use serde_json::{Map, Value, json};

use super::json;
use super::results::Results;
use crate::cli::{Failure, Kind};
use crate::sim::jsonl::flight;
use crate::sim::raft::script::{Answer, Command, Refusal, Script, Unmet};
use crate::sim::trace::Keep;

/// A line of a script is a command and a short text.
const LONGEST_LINE: u64 = 64 << 10;

/// Does what the script at `path` says, line by line: whoever writes lines gets their answers.
pub(super) fn run(path: &str, results: &Results<'_>) -> Result<(), Failure> {
    let mut script = Script::new(if results.has_trace() { Keep::Moments } else { Keep::Nothing });
    let played = play(path, &mut script, results);
    results.trace(script.most_nodes(), true, &script.take_moments())?;
    played
}

fn play(path: &str, script: &mut Script, results: &Results<'_>) -> Result<(), Failure> {
    let mut lines: Box<dyn BufRead> = if path == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(path).map_err(|error| {
            Failure::usage(format!("cannot read the script {path}: {error} (is the path right? - is stdin)"))
        })?;
        Box::new(BufReader::new(file))
    };
    for number in 1.. {
        let Some(text) = next_line(&mut lines, path, number)? else { break };
        let mistake = |what: String| Failure::usage(format!("{path}, line {number}: {what}: {:?}", text.trim()));
        let Some(command) = Command::parse(&text).map_err(mistake)? else { continue };
        let answer = script.run(number, text.trim(), &command).map_err(|violation| {
            let line = json!({ "violation": violation.to_string(), "line": number, "command": text.trim() });
            match results.line(&line.to_string()) {
                Ok(()) => Failure::new(Kind::No, format!("{path}, line {number}: {violation}")),
                Err(failure) => failure,
            }
        })?;
        if let Answer::Refused(Refusal::Mistake(what)) = answer {
            return Err(mistake(what));
        }
        let unmet = match (&command, &answer) {
            (Command::Expect(node, _), Answer::Unmet(unmet)) => Some(unlike(*node, unmet)),
            _ => None,
        };
        let reads = script.take_reads();
        let answered_at_once = matches!((&command, &answer), (Command::Read(_), Answer::Asked)) && !reads.is_empty();
        if !answered_at_once {
            for value in answers(&command, answer, number, script) {
                results.line(&value.to_string())?;
            }
        }
        for read in reads {
            results.line(&json::read(&read, number).to_string())?;
        }
        if let Some(what) = unmet {
            return Err(Failure::new(Kind::No, format!("{path}, line {number}: {what}: {:?}", text.trim())));
        }
    }
    Ok(())
}

/// What was seen in place of what was expected.
fn unlike(node: usize, unmet: &[Unmet]) -> String {
    let fields = |value: fn(&Unmet) -> &str| {
        unmet.iter().map(|unmet| format!("{}={}", unmet.field, value(unmet))).collect::<Vec<_>>().join(" ")
    };
    format!("n{node} has {}, and not {}", fields(|unmet| &unmet.found), fields(|unmet| &unmet.expected))
}

fn next_line(lines: &mut impl BufRead, path: &str, number: usize) -> Result<Option<String>, Failure> {
    let mut bytes = Vec::new();
    let read = lines.take(LONGEST_LINE + 1).read_until(b'\n', &mut bytes);
    read.map_err(|error| Failure::local(format!("cannot read the script {path}: {error}")))?;
    if bytes.len() as u64 > LONGEST_LINE {
        return Err(Failure::usage(format!("{path}, line {number}: it is longer than {LONGEST_LINE} bytes")));
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Failure::usage(format!("{path}, line {number}: it is not UTF-8 text"))),
    }
}

/// One object, but one a node for `state`, and one a message before the last for `pending`.
fn answers(command: &Command, answer: Answer, line: usize, script: &Script) -> Vec<Value> {
    let mut object = json!({ "ok": true, "line": line });
    let mut before = Vec::new();
    if let Command::Propose(node, text) = command {
        object["id"] = json!(node);
        object["propose"] = json!(text);
    }
    if let Command::Progress(node) | Command::Expect(node, _) = command {
        object["id"] = json!(node);
    }
    match answer {
        Answer::Done => {}
        Answer::Asked => object["waiting"] = json!(true),
        Answer::Moved(count) => object["messages"] = json!(count),
        Answer::Proposed { index, term } => {
            object["index"] = json!(index);
            object["term"] = json!(term);
        }
        Answer::Refused(refusal) => {
            object["ok"] = json!(false);
            object["error"] = json!(refusal.to_string());
            if let Refusal::NotLeader { leader } = refusal {
                object["leader"] = json!(leader);
            }
        }
        Answer::States(states) => return states.iter().map(json::state).collect(),
        Answer::Pending(flights) => before = flights.iter().map(flight).collect(),
        Answer::Progress { node, known } => {
            before = known.iter().map(|known| json::known(node, known)).collect();
        }
        Answer::Unmet(unmet) => {
            let fields = |value: fn(&Unmet) -> &str| {
                unmet.iter().map(|unmet| (unmet.field.to_owned(), json!(value(unmet)))).collect::<Map<_, _>>()
            };
            object["ok"] = json!(false);
            object["error"] = json!("not as expected");
            object["expected"] = fields(|unmet| &unmet.expected).into();
            object["found"] = fields(|unmet| &unmet.found).into();
        }
    }
    object["in_flight"] = json!(script.in_flight());
    before.push(object);
    before
}
