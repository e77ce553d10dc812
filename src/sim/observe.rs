//! What instruments see of a machine and its messages, as named facts: traces, scripts and diagrams know no more.
//!
//! [`Look`] says what `netsim draw` makes of them, and which names are taken.

use serde_json::{Map, Value};

use crate::protocol::Protocol;

/// Facts by name, in the order in which they are shown.
pub type Facts = Map<String, Value>;

/// A machine that can be looked at.
pub trait Observable: Protocol {
    /// What it is now. A trace knows nodes by numbers: `number` has that of a peer. Names that a trace has itself are taken:
    /// see [`Look::new`] and [`Label::new`].
    fn looks(&self, number: impl Fn(Self::Peer) -> usize) -> Vec<Look>;

    /// What a message says.
    fn label(message: &Self::Message) -> Label;
}

/// What a trace calls what happens to any protocol: no [`Look`] has such a name.
const EVENTS: [&str; 13] =
    ["trace", "send", "deliver", "drop", "persist", "crash", "wipe", "start", "pause", "cut", "join", "heal", "line"];
/// What a trace says of every look: no fact of one has such a name.
const OF_LOOKS: [&str; 4] = ["time_us", "step", "event", "id"];
/// What a trace says of every message: no fact of one has such a name.
const OF_MESSAGES: [&str; 8] = ["time_us", "step", "event", "msg", "from", "to", "type", "why"];

/// Facts of a machine that belong together: a trace tells all of them when one has changed, as an event of this name.
///
/// `netsim draw` makes of a look
/// - `role`: a band of the node's lane, with its facts. One `state` has one colour; `leader`, `candidate` and `follower` have
///   those of Raft. A role with a number of `voters` is Raft's: in such a trace the types of messages are, too;
/// - `commit` with a number `commit`: the index up to which the node has committed;
/// - `log` with numbers `first` and `keep` and with `entries`: what stands under the lane;
/// - of any other name, or without these facts: a mark that tells its facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub(super) event: &'static str,
    pub(super) facts: Facts,
}

impl Look {
    /// The facts under this name.
    ///
    /// # Panics
    /// The name is none of a trace's own: `trace`, `send`, `deliver`, `drop`, `persist`, `crash`, `wipe`, `start`, `pause`,
    /// `cut`, `join`, `heal`, `line`; that of a fact is not `time_us`, `step`, `event` or `id`.
    pub fn new(event: &'static str, facts: Facts) -> Self {
        assert!(!EVENTS.contains(&event), "a trace has its own meaning for {event}: call what is seen by another name");
        assert_free(&facts, &OF_LOOKS);
        Self { event, facts }
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub(super) kind: &'static str,
    pub(super) facts: Facts,
}

impl Label {
    /// Its type, in the words of the protocol's paper, and the rest, by name. What answers a message of type `x` has the type
    /// `x_reply`.
    ///
    /// # Panics
    /// The name of a fact is none of those that every message has: `time_us`, `step`, `event`, `msg`, `from`, `to`, `type`,
    /// `why`.
    pub fn new(kind: &'static str, facts: Facts) -> Self {
        assert_free(&facts, &OF_MESSAGES);
        Self { kind, facts }
    }
}

fn assert_free(facts: &Facts, reserved: &[&str]) {
    let taken = reserved.iter().find(|name| facts.contains_key(**name));
    assert!(taken.is_none(), "a trace has its own meaning for {taken:?}: call the fact by another name");
}

/// Facts with these names and values.
pub fn facts(named: impl IntoIterator<Item = (&'static str, Value)>) -> Facts {
    named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Those of `after` that are not among `before`.
pub(super) fn changed<'a>(before: &[Look], after: &'a [Look]) -> impl Iterator<Item = &'a Look> {
    after.iter().filter(move |look| !before.contains(look))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    #[should_panic(expected = "join")]
    fn a_look_is_not_called_as_something_that_happens_to_any_node() {
        Look::new("join", facts([("bucket", json!(3))]));
    }

    #[test]
    #[should_panic(expected = "id")]
    fn a_fact_of_a_node_is_not_called_as_its_number() {
        Look::new("role", facts([("id", json!("f0"))]));
    }

    #[test]
    #[should_panic(expected = "from")]
    fn a_fact_of_a_message_is_not_called_as_its_sender() {
        Label::new("sync", facts([("from", json!(7))]));
    }
}
