//! Who is refused, by whom and why: told once in the log, and in the health of a node for as long as it is so.

use std::collections::BTreeMap;

use super::{KnownPeers, PeerRejected, lock};
use crate::defaults::MAX_TURNED_AWAY;

/// What was said last.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// By those who refused this node, until they take it.
    of_this: BTreeMap<String, String>,
    /// To those whom this node refused, until it takes them.
    of_others: BTreeMap<String, String>,
    /// Members that have come with an empty directory, and what they were told.
    emptied: BTreeMap<String, String>,
    /// Of those on whom this node hung up.
    hung_up: BTreeMap<String, String>,
}

impl Refusals {
    /// This node takes `peer` from now on.
    pub(super) fn takes(&mut self, peer: &str) {
        self.of_others.remove(peer);
        self.emptied.remove(peer);
    }

    /// Who refuses this node, and what he says.
    pub(super) fn by(&self, peer: &str) -> Option<&String> {
        self.of_this.get(peer)
    }
}

/// Whether this was not the last thing said of that name; it is now. Who makes up names is not told of without end.
fn is_news(said: &mut BTreeMap<String, String>, name: &str, what: &str) -> bool {
    if said.get(name).is_some_and(|last| last == what) {
        return false;
    }
    if said.len() >= MAX_TURNED_AWAY && !said.contains_key(name) {
        return false;
    }
    said.insert(name.to_owned(), what.to_owned());
    if said.len() == MAX_TURNED_AWAY {
        tracing::warn!("{MAX_TURNED_AWAY} names were refused: no more of them are told here");
    }
    true
}

impl KnownPeers {
    /// `peer` does not take this node, and says why; or it does.
    pub fn refused_by(&self, peer: &str, why: Option<&str>) {
        let mut refusals = lock(&self.refusals);
        match why {
            Some(why) => _ = refusals.of_this.insert(peer.to_owned(), why.to_owned()),
            None => _ = refusals.of_this.remove(peer),
        }
    }

    /// Why this node serves nobody, as far as that is known: it has not begun, or is refused, or refuses members that have lost
    /// their data.
    pub fn refusal(&self) -> Option<String> {
        if let Some(waits) = self.waits_for() {
            return Some(waits);
        }
        let refusals = lock(&self.refusals);
        let of_this = refusals.of_this.iter().next().map(|(peer, why)| format!("refused by {peer}: {why}"));
        of_this.or_else(|| refusals.emptied.iter().next().map(|(peer, why)| format!("refused {peer}: {why}")))
    }

    /// Who refuses this node, and what he says.
    pub fn refusals(&self) -> BTreeMap<String, String> {
        lock(&self.refusals).of_this.clone()
    }

    /// Whom this node refuses, and why.
    pub fn turned_away(&self) -> BTreeMap<String, String> {
        lock(&self.refusals).of_others.clone()
    }

    /// This node refuses `peer`: says so in the log, once, as those who are refused try again.
    pub fn turn_away(&self, peer: &str, why: &PeerRejected) {
        let text = why.to_string();
        let mut refusals = lock(&self.refusals);
        if is_news(&mut refusals.of_others, peer, &text) {
            tracing::warn!("refused {peer}: {text}");
        }
        if matches!(why, PeerRejected::Emptied { .. }) {
            refusals.emptied.insert(peer.to_owned(), text);
        }
    }

    /// This node does not listen to `peer` any more: says so once, unless `peer` was there for a while, and so may be again.
    pub fn hung_up(&self, peer: &str, why: &str, was_there: bool) {
        let mut refusals = lock(&self.refusals);
        if was_there {
            refusals.hung_up.remove(peer);
        }
        if is_news(&mut refusals.hung_up, peer, why) {
            tracing::info!("hung up on {peer}: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_again_and_names_without_end_are_told_once() {
        let mut said = BTreeMap::new();
        assert!(is_news(&mut said, "n2", "no") && !is_news(&mut said, "n2", "no") && is_news(&mut said, "n2", "never"));
        let told = (0..2 * MAX_TURNED_AWAY).filter(|number| is_news(&mut said, &format!("x{number}"), "no")).count();
        assert_eq!((told, said.len()), (MAX_TURNED_AWAY - 1, MAX_TURNED_AWAY));
        assert!(is_news(&mut said, "n2", "no"), "a name that is known is told of all the same");
    }
}
