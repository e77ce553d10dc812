//! A trace as JSON lines: a header, then a moment a line.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::trace::{Flight, Moment, What};

/// Writes a trace. In that of a script, time is the order of steps.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut impl Write, nodes: usize, steps: bool, moments: &[Moment]) -> io::Result<()> {
    let axis = if steps { "step" } else { "time_us" };
    let header = json!({ "event": "trace", "tool": "netsim", "version": 1, "nodes": nodes, "axis": axis });
    writeln!(out, "{header}")?;
    for one in moments {
        writeln!(out, "{}", moment(one))?;
    }
    out.flush()
}

/// A message in flight.
pub fn flight(flight: &Flight) -> Value {
    Value::Object(put_flight(Map::new(), flight))
}

fn moment(moment: &Moment) -> Value {
    let (event, facts) = match &moment.what {
        What::Sent(message) => ("send", named_flight(message)),
        What::Delivered(message) => ("deliver", named_flight(message)),
        What::Lost(message, why) => {
            let mut facts = named_flight(message);
            facts["why"] = json!(why.as_str());
            ("drop", facts)
        }
        What::Changed { node, look } => {
            let mut facts = json!({ "id": node });
            facts.as_object_mut().expect("it is one").extend(look.facts.clone());
            (look.event, facts)
        }
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
    let named = Map::from_iter([("msg".to_owned(), json!(message.id))]);
    Value::Object(put_flight(named, message))
}

fn put_flight(mut object: Map<String, Value>, flight: &Flight) -> Map<String, Value> {
    for (name, value) in [("from", json!(flight.from)), ("to", json!(flight.to)), ("type", json!(flight.label.kind))] {
        object.insert(name.to_owned(), value);
    }
    object.extend(flight.label.facts.clone());
    object
}
