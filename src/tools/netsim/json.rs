//! What a script's commands come to, as JSON objects.

use serde_json::{Value, json};

use crate::sim::raft::script::{Known, ReadAnswer, State};

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
        "log": state.log,
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
