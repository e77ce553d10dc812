//! Where a node dials its peers, of all that is said about it.

use std::collections::{BTreeMap, BTreeSet};

/// Longest address of a peer: a DNS name and a port.
const MAX_ADDR_BYTES: usize = 260;

/// What is said beside what the protocol knows.
#[derive(Clone, Debug)]
pub struct PeerAddrs<P> {
    /// By the operator at the start, whatever the protocol knows: until they are gone, since one that comes back may be
    /// anywhere.
    given: BTreeMap<P, String>,
    /// By nodes that called: newer than what the protocol knows, and the only way to answer one of which nobody has told yet.
    callers: BTreeMap<P, String>,
    /// Whom this node is to ignore, for a while, to show what a partition does.
    cut: BTreeSet<P>,
}

impl<P: Copy + Ord> PeerAddrs<P> {
    /// These are where the operator says.
    pub const fn given(given: BTreeMap<P, String>) -> Self {
        Self { given, callers: BTreeMap::new(), cut: BTreeSet::new() }
    }

    /// `peer`, which was let in, says where it is. Whether that is news, and an address.
    pub fn called(&mut self, peer: P, addr: &str) -> bool {
        is_addr(addr) && self.callers.insert(peer, addr.to_owned()).is_none_or(|before| before != addr)
    }

    /// Forgets what was said of those that are gone, and what those said themselves that have moved.
    pub fn forget(&mut self, is_gone: impl Fn(P) -> bool, has_moved: impl Fn(P) -> bool) {
        self.given.retain(|peer, _| !is_gone(*peer));
        self.callers.retain(|peer, _| !has_moved(*peer));
    }

    /// From now on this node neither speaks to these nor hears them, and all others again.
    pub fn cut(&mut self, peers: BTreeSet<P>) {
        self.cut = peers;
    }

    /// Whether this node is to ignore `peer`.
    pub fn is_cut(&self, peer: P) -> bool {
        self.cut.contains(&peer)
    }

    /// Whom to dial where, if the protocol knows these.
    pub fn to_dial(&self, known: BTreeMap<P, String>) -> BTreeMap<P, String> {
        let mut addrs = known;
        addrs.extend(self.callers.clone());
        for (peer, addr) in &self.given {
            if let Some(known) = addrs.get_mut(peer) {
                known.clone_from(addr);
            }
        }
        addrs.retain(|peer, addr| !addr.is_empty() && !self.is_cut(*peer));
        addrs
    }
}

/// Whether it is `HOST:PORT`, as peers can dial it.
pub fn is_addr(addr: &str) -> bool {
    addr.len() <= MAX_ADDR_BYTES
        && addr.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
        && addr
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_counts_most_then_who_called_then_what_the_protocol_knows() {
        let known = || BTreeMap::from([(1, "known:1".to_owned()), (2, "known:2".to_owned()), (3, String::new())]);
        let dialled = |addrs: &PeerAddrs<u8>| -> Vec<_> {
            addrs.to_dial(known()).into_iter().map(|(peer, addr)| format!("{peer} {addr}")).collect()
        };
        let mut addrs = PeerAddrs::given(BTreeMap::from([(1, "given:1".to_owned()), (9, "given:9".to_owned())]));
        assert_eq!(dialled(&addrs), ["1 given:1", "2 known:2"], "9 is none that the protocol knows");
        assert!(addrs.called(1, "calls:1") && addrs.called(2, "calls:2") && addrs.called(4, "calls:4"));
        assert!(!addrs.called(2, "calls:2") && !addrs.called(2, "nowhere") && !addrs.called(2, "calls:0"));
        assert_eq!(dialled(&addrs), ["1 given:1", "2 calls:2", "4 calls:4"]);
        addrs.cut(BTreeSet::from([4]));
        addrs.forget(|peer| peer == 1, |peer| peer == 2);
        assert_eq!(dialled(&addrs), ["1 calls:1", "2 known:2"]);
        addrs.cut(BTreeSet::new());
        assert!(!addrs.is_cut(4) && dialled(&addrs).contains(&"4 calls:4".to_owned()));
    }
}
