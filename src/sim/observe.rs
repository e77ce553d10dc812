//! What instruments see of a machine and its messages, as named facts: traces, scripts and diagrams know no more.

use serde_json::{Map, Value};

use crate::protocol::Protocol;

/// Facts by name, in the order in which they are shown.
pub type Facts = Map<String, Value>;

/// A machine that can be looked at.
pub trait Observable: Protocol {
    /// What it is now. A trace knows nodes by numbers: `number` has that of a peer.
    fn looks(&self, number: impl Fn(Self::Peer) -> usize) -> Vec<Look>;

    /// What a message says.
    fn label(message: &Self::Message) -> Label;
}

/// Facts of a machine that belong together: a trace tells all of them when one has changed, as an event of this name.
///
/// `netsim draw` makes a band of `role`, in the colour of its fact `state`, and marks of all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The event's name.
    pub event: &'static str,
    /// The facts.
    pub facts: Facts,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its type, in the words of the protocol's paper. What answers a message of type `x` has the type `x_reply`.
    pub kind: &'static str,
    /// The rest, by name.
    pub facts: Facts,
}

/// Facts with these names and values.
pub fn facts(named: impl IntoIterator<Item = (&'static str, Value)>) -> Facts {
    named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Those of `after` that are not among `before`.
pub(super) fn changed<'a>(before: &[Look], after: &'a [Look]) -> impl Iterator<Item = &'a Look> {
    after.iter().filter(move |look| !before.contains(look))
}
