//! Nodes, messages and moments as JSON objects.

use serde_json::{Map, Value, json};

use crate::sim::observe::{EntryLabel, Fact, Label};
use crate::sim::raft::script::{Known, ReadAnswer, State};
use crate::sim::trace::{Flight, Moment, What};

/// A node.
pub(super) fn state(state: &State) -> Value {
    let mut object = json!({
        "id": state.id,
        "up": state.up,
        "state": if state.up { state.role } else { "down" },
        "term": state.term,
        "leader": state.leader,
        "voted_for": state.voted_for,
        "commit": state.commit,
        "applied": state.applied,
        "first": state.first,
        "last": state.last,
        "log": state.log.iter().map(entry).collect::<Vec<_>>(),
        "members": state.members,
        "learners": state.learners,
        "data": state.data,
    });
    if state.pre_vote {
        object["pre_vote"] = json!(true);
    }
    if let Some(durable) = state.durable {
        object["durable"] = json!(durable);
    }
    object
}

/// A message in flight.
pub(super) fn flight(flight: &Flight) -> Value {
    let mut object = Map::new();
    put_flight(&mut object, flight);
    Value::Object(object)
}

/// What leader `node` knows of another member.
pub(super) fn known(node: usize, known: &Known) -> Value {
    json!({
        "id": node,
        "peer": known.peer,
        "match_index": known.match_index,
        "next_index": known.next_index,
        "flow": known.flow,
        "in_flight": known.in_flight,
    })
}

/// A read that was answered.
pub(super) fn read(answer: &ReadAnswer, line: usize) -> Value {
    match &answer.found {
        Some((index, data)) => {
            json!({ "ok": true, "line": line, "id": answer.node, "read": data, "index": index })
        }
        None => json!({ "ok": false, "line": line, "id": answer.node, "read": null, "error": "no leader" }),
    }
}

/// The first line of a trace. In a script's, time is the order of steps.
pub(super) fn trace_header(nodes: usize, steps: bool) -> Value {
    json!({ "event": "trace", "tool": "netsim", "version": 1, "nodes": nodes, "axis": if steps { "step" } else { "time_us" } })
}

/// A moment of a run.
pub(super) fn moment(moment: &Moment) -> Value {
    let (event, facts) = match &moment.what {
        What::Sent(message) => ("send", named_flight(message)),
        What::Delivered(message) => ("deliver", named_flight(message)),
        What::Lost(message, why) => {
            let mut facts = named_flight(message);
            facts["why"] = json!(why.as_str());
            ("drop", facts)
        }
        What::Role { node, role, pre_vote, term, leader, voters } => {
            let mut facts = json!({ "id": node, "state": role, "term": term, "leader": leader, "voters": voters });
            if *pre_vote {
                facts["pre_vote"] = json!(true);
            }
            ("role", facts)
        }
        What::Log { node, first, keep, entries } => {
            let entries: Vec<_> = entries.iter().map(entry).collect();
            ("log", json!({ "id": node, "first": first, "keep": keep, "entries": entries }))
        }
        What::Committed { node, index } => ("commit", json!({ "id": node, "commit": index })),
        What::Persisted { node, records } => ("persist", json!({ "id": node, "records": records })),
        What::Crashed { node } => ("crash", json!({ "id": node })),
        What::Wiped { node } => ("wipe", json!({ "id": node })),
        What::Started { node, records } => ("start", json!({ "id": node, "records": records })),
        What::Paused { node, lasts } => ("pause", json!({ "id": node, "lasts_us": lasts.as_micros() as u64 })),
        What::Cut { from, to } => ("cut", json!({ "from": from, "to": to })),
        What::Joined { from, to } => ("join", json!({ "from": from, "to": to })),
        What::Healed => ("heal", json!({})),
        What::Line { number, text } => ("line", json!({ "line": number, "text": text })),
    };
    let mut object = json!({ "time_us": moment.at.as_micros() as u64, "step": moment.step, "event": event });
    if let (Some(object), Value::Object(facts)) = (object.as_object_mut(), facts) {
        object.extend(facts);
    }
    object
}

/// A message with the name of this copy of it.
fn named_flight(message: &Flight) -> Value {
    let mut object = json!({ "msg": message.id });
    put_flight(object.as_object_mut().expect("it is one"), message);
    object
}

fn put_flight(object: &mut Map<String, Value>, flight: &Flight) {
    let Label { kind, term, facts } = &flight.label;
    object.insert("from".to_owned(), json!(flight.from));
    object.insert("to".to_owned(), json!(flight.to));
    object.insert("type".to_owned(), json!(kind));
    object.insert("term".to_owned(), json!(term));
    for (name, fact) in facts {
        let value = match fact {
            Fact::Number(number) => json!(number),
            Fact::Flag(flag) => json!(flag),
            Fact::Word(word) => json!(word),
            Fact::Entries(entries) => entries.iter().map(entry).collect(),
        };
        object.insert((*name).to_owned(), value);
    }
}

fn entry(entry: &EntryLabel) -> Value {
    json!({ "index": entry.index, "term": entry.term, "data": entry.data, "kind": entry.kind })
}
