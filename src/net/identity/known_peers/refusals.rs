//! Who is refused, by whom and why: told once in the log, and in the health of a node for as long as it is so.

use std::collections::BTreeMap;

use super::peer_rejected::PeerRejected;
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

    /// `peer` does not take this node, and says why; or it does.
    pub(super) fn refused_by(&mut self, peer: &str, why: Option<&str>) {
        match why {
            Some(why) => _ = self.of_this.insert(peer.to_owned(), why.to_owned()),
            None => _ = self.of_this.remove(peer),
        }
    }

    /// Who refuses this node, and what he says.
    pub(super) const fn of_this(&self) -> &BTreeMap<String, String> {
        &self.of_this
    }

    /// Whom this node refuses, and why.
    pub(super) const fn of_others(&self) -> &BTreeMap<String, String> {
        &self.of_others
    }

    /// One refusal that keeps this node, or a member that has lost its data, from taking part.
    pub(super) fn first(&self) -> Option<String> {
        let of_this = self.of_this.iter().next().map(|(peer, why)| format!("refused by {peer}: {why}"));
        of_this.or_else(|| self.emptied.iter().next().map(|(peer, why)| format!("refused {peer}: {why}")))
    }

    /// This node refuses `peer`: says so in the log, once, as those who are refused try again.
    pub(super) fn turn_away(&mut self, peer: &str, why: &PeerRejected) {
        let text = why.to_string();
        if is_news(&mut self.of_others, peer, &text) {
            tracing::warn!("refused {peer}: {text}");
        }
        if matches!(why, PeerRejected::Emptied { .. }) {
            self.emptied.insert(peer.to_owned(), text);
        }
    }

    /// This node does not listen to `peer` any more: says so once, unless `peer` was there for a while, and so may be again.
    pub(super) fn hung_up(&mut self, peer: &str, why: &str, was_there: bool) {
        if was_there {
            self.hung_up.remove(peer);
        }
        if is_news(&mut self.hung_up, peer, why) {
            tracing::info!("hung up on {peer}: {why}");
        }
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
